//! Another version of a job takes the place of the one that runs, if it can go on from its state; the running one is not stopped before
//! that is known.

use serde_json::Value;

use super::{command, difference, inspect, json, numbered, run, run_refused, run_words, wait_for_output};
use crate::harness::Cluster;

const COUNT: u64 = 3_000;
const INTERVAL: &str = "-Dexecution.checkpointing.interval=100 ms";

/// A cluster with the first version of a job, in the middle of its work.
struct Running {
    cluster: Cluster,
    job: String,
    savepoints: String,
    out: String,
}

impl Running {
    fn begin(count: u64) -> Running {
        let (cluster, _) = Cluster::with_task_managers(&[2], &[]);
        let savepoints = cluster.make_folder("savepoints");
        let out = cluster.path("out").display().to_string();
        let own = ["--out", &out, "--count", &count.to_string()];
        let job = run(&cluster, "versions", &["-p", "2", INTERVAL], &own);
        wait_for_output(&cluster, "out", 500);
        Running { cluster, job, savepoints, out }
    }

    fn replace_with(&self, change: &str, options: &[&str], count: u64) -> std::process::Output {
        let own = ["--out", &self.out, "--count", &count.to_string(), "--change", change];
        let fixed = ["-p", "2", INTERVAL, "--replace", &self.job, "--savepointPath", &self.savepoints];
        command(&self.cluster, &run_words("versions", &[&fixed, options].concat(), &own))
    }

    #[track_caller]
    fn assert_refused(&self, change: &str, options: &[&str], expect: &[&str]) {
        let output = self.replace_with(change, options, COUNT);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!((output.status.code(), output.stdout.len()), (Some(1), 0), "{change}: {said}");
        expect.iter().for_each(|part| assert!(said.contains(part), "{change}: {said}"));
        assert_eq!(self.cluster.state(&self.job), "RUNNING", "{change}: {said}");
    }
}

#[test]
fn a_version_that_cannot_read_the_state_is_refused_and_the_job_runs_on() {
    let running = Running::begin(1_000_000);
    let visits = "operator `Visits` (uid `visits`)";
    let state = format!("state `visit` of {visits}");
    running.assert_refused("narrowed", &[], &[&state, "`count` was u32 and is u16 now", &running.job, "runs on"]);
    running.assert_refused("retyped", &[], &[&state, "`last` was u64 and is text now"]);
    running.assert_refused("kind", &[], &[&state, "was value state and is list state now"]);
    running.assert_refused("key", &[], &[&format!("the keys of {visits} were u64 and are text now")]);
    running.assert_refused("uid", &[], &[visits, "which the job has not", "--allowNonRestoredState"]);
    // What is refused at once stops nothing either.
    running.assert_refused("shrunk", &[], &["there is no version with the change shrunk"]);
    running.assert_refused("nothing", &["-Dpipeline.max-parallelism=64"], &[visits, "max-parallelism 128", "64"]);
    // Nothing was taken for that: neither savepoint nor failed checkpoint.
    assert_eq!(std::fs::read_dir(&running.savepoints).unwrap().count(), 0);
    let counts = running.cluster.get(&format!("/jobs/{}/checkpoints", running.job))["counts"].clone();
    assert_eq!(counts["failed"], 0, "{counts}");
    // A job that has ended is not replaced.
    running.cluster.cancel(&running.job);
    running.cluster.wait_for_state(&running.job, "CANCELED");
    let output = running.replace_with("nothing", &[], COUNT);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(1) && said.contains("it is CANCELED; start the next one"), "{said}");
}

