//! What can be wrong with an output directory.

use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use weir_dataflow::sink::SinkError;

/// Why output files could not be written.
#[derive(Debug, thiserror::Error)]
pub enum OutputError {
    /// The output path is something else.
    #[error("output {} is not a directory; give the path of a directory, which is created if need be", path.display())]
    NotADirectory {
        /// The output path.
        path: PathBuf,
    },
    /// There is output already.
    #[error(
        "output directory {} is not empty: it has {count} files, among them {example:?}; give another directory or empty this one \
         (a job whose author wrote `.overwrite(true)` replaces its part files)",
        path.display()
    )]
    NotEmpty {
        /// The output directory.
        path: PathBuf,
        /// Number of entries in it.
        count: usize,
        /// One of them.
        example: String,
    },
    /// Somebody else writes there.
    #[error("output directory {} is being written to by another job, or by another sink of this one; give each its own directory", path.display())]
    InUse {
        /// The output directory.
        path: PathBuf,
    },
    /// A file is where a part file should go.
    #[error("output file {} appeared while the job was running and is not replaced; the results were not published", path.display())]
    Appeared {
        /// The file.
        path: PathBuf,
    },
    /// A finished part file is gone.
    #[error(
        "output file {} was removed: it is neither there nor, written aside, at {}; leave hidden files in an output directory alone, \
         and visible ones as long as a job may be restored that wrote them",
        path.display(), staged.display()
    )]
    Lost {
        /// The file as it would be called.
        path: PathBuf,
        /// The file written aside.
        staged: PathBuf,
    },
    /// A finished part file has changed.
    #[error(
        "output file {} has {len} bytes, but {expected} were written to it; leave the files in an output directory alone as long as the \
         job may be restored that wrote them",
        path.display()
    )]
    Altered {
        /// The file, visible or written aside.
        path: PathBuf,
        /// Its length in bytes.
        len: u64,
        /// What it should be.
        expected: u64,
    },
    /// A worker does not see what the driver prepared.
    #[error(
        "output directory {} is not there in the process that should write to it: if it was removed or renamed, put it back; if workers run \
         on several machines, give a directory on a file system they share",
        path.display()
    )]
    NotShared {
        /// The directory for files written aside.
        path: PathBuf,
    },
    /// A record has no form as a row.
    #[error("a record cannot be written to {}: {reason}", path.display())]
    Row {
        /// The part file.
        path: PathBuf,
        /// What the format cannot express.
        reason: String,
    },
    /// What the driver was told to commit makes no sense.
    #[error("the sink for {} was told to commit something that is not a part file: {reason}", path.display())]
    Committable {
        /// The output directory.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The operating system refuses.
    #[error("output {} cannot be {action}: {source}{}", path.display(), hint(source))]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What was tried.
        action: &'static str,
        /// What the operating system said.
        source: io::Error,
    },
}

impl OutputError {
    pub(super) fn io(path: &Path, action: &'static str) -> impl FnOnce(io::Error) -> OutputError {
        move |source| OutputError::Io { path: path.to_owned(), action, source }
    }
}

impl From<OutputError> for SinkError {
    fn from(error: OutputError) -> SinkError {
        SinkError::new(error)
    }
}

fn hint(error: &io::Error) -> &'static str {
    match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => "; free some space or write to another disk",
        ErrorKind::ReadOnlyFilesystem => "; give a directory on a file system that can be written to",
        ErrorKind::PermissionDenied => "; the user who runs the job needs permission to write there",
        ErrorKind::NotFound => "; if it was removed or renamed while the job ran, put it back",
        ErrorKind::NotADirectory => "; a part of the path is a file",
        _ => "",
    }
}
