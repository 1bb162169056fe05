//! What goes wrong in a store.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Why a store could not do what was asked.
///
/// Errors of background work (writing a file, merging files) are reported by the next call that changes the store; that call had no
/// effect, and the work is tried again later. Nothing that was written before is lost by them.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum LsmError {
    /// The device or the quota is full. What now: make room, then go on; nothing in the store is lost.
    #[error("no space is left for the state file {} ({source}): make room on its device, or name a folder on another one", path.display())]
    NoSpace {
        /// What was being written.
        path: PathBuf,
        /// What the system said.
        source: Arc<io::Error>,
    },
    /// The system refused. What now: look at the folder and its permissions.
    #[error("{operation} {} failed: {source}", path.display())]
    Io {
        /// What was tried, e.g. `reading`.
        operation: &'static str,
        /// On which file or folder.
        path: PathBuf,
        /// What the system said.
        source: Arc<io::Error>,
    },
    /// A file does not hold what was written. What now: restart from a checkpoint; when it is the checkpoint's own file, from an
    /// older one.
    #[error("the state file {} is damaged at byte {offset}: {problem}. Restore from a checkpoint that has it whole", path.display())]
    Corrupt {
        /// Which file.
        path: PathBuf,
        /// Where in it the damaged part begins, in bytes.
        offset: u64,
        /// What was found.
        problem: &'static str,
    },
    /// A file of a format this version does not know. What now: use the version that wrote it, or a newer one.
    #[error("the state file {} has format {found}, this version reads {supported}: restore with the version of Weir that wrote it, or a newer one", path.display())]
    UnknownFormat {
        /// Which file.
        path: PathBuf,
        /// The format it has.
        found: u32,
        /// The format expected.
        supported: u32,
    },
    /// The key has no key group, or one that is not this store's. Who: the caller.
    #[error("the key {key:02x?} is not of this store: expected a key that begins with two bytes, a key group from {} to {}", groups.0, groups.1)]
    ForeignKey {
        /// The key, at most its first 16 bytes.
        key: Vec<u8>,
        /// The first and the last key group of the store.
        groups: (u16, u16),
    },
    /// Key and value together are too long. Who: the job that keeps so much under one key.
    #[error(
        "an entry of {length} bytes is too large for the store: at most {limit} bytes are taken; keep large collections as map state"
    )]
    EntryTooLarge {
        /// Length of key and value, in bytes.
        length: usize,
        /// The most there may be, in bytes.
        limit: usize,
    },
    /// The folder of a new store has something in it. Who: the caller.
    #[error("the folder {} of a new store must be empty, found {found:?} in it: name a folder of its own for each store", path.display())]
    FolderNotEmpty {
        /// The folder.
        path: PathBuf,
        /// One of the things in it.
        found: String,
    },
    /// The prefix cannot begin a file's name. Who: the caller.
    #[error(
        "{prefix:?} cannot begin the names of state files: expected letters, digits, '-', '_' or '.', and not a '.' first"
    )]
    InvalidPrefix {
        /// What was given.
        prefix: String,
    },
    /// A restored file carries the prefix of the store's new files, so names would come twice. Who: the caller.
    #[error(
        "the restored file {name} carries the prefix {prefix:?} of the new store: every life of a store needs a prefix of its own"
    )]
    PrefixInUse {
        /// The restored file's name.
        name: String,
        /// The prefix.
        prefix: String,
    },
    /// Two files of one restore both claim keys that only one can have. Who: the caller named a snapshot twice, or gave two old
    /// stores the same key groups.
    #[error(
        "the restored files {first} and {second} claim the same keys: give each key group the files of one snapshot of one store only"
    )]
    Overlap {
        /// One file's name.
        first: String,
        /// The other's.
        second: String,
    },
    /// The background thread ended before the work was done: the store was dropped, or there is a bug in it.
    #[error("the background thread of the store in {} ended before its work was done: restart the task from its last checkpoint", path.display())]
    Abandoned {
        /// The store's folder.
        path: PathBuf,
    },
}

impl LsmError {
    /// What the system said about `path`; a full disk is told apart because it is for somebody else to put right.
    pub(crate) fn io(operation: &'static str, path: &Path, source: io::Error) -> Self {
        let path = path.to_path_buf();
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
                Self::NoSpace { path, source: Arc::new(source) }
            }
            _ => Self::Io { operation, path, source: Arc::new(source) },
        }
    }

    pub(crate) fn corrupt(path: &Path, offset: u64, problem: &'static str) -> Self {
        Self::Corrupt { path: path.to_path_buf(), offset, problem }
    }
}
