//! Failover.

use std::time::Duration;

use weir_model::{ExecutionState, FromTaskManager, JobStatus, Partitioner};

use super::harness::*;
use crate::{FromCoordinator, JobMasterEffect, JobMasterOptions, ToCoordinator};

/// Two regions: subtask 0 of both vertices on TaskManager 1, subtask 1 on TaskManager 2.
fn two_regions(attempts: u32) -> Harness {
    harness(Partitioner::Forward, fixed_delay(attempts)).running()
}

fn request(of: u32, task: weir_model::TaskId) -> FromTaskManager {
    FromTaskManager::SplitRequested { deployment: deployment(of), task }
}

#[test]
fn a_failed_region_runs_again_in_another_worker_of_the_same_slots() {
    let mut job = two_regions(1);
    let effects = job.fail(0, 2, task(1, 1));
    assert_eq!(statuses(&effects), [JobStatus::Restarting]);
    assert_eq!(to_task_managers(&effects), ["tm-2 cancel 0 all"]);
    let effects = job.change(0, 2, task(0, 1), ExecutionState::Canceled);
    assert_eq!(to_task_managers(&effects), ["tm-2 release 0"]);
    let effects = job.pass(DELAY);
    assert_eq!(
        to_coordinator(&effects),
        [ToCoordinator::ResetTasks { tasks: vec![task(0, 1), task(1, 1)], restored: None }]
    );
    assert_eq!(to_task_managers(&effects), ["tm-2 start 1 [0]"]);
    // Deployed when both the worker and the coordinator are.
    assert_eq!(job.ready(1, 2), []);
    let effects = job.coordinator(FromCoordinator::TasksReset(Ok(())));
    assert_eq!(to_task_managers(&effects), ["tm-2 deploy 1"]);
    assert_eq!(job.coordinator(FromCoordinator::TasksReset(Ok(()))), []);
    let view = job.master.view();
    let attempts: Vec<u32> = view.vertices.iter().flatten().map(|subtask| subtask.attempt).collect();
    assert_eq!((attempts, view.restarts), (vec![0, 1, 0, 1], 1));
    assert_eq!(view.vertices[0][0].state, ExecutionState::Running);
    assert_eq!((view.failures.len(), view.failures[0].task), (1, Some(task(1, 1))));
}

#[test]
fn a_lost_task_manager_is_replaced_and_only_its_tasks_run_again() {
    let mut job = two_regions(1);
    let effects = job.lose(2);
    assert_eq!(statuses(&effects), [JobStatus::Restarting]);
    // For one that is back already: the order to start the worker may have crossed the news, and reached it.
    assert_eq!(to_task_managers(&effects), ["tm-2 kill 0"]);
    assert_eq!(job.lose(2), []);
    let effects = job.pass(DELAY);
    // There is no slot yet.
    assert_eq!((statuses(&effects), to_task_managers(&effects)), (vec![JobStatus::Running], vec![]));
    job.coordinator(FromCoordinator::TasksReset(Ok(())));
    assert_eq!(to_task_managers(&job.grant(&[(3, 7)])), ["tm-3 start 1 [7]"]);
    assert_eq!(to_task_managers(&job.ready(1, 3)), ["tm-3 deploy 1"]);
    let failure = &job.master.view().failures[0];
    let expect = "the worker process on TaskManager tm-2 (host-2), which ran this task and another one, was lost: \
                  the TaskManager is gone: connection closed";
    assert_eq!(failure.failure.message, expect);
    assert_eq!(failure.task_manager.as_ref().map(|id| id.as_str()), Some("tm-2"));
}

#[test]
fn slots_that_come_early_wait_for_the_delay() {
    let mut job = two_regions(1);
    job.lose(2);
    assert_eq!(job.grant(&[(3, 0)]), []);
    assert_eq!(to_task_managers(&job.pass(DELAY)), ["tm-3 start 1 [0]"]);
}

#[test]
fn a_task_manager_lost_while_its_worker_starts_fails_that_deployment() {
    let mut job = harness(Partitioner::Hash, fixed_delay(1)).preparing();
    let effects = job.lose(1);
    assert_eq!(
        (statuses(&effects), to_task_managers(&effects)),
        (vec![JobStatus::Restarting], vec!["tm-1 kill 0".to_owned(), "tm-2 kill 0".to_owned()])
    );
    job.pass(DELAY);
    assert_eq!(to_task_managers(&job.grant(&[(3, 0)])), ["tm-3 start 1 [0]", "tm-2 start 1 [0]"]);
}

