//! What goes wrong with bytes at rest.

use std::io;

use weir_model::ArtifactId;

/// Why something stored could not be read, written or found.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StorageError {
    /// There is no such file. Who: the caller, or somebody removed it.
    #[error("there is no file {path}")]
    NotFound {
        /// Which file.
        path: String,
    },
    /// A file that must not be replaced is there already.
    #[error("{path} is there already")]
    AlreadyExists {
        /// Which file.
        path: String,
    },
    /// The device or the quota is full. What now: make room, then try again.
    #[error("no space is left for {path} ({source}): make room on its device, or name a folder on another one")]
    NoSpace {
        /// What was being written.
        path: String,
        /// What the system said.
        source: io::Error,
    },
    /// The system refused.
    #[error("{operation} {path} failed: {source}")]
    Io {
        /// What was tried, e.g. `reading`.
        operation: &'static str,
        /// On which file.
        path: String,
        /// What the system said.
        source: io::Error,
    },
    /// Not a place files can be at.
    #[error("{found:?} is no place for files: {problem}; expected e.g. file:///var/lib/weir or /var/lib/weir")]
    InvalidLocation {
        /// What was written.
        found: String,
        /// What is wrong with it.
        problem: String,
    },
    /// A scheme nobody here serves.
    #[error("{found:?} needs a file system for {scheme}://, which this version of Weir does not have: it has file://")]
    UnsupportedScheme {
        /// What was written.
        found: String,
        /// Its scheme.
        scheme: String,
    },
    /// A name that would leave its folder, or cannot be a file's.
    #[error("{name:?} cannot be the name of a stored file: expected a name without a path")]
    InvalidName {
        /// What was given.
        name: String,
    },
    /// Another process stores artifacts in the same folder, and neither knows what the other still needs.
    #[error("another process stores artifacts in {folder}: stop it, or give each cluster a folder of its own")]
    InUse {
        /// The root of the store.
        folder: String,
    },
    /// The store has its limit of bytes, and nothing in it can go.
    #[error(
        "the artifacts that jobs need have {needed} bytes together with the new one, but only {limit} may be stored: wait for jobs to end, or \
         raise the limit"
    )]
    LimitReached {
        /// Bytes that cannot be removed.
        needed: u64,
        /// Bytes that may be stored.
        limit: u64,
    },
    /// No artifact has this content.
    #[error("the artifact {id} is not stored here: upload it again")]
    UnknownArtifact {
        /// Which one.
        id: ArtifactId,
    },
    /// The content of a stored artifact is not what was uploaded. What now: upload it again, and look at the device.
    #[error("the stored artifact {id} is damaged: {problem}; remove it and upload it again")]
    Corrupted {
        /// Which one.
        id: ArtifactId,
        /// What was found.
        problem: String,
    },
}

impl StorageError {
    /// The error that `source` means for `path`; `operation` is a word like `reading`.
    pub fn from_io(operation: &'static str, path: impl Into<String>, source: io::Error) -> StorageError {
        let path = path.into();
        match source.kind() {
            io::ErrorKind::NotFound => StorageError::NotFound { path },
            io::ErrorKind::AlreadyExists => StorageError::AlreadyExists { path },
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
                StorageError::NoSpace { path, source }
            }
            _ => StorageError::Io { operation, path, source },
        }
    }

    /// Whether it means that a file is not there.
    pub fn is_not_found(&self) -> bool {
        matches!(self, StorageError::NotFound { .. } | StorageError::UnknownArtifact { .. })
    }
}
