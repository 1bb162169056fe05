//! Building jobs, and running them.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, oneshot};
use weir_checkpoint::{Carried, CheckpointMetadata};
use weir_config::options;
use weir_dispatcher::{JobRecord, SubmitError};
use weir_jobmaster::{JobMaster, JobSpec};
use weir_model::{ArtifactId, JobId, Launch};
use weir_rest::{CarriedState, GatewayError, RunRequest};
use weir_storage::ArtifactPin;

use super::Gateway;
use super::artifacts::error_of;
use crate::coordinator::{Coordinator, CoordinatorSpec, StartError};
use crate::dispatcher::{DispatcherMessage, DispatcherSender};
use crate::job_master::PlannedJob;
use crate::jobs::JobMessage;
use crate::launch;
use crate::records::NO_SPACE;
use crate::shared::Shared;

/// How long it may take until a job that was built is written down.
const SUBMISSION: Duration = Duration::from_secs(60);

/// Builds a job without running it.
pub(super) async fn plan(gateway: &Gateway, request: RunRequest) -> Result<weir_rest::PlannedJob, GatewayError> {
    let (planned, carried, turn) = build(gateway, request).await?;
    let state = carried.map(|Carried { restored, empty, left_behind }| CarriedState { restored, empty, left_behind });
    let answer = weir_rest::PlannedJob { id: planned.record.id, graph: planned.record.graph.clone(), state };
    let shared = gateway.shared.clone();
    shared.clone().last_work.spawn(async move {
        planned.coordinator.shut_down().await;
        drop(turn);
    });
    Ok(answer)
}

/// Builds a job and runs it.
pub(super) async fn run(gateway: &Gateway, request: RunRequest) -> Result<JobId, GatewayError> {
    if gateway.shut_down.is_cancelled() {
        return Err(GatewayError::Unavailable("the cluster is being shut down".to_owned()));
    }
    if let Some(id) = request.replaces {
        return Err(GatewayError::BadRequest(format!(
            "a job is not replaced by running another one: stop {id} with a savepoint (POST /jobs/{id}/stop) and run this one from it \
             (savepointPath); `replaces` is for POST /jars/:jarid/plan, which says beforehand whether that will work"
        )));
    }
    let (planned, carried, turn) = build(gateway, request).await?;
    drop(turn);
    let (id, name) = (planned.record.id, planned.record.graph.name.clone());
    match submit(&gateway.shared.dispatcher, planned, SUBMISSION).await? {
        Ok(id) => {
            tracing::info!(job_id = %id, name, "a job was accepted");
            for warning in carried.into_iter().flat_map(|carried| carried.left_behind) {
                tracing::warn!(job_id = %id, "{warning}");
            }
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

/// Hands a job over to the Dispatcher. A job whose requester is not told its id does not run: the Dispatcher withdraws it when it
/// finds the answer unwanted.
async fn submit(
    dispatcher: &DispatcherSender,
    planned: PlannedJob,
    patience: Duration,
) -> Result<Result<JobId, SubmitError>, GatewayError> {
    let (sender, mut answer) = oneshot::channel();
    let gone = || GatewayError::Unavailable("the JobManager is shutting down".to_owned());
    dispatcher.send(DispatcherMessage::Submit(Box::new(planned), sender)).map_err(|_| gone())?;
    match tokio::time::timeout(patience, &mut answer).await {
        Ok(answered) => answered.map_err(|_| gone()),
        Err(_) => {
            // From here on no answer can be given; one that was given just before counts.
            answer.close();
            answer.try_recv().map_err(|_| {
                GatewayError::Timeout(format!(
                    "the job was not written down within {patience:?} and is withdrawn: the disk of the working folder (`process.working-dir`) may hang"
                ))
            })
        }
    }
}

/// Runs the job's builder, in a process of its own, when its turn has come. The turn is to last as long as the process is not part of a
/// running job. Says also what becomes of the state that the job is to start with, if it is to have some.
async fn build(
    gateway: &Gateway,
    request: RunRequest,
) -> Result<(PlannedJob, Option<Carried>, OwnedSemaphorePermit), GatewayError> {
    let shared = &*gateway.shared;
    let id = match request.job_id {
        Some(id) => id,
        None => JobId::from_bytes(random()?),
    };
    let replaced = match request.replaces {
        Some(id) => Some(declared_state(gateway, id, &request).await?),
        None => None,
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
    let turn = shared.builders.turn().await?;
    let started = Coordinator::start(&coordinator_spec).await;
    let (built, coordinator) = started.map_err(|error| match error {
        // What the builder says is wrong with it is the requester's business.
        StartError::Job(problem) => GatewayError::BadRequest(problem),
        StartError::System(problem) => GatewayError::Internal(problem),
    })?;
    let configuration = launch::effective(cluster, &built.graph);
    let options = launch::job_master_options(id, cluster, &configuration);
    let checkpointing = launch::checkpoint_options(id, cluster, &configuration).map_err(GatewayError::BadRequest)?;
    let restore = match replaced {
        Some(declared) => launch::restore_instead_of(&configuration, &built.states, declared).map(Some),
        None => launch::restore_from(&configuration, &built.states).await,
    };
    let (restore, carried) = restore.map_err(GatewayError::BadRequest)?.unzip();
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
        checkpointing,
        states: built.states,
        restore,
    };
    let machine = JobMaster::new(spec, options, record.submitted)
        .map_err(|error| GatewayError::BadRequest(format!("the job cannot be run: {error}")))?;
    let (record, job_graph_hash) = (Arc::new(record), built.hash);
    Ok((PlannedJob { record, machine, job_graph_hash, coordinator, coordinator_spec, pin }, carried, turn))
}

/// What the checkpoints of a running job say but for the state itself.
async fn declared_state(
    gateway: &Gateway,
    id: JobId,
    request: &RunRequest,
) -> Result<CheckpointMetadata, GatewayError> {
    if request.configuration.contains_key(options::RECOVERY_PATH.key()) {
        return Err(GatewayError::BadRequest(format!(
            "the job is to start from a savepoint and from the state of {id}: name one of them"
        )));
    }
    let job = gateway.shared.jobs.get(id);
    let declared = match &job {
        Some(job) => gateway.ask_job(job, JobMessage::DeclaredState).await?,
        None => None,
    };
    declared.ok_or_else(|| {
        GatewayError::BadRequest(format!(
            "there is no running job {id} to be replaced; from what an ended one has left a job is started with its savepoint"
        ))
    })
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
