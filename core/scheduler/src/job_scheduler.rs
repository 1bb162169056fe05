//! The life of a job as a state machine: one event in, effects out.
//!
//! Task events are in `tasks.rs`, the start of tasks in `deploying.rs`, what follows from failures in `failing.rs` and
//! `restarting.rs`, another parallelism in `rescaling.rs`, stopping tasks in `canceling.rs`, the ways to an end in `ending.rs`.

mod canceling;
mod deploying;
mod ending;
mod executions;
mod failing;
mod rescaling;
mod restarting;
mod tasks;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use weir_model::{ExecutionState, JobStatus, TaskId};

use self::canceling::Cancellation;
use self::deploying::Deployed;
pub use self::executions::Execution;
use self::executions::Executions;
use self::restarting::Restart;
use crate::{
    Blame, Effect, Event, ExecutionGraph, FailoverStrategy, FailureRecord, Regions, RestartBackoff, RestartStrategy,
};

/// What can be chosen about a job's scheduling.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct SchedulerOptions {
    /// How long tasks may take to stop before they are ended by force (`task.cancellation.timeout`); `None` waits for ever.
    pub cancellation_timeout: Option<Duration>,
    /// What is done about failures.
    pub restart_strategy: RestartStrategy,
    /// Which tasks a failure takes along.
    pub failover: FailoverStrategy,
    /// Whether the numbers of subtasks follow the slots there are: before tasks are scheduled, somebody says with how many.
    pub adaptive: bool,
    /// Of the randomness in restart delays.
    pub seed: u64,
}

/// Decides everything about one running job.
///
/// Tasks are started by deployments, which are numbered from 0: the first holds all tasks, a later one those that are started
/// again. A task's attempt is known by its deployment, and what is told about an earlier attempt is ignored.
///
/// Events may come in any order and more than once: messages cross, workers die. What cannot matter any more is ignored, what
/// ought not to happen fails the job; nothing panics, and the job ends once all its tasks have.
#[derive(Debug, Clone)]
pub struct JobScheduler {
    graph: ExecutionGraph,
    regions: Regions,
    options: SchedulerOptions,
    status: JobStatus,
    /// When it last entered each status, in the order of [`JobStatus::ALL`].
    entered: [Option<Duration>; JobStatus::ALL.len()],
    changed: Duration,
    executions: Executions,
    next_deployment: u32,
    /// Deployments that have no place yet, with their tasks.
    waiting: BTreeMap<u32, Vec<u32>>,
    /// Deployments of which a task has not ended.
    deployed: BTreeMap<u32, Deployed>,
    /// Whether the last placement had more than one worker.
    several_workers: bool,
    backoff: RestartBackoff,
    /// While the status is RESTARTING.
    restart: Option<Restart>,
    restarts: u32,
    /// Between [`Effect::AwaitResources`] and [`Event::ResourcesReady`].
    awaits_resources: bool,
    /// Whose doing the trouble since the last restart is; `None` while all that is known are broken connections.
    blame: Option<Blame>,
    /// Orders to stop that have not been obeyed, oldest first.
    cancellations: VecDeque<Cancellation>,
    /// The timer under way.
    timer: Option<Duration>,
    timer_generation: u64,
    /// Between [`Effect::Commit`] and [`Event::CommitDone`]. The status is still RUNNING then, as in Flink.
    committing: bool,
    /// Set by a wish to cancel that came while it commits: until when the commit may take.
    commit_deadline: Option<Duration>,
    /// Since tasks were last started again.
    failures: Vec<FailureRecord>,
    more_failures: u64,
    not_restarted: Option<String>,
    stuck: Vec<TaskId>,
    started: Option<Duration>,
}

impl JobScheduler {
    /// A job in status CREATED.
    pub fn new(graph: ExecutionGraph, options: SchedulerOptions) -> Self {
        Self {
            regions: Regions::of(&graph),
            executions: Executions::new(graph.task_count()),
            graph,
            status: JobStatus::Created,
            entered: [None; JobStatus::ALL.len()],
            changed: Duration::ZERO,
            next_deployment: 0,
            waiting: BTreeMap::new(),
            deployed: BTreeMap::new(),
            several_workers: false,
            backoff: RestartBackoff::new(options.restart_strategy.clone(), options.seed),
            options,
            restart: None,
            restarts: 0,
            awaits_resources: false,
            blame: None,
            cancellations: VecDeque::new(),
            timer: None,
            timer_generation: 0,
            committing: false,
            commit_deadline: None,
            failures: Vec::new(),
            more_failures: 0,
            not_restarted: None,
            stuck: Vec::new(),
            started: None,
        }
    }

    /// Takes in an event and says what to do, in this order. `now` is a time since any fixed moment and never goes back.
    pub fn on_event(&mut self, event: Event, now: Duration) -> Vec<Effect> {
        let mut effects = Vec::new();
        if self.status.is_terminal() {
            // Messages that were on their way when the job ended.
            return effects;
        }
        self.dispatch(event, now, &mut effects);
        self.end_if_all_tasks_have(now, &mut effects);
        self.set_timer(&mut effects);
        effects
    }

