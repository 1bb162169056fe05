//! Taking checkpoints and savepoints, stopping jobs with one, and removing savepoints: begun by one request, looked at by others.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde::{Deserialize, Serialize};
use weir_model::{JobId, JobView};

use super::outcome::FailureCause;
use crate::answer::{Answer, Json};
use crate::api::{Api, Cluster};
use crate::error::ApiError;
use crate::operations::{Operations, Outcome, Progress, Scope};
use crate::request::{Object, Path};
use crate::{AfterSavepoint, GatewayError, SavepointRequest};

/// Where savepoints go that are asked for without a folder.
const DIRECTORY: &str = "execution.checkpointing.savepoint-dir";

pub(super) fn routes() -> Router<Arc<Api>> {
    Router::new()
        .route("/jobs/{jobid}/checkpoints", post(take_checkpoint))
        .route("/jobs/{jobid}/checkpoints/{triggerid}", get(checkpoint_progress))
        .route("/jobs/{jobid}/savepoints", post(take_savepoint))
        .route("/jobs/{jobid}/savepoints/{triggerid}", get(savepoint_progress))
        .route("/jobs/{jobid}/stop", post(stop))
        .route("/savepoint-disposal", post(dispose))
        .route("/savepoint-disposal/{triggerid}", get(disposal_progress))
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Triggered {
    request_id: String,
}

/// 32 hexadecimal digits, chosen by the client or at random.
#[derive(Debug, Clone, Copy)]
struct TriggerId([u8; 16]);

impl TriggerId {
    fn chosen(text: Option<&str>) -> Result<Self, ApiError> {
        match text {
            Some(text) => text.parse().map_err(ApiError::bad_parameter),
            None => {
                let mut bytes = [0; 16];
                let random = getrandom::fill(&mut bytes);
                random.map_err(|error| ApiError::internal(&format!("there is no randomness ({error})")))?;
                Ok(Self(bytes))
            }
        }
    }
}

impl std::str::FromStr for TriggerId {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let digits = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let number = u128::from_str_radix(text, 16).ok().filter(|_| digits);
        let number = number.ok_or_else(|| format!("the trigger id {text:?} has not 32 hexadecimal digits"))?;
        Ok(Self(number.to_be_bytes()))
    }
}

