//! What the operators of a task hand over for one checkpoint.

use std::sync::Arc;
use std::time::{Duration, Instant};

use weir_checkpoint::{
    Column, GroupSlice, ListSnapshot, Location, OperatorSnapshot, Redistribution, Schema, SchemaBuilder, TableSnapshot,
    TaskSnapshot,
};
use weir_model::{Committable, OperatorId, SnapshotMetrics};

use super::sorted::StoreSnapshot;
use super::writer::{Located, Piece, PieceOf, SnapshotWriter, StorePiece, WriterSetup};
use crate::element::Barrier;
use crate::in_flight::InFlight;
use crate::record::Record;

/// The layout of a record type.
pub fn schema_of<T: Record>() -> Schema {
    T::schema(&mut SchemaBuilder::new())
}

/// Gathers what the operators of a task hand over for one checkpoint.
pub struct SnapshotBuilder {
    barrier: Barrier,
    setup: Arc<WriterSetup>,
    /// Without the places of groups and items; they are known when everything is written.
    skeleton: TaskSnapshot,
    pieces: Vec<Piece>,
    buffered: usize,
    writer: Option<SnapshotWriter>,
    committables: Vec<Committable>,
    failure: Option<String>,
    metrics: SnapshotMetrics,
    /// When the synchronous part was over.
    handed_over: Option<Instant>,
    /// Inputs whose data in flight is still being recorded.
    recording: u32,
    /// Since when barriers have been coming, if they overtake data.
    overtaking_since: Option<Instant>,
}

/// A table that an operator has begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TableId {
    operator: usize,
    table: usize,
}

#[cfg(test)]
impl TableId {
    /// For snapshots without a builder.
    pub(crate) const FIRST: TableId = TableId { operator: 0, table: 0 };
}

/// Bytes that wait for the writer beyond which no more rows are handed over unless they are about to change.
const WRITER_BACKLOG: usize = 16 * 1024 * 1024;

impl std::fmt::Debug for SnapshotBuilder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SnapshotBuilder of checkpoint {}", self.barrier.checkpoint)
    }
}

impl SnapshotBuilder {
    pub(crate) fn new(barrier: Barrier, setup: Arc<WriterSetup>, metrics: SnapshotMetrics) -> SnapshotBuilder {
        SnapshotBuilder {
            barrier,
            setup,
            skeleton: TaskSnapshot::default(),
            pieces: Vec::new(),
            buffered: 0,
            writer: None,
            committables: Vec::new(),
            failure: None,
            metrics,
            handed_over: None,
            recording: 0,
            overtaking_since: None,
        }
    }

    /// The barrier overtakes data, which is recorded on so many inputs; the first barrier came at `since`.
    pub(crate) fn overtakes(&mut self, recording: u32, since: Instant) {
        self.metrics.unaligned = true;
        self.recording = recording;
        self.overtaking_since = Some(since);
    }

    /// Whether data in flight is still being recorded.
    pub(crate) fn is_recording(&self) -> bool {
        self.recording > 0
    }

    /// Everything of an input is recorded: it becomes a list of `operator`.
    pub(crate) fn add_in_flight(&mut self, operator: OperatorId, name: String, data: InFlight) {
        self.recording = self.recording.saturating_sub(1);
        self.metrics.persisted += data.bytes.len() as u64;
        self.metrics.processed += data.processed;
        if let Some(since) = self.overtaking_since {
            self.metrics.alignment = since.elapsed();
        }
        let operator = self.index_of(operator);
        self.add_list(operator, name, data.schema, Redistribution::Split, data.lengths, data.bytes);
    }

    /// The barrier the snapshot belongs to.
    pub fn barrier(&self) -> Barrier {
        self.barrier
    }

    /// Whether the writer has so much to do that rows should wait, if they can.
    pub fn is_behind(&self) -> bool {
        self.setup.backlog() > WRITER_BACKLOG
    }

