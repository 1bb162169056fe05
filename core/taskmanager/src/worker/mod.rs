//! A worker process from its artifact to its end, as one task: fetches, starts, listens, reports.

mod wire;

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::io::{self, Read};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{mpsc, oneshot};
use weir_model::{DeploymentId, StartWorker};
use weir_process::{Command, Ended, Process, variables_beginning_with};
use weir_proto::{artifact, roles};

use crate::artifacts::{ArtifactCache, ArtifactSource};
use crate::state::{WorkerEnd, WorkerEvent, WorkerMessage};
use crate::storage::StorageService;

/// How long a process may still run after it has closed its connection, and how long its last words are waited for.
const GRACE: Duration = Duration::from_secs(2);
/// Bytes read from a worker at a time.
const READ: usize = 64 * 1024;

/// What all workers of a TaskManager have in common.
#[derive(Debug)]
pub(crate) struct WorkerSettings {
    pub(crate) artifacts: ArtifactCache,
    pub(crate) storage: StorageService,
    /// Where sockets are. Only this user can enter it.
    pub(crate) socket_dir: PathBuf,
    /// Where workers get folders for the working files of their state.
    pub(crate) state_dir: PathBuf,
    pub(crate) log_dir: PathBuf,
    /// Whether what workers print goes to the output of this process as well.
    pub(crate) echo_output: bool,
    pub(crate) log_size: u64,
    pub(crate) log_backups: u32,
    pub(crate) logs_kept: usize,
    /// Address for their data ports.
    pub(crate) data_host: IpAddr,
    /// Log files in use, by what their names begin with.
    pub(crate) logs_in_use: Mutex<BTreeSet<String>>,
}

/// A worker's task, as the event loop sees it. Dropping it kills the worker.
#[derive(Debug)]
pub(crate) struct WorkerHandle {
    messages: mpsc::UnboundedSender<WorkerMessage>,
    kill: Option<oneshot::Sender<()>>,
    pid: Arc<AtomicU32>,
}

impl WorkerHandle {
    /// Sends something to the process. Lost if it is gone, which shows otherwise.
    pub(crate) fn tell(&self, message: WorkerMessage) {
        let _ = self.messages.send(message);
    }

    /// Has it killed with all it started.
    pub(crate) fn kill(&mut self) {
        if let Some(kill) = self.kill.take() {
            let _ = kill.send(());
        }
    }

    /// Its process id, once it runs.
    pub(crate) fn pid(&self) -> Option<u32> {
        match self.pid.load(Ordering::Relaxed) {
            0 => None,
            pid => Some(pid),
        }
    }
}

/// Starts a worker. `tell` is called with everything that happens to it; with [`WorkerEvent::Ended`] last, in any case.
pub(crate) fn start(
    settings: Arc<WorkerSettings>,
    start: StartWorker,
    source: impl ArtifactSource + 'static,
    tell: impl Fn(WorkerEvent) + Send + Sync + 'static,
) -> WorkerHandle {
    let (messages, to_send) = mpsc::unbounded_channel();
    let (kill, killed) = oneshot::channel();
    let pid = Arc::new(AtomicU32::new(0));
    let seen_pid = pid.clone();
    tokio::spawn(async move {
        let _logs = LogsInUse::new(&settings, &start);
        let supervision = Supervision { settings: &settings, start: &start, tell: &tell, killed };
        let end = supervision.run(&source, to_send, &seen_pid).await;
        seen_pid.store(0, Ordering::Relaxed);
        tell(WorkerEvent::Ended(end));
    });
    WorkerHandle { messages, kill: Some(kill), pid }
}

/// The folder of a worker, which it makes if it needs one.
struct RemovedAtEnd(PathBuf);

impl Drop for RemovedAtEnd {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

struct Supervision<'a, T> {
    settings: &'a WorkerSettings,
    start: &'a StartWorker,
    tell: &'a T,
    /// Ends when the handle is dropped as well.
    killed: oneshot::Receiver<()>,
}

