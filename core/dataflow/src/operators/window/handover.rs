//! A snapshot of windows while they go on changing.
//!
//! The barrier only begins it. Rows follow in slices between batches; what changes before its turn is written first, as it was.

use std::collections::BTreeMap;
use std::marker::PhantomData;

use weir_model::KeyGroups;

use crate::element::EventTime;
use crate::record::Record;
use crate::snapshot::TableId;

/// A slice ends after so many bytes …
const SLICE_BYTES: usize = 128 * 1024;
/// … or keys looked at.
const SLICE_KEYS: usize = 2048;
/// Rows of a key group that go on before the others are there.
const GROUP_BYTES: usize = 256 * 1024;

/// What is left of a slice.
#[derive(Debug)]
pub(super) struct Budget {
    keys: usize,
    bytes: usize,
}

impl Budget {
    pub(super) fn slice<K>(snapshot: &Handover<K>) -> Self {
        Budget { keys: SLICE_KEYS, bytes: snapshot.encoded + SLICE_BYTES }
    }

    #[cfg(test)]
    pub(super) fn of_keys(keys: usize) -> Self {
        Budget { keys, bytes: usize::MAX }
    }

    /// Takes a key. Whether there was something left.
    pub(super) fn lasts<K>(&mut self, snapshot: &Handover<K>) -> bool {
        self.keys = self.keys.saturating_sub(1);
        self.keys > 0 && snapshot.encoded < self.bytes
    }
}

/// What is encoded of a key group and has not gone on.
#[derive(Debug, Default)]
struct GroupRows {
    rows: u64,
    bytes: Vec<u8>,
}

/// The snapshot under way, and how many there have been.
#[derive(Debug)]
pub(super) struct Handover<K> {
    groups: KeyGroups,
    number: u64,
    /// The checkpoint and its table, until it has everything.
    under_way: Option<(u64, TableId)>,
    rows: BTreeMap<u32, GroupRows>,
    /// Groups with so many rows that they should go on.
    full: Vec<u32>,
    /// Bytes since it began.
    encoded: usize,
    key: PhantomData<fn(K)>,
}

fn put<T: Record>(value: &T, present: u32, bytes: &mut Vec<u8>) {
    let start = bytes.len();
    bytes.extend_from_slice(&[0; 4]);
    value.encode(bytes);
    let length = u32::try_from(bytes.len() - start - 4).ok().and_then(|length| length.checked_add(present));
    bytes[start..start + 4].copy_from_slice(&length.expect("a value has fewer than u32::MAX bytes").to_le_bytes());
}

impl<K> Handover<K> {
    pub(super) fn new(groups: KeyGroups) -> Self {
        Handover {
            groups,
            number: 0,
            under_way: None,
            rows: BTreeMap::new(),
            full: Vec::new(),
            encoded: 0,
            key: PhantomData,
        }
    }

    /// How many snapshots have begun.
    pub(super) fn number(&self) -> u64 {
        self.number
    }

    #[inline(always)]
    pub(super) fn is_under_way(&self) -> bool {
        self.under_way.is_some()
    }

    /// Begins a snapshot of everything as it is now.
    pub(super) fn begin(&mut self, checkpoint: u64, table: TableId) {
        self.drop_rows();
        self.number += 1;
        self.under_way = Some((checkpoint, table));
    }

    /// Nothing more of this checkpoint is wanted, if it is under way.
    pub(super) fn checkpoint_ended(&mut self, checkpoint: u64) {
        if self.under_way.is_some_and(|(of, _)| of == checkpoint) {
            self.drop_rows();
        }
    }

    fn drop_rows(&mut self) {
        self.under_way = None;
        self.rows.clear();
        self.full.clear();
        self.encoded = 0;
    }

    /// Passes on what is encoded: of the groups with many rows, or, as everything is there, of all.
    pub(super) fn pass_on(&mut self, complete: bool, mut write: impl FnMut(TableId, u32, u64, Vec<u8>)) {
        let Some((_, table)) = self.under_way else { return };
        let mut pass = |group, GroupRows { rows, bytes }| {
            if rows > 0 {
                write(table, group, rows, bytes);
            }
        };
        if complete {
            std::mem::take(&mut self.rows).into_iter().for_each(|(group, rows)| pass(group, rows));
            self.drop_rows();
        } else {
            for group in self.full.drain(..) {
                pass(group, self.rows.get_mut(&group).map(std::mem::take).unwrap_or_default());
            }
        }
    }
}

impl<K: Record> Handover<K> {
    /// Adds a row: what `start`, `end` and `pending` mean is up to the kind of windows.
    pub(super) fn row<A: Record>(
        &mut self,
        key: &K,
        (start, end): (EventTime, EventTime),
        pending: u64,
        accumulator: &A,
    ) {
        let group = u32::from(self.groups.group_of(key.key_hash()).0);
        let GroupRows { rows, bytes } = self.rows.entry(group).or_default();
        let before = bytes.len();
        *rows += 1;
        put(key, 0, bytes);
        put(&start, 1, bytes);
        put(&end, 1, bytes);
        put(&pending, 1, bytes);
        put(accumulator, 1, bytes);
        self.encoded += bytes.len() - before;
        if before < GROUP_BYTES && bytes.len() >= GROUP_BYTES {
            self.full.push(group);
        }
    }
}
