//! State that is larger than memory: rows lie in a store, and those in use in the tables.
//!
//! The tables are a cache that is written back. A key that is not in its table is looked up in the store; its row is an entry of all of its
//! states, so that is one read. Rows that change are marked, and written when they have to leave memory, or for a snapshot. Which rows leave is
//! decided by a clock: one that was used since the hand passed it last stays for another turn. Rows of keys with timers stay, because the
//! queues of timers point to them.
//!
//! A snapshot begins by marking what has changed before the barrier. These rows are written to the store in slices between batches, or right
//! before they change again; what changes later waits. Then the store's files, which never change, are the snapshot.

use std::collections::VecDeque;
use std::hash::Hash;
use std::path::Path;
use std::sync::Arc;

use weir_checkpoint::{Location, TableSnapshot};
use weir_lsm::{LsmError, Options, RestoreFile, Store};

use super::declare::DeclaredColumn;
use super::index::Slot;
use super::keyed::{KeyedStates, RowId};
use super::table::{GroupTable, Watched};
use crate::element::EventTime;
use crate::failure::{TaskError, raise};
use crate::record::{DecodeError, Decoder, Record};
use crate::snapshot::{
    GROUP_BYTES, RestoredTask, StoreFolder, StoreSnapshot, Uploads, put_store_key, store_failed, unique, unreadable,
};

/// The row has changed since it was written to the store.
const DIRTY: u8 = 1;
/// It changed before the barrier of the snapshot under way, and has neither changed nor been written since.
const PENDING: u8 = 2;
/// It was used since the hand of the clock passed it.
const RECENT: u8 = 4;
/// The store has an entry of it.
const STORED: u8 = 8;

/// Rows that leave memory at a time.
const EVICTED: usize = 64;
/// Slots that the hand passes at a time.
const PASSED: usize = 4096;
/// Uses of rows, at least, between two looks at how much memory they take.
const LOOK: usize = 64;
/// Bytes of memory that a row takes in the index of its table and here.
const PER_ROW: usize = 17;
/// Entries that are looked at in one go for what has expired …
const SWEPT: usize = 512;
/// … every so many calls.
const SWEEP_EVERY: u32 = 8;
/// Keys that are read at a time where all are wanted.
const WALKED: usize = 1024;

/// What is known of the rows of a key group.
#[derive(Default)]
struct StoredGroup {
    /// By slot of rows in memory.
    marks: Vec<u8>,
    /// Number of rows in the store.
    rows: u64,
}

/// The store of an operator's rows, and which of them are in memory.
pub(super) struct StoredRows {
    /// Dropped before its folder.
    store: Store,
    folder: Arc<StoreFolder>,
    uploads: Arc<Uploads>,
    /// The number of the first key group.
    first: u32,
    groups: Vec<StoredGroup>,
    /// Bytes of memory for rows.
    budget: usize,
    /// Rows with a value in this column stay in memory.
    pinned: Option<u32>,
    /// Uses of rows since the last look at how much memory they take, and until the next one.
    uses: usize,
    next_look: usize,
    /// Rows that are too many.
    surplus: usize,
    hand: RowId,
    /// Of the snapshot under way: rows before are written.
    next_pending: Slot,
    key: Vec<u8>,
    row: Vec<u8>,
    /// Where in the store what has expired is looked for next.
    sweep: Vec<u8>,
    sweeps: u32,
    #[cfg(test)]
    squeezes: u32,
}

/// Where a store is, and what it begins with.
pub(super) struct StoreSetup<'a> {
    /// Bytes of memory for all of it.
    pub(super) memory: usize,
    /// For working files.
    pub(super) base: &'a Path,
    /// Of the operator and its subtask.
    pub(super) name: String,
    /// Tables whose sorted files it takes over.
    pub(super) tables: Vec<TableSnapshot>,
    /// What reads them.
    pub(super) restored: Option<&'a RestoredTask>,
}

impl StoredRows {
    /// A checkpoint of which the rows become part, if there are any.
    pub(super) fn begin_checkpoint(&self, checkpoint: u64) {
        self.uploads.begin(checkpoint);
    }

