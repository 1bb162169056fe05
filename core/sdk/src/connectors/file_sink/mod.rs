//! [`FileSink`]: part files in a directory, of text or CSV.
//!
//! Every subtask writes its part files into a hidden directory inside the output directory; the committer renames them
//! into the output directory when a checkpoint or the job is complete. Both are on the same file system, so a rename is all it
//! takes.

mod committer;
mod directory;
mod error;
mod part;
mod rows;
mod staging;
mod writer;

#[cfg(test)]
mod tests;

use std::path::PathBuf;

use weir_dataflow::sink::{Committer, CommitterContext, Sink, SinkError, WriterContext};

use self::committer::FileCommitter;
use self::directory::OutputDirectory;
pub use self::error::OutputError;
pub use self::rows::{CsvRows, RowFormat, RowWriter, TextRows};
use self::staging::Staging;
pub use self::writer::FileWriter;

/// A sink that writes files named `part-<subtask>-<number>.txt` or `.csv` into a directory.
///
/// Files are written aside, made durable and then renamed. Without checkpoints nothing is visible before the job has finished, and
/// a job that fails or is cancelled leaves the directory as it was. With checkpoints, each makes visible what was written before it, exactly
/// once: a job that is restored leaves what is visible alone, makes visible what its checkpoint says, and goes on with new files, whose
/// names then have a further part, `part-<subtask>-<number>-<attempt>`. A subtask without records writes no file.
///
/// Visible files must not be moved or removed as long as the job may be restored from a checkpoint they were part of last.
///
/// A directory that already has files in it is refused before the job starts, unless [`overwrite`](Self::overwrite) is set;
/// one that another running job writes to is always refused. With several machines the directory must be on a file
/// system that all of them share.
///
/// ```no_run
/// # use weir::prelude::*;
/// # fn job(env: &Environment) -> weir::Result<()> {
/// # let (counts, flights) = (env.from_collection([1u64]), env.from_collection([1u64]));
/// counts.sink(FileSink::text("/data/out"));
/// flights.sink(FileSink::csv("/data/delays").overwrite(true).roll_at(256 << 20));
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct FileSink<F> {
    directory: PathBuf,
    rows: F,
    overwrite: bool,
    roll_at: Option<u64>,
}

impl FileSink<TextRows> {
    /// Writes each record as a line, as its [`Display`](std::fmt::Display) shows it.
    pub fn text(directory: impl Into<PathBuf>) -> Self {
        FileSink::new(directory.into(), TextRows)
    }
}

impl FileSink<CsvRows> {
    /// Writes each record as a row of comma-separated values, as its [`Serialize`](serde::Serialize) says. Every file
    /// begins with the names of the columns if the record is a struct.
    pub fn csv(directory: impl Into<PathBuf>) -> Self {
        FileSink::new(directory.into(), CsvRows::default())
    }

    /// Whether files begin with the names of the columns; they do unless this is set to false.
    pub fn headers(mut self, headers: bool) -> Self {
        self.rows.headers = headers;
        self
    }

    /// Separates columns by `delimiter` instead of a comma.
    pub fn delimiter(mut self, delimiter: u8) -> Self {
        self.rows.delimiter = delimiter;
        self
    }
}

impl<F> FileSink<F> {
    fn new(directory: PathBuf, rows: F) -> Self {
        FileSink { directory, rows, overwrite: false, roll_at: None }
    }

    /// Whether part files that are already in the directory are replaced when the job finishes, or when the first checkpoint with output
    /// is complete. Other files stay. A job that is restored replaces none.
    pub fn overwrite(mut self, overwrite: bool) -> Self {
        self.overwrite = overwrite;
        self
    }

    /// Begins a new file once one has about this many bytes.
    pub fn roll_at(mut self, bytes: u64) -> Self {
        self.roll_at = Some(bytes);
        self
    }
}

impl<T: 'static, F: RowFormat<T>> Sink<T> for FileSink<F> {
    type Writer = FileWriter<T, F>;

    fn name(&self) -> String {
        format!("Sink: {} files {}", F::EXTENSION, self.directory.display())
    }

    fn create_writer(&self, context: &WriterContext) -> Result<FileWriter<T, F>, SinkError> {
        let staging = Staging::of(&self.directory, &context.run_id);
        Ok(FileWriter::new(staging, context, self.rows.clone(), self.roll_at))
    }

    fn create_committer(&self, context: &CommitterContext) -> Result<Option<Box<dyn Committer>>, SinkError> {
        let directory = OutputDirectory::prepare(&self.directory, &context.run_id, self.overwrite, context.restored)?;
        Ok(Some(Box::new(FileCommitter::new(directory))))
    }
}
