//! The broker is killed and comes back while it is read and written.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::thread;

use weir::sink::{Sink, SinkWriter};

use crate::fixture::Outage;
use crate::harness::{
    Reading, committed, committer, new_topic, numbers, sink, source, unique, wait_until_settled, writer_context,
};

/// Records in each of three parts: before, around and after the broker's absence.
const PART: u64 = 3_000;

/// At least once; brokers recognise batches that are sent again, so that here it is once.
fn write_plain(servers: &str, topic: &str, under_way: Sender<()>) {
    let mut writer = sink(servers, topic).batch_bytes(2_000).create_writer(&writer_context("r", 0)).unwrap();
    (0..PART).for_each(|number| writer.write(number).unwrap());
    under_way.send(()).unwrap();
    // Batches fill up and are sent into the void.
    (PART..2 * PART).for_each(|number| writer.write(number).unwrap());
    writer.prepare_commit().unwrap();
    (2 * PART..3 * PART).for_each(|number| writer.write(number).unwrap());
    writer.prepare_commit().unwrap();
}

/// In three transactions; the commit of the first and all of the second meet a broker that is not there.
fn write_exactly_once(servers: &str, topic: &str, under_way: Sender<()>) {
    let sink = sink(servers, topic).batch_bytes(2_000).exactly_once(unique("outage"));
    let mut committer = committer(&sink, "r");
    let mut writer = sink.create_writer(&writer_context("r", 0)).unwrap();
    (0..PART).for_each(|number| writer.write(number).unwrap());
    let prepared = writer.prepare_commit().unwrap();
    writer.write(PART).unwrap();
    under_way.send(()).unwrap();
    let commit = thread::spawn(move || {
        committer.commit(prepared).unwrap();
        committer
    });
    (PART + 1..2 * PART).for_each(|number| writer.write(number).unwrap());
    let prepared = writer.prepare_commit().unwrap();
    let mut committer = commit.join().unwrap();
    committer.commit(prepared).unwrap();
    (2 * PART..3 * PART).for_each(|number| writer.write(number).unwrap());
    committer.commit(writer.prepare_commit().unwrap()).unwrap();
}

#[test]
fn readers_and_writers_outlive_a_broker_and_nothing_is_lost_or_doubled() {
    let kafka = Outage::get();
    let servers = kafka.address();
    let (plain, exact) = (&new_topic(servers, 2), &new_topic(servers, 2));
    let seen = &AtomicU64::new(0);
    let all: Vec<u64> = (0..3 * PART).collect();
    thread::scope(|scope| {
        let (tell, under_way) = channel();
        let also_tell = tell.clone();
        scope.spawn(move || write_plain(servers, plain, tell));
        scope.spawn(move || write_exactly_once(servers, exact, also_tell));
        let reader = scope.spawn(move || {
            let mut reading = Reading::start(&source(servers, plain)).unwrap();
            reading.until(|reading| {
                seen.store(reading.got.len() as u64, Ordering::Relaxed);
                reading.got.len() as u64 >= 3 * PART
            });
            numbers(&reading.got)
        });
        for _ in 0..2 {
            under_way.recv().expect("a writer failed");
        }
        // Not before the reader is in the middle of it.
        while seen.load(Ordering::Relaxed) == 0 && !reader.is_finished() {
            thread::yield_now();
        }
        kafka.kill();
        kafka.start();
        assert!(reader.join().unwrap() == all, "the reader has each record once");
    });
    for topic in [plain, exact] {
        wait_until_settled(servers, topic);
        assert!(committed(servers, topic) == all, "each record is there once");
    }
}
