//! Weir's own jobs. To be filled in when the `weir` crate runs jobs; until then the system is left out of every call.

use crate::job::{Failure, Job, Outcome};
use std::process::ExitCode;

/// Whether this build can run the system.
pub const AVAILABLE: bool = false;

/// Called first in `main`: runs and returns when this process was started by Weir itself as one of its workers.
pub fn run_as_worker() -> Option<ExitCode> {
    None
}

/// Runs `job`.
pub fn run(job: &Job) -> Result<Outcome, Failure> {
    Err(format!("the weir system cannot run {} in this build", job.workload).into())
}
