//! Snapshots of tables while they go on changing.

use std::hash::Hash;

use super::declare::DeclaredColumn;
use super::index::Slot;
use super::keyed::{KeyedStates, TABLE};
use super::table::{GroupTable, Watched};
use crate::element::EventTime;
use crate::record::Record;
use crate::snapshot::{OperatorSnapshotter, TableId, schema_of};

/// A snapshot under way.
pub(super) struct TableRun {
    /// The group whose rows are being written; those before are done.
    pub(super) group: usize,
    /// The checkpoint it belongs to, and its table there.
    of: Option<(u64, TableId)>,
}

/// What a snapshot has of one group.
pub(super) struct GroupSnapshot {
    /// A bit per slot there was at the barrier: written, or not to be written.
    done: Vec<u64>,
    slots: Slot,
    /// Slots before are done.
    next: Slot,
    rows: u64,
    bytes: Vec<u8>,
    /// Bytes there will be, going by other groups; 0 if there was none yet.
    expected: usize,
    /// What had expired when it began is left out.
    began: EventTime,
}

/// Where groups go when all their rows are written.
pub(super) trait WriteGroups {
    /// A buffer that was used before, if there is one: its memory is there and perhaps still in the cache.
    fn buffer(&mut self) -> Option<Vec<u8>>;
    /// Takes a group, the number of its rows, and their bytes.
    fn write(&mut self, group: u32, rows: u64, bytes: Vec<u8>);
}

struct Handover<'a, 'b> {
    snapshot: &'a mut OperatorSnapshotter<'b>,
    table: TableId,
}

impl WriteGroups for Handover<'_, '_> {
    fn buffer(&mut self) -> Option<Vec<u8>> {
        self.snapshot.buffer()
    }
    fn write(&mut self, group: u32, rows: u64, bytes: Vec<u8>) {
        self.snapshot.write_group(self.table, group, rows, bytes);
    }
}

/// A step ends after so many bytes …
const STEP_BYTES: usize = 128 * 1024;
/// … or slots.
const STEP_SLOTS: usize = 2048;

impl GroupSnapshot {
    fn new(slots: Slot, expected: usize, began: EventTime) -> Self {
        let done = vec![0; (slots as usize).div_ceil(64)];
        GroupSnapshot { done, slots, next: 0, rows: 0, bytes: Vec::new(), expected, began }
    }

    /// Writes to a buffer that was used before, if it is large enough.
    fn use_buffer(&mut self, buffer: Vec<u8>) {
        if self.bytes.capacity() == 0 && buffer.capacity() >= self.expected {
            self.bytes = buffer;
        }
    }

    /// Marks a slot; whether it was to be written until now.
    fn mark(&mut self, slot: Slot) -> bool {
        if slot >= self.slots {
            return false;
        }
        let (word, bit) = (&mut self.done[slot as usize / 64], 1 << (slot % 64));
        let first = *word & bit == 0;
        *word |= bit;
        first
    }

    /// A row that is born behind the barrier is no part of the snapshot.
    pub(super) fn leave_out(&mut self, slot: Slot) {
        self.mark(slot);
    }
}

impl<K: Record> GroupTable<K> {
    /// Writes a row to the snapshot as it is, unless it is written.
    fn write_row(&mut self, columns: &[DeclaredColumn], slot: Slot) {
        let GroupTable { rows, watched: Watched::Snapshot(snapshot), .. } = self else { return };
        if !snapshot.mark(slot) {
            return;
        }
        let row = rows.row(slot);
        let Some(key) = row.key() else { return };
        if snapshot.bytes.capacity() == 0 {
            snapshot.bytes.reserve_exact(snapshot.expected);
        }
        let start = snapshot.bytes.len();
        let out = &mut snapshot.bytes;
        out.extend_from_slice(&[0; 4]);
        K::encode_batch(std::slice::from_ref(key), out);
        let length = u32::try_from(out.len() - start - 4).expect("a key has at most u32::MAX bytes");
        out[start..start + 4].copy_from_slice(&length.to_le_bytes());
        let mut live = false;
        for (number, column) in (0..).zip(columns) {
            live |= column.cells.encode(row.cell(number), column.deadline(snapshot.began), out);
        }
        if live {
            snapshot.rows += 1;
        } else {
            out.truncate(start);
        }
    }

    /// Before a row changes: it is written as it was at the barrier.
    pub(super) fn preserve(&mut self, columns: &[DeclaredColumn], slot: Slot) {
        self.write_row(columns, slot);
    }

