//! Gives checkpoints up, and counts how many fail one after the other.

use std::collections::BTreeMap;

use super::{CheckpointCoordinator, Effects};
use crate::{CheckpointEffect, CheckpointKind, CheckpointStatus};

/// Whether the end of a checkpoint counts as a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cause {
    /// Something is wrong with taking checkpoints.
    Counted,
    /// Something else happened.
    NotCounted,
}

/// Counts failures since the last success.
#[derive(Debug, Default)]
pub(super) struct FailureCount {
    failures: u32,
    last_success: u64,
}

impl FailureCount {
    pub(super) fn succeeded(&mut self, checkpoint: u64) {
        if checkpoint > self.last_success {
            self.last_success = checkpoint;
            self.failures = 0;
        }
    }

    /// Whether that was one too many.
    fn failed(&mut self, checkpoint: u64, tolerable: Option<u32>) -> bool {
        // One that began before the last success says nothing about how it is now.
        let Some(tolerable) = tolerable.filter(|_| checkpoint > self.last_success) else { return false };
        self.failures += 1;
        if self.failures <= tolerable {
            return false;
        }
        self.failures = 0;
        true
    }
}

/// Checkpoints that were given up: tasks may not know yet.
#[derive(Debug, Default)]
pub(super) struct Aborted {
    /// By number.
    directories: BTreeMap<u64, Option<String>>,
}

impl Aborted {
    /// How many are remembered. A task's answer is on its way for no longer than a few checkpoints.
    const LIMIT: usize = 256;

    fn add(&mut self, checkpoint: u64, directory: Option<String>) {
        self.directories.insert(checkpoint, directory);
        if self.directories.len() > Self::LIMIT {
            self.directories.pop_first();
        }
    }

    /// The folder of a checkpoint that was given up; `None` if it was not.
    pub(super) fn directory(&self, checkpoint: u64) -> Option<Option<&str>> {
        self.directories.get(&checkpoint).map(Option::as_deref)
    }
}

impl CheckpointCoordinator {
    pub(super) fn oldest_pending(&self) -> Option<u64> {
        self.pending.first_key_value().map(|(&id, _)| id)
    }

    pub(super) fn abort(&mut self, checkpoint: u64, cause: Cause, reason: &str, out: &mut Effects) {
        let Some(pending) = self.pending.remove(&checkpoint) else { return };
        let (kind, directory) = (pending.trigger.kind, pending.trigger.directory.clone());
        out.push(CheckpointEffect::Aborted { checkpoint, reason: reason.to_owned() });
        let snapshots = pending.snapshots().cloned().collect();
        self.retention.discard(snapshots, directory.as_deref(), self.last_id, out);
        self.retention.settle(self.oldest_pending(), out);
        self.aborted.add(checkpoint, directory);
        let mut view = pending.view;
        view.status = CheckpointStatus::Failed { at: self.now, reason: reason.to_owned() };
        self.statistics.ended(view);
        self.periodic.last_end = Some(self.now);
        if let Some(request) = pending.request {
            let result = Err(format!("{} {checkpoint} failed: {reason}", noun(kind)));
            out.push(CheckpointEffect::RequestDone { request, result });
        }
        if kind.stops() {
            self.stopping = None;
        }
        match kind {
            CheckpointKind::Checkpoint => {
                let tolerable = self.options.tolerable_failures;
                if cause == Cause::Counted && self.failures.failed(checkpoint, tolerable) {
                    let reason = format!(
                        "more checkpoints failed one after the other than `execution.checkpointing.tolerable-failed-checkpoints` \
                         ({}) allows; the last one, {checkpoint}: {reason}",
                        tolerable.unwrap_or_default()
                    );
                    out.push(CheckpointEffect::FailJob { reason });
                }
            }
            // Its sources have ended, so it cannot go on from where it is. Interrupted, it starts again anyway.
            CheckpointKind::Drain if self.running => {
                let reason = format!("the savepoint with which the job was to be drained failed: {reason}");
                out.push(CheckpointEffect::FailJob { reason });
            }
            CheckpointKind::Savepoint | CheckpointKind::Suspend | CheckpointKind::Drain => {}
        }
    }
}

fn noun(kind: CheckpointKind) -> &'static str {
    if kind.is_savepoint() { "savepoint" } else { "checkpoint" }
}
