//! The coordinator process of a job: started here, spoken to over a Unix socket, ended here.
//!
//! It is the job's own executable, so nothing it does may harm this process: what it says is checked, what it does not say in time
//! ends it, and its end is told with what it wrote last.

mod frames;
mod outputs;
mod watch;

use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use prost::Message as _;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use weir_checkpoint::StateDeclarations;
use weir_jobmaster::{FromCoordinator, Restored, ToCoordinator};
use weir_model::{JobGraph, JobId, TaskId};
use weir_process::{Command, Process};
use weir_proto::coordinator::{self as proto, to_coordinator, to_job_manager};
use weir_proto::roles::COORDINATOR_SOCKET_VARIABLE;
use weir_proto::worker::{self, PROTOCOL_VERSION};
use weir_proto::{FrameError, job_graph_hash};

use crate::launch::without_own_variables;
use crate::private_folder::PrivateFolder;
use frames::{read_frame, write_frame};
pub(crate) use watch::{CoordinatorLimits, CoordinatorWatch, UnderWatch};

/// How long a coordinator may take to end when nothing is left to do: it removes what was written aside.
const LEAVE: Duration = Duration::from_secs(10);
/// How long one that has closed its connection may take to end.
const LAST_RITES: Duration = Duration::from_secs(1);
/// How long reading what is in a socket may take.
const LAST_WORDS: Duration = Duration::from_millis(100);

/// How a job's coordinator is started; the same whenever it is started again.
#[derive(Debug, Clone)]
pub(crate) struct CoordinatorSpec {
    pub(crate) executable: PathBuf,
    pub(crate) job: JobId,
    /// Its command line, that of all processes of the job.
    pub(crate) arguments: Vec<String>,
    /// Its variables, those of all processes of the job.
    pub(crate) environment: Vec<(String, String)>,
    /// How long it may take to build the job.
    pub(crate) start_timeout: Duration,
    pub(crate) folders: Arc<CoordinatorFolders>,
}

/// Where coordinators leave files.
#[derive(Debug)]
pub(crate) struct CoordinatorFolders {
    pub(crate) log_dir: PathBuf,
    /// For sockets.
    pub(crate) tmp_dir: PathBuf,
    /// Bytes after which a file of output is rotated.
    pub(crate) max_log_size: u64,
    pub(crate) max_old_logs: u32,
    pub(crate) watch: Arc<CoordinatorWatch>,
}

impl CoordinatorFolders {
    /// Removes files that are of no use any more.
    async fn tidy(self: Arc<Self>) {
        let tidied = tokio::task::spawn_blocking(move || outputs::tidy(&self.log_dir, &self.watch.jobs()));
        // The runtime is being shut down, or it panicked, which has been reported.
        let _ = tidied.await;
    }
}

/// Why there is no coordinator. A sentence for whoever wants the job to run.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum StartError {
    /// The job's own doing.
    #[error("{0}")]
    Job(String),
    /// The machine has no room for another process, or the like.
    #[error("{0}")]
    System(String),
}

/// What a coordinator has built.
#[derive(Debug)]
pub(crate) struct Built {
    pub(crate) graph: Arc<JobGraph>,
    pub(crate) hash: u64,
    /// What state its operators have.
    pub(crate) states: StateDeclarations,
}

/// A running coordinator. Dropping it kills it.
#[derive(Debug)]
pub(crate) struct Coordinator {
    process: Process,
    outgoing: UnboundedSender<to_coordinator::Message>,
    incoming: UnboundedReceiver<Incoming>,
    /// Set once nothing more comes: why, unless its process's end says so.
    closed: Option<Option<String>>,
    under_watch: UnderWatch,
    folders: Arc<CoordinatorFolders>,
}

#[derive(Debug)]
enum Incoming {
    Message(FromCoordinator),
    /// Nothing more comes; why, unless its process's end says so.
    Closed(Option<String>),
}

impl CoordinatorSpec {
    fn command(&self, socket: &Path) -> Command {
        let mut command = Command::new(&self.executable);
        command.arguments = self.arguments.iter().map(Into::into).collect();
        command.without = without_own_variables();
        command.environment = self.environment.clone();
        command.environment.push((COORDINATOR_SOCKET_VARIABLE.to_owned(), socket.display().to_string()));
        let [out, err] = outputs::paths(&self.folders.log_dir, self.job);
        (command.stdout, command.stderr) = (Some(out), Some(err));
        (command.max_size, command.max_old_files) = (self.folders.max_log_size, self.folders.max_old_logs);
        command
    }
}

