//! The end of a chain: records are distributed over the channels of an edge, gathered into batches and handed over.

use std::marker::PhantomData;
use std::sync::{Arc, Mutex, PoisonError};

use weir_model::{KeyGroups, Partitioner as PartitionerKind};

use crate::channel::ChannelWriter;
use crate::element::{Barrier, Control, EventTime};
use crate::failure::{FailureKind, TaskError, raise};
use crate::operator::{ChainEnd, Collector, Flush, Stage};
use crate::plan::{PortId, TaskContext};
use crate::record::Record;
use crate::snapshot::SnapshotBuilder;
use crate::task::TaskShared;

/// All open batches of one edge of one producer together take about this many bytes at most …
const OUTGOING_BYTES: usize = 1024 * 1024;
/// … unless that would make them smaller than this.
const SMALLEST_BATCH_BYTES: usize = 2 * 1024;
/// A batch never holds more records than this, however small they are …
const BATCH_RECORDS: usize = 4096;
/// … and leaves when encoding it would take this many times the configured bytes, which bounds memory when records own large
/// buffers. More than once, because text is usually a slice of a buffer that is there anyway.
const ENCODED_FACTOR: usize = 8;

/// What a partitioner may know when its subtask starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PartitionContext {
    /// Index of the producing subtask.
    pub subtask: u32,
    /// Number of channels to choose from, at least 1. Channel i leads to the i-th connected consumer.
    pub channels: u32,
    /// Parallelism of the consumer.
    pub consumers: u32,
    /// Number of key groups of the consumer.
    pub max_parallelism: u32,
}

/// Chooses the channel of each record.
pub trait Partitioner<T>: Clone + Send + 'static {
    /// What the plan calls it.
    fn kind(&self) -> PartitionerKind;
    /// Prepares for the first record.
    fn open(&mut self, context: PartitionContext);
    /// The channel of `record`, below [`PartitionContext::channels`].
    fn select(&mut self, record: &T) -> usize;
}

/// One consumer: subtask i to subtask i, or to the only one connected.
#[derive(Debug, Clone, Copy, Default)]
pub struct ForwardPartitioner;

impl<T> Partitioner<T> for ForwardPartitioner {
    fn kind(&self) -> PartitionerKind {
        PartitionerKind::Forward
    }
    fn open(&mut self, _context: PartitionContext) {}
    #[inline(always)]
    fn select(&mut self, _record: &T) -> usize {
        0
    }
}

/// Everything to the first consumer.
#[derive(Debug, Clone, Copy, Default)]
pub struct GlobalPartitioner;

impl<T> Partitioner<T> for GlobalPartitioner {
    fn kind(&self) -> PartitionerKind {
        PartitionerKind::Global
    }
    fn open(&mut self, _context: PartitionContext) {}
    #[inline(always)]
    fn select(&mut self, _record: &T) -> usize {
        0
    }
}

/// Round robin over all consumers (rebalance) or over the connected ones (rescale).
#[derive(Debug, Clone)]
pub struct RoundRobinPartitioner {
    kind: PartitionerKind,
    next: usize,
    channels: usize,
}

impl RoundRobinPartitioner {
    /// Round robin over all consumers.
    pub fn rebalance() -> Self {
        RoundRobinPartitioner { kind: PartitionerKind::Rebalance, next: 0, channels: 1 }
    }

    /// Round robin over the consumers next to the producer.
    pub fn rescale() -> Self {
        RoundRobinPartitioner { kind: PartitionerKind::Rescale, next: 0, channels: 1 }
    }
}

impl<T> Partitioner<T> for RoundRobinPartitioner {
    fn kind(&self) -> PartitionerKind {
        self.kind.clone()
    }
    fn open(&mut self, context: PartitionContext) {
        self.channels = context.channels as usize;
        // Producers start at different consumers, so that few records also spread.
        self.next = context.subtask as usize % self.channels;
    }
    #[inline]
    fn select(&mut self, _record: &T) -> usize {
        let channel = self.next;
        self.next = if channel + 1 == self.channels { 0 } else { channel + 1 };
        channel
    }
}

