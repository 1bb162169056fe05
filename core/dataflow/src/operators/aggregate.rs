//! `reduce` and `aggregate` on keyed streams, in two halves around the exchange.
//!
//! The half before it folds records into one accumulator per key and sends (key, accumulator) on when its table is full or
//! the task is idle; the half behind it combines accumulators. A hot key therefore costs the network one record per table, not
//! one per occurrence, and the exchange of a stream with few keys all but disappears.

use std::hash::{BuildHasher, Hash};
use std::marker::PhantomData;

use hashbrown::DefaultHashBuilder;
use hashbrown::hash_table::{Entry, HashTable};

use crate::declaration::OperatorState;
use crate::element::EventTime;
use crate::failure::TaskError;
use crate::operator::{Collector, Flush, Operator, OperatorContext};
use crate::record::Record;
use crate::snapshot::{OperatorSnapshotter, millis_now};
use crate::state::{Declared, KeyedStates, ValueState};

/// Folds the records of a key into an accumulator.
///
/// `combine` must be associative and agree with `add`: folding parts and combining them equals folding the whole. Records and
/// parts come in no particular order.
pub trait Aggregator<In>: Clone + Send + 'static {
    /// What is kept per key; crosses the exchange.
    type Accumulator: Record + Clone;
    /// What is emitted per key.
    type Out: Send + 'static;

    /// An accumulator holding its first record.
    fn first(&mut self, record: In) -> Self::Accumulator;
    /// Folds one more record in.
    fn add(&mut self, accumulator: &mut Self::Accumulator, record: In);
    /// Folds another part in.
    fn combine(&mut self, accumulator: &mut Self::Accumulator, other: Self::Accumulator);
    /// Takes a part out again that was folded in, and says so with `true`: then windows that overlap need not fold the panes they share
    /// anew. Only for what can be taken out exactly, in any order, as counts can; otherwise, as by default, nothing changes.
    fn subtract(&mut self, accumulator: &mut Self::Accumulator, part: &Self::Accumulator) -> bool {
        let _ = (accumulator, part);
        false
    }
    /// The result as of now.
    fn result(&mut self, accumulator: &Self::Accumulator) -> Self::Out;
}

/// [`Aggregator`] of a function that combines two records of one type.
#[derive(Clone)]
pub struct Reduce<F>(pub F);

impl<T, F> Aggregator<T> for Reduce<F>
where
    T: Record + Clone,
    F: FnMut(T, T) -> T + Clone + Send + 'static,
{
    // `None` only while the author's function holds the value: it takes and returns values, not references.
    type Accumulator = Option<T>;
    type Out = T;

    #[inline(always)]
    fn first(&mut self, record: T) -> Option<T> {
        Some(record)
    }
    #[inline(always)]
    fn add(&mut self, accumulator: &mut Option<T>, record: T) {
        self.combine(accumulator, Some(record));
    }
    #[inline(always)]
    fn combine(&mut self, accumulator: &mut Option<T>, other: Option<T>) {
        *accumulator = match (accumulator.take(), other) {
            (Some(a), Some(b)) => Some((self.0)(a, b)),
            (a, b) => a.or(b),
        };
    }
    fn result(&mut self, accumulator: &Option<T>) -> T {
        accumulator.clone().expect("a key has an accumulator only after its first record")
    }
}

/// One accumulator per key.
struct Table<K, A> {
    index: HashTable<(K, A)>,
    hasher: DefaultHashBuilder,
}

impl<K: Eq + Hash, A> Table<K, A> {
    fn new() -> Self {
        Table { index: HashTable::new(), hasher: DefaultHashBuilder::default() }
    }

    #[inline(always)]
    fn upsert<V>(&mut self, key: K, value: V, first: impl FnOnce(&mut K, V) -> A, fold: impl FnOnce(&mut A, V)) {
        let hash = self.hasher.hash_one(&key);
        let Table { index, hasher } = self;
        match index.entry(hash, |(k, _)| *k == key, |(k, _)| hasher.hash_one(k)) {
            Entry::Occupied(entry) => fold(&mut entry.into_mut().1, value),
            Entry::Vacant(entry) => {
                let mut key = key;
                let accumulator = first(&mut key, value);
                entry.insert((key, accumulator));
            }
        }
    }
}

/// Gives a record's key.
pub trait KeyOf<In, K>: FnMut(&In) -> K + Clone + Send + 'static {}

impl<In, K, F: FnMut(&In) -> K + Clone + Send + 'static> KeyOf<In, K> for F {}

