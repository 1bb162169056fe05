//! What a TaskManager decides: events in, effects out. It never does anything itself.

mod connection;
mod worker;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use weir_metrics::TaskSample;
use weir_model::{
    CheckpointAcknowledgement, CheckpointDecline, CheckpointTrigger, DeploymentId, FromTaskManager, LeaderEpoch,
    MetricsSnapshot, StartWorker, TaskChange, TaskId, TaskManagerInfo, VertexLabel,
};
use weir_proto::control::{FileRequest, ForJobManager, ForTaskManager, PROTOCOL_VERSION, Registration};

use connection::Connection;
use worker::{Phase, WorkerState};

/// What a [`TaskManagerState`] goes by.
#[derive(Debug, Clone, PartialEq)]
pub struct StateOptions {
    /// What is registered.
    pub info: TaskManagerInfo,
    /// The cluster it belongs to; empty: any.
    pub cluster_id: String,
    /// Patience of the first attempt to register; later ones wait twice as long each. The first retry comes after a tenth of
    /// it, so that a cluster whose processes start together is complete soon.
    pub registration_initial_timeout: Duration,
    /// The longest wait between attempts to register.
    pub registration_max_timeout: Duration,
    /// Without a registration for this long the TaskManager ends with an error; `None`: never.
    pub registration_timeout: Option<Duration>,
    /// How long a released worker may take to leave before it is killed.
    pub release_timeout: Duration,
    /// Whether somebody set the limit in `info.memory`, or it follows from the machine.
    pub memory_configured: bool,
}

/// Names a worker process of this TaskManager; never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WorkerKey(pub u64);

/// Names an attempt to connect; never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionKey(pub u64);

/// Something that happened.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// The process has started. Comes first, and once.
    Started,
    /// The JobManager took the call; messages can be sent.
    Connected(ConnectionKey),
    /// The connection could not be opened, or broke.
    ConnectionLost {
        /// Which one.
        connection: ConnectionKey,
        /// Why.
        reason: String,
    },
    /// The JobManager says something.
    Received {
        /// Over which connection.
        connection: ConnectionKey,
        /// The sender's.
        epoch: LeaderEpoch,
        /// What it says.
        message: ForTaskManager,
    },
    /// Something about a worker process.
    Worker {
        /// Which one.
        worker: WorkerKey,
        /// What happened.
        event: WorkerEvent,
    },
    /// Somebody has looked at the worker processes.
    Measured(Vec<Measurement>),
    /// The moment of [`TaskManagerState::next_deadline`] may have come.
    TimePassed,
    /// The process is to end.
    ShutdownRequested {
        /// Why.
        reason: String,
    },
}

/// How a worker process is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Measurement {
    /// Which one.
    pub worker: WorkerKey,
    /// Its resident bytes, with all it started.
    pub memory: u64,
    /// Whether a signal has stopped it, so that it does nothing.
    pub stopped: bool,
}

/// Something that happened to a worker process.
#[derive(Debug, Clone, PartialEq)]
pub enum WorkerEvent {
    /// It has built the job and opened its data port.
    Greeted(Greeting),
    /// Tasks have entered new states.
    TasksChanged(Vec<TaskChange>),
    /// A source task wants a split.
    SplitRequested(TaskId),
    /// A task's snapshot is durable.
    CheckpointAcknowledged(Box<CheckpointAcknowledgement>),
    /// A task has no part in a checkpoint.
    CheckpointDeclined(Box<CheckpointDecline>),
    /// Metrics of its tasks.
    MetricsReported(Vec<(TaskId, MetricsSnapshot)>),
    /// It sent something that cannot be understood.
    Misbehaved {
        /// What is wrong with it.
        problem: String,
    },
    /// It is gone with all it started, or could not be started. Its last event.
    Ended(WorkerEnd),
}

/// What a worker says of itself when it is ready.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Greeting {
    /// Version of the worker protocol it speaks.
    pub protocol_version: u32,
    /// Hash of the JobGraph it built.
    pub job_graph_hash: u64,
    /// Where other workers reach it, as host:port.
    pub data_address: String,
    /// Its process id.
    pub pid: u32,
    /// The graph's vertices by position.
    pub vertices: Vec<Arc<VertexLabel>>,
}

