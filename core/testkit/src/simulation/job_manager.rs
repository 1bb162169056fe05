//! A JobManager process: the machines that decide, and a model of the shell around them.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use weir_checkpoint::{OperatorDeclaration, StateDeclarations};
use weir_dispatcher::{Dispatcher, DispatcherOptions, Effect as DispatcherEffect, Event as DispatcherEvent, JobRecord};
use weir_jobmaster::{JobMaster, JobMasterEffect, JobMasterEvent, JobSpec};
use weir_model::{
    Artifact, ArtifactId, FromResourceManager, FromTaskManager, JobGraph, JobId, JobVertex, Launch, LeaderEpoch,
    ParallelismBounds, TaskManagerId, ToTaskManager,
};
use weir_proto::control::{ForJobManager, ForTaskManager, Timing, encode_plan};
use weir_resourcemanager::{
    Effect as ResourceManagerEffect, Event as ResourceManagerEvent, ProviderChoice, ResourceManager,
    ResourceManagerOptions, WorkerTemplate,
};

use super::network::Side;
use super::scenario::{JobScenario, Scenario};
use super::{ForJm, Happening, TimerOf, World, provider};

/// Flink's defaults.
pub(crate) const TIMING: Timing = Timing {
    heartbeat_interval: Duration::from_secs(10),
    heartbeat_timeout: Duration::from_secs(50),
    metrics_interval: Duration::from_secs(10),
};

/// How long clients wait before they ask again.
const CLIENT_RETRY: Duration = Duration::from_secs(2);

/// The JobManager that lives, and what outlives it.
pub(crate) struct JobManager {
    pub(crate) up: bool,
    /// Counts JobManagers; also the leader's epoch.
    pub(crate) life: u32,
    dispatcher: Dispatcher,
    pub(crate) resource_manager: ResourceManager,
    pub(crate) masters: BTreeMap<JobId, JobMaster>,
    /// The connection of each registered TaskManager.
    pub(crate) connections: BTreeMap<TaskManagerId, usize>,
    /// What the machines still have to be told, if they are told at once.
    inbox: VecDeque<Inner>,
    /// When each machine is told the last thing that waits for it, if each has a loop of its own.
    last: BTreeMap<Machine, Duration>,
    frozen: bool,
    /// What happened while it was frozen.
    deferred: VecDeque<ForJm>,
    /// The records on its disk.
    disk: BTreeMap<JobId, JobRecord>,
    /// Jobs whose submitters have an answer.
    answered: BTreeSet<usize>,
}

/// What one machine says to another.
#[derive(Debug)]
pub(crate) enum Inner {
    Dispatcher(DispatcherEvent),
    ResourceManager(ResourceManagerEvent),
    Job(JobId, JobMasterEvent),
}

/// Whom it is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Machine {
    Dispatcher,
    ResourceManager,
    Job(JobId),
}

impl Inner {
    fn machine(&self) -> Machine {
        match self {
            Inner::Dispatcher(_) => Machine::Dispatcher,
            Inner::ResourceManager(_) => Machine::ResourceManager,
            Inner::Job(job, _) => Machine::Job(*job),
        }
    }
}

impl JobManager {
    pub(crate) fn not_started() -> Self {
        Self {
            up: false,
            life: 0,
            dispatcher: Dispatcher::new(DispatcherOptions::default()),
            resource_manager: ResourceManager::new(ResourceManagerOptions::default()),
            masters: BTreeMap::new(),
            connections: BTreeMap::new(),
            inbox: VecDeque::new(),
            last: BTreeMap::new(),
            frozen: false,
            deferred: VecDeque::new(),
            disk: BTreeMap::new(),
            answered: BTreeSet::new(),
        }
    }

    pub(crate) fn epoch(&self) -> LeaderEpoch {
        LeaderEpoch(u64::from(self.life))
    }
}

