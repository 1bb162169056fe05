//! What must always hold, and what must hold in the end.
//!
//! - No slot is given to two jobs at a time, nor one of a TaskManager that will be taken away, and the ResourceManager and the
//!   jobs agree about who has which.
//! - At most one attempt of a task counts: no attempt is deployed before the one before it has ended or is lost.
//! - What is told of an old attempt changes nothing.
//! - States follow each other as they may, and attempts only grow.
//! - What was worked on is visible once, and of a job that has finished all of it, whatever was committed again (`coordinator.rs`).
//! - A TaskManager does nothing for a leader it knows to be replaced, and its workers never share a slot between jobs
//!   (`task_manager.rs`, `worker.rs`).
//! - Every job ends; afterwards all slots are free, no worker and no coordinator is left, and no provider has a TaskManager that
//!   the ResourceManager does not know or need.

use std::collections::{BTreeMap, BTreeSet};

use weir_jobmaster::JobMasterEvent;
use weir_model::{
    DeploymentId, ExecutionState, FromResourceManager, FromTaskManager, JobId, JobStatus, JobView, SlotId, TaskId,
    TaskManagerId, ToResourceManager, ToTaskManager,
};
use weir_provider_api::ProviderEvent;
use weir_resourcemanager::Event as ResourceManagerEvent;
use weir_scheduler::{ExecutionGraph, SlotSharing};

use super::World;

/// What is known to have happened, to compare with.
#[derive(Debug)]
pub(crate) struct Checks {
    /// The first violation.
    pub(crate) violation: Option<String>,
    /// Who has which slot, by what the ResourceManager told.
    pub(crate) slots: BTreeMap<SlotId, JobId>,
    /// Slots of each job, as far as it knows.
    held: BTreeMap<JobId, BTreeSet<SlotId>>,
    /// TaskManagers that will be taken away.
    draining: BTreeSet<TaskManagerId>,
    /// Tasks that were deployed and whose end is not known: their deployment and TaskManager.
    running: BTreeMap<(JobId, TaskId), (u32, TaskManagerId)>,
    /// Attempt and state of every task, as shown last.
    shown: BTreeMap<JobId, Vec<Vec<(u32, ExecutionState)>>>,
    pub(crate) ended: BTreeMap<JobId, JobStatus>,
    /// Jobs whose commit was begun, and whether it succeeded.
    pub(crate) committed: BTreeMap<JobId, bool>,
    /// What is visible, by split: what it came with.
    pub(crate) visible: BTreeMap<JobId, BTreeMap<u32, Vec<u8>>>,
    /// How often the tasks of a worker began from a checkpoint.
    pub(crate) restores: u32,
    /// How often jobs that have ended were rescaled.
    pub(crate) rescales: u32,
    jobs: usize,
}

impl Checks {
    pub(crate) fn new(jobs: usize) -> Self {
        Self {
            violation: None,
            slots: BTreeMap::new(),
            held: BTreeMap::new(),
            draining: BTreeSet::new(),
            running: BTreeMap::new(),
            shown: BTreeMap::new(),
            ended: BTreeMap::new(),
            committed: BTreeMap::new(),
            visible: BTreeMap::new(),
            restores: 0,
            rescales: 0,
            jobs,
        }
    }

    pub(crate) fn forget_job_manager(&mut self) {
        self.slots.clear();
        self.draining.clear();
        self.held.clear();
        self.running.clear();
        self.shown.clear();
    }

    pub(crate) fn forget_job(&mut self, job: JobId) {
        self.running.retain(|(of, _), _| *of != job);
        self.shown.remove(&job);
        self.held.remove(&job);
    }

    /// The attempt of a task that counts.
    pub(crate) fn attempt_of(&self, job: JobId, task: TaskId) -> Option<u32> {
        let shown = self.shown.get(&job)?.get(task.vertex as usize)?.get(task.subtask as usize)?;
        Some(shown.0)
    }

    /// The ResourceManager takes a TaskManager away from a job.
    pub(crate) fn lose_task_manager(&mut self, job: JobId, id: &TaskManagerId) {
        self.slots.retain(|slot, owner| *owner != job || slot.task_manager != *id);
    }

    pub(crate) fn on_event_for_resource_manager(&mut self, event: &ResourceManagerEvent) {
        match event {
            ResourceManagerEvent::Job(ToResourceManager::DeclareRequirements { job, slots: 0, .. }) => {
                self.slots.retain(|_, owner| owner != job);
            }
            ResourceManagerEvent::Job(ToResourceManager::ReleaseSlots { job, slots }) => {
                for slot in slots {
                    if self.slots.get(slot) == Some(job) {
                        self.slots.remove(slot);
                    }
                }
            }
            ResourceManagerEvent::Provider { event: ProviderEvent::Draining { id, .. }, .. } => {
                self.draining.insert(id.clone());
            }
            _ => {}
        }
    }

