//! What the checkpoints of a job look like to people, in the terms of Flink's REST API.

use std::time::Duration;

use weir_model::{CheckpointKind, SnapshotMetrics, VertexId};

/// Everything there is to show.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct CheckpointsView {
    /// How many there have been.
    pub counts: CheckpointCounts,
    /// Over the completed ones that are remembered.
    pub summary: CheckpointSummary,
    /// The last one that completed and is no savepoint.
    pub latest_completed: Option<CheckpointView>,
    /// The last savepoint that completed.
    pub latest_savepoint: Option<CheckpointView>,
    /// The last one that failed.
    pub latest_failed: Option<CheckpointView>,
    /// What the job was last restored from.
    pub latest_restored: Option<RestoredView>,
    /// Newest first.
    pub history: Vec<CheckpointView>,
}

/// Numbers of checkpoints and savepoints since the job was submitted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CheckpointCounts {
    /// Times the job was restored.
    pub restored: u64,
    /// Triggered.
    pub total: u64,
    /// Under way.
    pub in_progress: u64,
    /// Completed.
    pub completed: u64,
    /// Failed or given up.
    pub failed: u64,
}

/// Figures over several checkpoints.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct CheckpointSummary {
    /// Bytes written.
    pub checkpointed_size: Distribution,
    /// Bytes of state.
    pub state_size: Distribution,
    /// Milliseconds from the trigger to the last acknowledgement.
    pub end_to_end_duration: Distribution,
    /// Bytes processed during alignment.
    pub processed_data: Distribution,
    /// Bytes of data in flight.
    pub persisted_data: Distribution,
}

/// A checkpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckpointView {
    /// Its number.
    pub id: u64,
    /// What it was taken for.
    pub kind: CheckpointKind,
    /// What has become of it.
    pub status: CheckpointStatus,
    /// When it was triggered, since 1970-01-01 UTC.
    pub triggered: Duration,
    /// When the last acknowledgement came, since 1970-01-01 UTC.
    pub latest_ack: Option<Duration>,
    /// Bytes written.
    pub checkpointed_size: u64,
    /// Bytes of state.
    pub state_size: u64,
    /// Bytes processed during alignment.
    pub processed_data: u64,
    /// Bytes of data in flight.
    pub persisted_data: u64,
    /// Whether barriers of any task overtook data.
    pub unaligned: bool,
    /// Number of subtasks that take part.
    pub subtasks: u32,
    /// Number of them that have acknowledged.
    pub acknowledged: u32,
    /// By vertex, in the order of the graph.
    pub vertices: Vec<VertexCheckpointView>,
}

/// What has become of a checkpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CheckpointStatus {
    /// Under way.
    InProgress,
    /// Complete.
    Completed {
        /// URI of its folder; `None` if it is in memory only.
        path: Option<String>,
        /// Whether it has been removed since.
        discarded: bool,
    },
    /// Nothing has become of it.
    Failed {
        /// When, since 1970-01-01 UTC.
        at: Duration,
        /// Why.
        reason: String,
    },
}

/// The part of a vertex.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VertexCheckpointView {
    /// The vertex.
    pub id: VertexId,
    /// By subtask; `None`: it has not acknowledged.
    pub subtasks: Vec<Option<SubtaskCheckpointView>>,
}

/// The part of a subtask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SubtaskCheckpointView {
    /// When its acknowledgement came, since 1970-01-01 UTC.
    pub acknowledged: Duration,
    /// Whether it had finished before: then it counts as acknowledged.
    pub finished: bool,
    /// What it took.
    pub metrics: SnapshotMetrics,
}

/// What a job was restored from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RestoredView {
    /// The checkpoint's number.
    pub id: u64,
    /// When, since 1970-01-01 UTC.
    pub restored: Duration,
    /// Whether it was a savepoint.
    pub savepoint: bool,
    /// URI of its folder.
    pub path: Option<String>,
}

/// How a figure is distributed.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Distribution {
    /// The least.
    pub min: u64,
    /// The greatest.
    pub max: u64,
    /// The mean.
    pub avg: u64,
    /// Half are below.
    pub p50: f64,
    /// Nine tenths are below.
    pub p90: f64,
    /// 95 of 100 are below.
    pub p95: f64,
    /// 99 of 100 are below.
    pub p99: f64,
    /// 999 of 1000 are below.
    pub p999: f64,
}

impl CheckpointView {
    /// From the trigger to the last acknowledgement; zero before the first.
    pub fn duration(&self) -> Duration {
        self.latest_ack.map_or(Duration::ZERO, |ack| ack.saturating_sub(self.triggered))
    }
}

impl VertexCheckpointView {
    /// Number of subtasks that have acknowledged.
    pub fn acknowledged(&self) -> u32 {
        self.subtasks.iter().flatten().count() as u32
    }

    /// When the last acknowledgement came.
    pub fn latest_ack(&self) -> Option<Duration> {
        self.subtasks.iter().flatten().map(|subtask| subtask.acknowledged).max()
    }
}

impl Distribution {
    /// Of these values, in any order; all zero without any.
    pub fn of(mut values: Vec<u64>) -> Self {
        values.sort_unstable();
        let (Some(&min), Some(&max)) = (values.first(), values.last()) else { return Self::default() };
        let sum: u128 = values.iter().map(|&value| u128::from(value)).sum();
        let quantile = |quantile: f64| {
            let position = quantile * (values.len() - 1) as f64;
            let (below, share) = (position.floor() as usize, position.fract());
            let above = (below + 1).min(values.len() - 1);
            values[below] as f64 + share * (values[above] as f64 - values[below] as f64)
        };
        Self {
            min,
            max,
            avg: (sum / values.len() as u128) as u64,
            p50: quantile(0.5),
            p90: quantile(0.9),
            p95: quantile(0.95),
            p99: quantile(0.99),
            p999: quantile(0.999),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distributions_are_those_of_all_values() {
        assert_eq!(Distribution::of(Vec::new()), Distribution::default());
        let one = Distribution::of(vec![7]);
        assert_eq!((one.min, one.max, one.avg, one.p50, one.p999), (7, 7, 7, 7.0, 7.0));
        let many = Distribution::of((0..=100).rev().collect());
        assert_eq!((many.min, many.max, many.avg), (0, 100, 50));
        assert_eq!((many.p50, many.p90, many.p95, many.p99), (50.0, 90.0, 95.0, 99.0));
        assert_eq!(Distribution::of(vec![u64::MAX, u64::MAX]).avg, u64::MAX);
    }
}
