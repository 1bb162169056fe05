//! What components show of themselves: plain snapshots, from which REST, CLI and metrics make their own forms.
//!
//! Times are milliseconds since 1970-01-01 UTC. A time that has not come is `None`.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::{
    Artifact, ExecutionState, JobGraph, JobId, JobStatus, MetricsSnapshot, ResourceRequirements, SlotWait, TaskFailure,
    TaskId, TaskManagerId, TaskManagerInfo,
};

/// Everything that can be shown of a job. Its size is that of the job's tasks.
#[derive(Debug, Clone, PartialEq)]
pub struct JobView {
    /// The line of it in lists.
    pub summary: JobSummary,
    /// Its plan.
    pub graph: Arc<JobGraph>,
    /// What it was made from.
    pub artifact: Option<Artifact>,
    /// When it last entered each status, in the order of [`JobStatus::ALL`].
    pub timestamps: [Option<u64>; JobStatus::ALL.len()],
    /// Milliseconds it spent in each status, of stays that have ended, in the order of [`JobStatus::ALL`].
    pub time_in_status: [u64; JobStatus::ALL.len()],
    /// Options in effect for the job, by key; secrets are masked already.
    pub configuration: BTreeMap<String, String>,
    /// The restart strategy in words, e.g. `fixed delay (1 s, 3 attempts)`.
    pub restart_strategy: String,
    /// How often tasks were started again.
    pub restarts: u32,
    /// By vertex of the graph, then subtask.
    pub vertices: Vec<Vec<SubtaskView>>,
    /// Failures, newest first; the oldest are dropped.
    pub failures: Vec<FailureView>,
    /// Whether there were more than are kept.
    pub failures_truncated: bool,
    /// Why it waits for slots, while it does.
    pub waiting: Option<SlotWait>,
    /// How its parallelism may change; `None`: it does not.
    pub scaling: Option<ScalingView>,
}

/// How the parallelism of a job may change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScalingView {
    /// Between which numbers of subtasks each vertex runs.
    pub requirements: ResourceRequirements,
    /// The numbers of subtasks it was built with, by vertex.
    pub built: Vec<u32>,
    /// How often it was rescaled while it ran.
    pub rescales: u32,
}

/// A job in one line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobSummary {
    /// Its id.
    pub id: JobId,
    /// Its name.
    pub name: String,
    /// Its status.
    pub status: JobStatus,
    /// When it was accepted.
    pub start: u64,
    /// When it ended.
    pub end: Option<u64>,
    /// When its status or a task's state last changed.
    pub last_modification: u64,
    /// Number of tasks by state, in the order of [`ExecutionState::ALL`].
    pub tasks: [u32; ExecutionState::ALL.len()],
    /// Whether all its sources end by themselves.
    pub bounded: bool,
    /// Whether its parallelism follows the slots there are.
    pub adaptive: bool,
}

/// The current attempt of a task.
#[derive(Debug, Clone, PartialEq)]
pub struct SubtaskView {
    /// Its state.
    pub state: ExecutionState,
    /// Number of the deployment the attempt belongs to: greater than that of any attempt before it.
    pub attempt: u32,
    /// Where it runs or ran.
    pub task_manager: Option<TaskManagerId>,
    /// Host of the TaskManager; empty before it is placed.
    pub host: String,
    /// When the attempt entered each state, in the order of [`ExecutionState::ALL`].
    pub timestamps: [Option<u64>; ExecutionState::ALL.len()],
    /// What it last reported.
    pub metrics: MetricsSnapshot,
    /// How fast it works.
    pub rates: TaskRates,
}

/// How fast a task works: changes between its last two reports, per second of time between them.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct TaskRates {
    /// Records in per second.
    pub records_in: f64,
    /// Records out per second.
    pub records_out: f64,
    /// Bytes in per second.
    pub bytes_in: f64,
    /// Bytes out per second.
    pub bytes_out: f64,
    /// Share of the time it worked, from 0 to 1.
    pub busy: f64,
    /// Share of the time it waited for input.
    pub idle: f64,
    /// Share of the time it waited for consumers.
    pub backpressured: f64,
}

/// A failure in a job's history.
#[derive(Debug, Clone, PartialEq)]
pub struct FailureView {
    /// What went wrong.
    pub failure: TaskFailure,
    /// The task it began in, if it was one.
    pub task: Option<TaskId>,
    /// The task as people know it, e.g. `Count (2/4)`.
    pub task_name: Option<String>,
    /// Where it ran.
    pub task_manager: Option<TaskManagerId>,
    /// Host of that TaskManager.
    pub host: Option<String>,
    /// When.
    pub timestamp: u64,
    /// Failures of other tasks until the job was restarted or ended.
    pub concurrent: Vec<FailureView>,
}

/// A registered TaskManager.
#[derive(Debug, Clone, PartialEq)]
pub struct TaskManagerView {
    /// What it said when it registered.
    pub info: TaskManagerInfo,
    /// When it last gave a sign of life.
    pub last_heartbeat: u64,
    /// Its free slots.
    pub free_slots: u32,
    /// Slots by job.
    pub allocated: Vec<(JobId, u32)>,
    /// The provider that started it, if one did.
    pub provider: Option<String>,
    /// Its own metrics, under Flink's names without the scope, e.g. `Status.JVM.CPU.Load`.
    pub metrics: BTreeMap<String, f64>,
}

/// The cluster in numbers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ResourcesView {
    /// Registered TaskManagers.
    pub task_managers: u32,
    /// TaskManagers that were asked for and have not registered.
    pub pending_task_managers: u32,
    /// Slots of registered TaskManagers.
    pub slots_total: u32,
    /// Free ones among them.
    pub slots_available: u32,
    /// What each provider last said, by name.
    pub providers: Vec<ProviderView>,
}

/// A loaded resource provider.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ProviderView {
    /// Its name, e.g. `standalone`.
    pub name: String,
    /// TaskManagers it was asked for that have not registered.
    pub pending: u32,
    /// TaskManagers it started that are registered.
    pub running: u32,
    /// The most TaskManagers it can have at a time, if it knows.
    pub max_workers: Option<u32>,
    /// Its last failure, if the last thing it did failed.
    pub last_failure: Option<String>,
}
