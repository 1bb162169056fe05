//! What a JobMaster is made from.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use weir_model::{JobGraph, JobId, Launch};
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
