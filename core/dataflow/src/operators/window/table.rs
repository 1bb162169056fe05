//! One accumulator per key.

use std::hash::{BuildHasher, Hash};

use hashbrown::hash_table::{Entry, HashTable};

/// What a window has of a key.
#[derive(Debug, Clone)]
pub(super) struct Kept<A> {
    pub(super) accumulator: A,
    /// Parts since it last fired.
    pub(super) pending: u64,
}

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

    pub(super) fn get(&self, hasher: &impl BuildHasher, key: &K) -> Option<&V> {
        self.0.find(hasher.hash_one(key), |(k, _)| k == key).map(|(_, value)| value)
    }

    pub(super) fn get_mut(&mut self, hasher: &impl BuildHasher, key: &K) -> Option<&mut V> {
        self.0.find_mut(hasher.hash_one(key), |(k, _)| k == key).map(|(_, value)| value)
    }

    pub(super) fn remove(&mut self, hasher: &impl BuildHasher, key: &K) {
        if let Ok(entry) = self.0.find_entry(hasher.hash_one(key), |(k, _)| k == key) {
            entry.remove();
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &(K, V)> {
        self.0.iter()
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut (K, V)> {
        self.0.iter_mut()
    }

    pub(super) fn drain(&mut self) -> impl Iterator<Item = (K, V)> {
        self.0.drain()
    }

    pub(super) fn retain(&mut self, keep: impl FnMut(&mut (K, V)) -> bool) {
        self.0.retain(keep);
    }
}
