//! Checkpoints that share files, and what is restored from them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::sync::Arc;

use weir_checkpoint::{GroupSlice, Location, SortedFile, TableSnapshot, TaskSnapshot};

use super::*;
use crate::snapshot::RestoredTask;
use crate::storage::LocalFiles;

/// Bytes of memory for all rows: far fewer than they take.
const MEMORY: usize = 512 * 1024;

struct Job {
    states: KeyedStates<u64>,
    name: ValueState<String>,
    model: BTreeMap<u64, String>,
}

fn declared() -> (Declared, ValueState<String>) {
    let mut declared = Declared::default();
    let name = declared.declarer().value::<String>("name");
    (declared, name)
}

impl Job {
    fn new(memory: usize) -> Job {
        let (declared, name) = declared();
        let states = with_memory(memory, declared, KeyGroups::new(GROUPS, 1), 0);
        Job { states, name, model: BTreeMap::new() }
    }

    fn set(&mut self, keys: impl Iterator<Item = u64>, round: u32) {
        for key in keys {
            let value = format!("{key} in round {round}: {}", "x".repeat(100));
            self.states.enter(key);
            self.name.set(&mut self.states, value.clone());
            self.states.leave();
            self.model.insert(key, value);
        }
    }

    /// One that begins with the state of another.
    fn restored(model: BTreeMap<u64, String>, table: &TableSnapshot, base: &Path) -> Job {
        let (declared, name) = declared();
        let groups = KeyGroups::new(GROUPS, 1);
        let (task, tables) = restored(vec![table.clone()]);
        let setup = StoreSetup { memory: MEMORY, base, name: "state-0-0-1".to_owned(), tables, restored: Some(&task) };
        let mut states = KeyedStates::over(declared, groups, groups.range_of(0));
        states.keep_in(StoredRows::open(setup, groups.range_of(0), None).unwrap());
        Job { states, name, model }
    }

    /// Takes a checkpoint into `folder`. The table, and how many bytes an earlier one had written.
    fn checkpoint(&mut self, checkpoint: u64, base: Option<u64>, folder: &Path) -> (TableSnapshot, u64) {
        self.states.stored.as_ref().unwrap().begin_checkpoint(checkpoint);
        self.states.begin(0, None);
        while self.states.step_stored(100) {}
        let snapshot = self.states.finish_stored().unwrap();
        let groups = snapshot.rows.iter();
        let groups = groups.map(|&(group, rows)| GroupSlice { group, rows, location: Location::Sorted }).collect();
        let shared = format!("file://{}", folder.display());
        let written = snapshot.upload(checkpoint, base, &shared, &LocalFiles, || false).unwrap();
        (TableSnapshot { groups, files: written.files, ..self.states.table() }, written.reused)
    }
}

fn restored(tables: Vec<TableSnapshot>) -> (RestoredTask, Vec<TableSnapshot>) {
    (RestoredTask { snapshot: Arc::new(TaskSnapshot::default()), storage: Arc::new(LocalFiles) }, tables)
}

/// What a subtask finds after a restore, with rows in files.
fn in_files(tables: &[TableSnapshot], parallelism: u32, subtask: u32, base: &Path) -> BTreeMap<u64, String> {
    let (declared, name) = declared();
    let groups = KeyGroups::new(GROUPS, parallelism);
    let own = groups.range_of(subtask);
    // As it is assigned: groups of its own, and of files what counts for them.
    let clipped = |table: &TableSnapshot| {
        let groups = table.groups.iter().filter(|slice| own.contains(&slice.group)).cloned().collect();
        let clip = |file: &SortedFile| SortedFile {
            first_group: file.first_group.max(own.start),
            last_group: file.last_group.min(own.end - 1),
            slice: file.slice.clone(),
        };
        let files = table.files.iter().map(clip).filter(|file| file.first_group <= file.last_group).collect();
        TableSnapshot { groups, files, ..table.clone() }
    };
    let (task, tables) = restored(tables.iter().map(clipped).collect());
    let name_of = format!("state-0-{subtask}-0");
    let setup = StoreSetup { memory: MEMORY, base, name: name_of, tables, restored: Some(&task) };
    let mut states = KeyedStates::over(declared, groups, own.clone());
    states.keep_in(StoredRows::open(setup, own, None).unwrap());
    contents(&mut states, name)
}

