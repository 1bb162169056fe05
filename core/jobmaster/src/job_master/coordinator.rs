//! The coordinator process: opened before anything else, told of restarts, replaced when it is lost.

use std::collections::VecDeque;

use weir_checkpoint::CheckpointEvent;
use weir_model::{Committable, FailureKind, JobStatus, TaskFailure, TaskId, ToTaskManager};
use weir_scheduler::Event;

use super::checkpoints::Restore;
use super::timers::Timer;
use super::{JobMaster, Outbox};
use crate::{FromCoordinator, JobMasterEffect, Restored, ToCoordinator};

/// How often coordinator processes may be lost while they make the last output visible; then the job fails.
const MAX_LOSSES_WHILE_COMMITTING: u32 = 4;

/// What is known of the coordinator process.
#[derive(Debug, Default)]
pub(super) struct Coordinator {
    state: State,
    /// How often it was asked to open inputs and outputs.
    openings: u32,
    /// Deployments whose tasks it was told to reset and has not, in that order.
    resets: VecDeque<u32>,
    /// Runs of the job whose coordinator was lost before it could discard what they wrote aside.
    lost_run_ids: Vec<String>,
    /// Why it was told to be killed.
    killed: Option<String>,
    /// The checkpoint it was opened from; `None`: from the beginning.
    opened_from: Option<u64>,
    /// The numbers of subtasks it knows of, if they are not those the job was built with.
    parallelism: Option<Vec<u32>>,
    /// What is committed when all tasks have finished.
    final_commit: Option<Vec<Committable>>,
    /// How often a process was lost while it did so.
    losses_while_committing: u32,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum State {
    /// The process is up; inputs and outputs are not open.
    #[default]
    Up,
    Opening,
    Open,
    Lost,
    /// Another process was asked for.
    Restarting,
}

impl Coordinator {
    pub(super) fn is_open(&self) -> bool {
        self.state == State::Open
    }

    /// Whether there is a process, or will be.
    pub(super) fn exists(&self) -> bool {
        self.state != State::Lost
    }

    /// Whether it may have written something aside.
    pub(super) fn has_opened(&self) -> bool {
        matches!(self.state, State::Opening | State::Open)
    }

    pub(super) fn openings(&self) -> u32 {
        self.openings
    }
}

impl JobMaster {
    /// Whether a checkpoint may have output that is not visible.
    pub(super) fn has_unconfirmed(&self) -> bool {
        self.checkpoints.has_unconfirmed(self.coordinator.final_commit.is_some())
    }

    pub(super) fn on_start(&mut self, out: &mut Outbox) {
        // Otherwise it was started before.
        if self.coordinator.openings == 0 && self.coordinator.state == State::Up {
            self.open(out);
        }
    }

    pub(super) fn on_coordinator(&mut self, message: FromCoordinator, out: &mut Outbox) {
        match message {
            FromCoordinator::Opened(result) => self.on_opened(result, out),
            FromCoordinator::SplitAnswer { task, answer } => self.on_split_answer(task, answer, out),
            FromCoordinator::TasksReset(result) => self.on_tasks_reset(result, out),
            FromCoordinator::CommitDone { checkpoint: Some(checkpoint), result } => {
                self.tell_checkpoints(CheckpointEvent::Committed { checkpoint, result }, out);
            }
            FromCoordinator::CommitDone { checkpoint: None, result } => {
                let failure = |message| TaskFailure::new(FailureKind::Sink, message);
                self.tell(Event::CommitDone(result.map_err(failure)), out);
            }
            FromCoordinator::EnumeratorsSnapshotted { checkpoint, result } => {
                self.tell_checkpoints(CheckpointEvent::EnumeratorsSnapshotted { checkpoint, result }, out);
            }
            FromCoordinator::Started => self.on_coordinator_started(out),
            FromCoordinator::Lost { reason } => self.on_coordinator_lost(&reason, out),
        }
    }

    /// Names this run of the job; another one after the coordinator was opened anew.
    pub(super) fn run_id(&self) -> String {
        format!("{}-{}", self.spec.id, self.coordinator.openings())
    }

    fn open(&mut self, out: &mut Outbox) {
        let mut restored = match self.find_restore(out) {
            Ok(restore) => restore.as_ref().map(Restore::of_coordinator),
            // Found as well when tasks are scheduled, which fails the job; what is finished already needs no state.
            Err(_) => None,
        };
        self.coordinator.opened_from = restored.as_ref().map(|restored| restored.checkpoint);
        if let Some(committables) = self.coordinator.final_commit.clone().filter(|_| self.scheduler.is_committing()) {
            // Nothing runs any more, so nothing is to be handed out; but what is to be visible must not be removed.
            let checkpoint = self.coordinator.opened_from.unwrap_or_default();
            let enumerators = restored.map(|restored| restored.enumerators).unwrap_or_default();
            restored = Some(Restored { checkpoint, enumerators, committables });
        }
        self.tell_parallelism(out);
        self.coordinator.state = State::Opening;
        self.coordinator.openings += 1;
        let (number, lost_run_ids) = (self.coordinator.openings, self.coordinator.lost_run_ids.clone());
        out.coordinator(ToCoordinator::Open { run_id: self.run_id(), lost_run_ids, restored });
        self.limit_answer(Timer::Opening { number }, out);
    }

