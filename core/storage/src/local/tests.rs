use std::fs;

use super::*;

const FILES: LocalFileSystem = LocalFileSystem;

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Folder {
        Folder(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> String {
        self.0.path().join(name).to_str().unwrap().to_owned()
    }

    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.0.path()).unwrap();
        let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

async fn write(path: &str, parts: &[&'static str], if_exists: IfExists) -> Result<(), StorageError> {
    let mut writer = FILES.create(path, if_exists).await?;
    for part in parts {
        writer.write(Bytes::from_static(part.as_bytes())).await?;
    }
    writer.finish().await
}

async fn read(path: &str, offset: u64, limit: Option<u64>) -> Result<Vec<u8>, StorageError> {
    let mut reader = FILES.read(path, offset, limit).await?;
    let mut all = Vec::new();
    while let Some(bytes) = reader.next().await? {
        assert!(!bytes.is_empty());
        all.extend_from_slice(&bytes);
    }
    Ok(all)
}

#[tokio::test]
async fn what_is_written_is_read_back_whole_and_in_ranges() {
    let folder = Folder::new();
    let path = folder.path("a/b/file");
    write(&path, &["hello, ", "", "world"], IfExists::Fail).await.unwrap();
    assert_eq!(read(&path, 0, None).await.unwrap(), b"hello, world");
    assert_eq!(read(&path, 7, None).await.unwrap(), b"world");
    assert_eq!(read(&path, 7, Some(2)).await.unwrap(), b"wo");
    assert_eq!(read(&path, 99, None).await.unwrap(), b"");
    assert_eq!(FILES.metadata(&path).await.unwrap().size, 12);
    let long = vec![7u8; 3 * CHUNK + 1];
    fs::write(folder.path("long"), &long).unwrap();
    assert!(read(&folder.path("long"), 0, None).await.unwrap() == long);
}

#[tokio::test]
async fn nothing_is_seen_of_a_file_before_it_is_finished() {
    let folder = Folder::new();
    let path = folder.path("file");
    let mut writer = FILES.create(&path, IfExists::Fail).await.unwrap();
    writer.write(Bytes::from_static(b"half")).await.unwrap();
    assert!(FILES.metadata(&path).await.unwrap_err().is_not_found());
    assert_eq!(FILES.list(&folder.path("")).await.unwrap(), []);
    assert_eq!(folder.names().len(), 1, "it is there under another name");
    drop(writer);
    assert_eq!(folder.names().len(), 0, "dropping the writer leaves nothing");
}

#[tokio::test]
async fn of_several_creators_one_succeeds() {
    let folder = Folder::new();
    let path = folder.path("file");
    let mut first = FILES.create(&path, IfExists::Fail).await.unwrap();
    let second = FILES.create(&path, IfExists::Fail).await.unwrap();
    first.write(Bytes::from_static(b"first")).await.unwrap();
    second.finish().await.unwrap();
    let error = first.finish().await.unwrap_err();
    assert!(matches!(error, StorageError::AlreadyExists { .. }), "{error}");
    assert_eq!(read(&path, 0, None).await.unwrap(), b"");
    write(&path, &["third"], IfExists::Replace).await.unwrap();
    assert_eq!(read(&path, 0, None).await.unwrap(), b"third");
    assert_eq!(folder.names(), ["file"]);
}

#[tokio::test]
async fn a_reader_goes_on_with_what_it_opened() {
    let folder = Folder::new();
    let path = folder.path("file");
    write(&path, &["old"], IfExists::Fail).await.unwrap();
    let mut reader = FILES.read(&path, 0, None).await.unwrap();
    write(&path, &["new content"], IfExists::Replace).await.unwrap();
    assert_eq!(reader.next().await.unwrap().unwrap(), "old");
    assert_eq!(reader.next().await.unwrap(), None);
}

#[tokio::test]
async fn renaming_keeps_or_replaces_the_target_as_asked() {
    let folder = Folder::new();
    let (a, b) = (folder.path("a"), folder.path("sub/b"));
    write(&a, &["a"], IfExists::Fail).await.unwrap();
    FILES.rename(&a, &b, IfExists::Fail).await.unwrap();
    assert!(FILES.rename(&a, &b, IfExists::Fail).await.unwrap_err().is_not_found());
    write(&a, &["again"], IfExists::Fail).await.unwrap();
    let error = FILES.rename(&a, &b, IfExists::Fail).await.unwrap_err();
    assert!(matches!(error, StorageError::AlreadyExists { .. }), "{error}");
    FILES.rename(&a, &b, IfExists::Replace).await.unwrap();
    assert_eq!(read(&b, 0, None).await.unwrap(), b"again");
}

#[tokio::test]
async fn lists_have_files_by_name_and_deleting_twice_is_fine() {
    let folder = Folder::new();
    for name in ["b", "a", "sub/c"] {
        write(&folder.path(name), &["x"], IfExists::Fail).await.unwrap();
    }
    let list = FILES.list(&folder.path("")).await.unwrap();
    let names: Vec<_> = list.iter().map(|file| (file.name.as_str(), file.metadata.size)).collect();
    assert_eq!(names, [("a", 1), ("b", 1)]);
    assert_eq!(FILES.list(&folder.path("nowhere")).await.unwrap(), []);
    FILES.delete(&folder.path("a")).await.unwrap();
    FILES.delete(&folder.path("a")).await.unwrap();
    let error = read(&folder.path("a"), 0, None).await.unwrap_err();
    assert!(error.is_not_found() && error.to_string().contains("/a"), "{error}");
}

#[tokio::test]
async fn what_a_dead_writer_left_is_removed() {
    let folder = Folder::new();
    write(&folder.path("kept"), &["x"], IfExists::Fail).await.unwrap();
    std::mem::forget(FILES.create(&folder.path("lost"), IfExists::Fail).await.unwrap());
    assert_eq!(folder.names().len(), 2);
    FILES.remove_unfinished(&folder.path("")).await.unwrap();
    assert_eq!(folder.names(), ["kept"]);
    FILES.remove_unfinished(&folder.path("nowhere")).await.unwrap();
}

#[tokio::test]
async fn a_full_device_is_called_that() {
    // A device that is always full.
    let error = fs::write("/dev/full", "x").map_err(|error| StorageError::from_io("writing", "/data/x", error));
    let error = error.unwrap_err();
    assert!(matches!(error, StorageError::NoSpace { .. }), "{error:?}");
    assert!(error.to_string().starts_with("no space is left for /data/x"), "{error}");
}

#[tokio::test]
async fn a_folder_goes_with_all_in_it_and_nothing_that_is_linked_from_it() {
    let folder = Folder::new();
    write(&folder.path("kept/file"), &["text"], IfExists::Fail).await.unwrap();
    write(&folder.path("chk-1/a/file"), &["text"], IfExists::Fail).await.unwrap();
    let unfinished = FILES.create(&folder.path("chk-1/never"), IfExists::Fail).await.unwrap();
    std::os::unix::fs::symlink(folder.path("kept"), folder.path("chk-1/link")).unwrap();
    for _ in 0..2 {
        FILES.delete_folder(&folder.path("chk-1")).await.unwrap();
        assert_eq!(folder.names(), ["kept"]);
    }
    drop(unfinished);
    assert_eq!(read(&folder.path("kept/file"), 0, None).await.unwrap(), b"text");
    // A file is no folder.
    assert!(FILES.delete_folder(&folder.path("kept/file")).await.is_err());
}
