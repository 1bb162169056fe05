//! One large job on many simulated TaskManagers, to see how long the JobManager takes for it and how much memory.
//!
//! The machines are the real ones, and so are the bytes of every message. TaskManagers are as small as can be: they hold nothing,
//! and what they say is made up when it arrives.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use prost::Message as _;
use weir_checkpoint::{CheckpointOptions, StateDeclarations};
use weir_jobmaster::{
    FromCoordinator, JobMaster, JobMasterEffect, JobMasterEvent, JobMasterOptions, JobSpec, ToCoordinator,
};
use weir_model::{
    Artifact, ArtifactId, DeploymentId, ExecutionState, FromTaskManager, JobGraph, JobId, JobStatus, Launch,
    LeaderEpoch, Partitioner, TaskChange, TaskId, TaskManagerId, TaskManagerInfo, ToTaskManager,
};
use weir_proto::control::{ForJobManager, ForTaskManager, encode_plan};
use weir_resourcemanager::{
    Effect as ResourceManagerEffect, Event as ResourceManagerEvent, ResourceManager, ResourceManagerOptions,
};

use super::START;
use super::scenario::job_graph;

/// How large.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scale {
    /// Number of TaskManagers.
    pub task_managers: u32,
    /// Slots of each.
    pub slots: u32,
    /// Vertices of the job, connected all-to-all.
    pub vertices: u32,
    /// Subtasks of each vertex; they share as many slots.
    pub parallelism: u32,
}

/// What was measured.
#[derive(Debug, Clone, PartialEq)]
pub struct ScaleReport {
    /// What was asked for.
    pub scale: Scale,
    /// Deployments: one when nothing fails.
    pub deployments: u32,
    /// Messages to TaskManagers.
    pub messages: u64,
    /// Bytes of them.
    pub bytes: u64,
    /// Real time until all TaskManagers had registered.
    pub registered: Duration,
    /// Real time from the job's start until all tasks were RUNNING.
    pub running: Duration,
    /// Real time from there to the job's end.
    pub finished: Duration,
    /// Virtual time from the job's start to its end.
    pub virtual_time: Duration,
    /// Resident bytes of the process before there was anything.
    pub memory_before: u64,
    /// What was added when all TaskManagers had registered.
    pub memory_registered: u64,
    /// What was added when all tasks were RUNNING: all of the JobManager.
    pub memory_running: u64,
    /// The most at any time, what was there before included.
    pub memory_peak: u64,
}

impl ScaleReport {
    /// Number of tasks.
    pub fn tasks(&self) -> u64 {
        u64::from(self.scale.vertices) * u64::from(self.scale.parallelism)
    }

    /// Measure, value, unit.
    pub fn rows(&self) -> Vec<(&'static str, f64, &'static str)> {
        let mebibytes = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        vec![
            ("scale.taskmanagers", f64::from(self.scale.task_managers), "1"),
            ("scale.tasks", self.tasks() as f64, "1"),
            ("scale.deployments", f64::from(self.deployments), "1"),
            ("scale.messages", self.messages as f64, "1"),
            ("scale.message-bytes", mebibytes(self.bytes), "MiB"),
            ("scale.register", self.registered.as_secs_f64(), "s"),
            ("scale.deploy", self.running.as_secs_f64(), "s"),
            ("scale.finish", self.finished.as_secs_f64(), "s"),
            ("scale.virtual-time", self.virtual_time.as_secs_f64(), "s"),
            ("scale.memory-before", mebibytes(self.memory_before), "MiB"),
            ("scale.jobmanager-memory-registered", mebibytes(self.memory_registered), "MiB"),
            ("scale.jobmanager-memory-running", mebibytes(self.memory_running), "MiB"),
            ("scale.memory-peak", mebibytes(self.memory_peak), "MiB"),
        ]
    }
}

impl fmt::Display for ScaleReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (measure, value, unit) in self.rows() {
            writeln!(f, "{measure:<36} {value:>12.3} {unit}")?;
        }
        Ok(())
    }
}