impl<T: Fn(WorkerEvent)> Supervision<'_, T> {
    async fn run(
        mut self,
        source: &impl ArtifactSource,
        to_send: mpsc::UnboundedReceiver<WorkerMessage>,
        pid: &AtomicU32,
    ) -> WorkerEnd {
        let not_started =
            |why: String| WorkerEnd { how: format!("was not started: {why}"), started: false, last_lines: Vec::new() };
        let job = &self.start.launch.artifact;
        let lease = tokio::select! {
            lease = self.settings.artifacts.obtain(job, source) => match lease {
                Ok(lease) => lease,
                Err(error) => return not_started(error.to_string()),
            },
            _ = &mut self.killed => return not_started("it was given up before".to_owned()),
        };
        if let Err(why) = examine(&lease.path(), &job.name) {
            return not_started(why);
        }
        let socket = match Socket::open(&self.settings.socket_dir, self.start.deployment) {
            Ok(socket) => socket,
            Err(error) => {
                let folder = self.settings.socket_dir.display();
                return not_started(format!(
                    "no socket for it in {folder} ({error}); io.tmp.dirs or TMPDIR can name another, shorter folder"
                ));
            }
        };
        let served = match self.settings.storage.serve(socket.path.with_extension("s"), self.start.deployment.job) {
            Ok(served) => served,
            Err(error) => return not_started(format!("no socket for its storage ({error})")),
        };
        let folder = RemovedAtEnd(self.settings.state_dir.join(format!("worker-{}", log_name(self.start))));
        let command = self.command(&lease.path(), &socket.path, served.socket(), &folder.0);
        let mut process = match Process::spawn(command).await {
            Ok(process) => process,
            Err(error) => return not_started(format!("{} cannot be executed: {}", job.name, error.reason)),
        };
        pid.store(process.pid(), Ordering::Relaxed);
        let deployment = self.start.deployment;
        tracing::info!(job_id = %deployment.job, deployment = deployment.number, pid = process.pid(), "a worker was started");
        let connection = tokio::select! {
            accepted = socket.listener.accept() => accepted,
            ended = process.wait() => return described(ended),
            _ = &mut self.killed => return killed(process).await,
        };
        drop(socket);
        match connection {
            Ok((stream, _)) => self.talk(process, stream, to_send).await,
            Err(error) => {
                let end = killed(process).await;
                WorkerEnd { how: format!("could not connect ({error})"), ..end }
            }
        }
    }

    fn command(&self, executable: &Path, socket: &Path, storage: &Path, folder: &Path) -> Command {
        let launch = &self.start.launch;
        let mut command = Command::new(executable);
        command.arguments = launch.arguments.iter().map(OsString::from).collect();
        // Behind the job's own, which must not change its role.
        command.environment = launch.environment.clone();
        if !launch.environment.iter().any(|(name, _)| name == roles::CORES_VARIABLE) {
            let cores = std::thread::available_parallelism().map_or(1, usize::from);
            command.environment.push((roles::CORES_VARIABLE.to_owned(), cores.to_string()));
        }
        command.environment.extend([
            (roles::WORKER_SOCKET_VARIABLE.to_owned(), socket.display().to_string()),
            (roles::WORKER_INDEX_VARIABLE.to_owned(), self.start.worker.to_string()),
            (roles::WORKER_TOKEN_VARIABLE.to_owned(), roles::token_to_hex(&launch.token)),
            (roles::WORKER_BIND_HOST_VARIABLE.to_owned(), self.settings.data_host.to_string()),
            (roles::WORKER_STORAGE_VARIABLE.to_owned(), storage.display().to_string()),
            (roles::WORKER_FOLDER_VARIABLE.to_owned(), folder.display().to_string()),
        ]);
        // How this process was configured would make the worker build another graph than its coordinator, and what started it
        // would give it another role.
        command.without = variables_beginning_with("WEIR_");
        let log = |end: &str| Some(self.settings.log_dir.join(format!("{}.{end}", log_name(self.start))));
        command.stdout = log("out");
        command.stderr = log("err");
        command.echo = self.settings.echo_output;
        command.max_size = self.settings.log_size;
        command.max_old_files = self.settings.log_backups;
        command
    }

    /// Passes messages on in both directions until the process is gone.
    async fn talk(
        mut self,
        mut process: Process,
        stream: UnixStream,
        to_send: mpsc::UnboundedReceiver<WorkerMessage>,
    ) -> WorkerEnd {
        let (mut incoming, outgoing) = stream.into_split();
        // Apart, so that a worker that does not read is still listened to.
        let writer = AbortOnDrop(tokio::spawn(write_messages(outgoing, to_send)));
        let mut received = BytesMut::new();
        let closed = loop {
            tokio::select! {
                more = read(&mut incoming, &mut received, self.tell) => if !more { break true },
                _ = &mut self.killed => return killed(process).await,
                _ = process.wait() => break false,
            }
        };
        drop(writer);
        if !closed {
            // What it said before it ended is in the socket still. Somebody it started may hold the other end open.
            let rest = async { while read(&mut incoming, &mut received, self.tell).await {} };
            let _ = tokio::time::timeout(GRACE, rest).await;
        }
        match tokio::time::timeout(GRACE, process.wait()).await {
            Ok(ended) => described(ended),
            Err(_) => {
                let end = killed(process).await;
                WorkerEnd { how: "closed its connection, and was killed".to_owned(), ..end }
            }
        }
    }
}

