//! A file that is renamed away when it has grown to its limit.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// A log file of bounded size: when it is full, `file` becomes `file.1`, `file.1` becomes `file.2`, and so on; the oldest is
/// deleted. Files are cut between lines where the lines are shorter than a file.
///
/// Writing never fails: a log must not end the process that writes it. What cannot be written (the disk is full, the folder is
/// gone) is dropped and counted, and once writing works again a line says how much is missing and why.
#[derive(Debug)]
pub struct RollingFile {
    path: PathBuf,
    max_size: u64,
    max_old_files: u32,
    file: Option<File>,
    /// Bytes in the current file.
    size: u64,
    /// No rotation is tried below this size: moves up when renaming failed, so that not every line tries again.
    rotate_at: u64,
    /// Whether the last byte in the file ends a line.
    at_line_start: bool,
    lost: Lost,
}

/// What could not be written since writing last worked.
#[derive(Debug, Default)]
struct Lost {
    lines: u64,
    bytes: u64,
    reason: String,
}

impl RollingFile {
    /// Opens `path` for appending; its folder must exist. `max_size`: bytes after which it is rotated, at least 1.
    /// `max_old_files`: how many rotated files are kept beside it.
    ///
    /// # Errors
    /// The file cannot be opened. Use [`Self::open_or_retry`] where that must not matter.
    pub fn open(path: impl Into<PathBuf>, max_size: u64, max_old_files: u32) -> io::Result<Self> {
        let mut file = Self::closed(path.into(), max_size, max_old_files);
        file.open_current()?;
        Ok(file)
    }

    /// As [`Self::open`]; if the file cannot be opened now, every write tries again.
    pub fn open_or_retry(path: impl Into<PathBuf>, max_size: u64, max_old_files: u32) -> Self {
        let mut file = Self::closed(path.into(), max_size, max_old_files);
        // The next write tries again, and reports what was lost once it works.
        let _ = file.open_current();
        file
    }

    fn closed(path: PathBuf, max_size: u64, max_old_files: u32) -> Self {
        let max_size = max_size.max(1);
        Self {
            path,
            max_size,
            max_old_files,
            file: None,
            size: 0,
            rotate_at: max_size,
            at_line_start: true,
            lost: Lost::default(),
        }
    }

    /// The path of the file that is being written.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Lines that could not be written since writing last worked.
    pub fn lost_lines(&self) -> u64 {
        self.lost.lines
    }

