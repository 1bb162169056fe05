//! The yardstick: each workload as an experienced author would write it in plain Rust, without any framework.
//!
//! One thread for q0, q2, keyed count, word count, state and windows; two sources and two receivers for the shuffles; a source and a sink
//! for latency. Threads talk through bounded std channels of 1 024-record batches that change owner.

use crate::generate::{self, ACCOUNTS, Account, Bid, Observed, Windows};
use crate::job::{Failure, Job, Outcome, Workload};
use crate::latency::{self, Meter, now_ns};
use crate::{process, text};
use bytemuck::Zeroable;
use hashbrown::HashMap;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::thread;
use std::time::{Duration, Instant};

/// Records in a batch between two threads.
const BATCH: usize = 1024;
/// Batches a channel holds before its senders wait.
const CHANNEL: usize = 64;
/// Records written to or read from a socket at once (64 KiB).
const SOCKET_BATCH: usize = 2048;

/// Runs `job`.
pub fn run(job: &Job) -> Result<Outcome, Failure> {
    match job.workload {
        Workload::Q0 => timed(|| Ok(q0(job.records))),
        Workload::Q2 => timed(|| Ok(q2(job.records))),
        Workload::Shuffle => timed(|| Ok(shuffle(job.records))),
        Workload::Shuffle2 => shuffle2(job),
        Workload::KeyedCount => timed(|| Ok(keyed_count(job.records))),
        Workload::Wordcount => timed(|| wordcount(job)),
        Workload::State => timed(|| Ok(state(job.records))),
        Workload::StateCp => Err("the hand-written loop takes no checkpoints".into()),
        Workload::Window => timed(|| Ok(tumbling(job.records, Windows::WINDOW))),
        Workload::Tumbling1s => timed(|| Ok(tumbling(job.records, Windows::TUMBLING_1S))),
        Workload::Tumbling1ms => timed(|| Ok(tumbling(job.records, Windows::TUMBLING_1MS))),
        Workload::Sliding => timed(|| Ok(sliding(job.records, Windows::SLIDING))),
        Workload::Latency => latency(job.records),
    }
}

fn timed(work: impl FnOnce() -> Result<Observed, Failure>) -> Result<Outcome, Failure> {
    let start = Instant::now();
    let observed = work()?;
    Ok(Outcome { wall: start.elapsed(), observed, latency: None, checkpoints: None })
}

fn q0(records: u64) -> Observed {
    let mut sink = Observed::default();
    for mut bid in (0..records).map(Bid::nth) {
        bid.price = generate::convert(bid.price);
        sink.bid(&bid);
    }
    sink
}

fn q2(records: u64) -> Observed {
    let mut sink = Observed::default();
    for bid in (0..records).map(Bid::nth).filter(|bid| generate::is_selected(bid.auction)) {
        sink.bid(&bid);
    }
    sink
}

fn keyed_count(records: u64) -> Observed {
    let mut counts = HashMap::<u64, u64>::new();
    for bid in (0..records).map(Bid::nth) {
        *counts.entry(bid.auction).or_default() += 1;
    }
    let mut sink = Observed::default();
    counts.iter().for_each(|(auction, count)| sink.key_count(*auction, *count));
    sink
}

fn state(records: u64) -> Observed {
    let mut accounts = HashMap::<u64, Account>::new();
    for bid in (0..records).map(|n| Bid::among(ACCOUNTS, n)) {
        accounts.entry(bid.auction).or_default().update(&bid);
    }
    let mut sink = Observed::default();
    accounts.iter().for_each(|(auction, account)| sink.account(*auction, account));
    sink
}

/// Windows that do not overlap: bids come in the order of event time, so one is open at a time.
fn tumbling(records: u64, windows: Windows) -> Observed {
    let size = windows.size as i64;
    let mut counts = HashMap::<u64, u64>::new();
    let mut sink = Observed::default();
    let mut start = 0;
    let mut emit = |start, counts: &mut HashMap<u64, u64>| {
        counts.drain().for_each(|(auction, count)| sink.window_count(auction, start, count));
    };
    for bid in (0..records).map(|n| Bid::among(windows.auctions, n)) {
        let time = bid.event_millis();
        if time >= start + size {
            emit(start, &mut counts);
            start = time - time % size;
        }
        *counts.entry(bid.auction).or_default() += 1;
    }
    emit(start, &mut counts);
    sink
}

