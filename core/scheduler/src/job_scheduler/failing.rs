//! What follows from failures: a record, and then a restart or the end.

use std::time::Duration;

use weir_model::{FailureKind, JobStatus, TaskFailure, TaskId};

use super::JobScheduler;
use crate::{Blame, Effect, FailureRecord, JobReport, RestartDecision};

/// What a failure concerns.
#[derive(Debug, Clone, Copy)]
pub(super) enum Scope<'a> {
    /// Tasks, and all that are connected with them.
    RegionsOf(&'a [u32]),
    /// The job.
    All,
}

impl JobScheduler {
    pub(super) fn on_global_failure(&mut self, failure: TaskFailure, now: Duration, effects: &mut Vec<Effect>) {
        self.record(None, failure, now, effects);
        self.fail(Scope::All, Some(Blame::Job), now, effects);
    }

    pub(super) fn on_fatal_failure(&mut self, failure: TaskFailure, now: Duration, effects: &mut Vec<Effect>) {
        self.record(None, failure, now, effects);
        self.fail_for_good(now, effects);
    }

    /// Restarts what a failure concerns, or fails the job; the failure has been recorded. Without `blame` it is a broken connection,
    /// whose reason is not known yet.
    pub(super) fn fail(&mut self, scope: Scope<'_>, blame: Option<Blame>, now: Duration, effects: &mut Vec<Effect>) {
        match self.status {
            // All tasks have finished and their output is being made visible: the commit's own result decides.
            JobStatus::Running if self.committing => {}
            JobStatus::Running => match self.backoff.on_failure(now) {
                RestartDecision::RestartAfter(delay) => {
                    self.begin_restart(scope, delay, now, effects);
                    blame.into_iter().for_each(|blame| self.learn(blame, now));
                }
                RestartDecision::GiveUp { reason } => {
                    self.not_restarted = reason;
                    self.fail_for_good(now, effects);
                }
            },
            // Handled together with the failure that began it.
            JobStatus::Restarting => {
                self.take_along(scope, now, effects);
                blame.into_iter().for_each(|blame| self.learn(blame, now));
            }
            // What fails before it starts fails again.
            JobStatus::Created => self.fail_for_good(now, effects),
            // One more failure of a job that is ending; recording it was enough.
            JobStatus::Failing | JobStatus::Cancelling => {}
            // Not entered by this machine, or at its end.
            JobStatus::Initializing
            | JobStatus::Reconciling
            | JobStatus::Suspended
            | JobStatus::Failed
            | JobStatus::Canceled
            | JobStatus::Finished => {}
        }
    }

    /// Whose doing the failure is for which the job restarts, if that was not known yet. For one that is not the job's it does not wait.
    pub(super) fn learn(&mut self, blame: Blame, now: Duration) {
        let Some(restart) = self.restart.as_mut().filter(|_| self.blame.is_none()) else { return };
        self.blame = Some(blame);
        if blame == Blame::Cluster && self.backoff.skip_pause(now) {
            restart.at = restart.at.min(now);
        }
    }

    /// Fails the job, after the failure has been recorded.
    pub(super) fn fail_for_good(&mut self, now: Duration, effects: &mut Vec<Effect>) {
        match self.status {
            // The commit's own result decides.
            JobStatus::Running if self.committing => {}
            JobStatus::Created | JobStatus::Running | JobStatus::Restarting => {
                self.restart = None;
                self.awaits_resources = false;
                self.set_status(JobStatus::Failing, now, effects);
                self.cancel_all(now, effects);
            }
            // It ends already.
            JobStatus::Failing | JobStatus::Cancelling => {}
            // Not entered by this machine, or at its end.
            JobStatus::Initializing
            | JobStatus::Reconciling
            | JobStatus::Suspended
            | JobStatus::Failed
            | JobStatus::Canceled
            | JobStatus::Finished => {}
        }
    }

    /// Whether all that is known of the trouble so far are broken connections.
    pub(super) fn only_connections_broke(&self) -> bool {
        matches!(self.status, JobStatus::Failing | JobStatus::Restarting)
            && self.failures.iter().all(|record| record.failure.kind == FailureKind::Network)
    }

    pub(super) fn record(
        &mut self,
        task: Option<TaskId>,
        failure: TaskFailure,
        now: Duration,
        effects: &mut Vec<Effect>,
    ) {
        let full = self.failures.len() == JobReport::MAX_FAILURES;
        self.more_failures += u64::from(full);
        // The one that explains the others is kept in any case.
        let explains = failure.kind != FailureKind::Network && self.only_connections_broke();
        if full && !explains {
            return;
        }
        let record = FailureRecord {
            task,
            task_name: task.map(|task| self.graph.task_name(task)),
            // With one worker its number says nothing.
            worker: task.filter(|_| self.several_workers).map(|task| self.executions.worker(self.graph.index_of(task))),
            failure,
            at: now,
        };
        effects.push(Effect::FailureRecorded { first: self.failures.is_empty(), record: record.clone() });
        if full {
            self.failures.pop();
        }
        self.failures.push(record);
    }

    pub(super) fn forget_failures(&mut self) {
        self.failures.clear();
        self.blame = None;
        self.more_failures = 0;
    }
}