    pub(super) fn open(
        setup: StoreSetup<'_>,
        own: std::ops::Range<u32>,
        pinned: Option<u32>,
    ) -> Result<StoredRows, TaskError> {
        let StoreSetup { memory, base, name, tables, restored } = setup;
        let folder = StoreFolder::new(base, &name);
        let uploads = Arc::new(Uploads::default());
        let mut files = Vec::new();
        let mut groups: Vec<_> = own.clone().map(|_| StoredGroup::default()).collect();
        for (number, table) in tables.iter().enumerate() {
            let Some(restored) = restored else { break };
            let fetched = folder.path().join(format!("fetched-{number}"));
            files.extend(restored.fetch(table, &fetched)?);
            for slice in table.groups.iter().filter(|slice| slice.location == Location::Sorted) {
                let group = groups.get_mut(slice.group.wrapping_sub(own.start) as usize);
                group.ok_or_else(|| unreadable(format!("key group {} is another task's", slice.group)))?.rows +=
                    slice.rows;
            }
        }
        uploads.set_restored(tables.iter().flat_map(|table| &table.files).map(|file| file.slice.clone()));
        // There are at most 2^15 groups, and a subtask has one at least.
        let key_groups = weir_lsm::KeyGroups::new(own.start as u16, own.end.saturating_sub(1) as u16);
        let options = Options { memory: memory / 2, ..Options::new(format!("{name}-{}", unique()), key_groups) };
        let store = Store::restore(folder.path().join("store"), options, &files).map_err(|e| store_failed(&e))?;
        // The store has links to them.
        files.iter().for_each(|RestoreFile { path, .. }| drop(std::fs::remove_file(path)));
        Ok(StoredRows {
            store,
            folder,
            uploads,
            first: own.start,
            groups,
            budget: memory / 2,
            pinned,
            uses: 0,
            next_look: LOOK,
            surplus: 0,
            hand: RowId { table: 0, slot: 0 },
            next_pending: 0,
            key: Vec::new(),
            row: Vec::new(),
            sweep: Vec::new(),
            sweeps: 0,
            #[cfg(test)]
            squeezes: 0,
        })
    }

    /// Bytes of memory that the store takes.
    pub(super) fn bytes(&self) -> usize {
        let stats = self.store.stats();
        stats.buffer_bytes + stats.cache_bytes + stats.index_bytes
    }

    fn marks(&mut self, row: RowId) -> &mut u8 {
        let marks = &mut self.groups[row.table as usize].marks;
        let slot = row.slot as usize;
        if slot >= marks.len() {
            marks.resize(slot + 1, 0);
        }
        &mut marks[slot]
    }

    /// Reads a row that is new in its table, if the store has it.
    fn load<K: Record>(
        &mut self,
        table: &mut GroupTable<K>,
        columns: &[DeclaredColumn],
        row: RowId,
        now: EventTime,
    ) -> Result<(), TaskError> {
        let Some(key) = table.rows.row(row.slot).key() else { return Ok(()) };
        put_store_key(self.first + row.table, &mut self.key);
        key.encode(&mut self.key);
        let mut marks = RECENT;
        if let Some(entry) = self.store.get(&self.key).map_err(|error| store_failed(&error))? {
            let mut input = Decoder::new(&entry);
            for (number, column) in (0..).zip(columns) {
                let (values, times) = column.entries(&mut input).map_err(unreadable)?;
                if let Some(values) = values {
                    column
                        .cells
                        .restore(table.rows.cell_mut(number, row.slot), values, times, now)
                        .map_err(unreadable)?;
                }
            }
            marks |= STORED;
        }
        *self.marks(row) = marks;
        Ok(())
    }

