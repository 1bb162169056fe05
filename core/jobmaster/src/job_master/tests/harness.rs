//! A JobMaster and what tests say to it.

use core::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use weir_checkpoint::{CheckpointOptions, OperatorDeclaration, StateDeclarations};
use weir_model::{
    Artifact, ArtifactId, Committable, DeploymentId, ExecutionState, FailureKind, FromResourceManager, FromTaskManager,
    JobGraph, JobId, JobStatus, JobVertex, Launch, Partitioner, SlotGrant, SlotId, TaskChange, TaskFailure, TaskId,
    ToResourceManager, ToTaskManager,
};

use crate::testing::{chain, task_manager};
use crate::{
    FromCoordinator, JobMaster, JobMasterEffect, JobMasterEvent, JobMasterOptions, JobReport, JobSpec, RestartStrategy,
    ToCoordinator,
};

pub(super) const NOW: Duration = Duration::from_secs(1_000_000);
pub(super) const DELAY: Duration = Duration::from_secs(5);

pub(super) fn job_id() -> JobId {
    JobId::from_bytes([7; 16])
}

pub(super) fn task(vertex: u32, subtask: u32) -> TaskId {
    TaskId { vertex, subtask }
}

pub(super) fn spec(graph: JobGraph) -> JobSpec {
    let launch = Launch {
        artifact: Artifact { id: ArtifactId::from_bytes([1; 32]), size: 10, name: "job".to_owned() },
        job_name: graph.name.clone(),
        arguments: Vec::new(),
        environment: Vec::new(),
        token: [0; 32],
    };
    JobSpec {
        id: job_id(),
        job_graph_hash: 42,
        launch: Arc::new(launch),
        configuration: Default::default(),
        checkpointing: CheckpointOptions::default(),
        states: states(&graph),
        restore: None,
        graph: Arc::new(graph),
    }
}

/// The first operator of each vertex is the node of its number.
fn states(graph: &JobGraph) -> StateDeclarations {
    let operator = |(node, vertex): (u32, &JobVertex)| OperatorDeclaration {
        node,
        id: vertex.operators[0].id,
        name: vertex.name.clone(),
        uid: None,
        tables: Vec::new(),
        lists: Vec::new(),
    };
    StateDeclarations { operators: (0..).zip(&graph.vertices).map(operator).collect() }
}

pub(super) fn fixed_delay(attempts: u32) -> JobMasterOptions {
    let restart_strategy = RestartStrategy::FixedDelay { attempts, delay: DELAY };
    JobMasterOptions { restart_strategy, ..JobMasterOptions::default() }
}

pub(super) struct Harness {
    pub(super) master: JobMaster,
    pub(super) now: Duration,
    timers: Vec<(Duration, u64)>,
}

/// Two vertices of two subtasks, which need two slots; regions are those of the partitioner.
pub(super) fn harness(partitioner: Partitioner, options: JobMasterOptions) -> Harness {
    Harness::new(chain(&[2, 2], partitioner), options)
}

impl Harness {
    pub(super) fn new(graph: JobGraph, options: JobMasterOptions) -> Self {
        Self::of(JobMaster::new(spec(graph), options, NOW).unwrap())
    }

    pub(super) fn of(master: JobMaster) -> Self {
        Self { master, now: NOW, timers: Vec::new() }
    }

    /// Opened and asked for slots.
    pub(super) fn waiting(mut self) -> Self {
        self.send(JobMasterEvent::Start);
        self.coordinator(FromCoordinator::Opened(Ok(())));
        self
    }

    /// Workers are being started on TaskManagers 1 and 2, one slot each.
    pub(super) fn preparing(self) -> Self {
        let mut this = self.waiting();
        this.grant(&[(1, 0), (2, 0)]);
        this
    }

    /// Subtask 0 of each vertex on TaskManager 1, subtask 1 on TaskManager 2.
    pub(super) fn running(self) -> Self {
        let mut this = self.preparing();
        this.ready(0, 1);
        this.ready(0, 2);
        for subtask in 0..2 {
            for vertex in 0..2 {
                this.change(0, subtask + 1, task(vertex, subtask), ExecutionState::Running);
            }
        }
        assert_eq!(this.master.summary().tasks[ExecutionState::Running as usize], 4);
        this
    }

