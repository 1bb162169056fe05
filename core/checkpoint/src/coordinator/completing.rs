//! Writes metadata and completes.

use std::collections::BTreeMap;
use std::sync::Arc;

use weir_model::{Committable, OperatorId};

use super::failing::Cause;
use super::pending::{Part, Pending, Phase};
use super::{CheckpointCoordinator, Effects};
use crate::uri::{METADATA_FILE, join};
use crate::{
    CheckpointEffect, CheckpointKind, CheckpointMetadata, CheckpointStatus, CompletedCheckpoint, OperatorMetadata,
    SubtaskState,
};

impl CheckpointCoordinator {
    pub(super) fn write_metadata_if_covered(&mut self, checkpoint: u64, out: &mut Effects) {
        let Some(pending) = self.pending.get(&checkpoint) else { return };
        if !pending.is_covered() || !matches!(pending.phase, Phase::Tasks) {
            return;
        }
        let metadata = Arc::new(self.metadata(pending));
        let Some(pending) = self.pending.get_mut(&checkpoint) else { return };
        pending.phase = Phase::Metadata(metadata.clone());
        match pending.trigger.directory.as_deref() {
            Some(directory) => {
                let bytes = metadata.encode(directory).into();
                out.push(CheckpointEffect::WriteMetadata { checkpoint, uri: join(directory, METADATA_FILE), bytes });
            }
            None => self.complete(checkpoint, out),
        }
    }

    fn metadata(&self, pending: &Pending) -> CheckpointMetadata {
        let mut index = 0;
        let mut operators = Vec::new();
        for vertex in &self.job.vertices {
            let parts: Vec<_> = (index..index + vertex.parallelism as usize).map(|index| pending.part(index)).collect();
            index += vertex.parallelism as usize;
            let finished: Vec<_> = (0u32..)
                .zip(&parts)
                .filter(|(_, part)| match part {
                    Part::Finished => true,
                    Part::Acknowledged(snapshot) => snapshot.finished,
                    Part::Missing => false,
                })
                .map(|(subtask, _)| subtask)
                .collect();
            for operator in &vertex.operators {
                operators.push(OperatorMetadata {
                    id: operator.id,
                    name: operator.name.clone(),
                    uid: operator.uid.clone(),
                    parallelism: vertex.parallelism,
                    max_parallelism: vertex.max_parallelism,
                    finished: finished.clone(),
                    subtasks: (0u32..)
                        .zip(&parts)
                        .filter_map(|(subtask, part)| subtask_state(subtask, part, operator.id))
                        .collect(),
                });
            }
        }
        let enumerators = pending.enumerators.iter().filter_map(|(vertex, state)| {
            let source = self.job.vertices.get(*vertex as usize)?.operators.first()?;
            Some((source.id, state.clone()))
        });
        CheckpointMetadata {
            job: self.job.id,
            job_name: self.job.name.clone(),
            checkpoint: pending.id(),
            timestamp: pending.trigger.timestamp,
            kind: pending.trigger.kind,
            enumerators: enumerators.collect(),
            committables: self.by_operator(self.output.part_of(pending.id())),
            operators,
        }
    }

    fn by_operator(&self, committables: Vec<Committable>) -> Vec<(OperatorId, Vec<Vec<u8>>)> {
        let mut by_operator: BTreeMap<OperatorId, Vec<Vec<u8>>> = BTreeMap::new();
        for committable in committables {
            // Others do not get into a checkpoint that completes.
            if let Some(&operator) = self.job.nodes.get(&committable.node) {
                by_operator.entry(operator).or_default().push(committable.payload);
            }
        }
        by_operator.into_iter().collect()
    }

