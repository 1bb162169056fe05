//! SIGSTOP of every kind of process, and SIGCONT later.

use std::time::Duration;

use crate::harness::{Cluster, exists, parent, plugins_dir, resume, stop, wait_for};
use crate::killed::numbers;

/// Frozen processes are noticed soon. `FROZEN` is how long a process must be frozen for that, on any machine.
const HEARTBEATS: [&str; 2] = ["heartbeat.interval=200 ms", "heartbeat.timeout=2 s"];
const RESTARTS: [&str; 3] = [
    "restart-strategy.type=fixed-delay",
    "restart-strategy.fixed-delay.attempts=10",
    "restart-strategy.fixed-delay.delay=100 ms",
];

fn settings() -> Vec<&'static str> {
    [HEARTBEATS.as_slice(), RESTARTS.as_slice()].concat()
}

#[test]
fn a_frozen_task_manager_is_replaced_and_does_not_disturb_when_it_wakes_up() {
    let (cluster, task_managers) = Cluster::with_task_managers(&[2, 2], &settings());
    let out = cluster.path("out").display().to_string();
    let job = cluster.submit("lasts", &["--seconds", "1.5", "--out", &out], &["parallelism.default=2"]);
    cluster.wait_until_running(&job);
    let used = cluster.tasks(&job)[0].task_manager.clone();
    let victim = task_managers.iter().find(|it| it.id == used).unwrap();
    let zombies: Vec<u32> = cluster.workers(&job).into_iter().filter(|pid| parent(*pid) == Some(victim.pid)).collect();

    stop(victim.pid);
    cluster.wait_for_task_managers(1);
    cluster.wait_for_state(&job, "FINISHED");
    assert_eq!(cluster.output("out"), numbers(1500));
    let tasks = cluster.tasks(&job);
    assert!(tasks.iter().all(|task| task.attempt >= 1 && task.task_manager != victim.id), "{tasks:?}");
    assert!(!zombies.is_empty());

    resume(victim.pid);
    wait_for("the end of its workers", || zombies.iter().all(|pid| !exists(*pid)));
    cluster.wait_for_task_managers(2);
    cluster.assert_runs(victim.pid);
    assert_eq!(cluster.state(&job), "FINISHED");
    assert_eq!(cluster.output("out"), numbers(1500), "whoever woke up has changed the output");
    // All four slots can be used.
    let next = cluster.submit("lasts", &["--seconds", "0.2"], &["parallelism.default=4"]);
    cluster.wait_for_state(&next, "FINISHED");
}

#[test]
fn a_frozen_task_manager_of_a_provider_is_replaced_and_does_not_stay() {
    let plugins = format!("plugins.dir={}", plugins_dir().display());
    let provider = [plugins.as_str(), "resourcemanager.providers=standalone", "provider.standalone.max-workers=2"];
    let mut cluster = Cluster::new(&[provider.as_slice(), &settings()].concat());
    cluster.start_job_manager();
    let out = cluster.path("out").display().to_string();
    let job = cluster.submit("lasts", &["--seconds", "1.5", "--out", &out], &[]);
    cluster.wait_until_running(&job);
    let victim = cluster.provided()[0];
    stop(victim);
    cluster.wait_for_state(&job, "FINISHED");
    assert_eq!(cluster.output("out"), numbers(1500));
    assert!(cluster.tasks(&job).iter().all(|task| task.attempt >= 1), "{:?}", cluster.tasks(&job));
    resume(victim);
    // It may come back or be given back, but not run on with nobody who knows of it.
    wait_for("all TaskManagers to be registered", || cluster.provided().len() == cluster.task_managers().len());
    wait_for("the end of the job's workers", || cluster.workers(&job).is_empty());
}

#[test]
fn a_frozen_worker_is_killed_after_the_heartbeat_timeout_and_its_tasks_start_again() {
    let (cluster, task_managers) = Cluster::with_task_managers(&[2], &settings());
    let out = cluster.path("out").display().to_string();
    let job = cluster.submit("lasts", &["--seconds", "1.5", "--out", &out], &["parallelism.default=2"]);
    cluster.wait_until_running(&job);
    let workers = cluster.workers(&job);
    stop(workers[0]);
    cluster.wait_for_state(&job, "FINISHED");
    assert!(!exists(workers[0]));
    assert_eq!(cluster.output("out"), numbers(1500));
    cluster.assert_failed_with(&job, "SIGSTOP");
    cluster.assert_runs(task_managers[0].pid);
}