    /// All tasks have finished.
    pub(super) fn committing(self) -> Self {
        let mut this = self.running();
        for subtask in 0..2 {
            for vertex in 0..2 {
                this.change(0, subtask + 1, task(vertex, subtask), ExecutionState::Finished);
            }
        }
        this
    }

    pub(super) fn send(&mut self, event: JobMasterEvent) -> Vec<JobMasterEffect> {
        let effects = self.master.on_event(event, self.now);
        self.note_timers(&effects);
        effects
    }

    pub(super) fn note_timers(&mut self, effects: &[JobMasterEffect]) {
        for effect in effects {
            if let JobMasterEffect::ScheduleTimer { id, at } = effect {
                assert!(*at >= self.now);
                self.timers.push((*at, *id));
            }
        }
    }

    /// Lets time pass; what the timers that came due brought.
    pub(super) fn pass(&mut self, time: Duration) -> Vec<JobMasterEffect> {
        let until = self.now + time;
        let mut effects = Vec::new();
        while let Some(next) = self.timers.iter().copied().min().filter(|(at, _)| *at <= until) {
            self.timers.retain(|timer| *timer != next);
            self.now = next.0;
            effects.extend(self.send(JobMasterEvent::Timer { id: next.1 }));
        }
        self.now = until;
        effects
    }

    pub(super) fn coordinator(&mut self, message: FromCoordinator) -> Vec<JobMasterEffect> {
        self.send(JobMasterEvent::Coordinator(message))
    }

    pub(super) fn resources(&mut self, message: FromResourceManager) -> Vec<JobMasterEffect> {
        self.send(JobMasterEvent::ResourceManager(message))
    }

    pub(super) fn grant(&mut self, slots: &[(u32, u32)]) -> Vec<JobMasterEffect> {
        self.resources(FromResourceManager::SlotsGranted(grants(slots)))
    }

    pub(super) fn lose(&mut self, number: u32) -> Vec<JobMasterEffect> {
        let reason = "connection closed".to_owned();
        self.resources(FromResourceManager::TaskManagerLost { id: task_manager(number), reason })
    }

    pub(super) fn from(&mut self, number: u32, message: FromTaskManager) -> Vec<JobMasterEffect> {
        self.send(JobMasterEvent::TaskManager { id: task_manager(number), message })
    }

    pub(super) fn ready(&mut self, of: u32, number: u32) -> Vec<JobMasterEffect> {
        self.from(number, ready(of, number))
    }

    pub(super) fn worker_ended(&mut self, of: u32, number: u32) -> Vec<JobMasterEffect> {
        self.from(number, FromTaskManager::WorkerEnded { deployment: deployment(of), reason: "exit code 3".to_owned() })
    }

    pub(super) fn change(&mut self, of: u32, number: u32, task: TaskId, state: ExecutionState) -> Vec<JobMasterEffect> {
        self.from(number, changes(of, &[(task, state)]))
    }

    pub(super) fn fail(&mut self, of: u32, number: u32, task: TaskId) -> Vec<JobMasterEffect> {
        self.change(of, number, task, ExecutionState::Failed)
    }

    pub(super) fn status(&self) -> JobStatus {
        self.master.summary().status
    }
}

pub(super) fn deployment(number: u32) -> DeploymentId {
    DeploymentId { job: job_id(), number }
}

pub(super) fn grants(slots: &[(u32, u32)]) -> Vec<SlotGrant> {
    slots.iter().map(|&(id, index)| SlotGrant { slot: slot(id, index), host: format!("host-{id}") }).collect()
}

pub(super) fn slot(number: u32, index: u32) -> SlotId {
    SlotId { task_manager: task_manager(number), index }
}

pub(super) fn address(of: u32, number: u32) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], (1000 * number + of) as u16))
}

pub(super) fn ready(of: u32, number: u32) -> FromTaskManager {
    FromTaskManager::WorkerReady { deployment: deployment(of), data_address: address(of, number), pid: 9 }
}

