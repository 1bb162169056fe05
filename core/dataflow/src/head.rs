//! Heads of chains: the loops that feed a fused chain from a source, one input or two inputs.

use std::marker::PhantomData;
use std::ops::Range;
use std::time::Instant;

use crate::channel::{Gate, GateEvent};
use crate::element::Control;
use crate::failure::{FailureKind, OperatorGuard, TaskError};
use crate::gate::GateAction;
use crate::operator::{Chain, Collector, Flush, Pulse, Stage};
use crate::plan::TaskContext;
use crate::process::{CoProcessFunction, CoProcessOperator};
use crate::record::{Decoder, Record};
use crate::source::{
    NextSplit, ReaderContext, ReaderStatus, ReaderWaker, Source, SourceReader, SplitAnswer, decode_split,
};
use crate::task::{Mail, Waiting};

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

impl<S: Source> Chain for SourceHead<S> {
    type Out = S::Item;

    fn run<D: Stage<S::Item>>(self, mut down: D, task: &mut TaskContext) -> Result<(), TaskError> {
        down.open(task)?;
        let shared = task.shared().clone();
        let mut reader = self.guarded(|source| {
            source.create_reader(&ReaderContext {
                subtask: task.subtask(),
                parallelism: task.parallelism(),
                waker: ReaderWaker::new(shared.clone()),
            })
        })?;
        task.report_running();
        let mut pulse = Pulse::new(task);
        loop {
            shared.check_canceled()?;
            let before = pulse.seen();
            let status = self.guarded(|_| reader.poll(&mut Counted { down: &mut down, pulse: &mut pulse }))?;
            shared.metrics().add_records_in(pulse.seen() - before);
            match status {
                ReaderStatus::More => pulse.on_batch(|why| down.flush(why)),
                ReaderStatus::Wait(timeout) => {
                    pulse.on_idle(|why| down.flush(why));
                    shared.check_canceled()?;
                    shared.park(Waiting::Idle, timeout);
                }
                ReaderStatus::NeedSplit => {
                    let Some(split) = next_split::<S, D>(task, &mut down, &mut pulse)? else { break };
                    self.guarded(|_| reader.add_split(split))?;
                }
            }
        }
        down.control(Control::End);
        Ok(())
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

/// Asks the enumerator until it has a split or says that there will be none.
fn next_split<S: Source, D: Stage<S::Item>>(
    task: &TaskContext,
    down: &mut D,
    pulse: &mut Pulse,
) -> Result<Option<S::Split>, TaskError> {
    loop {
        task.request_split();
        // The answer is usually there within microseconds; only a real wait is worth a flush.
        let soon = Instant::now() + std::time::Duration::from_millis(1);
        let mail = match task.wait_for_mail(Some(soon))? {
            Some(mail) => mail,
            None => {
                pulse.on_idle(|why| down.flush(why));
                match task.wait_for_mail(None)? {
                    Some(mail) => mail,
                    None => continue,
                }
            }
        };
        let Mail::Split(answer) = mail;
        match answer {
            SplitAnswer::Next(NextSplit::Split(bytes)) => return decode_split(&bytes).map(Some),
            SplitAnswer::Next(NextSplit::Finished) => return Ok(None),
            SplitAnswer::Next(NextSplit::NotYet(wait)) => {
                pulse.on_idle(|why| down.flush(why));
                let asked = Instant::now();
                while asked.elapsed() < wait {
                    task.shared().check_canceled()?;
                    task.shared().park(Waiting::Idle, Some(wait.saturating_sub(asked.elapsed())));
                }
            }
            SplitAnswer::Failed(message) => return Err(TaskError::failed(FailureKind::Source, message)),
        }
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

    fn run<D: Stage<T>>(self, mut down: D, task: &mut TaskContext) -> Result<(), TaskError> {
        let mut gate = task.gate::<T>(0);
        down.open(task)?;
        task.report_running();
        let shared = task.shared().clone();
        let mut pulse = Pulse::new(task);
        loop {
            shared.check_canceled()?;
            match gate.poll()? {
                GateEvent::Empty => {
                    pulse.on_idle(|why| down.flush(why));
                    shared.check_canceled()?;
                    shared.park(Waiting::Idle, None);
                }
                GateEvent::Action(GateAction::End) => {
                    down.control(Control::End);
                    return Ok(());
                }
                GateEvent::Action(action) => pass_on(action, &mut down),
                event => {
                    feed(event, &mut gate, &mut pulse, &mut down, D::push, D::flush)?;
                    pulse.on_batch(|why| down.flush(why));
                }
            }
        }
    }
}

/// Feeds the records of a batch to `push`, counts them and gives the batch back.
#[inline(always)]
fn feed<T: Record, S>(
    event: GateEvent<T>,
    gate: &mut Gate<T>,
    pulse: &mut Pulse,
    stage: &mut S,
    push: impl Fn(&mut S, T),
    flush: impl Fn(&mut S, Flush),
) -> Result<(), TaskError> {
    match event {
        GateEvent::Batch(channel, mut batch) => {
            pulse.task().metrics().add_records_in(batch.len() as u64);
            let mut records = batch.drain(..);
            // In blocks, so that the loop over cheap records does nothing else.
            while records.len() > 0 {
                let block = pulse.until_look().min(records.len() as u64);
                for record in records.by_ref().take(block as usize) {
                    push(stage, record);
                }
                pulse.on_records(block, |why| flush(stage, why));
            }
            drop(records);
            gate.recycle(channel, batch);
        }
        GateEvent::Encoded(batch) => {
            pulse.task().metrics().add_records_in(u64::from(batch.records));
            pulse.task().metrics().add_bytes_in(batch.bytes.len() as u64);
            let mut decoder = Decoder::new(&batch.bytes);
            for _ in 0..batch.records {
                push(stage, T::decode(&mut decoder).map_err(damaged)?);
                pulse.on_record(|why| flush(stage, why));
            }
        }
        GateEvent::Action(_) | GateEvent::Empty => {}
    }
    Ok(())
}

#[cold]
fn damaged(error: crate::record::DecodeError) -> TaskError {
    TaskError::failed(FailureKind::Network, format!("a batch from another worker cannot be decoded: {error}"))
}

/// Passes a gate's decision down the chain.
fn pass_on<T>(action: GateAction, down: &mut impl Stage<T>) {
    match action {
        GateAction::Watermark(time) => down.control(Control::Watermark(time)),
        GateAction::Idle(idle) => down.control(Control::Idle(idle)),
        GateAction::Aligned(barrier) => down.control(Control::Barrier(barrier)),
        // Ends are the loops' business, the others mean nothing downstream.
        GateAction::End | GateAction::None | GateAction::Block | GateAction::BlockAnew => {}
    }
}

/// A chain that starts with two inputs of different types.
#[derive(Debug)]
pub struct CoInput<A, B, F: CoProcessFunction<A, B>> {
    /// The operator over both inputs.
    pub op: CoProcessOperator<F, F::Out>,
    /// Its node in the StreamGraph.
    pub node: u32,
    records: PhantomData<fn(A, B)>,
}

impl<A, B, F: CoProcessFunction<A, B>> CoInput<A, B, F> {
    /// A head running `op`.
    pub fn new(op: CoProcessOperator<F, F::Out>, node: u32) -> Self {
        CoInput { op, node, records: PhantomData }
    }
}

impl<A, B, F: CoProcessFunction<A, B>> Clone for CoInput<A, B, F> {
    fn clone(&self) -> Self {
        CoInput::new(self.op.clone(), self.node)
    }
}

impl<A: Record, B: Record, F: CoProcessFunction<A, B>> Chain for CoInput<A, B, F> {
    type Out = F::Out;

    fn run<D: Stage<F::Out>>(self, down: D, task: &mut TaskContext) -> Result<(), TaskError> {
        let (first, second) = (task.gate::<A>(0), task.gate::<B>(1));
        let mut run = CoRun { op: self.op, node: self.node, down };
        run.down.open(task)?;
        run.op.open_context(task)?;
        run.call(|f, context| f.open(context));
        task.report_running();
        run.feed_both(first, second, task)
    }
}

struct CoRun<F, Out, D> {
    op: CoProcessOperator<F, Out>,
    node: u32,
    down: D,
}

impl<F, Out, D: Stage<Out>> CoRun<F, Out, D> {
    #[inline(always)]
    fn call(&mut self, f: impl FnOnce(&mut F, &mut crate::process::ProcessContext<Out>)) {
        let guard = OperatorGuard(self.node);
        self.op.call(&mut self.down, f);
        std::mem::forget(guard);
    }

    fn control(&mut self, control: Control) {
        self.op.side_outputs().control(control);
        self.down.control(control);
    }

    fn flush(&mut self, why: Flush) {
        self.op.side_outputs().flush(why);
        self.down.flush(why);
    }
}

impl<F, Out: 'static, D: Stage<Out>> CoRun<F, Out, D> {
    fn feed_both<A, B>(mut self, mut first: Gate<A>, mut second: Gate<B>, task: &TaskContext) -> Result<(), TaskError>
    where
        A: Record,
        B: Record,
        F: CoProcessFunction<A, B, Out = Out>,
    {
        let shared = task.shared().clone();
        let mut pulse = Pulse::new(task);
        // The two gates are the two channels of a third one: it merges their watermarks and aligns their barriers.
        let mut both = crate::gate::GateState::new(2);
        // An input that delivered a barrier is not read until the other one has.
        let mut blocked = [false; 2];
        loop {
            shared.check_canceled()?;
            let a = if first.is_ended() || blocked[0] { GateEvent::Empty } else { first.poll()? };
            let first_empty = matches!(a, GateEvent::Empty);
            match a {
                GateEvent::Action(action) => {
                    if action == GateAction::End {
                        self.call(|f, context| f.first_ended(context));
                    }
                    self.merge(&mut both, 0, action, &mut blocked);
                }
                event => {
                    let push = |run: &mut Self, record| run.call(|f, context| f.first(record, context));
                    feed(event, &mut first, &mut pulse, &mut self, push, Self::flush)?;
                }
            }
            let b = if second.is_ended() || blocked[1] { GateEvent::Empty } else { second.poll()? };
            let second_empty = matches!(b, GateEvent::Empty);
            match b {
                GateEvent::Action(action) => {
                    if action == GateAction::End {
                        self.call(|f, context| f.second_ended(context));
                    }
                    self.merge(&mut both, 1, action, &mut blocked);
                }
                event => {
                    let push = |run: &mut Self, record| run.call(|f, context| f.second(record, context));
                    feed(event, &mut second, &mut pulse, &mut self, push, Self::flush)?;
                }
            }
            if both.is_ended() {
                self.control(Control::End);
                return Ok(());
            }
            if first_empty && second_empty {
                pulse.on_idle(|why| self.flush(why));
                shared.check_canceled()?;
                shared.park(Waiting::Idle, None);
            } else {
                pulse.on_batch(|why| self.flush(why));
            }
        }
    }

    /// Passes a change of watermark or idleness down the chain.
    fn settle(&mut self, action: GateAction) {
        match action {
            GateAction::Watermark(time) => self.control(Control::Watermark(time)),
            GateAction::Idle(idle) => self.control(Control::Idle(idle)),
            // The loop looks for the end itself; alignment is settled where it is known which input was blocked.
            GateAction::End | GateAction::None | GateAction::Block | GateAction::BlockAnew | GateAction::Aligned(_) => {
            }
        }
    }

    fn merge(&mut self, both: &mut crate::gate::GateState, input: usize, action: GateAction, blocked: &mut [bool; 2]) {
        let control = match action {
            GateAction::Watermark(time) => Control::Watermark(time),
            GateAction::Idle(idle) => Control::Idle(idle),
            GateAction::Aligned(barrier) => Control::Barrier(barrier),
            GateAction::End => Control::End,
            GateAction::None | GateAction::Block | GateAction::BlockAnew => return,
        };
        match both.on_control(input, control) {
            GateAction::Aligned(barrier) => {
                *blocked = [false; 2];
                self.control(Control::Barrier(barrier));
                self.settle(both.advance());
            }
            GateAction::Block => blocked[input] = true,
            GateAction::BlockAnew => {
                *blocked = [false; 2];
                blocked[input] = true;
            }
            other => self.settle(other),
        }
    }
}
