//! Two sources of numbers and a consumer that goes no faster than the test lets it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use weir_checkpoint::{Alignment, CheckpointKind, CheckpointTrigger, Redistribution, TaskSnapshot};
use weir_dataflow::exchange::{ExchangeEnd, GlobalPartitioner};
use weir_dataflow::failure::TaskError;
use weir_dataflow::head::{CoInput, Input, SourceHead};
use weir_dataflow::net::{JobToken, Network, NetworkOptions};
use weir_dataflow::operator::{Body, CoOperator, Collector, OfTwo, Operator, OperatorContext, Terminated, Then};
use weir_dataflow::plan::{JobPlan, PortId, RuntimeOptions};
use weir_dataflow::record::Record;
use weir_dataflow::snapshot::OperatorSnapshotter;
use weir_dataflow::source::{
    Boundedness, EnumeratorContext, NextSplit, ReaderContext, ReaderStatus, Source, SourceError, SourceReader,
    SplitAnswer, SplitEnumerator,
};
use weir_dataflow::storage::LocalFiles;
use weir_dataflow::worker::{DriverLink, Worker, WorkerEvent, WorkerSpec};
use weir_model::{
    CheckpointAcknowledgement, ExecutionState, JobEdge, JobGraph, JobVertex, OperatorId, OperatorInfo, OperatorKind,
    Partitioner, Placement, TaskId, VertexId,
};

/// Long enough for anything that is going to happen at all.
const PATIENCE: Duration = Duration::from_secs(60);

/// Numbers of a range; its splits are ranges.
#[derive(Debug, Clone, Copy)]
struct Numbers;

struct Ranges(Vec<(u64, u64)>);

impl Source for Numbers {
    type Item = u64;
    type Split = (u64, u64);
    type Enumerator = Nobody;
    type Reader = Ranges;

    fn boundedness(&self) -> Boundedness {
        Boundedness::Bounded
    }
    fn name(&self) -> String {
        "numbers".to_owned()
    }
    fn create_enumerator(&self, _context: &EnumeratorContext) -> Result<Nobody, SourceError> {
        Ok(Nobody)
    }
    fn create_reader(&self, _context: &ReaderContext) -> Result<Ranges, SourceError> {
        Ok(Ranges(Vec::new()))
    }
}

/// The test hands out the splits itself.
struct Nobody;

impl SplitEnumerator for Nobody {
    type Split = (u64, u64);
    fn next_split(&mut self, _subtask: u32) -> Result<NextSplit<(u64, u64)>, SourceError> {
        Ok(NextSplit::Finished)
    }
    fn add_back(&mut self, _splits: Vec<(u64, u64)>) {}
    fn snapshot(&self) -> Result<Vec<u8>, SourceError> {
        Ok(Vec::new())
    }
}

impl SourceReader for Ranges {
    type Item = u64;
    type Split = (u64, u64);

    fn add_split(&mut self, split: (u64, u64)) -> Result<(), SourceError> {
        self.0.push(split);
        Ok(())
    }
    fn poll<C: Collector<u64>>(&mut self, out: &mut C) -> Result<ReaderStatus, SourceError> {
        let Some((from, to)) = self.0.first_mut() else { return Ok(ReaderStatus::NeedSplit) };
        let end = (*to).min(*from + 1_000);
        (*from..end).for_each(|number| out.push(number));
        *from = end;
        if from == to {
            self.0.remove(0);
        }
        Ok(ReaderStatus::More)
    }
    fn snapshot(&self) -> Vec<(u64, u64)> {
        self.0.clone()
    }
}

/// How far the consumer may go and how far it is.
#[derive(Debug, Default)]
struct Pace {
    limit: AtomicU64,
    processed: AtomicU64,
    /// All it has seen, once it has come to its end.
    result: Mutex<Vec<u64>>,
}

/// Keeps all it sees.
#[derive(Clone)]
struct Tally {
    pace: Arc<Pace>,
    seen: Vec<u64>,
}

impl Tally {
    fn restore(&mut self, task: &OperatorContext<'_>) -> Result<(), TaskError> {
        self.seen = task.restored_list("seen")?;
        Ok(())
    }
    fn take(&mut self, number: u64) {
        while self.pace.processed.load(Ordering::SeqCst) >= self.pace.limit.load(Ordering::SeqCst) {
            thread::sleep(Duration::from_micros(100));
        }
        self.pace.processed.fetch_add(1, Ordering::SeqCst);
        self.seen.push(number);
    }
    fn keep(&self, snapshot: &mut OperatorSnapshotter<'_>) {
        snapshot.list("seen", Redistribution::Split, &self.seen);
    }
    fn finish(&mut self) {
        *self.pace.result.lock().unwrap() = std::mem::take(&mut self.seen);
    }
}

impl Operator<u64> for Tally {
    type Out = ();
    fn open(&mut self, task: &OperatorContext<'_>) -> Result<(), TaskError> {
        self.restore(task)
    }
    fn process<C: Collector<()>>(&mut self, record: u64, _out: &mut C) {
        self.take(record);
    }
    fn snapshot(&mut self, snapshot: &mut OperatorSnapshotter<'_>) {
        self.keep(snapshot);
    }
    fn end<C: Collector<()>>(&mut self, _out: &mut C) {
        self.finish();
    }
}

