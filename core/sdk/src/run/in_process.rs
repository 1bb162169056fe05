//! The backend of a run without worker processes: all tasks in this one.

use std::sync::mpsc::Sender;
use std::sync::{Arc, OnceLock};

use weir_dataflow::plan::JobPlan;
use weir_dataflow::source::SplitAnswer;
use weir_dataflow::task::MetricsSnapshot;
use weir_dataflow::worker::{DriverLink, Worker, WorkerEvent, WorkerSpec};
use weir_model::{Placement, TaskFailure, TaskId};

use super::backend::{Backend, Usage};
use super::coordinator::SplitOrder;
use super::driver::DriverEvent;
use super::usage;

/// Sends a worker's events to the driver, and its split requests straight to the enumerators.
pub(super) struct Link {
    pub(super) events: Sender<DriverEvent>,
    pub(super) splits: Sender<SplitOrder>,
}

impl DriverLink for Link {
    fn send(&self, event: WorkerEvent) {
        // A driver that is gone has already decided how the job ends.
        let _ = match event {
            WorkerEvent::SplitRequested { task } => self.splits.send(SplitOrder::Next(task)).map_err(drop),
            event => self.events.send(DriverEvent::Worker(event)).map_err(drop),
        };
    }
}

/// Runs all tasks in this process.
pub(super) struct InProcess {
    plan: Arc<JobPlan>,
    run_id: String,
    link: Arc<Link>,
    worker: OnceLock<Worker>,
}

impl InProcess {
    pub(super) fn new(
        plan: Arc<JobPlan>,
        run_id: &str,
        events: Sender<DriverEvent>,
        splits: Sender<SplitOrder>,
    ) -> InProcess {
        let link = Arc::new(Link { events, splits });
        InProcess { plan, run_id: run_id.to_owned(), link, worker: OnceLock::new() }
    }
}

impl Backend for InProcess {
    fn deploy(&self, placement: &Placement) -> Result<(), TaskFailure> {
        self.worker.get_or_init(|| {
            let spec = WorkerSpec {
                placement: placement.clone(),
                plan: self.plan.clone(),
                index: 0,
                network: None,
                run_id: self.run_id.clone(),
                attempt: 0,
            };
            Worker::start(spec, self.link.clone())
        });
        Ok(())
    }

    fn cancel(&self) {
        if let Some(worker) = self.worker.get() {
            worker.cancel();
        }
    }

    fn kill(&self, _workers: &[u32]) {
        // Threads cannot be ended by force; the driver reports the stuck tasks and the process ends.
    }

    fn answer_split(&self, task: TaskId, answer: SplitAnswer) {
        // The first tasks ask while the last ones are still being started: their answer must not get lost.
        self.worker.wait().answer_split(task, answer);
    }

    fn metrics(&self) -> Vec<(TaskId, MetricsSnapshot)> {
        self.worker.get().map(Worker::metrics).unwrap_or_default()
    }

    fn usage(&self) -> Usage {
        Usage { cpu: usage::cpu_time(), peak_rss: usage::peak_resident_bytes() }
    }

    fn finish(&self) {
        if let Some(worker) = self.worker.get() {
            worker.join();
        }
    }
}
