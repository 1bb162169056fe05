//! What state a job has, and whether it can be restored from a checkpoint; asked before the job that wrote it is stopped.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use weir_model::{CheckpointKind, OperatorId, OperatorKind};

use crate::assign::non_restored;
use crate::codec::{Reader, Writer, read_kind, read_redistribution, read_schema, write_schema};
use crate::metadata::operator_label;
use crate::{
    AssignError, CheckpointJob, CheckpointMetadata, Column, DecodeError, IN_FLIGHT, Incompatible, JobVertexState,
    ListSnapshot, Location, OperatorMetadata, Redistribution, Schema, StateKind, SubtaskState, TableSnapshot,
    migration,
};

/// The state of a job, as its builder knows it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StateDeclarations {
    /// All operators, also those without state.
    pub operators: Vec<OperatorDeclaration>,
}

/// The state of an operator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OperatorDeclaration {
    /// Its node in the StreamGraph.
    pub node: u32,
    /// The operator.
    pub id: OperatorId,
    /// Its name.
    pub name: String,
    /// The author's name for its state.
    pub uid: Option<String>,
    /// State by key.
    pub tables: Vec<TableDeclaration>,
    /// State of subtasks.
    pub lists: Vec<ListDeclaration>,
}

/// A table, as [`TableSnapshot`] without its rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableDeclaration {
    /// Unique in the operator.
    pub name: String,
    /// Of the keys.
    pub key: Schema,
    /// The states.
    pub columns: Vec<Column>,
}

/// A list, as [`ListSnapshot`] without its items.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListDeclaration {
    /// Unique in the operator.
    pub name: String,
    /// Of the items.
    pub schema: Schema,
    /// What becomes of the items when the number of subtasks changes.
    pub redistribution: Redistribution,
}

/// Why a job cannot go on from a checkpoint.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// State of an operator that the job has not.
    #[error(transparent)]
    NotRestored(#[from] AssignError),
    /// The type of a state has changed.
    #[error("state `{state}` of {operator}: {change}")]
    Incompatible {
        /// The operator as people know it.
        operator: String,
        /// The state's name.
        state: String,
        /// What has changed.
        change: Box<Incompatible>,
    },
    /// The type of the keys has changed.
    #[error(
        "the keys of {operator} were {found} and are {expected} now: rows lie where the bytes of their keys say, so keys must stay as \
         they were; give the operator another uid to begin without state"
    )]
    Key {
        /// The operator as people know it.
        operator: String,
        /// As written.
        found: String,
        /// The job's.
        expected: String,
    },
    /// A state is of another kind now.
    #[error(
        "state `{state}` of {operator} was {found} state and is {expected} state now: give the new one another name"
    )]
    Kind {
        /// The operator as people know it.
        operator: String,
        /// The state's name.
        state: String,
        /// As written.
        found: &'static str,
        /// The job's.
        expected: &'static str,
    },
}

/// What becomes of the state of a checkpoint in a job that can be restored from it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Carried {
    /// Operators that go on with the state they had, as people know them.
    pub restored: Vec<String>,
    /// Operators and states of which the checkpoint knows nothing.
    pub empty: Vec<String>,
    /// What is left behind, one sentence each.
    pub left_behind: Vec<String>,
}

/// Says whether a job with this state can be restored from a checkpoint, and what becomes of it.
pub fn check(
    declarations: &StateDeclarations,
    metadata: &CheckpointMetadata,
    allow_non_restored: bool,
) -> Result<Carried, Refused> {
    let known = declarations.operators.iter().map(|operator| operator.id).collect();
    let mut carried =
        Carried { left_behind: non_restored(metadata, &known, allow_non_restored)?, ..Carried::default() };
    let written: BTreeMap<_, _> = metadata.operators.iter().map(|operator| (operator.id, operator)).collect();
    for declared in &declarations.operators {
        let state = written.get(&declared.id).filter(|state| !state.subtasks.is_empty());
        let reads_on = metadata.enumerators.iter().any(|(id, _)| *id == declared.id);
        match state {
            Some(state) => declared.check(state, &mut carried)?,
            None if !declared.tables.is_empty() || !declared.lists.is_empty() => carried.empty.push(declared.label()),
            None => {}
        }
        if state.is_some() || reads_on {
            carried.restored.push(declared.label());
        }
    }
    Ok(carried)
}