/// Windows that overlap: a ring of panes per key, and their sum.
fn sliding(records: u64, windows: Windows) -> Observed {
    struct Ring {
        panes: Vec<u64>,
        sum: u64,
    }
    let slide = windows.slide as i64;
    let in_window = (windows.size / windows.slide) as usize;
    let mut rings = HashMap::<u64, Ring>::new();
    let mut sink = Observed::default();
    let mut pane = 0i64;
    // The window that ends with a pane is done; the next one begins without the oldest pane.
    let mut close = |pane: i64, rings: &mut HashMap<u64, Ring>| {
        let start = (pane + 1 - in_window as i64) * slide;
        let oldest = ((pane + 1) % in_window as i64) as usize;
        rings.retain(|auction, ring| {
            sink.window_count(*auction, start, ring.sum);
            ring.sum -= std::mem::take(&mut ring.panes[oldest]);
            ring.sum > 0
        });
    };
    for bid in (0..records).map(|n| Bid::among(windows.auctions, n)) {
        let current = bid.event_millis() / slide;
        while pane < current {
            close(pane, &mut rings);
            pane += 1;
        }
        let ring = rings.entry(bid.auction).or_insert_with(|| Ring { panes: vec![0; in_window], sum: 0 });
        ring.panes[(current % in_window as i64) as usize] += 1;
        ring.sum += 1;
    }
    while !rings.is_empty() {
        close(pane, &mut rings);
        pane += 1;
    }
    sink
}

fn wordcount(job: &Job) -> Result<Observed, Failure> {
    let (path, bytes) = job.text()?;
    let mut blocks = text::Blocks::open(path, 0..bytes)?;
    let mut counts = HashMap::<Box<[u8]>, u64>::new();
    while let Some(block) = blocks.next()? {
        text::for_each_word(block, |word| match counts.get_mut(word) {
            Some(count) => *count += 1,
            None => drop(counts.insert(word.into(), 1)),
        });
    }
    let mut sink = Observed::default();
    counts.iter().for_each(|(word, count)| sink.word_count(word, *count));
    Ok(sink)
}

/// A batch on its way, with the way back for its buffer.
struct Batch {
    bids: Vec<Bid>,
    home: mpsc::Sender<Vec<Bid>>,
}

/// The sending side of one subtask: fills one batch per receiver, reusing the buffers that come back.
struct Partitioner {
    home: mpsc::Sender<Vec<Bid>>,
    returned: Receiver<Vec<Bid>>,
}

impl Partitioner {
    fn new() -> Partitioner {
        let (home, returned) = mpsc::channel();
        Partitioner { home, returned }
    }

    fn empty(&self) -> Vec<Bid> {
        self.returned.try_recv().unwrap_or_else(|_| Vec::with_capacity(BATCH))
    }

    /// Hands `bids` over and leaves an empty batch in its place.
    fn send(&self, to: &SyncSender<Batch>, bids: &mut Vec<Bid>) {
        let bids = std::mem::replace(bids, self.empty());
        to.send(Batch { bids, home: self.home.clone() }).expect("receivers outlive the sources");
    }
}

fn receive(batches: Receiver<Batch>) -> Observed {
    let mut sink = Observed::default();
    for Batch { mut bids, home } in batches {
        sink.bids(&bids);
        bids.clear();
        // The source may have finished already; then the buffer is simply freed.
        let _ = home.send(bids);
    }
    sink
}

/// The receiver of a bid among two.
#[inline(always)]
fn receiver_of(bid: &Bid) -> usize {
    (generate::route(bid.auction) >> 63) as usize
}

fn shuffle(records: u64) -> Observed {
    thread::scope(|scope| {
        let (to_first, first) = mpsc::sync_channel(CHANNEL);
        let (to_second, second) = mpsc::sync_channel(CHANNEL);
        let receivers = [first, second].map(|batches| scope.spawn(move || receive(batches)));
        let to = [to_first, to_second];
        for index in 0..2 {
            let to = to.clone();
            scope.spawn(move || {
                let partitioner = Partitioner::new();
                let mut batches = [partitioner.empty(), partitioner.empty()];
                for bid in generate::part(records, index, 2).map(Bid::nth) {
                    let receiver = receiver_of(&bid);
                    let batch = &mut batches[receiver];
                    batch.push(bid);
                    if batch.len() == BATCH {
                        partitioner.send(&to[receiver], batch);
                    }
                }
                to.iter().zip(&mut batches).for_each(|(to, batch)| partitioner.send(to, batch));
            });
        }
        drop(to);
        receivers.map(joined).into_iter().fold(Observed::default(), Observed::merge)
    })
}

