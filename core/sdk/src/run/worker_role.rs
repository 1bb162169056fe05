//! The worker role: what a job's executable does when a driver starts it to run a share of the tasks.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::mem::ManuallyDrop;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, ToSocketAddrs};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use std::{env, io, process, thread};

use weir_checkpoint::TaskSnapshot;
use weir_config::options;
use weir_dataflow::fabric;
use weir_dataflow::net::{JobToken, Network, NetworkError, NetworkOptions};
use weir_dataflow::plan::JobPlan;
use weir_dataflow::storage::{LocalFiles, StateStorage, StorageService};
use weir_dataflow::task::MetricsSnapshot;
use weir_dataflow::worker::{DriverLink, Worker, WorkerEvent, WorkerSpec};
use weir_model::{ExecutionState, FailureKind, JobGraph, Placement, TaskFailure, TaskId};
use weir_proto::roles::{
    WORKER_BIND_HOST_VARIABLE, WORKER_FOLDER_VARIABLE, WORKER_INDEX_VARIABLE, WORKER_SOCKET_VARIABLE,
    WORKER_STORAGE_VARIABLE, WORKER_TOKEN_VARIABLE, token_from_hex,
};
use weir_proto::worker::{self as proto, to_driver, to_worker};
use weir_proto::{FrameError, job_graph_hash, read_frame, write_frame};

use super::arguments::Parsed;
use super::{Job, build_job, exit, protocol, signals, terminal, usage};

/// A worker's place in a run.
pub(super) struct Seat {
    socket: PathBuf,
    index: u32,
    token: JobToken,
    host: IpAddr,
    /// Socket of the TaskManager's storage service; without one, snapshots are kept in this machine's files.
    storage: Option<PathBuf>,
    /// For working files; whoever started this process removes it.
    folder: PathBuf,
}

impl Seat {
    /// The seat a driver prepared, or what is wrong with it; `None` when this process was started by a person.
    pub(super) fn from_environment() -> Option<Result<Seat, String>> {
        let socket = PathBuf::from(env::var_os(WORKER_SOCKET_VARIABLE)?);
        let seat = Seat::prepared(socket);
        for variable in [
            WORKER_SOCKET_VARIABLE,
            WORKER_INDEX_VARIABLE,
            WORKER_TOKEN_VARIABLE,
            WORKER_BIND_HOST_VARIABLE,
            WORKER_STORAGE_VARIABLE,
            WORKER_FOLDER_VARIABLE,
        ] {
            // Processes that user code starts are not workers.
            // SAFETY: called first thing in `main`, while this is the only thread.
            unsafe { env::remove_var(variable) };
        }
        Some(seat)
    }

    fn prepared(socket: PathBuf) -> Result<Seat, String> {
        let text = |variable: &str| {
            env::var(variable)
                .map_err(|e| format!("{WORKER_SOCKET_VARIABLE} is set, but {variable} is not usable: {e}"))
        };
        let index = text(WORKER_INDEX_VARIABLE)?;
        let index = index.parse().map_err(|_| format!("{WORKER_INDEX_VARIABLE} is {index:?}; expected a number"))?;
        let token = token_from_hex(&text(WORKER_TOKEN_VARIABLE)?)
            .ok_or_else(|| format!("{WORKER_TOKEN_VARIABLE} is not a token; expected 64 hexadecimal digits"))?;
        let host = match env::var(WORKER_BIND_HOST_VARIABLE) {
            Ok(host) => address_of(&host)?,
            Err(_) => IpAddr::V4(Ipv4Addr::LOCALHOST),
        };
        let storage = env::var_os(WORKER_STORAGE_VARIABLE).map(PathBuf::from);
        let own = || env::temp_dir().join(format!("weir-worker-{}", std::process::id()));
        let folder = env::var_os(WORKER_FOLDER_VARIABLE).map_or_else(own, PathBuf::from);
        Ok(Seat { socket, index, token: JobToken::from_bytes(token), host, storage, folder })
    }
}

/// The address of this machine that other workers are told.
fn address_of(host: &str) -> Result<IpAddr, String> {
    let wrong = |problem: String| {
        format!(
            "{WORKER_BIND_HOST_VARIABLE} is {host:?}, {problem}; expected the address or name other machines reach this one by"
        )
    };
    let mut found = (host, 0).to_socket_addrs().map_err(|e| wrong(format!("which cannot be resolved ({e})")))?;
    let address = found.next().ok_or_else(|| wrong("which has no address".to_owned()))?.ip();
    if address.is_unspecified() { Err(wrong("which no other worker can connect to".to_owned())) } else { Ok(address) }
}

