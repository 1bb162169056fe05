//! Parts that several answers have in common.

mod attempt;
mod checkpoint;
mod io_metrics;
mod plan;
mod states;
mod statistics;

pub(crate) use attempt::{SubtaskAttempt, TaskTimes, UNASSIGNED, endpoint, host, in_address, millis_between};
pub(crate) use checkpoint::{CheckpointLine, CheckpointsConfig, CheckpointsOverview, TaskDetails};
pub(crate) use io_metrics::IoMetrics;
pub(crate) use plan::{Plan, job_type};
pub(crate) use states::{ByJobStatus, ByState, Counts, LowerCaseCounts, aggregate};
pub(crate) use statistics::{Aggregated, Statistics};
