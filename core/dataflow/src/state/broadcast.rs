//! Broadcast state: maps that all subtasks of an operator have alike.

use std::fmt;
use std::hash::{BuildHasher, Hash};
use std::marker::PhantomData;

use hashbrown::DefaultHashBuilder;
use hashbrown::hash_table::{Entry, HashTable};
use weir_checkpoint::Redistribution;

use super::listed::{Listed, ListedStates};
use crate::declaration::OperatorState;
use crate::failure::TaskError;
use crate::operator::OperatorContext;
use crate::record::Record;
use crate::snapshot::OperatorSnapshotter;

/// The broadcast states of one subtask.
///
/// They change by what is broadcast, which reaches all subtasks in the same order; so each has them alike.
#[derive(Debug, Default)]
pub struct BroadcastStates(ListedStates);

/// A map of pairs, as they are in snapshots.
struct BroadcastMap<K, V> {
    pairs: HashTable<(K, V)>,
    hasher: DefaultHashBuilder,
}

impl<K: Record + Eq + Hash, V: Record> BroadcastMap<K, V> {
    fn get(&self, key: &K) -> Option<&V> {
        let hash = self.hasher.hash_one(key);
        self.pairs.find(hash, |(present, _)| present == key).map(|(_, value)| value)
    }

    fn insert(&mut self, mut key: K, mut value: V) -> Option<V> {
        key.detach();
        value.detach();
        let BroadcastMap { pairs, hasher } = self;
        match pairs.entry(hasher.hash_one(&key), |(present, _)| *present == key, |(key, _)| hasher.hash_one(key)) {
            Entry::Occupied(mut entry) => Some(std::mem::replace(&mut entry.get_mut().1, value)),
            Entry::Vacant(entry) => {
                entry.insert((key, value));
                None
            }
        }
    }

    fn remove(&mut self, key: &K) -> Option<V> {
        let hash = self.hasher.hash_one(key);
        let entry = self.pairs.find_entry(hash, |(present, _)| present == key).ok()?;
        Some(entry.remove().0.1)
    }
}

impl<K: Record + Eq + Hash, V: Record> Listed for BroadcastMap<K, V> {
    fn declare(&self, name: &str, state: &mut OperatorState) {
        state.list::<(K, V)>(name, Redistribution::Broadcast);
    }
    fn restore(&mut self, name: &str, context: &OperatorContext<'_>) -> Result<(), TaskError> {
        for (key, value) in context.restored_list::<(K, V)>(name)? {
            self.insert(key, value);
        }
        Ok(())
    }
    fn snapshot(&self, name: &str, snapshot: &mut OperatorSnapshotter<'_>) {
        snapshot.list(name, Redistribution::Broadcast, &self.pairs);
    }
}

/// Declares broadcast states. Each has a name of its own, by which it is found again in checkpoints.
#[derive(Debug)]
pub struct BroadcastDeclarer<'a>(pub(crate) &'a mut BroadcastStates);

impl BroadcastDeclarer<'_> {
    /// A map.
    pub fn map<K: Record + Eq + Hash, V: Record>(&mut self, name: &str) -> BroadcastState<K, V> {
        let map = BroadcastMap::<K, V> { pairs: HashTable::new(), hasher: DefaultHashBuilder::default() };
        BroadcastState { number: self.0.0.add("broadcast", name, map), entry: PhantomData }
    }
}

impl BroadcastStates {
    pub(crate) fn declare(&self, state: &mut OperatorState) {
        self.0.declare(state);
    }

    pub(crate) fn restore(&mut self, context: &OperatorContext<'_>) -> Result<(), TaskError> {
        self.0.restore(context)
    }

    pub(crate) fn snapshot(&self, snapshot: &mut OperatorSnapshotter<'_>) {
        self.0.snapshot(snapshot);
    }
}

/// A map that all subtasks have alike. Those who get the states to change may change it.
pub struct BroadcastState<K, V> {
    number: usize,
    entry: PhantomData<fn() -> (K, V)>,
}

impl<K, V> Clone for BroadcastState<K, V> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<K, V> Copy for BroadcastState<K, V> {}

/// A handle to be replaced when states are declared; using it before is an error that says so.
impl<K, V> Default for BroadcastState<K, V> {
    fn default() -> Self {
        BroadcastState { number: usize::MAX, entry: PhantomData }
    }
}

impl<K, V> fmt::Debug for BroadcastState<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BroadcastState({})", self.number)
    }
}

const UNDECLARED: &str =
    "a handle of broadcast state was used that this operator did not declare; declare it in `declare_broadcast`";

impl<K: Record + Eq + Hash, V: Record> BroadcastState<K, V> {
    fn map<'s>(&self, states: &'s BroadcastStates) -> &'s BroadcastMap<K, V> {
        states.0.get(self.number).expect(UNDECLARED)
    }

    fn map_mut<'s>(&self, states: &'s mut BroadcastStates) -> &'s mut BroadcastMap<K, V> {
        states.0.get_mut(self.number).expect(UNDECLARED)
    }

    /// The value of `key`.
    pub fn get<'s>(&self, states: &'s BroadcastStates, key: &K) -> Option<&'s V> {
        self.map(states).get(key)
    }

    /// The entries, in no particular order.
    pub fn entries<'s>(&self, states: &'s BroadcastStates) -> impl Iterator<Item = (&'s K, &'s V)> {
        self.map(states).pairs.iter().map(|(key, value)| (key, value))
    }

    /// Number of entries.
    pub fn len(&self, states: &BroadcastStates) -> usize {
        self.map(states).pairs.len()
    }

    /// Whether there is no entry.
    pub fn is_empty(&self, states: &BroadcastStates) -> bool {
        self.len(states) == 0
    }

    /// Sets the value of `key` and returns the one before.
    pub fn insert(&self, states: &mut BroadcastStates, key: K, value: V) -> Option<V> {
        self.map_mut(states).insert(key, value)
    }

    /// Removes `key` and returns its value.
    pub fn remove(&self, states: &mut BroadcastStates, key: &K) -> Option<V> {
        self.map_mut(states).remove(key)
    }

    /// Removes all entries.
    pub fn clear(&self, states: &mut BroadcastStates) {
        self.map_mut(states).pairs.clear();
    }
}
