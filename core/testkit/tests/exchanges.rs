//! How every exchange spreads records, inside a process and over the network.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

use std::collections::BTreeMap;

use weir_testkit::{Run, lines_in};

const COUNT: usize = 20_000;

fn job(arguments: &str) -> Run {
    Run::of(env!("CARGO_BIN_EXE_weir-test-jobs")).words("--job exchanges --quiet -p 2").words(arguments)
}

/// The lines of an exchange: subtask and record.
#[track_caller]
fn exchange(arguments: &str) -> Vec<(u32, String)> {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    job(arguments).arg("--out").arg(&out).run().exits(0);
    let parse = |line: &String| {
        let (subtask, record) = line.split_once(' ').unwrap();
        (subtask.parse().unwrap(), record.to_owned())
    };
    lines_in(&out).iter().map(parse).collect()
}

/// Runs an exchange in one, two and three processes: the records must be the same, the spread is handed to `spread`, as
/// numbers of records by subtask.
#[track_caller]
fn check(arguments: &str, copies: usize, spread: impl Fn(&BTreeMap<u32, usize>)) {
    let mut expect: Vec<String> = (0..COUNT).flat_map(|n| vec![format!("record {n}"); copies]).collect();
    expect.sort();
    for workers in 1..=3 {
        let found = exchange(&format!("{arguments} --workers {workers}"));
        let mut counts = BTreeMap::new();
        found.iter().for_each(|(subtask, _)| *counts.entry(*subtask).or_default() += 1);
        let mut records: Vec<String> = found.into_iter().map(|(_, record)| record).collect();
        records.sort();
        assert!(records == expect, "{arguments} with {workers} workers: {} records, {counts:?}", records.len());
        spread(&counts);
    }
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
    // The share of a producer is as large as its splits, and one of them may get all; its two consumers share evenly.
    check("--case rescale --from 2 --to 4", 1, |counts| {
        let of = |subtask| counts.get(&subtask).copied().unwrap_or(0);
        assert!(of(0).abs_diff(of(1)) <= 2 && of(2).abs_diff(of(3)) <= 2, "{counts:?}");
    });
    check("--case rescale --from 3 --to 2", 1, |counts| assert!(counts.len() <= 2, "{counts:?}"));
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
    check("--case forward --from 2 --to 2", 1, |counts| assert!(counts.len() <= 2, "{counts:?}"));
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
        let mut found = exchange(&format!("--case key_by --from 2 --to 3 --workers {workers}"));
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
    check("--case automatic --from 2 --to 2", 1, |counts| assert!(counts.len() <= 2, "{counts:?}"));
}

#[test]
fn forward_between_different_parallelisms_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let run = job("--case forward --from 2 --to 3").arg("--out").arg(folder.path().join("out"));
    run.run().exits(1).says(&["forward", "parallelism 2", "parallelism 3", ".rebalance()"]);
}
