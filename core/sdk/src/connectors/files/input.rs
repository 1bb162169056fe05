//! The bytes of the records of a split: exactly those lines whose first byte lies in its range.

use std::fmt;
use std::fs::File;
use std::io::{self, ErrorKind, Read, Seek, SeekFrom};
use std::path::PathBuf;

use super::compression::Decompressing;
use super::error::Version;
use super::{Compression, FileError, FileSplit};

/// Bytes looked through at once for the end of a line.
const SEARCH_BLOCK: usize = 64 << 10;

/// Files beyond this length are not read again only to find out the number of a line.
const COUNT_LINES_UP_TO: u64 = 1 << 30;

/// Reads the bytes of the records of a split, from its position on.
pub(in crate::connectors) struct SplitInput {
    path: PathBuf,
    version: Version,
    bytes: Bytes,
    /// Where the next byte lies: in the file, or in its decompressed content.
    offset: u64,
    done: bool,
}

enum Bytes {
    Plain {
        file: File,
        end: u64,
        /// Whether the last byte read ended a line.
        at_line_start: bool,
    },
    Compressed(Decompressing),
}

impl fmt::Debug for SplitInput {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SplitInput({} at {})", self.path.display(), self.offset)
    }
}

impl SplitInput {
    /// Opens the file and goes to the split's position, or to the first line that begins in its range.
    pub(in crate::connectors) fn open(split: &FileSplit) -> Result<SplitInput, FileError> {
        let path = split.path();
        let file = File::open(&path).map_err(|error| match error.kind() {
            ErrorKind::NotFound => FileError::Vanished { path: path.clone() },
            _ => FileError::Io { path: path.clone(), action: "opened", source: error },
        })?;
        let bytes = Decompressing::new(split.compression, file)
            .map_err(|source| FileError::Io { path: path.clone(), action: "decompressed", source })?
            .map_or_else(|file| Bytes::Plain { file, end: split.end, at_line_start: true }, Bytes::Compressed);
        let mut input = SplitInput { path, version: split.version(), bytes, offset: 0, done: false };
        input.check_unchanged()?;
        match split.compression {
            Compression::None if split.position > split.start || split.start == 0 => input.seek(split.position)?,
            Compression::None => input.seek_first_line(split.start)?,
            Compression::Gzip | Compression::Zstd => input.skip(split.position)?,
        }
        Ok(input)
    }

    /// Where the next byte lies in the file, or in its decompressed content.
    pub(in crate::connectors) fn offset(&self) -> u64 {
        self.offset
    }

    /// Reads some bytes; 0 at the end of the split's records.
    pub(in crate::connectors) fn read_some(&mut self, out: &mut [u8]) -> Result<usize, FileError> {
        if self.done || out.is_empty() {
            return Ok(0);
        }
        let read = match &mut self.bytes {
            Bytes::Plain { .. } => self.read_plain(out)?,
            Bytes::Compressed(_) => self.read_compressed(out)?,
        };
        self.offset += read as u64;
        if read == 0 {
            self.done = true;
            self.check_unchanged()?;
        }
        Ok(read)
    }

    fn read_plain(&mut self, out: &mut [u8]) -> Result<usize, FileError> {
        let Bytes::Plain { file, end, at_line_start } = &mut self.bytes else { return Ok(0) };
        let beyond = self.offset >= *end;
        if beyond && (*at_line_start || self.offset >= self.version.len) {
            return Ok(0);
        }
        let wanted = if beyond { SEARCH_BLOCK as u64 } else { *end - self.offset };
        let wanted = out.len().min(usize::try_from(wanted).unwrap_or(usize::MAX));
        let out = &mut out[..wanted];
        let mut read = retry(|| file.read(out)).map_err(|source| FileError::Io {
            path: self.path.clone(),
            action: "read",
            source,
        })?;
        if beyond && let Some(line_end) = memchr::memchr(b'\n', &out[..read]) {
            // The last line of this range; the next one belongs to another split.
            read = line_end + 1;
        }
        if let Some(last) = out[..read].last() {
            *at_line_start = *last == b'\n';
        } else if self.offset < self.version.len {
            // The file ends earlier than it did.
            self.check_unchanged()?;
        }
        Ok(read)
    }

