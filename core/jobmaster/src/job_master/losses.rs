//! Workers and TaskManagers that are gone or must go.

use weir_model::{TaskManagerId, ToTaskManager};
use weir_scheduler::{Blame, Event, WorkerTasks};

use super::{JobMaster, Outbox};

impl JobMaster {
    /// A worker process has ended before it was released.
    pub(super) fn on_worker_lost(&mut self, number: u32, worker: u32, reason: &str, blame: Blame, out: &mut Outbox) {
        let Some(deployment) = self.deployments.get(&number) else { return };
        let data = &deployment.workers[worker as usize];
        let (name, task) = (data.name(), data.first_task);
        if deployment.is_deployed() {
            self.leave(number, worker);
            let reason = reason.to_owned();
            self.tell(Event::WorkerLost { deployment: number, worker, name, reason, blame }, out);
        } else {
            // The deployment stays until the scheduler gives it up, which it does at once.
            if let Some(deployment) = self.deployments.get_mut(&number) {
                deployment.leave(worker);
            }
            self.fail_deployment(number, task, format!("{name} could not be started: {reason}"), blame, out);
        }
    }

    pub(super) fn on_task_manager_lost(&mut self, id: &TaskManagerId, reason: &str, out: &mut Outbox) {
        self.slots.lose(id);
        let active =
            |(number, deployment): (&u32, &super::Deployment)| Some((*number, deployment.active_worker_on(id)?));
        let lost: Vec<(u32, u32)> = self.deployments.iter().filter_map(active).collect();
        // The TaskManager may be back already, and an order to start a worker may have gone to the new one: nobody would end it.
        for (number, _) in &lost {
            self.kill(*number, id, "its slots were lost with an earlier connection of the TaskManager".to_owned(), out);
        }
        for (number, worker) in lost {
            // The first of them can have ended the others.
            if self.deployments.get(&number).is_some_and(|deployment| deployment.active_worker_on(id) == Some(worker)) {
                let reason = format!("the TaskManager is gone: {reason}");
                self.on_worker_lost(number, worker, &reason, Blame::Cluster, out);
            }
        }
    }

    /// Ends workers whose tasks did not stop in time.
    pub(super) fn kill_workers(&mut self, workers: &[WorkerTasks], out: &mut Outbox) {
        for WorkerTasks { deployment: number, worker, .. } in workers {
            let Some(deployment) = self.deployments.get(number) else { continue };
            let data = &deployment.workers[*worker as usize];
            let (active, id) = (data.active, data.location.task_manager.clone());
            if active {
                let timeout = self.options.cancellation_timeout.unwrap_or_default();
                let reason = format!("tasks did not stop within {timeout:?} (task.cancellation.timeout)");
                self.kill(*number, &id, reason, out);
                self.leave(*number, *worker);
            }
        }
    }

    pub(super) fn kill(&self, number: u32, id: &TaskManagerId, reason: String, out: &mut Outbox) {
        out.task_manager(id, ToTaskManager::KillWorker { deployment: self.deployment_id(number), reason });
    }
}