#[test]
fn a_task_manager_with_two_deployments_is_one_failure() {
    let mut job = harness(Partitioner::Forward, fixed_delay(2)).waiting();
    job.grant(&[(1, 0), (1, 1)]);
    job.ready(0, 1);
    job.fail(0, 1, task(0, 0));
    job.change(0, 1, task(1, 0), ExecutionState::Canceled);
    job.pass(DELAY);
    job.coordinator(FromCoordinator::TasksReset(Ok(())));
    assert_eq!(to_task_managers(&job.ready(1, 1)), ["tm-1 deploy 1"]);
    assert_eq!(statuses(&job.lose(1)), [JobStatus::Restarting]);
    let view = job.master.view();
    assert_eq!((view.failures.len(), view.failures[0].concurrent.len()), (2, 1));
    // All tasks are reset together.
    assert_eq!(to_coordinator(&job.pass(DELAY)), [ToCoordinator::ResetTasks { tasks: Vec::new(), restored: None }]);
}

#[test]
fn splits_go_to_the_attempt_that_asked() {
    let mut job = two_regions(1);
    let source = task(0, 1);
    let asked = [ToCoordinator::SplitRequest { task: source }];
    assert_eq!(to_coordinator(&job.from(2, request(0, source))), asked);
    // Twice, from elsewhere, of another deployment, of a task that does not exist.
    for (number, of, task) in [(2, 0, source), (1, 0, source), (2, 1, source), (2, 0, task(0, 9))] {
        assert_eq!(job.from(number, request(of, task)), []);
    }
    assert_eq!(to_task_managers(&job.coordinator(split(source))), ["tm-2 split 0 0.1"]);
    assert_eq!(job.coordinator(split(source)), []);
    assert_eq!(to_coordinator(&job.from(2, request(0, source))), asked);

    job.fail(0, 2, task(1, 1));
    // It is to stop, so it gets nothing more; and what it had asked for goes to nobody.
    assert_eq!(job.from(2, request(0, source)), []);
    job.change(0, 2, source, ExecutionState::Canceled);
    job.pass(DELAY);
    job.ready(1, 2);
    assert_eq!(job.coordinator(split(source)), []);
    job.coordinator(FromCoordinator::TasksReset(Ok(())));
    assert_eq!(job.coordinator(split(source)), []);
    assert_eq!(job.from(2, request(0, source)), []);
    assert_eq!(to_coordinator(&job.from(2, request(1, source))), asked);
    assert_eq!(to_task_managers(&job.coordinator(split(source))), ["tm-2 split 1 0.1"]);
    assert_eq!(job.coordinator(split(task(7, 7))), []);
}

#[test]
fn a_coordinator_that_cannot_reset_tasks_starts_everything_over() {
    let mut job = two_regions(2);
    job.fail(0, 2, task(1, 1));
    job.change(0, 2, task(0, 1), ExecutionState::Canceled);
    job.pass(DELAY);
    let effects = job.coordinator(FromCoordinator::TasksReset(Err("the queue does not go back".to_owned())));
    assert_eq!(to_task_managers(&effects), ["tm-2 kill 1", "tm-1 cancel 0 all"]);
    job.from(1, changes(0, &[(task(0, 0), ExecutionState::Canceled), (task(1, 0), ExecutionState::Canceled)]));
    assert_eq!(to_coordinator(&job.pass(DELAY)), [ToCoordinator::ResetTasks { tasks: Vec::new(), restored: None }]);
    let effects = job.coordinator(FromCoordinator::TasksReset(Err("not at all".to_owned())));
    let expect = "the coordinator could not start tasks over: not at all";
    assert_eq!(report(&effects).failure.unwrap().failure.message, expect);
}

#[test]
fn a_lost_coordinator_is_replaced_and_everything_starts_over() {
    let mut job = two_regions(1);
    for vertex in 0..2 {
        job.change(0, 1, task(vertex, 0), ExecutionState::Finished);
    }
    let lost = || FromCoordinator::Lost { reason: "killed by signal 9".to_owned() };
    let effects = job.coordinator(lost());
    assert_eq!(statuses(&effects), [JobStatus::Restarting]);
    assert_eq!(to_task_managers(&effects), ["tm-2 cancel 0 all"]);
    assert_eq!(job.coordinator(lost()), []);
    // What finishes now has nobody to commit it.
    job.from(2, changes(0, &[(task(0, 1), ExecutionState::Finished), (task(1, 1), ExecutionState::Finished)]));
    let effects = job.pass(DELAY);
    assert_eq!(to_coordinator(&effects), [ToCoordinator::Restart]);
    assert_eq!(to_task_managers(&effects), ["tm-1 start 1 [0]", "tm-2 start 1 [0]"]);
    job.ready(1, 1);
    job.ready(1, 2);
    let run_id = format!("{}-2", job_id());
    let open =
        ToCoordinator::Open { run_id: run_id.clone(), lost_run_ids: vec![format!("{}-1", job_id())], restored: None };
    assert_eq!(to_coordinator(&job.coordinator(FromCoordinator::Started)), [open]);
    let effects = job.coordinator(FromCoordinator::Opened(Ok(())));
    assert_eq!(to_task_managers(&effects), ["tm-1 deploy 1", "tm-2 deploy 1"]);
    let JobMasterEffect::TaskManager { message, .. } = &effects[0] else { panic!("{effects:?}") };
    let weir_model::ToTaskManager::Deploy { plan, .. } = message else { panic!("{message:?}") };
    assert_eq!(plan.run_id, run_id);
    // Lost once more, there is no attempt left.
    job.coordinator(lost());
    let all = |subtask| [0, 1].map(|vertex| (task(vertex, subtask), ExecutionState::Canceled));
    job.from(1, changes(1, &all(0)));
    let effects = job.from(2, changes(1, &all(1)));
    let report = report(&effects);
    assert_eq!(report.failure.unwrap().failure.message, "the job's coordinator process was lost: killed by signal 9");
    assert_eq!(to_coordinator(&effects), []);
}