    fn dispatch(&mut self, event: Event, now: Duration, effects: &mut Vec<Effect>) {
        use ExecutionState::{Finished, Initializing, Running};
        match event {
            Event::Start => self.on_start(now, effects),
            Event::ResourcesReady(graph) => self.on_resources_ready(*graph, now, effects),
            Event::Rescale => self.on_rescale(now, effects),
            Event::Placed { deployment, placement } => self.on_placed(deployment, &placement, now, effects),
            Event::DeploymentFailed { deployment, task, failure, blame } => {
                self.on_deployment_failed(deployment, task, failure, blame, now, effects)
            }
            Event::TaskInitializing { deployment, task } => {
                self.on_task_advanced(deployment, task, Initializing, now, effects)
            }
            Event::TaskRunning { deployment, task } => self.on_task_advanced(deployment, task, Running, now, effects),
            Event::TaskFinished { deployment, task } => self.on_task_advanced(deployment, task, Finished, now, effects),
            Event::TaskFailed { deployment, task, failure } => {
                self.on_task_failed(deployment, task, failure, now, effects)
            }
            Event::TaskCanceled { deployment, task } => self.on_task_canceled(deployment, task, now, effects),
            Event::WorkerLost { deployment, worker, name, reason, blame } => {
                let what = format!("{name}, which ran this task");
                self.on_worker_lost((deployment, worker), &what, &reason, blame, now, effects)
            }
            Event::GlobalFailure(failure) => self.on_global_failure(failure, now, effects),
            Event::FatalFailure(failure) => self.on_fatal_failure(failure, now, effects),
            Event::CancelRequested => self.on_cancel_requested(now, effects),
            Event::Timer { generation } => self.on_timer(generation, now, effects),
            Event::CommitDone(result) => self.on_commit_done(result, now, effects),
        }
    }

    /// The job's status.
    pub fn status(&self) -> JobStatus {
        self.status
    }

    /// When the job last entered each status, in the order of [`JobStatus::ALL`]. CREATED is left to whoever made it.
    pub fn status_times(&self) -> &[Option<Duration>; JobStatus::ALL.len()] {
        &self.entered
    }

    /// When the job's status or a task's state last changed; zero if they never did.
    pub fn changed(&self) -> Duration {
        self.changed
    }

    /// The current attempt of a task of the job.
    pub fn execution(&self, task: TaskId) -> Execution {
        self.executions.get(self.graph.index_of(task))
    }

    /// The state of a task of the job.
    pub fn state_of(&self, task: TaskId) -> ExecutionState {
        self.executions.state(self.graph.index_of(task))
    }

    /// The deployment of a task's current attempt.
    pub fn deployment_of(&self, task: TaskId) -> u32 {
        self.executions.deployment(self.graph.index_of(task))
    }

    /// How many tasks are in this state.
    pub fn count(&self, state: ExecutionState) -> u32 {
        self.executions.count(state)
    }

    /// Failures since tasks were last started again, as in [`JobReport::failures`](crate::JobReport::failures).
    pub fn failures(&self) -> &[FailureRecord] {
        &self.failures
    }

    /// Why the job was not started again after its last failure: a sentence that names its strategy. `None` while it has not
    /// failed for good, or if it has no strategy.
    pub fn not_restarted(&self) -> Option<&str> {
        self.not_restarted.as_deref()
    }

    /// How often tasks were started again.
    pub fn restarts(&self) -> u32 {
        self.restarts
    }

    /// Whether nothing runs until somebody says with how many subtasks.
    pub fn awaits_resources(&self) -> bool {
        self.awaits_resources
    }

    /// Whether all tasks have finished and their output is being made visible.
    pub fn is_committing(&self) -> bool {
        self.committing
    }

    /// The job's tasks and edges.
    pub fn graph(&self) -> &ExecutionGraph {
        &self.graph
    }

    /// The only place where the job's status changes.
    fn set_status(&mut self, to: JobStatus, now: Duration, effects: &mut Vec<Effect>) {
        let from = std::mem::replace(&mut self.status, to);
        assert!(from.can_become(to), "job {:?} must not go from {from} to {to}", self.graph.job_name());
        self.entered[to as usize] = Some(now);
        self.changed = now;
        effects.push(Effect::JobStatusChanged { from, to });
    }

    /// The only place where a task's state changes, but for the begin of another attempt.
    fn set_state(&mut self, index: usize, to: ExecutionState, now: Duration) {
        self.executions.enter(index, to, now);
        self.changed = now;
        if !to.is_terminal() {
            return;
        }
        if let Some(restart) = &mut self.restart {
            restart.task_ended(index);
        }
        let deployment = self.executions.deployment(index);
        if let Some(deployed) = self.deployed.get_mut(&deployment)
            && deployed.task_ended()
        {
            self.deployed.remove(&deployment);
        }
    }
}
