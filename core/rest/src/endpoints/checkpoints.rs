//! Checkpoints and savepoints, which Weir does not take yet: said in the words Flink's clients look for.

use std::sync::Arc;

use axum::Router;
use axum::http::StatusCode;
use axum::routing::{get, post};

use crate::api::{Api, Cluster};
use crate::error::ApiError;
use crate::request::Path;

pub(super) fn routes() -> Router<Arc<Api>> {
    Router::new()
        .route("/jobs/{jobid}/checkpoints", get(not_enabled).post(not_supported))
        .route("/jobs/{jobid}/checkpoints/config", get(not_enabled))
        .route("/jobs/{jobid}/checkpoints/{triggerid}", get(not_enabled))
        .route("/jobs/{jobid}/checkpoints/details/{checkpointid}", get(not_enabled))
        .route("/jobs/{jobid}/checkpoints/details/{checkpointid}/subtasks/{vertexid}", get(not_enabled))
        .route("/jobs/{jobid}/savepoints", post(not_supported))
        .route("/jobs/{jobid}/savepoints/{triggerid}", get(no_savepoint))
        .route("/savepoint-disposal", post(no_savepoints))
        .route("/savepoint-disposal/{triggerid}", get(no_savepoints))
        .route("/jobs/{jobid}/stop", post(not_supported))
}

/// Operators of clusters compare this sentence.
async fn not_enabled(cluster: Cluster, path: Path) -> Result<(), ApiError> {
    super::job::find(&cluster, &path).await?;
    Err(ApiError::not_found("Checkpointing has not been enabled."))
}

async fn not_supported(cluster: Cluster, path: Path) -> Result<(), ApiError> {
    super::job::find(&cluster, &path).await?;
    no_savepoints(cluster).await
}

async fn no_savepoints(_: Cluster) -> Result<(), ApiError> {
    let message =
        "Weir takes no checkpoints or savepoints yet. A job can be canceled, and be run again from its beginning.";
    Err(ApiError::new(StatusCode::NOT_IMPLEMENTED, message))
}

/// None was ever begun, so none has this id.
async fn no_savepoint(cluster: Cluster, path: Path) -> Result<(), ApiError> {
    let (job, _) = super::job::find(&cluster, &path).await?;
    let message = format!("There is no savepoint operation with triggerId={} for job {job}.", path.text("triggerid"));
    Err(ApiError::not_found(message))
}
