//! Heads of chains: the loops that feed a fused chain from a source, one input or two inputs.

use std::collections::VecDeque;
use std::marker::PhantomData;
use std::ops::Range;
use std::time::{Duration, Instant};

use weir_checkpoint::Redistribution;
use weir_model::CheckpointKind;

use crate::channel::{Gate, GateEvent};
use crate::declaration::{ChainState, OperatorState};
use crate::element::{Barrier, Control, Element, EncodedBatch, EventTime};
use crate::failure::{FailureKind, OperatorGuard, TaskError};
use crate::gate::{GateAction, GateState};
use crate::in_flight::{Overtaken, damaged};
use crate::metrics::Gauge;
use crate::operator::{Chain, CoOperator, Collector, Flush, OperatorContext, PREPARED, Pulse, Stage};
use crate::plan::TaskContext;
use crate::record::{Decoder, Record};
use crate::snapshot::{Progress, Released, SnapshotBuilder, TaskCheckpoints, end_of_time};
use crate::source::{
    NextSplit, ReaderContext, ReaderStatus, ReaderWaker, Source, SourceReader, SplitAnswer, decode_split,
};
use crate::task::{TaskShared, Waiting};

/// A chain that starts with a source.
#[derive(Debug, Clone)]
pub struct SourceHead<S> {
    /// The source.
    pub source: S,
    /// Its node in the StreamGraph.
    pub node: u32,
}

/// Counts what a source emits on its way into the chain, and looks after the task: a reader may emit a lot in one poll.
struct Counted<'a, D> {
    down: &'a mut D,
    pulse: &'a mut Pulse,
}

impl<T, D: Stage<T>> Collector<T> for Counted<'_, D> {
    #[inline(always)]
    fn push(&mut self, record: T) {
        self.down.push(record);
        self.pulse.on_record(|why| self.down.flush(why));
    }

    #[inline(always)]
    fn push_numbered(&mut self, numbers: Range<u64>, mut make: impl FnMut(u64) -> T) {
        let mut from = numbers.start;
        while from < numbers.end {
            let to = numbers.end.min(from.saturating_add(self.pulse.until_look()));
            for number in from..to {
                self.down.push(make(number));
            }
            self.pulse.on_records(to - from, |why| self.down.flush(why));
            from = to;
        }
    }
}

/// The list a source's unread splits are kept in.
const SPLITS: &str = "splits";

impl<S: Source> Chain for SourceHead<S> {
    type Out = S::Item;

    fn run<D: Stage<S::Item>>(self, mut down: D, task: &mut TaskContext) -> Result<(), TaskError> {
        if task.had_finished() {
            return down.close(task);
        }
        task.check_in_flight(0)?;
        down.open(task)?;
        let shared = task.shared().clone();
        let reader = self.guarded(|source| {
            source.create_reader(&ReaderContext {
                subtask: task.subtask(),
                parallelism: task.parallelism(),
                waker: ReaderWaker::new(shared.clone()),
                metrics: OperatorContext { task, node: self.node }.metrics(),
            })
        })?;
        let restored = OperatorContext { task, node: self.node }.restored_list::<S::Split>(SPLITS)?;
        let mut stage =
            SourceStage { reader, waiting: restored.into(), node: self.node, down, item: PhantomData::<fn(S::Item)> };
        task.report_running();
        let mut run = SourceRun::new(task);
        loop {
            shared.check_canceled()?;
            if !run.take_letters(&mut stage)? {
                return Ok(());
            }
            let before = run.pulse.seen();
            let status =
                self.guarded(|_| stage.reader.poll(&mut Counted { down: &mut stage.down, pulse: &mut run.pulse }))?;
            shared.metrics().add_records_in(run.pulse.seen() - before);
            stage.send_time();
            match status {
                ReaderStatus::More => run.pulse.on_batch(|why| stage.down.flush(why)),
                ReaderStatus::Wait(timeout) => run.wait(timeout, &mut stage)?,
                ReaderStatus::NeedSplit => match stage.waiting.pop_front() {
                    Some(split) => self.guarded(|_| stage.reader.add_split(split))?,
                    None => match run.next_split(&mut stage)? {
                        Next::Split(bytes) => stage.waiting.push_back(decode_split(&bytes)?),
                        Next::Waiting => {}
                        Next::None => break,
                        Next::Stop => return Ok(()),
                    },
                },
            }
        }
        if run.finish(&mut stage)? {
            stage.control(Control::End);
        }
        Ok(())
    }

