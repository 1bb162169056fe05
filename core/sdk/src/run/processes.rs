//! The backend of a run with worker processes: starts the job's own executable again, several times, and talks to it.

use std::collections::{BTreeMap, VecDeque};
use std::io::{self, BufRead, BufReader, Read};
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};
use std::{env, fs};

use weir_config::{Configuration, options};
use weir_dataflow::net::JobToken;
use weir_dataflow::plan::JobPlan;
use weir_dataflow::source::SplitAnswer;
use weir_dataflow::task::MetricsSnapshot;
use weir_dataflow::worker::WorkerEvent;
use weir_model::{CheckpointTrigger, FailureKind, Placement, TaskFailure, TaskId};
use weir_proto::roles::{
    CORES_VARIABLE, WORKER_FOLDER_VARIABLE, WORKER_INDEX_VARIABLE, WORKER_SOCKET_VARIABLE, WORKER_TOKEN_VARIABLE,
    token_to_hex,
};
use weir_proto::worker::{self as proto, to_driver, to_worker};
use weir_proto::{FrameError, job_graph_hash, read_frame, write_frame};

use super::backend::{Backend, Deployment, Usage};
use super::coordinator::SplitOrder;
use super::driver::{DriverEvent, Preparation};
use super::memory::{self, Limit};
use super::{protocol, terminal, usage, worker_role};
use crate::environment;

/// Lines of a worker's standard error that are kept for the report of its end.
const LAST_LINES: usize = 20;
/// A line of a worker's standard error is cut at this many bytes.
const LONGEST_LINE: u64 = 64 * 1024;
/// How long workers may take to leave after everything is done.
const LEAVE: Duration = Duration::from_secs(5);

/// Runs the tasks in worker processes.
pub(super) struct Processes {
    graph: Arc<JobPlan>,
    graph_hash: u64,
    run_id: String,
    workers: Vec<Arc<WorkerProcess>>,
    readers: Mutex<Vec<JoinHandle<()>>>,
    /// Where tasks run, once they do.
    placement: OnceLock<Placement>,
}

struct WorkerProcess {
    index: u32,
    child: Mutex<Child>,
    stream: Mutex<UnixStream>,
    data_address: String,
    last_lines: Arc<Mutex<VecDeque<String>>>,
    report: Mutex<Report>,
    leaving: AtomicBool,
}

#[derive(Default)]
struct Report {
    tasks: BTreeMap<TaskId, MetricsSnapshot>,
    usage: Usage,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn failure(message: impl std::fmt::Display) -> TaskFailure {
    TaskFailure::new(FailureKind::Worker, message)
}

/// A folder that goes when this does.
struct RemovedAtEnd<'a>(&'a Path);

impl Drop for RemovedAtEnd<'_> {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(self.0);
    }
}

/// A worker that was started and has not reported yet.
struct Started {
    index: u32,
    child: Child,
    last_lines: Arc<Mutex<VecDeque<String>>>,
}

impl Processes {
    /// Starts `count` workers and waits until each has built the same graph.
    pub(super) fn start(
        plan: &Arc<JobPlan>,
        count: u32,
        configuration: &Configuration,
        limit: Option<Limit>,
        run: &Preparation,
    ) -> Result<Processes, TaskFailure> {
        let run_id = &run.run_id;
        let timeout = configuration.get(&options::WORKER_START_TIMEOUT);
        let folder = folder(run_id);
        // The socket is only for the beginning; removing it then leaves nothing behind whatever happens later.
        let _removed = RemovedAtEnd(&folder);
        let listener = listen(&folder).map_err(|e| {
            failure(format!(
                "no socket for workers in {} ({e}); TMPDIR can name another, shorter folder",
                folder.display()
            ))
        })?;
        let token = JobToken::random().map_err(|e| failure(format!("no random secret for the run ({e})")))?;
        let mut started = Vec::new();
        let result = (0..count)
            .try_for_each(|index| {
                started.push(spawn(index, (&folder, &working_folder(run_id)), &token)?);
                Ok(())
            })
            .and_then(|()| gather(&listener, &mut started, job_graph_hash(&plan.graph), timeout, &run.interrupted));
        let workers = match result {
            Ok(workers) => workers,
            Err(error) => {
                started.iter_mut().for_each(|worker| drop(worker.child.kill().and_then(|()| worker.child.wait())));
                return Err(error);
            }
        };
        let processes = Processes {
            graph: plan.clone(),
            graph_hash: job_graph_hash(&plan.graph),
            run_id: run_id.clone(),
            workers,
            readers: Mutex::default(),
            placement: OnceLock::new(),
        };
        processes.listen_to_workers(limit, &run.events_in, &run.split_orders)?;
        Ok(processes)
    }