fn resource_manager_options(scenario: &Scenario, epoch: LeaderEpoch) -> ResourceManagerOptions {
    let choice = |provider: &super::scenario::ProviderScenario| ProviderChoice {
        name: provider.name.clone(),
        min_workers: provider.min_workers,
    };
    ResourceManagerOptions {
        template: WorkerTemplate { slots: scenario.slots_per_worker, ..WorkerTemplate::default() },
        providers: scenario.providers.iter().map(choice).collect(),
        max_slots: scenario.max_slots,
        redundant: scenario.redundant,
        spread: scenario.spread,
        epoch: epoch.0,
        ..ResourceManagerOptions::default()
    }
}

impl World {
    pub(crate) fn start_job_manager(&mut self) {
        let former = std::mem::replace(&mut self.job_manager, JobManager::not_started());
        let manager = &mut self.job_manager;
        (manager.up, manager.life) = (true, former.life + 1);
        (manager.disk, manager.answered) = (former.disk, former.answered);
        let options = resource_manager_options(&self.scenario, manager.epoch());
        manager.resource_manager = ResourceManager::new(options);
        let records = manager.disk.values().cloned().collect();
        self.tell(Inner::Dispatcher(DispatcherEvent::Recovered(records)));
        self.log(|world| format!("JobManager {} starts", world.job_manager.life));
        for index in 0..self.providers.len() {
            let description = self.open_provider(index);
            let name = description.name.clone();
            let event = ResourceManagerEvent::ProviderOpened { name, description };
            self.tell(Inner::ResourceManager(event));
        }
        self.settle_job_manager();
    }

    /// The process is gone, and with it the coordinators.
    pub(crate) fn crash_job_manager(&mut self) {
        if !std::mem::replace(&mut self.job_manager.up, false) {
            return;
        }
        self.log(|_| "the JobManager dies".to_owned());
        self.job_manager.masters.clear();
        for coordinator in self.coordinators.values_mut() {
            coordinator.alive = false;
        }
        for id in 0..self.connections.len() {
            if self.connections[id].job_manager == self.job_manager.life {
                self.hang_up(id, Side::JobManager, "connection closed by the JobManager");
            }
        }
        self.checks.forget_job_manager();
    }

    pub(crate) fn freeze_job_manager(&mut self, time: Duration) {
        let manager = &mut self.job_manager;
        if manager.up && !std::mem::replace(&mut manager.frozen, true) {
            let life = manager.life;
            self.log(|_| format!("the JobManager freezes for {time:?}"));
            self.after(time, Happening::JobManager { life, what: ForJm::Thaw });
        }
    }

    pub(crate) fn happen_to_job_manager(&mut self, life: u32, what: ForJm) {
        let manager = &mut self.job_manager;
        if manager.life != life || !manager.up {
            return;
        }
        if let ForJm::Thaw = what {
            manager.frozen = false;
            self.log(|_| "the JobManager goes on".to_owned());
            for what in std::mem::take(&mut self.job_manager.deferred) {
                self.happen_to_job_manager(life, what);
            }
        } else if manager.frozen {
            manager.deferred.push_back(what);
        } else {
            self.deliver_to_job_manager(what);
            self.settle_job_manager();
        }
    }

