//! What tasks hand over for a checkpoint, and get back when they restore.
//!
//! State lies in tables (rows by key, grouped by key group) and in lists (items without a key). Both may be inline, when they are
//! small, or slices of files.

use std::ops::Range;
use std::sync::Arc;

use weir_model::OperatorId;

use crate::Schema;

/// The state of one task in one checkpoint; or, when it restores, the state it begins with, in which an operator may occur several
/// times, once for each old subtask whose state it gets.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TaskSnapshot {
    /// By operator, upstream first; operators without state may be left out.
    pub operators: Vec<OperatorSnapshot>,
    /// Whether the task had finished: when it restores it finishes at once.
    pub finished: bool,
}

/// The state of one operator of a task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OperatorSnapshot {
    /// The operator.
    pub operator: OperatorId,
    /// State by key.
    pub tables: Vec<TableSnapshot>,
    /// State that belongs to the subtask.
    pub lists: Vec<ListSnapshot>,
}

/// A table of rows, each with a key and a value per column, grouped by the keys' groups.
///
/// A row is the length of its key (u32, little-endian) and the encoded key; then for each column a u32, 0 for no value, otherwise the
/// length of the encoded value plus 1, and the value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableSnapshot {
    /// Unique in the operator: `keyed` for the states of a `process` function.
    pub name: String,
    /// Of the keys.
    pub key: Schema,
    /// In the order of their values in rows.
    pub columns: Vec<Column>,
    /// Number of key groups of the operator; fixed for the life of the state.
    pub max_parallelism: u32,
    /// By group, ascending; groups without rows are left out, those with many may be there more than once.
    pub groups: Vec<GroupSlice>,
    /// Where the rows of groups are whose place is [`Location::Sorted`].
    pub files: Vec<SortedFile>,
}

/// A file of a log-structured store. What it holds of a key is hidden by what newer files hold of it, so the files of a table are read
/// together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SortedFile {
    /// The whole file.
    pub slice: FileSlice,
    /// The key groups it counts for, both ends included: what it holds of others is out of date.
    pub first_group: u32,
    /// The last of them.
    pub last_group: u32,
}

/// One state of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    /// The state's name.
    pub name: String,
    /// What kind of state.
    pub kind: StateKind,
    /// Of its values.
    pub schema: Schema,
}

/// Kinds of state per key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum StateKind {
    /// One value.
    Value,
    /// A list.
    List,
    /// A map.
    Map,
    /// A value that others are folded into.
    Reducing,
    /// An accumulator that values are folded into.
    Aggregating,
    /// Something an operator keeps for itself: windows, timers.
    Internal,
}

/// The rows of one key group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupSlice {
    /// The key group.
    pub group: u32,
    /// Number of rows.
    pub rows: u64,
    /// Where they are.
    pub location: Location,
}

/// How the names of lists begin that hold records in flight, which barriers have overtaken: the number of the task's input follows. The
/// operator they belong to is the first of its task. Only the subtask that wrote such a list can do something with it.
pub const IN_FLIGHT: &str = "in-flight-";

/// Items that are no rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListSnapshot {
    /// Unique in the operator.
    pub name: String,
    /// Of the items.
    pub schema: Schema,
    /// What becomes of the items when the number of subtasks changes.
    pub redistribution: Redistribution,
    /// The length of each encoded item, in their order.
    pub lengths: Vec<u32>,
    /// Where they are, one after the other.
    pub location: Location,
    /// Which of them are meant: all in a snapshot; in what a task restores perhaps only some, because others get the rest.
    pub items: Range<u32>,
}

/// How the items of a list find their subtasks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Redistribution {
    /// Each item to one subtask, as evenly as can be; where the number of subtasks stays, to where it was.
    Split,
    /// All items of all subtasks to every subtask.
    Union,
    /// Every subtask has the same items.
    Broadcast,
}

/// Where bytes are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Location {
    /// Here.
    Inline(Vec<u8>),
    /// In a file.
    File(FileSlice),
    /// Of a key group: somewhere in the sorted files of its table.
    Sorted,
}

