//! What sinks have prepared, from the moment a task hands it over until it is known to be visible.

use std::collections::BTreeMap;

use weir_model::{Committable, TaskId};

/// Prepared by one task.
#[derive(Debug)]
struct Prepared {
    task: TaskId,
    /// The first checkpoint it is part of.
    checkpoint: u64,
    committables: Vec<Committable>,
}

/// Output that is not known to be visible.
#[derive(Debug, Default)]
pub(super) struct Output {
    /// In no complete checkpoint yet, in the order it came.
    waiting: Vec<Prepared>,
    /// Its commit was asked for, by checkpoint, and is not known to have succeeded.
    committing: BTreeMap<u64, Vec<Committable>>,
    /// Committed by the coordinator process before any task runs.
    restored: Vec<Committable>,
}

impl Output {
    pub(super) fn add(&mut self, task: TaskId, checkpoint: u64, committables: Vec<Committable>) {
        if !committables.is_empty() {
            self.waiting.push(Prepared { task, checkpoint, committables });
        }
    }

    /// Forgets what these tasks have prepared since the last complete checkpoint: they will prepare it again.
    pub(super) fn forget(&mut self, tasks: impl Fn(TaskId) -> bool) {
        self.waiting.retain(|prepared| !tasks(prepared.task));
    }

    /// All that is part of a checkpoint and not known to be visible.
    pub(super) fn part_of(&self, checkpoint: u64) -> Vec<Committable> {
        let waiting = self.waiting.iter().filter(|prepared| prepared.checkpoint <= checkpoint);
        let waiting = waiting.flat_map(|prepared| &prepared.committables);
        self.restored.iter().chain(self.committing.values().flatten()).chain(waiting).cloned().collect()
    }

    /// What is to be committed because the checkpoint is complete.
    pub(super) fn complete(&mut self, checkpoint: u64) -> Vec<Committable> {
        let (ready, waiting) =
            std::mem::take(&mut self.waiting).into_iter().partition(|prepared| prepared.checkpoint <= checkpoint);
        self.waiting = waiting;
        let ready: Vec<Prepared> = ready;
        let ready: Vec<_> = ready.into_iter().flat_map(|prepared| prepared.committables).collect();
        if !ready.is_empty() {
            self.committing.insert(checkpoint, ready.clone());
        }
        ready
    }

    /// The commit of a checkpoint has succeeded.
    pub(super) fn confirm(&mut self, checkpoint: u64) {
        self.committing.remove(&checkpoint);
    }

    /// Whether a commit is under way, or has failed since.
    pub(super) fn is_committing(&self, checkpoint: u64) -> bool {
        self.committing.contains_key(&checkpoint)
    }

    /// What is perhaps not visible of what complete checkpoints up to this one have.
    pub(super) fn unconfirmed_up_to(&self, checkpoint: u64) -> Vec<Committable> {
        self.restored.iter().chain(self.committing.range(..=checkpoint).flat_map(|(_, each)| each)).cloned().collect()
    }

    /// Everything starts again with this to be committed first; nothing else that was prepared is part of it.
    pub(super) fn restart_with(&mut self, restored: Vec<Committable>) {
        *self = Self { restored, ..Self::default() };
    }

    /// All tasks run, so what was to be committed before that is.
    pub(super) fn restored_is_visible(&mut self) {
        self.restored.clear();
    }

    /// Everything, in the order of checkpoints.
    pub(super) fn take_all(&mut self) -> Vec<Committable> {
        let Self { waiting, committing, restored } = std::mem::take(self);
        let waiting = waiting.into_iter().flat_map(|prepared| prepared.committables);
        restored.into_iter().chain(committing.into_values().flatten()).chain(waiting).collect()
    }
}
