//! What tasks took in and gave out.

use serde::Serialize;
use weir_model::{MetricsSnapshot, SubtaskView};

use super::Statistics;
use crate::answer::Double;

/// Totals of a task, or of several.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct IoMetrics {
    read_bytes: u64,
    read_bytes_complete: bool,
    write_bytes: u64,
    write_bytes_complete: bool,
    read_records: u64,
    read_records_complete: bool,
    write_records: u64,
    write_records_complete: bool,
    accumulated_backpressured_time: u64,
    accumulated_idle_time: u64,
    accumulated_busy_time: Double,
}

impl IoMetrics {
    pub(crate) fn of<'a>(tasks: impl IntoIterator<Item = &'a SubtaskView>) -> Self {
        let mut sum = MetricsSnapshot::default();
        for task in tasks {
            let metrics = &task.metrics;
            sum.records_in += metrics.records_in;
            sum.records_out += metrics.records_out;
            sum.bytes_in += metrics.bytes_in;
            sum.bytes_out += metrics.bytes_out;
            sum.busy_nanos += metrics.busy_nanos;
            sum.idle_nanos += metrics.idle_nanos;
            sum.backpressured_nanos += metrics.backpressured_nanos;
        }
        // Complete: a task is counted from its first report on. Readers take what is not complete as not there.
        Self {
            read_bytes: sum.bytes_in,
            read_bytes_complete: true,
            write_bytes: sum.bytes_out,
            write_bytes_complete: true,
            read_records: sum.records_in,
            read_records_complete: true,
            write_records: sum.records_out,
            write_records_complete: true,
            accumulated_backpressured_time: sum.backpressured_nanos / NANOS_PER_MILLI,
            accumulated_idle_time: sum.idle_nanos / NANOS_PER_MILLI,
            accumulated_busy_time: Double((sum.busy_nanos / NANOS_PER_MILLI) as f64),
        }
    }
}

const NANOS_PER_MILLI: u64 = 1_000_000;

/// How the totals of tasks spread.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct IoStatistics {
    read_bytes: Statistics,
    write_bytes: Statistics,
    read_records: Statistics,
    write_records: Statistics,
    accumulated_backpressured_time: Statistics,
    accumulated_idle_time: Statistics,
    accumulated_busy_time: Statistics,
}

impl IoStatistics {
    pub(super) fn of(tasks: &[&SubtaskView]) -> Self {
        let over = |value: fn(&MetricsSnapshot) -> u64| {
            Statistics::of(tasks.iter().map(|task| i64::try_from(value(&task.metrics)).unwrap_or(i64::MAX)))
        };
        Self {
            read_bytes: over(|metrics| metrics.bytes_in),
            write_bytes: over(|metrics| metrics.bytes_out),
            read_records: over(|metrics| metrics.records_in),
            write_records: over(|metrics| metrics.records_out),
            accumulated_backpressured_time: over(|metrics| metrics.backpressured_nanos / NANOS_PER_MILLI),
            accumulated_idle_time: over(|metrics| metrics.idle_nanos / NANOS_PER_MILLI),
            accumulated_busy_time: over(|metrics| metrics.busy_nanos / NANOS_PER_MILLI),
        }
    }
}
