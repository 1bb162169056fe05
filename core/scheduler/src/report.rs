//! How a job ended, and why.

use std::fmt;
use std::time::Duration;

use weir_model::{FailureKind, JobStatus, TaskFailure, TaskId};

/// The end of a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobReport {
    /// FINISHED, FAILED or CANCELED.
    pub status: JobStatus,
    /// Failures since tasks were last started again, in the order in which they arrived; the first
    /// [`JobReport::MAX_FAILURES`].
    pub failures: Vec<FailureRecord>,
    /// Number of failures beyond those.
    pub more_failures: u64,
    /// Why the job was not started again after them: a sentence that names its restart strategy and the attempts made. `None`
    /// if it has no strategy, or was not asked.
    pub not_restarted: Option<String>,
    /// Names of tasks that did not stop within the cancellation timeout.
    pub stuck_tasks: Vec<String>,
    /// When the job was started; `None` if it never was.
    pub started: Option<Duration>,
    /// When it ended.
    pub ended: Duration,
}

/// A failure with its place and time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FailureRecord {
    /// The task that failed, if it was one.
    pub task: Option<TaskId>,
    /// Its name, e.g. `Count (2/4)`.
    pub task_name: Option<String>,
    /// The worker it ran on.
    pub worker: Option<u32>,
    /// What went wrong.
    pub failure: TaskFailure,
    /// When it was reported.
    pub at: Duration,
}

impl JobReport {
    /// How many failures are kept. One cause can fail every task of a large job, each with a backtrace.
    pub const MAX_FAILURES: usize = 32;

    /// The failure that most likely brought the job down.
    ///
    /// The first one, but for lost connections: when a worker fails, its neighbours' complaints can arrive before its own.
    pub fn root_cause(&self) -> Option<&FailureRecord> {
        let own_fault = |record: &&FailureRecord| record.failure.kind != FailureKind::Network;
        self.failures.iter().find(own_fault).or_else(|| self.failures.first())
    }
}

impl fmt::Display for FailureRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(name) = &self.task_name {
            f.write_str(name)?;
            if let Some(worker) = self.worker {
                write!(f, " on worker {worker}")?;
            }
            let separator = if self.failure.kind == FailureKind::Panic { " " } else { ": " };
            f.write_str(separator)?;
        }
        self.failure.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(kind: FailureKind, message: &str) -> FailureRecord {
        FailureRecord {
            task: Some(TaskId { vertex: 0, subtask: 1 }),
            task_name: Some("Count (2/4)".to_owned()),
            worker: Some(3),
            failure: TaskFailure::new(kind, message),
            at: Duration::ZERO,
        }
    }

    #[test]
    fn a_lost_connection_is_the_cause_only_if_there_is_no_other() {
        let mut report = JobReport {
            status: JobStatus::Failed,
            failures: Vec::new(),
            more_failures: 0,
            not_restarted: None,
            stuck_tasks: Vec::new(),
            started: None,
            ended: Duration::ZERO,
        };
        assert_eq!(report.root_cause(), None);
        report.failures = vec![record(FailureKind::Network, "closed"), record(FailureKind::Network, "reset")];
        assert_eq!(report.root_cause(), Some(&report.failures[0]));
        report.failures.push(record(FailureKind::Panic, "boom"));
        assert_eq!(report.root_cause(), Some(&report.failures[2]));
    }

    #[test]
    fn a_failure_names_its_task_and_worker() {
        assert_eq!(record(FailureKind::Panic, "boom").to_string(), "Count (2/4) on worker 3 panicked: boom");
        assert_eq!(record(FailureKind::Sink, "disk full").to_string(), "Count (2/4) on worker 3: disk full");
        let global = FailureRecord { task: None, task_name: None, ..record(FailureKind::Source, "no such file") };
        assert_eq!(global.to_string(), "no such file");
    }
}
