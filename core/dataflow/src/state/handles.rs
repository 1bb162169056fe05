//! Handles of states: what functions read and change the state of the current key with.

use std::fmt;
use std::hash::Hash;
use std::marker::PhantomData;

use super::content::{StateMap, Timed, TimedList, TimedMap};
use super::keyed::KeyedStates;
use super::ttl::TtlUpdate;
use crate::element::EventTime;
use crate::operators::Aggregator;
use crate::record::Record;

/// Gives state handles their operator's states; implemented by contexts.
pub trait StateAccess {
    /// The key type.
    type Key: Record;
    /// The states.
    fn keyed(&self) -> &KeyedStates<Self::Key>;
    /// The states, to change.
    fn keyed_mut(&mut self) -> &mut KeyedStates<Self::Key>;
}

impl<K: Record> StateAccess for KeyedStates<K> {
    type Key = K;
    fn keyed(&self) -> &KeyedStates<K> {
        self
    }
    fn keyed_mut(&mut self) -> &mut KeyedStates<K> {
        self
    }
}

fn detached<V: Record>(mut value: V) -> V {
    value.detach();
    value
}

/// A handle that no operator has declared yet.
const UNDECLARED: u32 = u32::MAX;

macro_rules! handle {
    ($(#[$doc:meta])* $name:ident<$($p:ident),+>, $field:ident: $phantom:ty) => {
        $(#[$doc])*
        pub struct $name<$($p),+> {
            column: u32,
            /// Whether entries expire.
            timed: bool,
            $field: PhantomData<fn() -> $phantom>,
        }
        impl<$($p),+> $name<$($p),+> {
            pub(super) fn declared(column: u32, timed: bool) -> Self {
                $name { column, timed, $field: PhantomData }
            }
        }
        impl<$($p),+> Clone for $name<$($p),+> {
            fn clone(&self) -> Self {
                *self
            }
        }
        impl<$($p),+> Copy for $name<$($p),+> {}
        /// A handle to be replaced in `declare`; using it before is an error that says so.
        impl<$($p),+> Default for $name<$($p),+> {
            fn default() -> Self {
                $name::declared(UNDECLARED, false)
            }
        }
        impl<$($p),+> fmt::Debug for $name<$($p),+> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.column)
            }
        }
    };
}

handle!(
    /// One value per key.
    ValueState<V>, value: V
);
handle!(
    /// A list per key.
    ListState<V>, value: V
);
handle!(
    /// A map per key.
    MapState<K2, V>, entry: (K2, V)
);

impl<K> KeyedStates<K> {
    /// What was last used then or before is not seen.
    fn hidden(&self, column: u32) -> EventTime {
        self.ttl(column).hidden(self.now())
    }

    fn updates_on_read(&self, column: u32) -> bool {
        self.ttl(column).update == TtlUpdate::OnReadAndWrite
    }

    /// The current key's row has changed without having been asked for to change.
    fn was_read(&self) {
        if self.stored.is_some() {
            self.used_by_reading.set(true);
            self.check_empty.set(true);
        }
    }

    /// A timed value that can be seen; seeing may be using it.
    ///
    /// A snapshot under way may get the time of this use instead of the one before the barrier: values are exact, their lives may be
    /// longer by as much as the snapshot takes.
    fn seen<'s, V>(&self, column: u32, timed: &'s Timed<V>) -> Option<&'s V> {
        if timed.used.get() <= self.hidden(column) {
            return None;
        }
        if self.updates_on_read(column) {
            timed.used.set(self.now());
            self.was_read();
        }
        Some(&timed.value)
    }
}

