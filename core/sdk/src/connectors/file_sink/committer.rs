//! Publishes finished part files, all or none.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use weir_dataflow::record::{Decoder, Record};
use weir_dataflow::sink::{Committer, SinkError};

use super::directory::{OutputDirectory, is_part};
use super::error::OutputError;

/// A finished part file, as its writer announces it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Part {
    /// As it will be called.
    pub(super) name: String,
    /// Which attempt at the subtask wrote it.
    pub(super) attempt: u32,
    /// Bytes.
    pub(super) len: u64,
}

/// Name of a part file while it is written aside. An older attempt at the same subtask may not have ended everywhere: it must
/// not write to the files of a newer one, nor have its own published.
pub(super) fn staged(name: &str, attempt: u32) -> String {
    format!("{name}.{attempt}")
}

impl Part {
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.name.encode(&mut bytes);
        self.attempt.encode(&mut bytes);
        self.len.encode(&mut bytes);
        bytes
    }

    fn from_bytes(bytes: &[u8]) -> Result<Part, String> {
        let (name, attempt, len) =
            <(String, u32, u64)>::decode(&mut Decoder::new(bytes)).map_err(|error| error.to_string())?;
        // The name becomes a path.
        if is_part(&name) { Ok(Part { name, attempt, len }) } else { Err(format!("{name:?}")) }
    }
}

/// The driver's side of a [`FileSink`](super::FileSink).
#[derive(Debug)]
pub(super) struct FileCommitter {
    directory: OutputDirectory,
    /// Files published by a commit that has not completed.
    published: Vec<PathBuf>,
}

impl FileCommitter {
    pub(super) fn new(directory: OutputDirectory) -> FileCommitter {
        FileCommitter { directory, published: Vec::new() }
    }

    fn publish_all(&mut self, parts: &[Part]) -> Result<(), OutputError> {
        // Looked at before anything is touched: after this, only a failing disk can leave a commit half done.
        for part in parts {
            self.check(part)?;
        }
        if !parts.iter().any(|part| self.staged(part).exists()) && self.directory.old.is_empty() {
            // All of it was published by an earlier attempt, or there is nothing.
            return self.complete();
        }
        self.directory.move_old_aside()?;
        self.directory.publishing(parts.iter().map(|part| part.name.as_str()))?;
        for part in parts {
            let to = self.directory.path.join(&part.name);
            if publish(&self.staged(part), &to)? {
                self.published.push(to);
            }
        }
        self.directory.sync()?;
        self.directory.published()?;
        self.published.clear();
        self.complete()
    }

    fn complete(&mut self) -> Result<(), OutputError> {
        self.directory.committed()?;
        // Fails while writers are already at the next files, whose turn it is then.
        let _ = fs::remove_dir(&self.directory.staging);
        Ok(())
    }

    fn staged(&self, part: &Part) -> PathBuf {
        self.directory.staging.join(staged(&part.name, part.attempt))
    }

    fn check(&self, part: &Part) -> Result<(), OutputError> {
        let (from, to) = (self.staged(part), self.directory.path.join(&part.name));
        let len = |path: &Path| fs::metadata(path).map(|metadata| metadata.len()).ok();
        match (len(&from), len(&to)) {
            (Some(_), Some(_)) if !self.directory.old.contains(&part.name) && !same_file(&from, &to) => {
                Err(OutputError::Appeared { path: to })
            }
            (Some(len), _) if len != part.len => Err(OutputError::Lost { path: from }),
            (Some(_), _) => Ok(()),
            // Published by an earlier attempt.
            (None, Some(len)) if len == part.len => Ok(()),
            (None, _) => Err(OutputError::Lost { path: from }),
        }
    }

    /// Takes back what an incomplete commit made visible.
    fn roll_back(&mut self) -> Result<(), OutputError> {
        for path in self.published.drain(..) {
            match fs::remove_file(&path) {
                Err(error) if error.kind() != ErrorKind::NotFound => {
                    return Err(OutputError::io(&path, "removed")(error));
                }
                _ => {}
            }
        }
        self.directory.put_back_old()
    }
}

impl Committer for FileCommitter {
    fn commit(&mut self, committables: Vec<Vec<u8>>) -> Result<(), SinkError> {
        let parts: Result<Vec<Part>, String> = committables.iter().map(|bytes| Part::from_bytes(bytes)).collect();
        let parts = parts.map_err(|reason| OutputError::Committable { path: self.directory.path.clone(), reason })?;
        Ok(self.publish_all(&parts)?)
    }

    fn abort(&mut self) {
        if let Err(error) = self.roll_back() {
            // There is no job left to fail.
            eprintln!("cleaning up after the job failed: {error}");
            return;
        }
        self.directory.clean_up();
    }
}

/// Makes a file visible under its final name, never over another one; false if it already is.
fn publish(from: &Path, to: &Path) -> Result<bool, OutputError> {
    if !from.exists() {
        return Ok(false);
    }
    // Unlike a rename, a link refuses to replace a file that came into being just now.
    match fs::hard_link(from, to) {
        Ok(()) => {}
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            // Linked by an attempt that was interrupted before it removed the other name.
            if !same_file(from, to) {
                return Err(OutputError::Appeared { path: to.to_owned() });
            }
        }
        // A file system without links.
        Err(_) if !to.exists() => {
            fs::rename(from, to).map_err(OutputError::io(to, "published"))?;
            return Ok(true);
        }
        Err(_) => return Err(OutputError::Appeared { path: to.to_owned() }),
    }
    fs::remove_file(from).map_err(OutputError::io(from, "published"))?;
    Ok(true)
}

fn same_file(one: &Path, other: &Path) -> bool {
    match (fs::metadata(one), fs::metadata(other)) {
        (Ok(one), Ok(other)) => (one.dev(), one.ino()) == (other.dev(), other.ino()),
        _ => false,
    }
}
