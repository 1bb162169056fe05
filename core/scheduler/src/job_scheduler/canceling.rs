//! Stopping tasks: asking first, then by force.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use weir_model::{ExecutionState, FailureKind, JobStatus, TaskFailure, TaskId};

use super::JobScheduler;
use super::failing::Scope;
use crate::restart::time;
use crate::{Blame, Effect, WorkerTasks};

/// Tasks that were told to stop at one moment.
#[derive(Debug, Clone)]
pub(super) struct Cancellation {
    /// When they have to have stopped.
    deadline: Duration,
    /// They cannot begin another attempt before they have.
    tasks: Vec<u32>,
}

impl JobScheduler {
    /// Cancels every task that has not ended.
    pub(super) fn cancel_all(&mut self, now: Duration, effects: &mut Vec<Effect>) {
        let all: Vec<u32> = (0..self.executions.len() as u32).collect();
        self.cancel(&all, now, effects);
    }

    /// Cancels those of the tasks that have neither ended nor been told to.
    pub(super) fn cancel(&mut self, tasks: &[u32], now: Duration, effects: &mut Vec<Effect>) {
        use ExecutionState::*;
        let mut unscheduled = BTreeSet::new();
        let mut running = Vec::new();
        for &index in tasks {
            match self.executions.state(index as usize) {
                // No worker knows of it.
                from @ (Created | Scheduled) => {
                    if from == Scheduled {
                        unscheduled.insert(self.executions.deployment(index as usize));
                    }
                    self.set_state(index as usize, Canceled, now);
                }
                Deploying | Initializing | Running => {
                    self.set_state(index as usize, Canceling, now);
                    running.push(index);
                }
                Canceling | Finished | Canceled | Failed => {}
                // Not entered by this machine.
                Reconciling => {}
            }
        }
        for deployment in unscheduled {
            // Canceled as a whole: nothing but its own failure or that of the job can end what does not run yet.
            if self.waiting.remove(&deployment).is_some() {
                effects.push(Effect::Unschedule { deployment });
            }
        }
        if running.is_empty() {
            return;
        }
        effects.push(Effect::CancelTasks(self.by_worker(&running)));
        if let Some(timeout) = self.options.cancellation_timeout {
            self.cancellations.push_back(Cancellation { deadline: now.saturating_add(timeout), tasks: running });
        }
    }

    pub(super) fn on_cancel_requested(&mut self, now: Duration, effects: &mut Vec<Effect>) {
        match self.status {
            // Output is being made visible; half of it would be worse than all of it, and it does not take long. If it does all the
            // same, whoever waits is set free.
            JobStatus::Running if self.committing => {
                let deadline = self.options.cancellation_timeout.map(|timeout| now.saturating_add(timeout));
                self.commit_deadline = self.commit_deadline.or(deadline);
            }
            JobStatus::Created | JobStatus::Running | JobStatus::Restarting => {
                self.restart = None;
                self.awaits_resources = false;
                self.set_status(JobStatus::Cancelling, now, effects);
                self.cancel_all(now, effects);
            }
            // Its tasks are being canceled already; as in Flink, the person's wish names the end.
            JobStatus::Failing => self.set_status(JobStatus::Cancelling, now, effects),
            // Already asked for.
            JobStatus::Cancelling => {}
            // Not entered by this machine, or nothing left to cancel.
            JobStatus::Initializing
            | JobStatus::Reconciling
            | JobStatus::Suspended
            | JobStatus::Failed
            | JobStatus::Canceled
            | JobStatus::Finished => {}
        }
    }

    pub(super) fn on_timer(&mut self, generation: u64, now: Duration, effects: &mut Vec<Effect>) {
        if generation != self.timer_generation {
            return;
        }
        let Some(due) = self.timer.take() else { return };
        let now = now.max(due);
        if let Some(restart) = &mut self.restart
            && restart.at <= now
        {
            restart.delay_over = true;
        }
        if self.commit_deadline.is_some_and(|deadline| deadline <= now) {
            self.give_commit_up(now, effects);
        }
        while self.cancellations.front().is_some_and(|cancellation| cancellation.deadline <= now) {
            let Some(cancellation) = self.cancellations.pop_front() else { return };
            self.end_by_force(&cancellation.tasks, now, effects);
        }
    }

