//! What the driver does for checkpoints: passes on what happens to them, and does what is decided.

use weir_checkpoint::{Acknowledgement, CheckpointEffect, CheckpointEvent};
use weir_model::{CheckpointAcknowledgement, CheckpointDecline, FailureKind, JobStatus, TaskFailure, TaskId};
use weir_scheduler::{Event, JobReport};

use super::super::checkpoints::Start;
use super::super::coordinator::SplitOrder;
use super::{Driver, DriverEvent};

impl Driver {
    /// Tells the checkpoints' coordinator and does what it asks for.
    pub(super) fn on_checkpoint(&mut self, event: CheckpointEvent) -> Option<JobReport> {
        let mut ended = None;
        for effect in self.checkpoints.on_event(event) {
            ended = self.perform_for_checkpoint(effect).or(ended);
        }
        ended
    }

    fn perform_for_checkpoint(&mut self, effect: CheckpointEffect) -> Option<JobReport> {
        match effect {
            CheckpointEffect::SnapshotEnumerators { checkpoint } => {
                let events = self.events_in.clone();
                let done = move |result| {
                    let event = CheckpointEvent::EnumeratorsSnapshotted { checkpoint, result };
                    drop(events.send(DriverEvent::Checkpoint(event)));
                };
                self.order_splits(SplitOrder::Snapshot { checkpoint, done: Box::new(done) });
                None
            }
            CheckpointEffect::Trigger { trigger, tasks } => {
                self.backend.trigger_checkpoint(&trigger, &tasks);
                None
            }
            CheckpointEffect::Completed { checkpoint } => {
                self.backend.checkpoint_completed(checkpoint);
                self.order_splits(SplitOrder::Completed { checkpoint });
                None
            }
            CheckpointEffect::Aborted { checkpoint, .. } => {
                self.backend.checkpoint_aborted(checkpoint);
                None
            }
            CheckpointEffect::Commit { checkpoint, committables } => {
                let events = self.events_in.clone();
                self.commit_orders.commit(Some(checkpoint), committables, move |result| {
                    let result = result.map_err(|failure| failure.to_string());
                    let event = CheckpointEvent::Committed { checkpoint, result };
                    drop(events.send(DriverEvent::Checkpoint(event)));
                });
                None
            }
            CheckpointEffect::FailJob { reason } => {
                self.tell(Event::GlobalFailure(TaskFailure::new(FailureKind::Job, reason)))
            }
            // Nobody can ask an embedded run for a checkpoint, or to stop with one.
            CheckpointEffect::RequestDone { .. } | CheckpointEffect::Stopped { .. } => None,
            // Done already.
            CheckpointEffect::WriteMetadata { .. }
            | CheckpointEffect::Remove { .. }
            | CheckpointEffect::ScheduleTimer { .. } => None,
        }
    }

    fn order_splits(&self, order: SplitOrder) {
        // The thread ends only when nobody wants answers any more.
        let _ = self.split_orders.send(order);
    }

    /// Whether checkpoints can begin, or must end, shows in the job's status.
    pub(super) fn on_status(&mut self, status: JobStatus) -> Option<JobReport> {
        match status {
            JobStatus::Failing | JobStatus::Cancelling | JobStatus::Restarting => {
                let reason = format!("it is {status}");
                self.on_checkpoint(CheckpointEvent::Interrupted { tasks: Vec::new(), reason })
            }
            // Nothing is under way yet; or all tasks have ended, which is told otherwise.
            JobStatus::Initializing
            | JobStatus::Created
            | JobStatus::Running
            | JobStatus::Failed
            | JobStatus::Canceled
            | JobStatus::Finished
            | JobStatus::Suspended
            | JobStatus::Reconciling => None,
        }
    }

    /// Brings everything to where the tasks are to start.
    pub(super) fn on_schedule(&mut self, deployment: u32) -> Option<JobReport> {
        self.deployment = deployment;
        self.alive.clear();
        let start = self.checkpoints.start();
        let ended = self.on_checkpoint(CheckpointEvent::Redeployed { deployment, tasks: Vec::new() });
        if deployment == 0 {
            // Inputs and outputs have just been opened.
            return ended.or_else(|| self.tell(Event::Placed { deployment, placement: self.placement.clone() }));
        }
        let (restored, tasks) = match start {
            Ok(start) => start.map(|Start { restored, tasks }| (restored, tasks)).unzip(),
            Err(reason) => {
                let failure = TaskFailure::new(FailureKind::State, reason);
                return ended.or_else(|| self.tell(Event::FatalFailure(failure)));
            }
        };
        self.restore = tasks.unwrap_or_default();
        let (checkpoint, committables) =
            restored.as_ref().map_or((None, Vec::new()), |one| (Some(one.checkpoint), one.committables.clone()));
        let (events, orders) = (self.events_in.clone(), self.split_orders.clone());
        let done = move |result: Result<(), TaskFailure>| {
            drop(events.send(DriverEvent::Reset { deployment, result }));
        };
        let reset = move |result: Result<(), TaskFailure>| match result {
            Err(failure) => done(Err(failure)),
            Ok(()) => {
                let done = move |result: Result<(), String>| {
                    done(result.map_err(|error| TaskFailure::new(FailureKind::Source, error)));
                };
                // As above.
                let _ = orders.send(SplitOrder::Reset { tasks: Vec::new(), restored, done: Box::new(done) });
            }
        };
        match checkpoint {
            Some(checkpoint) => self.commit_orders.commit(Some(checkpoint), committables, reset),
            None => reset(Ok(())),
        }
        ended
    }

    pub(super) fn on_reset(&mut self, deployment: u32, result: Result<(), TaskFailure>) -> Option<JobReport> {
        match result {
            Ok(()) => self.tell(Event::Placed { deployment, placement: self.placement.clone() }),
            Err(failure) => self.tell(Event::FatalFailure(failure)),
        }
    }

    /// A task runs, or has finished.
    pub(super) fn on_alive(&mut self, deployment: u32, task: TaskId) -> Option<JobReport> {
        if deployment != self.deployment || !self.alive.insert(task) {
            return None;
        }
        match self.alive.len() == self.checkpoints.task_count() {
            true => self.on_checkpoint(CheckpointEvent::AllRunning),
            false => None,
        }
    }

    pub(super) fn on_acknowledged(
        &mut self,
        deployment: u32,
        acknowledgement: CheckpointAcknowledgement,
    ) -> Option<JobReport> {
        let CheckpointAcknowledgement { checkpoint, task, snapshot, committables, metrics } = acknowledgement;
        let acknowledgement = Acknowledgement { checkpoint, task, deployment, snapshot, committables, metrics };
        self.on_checkpoint(CheckpointEvent::Acknowledged(Box::new(acknowledgement)))
    }

    pub(super) fn on_declined(&mut self, deployment: u32, decline: CheckpointDecline) -> Option<JobReport> {
        let CheckpointDecline { checkpoint, task, cause, reason, committables } = decline;
        self.on_checkpoint(CheckpointEvent::Declined { checkpoint, task, deployment, cause, reason, committables })
    }

    /// A task cannot read what it was to begin with: the checkpoint before is tried next.
    pub(super) fn on_unreadable(&mut self, deployment: u32, failure: &TaskFailure) -> Option<JobReport> {
        let checkpoint = self.checkpoints.restored_from()?;
        if failure.kind != FailureKind::State || deployment != self.deployment {
            return None;
        }
        self.progress.note(&format!("checkpoint {checkpoint} cannot be used: {}", failure.message));
        self.on_checkpoint(CheckpointEvent::Unreadable { checkpoint, reason: failure.message.clone() })
    }
}
