//! The ResourceManager itself: what happens to jobs and TaskManagers. Providers are in `providers.rs`, the decisions after each
//! event in `settle.rs`.

mod providers;
mod settle;
mod view;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use weir_model::{FromResourceManager, JobId, SlotId, SlotWait, TaskManagerId, TaskManagerInfo, ToResourceManager};

use crate::agenda::{Agenda, Wake};
use crate::slots::SlotTable;
use crate::workers::{Phase, Worker, Workers};
use crate::{Effect, Event, ResourceManagerOptions};

pub use view::TaskManagerSlots;

/// Owns the slots of the cluster.
///
/// Jobs get slots in the order in which they first asked for some: all that a job cannot do without at once, or nothing; what it could
/// use beyond that as it becomes free. A later job gets slots before an earlier one only if that costs the earlier one nothing it cannot
/// do without: when what is free and on its way is enough for both, or when the earlier one needs more than the whole cluster has.
#[derive(Debug, Clone)]
pub struct ResourceManager {
    pub(crate) options: ResourceManagerOptions,
    pub(crate) slots: SlotTable,
    pub(crate) jobs: BTreeMap<JobId, Job>,
    /// Jobs that lack slots, oldest first.
    pub(crate) waiting: BTreeMap<u64, JobId>,
    next_order: u64,
    pub(crate) workers: Workers,
    agenda: Agenda,
    shutting_down: bool,
}

/// A job that needs slots.
#[derive(Debug, Clone)]
pub(crate) struct Job {
    pub(crate) name: String,
    /// Its place among the jobs.
    order: u64,
    pub(crate) needed: u32,
    /// With how many it can do.
    pub(crate) at_least: u32,
    pub(crate) slots: BTreeSet<SlotId>,
    /// What it was last told about its wait.
    told: Option<SlotWait>,
}

impl Job {
    pub(crate) fn lacking(&self) -> u32 {
        self.needed.saturating_sub(self.slots.len() as u32)
    }

    /// What it gets at once or not at all.
    pub(crate) fn indispensable(&self) -> u32 {
        self.at_least.saturating_sub(self.slots.len() as u32)
    }
}

impl ResourceManager {
    /// A ResourceManager without TaskManagers, whose providers are not open yet.
    pub fn new(options: ResourceManagerOptions) -> Self {
        Self {
            slots: SlotTable::new(options.spread),
            jobs: BTreeMap::new(),
            waiting: BTreeMap::new(),
            next_order: 0,
            workers: Workers::new(&options.providers, options.epoch),
            agenda: Agenda::default(),
            shutting_down: false,
            options,
        }
    }

    /// Takes note of what happened and says what to do, in this order. Unexpected events are ignored.
    pub fn on_event(&mut self, event: Event, now: Duration) -> Vec<Effect> {
        let mut effects = Vec::new();
        match event {
            Event::ProviderOpened { name, description } => {
                self.on_provider_opened(name, &description, now, &mut effects);
            }
            Event::ProviderUnusable { name, reason } => self.on_provider_unusable(&name, reason),
            Event::Provider { name, event } => self.on_provider(&name, event, now, &mut effects),
            Event::TaskManagerRegistered(info) => self.on_registered(info, now, &mut effects),
            Event::TaskManagerLost { id, incarnation, reason } => {
                self.on_lost(&id, incarnation, reason, now, &mut effects);
            }
            Event::Job(message) => self.on_job(message, now),
            Event::JobGone { job } => self.forget_job(job, now),
            Event::Timer { id } => self.on_timer(id, now, &mut effects),
            Event::ShutDown { stop_workers, status, message } => {
                self.on_shut_down(stop_workers, status, &message, &mut effects);
            }
        }
        self.settle(now, &mut effects);
        effects
    }

    fn on_registered(&mut self, info: TaskManagerInfo, now: Duration, effects: &mut Vec<Effect>) {
        let id = info.id.clone();
        if self.slots.get(&id).is_some() {
            self.take_away(&id, "it has registered anew", effects);
        }
        let origin = self.workers.origin(&id);
        let stopping = self.workers.get(&id).is_some_and(|worker| worker.phase == Phase::Stopping);
        if stopping || self.workers.has_ended(&id) {
            let reason = "it was given up before it registered".to_owned();
            effects.push(Effect::ShutDownTaskManager { id, incarnation: info.incarnation, reason });
            return;
        }
        let drains = self.worker_registered(&info, origin.map(|(provider, _)| provider));
        let provided = self.workers.get(&id).is_some();
        self.slots.insert(info, provided, now);
        if drains {
            self.slots.drain(&id);
        }
        self.agenda.add(now + self.options.idle_timeout, Wake::Idle(id));
    }

    /// Notes that a worker's TaskManager is there. A name made by an earlier JobManager makes it one of the provider's, whether
    /// the provider has found it yet or not. Whether it will be taken away.
    fn worker_registered(&mut self, info: &TaskManagerInfo, provider: Option<usize>) -> bool {
        let slots = info.slots;
        let changed = self.workers.change(&info.id, |worker| {
            worker.phase = Phase::Registered;
            worker.slots = slots;
        });
        if !changed && let Some(provider) = provider {
            self.workers.insert(
                info.id.clone(),
                Worker {
                    provider,
                    slots,
                    phase: Phase::Registered,
                    deadline: Duration::MAX,
                    drained_at: None,
                    request: 0,
                },
            );
        }
        let Some(worker) = self.workers.get(&info.id) else { return false };
        let (provider, drains) = (worker.provider, worker.drained_at.is_some());
        self.workers.providers[provider].last_failure = None;
        drains
    }