#[test]
fn a_frozen_worker_is_killed_when_its_job_is_canceled() {
    let (cluster, task_managers) = Cluster::with_task_managers(&[2], &[]);
    let settings = ["parallelism.default=2", "task.cancellation.timeout=1 s"];
    let job = cluster.submit("ticks", &[], &settings);
    cluster.wait_until_running(&job);
    let workers = cluster.workers(&job);
    stop(workers[0]);
    cluster.cancel(&job);
    cluster.wait_for_state(&job, "CANCELED");
    wait_for("the end of the worker", || !exists(workers[0]));
    cluster.assert_runs(task_managers[0].pid);
    let next = cluster.submit("lasts", &["--seconds", "0.1"], &["parallelism.default=2"]);
    cluster.wait_for_state(&next, "FINISHED");
}

#[test]
fn a_job_whose_coordinator_is_frozen_can_be_canceled() {
    let (cluster, task_managers) = Cluster::with_task_managers(&[2], &[]);
    let job = cluster.submit("ticks", &[], &["parallelism.default=2"]);
    cluster.wait_until_running(&job);
    let coordinator = cluster.coordinators()[0];
    stop(coordinator);
    cluster.cancel(&job);
    cluster.wait_for_state(&job, "CANCELED");
    wait_for("the end of the job's processes", || !exists(coordinator) && cluster.workers(&job).is_empty());
    cluster.assert_runs(task_managers[0].pid);
}

#[test]
fn a_job_whose_coordinator_was_frozen_for_a_moment_finishes() {
    let (cluster, _) = Cluster::with_task_managers(&[2], &[]);
    let out = cluster.path("out").display().to_string();
    let job = cluster.submit("lasts", &["--seconds", "0.5", "--out", &out], &["parallelism.default=2"]);
    cluster.wait_until_running(&job);
    let coordinator = cluster.coordinators()[0];
    stop(coordinator);
    // Its tasks have finished by then, but nobody has made their output visible.
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(cluster.state(&job), "RUNNING");
    resume(coordinator);
    cluster.wait_for_state(&job, "FINISHED");
    assert_eq!(cluster.output("out"), numbers(500));
}

#[test]
fn task_managers_leave_a_frozen_job_manager_and_come_back_when_it_wakes_up() {
    let mut cluster = Cluster::new(&settings());
    let job_manager = cluster.start_job_manager();
    let task_managers = [cluster.start_task_manager(1), cluster.start_task_manager(1)];
    cluster.wait_for_task_managers(2);
    let out = cluster.path("out").display().to_string();
    let job = cluster.submit("lasts", &["--seconds", "1.5", "--out", &out], &["parallelism.default=2"]);
    cluster.wait_until_running(&job);
    let workers = cluster.workers(&job);

    stop(job_manager);
    wait_for("the workers of a job that nobody leads to end", || workers.iter().all(|pid| !exists(*pid)));
    resume(job_manager);
    cluster.wait_for_task_managers(2);
    cluster.wait_for_state(&job, "FINISHED");
    assert_eq!(cluster.output("out"), numbers(1500));
    task_managers.iter().for_each(|task_manager| cluster.assert_runs(task_manager.pid));
    cluster.assert_runs(job_manager);
}

#[test]
fn a_job_manager_frozen_for_less_than_the_heartbeat_timeout_is_not_missed() {
    // The default timeout of 50 s.
    let mut cluster = Cluster::new(&["heartbeat.interval=100 ms"]);
    let job_manager = cluster.start_job_manager();
    cluster.start_task_manager(2);
    cluster.wait_for_task_managers(1);
    let out = cluster.path("out").display().to_string();
    let job = cluster.submit("lasts", &["--seconds", "1", "--out", &out], &["parallelism.default=2"]);
    cluster.wait_until_running(&job);
    stop(job_manager);
    std::thread::sleep(Duration::from_millis(1500));
    resume(job_manager);
    cluster.wait_for_state(&job, "FINISHED");
    assert_eq!(cluster.output("out"), numbers(1000));
    assert!(cluster.tasks(&job).iter().all(|task| task.attempt == 0), "{:?}", cluster.tasks(&job));
}