    /// Makes sure that the coordinator knows how many subtasks there are.
    fn tell_parallelism(&mut self, out: &mut Outbox) {
        let parallelism = self.graph.parallelism();
        if self.coordinator_has_other_parallelism() {
            out.coordinator(ToCoordinator::SetParallelism(parallelism.clone()));
            self.coordinator.parallelism = Some(parallelism);
        }
    }

    fn coordinator_has_other_parallelism(&self) -> bool {
        let known = self.coordinator.parallelism.clone().unwrap_or_else(|| self.spec.graph.parallelism());
        known != self.graph.parallelism()
    }

    /// A coordinator may take as long to answer as a worker may to start: both run the author's code and look at storage.
    fn limit_answer(&mut self, timer: Timer, out: &mut Outbox) {
        self.timers.set(timer, out.now.saturating_add(self.options.worker_start_timeout), out);
    }

    pub(super) fn on_opening_timeout(&mut self, number: u32, out: &mut Outbox) {
        if self.coordinator.state == State::Opening && self.coordinator.openings == number {
            self.kill_coordinator("look at the job's inputs and outputs", out);
        }
    }

    pub(super) fn on_reset_timeout(&mut self, deployment: u32, out: &mut Outbox) {
        if self.coordinator.resets.contains(&deployment) {
            self.kill_coordinator("give splits of restarted tasks back", out);
        }
    }

    fn kill_coordinator(&mut self, task: &str, out: &mut Outbox) {
        let timeout = self.options.worker_start_timeout;
        let reason = format!(
            "it was killed because it took longer than {timeout:?} to {task}; `weir.worker.start-timeout` gives it longer"
        );
        if self.coordinator.killed.is_none() {
            self.coordinator.killed = Some(reason);
            out.coordinator(ToCoordinator::Kill);
        }
    }

    fn on_opened(&mut self, result: Result<(), String>, out: &mut Outbox) {
        if self.coordinator.state != State::Opening {
            // Answered twice.
            return;
        }
        let first = self.scheduler.status() == JobStatus::Created;
        match result {
            Ok(()) => {
                self.coordinator.state = State::Open;
                self.coordinator.lost_run_ids.clear();
                if self.scheduler.is_committing() {
                    return self.ask_for_final_commit(out);
                }
                if first {
                    self.declare_requirements(out);
                    self.tell(Event::Start, out);
                }
                self.reset_what_is_scheduled(out);
                self.deploy_what_is_ready(out);
            }
            Err(message) if self.scheduler.is_committing() => {
                self.coordinator.state = State::Up;
                let message =
                    format!("a new coordinator process could not finish what a lost one was making visible: {message}");
                self.tell(Event::CommitDone(Err(TaskFailure::new(FailureKind::Sink, message))), out);
            }
            // What cannot work at all is not tried again; what has worked may only be out of reach for a while.
            Err(message) if first => {
                self.tell(Event::FatalFailure(TaskFailure::new(FailureKind::Job, message)), out);
            }
            Err(message) => {
                self.coordinator.state = State::Up;
                self.tell(Event::GlobalFailure(TaskFailure::new(FailureKind::Job, message)), out);
            }
        }
    }

    /// Brings the coordinator to where a deployment with these tasks can follow. Whether nothing remains to be awaited from it
    /// but that it is open.
    pub(super) fn reset_coordinator(
        &mut self,
        deployment: u32,
        tasks: &[TaskId],
        restore: Option<&Restore>,
        out: &mut Outbox,
    ) -> bool {
        match self.coordinator.state {
            State::Open if deployment == 0 && !self.coordinator_has_other_parallelism() => true,
            State::Open => {
                self.send_reset(deployment, tasks, restore, out);
                false
            }
            // Opening it anew resets everything; and as it is not open, everything is what starts again.
            State::Up => {
                self.open(out);
                true
            }
            State::Lost => {
                self.coordinator.state = State::Restarting;
                out.coordinator(ToCoordinator::Restart);
                true
            }
            // It may be about to begin from a checkpoint that has turned out to be unreadable since.
            State::Opening => {
                self.coordinator.opened_from == restore.map(|restore| restore.checkpoint)
                    && !self.coordinator_has_other_parallelism()
            }
            State::Restarting => true,
        }
    }

