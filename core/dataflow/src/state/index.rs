//! Where the rows of a key group are, by the hashes of their keys.
//!
//! A table with open addressing and linear probing whose entries are a hash and a slot in 8 bytes: looking a key up is one cache line, known
//! from the hash alone, so that it can be asked for before it is needed. Keys are compared in their rows, and only where hashes are equal.

use super::memory::prefetch_near;

/// Position of a row in its group's table.
pub(super) type Slot = u32;
pub(super) const NO_SLOT: Slot = Slot::MAX;

/// The hash of a key: the lower half of its key hash. All keys of a group have much the same upper half.
pub(super) type Hash = u32;

const SMALLEST: usize = 8;

/// The hash above the slot. [`EMPTY`] is none, because no row has [`NO_SLOT`].
type Entry = u64;
const EMPTY: Entry = Entry::MAX;

#[inline(always)]
fn entry(hash: Hash, slot: Slot) -> Entry {
    Entry::from(hash) << 32 | Entry::from(slot)
}

#[inline(always)]
fn hash_of(entry: Entry) -> Hash {
    (entry >> 32) as Hash
}

#[derive(Default)]
pub(super) struct Index {
    /// A power of two of them, at least a quarter of them empty; or none.
    entries: Box<[Entry]>,
    len: usize,
}

impl Index {
    /// Number of rows.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Bytes of memory it takes.
    pub(super) fn bytes(&self) -> usize {
        size_of_val(&*self.entries)
    }

    /// Asks for what [`find`](Self::find) looks at first.
    #[inline]
    pub(super) fn prefetch(&self, hash: Hash) {
        prefetch_near(self.entries.as_ptr().wrapping_add(hash as usize & self.entries.len().wrapping_sub(1)));
    }

    /// The first row with this hash of which `same` is true.
    #[inline]
    pub(super) fn find(&self, hash: Hash, mut same: impl FnMut(Slot) -> bool) -> Option<Slot> {
        let mut at = hash as usize;
        loop {
            // No entry at all is like an empty one.
            let found = *self.entries.get(at & self.entries.len().wrapping_sub(1))?;
            if hash_of(found) == hash && found != EMPTY && same(found as Slot) {
                return Some(found as Slot);
            }
            if found == EMPTY {
                return None;
            }
            at += 1;
        }
    }

    /// Adds a row, which must not be there.
    pub(super) fn insert(&mut self, hash: Hash, slot: Slot) {
        if 4 * (self.len + 1) > 3 * self.entries.len() {
            self.grow();
        }
        self.put(entry(hash, slot));
        self.len += 1;
    }

    fn put(&mut self, new: Entry) {
        let mask = self.entries.len() - 1;
        let mut at = hash_of(new) as usize & mask;
        while self.entries[at] != EMPTY {
            at = (at + 1) & mask;
        }
        self.entries[at] = new;
    }

    #[cold]
    fn grow(&mut self) {
        let larger = (2 * self.entries.len()).max(SMALLEST);
        let entries = std::mem::replace(&mut self.entries, vec![EMPTY; larger].into());
        entries.iter().filter(|&&entry| entry != EMPTY).for_each(|&entry| self.put(entry));
    }

    /// Removes a row, if it is there. What stands behind it moves up, so that no marks are left.
    pub(super) fn remove(&mut self, hash: Hash, slot: Slot) {
        let Some(mask) = self.entries.len().checked_sub(1) else { return };
        let removed = entry(hash, slot);
        let mut gap = hash as usize & mask;
        while self.entries[gap] != removed {
            if self.entries[gap] == EMPTY {
                return;
            }
            gap = (gap + 1) & mask;
        }
        let mut at = gap;
        loop {
            at = (at + 1) & mask;
            let found = self.entries[at];
            if found == EMPTY {
                break;
            }
            let home = hash_of(found) as usize & mask;
            // It may move to the gap if that is not before its home: as far from it, or nearer.
            if at.wrapping_sub(home) & mask >= at.wrapping_sub(gap) & mask {
                self.entries[gap] = found;
                gap = at;
            }
        }
        self.entries[gap] = EMPTY;
        self.len -= 1;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn an_index_finds_what_was_inserted_and_not_removed(
            // Few hashes, some of them at the end of the table, so that chains are long and go round.
            changes in prop::collection::vec((any::<bool>(), prop::sample::select(vec![0, 1, 7, 15, 31, u32::MAX]), 0u32..20), 1..100)
        ) {
            let (mut index, mut expected) = (Index::default(), std::collections::BTreeSet::new());
            for (insert, hash, slot) in changes {
                if insert {
                    if expected.insert((hash, slot)) {
                        index.insert(hash, slot);
                    }
                } else {
                    index.remove(hash, slot);
                    expected.remove(&(hash, slot));
                }
                prop_assert_eq!(index.len(), expected.len());
                for hash in [0, 1, 7, 15, 31, u32::MAX] {
                    for slot in 0..20 {
                        let found = index.find(hash, |other| other == slot);
                        prop_assert_eq!(found, expected.contains(&(hash, slot)).then_some(slot));
                    }
                }
            }
        }
    }
}
