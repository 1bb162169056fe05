//! One vertex of a job, and its tasks.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::routing::get;
use serde::Serialize;
use weir_model::{ExecutionState, JobId, JobVertex, JobView, SubtaskView, VertexId};

use crate::answer::{Answer, Double, Empty, Json};
use crate::api::{Api, Cluster};
use crate::error::ApiError;
use crate::request::Path;
use crate::shapes::{
    Aggregated, ByState, Counts, IoMetrics, SubtaskAttempt, TaskTimes, UNASSIGNED, aggregate, endpoint, host,
    millis_between,
};

pub(super) fn routes() -> Router<Arc<Api>> {
    let vertex = |suffix: &str| format!("/jobs/{{jobid}}/vertices/{{vertexid}}{suffix}");
    Router::new()
        .route(&vertex(""), get(details))
        .route(&vertex("/subtasktimes"), get(subtask_times))
        .route(&vertex("/taskmanagers"), get(task_managers))
        .route(&vertex("/backpressure"), get(back_pressure))
        .route(&vertex("/accumulators"), get(accumulators))
        .route(&vertex("/flamegraph"), get(flame_graph))
        .route(&vertex("/subtasks/accumulators"), get(subtask_accumulators))
        .route(&vertex("/subtasks/{subtaskindex}"), get(subtask))
        .route(&vertex("/subtasks/{subtaskindex}/attempts/{attempt}"), get(attempt))
        .route(&vertex("/subtasks/{subtaskindex}/attempts/{attempt}/accumulators"), get(attempt_accumulators))
}

/// A vertex of a job, as named by a path.
pub(super) struct Found {
    pub(super) job: Arc<JobView>,
    pub(super) index: usize,
}

impl Found {
    pub(super) fn vertex(&self) -> &JobVertex {
        &self.job.graph.vertices[self.index]
    }

    /// Its tasks; none while the job is being set up.
    pub(super) fn tasks(&self) -> &[SubtaskView] {
        self.job.vertices.get(self.index).map_or(&[], Vec::as_slice)
    }

    pub(super) fn numbered_tasks(&self) -> impl Iterator<Item = (u32, &SubtaskView)> {
        (0..).zip(self.tasks())
    }

    /// The task named by the path.
    pub(super) fn task(&self, path: &Path) -> Result<(u32, &SubtaskView), ApiError> {
        let index: u32 = path.get("subtaskindex")?;
        let task = self.tasks().get(index as usize);
        task.map(|task| (index, task)).ok_or_else(|| {
            let (name, parallelism) = (&self.vertex().name, self.vertex().parallelism);
            ApiError::not_found(format!(
                "Invalid subtask index {index}: the vertex {name:?} has {parallelism} subtasks"
            ))
        })
    }
}

pub(super) async fn find(cluster: &Cluster, path: &Path) -> Result<Found, ApiError> {
    // Both are read first: a wrong id is the client's mistake whether there is such a job or not.
    let (_, id) = (path.get::<JobId>("jobid")?, path.get::<VertexId>("vertexid")?);
    let (_, job) = super::job::find(cluster, path).await?;
    let index = job.graph.vertices.iter().position(|vertex| vertex.id == id);
    let index = index.ok_or_else(|| ApiError::not_found(format!("No vertex with ID {id} exists")))?;
    Ok(Found { job, index })
}

#[derive(Serialize)]
struct Details {
    id: String,
    name: String,
    parallelism: u32,
    #[serde(rename = "maxParallelism")]
    max_parallelism: u32,
    now: u64,
    subtasks: Vec<SubtaskAttempt>,
    aggregated: Aggregated,
}

async fn details(State(api): State<Arc<Api>>, cluster: Cluster, path: Path) -> Answer<Details> {
    let found = find(&cluster, &path).await?;
    let (vertex, now) = (found.vertex(), api.now());
    Ok(Json(Details {
        id: vertex.id.to_string(),
        name: vertex.name.clone(),
        parallelism: vertex.parallelism,
        max_parallelism: vertex.max_parallelism,
        now,
        subtasks: found.numbered_tasks().map(|(index, task)| SubtaskAttempt::of(index, task, now)).collect(),
        aggregated: Aggregated::of(&found.tasks().iter().collect::<Vec<_>>(), now),
    }))
}

#[derive(Serialize)]
struct SubtaskTimes {
    id: String,
    name: String,
    now: u64,
    subtasks: Vec<SubtaskTime>,
}