    /// For the operator at `node`.
    pub fn operator(&mut self, node: u32) -> OperatorSnapshotter<'_> {
        OperatorSnapshotter { builder: self, node }
    }

    pub(crate) fn set_committables(&mut self, committables: Vec<Committable>) {
        self.committables = committables;
    }

    /// The synchronous part is over.
    pub(crate) fn handed_over(&mut self, took: Duration) {
        self.metrics.sync = took;
        self.handed_over = Some(Instant::now());
    }

    fn operator_index(&mut self, node: u32) -> usize {
        self.index_of(self.setup.operator_id(node))
    }

    fn index_of(&mut self, id: OperatorId) -> usize {
        let known = self.skeleton.operators.iter().position(|operator| operator.operator == id);
        known.unwrap_or_else(|| {
            self.skeleton.operators.push(OperatorSnapshot { operator: id, tables: Vec::new(), lists: Vec::new() });
            self.skeleton.operators.len() - 1
        })
    }

    fn add_list(
        &mut self,
        operator: usize,
        name: String,
        schema: Schema,
        redistribution: Redistribution,
        lengths: Vec<u32>,
        bytes: Vec<u8>,
    ) {
        if lengths.is_empty() {
            return;
        }
        let items = 0..lengths.len() as u32;
        let location = Location::Inline(Vec::new());
        let lists = &mut self.skeleton.operators[operator].lists;
        lists.push(ListSnapshot { name, schema, redistribution, lengths, location, items });
        let list = lists.len() - 1;
        self.add(Piece { of: PieceOf::List { operator, list }, bytes });
    }

    fn add(&mut self, piece: Piece) {
        if self.failure.is_some() {
            return;
        }
        self.buffered += piece.bytes.len();
        match &self.writer {
            Some(writer) => writer.send(piece),
            None => {
                self.pieces.push(piece);
                if self.buffered > self.setup.inline_threshold() {
                    self.start_writer();
                }
            }
        }
    }

    fn add_store(&mut self, piece: StorePiece) {
        if self.failure.is_some() {
            return;
        }
        if self.writer.is_none() {
            self.start_writer();
        }
        if let Some(writer) = &self.writer {
            writer.send_store(piece);
        }
    }

    fn start_writer(&mut self) {
        match SnapshotWriter::start(self.setup.clone(), self.barrier.checkpoint) {
            Ok(writer) => {
                self.pieces.drain(..).for_each(|piece| writer.send(piece));
                self.writer = Some(writer);
            }
            Err(error) => {
                self.failure = Some(format!("no thread could be started that writes state ({error})"));
                self.pieces.clear();
            }
        }
    }

    /// Everything is handed over: once it is durable the snapshot is acknowledged.
    pub(crate) fn finish(mut self) {
        let since = self.handed_over.unwrap_or_else(Instant::now);
        let end = super::writer::SnapshotEnd {
            checkpoint: self.barrier.checkpoint,
            skeleton: std::mem::take(&mut self.skeleton),
            committables: std::mem::take(&mut self.committables),
            failure: self.failure.take(),
            metrics: self.metrics,
            since,
        };
        match self.writer.take() {
            Some(writer) => writer.finish(end),
            None => {
                let located = self
                    .pieces
                    .drain(..)
                    .map(|piece| Located::Piece { of: piece.of, location: Location::Inline(piece.bytes) });
                let located = located.collect();
                self.setup.acknowledge_in_order(end, located);
            }
        }
    }

    /// Nothing will become of it: what is still handed over is dropped.
    pub(crate) fn give_up(&mut self, reason: &str) {
        self.failure.get_or_insert_with(|| reason.to_owned());
    }

    /// Nothing will become of it; what its sinks prepared is still reported.
    pub(crate) fn abandon(mut self, reason: &str) {
        self.give_up(reason);
        self.finish();
    }
}

