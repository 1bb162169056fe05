//! The checkpoints of an embedded run: decided by the pure coordinator, kept in this machine's files.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use weir_checkpoint::{
    CheckpointCoordinator, CheckpointEffect, CheckpointEvent, CheckpointJob, CheckpointMetadata, CheckpointMode,
    CheckpointOptions, CompletedCheckpoint, Externalized, METADATA_FILE, Removal, RestoreMode, RestorePoint,
    TaskSnapshot, assign, check,
};
use weir_config::{CheckpointRetention, CheckpointingMode, ClaimMode, Configuration, options};
use weir_dataflow::net::JobToken;
use weir_dataflow::plan::JobPlan;
use weir_dataflow::storage::{LocalFiles, StateStorage, StorageError};
use weir_model::{Committable, JobId, TaskId};

use super::coordinator::Restored;
use super::driver::DriverEvent;
use super::terminal;
use crate::error::{Error, Result};

/// From where tasks start.
pub(super) struct Start {
    /// What of it is the enumerators' and committers'.
    pub(super) restored: Restored,
    /// What tasks begin with.
    pub(super) tasks: BTreeMap<TaskId, TaskSnapshot>,
}

/// The checkpoints of a run, with the clock and the files that their coordinator must not touch.
pub(super) struct Checkpoints {
    coordinator: CheckpointCoordinator,
    job: CheckpointJob,
    allow_non_restored: bool,
    storage: Storage,
    started: Instant,
    /// Since 1970, when it was `started`.
    epoch: Duration,
    timer: Option<(u64, Duration)>,
    restored_from: Option<u64>,
}

impl Checkpoints {
    /// Those of a job that starts, perhaps from a checkpoint that the configuration names.
    pub(super) fn new(
        plan: &JobPlan,
        configuration: &Configuration,
        events: Sender<DriverEvent>,
    ) -> Result<Checkpoints> {
        let (id, seed) = random()?;
        let declarations = plan.state_declarations();
        let job = CheckpointJob::new(id, &plan.graph, declarations.nodes());
        let options = checkpoint_options(configuration, seed)?;
        options.validate().map_err(Error::Job)?;
        let allow_non_restored = configuration.get(&options::RECOVERY_IGNORE_UNCLAIMED);
        let mut checkpoints = Checkpoints {
            coordinator: CheckpointCoordinator::new(job.clone(), options),
            job,
            allow_non_restored,
            storage: Storage { events, thread: None },
            started: Instant::now(),
            epoch: SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default(),
            timer: None,
            restored_from: None,
        };
        if let Some(path) = configuration.get(&options::RECOVERY_PATH) {
            let completed = load(&path)?;
            let carried = check(&declarations, &completed.metadata, allow_non_restored)
                .map_err(|refused| Error::Job(format!("the job cannot be restored from {path}: {refused}")))?;
            carried.left_behind.iter().for_each(|warning| terminal::err(format!("warning: {warning}")));
            let mode = match configuration.get(&options::RECOVERY_CLAIM_MODE) {
                ClaimMode::Claim => RestoreMode::Claim,
                ClaimMode::NoClaim => RestoreMode::NoClaim,
            };
            let now = checkpoints.now();
            checkpoints.coordinator.restore(completed, mode, now).map_err(Error::Job)?;
        }
        Ok(checkpoints)
    }

    fn now(&self) -> Duration {
        self.epoch + self.started.elapsed()
    }

    /// Whether somebody may go on from a checkpoint of this run when the run is gone.
    pub(super) fn may_outlive_the_run(&self) -> bool {
        let options = self.coordinator.options();
        options.interval.is_some() && options.directory.is_some()
    }

    /// Number of the job's tasks.
    pub(super) fn task_count(&self) -> usize {
        self.job.task_count()
    }

    /// The checkpoint that the tasks began with.
    pub(super) fn restored_from(&self) -> Option<u64> {
        self.restored_from
    }

    /// From where the tasks are to start that start now: nothing if they begin; or why they cannot.
    pub(super) fn start(&mut self) -> Result<Option<Start>, String> {
        self.restored_from = None;
        let (checkpoint, committables) = match self.coordinator.restore_point() {
            RestorePoint::Beginning => return Ok(None),
            RestorePoint::Lost { reason } => return Err(format!("no checkpoint can be restored from: {reason}")),
            RestorePoint::Checkpoint { checkpoint, committables } => (checkpoint, committables),
        };
        let number = checkpoint.metadata.checkpoint;
        let assignment = assign(&checkpoint.metadata, &self.job, self.allow_non_restored)
            .map_err(|error| format!("the job cannot be restored from checkpoint {number}: {error}"))?;
        self.restored_from = Some(number);
        let enumerators = assignment.enumerators.into_iter().collect();
        let restored = Restored { checkpoint: number, enumerators, committables };
        Ok(Some(Start { restored, tasks: self.job.tasks().zip(assignment.tasks).collect() }))
    }