#[derive(Serialize)]
struct SubtaskTime {
    subtask: u32,
    endpoint: String,
    host: String,
    duration: i64,
    timestamps: ByState<u64>,
}

async fn subtask_times(State(api): State<Arc<Api>>, cluster: Cluster, path: Path) -> Answer<SubtaskTimes> {
    let found = find(&cluster, &path).await?;
    let now = api.now();
    let times = |(subtask, task): (u32, &SubtaskView)| {
        let end = if task.state.is_terminal() { task.timestamps[task.state as usize].unwrap_or(now) } else { now };
        let scheduled = task.timestamps[ExecutionState::Scheduled as usize];
        SubtaskTime {
            subtask,
            endpoint: endpoint(&task.host),
            host: host(&task.host),
            duration: scheduled.map_or(-1, |scheduled| millis_between(scheduled, end)),
            timestamps: ByState(task.timestamps.map(|time| time.unwrap_or(0))),
        }
    };
    let subtasks = found.numbered_tasks().map(times).collect();
    Ok(Json(SubtaskTimes { id: found.vertex().id.to_string(), name: found.vertex().name.clone(), now, subtasks }))
}

#[derive(Serialize)]
struct VertexTaskManagers {
    id: String,
    name: String,
    now: u64,
    taskmanagers: Vec<VertexTaskManager>,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct VertexTaskManager {
    endpoint: String,
    host: String,
    status: &'static str,
    start_time: i64,
    end_time: i64,
    duration: i64,
    metrics: IoMetrics,
    status_counts: Counts,
    taskmanager_id: String,
    aggregated: Aggregated,
}

async fn task_managers(State(api): State<Arc<Api>>, cluster: Cluster, path: Path) -> Answer<VertexTaskManagers> {
    let found = find(&cluster, &path).await?;
    let now = api.now();
    let mut by_place = BTreeMap::<(&str, &str), Vec<&SubtaskView>>::new();
    for task in found.tasks() {
        let id = task.task_manager.as_ref().map_or(UNASSIGNED, |id| id.as_str());
        by_place.entry((id, &task.host)).or_default().push(task);
    }
    let line = |((id, place), tasks): ((&str, &str), Vec<&SubtaskView>)| {
        let counts = Counts::of_tasks(tasks.iter().copied());
        let times = TaskTimes::of_all(tasks.iter().copied(), now);
        VertexTaskManager {
            endpoint: endpoint(place),
            host: host(place),
            status: aggregate(&counts).name(),
            start_time: times.start,
            end_time: times.end,
            duration: times.duration,
            metrics: IoMetrics::of(tasks.iter().copied()),
            status_counts: counts,
            taskmanager_id: id.to_owned(),
            aggregated: Aggregated::of(&tasks, now),
        }
    };
    let taskmanagers = by_place.into_iter().map(line).collect();
    Ok(Json(VertexTaskManagers {
        id: found.vertex().id.to_string(),
        name: found.vertex().name.clone(),
        now,
        taskmanagers,
    }))
}

/// Some names stand twice, because Flink's clients differ in which they read.
#[derive(Serialize)]
struct BackPressure {
    status: &'static str,
    #[serde(flatten)]
    known: Option<KnownBackPressure>,
}

#[derive(Serialize)]
struct KnownBackPressure {
    #[serde(rename = "backpressureLevel")]
    level: &'static str,
    #[serde(rename = "backpressure-level")]
    level_again: &'static str,
    #[serde(rename = "end-timestamp")]
    end_timestamp: u64,
    subtasks: Vec<SubtaskBackPressure>,
}

#[derive(Serialize)]
struct SubtaskBackPressure {
    subtask: u32,
    #[serde(rename = "attempt-number")]
    attempt: u32,
    #[serde(rename = "backpressureLevel")]
    level: &'static str,
    #[serde(rename = "backpressure-level")]
    level_again: &'static str,
    ratio: Double,
    #[serde(rename = "idleRatio")]
    idle_ratio: Double,
    #[serde(rename = "busyRatio")]
    busy_ratio: Double,
}

async fn back_pressure(State(api): State<Arc<Api>>, cluster: Cluster, path: Path) -> Answer<BackPressure> {
    let found = find(&cluster, &path).await?;
    let subtasks = found.numbered_tasks().filter(|(_, task)| task.state == ExecutionState::Running);
    let subtasks = subtasks.map(|(index, task)| subtask_back_pressure(index, task)).collect::<Vec<_>>();
    let worst = subtasks.iter().map(|subtask| subtask.ratio.0).reduce(f64::max);
    Ok(Json(match worst {
        // Flink's word for "there are no measurements".
        None => BackPressure { status: "deprecated", known: None },
        Some(worst) => {
            let level = level(worst);
            let known = KnownBackPressure { level, level_again: level, end_timestamp: api.now(), subtasks };
            BackPressure { status: "ok", known: Some(known) }
        }
    }))
}

fn subtask_back_pressure(subtask: u32, task: &SubtaskView) -> SubtaskBackPressure {
    let level = level(task.rates.backpressured);
    SubtaskBackPressure {
        subtask,
        attempt: task.attempt,
        level,
        level_again: level,
        ratio: Double(task.rates.backpressured),
        idle_ratio: Double(task.rates.idle),
        busy_ratio: Double(task.rates.busy),
    }
}

fn level(ratio: f64) -> &'static str {
    match ratio {
        ratio if ratio <= 0.10 => "ok",
        ratio if ratio <= 0.5 => "low",
        _ => "high",
    }
}

