//! Weir's own jobs. To be filled in when the `weir` crate runs jobs; until then the system is left out of every call.
//!
//! What a run owes the harness: generate [`Bid::nth`](crate::generate::Bid::nth) of `0..job.records` (or read `job.text()`), do the
//! workload at `job.parallelism`, and return how long it took and what all sink subtasks saw together, collected with
//! [`Observed`](crate::generate::Observed). The parent compares that with what it computed itself; CPU seconds are taken around
//! [`run`], children included once they were waited for. Latency: a bid's `event_time` is its
//! [`due_ns`](crate::latency::due_ns), and each sink subtask feeds a [`Meter`](crate::latency::Meter).

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