    /// See [`CheckpointCoordinator::take_uncommitted`].
    pub(super) fn take_uncommitted(&mut self) -> Vec<Committable> {
        self.coordinator.take_uncommitted()
    }

    /// Tells the coordinator. What it asks for of clock and files is done; the rest comes back.
    pub(super) fn on_event(&mut self, event: CheckpointEvent) -> Vec<CheckpointEffect> {
        let now = self.now();
        let mut rest = Vec::new();
        for effect in self.coordinator.on_event(event, now) {
            match effect {
                CheckpointEffect::WriteMetadata { checkpoint, uri, bytes } => {
                    self.storage.order(StorageOrder::Write { checkpoint, uri, bytes });
                }
                CheckpointEffect::Remove { removal, items } => {
                    self.storage.order(StorageOrder::Remove { removal, items });
                }
                CheckpointEffect::ScheduleTimer { generation, at } => self.timer = Some((generation, at)),
                effect => rest.push(effect),
            }
        }
        rest
    }

    /// How long until something is due.
    pub(super) fn due_in(&self) -> Option<Duration> {
        self.timer.map(|(_, at)| at.saturating_sub(self.now()))
    }

    /// What is due.
    pub(super) fn due(&mut self) -> Option<CheckpointEvent> {
        let now = self.now();
        let (generation, _) = self.timer.take_if(|(_, at)| *at <= now)?;
        Some(CheckpointEvent::Timer { generation })
    }

    /// Waits until all files are as they are to stay.
    pub(super) fn finish(&mut self) {
        self.storage.finish();
    }
}

fn random() -> Result<(JobId, u64)> {
    let token = JobToken::random()?;
    let (mut id, mut seed) = ([0; 16], [0; 8]);
    id.copy_from_slice(&token.as_bytes()[..16]);
    seed.copy_from_slice(&token.as_bytes()[16..24]);
    Ok((JobId::from_bytes(id), u64::from_le_bytes(seed)))
}

fn checkpoint_options(configuration: &Configuration, seed: u64) -> Result<CheckpointOptions> {
    let uri = |path: Option<String>| path.as_deref().map(uri_of).transpose();
    Ok(CheckpointOptions {
        interval: configuration.get(&options::CHECKPOINT_INTERVAL),
        timeout: configuration.get(&options::CHECKPOINT_TIMEOUT),
        min_pause: configuration.get(&options::CHECKPOINT_MIN_PAUSE),
        max_concurrent: configuration.get(&options::CHECKPOINT_MAX_CONCURRENT),
        tolerable_failures: Some(configuration.get(&options::CHECKPOINT_TOLERABLE_FAILURES))
            .filter(|count| *count < i32::MAX as u32),
        mode: match configuration.get(&options::CHECKPOINT_MODE) {
            CheckpointingMode::ExactlyOnce => CheckpointMode::ExactlyOnce,
            CheckpointingMode::AtLeastOnce => CheckpointMode::AtLeastOnce,
        },
        unaligned: configuration.get(&options::CHECKPOINT_UNALIGNED),
        aligned_timeout: configuration.get(&options::CHECKPOINT_ALIGNED_TIMEOUT),
        externalized: match configuration.get(&options::CHECKPOINT_RETENTION) {
            CheckpointRetention::No => Externalized::No,
            CheckpointRetention::DeleteOnCancellation => Externalized::DeleteOnCancellation,
            CheckpointRetention::RetainOnCancellation => Externalized::RetainOnCancellation,
        },
        incremental: configuration.get(&options::CHECKPOINT_INCREMENTAL),
        retained: configuration.get(&options::CHECKPOINTS_RETAINED),
        directory: uri(configuration.get(&options::CHECKPOINT_DIR))?,
        savepoint_directory: uri(configuration.get(&options::SAVEPOINT_DIR))?,
        after_tasks_finish: configuration.get(&options::CHECKPOINTS_AFTER_TASKS_FINISH),
        history_size: configuration.get(&options::CHECKPOINT_HISTORY) as usize,
        seed,
    })
}