#[test]
fn a_new_coordinator_that_cannot_open_is_asked_again() {
    let mut job = two_regions(2);
    job.coordinator(FromCoordinator::Lost { reason: "gone".to_owned() });
    for subtask in 0..2 {
        job.from(subtask + 1, changes(0, &[0, 1].map(|vertex| (task(vertex, subtask), ExecutionState::Canceled))));
    }
    job.pass(DELAY);
    job.coordinator(FromCoordinator::Started);
    let effects = job.coordinator(FromCoordinator::Opened(Err("the NameNode is in safe mode".to_owned())));
    assert_eq!(statuses(&effects), [JobStatus::Restarting]);
    let run_id = format!("{}-3", job_id());
    assert_eq!(
        to_coordinator(&job.pass(DELAY)),
        [ToCoordinator::Open { run_id, lost_run_ids: vec![format!("{}-1", job_id())], restored: None }]
    );
    job.ready(2, 1);
    job.ready(2, 2);
    assert_eq!(to_task_managers(&job.coordinator(FromCoordinator::Opened(Ok(())))).len(), 2);
}

#[test]
fn a_task_that_does_not_stop_is_killed_with_its_worker_and_the_job_goes_on() {
    let options = JobMasterOptions { cancellation_timeout: Some(Duration::from_secs(30)), ..fixed_delay(1) };
    let mut job = harness(Partitioner::Forward, options).waiting();
    job.grant(&[(1, 0), (1, 1)]);
    job.ready(0, 1);
    job.fail(0, 1, task(0, 0));
    let effects = job.pass(Duration::from_secs(30));
    assert_eq!(to_task_managers(&effects), ["tm-1 kill 0", "tm-1 start 1 [0, 1]"]);
    // Its end was wanted.
    assert_eq!(job.worker_ended(0, 1), []);
    job.coordinator(FromCoordinator::TasksReset(Ok(())));
    assert_eq!(to_task_managers(&job.ready(1, 1)), ["tm-1 deploy 1"]);
}

#[test]
fn a_lost_task_manager_is_no_reason_to_wait() {
    let mut job = harness(Partitioner::Hash, fixed_delay(9)).running();
    // Another worker notices first that a connection is broken.
    let broken = weir_model::TaskFailure::new(weir_model::FailureKind::Network, "connection reset");
    let change = weir_model::TaskChange {
        task: task(1, 1),
        state: ExecutionState::Failed,
        failure: Some(broken),
        committables: vec![],
    };
    job.from(2, FromTaskManager::TasksChanged { deployment: deployment(0), changes: vec![change] });
    job.lose(1);
    job.change(0, 2, task(0, 1), ExecutionState::Canceled);
    job.coordinator(FromCoordinator::TasksReset(Ok(())));
    assert_eq!(statuses(&job.pass(Duration::ZERO)), [JobStatus::Running]);
    job.coordinator(FromCoordinator::TasksReset(Ok(())));
    job.grant(&[(3, 0)]);
    assert_eq!(job.master.summary().tasks[ExecutionState::Scheduled as usize], 4);
    // Lost again at once: this time it waits.
    job.lose(3);
    assert_eq!(statuses(&job.pass(DELAY - Duration::from_millis(1))), []);
    assert_eq!(statuses(&job.pass(Duration::from_millis(1))), [JobStatus::Running]);
}

#[test]
fn a_lost_worker_is_not_asked_to_cancel() {
    let mut job = harness(Partitioner::Hash, fixed_delay(1)).running();
    let effects = job.worker_ended(0, 1);
    assert_eq!(to_task_managers(&effects), ["tm-2 cancel 0 all"]);
    assert_eq!(job.fail(0, 1, task(0, 0)), []);
}