impl Coordinator {
    /// Starts one and waits until it has built the job.
    pub(crate) async fn start(spec: &CoordinatorSpec) -> Result<(Built, Coordinator), StartError> {
        // The socket is only for the beginning; removing it then leaves nothing behind whatever happens later.
        let folder = PrivateFolder::new(&spec.folders.tmp_dir).map_err(|error| no_socket(spec, &error))?;
        let socket = folder.path().join("socket");
        let listener = UnixListener::bind(&socket).map_err(|error| no_socket(spec, &error))?;
        let process = Process::spawn(spec.command(&socket)).await;
        let mut process = process.map_err(|error| StartError::System(error.to_string()))?;
        let under_watch = spec.folders.watch.add(spec.job, &process);
        let failure = match tokio::time::timeout(spec.start_timeout, greeting(&mut process, &listener)).await {
            Ok(Ok((built, stream))) => {
                let (outgoing, incoming) = connect(stream);
                let folders = spec.folders.clone();
                return Ok((built, Coordinator { process, outgoing, incoming, closed: None, under_watch, folders }));
            }
            Ok(Err(failure)) => failure,
            Err(_) => with_last_lines(
                format!(
                    "the job was not built within {:?}, and its process was killed; `weir.worker.start-timeout` gives it longer",
                    spec.start_timeout
                ),
                &process.last_lines(),
            ),
        };
        process.kill();
        process.wait().await;
        let verdict = under_watch
            .verdict()
            .map(|why| format!("while it was building the job, the job's process was killed: {why}"));
        drop(under_watch);
        spec.folders.clone().tidy().await;
        Err(StartError::Job(verdict.unwrap_or(failure)))
    }

    /// One that has built its job already, for tests.
    #[cfg(test)]
    pub(crate) fn of(
        process: Process,
        stream: UnixStream,
        job: JobId,
        folders: Arc<CoordinatorFolders>,
    ) -> Coordinator {
        let (outgoing, incoming) = connect(stream);
        let under_watch = folders.watch.add(job, &process);
        Coordinator { process, outgoing, incoming, closed: None, under_watch, folders }
    }

    /// Sends a message. If the process is gone, [`next`](Self::next) says so.
    pub(crate) fn tell(&self, message: ToCoordinator) {
        if matches!(message, ToCoordinator::Commit { .. }) {
            self.under_watch.commit_begins();
        }
        if let Some(message) = to_message(message) {
            let _ = self.outgoing.send(message);
        }
    }

    /// Kills it; [`next`](Self::next) tells of its end.
    pub(crate) fn kill(&self) {
        self.process.kill();
    }

    /// The next thing it says; [`FromCoordinator::Lost`] is the last. May be dropped and called again.
    pub(crate) async fn next(&mut self) -> FromCoordinator {
        if self.closed.is_none() {
            match self.incoming.recv().await {
                Some(Incoming::Message(message)) => {
                    if matches!(message, FromCoordinator::CommitDone { .. }) {
                        self.under_watch.commit_ends();
                    }
                    return message;
                }
                Some(Incoming::Closed(why)) => self.closed = Some(why),
                None => self.closed = Some(None),
            }
        }
        // A coordinator without a connection is of no use, whatever it still does.
        if tokio::time::timeout(LAST_RITES, self.process.wait()).await.is_err() {
            self.process.kill();
        }
        let end = self.process.wait().await.describe();
        let reason = match (self.under_watch.verdict(), self.closed.clone().flatten()) {
            (Some(why), _) => format!("the job's coordinator process was killed: {why}"),
            (None, Some(problem)) => format!("the job's coordinator process {end}; before, {problem}"),
            (None, None) => format!("the job's coordinator process {end}"),
        };
        FromCoordinator::Lost { reason }
    }

    /// Lets it end, by force if it does not. Returns when it is gone.
    pub(crate) async fn shut_down(mut self) {
        let _ = self.outgoing.send(to_coordinator::Message::Shutdown(proto::Shutdown {}));
        if tokio::time::timeout(LEAVE, self.process.wait()).await.is_err() {
            tracing::warn!(pid = self.process.pid(), "killed a coordinator that did not end when told to");
            self.process.kill();
            self.process.wait().await;
        }
        let Coordinator { folders, under_watch, .. } = self;
        drop(under_watch);
        folders.tidy().await;
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.process.pid()
    }
}

