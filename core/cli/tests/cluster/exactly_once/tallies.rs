//! The job `tallies`: what it must have written.

use std::collections::BTreeMap;

use super::compare;
use crate::harness::Cluster;

const KEYS: u64 = 97;

/// Its tallies and its totals, sorted.
fn expected(count: u64) -> (Vec<String>, Vec<String>) {
    let mut totals = BTreeMap::new();
    let mut tallies = Vec::new();
    for number in 0..count {
        let total = totals.entry(number % KEYS).or_insert(0u64);
        *total += 1;
        tallies.push(format!("{} {total}", number % KEYS));
    }
    let mut totals: Vec<String> = totals.iter().map(|(key, total)| format!("{key} {total}")).collect();
    tallies.sort();
    totals.sort();
    (tallies, totals)
}

pub(super) fn check_once(cluster: &Cluster, count: u64) -> Result<(), String> {
    let (tallies, totals) = expected(count);
    compare("out", &cluster.output("out"), &tallies)?;
    compare("totals", &cluster.output("totals"), &totals)
}

/// Records that were counted again make tallies and totals larger, but none is missing.
pub(super) fn check_at_least_once(cluster: &Cluster, count: u64) -> Result<(), String> {
    let tallies = cluster.output("out");
    let missing = expected(count).0.into_iter().find(|line| tallies.binary_search(line).is_err());
    if let Some(line) = missing {
        return Err(format!("out: the line {line:?} is missing"));
    }
    let totals = cluster.output("totals").into_iter().map(|line| {
        let (key, total) = line.split_once(' ').unwrap();
        (key.parse().unwrap(), total.parse().unwrap())
    });
    let totals: BTreeMap<u64, u64> = totals.collect();
    let least = |key: u64| (count + KEYS - 1 - key) / KEYS;
    match (0..KEYS).find(|key| totals.get(key).is_none_or(|total| *total < least(*key))) {
        Some(key) => Err(format!("totals: {:?} of the key {key} instead of at least {}", totals.get(&key), least(key))),
        None => Ok(()),
    }
}
