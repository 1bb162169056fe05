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

/// What the hash table, the list of entries and their order take per entry, in bytes.
const PER_ENTRY: usize = 20;
/// What a key in the tree takes beside its bytes, in bytes.
const PER_ORDERED: usize = 48;
/// The value's length of a deleted key.
const DELETED: u32 = u32::MAX;
/// Entries begin at multiples of this, so that four bytes can say where in 32 GiB.
const ALIGNMENT: usize = 8;
/// Length of what stands before a key in the arena.
const HEADER: usize = 16;

/// Where an entry lies, in units of [`ALIGNMENT`].
pub(crate) type Place = u32;

/// What stands before a key in the arena: four numbers (u32), little-endian.
struct Header {
    key_length: u32,
    /// [`DELETED`], or the value's length.
    value_length: u32,
    /// What there is room for where the value is.
    capacity: u32,
    /// Where the value went when it outgrew its room behind the key; 0 when it did not.
    moved: Place,
}

/// A half of the key's hash, which is enough to grow the table without looking at the keys, and where the entry is.
#[derive(Debug, Clone, Copy)]
struct Slot {
    hash: u32,
    place: Place,
}

impl Slot {
    /// The table wants its good bits at both ends.
    #[inline]
    fn spread(hash: u32) -> u64 {
        u64::from(hash) << 32 | u64::from(hash)
    }
}

/// The entries, found by hash. A lookup touches the table and the entry, and nothing else.
#[derive(Debug, Default)]
struct Entries {
    index: HashTable<Slot>,
    /// All entries as they came.
    places: Vec<Place>,
    /// Header, key and value of each entry, one after the other.
    arena: Vec<u8>,
}

impl Entries {
    #[inline]
    fn header(&self, place: Place) -> Header {
        let at = place as usize * ALIGNMENT;
        let header: &[u8; HEADER] = self.arena[at..].first_chunk().expect("places are those of whole entries");
        let number = |at: usize| u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
        Header { key_length: number(0), value_length: number(4), capacity: number(8), moved: number(12) }
    }

    fn set_header(&mut self, place: Place, header: &Header) {
        let at = place as usize * ALIGNMENT;
        let numbers = [header.key_length, header.value_length, header.capacity, header.moved];
        for (number, bytes) in numbers.iter().zip(self.arena[at..at + HEADER].chunks_exact_mut(4)) {
            bytes.copy_from_slice(&number.to_le_bytes());
        }
    }

    #[inline]
    fn key(&self, place: Place) -> &[u8] {
        let at = place as usize * ALIGNMENT + HEADER;
        &self.arena[at..at + self.header(place).key_length as usize]
    }

    #[inline]
    fn value(&self, place: Place) -> Option<&[u8]> {
        let header = self.header(place);
        let at = value_at(place, &header);
        (header.value_length != DELETED).then(|| &self.arena[at..at + header.value_length as usize])
    }

    #[inline]
    fn find(&self, key: &[u8], hash: u64) -> Option<Place> {
        let hash = hash as u32;
        let same = |slot: &Slot| slot.hash == hash && self.key(slot.place) == key;
        self.index.find(Slot::spread(hash), same).map(|slot| slot.place)
    }

    fn set(&mut self, key: &[u8], hash: u64, value: Option<&[u8]>) {
        let value_length = value.map_or(DELETED, |value| value.len() as u32);
        let value = value.unwrap_or_default();
        let Some(place) = self.find(key, hash) else { return self.insert(key, hash as u32, value_length, value) };
        let mut header = self.header(place);
        header.value_length = value_length;
        if value.len() <= header.capacity as usize {
            let at = value_at(place, &header);
            self.arena[at..at + value.len()].copy_from_slice(value);
        } else {
            // The old room is lost until the buffer is written; twice the room bounds what a growing value can lose.
            header.capacity = value.len().saturating_mul(2).min(DELETED as usize - 1) as u32;
            header.moved = self.next_place();
            self.arena.extend_from_slice(value);
            self.arena.resize(self.arena.len() + header.capacity as usize - value.len(), 0);
        }
        self.set_header(place, &header);
    }

    fn insert(&mut self, key: &[u8], hash: u32, value_length: u32, value: &[u8]) {
        let place = self.next_place();
        let header = Header { key_length: key.len() as u32, value_length, capacity: value.len() as u32, moved: 0 };
        self.arena.resize(self.arena.len() + HEADER, 0);
        self.set_header(place, &header);
        self.arena.extend_from_slice(key);
        self.arena.extend_from_slice(value);
        self.places.push(place);
        self.index.insert_unique(Slot::spread(hash), Slot { hash, place }, |slot| Slot::spread(slot.hash));
    }

