//! Checkpoints as Flink shows them.

use std::time::Duration;

use serde::{Serialize, Serializer};
use weir_model::CheckpointKind;

use super::statistics::percentile;
use crate::{
    Checkpoint, CheckpointConfig, CheckpointCounts, CheckpointStatus, CheckpointSummary, JobCheckpoints,
    RestoredCheckpoint, Spread, SubtaskCheckpoint, VertexCheckpoint,
};

/// All of a job's.
#[derive(Serialize)]
pub(crate) struct CheckpointsOverview {
    counts: Counts,
    summary: Summary,
    latest: Latest,
    history: Vec<CheckpointLine>,
}

#[derive(Serialize)]
struct Counts {
    restored: u64,
    total: u64,
    in_progress: u64,
    completed: u64,
    failed: u64,
}

#[derive(Serialize)]
struct Summary {
    checkpointed_size: Spread,
    state_size: Spread,
    end_to_end_duration: Spread,
    /// Flink fills it with zeros since it measures `processed_data`.
    alignment_buffered: Spread,
    processed_data: Spread,
    persisted_data: Spread,
}

#[derive(Serialize)]
struct Latest {
    completed: Option<CheckpointLine>,
    savepoint: Option<CheckpointLine>,
    failed: Option<CheckpointLine>,
    restored: Option<Restored>,
}

#[derive(Serialize)]
struct Restored {
    id: u64,
    restore_timestamp: u64,
    is_savepoint: bool,
    external_path: Option<String>,
}

/// One checkpoint.
#[derive(Serialize)]
pub(crate) struct CheckpointLine {
    #[serde(rename = "className")]
    class_name: &'static str,
    id: u64,
    status: &'static str,
    is_savepoint: bool,
    #[serde(rename = "savepointFormat")]
    savepoint_format: Option<&'static str>,
    trigger_timestamp: u64,
    latest_ack_timestamp: i64,
    checkpointed_size: u64,
    state_size: u64,
    end_to_end_duration: i64,
    alignment_buffered: u64,
    processed_data: u64,
    persisted_data: u64,
    num_subtasks: u32,
    num_acknowledged_subtasks: u32,
    checkpoint_type: &'static str,
    tasks: Tasks,
    #[serde(flatten)]
    end: End,
}

/// What only some have.
#[derive(Serialize)]
#[serde(untagged)]
enum End {
    InProgress {},
    Completed { external_path: String, discarded: bool },
    Failed { failure_timestamp: u64, failure_message: String },
}

/// By vertex.
struct Tasks(Vec<(String, TaskLine)>);

impl Serialize for Tasks {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(id, line)| (id, line)))
    }
}

/// A vertex's part in a checkpoint.
#[derive(Serialize)]
pub(crate) struct TaskLine {
    id: u64,
    status: &'static str,
    latest_ack_timestamp: i64,
    checkpointed_size: u64,
    state_size: u64,
    end_to_end_duration: i64,
    alignment_buffered: u64,
    processed_data: u64,
    persisted_data: u64,
    num_subtasks: usize,
    num_acknowledged_subtasks: usize,
}

/// A vertex's part with those of its subtasks.
#[derive(Serialize)]
pub(crate) struct TaskDetails {
    #[serde(flatten)]
    line: TaskLine,
    summary: TaskSummary,
    subtasks: Vec<SubtaskLine>,
}

#[derive(Serialize)]
struct TaskSummary {
    checkpointed_size: Spread,
    state_size: Spread,
    end_to_end_duration: Spread,
    checkpoint_duration: Durations<Spread>,
    alignment: Alignment<Spread>,
    start_delay: Spread,
}

#[derive(Serialize)]
struct Durations<T> {
    sync: T,
    #[serde(rename = "async")]
    asynchronous: T,
}

#[derive(Serialize)]
struct Alignment<T> {
    buffered: T,
    processed: T,
    persisted: T,
    duration: T,
}

