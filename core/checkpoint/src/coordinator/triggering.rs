//! Begins checkpoints, and watches the clock.

use std::time::Duration;

use weir_model::{Alignment, CheckpointKind, CheckpointTrigger};

use super::failing::Cause;
use super::pending::{Pending, Phase};
use super::requests::Queued;
use super::{CheckpointCoordinator, Effects};
use crate::uri::{checkpoint_directory, job_directory, shared_directory};
use crate::{CheckpointEffect, CheckpointMode, CheckpointOptions};

/// Checkpoints by interval.
#[derive(Debug, Default)]
pub(super) struct Periodic {
    /// When the next one is due; `None` while the job is not running.
    pub next: Option<Duration>,
    /// When the last checkpoint ended, however it did.
    pub last_end: Option<Duration>,
}

/// The one timer that matters.
#[derive(Debug, Default)]
pub(super) struct Timer {
    generation: u64,
    at: Option<Duration>,
}

impl Timer {
    pub(super) fn rang(&mut self, generation: u64) {
        if generation == self.generation {
            self.at = None;
        }
    }

    fn set(&mut self, at: Duration, out: &mut Effects) {
        if self.at != Some(at) {
            self.at = Some(at);
            self.generation += 1;
            out.push(CheckpointEffect::ScheduleTimer { generation: self.generation, at });
        }
    }
}

/// The interval that is in effect: there is never less than the pause between two triggers.
fn interval(options: &CheckpointOptions) -> Option<Duration> {
    options.interval.map(|interval| interval.max(options.min_pause))
}

impl CheckpointCoordinator {
    pub(super) fn on_all_running(&mut self) {
        self.output.restored_is_visible();
        if !self.running {
            self.running = true;
            self.periodic.next = interval(&self.options).map(|interval| self.now.saturating_add(interval));
        }
    }

    /// Does what is due, and has itself woken for what will be.
    pub(super) fn advance(&mut self, out: &mut Effects) {
        if self.ended {
            return;
        }
        self.expire(out);
        while self.has_room() && self.why_not().is_none() {
            let Some(Queued { request, full, aligned }) = self.queued.pop_front() else { break };
            let alignment = match self.alignment(CheckpointKind::Checkpoint) {
                Alignment::UnalignedAfter(_) if aligned => Alignment::Aligned,
                alignment => alignment,
            };
            self.begin((CheckpointKind::Checkpoint, alignment), Some(request), full, None, out);
        }
        if self.periodic_due().is_some_and(|due| due <= self.now) {
            self.begin_periodic(out);
        }
        let deadlines = self.pending.values().map(|pending| pending.deadline);
        if let Some(at) = deadlines.chain(self.periodic_due()).min() {
            self.timer.set(at, out);
        }
    }

    fn expire(&mut self, out: &mut Effects) {
        let late: Vec<_> = self.pending.values().filter(|pending| pending.deadline <= self.now).collect();
        let late: Vec<_> = late.into_iter().map(|pending| (pending.id(), self.describe_missing(pending))).collect();
        for (checkpoint, missing) in late {
            let timeout = self.options.timeout;
            let reason = format!("it was not complete after {timeout:?} (execution.checkpointing.timeout): {missing}");
            self.abort(checkpoint, Cause::Counted, &reason, out);
        }
    }

    /// What an expired checkpoint was waiting for.
    fn describe_missing(&self, pending: &Pending) -> String {
        match pending.phase {
            Phase::Enumerators => "the coordinator process had not told the state of the sources".to_owned(),
            Phase::Metadata(_) => "its metadata was not written".to_owned(),
            Phase::Tasks => {
                let missing = self.job.tasks().enumerate().filter(|&(index, _)| pending.is_missing(index));
                let mut missing = missing.map(|(_, task)| self.task_name(task));
                let first = missing.next().unwrap_or_default();
                match missing.count() {
                    0 => format!("{first} had not acknowledged it"),
                    more => format!("{first} and {more} more had not acknowledged it"),
                }
            }
        }
    }

    /// Whether as many as allowed are under way.
    fn has_room(&self) -> bool {
        self.pending.len() < self.options.max_concurrent as usize
    }

    /// When the next checkpoint by interval can begin, if nothing else happens.
    fn periodic_due(&self) -> Option<Duration> {
        let next = self.periodic.next.filter(|_| self.why_not().is_none() && self.has_room())?;
        if self.options.min_pause.is_zero() {
            return Some(next);
        }
        let pause_ends =
            self.periodic.last_end.map_or(Duration::ZERO, |end| end.saturating_add(self.options.min_pause));
        self.pending.is_empty().then(|| next.max(pause_ends))
    }

