//! What a JobMaster is made from.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use weir_checkpoint::{AssignError, CheckpointOptions, CompletedCheckpoint, RestoreMode, StateDeclarations};
use weir_model::{InvalidJobGraph, JobGraph, JobId, Launch};
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
        }
    }
}
