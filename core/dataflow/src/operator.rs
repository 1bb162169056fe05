//! Fusion: operators, the stages they become, and the chains they are built into.
//!
//! A chain is assembled from its head (a source or an input gate) towards its end, and turned round when it runs: the head
//! receives the whole rest of the chain as one value of a concrete type, so that the compiler sees a single loop over a batch
//! with every operator inlined, as it does for iterator adapters.

use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use weir_checkpoint::TableSnapshot;
use weir_model::{CheckpointKind, KeyGroups};

use crate::declaration::{ChainState, OperatorState};
use crate::element::{Barrier, Control, EventTime};
use crate::failure::{OperatorGuard, TaskError, raise};
use crate::metrics::OperatorMetrics;
use crate::plan::TaskContext;
use crate::record::Record;
use crate::snapshot::{OperatorSnapshotter, RestoredRows, SnapshotBuilder};
use crate::task::TaskShared;

/// Takes records one at a time. What user code sees of everything downstream.
pub trait Collector<T> {
    /// Passes `record` on.
    fn push(&mut self, record: T);

    /// Passes on what `make` makes of each of `numbers`. The same as pushing them one by one, but what has to be done now and
    /// then between records is done between blocks of them, so that a source of cheap records runs in a tight loop.
    #[inline(always)]
    fn push_numbered(&mut self, numbers: Range<u64>, mut make: impl FnMut(u64) -> T)
    where
        Self: Sized,
    {
        for number in numbers {
            self.push(make(number));
        }
    }

    /// What follows is of this split, a number above 0 that the reader gives it. Only readers of sources say so, to collectors they
    /// are given; it matters where watermarks are made for each split.
    fn enter_split(&mut self, split: u64) {
        let _ = split;
    }

    /// Nothing more of this split follows.
    fn leave_split(&mut self, split: u64) {
        let _ = split;
    }
}

/// Why buffered results should move on although their buffer is not full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flush {
    /// The task has nothing more to read.
    Idle,
    /// `execution.buffer-timeout` passed.
    Timeout,
}

/// Records that are prepared for together at most: as many as are processed between two looks at whether the task is cancelled. Enough that
/// memory answers many requests at once, and few enough that what it answers stays in the first cache until it is used.
pub(crate) const PREPARED: usize = 64;

/// Everything behind a point of a chain.
pub trait Stage<T>: Collector<T> + 'static {
    /// Records that will be pushed next, in this order: see [`Operator::prepare`].
    #[inline(always)]
    fn prepare(&mut self, records: &[T]) {
        let _ = records;
    }
    /// Prepares for the first record; called once, on the task's thread, downstream first.
    fn open(&mut self, task: &TaskContext) -> Result<(), TaskError>;
    /// Takes a watermark, a change of idleness or the end; ordered with the records.
    fn control(&mut self, control: Control);
    /// Takes a barrier: every operator hands its state over, in its turn, and the barrier goes on behind what was emitted before.
    fn barrier(&mut self, barrier: Barrier, snapshot: &mut SnapshotBuilder);
    /// Hands over some more rows of the snapshot under way. Whether there may be more.
    fn snapshot_step(&mut self, snapshot: &mut SnapshotBuilder) -> bool;
    /// A checkpoint is complete, or nothing will become of it.
    fn checkpoint_ended(&mut self, checkpoint: u64, completed: bool);
    /// Fires the timers due at this processing time. When the next one is due; `EventTime::MAX` if there is none.
    fn processing_time(&mut self, now: EventTime) -> EventTime;
    /// Whether nothing is under way any more that the end of the input has to wait for.
    fn is_settled(&self) -> bool {
        true
    }
    /// Ends the outputs of a chain that had finished before the job was restored, without opening it.
    fn close(&mut self, task: &TaskContext) -> Result<(), TaskError>;
    /// Lets buffered results move on.
    fn flush(&mut self, why: Flush);
}

/// What an operator does of its own accord.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OwnStep {
    /// Nothing more for now.
    Done,
    /// It sends a watermark or a change of idleness, behind what it has emitted.
    Time(Control),
    /// It is about to wait: what is buffered behind it moves on before.
    Flush,
}

