//! What TaskManagers report of running tasks.

use std::time::Duration;

use weir_checkpoint::CheckpointEvent;
use weir_model::{ExecutionState, FailureKind, MetricsSnapshot, TaskChange, TaskFailure, TaskId, ToTaskManager};
use weir_scheduler::{Event, WorkerTasks};

use super::deployment::Deployment;
use super::{JobMaster, Outbox};
use crate::ToCoordinator;

impl JobMaster {
    pub(super) fn on_tasks_changed(&mut self, number: u32, worker: u32, changes: Vec<TaskChange>, out: &mut Outbox) {
        for change in changes {
            // One change can end the deployment or the job, and what follows is no longer of interest.
            if self.deployments.get(&number).is_some_and(Deployment::is_deployed) {
                self.on_task_changed(number, worker, change, out);
            }
        }
    }

    fn on_task_changed(&mut self, number: u32, worker: u32, change: TaskChange, out: &mut Outbox) {
        let TaskChange { task, state, failure, committables } = change;
        if self.scheduler.graph().contains(task) {
            if !self.runs(number, worker, task) {
                // It has ended, or runs again elsewhere.
                return;
            }
            if state == ExecutionState::Finished && self.scheduler.state_of(task) != ExecutionState::Canceling {
                let finished = CheckpointEvent::TaskFinished { task, deployment: number, committables };
                self.tell_checkpoints(finished, out);
            }
            if state.is_terminal() {
                self.count_end(number, worker, out);
            }
        }
        let deployment = number;
        let event = match state {
            ExecutionState::Initializing => Event::TaskInitializing { deployment, task },
            ExecutionState::Running => Event::TaskRunning { deployment, task },
            ExecutionState::Finished => Event::TaskFinished { deployment, task },
            ExecutionState::Canceled => Event::TaskCanceled { deployment, task },
            ExecutionState::Failed => {
                let mut failure = failure;
                if let Some(failure) = failure.as_mut().filter(|failure| failure.kind == FailureKind::State) {
                    self.on_unreadable(number, failure, out);
                }
                let unknown = || TaskFailure::new(FailureKind::Worker, "the task failed without saying why");
                Event::TaskFailed { deployment, task, failure: failure.unwrap_or_else(unknown) }
            }
            // Workers report these never: they are the scheduler's own.
            ExecutionState::Created
            | ExecutionState::Scheduled
            | ExecutionState::Deploying
            | ExecutionState::Canceling
            | ExecutionState::Reconciling => return,
        };
        self.tell(event, out);
    }

    /// Whether a task of the job is in this worker's hands and has not ended.
    pub(super) fn runs(&self, number: u32, worker: u32, task: TaskId) -> bool {
        let entry = self.tasks.get(self.scheduler.graph().index_of(task));
        self.scheduler.deployment_of(task) == number
            && entry.worker == worker
            && !self.scheduler.state_of(task).is_terminal()
    }

    /// A task could not read what it was to begin with: what is left is an earlier checkpoint, for all tasks.
    fn on_unreadable(&mut self, number: u32, failure: &mut TaskFailure, out: &mut Outbox) {
        let Some(deployment) = self.deployments.get_mut(&number) else { return };
        let Some(checkpoint) = deployment.restore.as_ref().map(|restore| restore.checkpoint) else { return };
        let first = !std::mem::replace(&mut deployment.unreadable, true);
        let reason = std::mem::take(&mut failure.message);
        failure.message = format!(
            "checkpoint {checkpoint} cannot be read, so all tasks start again from the one before it, if there is one; what became \
             visible since then is made once more: {reason}"
        );
        if !first {
            // Another task has said so.
            return;
        }
        self.give_up_checkpoint(checkpoint, &reason, out);
        out.later.push_back(Event::GlobalFailure(TaskFailure::new(FailureKind::State, failure.message.clone())));
    }

    /// Counts the end of one of a worker's tasks; after the last one the worker may leave.
    fn count_end(&mut self, number: u32, worker: u32, out: &mut Outbox) {
        let id = self.deployment_id(number);
        let Some(deployment) = self.deployments.get_mut(&number) else { return };
        let data = &mut deployment.workers[worker as usize];
        data.remaining = data.remaining.saturating_sub(1);
        if data.remaining == 0 && data.active {
            out.task_manager(&data.location.task_manager, ToTaskManager::ReleaseWorker { deployment: id });
            self.leave(number, worker);
        }
    }

    /// Loses interest in a worker, and in its deployment with the last one.
    pub(super) fn leave(&mut self, number: u32, worker: u32) {
        if self.deployments.get_mut(&number).is_some_and(|deployment| deployment.leave(worker)) {
            self.deployments.remove(&number);
        }
    }

    pub(super) fn on_split_requested(&mut self, number: u32, worker: u32, task: TaskId, out: &mut Outbox) {
        let running = self.scheduler.graph().contains(task)
            && self.runs(number, worker, task)
            && matches!(
                self.scheduler.state_of(task),
                ExecutionState::Deploying | ExecutionState::Initializing | ExecutionState::Running
            );
        // A task that is to stop needs nothing more, and without a coordinator all are to.
        if !running || !self.coordinator.is_open() {
            return;
        }
        let entry = self.tasks.get_mut(self.scheduler.graph().index_of(task));
        // A request that came twice must not take two splits.
        if !std::mem::replace(&mut entry.awaits_split, true) {
            out.coordinator(ToCoordinator::SplitRequest { task });
        }
    }

    pub(super) fn on_metrics(&mut self, number: u32, worker: u32, tasks: &[(TaskId, MetricsSnapshot)], now: Duration) {
        for (task, metrics) in tasks {
            let task = *task;
            if !self.scheduler.graph().contains(task) || self.scheduler.deployment_of(task) != number {
                // It runs again elsewhere.
                continue;
            }
            let entry = self.tasks.get_mut(self.scheduler.graph().index_of(task));
            if entry.worker == worker {
                entry.report(metrics.clone(), now);
            }
        }
    }

    /// Tells workers to stop tasks.
    pub(super) fn cancel_tasks(&mut self, workers: Vec<WorkerTasks>, out: &mut Outbox) {
        for WorkerTasks { deployment, worker, tasks } in workers {
            let id = self.deployment_id(deployment);
            // A worker that is gone has no tasks to stop.
            let Some(data) = self.deployments.get(&deployment).map(|data| &data.workers[worker as usize]) else {
                continue;
            };
            if data.active {
                let all = tasks.len() == data.remaining as usize;
                let message =
                    ToTaskManager::CancelTasks { deployment: id, tasks: if all { Vec::new() } else { tasks } };
                out.task_manager(&data.location.task_manager, message);
            }
        }
    }
}
