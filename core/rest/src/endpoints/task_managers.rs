//! TaskManagers.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Router;
use axum::response::Response;
use axum::routing::get;
use serde::Serialize;
use weir_model::{JobId, TaskManagerId, TaskManagerView};

use super::process::{self, Logs, MainFile, ThreadDump};
use crate::answer::{Answer, Empty, Json};
use crate::api::{Api, Cluster};
use crate::error::ApiError;
use crate::request::{Parameters, Path};
use crate::shapes::in_address;
use crate::{GatewayError, ProcessRef};

pub(super) fn routes() -> Router<Arc<Api>> {
    Router::new()
        .route("/taskmanagers", get(list))
        .route("/taskmanagers/{taskmanagerid}", get(details))
        .route("/taskmanagers/{taskmanagerid}/logs", get(logs))
        .route("/taskmanagers/{taskmanagerid}/logs/{filename}", get(log_file))
        .route("/taskmanagers/{taskmanagerid}/log", get(log))
        .route("/taskmanagers/{taskmanagerid}/stdout", get(stdout))
        .route("/taskmanagers/{taskmanagerid}/thread-dump", get(thread_dump))
}

fn id(path: &Path) -> TaskManagerId {
    TaskManagerId::new(path.text("taskmanagerid"))
}

pub(super) fn unknown(id: &TaskManagerId) -> ApiError {
    ApiError::not_found(format!("Could not find a TaskManager with id {id}"))
}

pub(super) async fn find(cluster: &Cluster, path: &Path) -> Result<TaskManagerView, ApiError> {
    let id = id(path);
    cluster.task_manager(id.clone()).await.map_err(|error| match error {
        GatewayError::NotFound(_) => unknown(&id),
        other => other.into(),
    })
}

#[derive(Serialize)]
struct TaskManagers {
    taskmanagers: Vec<TaskManager>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct TaskManager {
    id: String,
    path: String,
    data_port: u16,
    jmx_port: i32,
    /// A point in time, despite the name.
    time_since_last_heartbeat: u64,
    slots_number: u32,
    free_slots: u32,
    total_resource: Resource,
    free_resource: Resource,
    hardware: Hardware,
    memory_configuration: MemoryConfiguration,
    assigned_tasks: u32,
    /// Not Flink's: the provider that started it.
    #[serde(skip_serializing_if = "Option::is_none")]
    provider: Option<String>,
}

/// Memory in whole megabytes.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Resource {
    cpu_cores: f64,
    task_heap_memory: u64,
    task_off_heap_memory: u64,
    managed_memory: u64,
    network_memory: u64,
    extended_resources: Empty,
}

