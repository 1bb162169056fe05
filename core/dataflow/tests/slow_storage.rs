//! Storage that stands still: what waits for it does not grow with the state, and records go on.
#![allow(clippy::unwrap_used, reason = "a test may, also outside the functions marked as one")]

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use weir_checkpoint::{Alignment, CheckpointKind, CheckpointTrigger, TaskSnapshot};
use weir_dataflow::head::SourceHead;
use weir_dataflow::operator::{Body, Collector, Operator, Terminated, Then};
use weir_dataflow::plan::{JobPlan, RuntimeOptions};
use weir_dataflow::snapshot::{OperatorSnapshotter, TableId, schema_of};
use weir_dataflow::source::{
    Boundedness, EnumeratorContext, NextSplit, ReaderContext, ReaderStatus, Source, SourceError, SourceReader,
    SplitAnswer, SplitEnumerator,
};
use weir_dataflow::storage::{LocalFiles, StateFile, StateStorage, StorageError};
use weir_dataflow::worker::{DriverLink, Worker, WorkerEvent, WorkerSpec};
use weir_model::{
    ExecutionState, JobGraph, JobVertex, OperatorId, OperatorInfo, OperatorKind, Placement, TaskId, VertexId,
};

const PATIENCE: Duration = Duration::from_secs(60);
const TASK: TaskId = TaskId { vertex: 0, subtask: 0 };
/// The state: so many key groups of so many bytes.
const GROUPS: u32 = 64;
const GROUP: usize = 1 << 20;
/// 16 MiB wait for storage, and what was handed over last.
const BOUND: usize = 18 * GROUP;

/// What the test, the operator and the storage tell each other.
#[derive(Debug, Default)]
struct Shared {
    records: AtomicU64,
    /// The source has nothing more.
    over: AtomicBool,
    /// Bytes that operators have handed over and storage has not taken, and the most there ever were.
    waiting: AtomicUsize,
    most: AtomicUsize,
    blocked: Mutex<bool>,
    opened: Condvar,
}

impl Shared {
    fn block(&self) {
        *self.blocked.lock().unwrap() = true;
    }
    fn unblock(&self) {
        *self.blocked.lock().unwrap() = false;
        self.opened.notify_all();
    }
    fn pass(&self) {
        drop(self.opened.wait_while(self.blocked.lock().unwrap(), |blocked| *blocked).unwrap());
    }
}

/// Files of this machine, as slow as the test wants.
#[derive(Debug)]
struct SlowFiles(Arc<Shared>);

struct SlowFile {
    shared: Arc<Shared>,
    file: Box<dyn StateFile>,
}

impl StateStorage for SlowFiles {
    fn create(&self, uri: &str) -> Result<Box<dyn StateFile>, StorageError> {
        Ok(Box::new(SlowFile { shared: self.0.clone(), file: LocalFiles.create(uri)? }))
    }
    fn read(&self, uri: &str, offset: u64, len: u64) -> Result<Vec<u8>, StorageError> {
        LocalFiles.read(uri, offset, len)
    }
}

impl StateFile for SlowFile {
    fn write(&mut self, bytes: &[u8]) -> Result<(), StorageError> {
        self.shared.pass();
        self.shared.waiting.fetch_sub(bytes.len(), Ordering::SeqCst);
        self.file.write(bytes)
    }
    fn finish(self: Box<Self>) -> Result<u64, StorageError> {
        self.file.finish()
    }
}

/// Records as long as the test wants.
#[derive(Clone)]
struct Endless(Arc<Shared>);

impl Source for Endless {
    type Item = u64;
    type Split = u64;
    type Enumerator = Nobody;
    type Reader = Endless;

    fn boundedness(&self) -> Boundedness {
        Boundedness::Bounded
    }
    fn name(&self) -> String {
        "endless".to_owned()
    }
    fn create_enumerator(&self, _context: &EnumeratorContext) -> Result<Nobody, SourceError> {
        Ok(Nobody)
    }
    fn create_reader(&self, _context: &ReaderContext) -> Result<Endless, SourceError> {
        Ok(self.clone())
    }
}

