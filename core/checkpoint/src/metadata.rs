//! What the metadata of a complete checkpoint says: everything there is to restore the job.

use std::collections::BTreeSet;
use std::sync::Arc;

use weir_model::{CheckpointKind, JobId, OperatorId};

use crate::snapshot::{files_of, size_of};
use crate::{ListSnapshot, TableSnapshot};

/// The content of `_metadata`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckpointMetadata {
    /// The job it was taken of.
    pub job: JobId,
    /// Its name.
    pub job_name: String,
    /// The checkpoint's number.
    pub checkpoint: u64,
    /// When it was triggered: milliseconds since 1970-01-01 UTC.
    pub timestamp: i64,
    /// What it was taken for.
    pub kind: CheckpointKind,
    /// State of the split enumerators, by the id of the source.
    pub enumerators: Vec<(OperatorId, Vec<u8>)>,
    /// Output that is part of the checkpoint and was perhaps not visible yet when it was written, by the id of the sink: to be made
    /// visible before anything is processed after a restore.
    pub committables: Vec<(OperatorId, Vec<Vec<u8>>)>,
    /// All operators of the job, in the order of its graph.
    pub operators: Vec<OperatorMetadata>,
}

/// The state of an operator, of all its subtasks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OperatorMetadata {
    /// The operator.
    pub id: OperatorId,
    /// Its name, for messages.
    pub name: String,
    /// The author's name for its state.
    pub uid: Option<String>,
    /// Number of subtasks.
    pub parallelism: u32,
    /// Number of key groups.
    pub max_parallelism: u32,
    /// Subtasks that had finished, ascending.
    pub finished: Vec<u32>,
    /// By subtask, ascending; those without state are left out.
    pub subtasks: Vec<SubtaskState>,
}

/// The state of one subtask of an operator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubtaskState {
    /// Index of the subtask.
    pub subtask: u32,
    /// State by key.
    pub tables: Vec<TableSnapshot>,
    /// State that belongs to the subtask.
    pub lists: Vec<ListSnapshot>,
}

impl CheckpointMetadata {
    /// URIs of all files it refers to.
    pub fn files(&self) -> BTreeSet<Arc<str>> {
        let subtasks = self.operators.iter().flat_map(|operator| &operator.subtasks);
        subtasks.flat_map(|subtask| files_of(&subtask.tables, &subtask.lists)).cloned().collect()
    }

    /// Bytes of state.
    pub fn state_size(&self) -> u64 {
        self.operators.iter().map(OperatorMetadata::state_size).sum()
    }
}

impl OperatorMetadata {
    /// Bytes of its state.
    pub fn state_size(&self) -> u64 {
        self.subtasks.iter().map(SubtaskState::size).sum()
    }

    /// The operator as people know it: its name and uid.
    pub fn label(&self) -> String {
        operator_label(&self.name, self.uid.as_deref(), self.id)
    }
}

impl SubtaskState {
    /// Bytes of its state.
    pub fn size(&self) -> u64 {
        size_of(&self.tables, &self.lists)
    }
}

/// An operator as people know it.
pub(crate) fn operator_label(name: &str, uid: Option<&str>, id: OperatorId) -> String {
    match uid {
        Some(uid) => format!("operator `{name}` (uid `{uid}`)"),
        None => format!("operator `{name}` (without a uid; id {id})"),
    }
}
