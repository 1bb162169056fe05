use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use super::*;
use crate::{Answer, FileWriter, ListedFile, LocalFileSystem};

async fn open(folder: &Path) -> ArtifactStore {
    ArtifactStore::open(Arc::new(LocalFileSystem), folder.to_str().unwrap().to_owned()).await.unwrap()
}

async fn upload(store: &ArtifactStore, name: &str, content: &[u8]) -> ArtifactPin {
    let mut upload = store.begin(name).await.unwrap();
    for part in content.chunks(1000) {
        upload.write(Bytes::copy_from_slice(part)).await.unwrap();
    }
    upload.finish().await.unwrap()
}

async fn read(store: &ArtifactStore, id: ArtifactId, offset: u64) -> Result<Vec<u8>, StorageError> {
    let mut stream = store.open_content(id, offset).await?;
    let mut all = Vec::new();
    while let Some(bytes) = stream.next().await? {
        all.extend_from_slice(&bytes);
    }
    Ok(all)
}

fn files_under(folder: &Path) -> Vec<String> {
    let mut names = Vec::new();
    for part in ["incoming", "content", "listed"] {
        let Ok(entries) = std::fs::read_dir(folder.join(part)) else { continue };
        names.extend(entries.map(|entry| format!("{part}/{}", entry.unwrap().file_name().to_str().unwrap())));
    }
    names.sort();
    names
}

#[tokio::test]
async fn an_artifact_is_named_by_its_sha256_and_read_back() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).await;
    let pin = upload(&store, "job", b"abc").await;
    assert_eq!(pin.id.to_string(), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    assert_eq!((pin.size, pin.name.as_str()), (3, "job"));
    assert_eq!(read(&store, pin.id, 0).await.unwrap(), b"abc");
    assert_eq!(read(&store, pin.id, 1).await.unwrap(), b"bc");
    let unknown = ArtifactId::from_bytes([0; 32]);
    let error = store.pin(unknown).unwrap_err();
    assert!(error.to_string().contains("upload it again"), "{error}");
    assert!(read(&store, unknown, 0).await.unwrap_err().is_not_found());
}

#[tokio::test]
async fn equal_uploads_are_stored_once_and_listed_twice() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).await;
    for (key, uploaded) in [("1_a", 10), ("2_b", 20)] {
        let pin = upload(&store, key, &[7; 5000]).await;
        store.list_as(&pin, key, uploaded, vec!["wordcount".to_owned()]).await.unwrap();
    }
    let keys: Vec<_> = store.list().into_iter().map(|entry| entry.key).collect();
    assert_eq!(keys, ["2_b", "1_a"], "newest first");
    assert_eq!(files_under(folder.path()).len(), 3);
    let id = store.list()[0].id;
    assert!(store.remove("1_a").await.unwrap());
    assert!(!store.remove("1_a").await.unwrap());
    assert_eq!(store.sweep().await.unwrap(), []);
    assert!(store.remove("2_b").await.unwrap());
    assert_eq!(store.sweep().await.unwrap(), [id]);
    assert_eq!(files_under(folder.path()), [""; 0]);
}

#[tokio::test]
async fn uploads_survive_a_restart_and_half_written_ones_do_not() {
    let folder = tempfile::tempdir().unwrap();
    let listed = {
        let store = open(folder.path()).await;
        let pin = upload(&store, "job", b"content").await;
        let listed = store.list_as(&pin, "k_job", 5, vec!["a".to_owned(), "b".to_owned()]).await.unwrap();
        // Neither listed nor pinned when the next process comes.
        drop(upload(&store, "other", b"other content").await);
        std::fs::write(folder.path().join("incoming/.unfinished-1-2-3"), "half").unwrap();
        std::fs::write(folder.path().join("incoming/99"), "finished, but not placed").unwrap();
        std::fs::write(folder.path().join("listed/broken.json"), "{").unwrap();
        listed
    };
    let store = open(folder.path()).await;
    assert_eq!(store.list(), std::slice::from_ref(&listed));
    let expect = [format!("content/{}", listed.id), "listed/k_job.json".to_owned()];
    assert_eq!(files_under(folder.path()), expect);
    assert_eq!(read(&store, listed.id, 0).await.unwrap(), b"content");
}

