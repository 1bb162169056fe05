//! A JobMaster's loop: owns the machine of one job and its coordinator, and performs what the machine decides.
//!
//! Each job has a task of its own. A bug in one ends that job; the others go on.

mod crashed;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::task::JoinHandle;
use weir_checkpoint::StopMode;
use weir_dispatcher::{Event as DispatcherEvent, JobRecord};
use weir_jobmaster::{FromCoordinator, JobMaster, JobMasterEffect, JobMasterEvent, JobReport, ToCoordinator};
use weir_model::{DeploymentId, DeploymentPlan, FromTaskManager, JobId, JobView, TaskManagerId, ToTaskManager};
use weir_proto::control::{ForTaskManager, encode_plan};
use weir_storage::ArtifactPin;

use crate::checkpoint_storage::{CheckpointStorage, Done, directory_uri};
use crate::coordinator::{Built, Coordinator, CoordinatorSpec, StartError};
use crate::dispatcher::DispatcherMessage;
use crate::jobs::{JobMessage, RequestAnswer};
use crate::shared::Shared;
use crate::timers::Timers;

/// A job that was built and is ready to run.
#[derive(Debug)]
pub(crate) struct PlannedJob {
    pub(crate) record: Arc<JobRecord>,
    pub(crate) machine: JobMaster,
    pub(crate) job_graph_hash: u64,
    pub(crate) coordinator: Coordinator,
    pub(crate) coordinator_spec: CoordinatorSpec,
    /// Keeps the executable in the store as long as the job runs.
    pub(crate) pin: ArtifactPin,
}

/// Workers that TaskManagers were told to start, and that are not known to have ended.
type Workers = Arc<Mutex<BTreeSet<(TaskManagerId, DeploymentId)>>>;

/// Starts the loop of a job. From here on the job ends by itself: its last view goes to the Dispatcher.
pub(crate) fn start(shared: &Arc<Shared>, planned: PlannedJob) {
    let (id, record) = (planned.record.id, planned.record.clone());
    let workers = Workers::default();
    let (sender, messages) = unbounded_channel();
    let job_loop = JobLoop::new(shared, planned, messages, workers.clone());
    shared.jobs.insert(id, sender);
    let shared = shared.clone();
    tokio::spawn(async move {
        let ended = tokio::spawn(job_loop.run()).await;
        if let Err(error) = ended
            && let Ok(panic) = error.try_into_panic()
        {
            crashed::end(&shared, &record, &workers, &crashed::message(panic.as_ref()));
        }
    });
}

struct JobLoop {
    shared: Arc<Shared>,
    id: JobId,
    machine: JobMaster,
    messages: UnboundedReceiver<JobMessage>,
    timers: Timers,
    coordinator: Option<Coordinator>,
    coordinator_spec: CoordinatorSpec,
    /// A coordinator being started in the place of one that was lost.
    restart: Option<JoinHandle<Result<(Built, Coordinator), StartError>>>,
    job_graph_hash: u64,
    /// The plan of the deployment under way, encoded once for all its TaskManagers.
    plan: Option<(Arc<DeploymentPlan>, Bytes)>,
    workers: Workers,
    storage: CheckpointStorage,
    /// Who waits for checkpoints and savepoints.
    requests: BTreeMap<u64, RequestAnswer>,
    last_request: u64,
    report: Option<Box<JobReport>>,
    /// Keeps the executable in the store.
    pin: ArtifactPin,
}

/// Something the loop waits for.
enum Happening {
    Message(JobMessage),
    Coordinator(FromCoordinator),
    Restarted(Result<(Built, Coordinator), StartError>),
    Stored(Done),
    Timer(u64),
}

impl JobLoop {
    fn new(
        shared: &Arc<Shared>,
        planned: PlannedJob,
        messages: UnboundedReceiver<JobMessage>,
        workers: Workers,
    ) -> JobLoop {
        let PlannedJob { record, machine, job_graph_hash, coordinator, coordinator_spec, pin } = planned;
        JobLoop {
            shared: shared.clone(),
            id: record.id,
            machine,
            messages,
            timers: Timers::default(),
            coordinator: Some(coordinator),
            coordinator_spec,
            restart: None,
            job_graph_hash,
            plan: None,
            workers,
            storage: CheckpointStorage::new(&shared.last_work),
            requests: BTreeMap::new(),
            last_request: 0,
            report: None,
            pin,
        }
    }

    async fn run(mut self) {
        self.on_event(JobMasterEvent::Start);
        while self.report.is_none() {
            match self.next().await {
                Happening::Message(message) => self.on_message(message),
                Happening::Coordinator(message) => self.on_coordinator(message),
                Happening::Restarted(result) => self.on_restarted(result),
                Happening::Stored(Done::Written { checkpoint, result }) => {
                    self.on_event(JobMasterEvent::MetadataWritten { checkpoint, result })
                }
                Happening::Stored(Done::Removed { removal, result }) => {
                    self.on_event(JobMasterEvent::Removed { removal, result })
                }
                Happening::Timer(id) => self.on_event(JobMasterEvent::Timer { id }),
            }
        }
        self.end();
    }