    /// A slot is given to a job: what is wrong with that, if anything.
    pub(crate) fn on_grant(&mut self, slot: &SlotId, job: JobId) -> Option<String> {
        if self.draining.contains(&slot.task_manager) {
            return Some(format!("{job} is given {slot:?}, though the TaskManager will be taken away"));
        }
        let owner = self.slots.insert(slot.clone(), job)?;
        Some(format!("{slot:?} is given to {job} while {owner} has it"))
    }

    pub(crate) fn on_event_for_job(&mut self, job: JobId, event: &JobMasterEvent) {
        let (id, message) = match event {
            JobMasterEvent::TaskManager { id, message } => (id, message),
            JobMasterEvent::ResourceManager(message) => return self.on_message_to_job(job, message),
            _ => return,
        };
        match message {
            FromTaskManager::TasksChanged { deployment, changes } => {
                for change in changes.iter().filter(|change| change.state.is_terminal()) {
                    let key = (job, change.task);
                    if self.running.get(&key).is_some_and(|(number, _)| *number == deployment.number) {
                        self.running.remove(&key);
                    }
                }
            }
            FromTaskManager::WorkerEnded { deployment, .. } => self.end_worker(*deployment, id),
            _ => {}
        }
    }

    fn on_message_to_job(&mut self, job: JobId, message: &FromResourceManager) {
        let held = self.held.entry(job).or_default();
        match message {
            FromResourceManager::SlotsGranted(grants) => held.extend(grants.iter().map(|grant| grant.slot.clone())),
            FromResourceManager::TaskManagerLost { id, .. } => {
                held.retain(|slot| slot.task_manager != *id);
                self.running.retain(|(of, _), (_, at)| *of != job || at != id);
            }
            FromResourceManager::Waiting(_) => {}
        }
    }

    fn end_worker(&mut self, deployment: DeploymentId, id: &TaskManagerId) {
        let DeploymentId { job, number } = deployment;
        self.running.retain(|(of, _), (at, on)| *of != job || *at != number || on != id);
    }

    pub(crate) fn on_message_to_task_manager(
        &mut self,
        job: JobId,
        id: &TaskManagerId,
        message: &ToTaskManager,
    ) -> Option<String> {
        match message {
            ToTaskManager::StartWorker(start) => {
                for &index in &start.slots {
                    let slot = SlotId { task_manager: id.clone(), index };
                    if !self.held.get(&job).is_some_and(|held| held.contains(&slot)) {
                        return Some(format!("{job} uses {slot:?}, which it does not have"));
                    }
                }
            }
            ToTaskManager::Deploy { plan, worker, restore } => {
                self.restores += u32::from(!restore.is_empty());
                let number = plan.deployment.number;
                for task in plan.placement.tasks_of(*worker) {
                    if let Some((former, on)) = self.running.insert((job, task), (number, id.clone())) {
                        return Some(format!(
                            "attempt {number} of {task:?} of {job} is deployed while attempt {former} runs on {on}"
                        ));
                    }
                }
            }
            // What is killed does not count any more, even if its end has not been reported.
            ToTaskManager::KillWorker { deployment, .. } => self.end_worker(*deployment, id),
            _ => {}
        }
        None
    }

    /// Compares what a job shows with what it showed before. `stale`: it was told of attempts only that do not count any more.
    pub(crate) fn look_at(&mut self, job: JobId, view: &JobView, stale: bool) -> Option<String> {
        let show =
            |vertex: &Vec<weir_model::SubtaskView>| vertex.iter().map(|task| (task.attempt, task.state)).collect();
        let shown: Vec<Vec<_>> = view.vertices.iter().map(show).collect();
        let before = self.shown.insert(job, shown)?;
        let after = &self.shown[&job];
        if stale && before != *after {
            return Some(format!("{job} took note of an attempt that does not count: {before:?} became {after:?}"));
        }
        // By task, as their numbers may have changed.
        let both = before.iter().zip(after).flat_map(|(before, after)| before.iter().zip(after));
        for ((former_attempt, former), (attempt, state)) in both {
            if attempt < former_attempt {
                return Some(format!("an attempt of {job} goes back from {former_attempt} to {attempt}"));
            }
            if attempt == former_attempt && !reaches(*former, *state) {
                return Some(format!("attempt {attempt} of a task of {job} goes from {former} to {state}"));
            }
        }
        None
    }
}

/// Whether a state may follow another, with any number between them.
fn reaches(from: ExecutionState, to: ExecutionState) -> bool {
    from == to || from.successors().iter().any(|next| reaches(*next, to))
}

