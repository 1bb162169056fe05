//! Ending chains: what every kind of chain does when the author puts an exchange behind it.

use weir_dataflow::exchange::{ExchangeEnd, FanOutEnd, Partitioner, RoundRobinPartitioner};
use weir_dataflow::head::{CoInput, Input, SourceHead};
use weir_dataflow::operator::{Body, Chain, ChainEnd, CoOperator, Operator, Then};
use weir_dataflow::plan::PortId;
use weir_dataflow::record::Record;
use weir_dataflow::source::Source;
use weir_model::{OperatorKind, Partitioner as PartitionerKind};

use super::DataStream;
use crate::build::{Draft, NodeId};

/// Where the records of a bare input come from.
pub struct InputOrigin<T> {
    ports: Vec<PortId>,
    /// A shared stream's end and its last operator: the edge is made when its use is known.
    shared: Option<(FanOutEnd<T>, NodeId)>,
}

impl<T> InputOrigin<T> {
    pub(crate) fn from_port(port: PortId) -> Self {
        InputOrigin { ports: vec![port], shared: None }
    }

    pub(crate) fn from_ports(ports: Vec<PortId>) -> Self {
        InputOrigin { ports, shared: None }
    }

    pub(crate) fn from_shared(end: FanOutEnd<T>, node: NodeId) -> Self {
        InputOrigin { ports: Vec::new(), shared: Some((end, node)) }
    }
}

impl<T: Record> InputOrigin<T> {
    /// The edges of the input, with that of a shared stream made by the automatic partitioner.
    fn into_ports(self, draft: &Draft) -> Vec<PortId> {
        let mut ports = self.ports;
        if let Some((end, node)) = self.shared {
            let port = automatic_edge::<T>(draft, node);
            end.add(ExchangeEnd { port, partitioner: RoundRobinPartitioner::rebalance() });
            ports.push(port);
        }
        ports
    }
}

/// Starts an edge that is forward between equal parallelisms, else rebalance. Its partitioner at run time is round robin,
/// which over a single channel is forward.
pub(crate) fn automatic_edge<T>(draft: &Draft, source: NodeId) -> PortId {
    draft.borrow_mut().add_edge::<T>(source, PartitionerKind::Rebalance, true)
}

/// Chains a stream can carry. Not for implementing outside this crate.
pub trait Upstream: Chain {
    /// Where the records come from, for chains without an operator.
    #[doc(hidden)]
    type Origin;

    /// Connects the origin's edges with input `input` of `node`.
    #[doc(hidden)]
    fn attach(draft: &Draft, origin: Self::Origin, node: NodeId, input: u32);

    /// Ends the chain with `partitioner`; `automatic` edges become forward where they can. Returns the edges to read from.
    #[doc(hidden)]
    fn end_with<P: Partitioner<Self::Out>>(stream: DataStream<Self>, partitioner: P, automatic: bool) -> Vec<PortId>
    where
        Self: Sized,
        Self::Out: Record;

    /// Ends the chain with an end built for a fresh edge.
    #[doc(hidden)]
    fn end_with_edge<E: ChainEnd<Self::Out>>(
        stream: DataStream<Self>,
        kind: PartitionerKind,
        end: impl FnOnce(PortId) -> E,
    ) -> PortId
    where
        Self: Sized;

    /// Ends the chain before `node`, which becomes the first operator of the next.
    #[doc(hidden)]
    fn cut(self, draft: &Draft, node: NodeId)
    where
        Self::Out: Record;
}

/// Chains with an operator at their end, which can be named.
pub trait HasOperator {
    /// The last operator's node.
    #[doc(hidden)]
    fn operator_node(&self) -> NodeId;
}

impl<S: Source> HasOperator for SourceHead<S> {
    fn operator_node(&self) -> NodeId {
        self.node
    }
}

impl<A, B, Op> HasOperator for CoInput<A, B, Op> {
    fn operator_node(&self) -> NodeId {
        self.node
    }
}

impl<C, Op> HasOperator for Then<C, Op> {
    fn operator_node(&self) -> NodeId {
        self.node
    }
}

