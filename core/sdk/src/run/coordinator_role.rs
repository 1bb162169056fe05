//! The coordinator role: what a job's executable does when a JobManager starts it to plan the job, to enumerate what its
//! sources read, and to commit what its sinks wrote.

use std::ffi::OsString;
use std::mem::ManuallyDrop;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use std::{env, io, process, thread};

use weir_dataflow::plan::{DriverSide, JobPlan};
use weir_dataflow::source::SplitAnswer;
use weir_model::TaskId;
use weir_proto::coordinator::{self as proto, to_coordinator, to_job_manager};
use weir_proto::roles::COORDINATOR_SOCKET_VARIABLE;
use weir_proto::worker::PROTOCOL_VERSION;
use weir_proto::{FrameError, job_graph_hash, read_frame, write_frame};

use super::coordinator::{self, Commits, Enumerators, Sinks, SplitOrder};
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

/// What the committers are asked for; done in order.
enum CommitOrder {
    Commit,
    Discard,
}

/// What the author made is never dropped: the process ends right after, and a panic in a `Drop` must not change how the job
/// ended.
struct Role {
    plan: ManuallyDrop<JobPlan>,
    sources: coordinator::Sources,
    sinks: ManuallyDrop<Sinks>,
    link: Link,
    commits: Commits,
    commit_orders: Sender<CommitOrder>,
    /// Once the inputs are open.
    split_orders: Option<Sender<SplitOrder>>,
}

impl Role {
    fn new(plan: JobPlan, side: DriverSide, link: Link) -> io::Result<Role> {
        let sources = coordinator::Sources::new(Mutex::new(side.sources));
        std::mem::forget(sources.clone());
        let commits = Commits::default();
        let (commit_orders, orders) = channel();
        serve_commits(commits.clone(), orders, link.clone())?;
        let (plan, sinks) = (ManuallyDrop::new(plan), ManuallyDrop::new(side.sinks));
        Ok(Role { plan, sources, sinks, link, commits, commit_orders, split_orders: None })
    }

    fn on_message(&mut self, message: to_coordinator::Message) -> Result<(), FrameError> {
        match message {
            to_coordinator::Message::Open(open) => {
                let error = self.open(&open.run_id, &open.lost_run_ids).err().unwrap_or_default();
                self.link.write(to_job_manager::Message::Opened(proto::Opened { error }))
            }
            to_coordinator::Message::SplitRequest(request) => {
                self.on_split_request(TaskId { vertex: request.vertex, subtask: request.subtask })
            }
            to_coordinator::Message::AddCommittables(add) => {
                let task = TaskId { vertex: add.vertex, subtask: add.subtask };
                self.commits.add(task, add.committables.into_iter().map(protocol::committable).collect());
                Ok(())
            }
            to_coordinator::Message::ResetTasks(reset) => {
                self.on_reset(reset.tasks.into_iter().map(protocol::task).collect())
            }
            to_coordinator::Message::Commit(_) => self.order(CommitOrder::Commit),
            to_coordinator::Message::Discard(_) => self.order(CommitOrder::Discard),
            // Ends the loop that calls this.
            to_coordinator::Message::Shutdown(_) => Ok(()),
        }
    }

    /// Looks at every input and takes every output.
    fn open(&mut self, run_id: &str, lost_run_ids: &[String]) -> Result<(), String> {
        if self.split_orders.is_some() {
            return Err("the coordinator was told to open the job twice".into());
        }
        let text = |error: crate::Error| error.to_string();
        let enumerators = author_code("a source", || Enumerators::open(self.sources.clone(), &self.plan.graph));
        let enumerators = enumerators.map_err(text)?;
        lost_run_ids.iter().for_each(|lost| coordinator::discard_lost(&self.sinks, lost));
        author_code("a sink", || self.commits.open(&self.sinks, run_id)).map_err(text)?;
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
    fn on_reset(&self, tasks: Vec<TaskId>) -> Result<(), FrameError> {
        self.commits.forget(&tasks);
        let link = self.link.clone();
        let done = move |result: Result<(), String>| {
            let error = result.err().unwrap_or_default();
            link.tell(to_job_manager::Message::TasksReset(proto::TasksReset { error }));
        };
        let Some(orders) = &self.split_orders else {
            done(Ok(()));
            return Ok(());
        };
        // The thread ends only after the connection has, which the next read shows.
        let _ = orders.send(SplitOrder::Reset { tasks, done: Box::new(done) });
        Ok(())
    }

    fn order(&self, order: CommitOrder) -> Result<(), FrameError> {
        // As above.
        let _ = self.commit_orders.send(order);
        Ok(())
    }
}

impl Drop for Role {
    /// Nobody will ask for a commit any more: what is not committed goes.
    fn drop(&mut self) {
        self.commits.discard_within(LAST_RITES);
    }
}

/// Commits and discards until the sender of `orders` is gone.
fn serve_commits(commits: Commits, orders: Receiver<CommitOrder>, link: Link) -> io::Result<()> {
    thread::Builder::new().name("weir-committer".into()).spawn(move || {
        for order in orders {
            let answer = match order {
                CommitOrder::Commit => {
                    let error = commits.commit().err().map(|failure| failure.to_string()).unwrap_or_default();
                    to_job_manager::Message::CommitDone(proto::CommitDone { error })
                }
                CommitOrder::Discard => {
                    commits.discard();
                    to_job_manager::Message::Discarded(proto::Discarded {})
                }
            };
            if !link.tell(answer) {
                return;
            }
        }
    })?;
    Ok(())
}
