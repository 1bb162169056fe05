//! `kill -9` of every kind of process.

use std::time::Duration;

use crate::harness::{Cluster, exists, kill, parent, plugins_dir, wait_for};

/// Three restarts, soon.
const RESTARTS: &[&str] = &[
    "restart-strategy.type=fixed-delay",
    "restart-strategy.fixed-delay.attempts=3",
    "restart-strategy.fixed-delay.delay=100 ms",
];

/// What the job `lasts` writes.
pub(crate) fn numbers(count: u64) -> Vec<String> {
    let mut lines: Vec<String> = (0..count).map(|n| format!("number {n}")).collect();
    lines.sort();
    lines
}

#[test]
fn a_job_goes_on_on_a_standby_when_a_task_manager_is_killed() {
    let (mut cluster, task_managers) = Cluster::with_task_managers(&[2, 2], RESTARTS);
    let out = cluster.path("out").display().to_string();
    let job = cluster.submit("lasts", &["--seconds", "2", "--out", &out], &["parallelism.default=2"]);
    cluster.wait_until_running(&job);
    let used = cluster.tasks(&job)[0].task_manager.clone();
    let victim = task_managers.iter().find(|it| it.id == used).unwrap();
    let workers: Vec<u32> = cluster.workers(&job).into_iter().filter(|pid| parent(*pid) == Some(victim.pid)).collect();
    assert!(!workers.is_empty(), "{victim:?} has no worker");

    kill(victim.pid);
    assert_eq!(cluster.wait_for_exit(victim.pid), None);
    wait_for("the end of its workers", || workers.iter().all(|pid| !exists(*pid)));
    cluster.wait_for_state(&job, "FINISHED");
    assert_eq!(cluster.output("out"), numbers(2000));
    cluster.assert_failed_with(&job, &victim.id);
    assert!(cluster.tasks(&job).iter().all(|task| task.attempt == 1 && task.task_manager != victim.id));
    cluster.wait_for_task_managers(1);
}

#[test]
fn a_job_waits_for_slots_and_says_so_when_its_only_task_manager_is_killed() {
    let (mut cluster, task_managers) = Cluster::with_task_managers(&[2], RESTARTS);
    let out = cluster.path("out").display().to_string();
    let job = cluster.submit("lasts", &["--seconds", "1", "--out", &out], &["parallelism.default=2"]);
    cluster.wait_until_running(&job);
    kill(task_managers[0].pid);
    cluster.wait_for_exit(task_managers[0].pid);

    wait_for("the job to wait for slots", || cluster.get(&format!("/jobs/{job}/slot-wait"))["waiting"] == true);
    let wait = cluster.get(&format!("/jobs/{job}/slot-wait"));
    assert_eq!((wait["needed"].as_u64(), wait["available"].as_u64()), (Some(2), Some(0)), "{wait}");
    let (status, code) = cluster.call(&["status", &job]);
    assert_eq!(code, Some(0), "{status}");
    assert!(status.contains("waits for slots: needs 2, has 0") && status.contains(&task_managers[0].id), "{status}");

    cluster.start_task_manager(2);
    cluster.wait_for_state(&job, "FINISHED");
    assert_eq!(cluster.output("out"), numbers(1000));
}

#[test]
fn a_killed_worker_is_replaced_and_its_task_manager_stays() {
    let (cluster, task_managers) = Cluster::with_task_managers(&[2], RESTARTS);
    let out = cluster.path("out").display().to_string();
    let job = cluster.submit("lasts", &["--seconds", "2", "--out", &out], &["parallelism.default=2"]);
    cluster.wait_until_running(&job);
    let workers = cluster.workers(&job);
    assert_eq!(workers.len(), 1, "tasks of a job share a process");
    kill(workers[0]);
    cluster.wait_for_state(&job, "FINISHED");
    assert_eq!(cluster.output("out"), numbers(2000));
    cluster.assert_failed_with(&job, "signal 9");
    cluster.assert_runs(task_managers[0].pid);
    assert_eq!(cluster.task_managers(), [task_managers[0].id.clone()]);
}

#[test]
fn a_killed_worker_fails_a_job_without_restarts() {
    let (cluster, task_managers) = Cluster::with_task_managers(&[2], &[]);
    let job = cluster.submit("ticks", &[], &["parallelism.default=2"]);
    cluster.wait_until_running(&job);
    kill(cluster.workers(&job)[0]);
    cluster.wait_for_state(&job, "FAILED");
    cluster.assert_failed_with(&job, "signal 9");
    let next = cluster.submit("lasts", &["--seconds", "0.1"], &[]);
    cluster.wait_for_state(&next, "FINISHED");
    cluster.assert_runs(task_managers[0].pid);
}

#[test]
fn a_killed_coordinator_is_replaced_and_the_job_begins_again() {
    let (cluster, task_managers) = Cluster::with_task_managers(&[2], RESTARTS);
    let out = cluster.path("out").display().to_string();
    let job = cluster.submit("lasts", &["--seconds", "2", "--out", &out], &["parallelism.default=2"]);
    cluster.wait_until_running(&job);
    let coordinator = cluster.coordinators()[0];
    kill(coordinator);
    cluster.wait_for_state(&job, "FINISHED");
    assert_eq!(cluster.output("out"), numbers(2000));
    cluster.assert_failed_with(&job, "coordinator");
    cluster.assert_runs(task_managers[0].pid);
}