/// Two processes of one source and one receiver each, and one connection between them: local records change owner through a
/// channel, remote ones are written as they lie in memory, 64 KiB at once.
fn shuffle2(job: &Job) -> Result<Outcome, Failure> {
    if let Some(addresses) = &job.peer {
        return exchange(TcpStream::connect(&addresses[0])?, job.records, 1);
    }
    let listener = TcpListener::bind(("127.0.0.1", 0))?;
    let peer = process::spawn(&Job { peer: Some(vec![listener.local_addr()?.to_string()]), ..job.clone() })?;
    let (stream, _) = listener.accept()?;
    let mine = exchange(stream, job.records, 0)?;
    Ok(process::join_outcomes(mine, peer.wait()?.outcome))
}

fn exchange(stream: TcpStream, records: u64, index: usize) -> Result<Outcome, Failure> {
    stream.set_nodelay(true)?;
    let start = Instant::now();
    let observed = thread::scope(|scope| -> Result<Observed, Failure> {
        let (to_local, local) = mpsc::sync_channel(CHANNEL);
        let local = scope.spawn(move || receive(local));
        let mut from = stream.try_clone()?;
        let remote = scope.spawn(move || -> std::io::Result<Observed> {
            let mut sink = Observed::default();
            let mut bids = vec![Bid::zeroed(); SOCKET_BATCH];
            let mut partial = 0;
            loop {
                let bytes: &mut [u8] = bytemuck::cast_slice_mut(&mut bids);
                let read = from.read(&mut bytes[partial..])?;
                if read == 0 {
                    return Ok(sink);
                }
                let filled = partial + read;
                partial = filled % size_of::<Bid>();
                sink.bids(&bids[..filled / size_of::<Bid>()]);
                bytemuck::cast_slice_mut::<Bid, u8>(&mut bids).copy_within(filled - partial..filled, 0);
            }
        });
        let mut to_remote = stream;
        let partitioner = Partitioner::new();
        let mut for_local = partitioner.empty();
        let mut for_remote = Vec::with_capacity(SOCKET_BATCH);
        for bid in generate::part(records, index, 2).map(Bid::nth) {
            if receiver_of(&bid) == index {
                for_local.push(bid);
                if for_local.len() == BATCH {
                    partitioner.send(&to_local, &mut for_local);
                }
            } else {
                for_remote.push(bid);
                if for_remote.len() == SOCKET_BATCH {
                    to_remote.write_all(bytemuck::cast_slice(&for_remote))?;
                    for_remote.clear();
                }
            }
        }
        partitioner.send(&to_local, &mut for_local);
        drop(to_local);
        to_remote.write_all(bytemuck::cast_slice(&for_remote))?;
        to_remote.shutdown(std::net::Shutdown::Write)?;
        Ok(joined(local).merge(joined(remote)?))
    })?;
    Ok(Outcome { wall: start.elapsed(), observed, latency: None, checkpoints: None })
}

/// A source that sleeps until the next record is due and then sends all that are, and a sink that waits.
fn latency(records: u64) -> Result<Outcome, Failure> {
    let start = Instant::now();
    let (observed, meter) = thread::scope(|scope| {
        let (to_sink, batches) = mpsc::sync_channel::<Vec<Bid>>(CHANNEL);
        let sink = scope.spawn(move || {
            let mut sink = Observed::default();
            let mut meter = Meter::default();
            for bids in batches {
                for bid in &bids {
                    sink.bid(bid);
                    meter.observe(bid.event_time, now_ns());
                }
            }
            (sink, meter)
        });
        let start_ns = now_ns();
        let mut sent = 0;
        while sent < records {
            let due = latency::due_records(start_ns, now_ns()).min(records);
            if due > sent {
                let bids =
                    (sent..due).map(|n| Bid { event_time: latency::due_ns(start_ns, n), ..Bid::nth(n) }).collect();
                to_sink.send(bids).expect("the sink outlives the source");
                sent = due;
            }
            thread::sleep(Duration::from_nanos(latency::due_ns(start_ns, sent).saturating_sub(now_ns())));
        }
        drop(to_sink);
        joined(sink)
    });
    Ok(Outcome { wall: start.elapsed(), observed, latency: meter.percentiles(), checkpoints: None })
}

fn joined<T>(thread: thread::ScopedJoinHandle<'_, T>) -> T {
    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}