impl OperatorDeclaration {
    /// The operator as people know it.
    pub fn label(&self) -> String {
        operator_label(&self.name, self.uid.as_deref(), self.id)
    }

    fn check(&self, written: &OperatorMetadata, carried: &mut Carried) -> Result<(), Refused> {
        // All subtasks have the same, but some perhaps have nothing.
        let tables: BTreeMap<_, _> =
            written.subtasks.iter().flat_map(|subtask| &subtask.tables).map(|table| (&table.name, table)).collect();
        let lists: BTreeMap<_, _> =
            written.subtasks.iter().flat_map(|subtask| &subtask.lists).map(|list| (&list.name, list)).collect();
        for table in &self.tables {
            let known = tables.get(&table.name).map_or(&[][..], |table| &table.columns);
            let new = table.columns.iter().filter(|column| known.iter().all(|old| old.name != column.name));
            carried.empty.extend(new.map(|column| format!("state `{}` of {}", column.name, self.label())));
        }
        let new = self.lists.iter().filter(|list| !lists.contains_key(&list.name));
        carried.empty.extend(new.map(|list| format!("state `{}` of {}", list.name, self.label())));
        let mut left = |name: &str| {
            carried
                .left_behind
                .push(format!("state `{name}` of {} is left behind: the operator has no such state", self.label()));
        };
        for (name, table) in tables {
            match self.tables.iter().find(|declared| declared.name == *name) {
                Some(declared) => self.check_table(table, declared, &mut left)?,
                None => table.columns.iter().for_each(|column| left(&column.name)),
            }
        }
        for (name, list) in lists {
            // Records in flight are nobody's state; the task they were on their way to looks at them.
            if name.starts_with(IN_FLIGHT) {
                continue;
            }
            match self.lists.iter().find(|declared| declared.name == *name) {
                Some(declared) => self.check_list(list, declared)?,
                None => left(name),
            }
        }
        Ok(())
    }

    /// The state of a subtask in which there is nothing yet; `None` if it has none.
    fn without_rows(&self, vertex: &JobVertexState) -> Option<SubtaskState> {
        let tables = self.tables.iter().map(|table| TableSnapshot {
            name: table.name.clone(),
            key: table.key.clone(),
            columns: table.columns.clone(),
            max_parallelism: vertex.max_parallelism,
            groups: Vec::new(),
            files: Vec::new(),
        });
        let lists = self.lists.iter().map(|list| ListSnapshot {
            name: list.name.clone(),
            schema: list.schema.clone(),
            redistribution: list.redistribution,
            lengths: Vec::new(),
            location: Location::Inline(Vec::new()),
            items: 0..0,
        });
        let state = SubtaskState { subtask: 0, tables: tables.collect(), lists: lists.collect() };
        (!state.tables.is_empty() || !state.lists.is_empty()).then_some(state)
    }

    fn check_table(
        &self,
        written: &TableSnapshot,
        declared: &TableDeclaration,
        left: &mut impl FnMut(&str),
    ) -> Result<(), Refused> {
        if !migration(&written.key, &declared.key).is_ok_and(|migration| migration.is_identity()) {
            let (found, expected) = (written.key.to_string(), declared.key.to_string());
            return Err(Refused::Key { operator: self.label(), found, expected });
        }
        for column in &written.columns {
            let Some(declared) = declared.columns.iter().find(|declared| declared.name == column.name) else {
                left(&column.name);
                continue;
            };
            self.check_kind(&column.name, column.kind.name(), declared.kind.name())?;
            self.check_schema(&column.name, &column.schema, &declared.schema)?;
        }
        Ok(())
    }

    fn check_list(&self, written: &ListSnapshot, declared: &ListDeclaration) -> Result<(), Refused> {
        self.check_kind(&written.name, written.redistribution.name(), declared.redistribution.name())?;
        self.check_schema(&written.name, &written.schema, &declared.schema)
    }