/// One logical operator: what happens to a record between two points of a chain.
///
/// Cloned once per subtask before it runs, so fields are per-subtask state.
pub trait Operator<In>: Clone + Send + 'static {
    /// The record type it emits.
    type Out: 'static;

    /// Whether it does something of its own accord ([`own_step`](Self::own_step)).
    const OWN_STEPS: bool = false;

    /// Says what state it has. Called also where the operator never runs, so that the state of a checkpoint can be compared with it
    /// before a running job is stopped; must have no effect but on handles of its states.
    fn declare(&mut self, state: &mut OperatorState) {
        let _ = state;
    }

    /// Prepares for the first record.
    fn open(&mut self, task: &OperatorContext<'_>) -> Result<(), TaskError> {
        let _ = task;
        Ok(())
    }

    /// Records that will come next, in this order; a few dozen. Called only at the head of a chain behind an exchange, and must
    /// have no effect: it is there to ask for memory that the records will need, so that they do not wait for it one after the other.
    #[inline(always)]
    fn prepare(&mut self, records: &[In]) {
        let _ = records;
    }

    /// Takes one record and emits any number.
    fn process<C: Collector<Self::Out>>(&mut self, record: In, out: &mut C);

    /// Lets buffered results move on.
    fn flush<C: Collector<Self::Out>>(&mut self, why: Flush, out: &mut C) {
        let _ = (why, out);
    }

    /// Event time advanced; results due until then go out before the watermark does.
    fn watermark<C: Collector<Self::Out>>(&mut self, time: EventTime, out: &mut C) {
        let _ = (time, out);
    }

    /// A watermark or change of idleness came from upstream: what goes on, if anything. An operator that makes time of its own
    /// keeps those from before it to itself.
    fn upstream_time(&mut self, control: Control) -> Option<Control> {
        Some(control)
    }

    /// What the operator does of its own accord, asked after each call if [`OWN_STEPS`](Self::OWN_STEPS), until it is done: emits
    /// records, sends a watermark behind them.
    #[inline(always)]
    fn own_step<C: Collector<Self::Out>>(&mut self, out: &mut C) -> OwnStep {
        let _ = out;
        OwnStep::Done
    }

    /// Whether nothing is under way any more that the end of the input has to wait for. While it waits, checkpoints and timers go on.
    fn is_settled(&self) -> bool {
        true
    }

    /// The input ended; whatever is still held goes out now.
    fn end<C: Collector<Self::Out>>(&mut self, out: &mut C) {
        let _ = out;
    }

    /// A barrier is about to pass: what must not wait for later goes out now.
    fn before_barrier<C: Collector<Self::Out>>(&mut self, out: &mut C) {
        let _ = out;
    }

    /// Hands over the operator's state. Lists and small things at once; rows of tables may follow in
    /// [`snapshot_step`](Self::snapshot_step), as they were at this moment.
    fn snapshot(&mut self, snapshot: &mut OperatorSnapshotter<'_>) {
        let _ = snapshot;
    }

    /// Hands over some more rows, about a few hundred microseconds' worth. Whether there may be more.
    fn snapshot_step(&mut self, snapshot: &mut OperatorSnapshotter<'_>) -> bool {
        let _ = snapshot;
        false
    }

    /// A checkpoint is complete (everything it holds is durable), or nothing will become of it.
    fn checkpoint_ended(&mut self, checkpoint: u64, completed: bool) {
        let _ = (checkpoint, completed);
    }

    /// Processing time advanced, in milliseconds since the epoch: fires what is due. When the operator wants to be called next;
    /// `EventTime::MAX` for never.
    fn processing_time<C: Collector<Self::Out>>(&mut self, now: EventTime, out: &mut C) -> EventTime {
        let _ = (now, out);
        EventTime::MAX
    }

    /// Side outputs, which follow the main output's control elements.
    fn side_outputs(&mut self) -> Option<&mut crate::process::SideOutputs> {
        None
    }
}

