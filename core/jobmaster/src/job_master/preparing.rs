//! From slots to running tasks: worker processes are started, and when all are ready, they get their tasks.

use core::net::SocketAddr;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use weir_model::{
    DeploymentPlan, FailureKind, Placement, SlotId, StartWorker, TaskFailure, TaskId, TaskManagerId, ToTaskManager,
};
use weir_scheduler::{Blame, Event, WorkerTasks};

use super::deployment::{Deployment, Phase, Worker};
use super::tasks::Location;
use super::timers::Timer;
use super::{JobMaster, Outbox};

/// How much state tasks of one worker can begin with that lies in messages and not in files: what a message can bear, with room for what
/// else is in it.
const MAX_RESTORE_BYTES: usize = 60 << 20;

/// Where the slots of a deployment are: one worker for each TaskManager.
struct Places {
    /// Worker by slot of the job.
    worker_of: BTreeMap<u32, u32>,
    /// Host and slots by worker; the TaskManagers are in the order in which the job's slots mention them.
    workers: Vec<(Arc<Location>, Vec<u32>)>,
}

impl JobMaster {
    /// Starts the workers of a deployment whose slots have places.
    pub(super) fn prepare(&mut self, number: u32, out: &mut Outbox) {
        let Some(deployment) = self.deployments.get(&number) else { return };
        let places = self.find_places(&deployment.slots);
        let Some(deployment) = self.deployments.get_mut(&number) else { return };
        let vertices = self.scheduler.graph().vertices().iter();
        let absent = vertices.map(|vertex| vec![Placement::ABSENT; vertex.key_groups.parallelism as usize]);
        let mut by_vertex: Vec<_> = absent.collect();
        let mut tasks: Vec<(Option<TaskId>, u32)> = vec![(None, 0); places.workers.len()];
        for &task in &deployment.tasks {
            let worker = places.worker_of[&self.sharing.slot_of(task)];
            by_vertex[task.vertex as usize][task.subtask as usize] = worker;
            let (first, count) = &mut tasks[worker as usize];
            first.get_or_insert(task);
            *count += 1;
            let location = places.workers[worker as usize].0.clone();
            self.tasks.place(self.scheduler.graph().index_of(task), worker, location);
        }
        let workers = places.workers.iter().zip(&tasks).map(|((location, _), (first, count))| Worker {
            location: location.clone(),
            first_task: first.expect("a worker's slots are those of its tasks"),
            data_address: None,
            remaining: *count,
            active: true,
        });
        deployment.prepare(Placement::new(places.workers.len() as u32, by_vertex), workers.collect());
        self.start_workers(number, places.workers, out);
    }

    fn find_places(&self, slots: &[u32]) -> Places {
        let mut places = Places { worker_of: BTreeMap::new(), workers: Vec::new() };
        let mut numbers: BTreeMap<&TaskManagerId, u32> = BTreeMap::new();
        for &slot in slots {
            let SlotId { task_manager, index } = self.slots.place_of(slot).expect("the slot was placed");
            let worker = *numbers.entry(task_manager).or_insert_with(|| {
                let host = self.slots.host_of(task_manager);
                places.workers.push((Arc::new(Location { task_manager: task_manager.clone(), host }), Vec::new()));
                places.workers.len() as u32 - 1
            });
            places.worker_of.insert(slot, worker);
            places.workers[worker as usize].1.push(*index);
        }
        places
    }

    fn start_workers(&mut self, number: u32, workers: Vec<(Arc<Location>, Vec<u32>)>, out: &mut Outbox) {
        let timeout = self.options.worker_start_timeout;
        for (worker, (location, mut slots)) in (0u32..).zip(workers) {
            slots.sort_unstable();
            let start = StartWorker {
                deployment: self.deployment_id(number),
                worker,
                launch: self.spec.launch.clone(),
                slots,
                job_graph_hash: self.spec.job_graph_hash,
                start_timeout_millis: timeout.as_millis() as u64,
            };
            out.task_manager(&location.task_manager, ToTaskManager::StartWorker(start));
        }
        // The TaskManagers watch the time themselves and can say more about it, so they go first.
        let patience = timeout.saturating_add((timeout / 4).min(Duration::from_secs(5)));
        self.timers.set(Timer::Workers { deployment: number }, out.now.saturating_add(patience), out);
    }

    pub(super) fn on_worker_ready(&mut self, number: u32, worker: u32, data_address: SocketAddr, out: &mut Outbox) {
        let Some(deployment) = self.deployments.get_mut(&number) else { return };
        if let Phase::Preparing(_) = deployment.phase {
            deployment.worker_is_ready(worker, data_address);
            self.deploy_if_ready(number, out);
        }
    }

