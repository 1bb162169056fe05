//! Where an embedded run's tasks run, as the driver sees it.

use std::collections::BTreeMap;
use std::time::Duration;

use weir_checkpoint::TaskSnapshot;
use weir_dataflow::source::SplitAnswer;
use weir_dataflow::task::MetricsSnapshot;
use weir_model::{CheckpointTrigger, Placement, TaskFailure, TaskId};

/// What the processes of a run used so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Usage {
    /// CPU time of all processes.
    pub(super) cpu: Duration,
    /// The most resident memory of each process, added up, in bytes.
    pub(super) peak_rss: u64,
}

/// Tasks to start: all of the job's.
#[derive(Debug)]
pub(super) struct Deployment {
    /// Counted from 0; later ones are restarts.
    pub(super) number: u32,
    /// Where they run.
    pub(super) placement: Placement,
    /// What they begin with; those that are not named begin without state.
    pub(super) restore: BTreeMap<TaskId, TaskSnapshot>,
}

/// Runs tasks, in this process or in others. Events come back through the driver's channel.
pub(super) trait Backend: Send + Sync {
    /// Starts tasks.
    fn deploy(&self, deployment: Deployment) -> Result<(), TaskFailure>;
    /// Whether tasks can be deployed again when all of them have ended.
    fn restarts(&self) -> bool;
    /// Tells all tasks of a checkpoint, whose barrier these begin.
    fn trigger_checkpoint(&self, trigger: &CheckpointTrigger, tasks: &[TaskId]);
    /// Tells all tasks that a checkpoint is complete.
    fn checkpoint_completed(&self, checkpoint: u64);
    /// Tells all tasks that nothing will become of a checkpoint.
    fn checkpoint_aborted(&self, checkpoint: u64);
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
