//! The coordinator role: what a job's executable does when a JobManager starts it to plan the job, to enumerate what its
//! sources read, and to commit what its sinks wrote.

use std::ffi::OsString;
use std::mem::ManuallyDrop;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use std::{env, io, process};

use weir_dataflow::plan::{DriverSide, JobPlan};
use weir_dataflow::source::SplitAnswer;
use weir_model::TaskId;
use weir_proto::coordinator::{self as proto, to_coordinator, to_job_manager};
use weir_proto::roles::COORDINATOR_SOCKET_VARIABLE;
use weir_proto::worker::PROTOCOL_VERSION;
use weir_proto::{FrameError, job_graph_hash, read_frame, write_frame};

use super::commits::{CommitOrders, Commits};
use super::coordinator::{self, EnumeratorStates, Enumerators, Restored, Sinks, SplitOrder};
use super::{Job, arguments, author_code, build_job, exit, protocol, signals, terminal};

/// How long removing what was written aside may take once nobody waits for it any more.
const LAST_RITES: Duration = Duration::from_secs(5);

/// A coordinator's place in a cluster.
pub(super) struct Seat {
    socket: PathBuf,
}

impl Seat {
    /// The seat a JobManager prepared; `None` when this process was started for something else.
    pub(super) fn from_environment() -> Option<Seat> {
        let socket = PathBuf::from(env::var_os(COORDINATOR_SOCKET_VARIABLE)?);
        // Processes that user code starts are no coordinators.
        // SAFETY: called first thing in `main`, while this is the only thread.
        unsafe { env::remove_var(COORDINATOR_SOCKET_VARIABLE) };
        Some(Seat { socket })
    }
}

/// Runs this process as a job's coordinator until its JobManager says that everything is done, or is gone.
pub(super) fn serve(jobs: &[Job], arguments: Vec<OsString>, seat: &Seat) -> u8 {
    signals::ignore();
    match try_serve(jobs, arguments, seat) {
        Ok(()) => exit::FINISHED,
        Err(error) => {
            terminal::err(format!("coordinator: {error}"));
            exit::FAILED
        }
    }
}

fn try_serve(jobs: &[Job], arguments: Vec<OsString>, seat: &Seat) -> Result<(), Box<dyn std::error::Error>> {
    let stream = UnixStream::connect(&seat.socket)
        .map_err(|e| format!("the JobManager cannot be reached at {} ({e})", seat.socket.display()))?;
    let mut incoming = stream.try_clone()?;
    let link = Link(Arc::new(Mutex::new(stream)));
    let (plan, side) = match build(jobs, arguments) {
        Ok(job) => job,
        Err(message) => {
            terminal::err(&message);
            return Ok(link.write(to_job_manager::Message::Failed(proto::Failed { message }))?);
        }
    };
    link.write(to_job_manager::Message::Hello(proto::Hello {
        protocol_version: PROTOCOL_VERSION,
        pid: process::id(),
        job_graph: Some((&plan.graph).into()),
        job_graph_hash: job_graph_hash(&plan.graph),
        states: plan.state_declarations().encode(),
    }))?;
    let mut role = Role::new(plan, side, link)?;
    while let Some(frame) = read_frame::<proto::ToCoordinator>(&mut incoming)? {
        match frame.message {
            Some(to_coordinator::Message::Shutdown(_)) => return Ok(()),
            Some(message) => role.on_message(message)?,
            // A message of a newer JobManager that this coordinator can do without.
            None => {}
        }
    }
    Err("the JobManager is gone; stopping".into())
}

/// The job as the command line describes it, or why there is none.
fn build(jobs: &[Job], mut arguments: Vec<OsString>) -> Result<(JobPlan, DriverSide), String> {
    // The executable's file is named by its digest, which tells nobody what is used wrongly.
    if let Some(program) = arguments.first_mut() {
        *program = match jobs {
            [job] => job.name.into(),
            _ => "job".into(),
        };
    }
    let parsed = arguments::parse(jobs, arguments).map_err(arguments::Stop::into_message)?;
    let (plan, side, _) = build_job(&jobs[parsed.job], &parsed).map_err(|error| error.to_string())?;
    Ok((plan, side))
}

/// The sending half of the connection to the JobManager.
#[derive(Clone)]
struct Link(Arc<Mutex<UnixStream>>);