#[track_caller]
fn goes_on_as(change: &str) -> Vec<String> {
    let running = Running::begin(COUNT);
    let output = running.replace_with(change, &[], COUNT);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let second = String::from_utf8(output.stdout).unwrap().trim().to_owned();
    let cluster = &running.cluster;
    assert_eq!(cluster.state(&running.job), "FINISHED");
    cluster.wait_for_state(&second, "FINISHED");
    let restored = cluster.get(&format!("/jobs/{second}/checkpoints"))["latest"]["restored"].clone();
    assert_eq!(restored["is_savepoint"], true);
    // It is theirs who have asked for it.
    inspect(restored["external_path"].as_str().unwrap());
    // However the versions call and write it, each record was counted once.
    let lines = cluster.output("out");
    let cut = |line: &String| line.splitn(3, ' ').take(2).collect::<Vec<_>>().join(" ");
    let mut counts: Vec<String> = lines.iter().map(cut).collect();
    counts.sort();
    assert_eq!(difference(&counts, &numbered((0..COUNT).map(|n| (n % 5).to_string()))), None);
    lines
}

#[test]
fn a_version_with_another_field_takes_over_and_old_keys_have_its_default() {
    let lines = goes_on_as("added");
    assert!(lines.iter().any(|line| line.ends_with("last 499")));
    // The keys were there before, so each has what it gets when it is restored; a new one would begin with nothing.
    let bonuses: Vec<_> = lines.iter().filter(|line| line.contains("bonus")).collect();
    assert!(!bonuses.is_empty() && bonuses.iter().all(|line| line.ends_with("bonus 7")), "{bonuses:?}");
}

#[test]
fn a_version_with_a_field_less_takes_over() {
    goes_on_as("removed");
}

#[test]
fn a_version_with_a_wider_field_takes_over() {
    goes_on_as("widened");
}

#[test]
fn a_version_that_calls_a_field_something_else_takes_over() {
    goes_on_as("renamed");
}

#[test]
fn what_would_become_of_state_is_said_without_doing_anything() {
    let running = Running::begin(1_000_000);
    let cluster = &running.cluster;
    let output = running.replace_with("added", &["--dry-run", "--output", "json"], COUNT);
    // A dry run has nothing to leave.
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    let dry = |options: &[&str], change: &str| {
        let words = run_words("versions", options, &["--out", "/nowhere", "--change", change]);
        let words: Vec<String> = words.into_iter().filter(|word| word != "-d").collect();
        command(cluster, &words)
    };
    let state = |output: &std::process::Output| -> Value {
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        serde_json::from_slice(&output.stdout).unwrap()
    };
    let both = |from: [&str; 2]| {
        let said = state(&dry(&[from[0], from[1], "--dry-run", "--output", "json"], "added"));
        assert!(said["restored"].to_string().contains("operator `Visits` (uid `visits`)"), "{said}");
        assert_eq!((said["empty"].to_string(), said["left-behind"].to_string()), ("[]".into(), "[]".into()));
        let said = state(&dry(&[from[0], from[1], "-n", "--dry-run", "--output", "json"], "uid"));
        assert!(said["empty"].to_string().contains("operator `Visits` (uid `visitors`)"), "{said}");
        assert!(said["left-behind"].to_string().contains("(uid `visits`) is left behind"), "{said}");
        let refused = dry(&[from[0], from[1], "--dry-run"], "retyped");
        let said = String::from_utf8_lossy(&refused.stderr);
        assert!(refused.status.code() == Some(1) && said.contains("`last` was u64 and is text now"), "{said}");
    };
    both(["--replace", &running.job]);
    assert_eq!(cluster.state(&running.job), "RUNNING");
    let stopped = json(cluster, &["stop", &running.job, "-p", &running.savepoints]);
    both(["-s", stopped["savepoint"].as_str().unwrap()]);
    let output = dry(&["-s", stopped["savepoint"].as_str().unwrap(), "--dry-run"], "added");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.starts_with("The job can go on from there.\n  goes on:"), "{said}");
    // Nothing ran but the first job.
    assert_eq!(cluster.get("/jobs")["jobs"].as_array().unwrap().len(), 1);
    assert!(run_refused(cluster, "versions", &["-s", "/nowhere"], &["--out", "/nowhere"]).contains("does not exist"));
}