/// An operator's way to hand over its state.
#[derive(Debug)]
pub struct OperatorSnapshotter<'a> {
    builder: &'a mut SnapshotBuilder,
    node: u32,
}

impl OperatorSnapshotter<'_> {
    /// The barrier the snapshot belongs to.
    pub fn barrier(&self) -> Barrier {
        self.builder.barrier
    }

    /// Whether the writer has so much to do that rows should wait, if they can.
    pub fn is_behind(&self) -> bool {
        self.builder.is_behind()
    }

    /// Begins a table of `max_parallelism` key groups, whose groups follow with [`write_group`](Self::write_group).
    pub fn begin_table(&mut self, name: &str, key: Schema, columns: Vec<Column>, max_parallelism: u32) -> TableId {
        let operator = self.builder.operator_index(self.node);
        let tables = &mut self.builder.skeleton.operators[operator].tables;
        tables.push(TableSnapshot {
            name: name.to_owned(),
            key,
            columns,
            max_parallelism,
            groups: Vec::new(),
            files: Vec::new(),
        });
        TableId { operator, table: tables.len() - 1 }
    }

    /// An empty buffer that was used before, if there is one. Its memory need not be made again, which costs as much as filling it.
    pub fn buffer(&mut self) -> Option<Vec<u8>> {
        self.builder.writer.as_ref().and_then(SnapshotWriter::buffer)
    }

    /// Hands over rows of a key group, encoded as [`TableSnapshot`] says: in any order, and in several parts if they are many.
    pub fn write_group(&mut self, table: TableId, group: u32, rows: u64, bytes: Vec<u8>) {
        let TableId { operator, table } = table;
        if rows > 0 {
            self.builder.add(Piece { of: PieceOf::Group { operator, table, group, rows }, bytes });
        }
    }

    /// Hands over all rows of a table that are in a store.
    pub(crate) fn write_store(&mut self, table: TableId, snapshot: StoreSnapshot) {
        let TableId { operator, table } = table;
        self.builder.add_store(StorePiece { operator, table, snapshot });
    }

    /// Hands over a list. Does nothing if it is empty.
    pub fn list<'i, T: Record>(
        &mut self,
        name: &str,
        redistribution: Redistribution,
        items: impl IntoIterator<Item = &'i T>,
    ) {
        let (mut bytes, mut lengths) = (Vec::new(), Vec::new());
        for item in items {
            let start = bytes.len();
            item.encode(&mut bytes);
            lengths.push((bytes.len() - start) as u32);
        }
        if lengths.is_empty() {
            return;
        }
        let operator = self.builder.operator_index(self.node);
        self.builder.add_list(operator, name.to_owned(), schema_of::<T>(), redistribution, lengths, bytes);
    }

    /// The snapshot cannot be made: the checkpoint is declined.
    pub fn fail(&mut self, reason: impl Into<String>) {
        self.builder.failure.get_or_insert_with(|| reason.into());
    }
}

/// Puts what is written into the places it belongs to.
pub(super) fn assemble(mut skeleton: TaskSnapshot, located: Vec<Located>) -> TaskSnapshot {
    for located in located {
        match located {
            Located::Piece { of: PieceOf::Group { operator, table, group, rows }, location } => {
                skeleton.operators[operator].tables[table].groups.push(GroupSlice { group, rows, location });
            }
            Located::Piece { of: PieceOf::List { operator, list }, location } => {
                skeleton.operators[operator].lists[list].location = location;
            }
            Located::Store { operator, table, rows, files } => {
                let table = &mut skeleton.operators[operator].tables[table];
                let sorted = |(group, rows)| GroupSlice { group, rows, location: Location::Sorted };
                table.groups.extend(rows.into_iter().map(sorted));
                table.files.extend(files);
            }
        }
    }
    for table in skeleton.operators.iter_mut().flat_map(|operator| &mut operator.tables) {
        table.groups.sort_by_key(|slice| slice.group);
    }
    skeleton
}
