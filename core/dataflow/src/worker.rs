//! A worker: runs its share of a job's tasks, one thread each, and tells the driver what becomes of them.

use std::collections::{BTreeMap, HashMap};
use std::ffi::{CStr, CString};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use weir_checkpoint::TaskSnapshot;
use weir_model::{
    CheckpointAcknowledgement, CheckpointDecline, CheckpointTrigger, ExecutionState, OperatorId, Placement,
};

use crate::fabric::Fabric;
use crate::failure::{self, FailureKind, TaskError, TaskFailure};
use crate::net::Network;
use crate::operators::async_io::AsyncRuntime;
use crate::plan::{JobPlan, TaskContext};
use crate::sink::Committable;
use crate::snapshot::{RestoredTask, Triggers};
use crate::source::SplitAnswer;
use crate::storage::StateStorage;
use crate::task::{Mail, MetricsSnapshot, TaskId, TaskShared};

/// What a worker tells its driver.
#[derive(Debug, Clone, PartialEq)]
pub enum WorkerEvent {
    /// A task changed its state: `Initializing` when its thread starts, `Running`, or a terminal state.
    StateChanged {
        /// The task.
        task: TaskId,
        /// Its new state.
        state: ExecutionState,
        /// Why, when the state is `Failed`.
        failure: Option<TaskFailure>,
        /// What its sinks prepared, when the state is `Finished`.
        committables: Vec<Committable>,
        /// Its metrics as they will stay, when the state is terminal.
        metrics: Option<Box<MetricsSnapshot>>,
    },
    /// A source task wants a split.
    SplitRequested {
        /// The task.
        task: TaskId,
    },
    /// A task's snapshot is durable.
    CheckpointAcknowledged(Box<CheckpointAcknowledgement>),
    /// A task has no part in a checkpoint.
    CheckpointDeclined(Box<CheckpointDecline>),
}

/// Where a worker's events go.
pub trait DriverLink: Send + Sync {
    /// Takes one event; must not wait long, it is called on task threads.
    fn send(&self, event: WorkerEvent);
}

/// Where source tasks ask for splits. The answer comes through [`Worker::answer_split`].
pub(crate) struct Coordinator {
    link: Arc<dyn DriverLink>,
}

impl Coordinator {
    pub(crate) fn request_split(&self, task: TaskId) {
        self.link.send(WorkerEvent::SplitRequested { task });
    }
}

/// What all tasks of a worker share.
pub struct WorkerRuntime {
    plan: Arc<JobPlan>,
    fabric: Fabric,
    coordinator: Coordinator,
    run_id: String,
    attempt: u32,
    storage: Arc<dyn StateStorage>,
    folder: PathBuf,
    restored: BTreeMap<TaskId, RestoredTask>,
    triggers: Triggers,
    async_runtime: AsyncRuntime,
}

impl fmt::Debug for WorkerRuntime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WorkerRuntime({:?}, {:?})", self.plan, self.fabric)
    }
}

impl WorkerRuntime {
    pub(crate) fn plan(&self) -> &JobPlan {
        &self.plan
    }

    pub(crate) fn fabric(&self) -> &Fabric {
        &self.fabric
    }

    pub(crate) fn coordinator(&self) -> &Coordinator {
        &self.coordinator
    }

    pub(crate) fn run_id(&self) -> &str {
        &self.run_id
    }

    pub(crate) fn attempt(&self) -> u32 {
        self.attempt
    }

    pub(crate) fn storage(&self) -> &dyn StateStorage {
        self.storage.as_ref()
    }

    /// For the working files of tasks.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    pub(crate) fn restored(&self, task: TaskId) -> Option<&RestoredTask> {
        self.restored.get(&task)
    }

    pub(crate) fn triggers(&self) -> &Triggers {
        &self.triggers
    }

    /// Where the worker's asynchronous functions run.
    pub(crate) fn async_runtime(&self) -> &AsyncRuntime {
        &self.async_runtime
    }

    /// The operator at the head of the task's chain: what is in flight before it counts as its state.
    pub(crate) fn head_operator(&self, task: TaskId) -> Option<OperatorId> {
        self.plan.graph.vertices[task.vertex as usize].operators.first().map(|operator| operator.id)
    }

    pub(crate) fn report(&self, event: WorkerEvent) {
        self.coordinator.link.send(event);
    }

    pub(crate) fn report_running(&self, task: TaskId) {
        self.report_alive(task, ExecutionState::Running);
    }

    fn report_alive(&self, task: TaskId, state: ExecutionState) {
        let event = WorkerEvent::StateChanged { task, state, failure: None, committables: Vec::new(), metrics: None };
        self.coordinator.link.send(event);
    }

    fn report_end(&self, task: &TaskShared, end: Result<(), TaskError>) {
        let (state, failure, committables) = match end {
            Ok(()) => (ExecutionState::Finished, None, task.take_committables()),
            Err(TaskError::Canceled) => (ExecutionState::Canceled, None, Vec::new()),
            Err(TaskError::Failed(failure)) => (ExecutionState::Failed, Some(*failure), Vec::new()),
        };
        let metrics = Some(Box::new(task.snapshot()));
        self.coordinator.link.send(WorkerEvent::StateChanged {
            task: task.id(),
            state,
            failure,
            committables,
            metrics,
        });
    }
}

