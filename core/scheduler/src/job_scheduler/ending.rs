//! The ways to an end: failing, being canceled, committing, and running out of patience.

use std::time::Duration;

use weir_model::{ExecutionState, JobStatus, TaskFailure, TaskId};

use super::JobScheduler;
use crate::{Effect, JobReport, WorkerTasks};

impl JobScheduler {
    pub(super) fn on_global_failure(&mut self, failure: TaskFailure, now: Duration, effects: &mut Vec<Effect>) {
        self.record(None, failure, now);
        self.fail(now, effects);
    }

    pub(super) fn on_cancel_requested(&mut self, now: Duration, effects: &mut Vec<Effect>) {
        match self.status {
            // Output is being made visible; half of it would be worse than all of it, and it does not take long.
            JobStatus::Running if self.committing => {}
            JobStatus::Created | JobStatus::Running => {
                self.set_status(JobStatus::Cancelling, effects);
                self.cancel_tasks(now, effects);
            }
            // Its tasks are being canceled already; as in Flink, the person's wish names the end.
            JobStatus::Failing => self.set_status(JobStatus::Cancelling, effects),
            // Already asked for.
            JobStatus::Cancelling => {}
            // Not entered by this machine, or nothing left to cancel.
            JobStatus::Initializing
            | JobStatus::Restarting
            | JobStatus::Reconciling
            | JobStatus::Suspended
            | JobStatus::Failed
            | JobStatus::Canceled
            | JobStatus::Finished => {}
        }
    }

    /// The cancellation timeout: whoever has not stopped is reported by name, and the job ends without waiting for it.
    pub(super) fn on_timer(&mut self, generation: u64, effects: &mut Vec<Effect>) {
        let stopping = matches!(self.status, JobStatus::Failing | JobStatus::Cancelling);
        if generation != self.timer_generation || !stopping {
            return;
        }
        let stuck: Vec<TaskId> = self.tasks_where(|state| !state.is_terminal());
        for &task in &stuck {
            self.set_state(self.graph.index_of(task), ExecutionState::Failed);
        }
        if !stuck.is_empty() {
            effects.push(Effect::KillTasks(WorkerTasks::group(&self.placement, stuck.iter().copied())));
        }
        self.stuck.extend(stuck);
    }

    pub(super) fn on_commit_done(&mut self, result: Result<(), TaskFailure>, now: Duration, effects: &mut Vec<Effect>) {
        if !self.committing {
            // Nobody asked; a driver that answers twice does no harm.
            return;
        }
        self.committing = false;
        match result {
            Ok(()) => {
                self.set_status(JobStatus::Finished, effects);
                self.end(now, effects);
            }
            Err(failure) => {
                self.record(None, failure, now);
                self.fail(now, effects);
            }
        }
    }

    /// Lets the job fail, after the failure has been recorded.
    pub(super) fn fail(&mut self, now: Duration, effects: &mut Vec<Effect>) {
        match self.status {
            // All tasks have finished and their output is being made visible: the commit's own result decides.
            JobStatus::Running if self.committing => {}
            JobStatus::Created | JobStatus::Running => {
                self.set_status(JobStatus::Failing, effects);
                self.cancel_tasks(now, effects);
            }
            // One more failure of a job that is ending; recording it was enough.
            JobStatus::Failing | JobStatus::Cancelling => {}
            // Not entered by this machine, or at its end.
            JobStatus::Initializing
            | JobStatus::Restarting
            | JobStatus::Reconciling
            | JobStatus::Suspended
            | JobStatus::Failed
            | JobStatus::Canceled
            | JobStatus::Finished => {}
        }
    }

    /// Cancels every task that has not ended.
    fn cancel_tasks(&mut self, now: Duration, effects: &mut Vec<Effect>) {
        for task in self.tasks_where(|state| matches!(state, ExecutionState::Created | ExecutionState::Scheduled)) {
            // No worker knows of it.
            self.set_state(self.graph.index_of(task), ExecutionState::Canceled);
        }
        let running = self.tasks_where(|state| !state.is_terminal());
        if running.is_empty() {
            return;
        }
        for &task in &running {
            self.set_state(self.graph.index_of(task), ExecutionState::Canceling);
        }
        effects.push(Effect::CancelTasks(WorkerTasks::group(&self.placement, running.into_iter())));
        if let Some(timeout) = self.options.cancellation_timeout {
            self.timer_generation += 1;
            effects.push(Effect::ScheduleTimer { generation: self.timer_generation, at: now.saturating_add(timeout) });
        }
    }

    /// Takes the step that follows when no task is left.
    pub(super) fn end_if_all_tasks_have(&mut self, now: Duration, effects: &mut Vec<Effect>) {
        if self.remaining_tasks() > 0 {
            return;
        }
        match self.status {
            JobStatus::Running if !self.committing => {
                // Any other end of a task would have made the job FAILING.
                debug_assert_eq!(self.count(ExecutionState::Finished), self.graph.task_count());
                self.committing = true;
                effects.push(Effect::Commit);
            }
            JobStatus::Failing => self.end_without_result(JobStatus::Failed, now, effects),
            JobStatus::Cancelling => self.end_without_result(JobStatus::Canceled, now, effects),
            // Waits for the commit.
            JobStatus::Running => {}
            // Not started; every task is still to come, so this is not reached with a valid graph.
            JobStatus::Created | JobStatus::Initializing => {}
            // Not entered by this machine, or ended already.
            JobStatus::Restarting
            | JobStatus::Reconciling
            | JobStatus::Suspended
            | JobStatus::Failed
            | JobStatus::Canceled
            | JobStatus::Finished => {}
        }
    }

    fn end_without_result(&mut self, status: JobStatus, now: Duration, effects: &mut Vec<Effect>) {
        self.set_status(status, effects);
        effects.push(Effect::DiscardOutput);
        self.end(now, effects);
    }

    fn end(&mut self, now: Duration, effects: &mut Vec<Effect>) {
        debug_assert!(self.status.is_terminal());
        effects.push(Effect::JobEnded(JobReport {
            status: self.status,
            failures: std::mem::take(&mut self.failures),
            more_failures: self.more_failures,
            stuck_tasks: self.stuck.iter().map(|&task| self.graph.task_name(task)).collect(),
            started: self.started,
            ended: now,
        }));
    }

    fn tasks_where(&self, wanted: impl Fn(ExecutionState) -> bool) -> Vec<TaskId> {
        self.graph.tasks().zip(&self.states).filter(|(_, state)| wanted(**state)).map(|(task, _)| task).collect()
    }
}
