//! From the start to running tasks.

use std::time::Duration;

use weir_model::{
    ExecutionState, FromResourceManager, JobStatus, Partitioner, Placement, SlotWait, ToResourceManager, ToTaskManager,
};

use super::harness::*;
use crate::testing::chain;
use crate::{FromCoordinator, JobMasterEffect, JobMasterEvent, JobMasterOptions, ToCoordinator};

fn job() -> Harness {
    harness(Partitioner::Hash, JobMasterOptions::default())
}

fn declared(slots: u32) -> ToResourceManager {
    ToResourceManager::DeclareRequirements { job: job_id(), name: "test".to_owned(), slots, at_least: slots }
}

#[test]
fn inputs_and_outputs_are_opened_before_slots_are_asked_for() {
    let mut job = job();
    let run_id = format!("{}-1", job_id());
    let open = ToCoordinator::Open { run_id, lost_run_ids: vec![], restored: None };
    assert_eq!(to_coordinator(&job.send(JobMasterEvent::Start)), [open]);
    assert_eq!(job.send(JobMasterEvent::Start), []);
    let effects = job.coordinator(FromCoordinator::Opened(Ok(())));
    assert_eq!(to_resources(&effects), [declared(2)]);
    assert_eq!(statuses(&effects), [JobStatus::Running]);
    assert_eq!(job.coordinator(FromCoordinator::Opened(Ok(()))), []);
    assert_eq!(job.master.summary().tasks[ExecutionState::Scheduled as usize], 4);
}

#[test]
fn an_input_that_cannot_be_used_fails_the_job_before_slots_are_asked_for() {
    let mut job = harness(Partitioner::Hash, fixed_delay(9));
    job.send(JobMasterEvent::Start);
    let effects = job.coordinator(FromCoordinator::Opened(Err("no such file: /x".to_owned())));
    assert_eq!(statuses(&effects), [JobStatus::Failing, JobStatus::Failed]);
    assert_eq!(to_resources(&effects), []);
    assert_eq!(to_coordinator(&effects).last(), Some(&ToCoordinator::Shutdown));
    assert_eq!(report(&effects).failure.unwrap().failure.message, "no such file: /x");
}

#[test]
fn workers_are_started_when_all_slots_are_there_and_tasks_when_all_workers_are_ready() {
    let mut job = job().waiting();
    assert_eq!(job.grant(&[(1, 3)]), []);
    assert_eq!(to_task_managers(&job.grant(&[(2, 0)])), ["tm-1 start 0 [3]", "tm-2 start 0 [0]"]);
    assert_eq!(job.ready(0, 2), []);
    // Neither from a TaskManager without part in it, nor of another deployment, nor twice.
    for (of, number) in [(0, 9), (1, 1), (0, 2)] {
        assert_eq!(job.ready(of, number), []);
    }
    let effects = job.ready(0, 1);
    assert_eq!(to_task_managers(&effects), ["tm-1 deploy 0", "tm-2 deploy 0"]);
    assert_eq!(job.ready(0, 1), []);
    let JobMasterEffect::TaskManager { message: ToTaskManager::Deploy { plan, worker: 0, .. }, .. } = &effects[0]
    else {
        panic!("{effects:?}")
    };
    assert_eq!(plan.peers, [address(0, 1), address(0, 2)]);
    assert_eq!((plan.job_graph_hash, plan.run_id.clone()), (42, format!("{}-1", job_id())));
    assert_eq!(plan.placement, Placement::new(2, vec![vec![0, 1], vec![0, 1]]));
    assert_eq!(job.master.summary().tasks[ExecutionState::Deploying as usize], 4);
}

#[test]
fn a_task_manager_with_all_slots_runs_one_worker() {
    let mut job = job().waiting();
    assert_eq!(to_task_managers(&job.grant(&[(1, 4), (1, 2)])), ["tm-1 start 0 [2, 4]"]);
    assert_eq!(to_task_managers(&job.ready(0, 1)), ["tm-1 deploy 0"]);
}

#[test]
fn slots_beyond_the_need_are_given_back() {
    let mut job = job().preparing();
    let effects = job.grant(&[(3, 0)]);
    assert_eq!(to_resources(&effects), [ToResourceManager::ReleaseSlots { job: job_id(), slots: vec![slot(3, 0)] }]);
}

fn wait(never: Option<&str>) -> SlotWait {
    SlotWait {
        needed: 2,
        granted: 0,
        available: 1,
        pending: 4,
        reasons: vec!["yarn: the queue is full".to_owned()],
        never: never.map(str::to_owned),
    }
}

#[test]
fn why_a_job_waits_is_shown_while_it_does() {
    let mut job = job().waiting();
    assert_eq!(job.resources(FromResourceManager::Waiting(wait(None))), []);
    assert_eq!(job.master.view().waiting, Some(wait(None)));
    job.grant(&[(1, 0), (2, 0)]);
    assert_eq!(job.master.view().waiting, None);
    job.resources(FromResourceManager::Waiting(wait(None)));
    assert_eq!(job.master.view().waiting, None);
}