/// Reads once and tells what arrived; false at the end.
async fn read(incoming: &mut OwnedReadHalf, received: &mut BytesMut, tell: &impl Fn(WorkerEvent)) -> bool {
    received.reserve(READ);
    match incoming.read_buf(received).await {
        Ok(0) | Err(_) => false,
        Ok(_) => {
            wire::events(received).into_iter().for_each(tell);
            if received.is_empty() {
                // Idle workers keep no buffer.
                *received = BytesMut::new();
            }
            true
        }
    }
}

async fn write_messages(mut outgoing: OwnedWriteHalf, mut messages: mpsc::UnboundedReceiver<WorkerMessage>) {
    while let Some(message) = messages.recv().await {
        if outgoing.write_all(&wire::frame(message)).await.is_err() {
            // The reading side sees the end.
            return;
        }
    }
    // The handle is dropped: the worker is killed. Closing the connection first would make it tell of that.
    std::future::pending().await
}

async fn killed(mut process: Process) -> WorkerEnd {
    process.kill();
    described(process.wait().await)
}

fn described(ended: Ended) -> WorkerEnd {
    let how = ended.status.map_or_else(|| "ended".to_owned(), weir_process::describe_status);
    WorkerEnd { how, started: true, last_lines: ended.last_lines }
}

/// Whether a file can be a job. The system would have a shell interpret what it cannot execute. A script that names its
/// interpreter is let pass: it may start the job.
fn examine(path: &Path, name: &str) -> Result<(), String> {
    let unreadable = |error: io::Error| format!("{name} cannot be read ({error})");
    let mut file = fs::File::open(path).map_err(unreadable)?;
    let mut start = [0; 2];
    if file.read(&mut start).map_err(unreadable)? == 2 && &start == b"#!" {
        return Ok(());
    }
    match artifact::check(&mut file).map_err(unreadable)? {
        Ok(_) => Ok(()),
        Err(not_a_job) => Err(not_a_job.explain(name)),
    }
}

/// What the names of a worker's log files begin with. With the worker's number, as TaskManagers of one machine may share the folder.
fn log_name(start: &StartWorker) -> String {
    let DeploymentId { job, number } = start.deployment;
    format!("job-{job}-{number}-{}", start.worker)
}

/// Keeps a worker's log files from being removed while it runs; removes those that stayed empty afterwards.
struct LogsInUse<'a> {
    settings: &'a WorkerSettings,
    name: String,
}