    fn declare(&mut self, state: &mut ChainState) {
        let mut own = OperatorState::default();
        own.list::<S::Split>(SPLITS, Redistribution::Split);
        state.push((self.node, own));
    }
}

impl<S: Source> SourceHead<S> {
    fn guarded<R>(&self, f: impl FnOnce(&S) -> R) -> R {
        let guard = OperatorGuard(self.node);
        let result = f(&self.source);
        std::mem::forget(guard);
        result
    }
}

/// A source with everything behind it; what its reader has not read is its state.
struct SourceStage<R: SourceReader, T, D> {
    reader: R,
    /// Splits to be read, of before a restore.
    waiting: VecDeque<R::Split>,
    node: u32,
    down: D,
    item: PhantomData<fn(T)>,
}

impl<R: SourceReader, T: 'static, D: Stage<T>> SourceStage<R, T, D> {
    /// Sends the watermarks and changes of idleness that the reader makes.
    #[inline]
    fn send_time(&mut self) {
        while let Some(control) = self.reader.time() {
            self.down.control(control);
        }
    }
}

/// Nothing is pushed into a source.
impl<R: SourceReader, T: 'static, D: Stage<T>> Collector<T> for SourceStage<R, T, D> {
    fn push(&mut self, record: T) {
        self.down.push(record);
    }
}

impl<R: SourceReader, T: 'static, D: Stage<T>> Stage<T> for SourceStage<R, T, D> {
    fn open(&mut self, task: &TaskContext) -> Result<(), TaskError> {
        self.down.open(task)
    }
    fn control(&mut self, control: Control) {
        self.down.control(control);
    }
    fn barrier(&mut self, barrier: Barrier, snapshot: &mut SnapshotBuilder) {
        let guard = OperatorGuard(self.node);
        let reading = self.reader.snapshot();
        std::mem::forget(guard);
        let splits = reading.iter().chain(&self.waiting);
        snapshot.operator(self.node).list(SPLITS, Redistribution::Split, splits);
        self.down.barrier(barrier, snapshot);
    }
    fn snapshot_step(&mut self, snapshot: &mut SnapshotBuilder) -> bool {
        self.down.snapshot_step(snapshot)
    }
    fn checkpoint_ended(&mut self, checkpoint: u64, completed: bool) {
        if completed {
            self.reader.checkpoint_completed(checkpoint);
        }
        self.down.checkpoint_ended(checkpoint, completed);
    }
    fn processing_time(&mut self, now: EventTime) -> EventTime {
        self.down.processing_time(now)
    }
    fn is_settled(&self) -> bool {
        self.down.is_settled()
    }
    fn close(&mut self, task: &TaskContext) -> Result<(), TaskError> {
        self.down.close(task)
    }
    fn flush(&mut self, why: Flush) {
        self.down.flush(why);
    }
}

/// What a source task gets to read next.
enum Next {
    Split(Vec<u8>),
    /// It came before a barrier and has been taken in.
    Waiting,
    /// There will be nothing more.
    None,
    /// The job was stopped with a savepoint.
    Stop,
}

/// The loop of a source task beside its reader.
struct SourceRun<'t> {
    task: &'t TaskContext,
    checkpoints: TaskCheckpoints,
    pulse: Pulse,
}

impl<'t> SourceRun<'t> {
    fn new(task: &'t TaskContext) -> Self {
        SourceRun { task, checkpoints: TaskCheckpoints::new(task), pulse: Pulse::new(task) }
    }

