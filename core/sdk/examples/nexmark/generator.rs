//! The events of an online auction house, each a pure function of its number.
//!
//! In every block of 50 events the first is a new person, the next three are new auctions and the other 46 are bids. Ids count
//! up with the event number, so that which people and auctions exist at an event follows from its number alone. What
//! is random about an event comes from a sequence of random numbers that starts at its number.

use serde::Serialize;
use weir::prelude::*;

/// Events in a block: this many people, then auctions, then bids.
const PEOPLE: u64 = 1;
const AUCTIONS: u64 = 3;
const BLOCK: u64 = 50;

/// Where ids begin.
const FIRST_PERSON: u64 = 1000;
const FIRST_AUCTION: u64 = 1000;
const FIRST_CATEGORY: u64 = 10;

/// The latest auctions and people, which those bids and auctions are about that are not about the hot ones.
const AUCTIONS_IN_FLIGHT: u64 = 100;
const ACTIVE_PEOPLE: u64 = 1000;
/// Among so many ids in a row, one is hot.
const HOT_EVERY: u64 = 100;
/// One bid of so many is not on the hot auction, one of so many not by the hot bidder, one auction of so many not by the
/// hot seller.
const HOT_AUCTION_RATIO: u64 = 2;
const HOT_BIDDER_RATIO: u64 = 4;
const HOT_SELLER_RATIO: u64 = 4;

const CATEGORIES: u64 = 5;
const COLD_CHANNELS: u64 = 10_000;
/// One bid of so many does not come in through a hot channel.
const HOT_CHANNEL_RATIO: u64 = 2;
const HOT_CHANNELS: [&str; 4] = ["Harbour", "Lantern", "Meridian", "Tidewater"];

/// Milliseconds since 1970 of event 0, which is 2015-07-15T00:00:00Z, and events per second of event time.
const START: u64 = 1_436_918_400_000;
const EVENTS_PER_SECOND: u64 = 10_000;

/// Average bytes of an event, reached with filling in its last field.
const PERSON_BYTES: usize = 200;
const AUCTION_BYTES: usize = 500;
const BID_BYTES: usize = 100;

const FIRST_NAMES: [&str; 10] =
    ["Ada", "Blaise", "Carl", "Emmy", "Grace", "Henri", "Isaac", "Leonhard", "Marie", "Sophie"];
const LAST_NAMES: [&str; 10] =
    ["Archer", "Brewer", "Carter", "Dyer", "Fuller", "Glover", "Mason", "Porter", "Sawyer", "Weaver"];
const TOWNS: [(&str, &str); 10] = [
    ("Phoenix", "AZ"),
    ("Tucson", "AZ"),
    ("Fresno", "CA"),
    ("Oakland", "CA"),
    ("Boise", "ID"),
    ("Eugene", "OR"),
    ("Salem", "OR"),
    ("Tacoma", "WA"),
    ("Casper", "WY"),
    ("Laramie", "WY"),
];
const ITEMS: [&str; 8] = ["clock", "globe", "lamp", "map", "mirror", "prism", "telescope", "violin"];

/// Somebody who sells and bids.
#[derive(Debug, Clone, PartialEq, Record)]
pub struct Person {
    pub id: u64,
    pub name: Text,
    pub email: Text,
    pub credit_card: Text,
    pub city: Text,
    pub state: Text,
    /// Milliseconds since 1970, as all times here.
    pub date_time: u64,
    pub extra: Text,
}

/// Something for sale.
#[derive(Debug, Clone, PartialEq, Record)]
pub struct Auction {
    pub id: u64,
    pub item: Text,
    pub description: Text,
    /// Money is in cents.
    pub initial_bid: u64,
    pub reserve: u64,
    pub date_time: u64,
    pub expires: u64,
    pub seller: u64,
    pub category: u64,
    pub extra: Text,
}

/// An offer for an auction.
#[derive(Debug, Clone, PartialEq, Record, Serialize)]
pub struct Bid {
    pub auction: u64,
    pub bidder: u64,
    pub price: u64,
    pub channel: Text,
    pub url: Text,
    pub date_time: u64,
    pub extra: Text,
}

/// What happens at the auction house.
#[derive(Debug, Clone, PartialEq, Record)]
#[allow(
    clippy::large_enum_variant,
    reason = "nearly all events are bids, and an allocation for each of the others would cost more"
)]
pub enum Event {
    Person(Person),
    Auction(Auction),
    Bid(Bid),
}

/// Event number `number`.
pub fn event(number: u64) -> Event {
    let place = number % BLOCK;
    let random = Random::of_event(number);
    if place < PEOPLE {
        Event::Person(person(number, random))
    } else if place < PEOPLE + AUCTIONS {
        Event::Auction(auction(number, random))
    } else {
        Event::Bid(bid(number, random))
    }
}

fn person(number: u64, mut random: Random) -> Person {
    let first = random.one_of(&FIRST_NAMES);
    let last = random.one_of(&LAST_NAMES);
    let (city, state) = random.one_of(&TOWNS);
    let name = format!("{first} {last}");
    let email = format!("{}@{}.example", first.to_lowercase(), last.to_lowercase());
    let card = [random.below(10_000), random.below(10_000), random.below(10_000), random.below(10_000)];
    let credit_card = format!("{:04} {:04} {:04} {:04}", card[0], card[1], card[2], card[3]);
    let used = 16 + name.len() + email.len() + credit_card.len() + city.len() + state.len();
    Person {
        id: latest_person(number),
        name: name.into(),
        email: email.into(),
        credit_card: credit_card.into(),
        city: city.into(),
        state: state.into(),
        date_time: time_of(number),
        extra: random.filling(used, PERSON_BYTES),
    }
}