#[tokio::test]
async fn a_dropped_upload_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).await;
    let mut half = store.begin("half").await.unwrap();
    half.write(Bytes::from_static(b"half")).await.unwrap();
    assert_eq!(half.size(), 4);
    drop(half);
    assert_eq!(files_under(folder.path()), [""; 0]);
}

#[tokio::test]
async fn pinned_content_outlives_its_entry() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).await;
    let pin = upload(&store, "job", b"content").await;
    store.list_as(&pin, "key", 1, Vec::new()).await.unwrap();
    let second = store.pin(pin.id).unwrap();
    let id = second.id;
    drop(pin);
    store.remove("key").await.unwrap();
    assert_eq!(store.sweep().await.unwrap(), []);
    assert_eq!(read(&store, id, 0).await.unwrap(), b"content");
    drop(second.clone());
    assert_eq!(store.sweep().await.unwrap(), []);
    drop(second);
    assert_eq!(store.sweep().await.unwrap(), [id]);
    assert!(store.pin(id).is_err());
}

#[tokio::test]
async fn damaged_content_is_not_handed_out_and_a_new_upload_repairs_it() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).await;
    let content = vec![1u8; 200_000];
    let pin = upload(&store, "job", &content).await;
    store.list_as(&pin, "key", 1, Vec::new()).await.unwrap();
    store.verify(pin.id).await.unwrap();
    let path = folder.path().join("content").join(pin.id.to_string());
    let mut damaged = content.clone();
    damaged[100_000] = 2;
    std::fs::write(&path, &damaged).unwrap();
    for error in [store.verify(pin.id).await.unwrap_err(), read(&store, pin.id, 100).await.unwrap_err()] {
        let text = error.to_string();
        assert!(text.contains("is damaged: the SHA-256") && text.contains("upload it again"), "{text}");
    }
    std::fs::write(&path, &content[..150_000]).unwrap();
    let error = read(&store, pin.id, 0).await.unwrap_err().to_string();
    assert!(error.contains("has 150000 bytes, but 200000 were uploaded"), "{error}");
    let again = upload(&store, "job", &content).await;
    assert_eq!(again.id, pin.id);
    assert!(read(&store, pin.id, 0).await.unwrap() == content);
}

#[tokio::test]
async fn two_stores_in_one_folder_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().to_str().unwrap();
    let first = open(folder.path()).await;
    let again = || ArtifactStore::open(Arc::new(LocalFileSystem), root.to_owned());
    let error = again().await.unwrap_err();
    assert!(matches!(error, StorageError::InUse { .. }) && error.to_string().contains(root), "{error}");
    // As long as anything of the first one lives.
    let pin = upload(&first, "job", b"x").await;
    drop(first);
    again().await.unwrap_err();
    drop(pin);
    again().await.unwrap();
}

#[tokio::test]
async fn room_is_made_of_the_oldest_that_nobody_needs() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).await;
    let mut pins = Vec::new();
    for (number, key) in ["0_needed", "1_old", "2_newer", "3_old_again"].into_iter().enumerate() {
        let pin = upload(&store, key, &[b"nomo"[number]; 1000]).await;
        store.list_as(&pin, key, number as u64, Vec::new()).await.unwrap();
        pins.push(pin);
    }
    pins.truncate(1);
    // "1_old" and "2_newer" have contents of their own; "3_old_again" repeats that of "1_old".
    let removed = |removed: Vec<Listed>| removed.into_iter().map(|entry| entry.key).collect::<Vec<_>>();
    assert_eq!(removed(store.make_room(3000).await.unwrap()), [""; 0]);
    assert_eq!(removed(store.make_room(2999).await.unwrap()), ["2_newer"]);
    assert_eq!(removed(store.make_room(1500).await.unwrap()), ["1_old", "3_old_again"]);
    assert_eq!(store.sweep().await.unwrap().len(), 2);
    let error = store.make_room(999).await.unwrap_err();
    assert!(matches!(error, StorageError::LimitReached { needed: 1000, limit: 999 }), "{error}");
    assert_eq!(store.list().len(), 1);
}