    fn listen_to_workers(
        &self,
        limit: Option<Limit>,
        events: &Sender<DriverEvent>,
        splits: &Sender<SplitOrder>,
    ) -> Result<(), TaskFailure> {
        let thread_failure = |e: io::Error| failure(format!("no thread could be started for a worker ({e})"));
        for worker in &self.workers {
            let stream = lock(&worker.stream).try_clone().map_err(thread_failure)?;
            let (process, events_in, splits) = (worker.clone(), events.clone(), splits.clone());
            let reader = thread::Builder::new()
                .name(format!("weir-worker-{}", worker.index))
                .spawn(move || process.listen(stream, &events_in, &splits))
                .map_err(thread_failure)?;
            lock(&self.readers).push(reader);
            if let Some(limit) = limit {
                memory::watch(worker.index, lock(&worker.child).id(), limit, events.clone()).map_err(thread_failure)?;
            }
        }
        Ok(())
    }

    fn tell(&self, worker: u32, message: to_worker::Message) {
        if let Some(worker) = self.workers.iter().find(|w| w.index == worker) {
            worker.tell(message);
        }
    }

    fn tell_all(&self, message: &to_worker::Message) {
        self.workers.iter().for_each(|worker| worker.tell(message.clone()));
    }

    fn deployment(&self, placement: &Placement) -> proto::Deploy {
        let peer =
            |w: &Arc<WorkerProcess>| proto::WorkerAddress { worker: w.index, data_address: w.data_address.clone() };
        let vertices = 0..self.graph.graph.vertices.len() as u32;
        proto::Deploy {
            peers: self.workers.iter().map(peer).collect(),
            placements: vertices
                .map(|v| proto::VertexPlacement::from_workers(v, placement.workers_of_vertex(v)))
                .collect(),
            job_graph_hash: self.graph_hash,
            run_id: self.run_id.clone(),
            deployment: 0,
        }
    }
}

impl Backend for Processes {
    fn deploy(&self, deployment: Deployment) -> Result<(), TaskFailure> {
        let placement = self.placement.get_or_init(|| deployment.placement);
        for (task, snapshot) in deployment.restore {
            // One task a message: state may be large, and there is no hurry.
            let restore = proto::Restore { tasks: vec![proto::TaskRestore::new(task, snapshot.encode())] };
            self.tell(placement.worker_of(task), to_worker::Message::Restore(restore));
        }
        self.tell_all(&to_worker::Message::Deploy(self.deployment(placement)));
        Ok(())
    }

    fn restarts(&self) -> bool {
        // A worker process runs one deployment.
        false
    }

    fn trigger_checkpoint(&self, trigger: &CheckpointTrigger, tasks: &[TaskId]) {
        let Some(placement) = self.placement.get() else { return };
        for worker in &self.workers {
            let own: Vec<_> = tasks.iter().copied().filter(|task| placement.worker_of(*task) == worker.index).collect();
            worker.tell(to_worker::Message::TriggerCheckpoint(proto::TriggerCheckpoint::new(trigger, &own)));
        }
    }

    fn checkpoint_completed(&self, checkpoint: u64) {
        self.tell_all(&to_worker::Message::CheckpointCompleted(proto::CheckpointCompleted { checkpoint }));
    }

    fn checkpoint_aborted(&self, checkpoint: u64) {
        self.tell_all(&to_worker::Message::CheckpointAborted(proto::CheckpointAborted { checkpoint }));
    }

    fn cancel(&self) {
        self.tell_all(&to_worker::Message::Cancel(proto::Cancel { tasks: Vec::new() }));
    }

    fn kill(&self, workers: &[u32]) {
        for worker in self.workers.iter().filter(|w| workers.contains(&w.index)) {
            // A process that is gone already is what we want.
            let _ = lock(&worker.child).kill();
        }
    }

