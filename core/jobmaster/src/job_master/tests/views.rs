//! What is shown.

use std::time::Duration;

use weir_model::{
    ExecutionState, FailureKind, FromTaskManager, JobStatus, MetricsSnapshot, Partitioner, TaskChange, TaskFailure,
};

use super::harness::*;
use crate::{JobMasterEvent, JobMasterOptions};

const SECOND: Duration = Duration::from_secs(1);

fn millis(time: Duration) -> Option<u64> {
    Some(time.as_millis() as u64)
}

#[test]
fn a_view_tells_where_and_since_when() {
    let mut job = harness(Partitioner::Forward, fixed_delay(3));
    job.pass(SECOND);
    let mut job = job.preparing();
    assert_eq!(job.master.view().vertices[1][0].task_manager.as_ref().map(|id| id.as_str()), Some("tm-1"));
    job.pass(SECOND);
    job.ready(0, 1);
    job.ready(0, 2);
    job.pass(SECOND);
    job.change(0, 1, task(0, 0), ExecutionState::Initializing);
    let view = job.master.view();
    assert_eq!(view.timestamps[JobStatus::Created as usize], millis(NOW));
    assert_eq!(view.timestamps[JobStatus::Running as usize], millis(NOW + SECOND));
    assert_eq!(view.time_in_status[JobStatus::Created as usize], 1000);
    let subtask = &view.vertices[0][0];
    assert_eq!((subtask.state, subtask.attempt, subtask.host.as_str()), (ExecutionState::Initializing, 0, "host-1"));
    let times = [ExecutionState::Scheduled, ExecutionState::Deploying, ExecutionState::Initializing];
    let expect = [1, 2, 3].map(|seconds| millis(NOW + seconds * SECOND));
    assert_eq!(times.map(|state| subtask.timestamps[state as usize]), expect);
    assert_eq!(view.restart_strategy, "fixed delay (5 s, 3 attempts)");
    assert_eq!(Some(view.summary.last_modification), millis(NOW + 3 * SECOND));
    assert_eq!((view.summary.start, view.summary.end, view.summary.bounded), (NOW.as_millis() as u64, None, true));
    let mut expect = [0; ExecutionState::ALL.len()];
    expect[ExecutionState::Deploying as usize] = 3;
    expect[ExecutionState::Initializing as usize] = 1;
    assert_eq!(view.summary.tasks, expect);
}

#[test]
fn metrics_are_those_of_the_current_attempt() {
    let mut job = harness(Partitioner::Forward, fixed_delay(3)).running();
    let report = |of, records_in| FromTaskManager::MetricsReported {
        deployment: deployment(of),
        tasks: vec![
            (task(0, 1), MetricsSnapshot { records_in, ..Default::default() }),
            (task(8, 8), Default::default()),
        ],
    };
    job.from(2, report(0, 100));
    job.pass(2 * SECOND);
    job.from(2, report(0, 300));
    // From a TaskManager that does not run the task.
    job.from(1, report(0, 900));
    let subtask = job.master.view().vertices[0][1].clone();
    assert_eq!((subtask.metrics.records_in, subtask.rates.records_in), (300, 100.0));
    job.lose(2);
    job.pass(DELAY);
    job.from(2, report(0, 900));
    let subtask = job.master.view().vertices[0][1].clone();
    assert_eq!((subtask.metrics.records_in, subtask.rates.records_in, subtask.task_manager), (0, 0.0, None));
}

#[test]
fn the_history_names_root_failures_newest_first_and_is_bounded() {
    let mut job = harness(Partitioner::Hash, JobMasterOptions { history_size: 2, ..fixed_delay(9) }).running();
    for number in 0..3 {
        let failed = |message: &str, kind, subtask| TaskChange {
            task: task(0, subtask),
            state: ExecutionState::Failed,
            failure: Some(TaskFailure::new(kind, message)),
            committables: Vec::new(),
        };
        let changed = |change| FromTaskManager::TasksChanged { deployment: deployment(number), changes: vec![change] };
        job.from(1, changed(failed("connection reset", FailureKind::Network, 0)));
        job.from(2, changed(failed(&format!("boom {number}"), FailureKind::Panic, 1)));
        for subtask in 0..2 {
            job.change(number, subtask + 1, task(1, subtask), ExecutionState::Canceled);
        }
        job.pass(DELAY);
        job.coordinator(crate::FromCoordinator::TasksReset(Ok(())));
        job.ready(number + 1, 1);
        job.ready(number + 1, 2);
    }
    let view = job.master.view();
    assert_eq!((view.failures_truncated, view.restarts), (true, 3));
    let told: Vec<_> = view.failures.iter().map(|failure| failure.failure.message.as_str()).collect();
    assert_eq!(told, ["boom 2", "boom 1"]);
    assert_eq!(view.failures[0].concurrent[0].failure.message, "connection reset");
    assert_eq!(view.failures[0].host.as_deref(), Some("host-2"));
}

#[test]
fn an_ended_job_can_still_be_shown() {
    let mut job = harness(Partitioner::Hash, JobMasterOptions::default()).preparing();
    job.pass(SECOND);
    job.send(JobMasterEvent::CancelRequested);
    let view = job.master.view();
    assert_eq!((view.summary.status, view.summary.end), (JobStatus::Canceled, millis(NOW + SECOND)));
    assert_eq!(view.summary.tasks[ExecutionState::Canceled as usize], 4);
}
