//! Copies of checkpoints on this machine (`execution.checkpointing.local-backup.enabled`), so that a job that restarts here need not
//! fetch its state. A worker says whether its job wants them.
//!
//! Files in folders named `chk-<number>` are copied while they are written; savepoints and files that several checkpoints share are not.
//! Of each job the two checkpoints with the greatest numbers are kept: one that is complete, and one under way. A copy that is damaged or
//! cannot be written is given up: the file itself is what counts.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::runtime::Handle;
use tokio::task::spawn_blocking;
use weir_model::JobId;

use super::checked::{CheckedFile, CheckedWriter};
use crate::own_folder::OwnFolder;

/// Checkpoints of a job that have copies.
const CHECKPOINTS: usize = 2;
/// How long copies of a job outlive its last worker here, so that a restart finds them.
pub(crate) const KEPT_FOR_RESTART: Duration = Duration::from_secs(10 * 60);

/// The copies on this machine, of all jobs. Their files go with this.
#[derive(Debug)]
pub(crate) struct LocalCopies {
    /// At least one; files are spread over them.
    folders: Vec<OwnFolder>,
    kept_for_restart: Duration,
    numbers: AtomicU64,
    jobs: Mutex<BTreeMap<JobId, Copies>>,
}

/// The copies of one job.
#[derive(Debug, Default)]
struct Copies {
    workers: u32,
    /// Counts its workers, to tell whether one has come since.
    seen: u64,
    checkpoints: BTreeMap<Checkpoint, BTreeMap<String, CheckedFile>>,
}

/// A checkpoint's number and folder; the newest is the greatest.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Checkpoint(u64, String);

impl Checkpoint {
    /// The one that a file belongs to right away.
    fn of(uri: &str) -> Option<Checkpoint> {
        let (folder, _) = uri.rsplit_once('/')?;
        let (_, name) = folder.rsplit_once('/')?;
        Some(Checkpoint(name.strip_prefix("chk-")?.parse().ok()?, folder.to_owned()))
    }
}

impl LocalCopies {
    /// Keeps them in `folders`, of which there is at least one.
    pub(crate) fn new(folders: Vec<OwnFolder>, kept_for_restart: Duration) -> LocalCopies {
        LocalCopies { folders, kept_for_restart, numbers: AtomicU64::new(0), jobs: Mutex::default() }
    }

    fn jobs(&self) -> MutexGuard<'_, BTreeMap<JobId, Copies>> {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A path that no file has yet.
    fn path(&self) -> PathBuf {
        let number = self.numbers.fetch_add(1, Ordering::Relaxed);
        self.folders[(number % self.folders.len() as u64) as usize].path().join(number.to_string())
    }
}

/// The copies of a job that has a worker here, for as long as it has this one.
#[derive(Debug)]
pub(super) struct JobCopies {
    all: Arc<LocalCopies>,
    job: JobId,
    handle: Handle,
    /// Whether it was said already that this worker begins with copies.
    announced: AtomicBool,
}

impl JobCopies {
    /// Those for a further worker of a job. What is to be done later is done on `handle`.
    pub(super) fn of(all: Arc<LocalCopies>, job: JobId, handle: Handle) -> Arc<JobCopies> {
        {
            let mut jobs = all.jobs();
            let copies = jobs.entry(job).or_default();
            copies.workers += 1;
            copies.seen += 1;
        }
        Arc::new(JobCopies { all, job, handle, announced: AtomicBool::new(false) })
    }

    /// Does something with the job's copies.
    fn with<T>(&self, work: impl FnOnce(&mut Copies) -> T) -> T {
        work(self.all.jobs().entry(self.job).or_default())
    }

    /// Begins the copy of a file that is about to be written; `None` if it gets none.
    pub(super) async fn begin(self: &Arc<Self>, uri: &str) -> Option<Copying> {
        let checkpoint = Checkpoint::of(uri)?;
        let (wanted, superseded) = self.with(|copies| {
            // It is written anew.
            copies.checkpoints.entry(checkpoint.clone()).or_default().remove(uri);
            let mut superseded = Vec::new();
            while copies.checkpoints.len() > CHECKPOINTS {
                superseded.extend(copies.checkpoints.pop_first());
            }
            (copies.checkpoints.contains_key(&checkpoint), superseded)
        });
        if !superseded.is_empty() {
            // Removing large files takes a while.
            spawn_blocking(move || drop(superseded));
        }
        if !wanted {
            return None;
        }
        let path = self.all.path();
        let writer = blocking(uri, "begun", move || CheckedWriter::create(path)).await?;
        Some(Copying { copies: self.clone(), checkpoint, uri: uri.to_owned(), writer })
    }

