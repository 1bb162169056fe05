//! What snapshots hold, for how long, and what can be made of them.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::thread;

use weir_lsm::{KeyGroups, LsmError, Options, RestoreFile, Snapshot, SnapshotFile, Store};
use xxhash_rust::xxh3::xxh3_64;

fn options(prefix: &str, first: u16, last: u16) -> Options {
    Options { memory: 48 << 10, block_size: 512, ..Options::new(prefix, KeyGroups::new(first, last)) }
}

fn key(group: u16, number: u32) -> Vec<u8> {
    [&group.to_be_bytes()[..], &number.to_be_bytes()].concat()
}

fn fill(store: &mut Store, count: u32, value: &[u8]) {
    let groups = store.key_groups();
    for number in 0..count {
        for group in groups.first..=groups.last {
            store.put(&key(group, number), value).unwrap();
        }
    }
}

fn snapshot(store: &mut Store) -> Snapshot {
    store.snapshot().unwrap().wait().unwrap()
}

fn for_restore<'a>(files: impl IntoIterator<Item = &'a SnapshotFile>) -> Vec<RestoreFile> {
    let restore = |file: &SnapshotFile| RestoreFile {
        path: file.path.clone(),
        checksum: file.checksum,
        key_groups: file.key_groups,
    };
    files.into_iter().map(restore).collect()
}

fn restore(folder: &Path, prefix: &str, first: u16, last: u16, snapshots: &[&Snapshot]) -> Store {
    let files = for_restore(snapshots.iter().flat_map(|snapshot| snapshot.files()));
    Store::restore(folder.join(prefix), options(prefix, first, last), &files).unwrap()
}

fn count(store: &Store) -> usize {
    let mut scan = store.scan(&[], None).unwrap();
    let mut count = 0;
    while scan.next_entry().unwrap().is_some() {
        count += 1;
    }
    count
}

fn names(snapshot: &Snapshot) -> BTreeSet<&str> {
    snapshot.files().iter().map(|file| file.name.as_str()).collect()
}

#[test]
fn pinned_files_survive_merging_and_the_store_and_go_with_the_snapshot() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    let mut store = Store::open(&path, options("a", 0, 3)).unwrap();
    fill(&mut store, 500, b"old");
    let first = snapshot(&mut store);
    // Enough to have every file of the snapshot merged away.
    for round in 0..8 {
        fill(&mut store, 500, format!("new {round}").as_bytes());
        snapshot(&mut store);
    }
    let later = snapshot(&mut store);
    assert!(names(&first).is_disjoint(&names(&later)), "nothing was merged: {:?}", store.stats());
    drop((later, store));

    for file in first.files() {
        let bytes = fs::read(&file.path).unwrap();
        assert_eq!((bytes.len() as u64, xxh3_64(&bytes)), (file.length, file.checksum), "{}", file.name);
    }
    let restored = restore(folder.path(), "b", 0, 3, &[&first]);
    assert_eq!(restored.get(&key(2, 499)).unwrap().as_deref(), Some(&b"old"[..]));
    assert_eq!(count(&restored), 2000);
    drop(first);
    assert_eq!(fs::read_dir(&path).unwrap().count(), 0, "the files went with their last holder");
    assert_eq!(count(&restored), 2000, "what was restored has links of its own");
}

#[test]
fn a_snapshot_names_the_files_of_the_one_before_again() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = Store::open(folder.path().join("store"), options("a", 0, 0)).unwrap();
    store.put(&key(0, 1), b"one").unwrap();
    let first = snapshot(&mut store);
    store.put(&key(0, 2), b"two").unwrap();
    let second = snapshot(&mut store);
    assert_eq!((first.files().len(), second.files().len()), (1, 2));
    assert!(names(&first).is_subset(&names(&second)));
    assert_eq!(names(&snapshot(&mut store)), names(&second), "nothing new, no new file");

    // Also after a restore: names, lengths and checksums stay.
    let mut restored = restore(folder.path(), "b", 0, 0, &[&second]);
    restored.put(&key(0, 3), b"three").unwrap();
    let third = snapshot(&mut restored);
    for file in second.files() {
        let again = third.files().iter().find(|other| other.name == file.name).unwrap();
        assert_eq!((again.length, again.checksum), (file.length, file.checksum));
    }
    assert_eq!(third.files().len(), 3);
}

#[test]
fn a_snapshot_holds_its_moment_while_the_store_goes_on_and_even_after_it_went() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = Store::open(folder.path().join("store"), options("a", 0, 0)).unwrap();
    fill(&mut store, 3000, b"before");
    // A task is built on one thread and runs on another.
    let mut store = thread::spawn(move || store).join().unwrap();
    let pending = store.snapshot().unwrap();
    let uploader = thread::spawn(move || pending.wait().unwrap());
    fill(&mut store, 3000, b"after");
    drop(store);
    let snapshot = uploader.join().unwrap();
    let restored = restore(folder.path(), "b", 0, 0, &[&snapshot]);
    for number in 0..3000 {
        assert_eq!(restored.get(&key(0, number)).unwrap().as_deref(), Some(&b"before"[..]));
    }
}

#[test]
fn an_empty_store_has_an_empty_snapshot() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = Store::open(folder.path().join("store"), options("a", 0, 0)).unwrap();
    assert!(snapshot(&mut store).files().is_empty());
    store.put(&key(0, 1), b"short-lived").unwrap();
    store.delete(&key(0, 1)).unwrap();
    assert!(snapshot(&mut store).files().is_empty(), "a tombstone with nothing below it is not written");
}