/// Runs a job of that size to its end. Fails if it does not end as it should.
pub fn run(scale: Scale) -> Result<ScaleReport, String> {
    let (memory_before, _) = resident()?;
    let mut cluster = Cluster::new(scale);
    let start = Instant::now();
    cluster.register_all();
    let registered = start.elapsed();
    let memory_registered = resident()?.0.saturating_sub(memory_before);
    let start = Instant::now();
    cluster.start_job()?;
    cluster.run_until(|cluster| cluster.count(ExecutionState::Running) == cluster.tasks());
    let running = start.elapsed();
    if cluster.count(ExecutionState::Running) != cluster.tasks() {
        return Err(format!("{} of {} tasks run", cluster.count(ExecutionState::Running), cluster.tasks()));
    }
    let memory_running = resident()?.0.saturating_sub(memory_before);
    let start = Instant::now();
    cluster.finish_all();
    cluster.run_until(|cluster| cluster.ended.is_some());
    let finished = start.elapsed();
    if cluster.ended != Some(JobStatus::Finished) {
        return Err(format!("the job ended as {:?}", cluster.ended));
    }
    let (_, memory_peak) = resident()?;
    let virtual_time = cluster.now - START;
    let (deployments, messages, bytes) = (cluster.plans.len() as u32, cluster.messages, cluster.bytes);
    Ok(ScaleReport {
        scale,
        deployments,
        messages,
        bytes,
        registered,
        running,
        finished,
        virtual_time,
        memory_before,
        memory_registered,
        memory_running,
        memory_peak,
    })
}

/// Resident bytes of this process, now and at most so far.
fn resident() -> Result<(u64, u64), String> {
    let status = std::fs::read_to_string("/proc/self/status").map_err(|e| format!("/proc/self/status: {e}"))?;
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        line.split_whitespace().next()?.parse::<u64>().ok().map(|kibibytes| kibibytes * 1024)
    };
    let missing = || "/proc/self/status does not say how much memory the process has".to_owned();
    Ok((field("VmRSS:").ok_or_else(missing)?, field("VmHWM:").ok_or_else(missing)?))
}

/// What a TaskManager does next, by its position.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Next {
    /// Its worker is ready.
    Ready,
    /// All tasks of its worker are INITIALIZING.
    Initializing,
    Running,
    Finished,
}

struct Cluster {
    scale: Scale,
    graph: Arc<JobGraph>,
    now: Duration,
    resource_manager: ResourceManager,
    job_master: Option<JobMaster>,
    /// What the machines still have to be told.
    inbox: VecDeque<Inner>,
    /// What comes when: from which TaskManager, about which deployment.
    agenda: BinaryHeap<Reverse<(Duration, u32, Next, u32)>>,
    /// By deployment: its plan as bytes, and the tasks of each worker.
    plans: BTreeMap<u32, Plan>,
    /// Worker of each TaskManager in the last deployment.
    worker_of: Vec<u32>,
    messages: u64,
    bytes: u64,
    ended: Option<JobStatus>,
}

struct Plan {
    bytes: prost::bytes::Bytes,
    tasks: Vec<Vec<TaskId>>,
}

enum Inner {
    ResourceManager(ResourceManagerEvent),
    Job(JobMasterEvent),
}

const JOB: JobId = JobId::from_bytes([1; 16]);
const EPOCH: LeaderEpoch = LeaderEpoch(1);
/// From one process to another.
const DELAY: Duration = Duration::from_millis(1);
/// From the order to start a worker until it is ready.
const WORKER_START: Duration = Duration::from_millis(20);

impl Cluster {
    fn new(scale: Scale) -> Self {
        let parallelisms = vec![scale.parallelism; scale.vertices as usize];
        let edges: Vec<_> = (1..scale.vertices).map(|target| (target - 1, target, Partitioner::Hash)).collect();
        Self {
            scale,
            graph: Arc::new(job_graph("large", &parallelisms, &edges, true)),
            now: START,
            resource_manager: ResourceManager::new(ResourceManagerOptions::default()),
            job_master: None,
            inbox: VecDeque::new(),
            agenda: BinaryHeap::new(),
            plans: BTreeMap::new(),
            worker_of: vec![0; scale.task_managers as usize],
            messages: 0,
            bytes: 0,
            ended: None,
        }
    }