fn contents(states: &mut KeyedStates<u64>, name: ValueState<String>) -> BTreeMap<u64, String> {
    let count = states.len();
    let mut found = BTreeMap::new();
    let mut keys = states.walk();
    while states.enter_next(&mut keys) {
        found.insert(*states.current_key(), name.get(states).unwrap().clone());
        states.leave();
    }
    assert_eq!(found.len(), count);
    found
}

fn uris(table: &TableSnapshot) -> BTreeSet<Arc<str>> {
    table.files.iter().map(|file| file.slice.uri.clone()).collect()
}

#[test]
fn a_checkpoint_refers_to_files_of_its_base_and_adds_what_is_new() {
    let folder = tempfile::tempdir().unwrap();
    // So much that no files are merged meanwhile: each checkpoint adds one.
    let mut job = Job::new(8 << 20);
    job.set(0..5000, 1);
    let (first, reused) = job.checkpoint(1, None, folder.path());
    assert_eq!(reused, 0);
    job.set(100..110, 2);
    let (second, reused) = job.checkpoint(2, Some(1), folder.path());
    assert_eq!(reused, first.size());
    assert!(!uris(&second).is_subset(&uris(&first)), "what changed is in a new file");
    // The base is not there: everything is written again, under other names.
    let (third, reused) = job.checkpoint(3, None, folder.path());
    assert_eq!((reused, uris(&third).is_disjoint(&uris(&first))), (0, true));
    // Checkpoint 3 was given up, so nothing of it may be referred to.
    let (fourth, _) = job.checkpoint(4, Some(2), folder.path());
    assert!(uris(&fourth).is_disjoint(&uris(&third)));
    for table in [&second, &third, &fourth] {
        let found = in_files(std::slice::from_ref(table), 1, 0, folder.path());
        assert_eq!(found, job.model);
    }
}

#[test]
fn a_checkpoint_refers_to_what_its_task_began_with_only_until_there_is_another_base() {
    let folder = tempfile::tempdir().unwrap();
    let mut job = Job::new(8 << 20);
    job.set(0..5000, 1);
    let (first, _) = job.checkpoint(1, None, folder.path());
    let mut again = Job::restored(job.model.clone(), &first, folder.path());
    let (second, reused) = again.checkpoint(2, Some(1), folder.path());
    assert_eq!((reused, uris(&second)), (first.size(), uris(&first)));
    // Checkpoint 2 had no rows and is complete: the files of the first one are gone.
    let mut other = Job::restored(job.model.clone(), &first, folder.path());
    other.states.stored.as_ref().unwrap().begin_checkpoint(2);
    let (third, reused) = other.checkpoint(3, Some(2), folder.path());
    assert_eq!((reused, uris(&third).is_disjoint(&uris(&first))), (0, true));
    assert_eq!(in_files(&[third], 1, 0, folder.path()), job.model);
}

#[test]
fn subtasks_with_the_same_files_write_them_under_different_names() {
    let folder = tempfile::tempdir().unwrap();
    let mut job = Job::new(8 << 20);
    job.set(0..500, 1);
    let (first, _) = job.checkpoint(1, None, folder.path());
    let two = [(); 2].map(|()| {
        let mut one = Job::restored(job.model.clone(), &first, folder.path());
        uris(&one.checkpoint(2, None, folder.path()).0)
    });
    assert!(two[0].is_disjoint(&two[1]), "{two:?}");
}

