//! One run of an executable.

use std::ffi::OsStr;
use std::fmt;
use std::io::Read;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::process::{processes_marked, signal};

/// The environment variable that marks a run's processes.
const MARK: &str = "WEIR_TESTKIT_RUN";

/// Longest time a run may take unless it says otherwise. Generous: it only bounds what has gone wrong.
const LIMIT: Duration = Duration::from_secs(60);

/// How often something awaited is looked for.
const POLL: Duration = Duration::from_millis(2);

/// A command line to run, with a time limit.
pub struct Run {
    command: Command,
    shown: String,
    mark: String,
    limit: Duration,
    keeps_stdout: bool,
}

impl Run {
    /// A run of `executable`, which gets nothing to read and whose output is kept.
    pub fn of(executable: impl AsRef<Path>) -> Run {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let mark = format!("{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let mut command = Command::new(executable.as_ref());
        command.env(MARK, &mark).env_remove("RUST_BACKTRACE").stdin(Stdio::null());
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        Run { command, shown: String::new(), mark, limit: LIMIT, keeps_stdout: true }
    }

    /// One more argument.
    pub fn arg(mut self, argument: impl AsRef<OsStr>) -> Run {
        self.shown.push_str(&format!(" {}", argument.as_ref().to_string_lossy()));
        self.command.arg(argument);
        self
    }

    /// The words of a string as arguments, split at spaces.
    pub fn words(self, words: &str) -> Run {
        words.split_whitespace().fold(self, |run, word| run.arg(word))
    }

    /// Sets an environment variable.
    pub fn env(mut self, name: &str, value: &str) -> Run {
        self.command.env(name, value);
        self
    }

    /// Sends standard output somewhere else; the outcome's is then empty.
    pub fn stdout(mut self, to: impl Into<Stdio>) -> Run {
        self.command.stdout(to);
        self.keeps_stdout = false;
        self
    }

    /// Sets how long the run may take before everything is killed and the test fails.
    pub fn limit(mut self, limit: Duration) -> Run {
        self.limit = limit;
        self
    }

    /// Starts it.
    pub fn start(mut self) -> Running {
        let mut child = self.command.spawn().unwrap_or_else(|e| panic!("{:?} cannot be started: {e}", self.command));
        let stdout = Captured::follow(child.stdout.take());
        let stderr = Captured::follow(child.stderr.take());
        Running {
            child,
            shown: self.shown,
            mark: self.mark,
            limit: self.limit,
            started: Instant::now(),
            stdout,
            stderr,
        }
    }

    /// Runs it to its end.
    pub fn run(self) -> Outcome {
        self.start().wait()
    }
}

/// What a pipe delivered so far.
struct Captured {
    bytes: Arc<Mutex<Vec<u8>>>,
    reader: Option<JoinHandle<()>>,
}

impl Captured {
    fn follow(pipe: Option<impl Read + Send + 'static>) -> Captured {
        let bytes = Arc::new(Mutex::new(Vec::new()));
        let kept = bytes.clone();
        let reader = pipe.map(|mut pipe| {
            thread::spawn(move || {
                let mut buffer = [0; 64 << 10];
                while let Ok(n @ 1..) = pipe.read(&mut buffer) {
                    kept.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(&buffer[..n]);
                }
            })
        });
        Captured { bytes, reader }
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes.lock().unwrap_or_else(PoisonError::into_inner)).into_owned()
    }

    /// Waits for the end of the pipe, but not for a process that inherited it and lives on.
    fn finish(&mut self, until: Instant) -> String {
        if let Some(reader) = self.reader.take() {
            while !reader.is_finished() && Instant::now() < until {
                thread::sleep(POLL);
            }
        }
        self.text()
    }
}

/// A run that has been started. Dropping it kills all its processes.
pub struct Running {
    child: Child,
    shown: String,
    mark: String,
    limit: Duration,
    started: Instant,
    stdout: Captured,
    stderr: Captured,
}

impl Running {
    /// The process that was started.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// All its processes: itself and what it started.
    pub fn processes(&self) -> Vec<u32> {
        processes_marked(MARK, &self.mark)
    }

    /// Waits until it has started `count` processes besides itself, and returns them.
    pub fn await_children(&self, count: usize) -> Vec<u32> {
        self.await_that(&format!("it has {count} child processes"), || {
            let mut children = self.processes();
            children.retain(|&pid| pid != self.pid());
            (children.len() == count).then_some(children)
        })
    }

    /// Waits until standard output contains `text`.
    pub fn await_stdout(&self, text: &str) {
        self.await_that(&format!("stdout says {text:?}"), || self.stdout.text().contains(text).then_some(()));
    }

