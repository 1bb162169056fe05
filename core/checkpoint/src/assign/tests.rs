use proptest::prelude::*;
use weir_model::{CheckpointKind, Partitioner};

use super::*;
use crate::testing::{JOB, job, operator};
use crate::{Column, FileSlice, Schema, StateKind};

fn metadata(operators: Vec<OperatorMetadata>) -> CheckpointMetadata {
    CheckpointMetadata {
        job: JOB,
        job_name: "test".to_owned(),
        checkpoint: 1,
        timestamp: 0,
        kind: CheckpointKind::Savepoint,
        enumerators: vec![(operator(0), vec![7])],
        committables: Vec::new(),
        operators,
    }
}

fn state(vertex: u32, parallelism: u32, subtasks: Vec<SubtaskState>) -> OperatorMetadata {
    OperatorMetadata {
        id: operator(vertex),
        name: format!("V{vertex}"),
        uid: Some(format!("v{vertex}")),
        parallelism,
        max_parallelism: 128,
        finished: Vec::new(),
        subtasks,
    }
}

/// One table with a row in each group of the range.
fn table(groups: std::ops::Range<u32>) -> TableSnapshot {
    let slice = |group| GroupSlice { group, rows: 1, location: Location::Inline(group.to_le_bytes().to_vec()) };
    TableSnapshot {
        name: "keyed".to_owned(),
        key: Schema::Text,
        columns: vec![Column { name: "count".to_owned(), kind: StateKind::Value, schema: Schema::Unsigned(64) }],
        max_parallelism: 128,
        groups: groups.map(slice).collect(),
        files: Vec::new(),
    }
}

fn list(redistribution: Redistribution, items: &[u8], in_file: bool) -> ListSnapshot {
    let location = if in_file {
        Location::File(FileSlice { uri: "file:///a".into(), offset: 0, length: items.len() as u64, checksum: 9 })
    } else {
        Location::Inline(items.to_vec())
    };
    ListSnapshot {
        name: "positions".to_owned(),
        schema: Schema::Unsigned(8),
        redistribution,
        lengths: vec![1; items.len()],
        location,
        items: 0..items.len() as u32,
    }
}

fn pair(parallelism: u32) -> CheckpointJob {
    job(&[1, parallelism], &[(0, 1, Partitioner::Hash)])
}

/// Groups of the table of each subtask of vertex 1.
fn groups(assignment: &Assignment) -> Vec<Vec<u32>> {
    let of = |task: &TaskSnapshot| {
        let tables = task.operators.iter().flat_map(|operator| &operator.tables);
        tables.flat_map(|table| &table.groups).map(|group| group.group).collect()
    };
    assignment.tasks[1..].iter().map(of).collect()
}

/// Items of each subtask of vertex 1: their bytes where they are inline, otherwise their positions.
fn items(assignment: &Assignment) -> Vec<Vec<u8>> {
    let of = |list: &ListSnapshot| match &list.location {
        Location::Inline(bytes) => bytes[list.items.start as usize..list.items.end as usize].to_vec(),
        Location::File(_) | Location::Sorted => list.items.clone().map(|item| item as u8).collect(),
    };
    let task = |task: &TaskSnapshot| task.operators.iter().flat_map(|operator| &operator.lists).flat_map(of).collect();
    assignment.tasks[1..].iter().map(task).collect()
}

