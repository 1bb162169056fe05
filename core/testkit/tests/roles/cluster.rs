//! A JobManager and a TaskManager reduced to what the roles of a job's executable see of them.

use std::collections::BTreeMap;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use weir_model::{ExecutionState, JobGraph, MetricsSnapshot, Placement, TaskId};
use weir_proto::coordinator::{self, ToCoordinator, ToJobManager, to_coordinator, to_job_manager};
use weir_proto::worker::{self, ToDriver, ToWorker, to_driver, to_worker};
use weir_proto::{read_frame, roles, write_frame};

/// Generous: it only bounds what has gone wrong.
pub const PATIENCE: Duration = Duration::from_secs(30);

pub const RUN_ID: &str = "run-of-a-test";

pub fn task(vertex: u32, subtask: u32) -> TaskId {
    TaskId { vertex, subtask }
}

/// A process of a job in a role; killed when dropped.
pub struct Role {
    child: Child,
    pub stream: UnixStream,
    stderr: PathBuf,
}

impl Role {
    /// Starts the executable and waits until it connects, or has ended.
    fn start(
        folder: &Path,
        words: &[&str],
        variables: &[(&str, &str)],
        socket: &str,
    ) -> Result<Role, (ExitStatus, String)> {
        static NEXT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let number = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let path = folder.join(format!("socket-{number}"));
        let stderr = folder.join(format!("stderr-{number}"));
        let listener = UnixListener::bind(&path).unwrap();
        listener.set_nonblocking(true).unwrap();
        let mut child = Command::new(env!("CARGO_BIN_EXE_weir-test-jobs"))
            .args(words)
            .env(socket, &path)
            .envs(variables.iter().copied())
            .env(roles::CORES_VARIABLE, "2")
            .env_remove("RUST_BACKTRACE")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(&stderr).unwrap())
            .spawn()
            .unwrap();
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Ok((stream, _)) = listener.accept() {
                stream.set_nonblocking(false).unwrap();
                stream.set_read_timeout(Some(PATIENCE)).unwrap();
                return Ok(Role { child, stream, stderr });
            }
            if let Some(status) = child.try_wait().unwrap() {
                return Err((status, std::fs::read_to_string(stderr).unwrap()));
            }
            assert!(Instant::now() < deadline, "{words:?} neither connected nor ended");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// How it ended.
    pub fn wait(&mut self) -> ExitStatus {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < deadline, "the process goes on: {}", self.stderr());
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    pub fn stderr(&self) -> String {
        std::fs::read_to_string(&self.stderr).unwrap()
    }
}

impl Drop for Role {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A coordinator that was started.
pub struct Coordinator {
    pub role: Role,
    /// What its sinks have to commit, by task.
    prepared: BTreeMap<TaskId, Vec<worker::Committable>>,
}

impl Coordinator {
    /// Starts one and hears its first words, if it has any.
    pub fn start(folder: &Path, words: &[&str]) -> (Coordinator, Option<to_job_manager::Message>) {
        let role = Role::start(folder, words, &[], roles::COORDINATOR_SOCKET_VARIABLE).unwrap();
        let mut coordinator = Coordinator { role, prepared: BTreeMap::new() };
        let first = coordinator.read();
        (coordinator, first)
    }

    /// One that has planned the job, and the plan.
    pub fn planned(folder: &Path, words: &[&str]) -> (Coordinator, JobGraph, u64) {
        let (coordinator, first) = Self::start(folder, words);
        let Some(to_job_manager::Message::Hello(hello)) = first else { panic!("{first:?} is no greeting") };
        assert_eq!(hello.protocol_version, worker::PROTOCOL_VERSION);
        (coordinator, hello.job_graph.unwrap().try_into().unwrap(), hello.job_graph_hash)
    }

    /// One that has opened inputs and outputs.
    pub fn opened(folder: &Path, words: &[&str]) -> (Coordinator, JobGraph, u64) {
        let (mut coordinator, graph, hash) = Self::planned(folder, words);
        assert_eq!(coordinator.open(), "");
        (coordinator, graph, hash)
    }

