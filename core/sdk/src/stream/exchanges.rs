//! Exchanges: how the records of one chain are distributed over the subtasks of the next.

use weir_dataflow::exchange::{
    BroadcastEnd, CustomPartitioner, ForwardPartitioner, GlobalPartitioner, Partitioner, RoundRobinPartitioner,
    ShufflePartitioner,
};
use weir_dataflow::head::Input;
use weir_dataflow::operators::KeyOf;
use weir_dataflow::plan::PortId;
use weir_dataflow::record::Record;
use weir_model::Partitioner as PartitionerKind;

use super::connected::BroadcastConnectedStreams;
use super::upstream::InputOrigin;
use super::{ConnectedStreams, DataStream, KeyedStream, SharedStream, Upstream};

impl<C: Upstream> DataStream<C>
where
    C::Out: Record,
{
    /// Distributes records over the next operator's subtasks by `partitioner`.
    pub fn exchange<P: Partitioner<C::Out>>(self, partitioner: P) -> DataStream<Input<C::Out>> {
        let draft = self.draft.clone();
        let ports = C::end_with(self, partitioner, false);
        DataStream::from_origin(draft, InputOrigin::from_ports(ports))
    }

    /// Ends the chain with a forward exchange, or a rebalance if the next operator has another parallelism.
    pub(crate) fn end_chain(self) -> DataStream<Input<C::Out>> {
        let draft = self.draft.clone();
        let ports = C::end_with(self, RoundRobinPartitioner::rebalance(), true);
        DataStream::from_origin(draft, InputOrigin::from_ports(ports))
    }

    /// Subtask i to subtask i; both sides must have the same parallelism.
    pub fn forward(self) -> DataStream<Input<C::Out>> {
        self.exchange(ForwardPartitioner)
    }

    /// Round robin over all subtasks.
    pub fn rebalance(self) -> DataStream<Input<C::Out>> {
        self.exchange(RoundRobinPartitioner::rebalance())
    }

    /// Round robin over a group of nearby subtasks: each producer feeds its share of the consumers only.
    pub fn rescale(self) -> DataStream<Input<C::Out>> {
        self.exchange(RoundRobinPartitioner::rescale())
    }

    /// Uniformly at random over all subtasks.
    pub fn shuffle(self) -> DataStream<Input<C::Out>> {
        self.exchange(ShufflePartitioner::default())
    }

    /// Everything to the first subtask.
    pub fn global(self) -> DataStream<Input<C::Out>> {
        self.exchange(GlobalPartitioner)
    }

    /// Every record to every subtask.
    pub fn broadcast(self) -> DataStream<Input<C::Out>>
    where
        C::Out: Clone,
    {
        let draft = self.draft.clone();
        DataStream::from_origin(draft, InputOrigin::from_port(self.broadcast_port()))
    }

    /// By a function of the record and the number of subtasks, which returns the subtask.
    pub fn partition_custom<F>(self, choose: F) -> DataStream<Input<C::Out>>
    where
        F: FnMut(&C::Out, usize) -> usize + Clone + Send + 'static,
    {
        self.exchange(CustomPartitioner::new(choose))
    }

    /// Brings the records of a key together in one subtask. `key_of` is called before and behind the exchange and must
    /// depend on the record alone.
    pub fn key_by<K, F>(self, key_of: F) -> KeyedStream<C, K, F>
    where
        K: Record + Clone + Eq + std::hash::Hash,
        F: KeyOf<C::Out, K>,
    {
        KeyedStream::new(self, key_of)
    }

    /// The records of both streams, in no particular order.
    pub fn union<C2>(self, other: DataStream<C2>) -> DataStream<Input<C::Out>>
    where
        C2: Upstream<Out = C::Out>,
    {
        let draft = self.draft.clone();
        let mut ports = C::end_with(self, RoundRobinPartitioner::rebalance(), true);
        ports.extend(C2::end_with(other, RoundRobinPartitioner::rebalance(), true));
        DataStream::from_origin(draft, InputOrigin::from_ports(ports))
    }

    /// Puts two streams of different types before one operator.
    pub fn connect<C2>(self, other: DataStream<C2>) -> ConnectedStreams<C::Out, C2::Out>
    where
        C2: Upstream,
        C2::Out: Record,
    {
        let draft = self.draft.clone();
        let first = C::end_with(self, RoundRobinPartitioner::rebalance(), true);
        let second = C2::end_with(other, RoundRobinPartitioner::rebalance(), true);
        ConnectedStreams::new(draft, first, second)
    }

    /// Puts the stream before an operator beside another one, of which every subtask gets every record.
    pub fn connect_broadcast<C2>(self, other: DataStream<C2>) -> BroadcastConnectedStreams<C::Out, C2::Out>
    where
        C2: Upstream,
        C2::Out: Record + Clone,
    {
        let draft = self.draft.clone();
        let first = C::end_with(self, RoundRobinPartitioner::rebalance(), true);
        BroadcastConnectedStreams::new(ConnectedStreams::new(draft, first, vec![other.broadcast_port()]))
    }

    /// Ends the chain with an exchange that gives every record to every subtask.
    pub(crate) fn broadcast_port(self) -> PortId
    where
        C::Out: Clone,
    {
        C::end_with_edge(self, PartitionerKind::Broadcast, |port| BroadcastEnd { port })
    }

    /// Lets several consumers read the stream; each gets every record.
    pub fn share(self) -> SharedStream<C::Out>
    where
        C::Out: Clone,
    {
        SharedStream::new(self)
    }
}