impl std::fmt::Display for TriggerId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.0))
    }
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct CheckpointTriggerBody {
    checkpoint_type: CheckpointType,
    trigger_id: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
enum CheckpointType {
    #[default]
    Configured,
    Full,
    Incremental,
}

/// `formatType` is not looked at: savepoints have one format.
#[derive(Default, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
struct SavepointTriggerBody {
    target_directory: Option<String>,
    cancel_job: Option<bool>,
    #[serde(rename = "triggerId")]
    trigger_id: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct StopBody {
    target_directory: Option<String>,
    drain: Option<bool>,
    trigger_id: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
struct SavepointDisposalBody {
    savepoint_path: Option<String>,
}

async fn take_checkpoint(
    State(api): State<Arc<Api>>,
    cluster: Cluster,
    path: Path,
    Object(body): Object<CheckpointTriggerBody>,
) -> Result<Response, ApiError> {
    let (job, _) = that_runs(&cluster, &path).await?;
    let full = matches!(body.checkpoint_type, CheckpointType::Full);
    let id = TriggerId::chosen(body.trigger_id.as_deref())?;
    begin(&api.operations, Scope::Checkpoint(job), id, async move {
        cluster.take_checkpoint(job, full).await.map(Outcome::Checkpoint)
    })?;
    Ok(accepted(id))
}

async fn take_savepoint(
    State(api): State<Arc<Api>>,
    cluster: Cluster,
    path: Path,
    Object(body): Object<SavepointTriggerBody>,
) -> Result<Response, ApiError> {
    let (job, view) = that_runs(&cluster, &path).await?;
    let directory = directory(body.target_directory, &view, "target-directory")?;
    let cancel = body.cancel_job.unwrap_or(false);
    let id = TriggerId::chosen(body.trigger_id.as_deref())?;
    begin(&api.operations, Scope::Savepoint(job), id, async move {
        let request = SavepointRequest { directory, then: AfterSavepoint::GoOn };
        let location = cluster.take_savepoint(job, request).await?;
        if cancel {
            cluster.cancel(job).await.map_err(|error| not_canceled(&location, &error))?;
        }
        Ok(Outcome::Savepoint(location))
    })?;
    Ok(accepted(id))
}

fn not_canceled(location: &str, error: &GatewayError) -> GatewayError {
    GatewayError::Conflict(format!("the savepoint {location} is complete, but the job was not canceled: {error}"))
}

async fn stop(
    State(api): State<Arc<Api>>,
    cluster: Cluster,
    path: Path,
    Object(body): Object<StopBody>,
) -> Result<Response, ApiError> {
    let (job, view) = that_runs(&cluster, &path).await?;
    let directory = directory(body.target_directory, &view, "targetDirectory")?;
    let then = if body.drain.unwrap_or(false) { AfterSavepoint::Drain } else { AfterSavepoint::Suspend };
    let id = TriggerId::chosen(body.trigger_id.as_deref())?;
    begin(&api.operations, Scope::Savepoint(job), id, async move {
        cluster.take_savepoint(job, SavepointRequest { directory, then }).await.map(Outcome::Savepoint)
    })?;
    Ok(accepted(id))
}

async fn dispose(
    State(api): State<Arc<Api>>,
    cluster: Cluster,
    Object(body): Object<SavepointDisposalBody>,
) -> Answer<Triggered> {
    let path = body.savepoint_path.map(|path| path.trim().to_owned()).filter(|path| !path.is_empty());
    let path = path
        .ok_or_else(|| ApiError::bad_request("Field \"savepoint-path\" must not be omitted: it names the folder."))?;
    let id = TriggerId::chosen(None)?;
    begin(&api.operations, Scope::Disposal, id, async move {
        cluster.dispose_savepoint(path).await.map(|()| Outcome::Done)
    })?;
    Ok(Json(Triggered { request_id: id.to_string() }))
}

/// The job of the path, which has not ended.
async fn that_runs(cluster: &Cluster, path: &Path) -> Result<(JobId, Arc<JobView>), ApiError> {
    let (id, view) = super::job::find(cluster, path).await?;
    let status = view.summary.status;
    if status.is_terminal() {
        let message = format!("The job {id} has ended already: it is {}.", status.name());
        return Err(ApiError::new(StatusCode::CONFLICT, message));
    }
    Ok((id, view))
}

/// The folder for a savepoint, if the request names one; there must be one in the options otherwise.
fn directory(named: Option<String>, job: &JobView, property: &str) -> Result<Option<String>, ApiError> {
    let named = named.map(|path| path.trim().to_owned()).filter(|path| !path.is_empty());
    if named.is_none() && !job.configuration.contains_key(DIRECTORY) {
        let message = format!("Config key [{DIRECTORY}] is not set. Property [{property}] must be provided.");
        return Err(ApiError::bad_request(message));
    }
    Ok(named)
}

fn begin(
    operations: &Operations,
    scope: Scope,
    id: TriggerId,
    work: impl Future<Output = Result<Outcome, GatewayError>> + Send + 'static,
) -> Result<(), ApiError> {
    if operations.begin(scope, id.0, work) {
        return Ok(());
    }
    let message = "Too many checkpoints and savepoints were asked for; ask again in a few minutes.";
    Err(ApiError::new(StatusCode::TOO_MANY_REQUESTS, message))
}

fn accepted(id: TriggerId) -> Response {
    (StatusCode::ACCEPTED, Json(Triggered { request_id: id.to_string() })).into_response()
}

#[derive(Serialize)]
struct AsynchronousResult<T> {
    status: QueueStatus,
    operation: Option<T>,
}

#[derive(Serialize)]
struct QueueStatus {
    id: &'static str,
}

impl<T> AsynchronousResult<T> {
    /// As far as the operation has come; 404 with `what` if nobody knows of it.
    fn of(
        api: &Api,
        scope: Scope,
        id: TriggerId,
        what: &str,
        show: impl FnOnce(Result<Outcome, FailureCause>) -> T,
    ) -> Answer<Self> {
        match api.operations.progress(scope, id.0) {
            None => Err(ApiError::not_found(format!("There is no {what}."))),
            Some(Progress::InProgress) => Ok(Json(Self { status: QueueStatus { id: "IN_PROGRESS" }, operation: None })),
            Some(Progress::Completed(result)) => {
                let class = if scope == Scope::Disposal { "FlinkException" } else { "CheckpointException" };
                let operation = show(result.map_err(|error| FailureCause::new(class, error.to_string())));
                Ok(Json(Self { status: QueueStatus { id: "COMPLETED" }, operation: Some(operation) }))
            }
        }
    }
}

#[derive(Serialize)]
#[serde(untagged)]
enum CheckpointInfo {
    Taken {
        #[serde(rename = "checkpointId")]
        checkpoint: Option<u64>,
    },
    Failed {
        #[serde(rename = "failureCause")]
        cause: FailureCause,
    },
}

async fn checkpoint_progress(
    State(api): State<Arc<Api>>,
    cluster: Cluster,
    path: Path,
) -> Answer<AsynchronousResult<CheckpointInfo>> {
    let (job, _) = super::job::find(&cluster, &path).await?;
    let id: TriggerId = path.get("triggerid")?;
    let what = format!("checkpoint operation with triggerId={id} for job {job}");
    AsynchronousResult::of(&api, Scope::Checkpoint(job), id, &what, |result| match result {
        Ok(Outcome::Checkpoint(number)) => CheckpointInfo::Taken { checkpoint: Some(number) },
        Ok(Outcome::Savepoint(_) | Outcome::Done) => CheckpointInfo::Taken { checkpoint: None },
        Err(cause) => CheckpointInfo::Failed { cause },
    })
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct SavepointInfo {
    #[serde(skip_serializing_if = "Option::is_none")]
    location: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    failure_cause: Option<FailureCause>,
}

async fn savepoint_progress(
    State(api): State<Arc<Api>>,
    cluster: Cluster,
    path: Path,
) -> Answer<AsynchronousResult<SavepointInfo>> {
    let (job, _) = super::job::find(&cluster, &path).await?;
    let id: TriggerId = path.get("triggerid")?;
    let what = format!("savepoint operation with triggerId={id} for job {job}");
    AsynchronousResult::of(&api, Scope::Savepoint(job), id, &what, savepoint_info)
}

fn savepoint_info(result: Result<Outcome, FailureCause>) -> SavepointInfo {
    match result {
        Ok(Outcome::Savepoint(location)) => SavepointInfo { location: Some(location), failure_cause: None },
        Ok(Outcome::Checkpoint(_) | Outcome::Done) => SavepointInfo { location: None, failure_cause: None },
        Err(cause) => SavepointInfo { location: None, failure_cause: Some(cause) },
    }
}

async fn disposal_progress(State(api): State<Arc<Api>>, path: Path) -> Answer<AsynchronousResult<SavepointInfo>> {
    let id: TriggerId = path.get("triggerid")?;
    let what = format!("savepoint disposal with triggerId={id}");
    AsynchronousResult::of(&api, Scope::Disposal, id, &what, savepoint_info)
}
