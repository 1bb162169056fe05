//! A deployment from its schedule until all its worker processes are gone.

use core::net::SocketAddr;
use std::collections::BTreeMap;
use std::sync::Arc;

use weir_model::{Placement, TaskId, TaskManagerId};

use super::checkpoints::Restore;
use super::tasks::Location;

/// A set of tasks that are started together.
#[derive(Debug)]
pub(super) struct Deployment {
    /// By vertex and subtask.
    pub(super) tasks: Vec<TaskId>,
    /// The slots of the job in which they run, ascending.
    pub(super) slots: Vec<u32>,
    pub(super) phase: Phase,
    /// What the tasks begin with; `None`: they start from the beginning.
    pub(super) restore: Option<Arc<Restore>>,
    /// The same, encoded, by worker; from when it can be deployed until it is.
    pub(super) restores: Vec<Vec<(TaskId, Vec<u8>)>>,
    /// Whether the coordinator knows from where the tasks start.
    pub(super) reset: bool,
    /// Whether what they begin with turned out to be unreadable.
    pub(super) unreadable: bool,
    /// None while it waits for slots.
    pub(super) workers: Vec<Worker>,
    by_task_manager: BTreeMap<TaskManagerId, u32>,
    /// Number of workers that have neither ended nor been released.
    active: usize,
    /// Number of workers that have not been ready.
    unready: usize,
}

/// How far it has come.
#[derive(Debug)]
pub(super) enum Phase {
    /// Not all its slots are there.
    WaitingForSlots,
    /// Worker processes are being started.
    Preparing(Placement),
    /// Its tasks were sent to the workers.
    Deployed,
}

/// A worker process.
#[derive(Debug)]
pub(super) struct Worker {
    pub(super) location: Arc<Location>,
    pub(super) first_task: TaskId,
    /// Where the others reach it; known once it is ready.
    pub(super) data_address: Option<SocketAddr>,
    /// Number of its tasks that have not ended.
    pub(super) remaining: u32,
    /// Whether it is still of interest: neither ended, nor killed, nor released.
    pub(super) active: bool,
}

impl Worker {
    /// The worker as people know it.
    pub(super) fn name(&self) -> String {
        format!("the worker process on TaskManager {} ({})", self.location.task_manager, self.location.host)
    }
}

impl Deployment {
    pub(super) fn new(tasks: Vec<TaskId>, slots: Vec<u32>, restore: Option<Arc<Restore>>, reset: bool) -> Self {
        Self {
            tasks,
            slots,
            phase: Phase::WaitingForSlots,
            restore,
            restores: Vec::new(),
            reset,
            unreadable: false,
            workers: Vec::new(),
            by_task_manager: BTreeMap::new(),
            active: 0,
            unready: 0,
        }
    }

    /// Has its workers started.
    pub(super) fn prepare(&mut self, placement: Placement, workers: Vec<Worker>) {
        let id = |(number, worker): (u32, &Worker)| (worker.location.task_manager.clone(), number);
        self.by_task_manager = (0u32..).zip(&workers).map(id).collect();
        self.active = workers.len();
        self.unready = workers.len();
        self.workers = workers;
        self.phase = Phase::Preparing(placement);
    }

    pub(super) fn worker_is_ready(&mut self, worker: u32, data_address: SocketAddr) {
        if self.workers[worker as usize].data_address.replace(data_address).is_none() {
            self.unready -= 1;
        }
    }

    pub(super) fn is_waiting(&self) -> bool {
        matches!(self.phase, Phase::WaitingForSlots)
    }

    pub(super) fn is_deployed(&self) -> bool {
        matches!(self.phase, Phase::Deployed)
    }

    /// Whether nothing but the coordinator keeps it from being deployed.
    pub(super) fn workers_are_ready(&self) -> bool {
        matches!(self.phase, Phase::Preparing(_)) && self.unready == 0 && self.active == self.workers.len()
    }

    /// The worker a TaskManager runs for it, unless it is gone.
    pub(super) fn active_worker_on(&self, id: &TaskManagerId) -> Option<u32> {
        let worker = *self.by_task_manager.get(id)?;
        self.workers[worker as usize].active.then_some(worker)
    }

    /// Loses interest in a worker. Whether that was the last one.
    pub(super) fn leave(&mut self, worker: u32) -> bool {
        let worker = &mut self.workers[worker as usize];
        if std::mem::replace(&mut worker.active, false) {
            self.active -= 1;
        }
        self.active == 0
    }
}
