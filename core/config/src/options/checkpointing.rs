//! Options of checkpoints and savepoints.

use std::time::Duration;

use super::within;
use crate::{ByteSize, CheckpointRetention, CheckpointingMode, ConfigOption};

/// `execution.checkpointing.interval`: time between two checkpoints.
pub static CHECKPOINT_INTERVAL: ConfigOption<Option<Duration>> = ConfigOption::optional(
    "execution.checkpointing.interval",
    "Time between the begins of two checkpoints, at least 10 ms. When it is not set, there are no checkpoints but those somebody asks for, and a \
     job that is started again begins at the start of its input.",
)
.in_range(|value| match value {
    Some(interval) if interval.as_millis() < 10 => Err("it is below 10 ms".to_owned()),
    Some(_) | None => Ok(()),
});

/// `execution.checkpointing.timeout`: how long a checkpoint may take.
pub static CHECKPOINT_TIMEOUT: ConfigOption<Duration> = ConfigOption::new(
    "execution.checkpointing.timeout",
    "10 min",
    "How long a checkpoint may take before it is given up.",
)
.in_range(|value| if value.is_zero() { Err("no checkpoint could ever complete".to_owned()) } else { Ok(()) });

/// `execution.checkpointing.min-pause`: time without checkpoints.
pub static CHECKPOINT_MIN_PAUSE: ConfigOption<Duration> = ConfigOption::new(
    "execution.checkpointing.min-pause",
    "0 ms",
    "Least time between the end of a checkpoint and the begin of the next one. When there is one, only one checkpoint is under way at a time.",
);

/// `execution.checkpointing.max-concurrent-checkpoints`: how many are under way.
pub static CHECKPOINT_MAX_CONCURRENT: ConfigOption<u32> = ConfigOption::new(
    "execution.checkpointing.max-concurrent-checkpoints",
    "1",
    "How many checkpoints may be under way at a time.",
)
.in_range(|value| within(Some(*value), 1, 1000));

/// `execution.checkpointing.tolerable-failed-checkpoints`: how many may fail in a row.
pub static CHECKPOINT_TOLERABLE_FAILURES: ConfigOption<u32> = ConfigOption::new(
    "execution.checkpointing.tolerable-failed-checkpoints",
    "0",
    "How many checkpoints may fail one after the other before that is a failure of the job. `2147483647`: any number.",
)
.in_range(|value| within(Some(*value), 0, i32::MAX as u32));

/// `execution.checkpointing.mode`: exactly-once or at-least-once.
pub static CHECKPOINT_MODE: ConfigOption<CheckpointingMode> = ConfigOption::new(
    "execution.checkpointing.mode",
    "EXACTLY_ONCE",
    "`EXACTLY_ONCE`: after a restart, state has each record once. `AT_LEAST_ONCE`: at least once; tasks with several inputs do not \
     wait for the barriers of all of them, so checkpoints delay nothing.",
);

/// `execution.checkpointing.unaligned.enabled`: whether barriers may overtake data.
pub static CHECKPOINT_UNALIGNED: ConfigOption<bool> = ConfigOption::new(
    "execution.checkpointing.unaligned.enabled",
    "false",
    "Whether barriers may overtake data that waits in front of tasks; the data becomes part of the checkpoint. So checkpoints complete \
     under back-pressure. Needs mode `EXACTLY_ONCE` and one checkpoint at a time.",
)
.with_fallback_keys(&["execution.checkpointing.unaligned"]);

/// `execution.checkpointing.aligned-checkpoint-timeout`: how long barriers wait before they overtake.
pub static CHECKPOINT_ALIGNED_TIMEOUT: ConfigOption<Duration> = ConfigOption::new(
    "execution.checkpointing.aligned-checkpoint-timeout",
    "0 ms",
    "How long a checkpoint whose barriers may overtake data is taken without; `0 ms`: they overtake at once.",
)
.with_fallback_keys(&["execution.checkpointing.alignment-timeout"]);

