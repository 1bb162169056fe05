//! What can happen to the checkpoints of a job, and what is to be done about it.

use std::sync::Arc;
use std::time::Duration;

use weir_model::{CheckpointTrigger, Committable, DeclineCause, JobStatus, SnapshotMetrics, TaskId};

/// Something that happened, as told to [`CheckpointCoordinator::on_event`](crate::CheckpointCoordinator::on_event).
///
/// What the tasks say of checkpoints must come in the order they said it; with what each task tells go the committables that its
/// sinks have prepared up to that point and that have not been handed over before. So none is lost with a checkpoint that fails.
#[derive(Debug, Clone, PartialEq)]
pub enum CheckpointEvent {
    /// Every task is running or has finished: checkpoints can begin. To be told again after each restart.
    AllRunning,
    /// Tasks have failed or are made to stop, to be started again or not at all.
    Interrupted {
        /// Which; empty: all of the job's.
        tasks: Vec<TaskId>,
        /// Why, for the report.
        reason: String,
    },
    /// These tasks start again from [`CheckpointCoordinator::restore_point`](crate::CheckpointCoordinator::restore_point), as it
    /// is at this moment; what their earlier attempts say does not matter any more.
    Redeployed {
        /// The deployment that starts them.
        deployment: u32,
        /// Which; empty: all of the job's. The coordinator process then has what the restore point says was not committed, and
        /// commits it before any task runs.
        tasks: Vec<TaskId>,
    },
    /// The job has ended. Old checkpoints go or stay, as the options say; nothing else follows.
    Ended {
        /// FINISHED, FAILED, CANCELED; or SUSPENDED, when somebody else takes over and everything stays.
        status: JobStatus,
    },
    /// A timer asked for by [`CheckpointEffect::ScheduleTimer`] is due.
    Timer {
        /// The timer's generation.
        generation: u64,
    },
    /// Somebody wants a checkpoint now. Answered by [`CheckpointEffect::RequestDone`].
    CheckpointRequested {
        /// To be given back.
        request: u64,
        /// Whether it must not share files with earlier ones.
        full: bool,
        /// Whether barriers must not overtake records, whatever the options say: another number of subtasks can go on from it.
        aligned: bool,
    },
    /// Somebody wants a savepoint. Answered by [`CheckpointEffect::RequestDone`], for one that stops the job when it has stopped.
    SavepointRequested {
        /// To be given back.
        request: u64,
        /// URI of the folder to make its folder in; `None`: the one of the options.
        directory: Option<String>,
        /// Whether and how the job stops with it.
        stop: Option<StopMode>,
    },
    /// The answer to [`CheckpointEffect::SnapshotEnumerators`].
    EnumeratorsSnapshotted {
        /// The checkpoint.
        checkpoint: u64,
        /// By position of the vertex; or what went wrong.
        result: Result<Vec<(u32, Vec<u8>)>, String>,
    },
    /// A task's snapshot is durable.
    Acknowledged(Box<Acknowledgement>),
    /// A task has no part in a checkpoint.
    Declined {
        /// The checkpoint.
        checkpoint: u64,
        /// The task.
        task: TaskId,
        /// The deployment of its attempt.
        deployment: u32,
        /// Whether it counts as a failure.
        cause: DeclineCause,
        /// Why.
        reason: String,
        /// Prepared since the task's last message, up to the checkpoint's barrier.
        committables: Vec<Committable>,
    },
    /// A task has finished.
    TaskFinished {
        /// The task.
        task: TaskId,
        /// The deployment of its attempt.
        deployment: u32,
        /// Prepared since the task's last message.
        committables: Vec<Committable>,
    },
    /// The answer to [`CheckpointEffect::WriteMetadata`].
    MetadataWritten {
        /// The checkpoint.
        checkpoint: u64,
        /// Whether it is durable.
        result: Result<(), String>,
    },
    /// The answer to [`CheckpointEffect::Commit`].
    Committed {
        /// The checkpoint.
        checkpoint: u64,
        /// Whether everything is visible now.
        result: Result<(), String>,
    },
    /// The answer to [`CheckpointEffect::Remove`].
    Removed {
        /// The removal.
        removal: u64,
        /// Whether everything is gone. What was not there to begin with counts as gone.
        result: Result<(), String>,
    },
    /// Metadata or state of a complete checkpoint could not be read: it is not restored from again.
    Unreadable {
        /// The checkpoint.
        checkpoint: u64,
        /// What went wrong.
        reason: String,
    },
}

