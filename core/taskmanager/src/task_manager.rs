//! A TaskManager in this process: made from options, on a thread of its own.

use std::collections::BTreeSet;
use std::fs::DirBuilder;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, ToSocketAddrs, UdpSocket};
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::watch;
use weir_model::{TaskManagerId, TaskManagerInfo};
use weir_process::private_folder;

use crate::artifacts::ArtifactCache;
use crate::event_loop::{EventLoop, Inputs};
use crate::options::{TaskManagerError, TaskManagerOptions};
use crate::own_folder::OwnFolder;
use crate::state::{Ending, Event, StateOptions};
use crate::storage::{KEPT_FOR_RESTART, LocalCopies, StorageThread};
use crate::worker::{AbortOnDrop, WorkerSettings};
use crate::{metrics_endpoint, processes};

/// How long a released worker may take to leave.
const RELEASE_TIMEOUT: Duration = Duration::from_secs(5);
/// Stack of its threads. They do not recurse.
const STACK: usize = 512 * 1024;

/// A running TaskManager. It has a thread of its own and needs no runtime of its owner. Dropping it ends it and waits for that.
#[derive(Debug)]
pub struct TaskManager {
    id: TaskManagerId,
    metrics_address: Option<SocketAddr>,
    inputs: Stop,
    ended: watch::Receiver<bool>,
    thread: Option<JoinHandle<Ending>>,
}

struct Stop(Inputs);

impl std::fmt::Debug for Stop {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Stop")
    }
}

impl TaskManager {
    /// Starts a TaskManager, which looks for its JobManager from then on.
    ///
    /// # Errors
    /// What its configuration or the machine makes impossible. That the JobManager cannot be reached is none: see
    /// [`join`](Self::join).
    pub fn start(options: TaskManagerOptions) -> Result<TaskManager, TaskManagerError> {
        check(&options)?;
        let system = |what| move |error| TaskManagerError::System { what, error };
        private_folder(&options.working_dir)
            .map_err(|error| TaskManagerError::Folder { path: options.working_dir.clone(), error })?;
        // One that is there is as open as its owner wants it.
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&options.log_dir)
            .map_err(|error| TaskManagerError::Folder { path: options.log_dir.clone(), error })?;
        let artifact_dir = options.working_dir.join("artifacts");
        let artifacts = ArtifactCache::open(artifact_dir.clone(), options.artifact_cache_size)
            .map_err(|error| TaskManagerError::Folder { path: artifact_dir, error })?;
        processes::adopt_orphans().map_err(system("becoming the parent of what workers leave behind"))?;
        let incarnation = random().map_err(system("drawing a random number"))?;
        let hosts = Hosts::find(&options)?;
        let metrics = options.metrics_port.map(|port| open_metrics(hosts.bind, port)).transpose()?;
        let metrics_address = metrics.as_ref().map(|(address, _)| *address);
        let state = state_options(&options, &hosts, incarnation, metrics_address.map_or(0, |address| address.port()));
        let id = state.info.id.clone();

