//! A checkpoint under way.

use std::sync::Arc;
use std::time::Duration;

use weir_model::{CheckpointTrigger, DistributionPattern, SnapshotMetrics, TaskId};

use crate::{
    CheckpointJob, CheckpointMetadata, CheckpointStatus, CheckpointView, SubtaskCheckpointView, TaskSnapshot,
    VertexCheckpointView,
};

/// A checkpoint that has begun and is neither complete nor given up.
#[derive(Debug)]
pub(super) struct Pending {
    pub trigger: Arc<CheckpointTrigger>,
    /// Who asked for it.
    pub request: Option<u64>,
    /// When it is given up.
    pub deadline: Duration,
    pub phase: Phase,
    /// By position of the vertex.
    pub enumerators: Vec<(u32, Vec<u8>)>,
    /// By position of the task.
    parts: Vec<Part>,
    /// Number of tasks that have no part in it yet.
    missing: usize,
    /// Number of subtasks that have finished before its barrier, by vertex.
    finished: Vec<u32>,
    pub view: CheckpointView,
}

/// What is awaited.
#[derive(Debug)]
pub(super) enum Phase {
    /// The state of the enumerators.
    Enumerators,
    /// The tasks.
    Tasks,
    /// The metadata file.
    Metadata(Arc<CheckpointMetadata>),
}

/// The part of a task.
#[derive(Debug, Clone)]
pub(super) enum Part {
    Missing,
    Acknowledged(TaskSnapshot),
    /// It finished before the barrier came.
    Finished,
}

impl Pending {
    pub(super) fn new(
        job: &CheckpointJob,
        trigger: CheckpointTrigger,
        request: Option<u64>,
        now: Duration,
        timeout: Duration,
    ) -> Self {
        let vertices = job
            .vertices
            .iter()
            .map(|vertex| VertexCheckpointView { id: vertex.id, subtasks: vec![None; vertex.parallelism as usize] });
        let view = CheckpointView {
            id: trigger.checkpoint,
            kind: trigger.kind,
            status: CheckpointStatus::InProgress,
            triggered: now,
            latest_ack: None,
            checkpointed_size: 0,
            state_size: 0,
            processed_data: 0,
            persisted_data: 0,
            unaligned: false,
            subtasks: job.task_count() as u32,
            acknowledged: 0,
            vertices: vertices.collect(),
        };
        Self {
            trigger: Arc::new(trigger),
            request,
            deadline: now.saturating_add(timeout),
            phase: Phase::Enumerators,
            enumerators: Vec::new(),
            parts: vec![Part::Missing; job.task_count()],
            missing: job.task_count(),
            finished: vec![0; job.vertices.len()],
            view,
        }
    }

    pub(super) fn id(&self) -> u64 {
        self.trigger.checkpoint
    }

    pub(super) fn part(&self, index: usize) -> &Part {
        &self.parts[index]
    }

    pub(super) fn is_missing(&self, index: usize) -> bool {
        matches!(self.parts[index], Part::Missing)
    }

    /// Whether every task has its part.
    pub(super) fn is_covered(&self) -> bool {
        self.missing == 0
    }

    /// Snapshots of tasks that have acknowledged.
    pub(super) fn snapshots(&self) -> impl Iterator<Item = &TaskSnapshot> {
        self.parts.iter().filter_map(|part| match part {
            Part::Acknowledged(snapshot) => Some(snapshot),
            Part::Missing | Part::Finished => None,
        })
    }

    /// The task must be missing.
    pub(super) fn acknowledge(
        &mut self,
        (index, task): (usize, TaskId),
        snapshot: TaskSnapshot,
        metrics: SnapshotMetrics,
        now: Duration,
    ) {
        debug_assert!(self.is_missing(index));
        self.parts[index] = Part::Acknowledged(snapshot);
        self.missing -= 1;
        self.view.state_size += metrics.state_size;
        self.view.checkpointed_size += metrics.checkpointed_size;
        self.view.processed_data += metrics.processed;
        self.view.persisted_data += metrics.persisted;
        self.view.unaligned |= metrics.unaligned;
        self.show(task, SubtaskCheckpointView { acknowledged: now, finished: false, metrics });
    }

    /// The task must be missing.
    pub(super) fn finish(&mut self, (index, task): (usize, TaskId), now: Duration) {
        debug_assert!(self.is_missing(index));
        self.parts[index] = Part::Finished;
        self.missing -= 1;
        self.finished[task.vertex as usize] += 1;
        self.show(
            task,
            SubtaskCheckpointView { acknowledged: now, finished: true, metrics: SnapshotMetrics::default() },
        );
    }

    fn show(&mut self, task: TaskId, part: SubtaskCheckpointView) {
        self.view.acknowledged += 1;
        self.view.latest_ack = Some(part.acknowledged);
        self.view.vertices[task.vertex as usize].subtasks[task.subtask as usize] = Some(part);
    }

    /// Whether no barrier can reach the task: none of its producers sends one, because all have finished before theirs.
    pub(super) fn must_begin(&self, job: &CheckpointJob, task: TaskId) -> bool {
        let consumer = &job.vertices[task.vertex as usize];
        consumer.inputs.iter().all(|input| {
            let producers = job.vertices[input.producer as usize].parallelism;
            // Looked at as a whole first: where all are connected with all, a look at each pair would take long.
            if self.finished[input.producer as usize] == producers {
                return true;
            }
            let mut connected = input.pattern.producers(task.subtask, producers, consumer.parallelism);
            connected.len() < producers as usize
                && connected.all(|subtask| {
                    let producer = TaskId { vertex: input.producer, subtask };
                    job.index_of(producer).is_some_and(|index| matches!(self.parts[index], Part::Finished))
                })
        })
    }

    /// Tasks without a part that must begin the barrier themselves.
    pub(super) fn beginners(&self, job: &CheckpointJob) -> Vec<TaskId> {
        let missing = job.tasks().enumerate().filter(|&(index, _)| self.is_missing(index));
        missing.map(|(_, task)| task).filter(|&task| self.must_begin(job, task)).collect()
    }

    /// Tasks without a part that must begin the barrier themselves, now that `finished` has finished.
    pub(super) fn beginners_after(&self, job: &CheckpointJob, finished: TaskId) -> Vec<TaskId> {
        let producers = job.vertices[finished.vertex as usize].parallelism;
        let mut tasks = Vec::new();
        for (vertex, consumer) in (0u32..).zip(&job.vertices) {
            for input in consumer.inputs.iter().filter(|input| input.producer == finished.vertex) {
                let connected = input.pattern.consumers(finished.subtask, producers, consumer.parallelism);
                // Looked at when the last of them finishes: until then a barrier may come from one that runs.
                let all = input.pattern == DistributionPattern::AllToAll;
                if all && self.finished[finished.vertex as usize] < producers {
                    continue;
                }
                tasks.extend(connected.map(|subtask| TaskId { vertex, subtask }));
            }
        }
        tasks.sort_unstable();
        tasks.dedup();
        tasks.retain(|&task| {
            job.index_of(task).is_some_and(|index| self.is_missing(index)) && self.must_begin(job, task)
        });
        tasks
    }
}
