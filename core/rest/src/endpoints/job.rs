//! One job: what it is and how it goes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use axum::routing::{get, patch};
use serde::{Deserialize, Serialize};
use weir_model::{
    ExecutionState, JobId, JobStatus, JobSummary, JobVertex, JobView, ParallelismBounds, SubtaskView, VertexId,
};

use crate::GatewayError;
use crate::answer::{Answer, Empty, Json, MASK, accepted, is_secret};
use crate::api::{Api, Cluster};
use crate::error::ApiError;
use crate::request::{Object, Parameters, Path};
use crate::shapes::{ByJobStatus, Counts, IoMetrics, Plan, TaskTimes, aggregate, job_type, millis_between};

/// The kind of scheduler, in Flink's words: it keeps the parallelism it was told, or adapts to the slots there are.
pub(super) fn scheduler_type(adaptive: bool) -> &'static str {
    if adaptive { "Adaptive" } else { "Default" }
}

pub(super) fn routes() -> Router<Arc<Api>> {
    Router::new()
        .route("/jobs/{jobid}", get(details).patch(cancel))
        .route("/jobs/{jobid}/yarn-cancel", get(cancel))
        .route("/jobs/{jobid}/yarn-stop", get(stop))
        .route("/jobs/{jobid}/status", get(status))
        .route("/jobs/{jobid}/plan", get(plan))
        .route("/jobs/{jobid}/config", get(config))
        .route("/jobs/{jobid}/jobmanager/config", get(effective_config))
        .route("/jobs/{jobid}/resource-requirements", get(requirements).put(rescale))
        .route("/jobs/{jobid}/rescaling", patch(rescaling))
        .route("/jobs/{jobid}/clientHeartbeat", patch(client_heartbeat))
        .route("/jobs/{jobid}/slot-wait", get(slot_wait))
}

/// The job named by the path.
pub(super) async fn find(cluster: &Cluster, path: &Path) -> Result<(JobId, Arc<JobView>), ApiError> {
    let id = path.get("jobid")?;
    let job = cluster.job(id).await.map_err(|error| not_found(id, error))?;
    Ok((id, job))
}

pub(super) fn not_found(id: JobId, error: GatewayError) -> ApiError {
    match error {
        GatewayError::NotFound(_) => ApiError::not_found(format!("Job {id} not found")),
        other => other.into(),
    }
}

#[derive(Serialize)]
struct Details {
    jid: String,
    name: String,
    #[serde(rename = "isStoppable")]
    is_stoppable: bool,
    state: &'static str,
    #[serde(rename = "start-time")]
    start_time: u64,
    #[serde(rename = "end-time")]
    end_time: i64,
    duration: i64,
    #[serde(rename = "maxParallelism")]
    max_parallelism: i64,
    now: u64,
    timestamps: ByJobStatus<u64>,
    vertices: Vec<VertexLine>,
    #[serde(rename = "status-counts")]
    status_counts: Counts,
    plan: Plan,
    #[serde(rename = "job-type")]
    job_type: &'static str,
    #[serde(rename = "pending-operators")]
    pending_operators: u32,
    #[serde(rename = "schedulerType")]
    scheduler_type: &'static str,
    #[serde(rename = "application-id")]
    application_id: Option<String>,
    /// Not Flink's: how often tasks were started again.
    restarts: u32,
    /// Not Flink's: why it waits for slots.
    #[serde(rename = "slot-wait", skip_serializing_if = "Option::is_none")]
    slot_wait: Option<SlotWait>,
}

#[derive(Serialize)]
struct VertexLine {
    id: String,
    #[serde(rename = "slotSharingGroupId")]
    slot_sharing_group_id: String,
    name: String,
    #[serde(rename = "maxParallelism")]
    max_parallelism: u32,
    parallelism: u32,
    status: &'static str,
    #[serde(rename = "start-time")]
    start_time: i64,
    #[serde(rename = "end-time")]
    end_time: i64,
    duration: i64,
    tasks: Counts,
    metrics: IoMetrics,
    /// Not Flink's: of a job whose parallelism can change, the one it was built with.
    #[serde(rename = "builtParallelism", skip_serializing_if = "Option::is_none")]
    built_parallelism: Option<u32>,
}

