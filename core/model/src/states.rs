//! States of jobs and tasks, under Flink's names, and the one table of each that says which may follow which.

use std::fmt;

/// State of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum JobStatus {
    /// Accepted; its JobMaster is not running yet.
    Initializing,
    /// Known, no task scheduled yet.
    Created,
    /// Tasks are scheduled or running.
    Running,
    /// A failure cannot be recovered from; remaining tasks are being canceled.
    Failing,
    /// Ended by a failure.
    Failed,
    /// Somebody canceled it; tasks are being canceled.
    Cancelling,
    /// Ended by being canceled.
    Canceled,
    /// Ended by itself, results committed.
    Finished,
    /// Tasks are being canceled to be started again.
    Restarting,
    /// Given up by this JobMaster without an end of the job: another one may take over.
    Suspended,
    /// Taken over; waits for running tasks to report.
    Reconciling,
}

impl JobStatus {
    /// All states, in the order of their declaration.
    pub const ALL: [JobStatus; 11] = [
        JobStatus::Initializing,
        JobStatus::Created,
        JobStatus::Running,
        JobStatus::Failing,
        JobStatus::Failed,
        JobStatus::Cancelling,
        JobStatus::Canceled,
        JobStatus::Finished,
        JobStatus::Restarting,
        JobStatus::Suspended,
        JobStatus::Reconciling,
    ];

    /// The states that may follow this one.
    pub const fn successors(self) -> &'static [JobStatus] {
        use JobStatus::*;
        match self {
            Initializing => &[Created, Failed, Cancelling, Canceled, Suspended],
            Created => &[Running, Failing, Cancelling, Suspended],
            Running => &[Finished, Failing, Cancelling, Restarting, Suspended],
            Failing => &[Failed, Cancelling, Restarting, Suspended],
            // A failure that must not be hidden (e.g. a commit in doubt) may still turn a cancellation into a failure.
            Cancelling => &[Canceled, Failing, Suspended],
            Restarting => &[Created, Running, Failing, Cancelling, Suspended],
            Reconciling => &[Created, Running, Failing, Cancelling, Suspended],
            Failed | Canceled | Finished | Suspended => &[],
        }
    }

    /// Whether `next` may follow this state.
    pub fn can_become(self, next: JobStatus) -> bool {
        self.successors().contains(&next)
    }

    /// Whether this JobMaster has nothing more to do for the job: [`Self::is_globally_terminal`], or suspended.
    pub const fn is_terminal(self) -> bool {
        self.is_globally_terminal() || matches!(self, JobStatus::Suspended)
    }

    /// Whether the job has ended for good: finished, failed or canceled.
    pub const fn is_globally_terminal(self) -> bool {
        matches!(self, JobStatus::Finished | JobStatus::Failed | JobStatus::Canceled)
    }

    /// The name in REST and logs: `RUNNING`, `CANCELLING`, …
    pub const fn name(self) -> &'static str {
        match self {
            JobStatus::Initializing => "INITIALIZING",
            JobStatus::Created => "CREATED",
            JobStatus::Running => "RUNNING",
            JobStatus::Failing => "FAILING",
            JobStatus::Failed => "FAILED",
            JobStatus::Cancelling => "CANCELLING",
            JobStatus::Canceled => "CANCELED",
            JobStatus::Finished => "FINISHED",
            JobStatus::Restarting => "RESTARTING",
            JobStatus::Suspended => "SUSPENDED",
            JobStatus::Reconciling => "RECONCILING",
        }
    }
}

impl fmt::Display for JobStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// State of one execution: an attempt to run a subtask.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ExecutionState {
    /// Known, nothing done yet.
    Created,
    /// Waits for a slot.
    Scheduled,
    /// Sent to a worker.
    Deploying,
    /// Wires its channels and restores its state.
    Initializing,
    /// Processes records.
    Running,
    /// Ended by itself.
    Finished,
    /// Told to stop. One L, as Flink spells it for tasks.
    Canceling,
    /// Stopped because it was told to.
    Canceled,
    /// Ended by a failure.
    Failed,
    /// Found running by a new JobMaster; waits to be matched.
    Reconciling,
}

