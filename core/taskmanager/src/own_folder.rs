//! Folders that are a TaskManager's for as long as it runs.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::TaskManagerError;

const PREFIX: &str = "weir-tm-";
/// Longest path of a folder for one with sockets: the system has 108 bytes for the whole path of a socket.
const LONGEST: usize = 50;
/// Between making a folder and locking it there is a moment.
const YOUNG: Duration = Duration::from_secs(60);

/// A folder that only this user can enter. It goes when this does; that of a TaskManager that was killed, when another one starts.
#[derive(Debug)]
pub(crate) struct OwnFolder {
    path: PathBuf,
    /// Locked as long as the folder is in use.
    _lock: Option<File>,
}

impl OwnFolder {
    /// Makes one for sockets: in `/tmp`, if the path of `base` is too long for that.
    pub(crate) fn for_sockets(base: PathBuf, random: u64) -> Result<OwnFolder, TaskManagerError> {
        let base = if base.as_os_str().len() <= LONGEST { base } else { PathBuf::from("/tmp") };
        OwnFolder::make(base, random)
    }

    /// Makes one in `base`, under a name nobody can guess.
    pub(crate) fn make(base: PathBuf, random: u64) -> Result<OwnFolder, TaskManagerError> {
        remove_left(&base, YOUNG);
        let path = base.join(format!("{PREFIX}{random:016x}"));
        // Not one that is there: whoever made it is somebody else.
        let made = DirBuilder::new().mode(0o700).create(&path);
        made.map_err(|error| TaskManagerError::Folder { path: path.clone(), error })?;
        // Where there are no locks, folders that were left stay.
        let _lock = File::open(&path).ok().filter(|folder| folder.try_lock().is_ok());
        Ok(OwnFolder { path, _lock })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for OwnFolder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.path);
    }
}

/// Removes folders of this user's TaskManagers that were killed.
fn remove_left(base: &Path, young: Duration) {
    // SAFETY: the call has no preconditions.
    let user = unsafe { libc::geteuid() };
    for entry in fs::read_dir(base).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let is_one = name.to_str().and_then(|name| name.strip_prefix(PREFIX)).is_some_and(|random| random.len() == 16);
        // Of the entry itself, not of what a link leads to.
        let Ok(metadata) = entry.metadata() else { continue };
        let old = metadata.modified().is_ok_and(|time| time.elapsed().is_ok_and(|age| age >= young));
        if is_one && metadata.is_dir() && metadata.uid() == user && old && is_free(&entry.path()).unwrap_or(false) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

fn is_free(folder: &Path) -> io::Result<bool> {
    Ok(File::open(folder)?.try_lock().is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_killed_one_left_is_removed_and_what_is_in_use_is_not() {
        // Short enough for a socket.
        let base = tempfile::tempdir_in("/tmp").unwrap();
        let used = OwnFolder::make(base.path().to_owned(), 1).unwrap();
        let left = base.path().join("weir-tm-0000000000000002");
        fs::create_dir(&left).unwrap();
        fs::write(left.join("socket"), "").unwrap();
        let other = base.path().join("weir-tm-notes");
        fs::create_dir(&other).unwrap();
        remove_left(base.path(), YOUNG);
        assert!(left.exists(), "it may be about to be locked");
        remove_left(base.path(), Duration::ZERO);
        assert!(!left.exists() && other.exists() && used.path().exists());
        let path = used.path().to_owned();
        drop(used);
        assert!(!path.exists());
    }
}
