//! One accumulator per key.

use std::hash::{BuildHasher, Hash};

use hashbrown::hash_table::{Entry, HashTable};

/// Values by key. The hasher is the owner's, so that many tables can share it.
#[derive(Debug, Clone)]
pub(super) struct Table<K, V>(HashTable<(K, V)>);

impl<K, V> Default for Table<K, V> {
    fn default() -> Self {
        Table(HashTable::new())
    }
}

impl<K: Eq + Hash, V> Table<K, V> {
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Folds `part` into the value of `key`, or makes the first one of it.
    #[inline(always)]
    pub(super) fn upsert<P>(
        &mut self,
        hasher: &impl BuildHasher,
        key: K,
        part: P,
        first: impl FnOnce(&mut K, P) -> V,
        fold: impl FnOnce(&mut V, P),
    ) -> &mut (K, V) {
        let hash = hasher.hash_one(&key);
        match self.0.entry(hash, |(k, _)| *k == key, |(k, _)| hasher.hash_one(k)) {
            Entry::Occupied(entry) => {
                let pair = entry.into_mut();
                fold(&mut pair.1, part);
                pair
            }
            Entry::Vacant(entry) => {
                let mut key = key;
                let value = first(&mut key, part);
                entry.insert((key, value)).into_mut()
            }
        }
    }

    pub(super) fn drain(&mut self) -> impl Iterator<Item = (K, V)> {
        self.0.drain()
    }
}
