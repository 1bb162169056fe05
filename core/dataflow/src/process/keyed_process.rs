//! `process` on a keyed stream.

use std::hash::Hash;

use super::keyed::KeyedContext;
use super::keyed_operator::{KeyedLogic, KeyedOperator};
use crate::operator::Collector;
use crate::operators::KeyOf;
use crate::record::Record;
use crate::state::{StateDeclarer, Timer};

/// A function over the records of a keyed stream, with state and timers per key. Cloned once per subtask.
pub trait KeyedProcessFunction<K, In>: Clone + Send + 'static {
    /// The records it emits.
    type Out: Send + 'static;

    /// Declares the function's states. Called before [`open`](Self::open), and also where the function never runs, to compare them with
    /// those of a checkpoint: must do nothing else.
    fn declare(&mut self, states: &mut StateDeclarer<'_>) {
        let _ = states;
    }

    /// Called once before the first record.
    fn open(&mut self, context: &mut KeyedContext<K, Self::Out>) {
        let _ = context;
    }

    /// Called for each record; states are those of the record's key.
    fn process(&mut self, record: In, context: &mut KeyedContext<K, Self::Out>);

    /// Called when a timer is due; states are those of the timer's key.
    fn on_timer(&mut self, timer: Timer, context: &mut KeyedContext<K, Self::Out>) {
        let _ = (timer, context);
    }

    /// Called for each key that has state when the input ended and timers of event time have fired, in no particular order; may still emit.
    fn end_of_key(&mut self, context: &mut KeyedContext<K, Self::Out>) {
        let _ = context;
    }

    /// Called when the input ended, after [`end_of_key`](Self::end_of_key); there is no current key.
    fn end(&mut self, context: &mut KeyedContext<K, Self::Out>) {
        let _ = context;
    }
}

/// A [`KeyedProcessFunction`] with what gives a record's key.
#[derive(Debug, Clone)]
pub struct Keyed<F, G> {
    function: F,
    key_of: G,
}

/// The operator of a [`KeyedProcessFunction`].
pub type KeyedProcessOperator<F, K, G, Out> = KeyedOperator<Keyed<F, G>, K, Out>;

impl<F, K, G, Out> KeyedProcessOperator<F, K, G, Out> {
    /// The operator of `function`; `key_of` gives a record's key.
    pub fn new(function: F, key_of: G) -> Self {
        KeyedOperator::of(Keyed { function, key_of })
    }
}

impl<In, K, G, F> KeyedLogic<K, In> for Keyed<F, G>
where
    K: Record + Eq + Hash,
    G: KeyOf<In, K>,
    F: KeyedProcessFunction<K, In>,
{
    type Out = F::Out;

    fn declare(&mut self, states: &mut StateDeclarer<'_>) {
        self.function.declare(states);
    }

    fn open(&mut self, context: &mut KeyedContext<K, F::Out>) {
        self.function.open(context);
    }

    #[inline(always)]
    fn prepare(&mut self, records: &[In], context: &mut KeyedContext<K, F::Out>) {
        context.prepare(records.iter().map(&mut self.key_of));
    }

    #[inline(always)]
    fn process<C: Collector<F::Out>>(&mut self, record: In, context: &mut KeyedContext<K, F::Out>, out: &mut C) {
        let key = (self.key_of)(&record);
        context.with_key(key, out, |context| self.function.process(record, context));
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
