//! The operator of all functions with state and timers per key.

use std::hash::Hash;

use super::keyed::KeyedContext;
use super::{SideOutputs, WithSideOutputs};
use crate::declaration::OperatorState;
use crate::element::EventTime;
use crate::failure::TaskError;
use crate::operator::{CoOperator, Collector, OfTwo, Operator, OperatorContext};
use crate::record::Record;
use crate::snapshot::OperatorSnapshotter;
use crate::state::{StateDeclarer, Timer};

/// A function with state per key, whatever its inputs are.
pub trait KeyedLogic<K, In>: Clone + Send + 'static {
    /// The records it emits.
    type Out: Send + 'static;

    /// Declares the states per key.
    fn declare(&mut self, states: &mut StateDeclarer<'_>);

    /// Called once before the first record.
    fn open(&mut self, context: &mut KeyedContext<K, Self::Out>);

    /// As [`Operator::prepare`].
    #[inline(always)]
    fn prepare(&mut self, inputs: &[In], context: &mut KeyedContext<K, Self::Out>) {
        let _ = (inputs, context);
    }

    /// As [`Operator::process`]; enters the key.
    fn process<C: Collector<Self::Out>>(&mut self, input: In, context: &mut KeyedContext<K, Self::Out>, out: &mut C);

    /// A timer is due.
    fn on_timer(&mut self, timer: Timer, context: &mut KeyedContext<K, Self::Out>);

    /// Called for each key that has state at the end.
    fn end_of_key(&mut self, context: &mut KeyedContext<K, Self::Out>);

    /// Called at the end, where there is no key.
    fn end(&mut self, context: &mut KeyedContext<K, Self::Out>) {
        let _ = context;
    }

    /// Adds what states it has besides those of keys.
    fn declare_others(&mut self, state: &mut OperatorState) {
        let _ = state;
    }

    /// Restores the states besides those of keys, before [`open`](Self::open).
    fn open_others(&mut self, context: &OperatorContext<'_>) -> Result<(), TaskError> {
        let _ = context;
        Ok(())
    }

    /// Hands over the states besides those of keys.
    fn snapshot_others(&mut self, snapshot: &mut OperatorSnapshotter<'_>) {
        let _ = snapshot;
    }
}

/// A function with state per key over two inputs.
pub trait KeyedCoLogic<K, A, B>: KeyedLogic<K, OfTwo<A, B>> {
    /// As [`CoOperator::prepare_first`].
    fn prepare_first(&mut self, records: &[A], context: &mut KeyedContext<K, Self::Out>);

    /// As [`CoOperator::prepare_second`].
    #[inline(always)]
    fn prepare_second(&mut self, records: &[B], context: &mut KeyedContext<K, Self::Out>) {
        let _ = (records, context);
    }
}

/// The operator of a function with state and timers per key.
#[derive(Debug)]
pub struct KeyedOperator<L, K, Out> {
    logic: L,
    context: KeyedContext<K, Out>,
}

impl<L, K, Out> KeyedOperator<L, K, Out> {
    pub(super) fn of(logic: L) -> Self {
        KeyedOperator { logic, context: KeyedContext::new(SideOutputs::default()) }
    }
}

impl<L: Clone, K, Out> Clone for KeyedOperator<L, K, Out> {
    fn clone(&self) -> Self {
        let context = KeyedContext::new(self.context.base.sides.clone());
        KeyedOperator { logic: self.logic.clone(), context }
    }
}

impl<L, K, Out> WithSideOutputs for KeyedOperator<L, K, Out> {
    fn sides(&mut self) -> &mut SideOutputs {
        &mut self.context.base.sides
    }
}

impl<In, K, L> Operator<In> for KeyedOperator<L, K, L::Out>
where
    K: Record + Eq + Hash,
    L: KeyedLogic<K, In>,
{
    type Out = L::Out;

    fn declare(&mut self, state: &mut OperatorState) {
        KeyedContext::<K, L::Out>::declare(state, |states| self.logic.declare(states));
        self.logic.declare_others(state);
    }

    fn open(&mut self, context: &OperatorContext<'_>) -> Result<(), TaskError> {
        self.context.open(context, |states| self.logic.declare(states))?;
        self.logic.open_others(context)?;
        self.logic.open(&mut self.context);
        Ok(())
    }

    #[inline(always)]
    fn prepare(&mut self, inputs: &[In]) {
        self.logic.prepare(inputs, &mut self.context);
    }

    #[inline(always)]
    fn process<C: Collector<L::Out>>(&mut self, input: In, out: &mut C) {
        self.logic.process(input, &mut self.context, out);
    }

    fn watermark<C: Collector<L::Out>>(&mut self, time: EventTime, out: &mut C) {
        self.context.advance(time, out, |timer, context| self.logic.on_timer(timer, context));
    }

    fn processing_time<C: Collector<L::Out>>(&mut self, now: EventTime, out: &mut C) -> EventTime {
        self.context.tick(now, out, |timer, context| self.logic.on_timer(timer, context))
    }

    fn end<C: Collector<L::Out>>(&mut self, out: &mut C) {
        self.context.advance(EventTime::MAX, out, |timer, context| self.logic.on_timer(timer, context));
        self.context.for_each_key(out, |context| self.logic.end_of_key(context));
        self.context.without_key(out, |context| self.logic.end(context));
    }

    fn snapshot(&mut self, snapshot: &mut OperatorSnapshotter<'_>) {
        self.context.snapshot(snapshot);
        self.logic.snapshot_others(snapshot);
    }

    fn snapshot_step(&mut self, snapshot: &mut OperatorSnapshotter<'_>) -> bool {
        self.context.snapshot_step(snapshot)
    }

    fn checkpoint_ended(&mut self, checkpoint: u64, _completed: bool) {
        self.context.checkpoint_ended(checkpoint);
    }

    fn side_outputs(&mut self) -> Option<&mut SideOutputs> {
        Some(&mut self.context.base.sides)
    }
}

impl<A, B, K, L> CoOperator<A, B> for KeyedOperator<L, K, L::Out>
where
    K: Record + Eq + Hash,
    L: KeyedCoLogic<K, A, B>,
{
    #[inline(always)]
    fn prepare_first(&mut self, records: &[A]) {
        self.logic.prepare_first(records, &mut self.context);
    }

    #[inline(always)]
    fn prepare_second(&mut self, records: &[B]) {
        self.logic.prepare_second(records, &mut self.context);
    }
}
