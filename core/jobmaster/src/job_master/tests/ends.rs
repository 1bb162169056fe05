//! The ways to an end, and canceling on each part of the way.

use std::time::Duration;

use weir_model::{ExecutionState, JobStatus, Partitioner, ToResourceManager};

use super::harness::*;
use crate::{FromCoordinator, JobMasterEffect, JobMasterEvent, JobMasterOptions, Restored, ToCoordinator};

fn job() -> Harness {
    harness(Partitioner::Hash, JobMasterOptions::default())
}

fn gives_back_slots(effects: &[JobMasterEffect]) -> bool {
    let zero = |message: &ToResourceManager| matches!(message, ToResourceManager::DeclareRequirements { slots: 0, .. });
    to_resources(effects).iter().any(zero)
}

#[test]
fn a_job_ends_when_its_output_is_visible() {
    let mut job = job().running();
    let effects = job.change(0, 1, task(0, 0), ExecutionState::Finished);
    assert_eq!(effects, []);
    let effects = job.change(0, 1, task(1, 0), ExecutionState::Finished);
    assert_eq!(to_coordinator(&effects), []);
    assert_eq!(to_task_managers(&effects), ["tm-1 release 0"]);
    // A worker that leaves is not lost, and a task finishes once.
    assert_eq!(job.worker_ended(0, 1), []);
    assert_eq!(job.change(0, 1, task(1, 0), ExecutionState::Finished), []);
    job.change(0, 2, task(0, 1), ExecutionState::Finished);
    let effects = job.change(0, 2, task(1, 1), ExecutionState::Finished);
    assert_eq!(to_coordinator(&effects), [final_commit()]);
    let effects = job.coordinator(committed(Ok(())));
    assert_eq!(to_coordinator(&effects), [ToCoordinator::Shutdown]);
    assert!(gives_back_slots(&effects));
    let report = report(&effects);
    assert_eq!((report.status, report.failure, report.started, report.ended), (JobStatus::Finished, None, NOW, NOW));
    assert_eq!(job.send(JobMasterEvent::CancelRequested), []);
}

#[test]
fn a_commit_that_fails_fails_the_job_whatever_the_strategy() {
    let mut job = harness(Partitioner::Hash, fixed_delay(9)).committing();
    let effects = job.coordinator(committed(Err("disk full".to_owned())));
    assert_eq!(report(&effects).failure.unwrap().failure.message, "disk full");
    assert_eq!(to_coordinator(&effects), [ToCoordinator::Discard, ToCoordinator::Shutdown]);
}

#[test]
fn a_commit_is_repeated_by_another_coordinator_when_one_is_lost() {
    let mut job = harness(Partitioner::Hash, fixed_delay(9)).committing();
    let effects = job.coordinator(FromCoordinator::Lost { reason: "signal 9".to_owned() });
    assert_eq!(to_coordinator(&effects), [ToCoordinator::Restart]);
    assert!(matches!(&effects[0], JobMasterEffect::Warning(text) if text.contains("signal 9")), "{effects:?}");
    assert_eq!(job.status(), JobStatus::Running);
    // It has the output made visible before it removes what the lost one left.
    let restored = Restored { checkpoint: 0, enumerators: vec![], committables: vec![committable(), committable()] };
    let (run_id, lost) = (format!("{}-2", job_id()), format!("{}-1", job_id()));
    let open = ToCoordinator::Open { run_id, lost_run_ids: vec![lost], restored: Some(restored) };
    assert_eq!(to_coordinator(&job.coordinator(FromCoordinator::Started)), [open]);
    assert_eq!(to_coordinator(&job.coordinator(FromCoordinator::Opened(Ok(())))), [final_commit()]);
    let effects = job.coordinator(committed(Ok(())));
    assert_eq!(report(&effects).status, JobStatus::Finished);
}

#[test]
fn another_coordinator_that_cannot_open_fails_the_commit() {
    let mut job = harness(Partitioner::Hash, fixed_delay(9)).committing();
    job.coordinator(FromCoordinator::Lost { reason: "signal 9".to_owned() });
    job.coordinator(FromCoordinator::Started);
    let effects = job.coordinator(FromCoordinator::Opened(Err("no such folder".to_owned())));
    let message = report(&effects).failure.unwrap().failure.message;
    assert!(message.contains("could not finish") && message.contains("no such folder"), "{message}");
}

