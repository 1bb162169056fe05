use proptest::collection::vec;
use proptest::prelude::*;
use weir_model::{CheckpointKind, JobId, OperatorId};

use super::*;
use crate::{
    CheckpointMetadata, Column, Field, FileSlice, GroupSlice, ListSnapshot, Location, OperatorMetadata,
    OperatorSnapshot, Redistribution, Schema, SortedFile, StateKind, SubtaskState, TableSnapshot, TaskSnapshot,
    Variant,
};

const DIRECTORY: &str = "file:///savepoints/savepoint-abcdef-1";

fn any_schema() -> impl Strategy<Value = Schema> {
    let leaf = prop_oneof![
        Just(Schema::Unit),
        Just(Schema::Bool),
        prop::sample::select(vec![8, 16, 32, 64, 128]).prop_map(Schema::Unsigned),
        prop::sample::select(vec![8, 16, 32, 64, 128]).prop_map(Schema::Signed),
        prop::sample::select(vec![32, 64]).prop_map(Schema::Float),
        Just(Schema::Char),
        Just(Schema::Text),
        Just(Schema::Bytes),
        "[a-z]{0,3}".prop_map(Schema::Recursive),
        "[a-z]{0,3}".prop_map(Schema::Opaque),
        "[a-z]{0,3}".prop_map(Schema::Framed),
    ];
    leaf.prop_recursive(3, 12, 3, |inner| {
        let field =
            ("[a-z]{1,3}", vec("[a-z]{1,2}", 0..2), inner.clone(), proptest::option::of(vec(any::<u8>(), 0..4)))
                .prop_map(|(name, former_names, schema, default)| Field { name, former_names, schema, default });
        let fields = vec(field, 0..3);
        let variant = ("[a-z]{1,3}", vec("[a-z]{1,2}", 0..2), fields.clone())
            .prop_map(|(name, former_names, fields)| Variant { name, former_names, fields });
        prop_oneof![
            inner.clone().prop_map(|inner| Schema::Optional(Box::new(inner))),
            inner.clone().prop_map(|inner| Schema::List(Box::new(inner))),
            (inner.clone(), any::<u32>()).prop_map(|(inner, count)| Schema::Array(Box::new(inner), count)),
            (inner.clone(), inner.clone()).prop_map(|(key, value)| Schema::Map(Box::new(key), Box::new(value))),
            vec(inner, 0..3).prop_map(Schema::Tuple),
            ("[a-z]{1,3}", fields).prop_map(|(name, fields)| Schema::Struct { name, fields }),
            ("[a-z]{1,3}", vec(variant, 0..3)).prop_map(|(name, variants)| Schema::Enum { name, variants }),
        ]
    })
}

fn any_slice() -> impl Strategy<Value = FileSlice> {
    let uri = prop_oneof![
        "[a-z]{1,4}".prop_map(|name| format!("{DIRECTORY}/{name}")),
        "[a-z]{1,4}".prop_map(|name| format!("file:///elsewhere/{name}")),
    ];
    (uri, any::<u64>(), any::<u64>(), any::<u64>()).prop_map(|(uri, offset, length, checksum)| FileSlice {
        uri: uri.into(),
        offset,
        length,
        checksum,
    })
}

fn any_location() -> impl Strategy<Value = Location> {
    prop_oneof![vec(any::<u8>(), 0..8).prop_map(Location::Inline), any_slice().prop_map(Location::File)]
}

fn any_tables() -> impl Strategy<Value = Vec<TableSnapshot>> {
    let column = ("[a-z]{1,3}", prop::sample::select(StateKind::ALL.to_vec()), any_schema())
        .prop_map(|(name, kind, schema)| Column { name, kind, schema });
    let place = prop_oneof![3 => any_location(), 1 => Just(Location::Sorted)];
    let group =
        (any::<u32>(), any::<u64>(), place).prop_map(|(group, rows, location)| GroupSlice { group, rows, location });
    let file = (any_slice(), any::<u32>(), any::<u32>()).prop_map(|(slice, first_group, last_group)| SortedFile {
        slice,
        first_group,
        last_group,
    });
    let lists = (vec(column, 0..3), vec(group, 0..3), vec(file, 0..3));
    let table = ("[a-z]{1,3}", any_schema(), any::<u32>(), lists).prop_map(
        |(name, key, max_parallelism, (columns, groups, files))| TableSnapshot {
            name,
            key,
            columns,
            max_parallelism,
            groups,
            files,
        },
    );
    vec(table, 0..3)
}