    fn on_lost(
        &mut self,
        id: &TaskManagerId,
        incarnation: u64,
        reason: String,
        now: Duration,
        effects: &mut Vec<Effect>,
    ) {
        let registered = self.slots.get(id).is_some_and(|found| found.info.incarnation == incarnation);
        if !registered {
            return;
        }
        self.take_away(id, &reason, effects);
        let deadline = now + self.options.reconnect_timeout;
        let expected = self.workers.change(id, |worker| {
            worker.phase = Phase::Lost;
            worker.deadline = deadline;
        });
        if expected {
            self.agenda.add(deadline, Wake::Worker(id.clone()));
        }
    }

    /// Removes a TaskManager with its slots and tells the jobs that had some.
    fn take_away(&mut self, id: &TaskManagerId, reason: &str, effects: &mut Vec<Effect>) {
        let Some(task_manager) = self.slots.remove(id) else { return };
        for job in task_manager.jobs().into_keys() {
            if let Some(held) = self.jobs.get_mut(&job) {
                held.slots.retain(|slot| slot.task_manager != *id);
                if held.lacking() > 0 {
                    self.waiting.insert(held.order, job);
                }
            }
            let message = FromResourceManager::TaskManagerLost { id: id.clone(), reason: reason.to_owned() };
            effects.push(Effect::TellJob { job, message });
        }
    }

    fn on_job(&mut self, message: ToResourceManager, now: Duration) {
        match message {
            ToResourceManager::DeclareRequirements { job, slots: 0, .. } => self.forget_job(job, now),
            ToResourceManager::DeclareRequirements { job, name, slots, at_least } => {
                self.on_requirements(job, name, slots, at_least)
            }
            ToResourceManager::ReleaseSlots { job, slots } => {
                self.release(job, slots, now);
            }
        }
    }

    fn on_requirements(&mut self, id: JobId, name: String, needed: u32, at_least: u32) {
        let next_order = self.next_order;
        let job = self.jobs.entry(id).or_insert_with(|| {
            self.next_order += 1;
            for provider in &mut self.workers.providers {
                provider.refused = None;
            }
            Job { name: String::new(), order: next_order, needed: 0, at_least: 0, slots: BTreeSet::new(), told: None }
        });
        (job.name, job.needed, job.at_least) = (name, needed, at_least.min(needed));
        let (order, lacking) = (job.order, job.lacking());
        if lacking > 0 {
            self.waiting.insert(order, id);
        } else {
            self.waiting.remove(&order);
        }
    }

    fn release(&mut self, id: JobId, slots: Vec<SlotId>, now: Duration) {
        let Some(job) = self.jobs.get_mut(&id) else { return };
        for slot in slots {
            if !job.slots.remove(&slot) {
                continue;
            }
            if self.slots.give_back(&slot, id, now) {
                self.agenda.add(now + self.options.idle_timeout, Wake::Idle(slot.task_manager));
            }
        }
        if job.lacking() > 0 {
            self.waiting.insert(job.order, id);
        }
    }

    fn forget_job(&mut self, id: JobId, now: Duration) {
        let Some(job) = self.jobs.get_mut(&id) else { return };
        let (order, slots) = (job.order, std::mem::take(&mut job.slots));
        for slot in slots {
            if self.slots.give_back(&slot, id, now) {
                self.agenda.add(now + self.options.idle_timeout, Wake::Idle(slot.task_manager));
            }
        }
        self.waiting.remove(&order);
        self.jobs.remove(&id);
    }

    fn on_timer(&mut self, id: u64, now: Duration, effects: &mut Vec<Effect>) {
        self.agenda.on_timer(id);
        for wake in self.agenda.take_due(now) {
            match wake {
                Wake::Provider(provider) => self.on_provider_deadline(provider, now),
                Wake::Worker(id) => self.on_worker_deadline(&id, now, effects),
                Wake::Idle(id) => self.on_idle(&id, now, effects),
            }
        }
    }

    /// Stops a TaskManager that has not been used for long, unless it is kept in reserve.
    fn on_idle(&mut self, id: &TaskManagerId, now: Duration, effects: &mut Vec<Effect>) {
        let Some(task_manager) = self.slots.get(id) else { return };
        let Some(worker) = self.workers.get(id) else { return };
        let idle_timeout = self.options.idle_timeout;
        if task_manager.idle_since.is_none_or(|since| now < since + idle_timeout) {
            return;
        }
        let provider = &self.workers.providers[worker.provider];
        let spare = self.slots.free().saturating_sub(task_manager.free());
        let dispensable = provider.counts.wanted() > provider.min_workers && spare >= self.lacking() + self.reserve();
        if dispensable || task_manager.draining {
            self.stop_worker(id, "no job has used it for a while", now, effects);
        } else {
            self.agenda.add(now + idle_timeout, Wake::Idle(id.clone()));
        }
    }
}