    /// Writes a row to the store as it is.
    fn write<K: Record>(
        &mut self,
        table: &GroupTable<K>,
        columns: &[DeclaredColumn],
        row: RowId,
        now: EventTime,
    ) -> Result<(), LsmError> {
        let content = table.rows.row(row.slot);
        let Some(key) = content.key() else { return Ok(()) };
        put_store_key(self.first + row.table, &mut self.key);
        key.encode(&mut self.key);
        self.row.clear();
        let mut live = false;
        for (number, column) in (0..).zip(columns) {
            live |= column.cells.encode(content.cell(number), column.deadline(now), &mut self.row);
        }
        let StoredRows { store, groups, key, row: value, .. } = self;
        let StoredGroup { marks, rows } = &mut groups[row.table as usize];
        let marks = &mut marks[row.slot as usize];
        let stored = *marks & STORED != 0;
        if live {
            store.put(key, value)?;
            *rows += u64::from(!stored);
        } else if stored {
            store.delete(key)?;
            *rows -= 1;
        }
        *marks &= !(DIRTY | PENDING | STORED);
        *marks |= if live { STORED } else { 0 };
        Ok(())
    }

    /// Before a row changes. Whether memory should be looked at when the record is done.
    pub(super) fn before_change<K: Record>(
        &mut self,
        table: &GroupTable<K>,
        columns: &[DeclaredColumn],
        row: RowId,
        now: EventTime,
    ) -> bool {
        if *self.marks(row) & PENDING != 0 {
            self.write(table, columns, row, now).unwrap_or_else(|error| raise(store_failed(&error)));
        }
        *self.marks(row) |= DIRTY | RECENT;
        self.uses += 1;
        self.uses >= self.next_look
    }

    /// Number of keys that have state.
    pub(super) fn len<K>(&self, tables: &[GroupTable<K>], columns: &[DeclaredColumn]) -> usize {
        let mut count: i64 = 0;
        for (table, group) in tables.iter().zip(&self.groups) {
            count += group.rows as i64;
            // Those in memory may be new, or not be in the store any more when they are written.
            for slot in (0..table.rows.len()).filter(|&slot| table.rows.row(slot).key().is_some()) {
                let is_stored = group.marks.get(slot as usize).is_some_and(|marks| marks & STORED != 0);
                count += i64::from(!table.is_empty_row(columns, slot)) - i64::from(is_stored);
            }
        }
        count.max(0) as usize
    }

    /// Looks at how much memory the rows take.
    fn look<K: Record>(&mut self, tables: &[GroupTable<K>], columns: &[DeclaredColumn]) {
        let rows: usize = tables.iter().map(GroupTable::len).sum();
        let outside: usize = tables.iter().map(|table| table.outside_bytes(columns)).sum();
        let row = tables.first().map_or(0, |table| table.rows.row_bytes()) + PER_ROW;
        let used = rows * row + outside;
        self.surplus = match used.checked_sub(self.budget) {
            // Somewhat more, so that not every look finds too many.
            Some(excess) if rows > 0 => (excess + self.budget / 64) / (used / rows).max(1) + 1,
            Some(_) | None => 0,
        };
        self.uses = 0;
        self.next_look = (rows / 16).max(LOOK);
    }

    /// Takes some rows out of memory, if there are too many.
    fn evict<K: Record + Eq>(
        &mut self,
        tables: &mut [GroupTable<K>],
        columns: &[DeclaredColumn],
        under_way: bool,
        now: EventTime,
    ) -> Result<(), LsmError> {
        let wanted = self.surplus.min(EVICTED);
        let mut evicted = 0;
        // Twice around: the first time may only take marks away.
        let slots: usize = tables.iter().map(|table| table.rows.len() as usize + 1).sum();
        for _ in 0..PASSED.min(2 * slots) {
            if evicted == wanted {
                break;
            }
            let row = self.hand;
            let table = &mut tables[row.table as usize];
            if row.slot >= table.rows.len() {
                self.hand = RowId { table: (row.table + 1) % self.groups.len() as u32, slot: 0 };
                continue;
            }
            self.hand.slot += 1;
            let content = table.rows.row(row.slot);
            let marks = self.marks(row);
            if content.key().is_none() || *marks & RECENT != 0 {
                *marks &= !RECENT;
                continue;
            }
            // What has changed since the barrier must not be in the snapshot.
            let held = under_way && *marks & DIRTY != 0;
            let is_pinned = |&column: &u32| !columns[column as usize].cells.is_empty(content.cell(column));
            if held || self.pinned.as_ref().is_some_and(is_pinned) {
                continue;
            }
            if *self.marks(row) & (DIRTY | PENDING) != 0 {
                self.write(table, columns, row, now)?;
            }
            *self.marks(row) = 0;
            for (number, column) in (0..).zip(columns) {
                column.cells.clear(table.rows.cell_mut(number, row.slot));
            }
            table.remove(row.slot);
            evicted += 1;
        }
        // Where hardly any row can go, the next attempt waits for the next look.
        self.surplus = if evicted == wanted { self.surplus - evicted } else { 0 };
        Ok(())
    }

