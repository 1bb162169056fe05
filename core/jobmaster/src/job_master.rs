//! The machine: what it knows, and which method deals with what.
//!
//! `coordinator.rs` deals with the coordinator process, `scheduling.rs` with slots, `preparing.rs` with worker processes until
//! their tasks are deployed, `reports.rs` with what comes from TaskManagers after that, `losses.rs` with workers and TaskManagers
//! that are gone, `checkpoints.rs` with checkpoints and restores, `adaptive.rs` with how many subtasks there are, `ending.rs` with the end. All of them tell the scheduler, and [`JobMaster::perform`] does what it asks for.

mod adaptive;
mod checkpoints;
mod coordinator;
mod deployment;
mod ending;
mod history;
mod losses;
mod preparing;
mod reports;
mod scheduling;
mod slots;
mod tasks;
#[cfg(test)]
mod tests;
mod timers;
mod view;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use weir_checkpoint::CheckpointEvent;
use weir_model::{DeploymentId, FromTaskManager, JobGraph, JobStatus, SlotWait, TaskManagerId, ToTaskManager};
use weir_scheduler::{
    Blame, Effect, Event, ExecutionGraph, FailoverStrategy, JobScheduler, SchedulerOptions, SlotSharing,
};

use self::adaptive::Adaptive;
use self::checkpoints::Checkpoints;
use self::coordinator::Coordinator;
use self::deployment::Deployment;
use self::history::FailureHistory;
use self::slots::SlotPool;
use self::tasks::TaskTable;
use self::timers::{Timer, Timers};
use crate::{JobMasterEffect, JobMasterError, JobMasterEvent, JobMasterOptions, JobSpec, ToCoordinator};

/// Decides everything about one job from its graph to its end.
///
/// Events may come in any order and more than once; what cannot matter any more is ignored, nothing panics, and the job ends
/// once everything asked for has been answered or reported lost.
#[derive(Debug)]
pub struct JobMaster {
    spec: JobSpec,
    options: JobMasterOptions,
    accepted: Duration,
    ended: Option<Duration>,
    /// When the job entered its status.
    status_since: Duration,
    /// How long it was in each status, of stays that have ended.
    stays: [Duration; JobStatus::ALL.len()],
    scheduler: JobScheduler,
    /// The plan with as many subtasks as there are.
    graph: Arc<JobGraph>,
    adaptive: Option<Adaptive>,
    sharing: SlotSharing,
    coordinator: Coordinator,
    slots: SlotPool,
    /// Whether the ResourceManager knows of the job.
    declared: bool,
    /// What the ResourceManager last said about slots that the job lacks.
    waiting: Option<SlotWait>,
    /// Deployments that are not over, by number.
    deployments: BTreeMap<u32, Deployment>,
    tasks: TaskTable,
    history: FailureHistory,
    checkpoints: Checkpoints,
    timers: Timers,
}

/// The effects of one event, and when it happened.
#[derive(Debug)]
struct Outbox {
    now: Duration,
    effects: Vec<JobMasterEffect>,
    /// What the scheduler is to be told when all it has asked for is done.
    later: VecDeque<Event>,
}

impl Outbox {
    fn push(&mut self, effect: JobMasterEffect) {
        self.effects.push(effect);
    }

    fn coordinator(&mut self, message: ToCoordinator) {
        self.push(JobMasterEffect::Coordinator(message));
    }

    fn task_manager(&mut self, id: &TaskManagerId, message: ToTaskManager) {
        self.push(JobMasterEffect::TaskManager { id: id.clone(), message });
    }
}

impl JobMaster {
    /// A job in status CREATED, accepted at `now`. Fails if the graph is not a valid one, or if the job cannot start from where it is
    /// to start.
    pub fn new(spec: JobSpec, options: JobMasterOptions, now: Duration) -> Result<Self, JobMasterError> {
        let graph = ExecutionGraph::new(&spec.graph)?;
        let sharing = SlotSharing::of(&graph);
        let scheduler_options = SchedulerOptions {
            cancellation_timeout: options.cancellation_timeout,
            restart_strategy: options.restart_strategy.clone(),
            failover: if options.adaptive.is_some() { FailoverStrategy::Full } else { options.failover },
            adaptive: options.adaptive.is_some(),
            seed: options.seed,
        };
        let adaptive = options.adaptive.clone().map(|options| Adaptive::new(options, &spec.graph));
        let mut slots = SlotPool::new(sharing.slots_needed());
        if let Some(adaptive) = &adaptive {
            slots.want(adaptive.desired);
        }
        Ok(Self {
            accepted: now,
            ended: None,
            status_since: now,
            stays: [Duration::ZERO; JobStatus::ALL.len()],
            coordinator: Coordinator::default(),
            slots,
            graph: spec.graph.clone(),
            adaptive,
            sharing,
            declared: false,
            waiting: None,
            deployments: BTreeMap::new(),
            tasks: TaskTable::new(graph.task_count()),
            history: FailureHistory::new(options.history_size),
            checkpoints: Checkpoints::new(&spec, now)?,
            timers: Timers::default(),
            scheduler: JobScheduler::new(graph, scheduler_options),
            spec,
            options,
        })
    }