    /// Has a timer set for what is due next.
    pub(super) fn set_timer(&mut self, effects: &mut Vec<Effect>) {
        if self.status.is_terminal() {
            return;
        }
        let restart = self.restart.as_ref().filter(|restart| !restart.delay_over).map(|restart| restart.at);
        let cancellation = self.cancellations.front().map(|cancellation| cancellation.deadline);
        let Some(due) = restart.into_iter().chain(cancellation).chain(self.commit_deadline).min() else { return };
        if self.timer != Some(due) {
            self.timer = Some(due);
            self.timer_generation += 1;
            effects.push(Effect::ScheduleTimer { generation: self.timer_generation, at: due });
        }
    }

    /// Somebody wanted the job to end, and its commit does not.
    fn give_commit_up(&mut self, now: Duration, effects: &mut Vec<Effect>) {
        let timeout = time(self.options.cancellation_timeout.unwrap_or_default());
        let message = format!(
            "the job was to be canceled while it made its output visible, and that did not end within {timeout} \
             (task.cancellation.timeout), so it is not known how much of the output is visible; look at the output before the job \
             is run again"
        );
        self.on_commit_done(Err(TaskFailure::new(FailureKind::Sink, message)), now, effects);
    }

    /// The cancellation timeout: whoever has not stopped is killed with its worker, and reported by name.
    fn end_by_force(&mut self, canceled: &[u32], now: Duration, effects: &mut Vec<Effect>) {
        let late = |index: &u32| self.executions.state(*index as usize) == ExecutionState::Canceling;
        let mut stuck: Vec<u32> = canceled.iter().copied().filter(late).collect();
        if stuck.is_empty() {
            return;
        }
        stuck.sort_unstable();
        let mut by_worker: BTreeMap<(u32, u32), Vec<u32>> = BTreeMap::new();
        for &index in &stuck {
            by_worker.entry(self.worker_at(index)).or_default().push(index);
        }
        let killed: Vec<u32> = by_worker.keys().flat_map(|&key| self.lose_worker(key)).collect();
        effects.push(Effect::KillWorkers(self.by_worker(&killed)));
        for stuck in by_worker.values() {
            self.record_stuck(stuck, now, effects);
        }
        let with_them = self.end_tasks_of_lost_worker(&killed, &stuck, now);
        if !with_them.is_empty() {
            self.fail(Scope::RegionsOf(&with_them), Some(Blame::Job), now, effects);
        }
    }

    /// Stuck tasks of a job that is to go on are failures that came with the first; at its end they are in the report.
    fn record_stuck(&mut self, stuck: &[u32], now: Duration, effects: &mut Vec<Effect>) {
        let names = stuck.iter().map(|&index| self.graph.task_at(index));
        if self.status != JobStatus::Restarting {
            self.stuck.extend(names);
            return;
        }
        let others = others(stuck.len());
        let timeout = time(self.options.cancellation_timeout.unwrap_or_default());
        let message = format!("this task{others} did not stop within {timeout}, so the worker was killed");
        let first = stuck.first().map(|&index| self.graph.task_at(index));
        self.record(first, TaskFailure::new(FailureKind::Worker, message), now, effects);
    }

    /// Deployment and worker of a task.
    fn worker_at(&self, index: u32) -> (u32, u32) {
        (self.executions.deployment(index as usize), self.executions.worker(index as usize))
    }

    /// These tasks, by deployment and worker.
    fn by_worker(&self, tasks: &[u32]) -> Vec<WorkerTasks> {
        let mut groups: BTreeMap<(u32, u32), Vec<TaskId>> = BTreeMap::new();
        for &index in tasks {
            groups.entry(self.worker_at(index)).or_default().push(self.graph.task_at(index));
        }
        let group = |((deployment, worker), tasks)| WorkerTasks { deployment, worker, tasks };
        groups.into_iter().map(group).collect()
    }
}

/// How a message about one of `count` tasks mentions the others.
pub(super) fn others(count: usize) -> String {
    match count {
        0 | 1 => String::new(),
        2 => " and another one".to_owned(),
        n => format!(" and {} others", n - 1),
    }
}
