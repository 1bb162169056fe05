//! What a task begins with.

use std::sync::Arc;

use weir_checkpoint::{IN_FLIGHT, ListSnapshot, Location, Schema, TableSnapshot, TaskSnapshot, migration};
use weir_model::{FailureKind, OperatorId};
use xxhash_rust::xxh3::xxh3_64;

use super::builder::schema_of;
use crate::failure::TaskError;
use crate::record::{Decoder, Record};
use crate::storage::StateStorage;

/// The name of the list for what is in flight before an input of a task.
pub(crate) fn in_flight_list(input: u32) -> String {
    format!("{IN_FLIGHT}{input}")
}

/// The state that a task begins with.
#[derive(Debug, Clone)]
pub(crate) struct RestoredTask {
    pub(crate) snapshot: Arc<TaskSnapshot>,
    pub(crate) storage: Arc<dyn StateStorage>,
}

/// The rows of one key group, read and checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RestoredRows {
    /// The key group.
    pub group: u32,
    /// Number of rows.
    pub rows: u64,
    /// The rows, encoded as [`TableSnapshot`] says.
    pub bytes: Vec<u8>,
}

/// The error for state that cannot be read.
pub(crate) fn unreadable(what: impl std::fmt::Display) -> TaskError {
    TaskError::failed(FailureKind::State, format!("state to begin with cannot be read: {what}"))
}

impl RestoredTask {
    /// The tables of this name that `operator` gets; one from each old subtask.
    pub(crate) fn tables(&self, operator: OperatorId, name: &str) -> impl Iterator<Item = &TableSnapshot> {
        let own = self.snapshot.operators.iter().filter(move |state| state.operator == operator);
        own.flat_map(|state| &state.tables).filter(move |table| table.name == name)
    }

    /// Reads the rows of a table that are not in sorted files, a group, or a part of one, at a time.
    pub(crate) fn rows<'t>(
        &'t self,
        table: &'t TableSnapshot,
    ) -> impl Iterator<Item = Result<RestoredRows, TaskError>> + 't {
        // The others are in sorted files.
        let slices = table.groups.iter().filter(|slice| slice.location != Location::Sorted);
        slices.map(|slice| {
            let bytes = self.read(&slice.location)?;
            Ok(RestoredRows { group: slice.group, rows: slice.rows, bytes })
        })
    }

    /// The items of the lists of this name that `operator` gets.
    pub(crate) fn items<T: Record>(&self, operator: OperatorId, name: &str) -> Result<Vec<T>, TaskError> {
        let own = self.snapshot.operators.iter().filter(|state| state.operator == operator);
        let mut items = Vec::new();
        for list in own.flat_map(|state| &state.lists).filter(|list| list.name == name) {
            self.items_of(list, &mut items)?;
        }
        Ok(items)
    }

    /// Fails if the checkpoint holds data that was in flight elsewhere than before the `inputs` of this chain: before an operator that is not at the head of its chain any more: then nobody would read it.
    pub(crate) fn check_in_flight(&self, head: Option<OperatorId>, inputs: u32) -> Result<(), TaskError> {
        let names: Vec<_> = (0..inputs).map(in_flight_list).collect();
        for state in &self.snapshot.operators {
            let lost = |list: &&ListSnapshot| {
                list.name.starts_with(IN_FLIGHT) && !(Some(state.operator) == head && names.contains(&list.name))
            };
            if let Some(list) = state.lists.iter().find(lost) {
                let message = format!(
                    "the checkpoint holds records that were in flight before operator {} (`{}`), which begins no task of this job, or has                      fewer inputs: change the job from a savepoint or from an aligned checkpoint",
                    state.operator, list.name
                );
                return Err(TaskError::failed(FailureKind::Job, message));
            }
        }
        Ok(())
    }

    fn items_of<T: Record>(&self, list: &ListSnapshot, items: &mut Vec<T>) -> Result<(), TaskError> {
        let bytes = self.read(&list.location)?;
        let convert = Conversion::to::<T>(&list.schema, &list.name)?;
        let mut rest = bytes.as_slice();
        for (index, &length) in (0u32..).zip(&list.lengths) {
            let Some((item, behind)) = rest.split_at_checked(length as usize) else {
                return Err(unreadable(format!("list `{}` ends before its item {index}", list.name)));
            };
            rest = behind;
            if list.items.contains(&index) {
                items.push(convert.value(item)?);
            }
        }
        Ok(())
    }

    fn read(&self, location: &Location) -> Result<Vec<u8>, TaskError> {
        let slice = match location {
            Location::Inline(bytes) => return Ok(bytes.clone()),
            Location::File(slice) => slice,
            Location::Sorted => {
                return Err(unreadable("state that has no files of its own is said to be in sorted files"));
            }
        };
        let bytes = self.storage.read(&slice.uri, slice.offset, slice.length).map_err(unreadable)?;
        if xxh3_64(&bytes) != slice.checksum {
            return Err(unreadable(format!(
                "{} is damaged: the checksum of its {} bytes at {} is another one than when they were written",
                slice.uri, slice.length, slice.offset
            )));
        }
        Ok(bytes)
    }
}

/// Reads values that were written with an earlier version of their type.
pub(crate) struct Conversion {
    migration: Option<weir_checkpoint::Migration>,
    name: String,
}

impl Conversion {
    /// From what was written to `T`. `name`: of the state, for messages.
    pub(crate) fn to<T: Record>(written: &Schema, name: &str) -> Result<Conversion, TaskError> {
        Conversion::between(written, &schema_of::<T>(), name)
    }

    /// From what was written to values of another schema. `name`: of the state, for messages.
    pub(crate) fn between(written: &Schema, schema: &Schema, name: &str) -> Result<Conversion, TaskError> {
        let migration = migration(written, schema).map_err(|change| {
            TaskError::failed(FailureKind::Job, format!("state `{name}` cannot be restored: {change}"))
        })?;
        Ok(Conversion { migration: (!migration.is_identity()).then_some(migration), name: name.to_owned() })
    }

    /// The bytes of one value in their present form, perhaps in `converted`.
    pub(crate) fn bytes<'b>(&self, written: &'b [u8], converted: &'b mut Vec<u8>) -> Result<&'b [u8], TaskError> {
        let Some(migration) = &self.migration else { return Ok(written) };
        converted.clear();
        migration.apply(written, converted).map_err(|error| self.damaged(&error))?;
        Ok(converted)
    }

    /// Reads one value.
    pub(crate) fn value<T: Record>(&self, bytes: &[u8]) -> Result<T, TaskError> {
        let mut converted = Vec::new();
        let bytes = self.bytes(bytes, &mut converted)?;
        let mut value = T::decode(&mut Decoder::new(bytes)).map_err(|error| self.damaged(&error))?;
        value.detach();
        Ok(value)
    }

    fn damaged(&self, error: &dyn std::fmt::Display) -> TaskError {
        unreadable(format!("a value of `{}`: {error}", self.name))
    }
}
