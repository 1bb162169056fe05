//! The states of all keys of one operator in one subtask.

use std::any::TypeId;
use std::fmt;
use std::hash::Hash;

use weir_model::KeyGroups;

use super::cells::{Cells, TypedCells};
use super::content::Content;
use super::declare::{Declared, DeclaredColumn};
use super::snapshot::TableRun;
use super::table::{GroupTable, NO_SLOT, Slot};
use super::ttl::StateTtl;
use crate::element::EventTime;
use crate::record::Record;

/// The name of the table in snapshots.
pub(super) const TABLE: &str = "keyed";

/// Where a key's row is: the number of its table and its slot there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct RowId {
    pub(super) table: u32,
    pub(super) slot: Slot,
}

/// No row.
const NOWHERE: RowId = RowId { table: 0, slot: NO_SLOT };

/// The states of all keys of one operator in one subtask.
pub struct KeyedStates<K> {
    pub(super) groups: KeyGroups,
    /// The first of the subtask's key groups.
    pub(super) first: u32,
    /// One for each of the subtask's key groups.
    pub(super) tables: Vec<GroupTable<K>>,
    pub(super) declared: Declared,
    current: RowId,
    /// Whether the current key may have no state left when its record is done.
    pub(super) check_empty: bool,
    pub(super) run: Option<TableRun>,
    /// Processing time, as far as anything expires.
    now: EventTime,
    expires: bool,
    /// Where to look next for what has expired.
    sweep: RowId,
}

impl<K> fmt::Debug for KeyedStates<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.declared.columns.iter().map(|c| &c.name).collect();
        write!(f, "KeyedStates {{ keys: {}, states: {names:?} }}", self.len())
    }
}

/// States of an operator that is not open: there are none.
impl<K> Default for KeyedStates<K> {
    fn default() -> Self {
        KeyedStates::over(Declared::default(), KeyGroups { max_parallelism: 1, parallelism: 1 }, 0..0)
    }
}

impl DeclaredColumn {
    /// What was last used then or before has expired at `now`.
    pub(super) fn deadline(&self, now: EventTime) -> EventTime {
        self.ttl.map_or(EventTime::MIN, |ttl| ttl.deadline(now))
    }
}

impl<K> KeyedStates<K> {
    /// Empty states of these key groups.
    pub(crate) fn over(declared: Declared, groups: KeyGroups, own: std::ops::Range<u32>) -> Self {
        KeyedStates {
            groups,
            first: own.start,
            tables: own.map(|_| GroupTable::new(&declared.columns)).collect(),
            expires: declared.columns.iter().any(|column| column.ttl.is_some()),
            declared,
            current: NOWHERE,
            check_empty: false,
            run: None,
            now: EventTime::MIN,
            sweep: RowId { table: 0, slot: 0 },
        }
    }

    /// Number of keys that have state.
    pub fn len(&self) -> usize {
        self.tables.iter().map(GroupTable::len).sum()
    }

    /// Whether no key has state.
    pub fn is_empty(&self) -> bool {
        self.tables.iter().all(|table| table.len() == 0)
    }

    pub(crate) fn current_key(&self) -> &K {
        let key = self.tables.get(self.current.table as usize).and_then(|table| table.key(self.current.slot));
        key.expect("there is a current key only while a record, a timer or the end of a key is processed")
    }

    /// Whether anything expires, so that the time must be told with each record.
    #[inline]
    pub(crate) fn expires(&self) -> bool {
        self.expires
    }

    /// Tells the processing time.
    pub(crate) fn set_time(&mut self, now: EventTime) {
        self.now = now;
    }

    /// The processing time told last.
    pub(super) fn now(&self) -> EventTime {
        self.now
    }

    /// How the entries of a state expire.
    pub(super) fn ttl(&self, column: u32) -> StateTtl {
        self.declared.columns[column as usize].ttl.expect("only states that expire are asked")
    }

    fn check<C: 'static>(&self, column: u32) {
        if self.declared.columns.get(column as usize).is_none_or(|c| c.content != TypeId::of::<C>()) {
            undeclared();
        }
    }

    #[inline]
    pub(super) fn current(&self) -> RowId {
        assert!(self.current.slot != NO_SLOT, "state was used where there is no current key (in `open` or `end`)");
        self.current
    }

    /// A cell of a row.
    #[inline]
    pub(super) fn cell_at<C: Content>(&self, column: u32, row: RowId) -> Option<&C> {
        self.check::<C>(column);
        let cells = &*self.tables[row.table as usize].columns[column as usize];
        // SAFETY: the column's type was checked, and its cells were made by the declaration that has it.
        unsafe { &*(cells as *const dyn Cells).cast::<TypedCells<C>>() }.get(row.slot as usize)
    }

    /// The current key's cell.
    #[inline]
    pub(super) fn cell<C: Content>(&self, column: u32) -> Option<&C> {
        self.cell_at(column, self.current())
    }
}