/// A part of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileSlice {
    /// URI of the file; shared, because many slices lie in one file.
    pub uri: Arc<str>,
    /// Where it begins.
    pub offset: u64,
    /// Bytes.
    pub length: u64,
    /// XXH3-64 of the bytes.
    pub checksum: u64,
}

impl Location {
    /// The URI of the file, if it is a part of one.
    pub(crate) fn file(&self) -> Option<&Arc<str>> {
        match self {
            Location::File(slice) => Some(&slice.uri),
            Location::Inline(_) | Location::Sorted => None,
        }
    }

    /// Bytes.
    pub fn length(&self) -> u64 {
        match self {
            Location::Inline(bytes) => bytes.len() as u64,
            Location::File(slice) => slice.length,
            Location::Sorted => 0,
        }
    }
}

impl TaskSnapshot {
    /// URIs of the files it refers to; each as often as it does.
    pub fn files(&self) -> impl Iterator<Item = &Arc<str>> {
        self.operators.iter().flat_map(|operator| files_of(&operator.tables, &operator.lists))
    }

    /// Bytes of state.
    pub fn size(&self) -> u64 {
        let operators = self.operators.iter();
        operators.map(|OperatorSnapshot { tables, lists, .. }| size_of(tables, lists)).sum()
    }
}

/// URIs of the files that the state of an operator refers to; each as often as it does.
pub(crate) fn files_of<'s>(
    tables: &'s [TableSnapshot],
    lists: &'s [ListSnapshot],
) -> impl Iterator<Item = &'s Arc<str>> {
    let groups = tables.iter().flat_map(|table| &table.groups).filter_map(|group| group.location.file());
    let sorted = tables.iter().flat_map(|table| &table.files).map(|file| &file.slice.uri);
    groups.chain(sorted).chain(lists.iter().filter_map(|list| list.location.file()))
}

/// Bytes of the state of an operator.
pub(crate) fn size_of(tables: &[TableSnapshot], lists: &[ListSnapshot]) -> u64 {
    let tables: u64 = tables.iter().map(TableSnapshot::size).sum();
    tables + lists.iter().map(|list| list.location.length()).sum::<u64>()
}

impl TableSnapshot {
    /// Bytes of its rows; of sorted files all that is in them.
    pub fn size(&self) -> u64 {
        let groups: u64 = self.groups.iter().map(|group| group.location.length()).sum();
        groups + self.files.iter().map(|file| file.slice.length).sum::<u64>()
    }
}

impl StateKind {
    /// All kinds, in the order of their declaration.
    pub const ALL: [StateKind; 6] = [
        StateKind::Value,
        StateKind::List,
        StateKind::Map,
        StateKind::Reducing,
        StateKind::Aggregating,
        StateKind::Internal,
    ];

    /// A lower-case word for messages.
    pub const fn name(self) -> &'static str {
        match self {
            StateKind::Value => "value",
            StateKind::List => "list",
            StateKind::Map => "map",
            StateKind::Reducing => "reducing",
            StateKind::Aggregating => "aggregating",
            StateKind::Internal => "internal",
        }
    }

    /// As written.
    pub(crate) const fn tag(self) -> u8 {
        match self {
            StateKind::Value => 0,
            StateKind::List => 1,
            StateKind::Map => 2,
            StateKind::Reducing => 3,
            StateKind::Aggregating => 4,
            StateKind::Internal => 5,
        }
    }
}

impl Redistribution {
    /// All ways, in the order of their declaration.
    pub const ALL: [Redistribution; 3] = [Redistribution::Split, Redistribution::Union, Redistribution::Broadcast];

    /// A lower-case word for messages.
    pub const fn name(self) -> &'static str {
        match self {
            Redistribution::Split => "split",
            Redistribution::Union => "union",
            Redistribution::Broadcast => "broadcast",
        }
    }

    /// As written.
    pub(crate) const fn tag(self) -> u8 {
        match self {
            Redistribution::Split => 0,
            Redistribution::Union => 1,
            Redistribution::Broadcast => 2,
        }
    }
}