async fn subtask(State(api): State<Arc<Api>>, cluster: Cluster, path: Path) -> Answer<SubtaskAttempt> {
    let found = find(&cluster, &path).await?;
    let (index, task) = found.task(&path)?;
    Ok(Json(SubtaskAttempt::of(index, task, api.now())))
}

/// Only the current attempt is known; failures of earlier ones are in the job's exceptions.
fn current_attempt<'f>(found: &'f Found, path: &Path) -> Result<(u32, &'f SubtaskView), ApiError> {
    let (index, task) = found.task(path)?;
    let attempt: u32 = path.get("attempt")?;
    if attempt == task.attempt {
        return Ok((index, task));
    }
    let current = task.attempt;
    Err(ApiError::not_found(format!(
        "Attempt {attempt} of subtask {index} is not known: the current attempt is {current}"
    )))
}

async fn attempt(State(api): State<Arc<Api>>, cluster: Cluster, path: Path) -> Answer<SubtaskAttempt> {
    let found = find(&cluster, &path).await?;
    let (index, task) = current_attempt(&found, &path)?;
    Ok(Json(SubtaskAttempt::of(index, task, api.now())))
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct AttemptAccumulators {
    subtask: u32,
    attempt: u32,
    id: String,
    user_accumulators: [Empty; 0],
}

async fn attempt_accumulators(cluster: Cluster, path: Path) -> Answer<AttemptAccumulators> {
    let found = find(&cluster, &path).await?;
    let (subtask, task) = current_attempt(&found, &path)?;
    let id = format!("{}_{}_{subtask}_{}", found.job.summary.id, found.vertex().id, task.attempt);
    Ok(Json(AttemptAccumulators { subtask, attempt: task.attempt, id, user_accumulators: [] }))
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Accumulators {
    id: String,
    user_accumulators: [Empty; 0],
}

/// Jobs of Weir have none.
async fn accumulators(cluster: Cluster, path: Path) -> Answer<Accumulators> {
    let found = find(&cluster, &path).await?;
    Ok(Json(Accumulators { id: found.vertex().id.to_string(), user_accumulators: [] }))
}

#[derive(Serialize)]
struct SubtasksAccumulators {
    id: String,
    parallelism: u32,
    subtasks: Vec<SubtaskAccumulators>,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct SubtaskAccumulators {
    subtask: u32,
    attempt: u32,
    endpoint: String,
    host: String,
    user_accumulators: [Empty; 0],
}

async fn subtask_accumulators(cluster: Cluster, path: Path) -> Answer<SubtasksAccumulators> {
    let found = find(&cluster, &path).await?;
    let line = |(subtask, task): (u32, &SubtaskView)| SubtaskAccumulators {
        subtask,
        attempt: task.attempt,
        endpoint: endpoint(&task.host),
        host: host(&task.host),
        user_accumulators: [],
    };
    let subtasks = found.numbered_tasks().map(line).collect();
    Ok(Json(SubtasksAccumulators {
        id: found.vertex().id.to_string(),
        parallelism: found.vertex().parallelism,
        subtasks,
    }))
}

#[derive(Serialize)]
struct FlameGraph {
    #[serde(rename = "endTimestamp")]
    end_timestamp: i64,
}

/// Flink's mark for flame graphs that are switched off.
async fn flame_graph(cluster: Cluster, path: Path) -> Answer<FlameGraph> {
    find(&cluster, &path).await?;
    Ok(Json(FlameGraph { end_timestamp: -2 }))
}
