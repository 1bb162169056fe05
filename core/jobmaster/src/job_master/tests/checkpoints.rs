//! Checkpoints, from their trigger to what is restored from them.

use std::sync::Arc;
use std::time::Duration;

use weir_checkpoint::{
    CheckpointMetadata, CheckpointOptions, CheckpointStatus, CompletedCheckpoint, ListSnapshot, Location,
    OperatorSnapshot, Redistribution, RequestOutcome, RestoreMode, Schema, StopMode, TaskSnapshot,
};
use weir_model::{
    CheckpointAcknowledgement, CheckpointDecline, CheckpointKind, Committable, DeclineCause, ExecutionState,
    FailureKind, FromTaskManager, JobStatus, OperatorId, Partitioner, SnapshotMetrics, TaskChange, TaskFailure, TaskId,
    ToTaskManager,
};

use super::harness::*;
use crate::testing::chain;
use crate::{
    FromCoordinator, JobMaster, JobMasterEffect, JobMasterError, JobMasterEvent, JobMasterOptions, JobSpec,
    RestoreFrom, Restored, ToCoordinator,
};

const INTERVAL: Duration = Duration::from_secs(10);
const ALL: [TaskId; 4] = [
    TaskId { vertex: 0, subtask: 0 },
    TaskId { vertex: 0, subtask: 1 },
    TaskId { vertex: 1, subtask: 0 },
    TaskId { vertex: 1, subtask: 1 },
];

fn every(interval: Duration) -> CheckpointOptions {
    CheckpointOptions { interval: Some(interval), ..CheckpointOptions::default() }
}

/// Two vertices of two subtasks, with checkpoints in memory.
fn job_with(checkpointing: CheckpointOptions, partitioner: Partitioner, options: JobMasterOptions) -> Harness {
    let spec = JobSpec { checkpointing, ..spec(chain(&[2, 2], partitioner)) };
    Harness::of(JobMaster::new(spec, options, NOW).unwrap())
}

fn job() -> Harness {
    job_with(every(INTERVAL), Partitioner::Hash, fixed_delay(9)).running()
}

/// As [`job`], of two regions.
fn two_regions() -> Harness {
    job_with(every(INTERVAL), Partitioner::Forward, fixed_delay(9)).running()
}

fn list(name: &str, content: &[u8]) -> ListSnapshot {
    ListSnapshot {
        name: name.to_owned(),
        schema: Schema::Unsigned(8),
        redistribution: Redistribution::Split,
        lengths: vec![content.len() as u32],
        location: Location::Inline(content.to_vec()),
        items: 0..1,
    }
}

/// The state of a task: a byte.
fn snapshot(task: TaskId, content: u8) -> TaskSnapshot {
    let operator = OperatorId::from_seed(format!("V{}.0", task.vertex).as_bytes());
    let operators = vec![OperatorSnapshot { operator, tables: Vec::new(), lists: vec![list("state", &[content])] }];
    TaskSnapshot { operators, finished: false }
}

/// What a sink prepared.
fn output(content: u8) -> Committable {
    Committable { node: 1, payload: vec![content] }
}

impl Harness {
    /// The coordinator process answers.
    fn snapshot_enumerators(&mut self, checkpoint: u64) -> Vec<JobMasterEffect> {
        let result = Ok(vec![(0, vec![checkpoint as u8])]);
        self.coordinator(FromCoordinator::EnumeratorsSnapshotted { checkpoint, result })
    }

    /// A task's state is its position times ten and the checkpoint; sinks hand over the same.
    fn acknowledge(&mut self, of: u32, task: TaskId, checkpoint: u64) -> Vec<JobMasterEffect> {
        let content = content(task, checkpoint);
        let acknowledgement = CheckpointAcknowledgement {
            checkpoint,
            task,
            snapshot: snapshot(task, content).encode(),
            committables: if task.vertex == 1 { vec![output(content)] } else { Vec::new() },
            metrics: SnapshotMetrics::default(),
        };
        let message = FromTaskManager::CheckpointAcknowledged {
            deployment: deployment(of),
            acknowledgement: Box::new(acknowledgement),
        };
        self.from(task.subtask + 1, message)
    }

