//! What is measured; one function a row, or a few that belong together.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use serde_json::Value;

use crate::cluster::{Cluster, Programs, wait_for};
use crate::processes::{Process, proportional, resident};
use crate::report::{Row, median};

/// How much is done.
#[derive(Debug)]
pub(crate) struct Size {
    repetitions: usize,
    tasks: u32,
    /// Of each side of an all-to-all exchange.
    all_to_all: u32,
    task_managers: u32,
    /// How long TaskManagers have to go on.
    endurance: Duration,
}

impl Size {
    pub(crate) const FULL: Size = Size {
        repetitions: 9,
        tasks: 2000,
        all_to_all: 250,
        task_managers: 1000,
        // Longer than two intervals between heartbeats.
        endurance: Duration::from_secs(22),
    };
    pub(crate) const QUICK: Size =
        Size { repetitions: 3, tasks: 500, all_to_all: 60, task_managers: 40, endurance: Duration::from_secs(11) };
}

type Measure = fn(&Programs, &Size) -> anyhow::Result<Vec<Row>>;

/// All measures, by the name that `--only` takes.
pub(crate) const MEASURES: [(&str, Measure); 9] = [
    ("cluster-start", cluster_start),
    ("submit", submit),
    ("run-command", run_command),
    ("memory", memory),
    ("tasks", tasks),
    ("recovery", recovery),
    ("recovery-state", recovery_with_state),
    ("taskmanagers", task_managers),
    ("scale", scale),
];

const MEBIBYTE: f64 = 1_048_576.0;

/// From the start of a JobManager's process until its HTTP API knows of a TaskManager that is started as soon as the JobManager
/// listens.
fn cluster_start(programs: &Programs, size: &Size) -> anyhow::Result<Vec<Row>> {
    let one = || {
        let begun = Instant::now();
        let cluster = Cluster::with(programs, 1, 1)?;
        let took = begun.elapsed();
        drop(cluster);
        Ok(took.as_secs_f64())
    };
    let times = repeat(size, one)?;
    Ok(vec![
        Row::new("control.cluster-start", median(times.clone()), "s"),
        Row::new("control.cluster-start-best", least(&times), "s"),
    ])
}

/// From the request to run an artifact that is known until all tasks run.
fn submit(programs: &Programs, size: &Size) -> anyhow::Result<Vec<Row>> {
    let mut cluster = Cluster::with(programs, 1, 2)?;
    let artifact = cluster.upload()?;
    let mut one = || {
        let begun = Instant::now();
        let job = cluster.run(&artifact, "idles", &["--tasks", "2"], &[])?;
        cluster.wait_for_tasks(&job, 2)?;
        let took = begun.elapsed();
        cluster.cancel(&job)?;
        Ok(took.as_secs_f64() * 1e3)
    };
    // The first one makes it warm.
    one()?;
    let times = repeat(size, one)?;
    Ok(vec![
        Row::new("control.submit-to-running", median(times.clone()), "ms"),
        Row::new("control.submit-to-running-best", least(&times), "ms"),
    ])
}

/// The whole command for a job of three records.
fn run_command(programs: &Programs, size: &Size) -> anyhow::Result<Vec<Row>> {
    let cluster = Cluster::with(programs, 1, 1)?;
    let one = || {
        let mut command = cluster.run_command("all_to_all", &["--subtasks", "1", "--count", "3"]);
        let begun = Instant::now();
        let output = command.output()?;
        let took = begun.elapsed();
        let message = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "weir run ended with {}: {message}", output.status);
        let result: Value = serde_json::from_slice(&output.stdout)?;
        ensure!(result["records_in"] == 3 && result["status"] == "finished", "weir run said {result}");
        Ok(took.as_secs_f64() * 1e3)
    };
    // The first one uploads the artifact.
    let first = one()?;
    let times = repeat(size, one)?;
    Ok(vec![
        Row::new("control.run-command", median(times.clone()), "ms"),
        Row::new("control.run-command-best", least(&times), "ms"),
        Row::new("control.run-command-with-upload", first, "ms"),
    ])
}