impl Link {
    fn write(&self, message: to_job_manager::Message) -> Result<(), FrameError> {
        let mut stream = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        write_frame(&mut *stream, &proto::ToJobManager { message: Some(message) })
    }

    /// Says something from a thread beside the reading one, which notices when the JobManager is gone and ends the process.
    fn tell(&self, message: to_job_manager::Message) -> bool {
        self.write(message).is_ok()
    }
}

/// What the author made is never dropped: the process ends right after, and a panic in a `Drop` must not change how the job
/// ended.
struct Role {
    /// Not looked at any more.
    _plan: ManuallyDrop<JobPlan>,
    /// Number of subtasks by vertex.
    parallelism: Vec<u32>,
    sources: coordinator::Sources,
    sinks: ManuallyDrop<Sinks>,
    link: Link,
    commits: Commits,
    commit_orders: CommitOrders,
    /// Once the inputs are open.
    split_orders: Option<Sender<SplitOrder>>,
}

impl Role {
    fn new(plan: JobPlan, side: DriverSide, link: Link) -> io::Result<Role> {
        let sources = coordinator::Sources::new(Mutex::new(side.sources));
        std::mem::forget(sources.clone());
        let commits = Commits::default();
        let commit_orders = commits.serve()?;
        let parallelism = plan.graph.parallelism();
        let (plan, sinks) = (ManuallyDrop::new(plan), ManuallyDrop::new(side.sinks));
        Ok(Role { _plan: plan, parallelism, sources, sinks, link, commits, commit_orders, split_orders: None })
    }

    fn on_message(&mut self, message: to_coordinator::Message) -> Result<(), FrameError> {
        match message {
            to_coordinator::Message::Open(open) => {
                let error = self.open(open).err().unwrap_or_default();
                self.link.write(to_job_manager::Message::Opened(proto::Opened { error }))
            }
            to_coordinator::Message::SplitRequest(request) => {
                self.on_split_request(TaskId { vertex: request.vertex, subtask: request.subtask })
            }
            to_coordinator::Message::SnapshotEnumerators(asked) => self.on_snapshot(asked.checkpoint),
            to_coordinator::Message::CheckpointCompleted(completed) => {
                if let Some(orders) = &self.split_orders {
                    // The thread ends only after the connection has, which the next read shows.
                    let _ = orders.send(SplitOrder::Completed { checkpoint: completed.checkpoint });
                }
                Ok(())
            }
            to_coordinator::Message::SetParallelism(set) => {
                self.set_parallelism(set.parallelism);
                Ok(())
            }
            to_coordinator::Message::ResetTasks(reset) => self.on_reset(reset),
            to_coordinator::Message::Commit(commit) => {
                self.on_commit(commit);
                Ok(())
            }
            to_coordinator::Message::Discard(_) => {
                let link = self.link.clone();
                let done = move || {
                    link.tell(to_job_manager::Message::Discarded(proto::Discarded {}));
                };
                self.commit_orders.discard(done);
                Ok(())
            }
            // Ends the loop that calls this.
            to_coordinator::Message::Shutdown(_) => Ok(()),
        }
    }

    /// Looks at every input and takes every output.
    fn open(&mut self, open: proto::Open) -> Result<(), String> {
        if self.split_orders.is_some() {
            return Err("the coordinator was told to open the job twice".into());
        }
        let restored = open.restored.map(restored);
        let text = |error: crate::Error| error.to_string();
        let enumerators = author_code("a source", || {
            Enumerators::open(self.sources.clone(), self.parallelism.clone(), restored.as_ref())
        });
        let enumerators = enumerators.map_err(text)?;
        author_code("a sink", || self.commits.open(&self.sinks, &open.run_id, &open.lost_run_ids, restored.as_ref()))
            .map_err(text)?;
        let (orders, receiver) = channel();
        let link = self.link.clone();
        let answer = move |task, answer| {
            link.tell(to_job_manager::Message::SplitResponse(protocol::split_response(task, answer)))
        };
        coordinator::serve_splits(enumerators, receiver, answer)
            .map_err(|e| format!("no thread could be started for the sources ({e})"))?;
        self.split_orders = Some(orders);
        Ok(())
    }

