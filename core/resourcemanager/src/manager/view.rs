//! What the ResourceManager shows of itself.

use weir_model::{JobId, ProviderView, ResourcesView, TaskManagerId, TaskManagerInfo};

use crate::manager::ResourceManager;
use crate::slots::TaskManager;
use crate::workers::Phase;

/// The slots of a registered TaskManager.
#[derive(Debug, Clone, PartialEq)]
pub struct TaskManagerSlots {
    /// What it said when it registered.
    pub info: TaskManagerInfo,
    /// Free slots that may be given to jobs.
    pub free: u32,
    /// Slots by job.
    pub allocated: Vec<(JobId, u32)>,
    /// The provider that started it, if one did.
    pub provider: Option<String>,
}

impl ResourceManager {
    /// The cluster in numbers.
    pub fn view(&self) -> ResourcesView {
        let providers = self.workers.providers.iter().map(|provider| ProviderView {
            name: provider.name.clone(),
            pending: provider.counts.pending(),
            running: provider.counts.of(Phase::Registered),
            max_workers: provider.max_workers,
            last_failure: provider.last_failure.clone(),
        });
        ResourcesView {
            task_managers: self.slots.len() as u32,
            pending_task_managers: self.workers.pending(),
            slots_total: self.slots.total(),
            slots_available: self.slots.free(),
            providers: providers.collect(),
        }
    }

    /// A registered TaskManager.
    pub fn task_manager(&self, id: &TaskManagerId) -> Option<TaskManagerSlots> {
        self.slots.get(id).map(|task_manager| self.slots_of(task_manager))
    }

    /// All registered TaskManagers, by name.
    pub fn task_managers(&self) -> impl Iterator<Item = TaskManagerSlots> {
        self.slots.iter().map(|task_manager| self.slots_of(task_manager))
    }

    /// The job that has each slot of a registered TaskManager.
    pub fn owners(&self, id: &TaskManagerId) -> Option<&[Option<JobId>]> {
        self.slots.get(id).map(|task_manager| task_manager.owners.as_slice())
    }

    fn slots_of(&self, task_manager: &TaskManager) -> TaskManagerSlots {
        let worker = self.workers.get(&task_manager.info.id);
        TaskManagerSlots {
            info: task_manager.info.clone(),
            free: task_manager.free(),
            allocated: task_manager.jobs().into_iter().collect(),
            provider: worker.map(|worker| self.workers.providers[worker.provider].name.clone()),
        }
    }
}