/// How a worker is set up.
#[derive(Debug)]
pub struct WorkerSpec {
    /// The job.
    pub plan: Arc<JobPlan>,
    /// Which worker runs what.
    pub placement: Placement,
    /// This worker's index.
    pub index: u32,
    /// The data plane to the other workers, if there are any; already connected.
    pub network: Option<Network>,
    /// Unique to this run of the job.
    pub run_id: String,
    /// Which attempt at its tasks this is, from 0.
    pub attempt: u32,
    /// Where snapshots of state are kept.
    pub storage: Arc<dyn StateStorage>,
    /// For the working files of state that is larger than memory. Made when it is needed; what tasks put into it they remove.
    pub folder: PathBuf,
    /// What tasks begin with; those that are not named begin without state.
    pub restore: BTreeMap<TaskId, TaskSnapshot>,
}

/// The running tasks of one worker.
pub struct Worker {
    runtime: Arc<WorkerRuntime>,
    network: Option<Network>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl fmt::Debug for Worker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Worker({:?})", self.runtime)
    }
}

/// Bytes the kernel keeps of a thread's name.
const LONGEST_SHOWN_NAME: usize = 15;

/// Room for user code that recurses; untouched pages cost nothing.
const STACK_BYTES: usize = 8 * 1024 * 1024;

impl Worker {
    /// Starts every task placed on this worker.
    pub fn start(spec: WorkerSpec, link: Arc<dyn DriverLink>) -> Worker {
        let WorkerSpec { plan, placement, index, network, run_id, attempt, storage, folder, restore } = spec;
        let tasks: HashMap<_, _> = placement.tasks_of(index).map(|id| (id, TaskShared::new(id))).collect();
        let graph = Arc::new(plan.graph.clone());
        let channels = plan.options.channels;
        let fabric = Fabric::new(graph, placement, index, network.clone(), tasks, channels);
        let restored = |(task, snapshot)| {
            let restored = RestoredTask { snapshot: Arc::new(snapshot), storage: storage.clone() };
            (task, restored)
        };
        let restored = restore.into_iter().map(restored).collect();
        let (coordinator, triggers) = (Coordinator { link }, Triggers::default());
        let async_runtime = AsyncRuntime::default();
        let runtime = WorkerRuntime {
            plan,
            fabric,
            coordinator,
            run_id,
            attempt,
            storage,
            folder,
            restored,
            triggers,
            async_runtime,
        };
        let runtime = Arc::new(runtime);
        let worker = Worker { runtime, network, threads: Mutex::default() };
        worker.spawn_tasks();
        worker
    }

    fn spawn_tasks(&self) {
        // Consumers first: their inboxes then exist before the first batch is sent.
        let mut tasks: Vec<_> = self.runtime.fabric.tasks().values().cloned().collect();
        tasks.sort_by_key(|task| std::cmp::Reverse(task.id()));
        for task in tasks {
            let runtime = self.runtime.clone();
            let id = task.id();
            let vertex = &runtime.plan.graph.vertices[id.vertex as usize];
            let name = format!("{} ({}/{})", vertex.name, id.subtask + 1, vertex.parallelism);
            let spawned = thread::Builder::new().name(name).stack_size(STACK_BYTES).spawn({
                let (task, runtime) = (task.clone(), runtime.clone());
                let shown = shown_name(&vertex.name, id.subtask, vertex.parallelism);
                move || {
                    show_thread_as(&shown);
                    run_task(&task, &runtime)
                }
            });
            match spawned {
                Ok(thread) => self.threads.lock().unwrap_or_else(PoisonError::into_inner).push(thread),
                Err(error) => {
                    let message = format!(
                        "no thread could be started for the task ({error}); lower the parallelism or raise the limit of threads (ulimit -u)"
                    );
                    runtime.report_end(&task, Err(TaskError::failed(FailureKind::Job, message)));
                }
            }
        }
    }

    /// Asks every task to stop. Returns at once; the tasks report.
    pub fn cancel(&self) {
        self.runtime.fabric.tasks().values().for_each(|task| task.cancel());
    }

