//! What every operator does, against the same computed in a straight line: in one process and in several.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

use std::collections::BTreeMap;

use weir_testkit::{Run, lines_in};

const COUNT: u64 = 5000;

/// Runs case `case` in one process and in two, and compares the lines it writes.
#[track_caller]
fn check(case: &str, expect: impl IntoIterator<Item = String>) {
    let mut expect: Vec<String> = expect.into_iter().collect();
    expect.sort();
    for arguments in ["-p 1", "-p 3", "-p 2 --workers 2"] {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("out");
        let run = Run::of(env!("CARGO_BIN_EXE_weir-test-jobs")).words("--job operators --quiet --case").arg(case);
        run.words(arguments).arg("--out").arg(&out).run().exits(0);
        let found = lines_in(&out);
        if found != expect {
            let differs = found.iter().zip(&expect).find(|(a, b)| a != b);
            panic!("{case} {arguments}: {} lines instead of {}; first: {differs:?}", found.len(), expect.len());
        }
    }
}

fn value(n: u64) -> u64 {
    n.wrapping_mul(2_654_435_761) % 1000
}

/// Folds the values of each key, and shows them.
fn by_key<R: std::fmt::Display>(result: impl Fn(&[u64]) -> R) -> Vec<String> {
    let mut groups: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
    (0..COUNT).for_each(|n| groups.entry(n % 7).or_default().push(value(n)));
    groups.iter().map(|(key, values)| format!("{key} {}", result(values))).collect()
}

fn numbers(f: impl Fn(u64) -> String) -> impl Iterator<Item = String> {
    (0..COUNT).map(f)
}

#[test]
fn map_filter_flat_map_and_inspect_see_every_record_once() {
    check("map", numbers(|n| (n * 2).to_string()));
    check("filter", (0..COUNT).filter(|n| n % 3 == 0).map(|n| n.to_string()));
    check("flat_map", (0..COUNT).flat_map(|n| (0..n % 4).map(move |i| format!("{n}.{i}"))));
    check("inspect", numbers(|n| n.to_string()));
}

#[test]
fn reduce_and_aggregate_combine_the_records_of_a_key() {
    check("reduce", by_key(|values| *values.iter().max().unwrap()));
    let extremes = |values: &[u64]| format!("{} {}", values.iter().min().unwrap(), values.iter().max().unwrap());
    check("aggregate", by_key(extremes));
}

#[test]
fn count_sum_max_min_and_mean_agree_with_straight_lines() {
    check("count", by_key(<[u64]>::len));
    check("sum", by_key(|values| values.iter().sum::<u64>()));
    check("max", by_key(|values| *values.iter().max().unwrap()));
    check("min", by_key(|values| *values.iter().min().unwrap()));
    let mean = |values: &[u64]| {
        let sum: u64 = values.iter().sum();
        format!("{:.6} {}", sum as f64 / values.len() as f64, values.len())
    };
    check("mean", by_key(mean));
}

#[test]
fn process_opens_once_and_may_emit_at_the_end() {
    check("process", numbers(|n| n.to_string()));
}

#[test]
fn keyed_process_keeps_value_list_and_map_state_per_key() {
    let line = |key: u64| {
        let of_key: Vec<u64> = (0..COUNT).filter(|n| n % 7 == key).collect();
        let tens: Vec<u64> = of_key.iter().copied().filter(|n| n % 10 == 0 && *n < 100).collect();
        let mut digits: BTreeMap<u64, u64> = BTreeMap::new();
        of_key.iter().for_each(|n| *digits.entry(n % 10).or_default() += 1);
        let digits: Vec<(u64, u64)> = digits.into_iter().collect();
        format!("key {key}: {} {tens:?} {digits:?}", of_key.len())
    };
    check("keyed", (0..7).map(line));
}

#[test]
fn side_outputs_take_the_records_sent_to_them() {
    check("side", numbers(|n| format!("{} {n}", if n % 2 == 0 { "even" } else { "odd" })));
}

#[test]
fn union_takes_the_records_of_both_streams_even_of_one_stream_twice() {
    check("union", numbers(|n| n.to_string()).chain((0..100).map(|n| (n + 1_000_000).to_string())));
    check("union_self", numbers(|n| n.to_string()).chain(numbers(|n| n.to_string())));
}

#[test]
fn every_reader_of_a_shared_stream_gets_every_record() {
    let counts = (0..3).map(|key| format!("b {key} {}", (1..=COUNT).filter(|n| n % 3 == key).count()));
    let (a, c) = (numbers(|n| format!("a {}", n + 1)), numbers(|n| format!("c {}", n + 1)));
    check("share", a.chain(c).chain(counts));
}

#[test]
fn connected_streams_are_mapped_and_flat_mapped_by_two_functions() {
    let words = ["a", "b", "c"];
    check("connect_map", numbers(|n| format!("number {n}")).chain(words.map(|w| format!("word {w}"))));
    let even = (0..COUNT).filter(|n| n % 2 == 0).map(|n| n.to_string());
    check("connect_flat_map", even.chain(words.into_iter().flat_map(|w| [w.to_owned(), w.to_owned()])));
}

#[test]
fn a_connected_process_is_told_when_each_input_ended() {
    check("connect_process", numbers(|n| format!("{n} name {}", n % 7)));
}

#[test]
fn timers_ring_once_per_key_and_time_at_the_latest_when_the_input_ends() {
    let rings = |key: u64| {
        let hundreds: std::collections::BTreeSet<u64> =
            (0..COUNT).filter(|n| n % 7 == key).map(|n| n / 100 * 100).collect();
        let total = format!("{key} rang {} times", hundreds.len() * 2);
        let each = hundreds.into_iter().flat_map(|time| [time, time + 1]);
        each.map(move |time| format!("{key} rings at {time}")).chain([total])
    };
    check("timers", (0..7).flat_map(rings));
}

#[test]
fn connected_keyed_streams_share_the_state_of_a_key() {
    check("keyed_connect", numbers(|n| format!("{n} name {}", n % 7)));
}

#[test]
fn what_is_broadcast_is_known_in_every_subtask() {
    check("broadcast", numbers(|n| format!("{n} name {}", n % 7)));
    check("keyed_broadcast", numbers(|n| format!("{n} name {}", n % 7)));
}

#[test]
fn zero_records_are_a_job_that_finishes() {
    for case in ["map", "reduce", "keyed", "side", "union_self", "share", "connect_process"] {
        for workers in ["1", "2"] {
            let folder = tempfile::tempdir().unwrap();
            let out = folder.path().join("out");
            let run =
                Run::of(env!("CARGO_BIN_EXE_weir-test-jobs")).words("--job operators --quiet --count 0 -p 2 --case");
            let ended = run.arg(case).arg("--workers").arg(workers).arg("--out").arg(&out).run();
            ended.exits(0);
            assert!(ended.stderr.is_empty() && ended.stdout.is_empty(), "{ended:?}");
            assert!(lines_in(&out).len() <= 7, "{case}: only the constants");
        }
    }
}
