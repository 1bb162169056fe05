//! What has become of the checkpoints of a job.

use std::sync::Arc;

use axum::Router;
use axum::routing::get;
use weir_model::{JobId, VertexId};

use crate::answer::{Answer, Json};
use crate::api::{Api, Cluster};
use crate::error::ApiError;
use crate::request::Path;
use crate::shapes::{CheckpointLine, CheckpointsConfig, CheckpointsOverview, TaskDetails};
use crate::{Checkpoint, JobCheckpoints};

pub(super) fn routes() -> Router<Arc<Api>> {
    Router::new()
        .route("/jobs/{jobid}/checkpoints", get(overview))
        .route("/jobs/{jobid}/checkpoints/config", get(config))
        .route("/jobs/{jobid}/checkpoints/details/{checkpointid}", get(details))
        .route("/jobs/{jobid}/checkpoints/details/{checkpointid}/subtasks/{vertexid}", get(subtasks))
}

async fn find(cluster: &Cluster, path: &Path) -> Result<Arc<JobCheckpoints>, ApiError> {
    let job: JobId = path.get("jobid")?;
    let found = cluster.checkpoints(job).await.map_err(|error| super::job::not_found(job, error))?;
    // Operators of clusters compare this sentence.
    found.ok_or_else(|| ApiError::not_found("Checkpointing has not been enabled."))
}

fn one<'a>(checkpoints: &'a JobCheckpoints, path: &Path) -> Result<&'a Checkpoint, ApiError> {
    let id: u64 = path.get("checkpointid")?;
    let JobCheckpoints { history, latest_completed, latest_savepoint, latest_failed, .. } = checkpoints;
    let latest = [latest_completed, latest_savepoint, latest_failed].into_iter().flatten();
    let found = history.iter().chain(latest).find(|checkpoint| checkpoint.id == id);
    found.ok_or_else(|| {
        ApiError::not_found(format!(
            "Could not find checkpointing statistics for checkpoint {id}. \
             The option `web.checkpoints.history` says how many are remembered."
        ))
    })
}

async fn overview(cluster: Cluster, path: Path) -> Answer<CheckpointsOverview> {
    let checkpoints = find(&cluster, &path).await?;
    Ok(Json(CheckpointsOverview::of(&checkpoints)))
}

async fn config(cluster: Cluster, path: Path) -> Answer<CheckpointsConfig> {
    let checkpoints = find(&cluster, &path).await?;
    Ok(Json(CheckpointsConfig::of(&checkpoints.config)))
}

async fn details(cluster: Cluster, path: Path) -> Answer<CheckpointLine> {
    let checkpoints = find(&cluster, &path).await?;
    Ok(Json(CheckpointLine::full(one(&checkpoints, &path)?)))
}

async fn subtasks(cluster: Cluster, path: Path) -> Answer<TaskDetails> {
    let checkpoints = find(&cluster, &path).await?;
    let checkpoint = one(&checkpoints, &path)?;
    let id: VertexId = path.get("vertexid")?;
    let vertex = checkpoint.vertices.iter().find(|vertex| vertex.id == id);
    let vertex =
        vertex.ok_or_else(|| ApiError::not_found(format!("There is no checkpoint statistics for task {id}.")))?;
    Ok(Json(TaskDetails::of(checkpoint, vertex)))
}