/// What comes to an operator over two inputs, which is the head of its chain: an operator whose input is one of these.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OfTwo<A, B> {
    /// A record of the first input.
    First(A),
    /// A record of the second input.
    Second(B),
    /// The first input has ended. Once; before the end of both.
    FirstEnded,
    /// The second input has ended. Once; before the end of both.
    SecondEnded,
}

/// An operator over two inputs.
pub trait CoOperator<A, B>: Operator<OfTwo<A, B>> {
    /// As [`Operator::prepare`], of the first input.
    #[inline(always)]
    fn prepare_first(&mut self, records: &[A]) {
        let _ = records;
    }

    /// As [`Operator::prepare`], of the second input.
    #[inline(always)]
    fn prepare_second(&mut self, records: &[B]) {
        let _ = records;
    }
}

/// What an operator may ask for when it opens.
#[derive(Debug)]
pub struct OperatorContext<'a> {
    /// The task it runs in.
    pub task: &'a TaskContext,
    /// Its node in the job's StreamGraph.
    pub node: u32,
}

impl OperatorContext<'_> {
    /// The items of the operator's list of this name that it begins with; empty when there is nothing to restore.
    ///
    /// # Errors
    /// They cannot be read, or were written with a type that `T` cannot follow.
    pub fn restored_list<T: Record>(&self, name: &str) -> Result<Vec<T>, TaskError> {
        match self.task.restored() {
            Some(restored) => restored.items(self.task.operator_id(self.node), name),
            None => Ok(Vec::new()),
        }
    }

    /// The tables of this name that the operator begins with, each with what it takes to read its rows.
    pub fn restored_tables(&self, name: &str) -> Vec<TableSnapshot> {
        let Some(restored) = self.task.restored() else { return Vec::new() };
        restored.tables(self.task.operator_id(self.node), name).cloned().collect()
    }

    /// Reads and checks the rows of a restored table, a group at a time.
    pub fn restored_rows<'t>(
        &'t self,
        table: &'t TableSnapshot,
    ) -> impl Iterator<Item = Result<RestoredRows, TaskError>> + 't {
        self.task.restored().into_iter().flat_map(|restored| restored.rows(table))
    }

    /// The key groups of the vertex.
    pub fn key_groups(&self) -> KeyGroups {
        self.task.key_groups()
    }

    /// Where the operator's code gets its metrics.
    pub fn metrics(&self) -> OperatorMetrics {
        OperatorMetrics::new(self.task.shared().clone(), self.task.operator_id(self.node))
    }
}

/// An operator with everything behind it.
#[derive(Debug)]
pub struct OpStage<Op, D> {
    op: Op,
    node: u32,
    down: D,
}

impl<Op, D> OpStage<Op, D> {
    /// `op`, which is `node` of the StreamGraph, before `down`.
    pub(crate) fn new(op: Op, node: u32, down: D) -> Self {
        OpStage { op, node, down }
    }

    /// Runs `f` so that a panic in it is reported with this operator's name.
    #[inline(always)]
    pub(crate) fn guarded<R>(&mut self, f: impl FnOnce(&mut Op, &mut D) -> R) -> R {
        let guard = OperatorGuard(self.node);
        let result = f(&mut self.op, &mut self.down);
        std::mem::forget(guard);
        result
    }
}

impl<In, Op: Operator<In>, D: Stage<Op::Out>> Collector<In> for OpStage<Op, D> {
    #[inline(always)]
    fn push(&mut self, record: In) {
        self.guarded(|op, down| op.process(record, down));
        self.own_steps();
    }
}

impl<Op, D> OpStage<Op, D> {
    /// Lets the operator do what it does of its own accord.
    #[inline(always)]
    fn own_steps<In, Out: 'static>(&mut self)
    where
        Op: Operator<In, Out = Out>,
        D: Stage<Out>,
    {
        if !Op::OWN_STEPS {
            return;
        }
        loop {
            match self.guarded(|op, down| op.own_step(down)) {
                OwnStep::Done => return,
                OwnStep::Time(control) => self.pass_time(control),
                OwnStep::Flush => self.flush_behind(Flush::Idle),
            }
        }
    }