impl Resource {
    /// The share of a TaskManager that belongs to `slots` of its slots.
    fn of(view: &TaskManagerView, slots: u32) -> Self {
        let all = f64::from(view.info.slots.max(1));
        let memory = u128::from(view.info.memory) * u128::from(slots) / u128::from(view.info.slots.max(1));
        Self {
            cpu_cores: f64::from(view.info.cpu_cores) * f64::from(slots) / all,
            task_heap_memory: (memory >> 20) as u64,
            task_off_heap_memory: 0,
            managed_memory: 0,
            network_memory: 0,
            extended_resources: Empty {},
        }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Hardware {
    cpu_cores: u32,
    physical_memory: u64,
    free_memory: u64,
    managed_memory: u64,
}

/// Bytes. Weir does not divide a TaskManager's memory: all of it is the tasks'.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct MemoryConfiguration {
    framework_heap: u64,
    task_heap: u64,
    framework_off_heap: u64,
    task_off_heap: u64,
    network_memory: u64,
    managed_memory: u64,
    jvm_metaspace: u64,
    jvm_overhead: u64,
    total_flink_memory: u64,
    total_process_memory: u64,
}

impl TaskManager {
    fn of(view: &TaskManagerView, tasks: &TasksByJob) -> Self {
        let info = &view.info;
        Self {
            id: info.id.to_string(),
            path: format!("weir://{}/{}", in_address(&info.host), info.id),
            // Each worker has a port of its own.
            data_port: 0,
            jmx_port: -1,
            time_since_last_heartbeat: view.last_heartbeat,
            slots_number: info.slots,
            free_slots: view.free_slots,
            total_resource: Resource::of(view, info.slots),
            free_resource: Resource::of(view, view.free_slots),
            hardware: Hardware {
                cpu_cores: info.cpu_cores,
                physical_memory: info.physical_memory,
                free_memory: info.memory,
                managed_memory: 0,
            },
            memory_configuration: MemoryConfiguration {
                framework_heap: 0,
                task_heap: info.memory,
                framework_off_heap: 0,
                task_off_heap: 0,
                network_memory: 0,
                managed_memory: 0,
                jvm_metaspace: 0,
                jvm_overhead: 0,
                total_flink_memory: info.memory,
                total_process_memory: info.memory,
            },
            assigned_tasks: tasks.get(&info.id).map_or(0, |jobs| jobs.values().sum()),
            provider: view.provider.clone(),
        }
    }
}

/// Number of tasks that have not ended, by TaskManager and job.
type TasksByJob = BTreeMap<TaskManagerId, BTreeMap<JobId, u32>>;

async fn assigned_tasks(cluster: &Cluster, views: &[TaskManagerView]) -> TasksByJob {
    let mut tasks = TasksByJob::new();
    let mut jobs = views.iter().flat_map(|view| view.allocated.iter().map(|(job, _)| *job)).collect::<Vec<_>>();
    jobs.sort_unstable();
    jobs.dedup();
    for id in jobs {
        // A job may be forgotten between the two questions.
        let Ok(job) = cluster.job(id).await else { continue };
        for task in job.vertices.iter().flatten().filter(|task| !task.state.is_terminal()) {
            if let Some(task_manager) = &task.task_manager {
                *tasks.entry(task_manager.clone()).or_default().entry(id).or_default() += 1;
            }
        }
    }
    tasks
}

async fn list(cluster: Cluster) -> Answer<TaskManagers> {
    let views = cluster.task_managers().await?;
    let tasks = assigned_tasks(&cluster, &views).await;
    Ok(Json(TaskManagers { taskmanagers: views.iter().map(|view| TaskManager::of(view, &tasks)).collect() }))
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Details {
    #[serde(flatten)]
    task_manager: TaskManager,
    allocated_slots: Vec<AllocatedSlot>,
    metrics: Metrics,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct AllocatedSlot {
    job_id: String,
    resource: Resource,
    assigned_tasks: u32,
}

async fn details(cluster: Cluster, path: Path) -> Answer<Details> {
    let view = find(&cluster, &path).await?;
    let tasks = assigned_tasks(&cluster, std::slice::from_ref(&view)).await;
    let own = tasks.get(&view.info.id);
    let slots = view.allocated.iter().flat_map(|&(job, slots)| {
        let of_job = own.and_then(|jobs| jobs.get(&job)).copied().unwrap_or(0);
        // Slots of a job are alike, so its tasks are divided among them, the rest to the first.
        (0..slots).map(move |slot| (job, of_job / slots + u32::from(slot < of_job % slots)))
    });
    let slot = |(job, assigned_tasks): (JobId, u32)| AllocatedSlot {
        job_id: job.to_string(),
        resource: Resource::of(&view, 1),
        assigned_tasks,
    };
    let allocated_slots = slots.map(slot).collect();
    let task_manager = TaskManager::of(&view, &tasks);
    Ok(Json(Details { task_manager, allocated_slots, metrics: Metrics::of(&view.metrics) }))
}

/// Bytes and counts; 0 for what is not known or not there.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Metrics {
    heap_used: i64,
    heap_committed: i64,
    heap_max: i64,
    non_heap_used: i64,
    non_heap_committed: i64,
    non_heap_max: i64,
    direct_count: i64,
    direct_used: i64,
    direct_max: i64,
    mapped_count: i64,
    mapped_used: i64,
    mapped_max: i64,
    memory_segments_available: i64,
    memory_segments_total: i64,
    netty_shuffle_memory_segments_available: i64,
    netty_shuffle_memory_segments_used: i64,
    netty_shuffle_memory_segments_total: i64,
    netty_shuffle_memory_available: i64,
    netty_shuffle_memory_used: i64,
    netty_shuffle_memory_total: i64,
    garbage_collectors: [Empty; 0],
}

impl Metrics {
    fn of(values: &BTreeMap<String, f64>) -> Self {
        let value = |name: &str| values.get(&format!("Status.{name}")).map_or(0, |value| *value as i64);
        let memory = |name: &str| value(&format!("JVM.Memory.{name}"));
        let shuffle = |name: &str| value(&format!("Shuffle.Netty.{name}"));
        Self {
            heap_used: memory("Heap.Used"),
            heap_committed: memory("Heap.Committed"),
            heap_max: memory("Heap.Max"),
            non_heap_used: memory("NonHeap.Used"),
            non_heap_committed: memory("NonHeap.Committed"),
            non_heap_max: memory("NonHeap.Max"),
            direct_count: memory("Direct.Count"),
            direct_used: memory("Direct.MemoryUsed"),
            direct_max: memory("Direct.TotalCapacity"),
            mapped_count: memory("Mapped.Count"),
            mapped_used: memory("Mapped.MemoryUsed"),
            mapped_max: memory("Mapped.TotalCapacity"),
            memory_segments_available: shuffle("AvailableMemorySegments"),
            memory_segments_total: shuffle("TotalMemorySegments"),
            netty_shuffle_memory_segments_available: shuffle("AvailableMemorySegments"),
            netty_shuffle_memory_segments_used: shuffle("UsedMemorySegments"),
            netty_shuffle_memory_segments_total: shuffle("TotalMemorySegments"),
            netty_shuffle_memory_available: shuffle("AvailableMemory"),
            netty_shuffle_memory_used: shuffle("UsedMemory"),
            netty_shuffle_memory_total: shuffle("TotalMemory"),
            garbage_collectors: [],
        }
    }
}

fn process_of(path: &Path) -> ProcessRef {
    ProcessRef::TaskManager(id(path))
}

async fn logs(cluster: Cluster, path: Path) -> Answer<Logs> {
    process::logs(&cluster, process_of(&path)).await
}

async fn log_file(cluster: Cluster, path: Path, query: Parameters) -> Result<Response, ApiError> {
    process::file(&cluster, process_of(&path), path.text("filename"), &query).await
}

async fn log(cluster: Cluster, path: Path, query: Parameters) -> Result<Response, ApiError> {
    process::main_file(&cluster, process_of(&path), MainFile::Log, &query).await
}

async fn stdout(cluster: Cluster, path: Path, query: Parameters) -> Result<Response, ApiError> {
    process::main_file(&cluster, process_of(&path), MainFile::Stdout, &query).await
}

async fn thread_dump(cluster: Cluster, path: Path) -> Answer<ThreadDump> {
    process::stacks(&cluster, process_of(&path)).await
}
