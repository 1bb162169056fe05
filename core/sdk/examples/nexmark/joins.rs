//! Queries that join people, auctions and bids.

use std::time::Duration;

use serde::Serialize;
use weir::prelude::*;

use crate::generator::{Auction, Bid, Event, Person};
use crate::{Options, events, finish};

/// `q3` looks for auctions of this category by people of these states.
const CATEGORY: u64 = 10;
const STATES: [&str; 3] = ["OR", "ID", "CA"];

/// No auction lasts longer, in milliseconds.
const LONGEST_AUCTION: i64 = 1000;

fn time_of(event: &Event) -> i64 {
    let time = match event {
        Event::Person(person) => person.date_time,
        Event::Auction(auction) => auction.date_time,
        Event::Bid(bid) => bid.date_time,
    };
    time as i64
}

fn person(event: Event) -> Option<Person> {
    if let Event::Person(person) = event { Some(person) } else { None }
}

fn auction(event: Event) -> Option<Auction> {
    if let Event::Auction(auction) = event { Some(auction) } else { None }
}

fn bid(event: Event) -> Option<Bid> {
    if let Event::Bid(bid) = event { Some(bid) } else { None }
}

#[derive(Serialize)]
struct LocalAuction {
    name: Text,
    city: Text,
    state: Text,
    auction: u64,
}

/// Keeps a person and their auctions until both are there.
#[derive(Clone, Default)]
struct LocalAuctions {
    person: ValueState<Person>,
    auctions: ListState<u64>,
}

fn local(person: &Person, auction: u64) -> LocalAuction {
    let Person { name, city, state, .. } = person.clone();
    LocalAuction { name, city, state, auction }
}

impl KeyedProcessFunction<u64, Side<Person, Auction>> for LocalAuctions {
    type Out = LocalAuction;

    fn declare(&mut self, states: &mut StateDeclarer<'_>) {
        self.person = states.value("person");
        self.auctions = states.list("auctions");
    }

    fn process(&mut self, side: Side<Person, Auction>, context: &mut KeyedContext<u64, LocalAuction>) {
        match side {
            Side::First(person) => {
                for auction in self.auctions.take(context) {
                    context.emit(local(&person, auction));
                }
                self.person.set(context, person);
            }
            Side::Second(auction) => match self.person.get(context).map(|person| local(person, auction.id)) {
                Some(found) => context.emit(found),
                None => self.auctions.push(context, auction.id),
            },
        }
    }
}

/// `q3`: who sells things of a category in certain states.
pub fn q3(env: &Environment, options: Options) -> weir::Result<()> {
    let events = events(env, &options).share();
    let people = events.stream().flat_map(person).filter(|person| STATES.contains(&person.state.as_str()));
    let auctions = events.stream().flat_map(auction).filter(|auction| auction.category == CATEGORY);
    let found = people
        .key_by(|person| person.id)
        .join(auctions.key_by(|auction| auction.seller))
        .process(LocalAuctions::default());
    finish(found.name("Local auctions"), options);
    Ok(())
}

#[derive(Serialize)]
struct CategoryPrice {
    category: u64,
    mean: f64,
}

/// The highest bids on auctions, in all and how many.
#[derive(Clone)]
struct Mean;

impl Aggregator<(u64, u64, u64)> for Mean {
    type Accumulator = (u64, u64);
    type Out = f64;
    fn first(&mut self, (.., price): (u64, u64, u64)) -> (u64, u64) {
        (price, 1)
    }
    fn add(&mut self, sum: &mut (u64, u64), (.., price): (u64, u64, u64)) {
        self.combine(sum, (price, 1));
    }
    fn combine(&mut self, sum: &mut (u64, u64), other: (u64, u64)) {
        *sum = (sum.0 + other.0, sum.1 + other.1);
    }
    fn result(&mut self, sum: &(u64, u64)) -> f64 {
        sum.0 as f64 / sum.1 as f64
    }
}

/// `q4`: what auctions of each category bring on average, by the highest bid before they close.
pub fn q4(env: &Environment, options: Options) -> weir::Result<()> {
    let events = events(env, &options).watermarks(WatermarkStrategy::monotonic(time_of)).share();
    let auctions = events.stream().flat_map(auction).key_by(|auction| auction.id);
    let bids = events.stream().flat_map(bid).key_by(|bid| bid.auction);
    let time = |side: &Side<Auction, Bid>| side.with(|auction| auction.date_time, |bid| bid.date_time) as i64;
    let in_time = auctions
        .join(bids)
        .interval_join(0, LONGEST_AUCTION, time, |id, auction, bid| {
            (bid.date_time <= auction.expires).then_some((*id, auction.category, bid.price))
        })
        .name("Bids in time")
        .flat_map(|bid| bid);
    let means = in_time
        .key_by(|(auction, ..)| *auction)
        .reduce(|a, b| if a.2 >= b.2 { a } else { b })
        .name("Winning bids")
        .key_by(|(_, category, _)| *category)
        .aggregate(Mean);
    finish(means.name("Mean price").map(|(category, mean)| CategoryPrice { category, mean }), options);
    Ok(())
}

#[derive(Serialize)]
struct NewSeller {
    person: u64,
    name: Text,
    window_end: i64,
}

/// `q8`: who has put something up for sale in the 10 seconds of their arrival.
pub fn q8(env: &Environment, options: Options) -> weir::Result<()> {
    let events = events(env, &options).watermarks(WatermarkStrategy::monotonic(time_of)).share();
    let people = events.stream().flat_map(person).key_by(|person| person.id);
    let auctions = events.stream().flat_map(auction).key_by(|auction| auction.seller);
    let time = |side: &Side<Person, Auction>| side.with(|person| person.date_time, |auction| auction.date_time) as i64;
    let sellers = people.join(auctions).window(Tumbling::event_time(Duration::from_secs(10), time)).process_with(
        |id, sides: &[Side<Person, Auction>], context| {
            let sells = sides.iter().any(|side| matches!(side, Side::Second(_)));
            for side in sides {
                if let Side::First(person) = side
                    && sells
                {
                    let window_end = context.window().end;
                    context.emit(NewSeller { person: *id, name: person.name.clone(), window_end });
                }
            }
        },
    );
    finish(sellers.name("New sellers"), options);
    Ok(())
}