impl ExecutionState {
    /// All states, in the order of their declaration.
    pub const ALL: [ExecutionState; 10] = [
        ExecutionState::Created,
        ExecutionState::Scheduled,
        ExecutionState::Deploying,
        ExecutionState::Initializing,
        ExecutionState::Running,
        ExecutionState::Finished,
        ExecutionState::Canceling,
        ExecutionState::Canceled,
        ExecutionState::Failed,
        ExecutionState::Reconciling,
    ];

    /// The states that may follow this one.
    pub const fn successors(self) -> &'static [ExecutionState] {
        use ExecutionState::*;
        match self {
            Created => &[Scheduled, Reconciling, Canceled, Failed],
            Scheduled => &[Deploying, Canceled, Failed],
            Deploying => &[Initializing, Canceling, Canceled, Failed],
            Initializing => &[Running, Finished, Canceling, Canceled, Failed],
            Running => &[Finished, Canceling, Canceled, Failed],
            Canceling => &[Canceled, Failed],
            Reconciling => &[Initializing, Running, Finished, Canceled, Failed],
            Finished | Canceled | Failed => &[],
        }
    }

    /// Whether `next` may follow this state.
    pub fn can_become(self, next: ExecutionState) -> bool {
        self.successors().contains(&next)
    }

    /// Whether the attempt has ended.
    pub const fn is_terminal(self) -> bool {
        matches!(self, ExecutionState::Finished | ExecutionState::Canceled | ExecutionState::Failed)
    }

    /// The name in REST and logs: `RUNNING`, `CANCELING`, …
    pub const fn name(self) -> &'static str {
        match self {
            ExecutionState::Created => "CREATED",
            ExecutionState::Scheduled => "SCHEDULED",
            ExecutionState::Deploying => "DEPLOYING",
            ExecutionState::Initializing => "INITIALIZING",
            ExecutionState::Running => "RUNNING",
            ExecutionState::Finished => "FINISHED",
            ExecutionState::Canceling => "CANCELING",
            ExecutionState::Canceled => "CANCELED",
            ExecutionState::Failed => "FAILED",
            ExecutionState::Reconciling => "RECONCILING",
        }
    }
}

impl fmt::Display for ExecutionState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_follows_a_terminal_state_and_something_every_other() {
        for status in JobStatus::ALL {
            assert_eq!(status.is_terminal(), status.successors().is_empty(), "{status}");
            assert!(!status.can_become(status), "{status}");
        }
        for state in ExecutionState::ALL {
            assert_eq!(state.is_terminal(), state.successors().is_empty(), "{state}");
            assert!(!state.can_become(state), "{state}");
        }
    }

    #[test]
    fn every_execution_can_fail_and_be_canceled() {
        for state in ExecutionState::ALL.into_iter().filter(|state| !state.is_terminal()) {
            assert!(state.can_become(ExecutionState::Failed), "{state}");
            assert!(state.can_become(ExecutionState::Canceled), "{state}");
        }
    }

    #[test]
    fn jobs_follow_flinks_paths() {
        use JobStatus::*;
        for path in [
            &[Initializing, Created, Running, Finished][..],
            &[Created, Running, Failing, Failed],
            &[Created, Running, Cancelling, Canceled],
            &[Running, Failing, Cancelling, Canceled],
            &[Running, Restarting, Running],
            &[Running, Suspended],
        ] {
            assert!(path.windows(2).all(|step| step[0].can_become(step[1])), "{path:?}");
        }
        assert!(!Created.can_become(Finished));
        assert!(!Cancelling.can_become(Finished));
        assert!(!Finished.can_become(Running));
    }

    #[test]
    fn a_finished_job_is_globally_terminal_and_a_suspended_one_is_not() {
        assert!(JobStatus::Finished.is_globally_terminal());
        assert!(JobStatus::Suspended.is_terminal() && !JobStatus::Suspended.is_globally_terminal());
    }

    #[test]
    fn names_are_in_upper_case_and_can_be_padded() {
        assert_eq!(JobStatus::Cancelling.to_string(), "CANCELLING");
        assert_eq!(format!("{:<10}|", ExecutionState::Canceling), "CANCELING |");
    }
}