    /// Takes in an event and says what to do, in this order. `now` is the time since 1970-01-01 UTC and never goes back.
    pub fn on_event(&mut self, event: JobMasterEvent, now: Duration) -> Vec<JobMasterEffect> {
        let mut out = Outbox { now, effects: Vec::new(), later: VecDeque::new() };
        if self.ended.is_some() {
            // Messages that were on their way when the job ended.
            return out.effects;
        }
        match event {
            JobMasterEvent::Start => self.on_start(&mut out),
            JobMasterEvent::Coordinator(message) => self.on_coordinator(message, &mut out),
            JobMasterEvent::ResourceManager(message) => self.on_resource_manager(message, &mut out),
            JobMasterEvent::TaskManager { id, message } => self.on_task_manager(&id, message, &mut out),
            JobMasterEvent::CancelRequested => self.tell(Event::CancelRequested, &mut out),
            JobMasterEvent::TriggerCheckpoint { request, full } => {
                let aligned = false;
                self.tell_checkpoints(CheckpointEvent::CheckpointRequested { request, full, aligned }, &mut out)
            }
            JobMasterEvent::TriggerSavepoint { request, directory, stop } => {
                self.tell_checkpoints(CheckpointEvent::SavepointRequested { request, directory, stop }, &mut out)
            }
            JobMasterEvent::MetadataWritten { checkpoint, result } => {
                self.tell_checkpoints(CheckpointEvent::MetadataWritten { checkpoint, result }, &mut out)
            }
            JobMasterEvent::Removed { removal, result } => {
                self.tell_checkpoints(CheckpointEvent::Removed { removal, result }, &mut out)
            }
            JobMasterEvent::Timer { id } => self.on_timer(id, &mut out),
        }
        self.settle(&mut out);
        out.effects
    }

    /// Does what follows from an event once all that it was about is dealt with.
    fn settle(&mut self, out: &mut Outbox) {
        loop {
            self.notice_running(out);
            self.adapt(out);
            self.give_up_if_hopeless(out);
            self.notice_running(out);
            let Some(event) = out.later.pop_front() else { return };
            self.tell(event, out);
        }
    }

    fn on_task_manager(&mut self, id: &TaskManagerId, message: FromTaskManager, out: &mut Outbox) {
        let DeploymentId { job, number } = message.deployment();
        // Of a deployment that is over, or of a TaskManager that has no part in it: nothing of it matters any more.
        let Some(deployment) = self.deployments.get(&number).filter(|_| job == self.spec.id) else { return };
        let Some(worker) = deployment.active_worker_on(id) else { return };
        match message {
            FromTaskManager::WorkerReady { data_address, .. } => {
                self.on_worker_ready(number, worker, data_address, out)
            }
            FromTaskManager::TasksChanged { changes, .. } => self.on_tasks_changed(number, worker, changes, out),
            FromTaskManager::SplitRequested { task, .. } => self.on_split_requested(number, worker, task, out),
            FromTaskManager::CheckpointAcknowledged { acknowledgement, .. } => {
                self.on_acknowledged(number, worker, *acknowledgement, out)
            }
            FromTaskManager::CheckpointDeclined { decline, .. } => self.on_declined(number, worker, *decline, out),
            FromTaskManager::MetricsReported { tasks, .. } => self.on_metrics(number, worker, &tasks, out.now),
            FromTaskManager::WorkerEnded { reason, .. } => {
                self.on_worker_lost(number, worker, &reason, Blame::Job, out)
            }
        }
    }

    fn on_timer(&mut self, id: u64, out: &mut Outbox) {
        match self.timers.take(id) {
            Some(Timer::Scheduler { generation }) => self.tell(Event::Timer { generation }, out),
            Some(Timer::Slots { deployment }) => self.on_slot_timeout(deployment, out),
            Some(Timer::Workers { deployment }) => self.on_worker_timeout(deployment, out),
            Some(Timer::Opening { number }) => self.on_opening_timeout(number, out),
            Some(Timer::Reset { deployment }) => self.on_reset_timeout(deployment, out),
            // What is due is looked at after every event.
            Some(Timer::Resources) => self.adaptive.iter_mut().for_each(Adaptive::rang),
            Some(Timer::Checkpoints { generation }) => {
                self.tell_checkpoints(CheckpointEvent::Timer { generation }, out)
            }
            // Rung twice.
            None => {}
        }
    }

    /// Tells the scheduler and does what it asks for.
    fn tell(&mut self, event: Event, out: &mut Outbox) {
        for effect in self.scheduler.on_event(event, out.now) {
            self.perform(effect, out);
        }
    }

    fn perform(&mut self, effect: Effect, out: &mut Outbox) {
        match effect {
            Effect::JobStatusChanged { from, to } => {
                self.stays[from as usize] += out.now.saturating_sub(self.status_since);
                self.status_since = out.now;
                out.push(JobMasterEffect::StatusChanged { from, to });
                self.on_status(to, out);
            }
            Effect::FailureRecorded { first, record } => self.remember(first, record),
            // Dealt with after every event as long as it holds.
            Effect::AwaitResources => {}
            Effect::Schedule { deployment, tasks } => self.schedule(deployment, tasks, out),
            Effect::Unschedule { deployment } => self.unschedule(deployment, out),
            Effect::Deploy(workers) => self.deploy(&workers, out),
            Effect::CancelTasks(workers) => self.cancel_tasks(workers, out),
            Effect::KillWorkers(workers) => self.kill_workers(&workers, out),
            Effect::ScheduleTimer { generation, at } => self.timers.set(Timer::Scheduler { generation }, at, out),
            Effect::Commit => self.commit(out),
            Effect::DiscardOutput => self.discard(out),
            Effect::JobEnded(report) => self.end(report, out),
        }
    }

    fn deployment_id(&self, number: u32) -> DeploymentId {
        DeploymentId { job: self.spec.id, number }
    }
}
