//! Events of tasks and of the workers that run them.

use std::time::Duration;

use weir_model::{ExecutionState, FailureKind, JobStatus, TaskFailure, TaskId};

use super::JobScheduler;
use super::canceling::others;
use super::failing::Scope;
use crate::{Blame, Effect};

impl JobScheduler {
    /// A task says it initializes, runs or has finished.
    pub(super) fn on_task_advanced(
        &mut self,
        deployment: u32,
        task: TaskId,
        to: ExecutionState,
        now: Duration,
        effects: &mut Vec<Effect>,
    ) {
        use ExecutionState::*;
        let Some(index) = self.current(deployment, task, now, effects) else { return };
        match self.executions.state(index) {
            // A fast task may report the end first; the states in between were passed through all the same.
            Deploying if to != Initializing => {
                self.set_state(index, Initializing, now);
                self.set_state(index, to, now);
            }
            from @ (Deploying | Initializing | Running) => {
                // Not a transition if the message came twice or late, e.g. RUNNING again.
                if from.can_become(to) {
                    self.set_state(index, to, now);
                }
            }
            // It finished before the order to stop arrived; its result is not wanted any more.
            Canceling if to == Finished => self.set_state(index, Canceled, now),
            // The order to stop and this message crossed.
            Canceling => {}
            // Duplicates, and tasks already given up with their worker.
            Finished | Canceled | Failed => {}
            from @ (Created | Scheduled | Reconciling) => {
                let problem = format!("reported {to} in state {from}, although it was not deployed");
                self.fail_for_internal_error(index, &problem, now, effects);
            }
        }
    }

    pub(super) fn on_task_failed(
        &mut self,
        deployment: u32,
        task: TaskId,
        failure: TaskFailure,
        now: Duration,
        effects: &mut Vec<Effect>,
    ) {
        let Some(index) = self.current(deployment, task, now, effects) else { return };
        if self.executions.state(index).is_terminal() {
            // A duplicate, or a task already given up with its worker.
            return;
        }
        if self.waiting.contains_key(&deployment) {
            // What is not deployed yet is given up as a whole.
            return self.on_deployment_failed(deployment, Some(task), failure, Blame::Job, now, effects);
        }
        // A broken connection is what is left of something else, of which may be heard later.
        let blame = (failure.kind != FailureKind::Network).then_some(Blame::Job);
        self.record(Some(task), failure, now, effects);
        self.set_state(index, ExecutionState::Failed, now);
        self.fail(Scope::RegionsOf(&[index as u32]), blame, now, effects);
    }

    pub(super) fn on_task_canceled(&mut self, deployment: u32, task: TaskId, now: Duration, effects: &mut Vec<Effect>) {
        let Some(index) = self.current(deployment, task, now, effects) else { return };
        match self.executions.state(index) {
            ExecutionState::Canceling => self.set_state(index, ExecutionState::Canceled, now),
            // Duplicates, and tasks already given up with their worker.
            ExecutionState::Finished | ExecutionState::Canceled | ExecutionState::Failed => {}
            from @ (ExecutionState::Created | ExecutionState::Scheduled | ExecutionState::Reconciling) => {
                let problem = format!("stopped in state {from}, although it was not deployed");
                self.fail_for_internal_error(index, &problem, now, effects);
            }
            // Ignoring this would leave the job waiting for a task that is gone.
            from @ (ExecutionState::Deploying | ExecutionState::Initializing | ExecutionState::Running) => {
                self.set_state(index, ExecutionState::Canceled, now);
                let problem = format!("stopped in state {from}, although nobody canceled it");
                self.fail_for_internal_error(index, &problem, now, effects);
            }
        }
    }

