//! What a TaskManager is started with.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

/// Options of a TaskManager; [`new`](Self::new) has Flink's defaults where Flink has the option.
#[derive(Debug, Clone)]
pub struct TaskManagerOptions {
    /// Where the JobManager listens for TaskManagers, as host:port (`jobmanager.rpc.address`, `jobmanager.rpc.port`).
    pub job_manager: String,
    /// What it shows the JobManager (`security.internal.token`).
    pub internal_token: Option<Token>,
    /// What whoever wants its metrics has to show (`security.rest.token`); `None`: nothing.
    pub rest_token: Option<Token>,
    /// Its name (`taskmanager.resource-id`); without one, host, process id and a random number.
    pub id: Option<String>,
    /// The cluster it belongs to (`cluster.id`); empty: any that it reaches.
    pub cluster_id: String,
    /// Number of slots, at least 1 (`taskmanager.numberOfTaskSlots`).
    pub slots: u32,
    /// Name or address under which other machines reach it (`taskmanager.host`); without one, that of the interface on the way
    /// to the JobManager.
    pub host: Option<String>,
    /// Address of the interface on which the metrics endpoint and the workers' data ports are (`taskmanager.bind-host`);
    /// without one, that of `host`.
    pub bind_host: Option<IpAddr>,
    /// Bytes its workers may take altogether (`taskmanager.memory.process.size`); without it, nine tenths of the machine's or
    /// the control group's memory.
    pub memory: Option<u64>,
    /// Folder for fetched artifacts (`process.taskmanager.working-dir`); made if it is not there. What is in it survives
    /// restarts, and TaskManagers of one machine may share it.
    pub working_dir: PathBuf,
    /// Folder for sockets of workers (`io.tmp.dirs`); without one, the system's. `/tmp`, if its path is too long
    /// for that of a socket.
    pub tmp_dir: Option<PathBuf>,
    /// Folders for state in files, and for copies of checkpoints that jobs want to have on this machine
    /// (`taskmanager.state.local.root-dirs`); made if they are not there. Without any, copies are in the working folder. What is in
    /// them goes with the TaskManager.
    pub local_state_dirs: Vec<PathBuf>,
    /// Folder for the logs of workers, and from which log files are served; made if it is not there.
    pub log_dir: PathBuf,
    /// Bytes that fetched artifacts may take before those that are not in use are removed, least recently used first.
    pub artifact_cache_size: u64,
    /// Bytes after which a log file of a worker is put aside and a new one begun.
    pub worker_log_size: u64,
    /// How many log files of a worker are put aside before the oldest is removed.
    pub worker_log_backups: u32,
    /// Number of log files of workers that are kept in all; beyond, those that were not written to for the longest time go.
    pub worker_logs_kept: usize,
    /// Whether what workers print goes to the output of this process as well, for a person who watches.
    pub echo_output: bool,
    /// Port of the metrics endpoint; 0 takes any free one, `None` opens none (`metrics.reporter.prom.port`).
    pub metrics_port: Option<u16>,
    /// Patience of the first attempt to register (`cluster.registration.initial-timeout`).
    pub registration_initial_timeout: Duration,
    /// The longest wait between attempts to register (`cluster.registration.max-timeout`).
    pub registration_max_timeout: Duration,
    /// Without a registration for this long it ends with an error (`taskmanager.registration.timeout`); `None`: never.
    pub registration_timeout: Option<Duration>,
    /// Whether nothing but this TaskManager runs in the process. Then every child process that nobody knows was left behind by
    /// a worker, and is killed.
    pub owns_process: bool,
}

impl TaskManagerOptions {
    /// A TaskManager of the JobManager at `job_manager` (host:port) with one slot and the default of every other option.
    pub fn new(job_manager: impl Into<String>, working_dir: impl Into<PathBuf>, log_dir: impl Into<PathBuf>) -> Self {
        Self {
            job_manager: job_manager.into(),
            internal_token: None,
            rest_token: None,
            id: None,
            cluster_id: String::new(),
            slots: 1,
            host: None,
            bind_host: None,
            memory: None,
            working_dir: working_dir.into(),
            tmp_dir: None,
            local_state_dirs: Vec::new(),
            log_dir: log_dir.into(),
            artifact_cache_size: 10 << 30,
            worker_log_size: 10 << 20,
            worker_log_backups: 3,
            worker_logs_kept: 200,
            echo_output: false,
            metrics_port: None,
            registration_initial_timeout: Duration::from_millis(100),
            registration_max_timeout: Duration::from_secs(5),
            registration_timeout: Some(Duration::from_secs(300)),
            owns_process: false,
        }
    }
}

/// A secret, which is not printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

impl Token {
    /// The secret; characters that a header can carry.
    pub fn new(token: impl Into<String>) -> Token {
        Token(token.into())
    }

    /// As `Authorization` has it.
    pub(crate) fn bearer(&self) -> String {
        format!("Bearer {}", self.0)
    }
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("******")
    }
}

/// A name for a TaskManager that has none: host, process id and a random number.
///
/// # Errors
/// The system has no randomness.
pub fn random_id(host: &str) -> std::io::Result<String> {
    let mut bytes = [0; 4];
    getrandom::fill(&mut bytes).map_err(std::io::Error::other)?;
    Ok(format!("{host}:{}-{:08x}", std::process::id(), u32::from_le_bytes(bytes)))
}

/// Why a TaskManager could not start, or ended.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TaskManagerError {
    /// An option cannot be used. Who: whoever configured it.
    #[error("{option} is {found:?}: {problem}")]
    Option {
        /// The option's key.
        option: &'static str,
        /// Its value.
        found: String,
        /// What is wrong with it, and what is expected.
        problem: String,
    },
    /// A folder cannot be used. Who: whoever runs the machine.
    #[error("the folder {} cannot be used ({error}); it must be there or be possible to make, and be writable", path.display())]
    Folder {
        /// Which one.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// The metrics endpoint's port cannot be opened. Who: whoever runs the machine.
    #[error(
        "the metrics endpoint cannot be opened on {address} ({error}); metrics.reporter.prom.port sets another port"
    )]
    MetricsPort {
        /// Where it was tried.
        address: std::net::SocketAddr,
        /// Why.
        error: std::io::Error,
    },
    /// The operating system refused something that every process may do.
    #[error("the TaskManager cannot run: {what} ({error})")]
    System {
        /// What was tried.
        what: &'static str,
        /// Why it failed.
        error: std::io::Error,
    },
    /// It gave up: the JobManager was not reached for too long, or refused it.
    #[error("{0}")]
    Ended(String),
}
