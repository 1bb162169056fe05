//! `process`: user functions with a context, side outputs and, on keyed streams, state.

use std::any::Any;
use std::fmt;
use std::marker::PhantomData;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::declaration::OperatorState;
use crate::element::Control;
use crate::exchange::{ExchangeStage, RoundRobinPartitioner};
use crate::failure::TaskError;
use crate::metrics::OperatorMetrics;
use crate::operator::{CoOperator, Collector, Flush, OfTwo, Operator, OperatorContext, Stage};
use crate::plan::{PortId, TaskContext};
use crate::record::Record;
use crate::snapshot::OperatorSnapshotter;
use crate::state::{OperatorStateAccess, OperatorStateDeclarer, OperatorStates};

mod broadcast;
mod keyed;
mod keyed_co;
mod keyed_operator;
mod keyed_process;

pub use broadcast::{
    BroadcastProcessFunction, BroadcastProcessOperator, KeyedBroadcastProcessFunction, KeyedBroadcastProcessOperator,
};
pub use keyed::{KeyedContext, Timers};
pub use keyed_co::{KeyedCoProcessFunction, KeyedCoProcessOperator};
pub use keyed_operator::KeyedOperator;
pub use keyed_process::{KeyedProcessFunction, KeyedProcessOperator};

/// Names a side output and its record type.
pub struct OutputTag<T> {
    name: String,
    id: u64,
    record: PhantomData<fn(T)>,
}

impl<T> OutputTag<T> {
    /// A tag; `name` tells people which output is meant. Two tags of one name are two outputs.
    pub fn new(name: impl Into<String>) -> OutputTag<T> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        OutputTag { name: name.into(), id: NEXT.fetch_add(1, Ordering::Relaxed), record: PhantomData }
    }

    /// The name given to [`new`](Self::new).
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl<T> Clone for OutputTag<T> {
    fn clone(&self) -> Self {
        OutputTag { name: self.name.clone(), id: self.id, record: PhantomData }
    }
}

impl<T> fmt::Debug for OutputTag<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OutputTag({:?})", self.name)
    }
}

// Round robin over one channel is forward; consumers of another parallelism get a rebalance.
type SideStage<T> = ExchangeStage<T, RoundRobinPartitioner>;

/// A side output's stage with its record type erased. The main output has no dynamic call; a record for a side output costs one.
trait ErasedSide: Send {
    fn control(&mut self, control: Control);
    fn flush(&mut self, why: Flush);
    fn as_any(&mut self) -> &mut dyn Any;
}

impl<T: Record> ErasedSide for SideStage<T> {
    fn control(&mut self, control: Control) {
        Stage::control(self, control);
    }
    fn flush(&mut self, why: Flush) {
        Stage::flush(self, why);
    }
    fn as_any(&mut self) -> &mut dyn Any {
        self
    }
}

type BuildSide = fn(&TaskContext, PortId) -> Result<Box<dyn ErasedSide>, TaskError>;

#[derive(Clone, Copy)]
struct SideDeclaration {
    tag: u64,
    port: PortId,
    build: BuildSide,
}

/// The side outputs of one operator: those somebody reads. Records for others are dropped.
#[derive(Default)]
pub struct SideOutputs {
    declared: Vec<SideDeclaration>,
    open: Vec<(u64, Box<dyn ErasedSide>)>,
}

impl fmt::Debug for SideOutputs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SideOutputs({})", self.declared.len())
    }
}

impl Clone for SideOutputs {
    fn clone(&self) -> Self {
        SideOutputs { declared: self.declared.clone(), open: Vec::new() }
    }
}

impl SideOutputs {
    /// Connects `tag` with an output port. While the job is being built only.
    pub fn declare<T: Record>(&mut self, tag: &OutputTag<T>, port: PortId) {
        let build: BuildSide =
            |task, port| Ok(Box::new(SideStage::<T>::new(task, port, RoundRobinPartitioner::rebalance())?));
        self.declared.push(SideDeclaration { tag: tag.id, port, build });
    }

    pub(crate) fn open(&mut self, task: &TaskContext) -> Result<(), TaskError> {
        for side in &self.declared {
            self.open.push((side.tag, (side.build)(task, side.port)?));
        }
        Ok(())
    }

    pub(crate) fn push<T: Record>(&mut self, tag: &OutputTag<T>, record: T) {
        let Some((_, side)) = self.open.iter_mut().find(|(id, _)| *id == tag.id) else { return };
        let stage = side.as_any().downcast_mut::<SideStage<T>>().expect("a tag's id stands for one record type");
        stage.push(record);
    }

    pub(crate) fn control(&mut self, control: Control) {
        self.open.iter_mut().for_each(|(_, side)| side.control(control));
    }

    pub(crate) fn flush(&mut self, why: Flush) {
        self.open.iter_mut().for_each(|(_, side)| side.flush(why));
    }
}