#[test]
fn coordinators_lost_again_and_again_while_they_commit_leave_the_outcome_unknown() {
    let mut job = harness(Partitioner::Hash, fixed_delay(9)).committing();
    for _ in 0..3 {
        job.coordinator(FromCoordinator::Lost { reason: "signal 9".to_owned() });
        job.coordinator(FromCoordinator::Started);
    }
    let effects = job.coordinator(FromCoordinator::Lost { reason: "signal 9".to_owned() });
    let report = report(&effects);
    let message = report.failure.unwrap().failure.message;
    assert!(message.contains("it is not known how much of the output is visible"), "{message}");
    assert_eq!((report.status, to_coordinator(&effects)), (JobStatus::Failed, vec![]));
}

#[test]
fn a_coordinator_that_opens_nothing_is_killed() {
    let mut job = harness(Partitioner::Hash, fixed_delay(9));
    job.send(JobMasterEvent::Start);
    let timeout = JobMasterOptions::default().worker_start_timeout;
    assert_eq!(to_coordinator(&job.pass(timeout)), [ToCoordinator::Kill]);
    let effects = job.coordinator(FromCoordinator::Lost { reason: "signal 9".to_owned() });
    let message = report(&effects).failure.unwrap().failure.message;
    let expect = "it was killed because it took longer than 60s to look at the job's inputs and outputs";
    assert!(message.contains(expect) && message.contains("weir.worker.start-timeout"), "{message}");
}

#[test]
fn a_coordinator_that_does_not_reset_is_killed_and_replaced() {
    let mut job = harness(Partitioner::Forward, fixed_delay(9)).running();
    job.fail(0, 1, task(1, 0));
    job.change(0, 1, task(0, 0), ExecutionState::Canceled);
    let effects = job.pass(DELAY);
    assert_eq!(
        to_coordinator(&effects),
        [ToCoordinator::ResetTasks { tasks: vec![task(0, 0), task(1, 0)], restored: None }]
    );
    assert_eq!(to_coordinator(&job.pass(JobMasterOptions::default().worker_start_timeout)), [ToCoordinator::Kill]);
    let effects = job.coordinator(FromCoordinator::Lost { reason: "signal 9".to_owned() });
    assert_eq!(statuses(&effects), [JobStatus::Restarting]);
}

#[test]
fn a_commit_that_never_ends_can_be_canceled() {
    let timeout = Duration::from_secs(30);
    let options = JobMasterOptions { cancellation_timeout: Some(timeout), ..fixed_delay(9) };
    let mut job = harness(Partitioner::Hash, options).committing();
    assert_eq!(statuses(&job.pass(100 * timeout)), []);
    job.send(JobMasterEvent::CancelRequested);
    job.pass(timeout / 2);
    job.send(JobMasterEvent::CancelRequested);
    let effects = job.pass(timeout / 2);
    let report = report(&effects);
    let message = report.failure.unwrap().failure.message;
    assert!(message.contains("it is not known how much of the output is visible"), "{message}");
    assert_eq!((report.status, job.coordinator(committed(Ok(())))), (JobStatus::Failed, vec![]));
}

#[test]
fn a_commit_that_ends_in_time_outdoes_a_cancellation() {
    let mut job = harness(Partitioner::Hash, fixed_delay(9)).committing();
    job.send(JobMasterEvent::CancelRequested);
    let effects = job.coordinator(committed(Ok(())));
    assert_eq!(report(&effects).status, JobStatus::Finished);
}

#[test]
fn a_coordinator_lost_before_it_is_open_fails_the_job() {
    let mut job = harness(Partitioner::Hash, fixed_delay(9));
    job.send(JobMasterEvent::Start);
    let effects = job.coordinator(FromCoordinator::Lost { reason: "exit code 1".to_owned() });
    assert_eq!(report(&effects).status, JobStatus::Failed);
    assert_eq!(to_coordinator(&effects), []);
}

#[test]
fn without_a_strategy_a_failure_ends_the_job_and_is_told() {
    let mut job = job().running();
    assert_eq!(to_task_managers(&job.fail(0, 2, task(1, 1))), ["tm-1 cancel 0 all", "tm-2 cancel 0 all"]);
    job.from(1, changes(0, &[(task(0, 0), ExecutionState::Canceled), (task(1, 0), ExecutionState::Canceled)]));
    let effects = job.change(0, 2, task(0, 1), ExecutionState::Canceled);
    assert_eq!(to_coordinator(&effects), [ToCoordinator::Discard, ToCoordinator::Shutdown]);
    let report = report(&effects);
    let failure = report.failure.unwrap();
    assert_eq!((failure.task_name.as_deref(), failure.failure.message.as_str()), (Some("V1 (2/2)"), "boom"));
    assert_eq!((failure.host.as_deref(), report.not_restarted), (Some("host-2"), None));
}