        let removed = OwnFolder::for_sockets(options.tmp_dir.clone().unwrap_or_else(std::env::temp_dir), incarnation)?;
        let socket_dir = removed.path().to_owned();
        let copies = local_copies(&options, incarnation)?;
        let state_folder = state_folder(&options, incarnation)?;
        let state_dir = state_folder.as_ref().map_or_else(|| socket_dir.clone(), |folder| folder.path().to_owned());
        let storage = StorageThread::start().map_err(system("starting the thread that serves storage"))?;
        let settings = Arc::new(WorkerSettings {
            artifacts,
            storage: storage.service(Arc::new(weir_storage::file_system), copies),
            socket_dir,
            state_dir,
            log_dir: options.log_dir.clone(),
            log_size: options.worker_log_size,
            log_backups: options.worker_log_backups,
            logs_kept: options.worker_logs_kept,
            echo_output: options.echo_output,
            data_host: hosts.data,
            logs_in_use: Mutex::new(BTreeSet::new()),
        });
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .thread_stack_size(STACK)
            .thread_name("weir-tm-io")
            .max_blocking_threads(16)
            .build()
            .map_err(system("starting its runtime"))?;
        let (inputs, received) = Inputs::new();
        let stop = Stop(inputs.clone());
        let (tell_end, ended) = watch::channel(false);
        let slots = state.info.slots;
        let rest_token = options.rest_token.clone();
        let (job_manager, owns_process) = (options.job_manager, options.owns_process);
        let event_loop = EventLoop::new(
            state,
            settings,
            (job_manager.clone(), options.internal_token.clone()),
            owns_process,
            (inputs.clone(), received),
        );
        let thread = std::thread::Builder::new()
            .name("weir-taskmanager".to_owned())
            .spawn(move || {
                let _removed = (removed, state_folder);
                let ending = runtime.block_on(async move {
                    let _endpoint = metrics.and_then(|(_, listener)| {
                        let listener = tokio::net::TcpListener::from_std(listener).ok()?;
                        Some(AbortOnDrop(tokio::spawn(metrics_endpoint::serve(listener, inputs, rest_token))))
                    });
                    event_loop.run().await
                });
                // What still blocks on a disk is not waited for.
                runtime.shutdown_background();
                drop(storage);
                tell_end.send_replace(true);
                ending
            })
            .map_err(system("starting its thread"))?;
        tracing::info!(taskmanager_id = %id, job_manager, slots, host = hosts.public, "TaskManager started");
        Ok(TaskManager { id, metrics_address, inputs: stop, ended, thread: Some(thread) })
    }

    /// Its name.
    pub fn id(&self) -> &TaskManagerId {
        &self.id
    }

    /// Where its metrics endpoint is; `None` if it has none.
    pub fn metrics_address(&self) -> Option<SocketAddr> {
        self.metrics_address
    }

    /// Whether it has ended.
    pub fn is_ended(&self) -> bool {
        *self.ended.borrow()
    }

    /// Asks it to end: it tells the JobManager, kills its workers and ends. Returns at once.
    pub fn stop(&self, reason: impl Into<String>) {
        self.inputs.0.event(Event::ShutdownRequested { reason: reason.into() });
    }

    /// Waits until it has ended; blocks. Says why it ended if it was asked to.
    ///
    /// # Errors
    /// [`TaskManagerError::Ended`]: it was refused, or found no JobManager for longer than `taskmanager.registration.timeout`.
    pub fn join(mut self) -> Result<String, TaskManagerError> {
        match self.thread.take().map(JoinHandle::join) {
            Some(Ok(Ending::Asked(reason))) => Ok(reason),
            Some(Ok(Ending::Failed(reason))) => Err(TaskManagerError::Ended(reason)),
            Some(Err(_)) | None => Err(TaskManagerError::Ended("the TaskManager's thread panicked".to_owned())),
        }
    }

    /// Resolves when it has ended by itself.
    pub async fn ended(&self) {
        // An error means that its thread is gone, which is the same.
        let _ = self.ended.clone().wait_for(|ended| *ended).await;
    }

    /// Runs until `shutdown` resolves with a reason, or until it ends by itself.
    ///
    /// # Errors
    /// As [`join`](Self::join).
    pub async fn run_until(self, shutdown: impl Future<Output = String>) -> Result<String, TaskManagerError> {
        let asked = tokio::select! {
            () = self.ended() => None,
            reason = shutdown => Some(reason),
        };
        if let Some(reason) = asked {
            self.stop(reason);
            self.ended().await;
        }
        self.join()
    }
}

impl Drop for TaskManager {
    fn drop(&mut self) {
        if let Some(thread) = self.thread.take() {
            self.stop("it was dropped");
            let _ = thread.join();
        }
    }
}

fn check(options: &TaskManagerOptions) -> Result<(), TaskManagerError> {
    let wrong = |option, found: &str, problem: &str| {
        Err(TaskManagerError::Option { option, found: found.to_owned(), problem: problem.to_owned() })
    };
    let port = options.job_manager.rsplit_once(':').and_then(|(_, port)| port.parse::<u16>().ok());
    if port.is_none_or(|port| port == 0) {
        return wrong("jobmanager.rpc.address", &options.job_manager, "expected host:port with a port above 0");
    }
    if options.slots == 0 {
        return wrong("taskmanager.numberOfTaskSlots", "0", "a TaskManager has at least one slot");
    }
    match &options.id {
        Some(id) if id.is_empty() || id.contains(char::is_whitespace) => {
            wrong("taskmanager.resource-id", id, "expected a name without spaces")
        }
        Some(_) | None => Ok(()),
    }
}

/// Where copies of checkpoints are kept on this machine, for jobs that want them.
fn local_copies(options: &TaskManagerOptions, random: u64) -> Result<LocalCopies, TaskManagerError> {
    let bases = match options.local_state_dirs.as_slice() {
        [] => vec![options.working_dir.join("localState")],
        folders => folders.to_vec(),
    };
    let make = |base: PathBuf| {
        private_folder(&base).map_err(|error| TaskManagerError::Folder { path: base.clone(), error })?;
        OwnFolder::make(base, random)
    };
    let folders = bases.into_iter().map(make).collect::<Result<_, _>>()?;
    Ok(LocalCopies::new(folders, KEPT_FOR_RESTART))
}

