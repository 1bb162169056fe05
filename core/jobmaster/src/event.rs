//! What can happen to a JobMaster, and what it asks for.

use std::sync::Arc;
use std::time::Duration;

use weir_checkpoint::{Removal, RequestOutcome, StopMode};
use weir_model::{
    Committable, FromResourceManager, FromTaskManager, JobStatus, TaskId, TaskManagerId, ToResourceManager,
    ToTaskManager,
};

use crate::JobReport;

/// Something that happened, as told to [`JobMaster::on_event`](crate::JobMaster::on_event).
#[derive(Debug, Clone, PartialEq)]
pub enum JobMasterEvent {
    /// Run the job. Its coordinator process is up.
    Start,
    /// The job's coordinator process says something, or something happened to it.
    Coordinator(FromCoordinator),
    /// From the ResourceManager.
    ResourceManager(FromResourceManager),
    /// A TaskManager reports about one of the job's workers.
    TaskManager {
        /// Which TaskManager.
        id: TaskManagerId,
        /// What it says.
        message: FromTaskManager,
    },
    /// Somebody wants the job to end without a result.
    CancelRequested,
    /// Somebody wants a checkpoint now. Answered by [`JobMasterEffect::RequestDone`].
    TriggerCheckpoint {
        /// To be given back.
        request: u64,
        /// Whether it must not share files with earlier ones.
        full: bool,
    },
    /// Somebody wants a savepoint. Answered by [`JobMasterEffect::RequestDone`]; if the job stops with it, when it has ended.
    TriggerSavepoint {
        /// To be given back.
        request: u64,
        /// URI of the folder to make its folder in; `None`: the one of the options.
        directory: Option<String>,
        /// Whether and how the job stops with it.
        stop: Option<StopMode>,
    },
    /// The answer to [`JobMasterEffect::WriteMetadata`].
    MetadataWritten {
        /// The checkpoint.
        checkpoint: u64,
        /// Whether it is durable.
        result: Result<(), String>,
    },
    /// The answer to [`JobMasterEffect::Remove`].
    Removed {
        /// The removal.
        removal: u64,
        /// Whether everything is gone.
        result: Result<(), String>,
    },
    /// A timer asked for by [`JobMasterEffect::ScheduleTimer`] is due.
    Timer {
        /// The timer's id.
        id: u64,
    },
}

/// From the coordinator process of a job, or about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FromCoordinator {
    /// The answer to [`ToCoordinator::Open`]; the error says which input or output cannot be used, and why.
    Opened(Result<(), String>),
    /// The answer to [`ToCoordinator::SplitRequest`].
    SplitAnswer {
        /// Who asked.
        task: TaskId,
        /// An encoded `SplitResponse` of `worker.proto`.
        answer: Vec<u8>,
    },
    /// The answer to [`ToCoordinator::ResetTasks`].
    TasksReset(Result<(), String>),
    /// The answer to [`ToCoordinator::Commit`].
    CommitDone {
        /// As asked.
        checkpoint: Option<u64>,
        /// Whether everything is visible now.
        result: Result<(), String>,
    },
    /// The answer to [`ToCoordinator::SnapshotEnumerators`].
    EnumeratorsSnapshotted {
        /// The checkpoint.
        checkpoint: u64,
        /// By position of the vertex; or what went wrong.
        result: Result<Vec<(u32, Vec<u8>)>, String>,
    },
    /// The process asked for by [`ToCoordinator::Restart`] is up and has built the same graph.
    Started,
    /// The process has ended, or could not be started, or has built another graph. Nothing more comes from it.
    Lost {
        /// What is known: exit code or signal and the last lines it wrote.
        reason: String,
    },
}