    #[inline(never)]
    fn flush_behind<In, Out: 'static>(&mut self, why: Flush)
    where
        Op: Operator<In, Out = Out>,
        D: Stage<Out>,
    {
        if let Some(sides) = self.op.side_outputs() {
            sides.flush(why);
        }
        self.down.flush(why);
    }

    #[inline(never)]
    fn pass_time<In, Out: 'static>(&mut self, control: Control)
    where
        Op: Operator<In, Out = Out>,
        D: Stage<Out>,
    {
        if let Some(sides) = self.op.side_outputs() {
            sides.control(control);
        }
        self.down.control(control);
    }
}

impl<In: 'static, Op: Operator<In>, D: Stage<Op::Out>> Stage<In> for OpStage<Op, D> {
    #[inline(always)]
    fn prepare(&mut self, records: &[In]) {
        self.guarded(|op, _| op.prepare(records));
    }

    fn open(&mut self, task: &TaskContext) -> Result<(), TaskError> {
        let node = self.node;
        // Downstream first: an operator may already emit when it opens.
        self.down.open(task)?;
        self.guarded(|op, _| op.open(&OperatorContext { task, node }))
    }

    fn control(&mut self, control: Control) {
        let passed = self.guarded(|op, down| match control {
            Control::Watermark(time) => {
                op.watermark(time, down);
                op.upstream_time(control)
            }
            Control::Idle(_) => op.upstream_time(control),
            Control::End => {
                op.end(down);
                Some(control)
            }
            // Barriers come through `barrier`.
            Control::Barrier(_) => Some(control),
        });
        self.own_steps();
        if let Some(control) = passed {
            self.pass_time(control);
        }
    }

    fn barrier(&mut self, barrier: Barrier, snapshot: &mut SnapshotBuilder) {
        let node = self.node;
        self.guarded(|op, down| {
            if barrier.kind == CheckpointKind::Drain {
                op.end(down);
            }
            op.before_barrier(down);
        });
        self.own_steps();
        self.guarded(|op, _| op.snapshot(&mut snapshot.operator(node)));
        if let Some(sides) = self.op.side_outputs() {
            sides.control(Control::Barrier(barrier));
        }
        self.down.barrier(barrier, snapshot);
    }

    fn snapshot_step(&mut self, snapshot: &mut SnapshotBuilder) -> bool {
        let node = self.node;
        // One operator after the other: what is begun is brought to its end first.
        self.guarded(|op, _| op.snapshot_step(&mut snapshot.operator(node))) || self.down.snapshot_step(snapshot)
    }

    fn checkpoint_ended(&mut self, checkpoint: u64, completed: bool) {
        self.guarded(|op, _| op.checkpoint_ended(checkpoint, completed));
        self.down.checkpoint_ended(checkpoint, completed);
    }

    fn processing_time(&mut self, now: EventTime) -> EventTime {
        let own = self.guarded(|op, down| op.processing_time(now, down));
        self.own_steps();
        own.min(self.down.processing_time(now))
    }

    fn is_settled(&self) -> bool {
        self.op.is_settled() && self.down.is_settled()
    }

    fn close(&mut self, task: &TaskContext) -> Result<(), TaskError> {
        if let Some(sides) = self.op.side_outputs() {
            sides.open(task)?;
            sides.control(Control::End);
        }
        self.down.close(task)
    }

    fn flush(&mut self, why: Flush) {
        self.guarded(|op, down| op.flush(why, down));
        self.own_steps();
        self.flush_behind(why);
    }
}

/// A chain of fused operators, open at its end.
pub trait Chain: Clone + Send + 'static {
    /// The record type at its end.
    type Out: 'static;

    /// Runs the chain into `down` until its input ends, the task is cancelled or something fails.
    fn run<D: Stage<Self::Out>>(self, down: D, task: &mut TaskContext) -> Result<(), TaskError>;

    /// Adds what state its operators have.
    fn declare(&mut self, state: &mut ChainState);
}

/// A chain with one more operator at its end.
#[derive(Debug, Clone)]
pub struct Then<C, Op> {
    /// What comes before.
    pub chain: C,
    /// The last operator.
    pub op: Op,
    /// Its node in the StreamGraph.
    pub node: u32,
}

