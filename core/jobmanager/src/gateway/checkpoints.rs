//! Checkpoints and savepoints of jobs, as the HTTP API shows and asks for them.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use weir_checkpoint::{
    CheckpointStatus, CheckpointView, CheckpointsView, Distribution, Externalized, Removal, RequestOutcome, StopMode,
    SubtaskCheckpointView, VertexCheckpointView,
};
use weir_config::{ConfigValue, Configuration, Origin, options};
use weir_model::{JobId, JobView};
use weir_rest::{AfterSavepoint, GatewayError, JobCheckpoints, SavepointRequest, Spread};
use weir_storage::file_system;

use super::{Gateway, no_job};
use crate::checkpoint_storage;
use crate::jobs::{JobMessage, RequestAnswer};
use crate::launch;

/// What there is to show of a job's checkpoints; `None` if it takes none, and never had one.
pub(super) async fn of(gateway: &Gateway, id: JobId) -> Result<Option<Arc<JobCheckpoints>>, GatewayError> {
    let view = match gateway.shared.jobs.get(id) {
        Some(job) => gateway.ask_job(&job, JobMessage::Checkpoints).await?.map(Arc::new),
        None => None,
    };
    // Also says whether there is such a job at all.
    let job = gateway.view(id).await?;
    let view = view.or_else(|| gateway.shared.jobs.last_checkpoints(id)).unwrap_or_default();
    let config = config(gateway, &job);
    let any = config.interval.is_some() || view.counts.total > 0 || view.counts.restored > 0;
    Ok(any.then(|| Arc::new(shown(&view, config))))
}

pub(super) async fn take_checkpoint(gateway: &Gateway, id: JobId, full: bool) -> Result<u64, GatewayError> {
    let outcome = ask(gateway, id, |answer| JobMessage::TriggerCheckpoint { full, answer }).await?;
    Ok(outcome.checkpoint)
}

pub(super) async fn take_savepoint(
    gateway: &Gateway,
    id: JobId,
    request: SavepointRequest,
) -> Result<String, GatewayError> {
    let stop = match request.then {
        AfterSavepoint::GoOn => None,
        AfterSavepoint::Suspend => Some(StopMode::Suspend),
        AfterSavepoint::Drain => Some(StopMode::Drain),
    };
    let directory = request.directory;
    let outcome = ask(gateway, id, |answer| JobMessage::TriggerSavepoint { directory, stop, answer }).await?;
    outcome
        .path
        .ok_or_else(|| GatewayError::Internal("a savepoint is complete, but nobody knows where it is".to_owned()))
}

/// Asks a JobMaster for something that takes as long as it takes: checkpoints have a time limit of their own.
async fn ask(
    gateway: &Gateway,
    id: JobId,
    message: impl FnOnce(RequestAnswer) -> JobMessage,
) -> Result<RequestOutcome, GatewayError> {
    let job = gateway.shared.jobs.get(id).ok_or_else(|| no_job(id))?;
    let ended = || GatewayError::Conflict(format!("the job {id} has ended; nothing was taken of it"));
    let (sender, answer) = oneshot::channel();
    job.send(message(sender)).map_err(|_| ended())?;
    answer.await.map_err(|_| ended())?.map_err(GatewayError::Conflict)
}

/// Removes a savepoint, or a checkpoint that a job has left behind.
pub(super) async fn dispose(gateway: &Gateway, place: &str) -> Result<(), GatewayError> {
    let checkpoint = checkpoint_storage::load(place).await.map_err(GatewayError::BadRequest)?;
    let job = checkpoint.metadata.job;
    let its_own = !checkpoint.metadata.kind.is_savepoint() && gateway.shared.jobs.get(job).is_some();
    if its_own {
        return Err(GatewayError::Conflict(format!(
            "{place} is a checkpoint of the job {job}, which runs and removes its checkpoints itself; stop the job first"
        )));
    }
    for item in checkpoint.disposal() {
        let (Removal::File(uri) | Removal::Directory(uri)) = &item;
        let (files, path) = file_system(uri).map_err(|error| GatewayError::BadRequest(error.to_string()))?;
        let removed = match item {
            Removal::File(_) => files.delete(&path).await,
            Removal::Directory(_) => files.delete_folder(&path).await,
        };
        removed.map_err(|error| GatewayError::Internal(format!("{place} cannot be removed: {error}")))?;
    }
    tracing::info!(place, "a savepoint was removed");
    Ok(())
}