/// Chains with an operator at their end all end in the same way: the chain becomes a vertex.
macro_rules! upstream_with_operator {
    ([$($generics:tt)*] $chain:ty) => {
        impl<$($generics)*> Upstream for $chain {
            type Origin = ();

            fn attach(_draft: &Draft, _origin: (), _node: NodeId, _input: u32) {}

            fn end_with<P: Partitioner<Self::Out>>(stream: DataStream<Self>, partitioner: P, automatic: bool) -> Vec<PortId>
            where
                Self::Out: Record,
            {
                vec![finish(&stream.draft, stream.chain, partitioner, automatic)]
            }

            fn end_with_edge<E: ChainEnd<Self::Out>>(
                stream: DataStream<Self>,
                kind: PartitionerKind,
                end: impl FnOnce(PortId) -> E,
            ) -> PortId {
                let last = stream.chain.operator_node();
                let port = stream.draft.borrow_mut().add_edge::<Self::Out>(last, kind, false);
                stream.draft.borrow_mut().finish_vertex(last, Body::erased(stream.chain, end(port)));
                port
            }

            fn cut(self, draft: &Draft, node: NodeId)
            where
                Self::Out: Record,
            {
                let port = finish(draft, self, RoundRobinPartitioner::rebalance(), true);
                draft.borrow_mut().connect(&[port], node, 0);
                draft.borrow_mut().node_mut(node).chained_after = None;
            }
        }
    };
}

upstream_with_operator!([S: Source] SourceHead<S>);
upstream_with_operator!([C: Upstream, Op: Operator<C::Out>] Then<C, Op>);
upstream_with_operator!([A: Record, B: Record, Op: CoOperator<A, B>] CoInput<A, B, Op>);

fn finish<C, P>(draft: &Draft, chain: C, partitioner: P, automatic: bool) -> PortId
where
    C: Chain + HasOperator,
    C::Out: Record,
    P: Partitioner<C::Out>,
{
    let last = chain.operator_node();
    let port = draft.borrow_mut().add_edge::<C::Out>(last, partitioner.kind(), automatic);
    draft.borrow_mut().finish_vertex(last, Body::erased(chain, ExchangeEnd { port, partitioner }));
    port
}

impl<T: Record> Upstream for Input<T> {
    type Origin = InputOrigin<T>;

    fn attach(draft: &Draft, origin: InputOrigin<T>, node: NodeId, input: u32) {
        let ports = origin.into_ports(draft);
        draft.borrow_mut().connect(&ports, node, input);
    }

    fn end_with<P: Partitioner<T>>(stream: DataStream<Self>, partitioner: P, automatic: bool) -> Vec<PortId> {
        let DataStream { draft, chain, origin, .. } = stream;
        match origin {
            // The exchange can start right at the shared stream.
            InputOrigin { ports, shared: Some((end, node)) } if ports.is_empty() => {
                let port = draft.borrow_mut().add_edge::<T>(node, partitioner.kind(), automatic);
                end.add(ExchangeEnd { port, partitioner });
                vec![port]
            }
            origin if automatic => origin.into_ports(&draft),
            origin => {
                let node = pass_through(&draft, origin);
                let port = draft.borrow_mut().add_edge::<T>(node, partitioner.kind(), false);
                draft.borrow_mut().finish_vertex(node, Body::erased(chain, ExchangeEnd { port, partitioner }));
                vec![port]
            }
        }
    }

    fn end_with_edge<E: ChainEnd<T>>(
        stream: DataStream<Self>,
        kind: PartitionerKind,
        end: impl FnOnce(PortId) -> E,
    ) -> PortId {
        let DataStream { draft, chain, origin, .. } = stream;
        match origin {
            InputOrigin { ports, shared: Some((shared, node)) } if ports.is_empty() => {
                let port = draft.borrow_mut().add_edge::<T>(node, kind, false);
                shared.add(end(port));
                port
            }
            origin => {
                let node = pass_through(&draft, origin);
                let port = draft.borrow_mut().add_edge::<T>(node, kind, false);
                draft.borrow_mut().finish_vertex(node, Body::erased(chain, end(port)));
                port
            }
        }
    }

    fn cut(self, _draft: &Draft, _node: NodeId) {
        // The operator behind a bare input is the first of its chain already.
    }
}

/// An exchange right behind an exchange needs a task between them.
fn pass_through<T: Record>(draft: &Draft, origin: InputOrigin<T>) -> NodeId {
    let node = draft.borrow_mut().add_node("Pass", OperatorKind::Transform, None);
    Input::<T>::attach(draft, origin, node, 0);
    node
}

/// Ends `chain` before `node`.
pub(crate) fn cut_before<C: Upstream>(draft: &Draft, chain: C, node: NodeId)
where
    C::Out: Record,
{
    chain.cut(draft, node);
}
