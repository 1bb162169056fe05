//! The output directory: made, locked, checked, and cleaned up.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::error::OutputError;
use super::part::is_part;
use super::staging::{Staging, list};

const LOCK: &str = ".weir-lock";

/// An output directory that this run alone writes to, until it is dropped.
#[derive(Debug)]
pub(super) struct OutputDirectory {
    pub(super) path: PathBuf,
    /// This run's.
    pub(super) staging: Staging,
    /// Whether what other runs left behind is still there: it may be what is to be committed first.
    leftovers: bool,
    /// Directories that did not exist before this run, outermost first.
    created: Vec<PathBuf>,
    cleaned_up: bool,
    _lock: File,
}

impl OutputDirectory {
    /// Makes the directory if need be and takes it for the run. `restored`: earlier runs of the job may have output in it.
    pub(super) fn prepare(
        path: &Path,
        run_id: &str,
        overwrite: bool,
        restored: bool,
    ) -> Result<OutputDirectory, OutputError> {
        let created = create(path)?;
        Self::take(path, run_id, overwrite, restored, created.clone()).inspect_err(|_| remove_empty(&created))
    }

    fn take(
        path: &Path,
        run_id: &str,
        overwrite: bool,
        restored: bool,
        created: Vec<PathBuf>,
    ) -> Result<Self, OutputError> {
        let lock = lock(path)?;
        let staging = Staging::of(path, run_id);
        // From here on dropping it removes the lock file and the staging directory.
        let mut directory = OutputDirectory {
            path: path.to_owned(),
            staging,
            leftovers: restored,
            created,
            cleaned_up: false,
            _lock: lock,
        };
        if directory.staging.path.exists() {
            // The driver of this very run was lost: what is there is its own.
            return Ok(directory);
        }
        let mut old = Vec::new();
        if !restored {
            directory.remove_leftovers()?;
            let mut visible = list(path)?;
            visible.retain(|name| !name.starts_with('.'));
            if !overwrite && let Some(example) = visible.first() {
                return Err(OutputError::NotEmpty {
                    path: path.to_owned(),
                    count: visible.len(),
                    example: example.clone(),
                });
            }
            old = visible;
            old.retain(|name| is_part(name));
        }
        directory.staging.create(&old, restored)?;
        Ok(directory)
    }

    /// Removes what earlier runs left behind when they were killed. The lock says that none of them is alive.
    fn remove_leftovers(&mut self) -> Result<(), OutputError> {
        for leftover in Staging::all(&self.path, &list(&self.path)?) {
            if leftover.path != self.staging.path {
                // Killed before or in the middle of its commit: nothing of it stays, and what it was replacing is put back.
                leftover.take_back()?;
                fs::remove_dir_all(&leftover.path).map_err(OutputError::io(&leftover.path, "removed"))?;
            }
        }
        self.leftovers = false;
        Ok(())
    }

    /// Forgets how the directory was before: output is in place, and nothing else that others wrote aside is needed.
    pub(super) fn committed(&mut self) -> Result<(), OutputError> {
        self.created.clear();
        if self.leftovers { self.remove_leftovers() } else { Ok(()) }
    }

    /// Has everything hidden stay.
    pub(super) fn leave(&mut self) {
        self.cleaned_up = true;
    }
}

impl Drop for OutputDirectory {
    fn drop(&mut self) {
        self.clean_up();
    }
}

impl OutputDirectory {
    /// Removes everything hidden, and the directory itself if this run made it and nothing was committed.
    pub(super) fn clean_up(&mut self) {
        // Once only: as soon as the lock file is gone, another run may have made its own.
        if std::mem::replace(&mut self.cleaned_up, true) {
            return;
        }
        // Nobody is left to tell about a failure, and what stays is hidden and removed by the next run.
        let _ = fs::remove_dir_all(&self.staging.path);
        // Removed before it is unlocked; whoever opened it meanwhile notices in `lock` and tries again.
        let _ = fs::remove_file(self.path.join(LOCK));
        remove_empty(&self.created);
    }
}

/// Makes the directory and those it is in; returns the ones that were missing.
fn create(path: &Path) -> Result<Vec<PathBuf>, OutputError> {
    match fs::metadata(path) {
        Ok(metadata) if metadata.is_dir() => return Ok(Vec::new()),
        Ok(_) => return Err(OutputError::NotADirectory { path: path.to_owned() }),
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(OutputError::io(path, "opened")(error)),
    }
    let mut missing: Vec<_> = path
        .ancestors()
        .take_while(|directory| !directory.as_os_str().is_empty() && !directory.exists())
        .map(Path::to_owned)
        .collect();
    missing.reverse();
    fs::create_dir_all(path).map_err(|error| {
        remove_empty(&missing);
        OutputError::io(path, "created")(error)
    })?;
    Ok(missing)
}

/// Removes directories that this run made, as far as they are empty.
fn remove_empty(created: &[PathBuf]) {
    for directory in created.iter().rev() {
        if fs::remove_dir(directory).is_err() {
            return;
        }
    }
}

/// Takes the directory's lock, which the operating system releases when this process ends, however it ends.
fn lock(directory: &Path) -> Result<File, OutputError> {
    let path = directory.join(LOCK);
    loop {
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .map_err(OutputError::io(&path, "created"))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(OutputError::InUse { path: directory.to_owned() }),
            Err(TryLockError::Error(error)) => return Err(OutputError::io(&path, "locked")(error)),
        }
        // The previous holder removes the file when it is done: a lock on a removed file keeps nobody out.
        if is_same(&file, &path).map_err(OutputError::io(&path, "inspected"))? {
            return Ok(file);
        }
    }
}

fn is_same(file: &File, path: &Path) -> io::Result<bool> {
    let held = file.metadata()?;
    match fs::metadata(path) {
        Ok(there) => Ok((held.dev(), held.ino()) == (there.dev(), there.ino())),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}