    fn decline(&mut self, task: TaskId, checkpoint: u64, cause: DeclineCause) -> Vec<JobMasterEffect> {
        let reason = "no space left".to_owned();
        let decline = Box::new(CheckpointDecline { checkpoint, task, cause, reason, committables: vec![output(99)] });
        self.from(task.subtask + 1, FromTaskManager::CheckpointDeclined { deployment: deployment(0), decline })
    }

    /// Lets a checkpoint begin and complete, with all tasks of deployment 0; what its completion brings.
    fn complete(&mut self, checkpoint: u64) -> Vec<JobMasterEffect> {
        let effects = self.pass(INTERVAL);
        assert_eq!(to_coordinator(&effects), [ToCoordinator::SnapshotEnumerators { checkpoint }]);
        self.snapshot_enumerators(checkpoint);
        let [.., last] = ALL.map(|task| self.acknowledge(0, task, checkpoint));
        last
    }

    fn unreadable(&mut self, of: u32, task: TaskId) -> Vec<JobMasterEffect> {
        let failure = Some(TaskFailure::new(FailureKind::State, "file:///c/chk-2/x is damaged"));
        let change = TaskChange { task, state: ExecutionState::Failed, failure, committables: vec![] };
        let message = FromTaskManager::TasksChanged { deployment: deployment(of), changes: vec![change] };
        self.from(task.subtask + 1, message)
    }

    fn cancel_rest(&mut self, of: u32, tasks: &[TaskId]) {
        for task in tasks {
            self.change(of, task.subtask + 1, *task, ExecutionState::Canceled);
        }
    }

    fn ready_again(&mut self, of: u32) -> Vec<JobMasterEffect> {
        self.ready(of, 1);
        self.ready(of, 2);
        self.coordinator(FromCoordinator::TasksReset(Ok(())))
    }
}

fn content(task: TaskId, checkpoint: u64) -> u8 {
    (10 * (2 * task.vertex + task.subtask)) as u8 + checkpoint as u8
}

fn both_outputs(checkpoint: u64) -> Vec<Committable> {
    vec![output(content(task(1, 0), checkpoint)), output(content(task(1, 1), checkpoint))]
}

fn commit(checkpoint: u64) -> ToCoordinator {
    ToCoordinator::Commit { checkpoint: Some(checkpoint), committables: both_outputs(checkpoint) }
}

fn restored(checkpoint: u64, committables: Vec<Committable>) -> Option<Restored> {
    Some(Restored { checkpoint, enumerators: vec![(0, vec![checkpoint as u8])], committables })
}

/// What is restored, by task: its byte, and whether it had finished.
fn restores(effects: &[JobMasterEffect]) -> Vec<(TaskId, Option<u8>, bool)> {
    let messages = effects.iter().filter_map(|effect| match effect {
        JobMasterEffect::TaskManager { message: ToTaskManager::Deploy { restore, .. }, .. } => Some(restore),
        _ => None,
    });
    let decoded = messages.flatten().map(|(task, bytes)| {
        let snapshot = TaskSnapshot::decode(bytes).unwrap();
        let list = snapshot.operators.iter().flat_map(|operator| &operator.lists).next();
        let byte = list.map(|list| match &list.location {
            Location::Inline(bytes) => bytes[0],
            Location::File(_) | Location::Sorted => unreachable!(),
        });
        (*task, byte, snapshot.finished)
    });
    let mut all: Vec<_> = decoded.collect();
    all.sort();
    all
}

fn done(effects: &[JobMasterEffect]) -> Vec<(u64, Result<RequestOutcome, String>)> {
    let outcome = |effect: &JobMasterEffect| match effect {
        JobMasterEffect::RequestDone { request, result } => Some((*request, result.clone())),
        _ => None,
    };
    effects.iter().filter_map(outcome).collect()
}

fn warnings(effects: &[JobMasterEffect]) -> Vec<String> {
    let warning = |effect: &JobMasterEffect| match effect {
        JobMasterEffect::Warning(text) => Some(text.clone()),
        _ => None,
    };
    effects.iter().filter_map(warning).collect()
}