    async fn next(&mut self) -> Happening {
        let clock = self.shared.clock;
        tokio::select! {
            Some(message) = self.messages.recv() => Happening::Message(message),
            message = next_of(&mut self.coordinator) => Happening::Coordinator(message),
            result = restarted(&mut self.restart) => Happening::Restarted(result),
            done = self.storage.next() => Happening::Stored(done),
            id = self.timers.next(&clock) => Happening::Timer(id),
        }
    }

    fn on_message(&mut self, message: JobMessage) {
        // Whoever asked may have gone away meanwhile.
        match message {
            JobMessage::Event(event) => self.on_event(event),
            JobMessage::Summary(answer) => drop(answer.send(self.machine.summary())),
            JobMessage::View(answer) => drop(answer.send(Arc::new(self.machine.view()))),
            JobMessage::Checkpoints(answer) => drop(answer.send(self.machine.checkpoints())),
            JobMessage::DeclaredState(answer) => drop(answer.send(self.machine.declared_state())),
            JobMessage::TriggerCheckpoint { full, answer } => {
                let request = self.remember(answer);
                self.on_event(JobMasterEvent::TriggerCheckpoint { request, full });
            }
            JobMessage::SetRequirements { bounds, answer } => {
                let result = self.machine.set_requirements(&bounds, self.shared.clock.now());
                let _ = answer.send(result.map(|effects| {
                    tracing::info!(job_id = %self.id, ?bounds, "a job has new resource requirements");
                    effects.into_iter().for_each(|effect| self.perform(effect));
                }));
            }
            JobMessage::TriggerSavepoint { directory, stop, answer } => self.trigger_savepoint(directory, stop, answer),
            #[cfg(test)]
            JobMessage::Panic => panic!("asked to"),
        }
    }

    fn remember(&mut self, answer: RequestAnswer) -> u64 {
        self.last_request += 1;
        self.requests.insert(self.last_request, answer);
        self.last_request
    }

    fn trigger_savepoint(&mut self, directory: Option<String>, stop: Option<StopMode>, answer: RequestAnswer) {
        match directory.as_deref().map(directory_uri).transpose() {
            Ok(directory) => {
                let request = self.remember(answer);
                self.on_event(JobMasterEvent::TriggerSavepoint { request, directory, stop });
            }
            Err(error) => drop(answer.send(Err(format!("no savepoint can be taken: {error}")))),
        }
    }

    fn on_coordinator(&mut self, message: FromCoordinator) {
        if let FromCoordinator::Lost { reason } = &message {
            tracing::warn!(job_id = %self.id, reason, "lost the coordinator of a job");
            self.coordinator = None;
        }
        self.on_event(JobMasterEvent::Coordinator(message));
    }

    fn on_restarted(&mut self, result: Result<(Built, Coordinator), StartError>) {
        let message = match result {
            Ok((built, coordinator)) if built.hash == self.job_graph_hash => {
                tracing::info!(job_id = %self.id, pid = coordinator.pid(), "a job has a new coordinator");
                self.coordinator = Some(coordinator);
                FromCoordinator::Started
            }
            Ok((built, _)) => FromCoordinator::Lost {
                reason: format!(
                    "the job's process was started again and built another job graph (hash {:016x}) than before ({:016x}): the job's builder is \
                     not deterministic. Look for random numbers, clocks, hash map iteration, environment variables or files that change in \
                     the job's function",
                    built.hash, self.job_graph_hash
                ),
            },
            Err(error) => FromCoordinator::Lost { reason: error.to_string() },
        };
        self.on_event(JobMasterEvent::Coordinator(message));
    }

    fn on_event(&mut self, event: JobMasterEvent) {
        if let JobMasterEvent::TaskManager { id, message: FromTaskManager::WorkerEnded { deployment, .. } } = &event {
            self.lock_workers().remove(&(id.clone(), *deployment));
        }
        let effects = self.machine.on_event(event, self.shared.clock.now());
        effects.into_iter().for_each(|effect| self.perform(effect));
    }

    fn perform(&mut self, effect: JobMasterEffect) {
        match effect {
            JobMasterEffect::StatusChanged { from, to } => {
                tracing::info!(job_id = %self.id, %from, %to, "a job's status changed");
            }
            JobMasterEffect::TaskManager { id, message } => self.tell_task_manager(&id, message),
            JobMasterEffect::ResourceManager(message) => {
                let message =
                    crate::resource_manager::ResourceManagerMessage::Event(weir_resourcemanager::Event::Job(message));
                let _ = self.shared.resource_manager.send(message);
            }
            JobMasterEffect::Coordinator(message) => self.tell_coordinator(message),
            JobMasterEffect::ScheduleTimer { id, at } => self.timers.add(id, at),
            JobMasterEffect::WriteMetadata { checkpoint, uri, bytes } => self.storage.write(checkpoint, uri, bytes),
            JobMasterEffect::Remove { removal, items } => self.storage.remove(removal, items),
            JobMasterEffect::RequestDone { request, result } => {
                if let Some(answer) = self.requests.remove(&request) {
                    let _ = answer.send(result);
                }
            }
            JobMasterEffect::Note(text) => tracing::info!(job_id = %self.id, "{text}"),
            JobMasterEffect::Warning(text) => tracing::warn!(job_id = %self.id, "{text}"),
            JobMasterEffect::Ended(report) => self.report = Some(report),
        }
    }