/// How a worker ended.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WorkerEnd {
    /// What follows the worker's name in a sentence, e.g. `exited with code 3`.
    pub how: String,
    /// Whether there was a process.
    pub started: bool,
    /// The last lines it wrote.
    pub last_lines: Vec<String>,
}

/// Something to do.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// Call the JobManager. Answered by [`Event::Connected`] or [`Event::ConnectionLost`].
    Dial(ConnectionKey),
    /// Close the connection; nothing more of it is of interest.
    HangUp(ConnectionKey),
    /// Send this to the JobManager.
    Send {
        /// The leader it is meant for.
        epoch: LeaderEpoch,
        /// The message.
        message: ForJobManager,
    },
    /// Send a heartbeat with this process's metrics.
    SendHeartbeat {
        /// The leader it is meant for.
        epoch: LeaderEpoch,
    },
    /// Fetch the artifact and start a worker process.
    StartWorker {
        /// Its name from now on.
        worker: WorkerKey,
        /// What to start.
        start: StartWorker,
    },
    /// Send this to a worker process.
    TellWorker {
        /// Which one.
        worker: WorkerKey,
        /// The message.
        message: WorkerMessage,
    },
    /// Kill a worker process and all it started, or give its start up. Answered by [`WorkerEvent::Ended`].
    KillWorker {
        /// Which one.
        worker: WorkerKey,
    },
    /// Answer a request for a file or the list of files.
    AnswerFile {
        /// The leader it is meant for.
        epoch: LeaderEpoch,
        /// What is wanted.
        request: FileRequest,
    },
    /// Answer what threads are doing.
    AnswerStacks {
        /// The leader it is meant for.
        epoch: LeaderEpoch,
        /// Names the request.
        request: u64,
    },
    /// End, when all workers are gone. The last effect but for [`Effect::KillWorker`].
    End(Ending),
}

/// Why a TaskManager ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ending {
    /// It was asked to, by whoever runs it or by the JobManager; with the reason.
    Asked(String),
    /// It cannot do its work; with the reason.
    Failed(String),
}

/// A message for a worker process.
#[derive(Debug, Clone, PartialEq)]
pub enum WorkerMessage {
    /// What tasks begin with, an encoded `TaskSnapshot` each; comes before [`Self::Deploy`], in as many parts as need be.
    Restore(Vec<(TaskId, Vec<u8>)>),
    /// An encoded `weir.worker.Deploy`.
    Deploy(Bytes),
    /// A checkpoint begins, with these tasks.
    TriggerCheckpoint(Arc<CheckpointTrigger>, Vec<TaskId>),
    /// A checkpoint is complete.
    CheckpointCompleted(u64),
    /// Nothing will become of a checkpoint.
    CheckpointAborted(u64),
    /// An encoded `weir.worker.SplitResponse`.
    SplitAnswer(Bytes),
    /// Stop these tasks, or all if there are none.
    Cancel(Vec<TaskId>),
    /// Leave.
    Shutdown,
}

/// The state of a TaskManager: its connection, and the workers it runs.
#[derive(Debug)]
pub struct TaskManagerState {
    options: StateOptions,
    /// The greatest epoch seen.
    highest: LeaderEpoch,
    connection: Connection,
    connections: u64,
    workers: BTreeMap<WorkerKey, WorkerState>,
    started_workers: u64,
    ended: bool,
    /// When it was last registered, or started.
    last_registered: Duration,
    failed_attempts: u32,
    last_problem: String,
    effects: Vec<Effect>,
}

impl TaskManagerState {
    /// A TaskManager that has not started.
    pub fn new(options: StateOptions) -> TaskManagerState {
        TaskManagerState {
            options,
            highest: LeaderEpoch(0),
            connection: Connection::None,
            connections: 0,
            workers: BTreeMap::new(),
            started_workers: 0,
            ended: false,
            last_registered: Duration::ZERO,
            failed_attempts: 0,
            last_problem: String::new(),
            effects: Vec::new(),
        }
    }

