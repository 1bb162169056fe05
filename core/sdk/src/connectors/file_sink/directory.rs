//! The output directory: made, locked, checked, and cleaned up.

use std::collections::BTreeSet;
use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::error::OutputError;

const LOCK: &str = ".weir-lock";
const STAGING: &str = ".weir-";

/// Below the staging directory: files that a commit is replacing.
const REPLACED: &str = "replaced";

/// Below the staging directory: names of the files that a commit is making visible, one a line. Whoever finds it takes them
/// back, because that commit was interrupted.
const PUBLISHING: &str = "publishing";

/// What the list is called once all of them are visible: nothing is taken back any more.
const PUBLISHED: &str = "published";

/// Where the files of a run are written before they are published.
pub(super) fn staging(output: &Path, run_id: &str) -> PathBuf {
    output.join(format!("{STAGING}{}", run_id.replace('/', "-")))
}

/// An output directory that this run alone writes to, until it is dropped.
#[derive(Debug)]
pub(super) struct OutputDirectory {
    pub(super) path: PathBuf,
    pub(super) staging: PathBuf,
    /// Names of part files from before this run.
    pub(super) old: BTreeSet<String>,
    /// Directories that did not exist before this run, outermost first.
    created: Vec<PathBuf>,
    cleaned_up: bool,
    _lock: File,
}

impl OutputDirectory {
    /// Makes the directory if need be and takes it for the run.
    pub(super) fn prepare(path: &Path, run_id: &str, overwrite: bool) -> Result<OutputDirectory, OutputError> {
        let created = create(path)?;
        Self::take(path, run_id, overwrite, created.clone()).inspect_err(|_| remove_empty(&created))
    }

    fn take(path: &Path, run_id: &str, overwrite: bool, created: Vec<PathBuf>) -> Result<Self, OutputError> {
        let lock = lock(path)?;
        let staging = staging(path, run_id);
        // From here on dropping it removes the lock file and the staging directory.
        let mut directory = OutputDirectory {
            path: path.to_owned(),
            staging,
            old: BTreeSet::new(),
            created,
            cleaned_up: false,
            _lock: lock,
        };
        if directory.staging.exists() {
            // The driver of this very run was restarted: what is there is its own.
            return Ok(directory);
        }
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
        directory.old = visible.into_iter().filter(|name| is_part(name)).collect();
        fs::create_dir(&directory.staging).map_err(OutputError::io(&directory.staging, "created"))?;
        Ok(directory)
    }

    /// Removes what earlier runs left behind when they were killed. The lock says that none of them is alive.
    fn remove_leftovers(&self) -> Result<(), OutputError> {
        for name in list(&self.path)? {
            let leftover = self.path.join(&name);
            if !name.starts_with(STAGING) || name == LOCK || !leftover.is_dir() {
                continue;
            }
            if !leftover.join(PUBLISHED).exists() {
                // Killed before or in the middle of its commit: nothing of it stays, and what it was replacing is put back.
                self.take_back(&leftover.join(PUBLISHING))?;
                restore(&leftover.join(REPLACED), &self.path)?;
            }
            fs::remove_dir_all(&leftover).map_err(OutputError::io(&leftover, "removed"))?;
        }
        Ok(())
    }

