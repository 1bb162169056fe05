//! `nexmark`: its generator, and its queries against loops over the generator's events.

#[path = "../../examples/nexmark/generator.rs"]
mod generator;

use std::collections::HashMap;

use generator::{Auction, Bid, Event, Person, event};
use tempfile::TempDir;

use crate::run::{example, rows};

const EVENTS: u64 = 100_000;

fn bids(events: u64) -> impl Iterator<Item = Bid> {
    (0..events).filter_map(|number| match event(number) {
        Event::Bid(bid) => Some(bid),
        Event::Person(_) | Event::Auction(_) => None,
    })
}

fn split(events: u64) -> (Vec<Person>, Vec<Auction>, Vec<Bid>) {
    let (mut people, mut auctions, mut bids) = (Vec::new(), Vec::new(), Vec::new());
    for number in 0..events {
        match event(number) {
            Event::Person(person) => people.push(person),
            Event::Auction(auction) => auctions.push(auction),
            Event::Bid(bid) => bids.push(bid),
        }
    }
    (people, auctions, bids)
}

/// Whether `part` is about `share` of all.
fn about(part: usize, all: usize, share: f64) -> bool {
    (part as f64 / all as f64 - share).abs() < 0.01
}

#[test]
fn an_event_depends_on_its_number_alone() {
    let forwards: Vec<Event> = (0..1000).map(event).collect();
    let mut backwards: Vec<Event> = (0..1000).rev().map(event).collect();
    backwards.reverse();
    assert_eq!(forwards, backwards);
    assert!(forwards.windows(2).all(|pair| pair[0] != pair[1]));
    // Changing what is generated changes every figure measured with it: this must not happen by accident.
    let digest = (0..10_000).fold(0xcbf2_9ce4_8422_2325_u64, |digest, number| {
        let text = format!("{:?}", event(number));
        text.bytes().fold(digest, |digest, byte| (digest ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
    });
    assert_eq!(digest, 0x4c35_6d86_ecef_5aae, "{digest:#x}");
}

#[test]
fn of_fifty_events_one_is_a_person_and_three_are_auctions() {
    let kinds = |numbers: std::ops::Range<u64>| {
        let kind = |number| match event(number) {
            Event::Person(_) => 'p',
            Event::Auction(_) => 'a',
            Event::Bid(_) => 'b',
        };
        numbers.map(kind).collect::<String>()
    };
    let block = format!("paaa{}", "b".repeat(46));
    assert_eq!(kinds(0..50), block);
    assert_eq!(kinds(123_450..123_500), block);
}

#[test]
fn ids_count_up_and_time_goes_on() {
    let (people, auctions, bids) = split(EVENTS);
    assert!(people.iter().map(|person| person.id).eq(1000..1000 + EVENTS / 50));
    assert!(auctions.iter().map(|auction| auction.id).eq(1000..1000 + EVENTS / 50 * 3));
    assert!(
        auctions.iter().all(|auction| auction.expires > auction.date_time && auction.reserve > auction.initial_bid)
    );
    // Ten thousand events are a second.
    assert_eq!(people[0].date_time, 1_436_918_400_000);
    assert_eq!(people[200].date_time, 1_436_918_401_000);
    assert!(bids.windows(2).all(|pair| pair[0].date_time <= pair[1].date_time));
}

#[test]
fn nothing_refers_to_what_is_not_there_yet() {
    let (mut people, mut auctions) = (999, 999);
    for number in 0..EVENTS {
        match event(number) {
            Event::Person(person) => people = person.id,
            Event::Auction(auction) => {
                auctions = auction.id;
                assert!((1000..=people).contains(&auction.seller), "event {number}");
                assert!(auction.seller % 100 == 0 || people - auction.seller < 1000, "event {number}");
            }
            Event::Bid(bid) => {
                assert!(
                    (1000..=auctions).contains(&bid.auction) && (1000..=people).contains(&bid.bidder),
                    "event {number}"
                );
                assert!(auctions - bid.auction < 100, "event {number}");
                assert!(people - bid.bidder < 1000, "event {number}");
            }
        }
    }
}

#[test]
fn some_auctions_people_and_channels_are_hot() {
    let (people, auctions, bids) = split(EVENTS);
    // One hundredth of the cold ones fall on hot ones by chance.
    let hot = bids.iter().filter(|bid| bid.auction % 100 == 0).count();
    assert!(about(hot, bids.len(), 0.505), "{hot} bids on hot auctions");
    let hot = bids.iter().filter(|bid| bid.bidder % 100 == 1).count();
    assert!(about(hot, bids.len(), 0.7525), "{hot} bids by hot bidders");
    let hot = auctions.iter().filter(|auction| auction.seller % 100 == 0).count();
    assert!(about(hot, auctions.len(), 0.7525), "{hot} auctions by hot sellers");

    let mut channels: HashMap<&str, usize> = HashMap::new();
    bids.iter().for_each(|bid| *channels.entry(bid.channel.as_str()).or_default() += 1);
    let (cold, hot): (Vec<_>, Vec<_>) = channels.iter().partition(|(name, _)| name.starts_with("channel-"));
    assert_eq!(hot.len(), 4);
    assert!(hot.iter().all(|(_, count)| about(**count, bids.len(), 0.125)), "{hot:?}");
    assert!((9_500..=10_000).contains(&cold.len()), "{} cold channels", cold.len());

    for category in 10..15 {
        let count = auctions.iter().filter(|auction| auction.category == category).count();
        assert!((count as f64 / auctions.len() as f64 - 0.2).abs() < 0.03, "{count} in category {category}");
    }
    assert_eq!(people.len() + auctions.len() + bids.len(), EVENTS as usize);
}

#[test]
fn events_are_as_large_as_they_should_be() {
    let (people, auctions, bids) = split(EVENTS);
    let mean = |bytes: usize, count: usize| bytes as f64 / count as f64;
    let texts = |person: &Person| {
        let texts = [&person.name, &person.email, &person.credit_card, &person.city, &person.state, &person.extra];
        texts.iter().map(|text| text.len()).sum::<usize>()
    };
    let size = mean(people.iter().map(|person| 16 + texts(person)).sum(), people.len());
    assert!((195.0..205.0).contains(&size), "people of {size} bytes");
    let texts = |auction: &Auction| auction.item.len() + auction.description.len() + auction.extra.len();
    let size = mean(auctions.iter().map(|auction| 56 + texts(auction)).sum(), auctions.len());
    assert!((490.0..510.0).contains(&size), "auctions of {size} bytes");
    let texts = |bid: &Bid| bid.channel.len() + bid.url.len() + bid.extra.len();
    let size = mean(bids.iter().map(|bid| 32 + texts(bid)).sum(), bids.len());
    assert!((98.0..104.0).contains(&size), "bids of {size} bytes");
}

/// Runs a query over so many events and compares what it wrote.
fn check(query: &str, events: u64, runtime: &[&str], expected: impl Iterator<Item = Vec<String>>) {
    let folder = TempDir::new().unwrap();
    let to = folder.path().join("results");
    let events = events.to_string();
    let arguments = ["--job", query, "--events", &events, "--to", to.to_str().unwrap()];
    example("nexmark", &[&arguments, runtime].concat()).succeeded();
    let mut expected: Vec<Vec<String>> = expected.collect();
    expected.sort();
    assert!(!expected.is_empty());
    let found = rows(&to, true);
    assert_eq!(found.len(), expected.len());
    for (found, expected) in found.iter().zip(&expected) {
        assert!(found.iter().eq(expected.iter()), "{found:?} instead of {expected:?}");
    }
}

fn bid_row(bid: &Bid, price: String) -> Vec<String> {
    let texts = [bid.channel.to_string(), bid.url.to_string(), bid.date_time.to_string(), bid.extra.to_string()];
    [vec![bid.auction.to_string(), bid.bidder.to_string(), price], texts.to_vec()].concat()
}

#[test]
fn q0_passes_bids() {
    check("q0", 20_000, &["-p", "2"], bids(20_000).map(|bid| bid_row(&bid, bid.price.to_string())));
}

#[test]
fn q1_converts_prices() {
    let runtime = ["-p", "2", "--workers", "2"];
    check("q1", 20_000, &runtime, bids(20_000).map(|bid| bid_row(&bid, format!("{:?}", bid.price as f64 * 0.908))));
}

#[test]
fn q2_keeps_certain_auctions() {
    let certain = bids(EVENTS).filter(|bid| bid.auction % 123 == 0);
    check("q2", EVENTS, &["-p", "3"], certain.map(|bid| vec![bid.auction.to_string(), bid.price.to_string()]));
}

#[test]
fn a_rate_limits_the_generator() {
    let start = std::time::Instant::now();
    example("nexmark", &["--job", "q0", "--events", "1000", "--rate", "1000", "-p", "2"]).succeeded();
    assert!(start.elapsed() >= std::time::Duration::from_millis(900), "{:?}", start.elapsed());
}

const SECOND: u64 = 1000;

/// The end of the span of `seconds` that `time` is in.
fn end_of(time: u64, seconds: u64) -> u64 {
    (time / (seconds * SECOND) + 1) * seconds * SECOND
}

fn row<const N: usize>(cells: [u64; N]) -> Vec<String> {
    cells.iter().map(u64::to_string).collect()
}

#[test]
fn q3_finds_local_auctions() {
    let (people, auctions, _) = split(EVENTS);
    let pairs = auctions.iter().filter(|auction| auction.category == 10).filter_map(|auction| {
        let person = people.iter().find(|person| person.id == auction.seller)?;
        let local = ["OR", "ID", "CA"].contains(&person.state.as_str());
        let texts = [&person.name, &person.city, &person.state].map(|text| text.to_string());
        local.then(|| [texts.to_vec(), row([auction.id])].concat())
    });
    check("q3", EVENTS, &["-p", "2"], pairs);
}

#[test]
fn q4_finds_mean_prices() {
    let (_, auctions, bids) = split(EVENTS);
    let mut highest: HashMap<u64, u64> = HashMap::new();
    for bid in &bids {
        let auction = &auctions[(bid.auction - 1000) as usize];
        if (auction.date_time..=auction.expires).contains(&bid.date_time) {
            let price = highest.entry(auction.id).or_default();
            *price = bid.price.max(*price);
        }
    }
    let means = (10..15).map(|category| {
        let of_category = auctions.iter().filter(|auction| auction.category == category);
        let prices: Vec<u64> = of_category.filter_map(|auction| highest.get(&auction.id).copied()).collect();
        vec![category.to_string(), format!("{:?}", prices.iter().sum::<u64>() as f64 / prices.len() as f64)]
    });
    check("q4", EVENTS, &["-p", "2"], means);
}

#[test]
fn q5_finds_hot_auctions() {
    let mut counts: HashMap<(u64, u64), u64> = HashMap::new();
    for bid in bids(EVENTS) {
        for n in 0..5 {
            *counts.entry((end_of(bid.date_time, 2) + n * 2 * SECOND, bid.auction)).or_default() += 1;
        }
    }
    let mut most: HashMap<u64, u64> = HashMap::new();
    for ((end, _), count) in &counts {
        let most = most.entry(*end).or_default();
        *most = *count.max(most);
    }
    let hot = counts.iter().filter(|((end, _), count)| most[end] == **count);
    check(
        "q5",
        EVENTS,
        &["-p", "2", "--workers", "2"],
        hot.map(|((end, auction), count)| row([*end, *auction, *count])),
    );
}

#[test]
fn q7_finds_the_highest_bids() {
    let mut highest: HashMap<u64, (u64, u64, u64)> = HashMap::new();
    for bid in bids(EVENTS) {
        let highest = highest.entry(end_of(bid.date_time, 10)).or_default();
        *highest = (bid.price, bid.auction, bid.bidder).max(*highest);
    }
    check(
        "q7",
        EVENTS,
        &["-p", "2"],
        highest.iter().map(|(end, (price, auction, bidder))| row([*end, *price, *auction, *bidder])),
    );
}

#[test]
fn q8_finds_new_sellers() {
    let (people, auctions, _) = split(EVENTS);
    let sellers = people.iter().filter_map(|person| {
        let end = end_of(person.date_time, 10);
        let mut own = auctions.iter().filter(|auction| auction.seller == person.id);
        own.any(|auction| end_of(auction.date_time, 10) == end)
            .then(|| vec![person.id.to_string(), person.name.to_string(), end.to_string()])
    });
    check("q8", EVENTS, &["-p", "2"], sellers);
}

#[test]
fn q11_finds_sessions() {
    let mut times: HashMap<u64, Vec<u64>> = HashMap::new();
    bids(EVENTS).for_each(|bid| times.entry(bid.bidder).or_default().push(bid.date_time));
    let sessions = times.into_iter().flat_map(|(bidder, times)| {
        let sessions = times.chunk_by(|a, b| b - a <= 10 * SECOND);
        let row = |times: &[u64]| row([bidder, times.len() as u64, times[0], times[times.len() - 1] + 10 * SECOND]);
        sessions.map(row).collect::<Vec<_>>()
    });
    check("q11", EVENTS, &["-p", "3"], sessions);
}

#[test]
fn q12_counts_every_bid_once() {
    let folder = TempDir::new().unwrap();
    let to = folder.path().join("results");
    example("nexmark", &["--job", "q12", "--events", "50000", "--to", to.to_str().unwrap(), "-p", "2"]).succeeded();
    let (mut found, mut expected) = (HashMap::new(), HashMap::new());
    for row in rows(&to, true) {
        *found.entry(row[0].parse::<u64>().unwrap()).or_insert(0) += row[1].parse::<u64>().unwrap();
    }
    bids(50_000).for_each(|bid| *expected.entry(bid.bidder).or_insert(0) += 1);
    assert_eq!(found, expected);
}