impl World {
    /// The ResourceManager and the jobs agree about slots.
    pub(crate) fn check_slots(&mut self) {
        let manager = &self.job_manager.resource_manager;
        let mut owned = BTreeMap::new();
        for task_manager in manager.task_managers() {
            let id = task_manager.info.id;
            for (index, owner) in (0u32..).zip(manager.owners(&id).unwrap_or_default()) {
                if let Some(owner) = owner {
                    owned.insert(SlotId { task_manager: id.clone(), index }, *owner);
                }
            }
        }
        let masters = &self.job_manager.masters;
        let orphan = owned.iter().find(|(_, job)| !masters.contains_key(job)).map(|(slot, job)| (slot.clone(), *job));
        let agree = owned == self.checks.slots;
        // If each machine has its own loop, the ResourceManager hears of the end of a job later.
        self.check(orphan.is_none() || !self.scenario.in_step, || {
            format!("{orphan:?} is kept for a job that has ended")
        });
        let told = if agree { String::new() } else { format!("{:?}", self.checks.slots) };
        self.check(agree, || format!("the ResourceManager gave {owned:?}, but told {told}"));
    }

    pub(crate) fn status(&self, job: usize) -> Option<JobStatus> {
        self.checks.ended.get(&self.scenario.jobs[job].id).copied()
    }

    pub(crate) fn all_jobs_ended(&self) -> bool {
        self.checks.ended.len() == self.checks.jobs
    }

    pub(crate) fn check_all_jobs_ended(&mut self) {
        for job in 0..self.scenario.jobs.len() {
            let id = self.scenario.jobs[job].id;
            let ended = self.status(job).is_some();
            let status = self.job_manager.masters.get(&id).map(|master| master.summary().status);
            self.check(ended, || format!("{id} has not ended, though it was canceled; it is {status:?}"));
        }
    }

    /// Bounded jobs end without being canceled, if there are slots enough for all.
    pub(crate) fn check_jobs_that_end_by_themselves(&mut self) {
        if !self.is_plentiful() {
            return;
        }
        for job in 0..self.scenario.jobs.len() {
            let scenario = &self.scenario.jobs[job];
            let (id, ended) = (scenario.id, self.status(job).is_some() || !scenario.graph.is_bounded());
            self.check(ended, || format!("{id} has not ended, though nothing goes wrong any more"));
        }
    }

    fn is_plentiful(&self) -> bool {
        let needed = |graph: &weir_model::JobGraph| {
            ExecutionGraph::new(graph).map_or(0, |graph| SlotSharing::of(&graph).slots_needed())
        };
        let all: u32 = self.scenario.jobs.iter().map(|job| needed(&job.graph)).sum();
        let endless = |index: usize| {
            let provider = &self.providers[index];
            provider.scenario.max_workers.is_none() && !provider.is_broken()
        };
        self.scenario.standing_slots() >= all
            || (self.scenario.max_slots.is_none() && (0..self.providers.len()).any(endless))
    }

    pub(crate) fn check_nothing_is_left(&mut self) {
        let view = self.job_manager.resource_manager.view();
        let all_free = view.slots_available == view.slots_total;
        self.check(all_free, || format!("slots are in use when no job runs: {view:?}"));
        let pending = view.pending_task_managers;
        self.check(pending == 0, || format!("{pending} TaskManagers are awaited when no job needs them: {view:?}"));
        let coordinator = self.coordinators.iter().find(|(_, coordinator)| coordinator.alive).map(|(job, _)| *job);
        self.check(coordinator.is_none(), || format!("the coordinator of {coordinator:?} is left"));
        for index in 0..self.task_managers.len() {
            self.reap(index);
            let process = &self.task_managers[index];
            let (id, living) = (process.id.clone(), process.state.is_some());
            let worker = process.workers.values().next().map(|worker| worker.start.deployment);
            self.check(worker.is_none(), || format!("a worker of {worker:?} is left on {id}"));
            let registered = self.job_manager.resource_manager.task_manager(&id).is_some();
            self.check(registered == living, || format!("{id}: process {living}, registered {registered}"));
        }
        for index in 0..self.providers.len() {
            let provider = &self.providers[index];
            let living = |worker: &&super::provider::Worker| match worker.process {
                Some(process) => self.task_managers[process].state.is_some(),
                None => true,
            };
            let (count, min) = (provider.workers.values().filter(living).count(), provider.scenario.min_workers);
            let name = provider.scenario.name.clone();
            let registered = |process: &&super::task_manager::TaskManagerProcess| {
                process.provider == Some(index) && process.state.is_some()
            };
            let (running, registered) =
                (view.providers[index].running, self.task_managers.iter().filter(registered).count());
            self.check(running as usize == registered, || {
                format!("{running} TaskManagers of {name} count as running, {registered} are")
            });
            self.check(count <= min as usize, || {
                format!("provider {name} has {count} TaskManagers when no job runs, {min} at least")
            });
        }
    }
}
