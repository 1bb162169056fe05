//! Checkpoints: their coordinator is told what happens to the job, and what it asks for is done here.

use std::collections::BTreeMap;
use std::sync::Arc;

use weir_checkpoint::{
    Acknowledgement, AssignError, Assignment, CheckpointCoordinator, CheckpointEffect, CheckpointEvent, CheckpointJob,
    CheckpointMetadata, CheckpointsView, RestorePoint, assign,
};
use weir_model::{
    CheckpointAcknowledgement, CheckpointDecline, CheckpointTrigger, Committable, DeploymentId, ExecutionState,
    FailureKind, JobStatus, TaskFailure, TaskId, ToTaskManager,
};
use weir_scheduler::Event;

use super::timers::Timer;
use super::{JobMaster, Outbox, adaptive};
use crate::{JobMasterEffect, JobMasterError, JobSpec, Restored, ToCoordinator};

/// The job's checkpoints.
#[derive(Debug)]
pub(super) struct Checkpoints {
    coordinator: CheckpointCoordinator,
    job: CheckpointJob,
    /// Whether state may be left behind for which the job has no operator.
    allow_non_restored: bool,
    /// Whether the coordinator knows that all tasks run.
    running: bool,
}

/// What tasks begin with that start again.
#[derive(Debug)]
pub(super) struct Restore {
    pub(super) checkpoint: u64,
    assignment: Assignment,
    committables: Vec<Committable>,
}

impl Checkpoints {
    /// Those of a job that was not started yet. Fails if it cannot start from where it is to.
    pub(super) fn new(spec: &JobSpec, now: std::time::Duration) -> Result<Self, JobMasterError> {
        let job = CheckpointJob::new(spec.id, &spec.graph, spec.states.nodes());
        let mut coordinator = CheckpointCoordinator::new(job.clone(), spec.checkpointing.clone());
        let mut allow_non_restored = false;
        if let Some(from) = &spec.restore {
            allow_non_restored = from.allow_non_restored;
            assign(&from.checkpoint.metadata, &job, allow_non_restored)?;
            let restored = coordinator.restore(from.checkpoint.clone(), from.mode, now);
            restored.map_err(JobMasterError::Restore)?;
        }
        Ok(Self { coordinator, job, allow_non_restored, running: false })
    }

    /// The job goes on with other numbers of subtasks, none of which runs. `first`: none ever ran.
    pub(super) fn rescale(&mut self, job: CheckpointJob, first: bool) {
        self.coordinator.rescale(job.clone(), first.then_some(0));
        self.job = job;
    }

    /// Why tasks of this job, which has other numbers of subtasks, could not go on from where they would have to.
    pub(super) fn not_for(&self, job: &CheckpointJob) -> Option<AssignError> {
        // Without records in flight, everything can be divided anew.
        let RestorePoint::Checkpoint { checkpoint, .. } = self.coordinator.restore_point() else { return None };
        assign(&checkpoint.metadata, job, self.allow_non_restored)
            .err()
            .filter(|error| matches!(error, AssignError::InFlight { .. }))
    }

    /// Whether the job is being stopped with a savepoint.
    pub(super) fn is_stopping(&self) -> bool {
        self.coordinator.is_stopping()
    }

    /// Whether there is a complete checkpoint, so that nothing is done twice for long.
    pub(super) fn has_complete(&self) -> bool {
        matches!(self.coordinator.restore_point(), RestorePoint::Checkpoint { .. })
    }

    /// Whether all tasks run or have finished, as far as their coordinator knows.
    pub(super) fn all_run(&self) -> bool {
        self.running
    }

    /// Takes what is not known to be visible, when all tasks have finished.
    pub(super) fn take_uncommitted(&mut self) -> Vec<Committable> {
        self.coordinator.take_uncommitted()
    }

    /// Whether there is output of a complete checkpoint that is not known to be visible. `taken`: whether it was taken to be committed.
    pub(super) fn has_unconfirmed(&self, taken: bool) -> bool {
        match self.coordinator.restore_point() {
            RestorePoint::Checkpoint { committables, .. } => taken || !committables.is_empty(),
            RestorePoint::Beginning | RestorePoint::Lost { .. } => false,
        }
    }
}

impl Restore {
    /// What of it is the coordinator process's.
    pub(super) fn of_coordinator(&self) -> Restored {
        Restored {
            checkpoint: self.checkpoint,
            enumerators: self.assignment.enumerators.clone(),
            committables: self.committables.clone(),
        }
    }

    /// What a task begins with, encoded.
    pub(super) fn of_task(&self, index: usize) -> Vec<u8> {
        self.assignment.tasks[index].encode()
    }
}

impl JobMaster {
    /// What there is to show of the job's checkpoints.
    pub fn checkpoints(&self) -> CheckpointsView {
        self.checkpoints.coordinator.view()
    }

    /// What a checkpoint of the job says but for the state itself, to compare another version of the job with.
    pub fn declared_state(&self) -> CheckpointMetadata {
        self.spec.states.to_metadata(&self.checkpoints.job)
    }