    fn begin_periodic(&mut self, out: &mut Effects) {
        if let (Some(next), Some(interval)) = (self.periodic.next, interval(&self.options)) {
            // At a fixed rate; what was missed is not made up for.
            let following = next.saturating_add(interval);
            self.periodic.next = Some(if following > self.now { following } else { self.now.saturating_add(interval) });
            let kind = CheckpointKind::Checkpoint;
            self.begin((kind, self.alignment(kind)), None, false, None, out);
        }
    }

    /// Why no checkpoint can begin.
    pub(super) fn why_not(&self) -> Option<String> {
        if !self.running {
            return Some("not all tasks of the job are running".to_owned());
        }
        if self.stopping.is_some() {
            return Some("the job is being stopped with a savepoint".to_owned());
        }
        let (finished, count) = (self.tasks.finished(), self.job.task_count());
        if finished == count {
            return Some("all tasks of the job have finished".to_owned());
        }
        (finished > 0 && !self.options.after_tasks_finish).then(|| {
            format!(
                "{finished} of {count} tasks have finished, and `execution.checkpointing.checkpoints-after-tasks-finish` is false"
            )
        })
    }

    /// Nothing may speak against it. `directory`: of a savepoint.
    pub(super) fn begin(
        &mut self,
        (kind, alignment): (CheckpointKind, Alignment),
        request: Option<u64>,
        full: bool,
        directory: Option<String>,
        out: &mut Effects,
    ) -> u64 {
        debug_assert_eq!(self.why_not(), None);
        self.last_id += 1;
        let checkpoint = self.last_id;
        let job_directory =
            self.options.directory.as_ref().filter(|_| !kind.is_savepoint()).map(|uri| job_directory(uri, self.job.id));
        let trigger = CheckpointTrigger {
            checkpoint,
            timestamp: i64::try_from(self.now.as_millis()).unwrap_or(i64::MAX),
            kind,
            alignment,
            base: self.retention.base().filter(|_| self.options.incremental && !full && job_directory.is_some()),
            directory: directory.or_else(|| job_directory.as_deref().map(|uri| checkpoint_directory(uri, checkpoint))),
            shared_directory: job_directory.as_deref().map(shared_directory),
        };
        let mut pending = Pending::new(&self.job, trigger, request, self.now, self.options.timeout);
        for (index, task) in self.job.tasks().enumerate() {
            if self.tasks.is_finished(index) {
                pending.finish((index, task), self.now);
            }
        }
        self.statistics.begun();
        self.pending.insert(checkpoint, pending);
        if self.job.has_enumerators() {
            out.push(CheckpointEffect::SnapshotEnumerators { checkpoint });
        } else {
            self.trigger(checkpoint, Vec::new(), out);
        }
        checkpoint
    }

    /// What tasks with several inputs do, by the options.
    pub(super) fn alignment(&self, kind: CheckpointKind) -> Alignment {
        match self.options.mode {
            // Savepoints of at-least-once jobs are taken like their checkpoints, as in Flink; where the job stops, what lies behind
            // the barrier would be in state and be read again.
            CheckpointMode::AtLeastOnce if !kind.stops() => Alignment::None,
            CheckpointMode::ExactlyOnce if self.options.unaligned && !kind.is_savepoint() => {
                Alignment::UnalignedAfter(self.options.aligned_timeout)
            }
            CheckpointMode::AtLeastOnce | CheckpointMode::ExactlyOnce => Alignment::Aligned,
        }
    }

    pub(super) fn on_enumerators_snapshotted(
        &mut self,
        checkpoint: u64,
        result: Result<Vec<(u32, Vec<u8>)>, String>,
        out: &mut Effects,
    ) {
        // Given up meanwhile, or answered twice.
        let Some(Phase::Enumerators) = self.pending.get(&checkpoint).map(|pending| &pending.phase) else { return };
        match result {
            Ok(enumerators) => self.trigger(checkpoint, enumerators, out),
            Err(reason) => {
                let reason = format!("the coordinator process could not tell the state of the sources: {reason}");
                self.abort(checkpoint, Cause::Counted, &reason, out);
            }
        }
    }

    fn trigger(&mut self, checkpoint: u64, enumerators: Vec<(u32, Vec<u8>)>, out: &mut Effects) {
        let Some(pending) = self.pending.get_mut(&checkpoint) else { return };
        pending.phase = Phase::Tasks;
        pending.enumerators = enumerators;
        let tasks = pending.beginners(&self.job);
        if !tasks.is_empty() {
            out.push(CheckpointEffect::Trigger { trigger: pending.trigger.clone(), tasks });
        }
        // All may have finished while the enumerators were asked.
        self.write_metadata_if_covered(checkpoint, out);
    }
}
