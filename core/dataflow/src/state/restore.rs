//! Tables as they were in a snapshot.

use std::hash::Hash;

use weir_checkpoint::{Column, TableSnapshot, migration};
use weir_model::FailureKind;

use super::declare::{Declared, DeclaredColumn};
use super::keyed::{KeyedStates, RowId, TABLE};
use super::stored::{StoreSetup, StoredRows, entry};
use super::timers::TimerQueues;
use crate::element::EventTime;
use crate::failure::TaskError;
use crate::metrics::StateMetrics;
use crate::operator::OperatorContext;
use crate::record::{Decoder, Record};
use crate::snapshot::{Conversion, RestoredRows, schema_of, unreadable};

/// A declared state of which there is something to restore.
pub(super) struct RestoredColumn {
    /// Where in rows the values are, and the times of use.
    values: usize,
    times: Option<usize>,
    /// The declared column.
    column: u32,
    conversion: Conversion,
}

impl<K: Record + Eq + Hash> KeyedStates<K> {
    /// The states of an operator as they begin: empty, or as they were in the checkpoint that is restored.
    pub(crate) fn open(declared: Declared, context: &OperatorContext<'_>, now: EventTime) -> Result<Self, TaskError> {
        let groups = context.key_groups();
        let own = groups.range_of(context.task.subtask());
        let mut states = KeyedStates::over(declared, groups, own.clone());
        states.set_time(now);
        let mut tables = context.restored_tables(TABLE);
        let (base, restored) = (context.task.working_folder(), context.task.restored());
        if let Some(memory) = context.task.options().lsm_memory {
            let taken_over = |table: &TableSnapshot| !table.files.is_empty() && states.has_layout_of(table);
            let (taken, others) = tables.into_iter().partition(taken_over);
            tables = others;
            let id = context.task.id();
            let name = format!("state-{}-{}-{}", id.vertex, id.subtask, context.node);
            let pinned = TimerQueues::column_of(&states.declared);
            let setup = StoreSetup { memory, base, name, tables: taken, restored };
            states.keep_in(StoredRows::open(setup, own, pinned)?);
        }
        for table in &tables {
            states.restore(table, context.restored_rows(table))?;
            if let Some(restored) = restored.filter(|_| !table.files.is_empty()) {
                let columns = states.restored_columns(table)?;
                restored.read_sorted(table, base, |group, rows, bytes| {
                    states.restore_rows(table, &columns, &RestoredRows { group, rows, bytes })
                })?;
            }
        }
        states.metrics = StateMetrics::new(context.task.shared().clone());
        states.measure_now(now);
        Ok(states)
    }

    /// Whether rows of the table are what rows of this operator are in a store.
    fn has_layout_of(&self, table: &TableSnapshot) -> bool {
        let key = schema_of::<K>();
        let same = migration(&table.key, &key).is_ok_and(|migration| migration.is_identity());
        let columns = self.declared.snapshot_columns();
        let identity = |(written, own): (&Column, &Column)| {
            (&written.name, written.kind) == (&own.name, own.kind)
                && migration(&written.schema, &own.schema).is_ok_and(|migration| migration.is_identity())
        };
        same && columns.len() == table.columns.len() && table.columns.iter().zip(&columns).all(identity)
    }

    /// Adds the rows of a table.
    pub(super) fn restore(
        &mut self,
        table: &TableSnapshot,
        groups: impl Iterator<Item = Result<RestoredRows, TaskError>>,
    ) -> Result<(), TaskError> {
        let columns = self.restored_columns(table)?;
        groups.into_iter().try_for_each(|rows| self.restore_rows(table, &columns, &rows?))
    }

    /// States to restore: those of the same name. What nobody declares any more is left behind.
    pub(super) fn restored_columns(&self, table: &TableSnapshot) -> Result<Vec<RestoredColumn>, TaskError> {
        let refused = |message: String| TaskError::failed(FailureKind::Job, message);
        let key = schema_of::<K>();
        if !migration(&table.key, &key).is_ok_and(|migration| migration.is_identity()) {
            return Err(refused(format!(
                "state by keys of type {} cannot be restored: the keys are {key} now, and rows lie where the bytes of their keys say",
                table.key
            )));
        }
        let find = |name: &str| table.columns.iter().position(|written| written.name == *name);
        let mut restored = Vec::new();
        for (number, declared) in (0..).zip(&self.declared.columns) {
            let DeclaredColumn { name, kind, schema, .. } = declared;
            let Some(values) = find(name) else { continue };
            let written = &table.columns[values];
            if written.kind != *kind {
                return Err(refused(format!(
                    "state `{name}` was {} state and is {} state now: give the new one another name",
                    written.kind.name(),
                    kind.name()
                )));
            }
            let conversion = Conversion::between(&written.schema, schema, name)?;
            let times = find(&declared.times_name());
            restored.push(RestoredColumn { values, times, column: number, conversion });
        }
        Ok(restored)
    }

    pub(super) fn restore_rows(
        &mut self,
        written: &TableSnapshot,
        columns: &[RestoredColumn],
        rows: &RestoredRows,
    ) -> Result<(), TaskError> {
        let mut input = Decoder::new(&rows.bytes);
        let (mut entries, mut converted) = (Vec::new(), Vec::new());
        let now = self.now();
        for _ in 0..rows.rows {
            let key = read_row(&mut input, written.columns.len(), &mut entries).map_err(unreadable)?;
            let key = K::decode(&mut Decoder::new(key)).map_err(unreadable)?;
            if !columns.iter().any(|column| entries[column.values].is_some()) {
                continue;
            }
            let group = u32::from(self.groups.group_of(key.key_hash()).0);
            if group != rows.group || group.wrapping_sub(self.first) as usize >= self.tables.len() {
                return Err(unreadable(format!("a key of group {group} among those of group {}", rows.group)));
            }
            self.enter(key);
            let row = self.current();
            self.mark_changed(row);
            let RowId { table, slot } = row;
            for RestoredColumn { values, times, column, conversion } in columns {
                let Some(values) = entries[*values] else { continue };
                let times = times.and_then(|times| entries[times]);
                let values = conversion.bytes(values, &mut converted)?;
                let cell = self.tables[table as usize].rows.cell_mut(*column, slot);
                let cells = self.declared.columns[*column as usize].cells;
                cells.restore(cell, values, times, now).map_err(unreadable)?;
            }
            self.leave();
        }
        if !input.is_empty() {
            return Err(unreadable(format!("there is something behind the last row of group {}", rows.group)));
        }
        Ok(())
    }
}

/// Reads the key and the entries of a row.
fn read_row<'r>(
    input: &mut Decoder<'r>,
    columns: usize,
    entries: &mut Vec<Option<&'r [u8]>>,
) -> Result<&'r [u8], crate::record::DecodeError> {
    let length = u32::decode(input)?;
    let key = input.take(length as usize)?;
    entries.clear();
    for _ in 0..columns {
        entries.push(entry(input)?);
    }
    Ok(key)
}
