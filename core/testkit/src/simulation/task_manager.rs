//! A TaskManager process: the machine that decides, and a model of the process around it.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use weir_model::{FromTaskManager, LeaderEpoch, TaskManagerId, TaskManagerInfo};
use weir_proto::control::ForJobManager;
use weir_taskmanager::state::{ConnectionKey, Effect, Ending, Event, StateOptions, TaskManagerState, WorkerKey};

use super::network::Side;
use super::worker::WorkerProcess;
use super::{ForTm, Happening, World};

/// A place where a TaskManager runs, one process after the other.
pub(crate) struct TaskManagerProcess {
    pub(crate) id: TaskManagerId,
    slots: u32,
    /// The provider that started it, by position.
    pub(crate) provider: Option<usize>,
    /// Counts processes.
    pub(crate) life: u32,
    /// `None` while there is no process.
    pub(crate) state: Option<TaskManagerState>,
    pub(crate) connections: BTreeMap<ConnectionKey, usize>,
    /// The call that was made last.
    current: Option<ConnectionKey>,
    pub(crate) workers: BTreeMap<WorkerKey, WorkerProcess>,
    pub(crate) frozen: bool,
    /// What happened while it was frozen.
    deferred: VecDeque<ForTm>,
    /// When it will next look at the time.
    alarm: Option<Duration>,
    /// The greatest epoch that was in a message to it.
    greatest: LeaderEpoch,
}

impl TaskManagerProcess {
    pub(crate) fn new(id: TaskManagerId, slots: u32, provider: Option<usize>) -> Self {
        Self {
            id,
            slots,
            provider,
            life: 0,
            state: None,
            connections: BTreeMap::new(),
            current: None,
            workers: BTreeMap::new(),
            frozen: false,
            deferred: VecDeque::new(),
            alarm: None,
            greatest: LeaderEpoch(0),
        }
    }

    pub(crate) fn by_hand(index: usize, slots: u32) -> Self {
        Self::new(TaskManagerId::new(format!("hand{index}")), slots, None)
    }

    fn options(&self, incarnation: u64) -> StateOptions {
        StateOptions {
            info: TaskManagerInfo {
                id: self.id.clone(),
                incarnation,
                slots: self.slots,
                host: "127.0.0.1".to_owned(),
                metrics_port: 0,
                pid: 1,
                memory: u64::MAX,
                cpu_cores: 1,
                physical_memory: u64::MAX,
                version: "simulated".to_owned(),
            },
            cluster_id: String::new(),
            registration_initial_timeout: Duration::from_secs(1),
            registration_max_timeout: Duration::from_secs(30),
            registration_timeout: Some(Duration::from_secs(300)),
            release_timeout: Duration::from_secs(10),
            memory_configured: false,
        }
    }
}

impl World {
    pub(crate) fn start_task_manager(&mut self, index: usize) {
        let incarnation = self.random.next();
        let process = &mut self.task_managers[index];
        process.life += 1;
        process.state = Some(TaskManagerState::new(process.options(incarnation)));
        process.connections.clear();
        process.current = None;
        process.frozen = false;
        process.deferred.clear();
        process.alarm = None;
        process.greatest = LeaderEpoch(0);
        self.log(|world| format!("{} starts", world.task_managers[index].id));
        self.tell_task_manager(index, Event::Started, None);
    }

    pub(crate) fn happen_to_task_manager(&mut self, index: usize, life: u32, what: ForTm) {
        let process = &mut self.task_managers[index];
        if process.life != life || process.state.is_none() {
            return;
        }
        if let ForTm::Thaw = what {
            if std::mem::replace(&mut process.frozen, false) {
                self.log(|world| format!("{} goes on", world.task_managers[index].id));
                self.catch_up(index, life);
            }
        } else if process.frozen {
            process.deferred.push_back(what);
        } else {
            self.deliver_to_task_manager(index, what);
        }
    }

    /// After a freeze: looks at the clock or at its messages first, whatever the operating system likes better.
    fn catch_up(&mut self, index: usize, life: u32) {
        let deferred = std::mem::take(&mut self.task_managers[index].deferred);
        if self.random.chance(500) {
            self.happen_to_task_manager(index, life, ForTm::Time);
        }
        for what in deferred {
            self.happen_to_task_manager(index, life, what);
        }
        self.happen_to_task_manager(index, life, ForTm::Time);
    }

    fn deliver_to_task_manager(&mut self, index: usize, what: ForTm) {
        let process = &mut self.task_managers[index];
        let mut received = None;
        let event = match what {
            ForTm::Time => {
                if process.alarm.is_some_and(|alarm| alarm <= self.now) {
                    process.alarm = None;
                }
                Event::TimePassed
            }
            ForTm::Connected(key) => Event::Connected(key),
            ForTm::ConnectionLost { key, reason } => Event::ConnectionLost { connection: key, reason },
            ForTm::Message { connection, epoch, message } => {
                let Some(key) = process.connections.iter().find(|(_, id)| **id == connection).map(|(key, _)| *key)
                else {
                    return;
                };
                if !self.is_received(connection, Side::TaskManager) {
                    return;
                }
                self.task_managers[index].greatest = self.task_managers[index].greatest.max(epoch);
                received = Some(epoch);
                Event::Received { connection: key, epoch, message }
            }
            ForTm::Worker { worker, event } => Event::Worker { worker, event },
            ForTm::Thaw => return,
        };
        self.tell_task_manager(index, event, received);
    }

