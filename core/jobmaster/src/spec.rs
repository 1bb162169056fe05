//! What a JobMaster is made from.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use weir_checkpoint::{AssignError, CheckpointOptions, CompletedCheckpoint, RestoreMode, StateDeclarations};
use weir_model::{InvalidJobGraph, InvalidRequirements, JobGraph, JobId, JobStatus, Launch, VertexId};
use weir_scheduler::{FailoverStrategy, RestartStrategy};

/// The job a JobMaster runs.
#[derive(Debug, Clone)]
pub struct JobSpec {
    /// Its id.
    pub id: JobId,
    /// Its plan, as the coordinator's builder made it.
    pub graph: Arc<JobGraph>,
    /// The plan's hash; every worker must build the same.
    pub job_graph_hash: u64,
    /// How its processes are started.
    pub launch: Arc<Launch>,
    /// Options in effect for the job, by key; only to be shown, so secrets must be masked already.
    pub configuration: BTreeMap<String, String>,
    /// How its checkpoints are taken; must be valid.
    pub checkpointing: CheckpointOptions,
    /// What state its operators have.
    pub states: StateDeclarations,
    /// From where it starts; `None`: from the beginning.
    pub restore: Option<RestoreFrom>,
}

/// A checkpoint or savepoint that a job starts from.
#[derive(Debug, Clone)]
pub struct RestoreFrom {
    /// It; must have passed [`weir_checkpoint::check`].
    pub checkpoint: CompletedCheckpoint,
    /// To whom it belongs.
    pub mode: RestoreMode,
    /// Whether state may be left behind for which the job has no operator.
    pub allow_non_restored: bool,
}

/// Why a job cannot be run. Whoever submitted it must change something.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JobMasterError {
    /// Its graph is not valid.
    #[error("its graph is not valid: {0}")]
    Graph(#[from] InvalidJobGraph),
    /// It cannot have the state it is to start with.
    #[error(transparent)]
    Assign(#[from] AssignError),
    /// It cannot go on from where it is to start.
    #[error("{0}")]
    Restore(String),
}

/// How a JobMaster goes about it.
#[derive(Debug, Clone, PartialEq)]
pub struct JobMasterOptions {
    /// What is done about failures (`restart-strategy.*`).
    pub restart_strategy: RestartStrategy,
    /// Which tasks a failure takes along (`jobmanager.execution.failover-strategy`).
    pub failover: FailoverStrategy,
    /// How long tasks may take to stop before their worker process is killed (`task.cancellation.timeout`); `None` waits for
    /// ever.
    pub cancellation_timeout: Option<Duration>,
    /// How long tasks wait for slots before that is a failure of the job (`slot.request.timeout`).
    pub slot_request_timeout: Duration,
    /// How long a worker process may take from the order to start it until it is ready.
    pub worker_start_timeout: Duration,
    /// How many failures are kept, each with those that came with it (`web.exception-history-size`); at least 1.
    pub history_size: usize,
    /// Of the randomness in restart delays.
    pub seed: u64,
    /// Whether the numbers of subtasks follow the slots there are, and how (`jobmanager.scheduler`); `None`: they stay as they were
    /// built.
    pub adaptive: Option<AdaptiveOptions>,
}

/// How a job adapts to the slots there are (`jobmanager.adaptive-scheduler.*`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdaptiveOptions {
    /// How long a job waits for the slots it cannot do without before it fails, and at most for those it could use
    /// (`submission.resource-wait-timeout`).
    pub wait_timeout: Duration,
    /// How long a job that could run waits for more slots (`submission.resource-stabilization-timeout`).
    pub stabilization: Duration,
    /// How long a running job is left alone after it has begun (`executing.cooldown-after-rescaling`).
    pub cooldown: Duration,
    /// How long a running job that has got some more slots waits for all it could use (`executing.resource-stabilization-timeout`).
    pub running_stabilization: Duration,
    /// With fewer additional subtasks it does not grow, unless it then has all it could use (`min-parallelism-increase`).
    pub min_increase: u32,
    /// As many failed checkpoints are taken note of before it rescales without one (`rescale-trigger.max-checkpoint-failures`).
    pub max_checkpoint_failures: u32,
    /// After this it rescales without another checkpoint (`rescale-trigger.max-delay`); `None` waits for one.
    pub max_delay: Option<Duration>,
}

impl Default for AdaptiveOptions {
    /// Flink's defaults.
    fn default() -> Self {
        Self {
            wait_timeout: Duration::from_secs(300),
            stabilization: Duration::from_secs(10),
            cooldown: Duration::from_secs(30),
            running_stabilization: Duration::from_secs(60),
            min_increase: 1,
            max_checkpoint_failures: 2,
            max_delay: None,
        }
    }
}

/// Why a job cannot be given requirements. Whoever asked must ask for something else, or of another job.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RescaleError {
    /// Its parallelism is what it was built with.
    #[error(
        "the job keeps the parallelism it was started with; jobs change it while they run on clusters with `jobmanager.scheduler: adaptive`. \
         Otherwise stop it with a savepoint and run it from there with another `--parallelism`"
    )]
    NotAdaptive,
    /// It has ended, or is about to.
    #[error("the job is {0}; only the parallelism of a job that runs or is to run can be changed")]
    Ended(JobStatus),
    /// Vertices that it does not have.
    #[error("the job has no vertex {0}; `GET /jobs/<job id>/resource-requirements` lists those it has")]
    UnknownVertex(VertexId),
    /// A vertex is not mentioned.
    #[error("nothing is said about the vertex {id} ({name:?}); name every vertex of the job")]
    MissingVertex {
        /// The vertex.
        id: VertexId,
        /// Its name.
        name: String,
    },
    /// They are not possible.
    #[error(transparent)]
    Invalid(#[from] InvalidRequirements),
}

impl Default for JobMasterOptions {
    /// Flink's defaults; no restarts.
    fn default() -> Self {
        Self {
            restart_strategy: RestartStrategy::None,
            failover: FailoverStrategy::Region,
            cancellation_timeout: Some(Duration::from_secs(180)),
            slot_request_timeout: Duration::from_secs(300),
            worker_start_timeout: Duration::from_secs(60),
            history_size: 16,
            seed: 0,
            adaptive: None,
        }
    }
}