fn any_lists() -> impl Strategy<Value = Vec<ListSnapshot>> {
    let ways = prop::sample::select(Redistribution::ALL.to_vec());
    let list = ("[a-z]{1,3}", any_schema(), ways, vec(any::<u32>(), 0..3), any_location(), any::<u32>()).prop_map(
        |(name, schema, redistribution, lengths, location, end)| ListSnapshot {
            name,
            schema,
            redistribution,
            lengths,
            location,
            items: end / 2..end,
        },
    );
    vec(list, 0..3)
}

fn any_operator_id() -> impl Strategy<Value = OperatorId> {
    any::<[u8; 16]>().prop_map(OperatorId::from_bytes)
}

fn any_snapshot() -> impl Strategy<Value = TaskSnapshot> {
    let operator = (any_operator_id(), any_tables(), any_lists())
        .prop_map(|(operator, tables, lists)| OperatorSnapshot { operator, tables, lists });
    (vec(operator, 0..3), any::<bool>()).prop_map(|(operators, finished)| TaskSnapshot { operators, finished })
}

fn any_metadata() -> impl Strategy<Value = CheckpointMetadata> {
    let state = (any::<u32>(), any_tables(), any_lists()).prop_map(|(subtask, tables, lists)| SubtaskState {
        subtask,
        tables,
        lists,
    });
    let operator =
        (
            (any_operator_id(), "[a-z ]{0,5}", proptest::option::of("[a-z]{0,5}")),
            (any::<u32>(), any::<u32>(), vec(any::<u32>(), 0..3), vec(state, 0..3)),
        )
            .prop_map(|((id, name, uid), (parallelism, max_parallelism, finished, subtasks))| {
                OperatorMetadata { id, name, uid, parallelism, max_parallelism, finished, subtasks }
            });
    let bytes = || vec(any::<u8>(), 0..5);
    (
        (
            any::<[u8; 16]>(),
            "[a-zé]{0,5}",
            any::<u64>(),
            any::<i64>(),
            prop::sample::select(CheckpointKind::ALL.to_vec()),
        ),
        vec((any_operator_id(), bytes()), 0..3),
        vec((any_operator_id(), vec(bytes(), 0..3)), 0..3),
        vec(operator, 0..3),
    )
        .prop_map(|((job, job_name, checkpoint, timestamp, kind), enumerators, committables, operators)| {
            let job = JobId::from_bytes(job);
            CheckpointMetadata { job, job_name, checkpoint, timestamp, kind, enumerators, committables, operators }
        })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    #[test]
    fn snapshots_come_back_as_they_were(snapshot in any_snapshot()) {
        prop_assert_eq!(TaskSnapshot::decode(&snapshot.encode()), Ok(snapshot));
    }

    #[test]
    fn metadata_comes_back_as_it_was(metadata in any_metadata()) {
        prop_assert_eq!(CheckpointMetadata::decode(&metadata.encode(DIRECTORY), DIRECTORY), Ok(metadata));
    }

    #[test]
    fn foreign_bytes_are_an_error_or_a_snapshot_but_never_a_panic(bytes in vec(any::<u8>(), 0..64)) {
        let mut versioned = vec![1];
        versioned.extend_from_slice(&bytes);
        for bytes in [&bytes, &versioned] {
            if let Ok(snapshot) = TaskSnapshot::decode(bytes) {
                prop_assert_eq!(&snapshot.encode(), bytes);
            }
        }
    }

    #[test]
    fn a_changed_snapshot_never_panics(snapshot in any_snapshot(), at: prop::sample::Index, value: u8, cut: prop::sample::Index) {
        let mut bytes = snapshot.encode();
        let at = at.index(bytes.len());
        bytes[at] = value;
        let _ = TaskSnapshot::decode(&bytes);
        let end = cut.index(bytes.len());
        let _ = TaskSnapshot::decode(&bytes[..end]);
    }

    #[test]
    fn a_truncated_snapshot_is_an_error(snapshot in any_snapshot(), cut: prop::sample::Index) {
        let bytes = snapshot.encode();
        let end = cut.index(bytes.len());
        prop_assert!(TaskSnapshot::decode(&bytes[..end]).is_err());
    }
}

