//! Sends the events of a process to its log file.

use std::fmt;
use std::fs::DirBuilder;
use std::io::{self, Write};
use std::os::unix::fs::DirBuilderExt;
use std::panic::{self, PanicHookInfo};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tracing::{Event, Subscriber};
use tracing_subscriber::fmt::format::{Format, Writer};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, MakeWriter};
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;

use crate::{LogFilter, RollingFile};

/// Where a process logs, and what.
#[derive(Debug, Clone)]
pub struct LogOptions {
    /// The log directory (`env.log.dir`). Made if it does not exist.
    pub dir: PathBuf,
    /// The name of the file in it; see [`file_name`].
    pub file_name: String,
    /// Bytes after which the file is rotated.
    pub max_size: u64,
    /// How many rotated files are kept (`env.log.max`).
    pub max_old_files: u32,
    /// What is logged.
    pub filter: LogFilter,
    /// What goes to standard error as well.
    pub stderr: Stderr,
}

/// What goes to standard error beside the log file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stderr {
    /// Nothing but what panics write.
    Nothing,
    /// Warnings and errors, for a process that somebody started and left.
    Warnings,
    /// All that is logged, for a process in the foreground.
    Everything,
}

impl LogOptions {
    /// The log of the process with this role (`jobmanager`, `taskmanager`, `local`) and id in `dir`: 100 MiB a file, 10 old
    /// files, level INFO, warnings on standard error.
    pub fn new(dir: impl Into<PathBuf>, role: &str, id: &str) -> Self {
        Self {
            dir: dir.into(),
            file_name: file_name(role, id),
            max_size: 100 << 20,
            max_old_files: 10,
            filter: LogFilter::default(),
            stderr: Stderr::Warnings,
        }
    }

    /// The path of the log file.
    pub fn path(&self) -> PathBuf {
        self.dir.join(&self.file_name)
    }
}

/// The name of a process's log file: `weir-<role>-<id>.log`. Characters of `id` that do not belong into a file name become `_`.
pub fn file_name(role: &str, id: &str) -> String {
    const LONGEST: usize = 128;
    let plain = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.') { c } else { '_' };
    let id: String = id.chars().take(LONGEST).map(plain).collect();
    format!("weir-{role}-{id}.log")
}

/// Why logging could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum InitError {
    /// The log directory cannot be made.
    #[error("cannot make the log directory {}: {error}. Set env.log.dir to a directory that can be written", dir.display())]
    Dir {
        /// The directory.
        dir: PathBuf,
        /// Why not.
        error: io::Error,
    },
    /// The log file cannot be opened.
    #[error("cannot open the log file {}: {error}. Set env.log.dir to a directory that can be written", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why not.
        error: io::Error,
    },
    /// This process logs already.
    #[error("logging was set up twice in this process")]
    Twice,
}

/// Begins to log: all events of this process that pass the filter, and the panics of all its threads. For the whole process,
/// once.
///
/// A full disk is no error: the file is opened when there is room again.
///
/// # Errors
/// The log directory or file cannot be used, or this process logs already.
pub fn init(options: LogOptions) -> Result<(), InitError> {
    let path = options.path();
    if let Err(error) = DirBuilder::new().recursive(true).mode(0o700).create(&options.dir)
        && error.kind() != io::ErrorKind::StorageFull
    {
        return Err(InitError::Dir { dir: options.dir, error });
    }
    let file = match RollingFile::open(&path, options.max_size, options.max_old_files) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::StorageFull => {
            RollingFile::open_or_retry(&path, options.max_size, options.max_old_files)
        }
        Err(error) => return Err(InitError::File { path, error }),
    };
    let subscriber = subscriber(options.filter, SharedFile(Arc::new(Mutex::new(file))), options.stderr, io::stderr);
    tracing::subscriber::set_global_default(subscriber).map_err(|_| InitError::Twice)?;
    log_panics(options.stderr);
    Ok(())
}

fn subscriber<F, E>(filter: LogFilter, file: F, stderr: Stderr, stderr_writer: E) -> impl Subscriber + Send + Sync
where
    F: for<'w> MakeWriter<'w> + Send + Sync + 'static,
    E: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    use tracing_subscriber::filter::LevelFilter;
    let level = match stderr {
        Stderr::Nothing => LevelFilter::OFF,
        Stderr::Warnings => LevelFilter::WARN,
        Stderr::Everything => LevelFilter::TRACE,
    };
    let to_file = tracing_subscriber::fmt::layer().with_ansi(false).event_format(OneRecord).with_writer(file);
    let to_stderr =
        tracing_subscriber::fmt::layer().with_ansi(false).event_format(OneRecord).with_writer(stderr_writer);
    // Each layer has the whole filter, so that what nobody wants costs nothing.
    let targets = filter.into_targets();
    tracing_subscriber::registry()
        .with(to_file.with_filter(targets.clone()))
        .with(to_stderr.with_filter(level).with_filter(targets))
}

