//! What can happen to a JobMaster, and what it asks for.

use std::time::Duration;

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
    CommitDone(Result<(), String>),
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
        /// Runs whose coordinator was lost: what they wrote aside is removed first.
        lost_run_ids: Vec<String>,
    },
    /// A source task wants a split. Answered by [`FromCoordinator::SplitAnswer`], perhaps later than what is asked after it.
    SplitRequest {
        /// The task.
        task: TaskId,
    },
    /// A task has finished; this is what its sinks wait to have made visible. Not answered.
    AddCommittables {
        /// The task.
        task: TaskId,
        /// Never empty.
        committables: Vec<Committable>,
    },
    /// These tasks start again from the beginning: their splits are handed out again, what they wanted committed is forgotten,
    /// and requests of theirs that are not answered yet never will be. Answered by [`FromCoordinator::TasksReset`].
    ResetTasks {
        /// By vertex and subtask; empty means all of the job's, whose enumerators are made anew.
        tasks: Vec<TaskId>,
    },
    /// Make the output of all sinks visible. Answered by [`FromCoordinator::CommitDone`].
    Commit,
    /// Remove what was written aside and is not committed. Nothing is awaited.
    Discard,
    /// It does not answer: kill the process. Answered by [`FromCoordinator::Lost`].
    Kill,
    /// Nothing is left to do: end, by force if need be. Nothing is awaited.
    Shutdown,
    /// The process is gone: start another one. Answered by [`FromCoordinator::Started`] or [`FromCoordinator::Lost`].
    Restart,
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
    /// The job has ended; nothing follows.
    Ended(Box<JobReport>),
}