    /// Removes the files that an interrupted commit has made visible.
    fn take_back(&self, list: &Path) -> Result<(), OutputError> {
        let names = match fs::read_to_string(list) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            names => names.map_err(OutputError::io(list, "read"))?,
        };
        for name in names.lines().filter(|name| is_part(name)) {
            let path = self.path.join(name);
            match fs::remove_file(&path) {
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                result => result.map_err(OutputError::io(&path, "removed"))?,
            }
        }
        Ok(())
    }

    /// Notes what a commit is about to make visible. None of these names is taken by somebody else's file.
    pub(super) fn publishing<'a>(&self, names: impl Iterator<Item = &'a str>) -> Result<(), OutputError> {
        let path = self.staging.join(PUBLISHING);
        let text: String = names.flat_map(|name| [name, "\n"]).collect();
        let written = fs::write(&path, text).and_then(|()| File::open(&path)?.sync_all());
        written.map_err(OutputError::io(&path, "written"))
    }

    /// Notes that all of it is visible.
    pub(super) fn published(&self) -> Result<(), OutputError> {
        let (from, to) = (self.staging.join(PUBLISHING), self.staging.join(PUBLISHED));
        fs::rename(&from, &to).map_err(OutputError::io(&to, "written"))
    }

    /// Moves the old part files aside, from where [`put_back_old`](Self::put_back_old) takes them.
    pub(super) fn move_old_aside(&self) -> Result<(), OutputError> {
        if self.old.is_empty() {
            return Ok(());
        }
        let aside = self.staging.join(REPLACED);
        DirBuilder::new().recursive(true).create(&aside).map_err(OutputError::io(&aside, "created"))?;
        for name in &self.old {
            let (from, to) = (self.path.join(name), aside.join(name));
            if to.exists() {
                // Moved by an earlier attempt, which may have published a new file under the name.
                continue;
            }
            match fs::rename(&from, to) {
                // Removed by its owner.
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                result => result.map_err(OutputError::io(&from, "replaced"))?,
            }
        }
        Ok(())
    }

    pub(super) fn put_back_old(&self) -> Result<(), OutputError> {
        restore(&self.staging.join(REPLACED), &self.path)
    }

    /// Forgets how the directory was before: the new files are in place.
    pub(super) fn committed(&mut self) -> Result<(), OutputError> {
        self.old.clear();
        self.created.clear();
        let (aside, list) = (self.staging.join(REPLACED), self.staging.join(PUBLISHED));
        for (path, removed) in [(&aside, fs::remove_dir_all(&aside)), (&list, fs::remove_file(&list))] {
            match removed {
                Err(error) if error.kind() != ErrorKind::NotFound => {
                    return Err(OutputError::io(path, "removed")(error));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Makes the names in the directory durable.
    pub(super) fn sync(&self) -> Result<(), OutputError> {
        let result = File::open(&self.path).and_then(|directory| directory.sync_all());
        match result {
            // Some file systems cannot do this for directories, and need not.
            Err(error) if error.kind() == ErrorKind::InvalidInput => Ok(()),
            result => result.map_err(OutputError::io(&self.path, "made durable")),
        }
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
        let _ = fs::remove_dir_all(&self.staging);
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

/// Moves the files in `from`, if it exists, to where no other file has taken their names.
fn restore(from: &Path, to: &Path) -> Result<(), OutputError> {
    if !from.exists() {
        return Ok(());
    }
    for name in list(from)? {
        let target = to.join(&name);
        if !target.exists() {
            fs::rename(from.join(&name), &target).map_err(OutputError::io(&target, "put back"))?;
        }
    }
    Ok(())
}

/// Names of what is in a directory, sorted.
fn list(directory: &Path) -> Result<Vec<String>, OutputError> {
    let entries = fs::read_dir(directory).map_err(OutputError::io(directory, "listed"))?;
    let names: io::Result<Vec<String>> =
        entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect();
    let mut names = names.map_err(OutputError::io(directory, "listed"))?;
    names.sort();
    Ok(names)
}

/// Whether a name is one this sink gives: `part-<number>-<number>` and an extension.
pub(super) fn is_part(name: &str) -> bool {
    let is_number = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    let numbers = name.strip_prefix("part-").and_then(|rest| rest.split_once('-'));
    match numbers {
        Some((subtask, rest)) => {
            is_number(subtask)
                && rest
                    .split_once('.')
                    .is_some_and(|(number, extension)| is_number(number) && matches!(extension, "txt" | "csv"))
        }
        None => false,
    }
}
