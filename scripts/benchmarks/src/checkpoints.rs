//! How long the checkpoints of a run took, seen from outside: a checkpoint is complete when its metadata file appears, and the file
//! says when it was triggered.

use crate::job::Failure;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};
use std::{fs, io, thread};
use weir_checkpoint::CheckpointMetadata;

/// How often the folder is looked at. A checkpoint stays until the next one is complete.
const LOOK: Duration = Duration::from_millis(50);

/// The checkpoints of one run.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Checkpoints {
    /// How many were complete.
    pub count: usize,
    /// Seconds from the trigger to the complete metadata: the median, exact to about a millisecond.
    pub median_s: f64,
    /// The longest.
    pub slowest_s: f64,
    /// Bytes of state of the largest.
    pub bytes: u64,
}

impl Checkpoints {
    fn of(seen: impl Iterator<Item = Seen>) -> Option<Checkpoints> {
        let seen: Vec<Seen> = seen.collect();
        Some(Checkpoints {
            count: seen.len(),
            slowest_s: seen.iter().map(|one| one.duration.as_secs_f64()).reduce(f64::max)?,
            median_s: crate::median(seen.iter().map(|one| one.duration.as_secs_f64())),
            bytes: seen.iter().map(|one| one.bytes).max()?,
        })
    }
}

struct Seen {
    duration: Duration,
    bytes: u64,
}

/// The thread that watches, and in the end tells what it has seen.
type Watching = JoinHandle<BTreeMap<PathBuf, Seen>>;

/// A folder for the checkpoints of one run. It is removed with this.
pub struct Folder {
    path: PathBuf,
    watcher: Option<(Sender<()>, Watching)>,
}

impl Folder {
    /// Makes the folder, and begins to look at it.
    pub fn watch() -> io::Result<Folder> {
        let path = std::env::temp_dir().join("weir-bench").join(format!("checkpoints-{}", std::process::id()));
        fs::create_dir_all(&path)?;
        let (stop, stopped) = mpsc::channel();
        let watched = path.clone();
        let watcher = thread::spawn(move || {
            let mut seen = BTreeMap::new();
            while stopped.recv_timeout(LOOK) == Err(RecvTimeoutError::Timeout) {
                look(&watched, &mut seen);
            }
            seen
        });
        Ok(Folder { path, watcher: Some((stop, watcher)) })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What was there.
    pub fn finish(mut self) -> Result<Checkpoints, Failure> {
        let (stop, watcher) = self.watcher.take().ok_or("the watcher is taken only here")?;
        drop(stop);
        let seen = watcher.join().map_err(|_| "the thread that looks at checkpoints does not panic")?;
        Checkpoints::of(seen.into_values()).ok_or_else(|| "no checkpoint was complete".into())
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What is left of it lies where temporary files do.
        let _ = fs::remove_dir_all(&self.path);
    }
}

/// Adds new checkpoints of all jobs in `folder`. What cannot be read is being written or removed: there is another look.
fn look(folder: &Path, seen: &mut BTreeMap<PathBuf, Seen>) {
    let entries = |path: &Path| fs::read_dir(path).into_iter().flatten().flatten().map(|entry| entry.path());
    for checkpoint in entries(folder).flat_map(|job| entries(&job).collect::<Vec<_>>()) {
        if !seen.contains_key(&checkpoint)
            && let Some(one) = read(&checkpoint)
        {
            seen.insert(checkpoint, one);
        }
    }
}

fn read(checkpoint: &Path) -> Option<Seen> {
    let file = checkpoint.join("_metadata");
    let complete = fs::metadata(&file).ok()?.modified().ok()?.duration_since(SystemTime::UNIX_EPOCH).ok()?;
    let metadata =
        CheckpointMetadata::decode(&fs::read(&file).ok()?, &format!("file://{}", checkpoint.display())).ok()?;
    let triggered = Duration::from_millis(u64::try_from(metadata.timestamp).ok()?);
    Some(Seen { duration: complete.saturating_sub(triggered), bytes: metadata.state_size() })
}
