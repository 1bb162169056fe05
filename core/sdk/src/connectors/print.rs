//! [`PrintSink`]: writes records to the terminal.

use std::fmt::Display;
use std::io::{self, ErrorKind, Write};
use std::marker::PhantomData;

use weir_dataflow::sink::{Sink, SinkError, SinkWriter, WriterContext};

/// Bytes a subtask gathers before it writes.
const BUFFERED: usize = 64 << 10;

/// A sink that prints each record on a line of its own.
///
/// With a parallelism above 1 every line begins with the number of the subtask that printed it, counted from 1, as in
/// `2> to be`. A line is never torn by another subtask's. If standard output is closed before the end (`job | head`),
/// the job fails with a message that says so.
///
/// ```no_run
/// # use weir::prelude::*;
/// # fn job(env: &Environment) -> weir::Result<()> {
/// # let (stream, late) = (env.from_collection([1u64]), env.from_collection([1u64]));
/// stream.sink(PrintSink::new());
/// late.sink(PrintSink::stderr().prefix("late"));
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct PrintSink {
    target: Target,
    prefix: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Target {
    Stdout,
    Stderr,
}

impl PrintSink {
    /// Prints to standard output.
    pub fn new() -> Self {
        PrintSink { target: Target::Stdout, prefix: None }
    }

    /// Prints to standard error.
    pub fn stderr() -> Self {
        PrintSink { target: Target::Stderr, prefix: None }
    }

    /// Begins every line with `prefix`: `prefix> record`, or `prefix:2> record` in subtask 2 of several.
    pub fn prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = Some(prefix.into());
        self
    }

    fn line_start(&self, context: &WriterContext) -> String {
        let number = (context.parallelism > 1).then(|| context.subtask + 1);
        match (&self.prefix, number) {
            (None, None) => String::new(),
            (None, Some(number)) => format!("{number}> "),
            (Some(prefix), None) => format!("{prefix}> "),
            (Some(prefix), Some(number)) => format!("{prefix}:{number}> "),
        }
    }
}

impl Default for PrintSink {
    fn default() -> Self {
        PrintSink::new()
    }
}

impl<T: Display + 'static> Sink<T> for PrintSink {
    type Writer = PrintWriter<T>;

    fn name(&self) -> String {
        match self.target {
            Target::Stdout => "Sink: print".to_owned(),
            Target::Stderr => "Sink: print to stderr".to_owned(),
        }
    }

    fn create_writer(&self, context: &WriterContext) -> Result<PrintWriter<T>, SinkError> {
        Ok(PrintWriter {
            lines: LineBuffer { start: self.line_start(context), bytes: Vec::new() },
            target: self.target,
            records: PhantomData,
        })
    }
}

/// Prints the records of a subtask.
#[derive(Debug)]
pub struct PrintWriter<T> {
    lines: LineBuffer,
    target: Target,
    records: PhantomData<fn(T)>,
}

/// Whole lines that wait to be written.
#[derive(Debug)]
struct LineBuffer {
    start: String,
    bytes: Vec<u8>,
}

impl LineBuffer {
    fn push(&mut self, record: &impl Display) -> io::Result<()> {
        self.bytes.extend_from_slice(self.start.as_bytes());
        writeln!(self.bytes, "{record}")
    }

    fn write_to(&mut self, mut to: impl Write) -> io::Result<()> {
        let result = to.write_all(&self.bytes).and_then(|()| to.flush());
        self.bytes.clear();
        result
    }
}

impl<T: Display + 'static> SinkWriter<T> for PrintWriter<T> {
    fn write(&mut self, record: T) -> Result<(), SinkError> {
        self.lines.push(&record).map_err(|error| SinkError::new(format!("a record cannot be printed: {error}")))?;
        if self.lines.bytes.len() >= BUFFERED { self.print() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<(), SinkError> {
        self.print()
    }

    fn prepare_commit(&mut self) -> Result<Vec<Vec<u8>>, SinkError> {
        self.print()?;
        Ok(Vec::new())
    }
}

impl<T> PrintWriter<T> {
    fn print(&mut self) -> Result<(), SinkError> {
        if self.lines.bytes.is_empty() {
            return Ok(());
        }
        // A progress line on the same terminal must not end up in front of the first one.
        crate::run::clear_line();
        // One lock for all the lines, so that no other subtask writes between them.
        let (name, result) = match self.target {
            Target::Stdout => ("standard output", self.lines.write_to(io::stdout().lock())),
            Target::Stderr => ("standard error", self.lines.write_to(io::stderr().lock())),
        };
        result.map_err(|error| write_error(name, &error))
    }
}

fn write_error(name: &str, error: &io::Error) -> SinkError {
    SinkError::new(match error.kind() {
        ErrorKind::BrokenPipe => {
            format!("{name} was closed by the program that reads it before the job had printed everything")
        }
        ErrorKind::StorageFull => {
            format!(
                "printing to {name} failed: the disk it is redirected to is full; free some space and run the job again"
            )
        }
        _ => format!("printing to {name} failed: {error}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(sink: &PrintSink, subtask: u32, parallelism: u32, expect: &str) {
        let context = WriterContext {
            subtask,
            parallelism,
            run_id: "r".to_owned(),
            attempt: 0,
            metrics: weir_dataflow::metrics::OperatorMetrics::detached(),
        };
        let mut writer: PrintWriter<&str> = sink.create_writer(&context).unwrap();
        writer.lines.push(&"to be").unwrap();
        writer.lines.push(&"or").unwrap();
        assert_eq!(String::from_utf8_lossy(&writer.lines.bytes), expect);
    }

    #[test]
    fn lines_tell_the_subtask_if_there_are_several() {
        check(&PrintSink::new(), 0, 1, "to be\nor\n");
        check(&PrintSink::new(), 1, 2, "2> to be\n2> or\n");
        check(&PrintSink::new().prefix("late"), 0, 1, "late> to be\nlate> or\n");
        check(&PrintSink::stderr().prefix("late"), 2, 4, "late:3> to be\nlate:3> or\n");
    }

    #[test]
    fn what_was_written_is_not_written_again() {
        let mut lines = LineBuffer { start: String::new(), bytes: Vec::new() };
        lines.push(&1).unwrap();
        let mut out = Vec::new();
        lines.write_to(&mut out).unwrap();
        lines.push(&2).unwrap();
        lines.write_to(&mut out).unwrap();
        assert_eq!(out, b"1\n2\n");
    }

    #[test]
    fn a_closed_or_full_output_is_an_error_that_says_so() {
        let (reader, writer) = io::pipe().unwrap();
        drop(reader);
        let mut lines = LineBuffer { start: String::new(), bytes: b"a line\n".to_vec() };
        let error = write_error("standard output", &lines.write_to(writer).unwrap_err());
        assert!(error.to_string().contains("standard output was closed"), "{error}");

        let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        lines.bytes.extend_from_slice(b"a line\n");
        let error = write_error("standard output", &lines.write_to(full).unwrap_err());
        assert!(error.to_string().contains("is full"), "{error}");
    }
}
