//! `process` on a stream beside one that is broadcast: what is broadcast changes a state that all subtasks have alike.

use std::hash::Hash;

use super::keyed::KeyedContext;
use super::keyed_operator::{KeyedCoLogic, KeyedLogic, KeyedOperator};
use super::{ProcessContext, SideOutputs, WithSideOutputs};
use crate::declaration::OperatorState;
use crate::failure::TaskError;
use crate::operator::{CoOperator, Collector, OfTwo, Operator, OperatorContext};
use crate::operators::KeyOf;
use crate::record::Record;
use crate::snapshot::OperatorSnapshotter;
use crate::state::{BroadcastDeclarer, BroadcastStates, StateDeclarer, Timer};

/// A function over a stream and a broadcast one. Cloned once per subtask.
///
/// Every subtask gets all that is broadcast. It must change the broadcast state in the same way everywhere: after a restore at another
/// parallelism each subtask begins with the state of one of the earlier ones. Nothing is said about which records of the stream come
/// before a change and which behind it.
pub trait BroadcastProcessFunction<A, B>: Clone + Send + 'static {
    /// The records it emits.
    type Out: Send + 'static;

    /// Declares the broadcast states. Called before [`open`](Self::open), and also where the function never runs, to compare them with
    /// those of a checkpoint: must do nothing else.
    fn declare_broadcast(&mut self, states: &mut BroadcastDeclarer<'_>);

    /// Called once before the first record.
    fn open(&mut self, context: &mut ProcessContext<Self::Out>) {
        let _ = context;
    }

    /// Called for each record of the stream.
    fn process(&mut self, record: A, states: &BroadcastStates, context: &mut ProcessContext<Self::Out>);

    /// Called for each record that is broadcast, in every subtask.
    fn broadcast(&mut self, record: B, states: &mut BroadcastStates, context: &mut ProcessContext<Self::Out>);

    /// Called when both inputs ended; may still emit.
    fn end(&mut self, states: &BroadcastStates, context: &mut ProcessContext<Self::Out>) {
        let _ = (states, context);
    }
}

/// The operator of a [`BroadcastProcessFunction`]; the head of its chain. The second input is the broadcast one.
#[derive(Debug)]
pub struct BroadcastProcessOperator<F, Out> {
    function: F,
    states: BroadcastStates,
    context: ProcessContext<Out>,
}

impl<F, Out> BroadcastProcessOperator<F, Out> {
    /// The operator of `function`.
    pub fn new(function: F) -> Self {
        let context = ProcessContext::new(SideOutputs::default());
        BroadcastProcessOperator { function, states: BroadcastStates::default(), context }
    }
}

impl<F: Clone, Out> Clone for BroadcastProcessOperator<F, Out> {
    fn clone(&self) -> Self {
        let context = ProcessContext::new(self.context.sides.clone());
        BroadcastProcessOperator { function: self.function.clone(), states: BroadcastStates::default(), context }
    }
}

impl<F, Out> WithSideOutputs for BroadcastProcessOperator<F, Out> {
    fn sides(&mut self) -> &mut SideOutputs {
        &mut self.context.sides
    }
}

impl<A, B, F: BroadcastProcessFunction<A, B>> Operator<OfTwo<A, B>> for BroadcastProcessOperator<F, F::Out> {
    type Out = F::Out;

    fn declare(&mut self, state: &mut OperatorState) {
        let mut states = BroadcastStates::default();
        self.function.declare_broadcast(&mut BroadcastDeclarer(&mut states));
        states.declare(state);
    }

    fn open(&mut self, context: &OperatorContext<'_>) -> Result<(), TaskError> {
        self.context.open(context)?;
        self.function.declare_broadcast(&mut BroadcastDeclarer(&mut self.states));
        self.states.restore(context)?;
        self.function.open(&mut self.context);
        Ok(())
    }

    #[inline(always)]
    fn process<C: Collector<F::Out>>(&mut self, input: OfTwo<A, B>, out: &mut C) {
        match input {
            OfTwo::First(record) => self.function.process(record, &self.states, &mut self.context),
            OfTwo::Second(record) => self.function.broadcast(record, &mut self.states, &mut self.context),
            OfTwo::FirstEnded | OfTwo::SecondEnded => return,
        }
        self.context.drain_into(out);
    }

    fn end<C: Collector<F::Out>>(&mut self, out: &mut C) {
        self.function.end(&self.states, &mut self.context);
        self.context.drain_into(out);
    }

    fn snapshot(&mut self, snapshot: &mut OperatorSnapshotter<'_>) {
        self.states.snapshot(snapshot);
    }

    fn side_outputs(&mut self) -> Option<&mut SideOutputs> {
        Some(&mut self.context.sides)
    }
}

impl<A, B, F: BroadcastProcessFunction<A, B>> CoOperator<A, B> for BroadcastProcessOperator<F, F::Out> {}