#[derive(Serialize)]
#[serde(tag = "className", rename_all = "lowercase")]
enum SubtaskLine {
    Completed {
        index: usize,
        status: &'static str,
        ack_timestamp: u64,
        end_to_end_duration: u64,
        checkpointed_size: u64,
        state_size: u64,
        checkpoint: Durations<u64>,
        alignment: Alignment<u64>,
        start_delay: u64,
        unaligned_checkpoint: bool,
        aborted: bool,
    },
    Pending {
        index: usize,
        status: &'static str,
    },
}

/// What was chosen about checkpoints.
#[derive(Serialize)]
pub(crate) struct CheckpointsConfig {
    mode: &'static str,
    interval: u64,
    timeout: u64,
    min_pause: u64,
    max_concurrent: u32,
    externalization: Externalization,
    state_backend: String,
    checkpoint_storage: &'static str,
    unaligned_checkpoints: bool,
    tolerable_failed_checkpoints: u32,
    aligned_checkpoint_timeout: u64,
    checkpoints_after_tasks_finish: bool,
    state_changelog_enabled: bool,
    changelog_periodic_materialization_interval: u64,
    changelog_storage: Option<String>,
}

#[derive(Serialize)]
struct Externalization {
    enabled: bool,
    delete_on_cancellation: bool,
}

impl CheckpointsOverview {
    pub(crate) fn of(checkpoints: &JobCheckpoints) -> Self {
        let line = |checkpoint: &Option<Checkpoint>| checkpoint.as_ref().map(CheckpointLine::brief);
        Self {
            counts: Counts::of(checkpoints.counts),
            summary: Summary::of(&checkpoints.summary),
            latest: Latest {
                completed: line(&checkpoints.latest_completed),
                savepoint: line(&checkpoints.latest_savepoint),
                failed: line(&checkpoints.latest_failed),
                restored: checkpoints.latest_restored.as_ref().map(Restored::of),
            },
            history: checkpoints.history.iter().map(CheckpointLine::brief).collect(),
        }
    }
}

impl Counts {
    fn of(counts: CheckpointCounts) -> Self {
        let CheckpointCounts { restored, total, in_progress, completed, failed } = counts;
        Self { restored, total, in_progress, completed, failed }
    }
}

impl Summary {
    fn of(summary: &CheckpointSummary) -> Self {
        Self {
            checkpointed_size: summary.checkpointed_size,
            state_size: summary.state_size,
            end_to_end_duration: summary.end_to_end_duration,
            alignment_buffered: Spread::default(),
            processed_data: summary.processed_data,
            persisted_data: summary.persisted_data,
        }
    }
}

impl Restored {
    fn of(restored: &RestoredCheckpoint) -> Self {
        Self {
            id: restored.id,
            restore_timestamp: restored.restored,
            is_savepoint: restored.savepoint,
            external_path: restored.path.clone(),
        }
    }
}

impl CheckpointLine {
    /// As lists have it: without its vertices.
    fn brief(checkpoint: &Checkpoint) -> Self {
        Self::with(checkpoint, Tasks(Vec::new()))
    }

    /// With its vertices.
    pub(crate) fn full(checkpoint: &Checkpoint) -> Self {
        let vertices = checkpoint.vertices.iter();
        Self::with(checkpoint, Tasks(vertices.map(|v| (v.id.to_string(), TaskLine::of(checkpoint, v))).collect()))
    }