/// Logs panics as errors. Nobody sees standard error of a process in the background.
fn log_panics(stderr: Stderr) {
    let before = panic::take_hook();
    panic::set_hook(Box::new(move |panic| {
        log_panic(panic);
        // Otherwise the record of it is on standard error already.
        if stderr == Stderr::Nothing || !tracing::enabled!(target: "panic", tracing::Level::ERROR) {
            before(panic);
        }
    }));
}

fn log_panic(panic: &PanicHookInfo<'_>) {
    let message = panic.payload_as_str().unwrap_or("(a value that is not text)");
    let location = panic.location().map_or_else(|| "an unknown place".to_owned(), ToString::to_string);
    let thread = std::thread::current();
    let thread = thread.name().unwrap_or("without a name");
    let backtrace = std::backtrace::Backtrace::capture();
    match backtrace.status() {
        std::backtrace::BacktraceStatus::Captured => {
            tracing::error!(target: "panic", thread, %location, "a thread panicked: {message}\n{backtrace}");
        }
        _ => tracing::error!(target: "panic", thread, %location, "a thread panicked: {message}"),
    }
}

/// One event a record: a first line that begins with the time, and further lines that are indented. So a job's name or message
/// with line ends in it cannot look like a record of its own.
struct OneRecord;

impl<S, N> FormatEvent<S, N> for OneRecord
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'w> FormatFields<'w> + 'static,
{
    fn format_event(&self, ctx: &FmtContext<'_, S, N>, mut out: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let mut record = String::new();
        Format::default().with_ansi(false).format_event(ctx, Writer::new(&mut record), event)?;
        for (index, line) in record.trim_end().split('\n').enumerate() {
            if index > 0 {
                out.write_str("    ")?;
            }
            line.trim_end_matches('\r').chars().try_for_each(|c| match c {
                c if c.is_control() && c != '\t' => write!(out, "{}", c.escape_default()),
                c => out.write_char(c),
            })?;
            out.write_char('\n')?;
        }
        Ok(())
    }
}

/// The file all threads write to.
#[derive(Clone)]
struct SharedFile(Arc<Mutex<RollingFile>>);

impl<'a> MakeWriter<'a> for SharedFile {
    type Writer = FileGuard<'a>;

    fn make_writer(&'a self) -> FileGuard<'a> {
        FileGuard(self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

struct FileGuard<'a>(MutexGuard<'a, RollingFile>);

impl Write for FileGuard<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, Default)]
    struct Memory(Arc<Mutex<Vec<u8>>>);

    impl Memory {
        fn text(&self) -> String {
            String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
        }
    }

    impl Write for Memory {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// What lands in the file and on standard error while `work` runs.
    fn logged(filter: &str, stderr: Stderr, work: impl FnOnce()) -> (String, String) {
        let (file, terminal) = (Memory::default(), Memory::default());
        let (to_file, to_terminal) = (file.clone(), terminal.clone());
        let subscriber =
            subscriber(filter.parse().unwrap(), move || to_file.clone(), stderr, move || to_terminal.clone());
        tracing::subscriber::with_default(subscriber, work);
        (file.text(), terminal.text())
    }

    #[test]
    fn a_record_has_time_level_place_message_and_fields() {
        let (file, terminal) = logged("info", Stderr::Warnings, || {
            tracing::info!(job_id = %"0a", subtask = 3, "the job runs");
            tracing::debug!("not logged");
        });
        assert!(file.contains("  INFO weir_logging::subscriber::tests: the job runs job_id=0a subtask=3\n"), "{file}");
        assert!(file.starts_with("20") && file.lines().count() == 1, "{file}");
        assert_eq!(terminal, "");
    }

    #[test]
    fn standard_error_gets_warnings_or_everything() {
        let work = || {
            tracing::warn!("careful");
            tracing::info!("by the way");
        };
        let (_, terminal) = logged("info", Stderr::Warnings, work);
        assert!(terminal.contains("careful") && !terminal.contains("by the way"), "{terminal}");
        let (_, terminal) = logged("info", Stderr::Everything, work);
        assert!(terminal.contains("careful") && terminal.contains("by the way"), "{terminal}");
        assert_eq!(logged("off", Stderr::Everything, work), (String::new(), String::new()));
    }

    #[test]
    fn text_from_outside_cannot_look_like_a_record_of_its_own() {
        let name = "job\n2026-01-01T00:00:00.000000Z ERROR weir: all is lost\r\n\u{1b}[31mred";
        let (file, _) = logged("info", Stderr::Nothing, || tracing::info!("accepted {name}"));
        let lines: Vec<_> = file.lines().collect();
        assert_eq!(lines.len(), 3, "{file}");
        assert!(lines[1].starts_with("    2026-01-01") && lines[2].starts_with("    "), "{file}");
        assert!(!file.contains('\u{1b}') && !file.contains('\r'), "{file:?}");
    }

    #[test]
    fn file_names_are_made_of_role_and_id() {
        assert_eq!(file_name("taskmanager", "tm-1.example"), "weir-taskmanager-tm-1.example.log");
        assert_eq!(file_name("taskmanager", "../../etc/x y"), "weir-taskmanager-.._.._etc_x_y.log");
        assert!(file_name("taskmanager", &"x".repeat(10_000)).len() < 200);
    }
}