    pub(super) fn tell_checkpoints(&mut self, event: CheckpointEvent, out: &mut Outbox) {
        for effect in self.checkpoints.coordinator.on_event(event, out.now) {
            self.perform_checkpoint(effect, out);
        }
    }

    fn perform_checkpoint(&mut self, effect: CheckpointEffect, out: &mut Outbox) {
        match effect {
            CheckpointEffect::SnapshotEnumerators { checkpoint } => {
                out.coordinator(ToCoordinator::SnapshotEnumerators { checkpoint });
            }
            CheckpointEffect::Trigger { trigger, tasks } => self.trigger(&trigger, &tasks, out),
            CheckpointEffect::Completed { checkpoint } => {
                self.tell_workers(|deployment| ToTaskManager::CheckpointCompleted { deployment, checkpoint }, out);
                if self.coordinator.is_open() {
                    out.coordinator(ToCoordinator::CheckpointCompleted { checkpoint });
                }
            }
            CheckpointEffect::Aborted { checkpoint, .. } => {
                self.tell_workers(|deployment| ToTaskManager::CheckpointAborted { deployment, checkpoint }, out);
            }
            CheckpointEffect::WriteMetadata { checkpoint, uri, bytes } => {
                out.push(JobMasterEffect::WriteMetadata { checkpoint, uri, bytes });
            }
            CheckpointEffect::Commit { checkpoint, committables } => {
                // Without a coordinator everything starts again, and the next one commits it first.
                if self.coordinator.is_open() {
                    out.coordinator(ToCoordinator::Commit { checkpoint: Some(checkpoint), committables });
                }
            }
            CheckpointEffect::Remove { removal, items } => out.push(JobMasterEffect::Remove { removal, items }),
            CheckpointEffect::FailJob { reason } => {
                out.later.push_back(Event::GlobalFailure(TaskFailure::new(FailureKind::Job, reason)));
            }
            CheckpointEffect::RequestDone { request: adaptive::OWN_REQUEST, result } => {
                self.on_checkpoint_before_rescaling(result, out.now);
            }
            CheckpointEffect::RequestDone { request, result } => {
                out.push(JobMasterEffect::RequestDone { request, result });
            }
            // Its tasks finish as those of any job do.
            CheckpointEffect::Stopped { .. } => {}
            CheckpointEffect::ScheduleTimer { generation, at } => {
                self.timers.set(Timer::Checkpoints { generation }, at, out);
            }
        }
    }

    /// Tells every worker of a checkpoint, and those of the tasks that begin it, which these are.
    fn trigger(&self, trigger: &Arc<CheckpointTrigger>, tasks: &[TaskId], out: &mut Outbox) {
        let mut of_workers: BTreeMap<(u32, u32), Vec<TaskId>> = BTreeMap::new();
        for &task in tasks {
            let worker = self.tasks.get(self.scheduler.graph().index_of(task)).worker;
            of_workers.entry((self.scheduler.deployment_of(task), worker)).or_default().push(task);
        }
        for (&number, deployment) in self.deployments.iter().filter(|(_, deployment)| deployment.is_deployed()) {
            let id = self.deployment_id(number);
            for (worker, data) in (0u32..).zip(&deployment.workers).filter(|(_, data)| data.active) {
                let tasks = of_workers.remove(&(number, worker)).unwrap_or_default();
                let message = ToTaskManager::TriggerCheckpoint { deployment: id, trigger: trigger.clone(), tasks };
                out.task_manager(&data.location.task_manager, message);
            }
        }
    }

    /// Tells every worker that runs tasks.
    fn tell_workers(&self, message: impl Fn(DeploymentId) -> ToTaskManager, out: &mut Outbox) {
        for (&number, deployment) in self.deployments.iter().filter(|(_, deployment)| deployment.is_deployed()) {
            for data in deployment.workers.iter().filter(|data| data.active) {
                out.task_manager(&data.location.task_manager, message(self.deployment_id(number)));
            }
        }
    }

    pub(super) fn on_acknowledged(
        &mut self,
        number: u32,
        worker: u32,
        said: CheckpointAcknowledgement,
        out: &mut Outbox,
    ) {
        let CheckpointAcknowledgement { checkpoint, task, snapshot, committables, metrics } = said;
        if self.is_heard(number, worker, task) {
            let acknowledgement =
                Acknowledgement { checkpoint, task, deployment: number, snapshot, committables, metrics };
            self.tell_checkpoints(CheckpointEvent::Acknowledged(Box::new(acknowledgement)), out);
        }
    }

    pub(super) fn on_declined(&mut self, number: u32, worker: u32, said: CheckpointDecline, out: &mut Outbox) {
        let CheckpointDecline { checkpoint, task, cause, reason, committables } = said;
        if self.is_heard(number, worker, task) {
            let declined =
                CheckpointEvent::Declined { checkpoint, task, deployment: number, cause, reason, committables };
            self.tell_checkpoints(declined, out);
        }
    }