#[tokio::test]
async fn a_key_cannot_leave_the_folder() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).await;
    let pin = upload(&store, "job", b"x").await;
    for key in ["", "..", ".hidden", "../evil", "a/b"] {
        let error = store.list_as(&pin, key, 1, Vec::new()).await.unwrap_err();
        assert!(matches!(error, StorageError::InvalidName { .. }), "{key:?}: {error}");
    }
}

/// Local files on a device that has room for so many bytes.
#[derive(Debug)]
struct SmallDevice {
    files: LocalFileSystem,
    left: Arc<AtomicU64>,
}

struct SmallWriter {
    writer: Box<dyn FileWriter>,
    left: Arc<AtomicU64>,
}

impl FileWriter for SmallWriter {
    fn write(&mut self, bytes: Bytes) -> Answer<'_, ()> {
        Box::pin(async move {
            let length = bytes.len() as u64;
            let room = self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(length));
            if room.is_err() {
                let full = io::Error::from(io::ErrorKind::StorageFull);
                return Err(StorageError::from_io("writing", "/small/device", full));
            }
            self.writer.write(bytes).await
        })
    }

    fn finish(self: Box<Self>) -> Answer<'static, ()> {
        self.writer.finish()
    }
}

impl FileSystem for SmallDevice {
    fn scheme(&self) -> &'static str {
        self.files.scheme()
    }
    fn metadata<'a>(&'a self, path: &'a str) -> Answer<'a, FileMetadata> {
        self.files.metadata(path)
    }
    fn read<'a>(&'a self, path: &'a str, offset: u64, limit: Option<u64>) -> Answer<'a, Box<dyn FileReader>> {
        self.files.read(path, offset, limit)
    }
    fn create<'a>(&'a self, path: &'a str, if_exists: IfExists) -> Answer<'a, Box<dyn FileWriter>> {
        Box::pin(async move {
            let writer = self.files.create(path, if_exists).await?;
            Ok(Box::new(SmallWriter { writer, left: self.left.clone() }) as Box<dyn FileWriter>)
        })
    }
    fn rename<'a>(&'a self, from: &'a str, to: &'a str, if_exists: IfExists) -> Answer<'a, ()> {
        self.files.rename(from, to, if_exists)
    }
    fn list<'a>(&'a self, folder: &'a str) -> Answer<'a, Vec<ListedFile>> {
        self.files.list(folder)
    }
    fn delete<'a>(&'a self, path: &'a str) -> Answer<'a, ()> {
        self.files.delete(path)
    }
    fn delete_folder<'a>(&'a self, folder: &'a str) -> Answer<'a, ()> {
        self.files.delete_folder(folder)
    }
    fn remove_unfinished<'a>(&'a self, folder: &'a str) -> Answer<'a, ()> {
        self.files.remove_unfinished(folder)
    }
}

#[tokio::test]
async fn a_full_device_ends_an_upload_with_an_error_that_says_so_and_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let left = Arc::new(AtomicU64::new(1500));
    let files = SmallDevice { files: LocalFileSystem, left: left.clone() };
    let root = folder.path().to_str().unwrap().to_owned();
    let store = ArtifactStore::open(Arc::new(files), root).await.unwrap();
    let mut first = store.begin("job").await.unwrap();
    first.write(Bytes::from(vec![1; 1000])).await.unwrap();
    let error = first.write(Bytes::from(vec![1; 1000])).await.unwrap_err();
    assert!(matches!(error, StorageError::NoSpace { .. }) && error.to_string().contains("make room"), "{error}");
    drop(first);
    assert_eq!(files_under(folder.path()), [""; 0]);
    left.store(5000, Ordering::Relaxed);
    upload(&store, "job", &[2; 3000]).await;
}