impl<'a> LogsInUse<'a> {
    fn new(settings: &'a WorkerSettings, start: &StartWorker) -> Self {
        let name = log_name(start);
        let mut in_use = settings.logs_in_use.lock().unwrap_or_else(PoisonError::into_inner);
        in_use.insert(name.clone());
        remove_old_logs(&settings.log_dir, settings.logs_kept, &in_use);
        drop(in_use);
        Self { settings, name }
    }
}

impl Drop for LogsInUse<'_> {
    fn drop(&mut self) {
        self.settings.logs_in_use.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.name);
        for end in ["out", "err"] {
            let path = self.settings.log_dir.join(format!("{}.{end}", self.name));
            if fs::metadata(&path).is_ok_and(|metadata| metadata.len() == 0) {
                let _ = fs::remove_file(path);
            }
        }
    }
}

/// Removes the log files of workers that were not written to for the longest time, until no more than `kept` are left.
fn remove_old_logs(folder: &Path, kept: usize, in_use: &BTreeSet<String>) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    let mut files: Vec<(SystemTime, PathBuf)> = entries
        .flatten()
        .filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            let stem = name.split('.').next()?;
            let of_worker = name.starts_with("job-") && (name.contains(".out") || name.contains(".err"));
            (of_worker && !in_use.contains(stem)).then_some((entry.metadata().ok()?.modified().ok()?, entry.path()))
        })
        .collect();
    files.sort();
    let excess = files.len().saturating_sub(kept);
    for (_, path) in files.drain(..excess) {
        let _ = fs::remove_file(path);
    }
}

/// The socket a worker connects to. Its file goes when this does.
struct Socket {
    path: PathBuf,
    listener: UnixListener,
}

impl Socket {
    fn open(folder: &Path, deployment: DeploymentId) -> io::Result<Socket> {
        // What is said of job and deployment is for whoever looks at processes; the number makes the name unique in the folder, which
        // no other TaskManager uses. A worker that was given up may have its socket still.
        static NUMBERS: AtomicU64 = AtomicU64::new(0);
        let number = NUMBERS.fetch_add(1, Ordering::Relaxed);
        let job = deployment.job.to_string();
        let path = folder.join(format!("{}-{}-{number}", &job[..8], deployment.number));
        let listener = UnixListener::bind(&path)?;
        Ok(Socket { path, listener })
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

/// A task that ends with its owner.
pub(crate) struct AbortOnDrop(pub(crate) tokio::task::JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

#[cfg(test)]
mod tests {
    use weir_model::JobId;

    use super::*;

    #[tokio::test]
    async fn workers_have_sockets_of_their_own_even_if_their_jobs_begin_alike() {
        let folder = tempfile::tempdir().unwrap();
        let mut id = [7; 16];
        let open = |id| Socket::open(folder.path(), DeploymentId { job: JobId::from_bytes(id), number: 1 }).unwrap();
        let first = open(id);
        id[15] = 8;
        let second = open(id);
        assert_ne!(first.path, second.path);
        // Each reaches its own listener, and giving one up leaves the other's socket alone.
        drop(first);
        let (connected, accepted) = tokio::join!(UnixStream::connect(&second.path), second.listener.accept());
        connected.unwrap();
        accepted.unwrap();
    }

    #[test]
    fn old_logs_go_and_those_in_use_stay() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, age: u64| {
            let file = fs::File::create(folder.path().join(name)).unwrap();
            file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(10_000 - age)).unwrap();
        };
        write("weir-taskmanager.log", 99);
        write("job-a-0-0.err", 50);
        write("job-b-0-0.out", 40);
        write("job-b-0-0.out.1", 41);
        write("job-c-0-0.err", 1);
        let in_use = BTreeSet::from(["job-a-0-0".to_owned()]);
        remove_old_logs(folder.path(), 1, &in_use);
        let mut left: Vec<_> =
            fs::read_dir(folder.path()).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        left.sort();
        assert_eq!(left, ["job-a-0-0.err", "job-c-0-0.err", "weir-taskmanager.log"]);
    }
}
