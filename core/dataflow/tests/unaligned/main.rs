//! Checkpoints whose barriers overtake data, in real workers: they complete while a slow consumer hardly moves, and hold every record
//! exactly once.

#![allow(clippy::unwrap_used, reason = "a test may, also outside the functions marked as one")]

mod job;

use std::collections::BTreeMap;
use std::time::Duration;

use job::{Consumer, Running, Workers};
use weir_checkpoint::{Alignment, CheckpointKind, TaskSnapshot};
use weir_model::{CheckpointAcknowledgement, TaskId};

const EACH: u64 = 150_000;
/// As many records as are handed over in one batch; a consumer that has processed fewer has hardly moved.
const FEW: u64 = 4_096;

/// Takes a checkpoint of a job that stands still because of its consumer, and lets the consumer go on record by record until then.
fn checkpoint(consumer: Consumer, workers: Workers, after: Duration) -> Vec<CheckpointAcknowledgement> {
    let job = Running::start(consumer, workers, EACH, BTreeMap::new());
    job.until_sources_wait();
    job.trigger(1, CheckpointKind::Checkpoint, Alignment::UnalignedAfter(after));
    let acknowledged = job.step_until_acknowledged(3);
    assert!(job.processed() < FEW, "the consumer has processed {} records", job.processed());
    job.cancel();
    acknowledged
}

fn restore(consumer: Consumer, workers: Workers, from: &[CheckpointAcknowledgement]) -> Vec<u64> {
    let snapshots = from.iter().map(|ack| (ack.task, TaskSnapshot::decode(&ack.snapshot).unwrap())).collect();
    let job = Running::start(consumer, workers, EACH, snapshots);
    job.run_to_the_end()
}

#[track_caller]
fn check(consumer: Consumer, workers: Workers, after: Duration) {
    let acknowledged = checkpoint(consumer, workers, after);
    let of_consumer = acknowledged.iter().find(|ack| ack.task == TaskId { vertex: 2, subtask: 0 }).unwrap();
    let metrics = of_consumer.metrics;
    assert!(metrics.unaligned);
    assert!(metrics.persisted > 8 * FEW, "only {} bytes were in flight", metrics.persisted);
    assert!(metrics.start_delay + metrics.alignment >= after.saturating_sub(Duration::from_millis(5)));
    let mut all = restore(consumer, workers, &acknowledged);
    all.sort_unstable();
    assert_eq!(all.len() as u64, 2 * EACH);
    assert!(all.into_iter().eq(0..2 * EACH), "every record once");
}

#[test]
fn barriers_overtake_at_once_what_waits_in_the_process() {
    check(Consumer::OneInput, Workers::One, Duration::ZERO);
}

#[test]
fn barriers_overtake_at_once_what_waits_between_processes() {
    check(Consumer::OneInput, Workers::Two, Duration::ZERO);
}

#[test]
fn barriers_that_align_too_long_overtake_in_the_process() {
    check(Consumer::OneInput, Workers::One, Duration::from_millis(20));
}

#[test]
fn barriers_that_align_too_long_overtake_between_processes() {
    check(Consumer::OneInput, Workers::Two, Duration::from_millis(20));
}

#[test]
fn barriers_overtake_on_both_inputs_of_an_operator() {
    check(Consumer::TwoInputs, Workers::One, Duration::ZERO);
    check(Consumer::TwoInputs, Workers::Two, Duration::from_millis(20));
}

#[test]
fn a_savepoint_never_overtakes() {
    let job = Running::start(Consumer::OneInput, Workers::One, EACH, BTreeMap::new());
    job.until_sources_wait();
    job.trigger(1, CheckpointKind::Savepoint, Alignment::UnalignedAfter(Duration::ZERO));
    job.let_go();
    let acknowledged = job.step_until_acknowledged(3);
    assert!(acknowledged.iter().all(|ack| !ack.metrics.unaligned && ack.metrics.persisted == 0));
    job.cancel();
}

#[test]
fn a_checkpoint_that_overtook_and_was_given_up_leaves_the_job_as_it_was() {
    let job = Running::start(Consumer::OneInput, Workers::Two, EACH, BTreeMap::new());
    job.until_sources_wait();
    job.trigger(1, CheckpointKind::Checkpoint, Alignment::UnalignedAfter(Duration::ZERO));
    job.give_up(1);
    job.trigger(2, CheckpointKind::Checkpoint, Alignment::UnalignedAfter(Duration::ZERO));
    let acknowledged = job.step_until_acknowledged_of(2, 3);
    let mut all = restore(Consumer::OneInput, Workers::Two, &acknowledged);
    all.sort_unstable();
    assert!(all.into_iter().eq(0..2 * EACH));
    let mut all = job.run_to_the_end();
    all.sort_unstable();
    assert!(all.into_iter().eq(0..2 * EACH), "the job itself went on");
}

#[test]
fn records_in_flight_before_an_operator_that_begins_no_task_are_refused() {
    let acknowledged = checkpoint(Consumer::OneInput, Workers::One, Duration::ZERO);
    let mut snapshots: BTreeMap<_, _> =
        acknowledged.iter().map(|ack| (ack.task, TaskSnapshot::decode(&ack.snapshot).unwrap())).collect();
    let state = &mut snapshots.get_mut(&TaskId { vertex: 2, subtask: 0 }).unwrap().operators;
    state.iter_mut().for_each(|state| state.operator = job::operator("another"));
    let job = Running::start(Consumer::OneInput, Workers::One, EACH, snapshots);
    let failure = job.until_failed();
    assert!(failure.contains("aligned checkpoint"), "{failure}");
    job.cancel();
}
