//! The workloads on timely dataflow, tuned as its experienced users would.
//!
//! Sources hand over `Vec` batches of 1 024 records that they fill in one go; maps and filters work in place; exchanges use the
//! `Exchange` pact with timely's own batches (8 KiB); counting uses hashbrown with its default hasher; one logical time, because
//! results are asked for at the end only. In one process channels hand batches over by ownership; between two processes they
//! are encoded by timely's own codec (bincode). Words travel as strings that are stored in line (24 bytes), each by itself:
//! there is no local pre-aggregation.

use crate::generate::{self, Bid, Observed};
use crate::job::{Failure, Job, Outcome, Workload};
use crate::latency::{self, Meter, now_ns};
use crate::{process, text};
use compact_str::CompactString;
use foldhash::fast::FixedState;
use hashbrown::HashMap;
use std::cell::RefCell;
use std::hash::BuildHasher;
use std::net::TcpListener;
use std::ops::Range;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::{Duration, Instant};
use timely::container::CapacityContainerBuilder;
use timely::dataflow::channels::pact::{Exchange, Pipeline};
use timely::dataflow::operators::generic::operator::source;
use timely::dataflow::operators::generic::{Operator, OutputBuilderSession};
use timely::dataflow::operators::vec::{Filter, Map};
use timely::dataflow::{Scope, StreamVec};
use timely::synchronization::Barrier;
use timely::worker::Worker;
use timely::{CommunicationConfig, Config, WorkerConfig};

/// Records a source hands over at once.
const BATCH: u64 = 1024;
/// Batches a source hands over each time it is scheduled.
const BATCHES_PER_ACTIVATION: usize = 8;
/// How long a latency source leaves its worker to other work, or to sleep.
const PAUSE: Duration = Duration::from_micros(50);

type Bids<'scope> = StreamVec<'scope, u64, Bid>;
/// Where the sinks of one worker leave what they saw.
type Seen = Rc<RefCell<(Observed, Meter)>>;

/// Runs `job`.
pub fn run(job: &Job) -> Result<Outcome, Failure> {
    if job.workload != Workload::Shuffle2 {
        let communication = match job.parallelism {
            1 => CommunicationConfig::Thread,
            workers => CommunicationConfig::Process(workers),
        };
        return on_workers(communication, job);
    }
    if let Some(addresses) = &job.peer {
        return on_workers(cluster(1, addresses), job);
    }
    let addresses = vec![free_address()?, free_address()?];
    let peer = process::spawn(&Job { peer: Some(addresses.clone()), ..job.clone() })?;
    let mine = on_workers(cluster(0, &addresses), job)?;
    Ok(process::join_outcomes(mine, peer.wait()?.outcome))
}

fn cluster(process: usize, addresses: &[String]) -> CommunicationConfig {
    CommunicationConfig::Cluster { threads: 1, process, addresses: addresses.to_vec(), report: false, zerocopy: false }
}

fn free_address() -> Result<String, Failure> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.to_string())
}

/// Builds the dataflow on every local worker, runs it to its end, and merges what the workers saw.
fn on_workers(communication: CommunicationConfig, job: &Job) -> Result<Outcome, Failure> {
    let job = job.clone();
    let workers = timely::execute(Config { communication, worker: WorkerConfig::default() }, move |worker| {
        // The first process notices up to a second late that the second has connected: begin together.
        let mut barrier = Barrier::new(worker);
        barrier.advance();
        while !barrier.reached() {
            worker.step_or_park(None);
        }
        drop(barrier);
        let start = Instant::now();
        let seen = Seen::default();
        build(worker, &job, &seen)?;
        while worker.has_dataflows() {
            worker.step_or_park(None);
        }
        let (observed, meter) = seen.take();
        Ok::<_, String>((start.elapsed(), observed, meter))
    })?;
    let mut wall = Duration::ZERO;
    let mut observed = Observed::default();
    let mut meter = Meter::default();
    for worker in workers.join() {
        let (elapsed, saw, measured) = worker??;
        wall = wall.max(elapsed);
        observed = observed.merge(saw);
        meter = meter.merge(&measured);
    }
    Ok(Outcome { wall, observed, latency: meter.percentiles(), checkpoints: None })
}

fn build(worker: &mut Worker, job: &Job, seen: &Seen) -> Result<(), String> {
    let numbers = generate::part(job.records, worker.index(), worker.peers());
    let seen = Rc::clone(seen);
    match job.workload {
        Workload::Q0 => worker.dataflow::<u64, _, _>(|scope| {
            let converted = bids(scope, numbers).map_in_place(|bid| bid.price = generate::convert(bid.price));
            collect(converted, Pipeline, seen);
        }),
        Workload::Q2 => worker.dataflow::<u64, _, _>(|scope| {
            let selected = bids(scope, numbers).filter(|bid| generate::is_selected(bid.auction));
            collect(selected, Pipeline, seen);
        }),
        Workload::Shuffle | Workload::Shuffle2 => worker.dataflow::<u64, _, _>(|scope| {
            collect(bids(scope, numbers), Exchange::new(by_auction), seen);
        }),
        Workload::KeyedCount => worker.dataflow::<u64, _, _>(|scope| count_auctions(bids(scope, numbers), seen)),
        Workload::Wordcount => {
            let (path, bytes) = job.text.clone().ok_or("the word count needs a text")?;
            let ranges = text::cut(&path, bytes, worker.peers()).map_err(|error| error.to_string())?;
            let range = ranges[worker.index()].clone();
            worker.dataflow::<u64, _, _>(|scope| count_words(words(scope, path, range), seen));
        }
        Workload::Latency => {
            let (index, peers) = (worker.index() as u64, worker.peers() as u64);
            worker.dataflow::<u64, _, _>(|scope| measure(bids_when_due(scope, job.records, index, peers), seen));
        }
        Workload::State
        | Workload::StateCp
        | Workload::Window
        | Workload::Tumbling1s
        | Workload::Tumbling1ms
        | Workload::Sliding => return Err(format!("{} is not measured on timely", job.workload)),
    }
    Ok(())
}

