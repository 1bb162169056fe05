//! Queries of the Nexmark benchmark over generated events of an online auction house.
//!
//! ```sh
//! cargo run --release -p weir --example nexmark -- --job q1 --events 10000000
//! cargo run -p weir --example nexmark -- --job q2 --events 100000 --to /tmp/q2
//! ```
//!
//! `q0` passes the bids through, `q1` converts their prices from dollars to euros, `q2` keeps the bids on certain auctions; the others are in
//! `windows` and `joins`.
//! The results are counted and dropped, so that the time goes into the query and the generator; `--to` keeps them.

mod generator;
mod joins;
mod windows;

use std::path::PathBuf;

use generator::{Bid, Event};
use joins::{q3, q4, q8};
use serde::Serialize;
use weir::prelude::*;
use weir::stream::{DataStream, Upstream};
use windows::{q5, q7, q11, q12};

/// Euros per dollar.
const EUROS: f64 = 0.908;

/// `q2` keeps auctions whose number is a multiple of this.
const WANTED_AUCTIONS: u64 = 123;

#[derive(weir::Args)]
struct Options {
    /// How many events to generate: 2 % people, 6 % auctions, 92 % bids
    #[arg(long, value_name = "N", default_value = "1000000")]
    events: u64,
    /// Generate at most this many events a second
    #[arg(long, value_name = "N")]
    rate: Option<f64>,
    /// Write the results into this directory, as CSV part files, instead of dropping them
    #[arg(long, value_name = "DIR")]
    to: Option<PathBuf>,
}

/// All events.
fn events(env: &Environment, options: &Options) -> DataStream<impl Upstream<Out = Event> + use<>> {
    let mut events = GeneratorSource::new(generator::event).records(options.events);
    if let Some(rate) = options.rate {
        events = events.rate(rate);
    }
    env.source(events).name("Events")
}

/// The bids among the events.
fn bids(env: &Environment, options: &Options) -> DataStream<impl Upstream<Out = Bid> + use<>> {
    let bids = events(env, options).flat_map(|event| match event {
        Event::Bid(bid) => Some(bid),
        Event::Person(_) | Event::Auction(_) => None,
    });
    bids.name("Bids")
}

fn finish<C: Upstream<Out: Serialize>>(results: DataStream<C>, options: Options) {
    match options.to {
        Some(directory) => {
            results.write_csv(directory);
        }
        None => {
            results.discard();
        }
    }
}

/// A bid with its price in euros.
#[derive(Serialize)]
struct EuroBid {
    auction: u64,
    bidder: u64,
    price: f64,
    channel: Text,
    url: Text,
    date_time: u64,
    extra: Text,
}

/// What `q2` keeps of a bid.
#[derive(Serialize)]
struct AuctionPrice {
    auction: u64,
    price: u64,
}

fn q0(env: &Environment, options: Options) -> weir::Result<()> {
    finish(bids(env, &options), options);
    Ok(())
}

fn q1(env: &Environment, options: Options) -> weir::Result<()> {
    let in_euros = bids(env, &options).map(|bid| EuroBid {
        auction: bid.auction,
        bidder: bid.bidder,
        price: bid.price as f64 * EUROS,
        channel: bid.channel,
        url: bid.url,
        date_time: bid.date_time,
        extra: bid.extra,
    });
    finish(in_euros.name("To euros"), options);
    Ok(())
}

fn q2(env: &Environment, options: Options) -> weir::Result<()> {
    let wanted = bids(env, &options).filter(|bid| bid.auction % WANTED_AUCTIONS == 0).name("Certain auctions");
    finish(wanted.map(|bid| AuctionPrice { auction: bid.auction, price: bid.price }), options);
    Ok(())
}

weir::main!(q0, q1, q2, q3, q4, q5, q7, q8, q11, q12);