/// Tasks that fail panic; tasks that finish have something to commit if they are sinks.
pub(super) fn changes(of: u32, tasks: &[(TaskId, ExecutionState)]) -> FromTaskManager {
    let change = |&(task, state): &(TaskId, ExecutionState)| TaskChange {
        task,
        state,
        failure: (state == ExecutionState::Failed).then(|| TaskFailure::new(FailureKind::Panic, "boom")),
        committables: if state == ExecutionState::Finished && task.vertex > 0 { vec![committable()] } else { vec![] },
    };
    FromTaskManager::TasksChanged { deployment: deployment(of), changes: tasks.iter().map(change).collect() }
}

pub(super) fn committable() -> Committable {
    Committable { node: 1, payload: vec![1, 2] }
}

/// The last commit of a job of the harness: of two sinks.
pub(super) fn final_commit() -> ToCoordinator {
    ToCoordinator::Commit { checkpoint: None, committables: vec![committable(), committable()] }
}

/// The answer to the last commit.
pub(super) fn committed(result: Result<(), String>) -> FromCoordinator {
    FromCoordinator::CommitDone { checkpoint: None, result }
}

pub(super) fn split(task: TaskId) -> FromCoordinator {
    FromCoordinator::SplitAnswer { task, answer: vec![5] }
}

pub(super) fn to_coordinator(effects: &[JobMasterEffect]) -> Vec<ToCoordinator> {
    let message = |effect: &JobMasterEffect| match effect {
        JobMasterEffect::Coordinator(message) => Some(message.clone()),
        _ => None,
    };
    effects.iter().filter_map(message).collect()
}

pub(super) fn to_resources(effects: &[JobMasterEffect]) -> Vec<ToResourceManager> {
    let message = |effect: &JobMasterEffect| match effect {
        JobMasterEffect::ResourceManager(message) => Some(message.clone()),
        _ => None,
    };
    effects.iter().filter_map(message).collect()
}

/// Messages to TaskManagers in short: `tm-1 start 0 [0]`, `tm-1 deploy 0`, `tm-1 cancel 0 all`, …
pub(super) fn to_task_managers(effects: &[JobMasterEffect]) -> Vec<String> {
    let name = |task: &TaskId| format!("{}.{}", task.vertex, task.subtask);
    let message = |effect: &JobMasterEffect| {
        let JobMasterEffect::TaskManager { id, message } = effect else { return None };
        let number = message.deployment().number;
        Some(match message {
            ToTaskManager::StartWorker(start) => format!("{id} start {number} {:?}", start.slots),
            ToTaskManager::Deploy { .. } => format!("{id} deploy {number}"),
            ToTaskManager::TriggerCheckpoint { trigger, tasks, .. } => {
                format!(
                    "{id} trigger {number} {} {}",
                    trigger.checkpoint,
                    tasks.iter().map(name).collect::<Vec<_>>().join(" ")
                )
            }
            ToTaskManager::CheckpointCompleted { checkpoint, .. } => format!("{id} completed {number} {checkpoint}"),
            ToTaskManager::CheckpointAborted { checkpoint, .. } => format!("{id} aborted {number} {checkpoint}"),
            ToTaskManager::SplitAnswer { task, .. } => format!("{id} split {number} {}", name(task)),
            ToTaskManager::CancelTasks { tasks, .. } if tasks.is_empty() => format!("{id} cancel {number} all"),
            ToTaskManager::CancelTasks { tasks, .. } => {
                format!("{id} cancel {number} {}", tasks.iter().map(name).collect::<Vec<_>>().join(" "))
            }
            ToTaskManager::ReleaseWorker { .. } => format!("{id} release {number}"),
            ToTaskManager::KillWorker { .. } => format!("{id} kill {number}"),
        })
    };
    effects.iter().filter_map(message).collect()
}

pub(super) fn statuses(effects: &[JobMasterEffect]) -> Vec<JobStatus> {
    let status = |effect: &JobMasterEffect| match effect {
        JobMasterEffect::StatusChanged { to, .. } => Some(*to),
        _ => None,
    };
    effects.iter().filter_map(status).collect()
}

/// The report of the job's end, which must be the last effect.
pub(super) fn report(effects: &[JobMasterEffect]) -> JobReport {
    match effects.last() {
        Some(JobMasterEffect::Ended(report)) => (**report).clone(),
        other => panic!("the job has not ended: {other:?}"),
    }
}
