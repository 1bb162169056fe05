//! The part of a file that one reader reads.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use weir_dataflow::record::Bytes;
use weir_derive::Record;

use super::Compression;
use super::error::Version;
use super::find::InputFile;

/// The records of a file whose first byte lies in a range of it, and how far they have been read.
#[derive(Debug, Clone, PartialEq, Eq, Record)]
#[record(crate = "weir_dataflow::record")]
pub struct FileSplit {
    /// The file's path as the operating system knows it.
    pub path: Bytes,
    /// How the file is compressed. A compressed file is one split.
    pub compression: Compression,
    /// First byte of the range.
    pub start: u64,
    /// The byte after the range.
    pub end: u64,
    /// First byte not yet read, at the start of a record; of the decompressed content if the file is compressed.
    pub position: u64,
    /// Length of the file when the job began.
    pub file_len: u64,
    /// When the file had been modified last when the job began, in nanoseconds since 1970.
    pub modified_nanos: u64,
}

impl FileSplit {
    pub(super) fn new(file: &InputFile, start: u64, end: u64) -> FileSplit {
        FileSplit {
            path: Bytes::copy_from_slice(file.path.as_os_str().as_bytes()),
            compression: file.compression,
            start,
            end,
            position: start,
            file_len: file.version.len,
            modified_nanos: file.version.modified_nanos,
        }
    }

    /// The file's path.
    pub fn path(&self) -> PathBuf {
        Path::new(OsStr::from_bytes(&self.path)).to_owned()
    }

    pub(super) fn version(&self) -> Version {
        Version { len: self.file_len, modified_nanos: self.modified_nanos }
    }

    /// Roughly how long it takes to read, in bytes.
    pub(super) fn weight(&self) -> u64 {
        match self.compression {
            Compression::None => self.end - self.start,
            // Text is usually compressed to a quarter or less.
            Compression::Gzip | Compression::Zstd => (self.end - self.start).saturating_mul(4),
        }
    }
}
