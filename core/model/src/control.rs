//! What JobManager and TaskManagers tell each other about jobs, as the state machines on both sides see it.
//!
//! One deployment of a job puts a set of its tasks onto workers: one worker process on each TaskManager that takes part. The
//! first deployment holds all tasks; after a failure another one, with the next number, holds the tasks of the regions that are
//! started again. Tasks of different deployments never exchange data, because a region is all that is connected.
//! The messages of one deployment to one TaskManager come in the order [`ToTaskManager`] lists them.

use core::net::SocketAddr;
use std::fmt;
use std::sync::Arc;

use crate::{
    ArtifactId, CheckpointAcknowledgement, CheckpointDecline, CheckpointTrigger, Committable, ExecutionState, JobId,
    MetricsSnapshot, Placement, TaskFailure, TaskId, TaskManagerId,
};

/// Counts leaders of a cluster: whoever leads later has the greater one. Every message between processes of the control plane
/// carries it, and whoever has seen a greater one refuses the message.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LeaderEpoch(pub u64);

impl fmt::Display for LeaderEpoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Names one deployment of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeploymentId {
    /// The job.
    pub job: JobId,
    /// Counts the job's deployments, from 0.
    pub number: u32,
}

impl fmt::Display for DeploymentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.job, self.number)
    }
}

/// A slot of a TaskManager.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SlotId {
    /// Whose slot it is.
    pub task_manager: TaskManagerId,
    /// From 0.
    pub index: u32,
}

/// A stored job executable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Artifact {
    /// SHA-256 of its content.
    pub id: ArtifactId,
    /// Bytes.
    pub size: u64,
    /// The file name it was uploaded with; for people only.
    pub name: String,
}

/// How every process of a job is started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Launch {
    /// The executable.
    pub artifact: Artifact,
    /// The job's name, for logs.
    pub job_name: String,
    /// The command line behind the program's name; the same for coordinator and workers, so that all build the same graph.
    pub arguments: Vec<String>,
    /// Environment variables added to those of the process that starts it.
    pub environment: Vec<(String, String)>,
    /// Secret by which the job's workers know each other.
    pub token: [u8; 32],
}

/// From a JobMaster to a TaskManager.
#[derive(Debug, Clone, PartialEq)]
pub enum ToTaskManager {
    /// Start a worker process. Answered by [`FromTaskManager::WorkerReady`] or [`FromTaskManager::WorkerEnded`].
    StartWorker(StartWorker),
    /// Run the worker's tasks. One message for all of them.
    Deploy {
        /// What runs where.
        plan: Arc<DeploymentPlan>,
        /// The receiver's position in [`DeploymentPlan::peers`].
        worker: u32,
        /// The state that the receiver's tasks begin with, by task: an encoded `TaskSnapshot` each. Tasks that are not named begin
        /// without.
        restore: Vec<(TaskId, Vec<u8>)>,
    },
    /// A checkpoint begins.
    TriggerCheckpoint {
        /// The deployment.
        deployment: DeploymentId,
        /// The checkpoint.
        trigger: Arc<CheckpointTrigger>,
        /// The receiver's tasks that begin its barrier; may be empty.
        tasks: Vec<TaskId>,
    },
    /// A checkpoint is complete.
    CheckpointCompleted {
        /// The deployment.
        deployment: DeploymentId,
        /// Its number.
        checkpoint: u64,
    },
    /// Nothing will become of a checkpoint.
    CheckpointAborted {
        /// The deployment.
        deployment: DeploymentId,
        /// Its number.
        checkpoint: u64,
    },
    /// The answer of the job's enumerator to a [`FromTaskManager::SplitRequested`].
    SplitAnswer {
        /// The deployment.
        deployment: DeploymentId,
        /// Who asked.
        task: TaskId,
        /// An encoded `SplitResponse` of `worker.proto`; only the worker looks into it.
        answer: Vec<u8>,
    },
    /// Ask tasks to stop; each reports its end.
    CancelTasks {
        /// The deployment.
        deployment: DeploymentId,
        /// By vertex and subtask; empty means all of the worker's.
        tasks: Vec<TaskId>,
    },
    /// All tasks of the worker have ended: let it leave, and kill it if it does not. Nothing is awaited.
    ReleaseWorker {
        /// The deployment.
        deployment: DeploymentId,
    },
    /// Kill the worker process and all it started. Answered by [`FromTaskManager::WorkerEnded`] if it still ran.
    KillWorker {
        /// The deployment.
        deployment: DeploymentId,
        /// Why, for the log and the report.
        reason: String,
    },
}

impl ToTaskManager {
    /// The deployment it is about.
    pub fn deployment(&self) -> DeploymentId {
        match self {
            ToTaskManager::StartWorker(start) => start.deployment,
            ToTaskManager::Deploy { plan, .. } => plan.deployment,
            ToTaskManager::SplitAnswer { deployment, .. }
            | ToTaskManager::TriggerCheckpoint { deployment, .. }
            | ToTaskManager::CheckpointCompleted { deployment, .. }
            | ToTaskManager::CheckpointAborted { deployment, .. }
            | ToTaskManager::CancelTasks { deployment, .. }
            | ToTaskManager::ReleaseWorker { deployment }
            | ToTaskManager::KillWorker { deployment, .. } => *deployment,
        }
    }
}