fn config(gateway: &Gateway, job: &JobView) -> weir_rest::CheckpointConfig {
    let mut of_job = Configuration::new();
    for (key, value) in &job.configuration {
        // Values that are masked are of no interest here.
        let _ = of_job.set(key, value, Origin::CommandLine);
    }
    let cluster = &gateway.shared.options.configuration;
    let options = launch::checkpoint_options(job.summary.id, cluster, &of_job).unwrap_or_default();
    weir_rest::CheckpointConfig {
        exactly_once: options.mode == weir_checkpoint::CheckpointMode::ExactlyOnce,
        interval: options.interval.map(millis),
        timeout: millis(options.timeout),
        min_pause: millis(options.min_pause),
        max_concurrent: options.max_concurrent,
        tolerable_failures: options.tolerable_failures.unwrap_or(i32::MAX as u32),
        externalized: options.externalized != Externalized::No,
        delete_on_cancellation: options.externalized != Externalized::RetainOnCancellation,
        unaligned: options.unaligned,
        aligned_timeout: millis(options.aligned_timeout),
        after_tasks_finish: options.after_tasks_finish,
        state_backend: of_job.get(&options::STATE_BACKEND).render(),
        directory: options.directory,
    }
}

/// The view with which [`of`] answers.
pub(super) fn shown(view: &CheckpointsView, config: weir_rest::CheckpointConfig) -> JobCheckpoints {
    let CheckpointsView {
        counts,
        summary,
        latest_completed,
        latest_savepoint,
        latest_failed,
        latest_restored,
        history,
    } = view;
    JobCheckpoints {
        config,
        counts: weir_rest::CheckpointCounts {
            restored: counts.restored,
            total: counts.total,
            in_progress: counts.in_progress,
            completed: counts.completed,
            failed: counts.failed,
        },
        summary: weir_rest::CheckpointSummary {
            checkpointed_size: spread(summary.checkpointed_size),
            state_size: spread(summary.state_size),
            end_to_end_duration: spread(summary.end_to_end_duration),
            processed_data: spread(summary.processed_data),
            persisted_data: spread(summary.persisted_data),
        },
        latest_completed: latest_completed.as_ref().map(checkpoint),
        latest_savepoint: latest_savepoint.as_ref().map(checkpoint),
        latest_failed: latest_failed.as_ref().map(checkpoint),
        latest_restored: latest_restored.as_ref().map(|restored| weir_rest::RestoredCheckpoint {
            id: restored.id,
            restored: millis(restored.restored),
            savepoint: restored.savepoint,
            path: restored.path.clone(),
        }),
        history: history.iter().map(checkpoint).collect(),
    }
}

fn checkpoint(view: &CheckpointView) -> weir_rest::Checkpoint {
    weir_rest::Checkpoint {
        id: view.id,
        kind: view.kind,
        status: match &view.status {
            CheckpointStatus::InProgress => weir_rest::CheckpointStatus::InProgress,
            CheckpointStatus::Completed { path, discarded } => {
                weir_rest::CheckpointStatus::Completed { path: path.clone(), discarded: *discarded }
            }
            CheckpointStatus::Failed { at, reason } => {
                weir_rest::CheckpointStatus::Failed { at: millis(*at), reason: reason.clone() }
            }
        },
        triggered: millis(view.triggered),
        latest_ack: view.latest_ack.map(millis),
        checkpointed_size: view.checkpointed_size,
        state_size: view.state_size,
        processed_data: view.processed_data,
        persisted_data: view.persisted_data,
        unaligned: view.unaligned,
        subtasks: view.subtasks,
        acknowledged: view.acknowledged,
        vertices: view.vertices.iter().map(vertex).collect(),
    }
}

fn vertex(view: &VertexCheckpointView) -> weir_rest::VertexCheckpoint {
    let subtask = |view: &SubtaskCheckpointView| weir_rest::SubtaskCheckpoint {
        acknowledged: millis(view.acknowledged),
        metrics: view.metrics,
    };
    let subtasks = view.subtasks.iter().map(|view| view.as_ref().map(subtask)).collect();
    weir_rest::VertexCheckpoint { id: view.id, subtasks }
}

fn spread(distribution: Distribution) -> Spread {
    let Distribution { min, max, avg, p50, p90, p95, p99, p999 } = distribution;
    Spread { min, max, avg, p50, p90, p95, p99, p999 }
}

fn millis(duration: Duration) -> u64 {
    duration.as_millis() as u64
}