    /// Asks these tasks to stop, as far as they are this worker's. Returns at once; the tasks report.
    pub fn cancel_tasks(&self, tasks: &[TaskId]) {
        let own = self.runtime.fabric.tasks();
        tasks.iter().filter_map(|task| own.get(task)).for_each(|task| task.cancel());
    }

    /// Passes an enumerator's answer on to the task that asked.
    pub fn answer_split(&self, task: TaskId, answer: SplitAnswer) {
        if let Some(task) = self.runtime.fabric.tasks().get(&task) {
            task.post(Mail::Split(answer));
        }
    }

    /// A checkpoint begins; those of these tasks that are this worker's begin its barrier. One that has ended declines.
    pub fn trigger_checkpoint(&self, trigger: CheckpointTrigger, tasks: &[TaskId]) {
        let trigger = Arc::new(trigger);
        let overtakes_at = self.runtime.triggers.add(trigger.clone());
        let own = self.runtime.fabric.tasks();
        for task in tasks.iter().filter_map(|task| own.get(task)) {
            task.post(Mail::TriggerCheckpoint(trigger.clone()));
        }
        if let Some(at) = overtakes_at.filter(|_| !self.runtime.plan.options.at_least_once) {
            own.values().for_each(|task| task.hurry(at));
        }
    }

    /// A checkpoint is complete.
    pub fn checkpoint_completed(&self, checkpoint: u64) {
        self.end_checkpoint(checkpoint, true);
    }

    /// Nothing will become of a checkpoint.
    pub fn checkpoint_aborted(&self, checkpoint: u64) {
        self.end_checkpoint(checkpoint, false);
    }

    fn end_checkpoint(&self, checkpoint: u64, completed: bool) {
        self.runtime.triggers.end(checkpoint, completed);
        let mail = || Mail::CheckpointEnded { checkpoint, completed };
        self.runtime.fabric.tasks().values().for_each(|task| task.post(mail()));
    }

    /// The metrics of every task of this worker, by task.
    pub fn metrics(&self) -> Vec<(TaskId, MetricsSnapshot)> {
        let mut all: Vec<_> = self.runtime.fabric.tasks().iter().map(|(id, task)| (*id, task.snapshot())).collect();
        all.sort_by_key(|(id, _)| *id);
        all
    }

    /// Waits until every task's thread ended, then closes the network once everything is sent.
    pub fn join(&self) {
        let threads = std::mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner));
        for thread in threads {
            // Panics of tasks are caught and reported inside the thread.
            let _ = thread.join();
        }
        if let Some(network) = &self.network {
            network.shutdown(std::time::Duration::from_secs(2));
        }
    }
}

/// What the kernel shows of a thread's name is its first 15 bytes, so the subtask comes first: `2/8 Source: num`.
fn shown_name(vertex: &str, subtask: u32, parallelism: u32) -> CString {
    let full = format!("{}/{parallelism} {vertex}", subtask + 1);
    let end = (0..=LONGEST_SHOWN_NAME.min(full.len())).rev().find(|end| full.is_char_boundary(*end)).unwrap_or(0);
    CString::new(full[..end].replace('\0', " ")).unwrap_or_default()
}

/// Names this thread for the kernel, and so for thread dumps and tools like `top`; panics still tell the full name.
fn show_thread_as(name: &CStr) {
    // SAFETY: the kernel copies the text, which ends with a zero.
    unsafe { libc::prctl(libc::PR_SET_NAME, name.as_ptr(), 0, 0, 0) };
}

fn run_task(task: &Arc<TaskShared>, runtime: &Arc<WorkerRuntime>) {
    task.start_here();
    let id = task.id();
    runtime.report_alive(id, ExecutionState::Initializing);
    let plan = runtime.plan();
    let operator_name = |node: u32| plan.node_names.get(node as usize).cloned().unwrap_or_default();
    let outcome = failure::catch(
        || {
            task.check_canceled()?;
            let body = plan.bodies[id.vertex as usize].instantiate();
            body(&mut TaskContext::new(task.clone(), runtime.clone()))
        },
        operator_name,
    );
    task.stop_clock();
    runtime.report_end(task, outcome);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_of_a_thread_says_which_subtask_it_is() {
        let shown = |vertex: &str| shown_name(vertex, 1, 8).into_string().unwrap();
        assert_eq!(shown("Source: numbers -> map"), "2/8 Source: num");
        assert_eq!(shown("map"), "2/8 map");
        assert_eq!(shown("azählt größe"), "2/8 azählt gr", "no half of a letter");
        let kernel = thread::spawn(move || {
            show_thread_as(&shown_name("Source: numbers", 1, 8));
            std::fs::read_to_string("/proc/thread-self/comm").unwrap()
        });
        assert_eq!(kernel.join().unwrap(), "2/8 Source: num\n");
    }
}
