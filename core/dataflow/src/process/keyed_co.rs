//! `process` on two keyed streams with shared state and timers per key.

use std::hash::Hash;

use super::keyed::KeyedContext;
use super::keyed_operator::{KeyedCoLogic, KeyedLogic, KeyedOperator};
use crate::operator::{Collector, OfTwo};
use crate::operators::KeyOf;
use crate::record::Record;
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

/// A [`KeyedCoProcessFunction`] with what gives the keys of its inputs' records.
#[derive(Debug, Clone)]
pub struct KeyedCo<F, G, H> {
    function: F,
    first_key: G,
    second_key: H,
}

/// The operator of a [`KeyedCoProcessFunction`]; the head of its chain.
pub type KeyedCoProcessOperator<F, K, G, H, Out> = KeyedOperator<KeyedCo<F, G, H>, K, Out>;

impl<F, K, G, H, Out> KeyedCoProcessOperator<F, K, G, H, Out> {
    /// The operator of `function`; `first_key` and `second_key` give the keys of the inputs' records.
    pub fn new(function: F, first_key: G, second_key: H) -> Self {
        KeyedOperator::of(KeyedCo { function, first_key, second_key })
    }
}

impl<A, B, K, G, H, F> KeyedLogic<K, OfTwo<A, B>> for KeyedCo<F, G, H>
where
    K: Record + Eq + Hash,
    G: KeyOf<A, K>,
    H: KeyOf<B, K>,
    F: KeyedCoProcessFunction<K, A, B>,
{
    type Out = F::Out;

    fn declare(&mut self, states: &mut StateDeclarer<'_>) {
        self.function.declare(states);
    }

    fn open(&mut self, context: &mut KeyedContext<K, F::Out>) {
        self.function.open(context);
    }

    #[inline(always)]
    fn process<C: Collector<F::Out>>(
        &mut self,
        input: OfTwo<A, B>,
        context: &mut KeyedContext<K, F::Out>,
        out: &mut C,
    ) {
        match input {
            OfTwo::First(record) => {
                let key = (self.first_key)(&record);
                context.with_key(key, out, |context| self.function.first(record, context));
            }
            OfTwo::Second(record) => {
                let key = (self.second_key)(&record);
                context.with_key(key, out, |context| self.function.second(record, context));
            }
            OfTwo::FirstEnded | OfTwo::SecondEnded => {}
        }
    }

    fn on_timer(&mut self, timer: Timer, context: &mut KeyedContext<K, F::Out>) {
        self.function.on_timer(timer, context);
    }

    fn end_of_key(&mut self, context: &mut KeyedContext<K, F::Out>) {
        self.function.end_of_key(context);
    }

    fn end(&mut self, context: &mut KeyedContext<K, F::Out>) {
        self.function.end(context);
    }
}

impl<A, B, K, G, H, F> KeyedCoLogic<K, A, B> for KeyedCo<F, G, H>
where
    K: Record + Eq + Hash,
    G: KeyOf<A, K>,
    H: KeyOf<B, K>,
    F: KeyedCoProcessFunction<K, A, B>,
{
    #[inline(always)]
    fn prepare_first(&mut self, records: &[A], context: &mut KeyedContext<K, F::Out>) {
        context.prepare(records.iter().map(&mut self.first_key));
    }

    #[inline(always)]
    fn prepare_second(&mut self, records: &[B], context: &mut KeyedContext<K, F::Out>) {
        context.prepare(records.iter().map(&mut self.second_key));
    }
}