    pub fn pid(&self) -> u32 {
        self.role.child.id()
    }

    pub fn open(&mut self) -> String {
        self.say(to_coordinator::Message::Open(coordinator::Open {
            run_id: RUN_ID.to_owned(),
            lost_run_ids: Vec::new(),
            restored: None,
        }));
        self.await_that(|message| match message {
            to_job_manager::Message::Opened(opened) => Ok(opened.error),
            other => Err(Box::new(other)),
        })
    }

    pub fn say(&mut self, message: to_coordinator::Message) {
        write_frame(&mut self.role.stream, &ToCoordinator { message: Some(message) }).unwrap();
    }

    /// The next message; `None` when it has ended.
    pub fn read(&mut self) -> Option<to_job_manager::Message> {
        read_frame::<ToJobManager>(&mut self.role.stream).unwrap_or(None)?.message
    }

    fn await_that<R>(
        &mut self,
        wanted: impl FnOnce(to_job_manager::Message) -> Result<R, Box<to_job_manager::Message>>,
    ) -> R {
        let message = self.read().unwrap_or_else(|| panic!("it ended: {}", self.role.stderr()));
        wanted(message).unwrap_or_else(|other| panic!("it said {other:?}"))
    }

    /// What a source task is answered.
    pub fn split(&mut self, task: TaskId) -> worker::SplitResponse {
        self.say(to_coordinator::Message::SplitRequest(worker::SplitRequest {
            vertex: task.vertex,
            subtask: task.subtask,
        }));
        self.await_that(|message| match message {
            to_job_manager::Message::SplitResponse(response) => Ok(response),
            other => Err(Box::new(other)),
        })
    }

    pub fn add(&mut self, task: TaskId, committables: Vec<worker::Committable>) {
        self.prepared.entry(task).or_default().extend(committables);
    }

    pub fn reset(&mut self, tasks: &[TaskId]) {
        self.prepared.retain(|task, _| !tasks.is_empty() && !tasks.contains(task));
        let reset = coordinator::ResetTasks { tasks: task_refs(tasks), restored: None };
        self.say(to_coordinator::Message::ResetTasks(reset));
        let error = self.await_that(|message| match message {
            to_job_manager::Message::TasksReset(reset) => Ok(reset.error),
            other => Err(Box::new(other)),
        });
        assert_eq!(error, "");
    }

    pub fn commit(&mut self) -> String {
        let committables = self.prepared.values().flatten().cloned().collect();
        self.say(to_coordinator::Message::Commit(coordinator::Commit { checkpoint: None, committables }));
        self.await_that(|message| match message {
            to_job_manager::Message::CommitDone(done) => Ok(done.error),
            other => Err(Box::new(other)),
        })
    }

    pub fn leave(&mut self) {
        self.say(to_coordinator::Message::Shutdown(coordinator::Shutdown {}));
        assert_eq!(self.role.wait().code(), Some(0), "{}", self.role.stderr());
    }
}

fn task_refs(tasks: &[TaskId]) -> Vec<worker::TaskRef> {
    tasks.iter().map(|task| worker::TaskRef { vertex: task.vertex, subtask: task.subtask }).collect()
}

/// A worker that was started, and what it has told.
pub struct Worker {
    pub role: Role,
    pub hello: worker::Hello,
    /// Every state its tasks have entered, in order.
    pub changes: Vec<worker::TaskStateChanged>,
    /// The metrics last reported.
    pub metrics: BTreeMap<TaskId, MetricsSnapshot>,
}

impl Worker {
    pub fn start(folder: &Path, words: &[&str], index: u32) -> Worker {
        Self::try_start(folder, words, index, &[]).unwrap_or_else(|(status, said)| panic!("{status}: {said}"))
    }

