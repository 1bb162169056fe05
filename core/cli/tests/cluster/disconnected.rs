//! The connection between TaskManager and JobManager, harmed while both sides are well; and two JobManagers that both believe to lead.

use std::fs;

use crate::harness::{Cluster, Proxy, TaskManager, exists, resume, stop, wait_for};
use crate::killed::numbers;

const RESTARTS: [&str; 3] = [
    "restart-strategy.type=fixed-delay",
    "restart-strategy.fixed-delay.attempts=10",
    "restart-strategy.fixed-delay.delay=100 ms",
];
const HEARTBEATS: [&str; 2] = ["heartbeat.interval=200 ms", "heartbeat.timeout=2 s"];

/// A JobManager, and a TaskManager with two slots that reaches it through a proxy only.
fn with_proxy(settings: &[&str]) -> (Cluster, TaskManager, Proxy) {
    let mut cluster = Cluster::new(settings);
    cluster.start_job_manager();
    let proxy = Proxy::to(cluster.rpc_port());
    let task_manager = behind(&mut cluster, &proxy);
    cluster.wait_for_task_managers(1);
    (cluster, task_manager, proxy)
}

fn behind(cluster: &mut Cluster, proxy: &Proxy) -> TaskManager {
    cluster.start_task_manager_with(2, &[&format!("jobmanager.rpc.port={}", proxy.port())])
}

/// What a TaskManager has logged.
fn log(cluster: &Cluster, task_manager: &TaskManager) -> String {
    let name = format!("weir-taskmanager-{}.log", task_manager.id);
    let file = cluster.files().into_iter().find(|(path, _)| path.ends_with(&name));
    // It is not there at first.
    file.and_then(|(path, _)| fs::read_to_string(path).ok()).unwrap_or_default()
}

#[test]
fn a_task_manager_whose_connection_is_cut_ends_its_workers_and_registers_again() {
    let (cluster, task_manager, proxy) = with_proxy(&RESTARTS);
    let out = cluster.path("out").display().to_string();
    let job = cluster.submit("lasts", &["--seconds", "1.5", "--out", &out], &["parallelism.default=2"]);
    cluster.wait_until_running(&job);
    let workers = cluster.workers(&job);
    proxy.cut();
    wait_for("the end of its workers", || workers.iter().all(|pid| !exists(*pid)));
    cluster.wait_for_state(&job, "FINISHED");
    assert_eq!(cluster.output("out"), numbers(1500));
    assert!(cluster.tasks(&job).iter().all(|task| task.attempt == 1), "{:?}", cluster.tasks(&job));
    cluster.assert_runs(task_manager.pid);
    assert_eq!(cluster.task_managers(), [task_manager.id]);
}

#[test]
fn a_connection_that_swallows_everything_is_given_up_by_both_sides() {
    let (cluster, task_manager, proxy) = with_proxy(&[HEARTBEATS.as_slice(), RESTARTS.as_slice()].concat());
    let out = cluster.path("out").display().to_string();
    let job = cluster.submit("lasts", &["--seconds", "1.5", "--out", &out], &["parallelism.default=2"]);
    cluster.wait_until_running(&job);
    let workers = cluster.workers(&job);
    proxy.swallow(true);
    cluster.wait_for_task_managers(0);
    wait_for("the end of its workers", || workers.iter().all(|pid| !exists(*pid)));
    wait_for("the job to wait for slots", || cluster.get(&format!("/jobs/{job}/slot-wait"))["waiting"] == true);
    proxy.swallow(false);
    cluster.wait_for_task_managers(1);
    cluster.wait_for_state(&job, "FINISHED");
    assert_eq!(cluster.output("out"), numbers(1500));
    cluster.assert_runs(task_manager.pid);
}

#[test]
fn a_task_manager_finds_its_job_manager_whatever_it_was_answered_before() {
    let mut cluster = Cluster::new(&[]);
    let proxy = Proxy::to(cluster.rpc_port());
    // First nobody is there, then somebody who hangs up.
    let task_manager = behind(&mut cluster, &proxy);
    wait_for("its first attempt", || log(&cluster, &task_manager).contains("TaskManager started"));
    proxy.refuse(true);
    cluster.start_job_manager();
    std::thread::sleep(std::time::Duration::from_millis(500));
    assert!(cluster.task_managers().is_empty());
    proxy.refuse(false);
    cluster.wait_for_task_managers(1);
    cluster.assert_runs(task_manager.pid);
}

#[test]
fn a_former_job_manager_that_wakes_up_is_refused_by_the_task_managers_of_the_new_one() {
    let mut old = Cluster::new(&[HEARTBEATS.as_slice(), RESTARTS.as_slice()].concat());
    let old_job_manager = old.start_job_manager();
    let proxy = Proxy::to(old.rpc_port());
    let task_manager = behind(&mut old, &proxy);
    old.wait_for_task_managers(1);
    let lost = old.submit("ticks", &[], &["parallelism.default=2"]);
    old.wait_until_running(&lost);

    // Another one takes the TaskManager over while it is frozen.
    stop(old_job_manager);
    let same_id = format!("cluster.id={}", old.id());
    let mut new = Cluster::new(&[&[same_id.as_str()], HEARTBEATS.as_slice(), RESTARTS.as_slice()].concat());
    new.start_job_manager();
    proxy.lead_to(new.rpc_port());
    proxy.cut();
    new.wait_for_task_managers(1);
    let job = new.submit("ticks", &[], &["parallelism.default=2"]);
    new.wait_until_running(&job);
    assert!(old.workers(&lost).is_empty());

    // It wakes up, believes to lead, and the TaskManager even calls it.
    resume(old_job_manager);
    proxy.lead_to(old.rpc_port());
    proxy.cut();
    wait_for("the former leader to be refused", || {
        log(&old, &task_manager).contains("a message of a former leader is refused")
    });
    assert!(old.workers(&lost).is_empty(), "it has started tasks there again");

    proxy.lead_to(new.rpc_port());
    proxy.cut();
    new.wait_for_task_managers(1);
    new.wait_until_running(&job);
    assert!(old.task_managers().is_empty());
    old.assert_runs(task_manager.pid);
    new.cancel(&job);
    new.wait_for_state(&job, "CANCELED");
    old.cancel(&lost);
    old.wait_for_state(&lost, "CANCELED");
}
