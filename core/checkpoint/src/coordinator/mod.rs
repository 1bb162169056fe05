//! The machine: when a checkpoint begins, when it is complete, and what becomes of it.
//!
//! `triggering.rs` begins checkpoints, `tasks.rs` takes in what tasks say, `completing.rs` writes metadata and completes,
//! `failing.rs` gives up and counts, `requests.rs` deals with who asked, `recovery.rs` with restarts and the end. What is kept
//! where: `pending.rs` one checkpoint under way, `output.rs` what sinks have prepared, `retention.rs` complete checkpoints and their
//! files, `statistics.rs` what is shown.

mod completing;
mod failing;
mod output;
mod pending;
mod recovery;
mod requests;
mod retention;
mod statistics;
mod tasks;
#[cfg(test)]
mod tests;

mod triggering;

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use weir_model::{Committable, TaskId};

use self::failing::{Aborted, FailureCount};
use self::output::Output;
use self::pending::Pending;
use self::requests::{Queued, Stopping};
use self::retention::Retention;
use self::statistics::Statistics;
use self::tasks::Tasks;
use self::triggering::{Periodic, Timer};
use crate::{CheckpointEffect, CheckpointEvent, CheckpointJob, CheckpointOptions, CheckpointsView, RestorePoint};

/// Decides everything about the checkpoints of one job, over all its restarts.
///
/// A pure function of what it was told and when: events may come in any order and more than once, what cannot matter any more is
/// ignored, and nothing panics.
#[derive(Debug)]
pub struct CheckpointCoordinator {
    job: CheckpointJob,
    options: CheckpointOptions,
    now: Duration,
    /// The number of the last checkpoint that began.
    last_id: u64,
    /// Whether every task is running or has finished.
    running: bool,
    ended: bool,
    tasks: Tasks,
    /// By number.
    pending: BTreeMap<u64, Pending>,
    aborted: Aborted,
    queued: VecDeque<Queued>,
    stopping: Option<Stopping>,
    periodic: Periodic,
    timer: Timer,
    failures: FailureCount,
    output: Output,
    retention: Retention,
    statistics: Statistics,
}

/// The effects of one event.
type Effects = Vec<CheckpointEffect>;

impl CheckpointCoordinator {
    /// The checkpoints of a job that has not been started yet.
    pub fn new(job: CheckpointJob, options: CheckpointOptions) -> Self {
        let retention = Retention::new(job.id, &options);
        Self {
            now: Duration::ZERO,
            last_id: 0,
            running: false,
            ended: false,
            tasks: Tasks::new(job.task_count()),
            pending: BTreeMap::new(),
            aborted: Aborted::default(),
            queued: VecDeque::new(),
            stopping: None,
            periodic: Periodic::default(),
            timer: Timer::default(),
            failures: FailureCount::default(),
            output: Output::default(),
            retention,
            statistics: Statistics::new(options.history_size),
            job,
            options,
        }
    }

    /// Takes in an event and says what to do, in this order. `now` is the time since 1970-01-01 UTC; should it go back, it is taken
    /// to stand still.
    pub fn on_event(&mut self, event: CheckpointEvent, now: Duration) -> Vec<CheckpointEffect> {
        let mut out = Effects::new();
        if self.ended {
            // Messages that were on their way when the job ended.
            return out;
        }
        self.now = self.now.max(now);
        match event {
            CheckpointEvent::AllRunning => self.on_all_running(),
            CheckpointEvent::Interrupted { tasks, reason } => self.on_interrupted(&tasks, &reason, &mut out),
            CheckpointEvent::Redeployed { deployment, tasks } => self.on_redeployed(deployment, &tasks),
            CheckpointEvent::Ended { status } => self.on_ended(status, &mut out),
            // What is due is looked at after every event; the timer only makes sure that there is one.
            CheckpointEvent::Timer { generation } => self.timer.rang(generation),
            CheckpointEvent::CheckpointRequested { request, full, aligned } => {
                self.on_checkpoint_requested(Queued { request, full, aligned }, &mut out)
            }
            CheckpointEvent::SavepointRequested { request, directory, stop } => {
                self.on_savepoint_requested(request, directory, stop, &mut out)
            }
            CheckpointEvent::EnumeratorsSnapshotted { checkpoint, result } => {
                self.on_enumerators_snapshotted(checkpoint, result, &mut out)
            }
            CheckpointEvent::Acknowledged(acknowledgement) => self.on_acknowledged(*acknowledgement, &mut out),
            CheckpointEvent::Declined { checkpoint, task, deployment, cause, reason, committables } => {
                self.on_declined(checkpoint, (task, deployment), (cause, &reason), committables, &mut out)
            }
            CheckpointEvent::TaskFinished { task, deployment, committables } => {
                self.on_task_finished(task, deployment, committables, &mut out)
            }
            CheckpointEvent::MetadataWritten { checkpoint, result } => {
                self.on_metadata_written(checkpoint, result, &mut out)
            }
            CheckpointEvent::Committed { checkpoint, result } => self.on_committed(checkpoint, result, &mut out),
            CheckpointEvent::Removed { removal, result } => self.retention.removed(removal, result),
            CheckpointEvent::Unreadable { checkpoint, reason } => self.retention.set_unreadable(checkpoint, reason),
        }
        self.advance(&mut out);
        out
    }

    /// From where tasks are to start that start now.
    pub fn restore_point(&self) -> RestorePoint {
        self.retention.restore_point(|checkpoint| self.output.unconfirmed_up_to(checkpoint))
    }

    /// Takes everything that sinks have prepared and that is not known to be visible. For a job all of whose tasks have finished:
    /// making this visible is the last thing it does.
    pub fn take_uncommitted(&mut self) -> Vec<Committable> {
        self.output.take_all()
    }

    /// Whether a savepoint with which the job stops is under way or complete.
    pub fn is_stopping(&self) -> bool {
        self.stopping.is_some()
    }

    /// The options it was made with.
    pub fn options(&self) -> &CheckpointOptions {
        &self.options
    }

    /// What there is to show.
    pub fn view(&self) -> CheckpointsView {
        self.statistics.view(self.pending.values().map(|pending| &pending.view))
    }

    fn task_name(&self, task: TaskId) -> String {
        self.job.task_name(task)
    }
}