#[test]
fn a_report_on_a_task_the_job_does_not_have_fails_it() {
    let mut job = harness(Partitioner::Hash, fixed_delay(9)).running();
    let effects = job.change(0, 2, task(5, 5), ExecutionState::Running);
    assert_eq!(statuses(&effects), [JobStatus::Failing]);
}

#[test]
fn stuck_tasks_are_killed_and_named() {
    let mut job = job().running();
    job.send(JobMasterEvent::CancelRequested);
    job.from(1, changes(0, &[(task(0, 0), ExecutionState::Canceled), (task(1, 0), ExecutionState::Canceled)]));
    job.change(0, 2, task(0, 1), ExecutionState::Canceled);
    let effects = job.pass(std::time::Duration::from_secs(180));
    assert_eq!(to_task_managers(&effects), ["tm-2 kill 0"]);
    let report = report(&effects);
    assert_eq!((report.status, report.stuck_tasks), (JobStatus::Canceled, vec!["V1 (2/2)".to_owned()]));
    assert_eq!(report.failure, None, "it was canceled");
    let [shown] = &job.master.view().failures[..] else { panic!("they are not shown") };
    assert_eq!(shown.task_name.as_deref(), Some("V1 (2/2)"));
    assert!(shown.failure.message.contains("did not stop within 180s (task.cancellation.timeout)"), "{shown:?}");
}

/// Cancels, and expects messages to TaskManagers and whether that ends the job at once.
fn check_cancel(mut job: Harness, expect: &[&str], ends: bool) -> Harness {
    let effects = job.send(JobMasterEvent::CancelRequested);
    assert_eq!(to_task_managers(&effects), expect);
    assert_eq!(job.status(), if ends { JobStatus::Canceled } else { JobStatus::Cancelling });
    if ends {
        assert_eq!(report(&effects).status, JobStatus::Canceled);
        assert_eq!(to_coordinator(&effects).last(), Some(&ToCoordinator::Shutdown));
    }
    job
}

#[test]
fn a_job_can_be_canceled_on_every_part_of_its_way() {
    check_cancel(job(), &[], true);
    let mut opening = job();
    opening.send(JobMasterEvent::Start);
    check_cancel(opening, &[], true);
    check_cancel(job().waiting(), &[], true);
    check_cancel(job().preparing(), &["tm-1 kill 0", "tm-2 kill 0"], true);
    let mut running = check_cancel(job().running(), &["tm-1 cancel 0 all", "tm-2 cancel 0 all"], false);
    // What finishes all the same is not wanted.
    let effects = running.change(0, 1, task(1, 0), ExecutionState::Finished);
    assert_eq!(effects, []);

    let mut restarting = harness(Partitioner::Hash, fixed_delay(1)).running();
    restarting.lose(1);
    let mut restarting = check_cancel(restarting, &[], false);
    restarting.change(0, 2, task(0, 1), ExecutionState::Canceled);
    let effects = restarting.change(0, 2, task(1, 1), ExecutionState::Canceled);
    assert_eq!(report(&effects).status, JobStatus::Canceled);
    assert!(gives_back_slots(&effects));

    let mut delayed = harness(Partitioner::Hash, fixed_delay(1)).running();
    delayed.lose(1);
    delayed.lose(2);
    check_cancel(delayed, &[], true);

    let mut reopening = harness(Partitioner::Hash, fixed_delay(1)).waiting();
    reopening.coordinator(FromCoordinator::Lost { reason: "gone".to_owned() });
    reopening.pass(DELAY);
    check_cancel(reopening, &[], true);
}

#[test]
fn a_job_whose_output_is_being_made_visible_cannot_be_canceled() {
    let mut job = job().committing();
    assert_eq!(statuses(&job.send(JobMasterEvent::CancelRequested)), []);
    assert_eq!(job.lose(1), []);
    let effects = job.coordinator(committed(Ok(())));
    assert_eq!(report(&effects).status, JobStatus::Finished);
}
