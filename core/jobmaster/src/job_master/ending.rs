//! The end of a job.

use weir_scheduler::JobReport as SchedulerReport;

use super::{JobMaster, Outbox};
use crate::{JobMasterEffect, JobReport, ToCoordinator};

impl JobMaster {
    /// Has the coordinator remove what is not committed; what a lost one left stays hidden.
    pub(super) fn discard(&mut self, out: &mut Outbox) {
        if self.coordinator.has_opened() {
            out.coordinator(ToCoordinator::Discard);
        }
    }

    pub(super) fn end(&mut self, report: SchedulerReport, out: &mut Outbox) {
        self.ended = Some(out.now);
        self.waiting = None;
        // All tasks have ended, so their workers were told to leave or are gone.
        debug_assert!(self.deployments.is_empty(), "{:?}", self.deployments);
        if self.declared {
            self.declare_requirements(0, out);
        }
        if self.coordinator.exists() {
            out.coordinator(ToCoordinator::Shutdown);
        }
        let failure = (!report.failures.is_empty()).then(|| self.history.failures().next()).flatten();
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
}
