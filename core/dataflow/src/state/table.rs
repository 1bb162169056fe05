//! The rows of one key group.

use hashbrown::hash_table::{Entry, HashTable};

use super::cells::Cells;
use super::declare::DeclaredColumn;
use super::snapshot::GroupSnapshot;
use crate::record::Record;

/// Position of a row in its group's table.
pub(super) type Slot = u32;
pub(super) const NO_SLOT: Slot = Slot::MAX;

/// A key's place. Keys of one hash are compared, others need not be looked at.
struct Place {
    hash: u32,
    slot: Slot,
}

/// The hash that places are found by: the lower half of the key hash at both ends, because the index takes positions from the lower bits
/// and tags from the upper ones, and all keys of a group have the same bits at the top of their hash.
#[inline]
fn spread(hash: u32) -> u64 {
    u64::from(hash) << 32 | u64::from(hash)
}

pub(super) struct GroupTable<K> {
    index: HashTable<Place>,
    pub(super) keys: Vec<Option<K>>,
    free: Vec<Slot>,
    pub(super) columns: Vec<Box<dyn Cells>>,
    /// The snapshot under way, until it has all rows of the group.
    pub(super) snapshot: Option<Box<GroupSnapshot>>,
}

impl<K> GroupTable<K> {
    pub(super) fn new(columns: &[DeclaredColumn]) -> Self {
        GroupTable {
            index: HashTable::new(),
            keys: Vec::new(),
            free: Vec::new(),
            columns: columns.iter().map(|column| (column.make)()).collect(),
            snapshot: None,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.index.len()
    }

    pub(super) fn key(&self, slot: Slot) -> Option<&K> {
        self.keys.get(slot as usize).and_then(Option::as_ref)
    }

    /// Whether a row has no state.
    pub(super) fn is_empty_row(&self, slot: Slot) -> bool {
        self.columns.iter().all(|column| column.is_empty(slot as usize))
    }

    /// About how many bytes of memory it takes.
    pub(super) fn bytes(&self) -> usize
    where
        K: Record,
    {
        let columns: usize = self.columns.iter().map(|column| column.bytes()).sum();
        // A byte per place of the index is its tag.
        let index = self.index.capacity() * (size_of::<Place>() + 1);
        let keys = self.keys.capacity() * size_of::<Option<K>>();
        let outside = if std::mem::needs_drop::<K>() {
            let sample = self.keys.iter().flatten().take(32);
            let (count, bytes) = sample.fold((0, 0), |(count, bytes), key| (count + 1, bytes + key.encoded_len()));
            bytes * self.len() / count.max(1)
        } else {
            0
        };
        columns + index + keys + outside + self.free.capacity() * size_of::<Slot>()
    }
}

impl<K: Record + Eq> GroupTable<K> {
    /// The slot of a key, and whether it is new.
    #[inline]
    pub(super) fn enter(&mut self, hash: u64, key: K) -> (Slot, bool) {
        let hash = hash as u32;
        let GroupTable { index, keys, free, .. } = self;
        let same = |place: &Place| place.hash == hash && keys[place.slot as usize].as_ref() == Some(&key);
        match index.entry(spread(hash), same, |place| spread(place.hash)) {
            Entry::Occupied(entry) => (entry.get().slot, false),
            Entry::Vacant(entry) => {
                let slot = free.last().copied().unwrap_or(keys.len() as Slot);
                entry.insert(Place { hash, slot });
                self.occupy(slot, key);
                (slot, true)
            }
        }
    }

    #[cold]
    fn occupy(&mut self, slot: Slot, mut key: K) {
        // The key stays; the input buffer it was cut from should not.
        key.detach();
        if self.free.pop().is_none() {
            assert!(slot < NO_SLOT, "a key group holds 2^32 - 1 keys at most; raise the max-parallelism");
            self.keys.push(None);
        }
        self.keys[slot as usize] = Some(key);
        if let Some(snapshot) = &mut self.snapshot {
            snapshot.leave_out(slot);
        }
    }

    /// Frees a row without state.
    pub(super) fn remove(&mut self, slot: Slot) {
        let Some(key) = self.keys[slot as usize].take() else { return };
        if let Ok(entry) = self.index.find_entry(spread(key.key_hash() as u32), |place| place.slot == slot) {
            entry.remove();
        }
        self.free.push(slot);
    }
}