    /// Whether what a worker says of a task's output and state matters.
    fn is_heard(&self, number: u32, worker: u32, task: TaskId) -> bool {
        self.scheduler.graph().contains(task)
            && self.runs(number, worker, task)
            && self.scheduler.state_of(task) != ExecutionState::Canceling
    }

    /// The job's status has changed.
    pub(super) fn on_status(&mut self, to: JobStatus, out: &mut Outbox) {
        let failure = || self.scheduler.failures().last().map(|record| record.failure.message.clone());
        match to {
            // Other tasks that go down with them are known when they are scheduled again.
            JobStatus::Restarting => {
                let ended = |task: &TaskId| {
                    matches!(
                        self.scheduler.state_of(*task),
                        ExecutionState::Failed | ExecutionState::Canceling | ExecutionState::Canceled
                    )
                };
                let tasks: Vec<_> = self.checkpoints.job.tasks().filter(ended).collect();
                if !tasks.is_empty() {
                    let reason = failure().unwrap_or_else(|| "tasks start again".to_owned());
                    self.interrupt(tasks, reason, out);
                }
            }
            JobStatus::Failing => {
                let reason = failure().unwrap_or_else(|| "the job fails".to_owned());
                self.interrupt(Vec::new(), reason, out);
            }
            JobStatus::Cancelling => self.interrupt(Vec::new(), "the job is canceled".to_owned(), out),
            // Checkpoints follow the tasks; and the end is told with what is left to do then.
            JobStatus::Created
            | JobStatus::Running
            | JobStatus::Initializing
            | JobStatus::Reconciling
            | JobStatus::Suspended
            | JobStatus::Failed
            | JobStatus::Canceled
            | JobStatus::Finished => {}
        }
    }

    /// `tasks`: none are all.
    fn interrupt(&mut self, tasks: Vec<TaskId>, reason: String, out: &mut Outbox) {
        self.checkpoints.running = false;
        self.tell_checkpoints(CheckpointEvent::Interrupted { tasks, reason }, out);
    }

    /// Lets checkpoints begin once every task runs or has finished.
    pub(super) fn notice_running(&mut self, out: &mut Outbox) {
        if self.checkpoints.running
            || self.scheduler.status() != JobStatus::Running
            || self.scheduler.is_committing()
            || self.scheduler.count(ExecutionState::Running) + self.scheduler.count(ExecutionState::Finished)
                != self.scheduler.graph().task_count()
        {
            return;
        }
        self.checkpoints.running = true;
        self.tell_checkpoints(CheckpointEvent::AllRunning, out);
    }

    /// Decides from where tasks start that are scheduled now. The error is one that no restart puts right.
    pub(super) fn restore(
        &mut self,
        number: u32,
        tasks: &[TaskId],
        out: &mut Outbox,
    ) -> Result<Option<Arc<Restore>>, String> {
        if number > 0 {
            self.interrupt(tasks.to_vec(), "tasks start again".to_owned(), out);
        }
        let restore = self.find_restore(out)?;
        if number > 0 {
            let redeployed = CheckpointEvent::Redeployed { deployment: number, tasks: tasks.to_vec() };
            self.tell_checkpoints(redeployed, out);
        }
        Ok(restore.map(Arc::new))
    }

    /// From where tasks are to start that start now; `None`: from the beginning.
    pub(super) fn find_restore(&mut self, out: &mut Outbox) -> Result<Option<Restore>, String> {
        loop {
            let (found, committables) = match self.checkpoints.coordinator.restore_point() {
                RestorePoint::Beginning => return Ok(None),
                RestorePoint::Checkpoint { checkpoint, committables } => (checkpoint, committables),
                RestorePoint::Lost { reason } => {
                    return Err(format!(
                        "there is no checkpoint left that the job could go on from, and it must not start over as if it had none; \
                         `-s` (execution.state-recovery.path) starts it from a savepoint. The last one: {reason}"
                    ));
                }
            };
            let checkpoint = found.metadata.checkpoint;
            match assign(&found.metadata, &self.checkpoints.job, self.checkpoints.allow_non_restored) {
                Ok(assignment) => return Ok(Some(Restore { checkpoint, assignment, committables })),
                Err(error @ AssignError::Damaged { .. }) => {
                    self.give_up_checkpoint(checkpoint, &error.to_string(), out)
                }
                Err(error) => return Err(format!("the job cannot go on from checkpoint {checkpoint}: {error}")),
            }
        }
    }

    /// State of a checkpoint cannot be read: it is not used again.
    pub(super) fn give_up_checkpoint(&mut self, checkpoint: u64, reason: &str, out: &mut Outbox) {
        out.push(JobMasterEffect::Warning(format!(
            "checkpoint {checkpoint} cannot be read and is not used again; the job goes on from the one before it, if there is one: {reason}"
        )));
        let event = CheckpointEvent::Unreadable { checkpoint, reason: reason.to_owned() };
        self.tell_checkpoints(event, out);
    }
}