    fn deliver_to_job_manager(&mut self, what: ForJm) {
        let inner = match what {
            ForJm::Timer(TimerOf::Dispatcher(id)) => Inner::Dispatcher(DispatcherEvent::Timer { id }),
            ForJm::Timer(TimerOf::ResourceManager(id)) => Inner::ResourceManager(ResourceManagerEvent::Timer { id }),
            ForJm::Timer(TimerOf::Job(job, id)) => Inner::Job(job, JobMasterEvent::Timer { id }),
            ForJm::Message { connection, epoch, message } => {
                if self.is_received(connection, Side::JobManager) {
                    self.on_message_from_task_manager(connection, epoch, message);
                }
                return;
            }
            ForJm::Broken { connection, reason } => return self.on_connection_lost(connection, &reason),
            ForJm::LookAfter { connection } => return self.look_after(connection),
            ForJm::Coordinator { job, instance, message } => {
                if self.coordinators.get(&job).is_none_or(|coordinator| coordinator.instance != instance) {
                    return;
                }
                self.log(|_| format!("coordinator of {} -> {message:?}", &job.to_string()[..4]));
                Inner::Job(job, JobMasterEvent::Coordinator(message))
            }
            ForJm::Persisted(event) => Inner::Dispatcher(event),
            ForJm::Provider { index, event } => {
                self.log(|_| format!("provider {index}: {event:?}"));
                let name = self.providers[index].scenario.name.clone();
                Inner::ResourceManager(ResourceManagerEvent::Provider { name, event })
            }
            ForJm::Inner(inner) => return self.be_told(inner),
            ForJm::Thaw => return,
        };
        self.tell(inner);
    }

    /// Tells a machine something: at once, or when its loop gets to it. Each machine is told everything in order.
    fn tell(&mut self, inner: Inner) {
        if self.scenario.in_step {
            return self.job_manager.inbox.push_back(inner);
        }
        // Most loops are idle; some are busy with a large job.
        let delay = if self.random.chance(50) { self.random.millis(1, 400) } else { Duration::ZERO };
        let last = self.job_manager.last.entry(inner.machine()).or_default();
        let at = (self.now + delay).max(*last);
        *last = at;
        let life = self.job_manager.life;
        self.at(at, Happening::JobManager { life, what: ForJm::Inner(inner) });
    }

    fn be_told(&mut self, inner: Inner) {
        match inner {
            Inner::Dispatcher(event) => self.tell_dispatcher(event),
            Inner::ResourceManager(event) => self.tell_resource_manager(event),
            Inner::Job(job, event) => self.tell_job_master(job, event),
        }
    }

    /// Lets the machines talk until they have nothing more to say.
    fn settle_job_manager(&mut self) {
        while let Some(inner) = self.job_manager.inbox.pop_front() {
            self.be_told(inner);
        }
        self.check_slots();
    }

    // ---- TaskManagers ----

    fn on_message_from_task_manager(&mut self, connection: usize, epoch: LeaderEpoch, message: ForJobManager) {
        self.connections[connection].heard = self.now;
        let own = self.job_manager.epoch();
        let registered = self.connections[connection].registered.clone();
        match message {
            ForJobManager::Register(registration) => {
                let info = registration.info;
                self.on_register(connection, info);
            }
            ForJobManager::Fenced { current } => {
                // Without high availability there is one JobManager at a time, and nobody can have seen a greater epoch.
                self.check(false, || format!("epoch {own} is fenced by {current}"));
            }
            _ if epoch != own => {
                self.check(false, || format!("a message for epoch {epoch} reached epoch {own}"));
            }
            ForJobManager::Heartbeat { .. } => {
                self.send_to_task_manager(connection, own, ForTaskManager::HeartbeatAnswer);
            }
            ForJobManager::Worker(message) => {
                if let Some((id, _)) = registered {
                    self.log(|_| format!("{id} -> {message:?}"));
                    let job = message.deployment().job;
                    self.tell(Inner::Job(job, JobMasterEvent::TaskManager { id, message }));
                }
            }
            ForJobManager::Leaving { reason } => self.on_connection_lost(connection, &reason),
        }
    }

    fn on_register(&mut self, connection: usize, info: weir_model::TaskManagerInfo) {
        self.connections[connection].registered = Some((info.id.clone(), info.incarnation));
        if let Some(former) = self.job_manager.connections.insert(info.id.clone(), connection) {
            self.hang_up(former, Side::JobManager, "registered anew");
        }
        let epoch = self.job_manager.epoch();
        self.send_to_task_manager(connection, epoch, ForTaskManager::Registered(TIMING));
        let life = self.job_manager.life;
        self.after(TIMING.heartbeat_timeout, Happening::JobManager { life, what: ForJm::LookAfter { connection } });
        self.log(|_| format!("{} registers", info.id));
        self.tell(Inner::ResourceManager(ResourceManagerEvent::TaskManagerRegistered(info)));
    }