/// The half before the exchange.
pub struct PreAggregateOperator<In, K, F, A: Aggregator<In>> {
    key_of: F,
    aggregator: A,
    table: Table<K, A::Accumulator>,
    /// Records folded since the table was last emptied.
    folded: usize,
    /// Records to pass through unfolded, after a table that saved little.
    bypass: usize,
    keep_until_end: bool,
    /// Records after which the table is emptied although it is not full.
    most_folds: usize,
    input: PhantomData<fn(In)>,
}

/// Keys in the table before it is emptied. Small enough for a core's cache with small accumulators.
const TABLE_KEYS: usize = 16 * 1024;
/// A busy task without a buffer timeout still passes updates on after this many records.
const MOST_FOLDS: usize = 1024 * 1024;
/// A table that took fewer records per key than this was not worth the hashing …
const WORTHWHILE: usize = 2;
/// … and this many records pass by before it is tried again.
const BYPASS_RECORDS: usize = 256 * 1024;

impl<In, K: Eq + Hash, F, A: Aggregator<In>> PreAggregateOperator<In, K, F, A> {
    /// Folds with `aggregator` by the key that `key_of` gives.
    pub fn new(key_of: F, aggregator: A) -> Self {
        PreAggregateOperator {
            key_of,
            aggregator,
            table: Table::new(),
            folded: 0,
            bypass: 0,
            keep_until_end: false,
            most_folds: usize::MAX,
            input: PhantomData,
        }
    }

    fn empty_table<C: Collector<(K, A::Accumulator)>>(&mut self, out: &mut C) {
        for pair in self.table.index.drain() {
            out.push(pair);
        }
        self.folded = 0;
    }

    #[inline(never)]
    fn on_full<C: Collector<(K, A::Accumulator)>>(&mut self, out: &mut C) {
        if self.folded < WORTHWHILE * self.table.index.len() {
            self.bypass = BYPASS_RECORDS;
        }
        self.empty_table(out);
    }
}

impl<In, K: Eq + Hash, F: Clone, A: Aggregator<In>> Clone for PreAggregateOperator<In, K, F, A> {
    fn clone(&self) -> Self {
        PreAggregateOperator::new(self.key_of.clone(), self.aggregator.clone())
    }
}

impl<In, K, F, A> Operator<In> for PreAggregateOperator<In, K, F, A>
where
    In: 'static,
    K: Record + Eq + Hash,
    F: KeyOf<In, K>,
    A: Aggregator<In>,
{
    type Out = (K, A::Accumulator);

    fn open(&mut self, context: &OperatorContext<'_>) -> Result<(), TaskError> {
        self.keep_until_end = context.task.options().final_results_only;
        self.most_folds = if self.keep_until_end { usize::MAX } else { MOST_FOLDS };
        Ok(())
    }

    #[inline(always)]
    fn process<C: Collector<Self::Out>>(&mut self, record: In, out: &mut C) {
        let key = (self.key_of)(&record);
        if self.bypass > 0 {
            self.bypass -= 1;
            out.push((key, self.aggregator.first(record)));
            return;
        }
        let PreAggregateOperator { aggregator, table, .. } = self;
        // `first` and `add` both need the aggregator; only one of them runs.
        let aggregator = std::cell::RefCell::new(aggregator);
        table.upsert(
            key,
            record,
            |key, record| {
                // What stays must not keep the input buffer alive that it was cut from.
                key.detach();
                let mut accumulator = aggregator.borrow_mut().first(record);
                accumulator.detach();
                accumulator
            },
            |accumulator, record| {
                aggregator.borrow_mut().add(accumulator, record);
                accumulator.detach();
            },
        );
        self.folded += 1;
        if self.table.index.len() >= TABLE_KEYS || self.folded >= self.most_folds {
            self.on_full(out);
        }
    }

    fn flush<C: Collector<Self::Out>>(&mut self, _why: Flush, out: &mut C) {
        if !self.keep_until_end {
            self.empty_table(out);
        }
    }

    fn watermark<C: Collector<Self::Out>>(&mut self, _time: crate::element::EventTime, out: &mut C) {
        self.empty_table(out);
    }

    fn before_barrier<C: Collector<Self::Out>>(&mut self, out: &mut C) {
        self.empty_table(out);
    }

    fn end<C: Collector<Self::Out>>(&mut self, out: &mut C) {
        self.empty_table(out);
    }
}

/// Builds what a keyed aggregation emits.
pub trait EmitAs<K, R>: Clone + Send + 'static {
    /// What is emitted.
    type Out: 'static;
    /// Makes it from a key and its result.
    fn emit(key: &K, result: R) -> Self::Out;
}