#[test]
fn waiting_for_what_never_comes_fails_the_job_at_once() {
    let mut job = harness(Partitioner::Hash, fixed_delay(9)).waiting();
    let effects = job.resources(FromResourceManager::Waiting(wait(Some("there are no providers"))));
    let report = report(&effects);
    assert_eq!((report.status, report.restarts), (JobStatus::Failed, 0));
    assert_eq!(report.failure.unwrap().failure.message, "there are no providers");
    assert_eq!(to_resources(&effects), [declared(0)]);
}

#[test]
fn what_never_comes_is_remembered_until_tasks_wait_for_it() {
    let mut job = harness(Partitioner::Hash, fixed_delay(9)).running();
    job.lose(2);
    // Said while the tasks that are left are being canceled, and not again.
    assert_eq!(job.resources(FromResourceManager::Waiting(wait(Some("there are no providers")))), []);
    for vertex in 0..2 {
        job.change(0, 1, task(vertex, 0), ExecutionState::Canceled);
    }
    let report = report(&job.pass(Duration::from_secs(60)));
    assert_eq!((report.status, report.restarts), (JobStatus::Failed, 1));
    assert_eq!(report.failure.unwrap().failure.message, "there are no providers");
}

#[test]
fn waiting_too_long_for_slots_is_a_failure_that_explains_itself() {
    let mut job = job().waiting();
    job.grant(&[(1, 0)]);
    job.resources(FromResourceManager::Waiting(wait(None)));
    assert_eq!(job.pass(Duration::from_secs(299)), []);
    let effects = job.pass(Duration::from_secs(1));
    let expect = "not enough slots: the job needs 2 and got 1 within 300s (slot.request.timeout); \
                  1 are free, 4 are to come with TaskManagers asked for; yarn: the queue is full";
    assert_eq!(report(&effects).failure.unwrap().failure.message, expect);
}

#[test]
fn waiting_for_slots_starts_over_if_the_restart_strategy_allows() {
    let mut job = harness(Partitioner::Hash, fixed_delay(1)).waiting();
    let effects = job.pass(Duration::from_secs(300));
    assert_eq!(statuses(&effects), [JobStatus::Restarting]);
    assert_eq!(statuses(&job.pass(DELAY)), [JobStatus::Running]);
    job.coordinator(FromCoordinator::TasksReset(Ok(())));
    assert_eq!(to_task_managers(&job.grant(&[(1, 0), (2, 0)])), ["tm-1 start 1 [0]", "tm-2 start 1 [0]"]);
    // The first deployment's timer is nobody's any more.
    assert_eq!(job.ready(1, 1), []);
    assert_eq!(to_task_managers(&job.ready(1, 2)), ["tm-1 deploy 1", "tm-2 deploy 1"]);
    assert_eq!(job.pass(Duration::from_secs(10_000)), []);
}

#[test]
fn a_worker_that_is_not_ready_in_time_fails_the_deployment() {
    let mut job = job().preparing();
    job.ready(0, 1);
    let effects = job.pass(Duration::from_secs(65));
    assert_eq!(to_task_managers(&effects), ["tm-1 kill 0", "tm-2 kill 0"]);
    let failure = report(&effects).failure.unwrap();
    let expect = "the worker process on TaskManager tm-2 (host-2) was not ready within 60s";
    assert_eq!(failure.failure.message, expect);
    assert_eq!((failure.task, failure.host.as_deref()), (Some(task(0, 1)), Some("host-2")));
}

#[test]
fn a_worker_that_ends_while_it_starts_fails_the_deployment_and_the_strategy_decides() {
    let mut job = harness(Partitioner::Hash, fixed_delay(1)).preparing();
    let effects = job.worker_ended(0, 2);
    assert_eq!(statuses(&effects), [JobStatus::Restarting]);
    assert_eq!(to_task_managers(&effects), ["tm-1 kill 0"]);
    assert_eq!(job.ready(0, 1), []);
    // The same slots, but other workers.
    let effects = job.pass(DELAY);
    assert_eq!(to_task_managers(&effects), ["tm-1 start 1 [0]", "tm-2 start 1 [0]"]);
    let effects = job.worker_ended(1, 1);
    let report = report(&effects);
    let expect = "the worker process on TaskManager tm-1 (host-1) could not be started: exit code 3";
    assert_eq!((report.status, report.failure.unwrap().failure.message.as_str()), (JobStatus::Failed, expect));
    let expect = "the restart strategy fixed delay (5 s, 1 attempt) allows no further restart: 1 attempt has been used";
    assert_eq!(report.not_restarted.as_deref(), Some(expect));
    assert_eq!(job.master.view().failures[0].failure.message.lines().last(), Some(expect));
}

#[test]
fn tasks_are_spread_over_task_managers_with_their_neighbours() {
    let mut job = Harness::new(chain(&[4, 2, 4], Partitioner::Rescale), JobMasterOptions::default()).waiting();
    job.grant(&[(1, 0), (1, 1), (2, 0), (2, 1)]);
    job.ready(0, 1);
    let effects = job.ready(0, 2);
    let JobMasterEffect::TaskManager { message: ToTaskManager::Deploy { plan, .. }, .. } = &effects[0] else {
        panic!("{effects:?}")
    };
    assert_eq!(plan.placement, Placement::new(2, vec![vec![0, 0, 1, 1], vec![0, 1], vec![0, 0, 1, 1]]));
}
