//! The states of all keys of one operator in one subtask.

use std::borrow::Borrow;
use std::cell::Cell;
use std::fmt;
use std::hash::Hash;
use std::sync::Arc;

use weir_model::KeyGroups;

use super::content::Content;
use super::declare::{Declared, DeclaredColumn};
use super::index::{NO_SLOT, Slot};
use super::memory::Arena;
use super::rows::RowLayout;
use super::snapshot::TableRun;
use super::stored::StoredRows;
use super::table::GroupTable;
use super::ttl::StateTtl;
use crate::element::EventTime;
use crate::metrics::StateMetrics;
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
    /// What the tables' rows are cut from.
    arena: Arena,
    /// Hashes of the keys to come, with the numbers of their tables; empty between calls.
    coming: Vec<(usize, u64)>,
    pub(super) declared: Declared,
    current: RowId,
    /// Whether the current key may have no state left when its record is done.
    pub(super) check_empty: Cell<bool>,
    /// Whether a state of the current key was used by reading it, which makes it live longer.
    pub(super) used_by_reading: Cell<bool>,
    /// The store of rows that are not in memory, if not all are.
    pub(super) stored: Option<Box<StoredRows>>,
    pub(super) run: Option<TableRun>,
    /// Bytes of a row in a snapshot, going by the last group that was written.
    pub(super) row_bytes: usize,
    /// Processing time, as far as anything expires.
    pub(super) now: EventTime,
    pub(super) expires: bool,
    /// Where to look next for what has expired.
    sweep: RowId,
    pub(super) metrics: StateMetrics,
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
        let layout = Arc::new(RowLayout::new::<K>(declared.columns.iter().map(|column| column.cell)));
        KeyedStates {
            groups,
            first: own.start,
            tables: own.map(|_| GroupTable::new(layout.clone())).collect(),
            arena: Arena::default(),
            coming: Vec::new(),
            expires: declared.columns.iter().any(|column| column.ttl.is_some()),
            declared,
            current: NOWHERE,
            check_empty: Cell::new(false),
            used_by_reading: Cell::new(false),
            stored: None,
            run: None,
            row_bytes: 0,
            now: EventTime::MIN,
            sweep: RowId { table: 0, slot: 0 },
            metrics: StateMetrics::default(),
        }
    }

    /// Number of keys that have state.
    ///
    /// Where not all rows are in memory, this looks at all of those that are.
    pub fn len(&self) -> usize {
        match &self.stored {
            Some(stored) => stored.len(&self.tables, &self.declared.columns),
            None => self.tables.iter().map(GroupTable::len).sum(),
        }
    }

    /// Whether no key has state.
    pub fn is_empty(&self) -> bool {
        match &self.stored {
            Some(stored) => stored.len(&self.tables, &self.declared.columns) == 0,
            None => self.tables.iter().all(|table| table.len() == 0),
        }
    }

    pub(crate) fn current_key(&self) -> &K {
        let table = self.tables.get(self.current.table as usize).filter(|_| self.current != NOWHERE);
        let key = table.and_then(|table| table.rows.row(self.current.slot).key());
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

    #[inline]
    pub(super) fn current(&self) -> RowId {
        assert!(self.current.slot != NO_SLOT, "state was used where there is no current key (in `open` or `end`)");
        self.current
    }

    /// A cell of a row.
    #[inline]
    pub(super) fn cell_at<C: Content>(&self, column: u32, row: RowId) -> Option<&C> {
        self.tables[row.table as usize].rows.row(row.slot).cell(column).get()
    }

    /// The current key's cell.
    #[inline]
    pub(super) fn cell<C: Content>(&self, column: u32) -> Option<&C> {
        self.cell_at(column, self.current())
    }
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
        let KeyedStates { tables, declared, stored, check_empty, now, .. } = self;
        let table = &mut tables[row.table as usize];
        if table.is_watched() && table.before_change(&declared.columns, stored.as_deref_mut(), row, *now) {
            check_empty.set(true);
        }
        table.rows.cell_mut(column, row.slot).get()
    }

    /// A row is about to change, in all of its cells perhaps.
    pub(super) fn mark_changed(&mut self, row: RowId) {
        let KeyedStates { tables, declared, stored, check_empty, now, .. } = self;
        let table = &mut tables[row.table as usize];
        if table.is_watched() && table.before_change(&declared.columns, stored.as_deref_mut(), row, *now) {
            check_empty.set(true);
        }
    }

    /// The current key's cell, to change.
    #[inline]
    pub(super) fn cell_mut<C: Content>(&mut self, column: u32) -> &mut Option<C> {
        self.cell_mut_at(column, self.current())
    }

    /// About how many bytes of memory the states take.
    pub fn state_bytes(&self) -> u64 {
        let tables: usize = self.tables.iter().map(|table| table.bytes(&self.declared.columns)).sum();
        (tables + self.stored.as_ref().map_or(0, |stored| stored.bytes())) as u64
    }

    /// Shows among the task's metrics how much state there is, unless that was done a moment ago.
    #[inline]
    pub(crate) fn measure(&mut self, now: EventTime) {
        if self.metrics.is_due(now) {
            self.measure_now(now);
        }
    }

    /// Shows among the task's metrics how much state there is.
    pub(crate) fn measure_now(&mut self, now: EventTime) {
        let (bytes, keys) = (self.state_bytes(), self.len() as u64);
        self.metrics.report(now, bytes, keys);
    }
}