type WorkerResult<T> = Result<T, Box<dyn std::error::Error>>;

/// Runs this process as a worker until its driver says that everything is done, or is gone.
pub(super) fn serve(job: &Job, parsed: &Parsed, seat: Seat) -> u8 {
    signals::ignore();
    match try_serve(job, parsed, &seat) {
        Ok(()) => exit::FINISHED,
        Err(error) => {
            terminal::err(format!("worker {}: {error}", seat.index));
            exit::FAILED
        }
    }
}

/// Called in the new process before it becomes a worker; only async-signal-safe calls. Ctrl-C and signals to a group reach every
/// process, but only the driver decides; and without a driver a worker has no purpose.
pub(super) fn bind_to_driver(driver: u32) -> std::io::Result<()> {
    // SAFETY: the calls only set and read attributes of this process. Both settings outlive `exec`.
    let parent = unsafe {
        libc::signal(libc::SIGINT, libc::SIG_IGN);
        libc::signal(libc::SIGTERM, libc::SIG_IGN);
        #[cfg(target_os = "linux")]
        libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
        libc::getppid()
    };
    // The driver may have ended before the setting that would have told.
    if u32::try_from(parent) == Ok(driver) { Ok(()) } else { Err(std::io::Error::from_raw_os_error(libc::ESRCH)) }
}

fn try_serve(job: &Job, parsed: &Parsed, seat: &Seat) -> WorkerResult<()> {
    let (plan, side, configuration) = build_job(job, parsed)?;
    // Not dropped: the process ends anyway, and an author's `Drop` that panics must not change how the job ended.
    std::mem::forget(side);
    let stream = UnixStream::connect(&seat.socket)
        .map_err(|e| format!("the driver cannot be reached at {} ({e})", seat.socket.display()))?;
    let network = Network::start(NetworkOptions { host: seat.host, ..NetworkOptions::new(seat.token) })?;
    let hash = job_graph_hash(&plan.graph);
    let mut incoming = stream.try_clone()?;
    let link = Arc::new(Link::new(stream));
    link.write(to_driver::Message::Hello(proto::Hello {
        protocol_version: proto::PROTOCOL_VERSION,
        pid: process::id(),
        job_graph_hash: hash,
        data_address: network.address().to_string(),
        worker_index: seat.index,
        vertices: proto::VertexInfo::of_graph(&plan.graph),
    }))?;
    let mut plan = ManuallyDrop::new(plan);
    let Some((deploy, restore)) = await_deploy(&mut incoming)? else { return Ok(()) };
    if deploy.job_graph_hash != hash {
        return Err("the driver deployed another graph than this worker built".into());
    }
    let storage: Arc<dyn StateStorage> = match &seat.storage {
        Some(socket) => {
            let copies = configuration.get(&options::CHECKPOINT_LOCAL_BACKUP);
            Arc::new(StorageService::new(socket).with_copies(copies))
        }
        None => Arc::new(LocalFiles),
    };
    let placement = placement(&plan.graph, &deploy)?;
    // The vertices have as many subtasks as the deployment says.
    plan.graph = plan.graph.at_parallelism(&placement.parallelism());
    let plan = Arc::new(ManuallyDrop::into_inner(plan));
    std::mem::forget(plan.clone());
    let deploy = Placed { placement, deploy };
    let state = State { storage, restore, folder: seat.folder.clone() };
    let share = Share::new(plan, seat.index, network, deploy, state)?;
    let seat = Arc::new(Deployed { share, link, stage: Mutex::new(Stage::Connecting(BTreeSet::new())) });
    seat.clone().start(configuration.get(&options::PROGRESS_INTERVAL))?;
    seat.follow_orders(&mut incoming)
}

/// What tasks begin with, by task.
type Restore = BTreeMap<TaskId, TaskSnapshot>;

/// Where tasks keep their state, and what they begin with.
struct State {
    storage: Arc<dyn StateStorage>,
    restore: Restore,
    /// For working files.
    folder: PathBuf,
}