#[cold]
fn undeclared() -> ! {
    panic!("a state handle was used that this operator did not declare; declare states in `declare`")
}

#[cold]
fn misplaced() -> ! {
    panic!(
        "a record came to a subtask that its key does not belong to: the function given to `key_by` must return the same key for a record \
         whenever it is called"
    )
}

impl<K: Record> KeyedStates<K> {
    /// A cell of a row, to change.
    #[inline]
    pub(super) fn cell_mut_at<C: Content>(&mut self, column: u32, row: RowId) -> &mut Option<C> {
        self.check::<C>(column);
        let table = &mut self.tables[row.table as usize];
        if table.snapshot.is_some() {
            table.preserve(&self.declared.columns, row.slot);
        }
        let cells = &mut *table.columns[column as usize];
        // SAFETY: as in `cell_at`; the borrow of `self` is exclusive.
        unsafe { &mut *(cells as *mut dyn Cells).cast::<TypedCells<C>>() }.get_mut(row.slot as usize)
    }

    /// The current key's cell, to change.
    #[inline]
    pub(super) fn cell_mut<C: Content>(&mut self, column: u32) -> &mut Option<C> {
        self.cell_mut_at(column, self.current())
    }

    /// About how many bytes of memory the states take.
    pub fn state_bytes(&self) -> u64 {
        self.tables.iter().map(|table| table.bytes() as u64).sum()
    }
}

/// Slots looked at in one go for what has expired.
const SWEEP: u32 = 256;

impl<K: Record + Eq + Hash> KeyedStates<K> {
    /// Makes `key` the current key.
    #[inline]
    pub(crate) fn enter(&mut self, key: K) {
        let hash = key.key_hash();
        let number = u32::from(self.groups.group_of(hash).0).wrapping_sub(self.first);
        let Some(table) = self.tables.get_mut(number as usize) else { misplaced() };
        let (slot, new) = table.enter(hash, key);
        self.current = RowId { table: number, slot };
        self.check_empty = new;
    }

    pub(crate) fn enter_row(&mut self, row: RowId) {
        self.current = row;
    }

    /// The current record is done.
    #[inline]
    pub(crate) fn leave(&mut self) {
        let row = std::mem::replace(&mut self.current, NOWHERE);
        if std::mem::take(&mut self.check_empty) {
            self.forget_if_empty(row);
        }
    }

    fn forget_if_empty(&mut self, row: RowId) {
        if let Some(table) = self.tables.get_mut(row.table as usize)
            && table.is_empty_row(row.slot)
        {
            table.remove(row.slot);
        }
    }

    /// All keys that have state.
    pub(crate) fn rows(&self) -> Vec<RowId> {
        let tables = (0..).zip(&self.tables);
        let rows = tables.flat_map(|(table, rows)| {
            let slots = 0..rows.keys.len() as Slot;
            slots.filter(|&slot| rows.key(slot).is_some()).map(move |slot| RowId { table, slot })
        });
        rows.collect()
    }

    /// Drops some of what has expired.
    pub(crate) fn sweep(&mut self) {
        if !self.expires || self.tables.is_empty() {
            return;
        }
        // A table without slots counts as one, so that a call comes to its end.
        for _ in 0..SWEEP {
            let row = self.sweep;
            if row.slot as usize >= self.tables[row.table as usize].keys.len() {
                self.sweep = RowId { table: (row.table + 1) % self.tables.len() as u32, slot: 0 };
            } else {
                self.expire_row(row);
                self.sweep.slot += 1;
            }
        }
    }

    fn expire_row(&mut self, row: RowId) {
        let table = &mut self.tables[row.table as usize];
        let (slot, mut changed) = (row.slot as usize, false);
        for (number, column) in self.declared.columns.iter().enumerate() {
            let deadline = column.deadline(self.now);
            if column.ttl.is_none() || !table.columns[number].has_expired(slot, deadline) {
                continue;
            }
            if table.snapshot.is_some() {
                table.preserve(&self.declared.columns, row.slot);
            }
            table.columns[number].expire(slot, deadline);
            changed = true;
        }
        if changed {
            self.forget_if_empty(row);
        }
    }
}
