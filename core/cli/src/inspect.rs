//! `weir savepoint inspect`: what is in a savepoint or checkpoint, without any cluster.

mod rows;
mod values;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow};
use serde_json::{Value, json};
use weir_checkpoint::{
    CheckpointMetadata, Column, ListSnapshot, METADATA_FILE, OperatorMetadata, Redistribution, Schema, TableSnapshot,
};

use crate::arguments::{InspectArgs, OutputFormat};
use crate::failure::{self, usage};
use crate::text;

pub(crate) fn inspect(arguments: &InspectArgs) -> anyhow::Result<u8> {
    let (folder, metadata) = load(&arguments.path)?;
    match (&arguments.keys, arguments.output) {
        (Some(state), OutputFormat::Text) => print_keys(&metadata, state)?,
        (Some(state), OutputFormat::Json) => {
            let mut keys = Vec::new();
            rows::keys(&metadata, state, |operator, group, key| {
                keys.push(json!({ "operator": operator.id.to_string(), "key_group": group, "key": key }));
                Ok(())
            })?;
            text::print(&format!("{}\n", Value::Array(keys)))?;
        }
        (None, OutputFormat::Text) => text::print(&page(&folder, &metadata))?,
        (None, OutputFormat::Json) => text::print(&format!("{}\n", describe(&folder, &metadata)))?,
    }
    Ok(failure::OK)
}

/// One line a key; nothing that grows with their number is kept in memory.
fn print_keys(metadata: &CheckpointMetadata, state: &str) -> anyhow::Result<()> {
    let mut lines = String::new();
    rows::keys(metadata, state, |_, _, key| {
        lines.push_str(&format!("{key}\n"));
        if lines.len() > 1 << 16 {
            text::print(&lines)?;
            lines.clear();
        }
        Ok(())
    })?;
    text::print(&lines)
}

/// The folder and the metadata in it. `named`: the folder or the file, as a path or as `file://`.
fn load(named: &str) -> anyhow::Result<(PathBuf, CheckpointMetadata)> {
    let path = match named.split_once("://") {
        Some(("file", path)) if path.starts_with('/') => PathBuf::from(path),
        Some((scheme, _)) => {
            return Err(usage(format!(
                "{named} is on {scheme}://, and only files of this machine can be looked into: copy the folder here first"
            )));
        }
        None => PathBuf::from(named),
    };
    let folder = match path.file_name() {
        Some(name) if name == METADATA_FILE => path.parent().unwrap_or(Path::new(".")).to_owned(),
        _ => path,
    };
    let folder = std::path::absolute(&folder).with_context(|| format!("{} is no path", folder.display()))?;
    let file = folder.join(METADATA_FILE);
    let bytes = fs::read(&file).map_err(|error| {
        anyhow!(
            "{} cannot be read: {error}; name the folder of a savepoint (savepoint-…) or checkpoint (chk-…), in which there is a file {METADATA_FILE}",
            file.display()
        )
    })?;
    let uri = format!("file://{}", folder.display());
    let metadata = CheckpointMetadata::decode(&bytes, &uri)
        .map_err(|error| anyhow!("{} cannot be read as the metadata of a checkpoint: {error}", file.display()))?;
    Ok((folder, metadata))
}

/// One state of an operator, over all its subtasks.
struct Table<'m> {
    key: &'m Schema,
    columns: &'m [Column],
    rows: u64,
    groups: usize,
    bytes: u64,
}

/// The tables of an operator by name.
fn tables(operator: &OperatorMetadata) -> BTreeMap<&str, Table<'_>> {
    let mut tables: BTreeMap<&str, Table<'_>> = BTreeMap::new();
    for snapshot in operator.subtasks.iter().flat_map(|subtask| &subtask.tables) {
        let TableSnapshot { name, key, columns, groups, .. } = snapshot;
        let table = tables.entry(name).or_insert(Table { key, columns, rows: 0, groups: 0, bytes: 0 });
        table.rows += groups.iter().map(|group| group.rows).sum::<u64>();
        table.groups += groups.len();
        table.bytes += snapshot.size();
    }
    tables
}

struct List<'m> {
    schema: &'m Schema,
    redistribution: Redistribution,
    items: usize,
    bytes: u64,
}

/// The lists of an operator by name.
fn lists(operator: &OperatorMetadata) -> BTreeMap<&str, List<'_>> {
    let mut lists: BTreeMap<&str, List<'_>> = BTreeMap::new();
    for snapshot in operator.subtasks.iter().flat_map(|subtask| &subtask.lists) {
        let ListSnapshot { name, schema, redistribution, items, location, .. } = snapshot;
        let list = lists.entry(name).or_insert(List { schema, redistribution: *redistribution, items: 0, bytes: 0 });
        list.items += items.len();
        list.bytes += location.length();
    }
    lists
}

/// A schema with the fields or variants of its outermost type.
fn layout(schema: &Schema) -> String {
    let fields = |fields: &[weir_checkpoint::Field]| {
        let fields = fields.iter().map(|field| format!("{}: {}", field.name, field.schema));
        fields.collect::<Vec<_>>().join(", ")
    };
    match schema {
        Schema::Struct { fields: own, .. } if !own.is_empty() => format!("{schema} {{ {} }}", fields(own)),
        Schema::Enum { variants, .. } => {
            let variants = variants.iter().map(|variant| match variant.fields.as_slice() {
                [] => variant.name.clone(),
                own => format!("{} {{ {} }}", variant.name, fields(own)),
            });
            format!("{schema} {{ {} }}", variants.collect::<Vec<_>>().join(", "))
        }
        other => other.to_string(),
    }
}

