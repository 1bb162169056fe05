//! Snapshots as bytes.
//!
//! Schemas and URIs occur again and again, so each is written once, before everything else, and referred to by its position.

use std::sync::Arc;

use weir_model::OperatorId;

use super::{DecodeError, Interned, Reader, Writer, read_schema, write_schema};
use crate::uri::{join, relative};
use crate::{
    Column, FileSlice, GroupSlice, ListSnapshot, Location, OperatorSnapshot, Redistribution, Schema, SortedFile,
    StateKind, TableSnapshot, TaskSnapshot,
};

/// The format of a task's snapshot as it travels. Both sides are of one release, so there is one.
const VERSION: u8 = 1;

/// What occurs often.
#[derive(Debug)]
pub(super) struct Shared<'a> {
    schemas: Interned<'a, Schema>,
    uris: Interned<'a, str>,
}

impl<'a> Shared<'a> {
    pub(super) fn new() -> Self {
        Self { schemas: Interned::new(), uris: Interned::new() }
    }

    /// URIs in `directory` are written relative to it.
    pub(super) fn write(&self, directory: Option<&str>, out: &mut Writer) {
        out.list(self.schemas.values(), |out, schema| write_schema(schema, out));
        out.list(self.uris.values(), |out, uri| {
            let inside = directory.and_then(|directory| relative(uri, directory));
            out.byte(u8::from(inside.is_some()));
            out.text(inside.unwrap_or(uri));
        });
    }
}

/// What occurs often, as read.
#[derive(Debug)]
pub(super) struct Known {
    schemas: Vec<Schema>,
    uris: Vec<Arc<str>>,
}

impl Known {
    pub(super) fn read(directory: Option<&str>, reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let schemas = reader.list("schemas", read_schema)?;
        let uris = reader.list("names of files", |reader| {
            let inside = reader.flag("name of a file")?;
            let text = reader.text("name of a file")?;
            match (inside, directory) {
                (false, _) => Ok(Arc::from(text)),
                // Nothing outside the folder can be meant.
                (true, Some(directory)) if text.split('/').all(|part| part != "..") => Ok(join(directory, text).into()),
                (true, _) => Err(reader.invalid("name of a file", text.len())),
            }
        })?;
        Ok(Self { schemas, uris })
    }

    fn schema(&self, reader: &mut Reader<'_>) -> Result<Schema, DecodeError> {
        let position = reader.number("schema of state")?;
        self.schemas.get(position as usize).cloned().ok_or_else(|| reader.invalid("schema of state", 1))
    }

    fn uri(&self, reader: &mut Reader<'_>) -> Result<Arc<str>, DecodeError> {
        let position = reader.number("file of state")?;
        self.uris.get(position as usize).cloned().ok_or_else(|| reader.invalid("file of state", 1))
    }
}

impl TaskSnapshot {
    /// As bytes, for [`Self::decode`] of the same release.
    pub fn encode(&self) -> Vec<u8> {
        let mut shared = Shared::new();
        let mut body = Writer::default();
        body.byte(u8::from(self.finished));
        body.count(self.operators.len());
        for operator in &self.operators {
            body.raw(operator.operator.as_bytes());
            write_tables(&operator.tables, &mut shared, &mut body);
            write_lists(&operator.lists, &mut shared, &mut body);
        }
        let mut out = Writer::default();
        out.byte(VERSION);
        shared.write(None, &mut out);
        out.raw(&body.into_bytes());
        out.into_bytes()
    }

    /// The inverse of [`Self::encode`]. Any other bytes are an error.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        if reader.byte("version")? != VERSION {
            return Err(reader.invalid("version", 1));
        }
        let known = Known::read(None, &mut reader)?;
        let finished = reader.flag("end of the task")?;
        let operators = reader.list("operators", |reader| {
            Ok(OperatorSnapshot {
                operator: OperatorId::from_bytes(reader.fixed("id of an operator")?),
                tables: read_tables(&known, reader)?,
                lists: read_lists(&known, reader)?,
            })
        })?;
        reader.end()?;
        Ok(Self { operators, finished })
    }
}

pub(super) fn write_tables<'a>(tables: &'a [TableSnapshot], shared: &mut Shared<'a>, out: &mut Writer) {
    out.count(tables.len());
    for table in tables {
        out.text(&table.name);
        out.number(shared.schemas.position(&table.key));
        out.count(table.columns.len());
        for column in &table.columns {
            out.text(&column.name);
            out.byte(column.kind.tag());
            out.number(shared.schemas.position(&column.schema));
        }
        out.number(u64::from(table.max_parallelism));
        out.count(table.groups.len());
        for group in &table.groups {
            out.number(u64::from(group.group));
            out.number(group.rows);
            write_location(&group.location, shared, out);
        }
        out.count(table.files.len());
        for SortedFile { slice, first_group, last_group } in &table.files {
            write_slice(slice, shared, out);
            out.number(u64::from(*first_group));
            out.number(u64::from(*last_group));
        }
    }
}