/// Slots looked at in one go for what has expired.
const SWEEP: u32 = 256;
/// Bytes of rows that lie in a near cache anyway, so that nothing need be asked for early.
const NEAR_BYTES: usize = 512 * 1024;

impl<K: Record + Eq + Hash> KeyedStates<K> {
    #[inline(always)]
    fn table_of(&self, hash: u64) -> usize {
        u32::from(self.groups.group_of(hash).0).wrapping_sub(self.first) as usize
    }

    /// Asks for the rows of keys that are about to be entered. All memory that they need is asked for at once, first that of the index,
    /// which says where the rows are: a key then costs a fraction of the time that it takes until memory answers.
    #[inline]
    pub(crate) fn prepare(&mut self, keys: impl Iterator<Item = impl Borrow<K>>) {
        if self.arena.total() < NEAR_BYTES {
            return;
        }
        for key in keys {
            let hash = key.borrow().key_hash();
            let table = self.table_of(hash);
            if let Some(rows) = self.tables.get(table) {
                rows.prefetch_index(hash);
                self.coming.push((table, hash));
            }
        }
        let KeyedStates { tables, coming, .. } = self;
        coming.drain(..).for_each(|(table, hash)| tables[table].prefetch_row(hash));
    }

    /// Makes `key` the current key.
    #[inline]
    pub(crate) fn enter(&mut self, key: K) {
        let hash = key.key_hash();
        let number = self.table_of(hash);
        let Some(table) = self.tables.get_mut(number) else { misplaced() };
        let (slot, new) = table.enter(hash, key, &mut self.arena);
        self.current = RowId { table: number as u32, slot };
        if new {
            self.born();
        }
    }

    pub(crate) fn enter_row(&mut self, row: RowId) {
        self.current = row;
    }

    /// The current record is done.
    #[inline]
    pub(crate) fn leave(&mut self) {
        let row = std::mem::replace(&mut self.current, NOWHERE);
        if self.check_empty.take() {
            self.forget_if_empty(row);
        }
    }

    fn forget_if_empty(&mut self, row: RowId) {
        if self.stored.is_some() {
            self.left_stored(row);
        } else if let Some(table) = self.tables.get_mut(row.table as usize)
            && table.is_empty_row(&self.declared.columns, row.slot)
        {
            table.remove(row.slot);
        }
    }

    /// All keys that have state.
    pub(crate) fn rows(&self) -> Vec<RowId> {
        let tables = (0..).zip(&self.tables);
        let rows = tables.flat_map(|(table, rows)| {
            let slots = (0..rows.rows.len()).filter(|&slot| rows.rows.row(slot).key().is_some());
            slots.map(move |slot| RowId { table, slot })
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
            if row.slot >= self.tables[row.table as usize].rows.len() {
                self.sweep = RowId { table: (row.table + 1) % self.tables.len() as u32, slot: 0 };
            } else {
                if self.expire_row(row) {
                    self.forget_if_empty(row);
                }
                self.sweep.slot += 1;
            }
        }
        self.sweep_stored();
    }

    /// Drops what has expired of a row. Whether there was something.
    pub(super) fn expire_row(&mut self, row: RowId) -> bool {
        let KeyedStates { tables, declared, stored, now, .. } = self;
        let table = &mut tables[row.table as usize];
        let mut changed = false;
        for (number, column) in (0..).zip(&declared.columns) {
            let deadline = column.deadline(*now);
            if column.ttl.is_none() || !column.cells.has_expired(table.rows.row(row.slot).cell(number), deadline) {
                continue;
            }
            if table.is_watched() {
                table.before_change(&declared.columns, stored.as_deref_mut(), row, *now);
            }
            column.cells.expire(table.rows.cell_mut(number, row.slot), deadline);
            changed = true;
        }
        changed
    }
}
