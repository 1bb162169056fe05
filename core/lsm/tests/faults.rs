//! Full disks, damaged files and wrong calls.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use weir_lsm::{KeyGroups, LsmError, Options, RestoreFile, Store};

fn options(prefix: &str) -> Options {
    Options { memory: 96 << 10, block_size: 512, ..Options::new(prefix, KeyGroups::ALL) }
}

fn key(number: u32) -> Vec<u8> {
    [&[0, (number % 4) as u8][..], &number.to_be_bytes()].concat()
}

fn value(number: u32) -> Vec<u8> {
    format!("value {number}").into_bytes()
}

/// One file with the numbers below `count`, a tenth of which were deleted again.
fn write_file(folder: &Path, count: u32) -> Vec<u8> {
    let mut store = Store::open(folder.join("writer"), options("writer")).unwrap();
    for number in 0..count {
        store.put(&key(number), &value(number)).unwrap();
    }
    let snapshot = store.snapshot().unwrap().wait().unwrap();
    assert_eq!(snapshot.files().len(), 1);
    fs::read(&snapshot.files()[0].path).unwrap()
}

fn restore(folder: &Path, path: &Path) -> Result<Store, LsmError> {
    let file = RestoreFile { path: path.to_path_buf(), checksum: 0, key_groups: KeyGroups::ALL };
    Store::restore(folder, options("reader"), &[file])
}

/// Reads everything in every way; whether each read was right. A wrong value or a panic fails the test.
fn reads_right_or_fails(store: &Store, count: u32) -> Result<(), LsmError> {
    let mut outcome = Ok(());
    for number in 0..count {
        match store.get(&key(number)) {
            Ok(found) => assert_eq!(found.as_deref(), Some(&value(number)[..]), "{number}"),
            Err(error) => outcome = Err(error),
        }
        match store.get(&key(count + number)) {
            Ok(found) => assert!(found.is_none()),
            Err(error) => outcome = Err(error),
        }
    }
    let mut scan = store.scan(&[], None)?;
    let mut seen = 0;
    while let Some((found_key, found_value)) = scan.next_entry()? {
        let number = u32::from_be_bytes(found_key[2..].try_into().unwrap());
        assert_eq!((found_key, found_value), (&key(number)[..], &value(number)[..]));
        seen += 1;
    }
    assert_eq!(seen, count, "a scan that reports no error has everything");
    outcome
}

#[test]
fn a_flipped_byte_anywhere_in_a_file_is_an_error_or_has_no_effect() {
    const COUNT: u32 = 40;
    let folder = tempfile::tempdir().unwrap();
    let good = write_file(folder.path(), COUNT);
    let path = folder.path().join("damaged.sst");
    for at in 0..good.len() {
        for mask in [1 << (at % 8), 0xff] {
            let mut bytes = good.clone();
            bytes[at] ^= mask;
            fs::write(&path, &bytes).unwrap();
            let reader = folder.path().join(format!("{at}-{mask}"));
            let error = restore(&reader, &path)
                .and_then(|store| reads_right_or_fails(&store, COUNT))
                .expect_err("every byte is covered by a checksum");
            match &error {
                LsmError::Corrupt { path, offset, .. } => {
                    assert!(path.starts_with(&reader));
                    assert!(*offset <= at as u64, "byte {at} was damaged, byte {offset} is named");
                }
                other => panic!("{other}"),
            }
        }
    }
}

#[test]
fn a_file_cut_off_anywhere_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let good = write_file(folder.path(), 60);
    let path = folder.path().join("cut.sst");
    for length in 0..good.len() {
        fs::write(&path, &good[..length]).unwrap();
        let error = restore(&folder.path().join(length.to_string()), &path).map(drop).unwrap_err();
        assert!(matches!(error, LsmError::Corrupt { .. }), "{length}: {error}");
    }
}

#[test]
fn a_file_of_another_format_is_told_from_a_damaged_one() {
    let folder = tempfile::tempdir().unwrap();
    let mut bytes = write_file(folder.path(), 60);
    let footer = bytes.len() - 40;
    bytes[footer + 12..footer + 16].copy_from_slice(&2_u32.to_le_bytes());
    let checksum = xxhash_rust::xxh3::xxh3_64(&bytes[footer..footer + 24]);
    bytes[footer + 24..footer + 32].copy_from_slice(&checksum.to_le_bytes());
    let path = folder.path().join("newer.sst");
    fs::write(&path, &bytes).unwrap();
    let error = restore(&folder.path().join("reader"), &path).map(drop).unwrap_err();
    assert!(matches!(error, LsmError::UnknownFormat { found: 2, supported: 1, .. }), "{error}");
}