    /// Takes all rows out of memory that can leave it, every third time.
    #[cfg(test)]
    pub(super) fn squeeze<K: Record + Eq>(
        &mut self,
        tables: &mut [GroupTable<K>],
        columns: &[DeclaredColumn],
        under_way: bool,
        now: EventTime,
    ) {
        self.squeezes += 1;
        if self.squeezes.is_multiple_of(3) {
            for _ in 0..3 {
                self.surplus = EVICTED;
                self.evict(tables, columns, under_way, now).unwrap();
            }
            self.surplus = 0;
        }
    }

    /// All that changed until now belongs to a snapshot.
    pub(super) fn begin(&mut self) {
        for marks in self.groups.iter_mut().flat_map(|group| &mut group.marks) {
            // The mark of a change becomes that of a pending one.
            *marks = (*marks & !DIRTY) | ((*marks & DIRTY) << 1);
        }
        self.next_pending = 0;
    }

    /// The snapshot is not wanted any more.
    fn give_up(&mut self) {
        for marks in self.groups.iter_mut().flat_map(|group| &mut group.marks) {
            *marks = (*marks & !PENDING) | ((*marks & PENDING) >> 1);
        }
    }
}

impl<K: Record> GroupTable<K> {
    /// Before a row changes: snapshots and the store have to know. Whether there is something to do when the record is done.
    #[cold]
    #[inline(never)]
    pub(super) fn before_change(
        &mut self,
        columns: &[DeclaredColumn],
        stored: Option<&mut StoredRows>,
        row: RowId,
        now: EventTime,
    ) -> bool {
        match stored {
            Some(stored) => stored.before_change(self, columns, row, now),
            None => {
                self.preserve(columns, row.slot);
                false
            }
        }
    }
}

impl DeclaredColumn {
    /// What a row has of the column: the values and the times of use.
    fn entries<'r>(&self, input: &mut Decoder<'r>) -> Result<(Entry<'r>, Entry<'r>), DecodeError> {
        let values = entry(input)?;
        let times = if self.times.is_some() { entry(input)? } else { None };
        Ok((values, times))
    }
}

/// The bytes of a value, if there is one.
type Entry<'r> = Option<&'r [u8]>;

/// Reads a value behind its length plus one.
pub(super) fn entry<'r>(input: &mut Decoder<'r>) -> Result<Entry<'r>, DecodeError> {
    match u32::decode(input)?.checked_sub(1) {
        Some(length) => input.take(length as usize).map(Some),
        None => Ok(None),
    }
}

/// A way through all keys that have state.
pub(crate) struct KeyWalk<K> {
    rows: std::vec::IntoIter<RowId>,
    keys: VecDeque<K>,
    /// Where in the store it goes on.
    next: Option<Vec<u8>>,
}

impl<K: Record + Eq + Hash> KeyedStates<K> {
    /// Keeps rows in a store from now on.
    pub(super) fn keep_in(&mut self, stored: StoredRows) {
        self.tables.iter_mut().for_each(|table| table.watched = Watched::Store);
        self.stored = Some(Box::new(stored));
    }