    /// Takes note of an event and says what to do, in this order.
    pub fn on_event(&mut self, event: Event, now: Duration) -> Vec<Effect> {
        match event {
            Event::Started => self.on_started(now),
            Event::Connected(connection) => self.on_connected(connection, now),
            Event::ConnectionLost { connection, reason } => self.on_connection_lost(connection, reason, now),
            Event::Received { connection, epoch, message } => self.on_received(connection, epoch, message, now),
            Event::Worker { worker, event } => self.on_worker(worker, event, now),
            Event::Measured(workers) => self.on_measured(&workers, now),
            Event::TimePassed => self.on_time(now),
            Event::ShutdownRequested { reason } => self.end(Ending::Asked(reason)),
        }
        std::mem::take(&mut self.effects)
    }

    /// When to send [`Event::TimePassed`] next.
    pub fn next_deadline(&self) -> Option<Duration> {
        if self.ended {
            return None;
        }
        let dirty = self.workers.values().any(|worker| worker.unreported);
        let workers = self.workers.values().filter_map(WorkerState::deadline);
        self.connection.deadline(dirty).into_iter().chain(workers).min()
    }

    /// The leader it is registered with.
    pub fn registered(&self) -> Option<LeaderEpoch> {
        match &self.connection {
            Connection::Registered(registered) => Some(registered.epoch),
            Connection::None
            | Connection::Waiting { .. }
            | Connection::Dialing { .. }
            | Connection::Registering { .. } => None,
        }
    }

    /// Whether no worker process is left.
    pub fn is_empty(&self) -> bool {
        self.workers.is_empty()
    }

    /// Workers that run or are being started, with their deployments.
    pub fn workers(&self) -> impl Iterator<Item = (WorkerKey, DeploymentId)> + '_ {
        self.workers.iter().map(|(key, worker)| (*key, worker.start.deployment))
    }

    /// What the tasks of running workers last reported, for the metrics endpoint.
    pub fn task_samples(&self) -> Vec<TaskSample> {
        self.workers.values().flat_map(WorkerState::samples).collect()
    }

    /// Number of slots that a job holds.
    pub fn slots_held(&self) -> u32 {
        self.workers.values().filter(|w| w.holds_slots()).map(|w| w.start.slots.len() as u32).sum()
    }

    fn registration(&self) -> ForJobManager {
        ForJobManager::Register(Box::new(Registration {
            protocol_version: PROTOCOL_VERSION,
            cluster_id: self.options.cluster_id.clone(),
            info: self.options.info.clone(),
        }))
    }

    fn send(&mut self, message: ForJobManager) {
        // Without a leader there is nobody whom it concerns.
        if let Some(epoch) = self.registered() {
            self.effects.push(Effect::Send { epoch, message });
        }
    }

    fn report(&mut self, message: FromTaskManager) {
        self.send(ForJobManager::Worker(message));
    }

    fn on_time(&mut self, now: Duration) {
        if self.ended {
            return;
        }
        self.on_connection_time(now);
        self.on_worker_time(now);
    }

    /// Ends: tells the JobManager, kills all workers.
    fn end(&mut self, ending: Ending) {
        if self.ended {
            return;
        }
        let (Ending::Asked(reason) | Ending::Failed(reason)) = &ending;
        self.send(ForJobManager::Leaving { reason: reason.clone() });
        self.kill_all_silently();
        self.connection = Connection::None;
        self.ended = true;
        self.effects.push(Effect::End(ending));
    }

    /// Kills every worker; the JobManager that had them started does not hear of them any more.
    fn kill_all_silently(&mut self) {
        for (key, worker) in &mut self.workers {
            if !matches!(worker.phase, Phase::Killed { .. }) {
                self.effects.push(Effect::KillWorker { worker: *key });
            }
            worker.phase = Phase::Killed { reason: None };
        }
    }
}

#[cfg(test)]
mod tests;
