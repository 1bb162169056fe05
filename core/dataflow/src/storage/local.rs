//! Files of this machine.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Component, Path, PathBuf};
use std::process;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use super::{StateFile, StateStorage, StorageError, StorageErrorKind};

/// Small writes are gathered up to this many bytes; larger ones go straight through.
const GATHERED: usize = 256 * 1024;
/// What names of unfinished files begin with, here and in `weir-storage`, whose lists leave them out.
const UNFINISHED: &str = ".unfinished-";

/// `file://`: the files of this machine, read and written by this process. An unfinished file lies beside its target under another
/// name, is flushed to the device and renamed at the end.
#[derive(Debug, Clone, Copy, Default)]
pub struct LocalFiles;

impl StateStorage for LocalFiles {
    fn create(&self, uri: &str) -> Result<Box<dyn StateFile>, StorageError> {
        Ok(Box::new(LocalFile::create(uri)?))
    }

    fn read(&self, uri: &str, offset: u64, len: u64) -> Result<Vec<u8>, StorageError> {
        let path = path_of("reading", uri)?;
        let failed = |error: io::Error| StorageError::from_io("reading", uri, &error);
        let mut file = File::open(path).map_err(failed)?;
        let metadata = file.metadata().map_err(failed)?;
        if metadata.is_dir() {
            return Err(failed(io::ErrorKind::IsADirectory.into()));
        }
        // Before memory is taken: lengths may come from a damaged file.
        if offset.checked_add(len).is_none_or(|end| end > metadata.len()) {
            return Err(StorageError::truncated(uri, metadata.len(), offset, len));
        }
        let mut bytes = space_for(uri, len)?;
        file.seek(SeekFrom::Start(offset)).map_err(failed)?;
        file.take(len).read_to_end(&mut bytes).map_err(failed)?;
        // It can be cut off while it is read.
        match bytes.len() as u64 {
            found if found == len => Ok(bytes),
            found => Err(StorageError::truncated(uri, offset + found, offset, len)),
        }
    }
}

/// An empty vector with room for `len` bytes of the file at `uri`.
pub(super) fn space_for(uri: &str, len: u64) -> Result<Vec<u8>, StorageError> {
    let mut bytes = Vec::new();
    let reserved = usize::try_from(len).is_ok_and(|len| bytes.try_reserve_exact(len).is_ok());
    if reserved {
        Ok(bytes)
    } else {
        let detail = format!("there is no memory for {len} bytes of it");
        Err(StorageError::new(StorageErrorKind::Failed, "reading", uri, detail))
    }
}

/// The path that a uri of `file://` names, or an absolute path itself.
fn path_of(operation: &'static str, uri: &str) -> Result<PathBuf, StorageError> {
    let invalid = |kind, problem: &str| Err(StorageError::new(kind, operation, uri, problem));
    let path = match uri.split_once("://") {
        None => uri,
        Some((scheme, path)) if scheme.eq_ignore_ascii_case("file") => path,
        Some((scheme, _)) => {
            let problem = format!("there is no file system for {scheme}:// here");
            return invalid(StorageErrorKind::UnsupportedScheme, &problem);
        }
    };
    if !path.starts_with('/') {
        return invalid(StorageErrorKind::InvalidUri, "its path does not begin with `/`, or it names a host");
    }
    let path = Path::new(path);
    if path.file_name().is_none() || path.components().any(|part| part == Component::ParentDir) {
        return invalid(StorageErrorKind::InvalidUri, "it names no file, or has `..` in it");
    }
    Ok(path.to_owned())
}

struct LocalFile {
    uri: String,
    target: PathBuf,
    file: BufWriter<File>,
    written: u64,
    unfinished: Unfinished,
}

/// A file that goes unless it was renamed.
struct Unfinished(PathBuf);

impl Drop for Unfinished {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

impl LocalFile {
    fn create(uri: &str) -> Result<LocalFile, StorageError> {
        let target = path_of("creating", uri)?;
        let failed = |error: io::Error| StorageError::from_io("creating", uri, &error);
        if target.is_dir() {
            return Err(failed(io::ErrorKind::IsADirectory.into()));
        }
        target.parent().map_or(Ok(()), fs::create_dir_all).map_err(failed)?;
        let path = target.with_file_name(unfinished_name());
        let file = OpenOptions::new().write(true).create_new(true).open(&path).map_err(failed)?;
        let file = BufWriter::with_capacity(GATHERED, file);
        Ok(LocalFile { uri: uri.to_owned(), target, file, written: 0, unfinished: Unfinished(path) })
    }
}

/// A name that no other file has: time tells processes apart that have the same id, one after another or on several machines.
fn unfinished_name() -> String {
    static COUNTER: AtomicU64 = AtomicU64::new(0);
    let time = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos());
    format!("{UNFINISHED}{}-{time:x}-{}", process::id(), COUNTER.fetch_add(1, Ordering::Relaxed))
}

impl StateFile for LocalFile {
    fn write(&mut self, bytes: &[u8]) -> Result<(), StorageError> {
        self.file.write_all(bytes).map_err(|error| StorageError::from_io("writing", &self.uri, &error))?;
        self.written += bytes.len() as u64;
        Ok(())
    }

    fn finish(self: Box<Self>) -> Result<u64, StorageError> {
        let LocalFile { uri, target, file, written, unfinished } = *self;
        let failed = |error: io::Error| StorageError::from_io("finishing", &uri, &error);
        let file = file.into_inner().map_err(|error| failed(error.into_error()))?;
        file.sync_all().map_err(failed)?;
        fs::rename(&unfinished.0, &target).map_err(failed)?;
        // The name is in the folder, so the folder has to reach the device as well.
        target.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all()).map_err(failed)?;
        Ok(written)
    }
}

#[cfg(test)]
mod tests;
