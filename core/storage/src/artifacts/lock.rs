//! One process at a time in a folder.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use crate::StorageError;

/// How long the last process may take to let go of the folder: its children hold it for a moment when it is killed.
const PATIENCE: Duration = Duration::from_secs(2);

/// Locks a folder for this process, for as long as the file is open. Makes the folder if it is not there.
pub(super) async fn take(folder: PathBuf) -> Result<File, StorageError> {
    let shown = folder.display().to_string();
    let taken = tokio::task::spawn_blocking(move || take_blocking(&folder)).await;
    taken.map_err(|error| StorageError::from_io("locking", shown, std::io::Error::other(error)))?
}

fn take_blocking(folder: &Path) -> Result<File, StorageError> {
    let path = folder.join("lock");
    let wrong = |error| StorageError::from_io("locking", path.display().to_string(), error);
    fs::create_dir_all(folder).map_err(wrong)?;
    let file = OpenOptions::new().write(true).create(true).truncate(false).open(&path).map_err(wrong)?;
    let deadline = Instant::now() + PATIENCE;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) if Instant::now() < deadline => thread::sleep(Duration::from_millis(20)),
            Err(TryLockError::WouldBlock) => return Err(StorageError::InUse { folder: folder.display().to_string() }),
            Err(TryLockError::Error(error)) => return Err(wrong(error)),
        }
    }
}