    /// The copy of a file, if there is one with these bytes.
    pub(super) fn find(self: &Arc<Self>, uri: &str, offset: u64, length: u64) -> Option<CopyReader> {
        let checkpoint = Checkpoint::of(uri)?;
        let file = self.with(|copies| copies.checkpoints.get(&checkpoint)?.get(uri).cloned())?;
        let end = offset.checked_add(length).filter(|end| *end <= file.length())?;
        if !self.announced.swap(true, Ordering::Relaxed) {
            tracing::info!(job_id = %self.job, checkpoint = checkpoint.0, "state is restored from the copies on this machine");
        }
        Some(CopyReader { copies: self.clone(), checkpoint, uri: uri.to_owned(), file, next: offset, end })
    }
}

impl Drop for JobCopies {
    fn drop(&mut self) {
        let (workers, seen) = self.with(|copies| {
            copies.workers -= 1;
            (copies.workers, copies.seen)
        });
        if workers > 0 {
            return;
        }
        let (all, job) = (self.all.clone(), self.job);
        self.handle.spawn(async move {
            tokio::time::sleep(all.kept_for_restart).await;
            let unused = {
                let mut jobs = all.jobs();
                let unused = jobs.get(&job).is_some_and(|copies| copies.workers == 0 && copies.seen == seen);
                if unused { jobs.remove(&job) } else { None }
            };
            // Removing large files takes a while.
            spawn_blocking(move || drop(unused));
        });
    }
}

/// Does something with a copy where waiting does no harm. What fails is logged: without a copy it goes on as well.
async fn blocking<T: Send + 'static>(
    uri: &str,
    what: &str,
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Option<T> {
    let result = spawn_blocking(work).await.map_err(io::Error::other).flatten();
    if let Err(error) = &result {
        tracing::warn!(uri, %error, "the copy of a checkpoint's file on this machine cannot be {what}; it goes on without");
    }
    result.ok()
}

/// A copy that is being written. Dropping it removes it.
pub(super) struct Copying {
    copies: Arc<JobCopies>,
    checkpoint: Checkpoint,
    uri: String,
    writer: CheckedWriter,
}

impl Copying {
    /// Takes the next bytes; `None` if the copy had to be given up.
    pub(super) async fn write(self, bytes: Bytes) -> Option<Copying> {
        let Copying { copies, checkpoint, uri, mut writer } = self;
        let writer = blocking(&uri, "written", move || {
            writer.write(&bytes)?;
            Ok(writer)
        });
        let writer = writer.await?;
        Some(Copying { copies, checkpoint, uri, writer })
    }

    /// The file itself is there, so its copy can be used from now on.
    pub(super) fn finish(self) {
        let Copying { copies, checkpoint, uri, writer } = self;
        copies.with(|copies| {
            // Unless it was superseded meanwhile.
            if let Some(files) = copies.checkpoints.get_mut(&checkpoint) {
                files.insert(uri, writer.finish());
            }
        });
    }
}

/// A part of a copy that is being read.
pub(super) struct CopyReader {
    copies: Arc<JobCopies>,
    checkpoint: Checkpoint,
    uri: String,
    file: CheckedFile,
    next: u64,
    end: u64,
}

impl CopyReader {
    /// The next bytes; `None` at the end, or when the copy had to be given up.
    pub(super) async fn next(&mut self) -> Option<Bytes> {
        if self.next == self.end {
            return None;
        }
        let (file, next, end) = (self.file.clone(), self.next, self.end);
        match blocking(&self.uri, "read", move || file.read_some(next, end)).await {
            Some((bytes, skipped)) => {
                let bytes = Bytes::from(bytes).slice(skipped..);
                self.next += bytes.len() as u64;
                Some(bytes)
            }
            None => {
                self.copies.with(|copies| copies.checkpoints.get_mut(&self.checkpoint)?.remove(&self.uri));
                None
            }
        }
    }
}