    fn answer_split(&self, task: TaskId, answer: SplitAnswer) {
        let Some(placement) = self.placement.get() else { return };
        let answer = to_worker::Message::SplitResponse(protocol::split_response(task, answer));
        self.tell(placement.worker_of(task), answer);
    }

    fn metrics(&self) -> Vec<(TaskId, MetricsSnapshot)> {
        let reports = self.workers.iter().map(|w| lock(&w.report));
        let mut all: Vec<_> = reports.flat_map(|r| r.tasks.clone()).collect();
        all.sort_by_key(|(task, _)| *task);
        all
    }

    fn usage(&self) -> Usage {
        let own = Usage { cpu: usage::cpu_time(), peak_rss: usage::peak_resident_bytes() };
        self.workers
            .iter()
            .map(|w| lock(&w.report).usage)
            .fold(own, |a, b| Usage { cpu: a.cpu + b.cpu, peak_rss: a.peak_rss + b.peak_rss })
    }

    fn finish(&self) {
        self.workers.iter().for_each(|worker| worker.leaving.store(true, Ordering::Release));
        self.tell_all(&to_worker::Message::Shutdown(proto::Shutdown {}));
        let deadline = Instant::now() + LEAVE;
        for worker in &self.workers {
            if worker.wait_until(deadline).is_none() {
                self.kill(&[worker.index]);
            }
        }
        for reader in std::mem::take(&mut *lock(&self.readers)) {
            let _ = reader.join();
        }
    }
}

