use std::path::Path;
use std::sync::Arc;

use serde_json::json;
use weir_checkpoint::{
    CheckpointMetadata, Column, Field, FileSlice, GroupSlice, ListSnapshot, Location, OperatorMetadata, Redistribution,
    Schema, StateKind, SubtaskState, TableSnapshot,
};
use weir_model::{CheckpointKind, JobId, OperatorId};
use xxhash_rust::xxh3::xxh3_64;

use crate::support::call;

/// A row with a text as its key and two columns.
fn row(key: &str, columns: [Option<&[u8]>; 2]) -> Vec<u8> {
    let key = [&(key.len() as u32).to_le_bytes(), key.as_bytes()].concat();
    let mut row = [&(key.len() as u32).to_le_bytes(), key.as_slice()].concat();
    for value in columns {
        row.extend(value.map_or(0, |value| value.len() as u32 + 1).to_le_bytes());
        row.extend(value.unwrap_or_default());
    }
    row
}

fn operator(name: &str, subtasks: Vec<SubtaskState>) -> OperatorMetadata {
    let uid = name.to_lowercase();
    OperatorMetadata {
        id: OperatorId::from_seed(uid.as_bytes()),
        name: name.to_owned(),
        uid: Some(uid),
        parallelism: 1,
        max_parallelism: 128,
        finished: Vec::new(),
        subtasks,
    }
}

/// A savepoint in `folder`, of an operator without state and one with it: a table with rows inline and in a file, and a list.
fn write(folder: &Path) {
    let count = 7u64.to_le_bytes();
    let inline = [row("apple", [Some(&count), None]), row("pear", [Some(&count), Some(&[1])])].concat();
    let in_file = row("plum", [None, Some(&[1])]);
    std::fs::write(folder.join("state"), &in_file).unwrap();
    let slice = FileSlice {
        uri: Arc::from(format!("file://{}/state", folder.display())),
        offset: 0,
        length: in_file.len() as u64,
        checksum: xxh3_64(&in_file),
    };
    let field = |name: &str, schema| Field { name: name.to_owned(), former_names: Vec::new(), schema, default: None };
    let seen = Schema::Struct { name: "Seen".to_owned(), fields: vec![field("ripe", Schema::Bool)] };
    let column = |name: &str, schema| Column { name: name.to_owned(), kind: StateKind::Value, schema };
    let table = TableSnapshot {
        name: "keyed".to_owned(),
        key: Schema::Text,
        columns: vec![column("count", Schema::Unsigned(64)), column("seen", seen)],
        max_parallelism: 128,
        groups: vec![
            GroupSlice { group: 3, rows: 2, location: Location::Inline(inline) },
            GroupSlice { group: 90, rows: 1, location: Location::File(slice) },
        ],
        files: Vec::new(),
    };
    let list = ListSnapshot {
        name: "offsets".to_owned(),
        schema: Schema::Unsigned(64),
        redistribution: Redistribution::Split,
        lengths: vec![8],
        location: Location::Inline(vec![0; 8]),
        items: 0..1,
    };
    let metadata = CheckpointMetadata {
        job: JobId::from_bytes([0xab; 16]),
        job_name: "fruit".to_owned(),
        checkpoint: 4,
        timestamp: 1_795_465_075_000,
        kind: CheckpointKind::Savepoint,
        enumerators: Vec::new(),
        committables: vec![(OperatorId::from_seed(b"tally"), vec![vec![1], vec![2]])],
        operators: vec![
            operator("Tally", vec![SubtaskState { subtask: 0, tables: vec![table], lists: vec![list] }]),
            operator("Out", Vec::new()),
        ],
    };
    let bytes = metadata.encode(&format!("file://{}", folder.display()));
    std::fs::write(folder.join("_metadata"), bytes).unwrap();
}