/// Where workers keep state in files, if it is not where their sockets are.
fn state_folder(options: &TaskManagerOptions, random: u64) -> Result<Option<OwnFolder>, TaskManagerError> {
    // Another name than that of the folder of copies, which may be beside it.
    let make = |base: &PathBuf| {
        let base = base.join("state");
        private_folder(&base).map_err(|error| TaskManagerError::Folder { path: base.clone(), error })?;
        OwnFolder::make(base, random)
    };
    options.local_state_dirs.first().map(make).transpose()
}

fn state_options(options: &TaskManagerOptions, hosts: &Hosts, incarnation: u64, metrics_port: u16) -> StateOptions {
    let pid = std::process::id();
    let random_id = || format!("{}:{pid}-{:08x}", hosts.public, incarnation as u32);
    let (physical_memory, allowed) = processes::memory();
    StateOptions {
        info: TaskManagerInfo {
            id: TaskManagerId::new(options.id.clone().unwrap_or_else(random_id)),
            incarnation,
            slots: options.slots,
            host: hosts.public.clone(),
            metrics_port,
            pid,
            memory: options.memory.unwrap_or(allowed / 10 * 9),
            cpu_cores: std::thread::available_parallelism().map_or(1, |cores| cores.get() as u32),
            physical_memory,
            version: env!("CARGO_PKG_VERSION").to_owned(),
        },
        cluster_id: options.cluster_id.clone(),
        registration_initial_timeout: options.registration_initial_timeout,
        registration_max_timeout: options.registration_max_timeout,
        registration_timeout: options.registration_timeout,
        release_timeout: RELEASE_TIMEOUT,
        memory_configured: options.memory.is_some(),
    }
}

fn random() -> io::Result<u64> {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).map_err(io::Error::other)?;
    Ok(u64::from_le_bytes(bytes))
}

/// The names and addresses of this machine that a TaskManager uses.
struct Hosts {
    /// What it tells others.
    public: String,
    /// The interface its metrics endpoint is on.
    bind: IpAddr,
    /// The interface its workers' data ports are on, and under which others reach them.
    data: IpAddr,
}

impl Hosts {
    fn find(options: &TaskManagerOptions) -> Result<Hosts, TaskManagerError> {
        let Some(public) = options.host.clone() else {
            let own = towards(&options.job_manager);
            return Ok(Hosts { public: own.to_string(), bind: options.bind_host.unwrap_or(own), data: own });
        };
        let wrong =
            |problem: String| TaskManagerError::Option { option: "taskmanager.host", found: public.clone(), problem };
        let resolved: Vec<IpAddr> = (public.as_str(), 0)
            .to_socket_addrs()
            .map_err(|error| {
                wrong(format!("it cannot be resolved ({error}); expected a name or address of this machine"))
            })?
            .map(|address| address.ip())
            .collect();
        // IPv4 where a name has both, as the JobManager does.
        let mut own: Vec<IpAddr> = resolved.into_iter().filter(|address| is_own(*address)).collect();
        own.sort_by_key(IpAddr::is_ipv6);
        let specific = options.bind_host.filter(|host| !host.is_unspecified());
        // Behind an address translation the public address is none of this machine's.
        let data = own.first().copied().or(specific).ok_or_else(|| {
            wrong(
                "it is no address of an interface of this machine; set taskmanager.bind-host to the interface to use"
                    .to_owned(),
            )
        })?;
        Ok(Hosts { public, bind: options.bind_host.unwrap_or(data), data })
    }
}

/// The address of the interface on the way to the JobManager; loopback if there is no way now.
fn towards(job_manager: &str) -> IpAddr {
    let own = job_manager.to_socket_addrs().ok().and_then(|addresses| {
        addresses.into_iter().find_map(|address| {
            let any: SocketAddr = if address.is_ipv4() { ([0, 0, 0, 0], 0).into() } else { ([0u16; 8], 0).into() };
            let socket = UdpSocket::bind(any).ok()?;
            // Sends nothing; the kernel only looks the way up.
            socket.connect(address).ok()?;
            Some(socket.local_addr().ok()?.ip())
        })
    });
    own.unwrap_or(Ipv4Addr::LOCALHOST.into())
}

fn is_own(address: IpAddr) -> bool {
    !address.is_unspecified() && TcpListener::bind((address, 0)).is_ok()
}

fn open_metrics(host: IpAddr, port: u16) -> Result<(SocketAddr, TcpListener), TaskManagerError> {
    let address = SocketAddr::new(host, port);
    let open = || {
        let listener = TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        Ok((listener.local_addr()?, listener))
    };
    open().map_err(|error| TaskManagerError::MetricsPort { address, error })
}