/// What a `process` function sees besides its record.
#[derive(Debug)]
pub struct ProcessContext<Out> {
    // Emitted records wait here until the user's function returns: that keeps the fused rest of the chain out of its signature.
    emitted: Vec<Out>,
    sides: SideOutputs,
    /// Of functions without keys.
    states: OperatorStates,
    subtask: u32,
    parallelism: u32,
    /// Set while the operator is open.
    metrics: Option<OperatorMetrics>,
}

impl<Out> ProcessContext<Out> {
    fn new(sides: SideOutputs) -> Self {
        ProcessContext {
            emitted: Vec::new(),
            sides,
            states: OperatorStates::default(),
            subtask: 0,
            parallelism: 1,
            metrics: None,
        }
    }

    fn open(&mut self, context: &OperatorContext<'_>) -> Result<(), TaskError> {
        self.subtask = context.task.subtask();
        self.parallelism = context.task.parallelism();
        self.metrics = Some(context.metrics());
        self.sides.open(context.task)
    }

    #[inline(always)]
    fn drain_into<C: Collector<Out>>(&mut self, out: &mut C) {
        for record in self.emitted.drain(..) {
            out.push(record);
        }
    }

    /// Emits a record to the main output.
    #[inline]
    pub fn emit(&mut self, record: Out) {
        self.emitted.push(record);
    }

    /// Emits a record to a side output; dropped if nobody reads that output.
    pub fn emit_to<T: Record>(&mut self, tag: &OutputTag<T>, record: T) {
        self.sides.push(tag, record);
    }

    /// Index of this subtask, from 0.
    pub fn subtask(&self) -> u32 {
        self.subtask
    }

    /// Number of subtasks of this operator.
    pub fn parallelism(&self) -> u32 {
        self.parallelism
    }

    /// Where the function gets counters and gauges of its own, best in `open`.
    pub fn metrics(&self) -> &OperatorMetrics {
        self.metrics.as_ref().expect("a function is called only while its operator is open")
    }
}

impl<Out> OperatorStateAccess for ProcessContext<Out> {
    fn operator_states(&self) -> &OperatorStates {
        &self.states
    }
    fn operator_states_mut(&mut self) -> &mut OperatorStates {
        &mut self.states
    }
}

/// A function over the records of a stream, with a context. Cloned once per subtask.
pub trait ProcessFunction<In>: Clone + Send + 'static {
    /// The records it emits.
    type Out: Send + 'static;

    /// Declares list states. Called before [`open`](Self::open), and also where the function never runs, to compare them with those of a
    /// checkpoint: must do nothing else.
    fn declare(&mut self, states: &mut OperatorStateDeclarer<'_>) {
        let _ = states;
    }

    /// Called once before the first record.
    fn open(&mut self, context: &mut ProcessContext<Self::Out>) {
        let _ = context;
    }

    /// Called for each record.
    fn process(&mut self, record: In, context: &mut ProcessContext<Self::Out>);

    /// Called when the input ended; may still emit.
    fn end(&mut self, context: &mut ProcessContext<Self::Out>) {
        let _ = context;
    }
}

/// An operator that has side outputs.
pub trait WithSideOutputs {
    /// Its side outputs, to declare more. While the job is being built only.
    fn sides(&mut self) -> &mut SideOutputs;
}

/// The operator of a [`ProcessFunction`].
#[derive(Debug)]
pub struct ProcessOperator<F, Out> {
    function: F,
    context: ProcessContext<Out>,
}

impl<F, Out> ProcessOperator<F, Out> {
    /// The operator of `function`.
    pub fn new(function: F) -> Self {
        ProcessOperator { function, context: ProcessContext::new(SideOutputs::default()) }
    }
}

impl<F: Clone, Out> Clone for ProcessOperator<F, Out> {
    fn clone(&self) -> Self {
        ProcessOperator { function: self.function.clone(), context: ProcessContext::new(self.context.sides.clone()) }
    }
}

impl<F, Out> WithSideOutputs for ProcessOperator<F, Out> {
    fn sides(&mut self) -> &mut SideOutputs {
        &mut self.context.sides
    }
}

impl<In, F: ProcessFunction<In>> Operator<In> for ProcessOperator<F, F::Out> {
    type Out = F::Out;

    fn declare(&mut self, state: &mut OperatorState) {
        OperatorStates::describe(state, |states| self.function.declare(states));
    }

    fn open(&mut self, context: &OperatorContext<'_>) -> Result<(), TaskError> {
        self.context.open(context)?;
        self.context.states = OperatorStates::open(context, |states| self.function.declare(states))?;
        self.function.open(&mut self.context);
        Ok(())
    }

    fn snapshot(&mut self, snapshot: &mut OperatorSnapshotter<'_>) {
        self.context.states.snapshot(snapshot);
    }

    #[inline(always)]
    fn process<C: Collector<F::Out>>(&mut self, record: In, out: &mut C) {
        self.function.process(record, &mut self.context);
        self.context.drain_into(out);
    }

    fn end<C: Collector<F::Out>>(&mut self, out: &mut C) {
        self.function.end(&mut self.context);
        self.context.drain_into(out);
    }