#[test]
fn a_savepoint_is_looked_into_without_a_cluster() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path());
    let path = folder.path().to_str().unwrap();
    let file = format!("{path}/_metadata");
    let uri = format!("file://{path}");
    for named in [path, &file, &uri] {
        call(&["savepoint", "inspect", named])
            .expect(0)
            .stdout_has(
                "savepoint 4 of job fruit (abababababababababababababababab)\ntaken at 2026-11-23 20:17:55 UTC\n",
            )
            .stdout_has("operator `Tally` (uid `tally`): parallelism 1, max parallelism 128, ")
            .stdout_has("  table keyed: 3 rows in 2 key groups, ")
            .stdout_has("by text\n")
            .stdout_has("count  value  u64\n")
            .stdout_has("seen   value  struct Seen { ripe: bool }\n")
            .stdout_has("  list offsets (split): 1 item, 8 B, of u64\n")
            .stdout_has("  2 outputs to be committed after a restore\n")
            .stdout_has("\nwithout state:\n  operator `Out` (uid `out`)\n")
            .stdout_has(" B of state in 1 file and ");
    }
    let json = call(&["savepoint", "inspect", path, "--output", "json"]).expect(0).last_line_as_json();
    assert_eq!((&json["kind"], &json["id"], &json["job"]), (&json!("savepoint"), &json!(4), &json!("fruit")));
    assert_eq!(json["relocatable"], json!(true));
    let table = &json["operators"][0]["tables"][0];
    assert_eq!((&table["name"], &table["rows"], &table["key_groups"]), (&json!("keyed"), &json!(3), &json!(2)));
    assert_eq!(table["states"][1], json!({"name": "seen", "kind": "value", "schema": "struct Seen { ripe: bool }"}));
}

#[test]
fn keys_are_printed_by_their_schema() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path());
    let path = folder.path().to_str().unwrap();
    let keys = |state: &str| call(&["savepoint", "inspect", path, "--keys", state]).expect(0).stdout;
    assert_eq!(keys("keyed"), "\"apple\"\n\"pear\"\n\"plum\"\n");
    assert_eq!(keys("count"), "\"apple\"\n\"pear\"\n");
    assert_eq!(keys("seen"), "\"pear\"\n\"plum\"\n");
    let json =
        call(&["savepoint", "inspect", path, "--keys", "seen", "--output", "json"]).expect(0).last_line_as_json();
    assert_eq!((&json[0]["key"], &json[0]["key_group"], &json[1]["key"]), (&json!("pear"), &json!(3), &json!("plum")));
    call(&["savepoint", "inspect", path, "--keys", "other"]).expect(2).stderr_has("it has: count, keyed, seen");
}

#[test]
fn a_savepoint_can_be_looked_into_after_it_was_moved() {
    let folder = tempfile::tempdir().unwrap();
    let (old, new) = (folder.path().join("old"), folder.path().join("new"));
    std::fs::create_dir(&old).unwrap();
    write(&old);
    std::fs::rename(&old, &new).unwrap();
    let keys = call(&["savepoint", "inspect", new.to_str().unwrap(), "--keys", "keyed"]).expect(0).stdout;
    assert_eq!(keys, "\"apple\"\n\"pear\"\n\"plum\"\n");
}

#[test]
fn what_is_damaged_or_no_savepoint_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_str().unwrap();
    call(&["savepoint", "inspect", path]).expect(1).stderr_has("name the folder of a savepoint");
    call(&["savepoint", "inspect", "hdfs://names/s"]).expect(2).stderr_has("copy the folder here first");
    write(folder.path());
    let state = folder.path().join("state");
    let mut bytes = std::fs::read(&state).unwrap();
    bytes[6] ^= 1;
    std::fs::write(&state, &bytes).unwrap();
    call(&["savepoint", "inspect", path, "--keys", "keyed"]).expect(1).stderr_has("is damaged: the checksum");
    std::fs::write(&state, &bytes[..4]).unwrap();
    call(&["savepoint", "inspect", path, "--keys", "keyed"]).expect(1).stderr_has("the file was cut");
    std::fs::remove_file(&state).unwrap();
    call(&["savepoint", "inspect", path, "--keys", "keyed"]).expect(1).stderr_has("cannot be read");
    std::fs::write(folder.path().join("_metadata"), "WEIRCHKP").unwrap();
    call(&["savepoint", "inspect", path]).expect(1).stderr_has("as the metadata of a checkpoint");
}