#[test]
fn a_checkpoint_by_interval_goes_to_sources_and_completes_when_all_have_acknowledged_it() {
    let mut job = job();
    assert_eq!(job.pass(INTERVAL - Duration::from_millis(1)), []);
    let effects = job.pass(Duration::from_millis(1));
    assert_eq!(to_coordinator(&effects), [ToCoordinator::SnapshotEnumerators { checkpoint: 1 }]);
    assert_eq!(to_task_managers(&effects), Vec::<String>::new());
    let effects = job.snapshot_enumerators(1);
    assert_eq!(to_task_managers(&effects), ["tm-1 trigger 0 1 0.0", "tm-2 trigger 0 1 0.1"]);
    for task in &ALL[..3] {
        assert_eq!(job.acknowledge(0, *task, 1), []);
    }
    // Of another deployment, of another TaskManager's task, twice.
    assert_eq!(job.acknowledge(1, ALL[3], 1), []);
    assert_eq!(job.acknowledge(0, ALL[0], 1), []);
    let effects = job.acknowledge(0, ALL[3], 1);
    assert_eq!(to_task_managers(&effects), ["tm-1 completed 0 1", "tm-2 completed 0 1"]);
    assert_eq!(to_coordinator(&effects), [ToCoordinator::CheckpointCompleted { checkpoint: 1 }, commit(1)]);
    job.coordinator(FromCoordinator::CommitDone { checkpoint: Some(1), result: Ok(()) });
    let view = job.master.checkpoints();
    assert_eq!((view.counts.completed, view.counts.in_progress), (1, 0));
}

#[test]
fn metadata_is_written_before_a_checkpoint_is_complete_and_the_older_one_is_removed() {
    let checkpointing = CheckpointOptions { directory: Some("file:///c".to_owned()), ..every(INTERVAL) };
    let mut job = job_with(checkpointing, Partitioner::Hash, fixed_delay(9)).running();
    for checkpoint in 1..=2 {
        let effects = job.complete(checkpoint);
        let [JobMasterEffect::WriteMetadata { checkpoint: written, uri, bytes }] = &effects[..] else {
            panic!("{effects:?}")
        };
        let directory = format!("file:///c/{}/chk-{checkpoint}", job_id());
        assert_eq!((*written, uri), (checkpoint, &format!("{directory}/_metadata")));
        assert_eq!(CheckpointMetadata::decode(bytes, &directory).unwrap().checkpoint, checkpoint);
        let effects = job.send(JobMasterEvent::MetadataWritten { checkpoint, result: Ok(()) });
        assert_eq!(to_coordinator(&effects)[0], ToCoordinator::CheckpointCompleted { checkpoint });
        let removed: String = effects
            .iter()
            .filter(|effect| matches!(effect, JobMasterEffect::Remove { .. }))
            .map(|effect| format!("{effect:?}"))
            .collect();
        assert_eq!((removed.contains("/chk-1"), removed.contains("/chk-2")), (checkpoint == 2, false), "{removed}");
    }
}

#[test]
fn after_a_failure_everything_goes_on_from_the_last_checkpoint() {
    let mut job = job();
    job.complete(1);
    job.coordinator(FromCoordinator::CommitDone { checkpoint: Some(1), result: Ok(()) });
    job.complete(2);
    // A third one has begun, and nothing becomes of it.
    job.pass(INTERVAL);
    job.snapshot_enumerators(3);
    job.acknowledge(0, ALL[2], 3);
    let effects = job.fail(0, 2, ALL[3]);
    assert!(to_task_managers(&effects).contains(&"tm-1 aborted 0 3".to_owned()), "{effects:?}");
    job.cancel_rest(0, &ALL[..3]);
    let effects = job.pass(DELAY);
    // The commit of the second was not confirmed.
    let reset = ToCoordinator::ResetTasks { tasks: vec![], restored: restored(2, both_outputs(2)) };
    assert_eq!(to_coordinator(&effects), [reset]);
    let effects = job.ready_again(1);
    assert_eq!(restores(&effects), ALL.map(|task| (task, Some(content(task, 2)), false)));
    // Checkpoints begin again when all tasks run, with the next number.
    for task in &ALL[..3] {
        job.change(1, task.subtask + 1, *task, ExecutionState::Running);
    }
    assert_eq!(to_coordinator(&job.pass(2 * INTERVAL)), []);
    job.change(1, 2, ALL[3], ExecutionState::Running);
    assert_eq!(to_coordinator(&job.pass(INTERVAL)), [ToCoordinator::SnapshotEnumerators { checkpoint: 4 }]);
}