/// What to run; nothing if the driver gave up or shuts down before anything was deployed. What is restored comes before it.
fn await_deploy(incoming: &mut UnixStream) -> WorkerResult<Option<(proto::Deploy, Restore)>> {
    let mut restore = Restore::new();
    loop {
        match read_frame::<proto::ToWorker>(incoming)?.map(|frame| frame.message) {
            Some(Some(to_worker::Message::Deploy(deploy))) => return Ok(Some((deploy, restore))),
            Some(Some(to_worker::Message::Restore(message))) => {
                for (task, snapshot) in message.tasks.into_iter().map(proto::TaskRestore::into_parts) {
                    restore.insert(task, restored(task, &snapshot)?);
                }
            }
            // Of tasks that run; this worker has none yet.
            Some(Some(
                to_worker::Message::TriggerCheckpoint(_)
                | to_worker::Message::CheckpointCompleted(_)
                | to_worker::Message::CheckpointAborted(_),
            )) => {}
            None | Some(Some(to_worker::Message::Shutdown(_) | to_worker::Message::Cancel(_))) => return Ok(None),
            Some(other) => return Err(format!("the driver's first message is {other:?}; expected Deploy").into()),
        }
    }
}

fn restored(task: TaskId, snapshot: &[u8]) -> WorkerResult<TaskSnapshot> {
    TaskSnapshot::decode(snapshot).map_err(|error| {
        let TaskId { vertex, subtask } = task;
        format!("the state that subtask {subtask} of vertex {vertex} is to begin with cannot be read: {error}").into()
    })
}

/// Which worker runs what.
fn placement(graph: &JobGraph, deploy: &proto::Deploy) -> WorkerResult<Placement> {
    let mut workers = vec![Vec::new(); graph.vertices.len()];
    for placed in &deploy.placements {
        let position = placed.vertex as usize;
        let vertex = graph.vertices.get(position).ok_or("a placement names a vertex that is not there")?;
        workers[position] = placed.workers(vertex.max_parallelism)?;
    }
    for (placed, vertex) in workers.iter_mut().zip(&graph.vertices) {
        // One that is not named takes no part.
        if placed.is_empty() {
            placed.resize(vertex.parallelism as usize, Placement::ABSENT);
        }
    }
    let count = deploy.peers.len() as u32;
    if let Some(beyond) = workers.iter().flatten().find(|&&w| w >= count && w != Placement::ABSENT) {
        return Err(format!("a task is placed on worker {beyond}, but there are {count}").into());
    }
    Ok(Placement::new(count, workers))
}

/// A deployment with its placement, decoded.
struct Placed {
    placement: Placement,
    deploy: proto::Deploy,
}

/// What of a deployment is this worker's.
struct Share {
    plan: Arc<JobPlan>,
    index: u32,
    network: Network,
    placement: Placement,
    addresses: Vec<SocketAddr>,
    /// The workers that its tasks exchange data with.
    peers: BTreeSet<u32>,
    run_id: String,
    attempt: u32,
    state: State,
}

impl Share {
    fn new(
        plan: Arc<JobPlan>,
        index: u32,
        network: Network,
        Placed { placement, deploy }: Placed,
        state: State,
    ) -> WorkerResult<Share> {
        let addresses = deploy.peers.iter().map(|p| p.data_address.parse()).collect::<Result<_, _>>()?;
        let peers = fabric::peers_of(&plan.graph, &placement, index)?;
        Ok(Share {
            plan,
            index,
            network,
            placement,
            addresses,
            peers,
            run_id: deploy.run_id,
            attempt: deploy.deployment,
            state,
        })
    }

    fn tasks(&self) -> BTreeSet<TaskId> {
        self.placement.tasks_of(self.index).collect()
    }

    fn start(&self, link: Arc<Link>) -> Worker {
        let spec = WorkerSpec {
            plan: self.plan.clone(),
            placement: self.placement.clone(),
            index: self.index,
            network: Some(self.network.clone()),
            run_id: self.run_id.clone(),
            attempt: self.attempt,
            storage: self.state.storage.clone(),
            folder: self.state.folder.clone(),
            restore: self.state.restore.clone(),
        };
        Worker::start(spec, link)
    }
}

/// A worker that has been told what to run.
struct Deployed {
    share: Share,
    link: Arc<Link>,
    stage: Mutex<Stage>,
}

/// How far it has come.
enum Stage {
    /// It connects with its peers. These tasks are not wanted any more.
    Connecting(BTreeSet<TaskId>),
    /// The tasks run, or have run.
    Running(Arc<Worker>),
    /// All tasks have been reported as ended without having been started.
    NotStarted,
}

