//! `process` on two keyed streams with shared state and timers per key.

use std::hash::Hash;

use super::keyed::KeyedContext;
use super::{SideOutputs, WithSideOutputs};
use crate::declaration::OperatorState;
use crate::element::EventTime;
use crate::failure::TaskError;
use crate::operator::{CoOperator, Collector, OperatorContext};
use crate::operators::KeyOf;
use crate::record::Record;
use crate::snapshot::OperatorSnapshotter;
use crate::state::{StateDeclarer, Timer};

/// A function over two streams of one key, which share state and timers per key. Cloned once per subtask.
///
/// Records of the two inputs arrive interleaved in any order.
pub trait KeyedCoProcessFunction<K, A, B>: Clone + Send + 'static {
    /// The records it emits.
    type Out: Send + 'static;

    /// Declares the function's states, as [`KeyedProcessFunction::declare`](super::KeyedProcessFunction::declare).
    fn declare(&mut self, states: &mut StateDeclarer<'_>) {
        let _ = states;
    }

    /// Called once before the first record.
    fn open(&mut self, context: &mut KeyedContext<K, Self::Out>) {
        let _ = context;
    }

    /// Called for each record of the first input.
    fn first(&mut self, record: A, context: &mut KeyedContext<K, Self::Out>);

    /// Called for each record of the second input.
    fn second(&mut self, record: B, context: &mut KeyedContext<K, Self::Out>);

    /// Called when a timer is due; states are those of the timer's key.
    fn on_timer(&mut self, timer: Timer, context: &mut KeyedContext<K, Self::Out>) {
        let _ = (timer, context);
    }

    /// Called for each key that has state when both inputs ended and timers of event time have fired; may still emit.
    fn end_of_key(&mut self, context: &mut KeyedContext<K, Self::Out>) {
        let _ = context;
    }

    /// Called when both inputs ended, after [`end_of_key`](Self::end_of_key); there is no current key.
    fn end(&mut self, context: &mut KeyedContext<K, Self::Out>) {
        let _ = context;
    }
}

/// The operator of a [`KeyedCoProcessFunction`]; the head of its chain.
#[derive(Debug)]
pub struct KeyedCoProcessOperator<F, K, G, H, Out> {
    function: F,
    first_key: G,
    second_key: H,
    context: KeyedContext<K, Out>,
}

impl<F, K, G, H, Out> KeyedCoProcessOperator<F, K, G, H, Out> {
    /// The operator of `function`; `first_key` and `second_key` give the keys of the inputs' records.
    pub fn new(function: F, first_key: G, second_key: H) -> Self {
        KeyedCoProcessOperator { function, first_key, second_key, context: KeyedContext::new(SideOutputs::default()) }
    }
}

impl<F: Clone, K, G: Clone, H: Clone, Out> Clone for KeyedCoProcessOperator<F, K, G, H, Out> {
    fn clone(&self) -> Self {
        KeyedCoProcessOperator {
            function: self.function.clone(),
            first_key: self.first_key.clone(),
            second_key: self.second_key.clone(),
            context: KeyedContext::new(self.context.base.sides.clone()),
        }
    }
}

impl<F, K, G, H, Out> WithSideOutputs for KeyedCoProcessOperator<F, K, G, H, Out> {
    fn sides(&mut self) -> &mut SideOutputs {
        &mut self.context.base.sides
    }
}

impl<A, B, K, G, H, F> CoOperator<A, B> for KeyedCoProcessOperator<F, K, G, H, F::Out>
where
    K: Record + Eq + Hash,
    G: KeyOf<A, K>,
    H: KeyOf<B, K>,
    F: KeyedCoProcessFunction<K, A, B>,
{
    type Out = F::Out;

    fn declare(&mut self, state: &mut OperatorState) {
        KeyedContext::<K, F::Out>::declare(state, |states| self.function.declare(states));
    }

    fn open(&mut self, context: &OperatorContext<'_>) -> Result<(), TaskError> {
        self.context.open(context, |states| self.function.declare(states))?;
        self.function.open(&mut self.context);
        Ok(())
    }

    #[inline(always)]
    fn prepare_first(&mut self, records: &[A]) {
        self.context.prepare(records.iter().map(&mut self.first_key));
    }

    #[inline(always)]
    fn prepare_second(&mut self, records: &[B]) {
        self.context.prepare(records.iter().map(&mut self.second_key));
    }

    #[inline(always)]
    fn first<C: Collector<F::Out>>(&mut self, record: A, out: &mut C) {
        let key = (self.first_key)(&record);
        self.context.with_key(key, out, |context| self.function.first(record, context));
    }

    #[inline(always)]
    fn second<C: Collector<F::Out>>(&mut self, record: B, out: &mut C) {
        let key = (self.second_key)(&record);
        self.context.with_key(key, out, |context| self.function.second(record, context));
    }

    fn watermark<C: Collector<F::Out>>(&mut self, time: EventTime, out: &mut C) {
        self.context.advance(time, out, |timer, context| self.function.on_timer(timer, context));
    }

    fn processing_time<C: Collector<F::Out>>(&mut self, now: EventTime, out: &mut C) -> EventTime {
        self.context.tick(now, out, |timer, context| self.function.on_timer(timer, context))
    }

    fn end<C: Collector<F::Out>>(&mut self, out: &mut C) {
        self.context.advance(EventTime::MAX, out, |timer, context| self.function.on_timer(timer, context));
        self.context.for_each_key(out, |context| self.function.end_of_key(context));
        self.context.without_key(out, |context| self.function.end(context));
    }

    fn snapshot(&mut self, snapshot: &mut OperatorSnapshotter<'_>) {
        self.context.snapshot(snapshot);
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
