//! Two streams before one operator.

use std::marker::PhantomData;

use weir_dataflow::head::CoInput;
use weir_dataflow::operator::CoOperator;
use weir_dataflow::plan::PortId;
use weir_dataflow::process::{CoProcessFunction, CoProcessOperator, ProcessContext};
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
    pub fn map<F, G, O>(
        self,
        first: F,
        second: G,
    ) -> DataStream<CoInput<A, B, CoProcessOperator<CoMap<F, G, O>, O>>>
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