/// A function over a keyed stream and a broadcast one, with state and timers per key. Cloned once per subtask. As
/// [`BroadcastProcessFunction`] otherwise.
pub trait KeyedBroadcastProcessFunction<K, A, B>: Clone + Send + 'static {
    /// The records it emits.
    type Out: Send + 'static;

    /// Declares the states per key, as [`KeyedProcessFunction::declare`](super::KeyedProcessFunction::declare).
    fn declare(&mut self, states: &mut StateDeclarer<'_>) {
        let _ = states;
    }

    /// Declares the broadcast states, in the same way.
    fn declare_broadcast(&mut self, states: &mut BroadcastDeclarer<'_>);

    /// Called once before the first record.
    fn open(&mut self, context: &mut KeyedContext<K, Self::Out>) {
        let _ = context;
    }

    /// Called for each record of the keyed stream.
    fn process(&mut self, record: A, states: &BroadcastStates, context: &mut KeyedContext<K, Self::Out>);

    /// Called for each record that is broadcast, in every subtask; there is no current key.
    fn broadcast(&mut self, record: B, states: &mut BroadcastStates, context: &mut ProcessContext<Self::Out>);

    /// Called when a timer is due; keyed states are those of the timer's key.
    fn on_timer(&mut self, timer: Timer, states: &BroadcastStates, context: &mut KeyedContext<K, Self::Out>) {
        let _ = (timer, states, context);
    }

    /// Called for each key that has state when both inputs ended and timers of event time have fired; may still emit.
    fn end_of_key(&mut self, states: &BroadcastStates, context: &mut KeyedContext<K, Self::Out>) {
        let _ = (states, context);
    }
}

/// A [`KeyedBroadcastProcessFunction`] with what gives the key of a record, and its broadcast states.
#[derive(Debug)]
pub struct KeyedBroadcast<F, G> {
    function: F,
    key_of: G,
    states: BroadcastStates,
}

impl<F: Clone, G: Clone> Clone for KeyedBroadcast<F, G> {
    fn clone(&self) -> Self {
        let states = BroadcastStates::default();
        KeyedBroadcast { function: self.function.clone(), key_of: self.key_of.clone(), states }
    }
}

/// The operator of a [`KeyedBroadcastProcessFunction`]; the head of its chain. The second input is the broadcast one.
pub type KeyedBroadcastProcessOperator<F, K, G, Out> = KeyedOperator<KeyedBroadcast<F, G>, K, Out>;

impl<F, K, G, Out> KeyedBroadcastProcessOperator<F, K, G, Out> {
    /// The operator of `function`; `key_of` gives the key of a record of the keyed stream.
    pub fn new(function: F, key_of: G) -> Self {
        KeyedOperator::of(KeyedBroadcast { function, key_of, states: BroadcastStates::default() })
    }
}

impl<A, B, K, G, F> KeyedLogic<K, OfTwo<A, B>> for KeyedBroadcast<F, G>
where
    K: Record + Eq + Hash,
    G: KeyOf<A, K>,
    F: KeyedBroadcastProcessFunction<K, A, B>,
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
        let KeyedBroadcast { function, key_of, states } = self;
        match input {
            OfTwo::First(record) => {
                let key = key_of(&record);
                context.with_key(key, out, |context| function.process(record, states, context));
            }
            OfTwo::Second(record) => {
                context.without_key(out, |context| function.broadcast(record, states, &mut context.base));
            }
            OfTwo::FirstEnded | OfTwo::SecondEnded => {}
        }
    }

    fn on_timer(&mut self, timer: Timer, context: &mut KeyedContext<K, F::Out>) {
        self.function.on_timer(timer, &self.states, context);
    }

    fn end_of_key(&mut self, context: &mut KeyedContext<K, F::Out>) {
        self.function.end_of_key(&self.states, context);
    }

    fn declare_others(&mut self, state: &mut OperatorState) {
        let mut states = BroadcastStates::default();
        self.function.declare_broadcast(&mut BroadcastDeclarer(&mut states));
        states.declare(state);
    }

    fn open_others(&mut self, context: &OperatorContext<'_>) -> Result<(), TaskError> {
        self.function.declare_broadcast(&mut BroadcastDeclarer(&mut self.states));
        self.states.restore(context)
    }

    fn snapshot_others(&mut self, snapshot: &mut OperatorSnapshotter<'_>) {
        self.states.snapshot(snapshot);
    }
}

impl<A, B, K, G, F> KeyedCoLogic<K, A, B> for KeyedBroadcast<F, G>
where
    K: Record + Eq + Hash,
    G: KeyOf<A, K>,
    F: KeyedBroadcastProcessFunction<K, A, B>,
{
    #[inline(always)]
    fn prepare_first(&mut self, records: &[A], context: &mut KeyedContext<K, F::Out>) {
        context.prepare(records.iter().map(&mut self.key_of));
    }
}
