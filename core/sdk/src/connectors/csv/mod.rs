//! [`CsvSource`]: rows of CSV files as values of a serde type.

mod error;
mod rows;

#[cfg(test)]
mod tests;

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use serde::de::DeserializeOwned;
use weir_dataflow::operator::Collector;
use weir_dataflow::source::{
    Boundedness, EnumeratorContext, ReaderContext, ReaderStatus, Source, SourceError, SourceReader,
};

use self::rows::RowReader;
use super::files::{Cutting, FileEnumerator, FileSplit, SkipLog, Skipped, Turns, enumerate};

/// Rows emitted by one poll.
const POLL: usize = 2048;

/// What to do with a row that does not have the expected shape.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum BadRows {
    /// Fail the job with a message that names the file, the line, the column, and what was found and expected.
    #[default]
    Fail,
    /// Leave the row out and count it; the first few are described on standard error.
    Skip,
}

/// How the columns of the files are written.
#[derive(Debug, Clone)]
struct Dialect {
    headers: bool,
    delimiter: u8,
    quote: Option<u8>,
    comment: Option<u8>,
    trim: bool,
    quoted_newlines: bool,
    nulls: Vec<String>,
    bad_rows: BadRows,
}

/// The rows of CSV files, each deserialised to a `T`.
///
/// Paths, directories, patterns, compression and changing files are as for [`TextSource`](super::TextSource). With headers
/// (the default), every file begins with a row of column names, and the fields of a struct are found by name, in any order;
/// without, by position. An empty field is `None` for an `Option`.
///
/// A quoted field may contain line ends, so a file cannot be cut at any of them: each file is read by one subtask,
/// unless [`quoted_newlines(false)`](Self::quoted_newlines) promises that there are none.
///
/// ```no_run
/// # use weir::prelude::*;
/// #[derive(serde::Deserialize, Record)]
/// struct Flight {
///     carrier: Text,
///     dep_delay: Option<f64>,
/// }
///
/// # fn job(env: &Environment) -> weir::Result<()> {
/// let flights = env.source(CsvSource::<Flight>::new("/data/flights.csv.gz").null_values(["NA"]));
/// # flights.discard();
/// # Ok(())
/// # }
/// ```
pub struct CsvSource<T> {
    path: String,
    dialect: Arc<Dialect>,
    split_size: Option<u64>,
    skipped: Skipped,
    rows: PhantomData<fn() -> T>,
}

impl<T> CsvSource<T> {
    /// The rows of a file, of the files in a directory, or of those that match a pattern.
    pub fn new(path: impl Into<String>) -> Self {
        let dialect = Dialect {
            headers: true,
            delimiter: b',',
            quote: Some(b'"'),
            comment: None,
            trim: false,
            quoted_newlines: true,
            nulls: Vec::new(),
            bad_rows: BadRows::Fail,
        };
        CsvSource {
            path: path.into(),
            dialect: Arc::new(dialect),
            split_size: None,
            skipped: Skipped::default(),
            rows: PhantomData,
        }
    }

    fn with(mut self, change: impl FnOnce(&mut Dialect)) -> Self {
        change(Arc::make_mut(&mut self.dialect));
        self
    }

    /// Whether files begin with a row of column names; they do unless this is set to false.
    pub fn headers(self, headers: bool) -> Self {
        self.with(|dialect| dialect.headers = headers)
    }

    /// What separates columns, instead of a comma.
    pub fn delimiter(self, delimiter: u8) -> Self {
        self.with(|dialect| dialect.delimiter = delimiter)
    }

    /// What encloses fields that contain delimiters, instead of `"`; `None`: nothing does.
    pub fn quote(self, quote: Option<u8>) -> Self {
        self.with(|dialect| dialect.quote = quote)
    }

    /// Leaves out lines that begin with `comment`.
    pub fn comment(self, comment: u8) -> Self {
        self.with(|dialect| dialect.comment = Some(comment))
    }

    /// Whether white space around fields and column names is removed; it is kept unless this is set to true.
    pub fn trim(self, trim: bool) -> Self {
        self.with(|dialect| dialect.trim = trim)
    }

    /// Words that stand for a missing value, such as `NA`: a field that is one of them is taken as empty, which makes
    /// it `None` for an `Option`.
    pub fn null_values<S: Into<String>>(self, words: impl IntoIterator<Item = S>) -> Self {
        self.with(|dialect| dialect.nulls = words.into_iter().map(Into::into).collect())
    }

    /// Whether quoted fields may contain line ends. Setting this to false lets plain files be cut into ranges that are
    /// read in parallel; if there is such a field after all, its row is a bad row or two.
    pub fn quoted_newlines(self, quoted_newlines: bool) -> Self {
        self.with(|dialect| dialect.quoted_newlines = quoted_newlines)
    }

