//! The part files of one subtask, written aside.

use std::fmt;
use std::fs::File;
use std::io::ErrorKind;
use std::marker::PhantomData;
use std::path::PathBuf;

use weir_dataflow::sink::{SinkError, SinkWriter, WriterContext};

use super::error::OutputError;
use super::part::{Part, staged, tag};
use super::rows::{PartFile, RowError, RowFormat, RowWriter};
use super::staging::{Staging, sync};

/// Writes the part files of a subtask.
pub struct FileWriter<T, F: RowFormat<T>> {
    staging: Staging,
    subtask: u32,
    attempt: u32,
    rows: F,
    roll_at: u64,
    open: Option<OpenPart<F::Writer>>,
    /// Number of the next file.
    next: u32,
    finished: Vec<Part>,
    records: PhantomData<fn(T)>,
}

struct OpenPart<W> {
    name: String,
    rows: W,
}

impl<T, F: RowFormat<T>> fmt::Debug for FileWriter<T, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FileWriter({}, {} files begun)", self.staging.path.display(), self.next)
    }
}

impl<T, F: RowFormat<T>> FileWriter<T, F> {
    pub(super) fn new(staging: Staging, context: &WriterContext, rows: F, roll_at: Option<u64>) -> Self {
        FileWriter {
            staging,
            subtask: context.subtask,
            attempt: context.attempt,
            rows,
            roll_at: roll_at.unwrap_or(u64::MAX),
            open: None,
            next: 0,
            finished: Vec::new(),
            records: PhantomData,
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.staging.path.join(staged(name, self.attempt))
    }

    /// A name that no other file of the job has or ever had.
    fn next_name(&self) -> String {
        let (subtask, next, extension) = (self.subtask, self.next, F::EXTENSION);
        // Only other attempts can have taken the simple one.
        match self.attempt == 0 && !self.staging.is_restored() {
            true => format!("part-{subtask}-{next}.{extension}"),
            false => format!("part-{subtask}-{next}-{}.{extension}", tag(&self.staging.run(), self.attempt)),
        }
    }

    fn begin(&mut self) -> Result<(), OutputError> {
        let name = self.next_name();
        let path = self.path(&name);
        // The driver makes the directory, so that its absence shows that it is not shared, or that the job has been cleaned up.
        let file = File::create_new(&path).map_err(|source| match source.kind() {
            ErrorKind::NotFound => OutputError::NotShared { path: self.staging.path.clone() },
            _ => OutputError::Io { path, action: "created", source },
        })?;
        self.next += 1;
        self.open = Some(OpenPart { name, rows: self.rows.begin(PartFile::new(file)) });
        Ok(())
    }

    fn finish(&mut self) -> Result<(), OutputError> {
        let Some(open) = self.open.take() else { return Ok(()) };
        let path = self.path(&open.name);
        let file = open.rows.finish().map_err(OutputError::io(&path, "written"))?;
        let len = file.written();
        file.close().map_err(OutputError::io(&path, "made durable"))?;
        let output = std::path::absolute(self.staging.output()).map_err(OutputError::io(&path, "named"))?;
        self.finished.push(Part { output, run: self.staging.run(), name: open.name, attempt: self.attempt, len });
        Ok(())
    }
}

#[cfg(test)]
impl<T, F: RowFormat<T>> FileWriter<T, F> {
    /// Writes the rest of the open part to `file`.
    pub(super) fn swap_file(&mut self, file: PartFile) {
        let rows = self.rows.begin(file);
        self.open.as_mut().unwrap().rows = rows;
    }
}

impl<T: 'static, F: RowFormat<T>> SinkWriter<T> for FileWriter<T, F> {
    fn write(&mut self, record: T) -> Result<(), SinkError> {
        if self.open.is_none() {
            self.begin()?;
        }
        let open = self.open.as_mut().expect("a part file was just begun");
        if let Err(error) = open.rows.write(&record) {
            let path = self.staging.path.join(staged(&open.name, self.attempt));
            return Err(match error {
                RowError::Io(source) => OutputError::Io { path, action: "written", source },
                RowError::Record(reason) => OutputError::Row { path, reason },
            }
            .into());
        }
        if open.rows.written() >= self.roll_at {
            self.finish()?;
        }
        Ok(())
    }

    fn prepare_commit(&mut self) -> Result<Vec<Vec<u8>>, SinkError> {
        self.finish()?;
        if !self.finished.is_empty() {
            sync(&self.staging.path)?;
        }
        Ok(self.finished.drain(..).map(|part| part.to_bytes()).collect())
    }
}
