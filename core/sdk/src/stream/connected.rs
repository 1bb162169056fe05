//! Two streams before one operator.

use std::hash::Hash;
use std::marker::PhantomData;

use weir_dataflow::head::CoInput;
use weir_dataflow::operator::CoOperator;
use weir_dataflow::operators::KeyOf;
use weir_dataflow::plan::PortId;
use weir_dataflow::process::{
    BroadcastProcessFunction, BroadcastProcessOperator, CoProcessFunction, CoProcessOperator,
    KeyedBroadcastProcessFunction, KeyedBroadcastProcessOperator, KeyedCoProcessFunction, KeyedCoProcessOperator,
    ProcessContext,
};
use weir_dataflow::record::Record;
use weir_model::OperatorKind;

use super::DataStream;
use crate::build::Draft;

/// Two streams of different types whose records go to one operator.
#[must_use = "connected streams do nothing until an operator reads them"]
#[derive(Debug)]
pub struct ConnectedStreams<A, B> {
    draft: Draft,
    first: Vec<PortId>,
    second: Vec<PortId>,
    records: PhantomData<fn(A, B)>,
}

impl<A: Record, B: Record> ConnectedStreams<A, B> {
    pub(crate) fn new(draft: Draft, first: Vec<PortId>, second: Vec<PortId>) -> Self {
        ConnectedStreams { draft, first, second, records: PhantomData }
    }

    /// Runs a function over both streams.
    #[allow(clippy::type_complexity, reason = "the chain is in the type by design")]
    pub fn process<F: CoProcessFunction<A, B>>(self, f: F) -> DataStream<CoInput<A, B, CoProcessOperator<F, F::Out>>> {
        self.transform("Co-Process", CoProcessOperator::new(f))
    }

    /// Maps the records of both streams to one type.
    #[allow(clippy::type_complexity, reason = "the chain is in the type by design")]
    pub fn map<F, G, O>(self, first: F, second: G) -> DataStream<CoInput<A, B, CoProcessOperator<CoMap<F, G, O>, O>>>
    where
        O: Send + 'static,
        F: FnMut(A) -> O + Clone + Send + 'static,
        G: FnMut(B) -> O + Clone + Send + 'static,
    {
        self.transform("Co-Map", CoProcessOperator::new(CoMap { first, second, out: PhantomData }))
    }

    /// Maps the records of both streams to any number of records of one type.
    #[allow(clippy::type_complexity, reason = "the chain is in the type by design")]
    pub fn flat_map<F, G, I, J>(
        self,
        first: F,
        second: G,
    ) -> DataStream<CoInput<A, B, CoProcessOperator<CoFlatMap<F, G, I, J>, I::Item>>>
    where
        I: IntoIterator + 'static,
        I::Item: Send + 'static,
        J: IntoIterator<Item = I::Item> + 'static,
        F: FnMut(A) -> I + Clone + Send + 'static,
        G: FnMut(B) -> J + Clone + Send + 'static,
    {
        self.transform("Co-Flat Map", CoProcessOperator::new(CoFlatMap { first, second, out: PhantomData }))
    }

    /// Puts an operator over both streams.
    pub fn transform<Op: CoOperator<A, B>>(self, name: &str, op: Op) -> DataStream<CoInput<A, B, Op>> {
        let draft = self.draft;
        let node = draft.borrow_mut().add_node(name, OperatorKind::Transform, None);
        draft.borrow_mut().connect(&self.first, node, 0);
        draft.borrow_mut().connect(&self.second, node, 1);
        let chain = CoInput::new(op, node);
        DataStream { draft, chain, node: Some(node), origin: () }
    }
}

impl<A: Record, B: Record, Op: CoOperator<A, B>> DataStream<CoInput<A, B, Op>> {
    /// Sets the number of subtasks of the operator over both streams.
    pub fn parallelism(self, parallelism: u32) -> Self {
        self.draft.borrow_mut().node_mut(self.chain.node).parallelism = Some(parallelism);
        self
    }

    /// Puts the operator over both streams into another slot sharing group.
    pub fn slot_sharing_group(self, group: &str) -> Self {
        self.draft.borrow_mut().node_mut(self.chain.node).slot_sharing_group = Some(group.to_owned());
        self
    }
}

/// Two keyed streams whose records of one key go to one subtask of an operator.
#[must_use = "connected streams do nothing until an operator reads them"]
#[derive(Debug)]
pub struct KeyedConnectedStreams<A, B, K, G, H> {
    streams: ConnectedStreams<A, B>,
    first_key: G,
    second_key: H,
    key: PhantomData<fn() -> K>,
}