#[test]
fn a_failed_region_goes_on_from_the_last_checkpoint_and_the_others_go_on() {
    let mut job = two_regions();
    job.complete(1);
    job.fail(0, 2, task(1, 1));
    job.change(0, 2, task(0, 1), ExecutionState::Canceled);
    let effects = job.pass(DELAY);
    // The commit is under way; the enumerators stay as they are.
    let reset = ToCoordinator::ResetTasks { tasks: vec![task(0, 1), task(1, 1)], restored: restored(1, vec![]) };
    assert_eq!(to_coordinator(&effects), [reset]);
    job.ready(1, 2);
    let effects = job.coordinator(FromCoordinator::TasksReset(Ok(())));
    assert_eq!(to_task_managers(&effects), ["tm-2 deploy 1"]);
    assert_eq!(restores(&effects), [task(0, 1), task(1, 1)].map(|task| (task, Some(content(task, 1)), false)));
    for vertex in 0..2 {
        job.change(1, 2, task(vertex, 1), ExecutionState::Running);
    }
    // The next checkpoint is of two deployments.
    job.pass(INTERVAL);
    assert_eq!(to_task_managers(&job.snapshot_enumerators(2)), ["tm-1 trigger 0 2 0.0", "tm-2 trigger 1 2 0.1"]);
    for (of, task) in [(0, task(0, 0)), (0, task(1, 0)), (1, task(0, 1))] {
        assert_eq!(job.acknowledge(of, task, 2), []);
    }
    let effects = job.acknowledge(1, task(1, 1), 2);
    assert_eq!(to_task_managers(&effects), ["tm-1 completed 0 2", "tm-2 completed 1 2"]);
    assert!(to_coordinator(&effects).contains(&commit(2)));
}

#[test]
fn a_lost_coordinator_is_replaced_by_one_that_commits_first() {
    let mut job = job();
    job.complete(1);
    job.coordinator(FromCoordinator::Lost { reason: "signal 9".to_owned() });
    job.cancel_rest(0, &ALL);
    job.pass(DELAY);
    let effects = job.coordinator(FromCoordinator::Started);
    let (run_id, lost) = (format!("{}-2", job_id()), format!("{}-1", job_id()));
    let open = ToCoordinator::Open { run_id, lost_run_ids: vec![lost], restored: restored(1, both_outputs(1)) };
    assert_eq!(to_coordinator(&effects), [open]);
    job.ready(1, 1);
    job.ready(1, 2);
    let effects = job.coordinator(FromCoordinator::Opened(Ok(())));
    assert_eq!(to_coordinator(&effects), []);
    assert_eq!(restores(&effects), ALL.map(|task| (task, Some(content(task, 1)), false)));
}

#[test]
fn a_commit_of_a_checkpoint_that_fails_is_tried_again_after_a_restart() {
    let mut job = job();
    job.complete(1);
    let result = Err("the NameNode is in safe mode".to_owned());
    let effects = job.coordinator(FromCoordinator::CommitDone { checkpoint: Some(1), result });
    assert_eq!(statuses(&effects), [JobStatus::Restarting]);
    let message = &job.master.view().failures[0].failure.message;
    assert!(message.contains("output of checkpoint 1") && message.contains("safe mode"), "{message}");
    job.cancel_rest(0, &ALL);
    let reset = ToCoordinator::ResetTasks { tasks: vec![], restored: restored(1, both_outputs(1)) };
    assert_eq!(to_coordinator(&job.pass(DELAY)), [reset]);
}

#[test]
fn what_no_checkpoint_has_is_committed_when_the_job_has_finished() {
    let mut job = job();
    job.complete(1);
    job.coordinator(FromCoordinator::CommitDone { checkpoint: Some(1), result: Ok(()) });
    // Refused, but what was handed over with the refusal counts.
    job.pass(INTERVAL);
    job.snapshot_enumerators(2);
    job.decline(task(1, 0), 2, DeclineCause::NotReady);
    let last = ALL.map(|task| job.change(0, task.subtask + 1, task, ExecutionState::Finished));
    let committables = vec![output(99), committable(), committable()];
    assert_eq!(to_coordinator(&last[3]), [ToCoordinator::Commit { checkpoint: None, committables }]);
    let effects = job.coordinator(committed(Ok(())));
    assert_eq!(report(&effects).status, JobStatus::Finished);
}

