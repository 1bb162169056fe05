//! What REST knows of checkpoints and savepoints.
//!
//! Times are milliseconds since 1970-01-01 UTC, durations milliseconds, sizes bytes.

use weir_metrics::{CheckpointFigures, LastCheckpoint};
use weir_model::{CheckpointKind, SnapshotMetrics, VertexId};

/// The checkpoints of a job, and how they are taken.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct JobCheckpoints {
    /// What was chosen about them.
    pub config: CheckpointConfig,
    /// How many there have been.
    pub counts: CheckpointCounts,
    /// Over those that completed and are remembered.
    pub summary: CheckpointSummary,
    /// The last one that completed and is no savepoint.
    pub latest_completed: Option<Checkpoint>,
    /// The last savepoint that completed.
    pub latest_savepoint: Option<Checkpoint>,
    /// The last one that failed.
    pub latest_failed: Option<Checkpoint>,
    /// What the job was last restored from.
    pub latest_restored: Option<RestoredCheckpoint>,
    /// Newest first.
    pub history: Vec<Checkpoint>,
}

impl JobCheckpoints {
    /// The same in numbers, for metrics.
    pub fn figures(&self) -> CheckpointFigures {
        let completed = self.latest_completed.iter().chain(&self.latest_savepoint);
        let last = completed.max_by_key(|checkpoint| checkpoint.id).map(|last| LastCheckpoint {
            id: last.id,
            duration: last.latest_ack.map_or(0, |ack| ack.saturating_sub(last.triggered)),
            size: last.checkpointed_size,
            full_size: last.state_size,
            processed: last.processed_data,
            persisted: last.persisted_data,
        });
        CheckpointFigures {
            in_progress: self.counts.in_progress,
            completed: self.counts.completed,
            failed: self.counts.failed,
            total: self.counts.total,
            last,
            restored: self.latest_restored.as_ref().map(|restored| restored.restored),
        }
    }
}

/// What was chosen about the checkpoints of a job.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CheckpointConfig {
    /// Whether records count exactly once in state, and not at least once.
    pub exactly_once: bool,
    /// Between two triggers; `None`: only when somebody asks.
    pub interval: Option<u64>,
    /// How long one may take.
    pub timeout: u64,
    /// Least time between the end of one and the next.
    pub min_pause: u64,
    /// How many may be under way.
    pub max_concurrent: u32,
    /// How many may fail one after the other before the job fails.
    pub tolerable_failures: u32,
    /// Whether any are kept when the job has ended.
    pub externalized: bool,
    /// Whether those that would be kept go when the job is canceled.
    pub delete_on_cancellation: bool,
    /// Whether barriers may overtake data.
    pub unaligned: bool,
    /// After how long they do.
    pub aligned_timeout: u64,
    /// Whether there are checkpoints when some tasks have finished.
    pub after_tasks_finish: bool,
    /// Where tasks keep their state while they run, e.g. `hashmap`.
    pub state_backend: String,
    /// Where checkpoints are kept; `None`: in the memory of the JobManager.
    pub directory: Option<String>,
}

/// Numbers since the job was submitted.
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
    pub checkpointed_size: Spread,
    /// Bytes of state.
    pub state_size: Spread,
    /// From the trigger to the last acknowledgement.
    pub end_to_end_duration: Spread,
    /// Bytes processed during alignment.
    pub processed_data: Spread,
    /// Bytes of data in flight.
    pub persisted_data: Spread,
}

/// How a figure spreads; all zero if there are no values.
#[derive(Debug, Clone, Copy, Default, PartialEq, serde::Serialize)]
pub struct Spread {
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

/// A checkpoint or savepoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// Its number.
    pub id: u64,
    /// What it was taken for.
    pub kind: CheckpointKind,
    /// What has become of it.
    pub status: CheckpointStatus,
    /// When it was triggered.
    pub triggered: u64,
    /// When the last acknowledgement came.
    pub latest_ack: Option<u64>,
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
    pub vertices: Vec<VertexCheckpoint>,
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
        /// When.
        at: u64,
        /// Why.
        reason: String,
    },
}

/// The part of a vertex.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VertexCheckpoint {
    /// The vertex.
    pub id: VertexId,
    /// By subtask; `None`: it has not acknowledged.
    pub subtasks: Vec<Option<SubtaskCheckpoint>>,
}

/// The part of a subtask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SubtaskCheckpoint {
    /// When its acknowledgement came.
    pub acknowledged: u64,
    /// What it took.
    pub metrics: SnapshotMetrics,
}

/// What a job was restored from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RestoredCheckpoint {
    /// The checkpoint's number.
    pub id: u64,
    /// When.
    pub restored: u64,
    /// Whether it was a savepoint.
    pub savepoint: bool,
    /// URI of its folder.
    pub path: Option<String>,
}

/// A savepoint that is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SavepointRequest {
    /// The folder to make its folder in; `None`: the one of the options.
    pub directory: Option<String>,
    /// What becomes of the job.
    pub then: AfterSavepoint,
}

/// What becomes of a job when its savepoint is complete.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AfterSavepoint {
    /// It goes on.
    GoOn,
    /// It is stopped with it: nothing more is processed than what is in the savepoint.
    Suspend,
    /// It is stopped with it as at the end of its input: windows and timers fire first.
    Drain,
}
