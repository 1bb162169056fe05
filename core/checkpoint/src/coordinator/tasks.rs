//! What tasks say: acknowledgements, refusals, ends.

use weir_model::{Committable, DeclineCause, TaskId};

use super::failing::Cause;
use super::pending::Phase;
use super::{CheckpointCoordinator, Effects};
use crate::{Acknowledgement, CheckpointEffect, TaskSnapshot};

/// The attempts of all tasks.
#[derive(Debug)]
pub(super) struct Tasks {
    /// By position in `CheckpointJob::tasks`.
    states: Vec<TaskState>,
    finished: usize,
}

#[derive(Debug, Clone)]
struct TaskState {
    /// The deployment whose messages matter; `None` between an interruption and the next deployment.
    deployment: Option<u32>,
    finished: bool,
}

impl Tasks {
    /// As deployed first.
    pub(super) fn new(count: usize) -> Self {
        Self { states: vec![TaskState { deployment: Some(0), finished: false }; count], finished: 0 }
    }

    /// How many have finished.
    pub(super) fn finished(&self) -> usize {
        self.finished
    }

    pub(super) fn is_finished(&self, index: usize) -> bool {
        self.states[index].finished
    }

    /// Whether what a task of this deployment says matters.
    fn is_heard(&self, index: usize, deployment: u32) -> bool {
        let state = &self.states[index];
        state.deployment == Some(deployment) && !state.finished
    }

    fn finish(&mut self, index: usize) {
        self.states[index].finished = true;
        self.finished += 1;
    }

    /// Sets the deployment whose messages matter.
    pub(super) fn set_deployment(&mut self, index: usize, deployment: Option<u32>) {
        let state = &mut self.states[index];
        self.finished -= usize::from(state.finished);
        *state = TaskState { deployment, finished: false };
    }
}

impl CheckpointCoordinator {
    pub(super) fn on_acknowledged(&mut self, acknowledgement: Acknowledgement, out: &mut Effects) {
        let Acknowledgement { checkpoint, task, deployment, snapshot, committables, metrics } = acknowledgement;
        let Some(index) = self.job.index_of(task).filter(|&index| self.tasks.is_heard(index, deployment)) else {
            return;
        };
        let decoded = TaskSnapshot::decode(&snapshot);
        let Some(pending) = self.pending.get(&checkpoint) else {
            // What it wrote for a checkpoint that was given up meanwhile is of no use; what its sinks prepared is.
            if let Some(directory) = self.aborted.directory(checkpoint) {
                self.output.add(task, checkpoint, committables);
                self.retention.discard(decoded.ok().into_iter().collect(), directory, self.last_id, out);
                self.retention.settle(self.oldest_pending(), out);
            }
            return;
        };
        if !pending.is_missing(index) || !matches!(pending.phase, Phase::Tasks) {
            // Said twice.
            return;
        }
        let refused = match &decoded {
            Err(error) => Some(format!("cannot be read: {error}")),
            Ok(snapshot) => self.stranger(task, snapshot, &committables),
        };
        self.output.add(task, checkpoint, committables);
        let pending = self.pending.get_mut(&checkpoint);
        match (decoded, refused, pending) {
            (Ok(snapshot), None, Some(pending)) => {
                pending.acknowledge((index, task), snapshot, metrics, self.now);
                self.write_metadata_if_covered(checkpoint, out);
            }
            (_, problem, _) => {
                let problem = problem.unwrap_or_default();
                let reason = format!("the snapshot of {} {problem}", self.task_name(task));
                self.abort(checkpoint, Cause::Counted, &reason, out);
            }
        }
    }

    /// What in a snapshot is not of the task, which would be lost.
    fn stranger(&self, task: TaskId, snapshot: &TaskSnapshot, committables: &[Committable]) -> Option<String> {
        let operators = &self.job.vertices[task.vertex as usize].operators;
        let known = |id| operators.iter().any(|operator| operator.id == id);
        if let Some(state) = snapshot.operators.iter().find(|state| !known(state.operator)) {
            return Some(format!("has state of operator {}, which is not in its chain", state.operator));
        }
        let unknown = committables.iter().find(|each| !self.job.nodes.contains_key(&each.node))?;
        Some(format!("came with output of node {}, which is no operator of the job", unknown.node))
    }

    pub(super) fn on_declined(
        &mut self,
        checkpoint: u64,
        (task, deployment): (TaskId, u32),
        (cause, reason): (DeclineCause, &str),
        committables: Vec<Committable>,
        out: &mut Effects,
    ) {
        let Some(index) = self.job.index_of(task).filter(|&index| self.tasks.is_heard(index, deployment)) else {
            return;
        };
        let Some(pending) = self.pending.get(&checkpoint) else {
            if self.aborted.directory(checkpoint).is_some() {
                self.output.add(task, checkpoint, committables);
            }
            return;
        };
        if !pending.is_missing(index) {
            return;
        }
        self.output.add(task, checkpoint, committables);
        let cause = match cause {
            DeclineCause::NotReady => Cause::NotCounted,
            DeclineCause::Failed => Cause::Counted,
        };
        let reason = format!("{} declined it: {reason}", self.task_name(task));
        self.abort(checkpoint, cause, &reason, out);
    }

    pub(super) fn on_task_finished(
        &mut self,
        task: TaskId,
        deployment: u32,
        committables: Vec<Committable>,
        out: &mut Effects,
    ) {
        let Some(index) = self.job.index_of(task).filter(|&index| self.tasks.is_heard(index, deployment)) else {
            return;
        };
        self.tasks.finish(index);
        // The barrier of those without a part has not reached it and never will: all it did lies before.
        let missing: Vec<_> =
            self.pending.values().filter(|pending| pending.is_missing(index)).map(|pending| pending.id()).collect();
        let part_of = missing.first().copied().unwrap_or(self.last_id + 1);
        self.output.add(task, part_of, committables);
        for checkpoint in missing {
            let Some(pending) = self.pending.get_mut(&checkpoint) else { continue };
            pending.finish((index, task), self.now);
            // Before that the tasks that begin are not chosen yet.
            if matches!(pending.phase, Phase::Tasks) {
                let tasks = pending.beginners_after(&self.job, task);
                if !tasks.is_empty() {
                    out.push(CheckpointEffect::Trigger { trigger: pending.trigger.clone(), tasks });
                }
            }
            self.write_metadata_if_covered(checkpoint, out);
        }
    }
}