/// Uniformly at random, from a seed that is the subtask's index.
#[derive(Debug, Clone, Default)]
pub struct ShufflePartitioner {
    state: u64,
    channels: u64,
}

impl<T> Partitioner<T> for ShufflePartitioner {
    fn kind(&self) -> PartitionerKind {
        PartitionerKind::Shuffle
    }
    fn open(&mut self, context: PartitionContext) {
        self.channels = u64::from(context.channels);
        self.state = u64::from(context.subtask).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    }
    #[inline]
    fn select(&mut self, _record: &T) -> usize {
        // xorshift64*: one multiplication, far better than what spreading records needs.
        self.state ^= self.state >> 12;
        self.state ^= self.state << 25;
        self.state ^= self.state >> 27;
        let random = self.state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32;
        ((random * self.channels) >> 32) as usize
    }
}

/// By the key group of a key hash.
#[derive(Clone)]
pub struct HashPartitioner<F> {
    key_hash: F,
    groups: KeyGroups,
    /// Key group to channel, so that the hot path neither divides nor branches.
    table: Vec<u32>,
}

impl<F> HashPartitioner<F> {
    /// Partitions by `key_hash`, which returns [`Record::key_hash`] of a record's key.
    pub fn new(key_hash: F) -> Self {
        HashPartitioner { key_hash, groups: KeyGroups::new(1, 1), table: vec![0] }
    }
}

impl<T, F> Partitioner<T> for HashPartitioner<F>
where
    F: FnMut(&T) -> u64 + Clone + Send + 'static,
{
    fn kind(&self) -> PartitionerKind {
        PartitionerKind::Hash
    }
    fn open(&mut self, context: PartitionContext) {
        self.groups = KeyGroups::new(context.max_parallelism, context.consumers);
        self.table = self.groups.channel_table();
    }
    #[inline(always)]
    fn select(&mut self, record: &T) -> usize {
        if self.table.len() == 1 {
            return 0;
        }
        let group = self.groups.group_of((self.key_hash)(record));
        self.table[usize::from(group.0)] as usize
    }
}

/// By a function of the job's author: given the record and the number of consumers, it returns the consumer.
#[derive(Clone)]
pub struct CustomPartitioner<F> {
    choose: F,
    channels: usize,
}

impl<F> CustomPartitioner<F> {
    /// Partitions by `choose`.
    pub fn new(choose: F) -> Self {
        CustomPartitioner { choose, channels: 1 }
    }
}

impl<T, F> Partitioner<T> for CustomPartitioner<F>
where
    F: FnMut(&T, usize) -> usize + Clone + Send + 'static,
{
    fn kind(&self) -> PartitionerKind {
        PartitionerKind::Custom
    }
    fn open(&mut self, context: PartitionContext) {
        self.channels = context.channels as usize;
    }
    #[inline]
    fn select(&mut self, record: &T) -> usize {
        let chosen = (self.choose)(record, self.channels);
        if chosen >= self.channels {
            refuse_choice(chosen, self.channels);
        }
        chosen
    }
}

#[cold]
fn refuse_choice(chosen: usize, channels: usize) -> ! {
    raise(TaskError::failed(
        FailureKind::Job,
        format!(
            "a custom partitioner chose consumer {chosen}, but there are {channels} (0 to {}); take the choice modulo the number given",
            channels - 1
        ),
    ))
}

/// Ends a chain with one edge.
#[derive(Debug, Clone)]
pub struct ExchangeEnd<P> {
    /// The output port the edge starts at.
    pub port: PortId,
    /// Chooses channels.
    pub partitioner: P,
}

impl<T: Record, P: Partitioner<T>> ChainEnd<T> for ExchangeEnd<P> {
    type Stage = ExchangeStage<T, P>;

    fn build(self, task: &mut TaskContext) -> Result<Self::Stage, TaskError> {
        ExchangeStage::new(task, self.port, self.partitioner)
    }
}

