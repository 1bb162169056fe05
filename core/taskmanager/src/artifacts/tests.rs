use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use super::*;

/// A store that gives its content in chunks, breaks after some of them, and counts.
#[derive(Default)]
struct Store {
    content: Vec<u8>,
    /// Bytes after which each of the first fetches breaks.
    breaks: Mutex<Vec<usize>>,
    gone: bool,
    fetches: AtomicUsize,
    offsets: Mutex<Vec<u64>>,
}

impl Store {
    fn of(content: &[u8]) -> Store {
        Store { content: content.to_vec(), ..Store::default() }
    }

    fn fetches(&self) -> usize {
        self.fetches.load(Ordering::Relaxed)
    }
}

impl ArtifactSource for Store {
    async fn fetch(
        &self,
        artifact: &Artifact,
        offset: u64,
    ) -> Result<BoxStream<'static, Result<Bytes, FetchError>>, FetchError> {
        self.fetches.fetch_add(1, Ordering::Relaxed);
        self.offsets.lock().unwrap().push(offset);
        if self.gone {
            return Err(FetchError::Gone { name: artifact.name.clone(), id: artifact.id });
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
        let mut rest = self.content[offset as usize..].to_vec();
        let end = match self.breaks.lock().unwrap().pop() {
            Some(after) => {
                rest.truncate(after);
                vec![Err(FetchError::Connection("reset".into()))]
            }
            None => Vec::new(),
        };
        let chunks: Vec<_> = rest.chunks(1000).map(|chunk| Ok(Bytes::copy_from_slice(chunk))).chain(end).collect();
        Ok(futures_util::stream::iter(chunks).boxed())
    }
}

fn artifact(content: &[u8]) -> Artifact {
    Artifact {
        id: ArtifactId::from_bytes(Sha256::digest(content).into()),
        size: content.len() as u64,
        name: "job".into(),
    }
}

fn content(seed: u8, length: usize) -> Vec<u8> {
    (0..length).map(|i| (i as u8).wrapping_mul(31).wrapping_add(seed)).collect()
}

fn cache(folder: &Path, limit: u64) -> ArtifactCache {
    ArtifactCache::open(folder.join("artifacts"), limit).unwrap()
}

fn files(folder: &Path) -> usize {
    fs::read_dir(folder.join("artifacts")).unwrap().count()
}

#[tokio::test]
async fn an_artifact_is_fetched_once_and_can_be_executed() {
    let folder = tempfile::tempdir().unwrap();
    let (content, cache) = (b"#!/bin/sh\necho hello\n", cache(folder.path(), 0));
    let (artifact, store) = (artifact(content), Store::of(content));
    let leases = futures_util::future::join_all((0..5).map(|_| cache.obtain(&artifact, &store))).await;
    let path = leases[0].as_ref().unwrap().path();
    assert_eq!(store.fetches(), 1);
    let output = std::process::Command::new(&path).output().unwrap();
    assert_eq!(output.stdout, b"hello\n");
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, MODE);
    assert_eq!(files(folder.path()), 1);
}

#[tokio::test]
async fn a_broken_download_goes_on_where_it_ended() {
    let folder = tempfile::tempdir().unwrap();
    let content = content(1, 10_500);
    let store = Store { breaks: Mutex::new(vec![3000, 4000]), ..Store::of(&content) };
    let lease = cache(folder.path(), 0).obtain(&artifact(&content), &store).await.unwrap();
    assert_eq!(*store.offsets.lock().unwrap(), [0, 4000, 7000]);
    assert_eq!(fs::read(lease.path()).unwrap(), content);

    let dead = Store { breaks: Mutex::new(vec![0; 50]), ..Store::of(&content) };
    let other = self::content(2, 100);
    let error = cache(folder.path(), 0).obtain(&artifact(&other), &dead).await.unwrap_err().to_string();
    assert!(error.contains("could not be fetched") && error.contains("reset"), "{error}");
}

