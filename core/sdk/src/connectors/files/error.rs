//! What can be wrong with an input file.

use std::io::{self, ErrorKind};
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use weir_dataflow::source::SourceError;

/// Paths are also patterns, so they are text; what was not UTF-8 in one has been replaced before it came here.
fn not_utf8(path: &str) -> &'static str {
    if path.contains(char::REPLACEMENT_CHARACTER) {
        " (a name that is not UTF-8 can only be read through its folder or a pattern)"
    } else {
        ""
    }
}

/// Why input files could not be found or read.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// Nothing is at the path.
    #[error(
        "input {path:?} does not exist; give a file, a directory or a pattern such as data/*.txt{}",
        not_utf8(path)
    )]
    Missing {
        /// The path as given.
        path: String,
    },
    /// A pattern matches nothing.
    #[error(
        "no file matches the input pattern {pattern:?}; names that begin with a dot are matched only if the pattern says so"
    )]
    NoMatch {
        /// The pattern as given.
        pattern: String,
    },
    /// A pattern cannot be understood.
    #[error("the input pattern {pattern:?} is malformed: {reason}")]
    Pattern {
        /// The pattern as given.
        pattern: String,
        /// What is wrong and where.
        reason: String,
    },
    /// The operating system refuses.
    #[error("input {} cannot be {action}: {source}{}", path.display(), hint(source))]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What was tried.
        action: &'static str,
        /// What the operating system said.
        source: io::Error,
    },
    /// A device, pipe or socket.
    #[error("input {} is {found}, not a regular file: its parts cannot be read again after a failure; copy it to a file first", path.display())]
    NotAFile {
        /// The path.
        path: PathBuf,
        /// What it is.
        found: &'static str,
    },
    /// Content without a size, as in `/proc`.
    #[error("input {} says that its size is 0 but has content, as files made by the kernel do; copy it to a file first", path.display())]
    Unsized {
        /// The file.
        path: PathBuf,
    },
    /// A compression Weir does not read.
    #[error("input {} is compressed with {format}, which is not supported; decompress it, or compress it with gzip or zstd", path.display())]
    UnsupportedCompression {
        /// The file.
        path: PathBuf,
        /// Name of the compression.
        format: &'static str,
    },
    /// A compressed file ends too early.
    #[error("input {} is truncated: its {format} data ends before the end of the stream, after {offset} decompressed bytes; fetch or compress it again", path.display())]
    Truncated {
        /// The file.
        path: PathBuf,
        /// Name of the compression.
        format: &'static str,
        /// Decompressed bytes before the end.
        offset: u64,
    },
    /// A compressed file is damaged.
    #[error("input {} is damaged: its {format} data cannot be decompressed after {offset} decompressed bytes ({source}); fetch or compress it again", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Name of the compression.
        format: &'static str,
        /// Decompressed bytes before the damage.
        offset: u64,
        /// What the decoder said.
        source: io::Error,
    },
    /// The file was there when the job began.
    #[error("input {} vanished after the job had found it; input files must stay in place until the job ends", path.display())]
    Vanished {
        /// The file.
        path: PathBuf,
    },
    /// The file is not the one that was cut into splits.
    #[error(
        "input {} changed after the job had found it: it had {} bytes (modified {}), now it has {} (modified {}); \
         input files must not be written to until the job ends: move finished files into the input directory instead of writing them there",
        path.display(), before.len, before.modified(), now.len, now.modified()
    )]
    Changed {
        /// The file.
        path: PathBuf,
        /// What it was when the job began.
        before: Version,
        /// What it is now.
        now: Version,
    },
}

impl From<FileError> for SourceError {
    fn from(error: FileError) -> SourceError {
        SourceError::new(error)
    }
}

/// What tells one state of a file from another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Version {
    /// Length in bytes.
    pub len: u64,
    /// Time of the last modification, in nanoseconds since 1970.
    pub modified_nanos: u64,
}

impl Version {
    pub(super) fn of(metadata: &std::fs::Metadata) -> Version {
        let since = metadata.modified().ok().and_then(|time| time.duration_since(SystemTime::UNIX_EPOCH).ok());
        Version { len: metadata.len(), modified_nanos: since.unwrap_or_default().as_nanos() as u64 }
    }

    fn modified(&self) -> String {
        let ago = SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH + Duration::from_nanos(self.modified_nanos))
            .unwrap_or_default();
        format!("{:.1} s ago", ago.as_secs_f64())
    }
}

fn hint(error: &io::Error) -> &'static str {
    match error.kind() {
        ErrorKind::PermissionDenied => "; the user who runs the job needs permission to read it",
        _ => "",
    }
}
