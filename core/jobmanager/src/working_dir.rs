//! The folder in which a JobManager keeps what outlives it.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use weir_model::LeaderEpoch;
use weir_process::private_folder;

use crate::JobManagerError;

/// How long the last JobManager may take to let go of the folder: its children hold it for a moment when it is killed.
const PATIENCE: Duration = Duration::from_secs(2);

/// The working folder, for this JobManager alone as long as this lives.
#[derive(Debug)]
pub(crate) struct WorkingDir {
    path: PathBuf,
    _lock: File,
}

impl WorkingDir {
    /// Makes the folder if it is not there. Only its owner can look into it, because records of jobs may hold secrets.
    pub(crate) fn open(path: &Path, cluster_id: &str) -> Result<WorkingDir, JobManagerError> {
        let wrong = |path: &Path, error| JobManagerError::WorkingDir { path: path.to_owned(), error };
        private_folder(path).map_err(|error| wrong(path, error))?;
        let lock_path = path.join("lock");
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(false).mode(0o600);
        let lock = options.open(&lock_path).map_err(|error| wrong(&lock_path, error))?;
        match take(&lock) {
            Ok(true) => Ok(WorkingDir { path: path.to_owned(), _lock: lock }),
            Ok(false) => Err(JobManagerError::AlreadyRuns { cluster_id: cluster_id.to_owned(), path: path.to_owned() }),
            Err(error) => Err(wrong(&lock_path, error)),
        }
    }

    /// A folder in it, made if it is not there.
    pub(crate) fn folder(&self, name: &str) -> Result<PathBuf, JobManagerError> {
        let path = self.path.join(name);
        let made = DirBuilder::new().recursive(true).mode(0o700).create(&path);
        made.map_err(|error| JobManagerError::WorkingDir { path: path.clone(), error })?;
        Ok(path)
    }

    /// The epoch of this leader: greater than any before in this folder, and than any of a cluster whose folder was lost, as far as
    /// clocks can tell. Written down before it is used.
    pub(crate) fn next_epoch(&self, unix_millis: u64) -> Result<LeaderEpoch, JobManagerError> {
        let path = self.path.join("epoch");
        let wrong = |error| JobManagerError::WorkingDir { path: path.clone(), error };
        let stored = match fs::read_to_string(&path) {
            // A file that is damaged says nothing; the clock has to do.
            Ok(text) => text.trim().parse().unwrap_or(0),
            Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
            Err(error) => return Err(wrong(error)),
        };
        let epoch = unix_millis.max(u64::saturating_add(stored, 1));
        let new = self.path.join("epoch.new");
        let mut file = File::create(&new).map_err(wrong)?;
        writeln!(file, "{epoch}").and_then(|()| file.sync_all()).map_err(wrong)?;
        fs::rename(&new, &path).map_err(wrong)?;
        Ok(LeaderEpoch(epoch))
    }
}

/// Whether the lock could be had.
fn take(lock: &File) -> io::Result<bool> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        // SAFETY: the descriptor is open as long as `lock` lives.
        if unsafe { libc::flock(lock.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) } == 0 {
            return Ok(true);
        }
        let error = io::Error::last_os_error();
        match error.kind() {
            io::ErrorKind::WouldBlock if Instant::now() >= deadline => return Ok(false),
            io::ErrorKind::WouldBlock => thread::sleep(Duration::from_millis(20)),
            io::ErrorKind::Interrupted => {}
            _ => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn epochs_only_grow() {
        let folder = tempfile::tempdir().unwrap();
        let dir = WorkingDir::open(&folder.path().join("a/b"), "default").unwrap();
        assert_eq!(dir.next_epoch(1000).unwrap(), LeaderEpoch(1000));
        assert_eq!(dir.next_epoch(5).unwrap(), LeaderEpoch(1001), "the clock went back");
        assert_eq!(dir.next_epoch(2000).unwrap(), LeaderEpoch(2000));
        fs::write(folder.path().join("a/b/epoch"), "nonsense").unwrap();
        assert_eq!(dir.next_epoch(2001).unwrap(), LeaderEpoch(2001));
    }

    #[test]
    fn two_job_managers_of_one_cluster_are_told_apart() {
        let folder = tempfile::tempdir().unwrap();
        let first = WorkingDir::open(folder.path(), "blue").unwrap();
        let refused = WorkingDir::open(folder.path(), "blue").unwrap_err().to_string();
        assert!(refused.contains("\"blue\" has a JobManager") && refused.contains("`cluster.id`"), "{refused}");
        drop(first);
        WorkingDir::open(folder.path(), "blue").unwrap();
    }

    #[test]
    fn a_folder_that_cannot_be_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        fs::write(&file, "").unwrap();
        let error = WorkingDir::open(&file.join("x"), "default").unwrap_err().to_string();
        assert!(error.contains("file/x cannot be used") && error.contains("process.working-dir"), "{error}");
    }
}
