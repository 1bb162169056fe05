//! What a task is told of a checkpoint, and what it tells besides its state.

use std::time::Duration;

use crate::{Committable, TaskId};

/// What a checkpoint is taken for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CheckpointKind {
    /// To recover from failures; removed when newer ones replace it.
    Checkpoint,
    /// Asked for by somebody, whose it is; the job goes on.
    Savepoint,
    /// A savepoint after which nothing more is processed: when it is complete the tasks finish without an end of their input.
    Suspend,
    /// A savepoint behind the end of all input: sources emit the greatest watermark, operators come to their end, then the barrier.
    Drain,
}

impl CheckpointKind {
    /// All kinds, in the order of their declaration.
    pub const ALL: [CheckpointKind; 4] =
        [CheckpointKind::Checkpoint, CheckpointKind::Savepoint, CheckpointKind::Suspend, CheckpointKind::Drain];

    /// Whether it belongs to whoever asked for it.
    pub const fn is_savepoint(self) -> bool {
        !matches!(self, CheckpointKind::Checkpoint)
    }

    /// Whether the job stops when it is complete.
    pub const fn stops(self) -> bool {
        matches!(self, CheckpointKind::Suspend | CheckpointKind::Drain)
    }

    /// A number that stands for it on the wire: its position in [`ALL`](Self::ALL).
    pub const fn tag(self) -> u8 {
        self as u8
    }

    /// The inverse of [`tag`](Self::tag).
    pub fn from_tag(tag: u8) -> Option<CheckpointKind> {
        CheckpointKind::ALL.get(usize::from(tag)).copied()
    }

    /// A lower-case word for messages and logs.
    pub const fn name(self) -> &'static str {
        match self {
            CheckpointKind::Checkpoint => "checkpoint",
            CheckpointKind::Savepoint => "savepoint",
            CheckpointKind::Suspend => "suspend",
            CheckpointKind::Drain => "drain",
        }
    }
}

/// What a task with several inputs does between the first and the last barrier of a checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Alignment {
    /// It goes on reading all of them: at-least-once.
    None,
    /// It reads no further from those whose barrier has come.
    Aligned,
    /// As aligned; when that has taken so long, barriers overtake what lies before them, which becomes part of the checkpoint.
    UnalignedAfter(Duration),
}

/// What all workers of a job have to know of a checkpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckpointTrigger {
    /// Its number; a later one has a greater one.
    pub checkpoint: u64,
    /// When it was triggered: milliseconds since 1970-01-01 UTC.
    pub timestamp: i64,
    /// What it is taken for.
    pub kind: CheckpointKind,
    /// What tasks with several inputs do.
    pub alignment: Alignment,
    /// The complete checkpoint whose files may be part of it; those of all others may be removed while it is under way. `None`:
    /// everything is written anew.
    pub base: Option<u64>,
    /// URI of the folder for what belongs to this checkpoint alone; `None`: everything is inline.
    pub directory: Option<String>,
    /// URI of the folder for files that later checkpoints may share. `None`: there is none, so nothing can be shared.
    pub shared_directory: Option<String>,
}

/// What the snapshot of a task took.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SnapshotMetrics {
    /// Bytes of all of its state.
    pub state_size: u64,
    /// Bytes that were written for it; less than the state's where files are shared with earlier checkpoints.
    pub checkpointed_size: u64,
    /// How long processing stood still.
    pub sync: Duration,
    /// How long writing took beside the processing.
    pub asynchronous: Duration,
    /// From the first barrier to the last.
    pub alignment: Duration,
    /// From the trigger to the first barrier.
    pub start_delay: Duration,
    /// Bytes processed during the alignment.
    pub processed: u64,
    /// Bytes of data in flight that became part of it.
    pub persisted: u64,
    /// Whether barriers overtook data.
    pub unaligned: bool,
}

/// Why a task has no part in a checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DeclineCause {
    /// It is not running yet, is coming to its end, or a newer checkpoint has overtaken this one. Does not count as a failure.
    NotReady,
    /// Its snapshot failed. Counts as a failure.
    Failed,
}

/// A task's part in a checkpoint, as it is reported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckpointAcknowledgement {
    /// The checkpoint.
    pub checkpoint: u64,
    /// The task.
    pub task: TaskId,
    /// An encoded `TaskSnapshot`.
    pub snapshot: Vec<u8>,
    /// What its sinks prepared since the task's last message, up to the barrier.
    pub committables: Vec<Committable>,
    /// What it took.
    pub metrics: SnapshotMetrics,
}

/// That a task has no part in a checkpoint, as it is reported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckpointDecline {
    /// The checkpoint.
    pub checkpoint: u64,
    /// The task.
    pub task: TaskId,
    /// Whether it counts as a failure.
    pub cause: DeclineCause,
    /// Why.
    pub reason: String,
    /// What its sinks prepared since the task's last message, up to the barrier.
    pub committables: Vec<Committable>,
}