fn by_auction(bid: &Bid) -> u64 {
    generate::route(bid.auction) >> 32
}

type Session<'a, D> = OutputBuilderSession<'a, u64, CapacityContainerBuilder<Vec<D>>>;

/// A source that generates bids as fast as it is scheduled.
fn bids<'scope>(scope: Scope<'scope, u64>, numbers: Range<u64>) -> Bids<'scope> {
    source(scope, "Bids", |capability, info| {
        let activator = scope.activator_for(info.address);
        let mut capability = Some(capability);
        let mut next = numbers.start;
        let mut batch = Vec::new();
        move |output: &mut Session<Bid>| {
            let Some(held) = &capability else { return };
            let mut session = output.session(held);
            for _ in 0..BATCHES_PER_ACTIVATION {
                let end = (next + BATCH).min(numbers.end);
                batch.clear();
                batch.extend((next..end).map(Bid::nth));
                session.give_container(&mut batch);
                next = end;
            }
            drop(session);
            if next < numbers.end { activator.activate() } else { capability = None }
        }
    })
}

/// A source that generates the bids `index`, `index + peers`, … of the latency schedule when they are due, and lets its worker
/// sleep between (a worker still polls for 10 µs before it parks, timely's default).
fn bids_when_due<'scope>(scope: Scope<'scope, u64>, records: u64, index: u64, peers: u64) -> Bids<'scope> {
    source(scope, "BidsWhenDue", |capability, info| {
        let activator = scope.activator_for(info.address);
        let mut capability = Some(capability);
        let mut next = index;
        let start_ns = now_ns();
        move |output: &mut Session<Bid>| {
            let Some(held) = &mut capability else { return };
            let due = latency::due_records(start_ns, now_ns()).min(records);
            let mut session = output.session(held);
            while next < due {
                session.give(Bid { event_time: latency::due_ns(start_ns, next), ..Bid::nth(next) });
                next += peers;
            }
            drop(session);
            if next < records {
                // A new time flushes what the exchange has buffered.
                held.downgrade(&(due + 1));
                activator.activate_after(PAUSE);
            } else {
                capability = None;
            }
        }
    })
}

/// Ends `stream` in a sink that counts and sums.
fn collect<'scope, P>(stream: Bids<'scope>, pact: P, seen: Seen)
where
    P: timely::dataflow::channels::pact::ParallelizationContract<u64, Vec<Bid>>,
{
    stream.sink(pact, "Collect", move |(input, _frontier)| {
        let seen = &mut seen.borrow_mut().0;
        input.for_each(|_capability, bids| seen.bids(bids));
    });
}

fn measure(stream: Bids<'_>, seen: Seen) {
    stream.sink(Exchange::new(by_auction), "Measure", move |(input, _frontier)| {
        let (seen, meter) = &mut *seen.borrow_mut();
        input.for_each(|_capability, bids| {
            for bid in bids.iter() {
                seen.bid(bid);
                meter.observe(bid.event_time, now_ns());
            }
        });
    });
}

fn count_auctions(stream: Bids<'_>, seen: Seen) {
    let mut counts = HashMap::<u64, u64>::new();
    stream.sink(Exchange::new(by_auction), "CountAuctions", move |(input, frontier)| {
        input.for_each(|_capability, bids| bids.iter().for_each(|bid| *counts.entry(bid.auction).or_default() += 1));
        if frontier.is_empty() {
            let seen = &mut seen.borrow_mut().0;
            counts.drain().for_each(|(auction, count)| seen.key_count(auction, count));
        }
    });
}

/// A source of the words in a byte range of a file.
fn words<'scope>(scope: Scope<'scope, u64>, path: PathBuf, range: Range<u64>) -> StreamVec<'scope, u64, CompactString> {
    source(scope, "Words", |capability, info| {
        let activator = scope.activator_for(info.address);
        let mut capability = Some(capability);
        let mut blocks = text::Blocks::open(&path, range).expect("the text was opened a moment ago");
        move |output: &mut Session<CompactString>| {
            let Some(held) = &capability else { return };
            match blocks.next().expect("the text stays readable") {
                Some(block) => {
                    let mut session = output.session(held);
                    text::for_each_word(block, |word| session.give(CompactString::from_utf8_lossy(word)));
                    activator.activate();
                }
                None => capability = None,
            }
        }
    })
}

fn count_words(stream: StreamVec<'_, u64, CompactString>, seen: Seen) {
    let hasher = FixedState::default();
    let mut counts = HashMap::<CompactString, u64>::new();
    let by_word = Exchange::new(move |word: &CompactString| hasher.hash_one(word.as_bytes()) >> 32);
    stream.sink(by_word, "CountWords", move |(input, frontier)| {
        input.for_each(|_capability, words| words.drain(..).for_each(|word| *counts.entry(word).or_default() += 1));
        if frontier.is_empty() {
            let seen = &mut seen.borrow_mut().0;
            counts.drain().for_each(|(word, count)| seen.word_count(word.as_bytes(), count));
        }
    });
}
