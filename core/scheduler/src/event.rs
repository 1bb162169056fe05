//! What can happen to a job, and what can be asked for in return.

use std::time::Duration;

use weir_model::{JobStatus, Placement, TaskFailure, TaskId};

use crate::{ExecutionGraph, FailureRecord, JobReport};

/// Whose doing the loss of a worker is, as far as can be known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blame {
    /// The job's: its process ended, or was ended for what it did.
    Job,
    /// The cluster's: the machine, the TaskManager or the connection to it is gone. The restart strategy counts it, but
    /// unless it happens again too soon its pause is left out: waiting would only make the job start later.
    Cluster,
}

/// Something that happened, as told to [`JobScheduler::on_event`](crate::JobScheduler::on_event).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Run the job.
    Start,
    /// The answer to [`Effect::AwaitResources`]: the job runs with these tasks now.
    ResourcesReady(Box<ExecutionGraph>),
    /// The job is to run with other numbers of subtasks: all its tasks are stopped, and [`Effect::AwaitResources`] follows. Only for a
    /// job that is adaptive; not a failure.
    Rescale,
    /// The workers for the tasks of an [`Effect::Schedule`] are there.
    Placed {
        /// The deployment.
        deployment: u32,
        /// Must have a worker for each of the deployment's tasks.
        placement: Placement,
    },
    /// The tasks of an [`Effect::Schedule`] cannot be deployed.
    DeploymentFailed {
        /// The deployment.
        deployment: u32,
        /// One of its tasks, if the failure is that of its worker.
        task: Option<TaskId>,
        /// What went wrong.
        failure: TaskFailure,
        /// Whose doing it is.
        blame: Blame,
    },
    /// A task wires its channels.
    TaskInitializing {
        /// The deployment of the attempt.
        deployment: u32,
        /// The task.
        task: TaskId,
    },
    /// A task processes records.
    TaskRunning {
        /// The deployment of the attempt.
        deployment: u32,
        /// The task.
        task: TaskId,
    },
    /// A task ended by itself. What its sinks want to have committed is kept by the driver.
    TaskFinished {
        /// The deployment of the attempt.
        deployment: u32,
        /// The task.
        task: TaskId,
    },
    /// A task failed.
    TaskFailed {
        /// The deployment of the attempt.
        deployment: u32,
        /// The task.
        task: TaskId,
        /// What went wrong.
        failure: TaskFailure,
    },
    /// A task stopped because it was told to.
    TaskCanceled {
        /// The deployment of the attempt.
        deployment: u32,
        /// The task.
        task: TaskId,
    },
    /// A worker process ended or cannot be reached; nothing more will come from it.
    WorkerLost {
        /// The deployment.
        deployment: u32,
        /// The worker's number in it.
        worker: u32,
        /// The worker as people know it, e.g. `worker 3`.
        name: String,
        /// What is known about it, e.g. `killed by signal 9 (SIGKILL)`.
        reason: String,
        /// Whose doing it is.
        blame: Blame,
    },
    /// Something outside any task failed, e.g. a split enumerator, or a worker refused the job.
    GlobalFailure(TaskFailure),
    /// Something failed in a way that no restart can put right.
    FatalFailure(TaskFailure),
    /// Somebody wants the job to end without a result.
    CancelRequested,
    /// A timer asked for by [`Effect::ScheduleTimer`] is due.
    Timer {
        /// The timer's generation.
        generation: u64,
    },
    /// The commit asked for by [`Effect::Commit`] ended.
    CommitDone(Result<(), TaskFailure>),
}

/// Something to be done outside; what comes of it comes back as an [`Event`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// The job's status changed. Nothing to do but to log and show it.
    JobStatusChanged {
        /// The status before.
        from: JobStatus,
        /// The status now.
        to: JobStatus,
    },
    /// A failure was recorded. Nothing to do but to show it.
    FailureRecorded {
        /// Whether it is the first since tasks were last started again; others came with it.
        first: bool,
        /// The failure.
        record: FailureRecord,
    },
    /// Of an adaptive job: nothing of it runs, and it is to. Find out with how many subtasks it can, then send
    /// [`Event::ResourcesReady`].
    AwaitResources,
    /// Find workers for these tasks, then send [`Event::Placed`], or [`Event::DeploymentFailed`].
    Schedule {
        /// The deployment that will start them.
        deployment: u32,
        /// By vertex and subtask; never empty.
        tasks: Vec<TaskId>,
    },
    /// The tasks of an [`Effect::Schedule`] that was not answered yet are not to run after all.
    Unschedule {
        /// The deployment.
        deployment: u32,
    },
    /// Start these tasks, all of one deployment, each worker's in one message.
    Deploy(Vec<WorkerTasks>),
    /// Tell these tasks to stop. Each answers with `TaskCanceled`, `TaskFinished` or `TaskFailed`.
    CancelTasks(Vec<WorkerTasks>),
    /// Send [`Event::Timer`] with this generation when the clock shows `at`. Earlier timers no longer matter.
    ScheduleTimer {
        /// To be given back.
        generation: u64,
        /// On the clock whose time `on_event` is given.
        at: Duration,
    },
    /// Tasks did not stop in time: end their workers by force, with all these tasks. Nothing is awaited from them any more.
    KillWorkers(Vec<WorkerTasks>),
    /// Every task has finished: make the output of all sinks visible, then send [`Event::CommitDone`].
    Commit,
    /// The job ends without a result: remove what its sinks have written and not committed.
    DiscardOutput,
    /// The job has ended; nothing follows.
    JobEnded(JobReport),
}

/// Tasks of one worker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkerTasks {
    /// The deployment the worker was started for.
    pub deployment: u32,
    /// The worker's number in it, from 0.
    pub worker: u32,
    /// By vertex and subtask; never empty.
    pub tasks: Vec<TaskId>,
}
