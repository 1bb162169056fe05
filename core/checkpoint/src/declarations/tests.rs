use weir_model::CheckpointKind;

use super::*;
use crate::testing::{JOB, job, operator};
use crate::{Location, SubtaskState};

fn column(name: &str, kind: StateKind, schema: Schema) -> Column {
    Column { name: name.to_owned(), kind, schema }
}

fn declared(key: Schema, columns: Vec<Column>, lists: Vec<ListDeclaration>) -> StateDeclarations {
    let table = TableDeclaration { name: "keyed".to_owned(), key, columns };
    let operator = OperatorDeclaration {
        node: 3,
        id: operator(0),
        name: "Count".to_owned(),
        uid: Some("counts".to_owned()),
        tables: vec![table],
        lists,
    };
    StateDeclarations { operators: vec![operator] }
}

fn list(schema: Schema, redistribution: Redistribution) -> ListDeclaration {
    ListDeclaration { name: "positions".to_owned(), schema, redistribution }
}

fn current() -> StateDeclarations {
    let columns =
        vec![column("total", StateKind::Value, Schema::Unsigned(32)), column("names", StateKind::List, Schema::Text)];
    declared(Schema::Text, columns, vec![list(Schema::Unsigned(64), Redistribution::Split)])
}

/// A checkpoint of a job with this state, of which the second subtask has some.
fn written(by: &StateDeclarations) -> CheckpointMetadata {
    let operators = by.operators.iter().map(|operator| OperatorMetadata {
        id: operator.id,
        name: operator.name.clone(),
        uid: operator.uid.clone(),
        parallelism: 2,
        max_parallelism: 128,
        finished: Vec::new(),
        subtasks: vec![SubtaskState {
            subtask: 1,
            tables: operator
                .tables
                .iter()
                .map(|table| TableSnapshot {
                    name: table.name.clone(),
                    key: table.key.clone(),
                    columns: table.columns.clone(),
                    max_parallelism: 128,
                    groups: Vec::new(),
                    files: Vec::new(),
                })
                .collect(),
            lists: operator
                .lists
                .iter()
                .map(|list| ListSnapshot {
                    name: list.name.clone(),
                    schema: list.schema.clone(),
                    redistribution: list.redistribution,
                    lengths: Vec::new(),
                    location: Location::Inline(Vec::new()),
                    items: 0..0,
                })
                .collect(),
        }],
    });
    CheckpointMetadata {
        job: JOB,
        job_name: "test".to_owned(),
        checkpoint: 1,
        timestamp: 0,
        kind: CheckpointKind::Savepoint,
        enumerators: Vec::new(),
        committables: Vec::new(),
        operators: operators.collect(),
    }
}

#[track_caller]
fn refused(declarations: &StateDeclarations, expect: &str) {
    let error = check(declarations, &written(&current()), false).unwrap_err().to_string();
    assert!(error.contains(expect), "{error}");
}

#[test]
fn the_same_state_and_wider_state_can_be_restored() {
    let label = "operator `Count` (uid `counts`)".to_owned();
    let restored = Carried { restored: vec![label.clone()], ..Carried::default() };
    assert_eq!(check(&current(), &written(&current()), false), Ok(restored.clone()));
    let mut wider = current();
    wider.operators[0].tables[0].columns[0].schema = Schema::Signed(64);
    wider.operators[0].tables[0].columns.push(column("new", StateKind::Map, Schema::Text));
    let carried = check(&wider, &written(&current()), false).unwrap();
    assert_eq!(
        (carried.restored, carried.empty),
        (vec![label], vec!["state `new` of operator `Count` (uid `counts`)".to_owned()])
    );
    assert_eq!(carried.left_behind, [""; 0]);
}

