//! Each input counted once, whatever becomes of processes and connections: real processes are killed, stopped, cut off and started at random,
//! and the output must equal what a straight-line computation gives.

mod commits;
mod harms;
mod kafka;
mod random;
mod tallies;
mod windowed;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use harms::Machines;
use kafka::Topics;
use random::Random;

use crate::harness::{Cluster, kafka_copy, kill, wait_for};

/// What runs.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Work {
    /// Counts by key, with state and combined before the exchange.
    Tallies,
    /// Windows of event time, and timers.
    Windows,
    /// Counts by key from one topic of Kafka to another, in transactions.
    Kafka,
}

/// How checkpoints are taken.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Mode {
    Aligned,
    /// Barriers overtake records, of which many wait.
    Unaligned,
    /// Nothing is lost; duplicates are allowed.
    AtLeastOnce,
}

#[derive(Debug, Clone, Copy)]
struct Kind(Work, Mode);

const KINDS: [Kind; 7] = [
    Kind(Work::Tallies, Mode::Aligned),
    Kind(Work::Windows, Mode::Aligned),
    Kind(Work::Tallies, Mode::Unaligned),
    Kind(Work::Windows, Mode::Unaligned),
    Kind(Work::Tallies, Mode::AtLeastOnce),
    Kind(Work::Kafka, Mode::Aligned),
    Kind(Work::Kafka, Mode::Unaligned),
];

/// Records a second that a job takes.
const RATE: u64 = 20_000;

/// A run of one kind.
struct Trial {
    kind: Kind,
    count: u64,
    cluster: Cluster,
    machines: Machines,
    random: Random,
    job: String,
    topics: Option<Topics>,
}

const SETTINGS: [&str; 5] = [
    "heartbeat.interval=100 ms",
    "heartbeat.timeout=1 s",
    "restart-strategy.type=fixed-delay",
    "restart-strategy.fixed-delay.attempts=100000",
    "restart-strategy.fixed-delay.delay=10 ms",
];

impl Trial {
    /// Starts a cluster with a job that takes `seconds` if nobody harms it.
    fn begin(kind: Kind, seed: u64, seconds: u64) -> Trial {
        Trial::begin_with(kind, seed, seconds, &[])
    }

    /// The same, with further options of the job.
    fn begin_with(kind: Kind, seed: u64, seconds: u64, further: &[&str]) -> Trial {
        let mut cluster = Cluster::new(&SETTINGS);
        cluster.start_job_manager();
        let machines = Machines::start(&mut cluster);
        let mut random = Random::new(seed);
        let count = seconds * RATE;
        let settings = settings(kind, &cluster, &mut random);
        let topics = (kind.0 == Work::Kafka).then(|| Topics::fill(count));
        let settings = [&texts(&settings), further].concat();
        let job = match &topics {
            Some(topics) => {
                let artifact = cluster.upload(&kafka_copy());
                let answer = cluster.try_submit_of(&artifact, "kafka_copy", &texts(&topics.arguments()), &settings);
                answer.accepted()
            }
            None => {
                let (name, arguments) = job(kind, &cluster, count);
                cluster.submit(name, &texts(&arguments), &settings)
            }
        };
        Trial { kind, count, cluster, machines, random, job, topics }
    }

    fn has_ended(&self) -> bool {
        ["FINISHED", "FAILED", "CANCELED"].contains(&self.cluster.state(&self.job).as_str())
    }

    /// Harms it until it has ended.
    fn harm(&mut self) {
        // Before that, a lost coordinator is an answer to whoever wanted to run the job.
        wait_for("the job's start", || self.cluster.state(&self.job) != "CREATED");
        while !self.has_ended() {
            let end = Instant::now() + Duration::from_millis(100 + self.random.below(700));
            while Instant::now() < end {
                std::thread::sleep(Duration::from_millis(20));
                self.machines.heal(false);
            }
            self.machines.harm(&mut self.cluster, &self.job, &mut self.random);
        }
    }

    /// Checks the output, also after everybody who was frozen has woken up.
    fn check(&mut self) -> Result<(), String> {
        self.cluster.wait_for_state(&self.job, "FINISHED");
        self.compare()?;
        self.machines.heal(true);
        wait_for("the end of the job's workers", || self.cluster.workers(&self.job).is_empty());
        self.compare().map_err(|difference| format!("changed by what had been lost: {difference}"))
    }

    fn compare(&self) -> Result<(), String> {
        let Trial { kind, cluster, count, topics, .. } = self;
        match kind {
            Kind(Work::Kafka, _) => topics.as_ref().expect("the job has its topics").check_once(*count),
            Kind(Work::Tallies, Mode::AtLeastOnce) => tallies::check_at_least_once(cluster, *count),
            Kind(Work::Tallies, _) => tallies::check_once(cluster, *count),
            Kind(Work::Windows, Mode::Unaligned) => windowed::check_once_when_overtaken(cluster, *count),
            Kind(Work::Windows, _) => windowed::check_once(cluster, *count),
        }
    }

    fn assert_exactly_once(&mut self) {
        if let Err(difference) = self.check() {
            panic!("{difference}");
        }
    }
}

impl Drop for Trial {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("what was done to the job:\n{}", self.machines.story.join("\n"));
        }
    }
}

fn texts(texts: &[String]) -> Vec<&str> {
    texts.iter().map(String::as_str).collect()
}