/// The path of a file of this machine.
fn path_of(uri: &str) -> Result<&Path> {
    match uri.split_once("://") {
        None => Ok(Path::new(uri)),
        Some((scheme, path)) if scheme.eq_ignore_ascii_case("file") => Ok(Path::new(path)),
        Some((scheme, _)) => Err(Error::Job(format!(
            "{uri}: a job that runs without a cluster keeps its checkpoints in files of this machine, and {scheme}:// is none"
        ))),
    }
}

/// A folder as whoever reads it later finds it, wherever that is started.
fn uri_of(path: &str) -> Result<String> {
    let path = std::path::absolute(path_of(path)?)?;
    Ok(format!("file://{}", path.display()))
}

/// Reads the metadata of a checkpoint, whose folder or metadata file is named.
fn load(named: &str) -> Result<CompletedCheckpoint> {
    let mut folder: PathBuf = std::path::absolute(path_of(named)?)?;
    if folder.file_name().is_some_and(|name| name == METADATA_FILE) {
        folder.pop();
    }
    let file = folder.join(METADATA_FILE);
    let bytes = fs::read(&file).map_err(|error| {
        Error::Job(match error.kind() {
            ErrorKind::NotFound => format!(
                "there is no checkpoint or savepoint at {named}: {} does not exist; name the folder of one, such as …/chk-7 or \
                 …/savepoint-1a2b3c-…",
                file.display()
            ),
            _ => format!("{} cannot be read: {error}", file.display()),
        })
    })?;
    let directory = format!("file://{}", folder.display());
    let metadata = CheckpointMetadata::decode(&bytes, &directory)
        .map_err(|error| Error::Job(format!("{} cannot be used: {error}", file.display())))?;
    Ok(CompletedCheckpoint { metadata: Arc::new(metadata), directory: Some(directory) })
}

/// Something to do with files.
enum StorageOrder {
    Write { checkpoint: u64, uri: String, bytes: Arc<[u8]> },
    Remove { removal: u64, items: Vec<Removal> },
}

/// Writes and removes files, in order, on a thread of its own that is there once it is needed.
struct Storage {
    events: Sender<DriverEvent>,
    thread: Option<(Sender<StorageOrder>, JoinHandle<()>)>,
}

impl Storage {
    fn order(&mut self, order: StorageOrder) {
        if self.thread.is_none() {
            let (sender, orders) = channel();
            let events = self.events.clone();
            let spawned = thread::Builder::new().name("weir-checkpoints".into()).spawn(move || serve(&orders, &events));
            self.thread = spawned.ok().map(|thread| (sender, thread));
        }
        match &self.thread {
            // The thread ends only after its orders do.
            Some((orders, _)) => drop(orders.send(order)),
            // Too many threads; better late than never.
            None => perform(order, &self.events),
        }
    }

    fn finish(&mut self) {
        if let Some((orders, thread)) = self.thread.take() {
            drop(orders);
            let _ = thread.join();
        }
    }
}

fn serve(orders: &Receiver<StorageOrder>, events: &Sender<DriverEvent>) {
    orders.iter().for_each(|order| perform(order, events));
}

fn perform(order: StorageOrder, events: &Sender<DriverEvent>) {
    let event = match order {
        StorageOrder::Write { checkpoint, uri, bytes } => {
            let result = write(&uri, &bytes).map_err(|error| error.to_string());
            CheckpointEvent::MetadataWritten { checkpoint, result }
        }
        StorageOrder::Remove { removal, items } => {
            // All of them, whatever becomes of the first.
            let results: Vec<Result<(), String>> = items.iter().map(remove).collect();
            CheckpointEvent::Removed { removal, result: results.into_iter().collect() }
        }
    };
    // A driver that is gone has no use for it.
    let _ = events.send(DriverEvent::Checkpoint(event));
}

fn write(uri: &str, bytes: &[u8]) -> Result<(), StorageError> {
    let mut file = LocalFiles.create(uri)?;
    file.write(bytes)?;
    file.finish().map(drop)
}

fn remove(item: &Removal) -> Result<(), String> {
    let (Removal::File(uri) | Removal::Directory(uri)) = item;
    let path = path_of(uri).map_err(|error| error.to_string())?;
    let removed = match item {
        Removal::File(_) => fs::remove_file(path),
        Removal::Directory(_) => fs::remove_dir_all(path),
    };
    match removed {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(format!("{uri} cannot be removed: {error}")),
        _ => Ok(()),
    }
}
