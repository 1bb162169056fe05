//! What can happen to a job, and what can be asked for in return.

use std::time::Duration;

use weir_model::{JobStatus, Placement, TaskFailure, TaskId};

use crate::JobReport;

/// Something that happened, as told to [`JobScheduler::on_event`](crate::JobScheduler::on_event).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// All workers are there: run the job.
    Start,
    /// A task wires its channels.
    TaskInitializing(TaskId),
    /// A task processes records.
    TaskRunning(TaskId),
    /// A task ended by itself. What its sinks want to have committed is kept by the driver.
    TaskFinished(TaskId),
    /// A task failed.
    TaskFailed {
        /// The task.
        task: TaskId,
        /// What went wrong.
        failure: TaskFailure,
    },
    /// A task stopped because it was told to.
    TaskCanceled(TaskId),
    /// A worker process ended or cannot be reached; nothing more will come from it.
    WorkerLost {
        /// The worker.
        worker: u32,
        /// What is known about it, e.g. `killed by signal 9 (SIGKILL)`.
        reason: String,
    },
    /// Something outside any task failed, e.g. a split enumerator, or a worker refused the job.
    GlobalFailure(TaskFailure),
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
    /// Start these tasks, each worker's in one message.
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
    /// These tasks did not stop in time: end them by force. Nothing is awaited from them any more.
    KillTasks(Vec<WorkerTasks>),
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
    /// The worker's number, from 0.
    pub worker: u32,
    /// By vertex and subtask; never empty.
    pub tasks: Vec<TaskId>,
}

impl WorkerTasks {
    /// These tasks, by worker; workers without one are left out.
    pub(crate) fn group(placement: &Placement, tasks: impl Iterator<Item = TaskId>) -> Vec<WorkerTasks> {
        let mut groups: Vec<_> =
            (0..placement.workers()).map(|worker| WorkerTasks { worker, tasks: Vec::new() }).collect();
        for task in tasks {
            groups[placement.worker_of(task) as usize].tasks.push(task);
        }
        groups.retain(|group| !group.tasks.is_empty());
        groups
    }
}