#[test]
fn state_splits_and_joins_at_exact_key_groups_though_files_are_shared() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let mut whole = Store::open(folder.join("whole"), options("whole", 0, 9)).unwrap();
    fill(&mut whole, 300, b"first");
    let split = snapshot(&mut whole);

    let mut left = restore(folder, "left", 0, 3, &[&split]);
    let mut right = restore(folder, "right", 4, 9, &[&split]);
    assert_eq!((count(&left), count(&right)), (4 * 300, 6 * 300));
    // The left one changes and deletes its part; the right one still has the old file with the left part in it.
    for number in 0..300 {
        left.put(&key(2, number), b"second").unwrap();
        left.delete(&key(3, number)).unwrap();
    }
    let (left_half, right_half) = (snapshot(&mut left), snapshot(&mut right));

    let joined = restore(folder, "joined", 0, 9, &[&right_half, &left_half]);
    assert_eq!(count(&joined), 9 * 300);
    assert_eq!(joined.get(&key(2, 7)).unwrap().as_deref(), Some(&b"second"[..]));
    assert!(
        joined.get(&key(3, 299)).unwrap().is_none(),
        "what one task deleted does not come back with the other's files"
    );
    assert_eq!(joined.get(&key(4, 0)).unwrap().as_deref(), Some(&b"first"[..]));

    // Other borders than before.
    let middle = restore(folder, "middle", 2, 5, &[&left_half, &right_half]);
    assert_eq!(count(&middle), 3 * 300);
    let nothing = restore(folder, "nothing", 20, 30, &[&left_half, &right_half]);
    assert_eq!((count(&nothing), nothing.stats().files), (0, 0), "files of other groups are left alone");
}

#[test]
fn what_was_clipped_away_stays_away_when_files_are_merged() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let mut whole = Store::open(folder.join("whole"), options("whole", 0, 9)).unwrap();
    fill(&mut whole, 300, b"first");
    let split = snapshot(&mut whole);
    let mut middle = restore(folder, "middle", 4, 5, &[&split]);
    for _ in 0..6 {
        fill(&mut middle, 300, b"second");
        snapshot(&mut middle);
    }
    let merged = snapshot(&mut middle);
    assert!(names(&merged).is_disjoint(&names(&split)), "nothing was merged");
    assert_eq!(count(&restore(folder, "again", 0, 9, &[&merged])), 2 * 300);
}

#[test]
fn files_that_do_not_belong_together_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let two = ["a", "b"].map(|prefix| {
        let mut store = Store::open(folder.join(prefix), options(prefix, 0, 3)).unwrap();
        for _ in 0..6 {
            fill(&mut store, 300, b"value");
            snapshot(&mut store);
        }
        snapshot(&mut store)
    });
    let files = for_restore(two.iter().flat_map(Snapshot::files));
    let error = Store::restore(folder.join("c"), options("c", 0, 3), &files).map(drop).unwrap_err();
    assert!(matches!(error, LsmError::Overlap { .. }), "{error}");
    let error =
        Store::restore(folder.join("d"), options("a", 0, 3), &for_restore(two[0].files())).map(drop).unwrap_err();
    assert!(matches!(error, LsmError::PrefixInUse { .. }), "{error}");
}

#[test]
fn large_values_come_back() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = Store::open(folder.path().join("store"), options("a", 0, 0)).unwrap();
    let large = |number: u32| vec![number as u8; 300_000 + number as usize];
    for number in 0..12 {
        store.put(&key(0, number), &large(number)).unwrap();
        store.put(&key(0, 1000 + number), b"small").unwrap();
    }
    let snapshot = snapshot(&mut store);
    let restored = restore(folder.path(), "b", 0, 0, &[&snapshot]);
    for store in [&store, &restored] {
        for number in 0..12 {
            assert!(*store.get(&key(0, number)).unwrap().unwrap() == large(number)[..]);
        }
        assert_eq!(count(store), 24);
    }
}

#[test]
fn sizes_are_accounted_and_bounded() {
    let folder = tempfile::tempdir().unwrap();
    let memory = 240 << 10;
    let options = Options { memory, block_size: 1024, ..Options::new("a", KeyGroups::new(0, 0)) };
    let mut store = Store::open(folder.path().join("store"), options).unwrap();
    for round in 0..30 {
        fill(&mut store, 3000, format!("a value of some length, round {round}").as_bytes());
        assert!(store.stats().buffer_bytes <= memory / 2 + 1024, "{:?}", store.stats());
    }
    drop(snapshot(&mut store));
    for number in 0..3000 {
        assert!(store.get(&key(0, number)).unwrap().is_some());
        let stats = store.stats();
        assert!(stats.cache_bytes + stats.index_bytes <= memory / 2, "{stats:?}");
    }
    let stats = store.stats();
    assert!(stats.cache_bytes > 0 && stats.index_bytes > 0, "{stats:?}");
    let written = 30 * 3000 * 40;
    assert!(stats.disk_bytes < written / 4, "old values are merged away: {stats:?}");
    let on_disk: u64 =
        fs::read_dir(folder.path().join("store")).unwrap().map(|entry| entry.unwrap().metadata().unwrap().len()).sum();
    assert!(on_disk >= stats.disk_bytes);
}