    fn side_outputs(&mut self) -> Option<&mut SideOutputs> {
        Some(&mut self.context.sides)
    }
}

/// A [`ProcessFunction`] made of a closure.
pub struct FnProcess<F, Out> {
    function: F,
    out: PhantomData<fn() -> Out>,
}

impl<F, Out> FnProcess<F, Out> {
    /// Wraps `function`.
    pub fn new(function: F) -> Self {
        FnProcess { function, out: PhantomData }
    }
}

impl<F: Clone, Out> Clone for FnProcess<F, Out> {
    fn clone(&self) -> Self {
        FnProcess::new(self.function.clone())
    }
}

impl<In, Out, F> ProcessFunction<In> for FnProcess<F, Out>
where
    Out: Send + 'static,
    F: FnMut(In, &mut ProcessContext<Out>) + Clone + Send + 'static,
{
    type Out = Out;
    #[inline(always)]
    fn process(&mut self, record: In, context: &mut ProcessContext<Out>) {
        (self.function)(record, context);
    }
}

/// A function over two streams of different types. Cloned once per subtask.
///
/// Records of the two inputs arrive interleaved in any order. A function that needs all of one input first keeps
/// records of the other until [`first_ended`](Self::first_ended) or [`second_ended`](Self::second_ended).
pub trait CoProcessFunction<A, B>: Clone + Send + 'static {
    /// The records it emits.
    type Out: Send + 'static;

    /// Declares list states. Called before [`open`](Self::open), and also where the function never runs, to compare them with those of a
    /// checkpoint: must do nothing else.
    fn declare(&mut self, states: &mut OperatorStateDeclarer<'_>) {
        let _ = states;
    }

    /// Called once before the first record.
    fn open(&mut self, context: &mut ProcessContext<Self::Out>) {
        let _ = context;
    }

    /// Called for each record of the first input.
    fn first(&mut self, record: A, context: &mut ProcessContext<Self::Out>);

    /// Called for each record of the second input.
    fn second(&mut self, record: B, context: &mut ProcessContext<Self::Out>);

    /// Called when the first input ended; may still emit.
    fn first_ended(&mut self, context: &mut ProcessContext<Self::Out>) {
        let _ = context;
    }

    /// Called when the second input ended; may still emit.
    fn second_ended(&mut self, context: &mut ProcessContext<Self::Out>) {
        let _ = context;
    }
}

/// The operator of a [`CoProcessFunction`]; the head of its chain.
#[derive(Debug)]
pub struct CoProcessOperator<F, Out> {
    function: F,
    context: ProcessContext<Out>,
}

impl<F, Out> CoProcessOperator<F, Out> {
    /// The operator of `function`.
    pub fn new(function: F) -> Self {
        CoProcessOperator { function, context: ProcessContext::new(SideOutputs::default()) }
    }

    /// Runs `f` and passes on what it emitted.
    #[inline(always)]
    fn call<C: Collector<Out>>(&mut self, out: &mut C, f: impl FnOnce(&mut F, &mut ProcessContext<Out>)) {
        f(&mut self.function, &mut self.context);
        self.context.drain_into(out);
    }
}

impl<A, B, F: CoProcessFunction<A, B>> Operator<OfTwo<A, B>> for CoProcessOperator<F, F::Out> {
    type Out = F::Out;

    fn declare(&mut self, state: &mut OperatorState) {
        OperatorStates::describe(state, |states| self.function.declare(states));
    }

    fn open(&mut self, context: &OperatorContext<'_>) -> Result<(), TaskError> {
        self.context.open(context)?;
        self.context.states = OperatorStates::open(context, |states| self.function.declare(states))?;
        self.function.open(&mut self.context);
        Ok(())
    }

    fn snapshot(&mut self, snapshot: &mut OperatorSnapshotter<'_>) {
        self.context.states.snapshot(snapshot);
    }

    #[inline(always)]
    fn process<C: Collector<F::Out>>(&mut self, input: OfTwo<A, B>, out: &mut C) {
        self.call(out, |f, context| match input {
            OfTwo::First(record) => f.first(record, context),
            OfTwo::Second(record) => f.second(record, context),
            OfTwo::FirstEnded => f.first_ended(context),
            OfTwo::SecondEnded => f.second_ended(context),
        });
    }

    fn side_outputs(&mut self) -> Option<&mut SideOutputs> {
        Some(&mut self.context.sides)
    }
}

impl<A, B, F: CoProcessFunction<A, B>> CoOperator<A, B> for CoProcessOperator<F, F::Out> {}

impl<F: Clone, Out> Clone for CoProcessOperator<F, Out> {
    fn clone(&self) -> Self {
        CoProcessOperator { function: self.function.clone(), context: ProcessContext::new(self.context.sides.clone()) }
    }
}

impl<F, Out> WithSideOutputs for CoProcessOperator<F, Out> {
    fn sides(&mut self) -> &mut SideOutputs {
        &mut self.context.sides
    }
}
