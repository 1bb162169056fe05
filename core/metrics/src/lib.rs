//! Names and values of Weir's metrics under Flink's names, and their exposition for Prometheus.
//!
//! Owns the names: REST ids and Prometheus names come from the same place. Never collects anything from other processes: it is
//! given views.

use std::collections::BTreeMap;

use weir_model::{JobSummary, JobView, ResourcesView, SubtaskView};

/// Metrics by name without the scope, e.g. `Status.JVM.CPU.Load`.
pub type Values = BTreeMap<String, f64>;

/// What can be said of this very process, for JobManager and TaskManager alike.
pub fn process_metrics() -> Values {
    Values::new()
}

/// The metrics of the scope `jobmanager`.
pub fn cluster_metrics(_resources: &ResourcesView, _jobs: &[JobSummary]) -> Values {
    Values::new()
}

/// The metrics of a job, in the scope `jobmanager.job`. `now`: milliseconds since 1970-01-01 UTC.
pub fn job_metrics(_job: &JobView, _now: u64) -> Values {
    Values::new()
}

/// The metrics of a task, without its subtask's number.
pub fn task_metrics(_subtask: &SubtaskView) -> Values {
    Values::new()
}
