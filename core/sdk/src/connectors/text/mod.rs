//! [`TextSource`]: the lines of text files.

mod block;
mod lines;

#[cfg(test)]
mod tests;

use std::fmt;

use weir_dataflow::operator::Collector;
use weir_dataflow::record::Text;
use weir_dataflow::source::{
    Boundedness, EnumeratorContext, ReaderContext, ReaderStatus, Source, SourceError, SourceReader,
};

pub(super) use self::block::Block;
use self::lines::LineReader;
use super::files::{Cutting, FileEnumerator, FileSplit, SkipLog, Skipped, Turns, enumerate};

/// Bytes read at once: large enough that system calls do not show, small enough to stay in the processor's cache until
/// the lines have been looked at.
const BLOCK: usize = 256 << 10;

/// Lines emitted by one poll.
const POLL: usize = 8192;

/// What to do with a line that is not UTF-8.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum InvalidUtf8 {
    /// Fail the job with a message that names the file, the line and the byte. Also refuses files that begin like
    /// binary ones, with a NUL among the first bytes.
    #[default]
    Fail,
    /// Put U+FFFD in place of what cannot be understood.
    Replace,
    /// Leave the line out and count it; the first few are described on standard error.
    Skip,
}

/// The lines of text files, without their line ends (`\n` or `\r\n`), as [`Text`].
///
/// The path is that of a file, of a directory — then all files below it are read, except those whose names begin with `.`
/// or `_` — or a pattern such as `/logs/2024-*/*.log`. Files compressed with gzip or zstd are recognised by their
/// content. Files without compression are cut into ranges that are read in parallel; with a parallelism of 1, lines come
/// in the order of paths and lines. A byte order mark is left out; an empty directory or file has no lines.
///
/// The files are looked for once, when the job begins: files added later are not read, and one that is changed, truncated
/// or removed before it has been read fails the job.
///
/// A line costs no allocation: it is a slice of the block it was read in. Whoever keeps lines for long should
/// [`detach`](Text::detach) them, so that the blocks can be reused.
///
/// ```no_run
/// # use weir::prelude::*;
/// # fn job(env: &Environment) -> weir::Result<()> {
/// let lines = env.source(TextSource::new("/data/books"));
/// # lines.discard();
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct TextSource {
    path: String,
    invalid: InvalidUtf8,
    split_size: Option<u64>,
    skipped: Skipped,
}

impl TextSource {
    /// The lines of a file, of the files in a directory, or of those that match a pattern.
    pub fn new(path: impl Into<String>) -> Self {
        TextSource { path: path.into(), invalid: InvalidUtf8::Fail, split_size: None, skipped: Skipped::default() }
    }

    /// Decides what happens to a line that is not UTF-8; [`InvalidUtf8::Fail`] unless set.
    pub fn invalid_utf8(mut self, choice: InvalidUtf8) -> Self {
        self.invalid = choice;
        self
    }

    /// Cuts plain files into ranges of about this many bytes, instead of a size between 1 and 64 MiB that gives every
    /// reader several ranges.
    pub fn split_size(mut self, bytes: u64) -> Self {
        self.split_size = Some(bytes);
        self
    }

    /// The number of lines left out by [`InvalidUtf8::Skip`], in this process.
    pub fn skipped(&self) -> Skipped {
        self.skipped.clone()
    }
}

impl Source for TextSource {
    type Item = Text;
    type Split = FileSplit;
    type Enumerator = FileEnumerator;
    type Reader = TextReader;

    fn boundedness(&self) -> Boundedness {
        Boundedness::Bounded
    }

    fn name(&self) -> String {
        format!("Source: text {}", self.path)
    }

    fn create_enumerator(&self, context: &EnumeratorContext) -> Result<FileEnumerator, SourceError> {
        enumerate(&self.path, Cutting::Ranges(self.split_size), context)
    }

    fn create_reader(&self, _context: &ReaderContext) -> Result<TextReader, SourceError> {
        Ok(TextReader::new(self, BLOCK))
    }
}

/// Reads the lines of a subtask.
pub struct TextReader {
    /// The one read now is the last.
    splits: Vec<FileSplit>,
    turns: Turns,
    lines: LineReader,
}

impl TextReader {
    fn new(source: &TextSource, block: usize) -> Self {
        TextReader {
            splits: Vec::new(),
            turns: Turns::default(),
            lines: LineReader::new(block, source.invalid, SkipLog::new(&source.skipped, "lines")),
        }
    }

    #[inline(always)]
    fn poll_up_to<C: Collector<Text>>(&mut self, limit: usize, out: &mut C) -> Result<ReaderStatus, SourceError> {
        let Some(split) = self.splits.last_mut() else { return Ok(ReaderStatus::NeedSplit) };
        if !self.lines.is_open() {
            self.lines.open(split)?;
            self.turns.begin();
        }
        self.turns.tell(out);
        if self.lines.emit(split, limit, out)? {
            split.position = self.lines.position();
            return Ok(ReaderStatus::More);
        }
        self.splits.pop();
        self.turns.end(out);
        Ok(if self.splits.is_empty() { ReaderStatus::NeedSplit } else { ReaderStatus::More })
    }
}

impl fmt::Debug for TextReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TextReader").field("splits", &self.splits).finish_non_exhaustive()
    }
}

impl SourceReader for TextReader {
    type Item = Text;
    type Split = FileSplit;

    fn add_split(&mut self, split: FileSplit) -> Result<(), SourceError> {
        // Behind the one that is being read.
        self.splits.insert(0, split);
        self.turns.add();
        Ok(())
    }

    fn poll<C: Collector<Text>>(&mut self, out: &mut C) -> Result<ReaderStatus, SourceError> {
        self.poll_up_to(POLL, out)
    }

    fn snapshot(&self) -> Vec<FileSplit> {
        self.splits.clone()
    }
}