impl Drop for Processes {
    fn drop(&mut self) {
        for worker in &self.workers {
            let mut child = lock(&worker.child);
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl WorkerProcess {
    fn tell(&self, message: to_worker::Message) {
        // A broken connection shows as the worker's end on the reading side.
        let _ = write_frame(&mut *lock(&self.stream), &protocol::to_worker(message));
    }

    /// Passes on what the worker says until it ends.
    fn listen(&self, mut stream: UnixStream, events: &Sender<DriverEvent>, splits: &Sender<SplitOrder>) {
        let worker = self.index;
        let reason = loop {
            let message = match read_frame::<proto::ToDriver>(&mut stream) {
                Ok(Some(frame)) => frame.message,
                Ok(None) => break None,
                // It ended with something unread; how it ended says more.
                Err(FrameError::Io(error)) if error.kind() == io::ErrorKind::ConnectionReset => break None,
                Err(error) => break Some(format!("the connection to worker {worker} failed ({error})")),
            };
            let tell = |event| drop(events.send(DriverEvent::Worker { deployment: 0, event }));
            match message {
                Some(to_driver::Message::TaskStateChanged(change)) => match protocol::state_change(change) {
                    Ok(event) => tell(event),
                    Err(error) => break Some(format!("worker {worker} sent a message that is not valid: {error}")),
                },
                Some(to_driver::Message::SplitRequest(request)) => {
                    let _ = splits.send(SplitOrder::Next(TaskId { vertex: request.vertex, subtask: request.subtask }));
                }
                Some(to_driver::Message::MetricsReport(report)) => self.on_report(&report),
                Some(to_driver::Message::CheckpointAcknowledged(acknowledged)) => {
                    tell(WorkerEvent::CheckpointAcknowledged(Box::new(acknowledged.into())));
                }
                Some(to_driver::Message::CheckpointDeclined(declined)) => {
                    tell(WorkerEvent::CheckpointDeclined(Box::new(declined.into())));
                }
                // Said once, before this thread started; or said by a newer worker.
                Some(to_driver::Message::Hello(_)) | None => {}
            }
        };
        if self.leaving.load(Ordering::Acquire) {
            return;
        }
        let reason = reason.unwrap_or_else(|| self.describe_end());
        let _ = events.send(DriverEvent::WorkerLost { worker, reason });
    }

    fn on_report(&self, message: &proto::MetricsReport) {
        let mut report = lock(&self.report);
        report.tasks.extend(message.tasks.iter().map(proto::TaskMetrics::snapshot));
        report.usage = Usage { cpu: Duration::from_nanos(message.cpu_nanos), peak_rss: message.rss_bytes };
    }

    fn wait_until(&self, deadline: Instant) -> Option<ExitStatus> {
        loop {
            match lock(&self.child).try_wait() {
                Ok(Some(status)) => return Some(status),
                Err(_) => return None,
                Ok(None) if Instant::now() >= deadline => return None,
                Ok(None) => thread::sleep(Duration::from_millis(1)),
            }
        }
    }

    /// How the process ended, with the last lines it wrote.
    fn describe_end(&self) -> String {
        let status = self.wait_until(Instant::now() + Duration::from_secs(2));
        describe_end(self.index, status, &self.last_lines)
    }
}

fn describe_end(index: u32, status: Option<ExitStatus>, last_lines: &Mutex<VecDeque<String>>) -> String {
    let mut text = format!("worker {index} {}", status.map_or("closed its connection".to_owned(), describe_status));
    // The pipe may hold what the process wrote last although the process is gone.
    thread::sleep(Duration::from_millis(20));
    let lines = lock(last_lines);
    if !lines.is_empty() {
        text.push_str("; its last lines were:");
        lines.iter().for_each(|line| text.push_str(&format!("\n    {line}")));
    }
    text
}

fn describe_status(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (_, Some(signal)) => format!("was killed by signal {signal}{}", signal_name(signal)),
        (Some(code), _) => format!("exited with code {code}"),
        (None, None) => "ended".to_owned(),
    }
}

fn signal_name(signal: i32) -> &'static str {
    match signal {
        libc::SIGKILL => " (SIGKILL)",
        libc::SIGSEGV => " (SIGSEGV)",
        libc::SIGABRT => " (SIGABRT)",
        libc::SIGTERM => " (SIGTERM)",
        libc::SIGBUS => " (SIGBUS)",
        libc::SIGILL => " (SIGILL)",
        _ => "",
    }
}

/// Where the socket of a run is while its workers start.
pub(super) fn folder(run_id: &str) -> PathBuf {
    env::temp_dir().join(format!("weir-{run_id}"))
}

/// Where the workers of a run have their working files.
pub(super) fn working_folder(run_id: &str) -> PathBuf {
    env::temp_dir().join(format!("weir-{run_id}-state"))
}

/// Opens the socket in a folder that only this user can enter.
fn listen(folder: &PathBuf) -> io::Result<UnixListener> {
    use std::os::unix::fs::DirBuilderExt;
    fs::DirBuilder::new().mode(0o700).create(folder)?;
    let listener = UnixListener::bind(folder.join("driver"))?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

fn spawn(index: u32, (folder, working): (&Path, &Path), token: &JobToken) -> Result<Started, TaskFailure> {
    let executable =
        env::current_exe().map_err(|e| failure(format!("this program's own file cannot be found ({e})")))?;
    let mut command = Command::new(&executable);
    command
        .args(env::args_os().skip(1))
        .env(WORKER_SOCKET_VARIABLE, folder.join("driver"))
        .env(WORKER_INDEX_VARIABLE, index.to_string())
        .env(WORKER_TOKEN_VARIABLE, token_to_hex(token.as_bytes()))
        .env(WORKER_FOLDER_VARIABLE, working)
        .stdin(Stdio::null())
        .stderr(Stdio::piped());
    let driver = std::process::id();
    // SAFETY: the closure only makes calls that are async-signal-safe, and touches no memory of the parent's.
    unsafe { command.pre_exec(move || worker_role::bind_to_driver(driver)) };
    // A worker in another control group may see another number of cores, but must build the same graph.
    command.env(CORES_VARIABLE, environment::available_cores().to_string());
    let mut child = command
        .spawn()
        .map_err(|e| failure(format!("{} cannot be started as a worker ({e})", executable.display())))?;
    let last_lines = Arc::default();
    if let Some(Err(error)) = child.stderr.take().map(|stderr| follow_stderr(stderr, &last_lines)) {
        let _ = child.kill().and_then(|()| child.wait());
        return Err(failure(format!("no thread could be started for a worker's messages ({error})")));
    }
    Ok(Started { index, child, last_lines })
}

/// Passes a worker's standard error on and keeps its end.
fn follow_stderr(stderr: ChildStderr, last_lines: &Arc<Mutex<VecDeque<String>>>) -> io::Result<()> {
    let last_lines = last_lines.clone();
    thread::Builder::new().name("weir-stderr".into()).spawn(move || {
        let mut reader = BufReader::new(stderr);
        let mut line = Vec::new();
        while (&mut reader).take(LONGEST_LINE).read_until(b'\n', &mut line).is_ok_and(|n| n > 0) {
            let text = String::from_utf8_lossy(&line).trim_end().to_owned();
            line.clear();
            terminal::err(&text);
            let mut kept = lock(&last_lines);
            if kept.len() == LAST_LINES {
                kept.pop_front();
            }
            kept.push_back(text);
        }
    })?;
    Ok(())
}

/// Waits until every worker has said hello.
fn gather(
    listener: &UnixListener,
    started: &mut Vec<Started>,
    graph_hash: u64,
    timeout: Duration,
    interrupted: &AtomicBool,
) -> Result<Vec<Arc<WorkerProcess>>, TaskFailure> {
    let deadline = Instant::now() + timeout;
    let mut greeted: BTreeMap<u32, (UnixStream, proto::Hello)> = BTreeMap::new();
    while greeted.len() < started.len() {
        match listener.accept() {
            Ok((stream, _)) => {
                let (stream, hello) = greet(stream, graph_hash, deadline)?;
                greeted.insert(hello.worker_index, (stream, hello));
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                check_alive(started, &greeted)?;
                if interrupted.load(Ordering::Acquire) {
                    return Err(failure("interrupted while workers were starting"));
                }
                if Instant::now() >= deadline {
                    let missing: Vec<_> = (0..started.len() as u32).filter(|i| !greeted.contains_key(i)).collect();
                    return Err(failure(format!(
                        "workers {missing:?} did not report within {timeout:?}; weir.worker.start-timeout gives them longer"
                    )));
                }
                thread::sleep(Duration::from_millis(1));
            }
            Err(error) => return Err(failure(format!("workers cannot connect ({error})"))),
        }
    }
    let join = |started: Started| {
        let (stream, hello) = greeted.remove(&started.index)?;
        Some(Arc::new(WorkerProcess {
            index: started.index,
            child: Mutex::new(started.child),
            stream: Mutex::new(stream),
            data_address: hello.data_address,
            last_lines: started.last_lines,
            report: Mutex::default(),
            leaving: AtomicBool::new(false),
        }))
    };
    Ok(std::mem::take(started).into_iter().filter_map(join).collect())
}

/// A worker that ends before it reports will never report.
fn check_alive(
    started: &mut [Started],
    greeted: &BTreeMap<u32, (UnixStream, proto::Hello)>,
) -> Result<(), TaskFailure> {
    for worker in started.iter_mut().filter(|w| !greeted.contains_key(&w.index)) {
        if let Ok(Some(status)) = worker.child.try_wait() {
            let end = describe_end(worker.index, Some(status), &worker.last_lines);
            return Err(failure(format!("{end}\n    before it had built the job")));
        }
    }
    Ok(())
}

fn greet(
    mut stream: UnixStream,
    graph_hash: u64,
    deadline: Instant,
) -> Result<(UnixStream, proto::Hello), TaskFailure> {
    let io_failure = |e: io::Error| failure(format!("a worker's connection failed ({e})"));
    stream.set_nonblocking(false).map_err(io_failure)?;
    let patience = deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
    stream.set_read_timeout(Some(patience)).map_err(io_failure)?;
    let frame =
        read_frame::<proto::ToDriver>(&mut stream).map_err(|e| failure(format!("a worker's greeting failed ({e})")))?;
    let Some(to_driver::Message::Hello(hello)) = frame.and_then(|frame| frame.message) else {
        return Err(failure("a worker did not begin with a greeting"));
    };
    stream.set_read_timeout(None).map_err(io_failure)?;
    if hello.protocol_version != proto::PROTOCOL_VERSION {
        return Err(failure(format!(
            "worker {} speaks protocol version {}, this driver {}; both must be the same build",
            hello.worker_index,
            hello.protocol_version,
            proto::PROTOCOL_VERSION
        )));
    }
    if hello.job_graph_hash != graph_hash {
        return Err(failure(format!(
            "worker {} built another job graph (hash {:016x}) than the driver ({graph_hash:016x}): the job's builder is not deterministic. \
             It must build the same graph from the same arguments each time; look for random numbers, clocks, hash map iteration, \
             environment variables or files that change in the job's function",
            hello.worker_index, hello.job_graph_hash
        )));
    }
    Ok((stream, hello))
}
