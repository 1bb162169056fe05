//! Building jobs, and running them.

use std::sync::Arc;

use weir_dispatcher::{JobRecord, SubmitError};
use weir_jobmaster::JobSpec;
use weir_model::{ArtifactId, JobId, Launch};
use weir_rest::{GatewayError, RunRequest};
use weir_storage::ArtifactPin;

use super::Gateway;
use super::artifacts::error_of;
use crate::coordinator::{Coordinator, CoordinatorSpec, StartError};
use crate::dispatcher::DispatcherMessage;
use crate::job_master::PlannedJob;
use crate::launch;
use crate::records::NO_SPACE;
use crate::shared::Shared;

/// Builds a job without running it.
pub(super) async fn plan(shared: &Shared, request: RunRequest) -> Result<weir_rest::PlannedJob, GatewayError> {
    let planned = build(shared, request).await?;
    let answer = weir_rest::PlannedJob { id: planned.record.id, graph: planned.record.graph.clone() };
    shared.last_work.spawn(planned.coordinator.shut_down());
    Ok(answer)
}

/// Builds a job and runs it.
pub(super) async fn run(gateway: &Gateway, request: RunRequest) -> Result<JobId, GatewayError> {
    if gateway.shut_down.is_cancelled() {
        return Err(GatewayError::Unavailable("the cluster is being shut down".to_owned()));
    }
    let planned = build(&gateway.shared, request).await?;
    let (id, name) = (planned.record.id, planned.record.graph.name.clone());
    let submit = |answer| DispatcherMessage::Submit(Box::new(planned), answer);
    match gateway.ask(&gateway.shared.dispatcher, submit).await? {
        Ok(id) => {
            tracing::info!(job_id = %id, name, "a job was accepted");
            Ok(id)
        }
        Err(error @ SubmitError::Duplicate { .. }) => Err(GatewayError::Conflict(error.to_string())),
        Err(error @ SubmitError::NotRecorded { .. }) => {
            tracing::warn!(job_id = %id, name, %error, "a job was not accepted");
            let text = error.to_string();
            Err(if text.contains(NO_SPACE) { GatewayError::NoSpace(text) } else { GatewayError::Internal(text) })
        }
    }
}

/// Runs the job's builder, in a process of its own.
async fn build(shared: &Shared, request: RunRequest) -> Result<PlannedJob, GatewayError> {
    let id = match request.job_id {
        Some(id) => id,
        None => JobId::from_bytes(random()?),
    };
    let pin = find(shared, &request.artifact)?;
    let arguments = launch::arguments(&request).map_err(GatewayError::BadRequest)?;
    let cluster = &shared.options.configuration;
    let coordinator_spec = CoordinatorSpec {
        executable: shared.executables.path(pin.id).await.map_err(error_of)?,
        job: id,
        arguments,
        environment: launch::environment(cluster),
        start_timeout: shared.options.worker_start_timeout,
        folders: shared.coordinator_folders.clone(),
    };
    let started = Coordinator::start(&coordinator_spec).await;
    let (built, coordinator) = started.map_err(|error| match error {
        // What the builder says is wrong with it is the requester's business.
        StartError::Job(problem) => GatewayError::BadRequest(problem),
        StartError::System(problem) => GatewayError::Internal(problem),
    })?;
    let configuration = launch::effective(cluster, &built.graph);
    let options = launch::job_master_options(id, cluster, &configuration);
    let launch = Launch {
        artifact: pin.artifact().clone(),
        job_name: built.graph.name.clone(),
        arguments: coordinator_spec.arguments.clone(),
        environment: coordinator_spec.environment.clone(),
        token: random()?,
    };
    let record = JobRecord {
        id,
        graph: built.graph.clone(),
        artifact: pin.artifact().clone(),
        arguments: coordinator_spec.arguments.clone(),
        configuration: configuration.to_map(),
        submitted: shared.clock.now(),
    };
    let spec = JobSpec {
        id,
        graph: built.graph,
        job_graph_hash: built.hash,
        launch: Arc::new(launch),
        configuration: configuration.to_map(),
    };
    Ok(PlannedJob { record: Arc::new(record), spec, options, coordinator, coordinator_spec, pin })
}

/// By the key of the list, or by the artifact's id.
fn find(shared: &Shared, artifact: &str) -> Result<ArtifactPin, GatewayError> {
    let id = match shared.store.listed(artifact) {
        Some(entry) => Some(entry.id),
        None => artifact.parse::<ArtifactId>().ok(),
    };
    let pin = id.and_then(|id| shared.store.pin(id).ok());
    pin.ok_or_else(|| {
        GatewayError::NotFound(format!("there is no uploaded artifact {artifact:?}; GET /jars lists them"))
    })
}

fn random<const N: usize>() -> Result<[u8; N], GatewayError> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|error| GatewayError::Internal(format!("there is no randomness ({error})")))?;
    Ok(bytes)
}