/// The test answers requests for splits itself.
struct Nobody;

impl SplitEnumerator for Nobody {
    type Split = u64;
    fn next_split(&mut self, _subtask: u32) -> Result<NextSplit<u64>, SourceError> {
        Ok(NextSplit::Finished)
    }
    fn add_back(&mut self, _splits: Vec<u64>) {}
    fn snapshot(&self) -> Result<Vec<u8>, SourceError> {
        Ok(Vec::new())
    }
}

impl SourceReader for Endless {
    type Item = u64;
    type Split = u64;

    fn add_split(&mut self, _split: u64) -> Result<(), SourceError> {
        Ok(())
    }
    fn poll<C: Collector<u64>>(&mut self, out: &mut C) -> Result<ReaderStatus, SourceError> {
        if self.0.over.load(Ordering::SeqCst) {
            return Ok(ReaderStatus::NeedSplit);
        }
        out.push(1);
        Ok(ReaderStatus::Wait(Some(Duration::from_millis(1))))
    }
    fn snapshot(&self) -> Vec<u64> {
        Vec::new()
    }
}

/// Has much state.
#[derive(Clone)]
struct Heavy {
    shared: Arc<Shared>,
    /// The checkpoint whose groups are being handed over, its table, and the next group.
    run: Option<(u64, TableId, u32)>,
}

impl Operator<u64> for Heavy {
    type Out = ();
    fn process<C: Collector<()>>(&mut self, _record: u64, _out: &mut C) {
        self.shared.records.fetch_add(1, Ordering::SeqCst);
    }
    fn snapshot(&mut self, snapshot: &mut OperatorSnapshotter<'_>) {
        assert_eq!(self.run, None, "the snapshot before was neither handed over nor given up");
        let table = snapshot.begin_table("heavy", schema_of::<u64>(), Vec::new(), GROUPS);
        self.run = Some((snapshot.barrier().checkpoint, table, 0));
    }
    fn snapshot_step(&mut self, snapshot: &mut OperatorSnapshotter<'_>) -> bool {
        let Some((_, table, group)) = &mut self.run else { return false };
        let waiting = self.shared.waiting.fetch_add(GROUP, Ordering::SeqCst) + GROUP;
        self.shared.most.fetch_max(waiting, Ordering::SeqCst);
        snapshot.write_group(*table, *group, 1, vec![*group as u8; GROUP]);
        *group += 1;
        if *group == GROUPS {
            self.run = None;
        }
        self.run.is_some()
    }
    fn checkpoint_ended(&mut self, checkpoint: u64, _completed: bool) {
        self.run.take_if(|(of, ..)| *of == checkpoint);
    }
}

fn plan(shared: &Arc<Shared>) -> Arc<JobPlan> {
    let ids = ["endless", "heavy"].map(|name| OperatorId::from_seed(name.as_bytes()));
    let source = SourceHead { source: Endless(shared.clone()), node: 0 };
    let chain = Then { chain: source, op: Heavy { shared: shared.clone(), run: None }, node: 1 };
    let operator = |id| OperatorInfo { id, name: "heavy".to_owned(), uid: None, kind: OperatorKind::Transform };
    let vertex = JobVertex {
        id: VertexId::from(ids[0]),
        name: "heavy".to_owned(),
        operators: ids.map(operator).to_vec(),
        parallelism: 1,
        max_parallelism: GROUPS,
        slot_sharing_group: "default".to_owned(),
    };
    Arc::new(JobPlan {
        graph: JobGraph {
            name: "heavy".to_owned(),
            vertices: vec![vertex],
            edges: Vec::new(),
            config: BTreeMap::new(),
        },
        bodies: vec![Body::erased(chain, Terminated)],
        node_names: vec!["endless".to_owned(), "heavy".to_owned()],
        operator_ids: ids.to_vec(),
        ports: Vec::new().into_iter().collect(),
        options: RuntimeOptions::default(),
    })
}

#[derive(Default)]
struct Events(Mutex<Vec<WorkerEvent>>);