/// `execution.checkpointing.externalized-checkpoint-retention`: what stays of a job that has ended.
pub static CHECKPOINT_RETENTION: ConfigOption<CheckpointRetention> = ConfigOption::new(
    "execution.checkpointing.externalized-checkpoint-retention",
    "NO_EXTERNALIZED_CHECKPOINTS",
    "What becomes of the last checkpoints of a job that was canceled or has failed. `NO_EXTERNALIZED_CHECKPOINTS`: they are removed. \
     `DELETE_ON_CANCELLATION`: those of a canceled job are removed. `RETAIN_ON_CANCELLATION`: they stay, to start another job from. Those of a \
     job that finished are always removed, savepoints never.",
);

/// `execution.checkpointing.num-retained`: how many are kept.
pub static CHECKPOINTS_RETAINED: ConfigOption<u32> = ConfigOption::new(
    "execution.checkpointing.num-retained",
    "1",
    "How many complete checkpoints are kept. When the newest cannot be read, the one before it is used.",
)
.with_fallback_keys(&["state.checkpoints.num-retained"])
.in_range(|value| within(Some(*value), 1, 10_000));

/// `execution.checkpointing.dir`: where checkpoints are.
pub static CHECKPOINT_DIR: ConfigOption<Option<String>> = ConfigOption::optional(
    "execution.checkpointing.dir",
    "Folder or URI under which checkpoints are kept, in a folder named by the job's id; all machines must reach it by this name. When it is not \
     set, they are in the memory of the JobManager, which is for small state.",
)
.with_fallback_keys(&["state.checkpoints.dir"]);

/// `execution.checkpointing.incremental`: whether checkpoints share files.
pub static CHECKPOINT_INCREMENTAL: ConfigOption<bool> = ConfigOption::new(
    "execution.checkpointing.incremental",
    "true",
    "With `state.backend.type: lsm`: whether a checkpoint refers to the files that an earlier one has written, and adds only what is new. Otherwise \
     each one writes all of the state.",
)
.with_fallback_keys(&["state.backend.incremental"]);

/// `execution.checkpointing.savepoint-dir`: where savepoints are.
pub static SAVEPOINT_DIR: ConfigOption<Option<String>> = ConfigOption::optional(
    "execution.checkpointing.savepoint-dir",
    "Folder or URI under which savepoints go that are asked for without one; all machines must reach it by this name.",
)
.with_fallback_keys(&["state.savepoints.dir"]);

/// `execution.checkpointing.checkpoints-after-tasks-finish`.
pub static CHECKPOINTS_AFTER_TASKS_FINISH: ConfigOption<bool> = ConfigOption::new(
    "execution.checkpointing.checkpoints-after-tasks-finish",
    "true",
    "Whether checkpoints are taken when some of the job's tasks have finished.",
)
.with_fallback_keys(&["execution.checkpointing.checkpoints-after-tasks-finish.enabled"]);

/// `execution.checkpointing.data-inline-threshold`: state that is not worth a file.
pub static CHECKPOINT_INLINE_THRESHOLD: ConfigOption<ByteSize> = ConfigOption::new(
    "execution.checkpointing.data-inline-threshold",
    "20kb",
    "State of a task up to this size lies in the metadata of the checkpoint, not in a file of its own.",
)
.with_fallback_keys(&["state.storage.fs.memory-threshold"])
.in_range(|size| if size.0 <= 1 << 20 { Ok(()) } else { Err("it is above 1mb".to_owned()) });

/// `execution.checkpointing.local-backup.enabled`: copies for quick restarts.
pub static CHECKPOINT_LOCAL_BACKUP: ConfigOption<bool> = ConfigOption::new(
    "execution.checkpointing.local-backup.enabled",
    "false",
    "Whether TaskManagers keep copies of what the job's tasks write for checkpoints, so that tasks that start again on the same machine need \
     not fetch it.",
)
.with_fallback_keys(&["state.backend.local-recovery"]);

/// `web.checkpoints.history`: how many are shown.
pub static CHECKPOINT_HISTORY: ConfigOption<u32> = ConfigOption::new(
    "web.checkpoints.history",
    "10",
    "How many checkpoints of a job are remembered, to be looked at.",
)
.cluster()
.in_range(|value| within(Some(*value), 0, 10_000));
