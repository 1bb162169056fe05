//! How tasks come to run: scheduled, placed, deployed.

use std::time::Duration;

use weir_model::{ExecutionState, FailureKind, JobStatus, Placement, TaskFailure, TaskId};

use super::JobScheduler;
use super::failing::Scope;
use crate::{Blame, Effect, WorkerTasks};

/// A deployment of which a task has not ended.
#[derive(Debug, Clone)]
pub(super) struct Deployed {
    /// The tasks of each worker.
    workers: Vec<Vec<u32>>,
    lost: Vec<bool>,
    /// Number of tasks that have not ended.
    remaining: u32,
}

impl Deployed {
    /// The tasks of a worker that is lost now, and was not before.
    pub(super) fn lose(&mut self, worker: u32) -> Option<&[u32]> {
        let lost = self.lost.get_mut(worker as usize)?;
        (!std::mem::replace(lost, true)).then(|| self.workers[worker as usize].as_slice())
    }

    /// Counts the end of a task; whether it was the last.
    pub(super) fn task_ended(&mut self) -> bool {
        self.remaining -= 1;
        self.remaining == 0
    }
}

impl JobScheduler {
    pub(super) fn on_start(&mut self, now: Duration, effects: &mut Vec<Effect>) {
        if self.status != JobStatus::Created || self.started.is_some() {
            // Started twice, or canceled before it was started.
            return;
        }
        self.started = Some(now);
        if self.options.adaptive {
            return self.await_resources(effects);
        }
        self.set_status(JobStatus::Running, now, effects);
        let all = (0..self.executions.len() as u32).collect();
        self.schedule(all, now, effects);
    }

    /// Begins a deployment of these tasks, in the graph's order.
    pub(super) fn schedule(&mut self, tasks: Vec<u32>, now: Duration, effects: &mut Vec<Effect>) {
        let deployment = self.next_deployment;
        self.next_deployment += 1;
        for &index in &tasks {
            self.executions.renew(index as usize, deployment, now);
            self.set_state(index as usize, ExecutionState::Scheduled, now);
        }
        let ids = tasks.iter().map(|&index| self.graph.task_at(index)).collect();
        self.waiting.insert(deployment, tasks);
        effects.push(Effect::Schedule { deployment, tasks: ids });
    }

    pub(super) fn on_placed(
        &mut self,
        deployment: u32,
        placement: &Placement,
        now: Duration,
        effects: &mut Vec<Effect>,
    ) {
        // Given up meanwhile, or placed twice.
        let Some(tasks) = self.waiting.get(&deployment) else { return };
        if let Some(task) = self.first_without_place(tasks, placement) {
            let name = self.graph.task_name(task);
            let message = format!("deployment {deployment} has no place for {name}: this is a bug of Weir");
            return self.on_fatal_failure(TaskFailure::new(FailureKind::Job, message), now, effects);
        }
        let tasks = self.waiting.remove(&deployment).unwrap_or_default();
        let count = placement.workers() as usize;
        let mut deployed =
            Deployed { workers: vec![Vec::new(); count], lost: vec![false; count], remaining: tasks.len() as u32 };
        for index in tasks {
            let worker = placement.worker_of(self.graph.task_at(index));
            self.executions.set_worker(index as usize, worker);
            deployed.workers[worker as usize].push(index);
            self.set_state(index as usize, ExecutionState::Deploying, now);
        }
        self.several_workers = count > 1;
        let group = |(worker, tasks): (u32, &Vec<u32>)| WorkerTasks {
            deployment,
            worker,
            tasks: tasks.iter().map(|&index| self.graph.task_at(index)).collect(),
        };
        let groups = (0u32..).zip(&deployed.workers).filter(|(_, tasks)| !tasks.is_empty()).map(group);
        effects.push(Effect::Deploy(groups.collect()));
        self.deployed.insert(deployment, deployed);
    }

    fn first_without_place(&self, tasks: &[u32], placement: &Placement) -> Option<TaskId> {
        let fits = |task: &TaskId| {
            task.vertex < placement.vertices()
                && (task.subtask as usize) < placement.workers_of_vertex(task.vertex).len()
                && placement.worker_of(*task) < placement.workers()
        };
        tasks.iter().map(|&index| self.graph.task_at(index)).find(|task| !fits(task))
    }

    /// No place was found, or a worker did not get ready.
    pub(super) fn on_deployment_failed(
        &mut self,
        deployment: u32,
        task: Option<TaskId>,
        failure: TaskFailure,
        blame: Blame,
        now: Duration,
        effects: &mut Vec<Effect>,
    ) {
        // Given up meanwhile.
        let Some(tasks) = self.waiting.remove(&deployment) else { return };
        effects.push(Effect::Unschedule { deployment });
        let task = task.filter(|&task| self.graph.contains(task) && self.deployment_of(task) == deployment);
        self.record(task, failure, now, effects);
        if let Some(task) = task {
            self.set_state(self.graph.index_of(task), ExecutionState::Failed, now);
        }
        self.fail(Scope::RegionsOf(&tasks), Some(blame), now, effects);
    }
}
