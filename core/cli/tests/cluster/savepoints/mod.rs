//! The state of jobs, kept and moved by the commands that docs/savepoints.md shows.

mod backends;
mod commands;
mod disks;
mod faults;
mod rescaled;
mod versions;

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde_json::Value;

use crate::harness::{Cluster, test_jobs, wait_for};

/// What a command with `--output json` answers.
#[track_caller]
fn json(cluster: &Cluster, words: &[&str]) -> Value {
    let output = cluster.weir(&[words, &["--output", "json"]].concat()).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{words:?}: {output:?}");
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{words:?}: {error}: {output:?}"))
}

/// What `weir savepoint inspect` tells programs; it asks no cluster.
#[track_caller]
fn inspect(path: &str) -> Value {
    let words = ["savepoint", "inspect", path, "--output", "json"];
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_weir")).args(words).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

/// What a command says that is refused.
#[track_caller]
fn refusal(cluster: &Cluster, words: &[&str]) -> String {
    let (said, code) = cluster.call(words);
    assert_eq!(code, Some(1), "{words:?}: {said}");
    said
}

/// `weir run` on the cluster, without staying: `options`, then the job's own arguments.
fn run_words<'w>(job: &'w str, options: &[&'w str], own: &[&'w str]) -> Vec<String> {
    let jobs: PathBuf = test_jobs();
    let fixed = ["run", "-t", "remote", "-d", "-q", "--job", job];
    let words = fixed.iter().chain(options).copied().chain([jobs.to_str().unwrap(), "--"]).chain(own.iter().copied());
    words.map(str::to_owned).collect()
}

/// A command of the cluster; its options stand before the job's arguments.
fn command(cluster: &Cluster, words: &[String]) -> std::process::Output {
    let at = words.iter().position(|word| word == "--").unwrap_or(words.len());
    let before: Vec<&str> = words[..at].iter().map(String::as_str).collect();
    cluster.weir(&before).args(&words[at..]).output().unwrap()
}

/// Runs a job on the cluster and does not stay; returns its id.
#[track_caller]
fn run(cluster: &Cluster, job: &str, options: &[&str], own: &[&str]) -> String {
    let output = command(cluster, &run_words(job, options, own));
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// What is said to somebody whose job is not taken.
#[track_caller]
fn run_refused(cluster: &Cluster, job: &str, options: &[&str], own: &[&str]) -> String {
    let output = command(cluster, &run_words(job, options, own));
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    said
}

/// Waits until a job has made some of its output visible.
#[track_caller]
fn wait_for_output(cluster: &Cluster, folder: &str, lines: usize) {
    wait_for(&format!("{lines} lines in {folder}"), || {
        cluster.path(folder).exists() && cluster.output(folder).len() >= lines
    });
}

/// The first line that differs, in words; nothing if all are the same.
fn difference(found: &[String], expected: &[String]) -> Option<String> {
    let at = found.iter().zip(expected).position(|(found, expected)| found != expected);
    let at = at.or((found.len() != expected.len()).then_some(found.len().min(expected.len())))?;
    let (lines, wanted) = (found.len(), expected.len());
    Some(format!(
        "{lines} lines instead of {wanted}; line {at} is {:?} instead of {:?}",
        found.get(at),
        expected.get(at)
    ))
}

/// Numbers words within each other, as the jobs do: each with how many of it there were so far.
fn numbered(words: impl Iterator<Item = String>) -> Vec<String> {
    let mut counts: BTreeMap<String, u64> = BTreeMap::new();
    let mut lines: Vec<String> = words
        .map(|word| {
            let count = counts.entry(word.clone()).or_default();
            *count += 1;
            format!("{word} {count}")
        })
        .collect();
    lines.sort();
    lines
}