impl<C, Op> Chain for Then<C, Op>
where
    C: Chain,
    Op: Operator<C::Out>,
{
    type Out = Op::Out;

    fn run<D: Stage<Op::Out>>(self, down: D, task: &mut TaskContext) -> Result<(), TaskError> {
        self.chain.run(OpStage::new(self.op, self.node, down), task)
    }

    fn declare(&mut self, state: &mut ChainState) {
        self.chain.declare(state);
        let mut own = OperatorState::default();
        let guard = OperatorGuard(self.node);
        self.op.declare(&mut own);
        std::mem::forget(guard);
        state.push((self.node, own));
    }
}

/// The end of a chain whose last operator is a sink.
#[derive(Debug)]
pub struct NullStage {
    task: Arc<TaskShared>,
}

impl<T> Collector<T> for NullStage {
    #[inline(always)]
    fn push(&mut self, record: T) {
        drop(record);
    }
}

impl<T: 'static> Stage<T> for NullStage {
    fn open(&mut self, _task: &TaskContext) -> Result<(), TaskError> {
        Ok(())
    }
    fn control(&mut self, control: Control) {
        self.task.metrics().set_output_time(control);
    }
    fn barrier(&mut self, _barrier: Barrier, _snapshot: &mut SnapshotBuilder) {}
    fn snapshot_step(&mut self, _snapshot: &mut SnapshotBuilder) -> bool {
        false
    }
    fn checkpoint_ended(&mut self, _checkpoint: u64, _completed: bool) {}
    fn processing_time(&mut self, _now: EventTime) -> EventTime {
        EventTime::MAX
    }
    fn close(&mut self, _task: &TaskContext) -> Result<(), TaskError> {
        Ok(())
    }
    fn flush(&mut self, _why: Flush) {}
}

/// Builds the end of a chain for one subtask.
pub trait ChainEnd<T>: Clone + Send + 'static {
    /// The stage that ends the chain.
    type Stage: Stage<T>;
    /// Makes the stage; called on the task's thread.
    fn build(self, task: &mut TaskContext) -> Result<Self::Stage, TaskError>;
}

/// Ends a chain behind a sink.
#[derive(Debug, Clone, Copy, Default)]
pub struct Terminated;

impl<T: 'static> ChainEnd<T> for Terminated {
    type Stage = NullStage;
    fn build(self, task: &mut TaskContext) -> Result<NullStage, TaskError> {
        Ok(NullStage { task: task.shared().clone() })
    }
}

/// The body of a vertex with its types erased: makes the work of one subtask.
pub trait VertexBody: Send + Sync + 'static {
    /// The work of one subtask, to be run on its thread.
    fn instantiate(&self) -> TaskBody;
    /// What state its operators have.
    fn declare(&self) -> ChainState;
}

/// The work of one subtask.
pub type TaskBody = Box<dyn FnOnce(&mut TaskContext) -> Result<(), TaskError> + Send>;

/// A chain and its end, ready to be run by any number of subtasks.
pub struct Body<C, E> {
    // Behind a lock only because user closures need not be `Sync`; it is taken once per subtask, to clone.
    parts: std::sync::Mutex<(C, E)>,
}

impl<C: Chain, E: ChainEnd<C::Out>> Body<C, E> {
    /// Joins a chain with its end.
    pub fn erased(chain: C, end: E) -> Arc<dyn VertexBody> {
        Arc::new(Body { parts: std::sync::Mutex::new((chain, end)) })
    }
}

impl<C: Chain, E: ChainEnd<C::Out>> VertexBody for Body<C, E> {
    fn instantiate(&self) -> TaskBody {
        let (chain, end) = self.parts.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone();
        Box::new(move |task| {
            let stage = end.build(task)?;
            chain.run(stage, task)
        })
    }

    fn declare(&self) -> ChainState {
        // Not of a copy: it would be dropped here, with what the author's closures hold.
        let mut parts = self.parts.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let mut state = ChainState::new();
        parts.0.declare(&mut state);
        state
    }
}

