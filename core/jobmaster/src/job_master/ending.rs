//! The end of a job.

use weir_checkpoint::CheckpointEvent;
use weir_model::{FailureKind, TaskFailure};
use weir_scheduler::{FailureRecord, JobReport as SchedulerReport};

use super::{JobMaster, Outbox};
use crate::{JobMasterEffect, JobReport, ToCoordinator};

impl JobMaster {
    /// Has the coordinator remove what is not committed; what a lost one left stays hidden.
    pub(super) fn discard(&mut self, out: &mut Outbox) {
        // Output of complete checkpoints that is not known to be visible belongs to whoever goes on from them.
        if self.coordinator.has_opened() && !self.has_unconfirmed() {
            out.coordinator(ToCoordinator::Discard);
        }
    }

    pub(super) fn end(&mut self, report: SchedulerReport, out: &mut Outbox) {
        self.ended = Some(out.now);
        self.waiting = None;
        self.tell_checkpoints(CheckpointEvent::Ended { status: report.status }, out);
        // All tasks have ended, so their workers were told to leave or are gone.
        debug_assert!(self.deployments.is_empty(), "{:?}", self.deployments);
        if self.declared {
            self.give_slots_back(out);
        }
        if self.coordinator.exists() {
            out.coordinator(ToCoordinator::Shutdown);
        }
        let failure = (!report.failures.is_empty()).then(|| self.history.failures().next()).flatten();
        if !report.stuck_tasks.is_empty() {
            self.remember_stuck(&report.stuck_tasks, report.failures.is_empty(), out);
        }
        out.push(JobMasterEffect::Ended(Box::new(JobReport {
            status: report.status,
            failure,
            not_restarted: report.not_restarted,
            stuck_tasks: report.stuck_tasks,
            restarts: self.scheduler.restarts(),
            started: self.accepted,
            ended: out.now,
        })));
    }

    /// Whoever looks at a job that did not end by itself is to see which tasks did not obey. It goes with the failure that ended the
    /// job, if there was one.
    fn remember_stuck(&mut self, names: &[String], first: bool, out: &Outbox) {
        let timeout = self.options.cancellation_timeout.unwrap_or_default();
        let (they, workers) = if names.len() == 1 { ("it", "its worker was") } else { ("they", "their workers were") };
        let message = format!(
            "when the job was to end, {they} did not stop within {timeout:?} (task.cancellation.timeout), so {workers} killed; look for calls \
             in the job's functions that block or loop for long"
        );
        let failure = TaskFailure::new(FailureKind::Worker, message);
        let record =
            FailureRecord { task: None, task_name: Some(names.join(", ")), worker: None, failure, at: out.now };
        self.remember(first, record);
    }
}
