//! What follows from an event, whatever it was: free slots go to jobs, missing TaskManagers are asked for, waiting jobs are told.

use std::time::Duration;

use weir_model::{FromResourceManager, JobId};
use weir_provider_api::ProviderRequest;

use crate::agenda::Wake;
use crate::manager::{Job, ResourceManager};
use crate::plan::{Observed, Step, Supply};
use crate::workers::{Phase, ProviderState};
use crate::{Effect, Plan};

impl ResourceManager {
    pub(super) fn settle(&mut self, now: Duration, effects: &mut Vec<Effect>) {
        if self.shutting_down {
            return;
        }
        self.assign(effects);
        let plan = self.observe(now).plan();
        if !plan.steps.is_empty() {
            self.carry_out(&plan, now, effects);
            // What is on its way now may allow a later job to pass an earlier one.
            self.assign(effects);
        }
        self.declare_demand(effects);
        self.tell_waiting_jobs(now, effects);
        if let Some((id, at)) = self.agenda.arm() {
            effects.push(Effect::ScheduleTimer { id, at });
        }
    }

    /// Gives free slots to jobs; see [`ResourceManager`] for the order.
    fn assign(&mut self, effects: &mut Vec<Effect>) {
        let mut supply = self.slots.free() + self.workers.pending_slots();
        let cluster = self.slots.lasting() + self.workers.pending_slots();
        let mut reserved = 0;
        let mut given: Vec<(JobId, u32)> = Vec::new();
        let mut free = self.slots.free();
        for id in self.waiting.values() {
            if free == 0 {
                break;
            }
            let job = &self.jobs[id];
            let indispensable = job.indispensable();
            if indispensable <= free && reserved + indispensable <= supply {
                let count = job.lacking().min(free).min(supply - reserved);
                given.extend((count > 0).then_some((*id, count)));
                free -= count;
                supply -= count;
            } else if job.at_least <= cluster {
                reserved += indispensable;
            }
        }
        for (job, count) in given {
            self.grant(job, count, effects);
        }
    }

    fn grant(&mut self, id: JobId, count: u32, effects: &mut Vec<Effect>) {
        let grants = self.slots.take(id, count);
        let Some(job) = self.jobs.get_mut(&id) else { return };
        job.slots.extend(grants.iter().map(|grant| grant.slot.clone()));
        job.told = None;
        if job.lacking() == 0 {
            self.waiting.remove(&job.order);
        }
        effects.push(Effect::TellJob { job: id, message: FromResourceManager::SlotsGranted(grants) });
    }

    /// Slots that jobs lack. What can never be had does not count, nor do jobs that cannot do without it: nothing is started for that.
    pub(super) fn lacking(&self) -> u32 {
        let possible = self.possible_slots();
        let jobs = self.waiting.values().map(|id| &self.jobs[id]);
        let jobs = jobs.filter(|job| possible.is_none_or(|possible| job.at_least <= possible));
        let lacking = |job: &Job| {
            let wanted = possible.map_or(job.needed, |possible| job.needed.min(possible));
            wanted.saturating_sub(job.slots.len() as u32)
        };
        jobs.map(lacking).sum()
    }

    /// Slots that are kept free beside those that jobs lack.
    pub(super) fn reserve(&self) -> u32 {
        if self.jobs.is_empty() { 0 } else { self.options.redundant * self.options.template.slots.max(1) }
    }

    /// The most slots there can ever be, as far as is known; `None` if nobody knows a limit.
    pub(crate) fn possible_slots(&self) -> Option<u32> {
        // Without providers people start TaskManagers, and nobody knows how many.
        if self.workers.providers.is_empty() {
            return None;
        }
        let per_worker = self.options.template.slots.max(1);
        let present = self.slots.lasting() + self.workers.pending_slots();
        let mut more = Some(0u32);
        for provider in &self.workers.providers {
            let room = match &provider.state {
                ProviderState::Expected | ProviderState::Recovering { .. } => None,
                ProviderState::Unusable { .. } => Some(0),
                ProviderState::Open if provider.refused.is_some() => Some(0),
                // What is on its way out makes room.
                ProviderState::Open => provider
                    .max_workers
                    .map(|max| max.saturating_sub(provider.counts.wanted().saturating_sub(provider.draining))),
            };
            more = more.zip(room).map(|(more, room)| more.saturating_add(room.saturating_mul(per_worker)));
        }
        let allowed = self.options.max_slots.map(|max| max.saturating_sub(present) / per_worker * per_worker);
        let more = match (more, allowed) {
            (Some(more), Some(allowed)) => Some(more.min(allowed)),
            (more, allowed) => more.or(allowed),
        };
        more.map(|more| present.saturating_add(more))
    }

    fn observe(&self, now: Duration) -> Observed {
        let supply = self.workers.providers.iter().map(|provider| Supply {
            name: provider.name.clone(),
            usable: provider.takes_requests(now),
            room: provider.room(),
            wanted: provider.counts.wanted(),
            asked: provider.counts.of(Phase::Asked),
            min: provider.min_workers,
        });
        Observed {
            lacking: self.lacking(),
            reserve: self.reserve(),
            free: self.slots.free(),
            registered: self.slots.total(),
            pending: self.workers.pending_slots(),
            max_slots: self.options.max_slots,
            slots_per_worker: self.options.template.slots,
            providers: supply.collect(),
        }
    }

    fn carry_out(&mut self, plan: &Plan, now: Duration, effects: &mut Vec<Effect>) {
        effects.push(Effect::Planned(plan.clone()));
        for step in &plan.steps {
            match step {
                Step::Start { provider, workers } => {
                    let Some(position) = self.workers.position(provider) else { continue };
                    for _ in 0..*workers {
                        self.start_worker(position, now, effects);
                    }
                }
                Step::Withdraw { provider, workers } => {
                    let Some(position) = self.workers.position(provider) else { continue };
                    let newest = self.workers.newest_asked(position).take(*workers as usize).cloned();
                    for id in newest.collect::<Vec<_>>() {
                        self.stop_worker(&id, "it is not needed any more", now, effects);
                    }
                }
            }
        }
    }

    fn start_worker(&mut self, position: usize, now: Duration, effects: &mut Vec<Effect>) {
        let deadline = now + self.options.registration_timeout;
        let id = self.workers.ask(position, self.options.template.slots.max(1), deadline);
        self.agenda.add(deadline, Wake::Worker(id.clone()));
        let name = self.workers.providers[position].name.clone();
        effects.push(Effect::Provider { name, request: ProviderRequest::StartWorker(self.options.template.spec(id)) });
    }

    /// Tells providers that want to know how many workers are wanted.
    fn declare_demand(&mut self, effects: &mut Vec<Effect>) {
        for provider in &mut self.workers.providers {
            let workers = provider.counts.wanted();
            if provider.state == ProviderState::Open && provider.takes_demand && provider.declared != Some(workers) {
                provider.declared = Some(workers);
                let request = ProviderRequest::DeclareDemand { workers };
                effects.push(Effect::Provider { name: provider.name.clone(), request });
            }
        }
    }

    fn tell_waiting_jobs(&mut self, now: Duration, effects: &mut Vec<Effect>) {
        if self.waiting.is_empty() {
            return;
        }
        let mut waits = self.explain(now);
        for (id, wait) in waits.drain(..) {
            let Some(job) = self.jobs.get_mut(&id) else { continue };
            if job.told.as_ref() != Some(&wait) {
                job.told = Some(wait.clone());
                effects.push(Effect::TellJob { job: id, message: FromResourceManager::Waiting(wait) });
            }
        }
    }
}