/// The producer's batches of one edge, one per channel.
#[derive(Debug)]
pub(crate) struct Outgoing<T: Record> {
    writers: Vec<ChannelWriter<T>>,
    batches: Vec<Vec<T>>,
    /// Encoded size of each batch; not kept for types of fixed length.
    encoded: Vec<usize>,
    capacity: usize,
    encoded_limit: usize,
    /// Whether a consumer may be left sleeping for a while. Not when the task has other edges: it could wait there for long.
    may_defer: bool,
    task: Arc<TaskShared>,
}

impl<T: Record> Outgoing<T> {
    fn new(task: &TaskContext, port: PortId) -> Outgoing<T> {
        let writers = task.writers::<T>(port);
        // Wide exchanges have smaller batches, so that memory does not grow with producers times consumers.
        let share = (OUTGOING_BYTES / writers.len().max(1)).max(SMALLEST_BATCH_BYTES);
        let bytes = task.options().channels.batch_bytes.min(share);
        let capacity = (bytes / size_of::<T>().max(1)).clamp(1, BATCH_RECORDS);
        Outgoing {
            batches: writers.iter().map(|_| Vec::new()).collect(),
            encoded: vec![0; writers.len()],
            writers,
            capacity,
            encoded_limit: bytes * ENCODED_FACTOR,
            may_defer: task.output_edges() == 1,
            task: task.shared().clone(),
        }
    }

    #[inline(always)]
    fn push(&mut self, channel: usize, record: T) {
        let mut full = false;
        if T::FIXED_LEN.is_none() {
            let encoded = &mut self.encoded[channel];
            *encoded += record.encoded_len();
            full = *encoded >= self.encoded_limit;
        }
        let batch = &mut self.batches[channel];
        batch.push(record);
        if batch.len() >= self.capacity || full {
            self.send_full(channel);
        }
    }

    /// Sends a batch that is full; more will follow soon.
    #[inline(never)]
    fn send_full(&mut self, channel: usize) {
        let batch = std::mem::take(&mut self.batches[channel]);
        self.encoded[channel] = 0;
        let writer = &mut self.writers[channel];
        let sent = if self.may_defer { writer.send_full_batch(batch, &self.task) } else { Err(batch) };
        self.batches[channel] = match sent {
            Ok(empty) => empty,
            Err(batch) => {
                // This may have to wait; the other consumers should not.
                self.announce();
                self.writers[channel].send_batch(batch, &self.task).unwrap_or_else(|error| raise(error))
            }
        };
    }

    /// Wakes the consumers that were left sleeping.
    fn announce(&mut self) {
        if self.may_defer {
            self.writers.iter_mut().for_each(ChannelWriter::announce);
        }
    }

    fn flush(&mut self) {
        self.announce();
        for (channel, writer) in self.writers.iter_mut().enumerate() {
            let batch = &mut self.batches[channel];
            if batch.is_empty() {
                continue;
            }
            self.encoded[channel] = 0;
            match writer.send_batch(std::mem::take(batch), &self.task) {
                Ok(empty) => *batch = empty,
                Err(error) => raise(error),
            }
        }
    }

    fn control(&mut self, control: Control) {
        self.task.metrics().set_output_time(control);
        self.flush();
        for writer in &mut self.writers {
            if let Err(error) = writer.send_control(control, &self.task) {
                raise(error);
            }
        }
    }
}

/// Which channels of an edge a record goes to.
pub(crate) trait Spread<T: Record> {
    /// Hands `record` to its channels.
    fn spread(&mut self, record: T, out: &mut Outgoing<T>);
}

/// Each record to one channel, which a partitioner selects.
#[derive(Debug)]
pub struct ToOne<P>(P);

impl<T: Record, P: Partitioner<T>> Spread<T> for ToOne<P> {
    #[inline(always)]
    fn spread(&mut self, record: T, out: &mut Outgoing<T>) {
        let channel = self.0.select(&record);
        out.push(channel, record);
    }
}

/// Each record to every channel.
#[derive(Debug)]
pub struct ToAll;

impl<T: Record + Clone> Spread<T> for ToAll {
    #[inline]
    fn spread(&mut self, record: T, out: &mut Outgoing<T>) {
        let last = out.batches.len() - 1;
        for channel in 0..last {
            out.push(channel, record.clone());
        }
        out.push(last, record);
    }
}