    /// Reads letters, begins barriers, hands rows over, fires timers. False when the task is to finish at once.
    fn take_letters<R, T, D>(&mut self, stage: &mut SourceStage<R, T, D>) -> Result<bool, TaskError>
    where
        R: SourceReader,
        T: 'static,
        D: Stage<T>,
    {
        loop {
            let progress = self.checkpoints.read_mail(stage)?;
            loop {
                while let Some(split) = self.checkpoints.take_split_before_trigger() {
                    stage.waiting.push_back(decode_split(&split)?);
                }
                let Some(barrier) = self.checkpoints.take_trigger() else { break };
                end_of_time(barrier, stage);
                self.checkpoints.barrier(barrier, Duration::ZERO, stage);
            }
            self.checkpoints.work(stage);
            match progress {
                // A barrier that was begun just now may have made it hold.
                Progress::Continue if !self.checkpoints.is_stopping() => {
                    self.checkpoints.timers(stage);
                    return Ok(true);
                }
                Progress::Continue | Progress::Hold => self.checkpoints.idle(None, stage)?,
                Progress::Stop => {
                    self.checkpoints.wait_for_writers();
                    return Ok(false);
                }
            }
        }
    }

    /// Nothing to read now.
    fn wait<T>(&mut self, timeout: Option<Duration>, stage: &mut impl Stage<T>) -> Result<(), TaskError> {
        self.pulse.on_idle(|why| stage.flush(why));
        self.checkpoints.idle(timeout, stage)
    }

    /// Asks the enumerator until it has a split or says that there will be none.
    fn next_split<R, T, D>(&mut self, stage: &mut SourceStage<R, T, D>) -> Result<Next, TaskError>
    where
        R: SourceReader,
        T: 'static,
        D: Stage<T>,
    {
        loop {
            self.task.request_split();
            // The answer is usually there within microseconds; only a real wait is worth a flush.
            let soon = Instant::now() + Duration::from_millis(1);
            let answer = loop {
                self.task.shared().check_canceled()?;
                if !self.take_letters(stage)? {
                    return Ok(Next::Stop);
                }
                if !stage.waiting.is_empty() {
                    return Ok(Next::Waiting);
                }
                if let Some(answer) = self.checkpoints.take_split() {
                    break answer;
                }
                let patience = soon.saturating_duration_since(Instant::now());
                if patience.is_zero() {
                    self.wait(None, stage)?;
                } else {
                    self.task.shared().park(Waiting::Idle, Some(patience));
                }
            };
            match answer {
                SplitAnswer::Next(NextSplit::Split(bytes)) => return Ok(Next::Split(bytes)),
                SplitAnswer::Next(NextSplit::Finished) => return Ok(Next::None),
                SplitAnswer::Next(NextSplit::NotYet(wait)) => {
                    let asked = Instant::now();
                    while asked.elapsed() < wait {
                        self.wait(Some(wait.saturating_sub(asked.elapsed())), stage)?;
                        stage.send_time();
                        if !self.take_letters(stage)? {
                            return Ok(Next::Stop);
                        }
                    }
                }
                SplitAnswer::Failed(message) => return Err(TaskError::failed(FailureKind::Source, message)),
            }
        }
    }

    /// Everything is read. Whether the input has an end; otherwise the job was stopped with a savepoint.
    fn finish<R, T, D>(&mut self, stage: &mut SourceStage<R, T, D>) -> Result<bool, TaskError>
    where
        R: SourceReader,
        T: 'static,
        D: Stage<T>,
    {
        if !self.take_letters(stage)? {
            return Ok(false);
        }
        self.checkpoints.finish(stage)
    }
}

/// A chain that starts with one input, of any number of channels and edges.
#[derive(Debug)]
pub struct Input<T> {
    record: PhantomData<fn(T)>,
}

impl<T> Default for Input<T> {
    fn default() -> Self {
        Input { record: PhantomData }
    }
}

impl<T> Clone for Input<T> {
    fn clone(&self) -> Self {
        Input::default()
    }
}

impl<T: Record> Chain for Input<T> {
    type Out = T;

    fn declare(&mut self, _state: &mut ChainState) {}