#[test]
fn a_declined_checkpoint_is_aborted_and_too_many_of_them_fail_the_job() {
    let checkpointing = CheckpointOptions { tolerable_failures: Some(1), ..every(INTERVAL) };
    let mut job = job_with(checkpointing, Partitioner::Hash, fixed_delay(9)).running();
    job.pass(INTERVAL);
    job.snapshot_enumerators(1);
    let effects = job.decline(task(1, 1), 1, DeclineCause::Failed);
    assert_eq!(to_task_managers(&effects), ["tm-1 aborted 0 1", "tm-2 aborted 0 1"]);
    assert_eq!(statuses(&effects), []);
    job.pass(INTERVAL);
    job.snapshot_enumerators(2);
    let effects = job.decline(task(1, 1), 2, DeclineCause::Failed);
    assert_eq!(statuses(&effects), [JobStatus::Restarting]);
    let message = &job.master.view().failures[0].failure.message;
    assert!(message.contains("tolerable-failed-checkpoints") && message.contains("no space left"), "{message}");
}

#[test]
fn a_checkpoint_that_takes_too_long_is_aborted() {
    let checkpointing = CheckpointOptions { timeout: INTERVAL / 2, tolerable_failures: None, ..every(INTERVAL) };
    let mut job = job_with(checkpointing, Partitioner::Hash, fixed_delay(9)).running();
    job.pass(INTERVAL);
    job.snapshot_enumerators(1);
    let effects = job.pass(INTERVAL / 2);
    assert_eq!(to_task_managers(&effects), ["tm-1 aborted 0 1", "tm-2 aborted 0 1"]);
    let view = job.master.checkpoints();
    assert!(matches!(&view.history[0].status, CheckpointStatus::Failed { .. }), "{view:?}");
    assert_eq!(job.status(), JobStatus::Running);
}

#[test]
fn finished_tasks_are_part_of_a_checkpoint_and_finish_at_once_when_they_are_restored() {
    let mut job = job_with(every(INTERVAL), Partitioner::Forward, fixed_delay(9)).running();
    for vertex in 0..2 {
        job.change(0, 1, task(vertex, 0), ExecutionState::Finished);
    }
    job.pass(INTERVAL);
    // Its worker is gone.
    assert_eq!(to_task_managers(&job.snapshot_enumerators(1)), ["tm-2 trigger 0 1 0.1"]);
    job.acknowledge(0, task(0, 1), 1);
    let effects = job.acknowledge(0, task(1, 1), 1);
    let committables = vec![committable(), output(content(task(1, 1), 1))];
    let commit = ToCoordinator::Commit { checkpoint: Some(1), committables };
    assert_eq!(to_coordinator(&effects), [ToCoordinator::CheckpointCompleted { checkpoint: 1 }, commit]);
    job.coordinator(FromCoordinator::CommitDone { checkpoint: Some(1), result: Err("x".to_owned()) });
    job.cancel_rest(0, &[task(0, 1), task(1, 1)]);
    job.pass(DELAY);
    let effects = job.ready_again(1);
    let finished = |vertex| (task(vertex, 0), None, true);
    let running = |vertex| (task(vertex, 1), Some(content(task(vertex, 1), 1)), false);
    assert_eq!(restores(&effects), [finished(0), running(0), finished(1), running(1)]);
}

#[test]
fn a_job_that_stops_with_a_savepoint_ends_as_finished_and_whoever_asked_is_told_then() {
    let mut job = job();
    let directory = Some("file:///s".to_owned());
    let ask = JobMasterEvent::TriggerSavepoint { request: 7, directory, stop: Some(StopMode::Suspend) };
    assert_eq!(to_coordinator(&job.send(ask)), [ToCoordinator::SnapshotEnumerators { checkpoint: 1 }]);
    let effects = job.snapshot_enumerators(1);
    let JobMasterEffect::TaskManager { message: ToTaskManager::TriggerCheckpoint { trigger, .. }, .. } = &effects[0]
    else {
        panic!("{effects:?}")
    };
    assert_eq!(trigger.kind, CheckpointKind::Suspend);
    for task in ALL {
        job.acknowledge(0, task, 1);
    }
    let effects = job.send(JobMasterEvent::MetadataWritten { checkpoint: 1, result: Ok(()) });
    assert_eq!(to_task_managers(&effects), ["tm-1 completed 0 1", "tm-2 completed 0 1"]);
    assert_eq!(to_coordinator(&effects), [ToCoordinator::CheckpointCompleted { checkpoint: 1 }, commit(1)]);
    job.coordinator(FromCoordinator::CommitDone { checkpoint: Some(1), result: Ok(()) });
    let ends = ALL.map(|task| {
        let change = TaskChange { task, state: ExecutionState::Finished, failure: None, committables: vec![] };
        let message = FromTaskManager::TasksChanged { deployment: deployment(0), changes: vec![change] };
        job.from(task.subtask + 1, message)
    });
    assert_eq!(to_coordinator(&ends[3]), [ToCoordinator::Commit { checkpoint: None, committables: vec![] }]);
    let effects = job.coordinator(committed(Ok(())));
    let [(7, Ok(RequestOutcome { checkpoint: 1, path: Some(path) }))] = &done(&effects)[..] else {
        panic!("{effects:?}")
    };
    assert!(path.starts_with("file:///s/savepoint-070707-"), "{path}");
    assert_eq!(report(&effects).status, JobStatus::Finished);
}

