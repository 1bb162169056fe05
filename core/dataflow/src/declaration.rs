//! What state operators say they have, before any of them runs.

use weir_checkpoint::{ListDeclaration, Redistribution, TableDeclaration};

use crate::record::Record;
use crate::snapshot::schema_of;

/// The state of one operator, as it would be in a checkpoint.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OperatorState {
    /// State by key.
    pub tables: Vec<TableDeclaration>,
    /// State of subtasks.
    pub lists: Vec<ListDeclaration>,
}

impl OperatorState {
    /// Adds a list of items of type `T`.
    pub fn list<T: Record>(&mut self, name: &str, redistribution: Redistribution) {
        self.lists.push(ListDeclaration { name: name.to_owned(), schema: schema_of::<T>(), redistribution });
    }
}

/// The state of the operators of a chain, by their nodes in the StreamGraph; those without state may be left out.
pub type ChainState = Vec<(u32, OperatorState)>;
