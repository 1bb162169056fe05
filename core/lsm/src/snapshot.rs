//! The files that hold a store's state at one moment.

use std::path::PathBuf;

use crate::table::TableView;
use crate::ticket::Ticket;
use crate::{KeyGroups, LsmError};

/// One immutable file of a snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotFile {
    /// Unique for ever: a file of this name in another snapshot of the job is the same file, and need not be uploaded again. One snapshot may
    /// name a file more than once, with different key groups.
    pub name: String,
    /// Where it can be read while the snapshot lives.
    pub path: PathBuf,
    /// In bytes.
    pub length: u64,
    /// XXH3-64 of all its bytes.
    pub checksum: u64,
    /// Whose state the file holds in this snapshot. It may have entries of other groups, which are out of date and must not be read:
    /// [`RestoreFile::key_groups`](crate::RestoreFile::key_groups) has to be within these.
    pub key_groups: KeyGroups,
    /// The smallest key of these groups in the file.
    pub smallest: Vec<u8>,
    /// The largest key of these groups in the file.
    pub largest: Vec<u8>,
    /// Number of entries in the file, tombstones and entries of other groups included.
    pub entries: u64,
}

/// A snapshot whose last entries are on their way to disk. Can be sent to another thread, so that the task need not wait.
pub struct PendingSnapshot {
    pub(crate) tables: Vec<TableView>,
    pub(crate) flushes: Vec<Ticket<Option<TableView>>>,
}

impl PendingSnapshot {
    /// Waits until all files are complete.
    ///
    /// # Errors
    /// What kept the background thread from writing them, e.g. [`LsmError::NoSpace`]; nothing in the store is lost by it.
    pub fn wait(mut self) -> Result<Snapshot, LsmError> {
        for flush in &self.flushes {
            self.tables.extend(flush.wait()?);
        }
        let files = self.tables.iter().map(describe).collect();
        Ok(Snapshot { files, _pinned: self.tables })
    }
}

/// The complete files of a snapshot. While it lives, they stay where they are, whatever becomes of the store.
pub struct Snapshot {
    files: Vec<SnapshotFile>,
    _pinned: Vec<TableView>,
}

impl Snapshot {
    /// The files, in no particular order. None when the store was empty.
    pub fn files(&self) -> &[SnapshotFile] {
        &self.files
    }
}

fn describe(view: &TableView) -> SnapshotFile {
    let table = view.table();
    SnapshotFile {
        name: table.name().to_owned(),
        path: table.path().to_path_buf(),
        length: table.length(),
        checksum: table.checksum(),
        key_groups: view.groups(),
        smallest: view.smallest().to_vec(),
        largest: view.largest().to_vec(),
        entries: table.entries(),
    }
}
