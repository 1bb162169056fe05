//! A process from its start to its end.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::process::Child;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use weir_logging::{LastLines, RollingFile};

use crate::output::Echo;
use crate::{describe_status, lineage, output, spawner};

/// Lines of a process's output kept for the report of its end.
const LAST_LINES: usize = 20;
/// Bytes of them.
const LAST_BYTES: usize = 16 * 1024;
/// How long output may still come after a process and all it started have been killed.
const OUTPUT_PATIENCE: Duration = Duration::from_secs(2);

/// What is to be started.
#[derive(Debug, Clone)]
pub struct Command {
    /// The executable.
    pub program: PathBuf,
    /// Its command line, without the program's name.
    pub arguments: Vec<OsString>,
    /// Environment variables it has beside those of this process.
    pub environment: Vec<(String, String)>,
    /// Environment variables of this process that it must not have.
    pub without: Vec<String>,
    /// Its working folder; that of this process if there is none.
    pub folder: Option<PathBuf>,
    /// The file its standard output goes to; `None` drops it.
    pub stdout: Option<PathBuf>,
    /// The file its standard error goes to; `None` drops it.
    pub stderr: Option<PathBuf>,
    /// Bytes after which such a file is rotated.
    pub max_size: u64,
    /// How many rotated files are kept.
    pub max_old_files: u32,
    /// Whether what it prints goes to the output of this process as well.
    pub echo: bool,
}

impl Command {
    /// `program` without arguments, whose output is dropped.
    pub fn new(program: impl Into<PathBuf>) -> Command {
        Command {
            program: program.into(),
            arguments: Vec::new(),
            environment: Vec::new(),
            without: Vec::new(),
            folder: None,
            stdout: None,
            stderr: None,
            max_size: 10 << 20,
            max_old_files: 1,
            echo: false,
        }
    }
}

/// Names of this process's environment variables that begin so, for [`Command::without`].
pub fn variables_beginning_with(prefix: &str) -> Vec<String> {
    let names = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok());
    names.filter(|name| name.starts_with(prefix)).collect()
}

/// Why a process was not started.
#[derive(Debug, thiserror::Error)]
#[error("{} does not start: {reason}", program.display())]
pub struct SpawnError {
    /// The executable.
    pub program: PathBuf,
    /// What is known, and what may help.
    pub reason: String,
}

/// A process that was started. Dropping this kills it and all it has started.
#[derive(Debug)]
pub struct Process {
    pid: u32,
    shared: Arc<Shared>,
    ended: watch::Receiver<Option<Ended>>,
}

#[derive(Debug)]
struct Shared {
    pid: u32,
    /// Whether the process has been waited for, so that its id may be somebody else's.
    reaped: AtomicBool,
    last_lines: Arc<Mutex<LastLines>>,
}

/// Kills a process from elsewhere; of no effect once it has ended. Does not keep it from being dropped.
#[derive(Debug, Clone)]
pub struct Killer(Arc<Shared>);

impl Killer {
    /// As [`Process::kill`].
    pub fn kill(&self) {
        self.0.kill();
    }
}

/// How a process ended.
#[derive(Debug, Clone)]
pub struct Ended {
    /// Its exit status, if the system told.
    pub status: Option<ExitStatus>,
    /// The end of its standard error.
    pub last_lines: Vec<String>,
}

impl Ended {
    /// How it ended and what it wrote last, to follow its name: `exited with code 1; its last lines were: …`.
    pub fn describe(&self) -> String {
        let mut text = self.status.map_or_else(|| "ended".to_owned(), describe_status);
        if !self.last_lines.is_empty() {
            text.push_str("; its last lines were:");
            self.last_lines.iter().for_each(|line| text.push_str(&format!("\n    {line}")));
        }
        text
    }
}

impl Process {
    /// Starts a process in a session of its own. It is killed when this process ends, in whatever way.
    pub async fn spawn(command: Command) -> Result<Process, SpawnError> {
        let failed = |reason: String| SpawnError { program: command.program.clone(), reason };
        let lineage = new_lineage().map_err(|error| failed(format!("there is no randomness ({error})")))?;
        let mut prepared = std::process::Command::new(&command.program);
        prepared.args(&command.arguments);
        for name in &command.without {
            prepared.env_remove(name);
        }
        // What is set wins over what is left out.
        prepared.envs(command.environment.iter().cloned()).env(lineage::LINEAGE_VARIABLE, &lineage);
        if let Some(folder) = &command.folder {
            prepared.current_dir(folder);
        }
        prepared.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let born = lineage::now();
        let child = spawner::spawn(prepared).await.map_err(|error| failed(why_not(&command, &error)))?;
        Ok(Process::watch(child, &command, Lineage { name: lineage, born }))
    }