#[test]
fn a_savepoint_that_a_cancellation_interrupts_is_told() {
    let mut job = job();
    let directory = Some("file:///s".to_owned());
    job.send(JobMasterEvent::TriggerSavepoint { request: 7, directory, stop: None });
    let effects = job.send(JobMasterEvent::CancelRequested);
    let [(7, Err(reason))] = &done(&effects)[..] else { panic!("{effects:?}") };
    assert!(reason.contains("canceled"), "{reason}");
    // And before anything runs there is none.
    let mut early = job_with(every(INTERVAL), Partitioner::Hash, fixed_delay(9)).waiting();
    let effects = early.send(JobMasterEvent::TriggerCheckpoint { request: 8, full: false });
    let [(8, Err(reason))] = &done(&effects)[..] else { panic!("{effects:?}") };
    assert!(reason.contains("not all tasks of the job are running"), "{reason}");
}

#[test]
fn state_that_cannot_be_read_sends_everything_back_to_the_checkpoint_before() {
    let checkpointing = CheckpointOptions { retained: 2, ..every(INTERVAL) };
    let mut job = job_with(checkpointing, Partitioner::Forward, fixed_delay(9)).running();
    for checkpoint in 1..=2 {
        job.complete(checkpoint);
        job.coordinator(FromCoordinator::CommitDone { checkpoint: Some(checkpoint), result: Ok(()) });
    }
    job.fail(0, 2, task(1, 1));
    job.change(0, 2, task(0, 1), ExecutionState::Canceled);
    job.pass(DELAY);
    job.ready(1, 2);
    job.coordinator(FromCoordinator::TasksReset(Ok(())));
    let effects = job.unreadable(1, task(0, 1));
    assert!(warnings(&effects)[0].contains("checkpoint 2 cannot be read"), "{effects:?}");
    // Also the region that ran.
    assert!(to_task_managers(&effects).contains(&"tm-1 cancel 0 all".to_owned()), "{effects:?}");
    let told = job.master.view().failures;
    let texts: Vec<_> = told[0].concurrent.iter().map(|failure| failure.failure.message.as_str()).collect();
    assert!(
        texts.iter().any(|text| text.contains("checkpoint 2 cannot be read") && text.contains("chk-2/x")),
        "{told:?}"
    );
    // The other task of the region says the same; once is enough.
    assert_eq!(warnings(&job.unreadable(1, task(1, 1))), Vec::<String>::new());
    job.cancel_rest(0, &[task(0, 0), task(1, 0)]);
    let effects = job.pass(DELAY);
    assert_eq!(to_coordinator(&effects), [ToCoordinator::ResetTasks { tasks: vec![], restored: restored(1, vec![]) }]);
    let effects = job.ready_again(2);
    assert_eq!(restores(&effects), ALL.map(|task| (task, Some(content(task, 1)), false)));
    // When that cannot be read either, the job must not start over.
    job.unreadable(2, task(0, 0));
    job.cancel_rest(2, &ALL[1..]);
    let effects = job.pass(DELAY);
    let message = report(&effects).failure.unwrap().failure.message;
    assert!(message.contains("must not start over") && message.contains("chk-2/x"), "{message}");
}