impl Deployed {
    /// Connects and starts the tasks on a thread of its own, which then reports metrics; orders are heard meanwhile. Ends with
    /// the process.
    fn start(self: Arc<Self>, interval: Duration) -> io::Result<()> {
        thread::Builder::new().name("weir-metrics".into()).spawn(move || {
            let Some(worker) = self.connect_and_run() else { return };
            while self.link.report(&worker, Report::Changes).is_ok() {
                thread::sleep(interval);
            }
        })?;
        Ok(())
    }

    fn connect_and_run(&self) -> Option<Arc<Worker>> {
        let Share { index, addresses, peers, .. } = &self.share;
        let connected = self.share.network.connect_with(*index, addresses, peers);
        // Held while the tasks start: the first ones ask for splits before the last ones run, and their answers must wait.
        let mut stage = self.stage();
        let canceled = match &mut *stage {
            Stage::Connecting(canceled) => std::mem::take(canceled),
            Stage::Running(_) | Stage::NotStarted => BTreeSet::new(),
        };
        if let Err(error) = connected {
            *stage = Stage::NotStarted;
            self.report_not_started(&error, &canceled);
            return None;
        }
        let worker = Arc::new(self.share.start(self.link.clone()));
        canceled.into_iter().for_each(|task| worker.cancel_tasks(&[task]));
        *stage = Stage::Running(worker.clone());
        Some(worker)
    }

    /// A peer that died or cannot be reached is what the tasks failed of, unless they were cancelled already.
    fn report_not_started(&self, error: &NetworkError, canceled: &BTreeSet<TaskId>) {
        for task in self.share.tasks() {
            let failure = match error {
                _ if canceled.contains(&task) => None,
                error => Some(TaskFailure::new(FailureKind::Network, error)),
            };
            let state = if failure.is_some() { ExecutionState::Failed } else { ExecutionState::Canceled };
            let metrics = Some(Box::default());
            self.link.send(WorkerEvent::StateChanged { task, state, failure, committables: Vec::new(), metrics });
        }
    }

    /// Does what the driver says until it says that all is done.
    fn follow_orders(&self, incoming: &mut UnixStream) -> WorkerResult<()> {
        loop {
            let frame = read_frame::<proto::ToWorker>(incoming)?;
            match frame.map(|frame| frame.message) {
                None => {
                    terminal::err("worker: the driver is gone; stopping");
                    process::exit(i32::from(exit::FAILED));
                }
                Some(Some(to_worker::Message::SplitResponse(response))) => {
                    let (task, answer) = protocol::split_answer(response);
                    self.with_worker(|worker| worker.answer_split(task, answer));
                }
                Some(Some(to_worker::Message::Cancel(cancel))) => {
                    self.cancel(cancel.tasks.into_iter().map(Into::into).collect());
                }
                Some(Some(to_worker::Message::TriggerCheckpoint(trigger))) => self.trigger(trigger)?,
                Some(Some(to_worker::Message::CheckpointCompleted(completed))) => {
                    self.with_worker(|worker| worker.checkpoint_completed(completed.checkpoint));
                }
                Some(Some(to_worker::Message::CheckpointAborted(aborted))) => {
                    self.with_worker(|worker| worker.checkpoint_aborted(aborted.checkpoint));
                }
                Some(Some(to_worker::Message::Shutdown(_))) => return self.leave(),
                Some(Some(to_worker::Message::Deploy(_) | to_worker::Message::Restore(_))) => {
                    return Err("the driver deployed twice".into());
                }
                // A message of a newer driver that this worker can do without.
                Some(None) => {}
            }
        }
    }

    /// A checkpoint begins. Of tasks that do not run yet its coordinator hears nothing, or that they have been given up.
    fn trigger(&self, message: proto::TriggerCheckpoint) -> WorkerResult<()> {
        let (trigger, tasks) = message.into_parts()?;
        self.with_worker(|worker| worker.trigger_checkpoint(trigger, &tasks));
        Ok(())
    }

    fn with_worker(&self, tell: impl FnOnce(&Worker)) {
        if let Stage::Running(worker) = &*self.stage() {
            tell(worker);
        }
    }