fn auction(number: u64, mut random: Random) -> Auction {
    let seller =
        if random.below(HOT_SELLER_RATIO) > 0 { hot_person(number, 0) } else { active_person(number, &mut random) };
    let category = FIRST_CATEGORY + random.below(CATEGORIES);
    let initial_bid = random.price();
    let date_time = time_of(number);
    // On average, an auction ends when as many others have begun after it as are in flight at a time.
    let milliseconds_in_flight = AUCTIONS_IN_FLIGHT * BLOCK * 1000 / (AUCTIONS * EVENTS_PER_SECOND);
    let item = random.one_of(&ITEMS);
    let description = format!("A {item}, number {} of its kind", random.below(1000));
    let used = 56 + item.len() + description.len();
    Auction {
        id: latest_auction(number),
        item: item.into(),
        description: description.into(),
        initial_bid,
        reserve: initial_bid + random.price(),
        date_time,
        expires: date_time + 1 + random.below(2 * milliseconds_in_flight),
        seller,
        category,
        extra: random.filling(used, AUCTION_BYTES),
    }
}

fn bid(number: u64, mut random: Random) -> Bid {
    let latest = latest_auction(number);
    let auction = if random.below(HOT_AUCTION_RATIO) > 0 {
        latest / HOT_EVERY * HOT_EVERY
    } else {
        latest - random.below(AUCTIONS_IN_FLIGHT.min(latest - FIRST_AUCTION + 1))
    };
    let bidder =
        if random.below(HOT_BIDDER_RATIO) > 0 { hot_person(number, 1) } else { active_person(number, &mut random) };
    let channel = if random.below(HOT_CHANNEL_RATIO) > 0 {
        Text::from(random.one_of(&HOT_CHANNELS))
    } else {
        Text::from(format!("channel-{}", random.below(COLD_CHANNELS)))
    };
    let url = format!("https://auction.example/{channel}/item/{auction}");
    let used = 32 + channel.len() + url.len();
    Bid {
        auction,
        bidder,
        price: random.price(),
        channel,
        url: url.into(),
        date_time: time_of(number),
        extra: random.filling(used, BID_BYTES),
    }
}

fn time_of(number: u64) -> u64 {
    START + number * 1000 / EVENTS_PER_SECOND
}

/// The newest person once event `number` has happened.
fn latest_person(number: u64) -> u64 {
    FIRST_PERSON + number / BLOCK
}

/// The newest auction once event `number` has happened; the first one before there is any.
fn latest_auction(number: u64) -> u64 {
    let in_block = (number % BLOCK + 1).saturating_sub(PEOPLE).min(AUCTIONS);
    FIRST_AUCTION + (number / BLOCK * AUCTIONS + in_block).saturating_sub(1)
}

/// One person of the latest hundred. Bidders and sellers differ in `offset`, so that nobody is hot as both.
fn hot_person(number: u64, offset: u64) -> u64 {
    let latest = latest_person(number);
    (latest / HOT_EVERY * HOT_EVERY + offset).min(latest)
}

fn active_person(number: u64, random: &mut Random) -> u64 {
    let latest = latest_person(number);
    latest - random.below(ACTIVE_PEOPLE.min(latest - FIRST_PERSON + 1))
}

/// Random numbers that depend on an event's number only: SplitMix64.
struct Random(u64);

impl Random {
    fn of_event(number: u64) -> Random {
        // Neighbouring numbers start far apart in the sequence.
        let mut random = Random(number.wrapping_mul(0xd134_2543_de82_ef95));
        random.0 = random.next();
        random
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let x = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    }

    /// A number from 0 to below `bound`.
    fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(bound)) >> 64) as u64
    }

    fn one_of<T: Copy>(&mut self, items: &[T]) -> T {
        items[self.below(items.len() as u64) as usize]
    }

    /// From one dollar to below a million, as likely in each power of ten; in cents.
    fn price(&mut self) -> u64 {
        10_u64.pow(self.below(6) as u32) * (100 + self.below(900))
    }

    /// Letters that bring an event of `used` bytes to about `wanted` bytes: up to a fifth more or fewer are added.
    fn filling(&mut self, used: usize, wanted: usize) -> Text {
        let missing = wanted.saturating_sub(used) as u64;
        let length = (missing - missing / 5 + self.below(2 * (missing / 5) + 1)) as usize;
        let at = self.below((LETTERS.len() - length) as u64) as usize;
        Text::from(&LETTERS[at..at + length])
    }
}

/// Random letters to cut fillings from.
static LETTERS: &str = match std::str::from_utf8(&LETTER_BYTES) {
    Ok(letters) => letters,
    Err(_) => unreachable!(),
};

static LETTER_BYTES: [u8; 4096] = {
    let mut letters = [0; 4096];
    let mut state = 1_u64;
    let mut i = 0;
    while i < letters.len() {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        letters[i] = b'a' + ((state >> 33) % 26) as u8;
        i += 1;
    }
    letters
};