/// Resident memory of processes that have nothing to do, before and after they had.
fn memory(programs: &Programs, _: &Size) -> anyhow::Result<Vec<Row>> {
    let mut cluster = Cluster::with(programs, 1, 2)?;
    std::thread::sleep(Duration::from_secs(2));
    let mut rows = vec![
        Row::new("control.memory-jobmanager", mebibytes(resident(cluster.job_manager.pid())?), "MiB"),
        Row::new("control.memory-taskmanager", mebibytes(resident(cluster.task_managers[0].1.pid())?), "MiB"),
    ];
    let artifact = cluster.upload()?;
    for _ in 0..20 {
        let job = cluster.run(&artifact, "all_to_all", &["--subtasks", "2", "--count", "1000"], &[])?;
        cluster.wait_for_end(&job, "FINISHED")?;
    }
    std::thread::sleep(Duration::from_secs(2));
    rows.extend([
        Row::new("control.memory-jobmanager-20-jobs-later", mebibytes(resident(cluster.job_manager.pid())?), "MiB"),
        Row::new(
            "control.memory-taskmanager-20-jobs-later",
            mebibytes(resident(cluster.task_managers[0].1.pid())?),
            "MiB",
        ),
    ]);
    Ok(rows)
}

/// Tasks to RUNNING on one TaskManager, from the request to run the job: without an exchange, and with one between all.
fn tasks(programs: &Programs, size: &Size) -> anyhow::Result<Vec<Row>> {
    let idles = tasks_per_second(programs, size, "idles", "--tasks", size.tasks, 1)?;
    let exchange = tasks_per_second(programs, size, "all_to_all", "--subtasks", size.all_to_all, 2)?;
    Ok(vec![
        Row::new("control.tasks-to-running", median(idles.clone()), "tasks/s"),
        Row::new("control.tasks-to-running-best", idles.iter().copied().fold(0.0, f64::max), "tasks/s"),
        Row::new("control.tasks-to-running-all-to-all", median(exchange.clone()), "tasks/s"),
        Row::new("control.tasks-to-running-all-to-all-best", exchange.iter().copied().fold(0.0, f64::max), "tasks/s"),
    ])
}

fn tasks_per_second(
    programs: &Programs,
    size: &Size,
    job: &str,
    argument: &str,
    parallelism: u32,
    vertices: u32,
) -> anyhow::Result<Vec<f64>> {
    let mut cluster = Cluster::with(programs, 1, parallelism)?;
    let artifact = cluster.upload()?;
    let tasks = u64::from(parallelism * vertices);
    let mut one = || {
        let begun = Instant::now();
        let job = cluster.run(&artifact, job, &[argument, &parallelism.to_string()], &[])?;
        cluster.wait_for_tasks(&job, tasks)?;
        let took = begun.elapsed();
        cluster.cancel(&job)?;
        Ok(tasks as f64 / took.as_secs_f64())
    };
    one()?;
    repeat(size, one)
}

/// kill -9 of one of two TaskManagers that run a job, with a third one free, until all its tasks run again. All options have
/// their defaults, but for the strategy, without which a job is not started again.
fn recovery(programs: &Programs, size: &Size) -> anyhow::Result<Vec<Row>> {
    let times = repeat(size, || recover(programs))?;
    Ok(vec![
        Row::new("control.recovery", median(times.clone()), "s"),
        Row::new("control.recovery-best", least(&times), "s"),
    ])
}

const RESTARTS: (&str, &str) = ("restart-strategy.type", "exponential-delay");
const TWO_SUBTASKS: (&str, &str) = ("parallelism.default", "2");

fn recover(programs: &Programs) -> anyhow::Result<f64> {
    let mut cluster = Cluster::with(programs, 3, 1)?;
    let artifact = cluster.upload()?;
    let out = cluster.path("out");
    let out_text = out.display().to_string();
    let job = cluster.run(&artifact, "lasts", &["--seconds", "2", "--out", &out_text], &[RESTARTS, TWO_SUBTASKS])?;
    cluster.wait_for_tasks(&job, 4)?;
    std::thread::sleep(Duration::from_millis(300));
    let took = kill_and_wait(&mut cluster, &job)?;
    cluster.wait_for_end(&job, "FINISHED")?;
    let lines = lines_once(&out)?;
    ensure!(lines.len() == 2000, "{} records were written, not 2000", lines.len());
    Ok(took.as_secs_f64())
}