/// Emits (key, result).
#[derive(Debug, Clone, Copy, Default)]
pub struct EmitPair;

impl<K: Clone + 'static, R: 'static> EmitAs<K, R> for EmitPair {
    type Out = (K, R);
    #[inline(always)]
    fn emit(key: &K, result: R) -> (K, R) {
        (key.clone(), result)
    }
}

/// Emits the result alone.
#[derive(Debug, Clone, Copy, Default)]
pub struct EmitResult;

impl<K, R: 'static> EmitAs<K, R> for EmitResult {
    type Out = R;
    #[inline(always)]
    fn emit(_key: &K, result: R) -> R {
        result
    }
}

/// The half behind the exchange: emits the result of a key whenever it changed, or of every key once at the end
/// (`RuntimeOptions::final_results_only`). Accumulators are keyed state.
pub struct MergeOperator<In, K, A: Aggregator<In>, M> {
    aggregator: A,
    states: KeyedStates<K>,
    accumulator: ValueState<A::Accumulator>,
    only_at_end: bool,
    types: PhantomData<fn(In) -> M>,
}

impl<In, K, A: Aggregator<In>, M> MergeOperator<In, K, A, M> {
    /// Combines with `aggregator`.
    pub fn new(aggregator: A) -> Self {
        MergeOperator {
            aggregator,
            states: KeyedStates::default(),
            accumulator: ValueState::default(),
            only_at_end: false,
            types: PhantomData,
        }
    }

    fn declared() -> (Declared, ValueState<A::Accumulator>) {
        let mut declared = Declared::default();
        let accumulator = declared.declarer().accumulator("accumulator");
        (declared, accumulator)
    }
}

impl<In, K, A: Aggregator<In>, M> Clone for MergeOperator<In, K, A, M> {
    fn clone(&self) -> Self {
        MergeOperator::new(self.aggregator.clone())
    }
}

impl<In, K, A, M> Operator<(K, A::Accumulator)> for MergeOperator<In, K, A, M>
where
    In: 'static,
    K: Record + Eq + Hash,
    A: Aggregator<In>,
    M: EmitAs<K, A::Out>,
{
    type Out = M::Out;

    fn declare(&mut self, state: &mut OperatorState) {
        state.tables.push(Self::declared().0.table::<K>());
    }

    fn open(&mut self, context: &OperatorContext<'_>) -> Result<(), TaskError> {
        self.only_at_end = context.task.options().final_results_only;
        let (declared, accumulator) = Self::declared();
        self.accumulator = accumulator;
        self.states = KeyedStates::open(declared, context, millis_now())?;
        Ok(())
    }

    #[inline(always)]
    fn prepare(&mut self, records: &[(K, A::Accumulator)]) {
        self.states.prepare(records.iter().map(|(key, _)| key));
    }

    #[inline(always)]
    fn process<C: Collector<M::Out>>(&mut self, (key, part): (K, A::Accumulator), out: &mut C) {
        let MergeOperator { aggregator, states, accumulator, .. } = self;
        states.enter(key);
        // What stays must not keep the input buffer alive that it was cut from.
        let merged = accumulator.merge(states, part, |accumulator, part| aggregator.combine(accumulator, part));
        let result = (!self.only_at_end).then(|| aggregator.result(merged));
        if let Some(result) = result {
            out.push(M::emit(states.current_key(), result));
        }
        states.leave();
    }

    fn processing_time<C: Collector<M::Out>>(&mut self, now: EventTime, _out: &mut C) -> EventTime {
        self.states.measure(now);
        EventTime::MAX
    }

    fn end<C: Collector<M::Out>>(&mut self, out: &mut C) {
        self.states.measure_now(millis_now());
        if !self.only_at_end {
            return;
        }
        let mut keys = self.states.walk();
        while self.states.enter_next(&mut keys) {
            if let Some(accumulator) = self.accumulator.get(&self.states) {
                let result = self.aggregator.result(accumulator);
                out.push(M::emit(self.states.current_key(), result));
            }
            self.states.leave();
        }
    }

    fn snapshot(&mut self, snapshot: &mut OperatorSnapshotter<'_>) {
        self.states.snapshot(snapshot, millis_now());
    }

    fn snapshot_step(&mut self, snapshot: &mut OperatorSnapshotter<'_>) -> bool {
        self.states.snapshot_step(snapshot)
    }

    fn checkpoint_ended(&mut self, checkpoint: u64, _completed: bool) {
        self.states.checkpoint_ended(checkpoint);
    }
}