    fn send_reset(&mut self, deployment: u32, tasks: &[TaskId], restore: Option<&Restore>, out: &mut Outbox) {
        let all = tasks.len() == self.scheduler.graph().task_count() as usize;
        let restored = restore.map(|restore| match restore.of_coordinator() {
            restored if all => restored,
            // The commit of what other tasks have prepared goes on, and their splits stay with them.
            restored => Restored { committables: Vec::new(), ..restored },
        });
        self.tell_parallelism(out);
        self.coordinator.resets.push_back(deployment);
        out.coordinator(ToCoordinator::ResetTasks { tasks: if all { Vec::new() } else { tasks.to_vec() }, restored });
        self.limit_answer(Timer::Reset { deployment }, out);
    }

    /// Brings a coordinator that has just been opened to where scheduled tasks start, if it is not there.
    fn reset_what_is_scheduled(&mut self, out: &mut Outbox) {
        let waiting = self.deployments.iter().filter(|(_, deployment)| !deployment.reset);
        let waiting: Vec<_> =
            waiting.map(|(number, data)| (*number, data.tasks.clone(), data.restore.clone())).collect();
        for (number, tasks, restore) in waiting {
            self.send_reset(number, &tasks, restore.as_deref(), out);
        }
    }

    /// All tasks have finished: makes everything visible that is not known to be.
    pub(super) fn commit(&mut self, out: &mut Outbox) {
        let committables = self.checkpoints.take_uncommitted();
        self.coordinator.final_commit = Some(committables);
        self.ask_for_final_commit(out);
    }

    fn ask_for_final_commit(&mut self, out: &mut Outbox) {
        if let Some(committables) = self.coordinator.final_commit.clone() {
            out.coordinator(ToCoordinator::Commit { checkpoint: None, committables });
        }
    }

    fn on_tasks_reset(&mut self, result: Result<(), String>, out: &mut Outbox) {
        // None is awaited if the answer came twice.
        let Some(number) = self.coordinator.resets.pop_front() else { return };
        // It may have been given up meanwhile.
        let Some(deployment) = self.deployments.get_mut(&number) else { return };
        let all = deployment.tasks.len() == self.scheduler.graph().task_count() as usize;
        match result {
            Ok(()) => {
                deployment.reset = true;
                self.deploy_if_ready(number, out);
            }
            Err(message) => {
                let message = format!("the coordinator could not start tasks over: {message}");
                let failure = TaskFailure::new(FailureKind::Source, message);
                // Starting everything over may still work; when that was what failed, nothing is left to try.
                let event = if all { Event::FatalFailure(failure) } else { Event::GlobalFailure(failure) };
                self.tell(event, out);
            }
        }
    }

    fn on_split_answer(&mut self, task: TaskId, answer: Vec<u8>, out: &mut Outbox) {
        if !self.scheduler.graph().contains(task) {
            // Nobody asked.
            return;
        }
        let entry = self.tasks.get_mut(self.scheduler.graph().index_of(task));
        // Otherwise nobody asked, or the task has been started again since; then the split is handed out again.
        if !std::mem::take(&mut entry.awaits_split) {
            return;
        }
        let Some(location) = entry.location.clone() else { return };
        let deployment = self.deployment_id(self.scheduler.deployment_of(task));
        out.task_manager(&location.task_manager, ToTaskManager::SplitAnswer { deployment, task, answer });
    }

    fn on_coordinator_started(&mut self, out: &mut Outbox) {
        // Otherwise nobody asked for it.
        if self.coordinator.state == State::Restarting {
            self.open(out);
        }
    }

    fn on_coordinator_lost(&mut self, reason: &str, out: &mut Outbox) {
        if self.coordinator.state == State::Lost {
            // Known already.
            return;
        }
        if self.coordinator.has_opened() {
            let run_id = self.run_id();
            self.coordinator.lost_run_ids.push(run_id);
        }
        self.coordinator.state = State::Lost;
        self.coordinator.parallelism = None;
        self.coordinator.resets.clear();
        let killed = self.coordinator.killed.take();
        let reason = killed.as_deref().unwrap_or(reason);
        let failure = |message: String| TaskFailure::new(FailureKind::Worker, message);
        if self.scheduler.is_committing() {
            self.coordinator.losses_while_committing += 1;
            let losses = self.coordinator.losses_while_committing;
            if losses < MAX_LOSSES_WHILE_COMMITTING {
                // What is visible already stays as it is, so another one may do it again.
                self.coordinator.state = State::Restarting;
                out.push(JobMasterEffect::Warning(format!(
                    "the job's coordinator process was lost while it made the output visible; another one goes on with that: {reason}"
                )));
                return out.coordinator(ToCoordinator::Restart);
            }
            let message = format!(
                "the job's coordinator process was lost {losses} times while it made the output visible, so it is not known how much of \
                 the output is visible; look at the output before the job is run again: {reason}"
            );
            return self.tell(Event::CommitDone(Err(failure(message))), out);
        }
        let message = format!("the job's coordinator process was lost: {reason}");
        if self.scheduler.status() == JobStatus::Created {
            return self.tell(Event::FatalFailure(failure(message)), out);
        }
        // What it knew of splits and finished tasks is gone, so everything starts over, and a new one with it.
        self.tell(Event::GlobalFailure(failure(message)), out);
    }
}