/// Name and arguments of a job with files.
fn job(Kind(work, mode): Kind, cluster: &Cluster, count: u64) -> (&'static str, Vec<String>) {
    let path = |name: &str| cluster.path(name).display().to_string();
    // What goes as fast as one of two tasks lets it waits everywhere in front of that one.
    let (rate, drag) = if mode == Mode::Unaligned { (1_000_000_000, 2_000_000 / RATE) } else { (RATE, 0) };
    let mut arguments = vec![format!("--count={count}"), format!("--rate={rate}"), format!("--drag={drag}")];
    if work == Work::Windows {
        arguments.push(format!("--out={}", path("windows")));
        return ("windowed", arguments);
    }
    arguments.extend([format!("--out={}", path("out")), format!("--totals={}", path("totals"))]);
    ("tallies", arguments)
}

/// Options of the job, some of them at random.
fn settings(Kind(_, mode): Kind, cluster: &Cluster, random: &mut Random) -> Vec<String> {
    let mut settings = vec![
        "parallelism.default=2".to_owned(),
        "execution.checkpointing.interval=100 ms".to_owned(),
        format!("execution.checkpointing.dir=file://{}", cluster.path("checkpoints").display()),
        // The least there may be.
        "state.backend.lsm.memory.size=1 mb".to_owned(),
    ];
    match mode {
        Mode::Aligned => {}
        Mode::Unaligned => settings.push("execution.checkpointing.unaligned.enabled=true".to_owned()),
        Mode::AtLeastOnce => settings.push("execution.checkpointing.mode=AT_LEAST_ONCE".to_owned()),
    }
    let mut sometimes = |setting: &str| {
        if random.below(2) == 0 {
            settings.push(setting.to_owned());
        }
    };
    // State in files of its own.
    sometimes("execution.checkpointing.data-inline-threshold=0 b");
    sometimes("execution.checkpointing.local-backup.enabled=true");
    sometimes("execution.checkpointing.num-retained=3");
    // State by key in files, too.
    sometimes("state.backend.type=lsm");
    if mode == Mode::Aligned {
        sometimes("execution.checkpointing.max-concurrent-checkpoints=3");
    }
    settings
}

/// Whether sorted lines are what they should be; otherwise the first one that differs, in words.
fn compare(what: &str, found: &[String], expected: &[String]) -> Result<(), String> {
    if found == expected {
        return Ok(());
    }
    let at = found.iter().zip(expected).position(|(found, expected)| found != expected);
    let at = at.unwrap_or(found.len().min(expected.len()));
    let (lines, wanted) = (found.len(), expected.len());
    let (found, expected) = (found.get(at), expected.get(at));
    Err(format!("{what}: {lines} lines instead of {wanted}; line {at} is {found:?} instead of {expected:?}"))
}

fn torture(mut trial: Trial) {
    trial.harm();
    trial.assert_exactly_once();
}

/// Several seeds, of which some run at the same time as those of the other tests.
fn torture_some(kind: Kind, seeds: std::ops::Range<u64>) {
    seeds.for_each(|seed| torture(Trial::begin(kind, seed, 2)));
}

#[test]
fn counts_by_key_are_exact_whatever_is_harmed() {
    torture_some(Kind(Work::Tallies, Mode::Aligned), 1..6);
}

#[test]
fn windows_are_exact_whatever_is_harmed() {
    torture_some(Kind(Work::Windows, Mode::Aligned), 6..11);
}

#[test]
fn counts_by_key_are_exact_when_barriers_overtake_records() {
    torture_some(Kind(Work::Tallies, Mode::Unaligned), 11..15);
}

#[test]
fn windows_are_exact_when_barriers_overtake_records() {
    torture_some(Kind(Work::Windows, Mode::Unaligned), 15..19);
}

#[test]
fn nothing_is_lost_when_records_may_count_more_than_once() {
    torture_some(Kind(Work::Tallies, Mode::AtLeastOnce), 19..23);
}

#[test]
fn a_topic_is_copied_exactly_once_whatever_is_harmed() {
    torture_some(Kind(Work::Kafka, Mode::Aligned), 23..25);
}

#[test]
fn a_topic_is_copied_exactly_once_when_barriers_overtake_records() {
    torture_some(Kind(Work::Kafka, Mode::Unaligned), 25..26);
}

/// Run by `scripts/torture`.
#[test]
#[ignore = "takes as long as TORTURE_MINUTES says"]
fn as_long_as_wanted() {
    let number = |name: &str, default| std::env::var(name).map_or(default, |text| text.parse().unwrap());
    let end = Instant::now() + Duration::from_secs(60 * number("TORTURE_MINUTES", 1));
    let mut failed = Vec::new();
    for seed in number("TORTURE_SEED", 1).. {
        let kind = KINDS[seed as usize % KINDS.len()];
        let begin = Instant::now();
        let passed = catch_unwind(AssertUnwindSafe(|| {
            let mut trial = Trial::begin(kind, seed, 10);
            trial.cluster.keep_files();
            torture(trial);
        }));
        let passed = passed.is_ok();
        let (took, how) = (begin.elapsed().as_secs(), if passed { "passed" } else { "FAILED" });
        eprintln!("torture: seed {seed}, {kind:?}: {how} after {took} s");
        if !passed {
            eprintln!("torture: `scripts/torture --minutes 0 --seed {seed}` does the same harm again");
            failed.push(seed);
        }
        if Instant::now() >= end {
            break;
        }
    }
    assert!(failed.is_empty(), "seeds {failed:?} failed");
}

#[test]
fn a_job_with_checkpoints_that_nobody_disturbs_writes_each_line_once() {
    for kind in KINDS {
        Trial::begin(kind, 0, 1).assert_exactly_once();
    }
}

#[test]
fn a_killed_worker_is_restored_from_the_last_checkpoint() {
    let mut trial = Trial::begin(Kind(Work::Tallies, Mode::Aligned), 0, 2);
    trial.cluster.wait_until_running(&trial.job);
    std::thread::sleep(Duration::from_millis(500));
    trial.cluster.workers(&trial.job).first().copied().into_iter().for_each(kill);
    trial.assert_exactly_once();
}