/// The same with keyed state of 100 000 × 100 bytes and checkpoints, from the last of which it goes on: a task runs when it has its
/// state again. Every record is counted once.
fn recovery_with_state(programs: &Programs, size: &Size) -> anyhow::Result<Vec<Row>> {
    let runs = (0..size.repetitions).map(|_| recover_with_state(programs)).collect::<anyhow::Result<Vec<_>>>()?;
    let times: Vec<f64> = runs.iter().map(|run| run.0).collect();
    Ok(vec![
        Row::new("control.recovery-state", median(times.clone()), "s"),
        Row::new("control.recovery-state-best", least(&times), "s"),
        Row::new("control.recovery-state-size", median(runs.iter().map(|run| run.1).collect()), "MiB"),
    ])
}

/// Seconds until all tasks run again, and mebibytes of the last checkpoint before.
fn recover_with_state(programs: &Programs) -> anyhow::Result<(f64, f64)> {
    const KEYS: u64 = 100_000;
    const RECORDS_PER_KEY: u64 = 6;
    const BYTES: u64 = KEYS * 100;
    let mut cluster = Cluster::with(programs, 3, 1)?;
    let artifact = cluster.upload()?;
    let out = cluster.path("out");
    let (out_text, keys) = (out.display().to_string(), KEYS.to_string());
    let count = (KEYS * RECORDS_PER_KEY).to_string();
    let folder = format!("file://{}", cluster.path("checkpoints").display());
    let checkpoints = [("execution.checkpointing.dir", &*folder), ("execution.checkpointing.interval", "500 ms")];
    let options = [RESTARTS, TWO_SUBTASKS, checkpoints[0], checkpoints[1]];
    let arguments = ["--keys", &keys, "--count", &count, "--rate", "200000", "--out", &out_text];
    let job = cluster.run(&artifact, "remembers", &arguments, &options)?;
    let bytes = wait_for("a checkpoint with the state of all keys", || {
        let checkpoints = cluster.http.get(&format!("/jobs/{job}/checkpoints"))?;
        let bytes = checkpoints["latest"]["completed"]["state_size"].as_u64();
        Ok(bytes.filter(|&bytes| bytes >= BYTES))
    })?;
    let took = kill_and_wait(&mut cluster, &job)?;
    cluster.wait_for_end(&job, "FINISHED")?;
    let lines = lines_once(&out)?;
    let of_all = |line: &String| line.ends_with(&format!(" {RECORDS_PER_KEY}"));
    ensure!(lines.len() as u64 == KEYS, "{} keys were written, not {KEYS}", lines.len());
    ensure!(
        lines.iter().all(of_all),
        "a record was lost or counted twice: {:?}",
        lines.iter().find(|line| !of_all(line))
    );
    Ok((took.as_secs_f64(), mebibytes(bytes)))
}

/// Kills a TaskManager that runs tasks of the job. How long it takes until all of them run again.
fn kill_and_wait(cluster: &mut Cluster, job: &str) -> anyhow::Result<Duration> {
    let used = tasks_of(cluster, job)?;
    let victim = used.first().context("no task has a TaskManager")?.task_manager.clone();
    let process = cluster.task_managers.iter_mut().find(|(id, _)| *id == victim).context("it was not started here")?;
    let begun = Instant::now();
    process.1.kill()?;
    wait_for("all tasks to run again", || {
        let tasks = tasks_of(cluster, job)?;
        Ok(tasks.iter().all(|task| task.attempt > 0 && task.status == "RUNNING").then_some(()))
    })?;
    Ok(begun.elapsed())
}

/// The lines of all files of a folder, of which no two are equal.
fn lines_once(folder: &Path) -> anyhow::Result<BTreeSet<String>> {
    let mut lines = BTreeSet::new();
    for file in fs::read_dir(folder)? {
        let text = fs::read_to_string(file?.path())?;
        for line in text.lines() {
            ensure!(lines.insert(line.to_owned()), "{line:?} was written twice");
        }
    }
    Ok(lines)
}

struct Task {
    status: String,
    attempt: u64,
    task_manager: String,
}

