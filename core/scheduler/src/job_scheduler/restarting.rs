//! Failover: the tasks that a failure concerns are stopped, and started again after a while.

use std::time::Duration;

use weir_model::JobStatus;

use super::JobScheduler;
use super::executions::Executions;
use super::failing::Scope;
use crate::{Effect, FailoverStrategy};

/// A restart that is under way: from the failure until its tasks are scheduled again.
#[derive(Debug, Clone)]
pub(super) struct Restart {
    /// When the delay is over.
    pub(super) at: Duration,
    /// Set by the timer. Being due is not enough: what is told at one moment belongs to one restart, even without a delay.
    pub(super) delay_over: bool,
    /// By task.
    member: Vec<bool>,
    tasks: Vec<u32>,
    /// Number of its tasks that have not ended.
    remaining: u32,
}

impl Restart {
    /// Adds a region, unless it is in.
    fn take(&mut self, region: &[u32], executions: &Executions) {
        if region.first().is_none_or(|&first| self.member[first as usize]) {
            return;
        }
        for &index in region {
            self.member[index as usize] = true;
            self.remaining += u32::from(!executions.state(index as usize).is_terminal());
        }
        self.tasks.extend(region);
    }

    pub(super) fn task_ended(&mut self, index: usize) {
        if self.member[index] {
            self.remaining -= 1;
        }
    }
}

impl JobScheduler {
    pub(super) fn begin_restart(
        &mut self,
        scope: Scope<'_>,
        delay: Duration,
        now: Duration,
        effects: &mut Vec<Effect>,
    ) {
        self.restart = Some(Restart {
            at: now.saturating_add(delay),
            delay_over: false,
            member: vec![false; self.executions.len()],
            tasks: Vec::new(),
            remaining: 0,
        });
        self.set_status(JobStatus::Restarting, now, effects);
        self.take_along(scope, now, effects);
    }

    /// Stops what a failure concerns, to be started again with the rest of the restart.
    pub(super) fn take_along(&mut self, scope: Scope<'_>, now: Duration, effects: &mut Vec<Effect>) {
        let Some(restart) = &mut self.restart else { return };
        let before = restart.tasks.len();
        match scope {
            Scope::RegionsOf(failed) if self.options.failover == FailoverStrategy::Region => {
                for &index in failed {
                    let region = self.regions.region_at(index);
                    restart.take(self.regions.members(region), &self.executions);
                }
            }
            Scope::RegionsOf(_) | Scope::All => {
                for region in 0..self.regions.count() {
                    restart.take(self.regions.members(region), &self.executions);
                }
            }
        }
        let joined = restart.tasks[before..].to_vec();
        self.cancel(&joined, now, effects);
    }

    /// Schedules the tasks of the restart once they have ended and the delay is over.
    pub(super) fn restart_if_ready(&mut self, now: Duration, effects: &mut Vec<Effect>) {
        if !self.restart.as_ref().is_some_and(|restart| restart.delay_over && restart.remaining == 0) {
            return;
        }
        if self.options.adaptive {
            return self.await_resources(effects);
        }
        let Some(Restart { mut tasks, .. }) = self.restart.take() else { return };
        tasks.sort_unstable();
        self.run_again(tasks, now, effects);
    }

    /// Schedules the tasks of a restart.
    pub(super) fn run_again(&mut self, tasks: Vec<u32>, now: Duration, effects: &mut Vec<Effect>) {
        self.restart = None;
        self.cancellations.clear();
        self.forget_failures();
        self.restarts += 1;
        self.set_status(JobStatus::Running, now, effects);
        self.schedule(tasks, now, effects);
    }
}