fn field(name: &str, schema: Schema) -> Field {
    Field { name: name.to_owned(), former_names: Vec::new(), schema, default: None }
}

fn small() -> CheckpointMetadata {
    let file = |name: &str| {
        Location::File(FileSlice { uri: format!("{DIRECTORY}/{name}").into(), offset: 3, length: 4, checksum: 5 })
    };
    let table = TableSnapshot {
        name: "keyed".to_owned(),
        key: Schema::Text,
        columns: vec![Column { name: "count".to_owned(), kind: StateKind::Value, schema: Schema::Unsigned(64) }],
        max_parallelism: 128,
        groups: vec![
            GroupSlice { group: 1, rows: 1, location: file("state-1") },
            GroupSlice { group: 9, rows: 2, location: Location::Inline(vec![1, 2, 3]) },
            GroupSlice { group: 11, rows: 3, location: Location::Sorted },
        ],
        files: vec![SortedFile {
            slice: FileSlice { uri: "file:///shared/1".into(), offset: 0, length: 4, checksum: 5 },
            first_group: 10,
            last_group: 12,
        }],
    };
    let position = Field { former_names: vec!["offset".to_owned()], ..field("position", Schema::Signed(64)) };
    let end = Field { default: Some(vec![0]), ..field("end", Schema::Optional(Box::new(Schema::Unsigned(64)))) };
    let list = ListSnapshot {
        name: "splits".to_owned(),
        schema: Schema::Struct { name: "Split".to_owned(), fields: vec![position, end] },
        redistribution: Redistribution::Union,
        lengths: vec![9, 17],
        location: Location::Inline(vec![0; 26]),
        items: 0..2,
    };
    let id = OperatorId::from_seed(b"counts");
    CheckpointMetadata {
        job: JobId::from_bytes([7; 16]),
        job_name: "counts".to_owned(),
        checkpoint: 12,
        timestamp: 1_700_000_000_000,
        kind: CheckpointKind::Savepoint,
        enumerators: vec![(OperatorId::from_seed(b"source"), vec![1, 2])],
        committables: vec![(OperatorId::from_seed(b"sink"), vec![vec![9], vec![]])],
        operators: vec![OperatorMetadata {
            id,
            name: "Count".to_owned(),
            uid: Some("counts".to_owned()),
            parallelism: 2,
            max_parallelism: 128,
            finished: vec![1],
            subtasks: vec![SubtaskState { subtask: 0, tables: vec![table], lists: vec![list] }],
        }],
    }
}

#[test]
fn every_flipped_bit_and_every_truncation_of_metadata_is_an_error_that_says_what() {
    let bytes = small().encode(DIRECTORY);
    for at in 0..bytes.len() {
        for bit in 0..8 {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1 << bit;
            let error = CheckpointMetadata::decode(&damaged, DIRECTORY).expect_err("damaged").to_string();
            let expect = match at {
                0..8 => "does not begin with WEIRCHKP",
                8..12 => "format",
                12..20 => "bytes and should have",
                _ => "checksum",
            };
            assert!(error.contains(expect), "byte {at} bit {bit}: {error}");
        }
        let error = CheckpointMetadata::decode(&bytes[..at], DIRECTORY).expect_err("truncated").to_string();
        let expect = match at {
            0..8 => "does not begin with WEIRCHKP",
            8..28 => "ends in the middle of",
            _ => "bytes and should have",
        };
        assert!(error.contains(expect), "{at} bytes: {error}");
    }
    let mut longer = bytes.clone();
    longer.push(0);
    let error = CheckpointMetadata::decode(&longer, DIRECTORY).expect_err("longer").to_string();
    assert!(error.contains(&format!("has {} bytes and should have {}", longer.len(), bytes.len())), "{error}");
}

