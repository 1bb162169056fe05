//! Large jobs take memory and time by their tasks, not by their channels. Alone in its binary, because the allocator counts for
//! all threads; one test, because tests run in parallel.

use std::alloc::{GlobalAlloc, Layout, System};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use weir_checkpoint::{CheckpointOptions, StateDeclarations};
use weir_jobmaster::{
    FromCoordinator, JobMaster, JobMasterEffect, JobMasterEvent, JobMasterOptions, JobSpec, RestartStrategy,
};
use weir_model::{
    Artifact, ArtifactId, DeploymentId, DeploymentPlan, ExecutionState, FromResourceManager, FromTaskManager, JobEdge,
    JobGraph, JobId, JobStatus, JobVertex, Launch, OperatorId, OperatorInfo, OperatorKind, Partitioner, SlotGrant,
    SlotId, TaskChange, TaskManagerId, ToTaskManager, VertexId,
};

struct Counting;

static LIVE: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

// SAFETY: passes everything on to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let live = LIVE.fetch_add(layout.size(), Ordering::Relaxed) + layout.size();
        PEAK.fetch_max(live, Ordering::Relaxed);
        // SAFETY: the caller's promise is the system allocator's requirement.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's promise is the system allocator's requirement.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const NOW: Duration = Duration::from_secs(1_000_000);
const MEGABYTE: usize = 1 << 20;

/// So many vertices of so many subtasks each, one behind the other.
fn job(vertices: u32, parallelism: u32, partitioner: &Partitioner) -> JobGraph {
    let vertex = |number: u32| {
        let id = OperatorId::from_seed(&number.to_le_bytes());
        let kind = match number {
            0 => OperatorKind::Source { bounded: true },
            _ if number + 1 == vertices => OperatorKind::Sink,
            _ => OperatorKind::Transform,
        };
        JobVertex {
            id: VertexId::from(id),
            name: format!("V{number}"),
            operators: vec![OperatorInfo { id, name: format!("V{number}"), uid: None, kind }],
            parallelism,
            max_parallelism: parallelism.max(128),
            slot_sharing_group: "default".to_owned(),
        }
    };
    let edge = |target| JobEdge {
        source: target - 1,
        source_port: 0,
        target,
        target_input: 0,
        partitioner: partitioner.clone(),
        record_type: "u64".to_owned(),
    };
    JobGraph {
        name: "large".to_owned(),
        vertices: (0..vertices).map(vertex).collect(),
        edges: (1..vertices).map(edge).collect(),
        config: Default::default(),
    }
}

fn spec(graph: JobGraph) -> JobSpec {
    let launch = Launch {
        artifact: Artifact { id: ArtifactId::from_bytes([1; 32]), size: 10, name: "job".to_owned() },
        job_name: "large".to_owned(),
        arguments: Vec::new(),
        environment: Vec::new(),
        token: [0; 32],
    };
    JobSpec {
        id: JobId::from_bytes([7; 16]),
        graph: Arc::new(graph),
        job_graph_hash: 42,
        launch: Arc::new(launch),
        configuration: Default::default(),
        checkpointing: CheckpointOptions::default(),
        states: StateDeclarations::default(),
        restore: None,
    }
}

fn task_manager(number: u32) -> TaskManagerId {
    TaskManagerId::new(format!("tm-{number}"))
}

/// A job whose tasks all run on so many TaskManagers.
struct Run {
    master: JobMaster,
    task_managers: u32,
    plans: Vec<(TaskManagerId, Arc<DeploymentPlan>, u32)>,
}

impl Run {
    fn new(graph: JobGraph, task_managers: u32) -> Self {
        let options = JobMasterOptions { restart_strategy: RestartStrategy::EXPONENTIAL_DELAY, ..Default::default() };
        let master = JobMaster::new(spec(graph), options, NOW).expect("the graph is valid");
        Self { master, task_managers, plans: Vec::new() }
    }

    fn send(&mut self, event: JobMasterEvent) -> Vec<JobMasterEffect> {
        let effects = self.master.on_event(event, NOW);
        for effect in &effects {
            if let JobMasterEffect::TaskManager { id, message: ToTaskManager::Deploy { plan, worker, .. } } = effect {
                self.plans.push((id.clone(), plan.clone(), *worker));
            }
        }
        effects
    }