    /// The current key is new in its table.
    #[cold]
    #[inline(never)]
    pub(super) fn born(&mut self) {
        self.check_empty.set(true);
        let row = self.current();
        let KeyedStates { tables, declared, stored, .. } = self;
        let Some(stored) = stored else { return };
        let now = self.now;
        let loaded = stored.load(&mut tables[row.table as usize], &declared.columns, row, now);
        loaded.unwrap_or_else(|error| raise(error));
        stored.uses += 1;
        if self.expires {
            self.expire_row(row);
        }
    }

    /// A record is done whose row may be empty, may have been used by reading it, or after which memory is to be looked at.
    pub(super) fn left_stored(&mut self, row: RowId) {
        let KeyedStates { tables, declared, stored, run, used_by_reading, now, .. } = self;
        let (Some(stored), Some(table)) = (stored, tables.get_mut(row.table as usize)) else { return };
        let used_by_reading = used_by_reading.take();
        let marks = stored.marks(row);
        if used_by_reading && *marks & PENDING == 0 {
            *marks |= DIRTY;
        }
        if *marks & (STORED | PENDING) == 0 && table.is_empty_row(&declared.columns, row.slot) {
            *marks = 0;
            table.remove(row.slot);
        }
        if stored.uses >= stored.next_look {
            stored.look(tables, &declared.columns);
        }
        if stored.surplus > 0 {
            let evicted = stored.evict(tables, &declared.columns, run.is_some(), *now);
            evicted.unwrap_or_else(|error| raise(store_failed(&error)));
        }
    }

    /// Drops some of what has expired in the store.
    pub(super) fn sweep_stored(&mut self) {
        let now = self.now;
        let KeyedStates { stored: Some(stored), declared, .. } = self else { return };
        stored.sweeps += 1;
        if !stored.sweeps.is_multiple_of(SWEEP_EVERY) {
            return;
        }
        let expired = |row: &[u8]| {
            let (mut input, mut expired) = (Decoder::new(row), false);
            for column in &declared.columns {
                let (values, times) = column.entries(&mut input)?;
                if let (Some(values), Some(_)) = (values, column.ttl) {
                    expired |= column.cells.encoded_has_expired(values, times, now, column.deadline(now))?;
                }
            }
            Ok(expired)
        };
        let (keys, next) = Self::some_keys(stored, &stored.sweep, expired, SWEPT).unwrap_or_else(|error| raise(error));
        stored.sweep = next.unwrap_or_default();
        for key in keys {
            // Reading a row drops what has expired of it; of one in memory it is dropped here.
            self.enter(key);
            self.expire_row(self.current());
            self.check_empty.set(true);
            self.leave();
        }
    }

    /// Writes what has changed to the store. There must be no snapshot under way.
    fn write_back(&mut self) {
        debug_assert!(self.run.is_none(), "changes behind a barrier would become part of its snapshot");
        let KeyedStates { tables, declared, stored, now, .. } = self;
        let Some(stored) = stored else { return };
        for (number, table) in (0..).zip(tables.iter()) {
            for slot in 0..table.rows.len() {
                let row = RowId { table: number, slot };
                if *stored.marks(row) & DIRTY != 0 {
                    let written = stored.write(table, &declared.columns, row, *now);
                    written.unwrap_or_else(|error| raise(store_failed(&error)));
                }
            }
        }
    }

    /// The keys that `wanted` takes by their rows, of the next `entries` in the store from `start` on; and where to go on.
    fn some_keys(
        stored: &StoredRows,
        start: &[u8],
        mut wanted: impl FnMut(&[u8]) -> Result<bool, DecodeError>,
        entries: usize,
    ) -> Result<(VecDeque<K>, Option<Vec<u8>>), TaskError> {
        let mut scan = stored.store.scan(start, None).map_err(|error| store_failed(&error))?;
        let (mut keys, mut seen) = (VecDeque::new(), 0);
        while let Some((key, row)) = scan.next_entry().map_err(|error| store_failed(&error))? {
            if seen == entries {
                return Ok((keys, Some(key.to_vec())));
            }
            seen += 1;
            if wanted(row).map_err(unreadable)? {
                let mut key = K::decode(&mut Decoder::new(&key[GROUP_BYTES..])).map_err(unreadable)?;
                key.detach();
                keys.push_back(key);
            }
        }
        Ok((keys, None))
    }