#[test]
fn a_killed_coordinator_fails_a_job_without_restarts() {
    let (cluster, _) = Cluster::with_task_managers(&[2], &[]);
    let job = cluster.submit("ticks", &[], &["parallelism.default=2"]);
    cluster.wait_until_running(&job);
    kill(cluster.coordinators()[0]);
    cluster.wait_for_state(&job, "FAILED");
    cluster.assert_failed_with(&job, "coordinator");
    wait_for("the end of its workers", || cluster.workers(&job).is_empty());
}

#[test]
fn task_managers_wait_for_a_killed_job_manager_and_its_jobs_are_reported_lost() {
    let mut cluster = Cluster::new(&[]);
    let job_manager = cluster.start_job_manager();
    let task_managers = [cluster.start_task_manager(1), cluster.start_task_manager(1)];
    cluster.wait_for_task_managers(2);
    let job = cluster.submit("ticks", &[], &["parallelism.default=2"]);
    cluster.wait_until_running(&job);
    let of_job: Vec<u32> = cluster.workers(&job).into_iter().chain(cluster.coordinators()).collect();
    assert_eq!(of_job.len(), 3);

    kill(job_manager);
    assert_eq!(cluster.wait_for_exit(job_manager), None);
    wait_for("the end of the job's processes", || of_job.iter().all(|pid| !exists(*pid)));
    // Long enough for TaskManagers that would give up.
    std::thread::sleep(Duration::from_millis(500));
    task_managers.iter().for_each(|task_manager| cluster.assert_runs(task_manager.pid));

    cluster.start_job_manager();
    cluster.wait_for_task_managers(2);
    task_managers.iter().for_each(|task_manager| cluster.assert_runs(task_manager.pid));
    assert_eq!(cluster.state(&job), "FAILED");
    cluster.assert_failed_with(&job, "restarted without high availability");
    let (list, _) = cluster.call(&["list", "--all"]);
    assert!(list.contains(&job) && list.contains("FAILED"), "{list}");
    // Neither slots nor the uploaded artifact were lost.
    let next = cluster.submit("lasts", &["--seconds", "0.1"], &["parallelism.default=2"]);
    cluster.wait_for_state(&next, "FINISHED");
}

#[test]
fn task_managers_of_a_provider_are_found_again_and_used_after_the_job_manager_was_killed() {
    let plugins = format!("plugins.dir={}", plugins_dir().display());
    let mut cluster =
        Cluster::new(&[&plugins, "resourcemanager.providers=standalone", "provider.standalone.max-workers=2"]);
    let job_manager = cluster.start_job_manager();
    let job = cluster.submit("ticks", &[], &["parallelism.default=2"]);
    cluster.wait_until_running(&job);
    let mut before = cluster.task_managers();
    before.sort();
    assert_eq!(before.len(), 2);
    let of_job: Vec<u32> = cluster.workers(&job).into_iter().chain(cluster.coordinators()).collect();

    kill(job_manager);
    cluster.wait_for_exit(job_manager);
    wait_for("the end of the job's processes", || of_job.iter().all(|pid| !exists(*pid)));
    let left = cluster.processes();
    assert_eq!(left.len(), 2, "the TaskManagers stay");

    cluster.start_job_manager();
    cluster.wait_for_task_managers(2);
    let next = cluster.submit("lasts", &["--seconds", "0.1"], &["parallelism.default=2"]);
    cluster.wait_for_state(&next, "FINISHED");
    let mut after = cluster.task_managers();
    after.sort();
    assert_eq!(after, before);
    left.iter().for_each(|pid| cluster.assert_runs(*pid));
}

#[test]
fn a_killed_task_manager_of_a_provider_is_replaced() {
    let plugins = format!("plugins.dir={}", plugins_dir().display());
    let provider = [plugins.as_str(), "resourcemanager.providers=standalone", "provider.standalone.max-workers=1"];
    let mut cluster = Cluster::new(&[&provider, RESTARTS].concat());
    cluster.start_job_manager();
    let out = cluster.path("out").display().to_string();
    let job = cluster.submit("lasts", &["--seconds", "1", "--out", &out], &[]);
    cluster.wait_until_running(&job);
    let before = cluster.provided();
    assert_eq!(before.len(), 1);
    kill(before[0]);
    cluster.wait_for_state(&job, "FINISHED");
    assert_eq!(cluster.output("out"), numbers(1000));
    cluster.assert_failed_with(&job, "the TaskManager is gone");
    let (log, _) = cluster.call(&["logs"]);
    assert!(log.contains("was ended by signal 9"), "how it ended is not told: {log}");
    let after = cluster.provided();
    assert!(after.len() == 1 && after != before, "{after:?} instead of {before:?}");
}

#[test]
fn nothing_is_left_of_a_local_cluster_that_is_killed() {
    let mut cluster = Cluster::new(&[]);
    let command = cluster.weir(&["local", "--taskmanagers", "2", "--slots", "1"]);
    let local = cluster.start("local", command);
    wait_for("the HTTP API", || {
        cluster.request("GET", "/overview", None).is_some_and(|answer| answer.json()["taskmanagers"] == 2)
    });
    let folder = cluster.make_folder("pids");
    let jobs = [cluster.submit("forks", &["--pids", &folder], &[]), cluster.submit("ticks", &[], &[])];
    jobs.iter().for_each(|job| cluster.wait_until_running(job));
    wait_for("the job's children", || std::fs::read_dir(&folder).unwrap().count() == 2);
    assert!(cluster.processes().len() >= 7, "one, two workers, two coordinators, two children");
    kill(local);
    cluster.wait_for_exit(local);
    wait_for("the end of all processes", || cluster.processes().is_empty());
}