    fn check_kind(&self, state: &str, found: &'static str, expected: &'static str) -> Result<(), Refused> {
        if found == expected {
            return Ok(());
        }
        Err(Refused::Kind { operator: self.label(), state: state.to_owned(), found, expected })
    }

    fn check_schema(&self, state: &str, found: &Schema, expected: &Schema) -> Result<(), Refused> {
        let refused = |change| Refused::Incompatible {
            operator: self.label(),
            state: state.to_owned(),
            change: Box::new(change),
        };
        migration(found, expected).map(drop).map_err(refused)
    }
}

impl StateDeclarations {
    /// What a checkpoint of the job with this state says, but for the state itself: so that another version of the job can be compared
    /// with one that runs.
    pub fn to_metadata(&self, job: &CheckpointJob) -> CheckpointMetadata {
        let declared: BTreeMap<_, _> = self.operators.iter().map(|operator| (operator.id, operator)).collect();
        let (mut operators, mut enumerators) = (Vec::new(), Vec::new());
        for vertex in &job.vertices {
            for operator in &vertex.operators {
                if matches!(operator.kind, OperatorKind::Source { .. }) {
                    enumerators.push((operator.id, Vec::new()));
                }
                operators.push(OperatorMetadata {
                    id: operator.id,
                    name: operator.name.clone(),
                    uid: operator.uid.clone(),
                    parallelism: vertex.parallelism,
                    max_parallelism: vertex.max_parallelism,
                    finished: Vec::new(),
                    subtasks: declared.get(&operator.id).and_then(|it| it.without_rows(vertex)).into_iter().collect(),
                });
            }
        }
        CheckpointMetadata {
            job: job.id,
            job_name: job.name.clone(),
            checkpoint: 0,
            timestamp: 0,
            kind: CheckpointKind::Suspend,
            enumerators,
            committables: Vec::new(),
            operators,
        }
    }

    /// Which operator each node of the StreamGraph became.
    pub fn nodes(&self) -> BTreeMap<u32, OperatorId> {
        self.operators.iter().map(|operator| (operator.node, operator.id)).collect()
    }

    /// As bytes, for [`Self::decode`] of the same release.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Writer::default();
        out.list(&self.operators, |out, operator| {
            out.number(u64::from(operator.node));
            out.raw(operator.id.as_bytes());
            out.text(&operator.name);
            out.optional(operator.uid.as_deref(), Writer::text);
            out.list(&operator.tables, |out, table| {
                out.text(&table.name);
                write_schema(&table.key, out);
                out.list(&table.columns, |out, column| {
                    out.text(&column.name);
                    out.byte(column.kind.tag());
                    write_schema(&column.schema, out);
                });
            });
            out.list(&operator.lists, |out, list| {
                out.text(&list.name);
                write_schema(&list.schema, out);
                out.byte(list.redistribution.tag());
            });
        });
        out.into_bytes()
    }

    /// The inverse of [`Self::encode`]. Any other bytes are an error.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        let operators = reader.list("operators", |reader| {
            Ok(OperatorDeclaration {
                node: reader.small("node")?,
                id: OperatorId::from_bytes(reader.fixed("id of an operator")?),
                name: reader.text("name of an operator")?.to_owned(),
                uid: reader.optional("uid", |reader| reader.text("uid").map(str::to_owned))?,
                tables: reader.list("tables", |reader| {
                    Ok(TableDeclaration {
                        name: reader.text("name of a table")?.to_owned(),
                        key: read_schema(reader)?,
                        columns: reader.list("columns", read_column)?,
                    })
                })?,
                lists: reader.list("lists", |reader| {
                    Ok(ListDeclaration {
                        name: reader.text("name of a list")?.to_owned(),
                        schema: read_schema(reader)?,
                        redistribution: read_redistribution(reader)?,
                    })
                })?,
            })
        })?;
        reader.end()?;
        Ok(Self { operators })
    }
}

fn read_column(reader: &mut Reader<'_>) -> Result<Column, DecodeError> {
    let name = reader.text("name of a state")?.to_owned();
    let kind: StateKind = read_kind(reader)?;
    Ok(Column { name, kind, schema: read_schema(reader)? })
}
