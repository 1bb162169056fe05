//! Registered TaskManagers and who has which of their slots.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use weir_model::{JobId, SlotGrant, SlotId, TaskManagerId, TaskManagerInfo};

/// All slots of the cluster.
#[derive(Debug, Clone)]
pub(crate) struct SlotTable {
    spread: bool,
    task_managers: BTreeMap<TaskManagerId, TaskManager>,
    /// Those with free slots to give, best first.
    candidates: BTreeSet<Candidate>,
    free: u32,
    total: u32,
    draining: u32,
}

/// A registered TaskManager.
#[derive(Debug, Clone)]
pub(crate) struct TaskManager {
    pub(crate) info: TaskManagerInfo,
    /// The job that has each slot.
    pub(crate) owners: Vec<Option<JobId>>,
    pub(crate) used: u32,
    /// Whether no new slots are given here, because it will be taken away.
    pub(crate) draining: bool,
    /// Since when no slot is used, if none is.
    pub(crate) idle_since: Option<Duration>,
    /// Whether a provider started it.
    provided: bool,
}

/// Ordered by preference: load first; then those that stay anyway, because nobody stops them when they are idle.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Candidate {
    load: u32,
    provided: bool,
    id: TaskManagerId,
}

impl TaskManager {
    pub(crate) fn slots(&self) -> u32 {
        self.owners.len() as u32
    }

    /// Free slots that may be given.
    pub(crate) fn free(&self) -> u32 {
        if self.draining { 0 } else { self.slots() - self.used }
    }

    /// The jobs that have slots here, each with their number.
    pub(crate) fn jobs(&self) -> BTreeMap<JobId, u32> {
        let mut jobs = BTreeMap::new();
        for job in self.owners.iter().flatten() {
            *jobs.entry(*job).or_default() += 1;
        }
        jobs
    }

    fn candidate(&self, spread: bool) -> Option<Candidate> {
        const FULL: u64 = 1 << 16;
        if self.free() == 0 {
            return None;
        }
        let load = (u64::from(self.used) * FULL / u64::from(self.slots())) as u32;
        let load = if spread { load } else { FULL as u32 - load };
        Some(Candidate { load, provided: self.provided, id: self.info.id.clone() })
    }
}

impl SlotTable {
    pub(crate) fn new(spread: bool) -> Self {
        Self { spread, task_managers: BTreeMap::new(), candidates: BTreeSet::new(), free: 0, total: 0, draining: 0 }
    }

    /// Free slots that may be given.
    pub(crate) fn free(&self) -> u32 {
        self.free
    }

    /// Slots of all registered TaskManagers.
    pub(crate) fn total(&self) -> u32 {
        self.total
    }

    /// Slots of TaskManagers that will not be taken away.
    pub(crate) fn lasting(&self) -> u32 {
        self.total - self.draining
    }

    pub(crate) fn get(&self, id: &TaskManagerId) -> Option<&TaskManager> {
        self.task_managers.get(id)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &TaskManager> {
        self.task_managers.values()
    }

    pub(crate) fn len(&self) -> usize {
        self.task_managers.len()
    }

    /// Adds a TaskManager, which must not be there.
    pub(crate) fn insert(&mut self, info: TaskManagerInfo, provided: bool, now: Duration) {
        let id = info.id.clone();
        let task_manager = TaskManager {
            owners: vec![None; info.slots as usize],
            used: 0,
            draining: false,
            idle_since: Some(now),
            provided,
            info,
        };
        self.add_up(&task_manager);
        self.task_managers.insert(id, task_manager);
    }

    pub(crate) fn remove(&mut self, id: &TaskManagerId) -> Option<TaskManager> {
        let task_manager = self.task_managers.remove(id)?;
        self.take_off(&task_manager);
        Some(task_manager)
    }

    /// Changes a TaskManager and keeps sums and candidates right.
    fn change<T>(&mut self, id: &TaskManagerId, change: impl FnOnce(&mut TaskManager) -> T) -> Option<T> {
        let mut task_manager = self.remove(id)?;
        let result = change(&mut task_manager);
        self.add_up(&task_manager);
        self.task_managers.insert(id.clone(), task_manager);
        Some(result)
    }

    fn add_up(&mut self, task_manager: &TaskManager) {
        self.candidates.extend(task_manager.candidate(self.spread));
        self.total += task_manager.slots();
        self.free += task_manager.free();
        self.draining += if task_manager.draining { task_manager.slots() } else { 0 };
    }

    fn take_off(&mut self, task_manager: &TaskManager) {
        if let Some(candidate) = task_manager.candidate(self.spread) {
            self.candidates.remove(&candidate);
        }
        self.total -= task_manager.slots();
        self.free -= task_manager.free();
        self.draining -= if task_manager.draining { task_manager.slots() } else { 0 };
    }

    /// Gives nothing more from this TaskManager.
    pub(crate) fn drain(&mut self, id: &TaskManagerId) {
        self.change(id, |task_manager| task_manager.draining = true);
    }

    /// A provider turns out to have started this one.
    pub(crate) fn set_provided(&mut self, id: &TaskManagerId) {
        self.change(id, |task_manager| task_manager.provided = true);
    }

    /// Gives `count` slots to a job: one after the other from the TaskManager that is the best then. There must be as many.
    pub(crate) fn take(&mut self, job: JobId, count: u32) -> Vec<SlotGrant> {
        debug_assert!(count <= self.free, "{count} of {} slots", self.free);
        let mut grants = Vec::with_capacity(count as usize);
        for _ in 0..count {
            let Some(id) = self.candidates.first().map(|candidate| candidate.id.clone()) else { break };
            grants.extend(self.change(&id, |task_manager| task_manager.take_one(job)).flatten());
        }
        grants
    }

    /// Takes a slot back, if the job has it. Whether the TaskManager has become idle by that.
    pub(crate) fn give_back(&mut self, slot: &SlotId, job: JobId, now: Duration) -> bool {
        let change = |task_manager: &mut TaskManager| task_manager.give_back(slot.index, job, now);
        self.change(&slot.task_manager, change).unwrap_or(false)
    }
}

impl TaskManager {
    fn take_one(&mut self, job: JobId) -> Option<SlotGrant> {
        let index = self.owners.iter().position(Option::is_none)?;
        self.owners[index] = Some(job);
        self.used += 1;
        self.idle_since = None;
        let slot = SlotId { task_manager: self.info.id.clone(), index: index as u32 };
        Some(SlotGrant { slot, host: self.info.host.clone() })
    }

    fn give_back(&mut self, index: u32, job: JobId, now: Duration) -> bool {
        let Some(owner) = self.owners.get_mut(index as usize).filter(|owner| **owner == Some(job)) else {
            return false;
        };
        *owner = None;
        self.used -= 1;
        if self.used == 0 {
            self.idle_since = Some(now);
        }
        self.used == 0
    }
}