fn no_socket(spec: &CoordinatorSpec, error: &std::io::Error) -> StartError {
    StartError::System(format!(
        "no socket for the job's process can be made in {} ({error}); `io.tmp.dirs` can name another folder",
        spec.folders.tmp_dir.display()
    ))
}

fn with_last_lines(mut text: String, lines: &[String]) -> String {
    if !lines.is_empty() {
        text.push_str("; its last lines were:");
        lines.iter().for_each(|line| text.push_str(&format!("\n    {line}")));
    }
    text
}

/// Why there is no greeting.
enum Greeting {
    /// The builder failed, as it says itself.
    Failed(String),
    Broken(String),
}

/// What a process that was started says first, or why it says nothing.
async fn greeting(process: &mut Process, listener: &UnixListener) -> Result<(Built, UnixStream), String> {
    let mut greet = pin!(greet(listener));
    let greeted = tokio::select! {
        greeted = &mut greet => greeted,
        // What it said before it ended may not have been read yet.
        _ = process.wait() => match tokio::time::timeout(LAST_WORDS, greet).await {
            Ok(greeted) => greeted,
            Err(_) => Err(Greeting::Broken("it ended".to_owned())),
        },
    };
    match greeted {
        Ok(greeted) => Ok(greeted),
        Err(Greeting::Failed(message)) => Err(message),
        // Most likely its process is about to end, which says more.
        Err(Greeting::Broken(problem)) => match tokio::time::timeout(LAST_RITES, process.wait()).await {
            Ok(ended) => Err(format!("while it was building the job, the job's process {}", ended.describe())),
            Err(_) => Err(format!("the job's process cannot be talked to: {problem}")),
        },
    }
}

async fn greet(listener: &UnixListener) -> Result<(Built, UnixStream), Greeting> {
    let broken = |error: &dyn std::fmt::Display| Greeting::Broken(error.to_string());
    let (mut stream, _) = listener.accept().await.map_err(|error| broken(&error))?;
    let frame = read_frame::<proto::ToJobManager>(&mut stream).await.map_err(|error| broken(&error))?;
    match frame.and_then(|frame| frame.message) {
        Some(to_job_manager::Message::Hello(hello)) => Ok((built(hello)?, stream)),
        Some(to_job_manager::Message::Failed(failed)) => Err(Greeting::Failed(failed.message)),
        Some(_) | None => Err(Greeting::Broken("it did not begin with a greeting".to_owned())),
    }
}

fn built(hello: proto::Hello) -> Result<Built, Greeting> {
    if hello.protocol_version != PROTOCOL_VERSION {
        return Err(Greeting::Failed(format!(
            "the job's process speaks version {} of the protocol, this JobManager {PROTOCOL_VERSION}; build the job with the crate `weir` of this version",
            hello.protocol_version
        )));
    }
    let graph = hello.job_graph.ok_or_else(|| Greeting::Broken("its greeting has no job graph".to_owned()))?;
    let graph = JobGraph::try_from(graph)
        .map_err(|error| Greeting::Failed(format!("the job's graph is not valid: {error}")))?;
    let hash = job_graph_hash(&graph);
    if hash != hello.job_graph_hash {
        return Err(Greeting::Failed(format!(
            "the job's graph has the hash {hash:016x} here and {:016x} in the job: its crate `weir` is of another version",
            hello.job_graph_hash
        )));
    }
    let states = StateDeclarations::decode(&hello.states).map_err(|error| {
        Greeting::Failed(format!(
            "what the job says of its state cannot be read: {error}; its crate `weir` is of another version"
        ))
    })?;
    Ok(Built { graph: Arc::new(graph), hash, states })
}

fn connect(stream: UnixStream) -> (UnboundedSender<to_coordinator::Message>, UnboundedReceiver<Incoming>) {
    let (read, write) = stream.into_split();
    let (outgoing, messages) = unbounded_channel();
    let (tell, incoming) = unbounded_channel();
    tokio::spawn(speak(write, messages));
    tokio::spawn(listen(read, tell));
    (outgoing, incoming)
}

/// Sends until the sender is gone. A connection that breaks is noticed by whoever reads from it.
async fn speak(mut stream: OwnedWriteHalf, mut messages: UnboundedReceiver<to_coordinator::Message>) {
    while let Some(message) = messages.recv().await {
        let frame = proto::ToCoordinator { message: Some(message) };
        if let Err(error) = write_frame(&mut stream, &frame).await {
            tracing::debug!(%error, "a coordinator cannot be told any more");
            return;
        }
    }
}