    /// Cuts plain files into ranges of about this many bytes, where [`quoted_newlines(false)`](Self::quoted_newlines)
    /// allows it.
    pub fn split_size(mut self, bytes: u64) -> Self {
        self.split_size = Some(bytes);
        self
    }

    /// Decides what happens to rows with the wrong number of columns or with fields that `T` does not take;
    /// [`BadRows::Fail`] unless set.
    pub fn bad_rows(self, choice: BadRows) -> Self {
        self.with(|dialect| dialect.bad_rows = choice)
    }

    /// The number of rows left out by [`BadRows::Skip`], in this process.
    pub fn skipped(&self) -> Skipped {
        self.skipped.clone()
    }
}

impl<T> Clone for CsvSource<T> {
    fn clone(&self) -> Self {
        CsvSource {
            path: self.path.clone(),
            dialect: Arc::clone(&self.dialect),
            split_size: self.split_size,
            skipped: self.skipped.clone(),
            rows: PhantomData,
        }
    }
}

impl<T> fmt::Debug for CsvSource<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CsvSource").field("path", &self.path).field("dialect", &self.dialect).finish_non_exhaustive()
    }
}

impl<T: DeserializeOwned + Send + 'static> Source for CsvSource<T> {
    type Item = T;
    type Split = FileSplit;
    type Enumerator = FileEnumerator;
    type Reader = CsvReader<T>;

    fn boundedness(&self) -> Boundedness {
        Boundedness::Bounded
    }

    fn name(&self) -> String {
        format!("Source: csv {}", self.path)
    }

    fn create_enumerator(&self, context: &EnumeratorContext) -> Result<FileEnumerator, SourceError> {
        let cutting = if self.dialect.quoted_newlines { Cutting::Whole } else { Cutting::Ranges(self.split_size) };
        enumerate(&self.path, cutting, context)
    }

    fn create_reader(&self, _context: &ReaderContext) -> Result<CsvReader<T>, SourceError> {
        Ok(CsvReader::new(self))
    }
}

/// Reads the rows of a subtask.
pub struct CsvReader<T> {
    dialect: Arc<Dialect>,
    skips: SkipLog,
    /// The one read now is the last.
    splits: Vec<FileSplit>,
    turns: Turns,
    open: Option<RowReader>,
    rows: PhantomData<fn() -> T>,
}

impl<T> CsvReader<T> {
    fn new(source: &CsvSource<T>) -> Self {
        CsvReader {
            dialect: Arc::clone(&source.dialect),
            skips: SkipLog::new(&source.skipped, "rows"),
            splits: Vec::new(),
            turns: Turns::default(),
            open: None,
            rows: PhantomData,
        }
    }
}

impl<T> fmt::Debug for CsvReader<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CsvReader").field("splits", &self.splits).finish_non_exhaustive()
    }
}

impl<T: DeserializeOwned + 'static> CsvReader<T> {
    fn poll_up_to<C: Collector<T>>(&mut self, limit: usize, out: &mut C) -> Result<ReaderStatus, SourceError> {
        let Some(split) = self.splits.last_mut() else { return Ok(ReaderStatus::NeedSplit) };
        let rows = match &mut self.open {
            Some(rows) => rows,
            none => {
                self.turns.begin();
                none.insert(RowReader::open(split, &self.dialect)?)
            }
        };
        self.turns.tell(out);
        for _ in 0..limit {
            match rows.next::<T>(split, &self.dialect) {
                Ok(Some(row)) => out.push(row),
                Ok(None) => {
                    self.open = None;
                    self.splits.pop();
                    self.turns.end(out);
                    return Ok(if self.splits.is_empty() { ReaderStatus::NeedSplit } else { ReaderStatus::More });
                }
                Err(rows::RowError::Bad(bad)) if self.dialect.bad_rows == BadRows::Skip => {
                    self.skips.skip(|| bad.describe(split, self.dialect.comment));
                }
                Err(error) => return Err(error.into_source_error(split, &self.dialect)),
            }
        }
        split.position = rows.position();
        Ok(ReaderStatus::More)
    }
}

impl<T: DeserializeOwned + 'static> SourceReader for CsvReader<T> {
    type Item = T;
    type Split = FileSplit;

    fn add_split(&mut self, split: FileSplit) -> Result<(), SourceError> {
        // Behind the one that is being read.
        self.splits.insert(0, split);
        self.turns.add();
        Ok(())
    }

    fn poll<C: Collector<T>>(&mut self, out: &mut C) -> Result<ReaderStatus, SourceError> {
        self.poll_up_to(POLL, out)
    }

    fn snapshot(&self) -> Vec<FileSplit> {
        self.splits.clone()
    }
}