    /// `what` names the worker and the first of its tasks.
    pub(super) fn on_worker_lost(
        &mut self,
        (deployment, worker): (u32, u32),
        what: &str,
        reason: &str,
        blame: Blame,
        now: Duration,
        effects: &mut Vec<Effect>,
    ) {
        let running = self.lose_worker((deployment, worker));
        let Some(&first) = running.first() else {
            let failure = || TaskFailure::new(FailureKind::Worker, format!("{what}, was lost: {reason}"));
            if self.status == JobStatus::Created {
                self.on_global_failure(failure(), now, effects);
            } else if self.waiting.contains_key(&deployment) {
                self.on_deployment_failed(deployment, None, failure(), blame, now, effects);
            }
            // Known already, or all its tasks have ended.
            return;
        };
        let unexpected = |&index: &u32| self.executions.state(index as usize) != ExecutionState::Canceling;
        // If all that is known so far are broken connections, this is why they broke.
        if running.iter().any(unexpected) || self.only_connections_broke() {
            let message = format!("{what}{}, was lost: {reason}", others(running.len()));
            let failure = TaskFailure::new(FailureKind::Worker, message);
            self.record(Some(self.graph.task_at(first)), failure, now, effects);
        }
        let failed = self.end_tasks_of_lost_worker(&running, &[], now);
        if failed.is_empty() {
            self.learn(blame, now);
        } else {
            self.fail(Scope::RegionsOf(&failed), Some(blame), now, effects);
        }
    }

    /// Marks a worker as lost; its tasks that have not ended, none if it is known to be lost.
    pub(super) fn lose_worker(&mut self, (deployment, worker): (u32, u32)) -> Vec<u32> {
        let deployed = self.deployed.get_mut(&deployment);
        let tasks = deployed.and_then(|deployed| deployed.lose(worker)).unwrap_or_default();
        let runs = |index: &u32| {
            let index = *index as usize;
            // One that has ended may run again already, elsewhere.
            self.executions.deployment(index) == deployment && !self.executions.state(index).is_terminal()
        };
        tasks.iter().copied().filter(runs).collect()
    }

    /// Ends tasks whose worker is lost: those in `stuck`, which is sorted, and those that were to go on have failed, and the
    /// latter are returned; others were to stop, and now they have.
    pub(super) fn end_tasks_of_lost_worker(&mut self, tasks: &[u32], stuck: &[u32], now: Duration) -> Vec<u32> {
        let mut failed = Vec::new();
        for &index in tasks {
            let canceling = self.executions.state(index as usize) == ExecutionState::Canceling;
            if !canceling {
                failed.push(index);
            }
            let end = if canceling && stuck.binary_search(&index).is_err() {
                ExecutionState::Canceled
            } else {
                ExecutionState::Failed
            };
            self.set_state(index as usize, end, now);
        }
        failed
    }

    /// The task's index, if this is about its current attempt; a task the job does not have fails the job.
    fn current(&mut self, deployment: u32, task: TaskId, now: Duration, effects: &mut Vec<Effect>) -> Option<usize> {
        if self.graph.contains(task) {
            let index = self.graph.index_of(task);
            // Otherwise it was started again meanwhile.
            return (self.executions.deployment(index) == deployment).then_some(index);
        }
        let message = format!(
            "a worker reported on subtask {} of vertex {}, which this job does not have: \
             driver and worker run different programs, or this is a bug of Weir",
            task.subtask, task.vertex
        );
        self.on_fatal_failure(TaskFailure::new(FailureKind::Job, message), now, effects);
        None
    }

    fn fail_for_internal_error(&mut self, index: usize, problem: &str, now: Duration, effects: &mut Vec<Effect>) {
        let message = format!("the task {problem}: this is a bug of Weir");
        let task = self.graph.task_at(index as u32);
        self.record(Some(task), TaskFailure::new(FailureKind::Job, message), now, effects);
        // What is not deployed yet is given up as a whole.
        let waiting = self.waiting.get(&self.executions.deployment(index)).cloned();
        let concerned = waiting.unwrap_or_else(|| vec![index as u32]);
        self.fail(Scope::RegionsOf(&concerned), Some(Blame::Job), now, effects);
    }
}