    fn on_connection_lost(&mut self, connection: usize, reason: &str) {
        self.hang_up(connection, Side::JobManager, "closed by the JobManager");
        let Some((id, incarnation)) = self.connections[connection].registered.clone() else { return };
        if self.job_manager.connections.get(&id) != Some(&connection) {
            return;
        }
        self.job_manager.connections.remove(&id);
        self.log(|_| format!("{id} is lost: {reason}"));
        let reason = reason.to_owned();
        let event = ResourceManagerEvent::TaskManagerLost { id, incarnation, reason };
        self.tell(Inner::ResourceManager(event));
    }

    fn look_after(&mut self, connection: usize) {
        let found = &self.connections[connection];
        if !found.open[Side::JobManager as usize] {
            return;
        }
        let silent = found.heard + TIMING.heartbeat_timeout;
        if silent <= self.now {
            self.on_connection_lost(connection, "no heartbeat");
        } else {
            let life = self.job_manager.life;
            self.at(silent, Happening::JobManager { life, what: ForJm::LookAfter { connection } });
        }
    }

    // ---- Dispatcher ----

    pub(crate) fn submit(&mut self, job: usize) {
        if self.job_manager.answered.contains(&job) {
            return;
        }
        // Asks again should the JobManager be away, or die before it answers.
        self.after(CLIENT_RETRY, Happening::Submit(job));
        let scenario = &self.scenario.jobs[job];
        if !self.job_manager.up || self.job_manager.frozen {
            return;
        }
        let record = Arc::new(record(scenario, self.now));
        let request = job as u64;
        self.tell(Inner::Dispatcher(DispatcherEvent::Submitted { request, record }));
        self.settle_job_manager();
    }

    pub(crate) fn cancel(&mut self, job: usize) {
        let id = self.scenario.jobs[job].id;
        if self.job_manager.up && !self.job_manager.frozen && self.job_manager.masters.contains_key(&id) {
            self.log(|_| format!("somebody cancels {}", &id.to_string()[..4]));
            self.tell(Inner::Job(id, JobMasterEvent::CancelRequested));
            self.settle_job_manager();
        }
    }

    /// Somebody asks for other numbers of subtasks, not always for possible ones.
    pub(crate) fn rescale(&mut self, job: usize) {
        let JobScenario { id, graph, options, .. } = self.scenario.jobs[job].clone();
        let mut bounds = BTreeMap::new();
        for vertex in &graph.vertices {
            let lower = if self.random.chance(800) { 1 } else { self.random.between(0, 4) };
            let upper = self.random.between(lower.max(1), 6);
            bounds.insert(vertex.id, ParallelismBounds { lower, upper });
        }
        let impossible = bounds.values().any(|bounds| bounds.lower == 0);
        if !self.job_manager.up || self.job_manager.frozen {
            return;
        }
        let Some(master) = self.job_manager.masters.get_mut(&id) else { return };
        match master.set_requirements(&bounds, self.now) {
            Ok(effects) => {
                let taken = options.adaptive.is_some() && !impossible;
                self.log(|_| format!("somebody asks for {bounds:?} of {}", &id.to_string()[..4]));
                self.check(taken, || format!("{id} takes requirements that it cannot have: {bounds:?}"));
                effects.into_iter().for_each(|effect| self.perform_for_job(id, effect));
                self.settle_job_manager();
            }
            Err(error) => self.log(|_| format!("{} refuses {bounds:?}: {error}", &id.to_string()[..4])),
        }
    }