    fn run<D: Stage<T>>(self, mut down: D, task: &mut TaskContext) -> Result<(), TaskError> {
        let mut gate = task.gate::<T>(0);
        if task.had_finished() {
            return down.close(task);
        }
        task.check_in_flight(1)?;
        down.open(task)?;
        task.report_running();
        let shared = task.shared().clone();
        let mut pulse = Pulse::new(task);
        let mut checkpoints = TaskCheckpoints::new(task);
        gate.begin_with(task.restored_in_flight(0)?);
        loop {
            shared.check_canceled()?;
            if checkpoints.read_mail(&mut down)? == Progress::Stop {
                checkpoints.wait_for_writers();
                return Ok(());
            }
            if checkpoints.is_stopping() {
                // Nothing more comes; producers that hear of the end of the job earlier may leave earlier.
                checkpoints.idle(None, &mut down)?;
                continue;
            }
            checkpoints.look(&mut [&mut gate], &mut down)?;
            match gate.poll()? {
                GateEvent::Empty => {
                    pulse.on_idle(|why| down.flush(why));
                    checkpoints.idle(None, &mut down)?;
                }
                GateEvent::Action(GateAction::End) => {
                    checkpoints.take_recorded(&mut [&mut gate])?;
                    if checkpoints.finish(&mut down)? {
                        shared.metrics().set_input_time(Control::End);
                        down.control(Control::End);
                    }
                    return Ok(());
                }
                GateEvent::Action(GateAction::Aligned(barrier)) => {
                    checkpoints.aligned(barrier, gate.alignment(), gate.processed(), &mut down);
                }
                GateEvent::Action(action) => pass_on(action, &shared, &mut down),
                event => {
                    feed(event, &mut gate, &mut pulse, &mut down, D::prepare, D::push, D::flush)?;
                    pulse.on_batch(|why| down.flush(why));
                    checkpoints.timers(&mut down);
                    checkpoints.work(&mut down);
                }
            }
        }
    }
}

/// Feeds the records of a batch to `push`, some at a time to `prepare` before, counts them and gives the batch back.
#[inline(always)]
fn feed<T: Record, S>(
    event: GateEvent<T>,
    gate: &mut Gate<T>,
    pulse: &mut Pulse,
    stage: &mut S,
    prepare: impl Fn(&mut S, &[T]),
    push: impl Fn(&mut S, T),
    flush: impl Fn(&mut S, Flush),
) -> Result<(), TaskError> {
    match event {
        GateEvent::Batch(channel, mut batch) => {
            let mut records = batch.drain(..);
            // In blocks, so that the loop over cheap records does nothing else.
            while records.len() > 0 {
                let block = pulse.until_look().min(records.len() as u64);
                prepare(stage, &records.as_slice()[..block as usize]);
                for record in records.by_ref().take(block as usize) {
                    push(stage, record);
                }
                pulse.task().metrics().add_records_in(block);
                pulse.on_records(block, |why| flush(stage, why));
                if pulse.task().is_urgent() && records.len() > 0 {
                    gate.put_back(Element::Batch(records.by_ref().collect()));
                }
            }
            drop(records);
            gate.recycle(channel, batch);
        }
        GateEvent::Encoded(batch) => {
            let mut decoder = Decoder::new(&batch.bytes);
            let (mut left, mut records) = (batch.records, Vec::with_capacity(PREPARED));
            while left > 0 {
                let block = pulse.until_look().min(u64::from(left));
                T::decode_batch(&mut decoder, block as usize, &mut records).map_err(damaged)?;
                prepare(stage, &records);
                records.drain(..).for_each(|record| push(stage, record));
                left -= block as u32;
                pulse.task().metrics().add_records_in(block);
                pulse.on_records(block, |why| flush(stage, why));
                if pulse.task().is_urgent() && left > 0 {
                    let rest = EncodedBatch { bytes: decoder.rest().to_vec(), records: left };
                    gate.put_back(Element::Encoded(rest));
                    break;
                }
            }
            pulse.task().metrics().add_bytes_in(decoder.offset() as u64);
        }
        GateEvent::Action(_) | GateEvent::Empty => {}
    }
    Ok(())
}