    fn with(checkpoint: &Checkpoint, tasks: Tasks) -> Self {
        let savepoint = checkpoint.kind.is_savepoint();
        Self {
            class_name: match checkpoint.status {
                CheckpointStatus::InProgress => "in_progress",
                CheckpointStatus::Completed { .. } => "completed",
                CheckpointStatus::Failed { .. } => "failed",
            },
            id: checkpoint.id,
            status: status(checkpoint),
            is_savepoint: savepoint,
            savepoint_format: savepoint.then_some("CANONICAL"),
            trigger_timestamp: checkpoint.triggered,
            latest_ack_timestamp: checkpoint.latest_ack.map_or(-1, |ack| ack as i64),
            checkpointed_size: checkpoint.checkpointed_size,
            state_size: checkpoint.state_size,
            end_to_end_duration: duration(checkpoint, checkpoint.latest_ack),
            alignment_buffered: 0,
            processed_data: checkpoint.processed_data,
            persisted_data: checkpoint.persisted_data,
            num_subtasks: checkpoint.subtasks,
            num_acknowledged_subtasks: checkpoint.acknowledged,
            checkpoint_type: match checkpoint.kind {
                CheckpointKind::Checkpoint if checkpoint.unaligned => "UNALIGNED_CHECKPOINT",
                CheckpointKind::Checkpoint => "CHECKPOINT",
                CheckpointKind::Savepoint => "SAVEPOINT",
                CheckpointKind::Suspend | CheckpointKind::Drain => "SYNC_SAVEPOINT",
            },
            tasks,
            end: match &checkpoint.status {
                CheckpointStatus::InProgress => End::InProgress {},
                CheckpointStatus::Completed { path, discarded } => {
                    // The literal Flink's clients know a checkpoint without a folder by.
                    let external_path =
                        path.clone().unwrap_or_else(|| "<checkpoint-not-externally-addressable>".to_owned());
                    End::Completed { external_path, discarded: *discarded }
                }
                CheckpointStatus::Failed { at, reason } => {
                    End::Failed { failure_timestamp: *at, failure_message: reason.clone() }
                }
            },
        }
    }
}

fn status(checkpoint: &Checkpoint) -> &'static str {
    match checkpoint.status {
        CheckpointStatus::InProgress => "IN_PROGRESS",
        CheckpointStatus::Completed { .. } => "COMPLETED",
        CheckpointStatus::Failed { .. } => "FAILED",
    }
}

/// From the trigger to an acknowledgement; -1 before there is one.
fn duration(checkpoint: &Checkpoint, ack: Option<u64>) -> i64 {
    ack.map_or(-1, |ack| ack.saturating_sub(checkpoint.triggered) as i64)
}

impl TaskLine {
    fn of(checkpoint: &Checkpoint, vertex: &VertexCheckpoint) -> Self {
        let acknowledged = || vertex.subtasks.iter().flatten();
        let latest = acknowledged().map(|subtask| subtask.acknowledged).max();
        Self {
            id: checkpoint.id,
            status: status(checkpoint),
            latest_ack_timestamp: latest.map_or(-1, |ack| ack as i64),
            checkpointed_size: acknowledged().map(|subtask| subtask.metrics.checkpointed_size).sum(),
            state_size: acknowledged().map(|subtask| subtask.metrics.state_size).sum(),
            end_to_end_duration: duration(checkpoint, latest),
            alignment_buffered: 0,
            processed_data: acknowledged().map(|subtask| subtask.metrics.processed).sum(),
            persisted_data: acknowledged().map(|subtask| subtask.metrics.persisted).sum(),
            num_subtasks: vertex.subtasks.len(),
            num_acknowledged_subtasks: acknowledged().count(),
        }
    }
}

impl TaskDetails {
    pub(crate) fn of(checkpoint: &Checkpoint, vertex: &VertexCheckpoint) -> Self {
        let subtasks = (0..).zip(&vertex.subtasks);
        Self {
            line: TaskLine::of(checkpoint, vertex),
            summary: TaskSummary::of(checkpoint, vertex),
            subtasks: subtasks.map(|(index, subtask)| SubtaskLine::of(checkpoint, index, subtask.as_ref())).collect(),
        }
    }
}