    pub(super) fn on_worker_timeout(&mut self, number: u32, out: &mut Outbox) {
        let Some(deployment) = self.deployments.get(&number) else { return };
        if deployment.is_waiting() || deployment.is_deployed() {
            return;
        }
        let late: Vec<&Worker> = deployment.workers.iter().filter(|worker| worker.data_address.is_none()).collect();
        // If none is late, the coordinator is what is awaited; it answers or is lost.
        let Some(first) = late.first() else { return };
        let others = match late.len() {
            1 => String::new(),
            n => format!(" and {} others", n - 1),
        };
        let message = format!("{}{others} was not ready within {:?}", first.name(), self.options.worker_start_timeout);
        self.fail_deployment(number, first.first_task, message, Blame::Job, out);
    }

    /// One of a deployment's workers cannot be had, so the deployment cannot.
    pub(super) fn fail_deployment(
        &mut self,
        number: u32,
        task: TaskId,
        message: String,
        blame: Blame,
        out: &mut Outbox,
    ) {
        let failure = TaskFailure::new(FailureKind::Worker, message);
        self.tell(Event::DeploymentFailed { deployment: number, task: Some(task), failure, blame }, out);
    }

    pub(super) fn deploy_what_is_ready(&mut self, out: &mut Outbox) {
        for number in self.deployments.keys().copied().collect::<Vec<_>>() {
            self.deploy_if_ready(number, out);
        }
    }

    /// Lets a deployment's tasks run if its workers and the coordinator are ready.
    pub(super) fn deploy_if_ready(&mut self, number: u32, out: &mut Outbox) {
        let Some(deployment) = self.deployments.get(&number) else { return };
        if !(self.coordinator.is_open() && deployment.reset && deployment.workers_are_ready()) {
            return;
        }
        let Phase::Preparing(placement) = &deployment.phase else { return };
        let restores = self.restores(deployment, placement);
        let sizes = restores.iter().map(|tasks| tasks.iter().map(|(_, snapshot)| snapshot.len()).sum::<usize>());
        let too_large = deployment.workers.iter().zip(sizes).find(|(_, bytes)| *bytes > MAX_RESTORE_BYTES);
        if let Some((worker, bytes)) = too_large {
            let message = format!(
                "{} would begin with {bytes} bytes of state in one message, more than the {MAX_RESTORE_BYTES} that fit; with \
                 `execution.checkpointing.dir` set, state is kept in files",
                worker.name()
            );
            return self.tell(Event::FatalFailure(TaskFailure::new(FailureKind::State, message)), out);
        }
        let placement = placement.clone();
        if let Some(deployment) = self.deployments.get_mut(&number) {
            deployment.restores = restores;
        }
        self.tell(Event::Placed { deployment: number, placement }, out);
    }

    /// What each worker's tasks begin with.
    fn restores(&self, deployment: &Deployment, placement: &Placement) -> Vec<Vec<(TaskId, Vec<u8>)>> {
        let Some(restore) = &deployment.restore else { return vec![Vec::new(); deployment.workers.len()] };
        let snapshot = |task| (task, restore.of_task(self.scheduler.graph().index_of(task)));
        (0..deployment.workers.len() as u32).map(|worker| placement.tasks_of(worker).map(snapshot).collect()).collect()
    }

    /// Sends each worker of a deployment what is to run where.
    pub(super) fn deploy(&mut self, workers: &[WorkerTasks], out: &mut Outbox) {
        let Some(number) = workers.first().map(|worker| worker.deployment) else { return };
        let id = self.deployment_id(number);
        let run_id = self.run_id();
        let Some(deployment) = self.deployments.get_mut(&number) else { return };
        let Phase::Preparing(placement) = std::mem::replace(&mut deployment.phase, Phase::Deployed) else { return };
        let mut restores = std::mem::take(&mut deployment.restores);
        let plan = Arc::new(DeploymentPlan {
            deployment: id,
            job_graph_hash: self.spec.job_graph_hash,
            run_id,
            peers: deployment.workers.iter().filter_map(|worker| worker.data_address).collect(),
            placement,
        });
        for (worker, data) in (0u32..).zip(&deployment.workers) {
            let restore = std::mem::take(&mut restores[worker as usize]);
            let message = ToTaskManager::Deploy { plan: plan.clone(), worker, restore };
            out.task_manager(&data.location.task_manager, message);
        }
    }
}