    fn deploy(&mut self, slots: u32) {
        self.send(JobMasterEvent::Start);
        self.send(JobMasterEvent::Coordinator(FromCoordinator::Opened(Ok(()))));
        let grants = (0..slots).map(|slot| SlotGrant {
            slot: SlotId { task_manager: task_manager(slot % self.task_managers), index: slot / self.task_managers },
            host: "host".to_owned(),
        });
        let granted = FromResourceManager::SlotsGranted(grants.collect());
        self.send(JobMasterEvent::ResourceManager(granted));
        let deployment = DeploymentId { job: JobId::from_bytes([7; 16]), number: 0 };
        for number in 0..self.task_managers {
            let data_address = SocketAddr::from(([10, 0, 0, 1], 1000));
            let message = FromTaskManager::WorkerReady { deployment, data_address, pid: 1 };
            self.send(JobMasterEvent::TaskManager { id: task_manager(number), message });
        }
        assert_eq!(self.plans.len(), self.task_managers as usize);
    }

    fn enter(&mut self, state: ExecutionState) {
        // The plan is looked through once, as looking for each worker's tasks would be what takes the time.
        let mut by_worker = vec![Vec::new(); self.task_managers as usize];
        for task in self.plans[0].1.placement.tasks() {
            by_worker[self.plans[0].1.placement.worker_of(task) as usize].push(task);
        }
        for (id, plan, worker) in self.plans.clone() {
            let change = |&task| TaskChange { task, state, failure: None, committables: Vec::new() };
            let changes = by_worker[worker as usize].iter().map(change).collect();
            let message = FromTaskManager::TasksChanged { deployment: plan.deployment, changes };
            self.send(JobMasterEvent::TaskManager { id, message });
        }
    }
}

fn live_through(vertices: u32, parallelism: u32, partitioner: &Partitioner, task_managers: u32) -> usize {
    let before = LIVE.load(Ordering::Relaxed);
    PEAK.store(before, Ordering::Relaxed);
    let began = Instant::now();
    let mut run = Run::new(job(vertices, parallelism, partitioner), task_managers);
    run.deploy(parallelism);
    let deployed = began.elapsed();
    run.enter(ExecutionState::Running);
    let running = began.elapsed();
    let view = run.master.view();
    assert_eq!(view.summary.tasks[ExecutionState::Running as usize], vertices * parallelism);
    drop(view);
    run.enter(ExecutionState::Finished);
    let effects =
        run.send(JobMasterEvent::Coordinator(FromCoordinator::CommitDone { checkpoint: None, result: Ok(()) }));
    assert!(matches!(effects.last(), Some(JobMasterEffect::Ended(report)) if report.status == JobStatus::Finished));
    let peak = PEAK.load(Ordering::Relaxed) - before;
    println!(
        "{vertices} x {parallelism} {partitioner:?} on {task_managers}: deployed {deployed:?}, running {running:?}, peak {} MB",
        peak / MEGABYTE
    );
    peak
}

/// Every TaskManager is lost, one after the other.
fn lose_all(vertices: u32, parallelism: u32, partitioner: &Partitioner, task_managers: u32) {
    let mut run = Run::new(job(vertices, parallelism, partitioner), task_managers);
    run.deploy(parallelism);
    run.enter(ExecutionState::Running);
    let began = Instant::now();
    for number in 0..task_managers {
        let lost = FromResourceManager::TaskManagerLost { id: task_manager(number), reason: "gone".to_owned() };
        run.send(JobMasterEvent::ResourceManager(lost));
    }
    println!("{vertices} x {parallelism} {partitioner:?}: {task_managers} TaskManagers lost in {:?}", began.elapsed());
    assert_eq!(run.master.summary().status, JobStatus::Restarting);
}

#[test]
fn large_jobs_take_memory_by_tasks() {
    let peak = live_through(2, 10_000, &Partitioner::Hash, 100);
    assert!(peak < 40 * MEGABYTE, "2 x 10 000 tasks all-to-all took {} MB", peak / MEGABYTE);
    for partitioner in [Partitioner::Hash, Partitioner::Forward] {
        let peak = live_through(4, 25_000, &partitioner, 10_000);
        assert!(peak < 150 * MEGABYTE, "100 000 tasks ({partitioner:?}) took {} MB", peak / MEGABYTE);
        lose_all(4, 25_000, &partitioner, 10_000);
    }
}