impl<A, B, K, G, H> KeyedConnectedStreams<A, B, K, G, H>
where
    A: Record,
    B: Record,
    K: Record + Clone + Eq + Hash,
    G: KeyOf<A, K>,
    H: KeyOf<B, K>,
{
    pub(crate) fn new(streams: ConnectedStreams<A, B>, first_key: G, second_key: H) -> Self {
        KeyedConnectedStreams { streams, first_key, second_key, key: PhantomData }
    }

    /// Runs a function over both streams, with state and timers per key.
    #[allow(clippy::type_complexity, reason = "the chain is in the type by design")]
    pub fn process<F: KeyedCoProcessFunction<K, A, B>>(
        self,
        f: F,
    ) -> DataStream<CoInput<A, B, KeyedCoProcessOperator<F, K, G, H, F::Out>>> {
        let operator = KeyedCoProcessOperator::new(f, self.first_key, self.second_key);
        self.streams.transform("Keyed Co-Process", operator)
    }
}

/// A stream beside one of which every subtask gets every record.
#[must_use = "connected streams do nothing until an operator reads them"]
#[derive(Debug)]
pub struct BroadcastConnectedStreams<A, B> {
    streams: ConnectedStreams<A, B>,
}

impl<A: Record, B: Record> BroadcastConnectedStreams<A, B> {
    pub(crate) fn new(streams: ConnectedStreams<A, B>) -> Self {
        BroadcastConnectedStreams { streams }
    }

    /// Runs a function over both streams; what is broadcast may change a state that all subtasks have alike.
    #[allow(clippy::type_complexity, reason = "the chain is in the type by design")]
    pub fn process<F: BroadcastProcessFunction<A, B>>(
        self,
        f: F,
    ) -> DataStream<CoInput<A, B, BroadcastProcessOperator<F, F::Out>>> {
        self.streams.transform("Broadcast Process", BroadcastProcessOperator::new(f))
    }
}

/// A keyed stream beside one of which every subtask gets every record.
#[must_use = "connected streams do nothing until an operator reads them"]
#[derive(Debug)]
pub struct KeyedBroadcastConnectedStreams<A, B, K, G> {
    streams: ConnectedStreams<A, B>,
    key_of: G,
    key: PhantomData<fn() -> K>,
}

impl<A, B, K, G> KeyedBroadcastConnectedStreams<A, B, K, G>
where
    A: Record,
    B: Record,
    K: Record + Clone + Eq + Hash,
    G: KeyOf<A, K>,
{
    pub(crate) fn new(streams: ConnectedStreams<A, B>, key_of: G) -> Self {
        KeyedBroadcastConnectedStreams { streams, key_of, key: PhantomData }
    }

    /// Runs a function over both streams, with state and timers per key; what is broadcast may change a state that all subtasks have alike.
    #[allow(clippy::type_complexity, reason = "the chain is in the type by design")]
    pub fn process<F: KeyedBroadcastProcessFunction<K, A, B>>(
        self,
        f: F,
    ) -> DataStream<CoInput<A, B, KeyedBroadcastProcessOperator<F, K, G, F::Out>>> {
        self.streams.transform("Keyed Broadcast Process", KeyedBroadcastProcessOperator::new(f, self.key_of))
    }
}

/// One function for each of two streams.
pub struct CoMap<F, G, O> {
    first: F,
    second: G,
    out: PhantomData<fn() -> O>,
}

impl<F: Clone, G: Clone, O> Clone for CoMap<F, G, O> {
    fn clone(&self) -> Self {
        CoMap { first: self.first.clone(), second: self.second.clone(), out: PhantomData }
    }
}

impl<A, B, F, G, O> CoProcessFunction<A, B> for CoMap<F, G, O>
where
    O: Send + 'static,
    F: FnMut(A) -> O + Clone + Send + 'static,
    G: FnMut(B) -> O + Clone + Send + 'static,
{
    type Out = O;
    fn first(&mut self, record: A, context: &mut ProcessContext<O>) {
        context.emit((self.first)(record));
    }
    fn second(&mut self, record: B, context: &mut ProcessContext<O>) {
        context.emit((self.second)(record));
    }
}

/// One function to an iterator for each of two streams.
pub struct CoFlatMap<F, G, I, J> {
    first: F,
    second: G,
    out: PhantomData<fn() -> (I, J)>,
}

impl<F: Clone, G: Clone, I, J> Clone for CoFlatMap<F, G, I, J> {
    fn clone(&self) -> Self {
        CoFlatMap { first: self.first.clone(), second: self.second.clone(), out: PhantomData }
    }
}

impl<A, B, F, G, I, J> CoProcessFunction<A, B> for CoFlatMap<F, G, I, J>
where
    I: IntoIterator + 'static,
    I::Item: Send + 'static,
    J: IntoIterator<Item = I::Item> + 'static,
    F: FnMut(A) -> I + Clone + Send + 'static,
    G: FnMut(B) -> J + Clone + Send + 'static,
{
    type Out = I::Item;
    fn first(&mut self, record: A, context: &mut ProcessContext<I::Item>) {
        (self.first)(record).into_iter().for_each(|item| context.emit(item));
    }
    fn second(&mut self, record: B, context: &mut ProcessContext<I::Item>) {
        (self.second)(record).into_iter().for_each(|item| context.emit(item));
    }
}