    pub fn try_start(
        folder: &Path,
        words: &[&str],
        index: u32,
        more: &[(&str, &str)],
    ) -> Result<Worker, (ExitStatus, String)> {
        let token = roles::token_to_hex(&[7; roles::TOKEN_BYTES]);
        let number = index.to_string();
        let mut variables =
            vec![(roles::WORKER_INDEX_VARIABLE, number.as_str()), (roles::WORKER_TOKEN_VARIABLE, token.as_str())];
        variables.extend(more);
        let mut role = Role::start(folder, words, &variables, roles::WORKER_SOCKET_VARIABLE)?;
        let first = read_frame::<ToDriver>(&mut role.stream).unwrap().unwrap().message;
        let Some(to_driver::Message::Hello(hello)) = first else { panic!("{first:?} is no greeting") };
        Ok(Worker { role, hello, changes: Vec::new(), metrics: BTreeMap::new() })
    }

    pub fn say(&mut self, message: to_worker::Message) {
        // One that has ended is found out by the next read.
        let _ = write_frame(&mut self.role.stream, &ToWorker { message: Some(message) });
    }

    pub fn deploy(&mut self, placement: &Placement, addresses: &[String], hash: u64, deployment: u32) {
        let peer = |(worker, address): (u32, &String)| worker::WorkerAddress { worker, data_address: address.clone() };
        let vertices = 0..self.hello.vertices.len() as u32;
        self.say(to_worker::Message::Deploy(worker::Deploy {
            peers: (0..).zip(addresses).map(peer).collect(),
            placements: vertices
                .map(|v| worker::VertexPlacement::from_workers(v, placement.workers_of_vertex(v)))
                .collect(),
            job_graph_hash: hash,
            run_id: RUN_ID.to_owned(),
            deployment,
        }));
    }

    pub fn cancel(&mut self, tasks: &[TaskId]) {
        self.say(to_worker::Message::Cancel(worker::Cancel { tasks: task_refs(tasks) }));
    }

    /// Reads the next message and notes it; a split request is answered by the coordinator.
    pub fn step(&mut self, coordinator: &mut Coordinator) {
        match read_frame::<ToDriver>(&mut self.role.stream).unwrap().and_then(|frame| frame.message) {
            Some(to_driver::Message::TaskStateChanged(change)) => self.changes.push(change),
            Some(to_driver::Message::SplitRequest(request)) => {
                let answer = coordinator.split(task(request.vertex, request.subtask));
                self.say(to_worker::Message::SplitResponse(answer));
            }
            Some(to_driver::Message::MetricsReport(report)) => {
                assert!(!report.tasks.is_empty(), "a report about nothing");
                for m in report.tasks {
                    let (task, snapshot) = m.snapshot();
                    self.metrics.insert(task, snapshot);
                }
            }
            Some(
                other @ (to_driver::Message::CheckpointAcknowledged(_) | to_driver::Message::CheckpointDeclined(_)),
            ) => panic!("there is no checkpoint: {other:?}"),
            Some(to_driver::Message::Hello(_)) => panic!("a second greeting"),
            None => panic!("the worker ended: {}", self.role.stderr()),
        }
    }

    /// The state each task has last entered.
    pub fn states(&self) -> BTreeMap<TaskId, ExecutionState> {
        self.changes.iter().map(|change| (change.task(), change.execution_state().unwrap())).collect()
    }

    /// Follows it until all these tasks are in `state`.
    pub fn await_states(&mut self, coordinator: &mut Coordinator, tasks: &[TaskId], state: ExecutionState) {
        let deadline = Instant::now() + PATIENCE;
        while !tasks.iter().all(|task| self.states().get(task) == Some(&state)) {
            assert!(Instant::now() < deadline, "{tasks:?} did not become {state:?}: {:?}", self.states());
            self.step(coordinator);
        }
    }

    /// Hands what its tasks want committed to the coordinator.
    pub fn hand_over_committables(&self, coordinator: &mut Coordinator) {
        for change in &self.changes {
            if change.state() == worker::ExecutionState::Finished {
                coordinator.add(change.task(), change.committables.clone());
            }
        }
    }

    pub fn leave(&mut self) {
        self.say(to_worker::Message::Shutdown(worker::Shutdown {}));
        assert_eq!(self.role.wait().code(), Some(0), "{}", self.role.stderr());
    }
}