/// What a job of these vertices had in a savepoint.
fn savepoint(vertices: &[u32]) -> CompletedCheckpoint {
    let spec = JobSpec { checkpointing: every(INTERVAL), ..spec(chain(vertices, Partitioner::Hash)) };
    let operator = |vertex: usize| spec.graph.vertices[vertex].operators[0].clone();
    let state = |vertex: usize| weir_checkpoint::OperatorMetadata {
        id: operator(vertex).id,
        name: operator(vertex).name,
        uid: None,
        parallelism: 1,
        max_parallelism: 32_768,
        finished: vec![],
        subtasks: vec![weir_checkpoint::SubtaskState {
            subtask: 0,
            tables: vec![],
            lists: vec![ListSnapshot { lengths: vec![1, 1], items: 0..2, ..list("state", &[5, 6]) }],
        }],
    };
    let metadata = CheckpointMetadata {
        job: spec.id,
        job_name: "old".to_owned(),
        checkpoint: 40,
        timestamp: 0,
        kind: CheckpointKind::Savepoint,
        enumerators: vec![(operator(0).id, vec![40])],
        committables: vec![(operator(1).id, vec![vec![77]])],
        operators: (0..vertices.len()).map(state).collect(),
    };
    CompletedCheckpoint { metadata: Arc::new(metadata), directory: Some("file:///s/savepoint-1".to_owned()) }
}

fn start_from(checkpoint: CompletedCheckpoint, allow_non_restored: bool) -> Result<Harness, JobMasterError> {
    let restore = Some(RestoreFrom { checkpoint, mode: RestoreMode::NoClaim, allow_non_restored });
    let spec = JobSpec { restore, checkpointing: every(INTERVAL), ..spec(chain(&[2, 2], Partitioner::Hash)) };
    Ok(Harness::of(JobMaster::new(spec, fixed_delay(1), NOW)?))
}

#[test]
fn a_job_starts_from_a_savepoint_with_other_numbers_of_subtasks() {
    let mut job = start_from(savepoint(&[1, 1]), false).unwrap();
    let effects = job.send(JobMasterEvent::Start);
    let from = restored(40, vec![output(77)]);
    let open = ToCoordinator::Open { run_id: format!("{}-1", job_id()), lost_run_ids: vec![], restored: from };
    assert_eq!(to_coordinator(&effects), [open]);
    job.coordinator(FromCoordinator::Opened(Ok(())));
    job.grant(&[(1, 0), (2, 0)]);
    job.ready(0, 1);
    let effects = job.ready(0, 2);
    // An item each; the byte is that of the first item of the list, of which each is to take its own.
    assert_eq!(restores(&effects).len(), 4);
    let items: Vec<_> = restores(&effects).into_iter().map(|(task, byte, _)| (task, byte)).collect();
    assert_eq!(items, [(ALL[0], Some(5)), (ALL[1], Some(6)), (ALL[2], Some(5)), (ALL[3], Some(6))]);
    for task in ALL {
        job.change(0, task.subtask + 1, task, ExecutionState::Running);
    }
    assert_eq!(to_coordinator(&job.pass(INTERVAL)), [ToCoordinator::SnapshotEnumerators { checkpoint: 41 }]);
    assert_eq!(job.master.checkpoints().counts.restored, 1);
}

#[test]
fn a_savepoint_with_state_the_job_has_no_operator_for_is_refused_unless_it_may_be_left_behind() {
    let error = start_from(savepoint(&[1, 1, 1]), false).err().unwrap().to_string();
    assert!(error.contains("which the job has not") && error.contains("allowNonRestoredState"), "{error}");
    start_from(savepoint(&[1, 1, 1]), true).unwrap();
}

#[test]
fn state_in_messages_that_does_not_fit_into_one_is_refused_before_it_is_sent() {
    let mut large = savepoint(&[1, 1]);
    let metadata = Arc::make_mut(&mut large.metadata);
    metadata.operators[0].subtasks[0].lists[0] = ListSnapshot {
        lengths: vec![35 << 20; 2],
        items: 0..2,
        location: Location::Inline(vec![0; 70 << 20]),
        ..list("state", &[])
    };
    let mut job = start_from(large, false).unwrap().waiting();
    // Both subtasks in one worker.
    job.grant(&[(1, 0), (1, 1)]);
    let effects = job.ready(0, 1);
    assert_eq!(to_task_managers(&effects), ["tm-1 kill 0"]);
    let message = report(&effects).failure.unwrap().failure.message;
    assert!(message.contains("execution.checkpointing.dir"), "{message}");
}
