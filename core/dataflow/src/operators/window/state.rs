//! What windows are in a checkpoint.
//!
//! A table `windows` with a row for each key and window (or pane, where windows share them), and a list `passed` that says how far time
//! had come for which key groups: windows that were over then have fired, and do not fire again.

use weir_checkpoint::{Column, Redistribution, StateKind, TableDeclaration, TableSnapshot};
use weir_model::KeyGroups;

use super::WindowOptions;
use super::handover::Handover;
use crate::declaration::OperatorState;
use crate::element::EventTime;
use crate::failure::TaskError;
use crate::metrics::Counter;
use crate::operator::OperatorContext;
use crate::record::Record;
use crate::snapshot::{Conversion, OperatorSnapshotter, RestoredRows, TableId, schema_of, unreadable};

const TABLE: &str = "windows";
const PASSED: &str = "passed";
const COLUMNS: [&str; 4] = ["start", "end", "pending", "accumulator"];

/// How far time has come.
#[derive(Debug, Clone)]
pub(super) struct Passed {
    /// For everybody.
    pub(super) time: EventTime,
    /// For key groups whose windows had fired further before a restore; until everybody has come as far.
    before: Option<(KeyGroups, Vec<EventTime>)>,
}

impl Passed {
    pub(super) const NOTHING: Passed = Passed::at(EventTime::MIN);

    pub(super) const fn at(time: EventTime) -> Passed {
        Passed { time, before: None }
    }

    /// Whether time has come to `last` for this key.
    #[inline(always)]
    pub(super) fn is_over<K: Record>(&self, key: &K, last: EventTime) -> bool {
        last <= self.time || self.before.as_ref().is_some_and(|before| Self::was_over(before, key, last))
    }

    #[cold]
    fn was_over<K: Record>((groups, before): &(KeyGroups, Vec<EventTime>), key: &K, last: EventTime) -> bool {
        last <= before[usize::from(groups.group_of(key.key_hash()).0)]
    }

    /// The latest time that anybody has come to.
    pub(super) fn latest(&self) -> EventTime {
        let before = self.before.as_ref().and_then(|(_, before)| before.iter().copied().max());
        self.time.max(before.unwrap_or(EventTime::MIN))
    }

    pub(super) fn advance(&mut self, to: EventTime) {
        self.time = to;
        if self.before.as_ref().is_some_and(|(_, before)| before.iter().all(|time| *time <= to)) {
            self.before = None;
        }
    }

    /// For which key groups, from and to, time has come how far.
    pub(super) fn spans(&self, groups: KeyGroups, subtask: u32) -> Vec<(u32, u32, EventTime)> {
        let mut spans: Vec<(u32, u32, EventTime)> = Vec::new();
        for group in groups.range_of(subtask) {
            let before = self.before.as_ref().map_or(EventTime::MIN, |(_, before)| before[group as usize]);
            let time = self.time.max(before);
            match spans.last_mut() {
                Some((_, end, same)) if *same == time => *end = group + 1,
                _ => spans.push((group, group + 1, time)),
            }
        }
        // A savepoint that drained the job is at the end of time; a job that goes on from it has a time of its own again.
        spans.retain(|(_, _, time)| (EventTime::MIN + 1..EventTime::MAX).contains(time));
        spans
    }

    pub(super) fn restore(&mut self, groups: KeyGroups, spans: &[(u32, u32, EventTime)]) {
        if spans.is_empty() {
            return;
        }
        let mut before = vec![EventTime::MIN; groups.max_parallelism as usize];
        for &(from, to, time) in spans {
            for group in from..to.min(groups.max_parallelism) {
                let own = &mut before[group as usize];
                *own = time.max(*own);
            }
        }
        self.before = Some((groups, before));
    }
}

/// What windows need to fire.
pub(super) struct Run<'a, K, L> {
    pub(super) logic: &'a mut L,
    pub(super) options: &'a WindowOptions,
    pub(super) passed: &'a Passed,
    pub(super) snapshot: &'a mut Handover<K>,
    /// Parts that came too late for all their windows.
    pub(super) late: &'a Counter,
}

/// A row of the table.
pub(super) struct Row<K, A> {
    pub(super) key: K,
    pub(super) start: EventTime,
    pub(super) end: EventTime,
    pub(super) pending: u64,
    pub(super) accumulator: A,
}