    fn tell_dispatcher(&mut self, event: DispatcherEvent) {
        for effect in self.job_manager.dispatcher.on_event(event, self.now) {
            let life = self.job_manager.life;
            match effect {
                DispatcherEffect::Persist(record) => {
                    let full = !self.calm && self.random.chance(20);
                    let result = if full { Err("no space left on device".to_owned()) } else { Ok(()) };
                    let job = record.id;
                    if !full {
                        self.job_manager.disk.insert(job, JobRecord::clone(&record));
                    }
                    let delay = self.random.millis(0, 50);
                    let what = ForJm::Persisted(DispatcherEvent::Persisted { job, result });
                    self.after(delay, Happening::JobManager { life, what });
                }
                DispatcherEffect::StartJobMaster(record) => self.start_job_master(&record),
                DispatcherEffect::Answer { request, result } => {
                    use weir_dispatcher::SubmitError;
                    if matches!(result, Ok(_) | Err(SubmitError::Duplicate { .. })) {
                        self.job_manager.answered.insert(request as usize);
                    }
                }
                DispatcherEffect::Archived(view) => {
                    self.log(|_| format!("job {} is {}", &view.summary.id.to_string()[..4], view.summary.status));
                    self.checks.ended.insert(view.summary.id, view.summary.status);
                }
                DispatcherEffect::Forget(job) => {
                    self.job_manager.disk.remove(&job);
                }
                DispatcherEffect::ReleaseArtifact(_) => {}
                DispatcherEffect::ScheduleTimer { id, at } => {
                    let what = ForJm::Timer(TimerOf::Dispatcher(id));
                    self.at(at, Happening::JobManager { life, what });
                }
            }
        }
    }

    fn start_job_master(&mut self, record: &JobRecord) {
        let id = record.id;
        let scenario = self.job_scenario(id);
        let spec = JobSpec {
            id,
            graph: Arc::clone(&record.graph),
            job_graph_hash: 7,
            launch: Arc::new(Launch {
                artifact: record.artifact.clone(),
                job_name: record.graph.name.clone(),
                arguments: Vec::new(),
                environment: Vec::new(),
                token: [7; 32],
            }),
            configuration: BTreeMap::new(),
            checkpointing: scenario.checkpointing.clone(),
            states: states(&record.graph),
            restore: None,
        };
        let options = scenario.options.clone();
        match JobMaster::new(spec, options, self.now) {
            Ok(master) => {
                self.start_coordinator(id);
                self.job_manager.masters.insert(id, master);
                self.tell(Inner::Job(id, JobMasterEvent::Start));
            }
            Err(error) => self.check(false, || format!("the scenario has an invalid job: {error}")),
        }
    }

    // ---- ResourceManager ----

    fn tell_resource_manager(&mut self, event: ResourceManagerEvent) {
        self.checks.on_event_for_resource_manager(&event);
        for effect in self.job_manager.resource_manager.on_event(event, self.now) {
            match effect {
                ResourceManagerEffect::TellJob { job, message } => {
                    self.note_message_to_job(job, &message);
                    self.tell(Inner::Job(job, JobMasterEvent::ResourceManager(message)));
                }
                ResourceManagerEffect::Provider { name, request } => {
                    let index = self.scenario.providers.iter().position(|provider| provider.name == name);
                    let index = index.expect("only the scenario's providers are opened");
                    self.log(|_| format!("provider {index} <- {request:?}"));
                    let job_manager = self.job_manager.life;
                    let delay = Duration::from_millis(1);
                    let step = provider::Step::Request { job_manager, request };
                    self.after(delay, Happening::Provider { index, step });
                }
                ResourceManagerEffect::ShutDownTaskManager { id, incarnation, reason } => {
                    if let Some(connection) = self.take_connection(&id, incarnation) {
                        self.log(|_| format!("{id} is shut down: {reason}"));
                        let epoch = self.job_manager.epoch();
                        self.send_to_task_manager(connection, epoch, ForTaskManager::Shutdown { reason });
                        self.hang_up(connection, Side::JobManager, "shut down");
                    }
                }
                ResourceManagerEffect::Disconnect { id, incarnation, reason } => {
                    if let Some(connection) = self.take_connection(&id, incarnation) {
                        self.hang_up(connection, Side::JobManager, &reason);
                    }
                }
                ResourceManagerEffect::ScheduleTimer { id, at } => {
                    let life = self.job_manager.life;
                    let what = ForJm::Timer(TimerOf::ResourceManager(id));
                    self.at(at, Happening::JobManager { life, what });
                }
                ResourceManagerEffect::Planned(plan) => self.log(|_| format!("plan: {plan}")),
            }
        }
    }