    fn read_compressed(&mut self, out: &mut [u8]) -> Result<usize, FileError> {
        let Bytes::Compressed(decoder) = &mut self.bytes else { return Ok(0) };
        let error = match retry(|| decoder.read(out)) {
            Ok(read) => return Ok(read),
            Err(error) => error,
        };
        let (format, path, offset) = (decoder.format(), self.path.clone(), self.offset);
        // A file that is being written is the likelier explanation.
        self.check_unchanged()?;
        Err(match error.kind() {
            ErrorKind::UnexpectedEof => FileError::Truncated { path, format, offset },
            _ if error.raw_os_error().is_some() => FileError::Io { path, action: "read", source: error },
            _ => FileError::Damaged { path, format, offset, source: error },
        })
    }

    fn seek(&mut self, to: u64) -> Result<(), FileError> {
        let Bytes::Plain { file, end, .. } = &mut self.bytes else { return Ok(()) };
        file.seek(SeekFrom::Start(to)).map_err(|source| FileError::Io {
            path: self.path.clone(),
            action: "read",
            source,
        })?;
        self.done = to >= *end;
        self.offset = to;
        Ok(())
    }

    /// Goes to the first line that begins at or after `start`.
    fn seek_first_line(&mut self, start: u64) -> Result<(), FileError> {
        // If the byte before the range ends a line, the first line begins where the range does.
        self.seek(start - 1)?;
        let mut block = vec![0; SEARCH_BLOCK];
        loop {
            let Bytes::Plain { file, .. } = &mut self.bytes else { return Ok(()) };
            let read = retry(|| file.read(&mut block)).map_err(|source| FileError::Io {
                path: self.path.clone(),
                action: "read",
                source,
            })?;
            match memchr::memchr(b'\n', &block[..read]) {
                Some(line_end) => return self.seek(self.offset + line_end as u64 + 1),
                None if read == 0 => {
                    self.done = true;
                    return self.check_unchanged();
                }
                None => self.offset += read as u64,
            }
        }
    }

    /// Reads and forgets the first `count` decompressed bytes.
    fn skip(&mut self, count: u64) -> Result<(), FileError> {
        let mut block = vec![0; SEARCH_BLOCK];
        while self.offset < count {
            let wanted = block.len().min((count - self.offset) as usize);
            if self.read_some(&mut block[..wanted])? == 0 {
                break;
            }
        }
        Ok(())
    }

    fn check_unchanged(&self) -> Result<(), FileError> {
        let file = match &self.bytes {
            Bytes::Plain { file, .. } => file,
            Bytes::Compressed(decoder) => decoder.file(),
        };
        let metadata =
            file.metadata().map_err(|source| FileError::Io { path: self.path.clone(), action: "inspected", source })?;
        let now = Version::of(&metadata);
        if now == self.version {
            return Ok(());
        }
        Err(FileError::Changed { path: self.path.clone(), before: self.version, now })
    }
}

impl Read for SplitInput {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        self.read_some(out).map_err(io::Error::other)
    }
}

fn retry(mut read: impl FnMut() -> io::Result<usize>) -> io::Result<usize> {
    loop {
        match read() {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

/// The number, from 1, of the line that byte `offset` of the split's content lies on, counted from the start of the
/// file, and the content from there on. For messages: `None` if it would take too long or the file cannot be read.
pub(in crate::connectors) fn line_of(split: &FileSplit, offset: u64) -> Option<(u64, SplitInput)> {
    if offset > COUNT_LINES_UP_TO {
        return None;
    }
    let whole = FileSplit { start: 0, end: split.file_len, position: 0, ..split.clone() };
    let mut before = SplitInput::open(&whole).ok()?.take(offset);
    let mut block = vec![0; SEARCH_BLOCK];
    let mut line = 1;
    loop {
        match before.read(&mut block).ok()? {
            0 => return Some((line, before.into_inner())),
            read => line += memchr::memchr_iter(b'\n', &block[..read]).count() as u64,
        }
    }
}