    /// Writes some more rows. The slots looked at, and whether that was all.
    fn write_rows(&mut self, columns: &[DeclaredColumn], slots: usize, bytes: usize) -> (usize, bool) {
        let Some(snapshot) = self.snapshot() else { return (0, true) };
        let (first, end, before) = (snapshot.next, snapshot.slots, snapshot.bytes.len());
        let mut slot = first;
        while slot < end && ((slot - first) as usize) < slots {
            self.write_row(columns, slot);
            slot += 1;
            if self.snapshot().is_some_and(|snapshot| snapshot.bytes.len() - before >= bytes) {
                break;
            }
        }
        if let Some(snapshot) = self.snapshot() {
            snapshot.next = slot;
        }
        ((slot - first) as usize, slot == end)
    }
}

impl<K: Record + Eq + Hash> KeyedStates<K> {
    /// Begins a snapshot of everything as it is now.
    pub(super) fn begin(&mut self, now: EventTime, of: Option<(u64, TableId)>) {
        if let Some(stored) = &mut self.stored {
            stored.begin();
            self.now = self.now.max(now);
            self.run = Some(TableRun { group: 0, of });
            return;
        }
        for table in &mut self.tables {
            let slots = table.rows.len();
            let expected = table.len() * self.row_bytes;
            table.watched = match table.len() {
                0 => Watched::Nobody,
                _ => Watched::Snapshot(Box::new(GroupSnapshot::new(slots, expected, now))),
            };
        }
        self.run = Some(TableRun { group: 0, of });
    }

    /// Writes rows of about so many slots or bytes. Whether there may be more.
    pub(super) fn step(&mut self, mut slots: usize, mut bytes: usize, to: &mut impl WriteGroups) -> bool {
        let KeyedStates { tables, declared, run, first, row_bytes, .. } = self;
        let Some(run) = run else { return false };
        while let Some(table) = tables.get_mut(run.group) {
            let expected = table.len() * *row_bytes;
            if let Some(snapshot) = table.snapshot().filter(|snapshot| snapshot.bytes.capacity() == 0) {
                snapshot.expected = expected;
                to.buffer().into_iter().for_each(|buffer| snapshot.use_buffer(buffer));
            }
            let before = table.snapshot().map_or(0, |snapshot| snapshot.bytes.len());
            let (looked_at, all) = table.write_rows(&declared.columns, slots, bytes);
            let written = table.snapshot().map_or(0, |snapshot| snapshot.bytes.len() - before);
            if all {
                if let Some(snapshot) = table.take_snapshot() {
                    *row_bytes = snapshot.bytes.len().div_ceil(snapshot.rows.max(1) as usize);
                    to.write(*first + run.group as u32, snapshot.rows, snapshot.bytes);
                }
                run.group += 1;
            }
            (slots, bytes) = (slots.saturating_sub(looked_at), bytes.saturating_sub(written));
            if slots == 0 || bytes == 0 {
                return true;
            }
        }
        self.run = None;
        false
    }

    /// Begins to hand over all states.
    pub(crate) fn snapshot(&mut self, snapshot: &mut OperatorSnapshotter<'_>, now: EventTime) {
        if let Some(stored) = &self.stored {
            stored.begin_checkpoint(snapshot.barrier().checkpoint);
        }
        if self.is_empty() {
            return;
        }
        let (columns, groups) = (self.declared.snapshot_columns(), self.groups.max_parallelism);
        let table = snapshot.begin_table(TABLE, schema_of::<K>(), columns, groups);
        self.begin(now, Some((snapshot.barrier().checkpoint, table)));
    }

    /// Hands over some more rows. Whether there may be more.
    pub(crate) fn snapshot_step(&mut self, snapshot: &mut OperatorSnapshotter<'_>) -> bool {
        let Some(TableRun { of: Some((_, table)), .. }) = self.run else { return false };
        if self.stored.is_some() {
            if self.step_stored(STEP_SLOTS) {
                return true;
            }
            if let Some(rows) = self.finish_stored() {
                snapshot.write_store(table, rows);
            }
            return false;
        }
        self.step(STEP_SLOTS, STEP_BYTES, &mut Handover { snapshot, table })
    }

    /// Nothing more of this checkpoint is wanted, if it is under way.
    pub(crate) fn checkpoint_ended(&mut self, checkpoint: u64) {
        if self.run.as_ref().and_then(|run| run.of).is_some_and(|(of, _)| of == checkpoint) {
            self.tables.iter_mut().for_each(|table| drop(table.take_snapshot()));
            self.give_up_stored();
            self.run = None;
        }
    }
}
