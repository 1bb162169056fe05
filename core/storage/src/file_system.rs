//! The face every file system shows.

use std::fmt;
use std::path::PathBuf;
use std::pin::Pin;

use bytes::Bytes;

use crate::StorageError;

/// An answer that is still to come.
pub type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T, StorageError>> + Send + 'a>>;

/// Files by path, wherever they are: on this machine, in HDFS, in an object store.
///
/// Paths are absolute, begin with `/`, and have no `.` or `..` in them. Folders need not be made and need not exist.
///
/// What its users rely on:
/// - A file appears whole or not at all: nothing of it is seen before [`FileWriter::finish`] or [`rename`](Self::rename) has
///   done its work, and a crash before leaves at most something that [`list`](Self::list) does not show, or that lies at the path
///   that was being written and is marked as unfinished by the file system itself.
/// - Whoever looks after one of them has returned sees the file, also in lists.
/// - [`IfExists::Fail`] is decided by the store: of several that create the same file, one succeeds.
/// - A finished file's content never changes; it can only be replaced as a whole or deleted. A reader that has it open when this
///   happens goes on with the old content or fails; it never sees a mixture.
pub trait FileSystem: fmt::Debug + Send + Sync + 'static {
    /// The scheme of its URIs, e.g. `file`.
    fn scheme(&self) -> &'static str;

    /// Where a file or folder is on this machine, for what only local files can do; `None` if it is elsewhere.
    fn local_path(&self, _path: &str) -> Option<PathBuf> {
        None
    }

    /// What is known of a file. [`StorageError::NotFound`] if there is none.
    fn metadata<'a>(&'a self, path: &'a str) -> Answer<'a, FileMetadata>;

    /// Reads from `offset` on, at most `limit` bytes if it is given.
    fn read<'a>(&'a self, path: &'a str, offset: u64, limit: Option<u64>) -> Answer<'a, Box<dyn FileReader>>;

    /// Begins a file. Dropping the writer leaves nothing.
    fn create<'a>(&'a self, path: &'a str, if_exists: IfExists) -> Answer<'a, Box<dyn FileWriter>>;

    /// Gives a file another path, atomically at its target; a crash in between may leave it at both. An object store copies.
    fn rename<'a>(&'a self, from: &'a str, to: &'a str, if_exists: IfExists) -> Answer<'a, ()>;

    /// The files right in a folder, by name; folders are left out. Empty if there is no such folder.
    fn list<'a>(&'a self, folder: &'a str) -> Answer<'a, Vec<ListedFile>>;

    /// Removes a file. Fine if there is none.
    fn delete<'a>(&'a self, path: &'a str) -> Answer<'a, ()>;

    /// Removes a folder with all that is in it, unfinished files too; a link in it goes, what it leads to stays. Fine if there is none.
    /// When it fails, a part may be gone.
    fn delete_folder<'a>(&'a self, folder: &'a str) -> Answer<'a, ()>;

    /// Removes what writers that died left unfinished right in a folder. Only whoever alone writes to the folder may ask.
    fn remove_unfinished<'a>(&'a self, folder: &'a str) -> Answer<'a, ()>;
}

/// What happens if a file is there already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IfExists {
    /// It is replaced at once.
    Replace,
    /// It stays; the newcomer fails with [`StorageError::AlreadyExists`].
    Fail,
}

/// A file being written.
pub trait FileWriter: Send {
    /// Takes the next bytes. After an error the file cannot be finished.
    fn write(&mut self, bytes: Bytes) -> Answer<'_, ()>;

    /// Makes the file appear under its path. Once this returns, the file survives a crash of the machine.
    fn finish(self: Box<Self>) -> Answer<'static, ()>;
}

/// A file being read.
pub trait FileReader: Send {
    /// The next bytes; `None` at the end. Never empty.
    fn next(&mut self) -> Answer<'_, Option<Bytes>>;
}

/// What is known of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileMetadata {
    /// Bytes.
    pub size: u64,
    /// Nanoseconds since 1970-01-01 UTC, as exact as the file system keeps it.
    pub modified_nanos: u64,
}

/// A file in a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedFile {
    /// Its name, without a path.
    pub name: String,
    /// What is known of it.
    pub metadata: FileMetadata,
}