/// The end of a chain before one edge.
#[derive(Debug)]
pub struct EdgeStage<T: Record, S> {
    out: Outgoing<T>,
    spread: S,
}

/// Distributes records over the channels of one edge.
pub type ExchangeStage<T, P> = EdgeStage<T, ToOne<P>>;

impl<T: Record, P: Partitioner<T>> ExchangeStage<T, P> {
    pub(crate) fn new(task: &TaskContext, port: PortId, mut partitioner: P) -> Result<Self, TaskError> {
        let out = Outgoing::new(task, port);
        partitioner.open(task.partition_context(port));
        Ok(EdgeStage { out, spread: ToOne(partitioner) })
    }
}

impl<T: Record, S: Spread<T>> Collector<T> for EdgeStage<T, S> {
    #[inline(always)]
    fn push(&mut self, record: T) {
        self.spread.spread(record, &mut self.out);
    }
}

impl<T: Record, S: Spread<T> + 'static> Stage<T> for EdgeStage<T, S> {
    fn open(&mut self, _task: &TaskContext) -> Result<(), TaskError> {
        Ok(())
    }
    fn control(&mut self, control: Control) {
        self.out.control(control);
    }
    fn barrier(&mut self, barrier: Barrier, _snapshot: &mut SnapshotBuilder) {
        self.out.control(Control::Barrier(barrier));
    }
    fn snapshot_step(&mut self, _snapshot: &mut SnapshotBuilder) -> bool {
        false
    }
    fn checkpoint_ended(&mut self, _checkpoint: u64, _completed: bool) {}
    fn processing_time(&mut self, _now: EventTime) -> EventTime {
        EventTime::MAX
    }
    fn close(&mut self, _task: &TaskContext) -> Result<(), TaskError> {
        self.out.control(Control::End);
        Ok(())
    }
    fn flush(&mut self, _why: Flush) {
        self.out.flush();
    }
}

/// Ends a chain with an edge that gives every record to every consumer.
#[derive(Debug, Clone)]
pub struct BroadcastEnd {
    /// The output port the edge starts at.
    pub port: PortId,
}

impl<T: Record + Clone> ChainEnd<T> for BroadcastEnd {
    type Stage = EdgeStage<T, ToAll>;
    fn build(self, task: &mut TaskContext) -> Result<Self::Stage, TaskError> {
        Ok(EdgeStage { out: Outgoing::new(task, self.port), spread: ToAll })
    }
}

/// An edge of a stream that several consumers read.
trait FanEdge<T>: Send {
    fn build(&self, task: &mut TaskContext) -> Result<Box<dyn BatchStage<T>>, TaskError>;
}

struct TypedFanEdge<T, E> {
    end: E,
    record: PhantomData<fn(T)>,
}

impl<T: 'static, E: ChainEnd<T>> FanEdge<T> for TypedFanEdge<T, E> {
    fn build(&self, task: &mut TaskContext) -> Result<Box<dyn BatchStage<T>>, TaskError> {
        Ok(Box::new(self.end.clone().build(task)?))
    }
}

/// The dynamic call of a shared stream: one per batch and consumer.
trait BatchStage<T> {
    fn push_drained(&mut self, batch: &mut Vec<T>);
    fn open(&mut self, task: &TaskContext) -> Result<(), TaskError>;
    fn control(&mut self, control: Control);
    fn barrier(&mut self, barrier: Barrier, snapshot: &mut SnapshotBuilder);
    fn close(&mut self, task: &TaskContext) -> Result<(), TaskError>;
    fn flush(&mut self, why: Flush);
}

impl<T, S: Stage<T>> BatchStage<T> for S {
    fn push_drained(&mut self, batch: &mut Vec<T>) {
        batch.drain(..).for_each(|record| self.push(record));
    }
    fn open(&mut self, task: &TaskContext) -> Result<(), TaskError> {
        Stage::open(self, task)
    }
    fn control(&mut self, control: Control) {
        Stage::control(self, control);
    }
    fn barrier(&mut self, barrier: Barrier, snapshot: &mut SnapshotBuilder) {
        Stage::barrier(self, barrier, snapshot);
    }
    fn close(&mut self, task: &TaskContext) -> Result<(), TaskError> {
        Stage::close(self, task)
    }
    fn flush(&mut self, why: Flush) {
        Stage::flush(self, why);
    }
}