impl<V: Record> ValueState<V> {
    /// The current key's value.
    pub fn get<'s, S: StateAccess>(&self, states: &'s S) -> Option<&'s V>
    where
        S::Key: 's,
    {
        let states = states.keyed();
        if self.timed {
            return states.seen(self.column, states.cell::<Timed<V>>(self.column)?);
        }
        states.cell(self.column)
    }

    /// Sets the current key's value.
    pub fn set(&self, states: &mut impl StateAccess, mut value: V) {
        value.detach();
        let states = states.keyed_mut();
        if self.timed {
            let now = states.now();
            *states.cell_mut(self.column) = Some(Timed::new(value, now));
        } else {
            *states.cell_mut(self.column) = Some(value);
        }
    }

    /// The current key's value to change in place; `default` makes it if there is none.
    pub fn get_or_insert_with<'s, S: StateAccess>(&self, states: &'s mut S, default: impl FnOnce() -> V) -> &'s mut V
    where
        S::Key: 's,
    {
        let states = states.keyed_mut();
        if self.timed {
            let (hidden, now) = (states.hidden(self.column), states.now());
            let cell = states.cell_mut::<Timed<V>>(self.column);
            cell.take_if(|timed| timed.used.get() <= hidden);
            let timed = cell.get_or_insert_with(|| Timed::new(detached(default()), now));
            timed.used.set(now);
            return &mut timed.value;
        }
        states.cell_mut(self.column).get_or_insert_with(|| detached(default()))
    }

    /// Combines the current key's value with another one; the result. For a state that does not expire.
    #[inline(always)]
    pub(crate) fn merge<'s, K: Record>(
        &self,
        states: &'s mut KeyedStates<K>,
        other: V,
        combine: impl FnOnce(&mut V, V),
    ) -> &'s mut V {
        let cell = states.cell_mut(self.column);
        match cell {
            Some(present) => {
                combine(present, other);
                present.detach();
                present
            }
            None => cell.insert(detached(other)),
        }
    }

    /// Removes the current key's value and returns it.
    pub fn take(&self, states: &mut impl StateAccess) -> Option<V> {
        let states = states.keyed_mut();
        states.check_empty.set(true);
        if self.timed {
            let hidden = states.hidden(self.column);
            let timed = states.cell_mut::<Timed<V>>(self.column).take()?;
            return (timed.used.get() > hidden).then_some(timed.value);
        }
        states.cell_mut(self.column).take()
    }
}

impl<V: Record> ListState<V> {
    /// The current key's list, oldest first.
    pub fn get<'s, S: StateAccess>(&self, states: &'s S) -> &'s [V]
    where
        S::Key: 's,
    {
        let states = states.keyed();
        if !self.timed {
            return states.cell::<Vec<V>>(self.column).map_or(&[], Vec::as_slice);
        }
        let Some(list) = states.cell::<TimedList<V>>(self.column) else { return &[] };
        let hidden = states.hidden(self.column);
        if states.updates_on_read(self.column) {
            list.touch(hidden, states.now());
            states.was_read();
        }
        list.live(hidden)
    }

    /// Appends to the current key's list.
    pub fn push(&self, states: &mut impl StateAccess, mut value: V) {
        value.detach();
        let states = states.keyed_mut();
        if self.timed {
            let (hidden, now) = (states.hidden(self.column), states.now());
            let list = states.cell_mut::<TimedList<V>>(self.column).get_or_insert_default();
            list.drop_expired(hidden);
            list.push(value, now);
        } else {
            states.cell_mut::<Vec<V>>(self.column).get_or_insert_default().push(value);
        }
    }

    /// Replaces the current key's list.
    pub fn set(&self, states: &mut impl StateAccess, mut values: Vec<V>) {
        values.iter_mut().for_each(V::detach);
        let states = states.keyed_mut();
        states.check_empty.set(true);
        if self.timed {
            let now = states.now();
            let mut list = TimedList::default();
            let filled = !values.is_empty();
            values.into_iter().for_each(|value| list.push(value, now));
            *states.cell_mut(self.column) = filled.then_some(list);
        } else {
            *states.cell_mut(self.column) = Some(values).filter(|v| !v.is_empty());
        }
    }

    /// Removes the current key's list and returns it.
    pub fn take(&self, states: &mut impl StateAccess) -> Vec<V> {
        let states = states.keyed_mut();
        states.check_empty.set(true);
        if self.timed {
            let hidden = states.hidden(self.column);
            let mut list = states.cell_mut::<TimedList<V>>(self.column).take().unwrap_or_default();
            list.drop_expired(hidden);
            return list.into_items();
        }
        states.cell_mut::<Vec<V>>(self.column).take().unwrap_or_default()
    }
}

