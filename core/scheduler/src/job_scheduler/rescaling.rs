//! Another parallelism: all tasks are stopped, and started again as others.

use std::time::Duration;

use weir_model::JobStatus;

use super::JobScheduler;
use super::executions::Executions;
use super::failing::Scope;
use crate::{Effect, ExecutionGraph, Regions};

impl JobScheduler {
    /// Asks once with how many subtasks the job runs from now on.
    pub(super) fn await_resources(&mut self, effects: &mut Vec<Effect>) {
        if !std::mem::replace(&mut self.awaits_resources, true) {
            effects.push(Effect::AwaitResources);
        }
    }

    pub(super) fn on_resources_ready(&mut self, graph: ExecutionGraph, now: Duration, effects: &mut Vec<Effect>) {
        if !std::mem::take(&mut self.awaits_resources) {
            // Nobody asked, or the job has been given up meanwhile.
            return;
        }
        debug_assert!(self.waiting.is_empty() && self.deployed.is_empty(), "something of the job still runs");
        self.regions = Regions::of(&graph);
        self.executions = Executions::new(graph.task_count());
        self.graph = graph;
        let all = (0..self.executions.len() as u32).collect();
        if self.status == JobStatus::Restarting {
            return self.run_again(all, now, effects);
        }
        self.set_status(JobStatus::Running, now, effects);
        self.schedule(all, now, effects);
    }

    /// A job that restarts already will ask anyway, and one that ends needs no other parallelism.
    pub(super) fn on_rescale(&mut self, now: Duration, effects: &mut Vec<Effect>) {
        if self.options.adaptive && self.status == JobStatus::Running && !self.committing {
            self.begin_restart(Scope::All, Duration::ZERO, now, effects);
        }
    }
}