/// Ends a chain whose records go to several consumers; each edge has its own port and partitioner.
pub struct FanOutEnd<T> {
    edges: Arc<Mutex<Vec<Box<dyn FanEdge<T>>>>>,
}

impl<T> Clone for FanOutEnd<T> {
    fn clone(&self) -> Self {
        FanOutEnd { edges: self.edges.clone() }
    }
}

impl<T> Default for FanOutEnd<T> {
    fn default() -> Self {
        FanOutEnd { edges: Arc::default() }
    }
}

impl<T: 'static> FanOutEnd<T> {
    /// Adds a consumer. While the job is being built only.
    pub fn add(&self, end: impl ChainEnd<T>) {
        let edge = Box::new(TypedFanEdge { end, record: PhantomData });
        self.edges.lock().unwrap_or_else(PoisonError::into_inner).push(edge);
    }
}

impl<T: Clone + Send + 'static> ChainEnd<T> for FanOutEnd<T> {
    type Stage = FanOutStage<T>;
    fn build(self, task: &mut TaskContext) -> Result<FanOutStage<T>, TaskError> {
        let edges = self.edges.lock().unwrap_or_else(PoisonError::into_inner);
        let edges = edges.iter().map(|edge| edge.build(task)).collect::<Result<_, _>>()?;
        Ok(FanOutStage { edges, batch: Vec::new(), copy: Vec::new() })
    }
}

/// Gives each record to several edges, a batch at a time.
pub struct FanOutStage<T> {
    edges: Vec<Box<dyn BatchStage<T>>>,
    batch: Vec<T>,
    /// The clones for one edge; kept for its capacity.
    copy: Vec<T>,
}

const FAN_OUT_BATCH: usize = 256;

impl<T: Clone + 'static> FanOutStage<T> {
    #[inline(never)]
    fn pass_on(&mut self) {
        let Some((last, others)) = self.edges.split_last_mut() else {
            self.batch.clear();
            return;
        };
        for edge in others {
            self.copy.extend_from_slice(&self.batch);
            edge.push_drained(&mut self.copy);
        }
        last.push_drained(&mut self.batch);
    }
}

impl<T: Clone + 'static> Collector<T> for FanOutStage<T> {
    #[inline(always)]
    fn push(&mut self, record: T) {
        self.batch.push(record);
        if self.batch.len() >= FAN_OUT_BATCH {
            self.pass_on();
        }
    }
}

impl<T: Clone + Send + 'static> Stage<T> for FanOutStage<T> {
    fn open(&mut self, task: &TaskContext) -> Result<(), TaskError> {
        self.edges.iter_mut().try_for_each(|edge| edge.open(task))
    }
    fn control(&mut self, control: Control) {
        self.pass_on();
        self.edges.iter_mut().for_each(|edge| edge.control(control));
    }
    fn barrier(&mut self, barrier: Barrier, snapshot: &mut SnapshotBuilder) {
        self.pass_on();
        self.edges.iter_mut().for_each(|edge| edge.barrier(barrier, snapshot));
    }
    fn snapshot_step(&mut self, _snapshot: &mut SnapshotBuilder) -> bool {
        // Behind a shared stream there are exchanges only, which have no state.
        false
    }
    fn checkpoint_ended(&mut self, _checkpoint: u64, _completed: bool) {}
    fn processing_time(&mut self, _now: EventTime) -> EventTime {
        EventTime::MAX
    }
    fn close(&mut self, task: &TaskContext) -> Result<(), TaskError> {
        self.edges.iter_mut().try_for_each(|edge| edge.close(task))
    }
    fn flush(&mut self, why: Flush) {
        self.pass_on();
        self.edges.iter_mut().for_each(|edge| edge.flush(why));
    }
}