/// Start a worker process for a deployment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StartWorker {
    /// The deployment.
    pub deployment: DeploymentId,
    /// The worker's number in the deployment.
    pub worker: u32,
    /// What to start; shared by all workers of the job.
    pub launch: Arc<Launch>,
    /// Slots of the TaskManager that the worker's tasks occupy; ascending, never empty. A slot belongs to one job at a time:
    /// if another one has it, the answer is [`FromTaskManager::WorkerEnded`].
    pub slots: Vec<u32>,
    /// Hash of the JobGraph that the worker must build.
    pub job_graph_hash: u64,
    /// How long it may take until it is ready, in milliseconds.
    pub start_timeout_millis: u64,
}

/// What a deployment's workers have to know of each other. Shared by all of them, so it is encoded once.
#[derive(Debug, Clone, PartialEq)]
pub struct DeploymentPlan {
    /// The deployment.
    pub deployment: DeploymentId,
    /// Hash of the JobGraph the placement refers to.
    pub job_graph_hash: u64,
    /// Unique to this run of the job: names what its sinks write aside.
    pub run_id: String,
    /// The data addresses of the workers, by number.
    pub peers: Vec<SocketAddr>,
    /// Which worker runs what; tasks of other deployments are absent.
    pub placement: Placement,
}

/// From a TaskManager about the workers it runs.
#[derive(Debug, Clone, PartialEq)]
pub enum FromTaskManager {
    /// A worker has built the job and opened its data port.
    WorkerReady {
        /// The deployment.
        deployment: DeploymentId,
        /// Where the other workers reach it.
        data_address: SocketAddr,
        /// Its process id.
        pid: u32,
    },
    /// Tasks have entered new states, in this order.
    TasksChanged {
        /// The deployment.
        deployment: DeploymentId,
        /// What happened since the last such message.
        changes: Vec<TaskChange>,
    },
    /// A source task wants a split.
    SplitRequested {
        /// The deployment.
        deployment: DeploymentId,
        /// The task.
        task: TaskId,
    },
    /// A task's snapshot is durable.
    CheckpointAcknowledged {
        /// The deployment.
        deployment: DeploymentId,
        /// What it says.
        acknowledgement: Box<CheckpointAcknowledgement>,
    },
    /// A task has no part in a checkpoint.
    CheckpointDeclined {
        /// The deployment.
        deployment: DeploymentId,
        /// What it says.
        decline: Box<CheckpointDecline>,
    },
    /// Metrics of all tasks of a worker.
    MetricsReported {
        /// The deployment.
        deployment: DeploymentId,
        /// By task.
        tasks: Vec<(TaskId, MetricsSnapshot)>,
    },
    /// A worker process has ended, or could not be started. The last message of this deployment from this TaskManager; not
    /// sent for a worker that was released and left.
    WorkerEnded {
        /// The deployment.
        deployment: DeploymentId,
        /// What is known: exit code or signal, and the last lines it wrote; or why it was not started.
        reason: String,
    },
}

impl FromTaskManager {
    /// The deployment it is about.
    pub fn deployment(&self) -> DeploymentId {
        match self {
            FromTaskManager::WorkerReady { deployment, .. }
            | FromTaskManager::TasksChanged { deployment, .. }
            | FromTaskManager::SplitRequested { deployment, .. }
            | FromTaskManager::CheckpointAcknowledged { deployment, .. }
            | FromTaskManager::CheckpointDeclined { deployment, .. }
            | FromTaskManager::MetricsReported { deployment, .. }
            | FromTaskManager::WorkerEnded { deployment, .. } => *deployment,
        }
    }
}

/// A task has entered a state.
#[derive(Debug, Clone, PartialEq)]
pub struct TaskChange {
    /// The task.
    pub task: TaskId,
    /// INITIALIZING, RUNNING, FINISHED, CANCELED or FAILED.
    pub state: ExecutionState,
    /// Why, when the state is FAILED.
    pub failure: Option<TaskFailure>,
    /// What its sinks prepared, when the state is FINISHED.
    pub committables: Vec<Committable>,
}

/// What a TaskManager says about itself when it registers.
#[derive(Debug, Clone, PartialEq)]
pub struct TaskManagerInfo {
    /// Its name.
    pub id: TaskManagerId,
    /// Drawn at random when the process starts: tells a new process of the same name from a lost connection of the old one.
    pub incarnation: u64,
    /// Number of slots; at least 1.
    pub slots: u32,
    /// Host other machines reach it by; its workers' data ports are on it.
    pub host: String,
    /// Port of its metrics endpoint; 0 if it has none.
    pub metrics_port: u16,
    /// Process id.
    pub pid: u32,
    /// Bytes its workers may take altogether.
    pub memory: u64,
    /// Cores of the machine.
    pub cpu_cores: u32,
    /// Bytes of memory of the machine.
    pub physical_memory: u64,
    /// Version of Weir.
    pub version: String,
}
