//! Restarts, and the end.

use std::collections::BTreeMap;
use std::time::Duration;

use weir_model::{Committable, JobStatus, OperatorId, TaskId};

use super::failing::Cause;
use super::tasks::Tasks;
use super::{CheckpointCoordinator, Effects};
use crate::{CheckpointJob, CompletedCheckpoint, Externalized, RestoreMode, RestorePoint};

impl CheckpointCoordinator {
    /// Has the job start from a checkpoint or savepoint of its own or another job. To be called before anything else; the metadata
    /// should have passed [`check`](crate::check()). Fails if it has output of a sink that the job has not.
    pub fn restore(&mut self, checkpoint: CompletedCheckpoint, mode: RestoreMode, now: Duration) -> Result<(), String> {
        let nodes: BTreeMap<OperatorId, u32> =
            self.job.nodes.iter().map(|(&node, &operator)| (operator, node)).collect();
        let mut committables = Vec::new();
        for (operator, payloads) in &checkpoint.metadata.committables {
            let Some(&node) = nodes.get(operator) else {
                let state = checkpoint.metadata.operators.iter().find(|state| state.id == *operator);
                let label = state.map_or_else(|| format!("operator {operator}"), |state| state.label());
                return Err(format!(
                    "{} has output of {label} that is not visible yet, and the job has no such operator; stop the old job with a \
                     savepoint first, so that all output is visible",
                    describe(&checkpoint)
                ));
            };
            committables.extend(payloads.iter().map(|payload| Committable { node, payload: payload.clone() }));
        }
        self.now = self.now.max(now);
        self.last_id = self.last_id.max(checkpoint.metadata.checkpoint);
        self.output.restart_with(committables);
        self.statistics.restored(&checkpoint, self.now);
        match mode {
            RestoreMode::NoClaim => self.retention.add_foreign(checkpoint),
            RestoreMode::Claim => self.retention.add_claimed(checkpoint),
        }
        Ok(())
    }

    /// The job goes on with other numbers of subtasks. To be called when all tasks are interrupted, before they are deployed again.
    /// `deployment`: the one that will run them, if [`CheckpointEvent::Redeployed`](crate::CheckpointEvent::Redeployed) does not say so, because
    /// it is the job's first.
    pub fn rescale(&mut self, job: CheckpointJob, deployment: Option<u32>) {
        debug_assert!(self.pending.is_empty() && !self.running && job.id == self.job.id);
        self.tasks = Tasks::new(job.task_count());
        (0..job.task_count()).for_each(|index| self.tasks.set_deployment(index, deployment));
        self.job = job;
    }

    /// The number of the last checkpoint that began.
    pub fn last_checkpoint(&self) -> u64 {
        self.last_id
    }

    pub(super) fn on_interrupted(&mut self, tasks: &[TaskId], reason: &str, out: &mut Effects) {
        self.running = false;
        self.periodic.next = None;
        self.abort_all(&format!("the job was interrupted: {reason}"), out);
        self.answer_stop(Err(reason), out);
        for index in self.positions(tasks) {
            self.tasks.set_deployment(index, None);
        }
        // What they prepared after the last checkpoint they will prepare again.
        self.output.forget(|task| tasks.is_empty() || tasks.contains(&task));
    }

    pub(super) fn on_redeployed(&mut self, deployment: u32, tasks: &[TaskId]) {
        self.running = false;
        let positions = self.positions(tasks);
        let all = positions.len() == self.job.task_count();
        for index in positions {
            self.tasks.set_deployment(index, Some(deployment));
        }
        match self.restore_point() {
            RestorePoint::Checkpoint { checkpoint, committables } => {
                self.statistics.restored(&checkpoint, self.now);
                if all {
                    self.output.restart_with(committables);
                }
            }
            RestorePoint::Beginning | RestorePoint::Lost { .. } if all => self.output.restart_with(Vec::new()),
            RestorePoint::Beginning | RestorePoint::Lost { .. } => {}
        }
    }

    pub(super) fn on_ended(&mut self, status: JobStatus, out: &mut Effects) {
        self.running = false;
        self.abort_all(&format!("the job has ended as {status}"), out);
        match status {
            JobStatus::Finished => self.answer_stop(Ok(()), out),
            _ => self.answer_stop(Err(&format!("it ended as {status}")), out),
        }
        let remove = match (status, self.options.externalized) {
            (JobStatus::Finished, _) => true,
            (JobStatus::Canceled, Externalized::No | Externalized::DeleteOnCancellation) => true,
            (JobStatus::Failed, Externalized::No) => true,
            // Kept; or somebody else takes over.
            _ => false,
        };
        let gone = self.retention.end(remove, status.is_globally_terminal(), out);
        gone.into_iter().for_each(|id| self.statistics.discarded(id));
        self.ended = true;
    }

    fn abort_all(&mut self, reason: &str, out: &mut Effects) {
        let pending: Vec<_> = self.pending.keys().copied().collect();
        for checkpoint in pending {
            self.abort(checkpoint, Cause::NotCounted, reason, out);
        }
        self.refuse_queued(reason, out);
    }

    /// Positions of tasks of the job; of all of them if none are named.
    fn positions(&self, tasks: &[TaskId]) -> Vec<usize> {
        if tasks.is_empty() {
            return (0..self.job.task_count()).collect();
        }
        let mut positions: Vec<_> = tasks.iter().filter_map(|&task| self.job.index_of(task)).collect();
        positions.sort_unstable();
        positions.dedup();
        positions
    }
}

fn describe(checkpoint: &CompletedCheckpoint) -> String {
    let noun = if checkpoint.metadata.kind.is_savepoint() { "savepoint" } else { "checkpoint" };
    match &checkpoint.directory {
        Some(directory) => format!("the {noun} {directory}"),
        None => format!("{noun} {}", checkpoint.metadata.checkpoint),
    }
}
