//! Events of tasks and of the workers that run them.

use std::time::Duration;

use weir_model::{ExecutionState, FailureKind, JobStatus, TaskFailure, TaskId};

use super::JobScheduler;
use crate::Effect;

impl JobScheduler {
    /// A task says it initializes, runs or has finished.
    pub(super) fn on_task_advanced(
        &mut self,
        task: TaskId,
        to: ExecutionState,
        now: Duration,
        effects: &mut Vec<Effect>,
    ) {
        use ExecutionState::*;
        let Some(index) = self.known(task, now, effects) else { return };
        match self.states[index] {
            // A fast task may report the end first; the states in between were passed through all the same.
            Deploying if to != Initializing => {
                self.set_state(index, Initializing);
                self.set_state(index, to);
            }
            from @ (Deploying | Initializing | Running) => {
                // Not a transition if the message came twice or late, e.g. RUNNING again.
                if from.can_become(to) {
                    self.set_state(index, to);
                }
            }
            // It finished before the order to stop arrived; its result is not wanted any more.
            Canceling if to == Finished => self.set_state(index, Canceled),
            // The order to stop and this message crossed.
            Canceling => {}
            // Duplicates, and tasks already given up with their worker.
            Finished | Canceled | Failed => {}
            from @ (Created | Scheduled | Reconciling) => {
                let problem = format!("reported {to} in state {from}, although it was never deployed");
                self.fail_for_internal_error(task, &problem, now, effects);
            }
        }
    }

    pub(super) fn on_task_failed(
        &mut self,
        task: TaskId,
        failure: TaskFailure,
        now: Duration,
        effects: &mut Vec<Effect>,
    ) {
        let Some(index) = self.known(task, now, effects) else { return };
        if self.states[index].is_terminal() {
            // A duplicate, or a task already given up with its worker.
            return;
        }
        self.set_state(index, ExecutionState::Failed);
        self.record(Some(task), failure, now);
        self.fail(now, effects);
    }

    pub(super) fn on_task_canceled(&mut self, task: TaskId, now: Duration, effects: &mut Vec<Effect>) {
        let Some(index) = self.known(task, now, effects) else { return };
        match self.states[index] {
            ExecutionState::Canceling => self.set_state(index, ExecutionState::Canceled),
            // Duplicates, and tasks already given up with their worker.
            ExecutionState::Finished | ExecutionState::Canceled | ExecutionState::Failed => {}
            // Ignoring this would leave the job waiting for a task that is gone.
            from @ (ExecutionState::Created
            | ExecutionState::Scheduled
            | ExecutionState::Deploying
            | ExecutionState::Initializing
            | ExecutionState::Running
            | ExecutionState::Reconciling) => {
                self.set_state(index, ExecutionState::Canceled);
                let problem = format!("stopped in state {from}, although nobody canceled it");
                self.fail_for_internal_error(task, &problem, now, effects);
            }
        }
    }

    pub(super) fn on_worker_lost(&mut self, worker: u32, reason: &str, now: Duration, effects: &mut Vec<Effect>) {
        match self.lost_workers.get_mut(worker as usize) {
            // Known already, or a worker that was never this job's.
            None | Some(true) => return,
            Some(lost) => *lost = true,
        }
        let (placement, states) = (&self.placement, &self.states);
        let on_it: Vec<(usize, TaskId)> = self
            .graph
            .tasks()
            .enumerate()
            .filter(|&(index, task)| !states[index].is_terminal() && placement.worker_of(task) == worker)
            .collect();
        let Some(&(_, first)) = on_it.first() else { return };
        let mut unexpected = 0;
        for &(index, _) in &on_it {
            if self.states[index] == ExecutionState::Canceling {
                // It was to stop, and now it has.
                self.set_state(index, ExecutionState::Canceled);
            } else {
                self.set_state(index, ExecutionState::Failed);
                unexpected += 1;
            }
        }
        // If all that is known so far are broken connections, this is why they broke.
        let explains = self.status == JobStatus::Failing
            && self.failures.iter().all(|record| record.failure.kind == FailureKind::Network);
        if unexpected > 0 || explains {
            let others = match on_it.len() - 1 {
                0 => String::new(),
                1 => " and another one".to_owned(),
                n => format!(" and {n} others"),
            };
            let message = format!("worker {worker}, which ran this task{others}, was lost: {reason}");
            self.record(Some(first), TaskFailure::new(FailureKind::Worker, message), now);
            self.fail(now, effects);
        }
    }

    /// The task's index; a task the job does not have fails the job.
    fn known(&mut self, task: TaskId, now: Duration, effects: &mut Vec<Effect>) -> Option<usize> {
        if self.graph.contains(task) {
            return Some(self.graph.index_of(task));
        }
        let message = format!(
            "a worker reported on subtask {} of vertex {}, which this job does not have: \
             driver and worker run different programs, or this is a bug of Weir",
            task.subtask, task.vertex
        );
        self.record(None, TaskFailure::new(FailureKind::Job, message), now);
        self.fail(now, effects);
        None
    }

    fn fail_for_internal_error(&mut self, task: TaskId, problem: &str, now: Duration, effects: &mut Vec<Effect>) {
        let message = format!("the task {problem}: this is a bug of Weir");
        self.record(Some(task), TaskFailure::new(FailureKind::Job, message), now);
        self.fail(now, effects);
    }
}