/// Looks after a task between records: stops it when it is cancelled and lets buffered results leave in time, however long
/// the author's functions take for a record.
///
/// A look at the clock costs as much as tens of cheap records, so there is one every few records only: fewer the longer the
/// last ones took. In between, a look at the cancellation flag costs next to nothing.
#[derive(Debug)]
pub(crate) struct Pulse {
    task: Arc<TaskShared>,
    every: Option<Duration>,
    last_flush: Instant,
    last_look: Instant,
    seen: u64,
    look_at: u64,
    /// Records between two looks.
    stride: u64,
    /// Looks until the next one at the clock, and between two of those.
    clock_in: u32,
    clock_every: u32,
}

impl Pulse {
    /// Looks between which less time passes come less often.
    const OFTEN: Duration = Duration::from_micros(100);
    /// Looks between which more time passes come more often.
    const SELDOM: Duration = Duration::from_millis(1);
    /// A task whose function turns slow all of a sudden still notices that it is cancelled within this many records …
    const LONGEST_STRIDE: u64 = PREPARED as u64;
    /// … and that a flush is due within this many times as many.
    const MOST_LOOKS: u32 = 16;

    pub(crate) fn new(task: &TaskContext) -> Pulse {
        let now = Instant::now();
        let every = task.options().buffer_timeout;
        Pulse {
            task: task.shared().clone(),
            every,
            last_flush: now,
            last_look: now,
            seen: 0,
            look_at: 1,
            stride: 1,
            clock_in: 1,
            clock_every: 1,
        }
    }

    /// The task it looks after.
    pub(crate) fn task(&self) -> &TaskShared {
        &self.task
    }

    /// Records counted by [`on_record`](Self::on_record) so far.
    #[inline(always)]
    pub(crate) fn seen(&self) -> u64 {
        self.seen
    }

    /// Called after each record. Leaves the chain by [`raise`] when the task is cancelled.
    #[inline(always)]
    pub(crate) fn on_record(&mut self, flush: impl FnOnce(Flush)) {
        self.on_records(1, flush);
    }

    /// How many records may pass before [`on_records`](Self::on_records) must be called; at least 1.
    #[inline(always)]
    pub(crate) fn until_look(&self) -> u64 {
        self.look_at - self.seen
    }

    /// [`on_record`](Self::on_record) for up to [`until_look`](Self::until_look) records at once.
    #[inline(always)]
    pub(crate) fn on_records(&mut self, count: u64, flush: impl FnOnce(Flush)) {
        self.seen += count;
        if self.seen == self.look_at {
            self.look(flush);
        }
    }

    #[cold]
    #[inline(never)]
    fn look(&mut self, flush: impl FnOnce(Flush)) {
        self.look_at = self.seen + self.stride;
        self.task.check_canceled().unwrap_or_else(|error| raise(error));
        self.clock_in -= 1;
        if self.clock_in > 0 {
            return;
        }
        let now = Instant::now();
        let took = now - self.last_look;
        if took < Self::OFTEN {
            if self.stride == Self::LONGEST_STRIDE {
                self.clock_every = (self.clock_every * 2).min(Self::MOST_LOOKS);
            }
            self.stride = (self.stride * 2).min(Self::LONGEST_STRIDE);
        } else if took > Self::SELDOM {
            self.clock_every = 1;
            self.stride = (self.stride / 4).max(1);
        }
        self.clock_in = self.clock_every;
        self.last_look = now;
        self.look_at = self.seen + self.stride;
        if self.every.is_some_and(|every| now - self.last_flush >= every) {
            flush(Flush::Timeout);
            self.last_flush = now;
        }
    }

    /// Flushes when the timeout passed since the last flush. Called once per batch.
    #[inline]
    pub(crate) fn on_batch(&mut self, flush: impl FnOnce(Flush)) {
        let Some(every) = self.every else { return };
        if self.last_flush.elapsed() >= every {
            flush(Flush::Timeout);
            self.last_flush = Instant::now();
        }
    }

    /// Flushes because there is nothing to read.
    pub(crate) fn on_idle(&mut self, flush: impl FnOnce(Flush)) {
        flush(Flush::Idle);
        self.last_flush = Instant::now();
    }
}
