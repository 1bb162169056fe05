//! Keyed streams: aggregation and state per key.

use std::hash::Hash;
use std::marker::PhantomData;

use weir_dataflow::exchange::HashPartitioner;
use weir_dataflow::head::Input;
use weir_dataflow::operator::Then;
use weir_dataflow::operators::{
    Aggregator, EmitAs, EmitPair, EmitResult, KeyOf, MergeOperator, PreAggregateOperator, Reduce,
};
use weir_dataflow::plan::PortId;
use weir_dataflow::process::{KeyedProcessFunction, KeyedProcessOperator};
use weir_dataflow::record::Record;

use super::aggregates::{Count, Max, Min, Number, Sum};
use super::connected::{ConnectedStreams, KeyedBroadcastConnectedStreams, KeyedConnectedStreams};
use super::{DataStream, Upstream};
use crate::build::Draft;

/// A stream whose records are grouped by key.
#[must_use = "a keyed stream does nothing until an operator reads it"]
#[derive(Debug)]
pub struct KeyedStream<C: Upstream, K, F> {
    stream: DataStream<C>,
    key_of: F,
    key: PhantomData<fn() -> K>,
}

/// What a keyed aggregation of records `T` returns: its chain starts behind the exchange.
pub type Aggregated<T, K, A, M> =
    DataStream<Then<Input<(K, <A as Aggregator<T>>::Accumulator)>, MergeOperator<T, K, A, M>>>;

impl<C, K, F> KeyedStream<C, K, F>
where
    C: Upstream,
    C::Out: Record,
    K: Record + Clone + Eq + Hash,
    F: KeyOf<C::Out, K>,
{
    pub(crate) fn new(stream: DataStream<C>, key_of: F) -> Self {
        KeyedStream { stream, key_of, key: PhantomData }
    }

    pub(crate) fn into_parts(self) -> (DataStream<C>, F) {
        (self.stream, self.key_of)
    }

    /// Combines the records of a key into one, two at a time: sums, maxima, merges. `f` must be associative.
    ///
    /// Records are combined before the exchange as well. A bounded job emits one record per key when its input ends; an
    /// unbounded one emits the new value of a key whenever it changed (`execution.runtime-mode`).
    pub fn reduce<G>(self, f: G) -> Aggregated<C::Out, K, Reduce<G>, EmitResult>
    where
        C::Out: Clone,
        G: FnMut(C::Out, C::Out) -> C::Out + Clone + Send + 'static,
    {
        self.aggregate_as("Reduce", Reduce(f))
    }

    /// Folds the records of a key with `aggregator` and emits (key, result). Emits as [`reduce`](Self::reduce) does.
    pub fn aggregate<A: Aggregator<C::Out>>(self, aggregator: A) -> Aggregated<C::Out, K, A, EmitPair> {
        self.aggregate_as("Aggregate", aggregator)
    }

    /// Counts the records of a key: (key, count). Emits as [`reduce`](Self::reduce) does.
    pub fn count(self) -> Aggregated<C::Out, K, Count, EmitPair> {
        self.aggregate_as("Count", Count)
    }

    /// Sums a number of the records of a key: (key, sum). Emits as [`reduce`](Self::reduce) does.
    pub fn sum<N: Number, G>(self, value: G) -> Aggregated<C::Out, K, Sum<G, N>, EmitPair>
    where
        G: FnMut(&C::Out) -> N + Clone + Send + 'static,
    {
        self.aggregate_as("Sum", Sum::new(value))
    }

    /// The largest of a value of the records of a key: (key, maximum). Emits as [`reduce`](Self::reduce) does.
    pub fn max<V, G>(self, value: G) -> Aggregated<C::Out, K, Max<G, V>, EmitPair>
    where
        V: Record + Clone + PartialOrd,
        G: FnMut(&C::Out) -> V + Clone + Send + 'static,
    {
        self.aggregate_as("Max", Max::new(value))
    }

    /// The smallest of a value of the records of a key: (key, minimum). Emits as [`reduce`](Self::reduce) does.
    pub fn min<V, G>(self, value: G) -> Aggregated<C::Out, K, Min<G, V>, EmitPair>
    where
        V: Record + Clone + PartialOrd,
        G: FnMut(&C::Out) -> V + Clone + Send + 'static,
    {
        self.aggregate_as("Min", Min::new(value))
    }

    fn aggregate_as<A, M>(self, name: &str, aggregator: A) -> Aggregated<C::Out, K, A, M>
    where
        A: Aggregator<C::Out>,
        M: EmitAs<K, A::Out>,
    {
        let before = PreAggregateOperator::new(self.key_of, aggregator.clone());
        self.stream
            .transform(&format!("Pre-{name}"), before)
            .exchange(HashPartitioner::new(|(key, _): &(K, A::Accumulator)| key.key_hash()))
            .transform(name, MergeOperator::new(aggregator))
    }

    /// The edge that brings the records of a key together, and what gives a record's key behind it.
    fn into_port(self) -> (Draft, Vec<PortId>, F) {
        let KeyedStream { stream, key_of, .. } = self;
        let (draft, mut partition_key) = (stream.draft.clone(), key_of.clone());
        let partitioner = HashPartitioner::new(move |record: &C::Out| partition_key(record).key_hash());
        (draft, C::end_with(stream, partitioner, false), key_of)
    }

    /// Puts two streams with keys of one type before one operator: records of one key meet in one subtask.
    pub fn connect<C2, F2>(self, other: KeyedStream<C2, K, F2>) -> KeyedConnectedStreams<C::Out, C2::Out, K, F, F2>
    where
        C2: Upstream,
        C2::Out: Record,
        F2: KeyOf<C2::Out, K>,
    {
        let (draft, first, first_key) = self.into_port();
        let (_, second, second_key) = other.into_port();
        KeyedConnectedStreams::new(ConnectedStreams::new(draft, first, second), first_key, second_key)
    }

    /// Puts the stream before an operator beside another one, of which every subtask gets every record.
    pub fn connect_broadcast<C2>(self, other: DataStream<C2>) -> KeyedBroadcastConnectedStreams<C::Out, C2::Out, K, F>
    where
        C2: Upstream,
        C2::Out: Record + Clone,
    {
        let (draft, first, key_of) = self.into_port();
        let streams = ConnectedStreams::new(draft, first, vec![other.broadcast_port()]);
        KeyedBroadcastConnectedStreams::new(streams, key_of)
    }

    /// Runs a function with state and timers per key.
    #[allow(clippy::type_complexity, reason = "the chain is in the type by design")]
    pub fn process<G: KeyedProcessFunction<K, C::Out>>(
        self,
        function: G,
    ) -> DataStream<Then<Input<C::Out>, KeyedProcessOperator<G, K, F, G::Out>>> {
        let KeyedStream { stream, key_of, .. } = self;
        let mut partition_key = key_of.clone();
        stream
            .exchange(HashPartitioner::new(move |record: &C::Out| partition_key(record).key_hash()))
            .transform("Keyed Process", KeyedProcessOperator::new(function, key_of))
    }
}
