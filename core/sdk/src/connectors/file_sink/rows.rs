//! How records become rows of a part file.

use std::fmt::{self, Display};
use std::fs::File;
use std::io::{self, BufWriter, Write};

use serde::Serialize;

/// Bytes gathered before they are written.
const BUFFERED: usize = 64 << 10;

/// The format of part files for records of type `T`.
pub trait RowFormat<T>: Clone + Send + 'static {
    /// What names of files end with.
    const EXTENSION: &'static str;
    /// Writes one file.
    type Writer: RowWriter<T>;
    /// Begins a file.
    fn begin(&self, file: PartFile) -> Self::Writer;
}

/// Writes the rows of one file.
pub trait RowWriter<T>: Send + 'static {
    /// Writes one row; it may stay in a buffer.
    fn write(&mut self, record: &T) -> Result<(), RowError>;
    /// Bytes that have left the buffer.
    fn written(&self) -> u64;
    /// Writes out what is in the buffer and gives the file back.
    fn finish(self) -> io::Result<PartFile>;
}

/// Why a row was not written.
#[derive(Debug)]
pub enum RowError {
    /// The file does not take it.
    Io(io::Error),
    /// The record has no form as a row.
    Record(String),
}

/// A file that counts what is written to it.
#[derive(Debug)]
pub struct PartFile {
    file: File,
    written: u64,
}

impl PartFile {
    pub(super) fn new(file: File) -> PartFile {
        PartFile { file, written: 0 }
    }

    /// Bytes written so far.
    pub fn written(&self) -> u64 {
        self.written
    }

    /// Makes the content durable and closes the file.
    pub(super) fn close(self) -> io::Result<()> {
        self.file.sync_all()
    }
}

impl Write for PartFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.written += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// Rows of plain text: a line for each record, as its [`Display`] shows it.
#[derive(Debug, Clone, Copy)]
pub struct TextRows;

impl<T: Display + 'static> RowFormat<T> for TextRows {
    const EXTENSION: &'static str = "txt";
    type Writer = BufWriter<PartFile>;

    fn begin(&self, file: PartFile) -> BufWriter<PartFile> {
        BufWriter::with_capacity(BUFFERED, file)
    }
}

impl<T: Display> RowWriter<T> for BufWriter<PartFile> {
    fn write(&mut self, record: &T) -> Result<(), RowError> {
        writeln!(self, "{record}").map_err(RowError::Io)
    }

    fn written(&self) -> u64 {
        self.get_ref().written()
    }

    fn finish(self) -> io::Result<PartFile> {
        self.into_inner().map_err(io::IntoInnerError::into_error)
    }
}

/// Rows of comma-separated values, as the record's [`Serialize`] says.
#[derive(Debug, Clone, Copy)]
pub struct CsvRows {
    pub(super) headers: bool,
    pub(super) delimiter: u8,
}

impl Default for CsvRows {
    fn default() -> Self {
        CsvRows { headers: true, delimiter: b',' }
    }
}

impl<T: Serialize + 'static> RowFormat<T> for CsvRows {
    const EXTENSION: &'static str = "csv";
    type Writer = CsvWriter;

    fn begin(&self, file: PartFile) -> CsvWriter {
        let mut options = csv::WriterBuilder::new();
        options.has_headers(self.headers).delimiter(self.delimiter).buffer_capacity(BUFFERED);
        CsvWriter(options.from_writer(file))
    }
}

/// Writes the rows of a CSV file.
pub struct CsvWriter(csv::Writer<PartFile>);

impl fmt::Debug for CsvWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CsvWriter({:?})", self.0.get_ref())
    }
}

impl<T: Serialize> RowWriter<T> for CsvWriter {
    fn write(&mut self, record: &T) -> Result<(), RowError> {
        self.0.serialize(record).map_err(|error| match error.into_kind() {
            csv::ErrorKind::Io(error) => RowError::Io(error),
            csv::ErrorKind::Serialize(reason) => RowError::Record(reason),
            csv::ErrorKind::UnequalLengths { expected_len, len, .. } => {
                RowError::Record(format!("it has {len} columns, but the rows before it have {expected_len}"))
            }
            other => RowError::Record(format!("{other:?}")),
        })
    }

    fn written(&self) -> u64 {
        self.0.get_ref().written()
    }

    fn finish(self) -> io::Result<PartFile> {
        self.0.into_inner().map_err(|error| error.into_error())
    }
}