#[test]
fn state_several_times_larger_than_its_memory_is_right_before_and_after_a_restore() {
    let folder = tempfile::tempdir().unwrap();
    let mut job = Job::new(MEMORY);
    // 20 000 rows of more than 130 bytes, in no order, many of them more than once.
    for round in 0..3 {
        job.set(
            (0..20_000).map(|number: u64| number * 7919 % 20_000).filter(|key| key % (u64::from(round) + 1) == 0),
            round,
        );
        let resident: u64 = job.states.tables.iter().map(|table| table.len() as u64).sum();
        assert!(resident < 4000, "{resident} rows in memory");
    }
    let (table, _) = job.checkpoint(1, None, folder.path());
    assert!(table.size() > 4 * MEMORY as u64, "{} bytes", table.size());
    assert_eq!(contents(&mut job.states, job.name), job.model);
    for parallelism in [1, 3] {
        let mut found = BTreeMap::new();
        for subtask in 0..parallelism {
            found.extend(in_files(std::slice::from_ref(&table), parallelism, subtask, folder.path()));
        }
        assert_eq!(found, job.model);
    }
}

#[test]
fn rows_in_files_can_be_restored_into_memory_and_with_other_types() {
    let folder = tempfile::tempdir().unwrap();
    let mut job = Job::new(MEMORY);
    job.set(0..2000, 1);
    let (table, _) = job.checkpoint(1, None, folder.path());
    let (task, _) = restored(Vec::new());
    let mut declared = Declared::default();
    let (name, more) = (declared.declarer().value::<String>("name"), declared.declarer().value::<u64>("more"));
    let groups = KeyGroups::new(GROUPS, 1);
    let mut states = KeyedStates::<u64>::over(declared, groups, groups.range_of(0));
    let columns = states.restored_columns(&table).unwrap();
    let read = task.read_sorted(&table, folder.path(), |group, rows, bytes| {
        states.restore_rows(&table, &columns, &RestoredRows { group, rows, bytes })
    });
    read.unwrap();
    states.enter(5);
    assert_eq!(more.get(&states), None);
    states.leave();
    assert_eq!(contents(&mut states, name), job.model);
}

#[test]
fn a_damaged_file_is_found_before_anything_is_restored() {
    let folder = tempfile::tempdir().unwrap();
    let mut job = Job::new(MEMORY);
    job.set(0..2000, 1);
    let (table, _) = job.checkpoint(1, None, folder.path());
    let path = table.files[0].slice.uri.strip_prefix("file://").unwrap();
    let mut bytes = fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(path, &bytes).unwrap();
    let fetch = |table: &TableSnapshot| {
        let (task, _) = restored(Vec::new());
        task.fetch(table, &folder.path().join("fetched")).unwrap_err().to_string()
    };
    let error = fetch(&table);
    assert!(error.contains(path) && error.contains("is damaged"), "{error}");
    fs::remove_file(path).unwrap();
    let error = fetch(&table);
    assert!(error.contains(path) && error.contains("it was removed"), "{error}");
}

#[test]
fn working_files_go_with_the_state_and_its_snapshots() {
    let base = tempfile::tempdir().unwrap();
    let working = base.path().join("working");
    let (declared, name) = declared();
    let groups = KeyGroups::new(GROUPS, 1);
    let setup =
        StoreSetup { memory: 1024, base: &working, name: "state-0-0-0".to_owned(), tables: Vec::new(), restored: None };
    let mut states = KeyedStates::<u64>::over(declared, groups, groups.range_of(0));
    states.keep_in(StoredRows::open(setup, groups.range_of(0), None).unwrap());
    states.enter(1);
    name.set(&mut states, "one".to_owned());
    states.leave();
    states.begin(0, None);
    while states.step_stored(100) {}
    let snapshot = states.finish_stored().unwrap();
    drop(states);
    let mut rows = 0;
    snapshot.read(|_, count, _| rows += count).unwrap();
    assert_eq!(rows, 1, "a snapshot outlives the task");
    assert!(!working.exists());
}