impl<K2: Record + Eq + Hash, V: Record> MapState<K2, V> {
    fn plain<'s, K>(&self, states: &'s KeyedStates<K>) -> Option<&'s StateMap<K2, V>> {
        if self.timed { None } else { states.cell(self.column) }
    }

    fn timed<'s, K>(&self, states: &'s KeyedStates<K>) -> Option<&'s TimedMap<K2, V>> {
        if self.timed { states.cell(self.column) } else { None }
    }

    /// The value of `key` in the current key's map.
    pub fn get<'s, S: StateAccess>(&self, states: &'s S, key: &K2) -> Option<&'s V>
    where
        S::Key: 's,
    {
        let states = states.keyed();
        match self.timed(states) {
            Some(map) => states.seen(self.column, map.0.get(key)?),
            None => self.plain(states)?.get(key),
        }
    }

    /// The value of `key` in the current key's map to change in place; `default` makes it if there is none.
    pub fn get_or_insert_with<'s, S: StateAccess>(
        &self,
        states: &'s mut S,
        mut key: K2,
        default: impl FnOnce() -> V,
    ) -> &'s mut V
    where
        S::Key: 's,
    {
        key.detach();
        let states = states.keyed_mut();
        if !self.timed {
            let map = states.cell_mut::<StateMap<K2, V>>(self.column).get_or_insert_default();
            return map.entry(key).or_insert_with(|| detached(default()));
        }
        let (hidden, now) = (states.hidden(self.column), states.now());
        let map = &mut states.cell_mut::<TimedMap<K2, V>>(self.column).get_or_insert_default().0;
        if map.get(&key).is_some_and(|timed| timed.used.get() <= hidden) {
            map.remove(&key);
        }
        let timed = map.entry(key).or_insert_with(|| Timed::new(detached(default()), now));
        timed.used.set(now);
        &mut timed.value
    }

    /// Sets the value of `key` in the current key's map and returns the one before.
    pub fn insert(&self, states: &mut impl StateAccess, mut key: K2, mut value: V) -> Option<V> {
        key.detach();
        value.detach();
        let states = states.keyed_mut();
        if !self.timed {
            return states.cell_mut::<StateMap<K2, V>>(self.column).get_or_insert_default().insert(key, value);
        }
        let (hidden, now) = (states.hidden(self.column), states.now());
        let map = states.cell_mut::<TimedMap<K2, V>>(self.column).get_or_insert_default();
        map.0.insert(key, Timed::new(value, now)).filter(|timed| timed.used.get() > hidden).map(|timed| timed.value)
    }

    /// Removes `key` from the current key's map.
    pub fn remove(&self, states: &mut impl StateAccess, key: &K2) -> Option<V> {
        let states = states.keyed_mut();
        states.check_empty.set(true);
        if !self.timed {
            let cell = states.cell_mut::<StateMap<K2, V>>(self.column);
            let removed = cell.as_mut()?.remove(key);
            cell.take_if(|map| map.is_empty());
            return removed;
        }
        let hidden = states.hidden(self.column);
        let cell = states.cell_mut::<TimedMap<K2, V>>(self.column);
        let removed = cell.as_mut()?.0.remove(key);
        cell.take_if(|map| map.0.is_empty());
        removed.filter(|timed| timed.used.get() > hidden).map(|timed| timed.value)
    }

    /// The entries of the current key's map, in no particular order.
    pub fn entries<'s, S: StateAccess>(&self, states: &'s S) -> impl Iterator<Item = (&'s K2, &'s V)>
    where
        S::Key: 's,
    {
        let (states, column) = (states.keyed(), self.column);
        let plain = self.plain(states).into_iter().flatten();
        let timed = self.timed(states).into_iter().flat_map(|map| &map.0);
        plain.chain(timed.filter_map(move |(key, timed)| Some((key, states.seen(column, timed)?))))
    }

    /// Number of entries of the current key's map.
    pub fn len(&self, states: &impl StateAccess) -> usize {
        let states = states.keyed();
        match self.timed(states) {
            Some(map) => map.live(states.hidden(self.column)).count(),
            None => self.plain(states).map_or(0, StateMap::len),
        }
    }

    /// Whether the current key's map has no entry.
    pub fn is_empty(&self, states: &impl StateAccess) -> bool {
        self.len(states) == 0
    }

    /// Removes the current key's map.
    pub fn clear(&self, states: &mut impl StateAccess) {
        let states = states.keyed_mut();
        states.check_empty.set(true);
        if self.timed {
            *states.cell_mut::<TimedMap<K2, V>>(self.column) = None;
        } else {
            *states.cell_mut::<StateMap<K2, V>>(self.column) = None;
        }
    }
}

