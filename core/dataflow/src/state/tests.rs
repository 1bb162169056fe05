//! Keyed state in memory and in files: the same suite for both.

use weir_checkpoint::TableSnapshot;
use weir_model::KeyGroups;

use super::declare::Declared;
use super::keyed::KeyedStates;
use super::snapshot::WriteGroups;
use super::stored::{StoreSetup, StoredRows};
use super::timers::TimerQueues;
use super::*;
use crate::failure::TaskError;
use crate::record::Record;
use crate::snapshot::RestoredRows;

const GROUPS: u32 = 16;

mod in_files;
mod in_memory;
mod incremental;

fn with_memory<K: Record + Eq + std::hash::Hash>(
    memory: usize,
    declared: Declared,
    groups: KeyGroups,
    subtask: u32,
) -> KeyedStates<K> {
    let own = groups.range_of(subtask);
    let pinned = TimerQueues::column_of(&declared);
    let base = std::env::temp_dir().join(format!("weir-state-{}", std::process::id()));
    let name = "state-0-0-0".to_owned();
    let setup = StoreSetup { memory, base: &base, name, tables: Vec::new(), restored: None };
    let mut states = KeyedStates::over(declared, groups, own.clone());
    states.keep_in(StoredRows::open(setup, own, pinned).unwrap());
    states
}

/// Groups of a snapshot; buffers come back with the room they had.
#[derive(Default)]
struct Written(Vec<RestoredRows>);

impl WriteGroups for Written {
    fn buffer(&mut self) -> Option<Vec<u8>> {
        self.0.last().map(|last| Vec::with_capacity(last.bytes.len()))
    }
    fn write(&mut self, group: u32, rows: u64, bytes: Vec<u8>) {
        self.0.push(RestoredRows { group, rows, bytes });
    }
}

/// What the suite does with states.
impl<K: Record + Eq + std::hash::Hash> KeyedStates<K> {
    fn at<R>(&mut self, key: K, f: impl FnOnce(&mut Self) -> R) -> R {
        self.enter(key);
        let result = f(self);
        self.leave();
        self.squeeze();
        result
    }

    fn table(&self) -> TableSnapshot {
        let table = self.declared.table::<K>();
        TableSnapshot {
            name: table.name,
            key: table.key,
            columns: table.columns,
            max_parallelism: GROUPS,
            groups: Vec::new(),
            files: Vec::new(),
        }
    }

    /// Takes a whole snapshot.
    fn write(&mut self, now: i64) -> (TableSnapshot, Vec<RestoredRows>) {
        self.begin(now, None);
        let mut rows = Vec::new();
        while self.step_into(3, 100, &mut rows) {}
        (self.table(), rows)
    }

    /// Takes a part of a snapshot.
    fn step_into(&mut self, slots: usize, bytes: usize, rows: &mut Vec<RestoredRows>) -> bool {
        if self.stored.is_none() {
            let mut written = Written(std::mem::take(rows));
            let more = self.step(slots, bytes, &mut written);
            *rows = written.0;
            return more;
        }
        let more = self.step_stored(slots);
        if !more && self.run.is_some() {
            let snapshot = self.finish_stored().unwrap();
            // What comes behind the barrier must not be in it, even if it is read later.
            snapshot.read(|group, count, bytes| rows.push(RestoredRows { group, rows: count, bytes })).unwrap();
        }
        more
    }

    /// Takes what can leave memory out of it, now and then.
    fn squeeze(&mut self) {
        let KeyedStates { tables, declared, stored, run, now, .. } = self;
        if let Some(stored) = stored {
            stored.squeeze(tables, &declared.columns, run.is_some(), *now);
        }
    }

    fn read(&mut self, (table, rows): &(TableSnapshot, Vec<RestoredRows>)) -> Result<(), TaskError> {
        self.restore(table, rows.iter().cloned().map(Ok))
    }

    fn slots(&self) -> usize {
        self.tables.iter().map(|table| table.rows.len() as usize).sum()
    }
}

#[test]
fn the_memory_of_states_is_accounted() {
    let mut declared = Declared::default();
    let (count, name) = (declared.declarer().value::<u64>("count"), declared.declarer().value::<String>("name"));
    let groups = KeyGroups::new(GROUPS, 1);
    let mut states = KeyedStates::<u64>::over(declared, groups, groups.range_of(0));
    for key in 0..10_000 {
        states.at(key, |states| count.set(states, key));
    }
    let numbers = states.state_bytes();
    // At least key and value; at most with their marks, places in the index and vectors twice as large as needed.
    assert!((160_000..1_600_000).contains(&numbers), "{numbers}");
    for key in 0..10_000 {
        states.at(key, |states| name.set(states, "x".repeat(1000)));
    }
    let texts = states.state_bytes() - numbers;
    assert!((10_000_000..12_000_000).contains(&texts), "{texts}");
}

#[test]
fn preparing_for_keys_changes_nothing_in_states_that_are_large() {
    let mut declared = Declared::default();
    let value = declared.declarer().value::<[u64; 8]>("value");
    let groups = KeyGroups::new(GROUPS, 2);
    let mut states = KeyedStates::<u64>::over(declared, groups, groups.range_of(0));
    let own = |key: &u64| groups.subtask_of(groups.group_of(key.key_hash())) == 0;
    let keys: Vec<u64> = (0..80_000).filter(own).collect();
    for block in keys.chunks(64) {
        // Keys that are there, that are not there yet, and that never will be because they are another subtask's.
        let first = block[0];
        states.prepare(block.iter().chain(&keys[..8]).copied().chain(first..first + 4));
        for &key in block {
            states.at(key, |states| value.set(states, [key; 8]));
        }
    }
    assert_eq!(states.len(), keys.len());
    assert!(states.state_bytes() > 3 << 20, "{} bytes: too few for memory to be asked for", states.state_bytes());
    for &key in &keys {
        assert_eq!(states.at(key, |states| value.get(states).copied()), Some([key; 8]));
    }
}