    /// The connection of a TaskManager that counts as gone from now on.
    fn take_connection(&mut self, id: &TaskManagerId, incarnation: u64) -> Option<usize> {
        let connection = *self.job_manager.connections.get(id)?;
        let same = self.connections[connection].registered.as_ref().is_some_and(|(_, found)| *found == incarnation);
        same.then(|| self.job_manager.connections.remove(id)).flatten()
    }

    fn note_message_to_job(&mut self, job: JobId, message: &FromResourceManager) {
        match message {
            FromResourceManager::SlotsGranted(grants) => {
                self.log(|_| {
                    let slots: Vec<_> =
                        grants.iter().map(|g| format!("{}#{}", g.slot.task_manager, g.slot.index)).collect();
                    format!("{} gets {}", &job.to_string()[..4], slots.join(" "))
                });
                for grant in grants {
                    let problem = self.checks.on_grant(&grant.slot, job);
                    self.check(problem.is_none(), || problem.unwrap_or_default());
                }
            }
            FromResourceManager::TaskManagerLost { id, .. } => self.checks.lose_task_manager(job, id),
            FromResourceManager::Waiting(wait) => {
                self.log(|_| format!("{} waits: {wait:?}", &job.to_string()[..4]));
            }
        }
    }

    // ---- JobMasters ----

    fn tell_job_master(&mut self, job: JobId, event: JobMasterEvent) {
        let Some(master) = self.job_manager.masters.get_mut(&job) else { return };
        let stale = match &event {
            JobMasterEvent::TaskManager { message: FromTaskManager::TasksChanged { deployment, changes }, .. } => {
                changes.iter().all(|change| {
                    self.checks.attempt_of(job, change.task).is_some_and(|attempt| deployment.number < attempt)
                })
            }
            _ => false,
        };
        let now = self.now;
        self.checks.on_event_for_job(job, &event);
        let effects = master.on_event(event, now);
        let view = master.view();
        let problem = self.checks.look_at(job, &view, stale);
        self.check(problem.is_none(), || problem.unwrap_or_default());
        for effect in effects {
            self.perform_for_job(job, effect);
        }
    }

    fn perform_for_job(&mut self, job: JobId, effect: JobMasterEffect) {
        match effect {
            JobMasterEffect::StatusChanged { from, to } => {
                self.log(|_| format!("{} {from} -> {to}", &job.to_string()[..4]));
                self.check(from.can_become(to), || format!("{job} goes from {from} to {to}"));
            }
            JobMasterEffect::TaskManager { id, message } => self.send_for_job(job, &id, message),
            JobMasterEffect::ResourceManager(message) => {
                self.log(|_| format!("{} declares {message:?}", &job.to_string()[..4]));
                self.tell(Inner::ResourceManager(ResourceManagerEvent::Job(message)));
            }
            JobMasterEffect::Coordinator(message) => self.send_to_coordinator(job, message),
            JobMasterEffect::ScheduleTimer { id, at } => {
                let life = self.job_manager.life;
                let what = ForJm::Timer(TimerOf::Job(job, id));
                self.at(at, Happening::JobManager { life, what });
            }
            JobMasterEffect::WriteMetadata { checkpoint, .. } => {
                let full = !self.calm && self.random.chance(30);
                let result = if full { Err("no space left on device".to_owned()) } else { Ok(()) };
                self.answer_from_storage(job, JobMasterEvent::MetadataWritten { checkpoint, result });
            }
            JobMasterEffect::Remove { removal, .. } => {
                self.answer_from_storage(job, JobMasterEvent::Removed { removal, result: Ok(()) });
            }
            JobMasterEffect::RequestDone { .. } => {}
            JobMasterEffect::Note(text) | JobMasterEffect::Warning(text) => {
                self.log(|_| format!("{} {text}", &job.to_string()[..4]))
            }
            JobMasterEffect::Ended(report) => self.on_job_ended(job, &report),
        }
    }