#[test]
fn content_that_makes_no_sense_is_an_error_even_with_the_right_checksum() {
    let bytes = small().encode(DIRECTORY);
    for at in 28..bytes.len() {
        for value in [0, 1, 0x7f, 0x80, 0xff] {
            let mut damaged = bytes.clone();
            damaged[at] = value;
            let checksum = xxhash_rust::xxh3::xxh3_64(&damaged[28..]);
            damaged[20..28].copy_from_slice(&checksum.to_le_bytes());
            if let Ok(other) = CheckpointMetadata::decode(&damaged, DIRECTORY) {
                assert_eq!(CheckpointMetadata::decode(&other.encode(DIRECTORY), DIRECTORY), Ok(other));
            }
        }
    }
}

#[test]
fn a_newer_format_is_refused_with_both_versions() {
    let mut bytes = small().encode(DIRECTORY);
    bytes[8] = 7;
    let error = CheckpointMetadata::decode(&bytes, DIRECTORY).unwrap_err();
    assert_eq!(error, MetadataError::NewerFormat { found: 7, supported: FORMAT_VERSION });
    let text = error.to_string();
    assert!(text.contains("format 7") && text.contains("formats 1 to 1"), "{text}");
}

#[test]
fn a_folder_that_was_moved_still_finds_its_files() {
    let metadata = small();
    let bytes = metadata.encode(DIRECTORY);
    assert!(!String::from_utf8_lossy(&bytes).contains("savepoints"), "the URI is not relative");
    let moved = CheckpointMetadata::decode(&bytes, "hdfs:///other/place/").unwrap();
    let files: Vec<_> = moved.files().into_iter().collect();
    assert_eq!(files, ["file:///shared/1".into(), "hdfs:///other/place/state-1".into()]);
    assert_eq!(moved.state_size(), 37);
}

#[test]
fn names_of_files_do_not_lead_out_of_the_folder() {
    let mut writer = Writer::default();
    writer.count(0);
    writer.list(&["../../etc/passwd"], |out, text| {
        out.byte(1);
        out.text(text);
    });
    let bytes = writer.into_bytes();
    let error = super::snapshot::Known::read(Some(DIRECTORY), &mut Reader::new(&bytes)).unwrap_err();
    assert!(error.to_string().contains("impossible name of a file"), "{error}");
}

#[test]
fn what_is_shared_by_many_slices_is_written_once() {
    let mut metadata = small();
    let table = &mut metadata.operators[0].subtasks[0].tables[0];
    let group = table.groups[0].clone();
    table.groups = (0..128).map(|number| GroupSlice { group: number, ..group.clone() }).collect();
    assert!(metadata.encode("file:///elsewhere").len() < 128 * 16 + 400);
}

#[test]
fn schemas_nested_without_end_are_an_error() {
    let bytes = vec![8; 100_000];
    let error = read_schema(&mut Reader::new(&bytes)).unwrap_err();
    assert!(error.to_string().contains("depth of a schema"), "{error}");
}

#[test]
fn numbers_have_one_form() {
    let check = |bytes: &[u8], expect: Option<u64>| {
        assert_eq!(Reader::new(bytes).number("number").ok(), expect, "{bytes:?}");
    };
    check(&[0], Some(0));
    check(&[0x80, 1], Some(128));
    check(&[0x80, 0], None);
    check(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1], Some(u64::MAX));
    check(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2], None);
    check(&[0x80; 11], None);
    check(&[0x80], None);
    for number in [0, 1, 127, 128, 16_383, 16_384, u64::from(u32::MAX), u64::MAX] {
        let mut writer = Writer::default();
        writer.number(number);
        check(&writer.into_bytes(), Some(number));
    }
}

#[test]
fn the_format_is_fixed() {
    // When this fails, what earlier releases wrote cannot be read any more: the format needs a new version.
    let bytes = small().encode(DIRECTORY);
    assert_eq!((bytes.len(), xxhash_rust::xxh3::xxh3_64(&bytes)), (312, 12_108_855_960_577_461_589));
}