pub(super) fn columns<A: Record>() -> Vec<Column> {
    let schemas = [schema_of::<i64>(), schema_of::<i64>(), schema_of::<u64>(), schema_of::<A>()];
    let column = |(name, schema): (&str, _)| Column { name: name.to_owned(), kind: StateKind::Internal, schema };
    COLUMNS.into_iter().zip(schemas).map(column).collect()
}

pub(super) fn declare<K: Record, A: Record>(state: &mut OperatorState) {
    state.tables.push(TableDeclaration { name: TABLE.to_owned(), key: schema_of::<K>(), columns: columns::<A>() });
    state.list::<(u32, u32, EventTime)>(PASSED, Redistribution::Union);
}

/// Begins the table of a snapshot, and says how far time has come.
pub(super) fn begin<K: Record, A: Record>(
    snapshot: &mut OperatorSnapshotter<'_>,
    (groups, subtask): (KeyGroups, u32),
    passed: &Passed,
) -> TableId {
    snapshot.list(PASSED, Redistribution::Union, &passed.spans(groups, subtask));
    snapshot.begin_table(TABLE, schema_of::<K>(), columns::<A>(), groups.max_parallelism)
}

/// Gives what was restored to `restore`, after what has passed is known.
pub(super) fn restore<K: Record, A: Record>(
    context: &OperatorContext<'_>,
    passed: &mut Passed,
    mut restore: impl FnMut(Row<K, A>, &Passed),
) -> Result<(), TaskError> {
    passed.restore(context.key_groups(), &context.restored_list(PASSED)?);
    for table in context.restored_tables(TABLE) {
        let reader = RowReader::new(&table)?;
        for rows in context.restored_rows(&table) {
            reader.read(&rows?, |row| restore(row, passed))?;
        }
    }
    Ok(())
}

/// Reads rows of a table.
pub(super) struct RowReader<K, A> {
    key: Conversion,
    time: Conversion,
    count: Conversion,
    accumulator: Conversion,
    /// Where the columns are, and how many there are in all.
    at: [usize; COLUMNS.len()],
    columns: usize,
    types: std::marker::PhantomData<fn() -> (K, A)>,
}

impl<K: Record, A: Record> RowReader<K, A> {
    pub(super) fn new(table: &TableSnapshot) -> Result<Self, TaskError> {
        let mut at = [0; COLUMNS.len()];
        for (at, name) in at.iter_mut().zip(COLUMNS) {
            let found = table.columns.iter().position(|column| column.name == name);
            *at = found.ok_or_else(|| unreadable(format!("windows have no column `{name}`")))?;
        }
        let schema = |column: usize| &table.columns[at[column]].schema;
        Ok(RowReader {
            key: Conversion::to::<K>(&table.key, "the key of windows")?,
            time: Conversion::to::<i64>(schema(0), "windows")?,
            count: Conversion::to::<u64>(schema(2), "windows")?,
            accumulator: Conversion::to::<A>(schema(3), "windows")?,
            at,
            columns: table.columns.len(),
            types: std::marker::PhantomData,
        })
    }

    pub(super) fn read(&self, rows: &RestoredRows, mut restore: impl FnMut(Row<K, A>)) -> Result<(), TaskError> {
        let mut rest = rows.bytes.as_slice();
        for _ in 0..rows.rows {
            let key = take(&mut rest, 0)?;
            let values = (0..self.columns).map(|_| take(&mut rest, 1)).collect::<Result<Vec<_>, _>>()?;
            let [start, end, pending, accumulator] = self.at.map(|at| values[at]);
            restore(Row {
                key: self.key.value(key)?,
                start: self.time.value(start)?,
                end: self.time.value(end)?,
                pending: self.count.value(pending)?,
                accumulator: self.accumulator.value(accumulator)?,
            });
        }
        Ok(())
    }
}

/// The next value, whose length is written before it with `present` added.
fn take<'b>(rest: &mut &'b [u8], present: u32) -> Result<&'b [u8], TaskError> {
    let cut = || unreadable("a row of windows is cut off");
    let (length, behind) = rest.split_first_chunk::<4>().ok_or_else(cut)?;
    let length = u32::from_le_bytes(*length).checked_sub(present).ok_or_else(cut)?;
    let (value, behind) = behind.split_at_checked(length as usize).ok_or_else(cut)?;
    *rest = behind;
    Ok(value)
}
