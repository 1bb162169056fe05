//! `topk` against sorting everything.

use std::collections::HashMap;

use crate::run::{data, example, unpacked};

/// The `k` most frequent, as the example prints them.
fn leaders<'a>(values: impl Iterator<Item = &'a str>, k: usize) -> Vec<String> {
    let mut counts: HashMap<&str, u64> = HashMap::new();
    for value in values {
        *counts.entry(value).or_default() += 1;
    }
    let mut ranking: Vec<(&str, u64)> = counts.into_iter().collect();
    ranking.sort_by(|(a, x), (b, y)| y.cmp(x).then(a.cmp(b)));
    ranking.truncate(k);
    ranking.iter().map(|(value, count)| format!("{count:>8}  {value}")).collect()
}

#[test]
fn the_most_frequent_words() {
    let book = data("opticks.txt.gz");
    let text = unpacked("opticks.txt.gz");
    let ran = example("topk", &["--input", &book]);
    assert_eq!(ran.lines(), leaders(text.split_whitespace(), 10));
    // There are many words that occur equally often, so the order among them is put to the test as well.
    let ran = example("topk", &["--input", &book, "--k", "2000", "-p", "2", "--workers", "2"]);
    assert_eq!(ran.lines(), leaders(text.split_whitespace(), 2000));
    // Counts that change while the job runs lead to the same end.
    let ran = example("topk", &["--input", &book, "--k", "500", "-p", "3", "-D", "execution.runtime-mode=streaming"]);
    assert_eq!(ran.lines(), leaders(text.split_whitespace(), 500));
    assert_eq!(example("topk", &["--input", &book, "--k", "0"]).lines(), [""; 0]);
}

#[test]
fn the_most_frequent_values_of_a_column() {
    let table = data("flights/flights-2013-01.csv.gz");
    let text = unpacked("flights/flights-2013-01.csv.gz");
    let destinations = || text.lines().skip(1).map(|line| line.split(',').nth(13).unwrap());
    let ran = example("topk", &["--input", &table, "--column", "dest", "--k", "5"]);
    assert_eq!(ran.lines(), leaders(destinations(), 5));
    let ran = example("topk", &["--input", &table, "--column", "dest", "--k", "1000", "-p", "3"]);
    assert_eq!(ran.lines(), leaders(destinations(), 1000));
}

#[test]
fn a_column_that_is_not_there_is_named_with_those_that_are() {
    let ran = example("topk", &["--input", &data("flights/airlines.csv"), "--column", "code"]);
    assert_eq!(ran.code, Some(1));
    assert!(ran.stderr.contains("no column `code`; the columns are carrier, name"), "{}", ran.stderr);
}
