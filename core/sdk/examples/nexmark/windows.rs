//! Queries over windows of bids.

use std::time::Duration;

use serde::Serialize;
use weir::prelude::*;
use weir::stream::aggregates::Count;

use crate::generator::Bid;
use crate::{Options, bids, finish};

fn time_of(bid: &Bid) -> i64 {
    bid.date_time as i64
}

/// Events are in order, but for those of one millisecond that several subtasks make.
fn in_order() -> WatermarkStrategy<impl WatermarkGenerator<Bid>> {
    WatermarkStrategy::monotonic(time_of)
}

/// What is asked for of a window.
#[derive(Serialize)]
struct HotAuction {
    window_end: i64,
    auction: u64,
    bids: u64,
}

/// `q5`: the auctions with the most bids in the last 10 seconds, every 2 seconds.
pub fn q5(env: &Environment, options: Options) -> weir::Result<()> {
    let slide = Duration::from_secs(2);
    let counts = bids(env, &options)
        .watermarks(in_order())
        .key_by(|bid| bid.auction)
        .window(Sliding::event_time(Duration::from_secs(10), slide, time_of))
        .aggregate(Count)
        .name("Bids by auction");
    let hottest = counts
        .key_by(|count| count.window.end)
        .window(Tumbling::event_time(slide, |count: &WindowResult<u64, u64>| count.window.last()))
        .process_with(|end, counts: &[WindowResult<u64, u64>], context| {
            let most = counts.iter().map(|count| count.value).max();
            for count in counts.iter().filter(|count| Some(count.value) == most) {
                context.emit(HotAuction { window_end: *end, auction: count.key, bids: count.value });
            }
        });
    finish(hottest.name("Hottest auctions"), options);
    Ok(())
}

#[derive(Serialize)]
struct HighestBid {
    window_end: i64,
    price: u64,
    auction: u64,
    bidder: u64,
}

/// `q7`: the highest bid of each 10 seconds; of several, the one on the latest auction.
pub fn q7(env: &Environment, options: Options) -> weir::Result<()> {
    let highest = bids(env, &options)
        .watermarks(in_order())
        .map(|bid| (bid.date_time as i64, (bid.price, bid.auction, bid.bidder)))
        .key_by(|_| 0_u8)
        .window(Tumbling::event_time(Duration::from_secs(10), |bid: &(i64, (u64, u64, u64))| bid.0))
        .reduce(|a, b| if a.1 >= b.1 { a } else { b })
        .name("Highest bid")
        .map(|highest| {
            let (price, auction, bidder) = highest.value.1;
            HighestBid { window_end: highest.window.end, price, auction, bidder }
        });
    finish(highest, options);
    Ok(())
}

#[derive(Serialize)]
struct BidderSession {
    bidder: u64,
    bids: u64,
    start: i64,
    end: i64,
}

/// `q11`: how many bids each person makes without a pause of 10 seconds.
pub fn q11(env: &Environment, options: Options) -> weir::Result<()> {
    let sessions = bids(env, &options)
        .watermarks(in_order())
        .key_by(|bid| bid.bidder)
        .window(Session::event_time(Duration::from_secs(10), time_of))
        .aggregate(Count)
        .name("Bids by session");
    let row = |session: WindowResult<u64, u64>| BidderSession {
        bidder: session.key,
        bids: session.value,
        start: session.window.start,
        end: session.window.end,
    };
    finish(sessions.map(row), options);
    Ok(())
}

#[derive(Serialize)]
struct BidderCount {
    bidder: u64,
    bids: u64,
}

/// `q12`: how many bids each person makes in each 10 seconds of the clock.
pub fn q12(env: &Environment, options: Options) -> weir::Result<()> {
    let counts = bids(env, &options)
        .key_by(|bid| bid.bidder)
        .window(Tumbling::processing_time(Duration::from_secs(10)))
        .aggregate(Count)
        .name("Bids by bidder");
    finish(counts.map(|count| BidderCount { bidder: count.key, bids: count.value }), options);
    Ok(())
}
