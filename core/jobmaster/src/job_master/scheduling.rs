//! From a schedule to slots.

use std::fmt::Write;
use std::time::Duration;

use weir_model::{FailureKind, FromResourceManager, SlotId, TaskFailure, TaskId, ToResourceManager};
use weir_scheduler::{Blame, Event};

use super::deployment::{Deployment, Phase};
use super::timers::Timer;
use super::{JobMaster, Outbox};
use crate::JobMasterEffect;

impl JobMaster {
    /// Tells how many slots the job could use, and with how many it can do.
    pub(super) fn declare_requirements(&mut self, out: &mut Outbox) {
        let (slots, at_least) = match &self.adaptive {
            Some(adaptive) => (adaptive.desired, adaptive.required),
            None => (self.sharing.slots_needed(), self.sharing.slots_needed()),
        };
        self.declared = true;
        self.declare(slots, at_least, out);
    }

    /// The job needs none any more.
    pub(super) fn give_slots_back(&mut self, out: &mut Outbox) {
        self.declare(0, 0, out);
    }

    fn declare(&mut self, slots: u32, at_least: u32, out: &mut Outbox) {
        let (job, name) = (self.spec.id, self.spec.graph.name.clone());
        let message = ToResourceManager::DeclareRequirements { job, name, slots, at_least };
        out.push(JobMasterEffect::ResourceManager(message));
    }

    pub(super) fn on_resource_manager(&mut self, message: FromResourceManager, out: &mut Outbox) {
        match message {
            FromResourceManager::SlotsGranted(grants) => {
                self.waiting = None;
                let surplus = self.slots.grant(grants);
                self.release(surplus, out);
                self.prepare_what_has_slots(out);
            }
            FromResourceManager::TaskManagerLost { id, reason } => self.on_task_manager_lost(&id, &reason, out),
            // Kept even if no tasks wait now: it is not said again when they do.
            FromResourceManager::Waiting(wait) => self.waiting = Some(wait),
        }
    }

    /// Gives slots back.
    pub(super) fn release(&self, slots: Vec<SlotId>, out: &mut Outbox) {
        if !slots.is_empty() {
            let job = self.spec.id;
            out.push(JobMasterEffect::ResourceManager(ToResourceManager::ReleaseSlots { job, slots }));
        }
    }

    /// The scheduler wants tasks to be started.
    pub(super) fn schedule(&mut self, number: u32, tasks: Vec<TaskId>, out: &mut Outbox) {
        for &task in &tasks {
            self.tasks.renew(self.scheduler.graph().index_of(task));
        }
        let mut slots: Vec<u32> = tasks.iter().map(|&task| self.sharing.slot_of(task)).collect();
        slots.sort_unstable();
        slots.dedup();
        let restore = match self.restore(number, &tasks, out) {
            Ok(restore) => restore,
            Err(message) => {
                // Nothing is started; the failure takes the deployment back.
                self.deployments.insert(number, Deployment::new(tasks, slots, None, false));
                return out.later.push_back(Event::FatalFailure(TaskFailure::new(FailureKind::State, message)));
            }
        };
        let reset = self.reset_coordinator(number, &tasks, restore.as_deref(), out);
        self.deployments.insert(number, Deployment::new(tasks, slots, restore, reset));
        if !self.prepare_if_slots(number, out) {
            let at = out.now.saturating_add(self.options.slot_request_timeout);
            self.timers.set(Timer::Slots { deployment: number }, at, out);
        }
    }

    fn prepare_what_has_slots(&mut self, out: &mut Outbox) {
        let waiting = self.deployments.iter().filter(|(_, deployment)| deployment.is_waiting());
        for number in waiting.map(|(number, _)| *number).collect::<Vec<_>>() {
            self.prepare_if_slots(number, out);
        }
    }

    /// Has a deployment's workers started if all its slots are there. Whether they are.
    fn prepare_if_slots(&mut self, number: u32, out: &mut Outbox) -> bool {
        let Some(deployment) = self.deployments.get(&number) else { return false };
        let placed = self.slots.place(&deployment.slots, &self.sharing);
        if placed {
            self.prepare(number, out);
        }
        placed
    }

    /// Fails the job if its tasks wait for slots that can never be had.
    pub(super) fn give_up_if_hopeless(&mut self, out: &mut Outbox) {
        if !self.waits_for_slots() {
            return;
        }
        if let Some(sentence) = self.waiting.as_mut().and_then(|wait| wait.never.take()) {
            self.tell(Event::FatalFailure(TaskFailure::new(FailureKind::Job, sentence)), out);
        }
    }

    pub(super) fn waits_for_slots(&self) -> bool {
        self.deployments.values().any(Deployment::is_waiting) || self.lacks_indispensable_slots()
    }

    pub(super) fn on_slot_timeout(&mut self, number: u32, out: &mut Outbox) {
        if !self.deployments.get(&number).is_some_and(Deployment::is_waiting) {
            // It got them, or was given up.
            return;
        }
        let text =
            self.explain_lack(self.sharing.slots_needed(), self.options.slot_request_timeout, "slot.request.timeout");
        let failure = TaskFailure::new(FailureKind::Job, text);
        self.tell(Event::DeploymentFailed { deployment: number, task: None, failure, blame: Blame::Job }, out);
    }

    /// What Flink calls NoResourceAvailableException.
    pub(super) fn explain_lack(&self, needed: u32, timeout: Duration, option: &str) -> String {
        let granted = self.slots.granted();
        let mut text =
            format!("not enough slots: the job needs {needed} and got {granted} within {timeout:?} ({option})");
        if let Some(wait) = &self.waiting {
            let (available, pending) = (wait.available, wait.pending);
            // Writing to a String does not fail.
            let _ = write!(text, "; {available} are free, {pending} are to come with TaskManagers asked for");
            for reason in &wait.reasons {
                let _ = write!(text, "; {reason}");
            }
        }
        text
    }

    /// The scheduler does not want these tasks to be started after all.
    pub(super) fn unschedule(&mut self, number: u32, out: &mut Outbox) {
        let Some(deployment) = self.deployments.remove(&number) else { return };
        if let Phase::Preparing(_) = deployment.phase {
            for worker in deployment.workers.iter().filter(|worker| worker.active) {
                let reason = "its deployment was given up".to_owned();
                self.kill(number, &worker.location.task_manager, reason, out);
            }
        }
    }
}