fn page(folder: &Path, metadata: &CheckpointMetadata) -> String {
    let (file, size) = (folder.join(METADATA_FILE), text::bytes(metadata.state_size()));
    let place = match metadata.files().len() {
        0 => format!("{size} of state, all of it in {}", file.display()),
        files => format!("{size} of state in {} and {}", many(files as u64, "file"), file.display()),
    };
    let mut page = format!(
        "{} {} of job {} ({})\ntaken at {}\n{place}\n",
        metadata.kind.name(),
        metadata.checkpoint,
        metadata.job_name,
        metadata.job,
        text::utc(metadata.timestamp),
    );
    let outside = outside(folder, metadata) as u64;
    if outside > 0 {
        let files = many(outside, "file");
        page.push_str(&format!("{files} outside of its folder: it cannot be moved without them\n"));
    }
    let mut stateless = Vec::new();
    for operator in &metadata.operators {
        let states = states(operator, metadata);
        if states.is_empty() {
            stateless.push(operator);
            continue;
        }
        page.push_str(&format!(
            "\n{}: parallelism {}, max parallelism {}, {}\n{states}",
            operator.label(),
            operator.parallelism,
            operator.max_parallelism,
            text::bytes(operator.state_size()),
        ));
    }
    if !stateless.is_empty() {
        page.push_str("\nwithout state:\n");
        stateless.iter().for_each(|operator| page.push_str(&format!("  {}\n", operator.label())));
    }
    page
}

/// So many of something, in words.
fn many(count: u64, what: &str) -> String {
    if count == 1 { format!("1 {what}") } else { format!("{count} {what}s") }
}

/// What there is of an operator; nothing if it has no state.
fn states(operator: &OperatorMetadata, metadata: &CheckpointMetadata) -> String {
    let mut page = String::new();
    if !operator.finished.is_empty() {
        page.push_str(&format!("  {} had finished\n", many(operator.finished.len() as u64, "subtask")));
    }
    for (name, table) in tables(operator) {
        page.push_str(&format!(
            "  table {name}: {} in {}, {}, by {}\n",
            many(table.rows, "row"),
            many(table.groups as u64, "key group"),
            text::bytes(table.bytes),
            layout(table.key),
        ));
        let rows = table.columns.iter();
        let rows = rows.map(|column| {
            vec!["   ".to_owned(), column.name.clone(), column.kind.name().to_owned(), layout(&column.schema)]
        });
        page.push_str(&text::table(&rows.collect::<Vec<_>>()));
    }
    for (name, list) in lists(operator) {
        page.push_str(&format!(
            "  list {name} ({}): {}, {}, of {}\n",
            list.redistribution.name(),
            many(list.items as u64, "item"),
            text::bytes(list.bytes),
            layout(list.schema),
        ));
    }
    for (_, state) in metadata.enumerators.iter().filter(|(of, _)| *of == operator.id) {
        page.push_str(&format!("  split enumerator: {}\n", text::bytes(state.len() as u64)));
    }
    for (_, payloads) in metadata.committables.iter().filter(|(of, _)| *of == operator.id) {
        let outputs = many(payloads.len() as u64, "output");
        page.push_str(&format!("  {outputs} to be committed after a restore\n"));
    }
    page
}

/// How many files are elsewhere.
fn outside(folder: &Path, metadata: &CheckpointMetadata) -> usize {
    let files = metadata.files();
    files.iter().filter(|uri| rows::path_of(uri).is_none_or(|path| !path.starts_with(folder))).count()
}

fn describe(folder: &Path, metadata: &CheckpointMetadata) -> Value {
    let operators = metadata.operators.iter().map(|operator| {
        let of = |id| id == operator.id;
        let tables = tables(operator).into_iter().map(|(name, table)| {
            let columns = table.columns.iter().map(
                |column| json!({ "name": column.name, "kind": column.kind.name(), "schema": layout(&column.schema) }),
            );
            json!({
                "name": name, "key": layout(table.key), "states": columns.collect::<Vec<_>>(), "rows": table.rows,
                "key_groups": table.groups, "bytes": table.bytes,
            })
        });
        let lists = lists(operator).into_iter().map(|(name, list)| {
            json!({
                "name": name, "schema": layout(list.schema), "redistribution": list.redistribution.name(),
                "items": list.items, "bytes": list.bytes,
            })
        });
        json!({
            "id": operator.id.to_string(),
            "name": operator.name,
            "uid": operator.uid,
            "parallelism": operator.parallelism,
            "max_parallelism": operator.max_parallelism,
            "finished_subtasks": operator.finished,
            "bytes": operator.state_size(),
            "tables": tables.collect::<Vec<_>>(),
            "lists": lists.collect::<Vec<_>>(),
            "enumerator_bytes": metadata.enumerators.iter().find(|(id, _)| of(*id)).map(|(_, state)| state.len()),
            "committables": metadata.committables.iter().find(|(id, _)| of(*id)).map_or(0, |(_, list)| list.len()),
        })
    });
    json!({
        "kind": metadata.kind.name(),
        "id": metadata.checkpoint,
        "job_id": metadata.job.to_string(),
        "job": metadata.job_name,
        "timestamp": metadata.timestamp,
        "path": folder,
        "bytes": metadata.state_size(),
        "files": metadata.files().into_iter().collect::<Vec<_>>().iter().map(|uri| uri.as_ref()).collect::<Vec<&str>>(),
        "relocatable": outside(folder, metadata) == 0,
        "operators": operators.collect::<Vec<_>>(),
    })
}
