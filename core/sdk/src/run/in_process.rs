//! The backend of a run without worker processes: all tasks in this one.

use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use weir_dataflow::plan::JobPlan;
use weir_dataflow::source::SplitAnswer;
use weir_dataflow::storage::LocalFiles;
use weir_dataflow::task::MetricsSnapshot;
use weir_dataflow::worker::{DriverLink, Worker, WorkerEvent, WorkerSpec};
use weir_model::{CheckpointTrigger, TaskFailure, TaskId};

use super::backend::{Backend, Deployment, Usage};
use super::coordinator::SplitOrder;
use super::driver::DriverEvent;
use super::processes::working_folder;
use super::usage;

/// Sends a worker's events to the driver, and its split requests straight to the enumerators.
struct Link {
    deployment: u32,
    events: Sender<DriverEvent>,
    splits: Sender<SplitOrder>,
}

impl DriverLink for Link {
    fn send(&self, event: WorkerEvent) {
        // A driver that is gone has already decided how the job ends.
        let _ = match event {
            WorkerEvent::SplitRequested { task } => self.splits.send(SplitOrder::Next(task)).map_err(drop),
            event => {
                let deployment = self.deployment;
                self.events.send(DriverEvent::Worker { deployment, event }).map_err(drop)
            }
        };
    }
}

/// Runs all tasks in this process.
pub(super) struct InProcess {
    plan: Arc<JobPlan>,
    run_id: String,
    events: Sender<DriverEvent>,
    splits: Sender<SplitOrder>,
    worker: Mutex<Option<Arc<Worker>>>,
}

impl InProcess {
    pub(super) fn new(
        plan: Arc<JobPlan>,
        run_id: &str,
        events: Sender<DriverEvent>,
        splits: Sender<SplitOrder>,
    ) -> InProcess {
        InProcess { plan, run_id: run_id.to_owned(), events, splits, worker: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Arc<Worker>>> {
        self.worker.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn worker(&self) -> Option<Arc<Worker>> {
        self.lock().clone()
    }
}

impl Backend for InProcess {
    fn deploy(&self, deployment: Deployment) -> Result<(), TaskFailure> {
        let Deployment { number, placement, restore } = deployment;
        let link = Link { deployment: number, events: self.events.clone(), splits: self.splits.clone() };
        let spec = WorkerSpec {
            placement,
            plan: self.plan.clone(),
            index: 0,
            network: None,
            run_id: self.run_id.clone(),
            attempt: number,
            storage: Arc::new(LocalFiles),
            folder: working_folder(&self.run_id),
            restore,
        };
        // Locked while it starts: the first tasks ask for splits before the last ones are there, and their answers must not get lost.
        let mut worker = self.lock();
        *worker = Some(Arc::new(Worker::start(spec, Arc::new(link))));
        Ok(())
    }

    fn restarts(&self) -> bool {
        true
    }

    fn trigger_checkpoint(&self, trigger: &CheckpointTrigger, tasks: &[TaskId]) {
        if let Some(worker) = self.worker() {
            worker.trigger_checkpoint(trigger.clone(), tasks);
        }
    }

    fn checkpoint_completed(&self, checkpoint: u64) {
        if let Some(worker) = self.worker() {
            worker.checkpoint_completed(checkpoint);
        }
    }

    fn checkpoint_aborted(&self, checkpoint: u64) {
        if let Some(worker) = self.worker() {
            worker.checkpoint_aborted(checkpoint);
        }
    }

    fn cancel(&self) {
        if let Some(worker) = self.worker() {
            worker.cancel();
        }
    }

    fn kill(&self, _workers: &[u32]) {
        // Threads cannot be ended by force; the driver reports the stuck tasks and the process ends.
    }

    fn answer_split(&self, task: TaskId, answer: SplitAnswer) {
        if let Some(worker) = self.worker() {
            worker.answer_split(task, answer);
        }
    }

    fn metrics(&self) -> Vec<(TaskId, MetricsSnapshot)> {
        self.worker().map(|worker| worker.metrics()).unwrap_or_default()
    }

    fn usage(&self) -> Usage {
        Usage { cpu: usage::cpu_time(), peak_rss: usage::peak_resident_bytes() }
    }

    fn finish(&self) {
        if let Some(worker) = self.worker() {
            worker.join();
        }
    }
}