async fn details(State(api): State<Arc<Api>>, cluster: Cluster, path: Path) -> Answer<Details> {
    let (id, job) = find(&cluster, &path).await?;
    let (now, summary) = (api.now(), &job.summary);
    let built =
        job.scaling.iter().flat_map(|scaling| scaling.built.iter().copied().map(Some)).chain(std::iter::repeat(None));
    let states = vertices(&job).map(|(_, tasks)| aggregate(&Counts::of_tasks(tasks)));
    Ok(Json(Details {
        jid: id.to_string(),
        name: summary.name.clone(),
        is_stoppable: false,
        state: summary.status.name(),
        start_time: summary.start,
        end_time: summary.end.map_or(-1, |end| end as i64),
        duration: millis_between(summary.start, summary.end.unwrap_or(now)),
        max_parallelism: -1,
        now,
        timestamps: ByJobStatus(job.timestamps.map(|time| time.unwrap_or(0))),
        vertices: vertices(&job).zip(built).map(|((vertex, tasks), built)| line(vertex, tasks, built, now)).collect(),
        status_counts: Counts::of(states),
        plan: Plan::of(id, &job.graph),
        job_type: job_type(summary.bounded),
        pending_operators: 0,
        scheduler_type: scheduler_type(summary.adaptive),
        application_id: None,
        restarts: job.restarts,
        slot_wait: job.waiting.as_ref().map(SlotWait::of),
    }))
}

/// The job's vertices with their tasks; a job that is being set up may have none yet.
fn vertices(job: &JobView) -> impl Iterator<Item = (&JobVertex, &[SubtaskView])> {
    job.graph.vertices.iter().zip(job.vertices.iter().map(Vec::as_slice).chain(std::iter::repeat(&[][..])))
}

fn line(vertex: &JobVertex, tasks: &[SubtaskView], built_parallelism: Option<u32>, now: u64) -> VertexLine {
    let counts = Counts::of_tasks(tasks);
    let times = TaskTimes::of_all(tasks, now);
    VertexLine {
        id: vertex.id.to_string(),
        slot_sharing_group_id: VertexId::from_seed(vertex.slot_sharing_group.as_bytes()).to_string(),
        name: vertex.name.clone(),
        max_parallelism: vertex.max_parallelism,
        parallelism: vertex.parallelism,
        status: aggregate(&counts).name(),
        start_time: times.start,
        end_time: times.end,
        duration: times.duration,
        tasks: counts,
        metrics: IoMetrics::of(tasks),
        built_parallelism,
    }
}

#[derive(Serialize)]
struct Status {
    status: &'static str,
}

/// Between two looks at a job that somebody waits for: short at first, because tiny jobs start and end within milliseconds.
const FIRST_LOOK: Duration = Duration::from_millis(2);
const LAST_LOOK: Duration = Duration::from_millis(200);

/// Flink's, and more: with `wait=RUNNING,…` the answer comes when the job has one of these statuses or has ended, or after
/// `timeout` milliseconds (10 s if absent, a minute at most).
async fn status(cluster: Cluster, path: Path, query: Parameters) -> Answer<Status> {
    let id: JobId = path.get("jobid")?;
    let awaited = query.list("wait");
    check_statuses(&awaited)?;
    let limit = query.get::<u64>("timeout")?.unwrap_or(10_000).min(60_000);
    let deadline = tokio::time::Instant::now() + Duration::from_millis(limit);
    let mut pause = FIRST_LOOK;
    loop {
        let JobSummary { status, .. } = cluster.job_summary(id).await.map_err(|error| not_found(id, error))?;
        let come = awaited.is_empty() || awaited.contains(&status.name()) || status.is_terminal();
        if come || tokio::time::Instant::now() >= deadline {
            return Ok(Json(Status { status: status.name() }));
        }
        tokio::time::sleep_until(deadline.min(tokio::time::Instant::now() + pause)).await;
        pause = (pause * 2).min(LAST_LOOK);
    }
}

fn check_statuses(names: &[&str]) -> Result<(), ApiError> {
    let known = JobStatus::ALL.map(JobStatus::name);
    match names.iter().find(|name| !known.contains(name)) {
        None => Ok(()),
        Some(name) => {
            Err(ApiError::bad_parameter(format!("{name:?} is no status of jobs: expected {}", known.join(", "))))
        }
    }
}

#[derive(Serialize)]
struct PlanAnswer {
    plan: Plan,
}

