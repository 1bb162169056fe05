//! What is started again after a failure, and how often.

use crate::harness::{Cluster, Task, wait_for};

/// What the job `regions` must have written: every number once, whichever region it came through.
#[track_caller]
fn assert_exact(cluster: &Cluster, folder: &str, count: u64) {
    let mut numbers: Vec<u64> =
        cluster.output(folder).iter().map(|line| line.split_once(' ').unwrap().0.parse().unwrap()).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, (0..count).collect::<Vec<_>>());
}

struct Regions {
    cluster: Cluster,
    job: String,
}

/// Runs the job `regions` with three regions of which the one in the middle fails once.
fn regions(slots: &[u32], how: &str, settings: &[&str]) -> Regions {
    let restarts = ["restart-strategy.type=fixed-delay", "restart-strategy.fixed-delay.delay=50 ms"];
    let (cluster, _) = Cluster::with_task_managers(slots, &[&restarts, settings].concat());
    let marks = cluster.make_folder("marks");
    let out = cluster.path("out").display().to_string();
    let arguments = ["--regions", "3", "--failing", "1", "--how", how, "--marks", &marks, "--out", &out];
    let job = cluster.submit("regions", &arguments, &[]);
    cluster.wait_for_state(&job, "FINISHED");
    assert_exact(&cluster, "out", 2000);
    Regions { cluster, job }
}

impl Regions {
    /// The subtasks that were started twice.
    fn restarted(&self) -> Vec<u64> {
        let tasks = self.cluster.tasks(&self.job);
        assert!(tasks.iter().all(|task| task.attempt <= 1), "{tasks:?}");
        let of =
            |attempt: u64| tasks.iter().filter(move |task: &&Task| task.attempt == attempt).map(|task| task.subtask);
        let mut twice: Vec<u64> = of(1).collect();
        twice.sort_unstable();
        twice.dedup();
        assert!(of(0).all(|subtask| !twice.contains(&subtask)), "half a region was started again: {tasks:?}");
        twice
    }
}

#[test]
fn only_the_region_that_failed_starts_again() {
    let ran = regions(&[3], "panic", &[]);
    assert_eq!(ran.restarted(), [1]);
    ran.cluster.assert_failed_with(&ran.job, "region 1 fails once");
}

#[test]
fn all_regions_of_a_process_that_died_start_again_and_no_others() {
    let ran = regions(&[1, 1, 1], "abort", &[]);
    assert_eq!(ran.restarted(), [1]);
    ran.cluster.assert_failed_with(&ran.job, "SIGABRT");
    drop(ran);
    let ran = regions(&[3], "abort", &[]);
    assert_eq!(ran.restarted(), [0, 1, 2]);
}

#[test]
fn with_the_full_strategy_every_region_starts_again() {
    let ran = regions(&[3], "panic", &["jobmanager.execution.failover-strategy=full"]);
    assert_eq!(ran.restarted(), [0, 1, 2]);
}

/// Runs a job that fails so many times, and returns how it ended and how many failures are known.
fn ends(cluster: &Cluster, name: &str, times: u32, settings: &[&str]) -> (String, usize) {
    let marks = cluster.make_folder(&format!("marks-{name}"));
    let out = cluster.path(&format!("out-{name}")).display().to_string();
    let times = times.to_string();
    let arguments = ["--times", &times, "--marks", &marks, "--out", &out];
    let job = cluster.submit("fails_at_first", &arguments, settings);
    wait_for("the job's end", || ["FINISHED", "FAILED"].contains(&cluster.state(&job).as_str()));
    let state = cluster.state(&job);
    if state == "FINISHED" {
        assert_eq!(cluster.output(&format!("out-{name}")), crate::killed::numbers(1000), "{name}");
    } else {
        assert!(!cluster.path(&format!("out-{name}")).exists() || cluster.output(&format!("out-{name}")).is_empty());
    }
    let exceptions = cluster.get(&format!("/jobs/{job}/exceptions"));
    (state, exceptions["exceptionHistory"]["entries"].as_array().unwrap().len())
}

#[test]
fn restart_strategies_allow_as_many_failures_as_they_say() {
    let (cluster, _) = Cluster::with_task_managers(&[2], &[]);
    let fixed = [
        "restart-strategy.type=fixed-delay",
        "restart-strategy.fixed-delay.attempts=2",
        "restart-strategy.fixed-delay.delay=20 ms",
    ];
    let rate = [
        "restart-strategy.type=failure-rate",
        "restart-strategy.failure-rate.max-failures-per-interval=2",
        "restart-strategy.failure-rate.failure-rate-interval=10 min",
        "restart-strategy.failure-rate.delay=20 ms",
    ];
    let exponential = [
        "restart-strategy.type=exponential-delay",
        "restart-strategy.exponential-delay.initial-backoff=10 ms",
        "restart-strategy.exponential-delay.max-backoff=50 ms",
        "restart-strategy.exponential-delay.attempts-before-reset-backoff=2",
    ];
    let none = ["restart-strategy.type=none"];
    let finished = |failures: usize| ("FINISHED".to_owned(), failures);
    let failed = |failures: usize| ("FAILED".to_owned(), failures);
    assert_eq!(ends(&cluster, "none", 1, &none), failed(1));
    assert_eq!(ends(&cluster, "fixed-2", 2, &fixed), finished(2));
    assert_eq!(ends(&cluster, "fixed-3", 3, &fixed), failed(3));
    assert_eq!(ends(&cluster, "rate-2", 2, &rate), finished(2));
    assert_eq!(ends(&cluster, "rate-3", 3, &rate), failed(3));
    assert_eq!(ends(&cluster, "exponential-2", 2, &exponential), finished(2));
    assert_eq!(ends(&cluster, "exponential-3", 3, &exponential), failed(3));
}
