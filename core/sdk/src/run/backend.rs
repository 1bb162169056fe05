//! Where an embedded run's tasks run, as the driver sees it.

use std::time::Duration;

use weir_dataflow::source::SplitAnswer;
use weir_dataflow::task::MetricsSnapshot;
use weir_model::{Placement, TaskFailure, TaskId};

/// What the processes of a run used so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Usage {
    /// CPU time of all processes.
    pub(super) cpu: Duration,
    /// The most resident memory of each process, added up, in bytes.
    pub(super) peak_rss: u64,
}

/// Runs tasks, in this process or in others. Events come back through the driver's channel.
pub(super) trait Backend: Send + Sync {
    /// Starts every task where `placement` puts it.
    fn deploy(&self, placement: &Placement) -> Result<(), TaskFailure>;
    /// Asks every task to stop. Returns at once.
    fn cancel(&self);
    /// Ends by force what can be ended by force.
    fn kill(&self, workers: &[u32]);
    /// Passes an enumerator's answer on.
    fn answer_split(&self, task: TaskId, answer: SplitAnswer);
    /// The metrics of every task, as of now or of the last report.
    fn metrics(&self) -> Vec<(TaskId, MetricsSnapshot)>;
    /// What the processes used.
    fn usage(&self) -> Usage;
    /// Waits until all tasks' threads or processes ended; called when every task is known to have ended.
    fn finish(&self);
}