    /// Where the next thing in the arena begins.
    fn next_place(&mut self) -> Place {
        self.arena.resize(self.arena.len().next_multiple_of(ALIGNMENT), 0);
        (self.arena.len() / ALIGNMENT) as Place
    }

    fn bytes(&self) -> usize {
        self.arena.len() + PER_ENTRY * self.places.len()
    }
}

#[inline]
fn value_at(place: Place, header: &Header) -> usize {
    match header.moved {
        0 => place as usize * ALIGNMENT + HEADER + header.key_length as usize,
        moved => moved as usize * ALIGNMENT,
    }
}

/// The keys that scans have seen to, in order.
#[derive(Debug, Default)]
struct Ordered {
    tree: BTreeMap<Box<[u8]>, Place>,
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
        self.entries.places.is_empty()
    }

    /// The entry of `key`, whose hash is `hash`: its value, or that it was deleted.
    #[inline]
    pub(crate) fn get(&self, key: &[u8], hash: u64) -> Option<Option<&[u8]>> {
        self.entries.find(key, hash).map(|place| self.entries.value(place))
    }

    /// Sets the value of `key`, or that it was deleted.
    pub(crate) fn set(&mut self, key: &[u8], hash: u64, value: Option<&[u8]>) {
        self.entries.set(key, hash, value);
    }

    pub(crate) fn key(&self, place: Place) -> &[u8] {
        self.entries.key(place)
    }

    pub(crate) fn value(&self, place: Place) -> Option<&[u8]> {
        self.entries.value(place)
    }

    /// Up to `limit` entries from `start` on, in the order of their keys.
    pub(crate) fn next(&self, start: Bound<&[u8]>, limit: usize, out: &mut Vec<Place>) {
        self.catch_up();
        let ordered = self.ordered.borrow();
        out.extend(ordered.tree.range::<[u8], _>((start, Bound::Unbounded)).take(limit).map(|(_, place)| *place));
    }

    fn catch_up(&self) {
        if self.ordered.borrow().known == self.entries.places.len() {
            return;
        }
        let mut ordered = self.ordered.borrow_mut();
        let known = ordered.known;
        for &place in &self.entries.places[known..] {
            let key = self.entries.key(place);
            ordered.bytes += key.len() + PER_ORDERED;
            ordered.tree.insert(key.into(), place);
        }
        ordered.known = self.entries.places.len();
    }

    /// An empty buffer with room for as much as this one has, so that it need not move what it holds while it grows. Room that is not used yet
    /// takes no memory.
    pub(crate) fn successor(&self) -> Self {
        let (count, length) = (self.entries.places.len(), self.entries.arena.len());
        let entries = Entries {
            index: HashTable::with_capacity(count),
            places: Vec::with_capacity(count),
            arena: Vec::with_capacity(length),
        };
        Self { entries, ordered: RefCell::default() }
    }

    /// Ends the writing.
    pub(crate) fn freeze(self) -> FrozenMemtable {
        let order = OnceLock::new();
        if self.ordered.borrow().known > 0 {
            self.catch_up();
            let places = self.ordered.borrow().tree.values().copied().collect();
            order.set(places).expect("the cell is new");
        }
        FrozenMemtable { entries: self.entries, order }
    }
}

/// A full buffer, on its way to a file.
#[derive(Debug)]
pub(crate) struct FrozenMemtable {
    entries: Entries,
    order: OnceLock<Box<[Place]>>,
}

impl FrozenMemtable {
    /// What it takes in memory, in bytes.
    pub(crate) fn bytes(&self) -> usize {
        self.entries.bytes()
    }

    /// The entry of `key`, whose hash is `hash`: its value, or that it was deleted.
    #[inline]
    pub(crate) fn get(&self, key: &[u8], hash: u64) -> Option<Option<&[u8]>> {
        self.entries.find(key, hash).map(|place| self.entries.value(place))
    }

    pub(crate) fn key(&self, place: Place) -> &[u8] {
        self.entries.key(place)
    }

    pub(crate) fn value(&self, place: Place) -> Option<&[u8]> {
        self.entries.value(place)
    }

    /// All entries in the order of their keys. Sorts when it is called first.
    pub(crate) fn order(&self) -> &[Place] {
        self.order.get_or_init(|| {
            let mut places: Box<[Place]> = self.entries.places.as_slice().into();
            places.sort_unstable_by(|&left, &right| self.entries.key(left).cmp(self.entries.key(right)));
            places
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
        let mut places = Vec::new();
        memtable.next(start, limit, &mut places);
        places.into_iter().map(|place| memtable.key(place).to_vec()).collect()
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
            let keys: Vec<&[u8]> = frozen.order().iter().map(|&place| frozen.key(place)).collect();
            assert_eq!(keys, [b"1", b"2", b"3"]);
        }
    }
}
