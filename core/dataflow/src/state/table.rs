//! The rows of one key group with what finds them.

use std::sync::Arc;

use super::declare::DeclaredColumn;
use super::index::{Hash, Index, Slot};
use super::memory::Arena;
use super::rows::{RowLayout, Rows};
use super::snapshot::GroupSnapshot;
use crate::record::Record;

pub(super) struct GroupTable<K> {
    index: Index,
    pub(super) rows: Rows<K>,
    free: Vec<Slot>,
    pub(super) watched: Watched,
}

/// Who has to know of a row before it changes.
pub(super) enum Watched {
    Nobody,
    /// The snapshot under way, until it has all rows of the group.
    Snapshot(Box<GroupSnapshot>),
    /// The store that the rows are in.
    Store,
}

/// Slots looked at to estimate how much memory others take outside of their rows.
const SAMPLES: usize = 32;

impl<K> GroupTable<K> {
    pub(super) fn new(layout: Arc<RowLayout>) -> Self {
        GroupTable { index: Index::default(), rows: Rows::new(layout), free: Vec::new(), watched: Watched::Nobody }
    }

    pub(super) fn len(&self) -> usize {
        self.index.len()
    }

    /// Asks for the place of the index where a key is looked up.
    #[inline]
    pub(super) fn prefetch_index(&self, hash: u64) {
        self.index.prefetch(hash as Hash);
    }

    /// Asks for the row of a key, or of another one of its hash.
    #[inline]
    pub(super) fn prefetch_row(&self, hash: u64) {
        if let Some(slot) = self.index.find(hash as Hash, |_| true) {
            self.rows.prefetch(slot);
        }
    }

    /// Whether a row has no state.
    pub(super) fn is_empty_row(&self, columns: &[DeclaredColumn], slot: Slot) -> bool {
        let row = self.rows.row(slot);
        (0..).zip(columns).all(|(number, column)| column.cells.is_empty(row.cell(number)))
    }

    /// Whether somebody has to know of a row before it changes.
    #[inline(always)]
    pub(super) fn is_watched(&self) -> bool {
        !matches!(self.watched, Watched::Nobody)
    }

    /// The snapshot under way.
    pub(super) fn snapshot(&mut self) -> Option<&mut GroupSnapshot> {
        match &mut self.watched {
            Watched::Snapshot(snapshot) => Some(snapshot),
            Watched::Nobody | Watched::Store => None,
        }
    }

    /// The snapshot under way, which is then not under way any more.
    pub(super) fn take_snapshot(&mut self) -> Option<Box<GroupSnapshot>> {
        match std::mem::replace(&mut self.watched, Watched::Nobody) {
            Watched::Snapshot(snapshot) => Some(snapshot),
            other => {
                self.watched = other;
                None
            }
        }
    }

    /// About how many bytes of memory it takes.
    pub(super) fn bytes(&self, columns: &[DeclaredColumn]) -> usize
    where
        K: Record,
    {
        let free = self.free.capacity() * size_of::<Slot>();
        self.rows.bytes() + self.outside_bytes(columns) + self.index.bytes() + free
    }

    /// About how many bytes of memory its rows take outside of themselves.
    pub(super) fn outside_bytes(&self, columns: &[DeclaredColumn]) -> usize
    where
        K: Record,
    {
        let slots = self.rows.len() as usize;
        let stride = slots.div_ceil(SAMPLES).max(1);
        let sampled = (0..self.rows.len()).step_by(stride).map(|slot| {
            let row = self.rows.row(slot);
            let key = if std::mem::needs_drop::<K>() { row.key().map_or(0, K::encoded_len) } else { 0 };
            let cells = (0..).zip(columns).filter_map(|(number, column)| column.cells.heap_bytes(row.cell(number)));
            key + cells.sum::<usize>()
        });
        sampled.sum::<usize>() * slots / slots.div_ceil(stride).max(1)
    }
}

impl<K: Record + Eq> GroupTable<K> {
    /// The slot of a key, and whether it is new.
    #[inline]
    pub(super) fn enter(&mut self, hash: u64, key: K, arena: &mut Arena) -> (Slot, bool) {
        let rows = &self.rows;
        match self.index.find(hash as Hash, |slot| rows.row(slot).key() == Some(&key)) {
            Some(slot) => (slot, false),
            None => (self.occupy(hash, key, arena), true),
        }
    }

    #[cold]
    #[inline(never)]
    fn occupy(&mut self, hash: u64, mut key: K, arena: &mut Arena) -> Slot {
        // The key stays; the input buffer it was cut from should not.
        key.detach();
        let slot = self.free.pop().unwrap_or_else(|| self.rows.push(arena));
        *self.rows.key_mut(slot) = Some(key);
        self.index.insert(hash as Hash, slot);
        if let Watched::Snapshot(snapshot) = &mut self.watched {
            snapshot.leave_out(slot);
        }
        slot
    }

    /// Frees a row without state.
    pub(super) fn remove(&mut self, slot: Slot) {
        let Some(key) = self.rows.key_mut(slot).take() else { return };
        self.index.remove(key.key_hash() as Hash, slot);
        self.free.push(slot);
    }
}
