use std::os::unix::fs::symlink;

use super::*;

fn uri(folder: &Path, name: &str) -> String {
    format!("file://{}", folder.join(name).display())
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

fn kind<T>(result: Result<T, StorageError>) -> StorageErrorKind {
    result.err().expect("an error").kind()
}

#[test]
fn a_file_is_seen_when_it_is_finished_and_read_in_ranges() {
    let folder = tempfile::tempdir().unwrap();
    let uri = uri(folder.path(), "job/chk-1/state");
    let mut file = LocalFiles.create(&uri).unwrap();
    let bytes: Vec<u8> = (0..GATHERED * 2).map(|i| (i % 251) as u8).collect();
    file.write(&bytes[..10]).unwrap();
    assert_eq!(kind(LocalFiles.read(&uri, 0, 1)), StorageErrorKind::NotFound);
    file.write(&bytes[10..]).unwrap();
    assert_eq!(file.finish().unwrap(), bytes.len() as u64);
    assert_eq!(names(&folder.path().join("job/chk-1")), ["state"]);
    for (offset, len) in [(0, bytes.len()), (7, 100), (bytes.len(), 0), (GATHERED - 1, 3)] {
        let found = LocalFiles.read(&uri, offset as u64, len as u64).unwrap();
        assert!(found == bytes[offset..offset + len], "{len} bytes from {offset} on");
    }
}

#[test]
fn a_file_that_is_dropped_leaves_nothing_and_one_that_is_replaced_stays_whole() {
    let folder = tempfile::tempdir().unwrap();
    let uri = uri(folder.path(), "state");
    let mut first = LocalFiles.create(&uri).unwrap();
    first.write(b"first").unwrap();
    drop(first);
    assert_eq!(names(folder.path()), [""; 0]);
    for text in ["second", "third"] {
        let mut file = LocalFiles.create(&uri).unwrap();
        file.write(text.as_bytes()).unwrap();
        file.finish().unwrap();
        assert_eq!(LocalFiles.read(&uri, 0, text.len() as u64).unwrap(), text.as_bytes());
    }
}

#[test]
fn a_folder_that_is_removed_while_a_file_is_written_fails_the_file_and_is_made_again() {
    let folder = tempfile::tempdir().unwrap();
    let uri = uri(folder.path(), "chk-1/state");
    let mut file = LocalFiles.create(&uri).unwrap();
    fs::remove_dir_all(folder.path().join("chk-1")).unwrap();
    file.write(b"content").unwrap();
    let error = file.finish().unwrap_err();
    assert_eq!(error.kind(), StorageErrorKind::NotFound);
    assert!(error.to_string().contains("its folder was removed"), "{error}");
    LocalFiles.create(&uri).unwrap().finish().unwrap();
    assert!(LocalFiles.read(&uri, 0, 0).unwrap().is_empty());
}

#[test]
fn what_goes_beyond_the_end_is_truncated_however_large_it_claims_to_be() {
    let folder = tempfile::tempdir().unwrap();
    let uri = uri(folder.path(), "state");
    fs::write(folder.path().join("state"), "12345").unwrap();
    for (offset, len) in [(0, 6), (5, 1), (6, 0), (u64::MAX, 1), (1, u64::MAX)] {
        let error = LocalFiles.read(&uri, offset, len).unwrap_err();
        assert_eq!(error.kind(), StorageErrorKind::Truncated, "{error}");
        assert!(error.to_string().contains("it has 5 bytes"), "{error}");
    }
}

#[test]
fn places_where_no_file_can_be_are_told_apart() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("file"), "").unwrap();
    fs::create_dir(folder.path().join("folder")).unwrap();
    let create = |name: &str| kind(LocalFiles.create(&uri(folder.path(), name)));
    let read = |name: &str| kind(LocalFiles.read(&uri(folder.path(), name), 0, 0));
    assert_eq!(create("file/state"), StorageErrorKind::NotAFolder);
    assert_eq!(create("folder"), StorageErrorKind::NotAFolder);
    assert_eq!(read("folder"), StorageErrorKind::NotAFolder);
    assert_eq!(read("missing/state"), StorageErrorKind::NotFound);
    // Even root cannot make files there.
    assert_eq!(kind(LocalFiles.create("file:///proc/self/state")), StorageErrorKind::NotFound);
    let other = |uri: &str| kind(LocalFiles.create(uri));
    assert_eq!(other("hdfs://names/state"), StorageErrorKind::UnsupportedScheme);
    for wrong in ["relative", "file://host/state", "file:///a/../b", "file:///", ""] {
        assert_eq!(other(wrong), StorageErrorKind::InvalidUri, "{wrong}");
    }
}

#[test]
fn a_full_device_is_said_to_be_full_and_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let mut file = LocalFile::create(&uri(folder.path(), "state")).unwrap();
    // Writing there fails as on a full disk.
    let full = folder.path().join("full");
    symlink("/dev/full", &full).unwrap();
    file.file = BufWriter::with_capacity(4, OpenOptions::new().write(true).open(&full).unwrap());
    let error = file.write(b"more than is gathered").unwrap_err();
    assert_eq!(error.kind(), StorageErrorKind::NoSpace, "{error}");
    assert!(error.to_string().contains("make room") && error.uri().ends_with("/state"), "{error}");
    drop(file);
    assert_eq!(names(folder.path()), ["full"]);
}