/// Passes a gate's decision down the chain.
fn pass_on<T>(action: GateAction, task: &TaskShared, down: &mut impl Stage<T>) {
    match action {
        GateAction::Watermark(time) => {
            let control = Control::Watermark(time);
            task.metrics().set_input_time(control);
            down.control(control);
        }
        GateAction::Idle(idle) => down.control(Control::Idle(idle)),
        // Barriers and ends are the loops' business, the others mean nothing downstream.
        GateAction::Aligned(_) | GateAction::End | GateAction::None | GateAction::Block | GateAction::BlockAnew => {}
    }
}

/// A chain that starts with two inputs of different types.
#[derive(Debug)]
pub struct CoInput<A, B, Op> {
    /// The operator over both inputs.
    pub op: Op,
    /// Its node in the StreamGraph.
    pub node: u32,
    records: PhantomData<fn(A, B)>,
}

impl<A, B, Op> CoInput<A, B, Op> {
    /// A head running `op`.
    pub fn new(op: Op, node: u32) -> Self {
        CoInput { op, node, records: PhantomData }
    }
}

impl<A, B, Op: Clone> Clone for CoInput<A, B, Op> {
    fn clone(&self) -> Self {
        CoInput::new(self.op.clone(), self.node)
    }
}

impl<A: Record, B: Record, Op: CoOperator<A, B>> Chain for CoInput<A, B, Op> {
    type Out = Op::Out;

    fn run<D: Stage<Op::Out>>(self, down: D, task: &mut TaskContext) -> Result<(), TaskError> {
        let (first, second) = (task.gate::<A>(0), task.gate::<B>(1));
        let mut stage = CoStage { op: self.op, node: self.node, down, records: PhantomData::<fn(A, B)> };
        if task.had_finished() {
            return stage.close(task);
        }
        task.check_in_flight(2)?;
        stage.open(task)?;
        task.report_running();
        CoRun::new(task, stage).feed_both(first, second)
    }

    fn declare(&mut self, state: &mut ChainState) {
        let mut own = OperatorState::default();
        let guard = OperatorGuard(self.node);
        self.op.declare(&mut own);
        std::mem::forget(guard);
        state.push((self.node, own));
    }
}

/// An operator over two inputs with everything behind it. As a stage it has no input of its own.
struct CoStage<A, B, Op, D> {
    op: Op,
    node: u32,
    down: D,
    records: PhantomData<fn(A, B)>,
}

impl<A, B, Op, D> CoStage<A, B, Op, D> {
    #[inline(always)]
    fn guarded<R>(&mut self, f: impl FnOnce(&mut Op, &mut D) -> R) -> R {
        let guard = OperatorGuard(self.node);
        let result = f(&mut self.op, &mut self.down);
        std::mem::forget(guard);
        result
    }
}

impl<A, B, Op, D> Collector<()> for CoStage<A, B, Op, D> {
    fn push(&mut self, _record: ()) {}
}

impl<A, B, Op, D> Stage<()> for CoStage<A, B, Op, D>
where
    A: Record,
    B: Record,
    Op: CoOperator<A, B>,
    D: Stage<Op::Out>,
{
    fn open(&mut self, task: &TaskContext) -> Result<(), TaskError> {
        let node = self.node;
        self.down.open(task)?;
        self.guarded(|op, _| op.open(&OperatorContext { task, node }))
    }
    fn control(&mut self, control: Control) {
        self.guarded(|op, down| match control {
            Control::Watermark(time) => op.watermark(time, down),
            Control::End => op.end(down),
            Control::Barrier(_) | Control::Idle(_) => {}
        });
        if let Some(sides) = self.op.side_outputs() {
            sides.control(control);
        }
        self.down.control(control);
    }
    fn barrier(&mut self, barrier: Barrier, snapshot: &mut SnapshotBuilder) {
        let node = self.node;
        self.guarded(|op, down| {
            if barrier.kind == CheckpointKind::Drain {
                op.first_ended(down);
                op.second_ended(down);
                op.end(down);
            }
            op.snapshot(&mut snapshot.operator(node));
        });
        if let Some(sides) = self.op.side_outputs() {
            sides.control(Control::Barrier(barrier));
        }
        self.down.barrier(barrier, snapshot);
    }
    fn snapshot_step(&mut self, snapshot: &mut SnapshotBuilder) -> bool {
        let node = self.node;
        self.guarded(|op, _| op.snapshot_step(&mut snapshot.operator(node))) || self.down.snapshot_step(snapshot)
    }
    fn checkpoint_ended(&mut self, checkpoint: u64, completed: bool) {
        self.guarded(|op, _| op.checkpoint_ended(checkpoint, completed));
        self.down.checkpoint_ended(checkpoint, completed);
    }
    fn processing_time(&mut self, now: EventTime) -> EventTime {
        let own = self.guarded(|op, down| op.processing_time(now, down));
        own.min(self.down.processing_time(now))
    }
    fn is_settled(&self) -> bool {
        self.down.is_settled()
    }
    fn close(&mut self, task: &TaskContext) -> Result<(), TaskError> {
        if let Some(sides) = self.op.side_outputs() {
            sides.open(task)?;
            sides.control(Control::End);
        }
        self.down.close(task)
    }
    fn flush(&mut self, why: Flush) {
        if let Some(sides) = self.op.side_outputs() {
            sides.flush(why);
        }
        self.down.flush(why);
    }
}

