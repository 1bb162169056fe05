//! How every exchange spreads records, inside a process and over the network.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

use std::collections::BTreeMap;

use weir_testkit::{Run, lines_in};

const COUNT: usize = 20_000;

fn job(arguments: &str) -> Run {
    Run::of(env!("CARGO_BIN_EXE_weir-test-jobs")).words("--job exchanges --quiet -p 2").words(arguments)
}

/// A record's way through an exchange.
struct Hop {
    producer: u32,
    consumer: u32,
    record: String,
}

/// What the consumers of an exchange wrote.
#[track_caller]
fn exchange(arguments: &str) -> Vec<Hop> {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    job(arguments).arg("--out").arg(&out).run().exits(0);
    let parse = |line: &String| {
        let mut parts = line.splitn(3, ' ');
        let mut next = || parts.next().unwrap();
        Hop { producer: next().parse().unwrap(), consumer: next().parse().unwrap(), record: next().to_owned() }
    };
    lines_in(&out).iter().map(parse).collect()
}

/// Runs an exchange in one, two and three processes: the records must be the same, their ways are handed to `ways`.
#[track_caller]
fn check_ways(arguments: &str, copies: usize, ways: impl Fn(&[Hop])) {
    let mut expect: Vec<String> = (0..COUNT).flat_map(|n| vec![format!("record {n}"); copies]).collect();
    expect.sort();
    for workers in 1..=3 {
        let hops = exchange(&format!("{arguments} --workers {workers}"));
        let mut records: Vec<&String> = hops.iter().map(|hop| &hop.record).collect();
        records.sort();
        let same = records.iter().copied().eq(&expect);
        assert!(same, "{arguments} with {workers} workers: {} records", records.len());
        ways(&hops);
    }
}

/// Like [`check_ways`], for the numbers of records by consumer.
#[track_caller]
fn check(arguments: &str, copies: usize, spread: impl Fn(&BTreeMap<u32, usize>)) {
    check_ways(arguments, copies, |hops| {
        let mut counts = BTreeMap::new();
        hops.iter().for_each(|hop| *counts.entry(hop.consumer).or_default() += 1);
        spread(&counts);
    });
}

/// Checks that each producer has records and feeds exactly the consumers listed for it, evenly.
#[track_caller]
fn check_consumers(arguments: &str, consumers: &[&[u32]]) {
    check_ways(arguments, 1, |hops| {
        let mut counts: BTreeMap<u32, BTreeMap<u32, usize>> = BTreeMap::new();
        hops.iter().for_each(|hop| *counts.entry(hop.producer).or_default().entry(hop.consumer).or_default() += 1);
        let found: Vec<Vec<u32>> = counts.values().map(|to| to.keys().copied().collect()).collect();
        assert_eq!(found, consumers, "{arguments}: {counts:?}");
        for to in counts.values() {
            let share = to.values().sum::<usize>() / to.len();
            assert!(to.values().all(|n| n.abs_diff(share) <= 1), "{arguments}: {counts:?}");
        }
    });
}

fn even(subtasks: u32, tolerance: usize) -> impl Fn(&BTreeMap<u32, usize>) {
    move |counts| {
        let share = COUNT / subtasks as usize;
        assert_eq!(counts.len(), subtasks as usize, "{counts:?}");
        assert!(counts.values().all(|n| n.abs_diff(share) <= tolerance), "{counts:?}");
    }
}

#[test]
fn rebalance_is_even() {
    check("--case rebalance --from 2 --to 3", 1, even(3, 4));
    check("--case rebalance --from 3 --to 2", 1, even(2, 4));
}

#[test]
fn rescale_gives_each_producer_its_own_consumers() {
    check_consumers("--case rescale --from 2 --to 4", &[&[0, 1], &[2, 3]]);
    // Consumer `producer * 2 / 3`.
    check_consumers("--case rescale --from 3 --to 2", &[&[0], &[0], &[1]]);
}

#[test]
fn shuffle_reaches_everybody_about_equally() {
    check("--case shuffle --from 2 --to 3", 1, even(3, COUNT / 20));
}

#[test]
fn global_goes_to_the_first_subtask() {
    check("--case global --from 2 --to 3", 1, |counts| assert_eq!(*counts, [(0, COUNT)].into()));
}

#[test]
fn forward_keeps_records_in_their_subtask() {
    check_consumers("--case forward --from 2 --to 2", &[&[0], &[1]]);
}

#[test]
fn broadcast_gives_every_subtask_every_record() {
    check("--case broadcast --from 2 --to 3", 3, |counts| {
        assert_eq!(*counts, [(0, COUNT), (1, COUNT), (2, COUNT)].into());
    });
}

#[test]
fn a_custom_partitioner_is_obeyed() {
    let mut expect = BTreeMap::new();
    (0..COUNT).for_each(|n| *expect.entry((format!("record {n}").len() % 3) as u32).or_insert(0) += 1);
    check("--case custom --from 2 --to 3", 1, |counts| assert_eq!(*counts, expect));
}

#[test]
fn a_custom_partitioner_that_points_outside_fails_the_job() {
    for workers in ["1", "2"] {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("out");
        let run = job("--case custom_out_of_range --workers").arg(workers).arg("--out").arg(&out);
        run.run().exits(1).says(&["custom partitioner chose consumer 3", "there are 3 (0 to 2)", "modulo"]);
        assert!(!out.exists(), "nothing stays of a failed job");
    }
}

#[test]
fn key_by_brings_a_key_to_one_subtask_wherever_it_runs() {
    let mut last = None;
    for workers in 1..=3 {
        let hops = exchange(&format!("--case key_by --from 2 --to 3 --workers {workers}"));
        // Not the producers: which of them gets a record depends on the run.
        let mut found: Vec<(u32, String)> = hops.into_iter().map(|hop| (hop.consumer, hop.record)).collect();
        found.sort();
        assert_eq!(found.len(), COUNT);
        let key = |record: &str| (record.len(), record.as_bytes()[record.len() - 1]);
        let mut homes = BTreeMap::new();
        for (subtask, record) in &found {
            assert_eq!(homes.entry(key(record)).or_insert(*subtask), subtask, "{record}");
        }
        // The key's hash is fixed: the same subtask in every run.
        assert!(last.is_none_or(|last| last == found));
        last = Some(found);
    }
}

#[test]
fn operators_of_different_parallelism_are_rebalanced_automatically() {
    check("--case automatic --from 1 --to 3", 1, even(3, 4));
    check_consumers("--case automatic --from 2 --to 2", &[&[0], &[1]]);
}

#[test]
fn forward_between_different_parallelisms_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let run = job("--case forward --from 2 --to 3").arg("--out").arg(folder.path().join("out"));
    run.run().exits(1).says(&["forward", "parallelism 2", "parallelism 3", ".rebalance()"]);
}