async fn listen(mut stream: OwnedReadHalf, tell: UnboundedSender<Incoming>) {
    let why = loop {
        let incoming = match read_frame::<proto::ToJobManager>(&mut stream).await {
            Ok(Some(frame)) => frame.message.and_then(from_message),
            Ok(None) => break None,
            // The process died; how it did says more.
            Err(FrameError::Io(_) | FrameError::Truncated { .. }) => break None,
            Err(error) => break Some(error.to_string()),
        };
        if let Some(incoming) = incoming
            && tell.send(Incoming::Message(incoming)).is_err()
        {
            return;
        }
    };
    let _ = tell.send(Incoming::Closed(why));
}

fn from_message(message: to_job_manager::Message) -> Option<FromCoordinator> {
    let result = |error: String| if error.is_empty() { Ok(()) } else { Err(error) };
    match message {
        to_job_manager::Message::Opened(opened) => Some(FromCoordinator::Opened(result(opened.error))),
        to_job_manager::Message::SplitResponse(response) => Some(FromCoordinator::SplitAnswer {
            task: TaskId { vertex: response.vertex, subtask: response.subtask },
            answer: response.encode_to_vec(),
        }),
        to_job_manager::Message::CommitDone(done) => {
            Some(FromCoordinator::CommitDone { checkpoint: done.checkpoint, result: result(done.error) })
        }
        to_job_manager::Message::EnumeratorsSnapshotted(snapshot) => {
            let states = snapshot.enumerators.into_iter().map(|it| (it.vertex, it.state)).collect();
            let result = result(snapshot.error).map(|()| states);
            Some(FromCoordinator::EnumeratorsSnapshotted { checkpoint: snapshot.checkpoint, result })
        }
        to_job_manager::Message::TasksReset(reset) => Some(FromCoordinator::TasksReset(result(reset.error))),
        // Said once, before this; or nothing that anybody waits for.
        to_job_manager::Message::Hello(_)
        | to_job_manager::Message::Failed(_)
        | to_job_manager::Message::Discarded(_) => None,
    }
}

/// `None`: not a message, but something to be done to the process.
fn to_message(message: ToCoordinator) -> Option<to_coordinator::Message> {
    let task_ref = |task: &TaskId| worker::TaskRef { vertex: task.vertex, subtask: task.subtask };
    Some(match message {
        ToCoordinator::Open { run_id, lost_run_ids, restored } => {
            let restored = restored.map(to_restored);
            to_coordinator::Message::Open(proto::Open { run_id, lost_run_ids, restored })
        }
        ToCoordinator::SplitRequest { task } => {
            to_coordinator::Message::SplitRequest(worker::SplitRequest { vertex: task.vertex, subtask: task.subtask })
        }
        ToCoordinator::SetParallelism(parallelism) => {
            to_coordinator::Message::SetParallelism(proto::SetParallelism { parallelism })
        }
        ToCoordinator::ResetTasks { tasks, restored } => to_coordinator::Message::ResetTasks(proto::ResetTasks {
            tasks: tasks.iter().map(task_ref).collect(),
            restored: restored.map(to_restored),
        }),
        ToCoordinator::SnapshotEnumerators { checkpoint } => {
            to_coordinator::Message::SnapshotEnumerators(proto::SnapshotEnumerators { checkpoint })
        }
        ToCoordinator::CheckpointCompleted { checkpoint } => {
            to_coordinator::Message::CheckpointCompleted(proto::CheckpointCompleted { checkpoint })
        }
        ToCoordinator::Commit { checkpoint, committables } => to_coordinator::Message::Commit(proto::Commit {
            checkpoint,
            committables: committables.into_iter().map(Into::into).collect(),
        }),
        ToCoordinator::Discard => to_coordinator::Message::Discard(proto::Discard {}),
        ToCoordinator::Shutdown | ToCoordinator::Kill | ToCoordinator::Restart => return None,
    })
}

fn to_restored(restored: Restored) -> proto::Restored {
    let enumerators = restored.enumerators.into_iter().map(|(vertex, state)| proto::EnumeratorState { vertex, state });
    proto::Restored {
        checkpoint: restored.checkpoint,
        enumerators: enumerators.collect(),
        committables: restored.committables.into_iter().map(Into::into).collect(),
    }
}