/// What became of an element of one of two inputs.
enum Fed {
    Nothing,
    Something,
    /// Both inputs have ended.
    Ended,
}

/// The loop over two inputs.
struct CoRun<'t, S> {
    task: &'t TaskContext,
    stage: S,
    pulse: Pulse,
    checkpoints: TaskCheckpoints,
    /// The two gates are the two channels of a third one: it merges their watermarks and aligns their barriers.
    both: GateState,
    /// An input that delivered a barrier is not read until the other one has.
    blocked: [bool; 2],
    blocked_since: Option<Instant>,
    /// Bytes that inputs processed while they aligned the checkpoint that blocks them.
    processed: u64,
    /// Show the watermark of each input.
    watermarks: [Gauge; 2],
}

impl<'t, A, B, Op, D> CoRun<'t, CoStage<A, B, Op, D>>
where
    A: Record,
    B: Record,
    Op: CoOperator<A, B>,
    D: Stage<Op::Out>,
{
    fn new(task: &'t TaskContext, stage: CoStage<A, B, Op, D>) -> Self {
        let metrics = OperatorContext { task, node: stage.node }.metrics();
        let watermarks = ["currentInput1Watermark", "currentInput2Watermark"].map(|name| metrics.gauge(name));
        watermarks.iter().for_each(|gauge| gauge.set(EventTime::MIN as f64));
        CoRun {
            task,
            stage,
            pulse: Pulse::new(task),
            checkpoints: TaskCheckpoints::new(task),
            both: GateState::new(2),
            blocked: [false; 2],
            blocked_since: None,
            processed: 0,
            watermarks,
        }
    }

    fn feed_both(mut self, mut first: Gate<A>, mut second: Gate<B>) -> Result<(), TaskError> {
        let shared = self.task.shared().clone();
        first.begin_with(self.task.restored_in_flight(0)?);
        second.begin_with(self.task.restored_in_flight(1)?);
        loop {
            shared.check_canceled()?;
            if self.checkpoints.read_mail(&mut self.stage)? == Progress::Stop {
                self.checkpoints.wait_for_writers();
                return Ok(());
            }
            if self.checkpoints.is_stopping() {
                self.checkpoints.idle(None, &mut self.stage)?;
                continue;
            }
            let inputs: &mut [&mut dyn Overtaken] = &mut [&mut first, &mut second, &mut self.both];
            if let Some(Released) = self.checkpoints.look(inputs, &mut self.stage)? {
                self.release();
            }
            let ended = |op: &mut Op, down: &mut D| op.first_ended(down);
            let a =
                self.feed_one(0, &mut first, ended, Op::prepare_first, |op, record, down| op.first(record, down))?;
            let ended = |op: &mut Op, down: &mut D| op.second_ended(down);
            let b =
                self.feed_one(1, &mut second, ended, Op::prepare_second, |op, record, down| op.second(record, down))?;
            if matches!(a, Fed::Ended) || matches!(b, Fed::Ended) {
                self.checkpoints.take_recorded(&mut [&mut first, &mut second])?;
                if self.checkpoints.finish(&mut self.stage)? {
                    shared.metrics().set_input_time(Control::End);
                    self.stage.control(Control::End);
                }
                return Ok(());
            }
            if matches!((a, b), (Fed::Nothing, Fed::Nothing)) {
                self.pulse.on_idle(|why| self.stage.flush(why));
                self.checkpoints.idle(None, &mut self.stage)?;
            } else {
                self.pulse.on_batch(|why| self.stage.flush(why));
                self.checkpoints.timers(&mut self.stage);
                self.checkpoints.work(&mut self.stage);
            }
        }
    }

    /// Takes the next element of one input.
    fn feed_one<T: Record>(
        &mut self,
        input: usize,
        gate: &mut Gate<T>,
        ended: impl Fn(&mut Op, &mut D),
        prepare: impl Fn(&mut Op, &[T]),
        push: impl Fn(&mut Op, T, &mut D),
    ) -> Result<Fed, TaskError> {
        if gate.is_ended() || self.blocked[input] {
            return Ok(Fed::Nothing);
        }
        match gate.poll()? {
            GateEvent::Empty => return Ok(Fed::Nothing),
            GateEvent::Action(action) => {
                if action == GateAction::End {
                    self.stage.guarded(|op, down| ended(op, down));
                }
                self.merge(input, action, gate.alignment(), gate.processed());
            }
            event => {
                let CoRun { stage, pulse, .. } = self;
                let push = |stage: &mut CoStage<A, B, Op, D>, record| {
                    stage.guarded(|op, down| push(op, record, down));
                };
                let prepare = |stage: &mut CoStage<A, B, Op, D>, records: &[T]| {
                    stage.guarded(|op, _| prepare(op, records));
                };
                feed(event, gate, pulse, stage, prepare, push, Stage::flush)?;
            }
        }
        Ok(if self.both.is_ended() { Fed::Ended } else { Fed::Something })
    }

    /// Passes a change of watermark or idleness down the chain. The loop looks for the end itself; alignment is settled where it is
    /// known which input was blocked.
    fn settle(&mut self, action: GateAction) {
        pass_on(action, self.task.shared(), &mut self.stage);
    }

    /// The inputs may be read again, unless another checkpoint is being aligned.
    fn release(&mut self) {
        if !self.both.is_aligning() {
            self.blocked = [false; 2];
            self.blocked_since = None;
            self.processed = 0;
        }
    }

    fn merge(&mut self, input: usize, action: GateAction, alignment: Duration, processed: u64) {
        let control = match action {
            GateAction::Watermark(time) => Control::Watermark(time),
            GateAction::Idle(idle) => Control::Idle(idle),
            GateAction::Aligned(barrier) => Control::Barrier(barrier),
            GateAction::End => Control::End,
            GateAction::None | GateAction::Block | GateAction::BlockAnew => return,
        };
        match control {
            Control::Watermark(time) => self.watermarks[input].set(time as f64),
            Control::End => self.watermarks[input].set(EventTime::MAX as f64),
            Control::Barrier(_) | Control::Idle(_) => {}
        }
        let wait = !self.task.options().at_least_once;
        match self.both.on_control(input, control) {
            GateAction::Aligned(barrier) => {
                self.blocked = [false; 2];
                let waited = self.blocked_since.take().map_or(Duration::ZERO, |since| since.elapsed());
                let processed = std::mem::take(&mut self.processed) + processed;
                self.checkpoints.aligned(barrier, alignment + waited, processed, &mut self.stage);
                let action = self.both.advance();
                self.settle(action);
            }
            GateAction::Block => {
                self.blocked_since.get_or_insert_with(Instant::now);
                self.blocked[input] = wait;
                self.processed += processed;
            }
            GateAction::BlockAnew => {
                self.blocked_since = Some(Instant::now());
                self.blocked = [false; 2];
                self.blocked[input] = wait;
                self.processed = processed;
            }
            watermark @ GateAction::Watermark(_) if !matches!(control, Control::Watermark(_)) => {
                self.settle(watermark);
                let action = self.both.advance();
                self.settle(action);
            }
            other => self.settle(other),
        }
    }
}