    fn tasks(&self) -> u32 {
        self.scale.vertices * self.scale.parallelism
    }

    fn count(&self, state: ExecutionState) -> u32 {
        self.job_master.as_ref().map_or(0, |master| master.summary().tasks[state as usize])
    }

    fn register_all(&mut self) {
        for number in 0..self.scale.task_managers {
            let info = TaskManagerInfo {
                id: name(number),
                incarnation: u64::from(number),
                slots: self.scale.slots,
                host: format!("host-{number}.example.org"),
                metrics_port: 9249,
                pid: 1,
                memory: 4 << 30,
                cpu_cores: 8,
                physical_memory: 64 << 30,
                version: env!("CARGO_PKG_VERSION").to_owned(),
            };
            self.inbox.push_back(Inner::ResourceManager(ResourceManagerEvent::TaskManagerRegistered(info)));
            self.settle();
        }
    }

    fn start_job(&mut self) -> Result<(), String> {
        let launch = Launch {
            artifact: Artifact { id: ArtifactId::from_bytes([1; 32]), size: 1 << 20, name: "large".to_owned() },
            job_name: "large".to_owned(),
            arguments: Vec::new(),
            environment: Vec::new(),
            token: [1; 32],
        };
        let spec = JobSpec {
            id: JOB,
            graph: Arc::clone(&self.graph),
            job_graph_hash: 7,
            launch: Arc::new(launch),
            configuration: BTreeMap::new(),
            checkpointing: CheckpointOptions::default(),
            states: StateDeclarations::default(),
            restore: None,
        };
        let master = JobMaster::new(spec, JobMasterOptions::default(), self.now).map_err(|error| error.to_string())?;
        self.job_master = Some(master);
        self.inbox.push_back(Inner::Job(JobMasterEvent::Start));
        self.settle();
        Ok(())
    }

    fn finish_all(&mut self) {
        let deployment = self.plans.keys().next_back().copied().unwrap_or_default();
        for number in 0..self.scale.task_managers {
            self.agenda.push(Reverse((self.now + DELAY, number, Next::Finished, deployment)));
        }
    }

    fn run_until(&mut self, over: impl Fn(&Cluster) -> bool) {
        while !over(self) {
            let Some(Reverse((at, number, next, deployment))) = self.agenda.pop() else { break };
            self.now = self.now.max(at);
            self.hear(number, next, deployment);
        }
    }

    /// What a TaskManager says arrives, as bytes.
    fn hear(&mut self, number: u32, next: Next, deployment: u32) {
        let deployment = DeploymentId { job: JOB, number: deployment };
        let message = match next {
            Next::Ready => {
                let host = [10, (number >> 16) as u8, (number >> 8) as u8, number as u8];
                FromTaskManager::WorkerReady { deployment, data_address: (host, 40_000).into(), pid: 2 }
            }
            Next::Initializing => self.changed(number, deployment, ExecutionState::Initializing),
            Next::Running => self.changed(number, deployment, ExecutionState::Running),
            Next::Finished => self.changed(number, deployment, ExecutionState::Finished),
        };
        let bytes = ForJobManager::Worker(message).into_message(EPOCH).encode_to_vec();
        let decoded = weir_proto::control::FromTaskManager::decode(bytes.as_slice()).ok();
        let decoded = decoded.and_then(|message| ForJobManager::from_message(message).ok().flatten());
        let Some((_, ForJobManager::Worker(message))) = decoded else { return };
        self.inbox.push_back(Inner::Job(JobMasterEvent::TaskManager { id: name(number), message }));
        self.settle();
        if next == Next::Initializing {
            self.agenda.push(Reverse((self.now + DELAY, number, Next::Running, deployment.number)));
        }
    }

    fn changed(&self, number: u32, deployment: DeploymentId, state: ExecutionState) -> FromTaskManager {
        let tasks = &self.plans[&deployment.number].tasks[self.worker_of[number as usize] as usize];
        let change = |task: &TaskId| TaskChange { task: *task, state, failure: None, committables: Vec::new() };
        FromTaskManager::TasksChanged { deployment, changes: tasks.iter().map(change).collect() }
    }