    /// Lets the machine decide and does what it asks for. `received`: the epoch of the message that it is told of.
    fn tell_task_manager(&mut self, index: usize, event: Event, received: Option<LeaderEpoch>) {
        let now = self.now;
        let Some(state) = self.task_managers[index].state.as_mut() else { return };
        let effects = state.on_event(event, now);
        for effect in effects {
            self.perform_for_task_manager(index, effect, received);
        }
        let process = &mut self.task_managers[index];
        let Some(deadline) = process.state.as_ref().and_then(TaskManagerState::next_deadline) else { return };
        if process.alarm.is_none_or(|alarm| deadline < alarm) {
            process.alarm = Some(deadline);
            let life = process.life;
            self.at(deadline, Happening::TaskManager { index, life, what: ForTm::Time });
        }
    }

    fn perform_for_task_manager(&mut self, index: usize, effect: Effect, received: Option<LeaderEpoch>) {
        match effect {
            Effect::Dial(key) => {
                self.task_managers[index].current = Some(key);
                self.dial(index, key);
            }
            Effect::HangUp(key) => {
                if let Some(id) = self.task_managers[index].connections.remove(&key) {
                    self.hang_up(id, Side::TaskManager, "the TaskManager closed the connection");
                }
            }
            Effect::Send { epoch, message } => self.send_from_task_manager(index, epoch, message),
            Effect::SendHeartbeat { epoch } => {
                let message = ForJobManager::Heartbeat { metrics: std::collections::BTreeMap::new() };
                self.send_from_task_manager(index, epoch, message);
            }
            Effect::StartWorker { worker, start } => {
                let greatest = self.task_managers[index].greatest;
                self.check(received == Some(greatest), || {
                    format!("a worker is started for epoch {received:?}, though {greatest} was seen")
                });
                self.start_worker(index, worker, start);
            }
            Effect::TellWorker { worker, message } => {
                let greatest = self.task_managers[index].greatest;
                self.check(received.is_none_or(|epoch| epoch == greatest), || {
                    format!("a worker is given a message of epoch {received:?}, though {greatest} was seen")
                });
                self.tell_worker(index, worker, message);
            }
            Effect::KillWorker { worker } => self.kill_worker(index, worker, "killed by signal 9 (SIGKILL)"),
            Effect::End(ending) => self.on_task_manager_ends(index, &ending),
            Effect::AnswerFile { .. } | Effect::AnswerStacks { .. } => {
                self.check(false, || "a TaskManager answers what nobody asked".to_owned());
            }
        }
    }

    fn send_from_task_manager(&mut self, index: usize, epoch: LeaderEpoch, message: ForJobManager) {
        if let ForJobManager::Worker(FromTaskManager::WorkerEnded { reason, .. }) = &message {
            // A job may have been told late that it lost a slot; then this check is what keeps two jobs apart.
            let refused = reason.contains("is held by job");
            self.check(!refused || !self.scenario.in_step, || format!("a slot was given to two jobs: {reason}"));
        }
        let process = &self.task_managers[index];
        let connection = process.current.and_then(|key| process.connections.get(&key).copied());
        if let Some(connection) = connection {
            self.send_to_job_manager(connection, epoch, message);
        }
    }

    fn on_task_manager_ends(&mut self, index: usize, ending: &Ending) {
        let process = &self.task_managers[index];
        let by_hand = process.provider.is_none();
        let (id, asked) = (process.id.clone(), matches!(ending, Ending::Asked(_)));
        self.check(!(by_hand && asked), || format!("{id} was started by hand and is shut down: {ending:?}"));
        self.end_task_manager(index, &format!("it ended: {ending:?}"), false);
    }

    /// The process is gone, and its workers with it. `silent`: so is the machine, so that nobody tells the JobManager.
    pub(crate) fn end_task_manager(&mut self, index: usize, reason: &str, silent: bool) {
        if self.task_managers[index].state.take().is_none() {
            return;
        }
        self.log(|world| format!("{}: {reason}", world.task_managers[index].id));
        for worker in self.task_managers[index].workers.keys().copied().collect::<Vec<_>>() {
            self.kill_worker(index, worker, "gone with its TaskManager");
        }
        self.task_managers[index].workers.clear();
        for id in std::mem::take(&mut self.task_managers[index].connections).into_values() {
            if silent {
                self.connections[id].open[Side::TaskManager as usize] = false;
            } else {
                self.hang_up(id, Side::TaskManager, "connection closed by the TaskManager");
            }
        }
        match self.task_managers[index].provider {
            Some(provider) => self.on_provided_task_manager_ended(provider, index, reason, silent),
            None => {
                let delay = self.random.millis(500, 10_000);
                self.after(delay, Happening::StartTaskManager { index });
            }
        }
    }

    pub(crate) fn freeze_task_manager(&mut self, index: usize, time: Duration) {
        let process = &mut self.task_managers[index];
        if process.state.is_some() && !std::mem::replace(&mut process.frozen, true) {
            let life = process.life;
            self.log(|world| format!("{} freezes for {time:?}", world.task_managers[index].id));
            self.after(time, Happening::TaskManager { index, life, what: ForTm::Thaw });
        }
    }
}
