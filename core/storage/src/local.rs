//! Files of this machine.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;

use crate::{Answer, FileMetadata, FileReader, FileSystem, FileWriter, IfExists, ListedFile, StorageError};

/// Bytes read at a time.
const CHUNK: usize = 256 * 1024;
/// Names of unfinished files begin with this; such files are not listed.
const UNFINISHED: &str = ".unfinished-";

/// `file://`: the files of this machine. An unfinished file lies beside its target under another name, flushed and renamed at the
/// end.
#[derive(Debug, Clone, Copy, Default)]
pub struct LocalFileSystem;

/// Runs something that may wait for a disk where waiting does no harm.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StorageError> + Send + 'static,
) -> Result<T, StorageError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(StorageError::from_io("working on", "a file", io::Error::other(error))),
    }
}

fn metadata_of(metadata: &fs::Metadata) -> FileMetadata {
    let modified = metadata.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    FileMetadata { size: metadata.len(), modified_nanos: modified.map_or(0, |since| since.as_nanos() as u64) }
}

impl FileSystem for LocalFileSystem {
    fn scheme(&self) -> &'static str {
        "file"
    }

    fn local_path(&self, path: &str) -> Option<PathBuf> {
        Some(PathBuf::from(path))
    }

    fn metadata<'a>(&'a self, path: &'a str) -> Answer<'a, FileMetadata> {
        let path = path.to_owned();
        Box::pin(blocking(move || match fs::metadata(&path) {
            Ok(metadata) if metadata.is_file() => Ok(metadata_of(&metadata)),
            Ok(_) => Err(StorageError::NotFound { path }),
            Err(error) => Err(StorageError::from_io("looking at", path, error)),
        }))
    }

    fn read<'a>(&'a self, path: &'a str, offset: u64, limit: Option<u64>) -> Answer<'a, Box<dyn FileReader>> {
        let path = path.to_owned();
        Box::pin(blocking(move || {
            let open = File::open(&path).and_then(|mut file| {
                if offset > 0 {
                    file.seek(SeekFrom::Start(offset))?;
                }
                Ok(file)
            });
            let file = open.map_err(|error| StorageError::from_io("opening", &path, error))?;
            let reader = LocalReader { file: Some(file), path, left: limit.unwrap_or(u64::MAX) };
            Ok(Box::new(reader) as Box<dyn FileReader>)
        }))
    }

    fn create<'a>(&'a self, path: &'a str, if_exists: IfExists) -> Answer<'a, Box<dyn FileWriter>> {
        let path = path.to_owned();
        Box::pin(blocking(move || {
            let writer = LocalWriter::open(path, if_exists)?;
            Ok(Box::new(writer) as Box<dyn FileWriter>)
        }))
    }

    fn rename<'a>(&'a self, from: &'a str, to: &'a str, if_exists: IfExists) -> Answer<'a, ()> {
        let (from, to) = (from.to_owned(), to.to_owned());
        Box::pin(blocking(move || {
            let moved = make_folder_of(&to).and_then(|()| place(Path::new(&from), &to, if_exists));
            moved.map_err(|error| match error.kind() {
                io::ErrorKind::NotFound => StorageError::NotFound { path: from },
                _ => StorageError::from_io("renaming to", to, error),
            })
        }))
    }

    fn list<'a>(&'a self, folder: &'a str) -> Answer<'a, Vec<ListedFile>> {
        let folder = folder.to_owned();
        Box::pin(blocking(move || list(&folder).map_err(|error| StorageError::from_io("listing", folder, error))))
    }

    fn delete<'a>(&'a self, path: &'a str) -> Answer<'a, ()> {
        let path = path.to_owned();
        Box::pin(blocking(move || match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(StorageError::from_io("deleting", path, error))
            }
            Ok(()) | Err(_) => Ok(()),
        }))
    }

    fn delete_folder<'a>(&'a self, folder: &'a str) -> Answer<'a, ()> {
        let folder = folder.to_owned();
        Box::pin(blocking(move || match fs::remove_dir_all(&folder) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(StorageError::from_io("deleting", folder, error))
            }
            Ok(()) | Err(_) => Ok(()),
        }))
    }

    fn remove_unfinished<'a>(&'a self, folder: &'a str) -> Answer<'a, ()> {
        let folder = folder.to_owned();
        Box::pin(blocking(move || {
            remove_unfinished(&folder).map_err(|error| StorageError::from_io("cleaning", folder, error))
        }))
    }
}