    fn settle(&mut self) {
        while let Some(inner) = self.inbox.pop_front() {
            match inner {
                Inner::ResourceManager(event) => {
                    for effect in self.resource_manager.on_event(event, self.now) {
                        if let ResourceManagerEffect::TellJob { message, .. } = effect {
                            self.inbox.push_back(Inner::Job(JobMasterEvent::ResourceManager(message)));
                        }
                    }
                }
                Inner::Job(event) => {
                    let now = self.now;
                    let Some(master) = self.job_master.as_mut() else { continue };
                    for effect in master.on_event(event, now) {
                        self.perform(effect);
                    }
                }
            }
        }
    }

    fn perform(&mut self, effect: JobMasterEffect) {
        match effect {
            JobMasterEffect::TaskManager { id, message } => self.send(&id, message),
            JobMasterEffect::ResourceManager(message) => {
                self.inbox.push_back(Inner::ResourceManager(ResourceManagerEvent::Job(message)));
            }
            JobMasterEffect::Coordinator(message) => {
                let answer = match message {
                    ToCoordinator::Open { .. } => FromCoordinator::Opened(Ok(())),
                    ToCoordinator::Commit { checkpoint, .. } => {
                        FromCoordinator::CommitDone { checkpoint, result: Ok(()) }
                    }
                    ToCoordinator::ResetTasks { .. } => FromCoordinator::TasksReset(Ok(())),
                    _ => return,
                };
                self.inbox.push_back(Inner::Job(JobMasterEvent::Coordinator(answer)));
            }
            JobMasterEffect::Ended(report) => self.ended = Some(report.status),
            // Nothing goes wrong here, so no time runs out; and there are no checkpoints.
            JobMasterEffect::ScheduleTimer { .. }
            | JobMasterEffect::StatusChanged { .. }
            | JobMasterEffect::WriteMetadata { .. }
            | JobMasterEffect::Remove { .. }
            | JobMasterEffect::RequestDone { .. }
            | JobMasterEffect::Note(_)
            | JobMasterEffect::Warning(_) => {}
        }
    }

    /// Sends as bytes, and plans what the TaskManager will say to it.
    fn send(&mut self, id: &TaskManagerId, message: ToTaskManager) {
        let number = id.as_str().trim_start_matches("taskmanager-").parse::<u32>().unwrap_or_default();
        let deployment = message.deployment().number;
        let next = match &message {
            ToTaskManager::StartWorker(start) => {
                self.worker_of[number as usize] = start.worker;
                Some((WORKER_START, Next::Ready))
            }
            ToTaskManager::Deploy { plan, .. } => {
                self.plans.entry(deployment).or_insert_with(|| {
                    let mut tasks = vec![Vec::new(); plan.peers.len()];
                    for task in plan.placement.tasks() {
                        tasks[plan.placement.worker_of(task) as usize].push(task);
                    }
                    Plan { bytes: encode_plan(plan), tasks }
                });
                Some((DELAY, Next::Initializing))
            }
            _ => None,
        };
        if let Some((delay, next)) = next {
            self.agenda.push(Reverse((self.now + delay, number, next, deployment)));
        }
        let plans = &self.plans;
        let message = ForTaskManager::from_model(message, |_| plans[&deployment].bytes.clone());
        self.messages += 1;
        self.bytes += message.into_message(EPOCH).encode_to_vec().len() as u64;
    }
}

fn name(number: u32) -> TaskManagerId {
    TaskManagerId::new(format!("taskmanager-{number}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_on_many_task_managers_runs_to_its_end() {
        let scale = Scale { task_managers: 50, slots: 2, vertices: 3, parallelism: 100 };
        let report = run(scale).expect("nothing goes wrong");
        assert_eq!((report.tasks(), report.deployments), (300, 1));
        // A worker to start, tasks to deploy, a worker to release.
        assert_eq!(report.messages, 150);
        assert!(report.to_string().contains("scale.deploy"), "{report}");
    }
}
