//! Random sequences of everything a task does, against a map in memory.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use weir_lsm::{KeyGroups, Options, RestoreFile, Scan, Snapshot, Store};

type Model = BTreeMap<Vec<u8>, Vec<u8>>;

const GROUPS: u16 = 16;

#[derive(Debug, Clone)]
enum Step {
    Put(Vec<u8>, Vec<u8>),
    Delete(Vec<u8>),
    /// Many neighbouring keys at once, so that buffers fill and files are merged.
    Fill {
        seed: u8,
        count: u16,
    },
    DeleteRange(Vec<u8>, usize),
    Get(Vec<u8>),
    Scan(Vec<u8>, Option<Vec<u8>>),
    ScanGroup(u16),
    Snapshot,
    /// All stores take a snapshot and go; so many others share the key groups.
    Rescale(u16),
    /// Back to the last snapshot.
    Recover,
}

fn key() -> impl Strategy<Value = Vec<u8>> {
    (0..GROUPS, 0..40_u8, 0..4_usize).prop_map(|(group, key, length)| {
        let mut bytes = group.to_be_bytes().to_vec();
        bytes.extend(std::iter::repeat_n(key, length));
        bytes
    })
}

fn value() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        8 => prop::collection::vec(any::<u8>(), 0..40),
        1 => (any::<u8>(), 0..5_000_usize).prop_map(|(byte, length)| vec![byte; length]),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => (key(), value()).prop_map(|(key, value)| Step::Put(key, value)),
        6 => key().prop_map(Step::Delete),
        4 => (any::<u8>(), 0..300_u16).prop_map(|(seed, count)| Step::Fill { seed, count }),
        2 => (key(), 0..60_usize).prop_map(|(key, count)| Step::DeleteRange(key, count)),
        6 => key().prop_map(Step::Get),
        3 => (key(), prop::option::of(key())).prop_map(|(start, end)| Step::Scan(start, end)),
        2 => (0..GROUPS).prop_map(Step::ScanGroup),
        2 => Just(Step::Snapshot),
        1 => (1..5_u16).prop_map(Step::Rescale),
        1 => Just(Step::Recover),
    ]
}

/// Some stores that share the key groups, as the subtasks of a keyed vertex do.
struct Stores {
    folder: PathBuf,
    life: u32,
    stores: Vec<Store>,
    snapshots: Vec<Snapshot>,
    saved: Model,
}

impl Stores {
    fn new(folder: &Path) -> Self {
        let mut stores = Self {
            folder: folder.to_path_buf(),
            life: 0,
            stores: Vec::new(),
            snapshots: Vec::new(),
            saved: Model::new(),
        };
        stores.restore(1);
        stores
    }

    fn restore(&mut self, parallelism: u16) {
        let files: Vec<RestoreFile> = self
            .snapshots
            .iter()
            .flat_map(|snapshot| snapshot.files())
            .map(|file| RestoreFile { path: file.path.clone(), checksum: file.checksum, key_groups: file.key_groups })
            .collect();
        self.life += 1;
        self.stores = (0..parallelism)
            .map(|subtask| {
                let groups = KeyGroups::new(GROUPS * subtask / parallelism, GROUPS * (subtask + 1) / parallelism - 1);
                let name = format!("{}-{subtask}", self.life);
                let options = Options { memory: 12 << 10, block_size: 256, ..Options::new(name.as_str(), groups) };
                Store::restore(self.folder.join(name), options, &files).unwrap()
            })
            .collect();
    }

    fn snapshot(&mut self, model: &Model) {
        self.snapshots = self.stores.iter_mut().map(|store| store.snapshot().unwrap().wait().unwrap()).collect();
        self.saved = model.clone();
    }

    fn of(&mut self, key: &[u8]) -> &mut Store {
        self.stores.iter_mut().find(|store| store.key_groups().contain(key)).unwrap()
    }
}

fn all(mut scan: Scan<'_>) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut entries = Vec::new();
    while let Some((key, value)) = scan.next_entry().unwrap() {
        entries.push((key.to_vec(), value.to_vec()));
    }
    entries
}

fn expected(model: &Model, groups: KeyGroups, start: &[u8], end: Option<&[u8]>) -> Vec<(Vec<u8>, Vec<u8>)> {
    let wanted = |key: &[u8]| groups.contain(key) && key >= start && end.is_none_or(|end| key < end);
    model.iter().filter(|(key, _)| wanted(key)).map(|(key, value)| (key.clone(), value.clone())).collect()
}

fn apply(step: Step, stores: &mut Stores, model: &mut Model) {
    match step {
        Step::Put(key, value) => {
            stores.of(&key).put(&key, &value).unwrap();
            model.insert(key, value);
        }
        Step::Delete(key) => {
            stores.of(&key).delete(&key).unwrap();
            model.remove(&key);
        }
        Step::Fill { seed, count } => {
            for number in 0..count {
                let group = (u16::from(seed) + number) % GROUPS;
                let key = [&group.to_be_bytes()[..], &[seed], &number.to_be_bytes()].concat();
                let value = vec![seed ^ number as u8; 30];
                stores.of(&key).put(&key, &value).unwrap();
                model.insert(key, value);
            }
        }
        Step::DeleteRange(start, count) => {
            let keys: Vec<Vec<u8>> = model.range(start..).take(count).map(|(key, _)| key.clone()).collect();
            for key in keys {
                stores.of(&key).delete(&key).unwrap();
                model.remove(&key);
            }
        }
        Step::Get(key) => {
            let found = stores.of(&key).get(&key).unwrap().map(|value| value.to_vec());
            assert_eq!(found.as_ref(), model.get(&key));
        }
        Step::Scan(start, end) => {
            for store in &stores.stores {
                let found = all(store.scan(&start, end.as_deref()).unwrap());
                assert_eq!(found, expected(model, store.key_groups(), &start, end.as_deref()));
            }
        }
        Step::ScanGroup(group) => {
            let prefix = group.to_be_bytes();
            let found = all(stores.of(&prefix).scan_prefix(&prefix).unwrap());
            assert_eq!(found, expected(model, KeyGroups::new(group, group), &[], None));
        }
        Step::Snapshot => stores.snapshot(model),
        Step::Rescale(parallelism) => {
            stores.snapshot(model);
            stores.restore(parallelism);
        }
        Step::Recover => {
            *model = stores.saved.clone();
            let parallelism = stores.stores.len() as u16;
            stores.restore(parallelism);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_store_behaves_as_a_sorted_map(steps in prop::collection::vec(step(), 1..120)) {
        let folder = tempfile::tempdir().unwrap();
        let mut stores = Stores::new(folder.path());
        let mut model = Model::new();
        for step in steps {
            apply(step, &mut stores, &mut model);
        }
        for key in model.keys() {
            let found = stores.of(key).get(key).unwrap().map(|value| value.to_vec());
            prop_assert_eq!(found.as_ref(), model.get(key));
        }
        for store in &stores.stores {
            prop_assert_eq!(all(store.scan(&[], None).unwrap()), expected(&model, store.key_groups(), &[], None));
        }
    }
}
