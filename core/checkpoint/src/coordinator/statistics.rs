//! What is remembered to be shown.

use std::collections::VecDeque;
use std::time::Duration;

use crate::{
    CheckpointCounts, CheckpointStatus, CheckpointSummary, CheckpointView, CheckpointsView, CompletedCheckpoint,
    Distribution, RestoredView,
};

/// Checkpoints that have ended.
#[derive(Debug)]
pub(super) struct Statistics {
    counts: CheckpointCounts,
    latest_completed: Option<CheckpointView>,
    latest_savepoint: Option<CheckpointView>,
    latest_failed: Option<CheckpointView>,
    latest_restored: Option<RestoredView>,
    /// In the order they ended.
    ended: VecDeque<CheckpointView>,
    limit: usize,
}

impl Statistics {
    pub(super) fn new(limit: usize) -> Self {
        Self {
            counts: CheckpointCounts::default(),
            latest_completed: None,
            latest_savepoint: None,
            latest_failed: None,
            latest_restored: None,
            ended: VecDeque::new(),
            limit,
        }
    }

    pub(super) fn begun(&mut self) {
        self.counts.total += 1;
        self.counts.in_progress += 1;
    }

    pub(super) fn ended(&mut self, view: CheckpointView) {
        self.counts.in_progress -= 1;
        let latest = match &view.status {
            CheckpointStatus::Completed { .. } => {
                self.counts.completed += 1;
                if view.kind.is_savepoint() { &mut self.latest_savepoint } else { &mut self.latest_completed }
            }
            CheckpointStatus::Failed { .. } | CheckpointStatus::InProgress => {
                self.counts.failed += 1;
                &mut self.latest_failed
            }
        };
        *latest = Some(view.clone());
        self.ended.push_back(view);
        while self.ended.len() > self.limit {
            self.ended.pop_front();
        }
    }

    pub(super) fn discarded(&mut self, checkpoint: u64) {
        let latest = self.latest_completed.iter_mut().chain(&mut self.latest_savepoint);
        for view in latest.chain(&mut self.ended).filter(|view| view.id == checkpoint) {
            if let CheckpointStatus::Completed { discarded, .. } = &mut view.status {
                *discarded = true;
            }
        }
    }

    pub(super) fn restored(&mut self, checkpoint: &CompletedCheckpoint, now: Duration) {
        self.counts.restored += 1;
        self.latest_restored = Some(RestoredView {
            id: checkpoint.metadata.checkpoint,
            restored: now,
            savepoint: checkpoint.metadata.kind.is_savepoint(),
            path: checkpoint.directory.clone(),
        });
    }

    pub(super) fn view<'a>(&self, pending: impl Iterator<Item = &'a CheckpointView>) -> CheckpointsView {
        let mut history: Vec<_> = pending.cloned().chain(self.ended.iter().cloned()).collect();
        history.sort_by_key(|view| std::cmp::Reverse(view.id));
        CheckpointsView {
            counts: self.counts,
            summary: self.summary(),
            latest_completed: self.latest_completed.clone(),
            latest_savepoint: self.latest_savepoint.clone(),
            latest_failed: self.latest_failed.clone(),
            latest_restored: self.latest_restored.clone(),
            history,
        }
    }

    fn summary(&self) -> CheckpointSummary {
        let over = |figure: fn(&CheckpointView) -> u64| {
            let completed = self.ended.iter().filter(|view| matches!(view.status, CheckpointStatus::Completed { .. }));
            Distribution::of(completed.map(figure).collect())
        };
        CheckpointSummary {
            checkpointed_size: over(|view| view.checkpointed_size),
            state_size: over(|view| view.state_size),
            end_to_end_duration: over(|view| view.duration().as_millis() as u64),
            processed_data: over(|view| view.processed_data),
            persisted_data: over(|view| view.persisted_data),
        }
    }
}