pub(super) fn read_tables(known: &Known, reader: &mut Reader<'_>) -> Result<Vec<TableSnapshot>, DecodeError> {
    reader.list("tables", |reader| {
        Ok(TableSnapshot {
            name: reader.text("name of a table")?.to_owned(),
            key: known.schema(reader)?,
            columns: reader.list("columns", |reader| {
                Ok(Column {
                    name: reader.text("name of a state")?.to_owned(),
                    kind: read_kind(reader)?,
                    schema: known.schema(reader)?,
                })
            })?,
            max_parallelism: reader.small("max-parallelism")?,
            groups: reader.list("key groups", |reader| {
                Ok(GroupSlice {
                    group: reader.small("key group")?,
                    rows: reader.number("number of rows")?,
                    location: read_location(known, reader)?,
                })
            })?,
            files: reader.list("sorted files", |reader| {
                Ok(SortedFile {
                    slice: read_slice(known, reader)?,
                    first_group: reader.small("first key group of a file")?,
                    last_group: reader.small("last key group of a file")?,
                })
            })?,
        })
    })
}

pub(super) fn write_lists<'a>(lists: &'a [ListSnapshot], shared: &mut Shared<'a>, out: &mut Writer) {
    out.count(lists.len());
    for list in lists {
        out.text(&list.name);
        out.number(shared.schemas.position(&list.schema));
        out.byte(list.redistribution.tag());
        out.list(&list.lengths, |out, &length| out.number(u64::from(length)));
        write_location(&list.location, shared, out);
        out.number(u64::from(list.items.start));
        out.number(u64::from(list.items.end));
    }
}

pub(super) fn read_lists(known: &Known, reader: &mut Reader<'_>) -> Result<Vec<ListSnapshot>, DecodeError> {
    reader.list("lists", |reader| {
        Ok(ListSnapshot {
            name: reader.text("name of a list")?.to_owned(),
            schema: known.schema(reader)?,
            redistribution: read_redistribution(reader)?,
            lengths: reader.list("items of a list", |reader| reader.small("length of an item"))?,
            location: match read_location(known, reader)? {
                Location::Sorted => return Err(reader.invalid("place of a list", 1)),
                location => location,
            },
            items: reader.small("first item of a list")?..reader.small("last item of a list")?,
        })
    })
}

fn write_location<'a>(location: &'a Location, shared: &mut Shared<'a>, out: &mut Writer) {
    match location {
        Location::Inline(bytes) => {
            out.byte(0);
            out.bytes(bytes);
        }
        Location::File(slice) => {
            out.byte(1);
            write_slice(slice, shared, out);
        }
        Location::Sorted => out.byte(2),
    }
}

fn write_slice<'a>(slice: &'a FileSlice, shared: &mut Shared<'a>, out: &mut Writer) {
    out.number(shared.uris.position(&slice.uri));
    out.number(slice.offset);
    out.number(slice.length);
    out.raw(&slice.checksum.to_le_bytes());
}

fn read_slice(known: &Known, reader: &mut Reader<'_>) -> Result<FileSlice, DecodeError> {
    Ok(FileSlice {
        uri: known.uri(reader)?,
        offset: reader.number("place in a file")?,
        length: reader.number("length of state")?,
        checksum: u64::from_le_bytes(reader.fixed("checksum of state")?),
    })
}

fn read_location(known: &Known, reader: &mut Reader<'_>) -> Result<Location, DecodeError> {
    match reader.byte("place of state")? {
        0 => Ok(Location::Inline(reader.bytes("state")?.to_vec())),
        1 => Ok(Location::File(read_slice(known, reader)?)),
        2 => Ok(Location::Sorted),
        _ => Err(reader.invalid("place of state", 1)),
    }
}

/// Reads what [`StateKind::tag`] gave.
pub(crate) fn read_kind(reader: &mut Reader<'_>) -> Result<StateKind, DecodeError> {
    let tag = reader.byte("kind of state")?;
    StateKind::ALL.into_iter().find(|kind| kind.tag() == tag).ok_or_else(|| reader.invalid("kind of state", 1))
}

/// Reads what [`Redistribution::tag`] gave.
pub(crate) fn read_redistribution(reader: &mut Reader<'_>) -> Result<Redistribution, DecodeError> {
    let tag = reader.byte("redistribution")?;
    let found = Redistribution::ALL.into_iter().find(|redistribution| redistribution.tag() == tag);
    found.ok_or_else(|| reader.invalid("redistribution", 1))
}
