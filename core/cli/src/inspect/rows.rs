//! The rows of tables in a checkpoint.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use anyhow::{anyhow, bail};
use serde_json::Value;
use weir_checkpoint::{CheckpointMetadata, FileSlice, GroupSlice, Location, OperatorMetadata, TableSnapshot};
use xxhash_rust::xxh3::xxh3_64;

use super::values;
use crate::failure::usage;

/// Calls `each` with every key that has the state: one of a table of this name, or one with a value in a column of this name. The error of
/// `each` ends it.
pub(super) fn keys(
    metadata: &CheckpointMetadata,
    state: &str,
    mut each: impl FnMut(&OperatorMetadata, u32, Value) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let mut found = false;
    for operator in &metadata.operators {
        for table in operator.subtasks.iter().flat_map(|subtask| &subtask.tables) {
            let column = table.columns.iter().position(|column| column.name == state);
            if column.is_none() && table.name != state {
                continue;
            }
            found = true;
            for group in &table.groups {
                let bytes = read(&group.location)?;
                let context =
                    || format!("key group {} of table {} of {} is damaged", group.group, table.name, operator.label());
                let keys = in_group(table, group, column, &bytes).ok_or_else(|| anyhow!(context()))?;
                for key in keys {
                    each(operator, group.group, values::read(&table.key, key))?;
                }
            }
        }
    }
    if found { Ok(()) } else { Err(unknown(metadata, state)) }
}

/// The keys of a group that have a value in the column, or all; `None` if the bytes are no rows.
fn in_group<'b>(
    table: &TableSnapshot,
    group: &GroupSlice,
    column: Option<usize>,
    mut bytes: &'b [u8],
) -> Option<Vec<&'b [u8]>> {
    let mut keys = Vec::new();
    for _ in 0..group.rows {
        let length = take_length(&mut bytes)?;
        let key = take(&mut bytes, length)?;
        let mut wanted = column.is_none();
        for index in 0..table.columns.len() {
            if let Some(length) = take_length(&mut bytes)?.checked_sub(1) {
                take(&mut bytes, length)?;
                wanted |= column == Some(index);
            }
        }
        keys.extend(wanted.then_some(key));
    }
    bytes.is_empty().then_some(keys)
}

fn take<'b>(bytes: &mut &'b [u8], length: usize) -> Option<&'b [u8]> {
    let (taken, rest) = bytes.split_at_checked(length)?;
    *bytes = rest;
    Some(taken)
}

fn take_length(bytes: &mut &[u8]) -> Option<usize> {
    let (length, rest) = bytes.split_first_chunk()?;
    *bytes = rest;
    Some(u32::from_le_bytes(*length) as usize)
}

/// The file of this machine that a URI names.
pub(super) fn path_of(uri: &str) -> Option<PathBuf> {
    uri.strip_prefix("file://").filter(|path| path.starts_with('/')).map(PathBuf::from)
}

fn read(location: &Location) -> anyhow::Result<Vec<u8>> {
    let FileSlice { uri, offset, length, checksum } = match location {
        Location::Inline(bytes) => return Ok(bytes.clone()),
        Location::File(slice) => slice,
        Location::Sorted => bail!(
            "the rows of the table lie in the files of the backend `lsm`, whose keys cannot be listed: take a savepoint of the job, and look at that"
        ),
    };
    let path = path_of(uri).ok_or_else(|| anyhow!("{uri} is not on this machine: copy the state here first"))?;
    let file = File::open(&path);
    let file = file.map_err(|error| anyhow!("a file of the state cannot be read: {}: {error}", path.display()))?;
    // Before memory is taken for it.
    let found = file.metadata().map(|metadata| metadata.len()).unwrap_or(0);
    if offset.checked_add(*length).is_none_or(|end| end > found) {
        bail!("{} has {found} bytes, and {length} from {offset} on were expected: the file was cut", path.display());
    }
    let mut bytes = vec![0; *length as usize];
    let read = file.read_exact_at(&mut bytes, *offset);
    read.map_err(|error| anyhow!("a file of the state cannot be read: {}: {error}", path.display()))?;
    let found = xxh3_64(&bytes);
    if found != *checksum {
        bail!(
            "{} is damaged: the checksum of {length} bytes from {offset} on is {found:016x} and should be {checksum:016x}",
            path.display()
        );
    }
    Ok(bytes)
}

fn unknown(metadata: &CheckpointMetadata, state: &str) -> anyhow::Error {
    let tables = metadata.operators.iter().flat_map(|operator| &operator.subtasks).flat_map(|subtask| &subtask.tables);
    let mut names: Vec<&str> = tables
        .flat_map(|table| table.columns.iter().map(|column| column.name.as_str()).chain([table.name.as_str()]))
        .collect();
    names.sort_unstable();
    names.dedup();
    match names.as_slice() {
        [] => usage(format!("there is no state {state:?}: nothing in it is kept by key")),
        names => usage(format!("there is no state {state:?} by key; it has: {}", names.join(", "))),
    }
}