impl DriverLink for Events {
    fn send(&self, event: WorkerEvent) {
        self.0.lock().unwrap().push(event);
    }
}

#[derive(Default)]
struct Seen {
    acknowledged: Vec<(u64, TaskSnapshot)>,
    declined: Vec<u64>,
    ended: Vec<ExecutionState>,
}

struct Job {
    shared: Arc<Shared>,
    worker: Worker,
    events: Arc<Events>,
    seen: Mutex<Seen>,
    folder: tempfile::TempDir,
}

impl Job {
    fn start() -> Job {
        let (shared, events) = (Arc::new(Shared::default()), Arc::new(Events::default()));
        let folder = tempfile::tempdir().unwrap();
        let spec = WorkerSpec {
            plan: plan(&shared),
            placement: Placement::new(1, vec![vec![0]]),
            index: 0,
            network: None,
            run_id: "run".to_owned(),
            attempt: 0,
            storage: Arc::new(SlowFiles(shared.clone())),
            folder: folder.path().join("worker"),
            restore: BTreeMap::new(),
        };
        let worker = Worker::start(spec, events.clone());
        let job = Job { shared, worker, events, seen: Mutex::default(), folder };
        job.until_records_go_on();
        job
    }

    fn checkpoint_folder(&self, checkpoint: u64) -> PathBuf {
        self.folder.path().join(format!("chk-{checkpoint}"))
    }

    fn trigger(&self, checkpoint: u64) {
        let trigger = CheckpointTrigger {
            checkpoint,
            timestamp: 0,
            kind: CheckpointKind::Checkpoint,
            alignment: Alignment::Aligned,
            base: None,
            directory: Some(format!("file://{}", self.checkpoint_folder(checkpoint).display())),
            shared_directory: None,
        };
        self.worker.trigger_checkpoint(trigger, &[TASK]);
    }

    #[track_caller]
    fn until(&self, what: &str, mut done: impl FnMut(&Seen) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let mut seen = self.seen.lock().unwrap();
            for event in std::mem::take(&mut *self.events.0.lock().unwrap()) {
                match event {
                    WorkerEvent::SplitRequested { task } => {
                        let next = match self.shared.over.load(Ordering::SeqCst) {
                            true => NextSplit::Finished,
                            false => NextSplit::Split(0_u64.to_le_bytes().to_vec()),
                        };
                        self.worker.answer_split(task, SplitAnswer::Next(next));
                    }
                    WorkerEvent::CheckpointAcknowledged(ack) => {
                        let snapshot = TaskSnapshot::decode(&ack.snapshot).unwrap();
                        seen.acknowledged.push((ack.checkpoint, snapshot));
                    }
                    WorkerEvent::CheckpointDeclined(decline) => seen.declined.push(decline.checkpoint),
                    WorkerEvent::StateChanged { state, .. } if state.is_terminal() => seen.ended.push(state),
                    WorkerEvent::StateChanged { .. } => {}
                }
            }
            if done(&seen) {
                return;
            }
            drop(seen);
            assert!(Instant::now() < deadline, "waited too long until {what}");
            thread::sleep(Duration::from_millis(1));
        }
    }

    #[track_caller]
    fn until_records_go_on(&self) {
        let before = self.shared.records.load(Ordering::SeqCst);
        self.until("records go on", |_| self.shared.records.load(Ordering::SeqCst) >= before + 20);
    }

    /// Storage stands still with a file begun, and the task has handed over what it hands over meanwhile.
    #[track_caller]
    fn until_full(&self) {
        self.until("much waits for storage", |_| self.shared.waiting.load(Ordering::SeqCst) > 16 * GROUP);
    }

    /// All of the state is where the task says it is.
    #[track_caller]
    fn until_acknowledged(&self, checkpoint: u64) {
        let of = |seen: &Seen| seen.acknowledged.iter().position(|(number, _)| *number == checkpoint);
        self.until("the checkpoint is acknowledged", |seen| of(seen).is_some());
        let seen = self.seen.lock().unwrap();
        let (_, snapshot) = &seen.acknowledged[of(&seen).unwrap()];
        assert_eq!(snapshot.size(), u64::from(GROUPS) * GROUP as u64);
        assert_eq!(files(&self.checkpoint_folder(checkpoint)).len(), 1);
    }

    #[track_caller]
    fn assert_bounded(&self) {
        let most = self.shared.most.load(Ordering::SeqCst);
        assert!(most <= BOUND, "{} MiB waited for storage", most >> 20);
    }

    #[track_caller]
    fn end(self, state: ExecutionState) {
        self.shared.over.store(true, Ordering::SeqCst);
        self.until("the job ends", |seen| !seen.ended.is_empty());
        assert_eq!(self.seen.lock().unwrap().ended, [state]);
        self.worker.join();
    }
}