impl TaskSummary {
    fn of(checkpoint: &Checkpoint, vertex: &VertexCheckpoint) -> Self {
        let over = |value: &dyn Fn(&SubtaskCheckpoint) -> u64| spread(vertex.subtasks.iter().flatten().map(value));
        Self {
            checkpointed_size: over(&|subtask| subtask.metrics.checkpointed_size),
            state_size: over(&|subtask| subtask.metrics.state_size),
            end_to_end_duration: over(&|subtask| subtask.acknowledged.saturating_sub(checkpoint.triggered)),
            checkpoint_duration: Durations {
                sync: over(&|subtask| millis(subtask.metrics.sync)),
                asynchronous: over(&|subtask| millis(subtask.metrics.asynchronous)),
            },
            alignment: Alignment {
                buffered: Spread::default(),
                processed: over(&|subtask| subtask.metrics.processed),
                persisted: over(&|subtask| subtask.metrics.persisted),
                duration: over(&|subtask| millis(subtask.metrics.alignment)),
            },
            start_delay: over(&|subtask| millis(subtask.metrics.start_delay)),
        }
    }
}

impl SubtaskLine {
    fn of(checkpoint: &Checkpoint, index: usize, subtask: Option<&SubtaskCheckpoint>) -> Self {
        let Some(SubtaskCheckpoint { acknowledged, metrics }) = subtask else {
            return SubtaskLine::Pending { index, status: "pending_or_failed" };
        };
        SubtaskLine::Completed {
            index,
            status: "completed",
            ack_timestamp: *acknowledged,
            end_to_end_duration: acknowledged.saturating_sub(checkpoint.triggered),
            checkpointed_size: metrics.checkpointed_size,
            state_size: metrics.state_size,
            checkpoint: Durations { sync: millis(metrics.sync), asynchronous: millis(metrics.asynchronous) },
            alignment: Alignment {
                buffered: 0,
                processed: metrics.processed,
                persisted: metrics.persisted,
                duration: millis(metrics.alignment),
            },
            start_delay: millis(metrics.start_delay),
            unaligned_checkpoint: metrics.unaligned,
            aborted: false,
        }
    }
}

impl CheckpointsConfig {
    pub(crate) fn of(config: &CheckpointConfig) -> Self {
        Self {
            mode: if config.exactly_once { "exactly_once" } else { "at_least_once" },
            // Java's greatest number, as in Flink.
            interval: config.interval.unwrap_or(i64::MAX as u64),
            timeout: config.timeout,
            min_pause: config.min_pause,
            max_concurrent: config.max_concurrent,
            externalization: Externalization {
                enabled: config.externalized,
                delete_on_cancellation: config.delete_on_cancellation,
            },
            state_backend: config.state_backend.clone(),
            checkpoint_storage: match config.directory {
                Some(_) => "FileSystemCheckpointStorage",
                None => "JobManagerCheckpointStorage",
            },
            unaligned_checkpoints: config.unaligned,
            tolerable_failed_checkpoints: config.tolerable_failures,
            aligned_checkpoint_timeout: config.aligned_timeout,
            checkpoints_after_tasks_finish: config.after_tasks_finish,
            state_changelog_enabled: false,
            changelog_periodic_materialization_interval: 0,
            changelog_storage: None,
        }
    }
}

fn millis(duration: Duration) -> u64 {
    duration.as_millis() as u64
}

fn spread(values: impl Iterator<Item = u64>) -> Spread {
    let mut values = values.map(|value| i64::try_from(value).unwrap_or(i64::MAX)).collect::<Vec<_>>();
    values.sort_unstable();
    let (Some(&min), Some(&max)) = (values.first(), values.last()) else { return Spread::default() };
    let sum: i128 = values.iter().map(|&value| i128::from(value)).sum();
    let at = |percent| percentile(&values, percent);
    Spread {
        min: min as u64,
        max: max as u64,
        avg: (sum / values.len() as i128) as u64,
        p50: at(50.0),
        p90: at(90.0),
        p95: at(95.0),
        p99: at(99.0),
        p999: at(99.9),
    }
}
