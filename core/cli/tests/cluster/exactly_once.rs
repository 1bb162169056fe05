//! Each input counted once, whatever becomes of the processes: real processes are killed, stopped and started at random, and the output
//! must equal what a straight-line computation gives.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::harness::{Cluster, TaskManager, exists, kill, resume, stop};

/// Random numbers that depend on the seed alone.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }
}

const KEYS: u64 = 97;

/// What the job `tallies` must have written, sorted: its tallies and its totals.
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

/// A cluster with a job that takes a few seconds, and somebody who does it harm.
struct Torture {
    cluster: Cluster,
    task_managers: Vec<TaskManager>,
    random: Random,
    job: String,
    count: u64,
}

const SETTINGS: [&str; 6] = [
    "heartbeat.interval=100 ms",
    "heartbeat.timeout=1 s",
    "restart-strategy.type=fixed-delay",
    "restart-strategy.fixed-delay.attempts=1000",
    "restart-strategy.fixed-delay.delay=10 ms",
    "execution.checkpointing.interval=100 ms",
];

impl Torture {
    fn begin(seed: u64, count: u64, rate: u64) -> Torture {
        let mut cluster = Cluster::new(&SETTINGS);
        cluster.start_job_manager();
        let task_managers = (0..3).map(|_| cluster.start_task_manager(1)).collect();
        cluster.wait_for_task_managers(3);
        let (out, totals) = (cluster.path("out").display().to_string(), cluster.path("totals").display().to_string());
        let checkpoints = format!("execution.checkpointing.dir=file://{}", cluster.path("checkpoints").display());
        let (count_text, rate) = (count.to_string(), rate.to_string());
        let arguments = ["--count", &count_text, "--rate", &rate, "--out", &out, "--totals", &totals];
        let job = cluster.submit("tallies", &arguments, &["parallelism.default=2", &checkpoints]);
        Torture { cluster, task_managers, random: Random(seed), job, count }
    }

    fn has_ended(&self) -> bool {
        ["FINISHED", "FAILED", "CANCELED"].contains(&self.cluster.state(&self.job).as_str())
    }

    /// Does one harm.
    fn harm(&mut self) {
        match self.random.below(8) {
            0..=2 => {
                let workers = self.cluster.workers(&self.job);
                if !workers.is_empty() {
                    kill(workers[self.random.below(workers.len() as u64) as usize]);
                }
            }
            3 | 4 => {
                let index = self.random.below(self.task_managers.len() as u64) as usize;
                kill(self.task_managers.remove(index).pid);
                self.task_managers.push(self.cluster.start_task_manager(1));
            }
            5 => {
                if let Some(&coordinator) = self.cluster.coordinators().first() {
                    kill(coordinator);
                }
            }
            _ => {
                let index = self.random.below(self.task_managers.len() as u64) as usize;
                let pid = self.task_managers[index].pid;
                stop(pid);
                // Sometimes long enough to be taken for lost.
                let pause = Duration::from_millis(if self.random.below(2) == 0 { 100 } else { 1_500 });
                std::thread::sleep(pause);
                if exists(pid) {
                    resume(pid);
                }
            }
        }
    }

    fn assert_exactly_once(&self) {
        self.cluster.wait_for_state(&self.job, "FINISHED");
        let (tallies, totals) = expected(self.count);
        assert!(self.cluster.output("out") == tallies, "{}", difference(&self.cluster.output("out"), &tallies));
        assert!(self.cluster.output("totals") == totals, "{}", difference(&self.cluster.output("totals"), &totals));
    }
}

/// The first line that differs, in words.
fn difference(found: &[String], expected: &[String]) -> String {
    let at = found.iter().zip(expected).position(|(found, expected)| found != expected);
    let at = at.unwrap_or(found.len().min(expected.len()));
    let (lines, wanted) = (found.len(), expected.len());
    format!("{lines} lines instead of {wanted}; line {at} is {:?} instead of {:?}", found.get(at), expected.get(at))
}

fn torture(seed: u64, count: u64, rate: u64) {
    let mut torture = Torture::begin(seed, count, rate);
    while !torture.has_ended() {
        std::thread::sleep(Duration::from_millis(100 + torture.random.below(600)));
        torture.harm();
    }
    torture.assert_exactly_once();
}

/// Several seeds, of which some run at the same time as those of the other tests.
fn torture_some(seeds: std::ops::Range<u64>) {
    seeds.for_each(|seed| torture(seed, 40_000, 20_000));
}

#[test]
fn each_line_is_written_once_whatever_is_killed_seeds_1_to_5() {
    torture_some(1..6);
}

#[test]
fn each_line_is_written_once_whatever_is_killed_seeds_6_to_10() {
    torture_some(6..11);
}

#[test]
fn each_line_is_written_once_whatever_is_killed_seeds_11_to_15() {
    torture_some(11..16);
}

#[test]
fn each_line_is_written_once_whatever_is_killed_seeds_16_to_20() {
    torture_some(16..21);
}

/// Run by `scripts/torture`.
#[test]
#[ignore = "takes as long as TORTURE_MINUTES says"]
fn as_long_as_wanted() {
    let number = |name: &str, default| std::env::var(name).map_or(default, |text| text.parse().unwrap());
    let end = std::time::Instant::now() + Duration::from_secs(60 * number("TORTURE_MINUTES", 1));
    for seed in number("TORTURE_SEED", 1).. {
        if std::time::Instant::now() >= end {
            break;
        }
        eprintln!("seed {seed}");
        torture(seed, 200_000, 20_000);
    }
}

#[test]
fn a_job_with_checkpoints_that_nobody_disturbs_writes_each_line_once() {
    let torture = Torture::begin(0, 20_000, 20_000);
    torture.assert_exactly_once();
}

#[test]
fn a_killed_worker_is_restored_from_the_last_checkpoint() {
    let torture = Torture::begin(0, 40_000, 20_000);
    torture.cluster.wait_until_running(&torture.job);
    std::thread::sleep(Duration::from_millis(500));
    torture.cluster.workers(&torture.job).first().copied().into_iter().for_each(kill);
    torture.assert_exactly_once();
}