proptest! {
    #[test]
    fn rows_go_to_whom_their_key_groups_belong(old in 1u32..20, new in 1u32..20) {
        let before = KeyGroups::new(128, old);
        let subtasks = (0..old).map(|subtask| {
            SubtaskState { subtask, tables: vec![table(before.range_of(subtask))], lists: Vec::new() }
        });
        let metadata = metadata(vec![state(1, old, subtasks.collect())]);
        let assignment = assign(&metadata, &pair(new), false).unwrap();
        let expect: Vec<Vec<u32>> = (0..new).map(|subtask| KeyGroups::new(128, new).range_of(subtask).collect()).collect();
        prop_assert_eq!(groups(&assignment), expect);
        prop_assert_eq!(assignment.enumerators, vec![(0, vec![7])]);
    }

    #[test]
    fn sorted_files_go_to_all_who_have_groups_in_them_and_count_for_these_alone(old in 1u32..20, new in 1u32..20) {
        let before = KeyGroups::new(128, old);
        let subtasks = (0..old).map(|subtask| {
            let own = before.range_of(subtask);
            // A file per group, and one of all.
            let file = |name: String, range: std::ops::RangeInclusive<u32>| SortedFile {
                slice: FileSlice { uri: name.into(), offset: 0, length: 1, checksum: 0 },
                first_group: *range.start(),
                last_group: *range.end(),
            };
            let mut table = table(own.clone());
            table.groups.iter_mut().for_each(|group| group.location = Location::Sorted);
            table.files = own.clone().map(|group| file(format!("file:///g{group}"), group..=group)).collect();
            table.files.push(file(format!("file:///all-{subtask}"), own.start..=own.end - 1));
            SubtaskState { subtask, tables: vec![table], lists: Vec::new() }
        });
        let metadata = metadata(vec![state(1, old, subtasks.collect())]);
        prop_assert_eq!(metadata.files().len() as u32, 128 + old);
        let assignment = assign(&metadata, &pair(new), false).unwrap();
        for (task, own) in assignment.tasks[1..].iter().zip((0..new).map(|subtask| KeyGroups::new(128, new).range_of(subtask))) {
            let tables: Vec<_> = task.operators.iter().flat_map(|operator| &operator.tables).collect();
            let mut covered: Vec<u32> = Vec::new();
            for file in tables.iter().flat_map(|table| &table.files) {
                prop_assert!(own.contains(&file.first_group) && own.contains(&file.last_group), "{:?}", file);
                covered.extend(file.first_group..=file.last_group);
            }
            covered.sort_unstable();
            let twice: Vec<u32> = own.clone().flat_map(|group| [group, group]).collect();
            prop_assert_eq!(covered, twice, "its own file and that of all");
        }
    }

    #[test]
    fn items_are_spread_evenly_and_each_once(counts in prop::collection::vec(0usize..6, 1..6), new in 1u32..8, in_file: bool) {
        let mut next = 0;
        let subtasks: Vec<_> = (0..).zip(&counts).map(|(subtask, &count)| {
            let items: Vec<u8> = (next..next + count as u8).collect();
            next += count as u8;
            SubtaskState { subtask, tables: Vec::new(), lists: vec![list(Redistribution::Split, &items, in_file)] }
        }).collect();
        let old = counts.len() as u32;
        let assignment = assign(&metadata(vec![state(1, old, subtasks)]), &pair(new), false).unwrap();
        let found = items(&assignment);
        if old == new {
            let lengths: Vec<_> = found.iter().map(Vec::len).collect();
            prop_assert_eq!(lengths, counts);
        } else {
            let (least, most) = (found.iter().map(Vec::len).min(), found.iter().map(Vec::len).max());
            prop_assert!(most.unwrap() - least.unwrap() <= 1, "{:?}", found);
        }
        if !in_file {
            prop_assert_eq!(found.concat(), (0..next).collect::<Vec<u8>>());
        }
        prop_assert_eq!(items(&assignment).iter().map(Vec::len).sum::<usize>(), next as usize);
    }
}

#[test]
fn unions_go_to_all_and_broadcast_to_each_once() {
    let with = |redistribution, new| {
        let subtasks = [(0, [1, 2]), (1, [3, 4])].map(|(subtask, items)| SubtaskState {
            subtask,
            tables: Vec::new(),
            lists: vec![list(redistribution, &items, false)],
        });
        items(&assign(&metadata(vec![state(1, 2, subtasks.to_vec())]), &pair(new), false).unwrap())
    };
    assert_eq!(with(Redistribution::Union, 3), vec![vec![1, 2, 3, 4]; 3]);
    assert_eq!(with(Redistribution::Union, 2), vec![vec![1, 2, 3, 4]; 2]);
    assert_eq!(with(Redistribution::Broadcast, 3), [vec![1, 2], vec![3, 4], vec![1, 2]]);
    assert_eq!(with(Redistribution::Broadcast, 2), [vec![1, 2], vec![3, 4]]);
}