fn tasks_of(cluster: &mut Cluster, job: &str) -> anyhow::Result<Vec<Task>> {
    let detail = cluster.http.get(&format!("/jobs/{job}"))?;
    let mut tasks = Vec::new();
    for vertex in detail["vertices"].as_array().context("the job has no vertices")? {
        let id = vertex["id"].as_str().unwrap_or_default();
        let vertex = cluster.http.get(&format!("/jobs/{job}/vertices/{id}"))?;
        for subtask in vertex["subtasks"].as_array().context("the vertex has no subtasks")? {
            tasks.push(Task {
                status: subtask["status"].as_str().unwrap_or_default().to_owned(),
                attempt: subtask["attempt"].as_u64().unwrap_or_default(),
                task_manager: subtask["taskmanager-id"].as_str().unwrap_or_default().to_owned(),
            });
        }
    }
    Ok(tasks)
}

/// As many TaskManagers as are to fit, registered, and heart-beating for longer than two intervals.
fn task_managers(programs: &Programs, size: &Size) -> anyhow::Result<Vec<Row>> {
    let begun = Instant::now();
    let mut cluster = Cluster::with(programs, size.task_managers, 1)?;
    let took = begun.elapsed();
    let heartbeats = |cluster: &mut Cluster| -> anyhow::Result<Vec<u64>> {
        let list = cluster.http.get("/taskmanagers")?;
        let list = list["taskmanagers"].as_array().context("there is no list of TaskManagers")?.clone();
        Ok(list.iter().filter_map(|one| one["timeSinceLastHeartbeat"].as_u64()).collect())
    };
    let before = heartbeats(&mut cluster)?;
    std::thread::sleep(size.endurance);
    let after = heartbeats(&mut cluster)?;
    let count = size.task_managers as usize;
    ensure!(before.len() == count && after.len() == count, "of {count} TaskManagers {} are left", after.len());
    let oldest = before.iter().max().copied().unwrap_or_default();
    let beating = after.iter().filter(|&&heartbeat| heartbeat > oldest).count();
    ensure!(beating == count, "only {beating} of {count} TaskManagers have sent heartbeats");
    let mut memory = proportional(cluster.job_manager.pid())?;
    for (_, process) in &cluster.task_managers {
        memory += proportional(process.pid())?;
    }
    Ok(vec![
        Row::new("control.taskmanagers", beating as f64, "1"),
        Row::new("control.taskmanagers-start", took.as_secs_f64(), "s"),
        Row::new("control.taskmanagers-memory-sum", mebibytes(memory), "MiB"),
        Row::new("control.taskmanagers-memory-jobmanager", mebibytes(resident(cluster.job_manager.pid())?), "MiB"),
    ])
}

/// 2 × 10 000 tasks with an exchange between all, on simulated TaskManagers.
fn scale(programs: &Programs, _: &Size) -> anyhow::Result<Vec<Row>> {
    let mut command = Command::new(&programs.testkit);
    command
        .args(["--scale", "--tasks", "20000", "--vertices", "2", "--output", "json"])
        .stdout(std::process::Stdio::piped());
    let mut process = Process::start(&mut command)?;
    let stdout = process.child().stdout.take().context("its output was not asked for")?;
    let text = std::io::read_to_string(stdout)?;
    let status = process.child().wait()?;
    ensure!(status.success(), "weir-testkit --scale ended with {status}");
    let figure = |name: &str| -> anyhow::Result<f64> {
        let lines = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let found = lines.filter(|row| row["measure"] == name).find_map(|row| row["value"].as_f64());
        found.with_context(|| format!("weir-testkit --scale did not say {name}"))
    };
    ensure!(figure("scale.tasks")? == 20_000.0, "the job had another size");
    Ok(vec![
        Row::new("scale.deploy", figure("scale.deploy")?, "s"),
        Row::new("scale.jobmanager-memory-running", figure("scale.jobmanager-memory-running")?, "MiB"),
    ])
}

fn repeat(size: &Size, mut one: impl FnMut() -> anyhow::Result<f64>) -> anyhow::Result<Vec<f64>> {
    (0..size.repetitions).map(|_| one()).collect()
}

fn least(values: &[f64]) -> f64 {
    values.iter().copied().fold(f64::INFINITY, f64::min)
}

fn mebibytes(bytes: u64) -> f64 {
    bytes as f64 / MEBIBYTE
}