/// To the coordinator process of a job, or about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ToCoordinator {
    /// Look at every input and take every output. Answered by [`FromCoordinator::Opened`]. A process that could not may be asked
    /// again, with another run id; one that could is not.
    Open {
        /// Unique to this run of the job: names what its sinks write aside.
        run_id: String,
        /// Runs whose coordinator was lost: what they wrote aside is removed first, but for what is to be committed.
        lost_run_ids: Vec<String>,
        /// From where the job goes on; `None`: it begins.
        restored: Option<Restored>,
    },
    /// A source task wants a split. Answered by [`FromCoordinator::SplitAnswer`], perhaps later than what is asked after it.
    SplitRequest {
        /// The task.
        task: TaskId,
    },
    /// These tasks start again: the splits they were given since the last complete checkpoint are handed out again, and requests of
    /// theirs that are not answered yet never will be. Answered by [`FromCoordinator::TasksReset`].
    ResetTasks {
        /// By vertex and subtask; empty means all of the job's, whose enumerators are made anew.
        tasks: Vec<TaskId>,
        /// From where they go on; `None`: they begin. Its enumerators are restored only if all tasks start again.
        restored: Option<Restored>,
    },
    /// What is the state of the enumerators? Answered by [`FromCoordinator::EnumeratorsSnapshotted`], in order with the answers to split
    /// requests.
    SnapshotEnumerators {
        /// The checkpoint it is for.
        checkpoint: u64,
    },
    /// A checkpoint is complete: splits handed out before its snapshot of the enumerators are in the state of readers. Not answered.
    CheckpointCompleted {
        /// The checkpoint.
        checkpoint: u64,
    },
    /// From now on the vertices have so many subtasks, by position: for enumerators that are made anew, by [`ToCoordinator::Open`] or
    /// [`ToCoordinator::ResetTasks`] of all tasks. A new process begins with what it has built. Not answered.
    SetParallelism(Vec<u32>),
    /// Make output visible; what is visible already stays as it is. Answered by [`FromCoordinator::CommitDone`].
    Commit {
        /// The checkpoint it belongs to; `None`: all tasks have finished, nothing else follows.
        checkpoint: Option<u64>,
        /// What sinks have prepared.
        committables: Vec<Committable>,
    },
    /// Remove what was written aside and is not committed. Nothing is awaited.
    Discard,
    /// It does not answer: kill the process. Answered by [`FromCoordinator::Lost`].
    Kill,
    /// Nothing is left to do: end, by force if need be. Nothing is awaited.
    Shutdown,
    /// The process is gone: start another one. Answered by [`FromCoordinator::Started`] or [`FromCoordinator::Lost`].
    Restart,
}

/// What of a checkpoint is the coordinator process's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restored {
    /// The checkpoint; 0 if there has been none, and only output is left of a run that was lost.
    pub checkpoint: u64,
    /// States of split enumerators by position of their vertex; the others begin anew.
    pub enumerators: Vec<(u32, Vec<u8>)>,
    /// What is perhaps not visible yet: committed before anything is discarded, and before the answer.
    pub committables: Vec<Committable>,
}

/// Something to be done outside; what comes of it comes back as a [`JobMasterEvent`].
#[derive(Debug, Clone, PartialEq)]
pub enum JobMasterEffect {
    /// The job's status changed. Nothing to do but to log and show it.
    StatusChanged {
        /// The status before.
        from: JobStatus,
        /// The status now.
        to: JobStatus,
    },
    /// Send this to a TaskManager; messages to one stay in order. If it is gone, drop it: the ResourceManager tells of that.
    TaskManager {
        /// Which TaskManager.
        id: TaskManagerId,
        /// What to send.
        message: ToTaskManager,
    },
    /// Tell the ResourceManager.
    ResourceManager(ToResourceManager),
    /// Tell the coordinator, or start one; messages stay in order.
    Coordinator(ToCoordinator),
    /// Send [`JobMasterEvent::Timer`] with this id when the clock shows `at`. Several timers may be under way.
    ScheduleTimer {
        /// To be given back.
        id: u64,
        /// On the clock whose time `on_event` is given.
        at: Duration,
    },
    /// Make a file durable, so that it is there with all bytes or not at all. Answered by [`JobMasterEvent::MetadataWritten`].
    WriteMetadata {
        /// The checkpoint.
        checkpoint: u64,
        /// URI of the file. Its folder may not exist yet.
        uri: String,
        /// The content.
        bytes: Arc<[u8]>,
    },
    /// Remove these, in this order and after metadata that is still being written, and go on if one cannot be. Answered by
    /// [`JobMasterEvent::Removed`]; that of a job that has ended is not awaited.
    Remove {
        /// To be given back.
        removal: u64,
        /// Never empty.
        items: Vec<Removal>,
    },
    /// A request for a checkpoint or savepoint has come to its end.
    RequestDone {
        /// The request.
        request: u64,
        /// What was made; or why not.
        result: Result<RequestOutcome, String>,
    },
    /// Something that is good to know about the job. Nothing to do but to log it.
    Note(String),
    /// Something went wrong that somebody should look at; the job goes on. Nothing to do but to log it.
    Warning(String),
    /// The job has ended; nothing follows.
    Ended(Box<JobReport>),
}
