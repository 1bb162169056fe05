//! The life of a job as a state machine: one event in, effects out.
//!
//! There are no restarts yet: the first failure fails the job. Task events are in `tasks.rs`, the ways to an end in `ending.rs`.

mod ending;
mod tasks;
#[cfg(test)]
mod tests;

use std::time::Duration;

use weir_model::{ExecutionState, JobStatus, Placement, TaskFailure, TaskId};

use crate::{Effect, Event, ExecutionGraph, FailureRecord, WorkerTasks};

/// What can be chosen about a job's scheduling.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SchedulerOptions {
    /// How long tasks may take to stop before they are ended by force (`task.cancellation.timeout`); `None` waits for ever.
    pub cancellation_timeout: Option<Duration>,
}

/// Decides everything about one running job.
///
/// Events may come in any order and more than once: messages cross, workers die. What cannot matter any more is ignored, what
/// ought not to happen fails the job; nothing panics, and the job ends once all its tasks have.
#[derive(Debug, Clone)]
pub struct JobScheduler {
    graph: ExecutionGraph,
    placement: Placement,
    options: SchedulerOptions,
    status: JobStatus,
    /// State by task, in the graph's order.
    states: Vec<ExecutionState>,
    /// Number of tasks by state.
    counts: [u32; ExecutionState::ALL.len()],
    lost_workers: Vec<bool>,
    /// Between [`Effect::Commit`] and [`Event::CommitDone`]. The status is still RUNNING then, as in Flink.
    committing: bool,
    timer_generation: u64,
    failures: Vec<FailureRecord>,
    more_failures: u64,
    stuck: Vec<TaskId>,
    started: Option<Duration>,
}

impl JobScheduler {
    /// A job in status CREATED. `placement` must be one of this `graph`.
    pub fn new(graph: ExecutionGraph, placement: Placement, options: SchedulerOptions) -> Self {
        let tasks = graph.task_count();
        let mut counts = [0; ExecutionState::ALL.len()];
        counts[ExecutionState::Created as usize] = tasks;
        Self {
            states: vec![ExecutionState::Created; tasks as usize],
            counts,
            lost_workers: vec![false; placement.workers() as usize],
            graph,
            placement,
            options,
            status: JobStatus::Created,
            committing: false,
            timer_generation: 0,
            failures: Vec::new(),
            more_failures: 0,
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
        match event {
            Event::Start => self.on_start(now, &mut effects),
            Event::TaskInitializing(task) => {
                self.on_task_advanced(task, ExecutionState::Initializing, now, &mut effects)
            }
            Event::TaskRunning(task) => self.on_task_advanced(task, ExecutionState::Running, now, &mut effects),
            Event::TaskFinished(task) => self.on_task_advanced(task, ExecutionState::Finished, now, &mut effects),
            Event::TaskFailed { task, failure } => self.on_task_failed(task, failure, now, &mut effects),
            Event::TaskCanceled(task) => self.on_task_canceled(task, now, &mut effects),
            Event::WorkerLost { worker, reason } => self.on_worker_lost(worker, &reason, now, &mut effects),
            Event::GlobalFailure(failure) => self.on_global_failure(failure, now, &mut effects),
            Event::CancelRequested => self.on_cancel_requested(now, &mut effects),
            Event::Timer { generation } => self.on_timer(generation, &mut effects),
            Event::CommitDone(result) => self.on_commit_done(result, now, &mut effects),
        }
        self.end_if_all_tasks_have(now, &mut effects);
        effects
    }

    /// The job's status.
    pub fn status(&self) -> JobStatus {
        self.status
    }

    /// The state of a task of the job.
    pub fn state_of(&self, task: TaskId) -> ExecutionState {
        self.states[self.graph.index_of(task)]
    }

    /// How many tasks are in this state.
    pub fn count(&self, state: ExecutionState) -> u32 {
        self.counts[state as usize]
    }

    /// Failures so far, as in [`JobReport::failures`](crate::JobReport::failures).
    pub fn failures(&self) -> &[FailureRecord] {
        &self.failures
    }

    /// The job's tasks and edges.
    pub fn graph(&self) -> &ExecutionGraph {
        &self.graph
    }

    /// Where the tasks run.
    pub fn placement(&self) -> &Placement {
        &self.placement
    }

    fn on_start(&mut self, now: Duration, effects: &mut Vec<Effect>) {
        if self.status != JobStatus::Created {
            // Started twice, or canceled before it was started.
            return;
        }
        self.started = Some(now);
        self.set_status(JobStatus::Running, effects);
        for index in 0..self.states.len() {
            self.set_state(index, ExecutionState::Scheduled);
            self.set_state(index, ExecutionState::Deploying);
        }
        effects.push(Effect::Deploy(WorkerTasks::group(&self.placement, self.placement.tasks())));
    }

    /// The only place where the job's status changes.
    fn set_status(&mut self, to: JobStatus, effects: &mut Vec<Effect>) {
        let from = std::mem::replace(&mut self.status, to);
        assert!(from.can_become(to), "job {:?} must not go from {from} to {to}", self.graph.job_name());
        effects.push(Effect::JobStatusChanged { from, to });
    }

    /// The only place where a task's state changes.
    fn set_state(&mut self, index: usize, to: ExecutionState) {
        let from = std::mem::replace(&mut self.states[index], to);
        assert!(from.can_become(to), "task {index} of job {:?} must not go from {from} to {to}", self.graph.job_name());
        self.counts[from as usize] -= 1;
        self.counts[to as usize] += 1;
    }

    /// Number of tasks that have not ended.
    fn remaining_tasks(&self) -> u32 {
        let ended = ExecutionState::ALL.into_iter().filter(|state| state.is_terminal()).map(|state| self.count(state));
        self.graph.task_count() - ended.sum::<u32>()
    }

    fn record(&mut self, task: Option<TaskId>, failure: TaskFailure, now: Duration) {
        if self.failures.len() == crate::JobReport::MAX_FAILURES {
            self.more_failures += 1;
            return;
        }
        self.failures.push(FailureRecord {
            task,
            task_name: task.map(|task| self.graph.task_name(task)),
            // With one worker its number says nothing.
            worker: task.filter(|_| self.placement.workers() > 1).map(|task| self.placement.worker_of(task)),
            failure,
            at: now,
        });
    }
}