    fn answer_from_storage(&mut self, job: JobId, event: JobMasterEvent) {
        let life = self.job_manager.life;
        let delay = self.random.millis(0, 500);
        self.after(delay, Happening::JobManager { life, what: ForJm::Inner(Inner::Job(job, event)) });
    }

    fn send_for_job(&mut self, job: JobId, id: &TaskManagerId, message: ToTaskManager) {
        let problem = self.checks.on_message_to_task_manager(job, id, &message);
        self.check(problem.is_none(), || problem.unwrap_or_default());
        let Some(connection) = self.job_manager.connections.get(id).copied() else { return };
        let message = ForTaskManager::from_model(message, |plan| encode_plan(plan));
        self.log(|_| match &message {
            ForTaskManager::Deploy { deployment, worker, .. } => format!("{id} <- deploy {deployment} worker {worker}"),
            other => format!("{id} <- {other:?}"),
        });
        let epoch = self.job_manager.epoch();
        self.send_to_task_manager(connection, epoch, message);
    }

    fn on_job_ended(&mut self, job: JobId, report: &weir_jobmaster::JobReport) {
        self.log(|_| {
            let cause = report.failure.as_ref().map(|failure| failure.failure.message.as_str());
            format!("{} ends {}: {cause:?} {:?}", &job.to_string()[..4], report.status, report.not_restarted)
        });
        let Some(master) = self.job_manager.masters.remove(&job) else { return };
        let view = Arc::new(master.view());
        self.checks.rescales += view.scaling.as_ref().map_or(0, |scaling| scaling.rescales);
        let status = report.status;
        let (found, same) = (view.summary.status, view.summary.status == report.status);
        self.check(same, || format!("{job} ends as {status}, but shows {found}"));
        let finished = status == weir_model::JobStatus::Finished;
        let committed = self.checks.committed.get(&job) == Some(&true);
        self.check(!finished || committed, || format!("{job} is FINISHED and was not committed"));
        self.checks.forget_job(job);
        self.tell(Inner::Dispatcher(DispatcherEvent::JobEnded { view }));
    }

    pub(crate) fn job_scenario(&self, id: JobId) -> &JobScenario {
        self.scenario.jobs.iter().find(|job| job.id == id).expect("only the scenario's jobs are submitted")
    }
}

/// The first operator of each vertex is the node of its number.
fn states(graph: &JobGraph) -> StateDeclarations {
    let operator = |(node, vertex): (u32, &JobVertex)| OperatorDeclaration {
        node,
        id: vertex.operators[0].id,
        name: vertex.name.clone(),
        uid: None,
        tables: Vec::new(),
        lists: Vec::new(),
    };
    StateDeclarations { operators: (0..).zip(&graph.vertices).map(operator).collect() }
}

fn record(job: &JobScenario, now: Duration) -> JobRecord {
    JobRecord {
        id: job.id,
        graph: Arc::clone(&job.graph),
        artifact: Artifact { id: ArtifactId::from_bytes([1; 32]), size: 1, name: "job".to_owned() },
        arguments: Vec::new(),
        configuration: BTreeMap::new(),
        submitted: now,
    }
}
