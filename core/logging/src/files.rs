//! Reading log files from outside, where the name is not to be trusted.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

/// A file of a log directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogFile {
    /// Without a path.
    pub name: String,
    /// Bytes.
    pub size: u64,
    /// When it was last written, in milliseconds since 1970-01-01 UTC.
    pub modified: u64,
}

/// A piece of a log file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogChunk {
    /// The bytes from the offset asked for; empty at the end of the file.
    pub bytes: Vec<u8>,
    /// Bytes of the whole file at the moment of reading.
    pub size: u64,
}

/// Why a log file was not read.
#[derive(Debug, thiserror::Error)]
pub enum LogFileError {
    /// There is no such file, or it is not a regular file of the directory.
    #[error("there is no log file {name:?} here; the list of log files has the names")]
    NotFound {
        /// The name as asked for.
        name: String,
    },
    /// The file or directory is there and cannot be read.
    #[error("cannot read {path}: {error}")]
    Io {
        /// What was to be read.
        path: PathBuf,
        /// Why not.
        error: io::Error,
    },
}

/// The regular files of the log directory `dir`, by name. A directory that does not exist has none.
///
/// # Errors
/// [`LogFileError::Io`]: the directory cannot be read.
pub fn list(dir: &Path) -> Result<Vec<LogFile>, LogFileError> {
    let failed = |error| LogFileError::Io { path: dir.to_owned(), error };
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(failed)?,
    };
    let mut files = Vec::new();
    for entry in entries {
        let entry = entry.map_err(failed)?;
        // Of the entry itself, not of what a symbolic link points to. A file may be rotated away meanwhile.
        let (Ok(name), Ok(metadata)) = (entry.file_name().into_string(), entry.metadata()) else { continue };
        if metadata.is_file() {
            let modified = metadata.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
            let modified = modified.map_or(0, |since| since.as_millis() as u64);
            files.push(LogFile { name, size: metadata.len(), modified });
        }
    }
    files.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(files)
}

/// Opens the log file `name` of `dir` for reading. Only the last path element of `name` counts, symbolic links are not followed,
/// and nothing but a regular file is opened: no name leads out of `dir`.
///
/// # Errors
/// [`LogFileError::NotFound`] for such names too; [`LogFileError::Io`]: the file cannot be opened.
pub fn open(dir: &Path, name: &str) -> Result<File, LogFileError> {
    let not_found = || LogFileError::NotFound { name: name.to_owned() };
    let element = last_element(name).ok_or_else(not_found)?;
    let path = dir.join(element);
    let mut options = OpenOptions::new();
    // Not blocking, because opening a pipe would wait for its writer.
    options.read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK);
    let file = match options.open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(not_found()),
        Err(error) if matches!(error.raw_os_error(), Some(libc::ELOOP | libc::ENXIO | libc::ENAMETOOLONG)) => {
            return Err(not_found());
        }
        Err(error) => return Err(LogFileError::Io { path, error }),
    };
    let metadata = file.metadata().map_err(|error| LogFileError::Io { path, error })?;
    if metadata.is_file() { Ok(file) } else { Err(not_found()) }
}

/// Reads at most `limit` bytes of the log file `name` of `dir`, beginning at byte `offset`. The rules are those of [`open`].
///
/// # Errors
/// As [`open`].
pub fn read(dir: &Path, name: &str, offset: u64, limit: usize) -> Result<LogChunk, LogFileError> {
    let mut file = open(dir, name)?;
    read_from(&mut file, offset, limit).map_err(|error| LogFileError::Io { path: dir.join(name), error })
}

fn read_from(file: &mut File, offset: u64, limit: usize) -> io::Result<LogChunk> {
    let size = file.metadata()?.len();
    let mut bytes = Vec::new();
    if offset < size {
        file.seek(SeekFrom::Start(offset))?;
        file.take(limit as u64).read_to_end(&mut bytes)?;
    }
    Ok(LogChunk { bytes, size })
}

fn last_element(name: &str) -> Option<&str> {
    let element = name.rsplit('/').next()?;
    let allowed = !matches!(element, "" | "." | "..") && !element.contains('\0');
    allowed.then_some(element)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn log_dir() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("log")).unwrap();
        fs::write(dir.path().join("log/weir.log"), "0123456789").unwrap();
        fs::write(dir.path().join("log/a.out"), "").unwrap();
        fs::write(dir.path().join("secret"), "secret").unwrap();
        symlink(dir.path().join("secret"), dir.path().join("log/link")).unwrap();
        fs::create_dir(dir.path().join("log/folder")).unwrap();
        dir
    }

    #[test]
    fn regular_files_are_listed_by_name() {
        let dir = log_dir();
        let files = list(&dir.path().join("log")).unwrap();
        let names: Vec<_> = files.iter().map(|file| (file.name.as_str(), file.size)).collect();
        assert_eq!(names, [("a.out", 0), ("weir.log", 10)]);
        assert!(files[1].modified > 1_500_000_000_000);
        assert_eq!(list(&dir.path().join("none")).unwrap(), []);
        assert!(list(&dir.path().join("secret")).is_err());
    }

    #[test]
    fn a_file_is_read_in_pieces() {
        let dir = log_dir();
        let check = |offset, limit, expect: &str| {
            let chunk = read(&dir.path().join("log"), "weir.log", offset, limit).unwrap();
            assert_eq!((String::from_utf8(chunk.bytes).unwrap().as_str(), chunk.size), (expect, 10));
        };
        check(0, 4, "0123");
        check(4, 100, "456789");
        check(10, 4, "");
        check(u64::MAX, 4, "");
    }

    #[test]
    fn no_name_leads_out_of_the_directory() {
        let dir = log_dir();
        let log = dir.path().join("log");
        let absolute = dir.path().join("secret");
        let absolute = absolute.to_str().unwrap();
        let long = "x".repeat(10_000);
        for name in ["../secret", absolute, "link", "..", ".", "", "folder", "folder/", "weir.log/..", "a\0b", &long] {
            let error = read(&log, name, 0, 100).expect_err(name);
            assert!(matches!(error, LogFileError::NotFound { .. }), "{name:?}: {error}");
        }
        assert_eq!(read(&log, "../elsewhere/weir.log", 0, 3).unwrap().bytes, b"012");
    }

    #[test]
    fn a_pipe_is_not_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let path = std::ffi::CString::new(dir.path().join("pipe").to_str().unwrap()).unwrap();
        // SAFETY: `path` is a C string that lives until the call returns.
        assert_eq!(unsafe { libc::mkfifo(path.as_ptr(), 0o600) }, 0);
        assert!(matches!(read(dir.path(), "pipe", 0, 10), Err(LogFileError::NotFound { .. })));
    }
}
