//! What goes wrong with stored state.

use std::fmt;
use std::io;

/// Why a file of a snapshot could not be written or read. Its text names the file, what failed, and how to put it right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StorageError {
    kind: StorageErrorKind,
    /// What was tried, e.g. `reading`.
    operation: &'static str,
    uri: String,
    /// What the system said, or what is wrong with the uri.
    detail: String,
}

/// What a [`StorageError`] is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum StorageErrorKind {
    /// The text is not the place of a file. Who: whoever configured it.
    InvalidUri,
    /// Nobody here serves the scheme. Who: whoever configured it.
    UnsupportedScheme,
    /// There is no such file; when it is written: its folder is gone, or cannot be made. What now: use an older snapshot; take the next
    /// one, which makes the folder again.
    NotFound,
    /// The file ends before what was asked for. What now: use an older snapshot.
    Truncated,
    /// The system does not let this user do it. Who: whoever runs the machine.
    PermissionDenied,
    /// The file system is mounted read-only. Who: whoever runs the machine.
    ReadOnly,
    /// The device or the quota is full. What now: make room; the next snapshot may succeed.
    NoSpace,
    /// A file is where a folder should be, or the other way round. Who: whoever configured the place.
    NotAFolder,
    /// The TaskManager's storage service did not answer, or not in a way that makes sense.
    Service,
    /// The system failed otherwise.
    Failed,
}

impl StorageError {
    pub(crate) fn new(
        kind: StorageErrorKind,
        operation: &'static str,
        uri: &str,
        detail: impl Into<String>,
    ) -> StorageError {
        StorageError { kind, operation, uri: uri.to_owned(), detail: detail.into() }
    }

    /// The error that `source` means for the file at `uri`; `operation` is a word like `reading`.
    pub(crate) fn from_io(operation: &'static str, uri: &str, source: &io::Error) -> StorageError {
        StorageError::new(StorageErrorKind::of_io(source.kind()), operation, uri, source.to_string())
    }

    /// The file does not reach as far as what was wanted of it, in bytes.
    pub(crate) fn truncated(uri: &str, found: u64, offset: u64, len: u64) -> StorageError {
        let detail = format!("it has {found} bytes, but {len} bytes from {offset} on were expected");
        StorageError::new(StorageErrorKind::Truncated, "reading", uri, detail)
    }

    /// What it is about.
    pub fn kind(&self) -> StorageErrorKind {
        self.kind
    }

    /// The file, as it was asked for.
    pub fn uri(&self) -> &str {
        &self.uri
    }
}

impl StorageErrorKind {
    fn of_io(kind: io::ErrorKind) -> StorageErrorKind {
        match kind {
            io::ErrorKind::NotFound => StorageErrorKind::NotFound,
            io::ErrorKind::PermissionDenied => StorageErrorKind::PermissionDenied,
            io::ErrorKind::ReadOnlyFilesystem => StorageErrorKind::ReadOnly,
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
                StorageErrorKind::NoSpace
            }
            // A folder cannot be made where a file is.
            io::ErrorKind::NotADirectory | io::ErrorKind::IsADirectory | io::ErrorKind::AlreadyExists => {
                StorageErrorKind::NotAFolder
            }
            _ => StorageErrorKind::Failed,
        }
    }

    fn remedy(self, operation: &str) -> &'static str {
        match self {
            StorageErrorKind::InvalidUri => "expected e.g. file:///var/lib/weir/checkpoints",
            StorageErrorKind::UnsupportedScheme => {
                "this version of Weir keeps state in file:// only; name a folder that all machines mount"
            }
            StorageErrorKind::NotFound if operation != "reading" => {
                "its folder was removed meanwhile, or cannot be made there"
            }
            StorageErrorKind::NotFound => {
                "it was removed, or was written on a machine whose folder is not mounted here"
            }
            StorageErrorKind::Truncated => {
                "it was cut off or replaced; an older checkpoint or savepoint can be restored from"
            }
            StorageErrorKind::PermissionDenied => {
                "let the user that runs the TaskManager read and write there, or name another folder"
            }
            StorageErrorKind::ReadOnly => "mount it writable, or name another folder",
            StorageErrorKind::NoSpace => "make room on its device, or name a folder on another one",
            StorageErrorKind::NotAFolder => {
                "a file and a folder claim the same name; remove it, or name another folder"
            }
            StorageErrorKind::Service => "the log of the TaskManager may say why",
            StorageErrorKind::Failed => "look at the device",
        }
    }
}

impl fmt::Display for StorageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let StorageError { kind, operation, uri, detail } = self;
        write!(f, "{operation} {uri} failed: {detail}; {}", kind.remedy(operation))
    }
}

impl std::error::Error for StorageError {}
