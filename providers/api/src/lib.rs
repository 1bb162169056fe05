//! What a resource provider is: the trait, what it is asked for, and what it tells.
//!
//! A provider starts and stops TaskManagers, called workers here, wherever it gets resources: on this machine, from YARN, Mesos,
//! Kubernetes. The ResourceManager decides how many there are to be; the provider decides how they come about. The Rust types here
//! are the plain form of `provider.proto`, whose bytes cross the plugin boundary.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

pub mod conformance;
pub mod wire;

pub use weir_model::TaskManagerId;

/// Makes a provider. A plugin exports one.
pub trait ProviderFactory: Send + Sync {
    /// What the provider is and can do.
    fn describe(&self) -> Description;

    /// Makes it ready. What happens from now on is told to `events`, which may be called from any thread and never waits.
    fn open(&self, request: OpenRequest, events: EventSink) -> Result<Box<dyn Provider>, OpenError>;
}

/// An open provider. When it is dropped without a shutdown, its workers go on as after one that leaves them, and no event follows.
pub trait Provider: Send {
    /// Takes a request and returns at once; what comes of it is told to the event sink.
    fn request(&mut self, request: ProviderRequest);
}

/// Where a provider's events go.
pub type EventSink = Arc<dyn Fn(ProviderEvent) + Send + Sync>;

/// Why a provider could not be opened: what was found, what was expected, and how to put it right.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct OpenError(pub String);

/// What a provider is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Description {
    /// E.g. `standalone`: lower-case letters, digits and dashes.
    pub name: String,
    /// Its version.
    pub version: String,
    /// One line for people.
    pub summary: String,
    /// What it can do beyond starting and stopping.
    pub capabilities: Vec<Capability>,
}

impl Description {
    /// What is wrong with it, to follow `the description is not valid:`.
    pub fn problem(&self) -> Option<String> {
        let letter = |letter: char| letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == '-';
        if self.name.is_empty() || !self.name.chars().all(letter) {
            let name = &self.name;
            return Some(format!("the name {name:?} has to be one or more lower-case letters, digits and dashes"));
        }
        let empty =
            [("version", &self.version), ("summary", &self.summary)].into_iter().find(|(_, text)| text.is_empty());
        if let Some((field, _)) = empty {
            return Some(format!("its {field} is empty"));
        }
        self.summary.contains('\n').then(|| "the summary has more than one line".to_owned())
    }
}

/// Something not every provider can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Capability {
    /// Finds workers that an earlier JobManager started.
    Recover,
    /// Understands [`ProviderRequest::DeclareDemand`].
    Demand,
    /// Reports [`ProviderEvent::Draining`] before it takes a worker away.
    Draining,
    /// Knows at most how many workers there can be.
    Capacity,
}

/// How a provider is opened.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OpenRequest {
    /// Names the cluster; workers of another one are not this provider's.
    pub cluster_id: String,
    /// All options in effect, by key.
    pub configuration: BTreeMap<String, String>,
    /// A folder of its own for what must survive a restart of the JobManager; it exists.
    pub state_dir: PathBuf,
}

/// What a provider is asked for.
#[derive(Debug, Clone, PartialEq)]
pub enum ProviderRequest {
    /// Find this cluster's workers that run already; the first request. Answered by [`ProviderEvent::Recovered`].
    RecoverWorkers,
    /// Start a worker.
    StartWorker(WorkerSpec),
    /// Stop a worker; answered by [`ProviderEvent::Terminated`].
    StopWorker(TaskManagerId),
    /// How many workers are wanted altogether, those that run included. A hint.
    DeclareDemand {
        /// Workers.
        workers: u32,
    },
    /// The last request. Answered by [`ProviderEvent::Closed`].
    Shutdown {
        /// Whether the workers are to be stopped, or left for another JobManager.
        stop_workers: bool,
        /// How the cluster ended.
        status: FinalStatus,
        /// For people.
        message: String,
    },
}

/// How a cluster ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FinalStatus {
    /// As it should.
    Succeeded,
    /// By a failure.
    Failed,
    /// Because somebody wanted it to.
    Canceled,
}

/// A worker to be started: what it needs and how, but not where.
#[derive(Debug, Clone, PartialEq)]
pub struct WorkerSpec {
    /// Unique in the cluster and in time; the TaskManager registers under it.
    pub id: TaskManagerId,
    /// What it needs.
    pub resources: ResourceProfile,
    /// Slots it will offer.
    pub slots: u32,
    /// The program and its arguments.
    pub command: Vec<String>,
    /// Environment variables it needs beside the provider's own.
    pub environment: BTreeMap<String, String>,
    /// Files it needs in its working folder.
    pub files: Vec<WorkerFile>,
}

/// What a worker needs of a machine.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ResourceProfile {
    /// Cores; fractions are allowed.
    pub cpu_cores: f64,
    /// Bytes.
    pub memory_bytes: u64,
    /// Bytes.
    pub disk_bytes: u64,
    /// Others by name, e.g. `gpu`.
    pub named: BTreeMap<String, f64>,
}

/// A file a worker needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkerFile {
    /// Its path in the working folder.
    pub path: String,
    /// Where it is fetched from.
    pub uri: String,
    /// SHA-256, if it is known.
    pub sha256: Option<[u8; 32]>,
    /// Whether it is a program.
    pub executable: bool,
}

/// What a provider tells. For one worker, Started comes before Ready before Terminated, and nothing after Terminated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProviderEvent {
    /// The workers that were found; more may not be found later.
    Recovered(Vec<RecoveredWorker>),
    /// The resources were given and the worker is being started.
    Started {
        /// The worker.
        id: TaskManagerId,
        /// Where, for people, e.g. `pid 4711`.
        location: String,
    },
    /// The worker's process runs; that it registers is still to come.
    Ready {
        /// The worker.
        id: TaskManagerId,
    },
    /// The worker is gone, or could not be started.
    Terminated {
        /// The worker.
        id: TaskManagerId,
        /// Exit code or signal, and what else is known.
        reason: String,
        /// Whether asking for another one may help.
        retryable: bool,
    },
    /// The worker will be taken away.
    Draining {
        /// The worker.
        id: TaskManagerId,
        /// Until it is.
        deadline: Duration,
        /// Why.
        reason: String,
    },
    /// How many workers there can be. Said when it is known and when it changes.
    Capacity {
        /// At a time; `None` if there is no such number.
        max_workers: Option<u32>,
        /// For people.
        message: String,
    },
    /// The provider cannot do its work.
    Failed {
        /// Why.
        message: String,
        /// Whether it will never again.
        fatal: bool,
    },
    /// The answer to [`ProviderRequest::Shutdown`]; nothing follows.
    Closed,
}

/// A worker found again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecoveredWorker {
    /// The worker.
    pub id: TaskManagerId,
    /// Its slots.
    pub slots: u32,
    /// Where it is, for people.
    pub location: String,
}