/// One value per key that others are combined with.
pub struct ReducingState<V> {
    value: ValueState<V>,
    /// `None`: not declared.
    reduce: Option<fn(V, V) -> V>,
}

impl<V> Clone for ReducingState<V> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<V> Copy for ReducingState<V> {}

/// A handle to be replaced in `declare`; using it before is an error that says so.
impl<V> Default for ReducingState<V> {
    fn default() -> Self {
        ReducingState { value: ValueState::default(), reduce: None }
    }
}

impl<V> fmt::Debug for ReducingState<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ReducingState({})", self.value.column)
    }
}

impl<V: Record> ReducingState<V> {
    pub(super) fn declared(value: ValueState<V>, reduce: fn(V, V) -> V) -> Self {
        ReducingState { value, reduce: Some(reduce) }
    }

    /// The current key's value.
    pub fn get<'s, S: StateAccess>(&self, states: &'s S) -> Option<&'s V>
    where
        S::Key: 's,
    {
        self.value.get(states)
    }

    /// Combines the current key's value with another one.
    pub fn add(&self, states: &mut impl StateAccess, value: V) {
        let value = match (self.value.take(states), self.reduce) {
            (Some(present), Some(reduce)) => reduce(present, value),
            (_, _) => value,
        };
        self.value.set(states, value);
    }

    /// Removes the current key's value and returns it.
    pub fn take(&self, states: &mut impl StateAccess) -> Option<V> {
        self.value.take(states)
    }
}

/// One accumulator per key that values are folded into.
pub struct AggregatingState<In, A: Aggregator<In>> {
    accumulator: ValueState<A::Accumulator>,
    /// `None`: not declared.
    aggregator: Option<A>,
}

impl<In, A: Aggregator<In>> Clone for AggregatingState<In, A> {
    fn clone(&self) -> Self {
        AggregatingState { accumulator: self.accumulator, aggregator: self.aggregator.clone() }
    }
}

/// A handle to be replaced in `declare`; using it before is an error that says so.
impl<In, A: Aggregator<In>> Default for AggregatingState<In, A> {
    fn default() -> Self {
        AggregatingState { accumulator: ValueState::default(), aggregator: None }
    }
}

impl<In, A: Aggregator<In>> fmt::Debug for AggregatingState<In, A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AggregatingState({})", self.accumulator.column)
    }
}

impl<In, A: Aggregator<In>> AggregatingState<In, A> {
    pub(super) fn declared(accumulator: ValueState<A::Accumulator>, aggregator: A) -> Self {
        AggregatingState { accumulator, aggregator: Some(aggregator) }
    }

    /// Folds a value into the current key's accumulator.
    pub fn add(&mut self, states: &mut impl StateAccess, value: In) {
        let aggregator = self.aggregator.as_mut().expect("a state is declared before it is used, in `declare`");
        // `first` and `add` both need the value; only one of them gets it.
        let mut value = Some(value);
        let mut take = || value.take().expect("the value is folded once");
        let accumulator = self.accumulator.get_or_insert_with(states, || aggregator.first(take()));
        if let Some(value) = value {
            aggregator.add(accumulator, value);
            accumulator.detach();
        }
    }

    /// The result of what was folded in; `None` if there was nothing.
    pub fn get(&mut self, states: &impl StateAccess) -> Option<A::Out> {
        let accumulator = self.accumulator.get(states)?;
        self.aggregator.as_mut().map(|aggregator| aggregator.result(accumulator))
    }

    /// Removes the current key's accumulator.
    pub fn clear(&self, states: &mut impl StateAccess) {
        self.accumulator.take(states);
    }
}
