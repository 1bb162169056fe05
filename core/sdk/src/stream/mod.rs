//! Typed streams and what can be done with them.
//!
//! A [`DataStream`] carries the chain of operators behind it in its type. Appending an operator makes a longer chain, which
//! the compiler fuses into one loop; an exchange (`key_by`, `rebalance`, …) ends the chain and starts a new one. A stream is
//! used once; [`DataStream::share`] gives it several consumers.

pub mod aggregates;
mod async_io;
mod connected;
mod exchanges;
pub mod joins;
mod keyed;
mod shared;
mod sinks;
mod upstream;
mod watermarks;
pub mod windows;

use weir_dataflow::operator::{CoOperator, Operator, Then};
use weir_dataflow::operators::{FilterOperator, FlatMapOperator, InspectOperator, MapOperator};
use weir_dataflow::process::{FnProcess, OutputTag, ProcessContext, ProcessFunction, ProcessOperator, WithSideOutputs};
use weir_dataflow::record::Record;
use weir_model::OperatorKind;

pub use connected::{
    BroadcastConnectedStreams, ConnectedStreams, KeyedBroadcastConnectedStreams, KeyedConnectedStreams,
};
pub use keyed::KeyedStream;
pub use shared::SharedStream;
pub use sinks::StreamSink;
pub use upstream::{HasOperator, Upstream};
pub use weir_dataflow::head::{CoInput, Input, SourceHead};
pub use weir_dataflow::operator::Chain;

use crate::build::{Draft, NodeId};
use upstream::InputOrigin;

/// A stream of records with the chain that produces them.
#[must_use = "a stream without a sink does nothing; end it with `.print()`, `.write_text(…)` or `.discard()`"]
pub struct DataStream<C: Upstream> {
    pub(crate) draft: Draft,
    pub(crate) chain: C,
    /// The last operator; none for a bare input.
    pub(crate) node: Option<NodeId>,
    pub(crate) origin: C::Origin,
}

impl<C: Upstream> std::fmt::Debug for DataStream<C> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "DataStream<{}> after node {:?}", std::any::type_name::<C::Out>(), self.node)
    }
}

impl<T: Record> DataStream<Input<T>> {
    /// The stream behind an exchange.
    pub(crate) fn from_origin(draft: Draft, origin: InputOrigin<T>) -> Self {
        DataStream { draft, chain: Input::default(), node: None, origin }
    }
}

impl<C: Upstream> DataStream<C> {
    /// Appends an operator to the chain.
    pub fn transform<Op: Operator<C::Out>>(self, name: &str, op: Op) -> DataStream<Then<C, Op>> {
        self.append(name, OperatorKind::Transform, op)
    }

    pub(crate) fn append<Op: Operator<C::Out>>(
        self,
        name: &str,
        kind: OperatorKind,
        op: Op,
    ) -> DataStream<Then<C, Op>> {
        let node = self.draft.borrow_mut().add_node(name, kind, self.node);
        C::attach(&self.draft, self.origin, node, 0);
        DataStream { chain: Then { chain: self.chain, op, node }, draft: self.draft, node: Some(node), origin: () }
    }

    /// One record in, one out.
    pub fn map<F, O>(self, f: F) -> DataStream<Then<C, MapOperator<F, O>>>
    where
        F: FnMut(C::Out) -> O + Clone + Send + 'static,
        O: 'static,
    {
        self.transform("Map", MapOperator::new(f))
    }

    /// Keeps the records `f` accepts.
    pub fn filter<F>(self, f: F) -> DataStream<Then<C, FilterOperator<F>>>
    where
        F: FnMut(&C::Out) -> bool + Clone + Send + 'static,
    {
        self.transform("Filter", FilterOperator::new(f))
    }

    /// One record in, any number out: those of the iterator that `f` returns.
    pub fn flat_map<F, I>(self, f: F) -> DataStream<Then<C, FlatMapOperator<F, I>>>
    where
        F: FnMut(C::Out) -> I + Clone + Send + 'static,
        I: IntoIterator + 'static,
        I::Item: 'static,
    {
        self.transform("Flat Map", FlatMapOperator::new(f))
    }

    /// Looks at each record on its way.
    pub fn inspect<F>(self, f: F) -> DataStream<Then<C, InspectOperator<F>>>
    where
        F: FnMut(&C::Out) + Clone + Send + 'static,
    {
        self.transform("Inspect", InspectOperator::new(f))
    }

    /// Runs a function with a context: any number of records out, side outputs.
    pub fn process<F: ProcessFunction<C::Out>>(self, f: F) -> DataStream<Then<C, ProcessOperator<F, F::Out>>> {
        self.transform("Process", ProcessOperator::new(f))
    }