fn files(folder: &std::path::Path) -> Vec<PathBuf> {
    std::fs::read_dir(folder).map_or(Vec::new(), |files| files.map(|file| file.unwrap().path()).collect())
}

#[test]
fn while_storage_stands_still_records_go_on_and_little_of_the_state_waits_in_memory() {
    let job = Job::start();
    job.shared.block();
    job.trigger(1);
    job.until_full();
    job.until_records_go_on();
    job.shared.unblock();
    job.until_acknowledged(1);
    job.assert_bounded();
    job.end(ExecutionState::Finished);
}

#[test]
fn checkpoints_that_are_given_up_while_storage_stands_still_leave_no_more_in_memory_each_and_the_next_one_succeeds() {
    let job = Job::start();
    job.shared.block();
    for checkpoint in 1..=5 {
        job.trigger(checkpoint);
        if checkpoint == 1 {
            job.until_full();
        }
        job.until_records_go_on();
        job.worker.checkpoint_aborted(checkpoint);
        job.until_records_go_on();
    }
    job.assert_bounded();
    job.shared.unblock();
    job.until("they are declined", |seen| seen.declined == [1, 2, 3, 4, 5]);
    // Nobody wants their files.
    assert_eq!((1..=5).flat_map(|checkpoint| files(&job.checkpoint_folder(checkpoint))).count(), 0);
    job.shared.waiting.store(0, Ordering::SeqCst);
    job.trigger(6);
    job.until_acknowledged(6);
    job.assert_bounded();
    job.end(ExecutionState::Finished);
}

#[test]
fn a_checkpoint_that_begins_before_storage_has_taken_the_last_one_waits_for_it() {
    let job = Job::start();
    job.shared.block();
    job.trigger(1);
    job.until_full();
    job.trigger(2);
    job.until("the task waits", |_| job.worker.metrics()[0].1.backpressured_nanos > 5_000_000);
    job.assert_bounded();
    job.shared.unblock();
    job.until_acknowledged(1);
    job.until_acknowledged(2);
    job.assert_bounded();
    job.end(ExecutionState::Finished);
}

#[test]
fn a_task_that_waits_for_storage_at_a_second_barrier_goes_on_when_the_first_checkpoint_is_given_up() {
    let job = Job::start();
    job.shared.block();
    job.trigger(1);
    job.until_full();
    job.trigger(2);
    job.until("the task waits", |_| job.worker.metrics()[0].1.backpressured_nanos > 5_000_000);
    job.worker.checkpoint_aborted(1);
    job.until_records_go_on();
    job.shared.unblock();
    job.until_acknowledged(2);
    assert_eq!(job.seen.lock().unwrap().declined, [1]);
    job.end(ExecutionState::Finished);
}

#[test]
fn a_job_whose_input_ends_while_storage_stands_still_waits_for_it_with_little_in_memory() {
    let job = Job::start();
    job.shared.block();
    job.trigger(1);
    job.until_full();
    job.shared.over.store(true, Ordering::SeqCst);
    job.until("the task waits", |_| job.worker.metrics()[0].1.backpressured_nanos > 5_000_000);
    job.assert_bounded();
    job.shared.unblock();
    job.until_acknowledged(1);
    job.end(ExecutionState::Finished);
}