    fn tell_task_manager(&mut self, id: &TaskManagerId, message: ToTaskManager) {
        match &message {
            ToTaskManager::StartWorker(start) => drop(self.lock_workers().insert((id.clone(), start.deployment))),
            ToTaskManager::ReleaseWorker { deployment } => {
                self.lock_workers().remove(&(id.clone(), *deployment));
            }
            ToTaskManager::Deploy { .. }
            | ToTaskManager::TriggerCheckpoint { .. }
            | ToTaskManager::CheckpointCompleted { .. }
            | ToTaskManager::CheckpointAborted { .. }
            | ToTaskManager::SplitAnswer { .. }
            | ToTaskManager::CancelTasks { .. }
            | ToTaskManager::KillWorker { .. } => {}
        }
        let message = ForTaskManager::from_model(message, |plan| self.encoded(plan.clone()));
        self.shared.task_managers.send(id, message);
    }

    fn encoded(&mut self, plan: Arc<DeploymentPlan>) -> Bytes {
        match &self.plan {
            Some((encoded, bytes)) if Arc::ptr_eq(encoded, &plan) => bytes.clone(),
            Some(_) | None => {
                let bytes = encode_plan(&plan);
                self.plan = Some((plan, bytes.clone()));
                bytes
            }
        }
    }

    fn tell_coordinator(&mut self, message: ToCoordinator) {
        match message {
            ToCoordinator::Shutdown => {
                if let Some(restart) = self.restart.take() {
                    // What it has started goes with it.
                    restart.abort();
                }
                if let Some(coordinator) = self.coordinator.take() {
                    self.shared.last_work.spawn(coordinator.shut_down());
                }
            }
            ToCoordinator::Kill => {
                if let Some(coordinator) = &self.coordinator {
                    tracing::warn!(job_id = %self.id, pid = coordinator.pid(), "killed a coordinator that does not answer");
                    coordinator.kill();
                }
            }
            ToCoordinator::Restart => {
                let (shared, mut spec) = (self.shared.clone(), self.coordinator_spec.clone());
                let artifact = self.pin.id;
                self.restart = Some(tokio::spawn(async move {
                    // Made again if somebody has removed the copy.
                    let executable = shared.executables.path(artifact).await;
                    spec.executable = executable.map_err(|error| StartError::System(error.to_string()))?;
                    Coordinator::start(&spec).await
                }));
            }
            message => {
                // If it is gone, the machine has been told or will be.
                if let Some(coordinator) = &self.coordinator {
                    coordinator.tell(message);
                }
            }
        }
    }

    fn end(mut self) {
        if let Some(report) = self.report.take() {
            log_end(self.id, &report);
        }
        if let Some(coordinator) = self.coordinator.take() {
            self.shared.last_work.spawn(coordinator.shut_down());
        }
        self.shared.jobs.keep_checkpoints(self.id, self.machine.checkpoints());
        end_job(&self.shared, Arc::new(self.machine.view()));
    }

    fn lock_workers(&self) -> std::sync::MutexGuard<'_, BTreeSet<(TaskManagerId, DeploymentId)>> {
        self.workers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Hands the last view of a job to the Dispatcher.
fn end_job(shared: &Shared, view: Arc<JobView>) {
    let _ = shared.dispatcher.send(DispatcherMessage::Event(DispatcherEvent::JobEnded { view }));
}

fn log_end(id: JobId, report: &JobReport) {
    let (status, restarts) = (report.status, report.restarts);
    if !report.stuck_tasks.is_empty() {
        let tasks = report.stuck_tasks.join(", ");
        tracing::warn!(job_id = %id, tasks, "tasks did not stop in time, and their workers were killed");
    }
    match &report.failure {
        Some(failure) => {
            let (task, reason) = (failure.task_name.as_deref().unwrap_or("-"), failure.failure.to_string());
            tracing::error!(job_id = %id, %status, restarts, task, reason, "a job was brought down by a failure");
        }
        None => tracing::info!(job_id = %id, %status, restarts, "a job is done"),
    }
}

async fn next_of(coordinator: &mut Option<Coordinator>) -> FromCoordinator {
    match coordinator {
        Some(coordinator) => coordinator.next().await,
        None => std::future::pending().await,
    }
}

async fn restarted(
    restart: &mut Option<JoinHandle<Result<(Built, Coordinator), StartError>>>,
) -> Result<(Built, Coordinator), StartError> {
    let Some(handle) = restart else { return std::future::pending().await };
    let result = handle.await;
    *restart = None;
    result.unwrap_or_else(|error| {
        Err(StartError::System(format!("the job's process could not be started again: {error}")))
    })
}