/// How a job stops with a savepoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum StopMode {
    /// Where it is: it can go on from the savepoint.
    Suspend,
    /// As at the end of its input: windows fire, timers too.
    Drain,
}

/// A task's part in a checkpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Acknowledgement {
    /// The checkpoint.
    pub checkpoint: u64,
    /// The task.
    pub task: TaskId,
    /// The deployment of its attempt.
    pub deployment: u32,
    /// An encoded [`TaskSnapshot`](crate::TaskSnapshot).
    pub snapshot: Vec<u8>,
    /// Prepared since the task's last message, up to the checkpoint's barrier.
    pub committables: Vec<Committable>,
    /// What it took.
    pub metrics: SnapshotMetrics,
}

/// Something to be done outside; what comes of it comes back as a [`CheckpointEvent`].
#[derive(Debug, Clone, PartialEq)]
pub enum CheckpointEffect {
    /// Ask the coordinator process for the state of the split enumerators. Answered by
    /// [`CheckpointEvent::EnumeratorsSnapshotted`].
    SnapshotEnumerators {
        /// The checkpoint.
        checkpoint: u64,
    },
    /// Tell all workers of the job of a checkpoint, and which tasks begin its barrier. The same checkpoint may be triggered again,
    /// for tasks all of whose producers have finished meanwhile; a task that knows of it already ignores that. A task with inputs
    /// begins the barrier behind the end of all of them: what its producers sent before they finished is part of the checkpoint.
    Trigger {
        /// The checkpoint.
        trigger: Arc<CheckpointTrigger>,
        /// Tasks that begin the barrier, by vertex and subtask.
        tasks: Vec<TaskId>,
    },
    /// Tell all running tasks that a checkpoint is complete. Not sent for savepoints with which the job does not stop.
    Completed {
        /// The checkpoint.
        checkpoint: u64,
    },
    /// Tell all running tasks that nothing will become of a checkpoint.
    Aborted {
        /// The checkpoint.
        checkpoint: u64,
        /// Why, for logs.
        reason: String,
    },
    /// Make the file durable, so that it is there with all bytes or not at all. Answered by [`CheckpointEvent::MetadataWritten`].
    WriteMetadata {
        /// The checkpoint.
        checkpoint: u64,
        /// URI of the file. Its folder may not exist yet.
        uri: String,
        /// The content.
        bytes: Arc<[u8]>,
    },
    /// Make this output visible; what is visible already stays as it is. Answered by [`CheckpointEvent::Committed`].
    Commit {
        /// The checkpoint.
        checkpoint: u64,
        /// Never empty.
        committables: Vec<Committable>,
    },
    /// Remove these, in this order and after metadata that is still being written, and go on if one cannot be. Answered by
    /// [`CheckpointEvent::Removed`].
    Remove {
        /// To be given back.
        removal: u64,
        /// Never empty.
        items: Vec<Removal>,
    },
    /// Fail the job, as its restart strategy allows.
    FailJob {
        /// Why.
        reason: String,
    },
    /// A request has come to its end.
    RequestDone {
        /// The request.
        request: u64,
        /// What was made; or why not.
        result: Result<RequestOutcome, String>,
    },
    /// The savepoint with which the job stops is complete: tasks may finish now, as they were told with
    /// [`CheckpointEffect::Completed`], and the job ends as FINISHED.
    Stopped {
        /// The checkpoint.
        checkpoint: u64,
        /// Where it is.
        path: String,
    },
    /// Send [`CheckpointEvent::Timer`] with this generation when the clock shows `at`. Earlier timers no longer matter.
    ScheduleTimer {
        /// To be given back.
        generation: u64,
        /// On the clock whose time `on_event` is given.
        at: Duration,
    },
}

/// What came of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestOutcome {
    /// The checkpoint's number.
    pub checkpoint: u64,
    /// URI of its folder; `None` if it is in memory only.
    pub path: Option<String>,
}

/// Something to remove.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Removal {
    /// A file, by its URI.
    File(String),
    /// A folder with all that is in it, by its URI.
    Directory(String),
}
