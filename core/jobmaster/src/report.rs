//! How a job ended, and why.

use std::time::Duration;

use weir_model::{FailureView, JobStatus};

/// The end of a job.
#[derive(Debug, Clone, PartialEq)]
pub struct JobReport {
    /// FINISHED, FAILED or CANCELED.
    pub status: JobStatus,
    /// The failure that brought the job down, with those that came with it; `None` if it was not brought down by one.
    pub failure: Option<FailureView>,
    /// Why it was not started again, if it has a restart strategy: a sentence that names the strategy and the attempts made.
    pub not_restarted: Option<String>,
    /// Names of tasks that did not stop within the cancellation timeout; their worker processes were killed.
    pub stuck_tasks: Vec<String>,
    /// How often tasks were started again.
    pub restarts: u32,
    /// When it was accepted.
    pub started: Duration,
    /// When it ended.
    pub ended: Duration,
}