#[tokio::test]
async fn what_arrives_damaged_is_not_kept() {
    let folder = tempfile::tempdir().unwrap();
    let (right, mut wrong) = (content(1, 5000), content(1, 5000));
    wrong[77] ^= 1;
    let cache = cache(folder.path(), 0);
    let error = cache.obtain(&artifact(&right), &Store::of(&wrong)).await.unwrap_err().to_string();
    assert!(error.contains("arrived damaged") && error.contains("upload it again"), "{error}");
    let error = cache.obtain(&artifact(&right), &Store::of(&content(1, 9000))).await.unwrap_err().to_string();
    assert!(error.contains("more arrived than the 5000 bytes"), "{error}");
    let gone = Store { gone: true, ..Store::default() };
    let error = cache.obtain(&artifact(&right), &gone).await.unwrap_err().to_string();
    assert!(error.contains("does not have the artifact job"), "{error}");
    assert_eq!(files(folder.path()), 0);
    assert!(cache.obtain(&artifact(&right), &Store::of(&right)).await.is_ok());
}

#[tokio::test]
async fn the_cache_outlives_the_process_and_is_checked() {
    let folder = tempfile::tempdir().unwrap();
    let content = content(1, 5000);
    let (artifact, store) = (artifact(&content), Store::of(&content));
    let path = cache(folder.path(), 1 << 20).obtain(&artifact, &store).await.unwrap().path();
    let again = cache(folder.path(), 1 << 20);
    again.obtain(&artifact, &store).await.unwrap();
    assert_eq!(store.fetches(), 1);
    // Somebody changes it behind our back, first while the process runs, then between two.
    for cache in [again, cache(folder.path(), 1 << 20)] {
        fs::set_permissions(&path, Permissions::from_mode(0o700)).unwrap();
        let file = OpenOptions::new().write(true).open(&path).unwrap();
        file.set_len(17).unwrap();
        file.set_modified(SystemTime::UNIX_EPOCH).unwrap();
        drop(file);
        let before = store.fetches();
        let lease = cache.obtain(&artifact, &store).await.unwrap();
        assert_eq!(store.fetches(), before + 1);
        assert_eq!(fs::read(lease.path()).unwrap(), content);
    }
}

#[tokio::test]
async fn the_least_recently_used_goes_first_and_never_one_in_use() {
    let folder = tempfile::tempdir().unwrap();
    let cache = cache(folder.path(), 2500);
    let contents: Vec<Vec<u8>> = (0..4).map(|seed| content(seed, 1000)).collect();
    let stores: Vec<Store> = contents.iter().map(|content| Store::of(content)).collect();
    let artifacts: Vec<Artifact> = contents.iter().map(|content| artifact(content)).collect();
    let held = cache.obtain(&artifacts[0], &stores[0]).await.unwrap();
    for index in [1, 2, 1] {
        drop(cache.obtain(&artifacts[index], &stores[index]).await.unwrap());
        // Times of access are what tells.
        tokio::time::sleep(Duration::from_millis(15)).await;
    }
    drop(cache.obtain(&artifacts[3], &stores[3]).await.unwrap());
    let there: Vec<bool> = artifacts.iter().map(|artifact| cache.path(artifact.id).exists()).collect();
    assert_eq!(there, [true, true, false, true]);
    drop(held);
    drop(cache.obtain(&artifacts[2], &stores[2]).await.unwrap());
    assert_eq!(stores[2].fetches(), 2);
    assert!(!cache.path(artifacts[0].id).exists());
}

#[test]
fn what_a_former_process_left_unfinished_is_removed_unless_it_is_being_written() {
    let folder = tempfile::tempdir().unwrap();
    let artifacts = folder.path().join("artifacts");
    fs::create_dir(&artifacts).unwrap();
    fs::write(artifacts.join("abandoned.1-0.part"), "x").unwrap();
    let _writer = Writer::open(&artifacts.join("written.2-0.part")).unwrap();
    cache(folder.path(), 0);
    assert!(!artifacts.join("abandoned.1-0.part").exists());
    assert!(artifacts.join("written.2-0.part").exists());
}

#[test]
fn a_full_disk_is_called_that() {
    let folder = tempfile::tempdir().unwrap();
    let cache = cache(folder.path(), 0);
    let file = OpenOptions::new().write(true).open("/dev/full").unwrap();
    let mut writer = Writer { file, written: 0, hash: Sha256::new() };
    let error = writer.write(b"x", 10).unwrap_err();
    let error = cache.storage_error(&artifact(b"x"), error).to_string();
    assert!(error.contains("no space left on the disk of"), "{error}");
    assert!(error.contains("process.working-dir"), "{error}");
}
