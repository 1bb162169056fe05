//! Names and values of Weir's metrics under Flink's names, and their exposition for Prometheus.
//!
//! Owns the names: REST ids and Prometheus names come from the same place. Never collects anything from other processes: it is
//! given views. Nothing is registered, so nothing can be left behind: what is shown is made from the views at the moment
//! somebody asks.
//!
//! A metric that Flink has and that a native process cannot tell is absent, not invented. Where Flink measures parts of a Java
//! virtual machine that do not exist here (garbage collectors, class loaders, metaspace), the value is 0, because dashboards
//! and the autoscaler ask for them.

mod cluster;
mod exposition;
mod job;
mod process;
mod task;

use std::collections::BTreeMap;

pub use cluster::cluster_metrics;
pub use exposition::{
    CONTENT_TYPE, JobManagerSample, TaskManagerSample, TaskSample, job_manager_exposition, task_manager_exposition,
};
pub use job::{CheckpointFigures, LastCheckpoint, job_metrics};
pub use process::{WorkerUsage, process_metrics, task_manager_metrics};
pub use task::{operator_metrics, rates_between, subtask_metrics, task_metrics};

/// Metrics by name without the scope, e.g. `Status.JVM.CPU.Load`.
pub type Values = BTreeMap<String, f64>;

/// A value as REST shows it: truth values as words, whole numbers without a fraction.
pub fn value_text(name: &str, value: f64) -> String {
    // The name may have the number of a subtask in front.
    match name.rsplit('.').next() {
        Some("isBackPressured") => (value != 0.0).to_string(),
        // The largest and the least have a meaning: the end of time, and no watermark yet.
        Some(name) if name.starts_with("current") && name.ends_with("Watermark") => (value as i64).to_string(),
        _ => value.to_string(),
    }
}

/// A name as part of a REST id, which dots divide: spaces, dots, colons and commas become `_`.
pub fn id_part(name: &str) -> String {
    name.chars().map(|c| if matches!(c, ' ' | '.' | ':' | ',') { '_' } else { c }).collect()
}

/// Adds values under their names.
fn extend<'n>(values: &mut Values, more: impl IntoIterator<Item = (&'n str, f64)>) {
    values.extend(more.into_iter().map(|(name, value)| (name.to_owned(), value)));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_read_as_flink_writes_them() {
        let check = |name, value, expect| assert_eq!(value_text(name, value), expect);
        check("numRecordsIn", 12_345_678_901.0, "12345678901");
        check("busyTimeMsPerSecond", 0.5, "0.5");
        check("uptime", -1.0, "-1");
        check("isBackPressured", 1.0, "true");
        check("3.isBackPressured", 0.0, "false");
        check("0.currentInputWatermark", 1_700_000_000_123.0, "1700000000123");
        check("0.Map.currentOutputWatermark", i64::MAX as f64, "9223372036854775807");
        check("currentInput2Watermark", i64::MIN as f64, "-9223372036854775808");
    }

    #[test]
    fn names_of_operators_become_parts_of_ids() {
        assert_eq!(id_part("Source: lines"), "Source__lines");
        assert_eq!(id_part("a.b,c -> d"), "a_b_c_->_d");
    }
}