#[test]
fn a_block_of_another_file_is_noticed() {
    let folder = tempfile::tempdir().unwrap();
    let mut files = ["first", "second"].map(|prefix| {
        let mut store = Store::open(folder.path().join(prefix), options(prefix)).unwrap();
        for number in 0..60 {
            store.put(&key(number), &prefix.as_bytes()[..5]).unwrap();
        }
        let snapshot = store.snapshot().unwrap().wait().unwrap();
        fs::read(&snapshot.files()[0].path).unwrap()
    });
    // Whole blocks from the other file, with their checksums: same keys, same lengths.
    let half = files[0].len() / 2;
    let others = files[1][..half].to_vec();
    files[0][..half].copy_from_slice(&others);
    let path = folder.path().join("mixed.sst");
    fs::write(&path, &files[0]).unwrap();
    let store = restore(&folder.path().join("reader"), &path).unwrap();
    let error = store.get(&key(0)).unwrap_err();
    assert!(matches!(error, LsmError::Corrupt { offset: 0, .. }), "{error}");
}

/// The names of new files are known, so that one of them can be led to a device that is always full.
fn fill_disk_for(folder: &Path, file: u32) -> std::path::PathBuf {
    let path = folder.join(format!("full-{file:08}.sst.tmp"));
    symlink("/dev/full", &path).unwrap();
    path
}

#[test]
fn a_full_disk_is_reported_and_nothing_is_lost_once_there_is_room() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path().join("store");
    let mut store = Store::open(&folder, options("full")).unwrap();
    for file in 1..=3 {
        fill_disk_for(&folder, file);
    }
    let mut failures = 0;
    for number in 0..20_000 {
        while let Err(error) = store.put(&key(number), &value(number)) {
            assert!(matches!(&error, LsmError::NoSpace { path, .. } if path.starts_with(&folder)), "{error}");
            failures += 1;
        }
    }
    assert_eq!(failures, 3);
    for number in 0..20_000 {
        assert_eq!(store.get(&key(number)).unwrap().as_deref(), Some(&value(number)[..]));
    }
    store.snapshot().unwrap().wait().unwrap();
}

#[test]
fn a_snapshot_on_a_full_disk_fails_and_the_next_one_has_everything() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    let mut store = Store::open(&path, options("full")).unwrap();
    fill_disk_for(&path, 1);
    store.put(&key(1), b"kept").unwrap();
    let error = store.snapshot().unwrap().wait().map(drop).unwrap_err();
    assert!(matches!(error, LsmError::NoSpace { .. }), "{error}");
    assert!(error.to_string().contains("make room"), "{error}");

    // The task hears of it as well, once; then it goes on.
    assert!(matches!(store.snapshot().map(drop), Err(LsmError::NoSpace { .. })));
    let snapshot = store.snapshot().unwrap().wait().unwrap();
    let file = &snapshot.files()[0];
    let files = [RestoreFile { path: file.path.clone(), checksum: file.checksum, key_groups: file.key_groups }];
    let restored = Store::restore(folder.path().join("restored"), options("next"), &files).unwrap();
    assert_eq!(restored.get(&key(1)).unwrap().as_deref(), Some(&b"kept"[..]));
}

#[test]
fn a_folder_that_is_gone_is_an_error_that_names_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    let mut store = Store::open(&path, options("gone")).unwrap();
    store.put(&key(1), b"value").unwrap();
    fs::remove_dir_all(&path).unwrap();
    let error = store.snapshot().unwrap().wait().map(drop).unwrap_err();
    assert!(matches!(&error, LsmError::Io { path: found, .. } if found.starts_with(&path)), "{error}");
    assert_eq!(store.get(&key(1)).unwrap().as_deref(), Some(&b"value"[..]));
}

#[test]
fn wrong_calls_are_refused_with_the_reason() {
    let folder = tempfile::tempdir().unwrap();
    let groups = KeyGroups::new(4, 7);
    let mut store = Store::open(folder.path().join("store"), Options::new("a", groups)).unwrap();
    for foreign in [&[][..], &[0], &[0, 3, 1], &[0, 8]] {
        assert!(matches!(store.put(foreign, b""), Err(LsmError::ForeignKey { groups: (4, 7), .. })), "{foreign:?}");
        assert!(matches!(store.get(foreign), Err(LsmError::ForeignKey { .. })), "{foreign:?}");
    }
    store.put(&[0, 4], b"").unwrap();
    store.put(&[0, 7], b"").unwrap();
    for prefix in ["", "a/b", ".hidden", "a b"] {
        let opened = Store::open(folder.path().join("other"), Options::new(prefix, groups)).map(drop);
        assert!(matches!(opened, Err(LsmError::InvalidPrefix { .. })), "{prefix:?}");
    }
    fs::create_dir(folder.path().join("used")).unwrap();
    fs::write(folder.path().join("used/something"), "").unwrap();
    let opened = Store::open(folder.path().join("used"), Options::new("a", groups)).map(drop);
    assert!(matches!(opened, Err(LsmError::FolderNotEmpty { found, .. }) if found == "something"));
}
