//! The write buffer: the newest entries, in memory.
//!
//! Point reads and writes go through a hash table and cost two or three cache misses however many entries there are. Order is needed
//! by scans and for the file, so it is made when one of them asks: a tree that catches up with the new keys before each scan, or one sort at
//! the end, in the background.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::OnceLock;

use hashbrown::HashTable;

/// What the table of entries and the hash table take per entry, in bytes.
const PER_ENTRY: usize = size_of::<Entry>() + 8;
/// What a key in the tree takes beside its bytes, in bytes.
const PER_ORDERED: usize = 48;
/// The tag of a deleted key.
const DELETED: u32 = u32::MAX;

/// Key and value lie one after the other in the arena.
#[derive(Debug)]
struct Entry {
    hash: u64,
    at: usize,
    key_length: u32,
    /// [`DELETED`], or the value's length.
    value_length: u32,
    /// What there is room for.
    capacity: u32,
}

/// The entries, found by hash, in no order.
#[derive(Debug, Default)]
struct Entries {
    index: HashTable<u32>,
    entries: Vec<Entry>,
    arena: Vec<u8>,
}

impl Entries {
    #[inline]
    fn key(&self, number: u32) -> &[u8] {
        let entry = &self.entries[number as usize];
        &self.arena[entry.at..entry.at + entry.key_length as usize]
    }

    #[inline]
    fn value(&self, number: u32) -> Option<&[u8]> {
        let entry = &self.entries[number as usize];
        let at = entry.at + entry.key_length as usize;
        (entry.value_length != DELETED).then(|| &self.arena[at..at + entry.value_length as usize])
    }

    #[inline]
    fn find(&self, key: &[u8], hash: u64) -> Option<u32> {
        let same = |&number: &u32| self.entries[number as usize].hash == hash && self.key(number) == key;
        self.index.find(hash, same).copied()
    }

    fn set(&mut self, key: &[u8], hash: u64, value: Option<&[u8]>) {
        let length = value.map_or(DELETED, |value| value.len() as u32);
        let value = value.unwrap_or_default();
        let Some(number) = self.find(key, hash) else { return self.insert(key, hash, length, value) };
        let entry = &mut self.entries[number as usize];
        entry.value_length = length;
        if value.len() <= entry.capacity as usize {
            let at = entry.at + entry.key_length as usize;
            self.arena[at..at + value.len()].copy_from_slice(value);
        } else {
            // The old place is lost until the buffer is written; twice the room bounds what a growing value can lose.
            entry.capacity = value.len().saturating_mul(2).min(u32::MAX as usize) as u32;
            entry.at = self.arena.len();
            let room = entry.capacity as usize - value.len();
            self.arena.extend_from_slice(key);
            self.arena.extend_from_slice(value);
            self.arena.resize(self.arena.len() + room, 0);
        }
    }

    fn insert(&mut self, key: &[u8], hash: u64, value_length: u32, value: &[u8]) {
        let number = self.entries.len() as u32;
        let (key_length, capacity) = (key.len() as u32, value.len() as u32);
        self.entries.push(Entry { hash, at: self.arena.len(), key_length, value_length, capacity });
        self.arena.extend_from_slice(key);
        self.arena.extend_from_slice(value);
        let entries = &self.entries;
        self.index.insert_unique(hash, number, |&number| entries[number as usize].hash);
    }

    fn bytes(&self) -> usize {
        self.arena.len() + PER_ENTRY * self.entries.len()
    }
}

/// The keys that scans have seen to, in order.
#[derive(Debug, Default)]
struct Ordered {
    tree: BTreeMap<Box<[u8]>, u32>,
    /// How many entries are in the tree: all before this number.
    known: usize,
    bytes: usize,
}

/// The buffer that takes writes.
#[derive(Debug, Default)]
pub(crate) struct Memtable {
    entries: Entries,
    ordered: RefCell<Ordered>,
}

impl Memtable {
    /// What it takes in memory, in bytes.
    #[inline]
    pub(crate) fn bytes(&self) -> usize {
        self.entries.bytes() + self.ordered.borrow().bytes
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.entries.entries.is_empty()
    }

    /// The entry of `key`, whose hash is `hash`: its value, or that it was deleted.
    #[inline]
    pub(crate) fn get(&self, key: &[u8], hash: u64) -> Option<Option<&[u8]>> {
        self.entries.find(key, hash).map(|number| self.entries.value(number))
    }

    /// Sets the value of `key`, or that it was deleted.
    pub(crate) fn set(&mut self, key: &[u8], hash: u64, value: Option<&[u8]>) {
        self.entries.set(key, hash, value);
    }

    pub(crate) fn key(&self, number: u32) -> &[u8] {
        self.entries.key(number)
    }

    pub(crate) fn value(&self, number: u32) -> Option<&[u8]> {
        self.entries.value(number)
    }

    /// Up to `limit` entries from `start` on, in the order of their keys.
    pub(crate) fn next(&self, start: Bound<&[u8]>, limit: usize, out: &mut Vec<u32>) {
        self.catch_up();
        let ordered = self.ordered.borrow();
        out.extend(ordered.tree.range::<[u8], _>((start, Bound::Unbounded)).take(limit).map(|(_, number)| *number));
    }