    /// Cancels these tasks, or all if none are named.
    fn cancel(&self, tasks: Vec<TaskId>) {
        match &mut *self.stage() {
            Stage::Running(worker) if tasks.is_empty() => worker.cancel(),
            Stage::Running(worker) => worker.cancel_tasks(&tasks),
            Stage::Connecting(canceled) => {
                let own = self.share.tasks();
                canceled.extend(if tasks.is_empty() { own.iter().copied().collect() } else { tasks });
                if canceled.is_superset(&own) {
                    // Nothing is left to connect for, and the peer that is missing may never come.
                    self.share.network.shutdown(Duration::ZERO);
                }
            }
            // They have been reported.
            Stage::NotStarted => {}
        }
    }

    fn leave(&self) -> WorkerResult<()> {
        let worker = match &*self.stage() {
            Stage::Running(worker) => worker.clone(),
            // The driver does not want to know what becomes of the tasks.
            Stage::Connecting(_) | Stage::NotStarted => return Ok(()),
        };
        worker.join();
        Ok(self.link.report(&worker, Report::Usage)?)
    }

    fn stage(&self) -> MutexGuard<'_, Stage> {
        self.stage.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The connection to the driver.
struct Link(Mutex<LinkState>);

struct LinkState {
    stream: UnixStream,
    /// Metrics as last sent. Behind the same lock as the stream: what is sent later is never older.
    sent: HashMap<TaskId, MetricsSnapshot>,
    rss_bytes: u64,
    cpu_nanos: u64,
}

/// What a report of metrics is for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Report {
    /// Tasks whose metrics changed; nothing is sent if there are none.
    Changes,
    /// What the process used, at its end.
    Usage,
}

impl Link {
    fn new(stream: UnixStream) -> Link {
        Link(Mutex::new(LinkState { stream, sent: HashMap::new(), rss_bytes: 0, cpu_nanos: 0 }))
    }

    fn state(&self) -> MutexGuard<'_, LinkState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self, message: to_driver::Message) -> Result<(), FrameError> {
        write_frame(&mut self.state().stream, &protocol::to_driver(message))
    }

    fn report(&self, worker: &Worker, report: Report) -> Result<(), FrameError> {
        let (rss_bytes, cpu_nanos) = (usage::peak_resident_bytes(), usage::cpu_time().as_nanos() as u64);
        let mut state = self.state();
        (state.rss_bytes, state.cpu_nanos) = (rss_bytes, cpu_nanos);
        let mut changed = worker.metrics();
        changed.retain(|(task, metrics)| state.sent.insert(*task, metrics.clone()).as_ref() != Some(metrics));
        if changed.is_empty() && report == Report::Changes {
            return Ok(());
        }
        let message = state.metrics_report(changed);
        write_frame(&mut state.stream, &protocol::to_driver(message))
    }
}

impl LinkState {
    fn metrics_report(&self, tasks: Vec<(TaskId, MetricsSnapshot)>) -> to_driver::Message {
        to_driver::Message::MetricsReport(proto::MetricsReport {
            tasks: tasks.into_iter().map(|(task, metrics)| proto::TaskMetrics::new(task, metrics)).collect(),
            rss_bytes: self.rss_bytes,
            cpu_nanos: self.cpu_nanos,
        })
    }

    /// A task's last metrics and its end, in one write.
    fn write_end(&mut self, task: TaskId, metrics: MetricsSnapshot, end: to_driver::Message) -> Result<(), FrameError> {
        self.sent.insert(task, metrics.clone());
        let mut frames = Vec::new();
        write_frame(&mut frames, &protocol::to_driver(self.metrics_report(vec![(task, metrics)])))?;
        write_frame(&mut frames, &protocol::to_driver(end))?;
        Ok(io::Write::write_all(&mut self.stream, &frames)?)
    }
}

impl DriverLink for Link {
    fn send(&self, event: WorkerEvent) {
        let ended = match &event {
            WorkerEvent::StateChanged { task, metrics: Some(metrics), .. } => Some((*task, (**metrics).clone())),
            WorkerEvent::StateChanged { .. }
            | WorkerEvent::SplitRequested { .. }
            | WorkerEvent::CheckpointAcknowledged(_)
            | WorkerEvent::CheckpointDeclined(_) => None,
        };
        let message = protocol::event_to_message(event);
        // When the driver is gone the reading side notices and ends the process.
        let _ = match ended {
            Some((task, metrics)) => self.state().write_end(task, metrics, message),
            None => self.write(message),
        };
    }
}
