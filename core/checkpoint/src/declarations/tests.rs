use weir_model::CheckpointKind;

use super::*;
use crate::testing::{JOB, operator};
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
    assert_eq!(check(&current(), &written(&current()), false), Ok(Vec::new()));
    let mut wider = current();
    wider.operators[0].tables[0].columns[0].schema = Schema::Signed(64);
    wider.operators[0].tables[0].columns.push(column("new", StateKind::Map, Schema::Text));
    assert_eq!(check(&wider, &written(&current()), false), Ok(Vec::new()));
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
    let warnings = check(&less, &written(&current()), false).unwrap();
    assert_eq!(warnings.len(), 2);
    assert!(warnings[0].contains("state `names` of operator `Count` (uid `counts`) is left behind"), "{warnings:?}");
    less.operators[0].tables.clear();
    assert_eq!(check(&less, &written(&current()), false).unwrap().len(), 3);
    // That of a whole operator only if it is allowed.
    less.operators[0].id = operator(9);
    assert!(matches!(check(&less, &written(&current()), false), Err(Refused::NotRestored(_))));
    assert_eq!(check(&less, &written(&current()), true).unwrap().len(), 1);
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
    assert_eq!(check(&current(), &metadata, false), Ok(Vec::new()));
}