async fn plan(cluster: Cluster, path: Path) -> Answer<PlanAnswer> {
    let (id, job) = find(&cluster, &path).await?;
    Ok(Json(PlanAnswer { plan: Plan::of(id, &job.graph) }))
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct JobConfig {
    jid: String,
    name: String,
    execution_config: ExecutionConfig,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct ExecutionConfig {
    execution_mode: &'static str,
    restart_strategy: String,
    job_parallelism: i64,
    object_reuse_mode: bool,
    user_config: BTreeMap<String, String>,
}

async fn config(cluster: Cluster, path: Path) -> Answer<JobConfig> {
    let (id, job) = find(&cluster, &path).await?;
    let configured = job.configuration.get("parallelism.default").and_then(|text| text.parse().ok());
    let widest = || job.graph.vertices.iter().map(|vertex| i64::from(vertex.parallelism)).max().unwrap_or(1);
    Ok(Json(JobConfig {
        jid: id.to_string(),
        name: job.summary.name.clone(),
        execution_config: ExecutionConfig {
            execution_mode: "PIPELINED",
            restart_strategy: job.restart_strategy.clone(),
            job_parallelism: configured.unwrap_or_else(widest),
            object_reuse_mode: false,
            user_config: masked(&job.configuration).collect(),
        },
    }))
}

/// Options without the values that must not be shown. Those of a job are masked already; twice does no harm.
pub(super) fn masked(options: &BTreeMap<String, String>) -> impl Iterator<Item = (String, String)> {
    let mask =
        |(key, value): (&String, &String)| (key.clone(), if is_secret(key) { MASK.to_owned() } else { value.clone() });
    options.iter().map(mask)
}

#[derive(Serialize)]
pub(super) struct OptionInEffect {
    pub(super) key: String,
    pub(super) value: String,
}

async fn effective_config(cluster: Cluster, path: Path) -> Answer<Vec<OptionInEffect>> {
    let (_, job) = find(&cluster, &path).await?;
    Ok(Json(masked(&job.configuration).map(|(key, value)| OptionInEffect { key, value }).collect()))
}

/// Between which numbers of subtasks vertices run, by their ids.
#[derive(Serialize, Deserialize)]
#[serde(transparent)]
struct JobResourceRequirements(BTreeMap<String, Requirement>);

#[derive(Serialize, Deserialize)]
struct Requirement {
    parallelism: Bounds,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Bounds {
    lower_bound: u32,
    upper_bound: u32,
}

/// By vertex. A job that does not adapt runs with the parallelism it was built with, neither less nor more.
async fn requirements(cluster: Cluster, path: Path) -> Answer<JobResourceRequirements> {
    let (_, job) = find(&cluster, &path).await?;
    let fixed = |vertex: &JobVertex| ParallelismBounds { lower: vertex.parallelism, upper: vertex.parallelism };
    let bounds: Vec<_> = match &job.scaling {
        Some(scaling) => scaling.requirements.0.clone(),
        None => job.graph.vertices.iter().map(fixed).collect(),
    };
    let requirement = |(vertex, bounds): (&JobVertex, ParallelismBounds)| {
        let parallelism = Bounds { lower_bound: bounds.lower, upper_bound: bounds.upper };
        (vertex.id.to_string(), Requirement { parallelism })
    };
    Ok(Json(JobResourceRequirements(job.graph.vertices.iter().zip(bounds).map(requirement).collect())))
}

/// Takes effect while the job runs: it is stopped with a checkpoint and goes on from there with what it may have of what there is.
async fn rescale(
    cluster: Cluster,
    path: Path,
    Object(JobResourceRequirements(requirements)): Object<JobResourceRequirements>,
) -> Answer<Empty> {
    let id = path.get("jobid")?;
    if requirements.is_empty() {
        let message = "the body names no vertex: expected {\"<vertex id>\": {\"parallelism\": {\"lowerBound\": 1, \"upperBound\": 4}}}";
        return Err(ApiError::bad_request(message));
    }
    let bounds = requirements.into_iter().map(|(vertex, Requirement { parallelism })| {
        let wrong = |problem| ApiError::bad_request(format!("{vertex:?} is no id of a vertex: {problem}"));
        let bounds = ParallelismBounds { lower: parallelism.lower_bound, upper: parallelism.upper_bound };
        Ok((vertex.parse::<VertexId>().map_err(wrong)?, bounds))
    });
    let bounds = bounds.collect::<Result<BTreeMap<_, _>, ApiError>>()?;
    cluster.rescale(id, bounds).await.map_err(|error| not_found(id, error))?;
    Ok(Json(Empty {}))
}

/// As Flink answers since long ago.
async fn rescaling() -> ApiError {
    ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "Rescaling is disabled.")
}

/// Cancels. The second path exists because YARN's proxy passes on GET only; dashboards use it.
async fn cancel(
    State(api): State<Arc<Api>>,
    cluster: Cluster,
    path: Path,
    query: Parameters,
) -> Result<Response, ApiError> {
    let id = path.get("jobid")?;
    match query.text("mode").unwrap_or("cancel").to_ascii_lowercase().as_str() {
        "cancel" => {}
        "stop" => return Err(stopping_is_elsewhere()),
        other => {
            let problem = format!("Cannot resolve query parameter (mode) from value {other:?}: expected cancel");
            return Err(ApiError::bad_parameter(problem));
        }
    }
    if !api.options.cancel_enabled {
        let message = "Canceling jobs over HTTP is switched off: `web.cancel.enable` is false.";
        return Err(ApiError::new(StatusCode::FORBIDDEN, message));
    }
    cluster.cancel(id).await.map_err(|error| not_found(id, error))?;
    Ok(accepted())
}

async fn stop() -> ApiError {
    stopping_is_elsewhere()
}

fn stopping_is_elsewhere() -> ApiError {
    let message = "The termination mode \"stop\" has been removed. For an ungraceful shutdown, use mode \"cancel\".";
    ApiError::new(StatusCode::PERMANENT_REDIRECT, message)
}

/// A client says that it is still there. Weir's own client keeps a connection instead, so nothing follows from this one.
async fn client_heartbeat(cluster: Cluster, path: Path) -> Result<Response, ApiError> {
    let id = path.get("jobid")?;
    cluster.job_summary(id).await.map_err(|error| not_found(id, error))?;
    Ok(accepted())
}

/// Why a job waits for slots. Not Flink's.
#[derive(Serialize)]
struct SlotWait {
    waiting: bool,
    needed: u32,
    granted: u32,
    available: u32,
    pending: u32,
    reasons: Vec<String>,
    never: Option<String>,
}

impl SlotWait {
    fn of(wait: &weir_model::SlotWait) -> Self {
        Self {
            waiting: true,
            needed: wait.needed,
            granted: wait.granted,
            available: wait.available,
            pending: wait.pending,
            reasons: wait.reasons.clone(),
            never: wait.never.clone(),
        }
    }
}

#[derive(Serialize)]
struct SlotWaitAnswer {
    #[serde(flatten)]
    wait: SlotWait,
    providers: Vec<Provider>,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Provider {
    name: String,
    pending: u32,
    running: u32,
    max_workers: Option<u32>,
    last_failure: Option<String>,
}

async fn slot_wait(cluster: Cluster, path: Path) -> Answer<SlotWaitAnswer> {
    let (_, job) = find(&cluster, &path).await?;
    let resources = cluster.resources().await?;
    let wait = match &job.waiting {
        Some(wait) => SlotWait::of(wait),
        None => {
            let has = job.vertices.iter().flatten().any(|task| {
                !task.state.is_terminal() && !matches!(task.state, ExecutionState::Created | ExecutionState::Scheduled)
            });
            let needed = if has { slots_of(&job) } else { 0 };
            let available = resources.slots_available;
            SlotWait {
                waiting: false,
                needed,
                granted: needed,
                available,
                pending: 0,
                reasons: Vec::new(),
                never: None,
            }
        }
    };
    let providers = resources.providers.into_iter().map(|provider| Provider {
        name: provider.name,
        pending: provider.pending,
        running: provider.running,
        max_workers: provider.max_workers,
        last_failure: provider.last_failure,
    });
    Ok(Json(SlotWaitAnswer { wait, providers: providers.collect() }))
}

/// Slots a job takes: in each slot sharing group as many as its widest vertex has tasks.
fn slots_of(job: &JobView) -> u32 {
    let mut groups = BTreeMap::<&str, u32>::new();
    for vertex in &job.graph.vertices {
        let widest = groups.entry(&vertex.slot_sharing_group).or_default();
        *widest = vertex.parallelism.max(*widest);
    }
    groups.values().sum()
}