    pub(super) fn on_metadata_written(&mut self, checkpoint: u64, result: Result<(), String>, out: &mut Effects) {
        if let Some(directory) = self.aborted.directory(checkpoint) {
            // It was given up while that was under way, so it may have come into a folder that had been removed.
            self.retention.discard(Vec::new(), directory, self.last_id, out);
            return;
        }
        // Otherwise answered twice.
        let Some(Phase::Metadata(_)) = self.pending.get(&checkpoint).map(|pending| &pending.phase) else { return };
        match result {
            Ok(()) => self.complete(checkpoint, out),
            Err(reason) => {
                let reason = format!("its metadata could not be written: {reason}");
                self.abort(checkpoint, Cause::Counted, &reason, out);
            }
        }
    }

    fn complete(&mut self, checkpoint: u64, out: &mut Effects) {
        let Some(pending) = self.pending.remove(&checkpoint) else { return };
        let Pending { trigger, request, phase: Phase::Metadata(metadata), mut view, .. } = pending else { return };
        let directory = trigger.directory.clone();
        view.status = CheckpointStatus::Completed { path: directory.clone(), discarded: false };
        self.statistics.ended(view);
        self.periodic.last_end = Some(self.now);
        self.failures.succeeded(checkpoint);
        let completed = CompletedCheckpoint { metadata, directory };

        // A savepoint with which the job goes on is nobody's but its owner's: recovery does not use it, so output that is part of it
        // becomes visible with the next checkpoint.
        if trigger.kind != CheckpointKind::Savepoint {
            out.push(CheckpointEffect::Completed { checkpoint });
            let committables = self.output.complete(checkpoint);
            if !committables.is_empty() {
                out.push(CheckpointEffect::Commit { checkpoint, committables });
            }
            self.subsume(checkpoint, out);
        }
        match trigger.kind {
            CheckpointKind::Savepoint => self.retention.protect(&completed),
            CheckpointKind::Checkpoint => {
                let gone = self.retention.add(completed.clone(), self.last_id, out);
                gone.into_iter().for_each(|id| self.statistics.discarded(id));
            }
            // Should the job not stop after all, it goes on from here, as its output is visible.
            CheckpointKind::Suspend | CheckpointKind::Drain => self.retention.add_foreign(completed.clone()),
        }
        self.retention.settle(self.oldest_pending(), out);
        self.answer_completed(&completed, trigger.kind, request, out);
    }

    /// Gives up older checkpoints: nobody needs them any more. Savepoints go on.
    fn subsume(&mut self, checkpoint: u64, out: &mut Effects) {
        let older = self.pending.range(..checkpoint).filter(|(_, pending)| !pending.trigger.kind.is_savepoint());
        let older: Vec<_> = older.map(|(&id, _)| id).collect();
        for id in older {
            let reason = format!("checkpoint {checkpoint}, which is newer, was complete before it");
            self.abort(id, Cause::NotCounted, &reason, out);
        }
    }

    pub(super) fn on_committed(&mut self, checkpoint: u64, result: Result<(), String>, out: &mut Effects) {
        match result {
            Ok(()) => self.output.confirm(checkpoint),
            Err(reason) if self.output.is_committing(checkpoint) => {
                let reason = format!(
                    "the output of checkpoint {checkpoint} could not be made visible; it is tried again after a restart: {reason}"
                );
                out.push(CheckpointEffect::FailJob { reason });
            }
            // Of a commit that everything has been restarted since.
            Err(_) => {}
        }
    }
}

/// What a task has of an operator; `None` if nothing.
fn subtask_state(subtask: u32, part: &Part, operator: OperatorId) -> Option<SubtaskState> {
    let Part::Acknowledged(snapshot) = part else { return None };
    let mut state = SubtaskState { subtask, tables: Vec::new(), lists: Vec::new() };
    for snapshot in snapshot.operators.iter().filter(|snapshot| snapshot.operator == operator) {
        state.tables.extend_from_slice(&snapshot.tables);
        state.lists.extend_from_slice(&snapshot.lists);
    }
    (!state.tables.is_empty() || !state.lists.is_empty()).then_some(state)
}