fn remove_unfinished(folder: &str) -> io::Result<()> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        if entry.file_name().as_encoded_bytes().starts_with(UNFINISHED.as_bytes()) {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

fn list(folder: &str) -> io::Result<Vec<ListedFile>> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut files = Vec::new();
    for entry in entries {
        let entry = entry?;
        let Ok(name) = entry.file_name().into_string() else { continue };
        match entry.metadata() {
            Ok(metadata) if metadata.is_file() && !name.starts_with(UNFINISHED) => {
                files.push(ListedFile { name, metadata: metadata_of(&metadata) });
            }
            // A file that went between the two calls is no file of the folder any more.
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(_) | Err(_) => {}
        }
    }
    files.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(files)
}

fn make_folder_of(path: &str) -> io::Result<()> {
    Path::new(path).parent().map_or(Ok(()), fs::create_dir_all)
}

/// Gives the finished file `from` the name `to`, for good.
fn place(from: &Path, to: &str, if_exists: IfExists) -> io::Result<()> {
    match if_exists {
        IfExists::Replace => fs::rename(from, to)?,
        IfExists::Fail => {
            // A link is made only where no file is; a rename would replace it.
            fs::hard_link(from, to)?;
            fs::remove_file(from)?;
        }
    }
    // The name is in the folder, so the folder has to reach the disk as well.
    Path::new(to).parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
}

struct LocalReader {
    /// `None` while a read is under way, and after one was abandoned.
    file: Option<File>,
    path: String,
    left: u64,
}

impl FileReader for LocalReader {
    fn next(&mut self) -> Answer<'_, Option<Bytes>> {
        Box::pin(async move {
            let Some(file) = self.file.take() else { return Ok(None) };
            let (path, wanted) = (self.path.clone(), self.left.min(CHUNK as u64));
            let (file, bytes) = blocking(move || {
                let mut bytes = Vec::with_capacity(wanted as usize);
                let read = (&file).take(wanted).read_to_end(&mut bytes);
                read.map_err(|error| StorageError::from_io("reading", path, error))?;
                Ok((file, bytes))
            })
            .await?;
            if bytes.is_empty() {
                return Ok(None);
            }
            self.left -= bytes.len() as u64;
            self.file = Some(file);
            Ok(Some(bytes.into()))
        })
    }
}

struct LocalWriter {
    /// `None` while a write is under way, and after one has failed.
    file: Option<File>,
    unfinished: Unfinished,
    path: String,
    if_exists: IfExists,
}

/// A file that goes unless it is finished.
struct Unfinished(PathBuf);

impl Drop for Unfinished {
    fn drop(&mut self) {
        // Finished, it is not there any more under this name.
        let _ = fs::remove_file(&self.0);
    }
}

impl LocalWriter {
    fn open(path: String, if_exists: IfExists) -> Result<LocalWriter, StorageError> {
        static COUNTER: AtomicU64 = AtomicU64::new(0);
        let wrong = |error| StorageError::from_io("creating", &path, error);
        make_folder_of(&path).map_err(wrong)?;
        // Time tells processes apart that have the same id, one after another or in other containers.
        let time = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos());
        let count = COUNTER.fetch_add(1, Ordering::Relaxed);
        let name = format!("{UNFINISHED}{}-{time:x}-{count}", std::process::id());
        let unfinished = Path::new(&path).with_file_name(name);
        let file = OpenOptions::new().write(true).create_new(true).open(&unfinished).map_err(wrong)?;
        Ok(LocalWriter { file: Some(file), unfinished: Unfinished(unfinished), path, if_exists })
    }

    fn given_up(&self) -> StorageError {
        let error = io::Error::other("an earlier write failed or was abandoned");
        StorageError::Io { operation: "writing", path: self.path.clone(), source: error }
    }
}

impl FileWriter for LocalWriter {
    fn write(&mut self, bytes: Bytes) -> Answer<'_, ()> {
        Box::pin(async move {
            let mut file = self.file.take().ok_or_else(|| self.given_up())?;
            let path = self.path.clone();
            let file = blocking(move || {
                file.write_all(&bytes).map_err(|error| StorageError::from_io("writing", path, error))?;
                Ok(file)
            });
            self.file = Some(file.await?);
            Ok(())
        })
    }

    fn finish(mut self: Box<Self>) -> Answer<'static, ()> {
        Box::pin(async move {
            let file = self.file.take().ok_or_else(|| self.given_up())?;
            blocking(move || {
                let placed = file.sync_all().and_then(|()| place(&self.unfinished.0, &self.path, self.if_exists));
                placed.map_err(|error| StorageError::from_io("finishing", &self.path, error))
            })
            .await
        })
    }
}

#[cfg(test)]
mod tests;