impl Operator<OfTwo<u64, u64>> for Tally {
    type Out = ();
    fn open(&mut self, task: &OperatorContext<'_>) -> Result<(), TaskError> {
        self.restore(task)
    }
    fn process<C: Collector<()>>(&mut self, input: OfTwo<u64, u64>, _out: &mut C) {
        if let OfTwo::First(record) | OfTwo::Second(record) = input {
            self.take(record);
        }
    }
    fn snapshot(&mut self, snapshot: &mut OperatorSnapshotter<'_>) {
        self.keep(snapshot);
    }
    fn end<C: Collector<()>>(&mut self, _out: &mut C) {
        self.finish();
    }
}

impl CoOperator<u64, u64> for Tally {}

/// How the consumer reads the two sources.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Consumer {
    OneInput,
    TwoInputs,
}

/// Where the consumer runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Workers {
    /// With the sources.
    One,
    /// In another worker, behind the network.
    Two,
}

/// The id of the operator of this name.
pub fn operator(name: &str) -> OperatorId {
    OperatorId::from_seed(name.as_bytes())
}

const NAMES: [&str; 3] = ["first", "second", "tally"];

fn plan(consumer: Consumer, pace: &Arc<Pace>) -> Arc<JobPlan> {
    let vertex = |name: &&str| JobVertex {
        id: VertexId::from(operator(name)),
        name: (*name).to_owned(),
        operators: vec![OperatorInfo {
            id: operator(name),
            name: (*name).to_owned(),
            uid: None,
            kind: OperatorKind::Transform,
        }],
        parallelism: 1,
        max_parallelism: 128,
        slot_sharing_group: "default".to_owned(),
    };
    let edge = |source: u32| JobEdge {
        source,
        source_port: 0,
        target: 2,
        target_input: if consumer == Consumer::TwoInputs { source } else { 0 },
        partitioner: Partitioner::Global,
        record_type: "u64".to_owned(),
    };
    let source = |node: u32| {
        Body::erased(
            SourceHead { source: Numbers, node },
            ExchangeEnd { port: PortId(node), partitioner: GlobalPartitioner },
        )
    };
    let tally = Tally { pace: pace.clone(), seen: Vec::new() };
    let body = match consumer {
        Consumer::OneInput => Body::erased(Then { chain: Input::<u64>::default(), op: tally, node: 2 }, Terminated),
        Consumer::TwoInputs => Body::erased(CoInput::<u64, u64, _>::new(tally, 2), Terminated),
    };
    Arc::new(JobPlan {
        graph: JobGraph {
            name: "tally".to_owned(),
            vertices: NAMES.iter().map(vertex).collect(),
            edges: (0..2).map(edge).collect(),
            config: BTreeMap::new(),
        },
        bodies: vec![source(0), source(1), body],
        node_names: NAMES.map(str::to_owned).to_vec(),
        operator_ids: NAMES.map(operator).to_vec(),
        ports: (0..2).map(|port| (PortId(port), port)).collect(),
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

/// What has become of a job so far.
#[derive(Default)]
struct Seen {
    acknowledged: Vec<CheckpointAcknowledgement>,
    finished: usize,
    failure: Option<String>,
    asked: BTreeSet<TaskId>,
}

/// A running job.
pub struct Running {
    workers: Vec<Worker>,
    events: Arc<Events>,
    seen: Mutex<Seen>,
    pace: Arc<Pace>,
    each: u64,
    restored: bool,
}

impl Running {
    /// Starts it, with `each` numbers from each source or from these snapshots.
    pub fn start(consumer: Consumer, at: Workers, each: u64, from: BTreeMap<TaskId, TaskSnapshot>) -> Running {
        let (pace, events) = (Arc::new(Pace::default()), Arc::new(Events::default()));
        let restored = !from.is_empty();
        let networks = match at {
            Workers::One => vec![None],
            Workers::Two => connected().into_iter().map(Some).collect(),
        };
        let placement = match at {
            Workers::One => Placement::new(1, vec![vec![0], vec![0], vec![0]]),
            Workers::Two => Placement::new(2, vec![vec![0], vec![0], vec![1]]),
        };
        let plan = plan(consumer, &pace);
        let worker = |(index, network)| {
            let spec = WorkerSpec {
                plan: plan.clone(),
                placement: placement.clone(),
                index,
                network,
                run_id: "run".to_owned(),
                attempt: 0,
                storage: Arc::new(LocalFiles),
                folder: std::env::temp_dir().join("weir-unaligned"),
                restore: from.clone(),
            };
            Worker::start(spec, events.clone())
        };
        let workers = (0..).zip(networks).map(worker).collect();
        Running { workers, events, seen: Mutex::default(), pace, each, restored }
    }

    /// Takes in what the workers have told, and hands out splits.
    fn look(&self) {
        let events = std::mem::take(&mut *self.events.0.lock().unwrap());
        let mut seen = self.seen.lock().unwrap();
        for event in events {
            match event {
                WorkerEvent::SplitRequested { task } => {
                    let first = seen.asked.insert(task) && !self.restored;
                    let next = if first {
                        let from = u64::from(task.vertex) * self.each;
                        let mut bytes = Vec::new();
                        (from, from + self.each).encode(&mut bytes);
                        NextSplit::Split(bytes)
                    } else {
                        NextSplit::Finished
                    };
                    self.workers.iter().for_each(|worker| worker.answer_split(task, SplitAnswer::Next(next.clone())));
                }
                WorkerEvent::CheckpointAcknowledged(ack) => seen.acknowledged.push(*ack),
                WorkerEvent::CheckpointDeclined(decline) => {
                    assert_eq!(decline.checkpoint, 1, "only what was given up is declined: {decline:?}");
                }
                WorkerEvent::StateChanged { state: ExecutionState::Finished, .. } => seen.finished += 1,
                WorkerEvent::StateChanged { failure: Some(failure), .. } => seen.failure = Some(format!("{failure:?}")),
                WorkerEvent::StateChanged { .. } => {}
            }
        }
    }

    #[track_caller]
    fn until(&self, what: &str, mut done: impl FnMut(&Seen) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            self.look();
            if done(&self.seen.lock().unwrap()) {
                return;
            }
            assert!(Instant::now() < deadline, "waited too long until {what}");
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// Waits until both sources wait for room.
    #[track_caller]
    pub fn until_sources_wait(&self) {
        let waits = |source: u32| {
            let metrics = self.workers.iter().flat_map(Worker::metrics).find(|(task, _)| task.vertex == source);
            metrics.is_some_and(|(_, metrics)| metrics.backpressured_nanos > 20_000_000)
        };
        self.until("the sources wait", |_| waits(0) && waits(1));
    }

    pub fn trigger(&self, checkpoint: u64, kind: CheckpointKind, alignment: Alignment) {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        let trigger = CheckpointTrigger {
            checkpoint,
            timestamp: now.as_millis() as i64,
            kind,
            alignment,
            base: None,
            directory: None,
            shared_directory: None,
        };
        let sources = [0, 1].map(|vertex| TaskId { vertex, subtask: 0 });
        self.workers.iter().for_each(|worker| worker.trigger_checkpoint(trigger.clone(), &sources));
    }

    pub fn give_up(&self, checkpoint: u64) {
        self.workers.iter().for_each(|worker| worker.checkpoint_aborted(checkpoint));
    }

    /// Lets the consumer go on record by record until so many tasks have acknowledged checkpoint 1.
    #[track_caller]
    pub fn step_until_acknowledged(&self, tasks: usize) -> Vec<CheckpointAcknowledgement> {
        self.step_until_acknowledged_of(1, tasks)
    }

    /// Lets the consumer go on record by record until so many tasks have acknowledged this checkpoint.
    #[track_caller]
    pub fn step_until_acknowledged_of(&self, checkpoint: u64, tasks: usize) -> Vec<CheckpointAcknowledgement> {
        let of = |seen: &Seen| -> Vec<_> {
            seen.acknowledged.iter().filter(|ack| ack.checkpoint == checkpoint).cloned().collect()
        };
        self.until("the checkpoint is acknowledged", |seen| {
            let limit = self.pace.limit.load(Ordering::SeqCst);
            self.pace.limit.store(limit.saturating_add(1), Ordering::SeqCst);
            of(seen).len() == tasks
        });
        of(&self.seen.lock().unwrap())
    }

    /// Records the consumer has processed.
    pub fn processed(&self) -> u64 {
        self.pace.processed.load(Ordering::SeqCst)
    }

    /// Lets the consumer go as fast as it can.
    pub fn let_go(&self) {
        self.pace.limit.store(u64::MAX, Ordering::SeqCst);
    }

    /// Everything the consumer has seen, with what it began with.
    #[track_caller]
    pub fn run_to_the_end(self) -> Vec<u64> {
        self.let_go();
        self.until("the job ends", |seen| {
            assert_eq!(seen.failure, None);
            seen.finished == 3
        });
        self.join();
        std::mem::take(&mut *self.pace.result.lock().unwrap())
    }

    /// Why a task failed.
    #[track_caller]
    pub fn until_failed(&self) -> String {
        self.until("a task fails", |seen| seen.failure.is_some());
        self.seen.lock().unwrap().failure.clone().unwrap()
    }

    pub fn cancel(self) {
        self.workers.iter().for_each(Worker::cancel);
        self.let_go();
        self.join();
    }

    fn join(&self) {
        // Networks close together: each waits for the other side.
        thread::scope(|scope| {
            for worker in &self.workers {
                scope.spawn(|| worker.join());
            }
        });
    }
}

fn connected() -> [Network; 2] {
    let start = || Network::start(NetworkOptions::new(JobToken::from_bytes([1; 32]))).unwrap();
    let (first, second) = (start(), start());
    let addresses = [first.address(), second.address()];
    thread::scope(|scope| {
        let other = scope.spawn(|| second.connect(1, &addresses));
        first.connect(0, &addresses).unwrap();
        other.join().unwrap().unwrap();
    });
    [first, second]
}
