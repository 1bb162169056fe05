//! The job `windowed`: what it must have written, computed from its records without windows, timers or watermarks.

use std::collections::{BTreeMap, BTreeSet};

use super::compare;
use crate::harness::Cluster;

/// Record number `n` of the first stream: key, time and value.
fn event(n: u64) -> (u64, i64, u64) {
    let mixed = n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
    ((n / 300 * 7 + mixed % 3) % 41, n as i64 - 5_000 - (mixed / 3 % 200) as i64, n % 1_000)
}

/// Record number `n` of the stream with late records: key and time.
fn late_event(n: u64) -> (u64, i64) {
    let behind = if n % 77 == 5 {
        6_000
    } else if n % 50 == 7 {
        900
    } else {
        0
    };
    (n % 5, n as i64 - behind)
}

fn second(time: i64) -> i64 {
    time.div_euclid(1_000) * 1_000
}

fn lines<T>(rows: impl IntoIterator<Item = T>, line: impl Fn(T) -> String) -> Vec<String> {
    let mut lines: Vec<String> = rows.into_iter().map(line).collect();
    lines.sort();
    lines
}

fn tumbling(count: u64) -> Vec<String> {
    let mut counts = BTreeMap::new();
    for (key, time, _) in (0..count).map(event) {
        *counts.entry((key, second(time))).or_insert(0) += 1;
    }
    lines(counts, |((key, start), count)| format!("{key} {start} {count}"))
}

fn sliding(count: u64) -> Vec<String> {
    let mut sums = BTreeMap::new();
    for (key, time, value) in (0..count).map(event) {
        let last = time.div_euclid(250) * 250;
        for start in (0..8).map(|back| last - 250 * back) {
            *sums.entry((key, start)).or_insert(0) += value;
        }
    }
    lines(sums, |((key, start), sum)| format!("{key} {start} {sum}"))
}

fn sessions(count: u64) -> Vec<String> {
    let mut by_key: BTreeMap<u64, Vec<(i64, u64)>> = BTreeMap::new();
    for (key, time, value) in (0..count).map(event) {
        by_key.entry(key).or_default().push((time, value));
    }
    let mut sessions = Vec::new();
    for (key, mut events) in by_key {
        events.sort_unstable();
        for session in events.chunk_by(|(before, _), (after, _)| after - before <= 1_500) {
            let (start, end) = (session[0].0, session[session.len() - 1].0 + 1_500);
            let sum: u64 = session.iter().map(|(_, value)| value).sum();
            sessions.push(format!("{key} {start} {end} {} {sum}", session.len()));
        }
    }
    sessions.sort();
    sessions
}

/// What the windows that fire again for late records emit, and what comes too late for them.
fn again_and_late(count: u64) -> (Vec<String>, Vec<String>) {
    let (mut again, mut late) = (Vec::new(), Vec::new());
    let mut counts: BTreeMap<(i64, u64), u64> = BTreeMap::new();
    let mut watermark = i64::MIN;
    for n in 0..count {
        let (key, time) = late_event(n);
        let last = second(time) + 999;
        if last + 1_000 <= watermark {
            late.push(format!("{key} {time} {n}"));
        } else {
            let count = counts.entry((last, key)).or_default();
            *count += 1;
            if last <= watermark {
                again.push(format!("{key} {} {count}", last - 999));
            }
        }
        if n % 100 == 99 {
            let next = n as i64 - 100;
            let over = counts.iter().filter(|((last, _), _)| (watermark + 1..=next).contains(last));
            again.extend(over.map(|((last, key), count)| format!("{key} {} {count}", last - 999)));
            watermark = next;
        }
    }
    let rest = counts.iter().filter(|((last, _), _)| *last > watermark);
    again.extend(rest.map(|((last, key), count)| format!("{key} {} {count}", last - 999)));
    again.sort();
    late.sort();
    (again, late)
}

fn check_in_time(cluster: &Cluster, count: u64) -> Result<(), String> {
    compare("tumbling", &cluster.output("windows/tumbling"), &tumbling(count))?;
    compare("sliding", &cluster.output("windows/sliding"), &sliding(count))?;
    compare("sessions", &cluster.output("windows/sessions"), &sessions(count))?;
    compare("seconds", &cluster.output("windows/seconds"), &tumbling(count))
}

pub(super) fn check_once(cluster: &Cluster, count: u64) -> Result<(), String> {
    check_in_time(cluster, count)?;
    let (again, late) = again_and_late(count);
    compare("again", &cluster.output("windows/again"), &again)?;
    compare("late", &cluster.output("windows/late"), &late)
}

/// Barriers that overtake records overtake watermarks too, which are no state: which records come too late is not certain then, but each
/// is either in its window or late, once.
pub(super) fn check_once_when_overtaken(cluster: &Cluster, count: u64) -> Result<(), String> {
    check_in_time(cluster, count)?;
    let numbers = |line: &str| line.split(' ').map(|word| word.parse().unwrap()).collect::<Vec<i64>>();
    let mut found: BTreeMap<(i64, i64), i64> = BTreeMap::new();
    let mut fired = BTreeSet::new();
    for line in cluster.output("windows/again") {
        let [key, start, count] = numbers(&line)[..] else { return Err(format!("again: {line:?}")) };
        if !fired.insert((key, start, count)) {
            return Err(format!("again: {line:?} is there twice"));
        }
        let most = found.entry((key, start)).or_default();
        *most = count.max(*most);
    }
    let late = cluster.output("windows/late");
    if let Some(twice) = late.windows(2).find(|two| two[0] == two[1]) {
        return Err(format!("late: {:?} is there twice", twice[0]));
    }
    for line in late {
        let [key, time, n] = numbers(&line)[..] else { return Err(format!("late: {line:?}")) };
        if late_event(n as u64) != (key as u64, time) {
            return Err(format!("late: there is no record {line:?}"));
        }
        *found.entry((key, second(time))).or_default() += 1;
    }
    let mut expected: BTreeMap<(i64, i64), i64> = BTreeMap::new();
    for (key, time) in (0..count).map(late_event) {
        *expected.entry((key as i64, second(time))).or_default() += 1;
    }
    let line = |((key, start), count)| format!("{key} {start} {count}");
    compare("again and late", &lines(found, line), &lines(expected, line))
}