    /// Waits until standard error contains `text`.
    pub fn await_stderr(&self, text: &str) {
        self.await_that(&format!("stderr says {text:?}"), || self.stderr.text().contains(text).then_some(()));
    }

    /// What standard output delivered so far.
    pub fn stdout_so_far(&self) -> String {
        self.stdout.text()
    }

    /// Sends a signal to the process that was started, not to its children.
    pub fn signal(&self, number: i32) {
        signal(self.pid(), number);
    }

    /// Sends what Ctrl-C sends.
    pub fn interrupt(&self) {
        self.signal(libc::SIGINT);
    }

    /// Waits for its end. All its processes must have ended then, or end within a second.
    #[track_caller]
    pub fn wait(mut self) -> Outcome {
        let deadline = self.started + self.limit;
        let status = loop {
            if let Ok(Some(status)) = self.child.try_wait() {
                break status;
            }
            if Instant::now() >= deadline {
                panic!("{} did not end within {:?}{}", self.shown, self.limit, self.told());
            }
            thread::sleep(POLL);
        };
        let took = self.started.elapsed();
        let grace = Instant::now() + Duration::from_secs(1);
        while !self.processes().is_empty() {
            if Instant::now() >= grace {
                panic!("{} left processes behind: {:?}{}", self.shown, self.processes(), self.told());
            }
            thread::sleep(POLL);
        }
        let (stdout, stderr) = (self.stdout.finish(grace), self.stderr.finish(grace));
        Outcome { shown: self.shown.clone(), status, took, stdout, stderr }
    }

    #[track_caller]
    fn await_that<R>(&self, what: &str, mut look: impl FnMut() -> Option<R>) -> R {
        let deadline = Instant::now() + self.limit;
        loop {
            if let Some(found) = look() {
                return found;
            }
            if Instant::now() >= deadline {
                panic!("{}: waited in vain until {what}{}", self.shown, self.told());
            }
            thread::sleep(POLL);
        }
    }

    fn told(&self) -> String {
        format!("\n--- stdout\n{}\n--- stderr\n{}", shortened(&self.stdout.text()), shortened(&self.stderr.text()))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        for pid in self.processes() {
            signal(pid, libc::SIGKILL);
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// How a run ended.
pub struct Outcome {
    shown: String,
    status: ExitStatus,
    /// From its start to its end.
    pub took: Duration,
    /// What it wrote on standard output.
    pub stdout: String,
    /// What it wrote on standard error.
    pub stderr: String,
}

impl Outcome {
    /// The exit code; `None` if a signal ended it.
    pub fn code(&self) -> Option<i32> {
        self.status.code()
    }

    /// The signal that ended it.
    pub fn signal(&self) -> Option<i32> {
        self.status.signal()
    }

    /// The lines of standard output, sorted.
    pub fn sorted_lines(&self) -> Vec<String> {
        let mut lines: Vec<String> = self.stdout.lines().map(str::to_owned).collect();
        lines.sort();
        lines
    }

    /// The single JSON object on standard output.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(self.stdout.trim()).unwrap_or_else(|e| panic!("no single JSON object ({e}): {self:?}"))
    }

    /// Asserts the exit code, and shows everything if it is another one.
    #[track_caller]
    pub fn exits(&self, code: i32) -> &Outcome {
        assert_eq!(self.code(), Some(code), "{self:?}");
        self
    }

    /// Asserts that standard error contains all of `parts`, and no panic of Weir's own.
    #[track_caller]
    pub fn says(&self, parts: &[&str]) -> &Outcome {
        for part in parts {
            assert!(self.stderr.contains(part), "{part:?} is missing: {self:?}");
        }
        self.no_raw_panic()
    }

    /// Asserts that no panic reached the process's own panic handler: a person gets a report instead.
    #[track_caller]
    pub fn no_raw_panic(&self) -> &Outcome {
        assert!(!self.stderr.contains("\nthread '") && !self.stderr.starts_with("thread '"), "a raw panic: {self:?}");
        self
    }
}

impl fmt::Debug for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Outcome { shown, status, took, stdout, stderr } = self;
        let (stdout, stderr) = (shortened(stdout), shortened(stderr));
        write!(f, "{shown} ended with {status} after {took:?}\n--- stdout\n{stdout}\n--- stderr\n{stderr}\n---")
    }
}

/// A text that fits a test's report.
fn shortened(text: &str) -> String {
    let count = text.chars().count();
    if count <= 6000 {
        return text.to_owned();
    }
    let (head, tail): (String, String) = (text.chars().take(2000).collect(), text.chars().skip(count - 4000).collect());
    format!("{head}\n… {} characters …\n{tail}", count - 6000)
}
