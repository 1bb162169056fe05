//! Jobs that go on with another number of subtasks, or in the middle of windows: their output is that of a job that nobody disturbs.

use std::fmt::Write;
use std::fs;

use super::{difference, json, numbered, run, wait_for_output};
use crate::harness::Cluster;

/// Files with lines that begin with one of a few words. Returns the words in all.
fn write_input(cluster: &Cluster) -> Vec<String> {
    let folder = cluster.make_folder("input");
    let mut words = Vec::new();
    for file in 0..3 {
        let mut text = String::new();
        for line in 0..2_000 {
            let word = format!("word-{}", (line * 7 + file) % 61);
            writeln!(text, "{word} is line {line} of file {file}").unwrap();
            words.push(word);
        }
        fs::write(format!("{folder}/{file}.txt"), text).unwrap();
    }
    words
}

#[track_caller]
fn goes_on_with(parallelisms: &[&str]) {
    let (cluster, _) = Cluster::with_task_managers(&[2, 1], &[]);
    let words = write_input(&cluster);
    let (input, out) = (cluster.path("input").display().to_string(), cluster.path("out").display().to_string());
    let folder = cluster.make_folder("savepoints");
    let own = ["--input", &input, "--split", "20000", "--micros", "600", "--out", &out];
    let mut from: Option<String> = None;
    for (run_number, parallelism) in parallelisms.iter().enumerate() {
        let mut options = vec!["-p", parallelism, "-Dexecution.checkpointing.interval=100 ms"];
        options.extend(from.iter().flat_map(|from| ["-s", from.as_str()]));
        let job = run(&cluster, "lines", &options, &own);
        if run_number + 1 == parallelisms.len() {
            cluster.wait_for_state(&job, "FINISHED");
            break;
        }
        wait_for_output(&cluster, "out", 1_200 * (run_number + 1));
        from = Some(json(&cluster, &["stop", &job, "-p", &folder])["savepoint"].as_str().unwrap().to_owned());
        let lines = cluster.output("out").len();
        assert!(lines < words.len(), "the job was stopped when there was nothing left to do");
    }
    assert_eq!(difference(&cluster.output("out"), &numbered(words.into_iter())), None);
}

#[test]
fn a_job_goes_on_in_the_middle_of_files_with_more_subtasks_and_then_with_fewer() {
    goes_on_with(&["1", "3", "2"]);
}

/// Keys, starts and counts of windows that hold each number below `count` once.
fn windows(count: u64) -> Vec<String> {
    let mut windows = std::collections::BTreeMap::new();
    for n in 0..count {
        *windows.entry((n % 7, n / 1_000 * 1_000)).or_insert(0) += 1;
    }
    let mut lines: Vec<String> = windows.iter().map(|((key, start), count)| format!("{key} {start} {count}")).collect();
    lines.sort();
    lines
}

/// Stops a job with windows and goes on with another number of subtasks.
fn windows_go_on(before: &str, after: &str) {
    let (cluster, _) = Cluster::with_task_managers(&[3], &[]);
    let folder = cluster.make_folder("savepoints");
    let out = cluster.path("out").display().to_string();
    let own = |readers| ["--out", &out, "--count", "5500", "--rate", "2000", "--readers", readers];
    let interval = "-Dexecution.checkpointing.interval=100 ms";
    let first = run(&cluster, "window_counts", &["-p", before, interval], &own(before));
    wait_for_output(&cluster, "out", 7);
    let stopped = json(&cluster, &["stop", &first, "-p", &folder]);
    let so_far = cluster.output("out").len();
    assert!(so_far < windows(5_500).len() && so_far % 7 == 0, "{so_far} windows");
    let second = run(
        &cluster,
        "window_counts",
        &["-p", after, "-s", stopped["savepoint"].as_str().unwrap(), interval],
        &own(after),
    );
    cluster.wait_for_state(&second, "FINISHED");
    assert_eq!(difference(&cluster.output("out"), &windows(5_500)), None);
}

#[test]
fn windows_that_are_open_when_a_job_is_stopped_are_filled_by_the_next_one() {
    windows_go_on("1", "3");
}

/// One subtask reads on where three were: none of their numbers comes late.
#[test]
fn windows_are_filled_by_fewer_subtasks_too() {
    windows_go_on("3", "1");
}

#[test]
fn a_job_that_is_drained_fires_all_its_windows() {
    let (cluster, _) = Cluster::with_task_managers(&[2], &[]);
    let folder = cluster.make_folder("savepoints");
    let out = cluster.path("out").display().to_string();
    let own = ["--out", &out, "--count", "100000", "--rate", "2000"];
    let job = run(&cluster, "window_counts", &["-p", "2", "-Dexecution.checkpointing.interval=100 ms"], &own);
    wait_for_output(&cluster, "out", 7);
    let stopped = json(&cluster, &["stop", &job, "--drain", "-p", &folder]);
    assert_eq!(stopped["drained"], true);
    assert_eq!(cluster.state(&job), "FINISHED");
    // How many records there were is not known, but each is in one of the windows, the last of which was not full.
    let found = cluster.output("out");
    let records = found.iter().map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap()).sum();
    assert!(records > 1_000 && records < 100_000, "{records}");
    assert_eq!(difference(&found, &windows(records)), None);
}