    fn set_parallelism(&mut self, parallelism: Vec<u32>) {
        if parallelism.len() != self.parallelism.len() {
            // Of another graph; the workers' answer to the deployment says so.
            return;
        }
        self.parallelism = parallelism.clone();
        if let Some(orders) = &self.split_orders {
            // The thread ends only after the connection has, which the next read shows.
            let _ = orders.send(SplitOrder::SetParallelism(parallelism));
        }
    }

    fn on_snapshot(&self, checkpoint: u64) -> Result<(), FrameError> {
        self.commits.keep();
        let link = self.link.clone();
        let done = move |result: EnumeratorStates| {
            let (enumerators, error) = match result {
                Ok(states) => (states, String::new()),
                Err(error) => (Vec::new(), error),
            };
            let enumerators = enumerators.into_iter().map(|(vertex, state)| proto::EnumeratorState { vertex, state });
            let answer = proto::EnumeratorsSnapshotted { checkpoint, error, enumerators: enumerators.collect() };
            link.tell(to_job_manager::Message::EnumeratorsSnapshotted(answer));
        };
        match &self.split_orders {
            // As above.
            Some(orders) => drop(orders.send(SplitOrder::Snapshot { checkpoint, done: Box::new(done) })),
            None => done(Err("the job's sources are not open".into())),
        }
        Ok(())
    }

    fn on_split_request(&self, task: TaskId) -> Result<(), FrameError> {
        let sent = self.split_orders.as_ref().is_some_and(|orders| orders.send(SplitOrder::Next(task)).is_ok());
        if sent {
            return Ok(());
        }
        let answer = SplitAnswer::Failed("the job's sources are not open".into());
        self.link.write(to_job_manager::Message::SplitResponse(protocol::split_response(task, answer)))
    }

    /// Behind the split requests that came before, so that what these were answered is given back too; and their answers are
    /// written before this one's.
    fn on_reset(&self, reset: proto::ResetTasks) -> Result<(), FrameError> {
        let tasks: Vec<TaskId> = reset.tasks.into_iter().map(Into::into).collect();
        let link = self.link.clone();
        let done = move |result: Result<(), String>| {
            let error = result.err().unwrap_or_default();
            link.tell(to_job_manager::Message::TasksReset(proto::TasksReset { error }));
        };
        let Some(orders) = self.split_orders.clone() else {
            done(Ok(()));
            return Ok(());
        };
        let mut restored = reset.restored.map(restored);
        let commit = match &mut restored {
            Some(restored) if tasks.is_empty() => {
                Some((restored.checkpoint, std::mem::take(&mut restored.committables)))
            }
            // What the others have prepared is being committed anyway.
            _ => None,
        };
        let order = move |orders: Sender<SplitOrder>| {
            // The thread ends only after the connection has, which the next read shows.
            let _ = orders.send(SplitOrder::Reset { tasks, restored, done: Box::new(done) });
        };
        match commit {
            Some((checkpoint, committables)) if !committables.is_empty() => {
                let link = self.link.clone();
                self.commit_orders.commit(Some(checkpoint), committables, move |result| match result {
                    Ok(()) => order(orders),
                    Err(failure) => {
                        let error = failure.to_string();
                        link.tell(to_job_manager::Message::TasksReset(proto::TasksReset { error }));
                    }
                });
            }
            _ => order(orders),
        }
        Ok(())
    }

    fn on_commit(&self, commit: proto::Commit) {
        let (link, checkpoint) = (self.link.clone(), commit.checkpoint);
        let committables = commit.committables.into_iter().map(Into::into).collect();
        self.commit_orders.commit(checkpoint, committables, move |result| {
            let error = result.err().map(|failure| failure.to_string()).unwrap_or_default();
            link.tell(to_job_manager::Message::CommitDone(proto::CommitDone { checkpoint, error }));
        });
    }
}

fn restored(message: proto::Restored) -> Restored {
    Restored {
        checkpoint: message.checkpoint,
        enumerators: message.enumerators.into_iter().map(|one| (one.vertex, one.state)).collect(),
        committables: message.committables.into_iter().map(Into::into).collect(),
    }
}

impl Drop for Role {
    /// Nobody will ask for a commit any more: what is not committed goes, unless somebody may go on from a checkpoint.
    fn drop(&mut self) {
        self.commits.discard_unless_kept(LAST_RITES);
    }
}