    fn watch(mut child: Child, command: &Command, lineage: Lineage) -> Process {
        let pid = child.id().unwrap_or_default();
        let last_lines = Arc::new(Mutex::new(LastLines::new(LAST_LINES, LAST_BYTES)));
        let shared = Arc::new(Shared { pid, reaped: AtomicBool::new(false), last_lines: last_lines.clone() });
        let file = |path: &Option<PathBuf>| {
            let path = path.as_ref()?;
            Some(RollingFile::open_or_retry(path, command.max_size, command.max_old_files))
        };
        let echo = |to| Some(to).filter(|_| command.echo);
        let out = child
            .stdout
            .take()
            .map(|pipe| tokio::spawn(output::pump(pipe, file(&command.stdout), echo(Echo::Stdout), None)));
        let err = child.stderr.take();
        let err = err
            .map(|pipe| tokio::spawn(output::pump(pipe, file(&command.stderr), echo(Echo::Stderr), Some(last_lines))));
        let (tell, ended) = watch::channel(None);
        let pumps = [out, err].into_iter().flatten().collect();
        // Made here, because a task that is never polled has nothing but its arguments.
        let guard = KilledWhenDropped(shared.clone());
        tokio::spawn(see_to_its_end(child, guard, lineage, pumps, tell));
        Process { pid, shared, ended }
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Kills it and its process group at once. [`wait`](Self::wait) tells when it is gone.
    pub fn kill(&self) {
        self.shared.kill();
    }

    /// Something that can kill it from elsewhere.
    pub fn killer(&self) -> Killer {
        Killer(self.shared.clone())
    }

    /// The last lines of its standard error so far.
    pub fn last_lines(&self) -> Vec<String> {
        self.shared.last_lines()
    }

    /// Waits until it has ended, and all that it started.
    pub async fn wait(&mut self) -> Ended {
        let unknown = || Ended { status: None, last_lines: Vec::new() };
        match self.ended.wait_for(Option::is_some).await {
            Ok(ended) => ended.clone().unwrap_or_else(unknown),
            // The runtime is being shut down.
            Err(_) => unknown(),
        }
    }

    /// How it ended; `None` as long as it runs.
    pub fn ended(&self) -> Option<Ended> {
        self.ended.borrow().clone()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Shared {
    fn kill(&self) {
        if !self.reaped.load(Ordering::Acquire) {
            lineage::kill_group(self.pid);
        }
    }

    fn last_lines(&self) -> Vec<String> {
        self.last_lines.lock().unwrap_or_else(PoisonError::into_inner).lines().collect()
    }
}

/// Kills a process if the task that watches it is dropped, as happens when its runtime ends.
struct KilledWhenDropped(Arc<Shared>);

impl Drop for KilledWhenDropped {
    fn drop(&mut self) {
        self.0.kill();
    }
}

/// How what a process has started is found.
struct Lineage {
    name: String,
    born: u64,
}

async fn see_to_its_end(
    mut child: Child,
    guard: KilledWhenDropped,
    lineage: Lineage,
    pumps: Vec<JoinHandle<()>>,
    tell: watch::Sender<Option<Ended>>,
) {
    let shared = guard.0.clone();
    let status = child.wait().await;
    shared.reaped.store(true, Ordering::Release);
    drop(guard);
    let session = shared.pid;
    let left = tokio::task::spawn_blocking(move || lineage::kill(session, &lineage.name, lineage.born))
        .await
        .unwrap_or_default();
    if left > 0 {
        tracing::info!(pid = session, processes = left, "killed what a process had left running");
    }
    for pump in pumps {
        // Somebody who hid may still hold the pipe open.
        let stop = pump.abort_handle();
        if tokio::time::timeout(OUTPUT_PATIENCE, pump).await.is_err() {
            stop.abort();
        }
    }
    let ended = Ended { status: status.ok(), last_lines: shared.last_lines() };
    tell.send_replace(Some(ended));
}

fn new_lineage() -> Result<String, getrandom::Error> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes)?;
    Ok(format!("{:032x}", u128::from_be_bytes(bytes)))
}

/// Why the system refused, and what may help.
fn why_not(command: &Command, error: &io::Error) -> String {
    let gone = |path: &Path| fs::metadata(path).is_err();
    match error.kind() {
        _ if command.folder.as_deref().is_some_and(gone) => {
            format!("its working folder {} is not there", command.folder.as_deref().unwrap_or(Path::new("")).display())
        }
        io::ErrorKind::NotFound if gone(&command.program) => "there is no such file".to_owned(),
        // The file is there.
        io::ErrorKind::NotFound => {
            "the dynamic loader it needs is not on this machine; build it for this system, or link it \
             statically (--target x86_64-unknown-linux-musl)"
                .to_owned()
        }
        io::ErrorKind::PermissionDenied => {
            format!("{error}: it may not be executed, or its file system is mounted noexec")
        }
        io::ErrorKind::ExecutableFileBusy => format!("{error}: somebody is still writing it"),
        _ => error.to_string(),
    }
}
