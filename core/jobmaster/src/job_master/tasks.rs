//! What is known of the current attempt of each task beside its state.

use std::sync::Arc;
use std::time::Duration;

use weir_model::{MetricsSnapshot, TaskManagerId, TaskRates};

/// Where tasks run.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Location {
    pub(super) task_manager: TaskManagerId,
    pub(super) host: Arc<str>,
}

/// One entry a task, in the graph's order.
#[derive(Debug)]
pub(super) struct TaskTable(Vec<TaskEntry>);

/// The current attempt of a task.
#[derive(Debug, Clone, Default)]
pub(super) struct TaskEntry {
    /// Where it runs or ran; none before it is placed.
    pub(super) location: Option<Arc<Location>>,
    /// The worker's number in the deployment.
    pub(super) worker: u32,
    /// Whether the coordinator has been asked for a split on its behalf and has not answered.
    pub(super) awaits_split: bool,
    /// What it last reported.
    pub(super) metrics: MetricsSnapshot,
    pub(super) rates: TaskRates,
    reported: Option<Duration>,
}

impl TaskTable {
    pub(super) fn new(tasks: u32) -> Self {
        Self(vec![TaskEntry::default(); tasks as usize])
    }

    pub(super) fn get(&self, index: usize) -> &TaskEntry {
        &self.0[index]
    }

    pub(super) fn get_mut(&mut self, index: usize) -> &mut TaskEntry {
        &mut self.0[index]
    }

    /// Forgets all about the attempt before.
    pub(super) fn renew(&mut self, index: usize) {
        self.0[index] = TaskEntry::default();
    }

    pub(super) fn place(&mut self, index: usize, worker: u32, location: Arc<Location>) {
        self.0[index] = TaskEntry { location: Some(location), worker, ..TaskEntry::default() };
    }
}

impl TaskEntry {
    pub(super) fn report(&mut self, metrics: MetricsSnapshot, now: Duration) {
        if let Some(before) = self.reported
            && let seconds = now.saturating_sub(before).as_secs_f64()
            && seconds > 0.0
        {
            self.rates = rates(&self.metrics, &metrics, seconds);
        } else if self.reported.is_some() {
            // Two reports at one moment say nothing about speed; the later one is kept for the next comparison.
            self.metrics = metrics;
            return;
        }
        self.metrics = metrics;
        self.reported = Some(now);
    }
}

fn rates(before: &MetricsSnapshot, after: &MetricsSnapshot, seconds: f64) -> TaskRates {
    let per_second = |before: u64, after: u64| after.saturating_sub(before) as f64 / seconds;
    let share = |before: u64, after: u64| (per_second(before, after) / 1e9).min(1.0);
    TaskRates {
        records_in: per_second(before.records_in, after.records_in),
        records_out: per_second(before.records_out, after.records_out),
        bytes_in: per_second(before.bytes_in, after.bytes_in),
        bytes_out: per_second(before.bytes_out, after.bytes_out),
        busy: share(before.busy_nanos, after.busy_nanos),
        idle: share(before.idle_nanos, after.idle_nanos),
        backpressured: share(before.backpressured_nanos, after.backpressured_nanos),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_changes_between_the_last_two_reports() {
        let snapshot = |records_in, busy_nanos| MetricsSnapshot { records_in, busy_nanos, ..Default::default() };
        let mut entry = TaskEntry::default();
        entry.report(snapshot(100, 0), Duration::from_secs(10));
        assert_eq!(entry.rates, TaskRates::default());
        entry.report(snapshot(300, 500_000_000), Duration::from_secs(12));
        assert_eq!((entry.rates.records_in, entry.rates.busy), (100.0, 0.25));
        entry.report(snapshot(310, 500_000_000), Duration::from_secs(12));
        assert_eq!((entry.rates.records_in, entry.metrics.records_in), (100.0, 310));
        // A clock of the task that runs ahead is not more than all of the time.
        entry.report(snapshot(310, 3_500_000_000), Duration::from_secs(13));
        assert_eq!((entry.rates.records_in, entry.rates.busy), (0.0, 1.0));
    }
}