    /// [`process`](Self::process) with a closure.
    #[allow(clippy::type_complexity, reason = "the chain is in the type by design")]
    pub fn process_with<O, F>(self, f: F) -> DataStream<Then<C, ProcessOperator<FnProcess<F, O>, O>>>
    where
        O: Send + 'static,
        F: FnMut(C::Out, &mut ProcessContext<O>) + Clone + Send + 'static,
    {
        self.transform("Process", ProcessOperator::new(FnProcess::new(f)))
    }
}

impl<C, Op> DataStream<Then<C, Op>>
where
    C: Upstream,
    Op: Operator<C::Out>,
{
    /// Starts a new chain with the last operator: it runs in its own task, behind a forward exchange.
    pub fn start_new_chain(self) -> DataStream<Then<Input<C::Out>, Op>>
    where
        C::Out: Record,
    {
        let DataStream { draft, chain: Then { chain, op, node }, .. } = self;
        upstream::cut_before(&draft, chain, node);
        DataStream { draft, chain: Then { chain: Input::default(), op, node }, node: Some(node), origin: () }
    }

    /// Sets the number of subtasks of the last operator. Unless it is the first of its chain, it starts a new chain.
    pub fn parallelism(self, parallelism: u32) -> DataStream<Then<Input<C::Out>, Op>>
    where
        C::Out: Record,
    {
        let stream = self.start_new_chain();
        stream.draft.borrow_mut().node_mut(stream.chain.node).parallelism = Some(parallelism);
        stream
    }

    /// Puts the last operator into another slot sharing group. Unless it is the first of its chain, it starts a new chain.
    pub fn slot_sharing_group(self, group: &str) -> DataStream<Then<Input<C::Out>, Op>>
    where
        C::Out: Record,
    {
        let stream = self.start_new_chain();
        stream.draft.borrow_mut().node_mut(stream.chain.node).slot_sharing_group = Some(group.to_owned());
        stream
    }

    /// Runs the last operator in a task of its own, fused neither with what comes before nor with what follows.
    pub fn disable_chaining(self) -> DataStream<Input<Op::Out>>
    where
        C::Out: Record,
        Op::Out: Record,
    {
        self.start_new_chain().end_chain()
    }
}

impl<S: weir_dataflow::source::Source> DataStream<SourceHead<S>> {
    /// Sets the number of the source's subtasks.
    pub fn parallelism(self, parallelism: u32) -> Self {
        self.draft.borrow_mut().node_mut(self.chain.node).parallelism = Some(parallelism);
        self
    }

    /// Puts the source into another slot sharing group.
    pub fn slot_sharing_group(self, group: &str) -> Self {
        self.draft.borrow_mut().node_mut(self.chain.node).slot_sharing_group = Some(group.to_owned());
        self
    }

    /// Runs the source in a task of its own.
    pub fn disable_chaining(self) -> DataStream<Input<S::Item>>
    where
        S::Item: Record,
    {
        self.end_chain()
    }
}

impl<C: Upstream + HasOperator> DataStream<C> {
    /// Names the last operator in plans, progress and metrics.
    pub fn name(self, name: &str) -> Self {
        self.draft.borrow_mut().node_mut(self.chain.operator_node()).name = name.to_owned();
        self
    }

    /// Gives the last operator a name for its state that stays when the job changes. Unique in the job.
    pub fn uid(self, uid: &str) -> Self {
        self.draft.borrow_mut().node_mut(self.chain.operator_node()).uid = Some(uid.to_owned());
        self
    }

    /// Sets the number of key groups of the last operator's chain, the most subtasks it can ever have.
    pub fn max_parallelism(self, max_parallelism: u32) -> Self {
        self.draft.borrow_mut().node_mut(self.chain.operator_node()).max_parallelism = Some(max_parallelism);
        self
    }
}

/// Chains whose last operator has side outputs.
pub trait EndsWithSideOutputs: Upstream + HasOperator {
    /// The operator's side outputs.
    #[doc(hidden)]
    fn sides(&mut self) -> &mut weir_dataflow::process::SideOutputs;
}

impl<C, Op> EndsWithSideOutputs for Then<C, Op>
where
    C: Upstream,
    Op: Operator<C::Out> + WithSideOutputs,
{
    fn sides(&mut self) -> &mut weir_dataflow::process::SideOutputs {
        self.op.sides()
    }
}

impl<A: Record, B: Record, Op: CoOperator<A, B> + WithSideOutputs> EndsWithSideOutputs for CoInput<A, B, Op> {
    fn sides(&mut self) -> &mut weir_dataflow::process::SideOutputs {
        self.op.sides()
    }
}

impl<C: EndsWithSideOutputs> DataStream<C> {
    /// Splits off what the last operator emits to `tag`: the stream itself, and the side output.
    pub fn side_output<T: Record>(mut self, tag: &OutputTag<T>) -> (Self, DataStream<Input<T>>) {
        let node = self.chain.operator_node();
        let port = upstream::automatic_edge::<T>(&self.draft, node);
        self.chain.sides().declare(tag, port);
        let side = DataStream::from_origin(self.draft.clone(), InputOrigin::from_port(port));
        (self, side)
    }
}
