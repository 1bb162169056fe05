//! What can be chosen about the checkpoints of a job.

use std::time::Duration;

/// Options of a job's checkpoints. The names of the options people set are those of Flink.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckpointOptions {
    /// Time between two triggers (`execution.checkpointing.interval`); `None`: only when somebody asks.
    pub interval: Option<Duration>,
    /// How long a checkpoint may take (`execution.checkpointing.timeout`).
    pub timeout: Duration,
    /// Least time between the end of one and the next one by interval (`execution.checkpointing.min-pause`). When there is
    /// one, the next one by interval waits until none is under way.
    pub min_pause: Duration,
    /// How many may be under way (`execution.checkpointing.max-concurrent-checkpoints`); at least 1. Savepoints count, but do not wait.
    pub max_concurrent: u32,
    /// How many may fail one after the other before the job fails (`execution.checkpointing.tolerable-failed-checkpoints`);
    /// `None`: any number.
    pub tolerable_failures: Option<u32>,
    /// What a restore means for records (`execution.checkpointing.mode`).
    pub mode: CheckpointMode,
    /// Whether barriers may overtake data (`execution.checkpointing.unaligned.enabled`).
    pub unaligned: bool,
    /// How long alignment may take before they do (`execution.checkpointing.aligned-checkpoint-timeout`); zero: at once.
    pub aligned_timeout: Duration,
    /// What becomes of checkpoints when the job has ended (`execution.checkpointing.externalized-checkpoint-retention`).
    pub externalized: Externalized,
    /// Whether a checkpoint refers to files that an earlier one has written (`execution.checkpointing.incremental`).
    pub incremental: bool,
    /// How many complete checkpoints are kept (`execution.checkpointing.num-retained`); at least 1.
    pub retained: u32,
    /// URI under which checkpoints are kept (`execution.checkpointing.dir`); `None`: in the memory of the JobManager.
    pub directory: Option<String>,
    /// URI under which savepoints go that are asked for without one (`execution.checkpointing.savepoint-dir`).
    pub savepoint_directory: Option<String>,
    /// Whether there are checkpoints when some tasks have finished (`execution.checkpointing.checkpoints-after-tasks-finish`).
    pub after_tasks_finish: bool,
    /// How many checkpoints are remembered for people to look at (`web.checkpoints.history`).
    pub history_size: usize,
    /// Of the random part in names of savepoints.
    pub seed: u64,
}

/// What a restore from a checkpoint means for the records that were on their way.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum CheckpointMode {
    /// State has each record once.
    #[default]
    ExactlyOnce,
    /// State has each record at least once; tasks never wait for barriers.
    AtLeastOnce,
}

/// What becomes of the last checkpoints when a job has ended. Those of a job that finished are always removed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Externalized {
    /// Removed, whatever the end was.
    #[default]
    No,
    /// Removed when the job was canceled, kept when it failed.
    DeleteOnCancellation,
    /// Kept when the job was canceled or failed.
    RetainOnCancellation,
}

impl Default for CheckpointOptions {
    /// Flink's, but for incremental checkpoints.
    fn default() -> Self {
        Self {
            interval: None,
            timeout: Duration::from_secs(600),
            min_pause: Duration::ZERO,
            max_concurrent: 1,
            tolerable_failures: Some(0),
            mode: CheckpointMode::ExactlyOnce,
            unaligned: false,
            aligned_timeout: Duration::ZERO,
            externalized: Externalized::No,
            incremental: true,
            retained: 1,
            directory: None,
            savepoint_directory: None,
            after_tasks_finish: true,
            history_size: 10,
            seed: 0,
        }
    }
}

impl CheckpointOptions {
    /// Says which options cannot go together, and how to put it right.
    pub fn validate(&self) -> Result<(), String> {
        if self.max_concurrent == 0 {
            return Err("`execution.checkpointing.max-concurrent-checkpoints` is 0; it must be at least 1".to_owned());
        }
        if self.retained == 0 {
            return Err("`execution.checkpointing.num-retained` is 0; it must be at least 1".to_owned());
        }
        if self.timeout.is_zero() {
            return Err("`execution.checkpointing.timeout` is 0; no checkpoint could ever complete".to_owned());
        }
        if self.interval.is_some_and(|interval| interval < Duration::from_millis(10)) {
            return Err("`execution.checkpointing.interval` is below 10 ms; set it to 10 ms or more".to_owned());
        }
        if self.unaligned && self.mode == CheckpointMode::AtLeastOnce {
            return Err(
                "`execution.checkpointing.unaligned.enabled` needs `execution.checkpointing.mode: EXACTLY_ONCE`, \
                        but the mode is AT_LEAST_ONCE"
                    .to_owned(),
            );
        }
        if self.unaligned && self.max_concurrent > 1 {
            return Err(format!(
                "`execution.checkpointing.unaligned.enabled` needs `execution.checkpointing.max-concurrent-checkpoints: 1`, \
                 but it is {}",
                self.max_concurrent
            ));
        }
        Ok(())
    }
}