#[test]
fn a_change_that_cannot_be_read_names_operator_state_and_both_types() {
    let mut other = current();
    other.operators[0].tables[0].columns[0].schema = Schema::Text;
    refused(&other, "state `total` of operator `Count` (uid `counts`): its values were u32 and are text now");
    let mut other = current();
    other.operators[0].lists[0].schema = Schema::Unsigned(8);
    refused(&other, "state `positions` of operator `Count` (uid `counts`): its values were u64 and are u8 now");
}

#[test]
fn keys_and_kinds_must_stay() {
    let mut other = current();
    other.operators[0].tables[0].key = Schema::Optional(Box::new(Schema::Text));
    refused(&other, "the keys of operator `Count` (uid `counts`) were text and are optional text now");
    let mut other = current();
    other.operators[0].tables[0].columns[1].kind = StateKind::Map;
    refused(&other, "state `names` of operator `Count` (uid `counts`) was list state and is map state now");
    let mut other = current();
    other.operators[0].lists[0].redistribution = Redistribution::Union;
    refused(&other, "was split state and is union state now");
}

#[test]
fn state_that_is_not_declared_any_more_is_left_behind_and_named() {
    let mut less = current();
    less.operators[0].tables[0].columns.pop();
    less.operators[0].lists.clear();
    let warnings = check(&less, &written(&current()), false).unwrap().left_behind;
    assert_eq!(warnings.len(), 2);
    assert!(warnings[0].contains("state `names` of operator `Count` (uid `counts`) is left behind"), "{warnings:?}");
    less.operators[0].tables.clear();
    assert_eq!(check(&less, &written(&current()), false).unwrap().left_behind.len(), 3);
    // That of a whole operator only if it is allowed.
    less.operators[0].id = operator(9);
    assert!(matches!(check(&less, &written(&current()), false), Err(Refused::NotRestored(_))));
    let carried = check(&less, &written(&current()), true).unwrap();
    assert_eq!((carried.restored.len(), carried.left_behind.len()), (0, 1));
    // It has no state any more, so nothing of it begins empty either.
    assert_eq!(carried.empty, [""; 0]);
}

#[test]
fn declarations_come_back_as_they_were() {
    let declarations = current();
    let bytes = declarations.encode();
    assert_eq!(StateDeclarations::decode(&bytes), Ok(declarations.clone()));
    assert_eq!(declarations.nodes(), BTreeMap::from([(3, operator(0))]));
    for end in 0..bytes.len() {
        assert!(StateDeclarations::decode(&bytes[..end]).is_err());
    }
    for at in 0..bytes.len() {
        let mut damaged = bytes.clone();
        damaged[at] ^= 0xff;
        let _ = StateDeclarations::decode(&damaged);
    }
}

#[test]
fn records_in_flight_are_not_left_behind_although_no_operator_declares_them() {
    let mut metadata = written(&current());
    metadata.operators[0].subtasks[0].lists[0].name = format!("{IN_FLIGHT}0");
    assert_eq!(check(&current(), &metadata, false).unwrap().left_behind, [""; 0]);
}

#[test]
fn another_version_is_compared_with_a_job_that_runs_as_with_its_savepoint() {
    let (mut job, written) = (job(&[2], &[]), written(&current()));
    let operator_info = &mut job.vertices[0].operators[0];
    (operator_info.name, operator_info.uid) = ("Count".to_owned(), Some("counts".to_owned()));
    let running = current().to_metadata(&job);
    let empty = StateDeclarations::default().to_metadata(&job);
    assert!(empty.operators.iter().all(|operator| operator.subtasks.is_empty()));
    for change in [
        |_: &mut StateDeclarations| {},
        |other: &mut StateDeclarations| other.operators[0].tables[0].columns[0].schema = Schema::Text,
        |other: &mut StateDeclarations| other.operators[0].tables[0].columns[1].kind = StateKind::Map,
        |other: &mut StateDeclarations| other.operators[0].lists.clear(),
        |other: &mut StateDeclarations| other.operators[0].id = operator(9),
    ] {
        let mut other = current();
        change(&mut other);
        assert_eq!(check(&other, &running, false), check(&other, &written, false));
    }
}
