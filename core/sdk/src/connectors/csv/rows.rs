//! The rows of one split.

use csv::{ByteRecord, ReaderBuilder, Trim};
use serde::de::DeserializeOwned;
use weir_dataflow::source::SourceError;

use super::Dialect;
use super::error::{BadRow, Problem};
use crate::connectors::files::{FileError, FileSplit, SplitInput};

/// Bytes read at once.
const BLOCK: usize = 256 << 10;

/// Reads the rows of a split from its position on.
pub(super) struct RowReader {
    reader: csv::Reader<SplitInput>,
    headers: Option<ByteRecord>,
    /// Number of columns every row has; that of the first good row if there are no headers.
    columns: Option<usize>,
    row: ByteRecord,
    /// The row with null words removed.
    cleaned: ByteRecord,
    /// Where the reader began in the file's content.
    base: u64,
}

/// Why a row was not read.
pub(super) enum RowError {
    /// The row has the wrong shape; the next one may be good.
    Bad(BadRow),
    /// The file cannot be read.
    Input(SourceError),
}

impl RowError {
    pub(super) fn into_source_error(self, split: &FileSplit, dialect: &Dialect) -> SourceError {
        match self {
            RowError::Bad(bad) => SourceError::new(format!(
                "{}; correct the file, or leave such rows out with `.bad_rows(BadRows::Skip)`",
                bad.describe(split, dialect.comment)
            )),
            RowError::Input(error) => error,
        }
    }
}

impl RowReader {
    pub(super) fn open(split: &FileSplit, dialect: &Dialect) -> Result<RowReader, SourceError> {
        let at_file_start = split.start == 0 && split.position == 0;
        let headers = match dialect.headers {
            false => None,
            true if at_file_start => None,
            // The row of names is in another split, or was read before.
            true => read_headers(&FileSplit { start: 0, end: split.file_len, position: 0, ..split.clone() }, dialect)?,
        };
        let mut reader = reader(split, dialect)?;
        let base = reader.get_ref().offset();
        let headers = match dialect.headers && at_file_start {
            true => next_headers(&mut reader)?,
            false => headers,
        };
        let columns = headers.as_ref().map(ByteRecord::len);
        Ok(RowReader { reader, headers, columns, row: ByteRecord::new(), cleaned: ByteRecord::new(), base })
    }

    /// Where the first row that was not read begins.
    pub(super) fn position(&self) -> u64 {
        self.base + self.reader.position().byte()
    }

    /// The next row; `None` after the last one.
    pub(super) fn next<T: DeserializeOwned>(
        &mut self,
        split: &FileSplit,
        dialect: &Dialect,
    ) -> Result<Option<T>, RowError> {
        if !self.reader.read_byte_record(&mut self.row).map_err(|error| RowError::Input(input_error(error, split)))? {
            return Ok(None);
        }
        let found = self.row.len();
        if let Some(expected) = self.columns.filter(|expected| *expected != found) {
            return Err(self.bad(Problem::Columns { found, expected }));
        }
        let row = match dialect.nulls.is_empty() {
            true => &self.row,
            false => without_nulls(&self.row, &mut self.cleaned, &dialect.nulls),
        };
        match row.deserialize(self.headers.as_ref()) {
            Ok(value) => {
                // Only a good row may say how many columns there are: by the width of a bad one all others would be bad.
                self.columns = Some(found);
                Ok(Some(value))
            }
            Err(error) => match error.into_kind() {
                csv::ErrorKind::Deserialize { err, .. } => {
                    let names = self.headers.as_ref();
                    Err(self.bad(Problem::field(&err, &self.row, names)))
                }
                other => Err(self.bad(Problem::Other(format!("{other:?}")))),
            },
        }
    }

    fn bad(&self, problem: Problem) -> RowError {
        let at = self.row.position().map_or(0, csv::Position::byte);
        RowError::Bad(BadRow { offset: self.base + at, problem })
    }
}

/// The row itself, or a copy of it in `cleaned` in which null words are empty fields.
fn without_nulls<'r>(row: &'r ByteRecord, cleaned: &'r mut ByteRecord, nulls: &[String]) -> &'r ByteRecord {
    let is_null = |field: &[u8]| nulls.iter().any(|null| null.as_bytes() == field);
    if !row.iter().any(is_null) {
        return row;
    }
    cleaned.clear();
    for field in row {
        cleaned.push_field(if is_null(field) { b"" } else { field });
    }
    cleaned
}

fn reader(split: &FileSplit, dialect: &Dialect) -> Result<csv::Reader<SplitInput>, SourceError> {
    let input = SplitInput::open(split)?;
    let mut options = ReaderBuilder::new();
    options
        // Headers and numbers of columns are looked after here, because a split may begin anywhere.
        .has_headers(false)
        .flexible(true)
        .delimiter(dialect.delimiter)
        .comment(dialect.comment)
        .trim(if dialect.trim { Trim::All } else { Trim::None })
        .buffer_capacity(BLOCK);
    match dialect.quote {
        Some(quote) => options.quote(quote),
        None => options.quoting(false),
    };
    Ok(options.from_reader(input))
}

fn read_headers(file: &FileSplit, dialect: &Dialect) -> Result<Option<ByteRecord>, SourceError> {
    next_headers(&mut reader(file, dialect)?)
}

fn next_headers(reader: &mut csv::Reader<SplitInput>) -> Result<Option<ByteRecord>, SourceError> {
    let mut names = ByteRecord::new();
    let any = reader.read_byte_record(&mut names).map_err(|error| match error.into_kind() {
        csv::ErrorKind::Io(error) => file_error(error),
        other => SourceError::new(format!("the names of the columns cannot be read: {other:?}")),
    })?;
    Ok(any.then_some(names))
}

fn input_error(error: csv::Error, split: &FileSplit) -> SourceError {
    match error.into_kind() {
        csv::ErrorKind::Io(error) => file_error(error),
        other => SourceError::new(format!("{} cannot be read as CSV: {other:?}", split.path().display())),
    }
}

/// The error that [`SplitInput`] wrapped to pass it through the CSV reader.
fn file_error(error: std::io::Error) -> SourceError {
    match error.downcast::<FileError>() {
        Ok(error) => error.into(),
        Err(error) => SourceError::new(error),
    }
}