    fn catch_up(&self) {
        if self.ordered.borrow().known == self.entries.entries.len() {
            return;
        }
        let mut ordered = self.ordered.borrow_mut();
        for number in ordered.known as u32..self.entries.entries.len() as u32 {
            let key = self.entries.key(number);
            ordered.bytes += key.len() + PER_ORDERED;
            ordered.tree.insert(key.into(), number);
        }
        ordered.known = self.entries.entries.len();
    }

    /// An empty buffer with room for as much as this one has, so that it need not move what it holds while it grows. Room that is not used yet
    /// takes no memory.
    pub(crate) fn successor(&self) -> Self {
        let Entries { entries, arena, .. } = &self.entries;
        let index = HashTable::with_capacity(entries.len());
        let entries =
            Entries { index, entries: Vec::with_capacity(entries.len()), arena: Vec::with_capacity(arena.len()) };
        Self { entries, ordered: RefCell::default() }
    }

    /// Ends the writing.
    pub(crate) fn freeze(self) -> FrozenMemtable {
        let order = OnceLock::new();
        if self.ordered.borrow().known > 0 {
            self.catch_up();
            let numbers = self.ordered.borrow().tree.values().copied().collect();
            order.set(numbers).expect("the cell is new");
        }
        FrozenMemtable { entries: self.entries, order }
    }
}

/// A full buffer, on its way to a file.
#[derive(Debug)]
pub(crate) struct FrozenMemtable {
    entries: Entries,
    order: OnceLock<Box<[u32]>>,
}

impl FrozenMemtable {
    /// What it takes in memory, in bytes.
    pub(crate) fn bytes(&self) -> usize {
        self.entries.bytes() + self.order.get().map_or(0, |order| 4 * order.len())
    }

    /// The entry of `key`, whose hash is `hash`: its value, or that it was deleted.
    #[inline]
    pub(crate) fn get(&self, key: &[u8], hash: u64) -> Option<Option<&[u8]>> {
        self.entries.find(key, hash).map(|number| self.entries.value(number))
    }

    pub(crate) fn key(&self, number: u32) -> &[u8] {
        self.entries.key(number)
    }

    pub(crate) fn value(&self, number: u32) -> Option<&[u8]> {
        self.entries.value(number)
    }

    pub(crate) fn hash(&self, number: u32) -> u64 {
        self.entries.entries[number as usize].hash
    }

    /// All entries in the order of their keys. Sorts when it is called first.
    pub(crate) fn order(&self) -> &[u32] {
        self.order.get_or_init(|| {
            let mut numbers: Box<[u32]> = (0..self.entries.entries.len() as u32).collect();
            numbers.sort_unstable_by(|&left, &right| self.entries.key(left).cmp(self.entries.key(right)));
            numbers
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use xxhash_rust::xxh3::xxh3_64;

    fn set(memtable: &mut Memtable, key: &[u8], value: Option<&[u8]>) {
        memtable.set(key, xxh3_64(key), value);
    }

    fn keys(memtable: &Memtable, start: Bound<&[u8]>, limit: usize) -> Vec<Vec<u8>> {
        let mut numbers = Vec::new();
        memtable.next(start, limit, &mut numbers);
        numbers.into_iter().map(|number| memtable.key(number).to_vec()).collect()
    }

    #[test]
    fn keeps_the_last_value_however_its_length_changes() {
        let mut memtable = Memtable::default();
        for value in [&b"longer"[..], b"short", b"the longest of all", b""] {
            set(&mut memtable, b"other", Some(b"stays"));
            set(&mut memtable, b"key", Some(value));
            assert_eq!(memtable.get(b"key", xxh3_64(b"key")), Some(Some(value)));
            assert_eq!(memtable.get(b"other", xxh3_64(b"other")), Some(Some(&b"stays"[..])));
        }
        set(&mut memtable, b"key", None);
        assert_eq!(memtable.get(b"key", xxh3_64(b"key")), Some(None));
        assert_eq!(memtable.get(b"absent", xxh3_64(b"absent")), None);
    }

    #[test]
    fn a_scan_sees_keys_written_after_an_earlier_scan() {
        let mut memtable = Memtable::default();
        set(&mut memtable, b"b", Some(b""));
        set(&mut memtable, b"d", Some(b""));
        assert_eq!(keys(&memtable, Bound::Unbounded, 9), [b"b", b"d"]);
        set(&mut memtable, b"a", Some(b""));
        set(&mut memtable, b"c", None);
        assert_eq!(keys(&memtable, Bound::Unbounded, 9), [b"a", b"b", b"c", b"d"]);
        assert_eq!(keys(&memtable, Bound::Excluded(b"b"), 1), [b"c"]);
        assert_eq!(keys(&memtable, Bound::Included(b"b"), 1), [b"b"]);
    }

    #[test]
    fn a_frozen_buffer_is_in_order_whether_it_was_scanned_or_not() {
        for scanned in [false, true] {
            let mut memtable = Memtable::default();
            for key in [b"3", b"1"] {
                set(&mut memtable, key, Some(b"v"));
            }
            if scanned {
                keys(&memtable, Bound::Unbounded, 1);
            }
            set(&mut memtable, b"2", Some(b"v"));
            let frozen = memtable.freeze();
            let keys: Vec<&[u8]> = frozen.order().iter().map(|&number| frozen.key(number)).collect();
            assert_eq!(keys, [b"1", b"2", b"3"]);
        }
    }
}