#[test]
fn another_max_parallelism_is_refused_with_both_numbers() {
    let subtasks = || vec![SubtaskState { subtask: 0, tables: vec![table(0..3)], lists: Vec::new() }];
    let mut other = pair(2);
    other.vertices[1].max_parallelism = 256;
    let error = assign(&metadata(vec![state(1, 1, subtasks())]), &other, false).unwrap_err().to_string();
    for expect in
        ["operator `V1` (uid `v1`)", "max-parallelism 128", "says 256", "set the operator's max-parallelism to 128"]
    {
        assert!(error.contains(expect), "{error}");
    }
    // Without state by key it does not matter.
    let lists =
        vec![SubtaskState { subtask: 0, tables: Vec::new(), lists: vec![list(Redistribution::Split, &[1], false)] }];
    assert!(assign(&metadata(vec![state(1, 1, lists)]), &other, false).is_ok());
}

#[test]
fn state_of_an_operator_that_the_job_has_not_is_refused_unless_that_is_allowed() {
    let subtasks = vec![SubtaskState { subtask: 0, tables: vec![table(0..3)], lists: Vec::new() }];
    let mut metadata = metadata(vec![state(7, 1, subtasks)]);
    let error = assign(&metadata, &pair(2), false).unwrap_err().to_string();
    assert!(error.contains("operator `V7` (uid `v7`)") && error.contains("ignore-unclaimed-state"), "{error}");
    let assignment = assign(&metadata, &pair(2), true).unwrap();
    assert_eq!(assignment.warnings.len(), 1);
    assert!(assignment.warnings[0].contains("operator `V7` (uid `v7`) is left behind"), "{:?}", assignment.warnings);
    // One that has none is not missed.
    metadata.operators[0].subtasks.clear();
    assert_eq!(assign(&metadata, &pair(2), false).unwrap().warnings, [""; 0]);
    metadata.enumerators = vec![(operator(9), vec![])];
    assert!(matches!(assign(&metadata, &pair(2), false), Err(AssignError::NotRestored { .. })));
}

#[test]
fn finished_tasks_stay_finished_where_each_is_known_or_all_were() {
    let with = |finished: &[u32], new| {
        let mut state = state(1, 2, Vec::new());
        state.finished = finished.to_vec();
        let assignment = assign(&metadata(vec![state]), &pair(new), false).unwrap();
        assignment.tasks[1..].iter().map(|task| task.finished).collect::<Vec<_>>()
    };
    assert_eq!(with(&[1], 2), [false, true]);
    assert_eq!(with(&[1], 3), [false; 3]);
    assert_eq!(with(&[0, 1], 3), [true; 3]);
    assert_eq!(with(&[], 2), [false; 2]);
}

#[test]
fn contradictions_are_refused() {
    let check = |subtask: SubtaskState, expect: &str| {
        let error = assign(&metadata(vec![state(1, 2, vec![subtask])]), &pair(2), false).unwrap_err().to_string();
        assert!(error.contains(expect), "{error}");
    };
    check(SubtaskState { subtask: 2, tables: Vec::new(), lists: Vec::new() }, "subtask 2 of 2");
    check(SubtaskState { subtask: 0, tables: vec![table(120..130)], lists: Vec::new() }, "key group 128 of 128");
    let mut short = list(Redistribution::Split, &[1, 2], false);
    short.lengths.pop();
    short.items = 0..1;
    check(
        SubtaskState { subtask: 0, tables: Vec::new(), lists: vec![short] },
        "`positions` have 1 bytes, and there are 2",
    );
    let mut beyond = list(Redistribution::Split, &[1, 2], false);
    beyond.items = 0..3;
    check(SubtaskState { subtask: 0, tables: Vec::new(), lists: vec![beyond] }, "items 0 to 3 of 2");
}

#[test]
fn records_in_flight_go_back_to_the_same_number_of_subtasks_only() {
    let in_flight = ListSnapshot { name: format!("{IN_FLIGHT}0"), ..list(Redistribution::Split, &[1, 2], false) };
    let subtasks = vec![SubtaskState { subtask: 1, tables: Vec::new(), lists: vec![in_flight] }];
    let metadata = metadata(vec![state(1, 2, subtasks)]);
    assert_eq!(items(&assign(&metadata, &pair(2), false).unwrap()), [vec![], vec![1, 2]]);
    let refused = AssignError::InFlight { operator: "operator `V1` (uid `v1`)".to_owned(), found: 2, expected: 3 };
    assert_eq!(assign(&metadata, &pair(3), false), Err(refused));
}