    /// Writes `bytes` completely, or says why that did not work.
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.file.is_none() {
            self.open_current()?;
        }
        let full = self.size > 0 && self.size.saturating_add(bytes.len() as u64) > self.rotate_at;
        // A file is not cut inside a line unless the line is longer than a file.
        if full && (self.at_line_start || self.size >= self.max_size) {
            self.rotate()?;
        }
        if self.lost.bytes > 0 {
            let notice = self.lost.notice(self.at_line_start);
            self.write_through(notice.as_bytes())?;
            self.lost = Lost::default();
        }
        self.write_through(bytes)
    }

    fn write_through(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        let file = self.file.as_mut().ok_or_else(|| io::Error::other("the log file is not open"))?;
        while !bytes.is_empty() {
            match file.write(bytes) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => {
                    // Kept up to date while writing, because a full disk may take a part of it.
                    self.size += written as u64;
                    self.at_line_start = bytes[written - 1] == b'\n';
                    bytes = &bytes[written..];
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn open_current(&mut self) -> io::Result<()> {
        // What jobs print may hold secrets, and so may their arguments, which are logged.
        let mut file = OpenOptions::new().create(true).read(true).append(true).mode(0o600).open(&self.path)?;
        // Tells others that the file is in use; see `remove_ended`. Where there are no locks, they keep more.
        let _ = file.try_lock_shared();
        self.size = file.metadata()?.len();
        self.at_line_start = ends_with_newline(&mut file, self.size);
        self.rotate_at = self.max_size;
        self.file = Some(file);
        Ok(())
    }

    /// Moves the files up by one and begins a new one. If they cannot be moved, goes on in the current file.
    fn rotate(&mut self) -> io::Result<()> {
        match self.move_old_files() {
            Ok(()) => {
                self.file = None;
                self.open_current()
            }
            Err(_) => {
                self.rotate_at = self.size.saturating_add(self.max_size);
                Ok(())
            }
        }
    }

    fn move_old_files(&self) -> io::Result<()> {
        if self.max_old_files == 0 {
            return remove_if_there(&self.path);
        }
        for number in (1..self.max_old_files).rev() {
            rename_if_there(&self.old_path(number), &self.old_path(number + 1))?;
        }
        rename_if_there(&self.path, &self.old_path(1))
    }

    fn old_path(&self, number: u32) -> PathBuf {
        let mut path = self.path.clone().into_os_string();
        path.push(format!(".{number}"));
        path.into()
    }
}

impl Write for RollingFile {
    /// Takes all of `bytes`, always.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if !bytes.is_empty()
            && let Err(error) = self.append(bytes)
        {
            self.lost.add(bytes, &error);
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Lost {
    fn add(&mut self, bytes: &[u8], error: &io::Error) {
        self.lines += bytes.iter().filter(|byte| **byte == b'\n').count().max(1) as u64;
        self.bytes += bytes.len() as u64;
        self.reason = error.to_string();
    }

    fn notice(&self, at_line_start: bool) -> String {
        let Self { lines, bytes, reason } = self;
        let begin = if at_line_start { "" } else { "\n" };
        format!("{begin}*** {lines} lines ({bytes} bytes) are missing here, they could not be written: {reason}\n")
    }
}

fn ends_with_newline(file: &mut File, size: u64) -> bool {
    let mut last = [0];
    size == 0
        || file.seek(SeekFrom::Start(size - 1)).is_err()
        || file.read_exact(&mut last).is_err()
        || last[0] == b'\n'
}

fn rename_if_there(from: &Path, to: &Path) -> io::Result<()> {
    match fs::rename(from, to) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        done => done,
    }
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        done => done,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn content(path: &Path) -> String {
        fs::read_to_string(path).unwrap()
    }

    fn names(dir: &Path) -> Vec<String> {
        let mut names: Vec<_> =
            fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_full_file_is_moved_away_and_the_oldest_is_deleted() {
        let dir = tempfile::tempdir().unwrap();
        let mut file = RollingFile::open(dir.path().join("a.log"), 10, 2).unwrap();
        for line in ["one 1234\n", "two 1234\n", "three 12\n", "four 123\n"] {
            file.write_all(line.as_bytes()).unwrap();
        }
        assert_eq!(names(dir.path()), ["a.log", "a.log.1", "a.log.2"]);
        assert_eq!(content(&dir.path().join("a.log")), "four 123\n");
        assert_eq!(content(&dir.path().join("a.log.1")), "three 12\n");
        assert_eq!(content(&dir.path().join("a.log.2")), "two 1234\n");
    }

    #[test]
    fn without_old_files_only_the_current_one_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        let mut file = RollingFile::open(dir.path().join("a.log"), 4, 0).unwrap();
        file.write_all(b"one\n").unwrap();
        file.write_all(b"two\n").unwrap();
        assert_eq!(names(dir.path()), ["a.log"]);
        assert_eq!(content(file.path()), "two\n");
    }

    #[test]
    fn a_file_is_cut_between_lines_unless_a_line_is_longer_than_it() {
        let dir = tempfile::tempdir().unwrap();
        let mut file = RollingFile::open(dir.path().join("a.out"), 10, 9).unwrap();
        file.write_all(b"12345\n678").unwrap();
        file.write_all(b"90\n").unwrap();
        file.write_all(b"next\n").unwrap();
        assert_eq!(content(&dir.path().join("a.out.1")), "12345\n67890\n");
        for _ in 0..10 {
            file.write_all(b"flood").unwrap();
        }
        for name in names(dir.path()) {
            let size = fs::metadata(dir.path().join(&name)).unwrap().len();
            assert!(size <= 15, "{name} has {size} bytes");
        }
    }

    #[test]
    fn an_existing_file_is_continued() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.log");
        fs::write(&path, "before\n").unwrap();
        let mut file = RollingFile::open(&path, 10, 1).unwrap();
        file.write_all(b"1\n").unwrap();
        assert_eq!(content(&path), "before\n1\n");
        file.write_all(b"2\n").unwrap();
        assert_eq!(content(&path), "2\n");
    }

    #[test]
    fn lines_that_cannot_be_written_are_counted_and_reported_once_when_writing_works_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("later").join("a.log");
        assert!(RollingFile::open(&path, 1000, 1).is_err());
        let mut file = RollingFile::open_or_retry(&path, 1000, 1);
        file.write_all(b"lost 1\nlost 2\n").unwrap();
        file.write_all(b"lost 3\n").unwrap();
        assert_eq!(file.lost_lines(), 3);

        fs::create_dir(dir.path().join("later")).unwrap();
        file.write_all(b"kept 1\n").unwrap();
        file.write_all(b"kept 2\n").unwrap();
        assert_eq!(file.lost_lines(), 0);
        let content = content(&path);
        let lines: Vec<_> = content.lines().collect();
        assert!(lines[0].starts_with("*** 3 lines (21 bytes) are missing here"), "{content}");
        assert_eq!(lines[1..], ["kept 1", "kept 2"]);
    }

    #[test]
    fn a_full_disk_drops_lines_and_does_not_fail() {
        // The kernel's own full disk.
        let mut file = RollingFile::open("/dev/full", 1000, 0).unwrap();
        for _ in 0..3 {
            file.write_all(b"line\n").unwrap();
        }
        assert_eq!(file.lost_lines(), 3);
        assert!(file.lost.reason.contains("No space left"), "{}", file.lost.reason);
    }

    #[test]
    fn what_follows_a_torn_line_begins_on_a_line_of_its_own() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.log");
        fs::write(&path, "to").unwrap();
        let mut file = RollingFile::open(&path, 1000, 1).unwrap();
        file.lost.add(b"torn\n", &io::Error::from(io::ErrorKind::StorageFull));
        file.write_all(b"next\n").unwrap();
        let content = content(&path);
        assert!(content.starts_with("to\n*** 1 lines") && content.ends_with("\nnext\n"), "{content}");
    }

    #[test]
    fn when_files_cannot_be_moved_writing_goes_on_in_the_same_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.log");
        // A folder that is not empty stands where the old file should go.
        fs::create_dir_all(dir.path().join("a.log.1").join("x")).unwrap();
        let mut file = RollingFile::open(&path, 4, 1).unwrap();
        for _ in 0..5 {
            file.write_all(b"abc\n").unwrap();
        }
        assert_eq!(content(&path), "abc\n".repeat(5));
    }
}