    /// A way through all keys that have state now.
    pub(crate) fn walk(&mut self) -> KeyWalk<K> {
        if self.stored.is_none() {
            return KeyWalk { rows: self.rows().into_iter(), keys: VecDeque::new(), next: None };
        }
        self.write_back();
        KeyWalk { rows: Vec::new().into_iter(), keys: VecDeque::new(), next: Some(Vec::new()) }
    }

    /// Makes the next key on the way the current one; false at its end.
    pub(crate) fn enter_next(&mut self, walk: &mut KeyWalk<K>) -> bool {
        if let Some(row) = walk.rows.next() {
            self.enter_row(row);
            return true;
        }
        if walk.keys.is_empty()
            && let (Some(stored), Some(start)) = (&self.stored, walk.next.take())
        {
            let read = Self::some_keys(stored, &start, |_| Ok(true), WALKED);
            (walk.keys, walk.next) = read.unwrap_or_else(|error| raise(error));
        }
        let Some(key) = walk.keys.pop_front() else { return false };
        self.enter(key);
        true
    }

    /// The rows of all keys that have a value in the column, and perhaps others. The column is one that keeps rows in memory.
    pub(super) fn rows_with(&mut self, column: u32) -> Result<Vec<RowId>, TaskError> {
        if self.stored.is_none() {
            return Ok(self.rows());
        }
        self.write_back();
        let KeyedStates { stored: Some(stored), declared, .. } = self else { return Ok(Vec::new()) };
        let (before, own) = declared.columns.split_at(column as usize);
        let has_value = |row: &[u8]| {
            let mut input = Decoder::new(row);
            before.iter().try_for_each(|column| column.entries(&mut input).map(drop))?;
            own.first().map_or(Ok(false), |column| Ok(column.entries(&mut input)?.0.is_some()))
        };
        let (keys, _) = Self::some_keys(stored, &[], has_value, usize::MAX)?;
        let rows = keys.into_iter().map(|key| {
            self.enter(key);
            let row = self.current();
            self.leave();
            row
        });
        Ok(rows.collect())
    }

    /// Writes some of the rows that had changed before the barrier. Whether there may be more.
    pub(super) fn step_stored(&mut self, slots: usize) -> bool {
        let KeyedStates { tables, declared, stored, run: Some(run), now, .. } = self else { return false };
        let Some(stored) = stored else { return false };
        let mut looked_at = 0;
        while let Some(table) = tables.get(run.group) {
            while stored.next_pending < table.rows.len() {
                if looked_at == slots {
                    return true;
                }
                looked_at += 1;
                let row = RowId { table: run.group as u32, slot: stored.next_pending };
                stored.next_pending += 1;
                if *stored.marks(row) & PENDING != 0 {
                    let written = stored.write(table, &declared.columns, row, *now);
                    written.unwrap_or_else(|error| raise(store_failed(&error)));
                }
            }
            run.group += 1;
            stored.next_pending = 0;
        }
        false
    }

    /// The snapshot under way, all of whose rows are in the store.
    pub(super) fn finish_stored(&mut self) -> Option<StoreSnapshot> {
        self.run = None;
        let stored = self.stored.as_mut()?;
        let pending = stored.store.snapshot().unwrap_or_else(|error| raise(store_failed(&error)));
        let rows = (stored.first..).zip(stored.groups.iter().map(|group| group.rows));
        Some(StoreSnapshot {
            pending,
            groups: stored.store.key_groups(),
            rows: rows.filter(|(_, rows)| *rows > 0).collect(),
            uploads: stored.uploads.clone(),
            folder: stored.folder.clone(),
        })
    }

    /// Nothing more of the snapshot under way is wanted.
    pub(super) fn give_up_stored(&mut self) {
        if let Some(stored) = &mut self.stored {
            stored.give_up();
        }
    }
}
