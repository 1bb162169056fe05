//! What is told a worker when its file cannot be written or read.

use std::io;

use weir_proto::storage::{Failed, FailureKind};
use weir_storage::StorageError;

/// The message for an error.
pub(super) fn failed(error: &StorageError) -> Failed {
    let io_kind = |error: &io::Error| match error.kind() {
        io::ErrorKind::PermissionDenied => FailureKind::PermissionDenied,
        io::ErrorKind::ReadOnlyFilesystem => FailureKind::ReadOnly,
        io::ErrorKind::NotADirectory | io::ErrorKind::IsADirectory => FailureKind::NotAFolder,
        _ => FailureKind::Unspecified,
    };
    // The worker names the file.
    let (kind, detail) = match error {
        StorageError::NotFound { .. } => (FailureKind::NotFound, "there is no such file or folder".to_owned()),
        StorageError::AlreadyExists { .. } => {
            (FailureKind::NotAFolder, "a file is where a folder should be".to_owned())
        }
        StorageError::NoSpace { source, .. } => (FailureKind::NoSpace, source.to_string()),
        StorageError::Io { source, .. } => (io_kind(source), source.to_string()),
        StorageError::InvalidLocation { problem, .. } => (FailureKind::InvalidUri, problem.clone()),
        StorageError::UnsupportedScheme { scheme, .. } => {
            (FailureKind::UnsupportedScheme, format!("the TaskManager has no file system for {scheme}://"))
        }
        other => (FailureKind::Unspecified, other.to_string()),
    };
    Failed { kind: kind.into(), detail }
}

/// The file ends before what was wanted of it; all in bytes.
pub(super) fn truncated(found: u64, offset: u64, length: u64) -> Failed {
    let detail = format!("it has {found} bytes, but {length} bytes from {offset} on were expected");
    Failed { kind: FailureKind::Truncated.into(), detail }
}

/// The worker was not understood.
pub(super) fn stranger(detail: impl Into<String>) -> Failed {
    Failed { kind: FailureKind::Request.into(), detail: detail.into() }
}
