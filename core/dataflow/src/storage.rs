//! Where snapshots of state are kept: files that appear whole or not at all, and are read in ranges.
//!
//! Tasks know only [`StateStorage`]. Behind it are this machine's files ([`LocalFiles`]) in embedded runs, and on a cluster the
//! storage service of the TaskManager ([`StorageService`]), so that clients of file systems and their credentials stay out of the processes that
//! run user code.

mod error;
mod local;
mod service;

use std::fmt;

pub use error::{StorageError, StorageErrorKind};
pub use local::LocalFiles;
pub use service::StorageService;

/// Where tasks keep snapshots of their state. Every call blocks; they are made on threads that write snapshots, and by tasks that
/// restore.
pub trait StateStorage: Send + Sync + fmt::Debug {
    /// Begins a file that is visible under `uri` (`file:///folder/name`) only once it is finished. Folders that are missing are
    /// made; a file that has this name already is replaced at the end. A TaskManager lets a worker write some hundred files at a time;
    /// beyond, this waits for one of them, so whoever has a file begun should not wait for another task's to be begun.
    ///
    /// # Errors
    /// Whatever keeps files from being written there, as far as it shows before anything is.
    fn create(&self, uri: &str) -> Result<Box<dyn StateFile>, StorageError>;

    /// Reads `len` bytes from `offset` on, never fewer.
    ///
    /// # Errors
    /// The file is not there, cannot be read, or ends before `offset + len`: [`StorageErrorKind::Truncated`].
    fn read(&self, uri: &str, offset: u64, len: u64) -> Result<Vec<u8>, StorageError>;
}

/// A file that is being written. Dropping it before it is finished removes what was written.
pub trait StateFile: Send {
    /// Appends `bytes`. Small pieces are gathered.
    ///
    /// # Errors
    /// Those of the device. After one, the file can only be dropped.
    fn write(&mut self, bytes: &[u8]) -> Result<(), StorageError>;

    /// Makes the file durable, then visible; says how many bytes it has.
    ///
    /// # Errors
    /// Those of the device, also belated ones of writes. The file is then not there.
    fn finish(self: Box<Self>) -> Result<u64, StorageError>;
}
