//! The ways to an end.

use std::time::Duration;

use weir_model::{ExecutionState, JobStatus, TaskFailure};

use super::JobScheduler;
use crate::{Effect, JobReport};

impl JobScheduler {
    pub(super) fn on_commit_done(&mut self, result: Result<(), TaskFailure>, now: Duration, effects: &mut Vec<Effect>) {
        if !self.committing {
            // Nobody asked; a driver that answers twice does no harm.
            return;
        }
        self.committing = false;
        self.commit_deadline = None;
        match result {
            Ok(()) => {
                self.set_status(JobStatus::Finished, now, effects);
                self.end(now, effects);
            }
            // Part of the output may be visible, so running again could show it twice.
            Err(failure) => self.on_fatal_failure(failure, now, effects),
        }
    }

    /// Takes the step that follows when tasks have ended.
    pub(super) fn end_if_all_tasks_have(&mut self, now: Duration, effects: &mut Vec<Effect>) {
        if self.status == JobStatus::Restarting {
            return self.restart_if_ready(now, effects);
        }
        if self.executions.remaining() > 0 {
            return;
        }
        match self.status {
            JobStatus::Running if !self.committing => {
                // Any other end of a task would have made the job FAILING or RESTARTING.
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
            // Dealt with above, not entered by this machine, or ended already.
            JobStatus::Restarting
            | JobStatus::Reconciling
            | JobStatus::Suspended
            | JobStatus::Failed
            | JobStatus::Canceled
            | JobStatus::Finished => {}
        }
    }

    fn end_without_result(&mut self, status: JobStatus, now: Duration, effects: &mut Vec<Effect>) {
        self.set_status(status, now, effects);
        effects.push(Effect::DiscardOutput);
        self.end(now, effects);
    }

    fn end(&mut self, now: Duration, effects: &mut Vec<Effect>) {
        self.stuck.sort_unstable();
        debug_assert!(self.status.is_terminal());
        effects.push(Effect::JobEnded(JobReport {
            status: self.status,
            failures: std::mem::take(&mut self.failures),
            more_failures: self.more_failures,
            not_restarted: self.not_restarted.clone(),
            stuck_tasks: self.stuck.iter().map(|&task| self.graph.task_name(task)).collect(),
            started: self.started,
            ended: now,
        }));
    }
}
