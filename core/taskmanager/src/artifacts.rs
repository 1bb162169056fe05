//! Job executables on this machine's disk: fetched once, verified, kept for the next job that needs them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use sha2::{Digest, Sha256};
use tokio::sync::mpsc;
use weir_model::{Artifact, ArtifactId};

/// How often a broken download is taken up again without having made progress.
const FRUITLESS_ATTEMPTS: u32 = 3;
/// Mode of an artifact: its owner may read and execute it, nobody may change it.
const MODE: u32 = 0o500;

/// Where artifacts come from.
pub(crate) trait ArtifactSource: Send + Sync {
    /// The content from `offset` on.
    fn fetch(
        &self,
        artifact: &Artifact,
        offset: u64,
    ) -> impl Future<Output = Result<BoxStream<'static, Result<Bytes, FetchError>>, FetchError>> + Send;
}

/// Why an artifact is not here.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FetchError {
    /// The JobManager does not have it.
    #[error("the JobManager does not have the artifact {name} ({id}) any more")]
    Gone { name: String, id: ArtifactId },
    /// The JobManager has it and cannot give it.
    #[error("the JobManager cannot give the artifact {name}: {problem}")]
    Refused { name: String, problem: String },
    /// The connection broke, each time it was tried.
    #[error("it could not be fetched from the JobManager ({0})")]
    Connection(String),
    /// What came is something else.
    #[error(
        "the artifact {name} arrived damaged: its SHA-256 is {found}, expected {expected}; the copy in the artifact store may be corrupted: upload it again"
    )]
    Damaged { name: String, found: ArtifactId, expected: ArtifactId },
    /// The disk is full.
    #[error(
        "there is no space left on the disk of {} for the artifact {name} of {size} bytes; make room, or set process.working-dir to another disk",
        folder.display()
    )]
    DiskFull { folder: PathBuf, name: String, size: u64 },
    /// The file system refused otherwise.
    #[error("the artifact {name} cannot be stored in {} ({error})", folder.display())]
    Io { folder: PathBuf, name: String, error: io::Error },
}

/// The folder of artifacts. Clones share it.
#[derive(Debug, Clone)]
pub(crate) struct ArtifactCache {
    folder: PathBuf,
    /// Bytes that artifacts which are not in use may take.
    limit: u64,
    /// Tells caches of this process apart.
    number: u64,
    shared: Arc<Mutex<Shared>>,
}

#[derive(Debug, Default)]
struct Shared {
    /// Artifacts whose content was compared with their names since this process started, with size and time of that moment.
    verified: BTreeMap<ArtifactId, (u64, SystemTime)>,
    in_use: BTreeMap<ArtifactId, usize>,
    /// Whoever wants an artifact holds its lock while it looks and fetches.
    wanted: BTreeMap<ArtifactId, Arc<tokio::sync::Mutex<()>>>,
}

/// An artifact that stays where it is until this is dropped.
#[derive(Debug)]
pub(crate) struct Lease {
    cache: ArtifactCache,
    id: ArtifactId,
}

impl Lease {
    /// The executable.
    pub(crate) fn path(&self) -> PathBuf {
        self.cache.path(self.id)
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let mut shared = self.cache.lock();
        if let Some(count) = shared.in_use.get_mut(&self.id) {
            *count -= 1;
            if *count == 0 {
                shared.in_use.remove(&self.id);
            }
        }
    }
}

/// The wish for an artifact. The last one takes its lock along.
struct Wanted<'a> {
    cache: &'a ArtifactCache,
    id: ArtifactId,
    lock: Arc<tokio::sync::Mutex<()>>,
}

impl<'a> Wanted<'a> {
    fn new(cache: &'a ArtifactCache, id: ArtifactId) -> Wanted<'a> {
        let lock = cache.lock().wanted.entry(id).or_default().clone();
        Wanted { cache, id, lock }
    }
}

impl Drop for Wanted<'_> {
    fn drop(&mut self) {
        let mut shared = self.cache.lock();
        // This one and the list's; others come into being while the list is locked.
        if Arc::strong_count(&self.lock) <= 2 {
            shared.wanted.remove(&self.id);
        }
    }
}

impl ArtifactCache {
    /// Opens the cache in `folder`, which is made if it is not there. Removes what a former process left unfinished.
    pub(crate) fn open(folder: PathBuf, limit: u64) -> io::Result<ArtifactCache> {
        fs::create_dir_all(&folder)?;
        static CACHES: AtomicU64 = AtomicU64::new(0);
        let number = CACHES.fetch_add(1, Ordering::Relaxed);
        let cache = ArtifactCache { folder, limit, number, shared: Arc::default() };
        for entry in fs::read_dir(&cache.folder)?.flatten() {
            let path = entry.path();
            let unfinished = path.extension().is_some_and(|extension| extension == "part");
            // Whoever still writes it holds the lock.
            if unfinished && File::open(&path).is_ok_and(|file| file.try_lock().is_ok()) {
                let _ = fs::remove_file(&path);
            }
        }
        Ok(cache)
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn path(&self, id: ArtifactId) -> PathBuf {
        self.folder.join(id.to_string())
    }

    /// Makes sure that an artifact is here, and keeps it here. Whoever wants one that is being fetched waits for that.
    pub(crate) async fn obtain(&self, artifact: &Artifact, source: &impl ArtifactSource) -> Result<Lease, FetchError> {
        let wanted = Wanted::new(self, artifact.id);
        let _guard = wanted.lock.lock().await;
        // Before looking, so that nobody removes it in between.
        *self.lock().in_use.entry(artifact.id).or_default() += 1;
        let lease = Lease { cache: self.clone(), id: artifact.id };
        if !self.has(artifact).await {
            self.make_room(artifact.size).await;
            self.fetch(artifact, source).await?;
        }
        Ok(lease)
    }

    /// Whether the artifact is here and whole.
    async fn has(&self, artifact: &Artifact) -> bool {
        let (cache, artifact) = (self.clone(), artifact.clone());
        tokio::task::spawn_blocking(move || cache.check(&artifact)).await.unwrap_or(false)
    }

    fn check(&self, artifact: &Artifact) -> bool {
        let path = self.path(artifact.id);
        let Some(stamp) = stamp(&path) else { return false };
        let known = self.lock().verified.get(&artifact.id) == Some(&stamp);
        if !known && digest_of(&path).ok() != Some(artifact.id) {
            tracing::warn!(path = %path.display(), "a cached artifact is corrupted and is fetched again");
            let _ = fs::remove_file(&path);
            return false;
        }
        self.lock().verified.insert(artifact.id, stamp);
        // For the order of removal; the time of modification belongs to the check.
        if let Ok(file) = File::open(&path) {
            let _ = file.set_times(fs::FileTimes::new().set_accessed(SystemTime::now()));
        }
        true
    }

    async fn fetch(&self, artifact: &Artifact, source: &impl ArtifactSource) -> Result<(), FetchError> {
        let started = std::time::Instant::now();
        // The lock on `wanted` makes it the only one of this cache, the numbers the only one on this machine.
        let part = self.folder.join(format!("{}.{}-{}.part", artifact.id, std::process::id(), self.number));
        let mut fruitless = 0;
        loop {
            let before = fs::metadata(&part).map_or(0, |metadata| metadata.len());
            match self.fetch_rest(artifact, &part, source).await {
                Ok(()) => break,
                Err(FetchError::Connection(problem)) => {
                    let progress = fs::metadata(&part).map_or(0, |metadata| metadata.len()) > before;
                    fruitless = if progress { 1 } else { fruitless + 1 };
                    if fruitless > FRUITLESS_ATTEMPTS {
                        return Err(FetchError::Connection(problem));
                    }
                    tracing::warn!(artifact = %artifact.id, problem, "fetching an artifact is taken up again");
                    tokio::time::sleep(std::time::Duration::from_millis(50 << fruitless)).await;
                }
                Err(error) => {
                    let _ = fs::remove_file(&part);
                    return Err(error);
                }
            }
        }
        tracing::info!(artifact = %artifact.id, name = artifact.name, bytes = artifact.size, took = ?started.elapsed(), "artifact fetched");
        Ok(())
    }

    /// Fetches from where the last attempt ended, and puts the file in its place if it is what it should be.
    async fn fetch_rest(
        &self,
        artifact: &Artifact,
        part: &Path,
        source: &impl ArtifactSource,
    ) -> Result<(), FetchError> {
        let failed = |error| self.storage_error(artifact, error);
        let path = part.to_owned();
        let mut writer = blocking(move || Writer::open(&path)).await.map_err(failed)?;
        if writer.written < artifact.size || artifact.size == 0 {
            let content = source.fetch(artifact, writer.written).await?;
            let (chunks, received) = mpsc::channel(4);
            let limit = artifact.size;
            let writing = tokio::task::spawn_blocking(move || writer.write_all(received, limit));
            let broken = pass_on(content, chunks).await;
            let (back, result) = writing.await.map_err(|error| failed(io::Error::other(error)))?;
            result.map_err(failed)?;
            writer = back;
            broken?;
            if writer.written < artifact.size {
                let (found, size) = (writer.written, artifact.size);
                return Err(FetchError::Connection(format!("the JobManager sent {found} of {size} bytes")));
            }
        }
        let found = writer.digest();
        if found != artifact.id {
            return Err(FetchError::Damaged { name: artifact.name.clone(), found, expected: artifact.id });
        }
        let (cache, id, part) = (self.clone(), artifact.id, part.to_owned());
        blocking(move || cache.put_in_place(id, writer, &part)).await.map_err(failed)
    }

    fn put_in_place(&self, id: ArtifactId, writer: Writer, part: &Path) -> io::Result<()> {
        writer.file.set_permissions(Permissions::from_mode(MODE))?;
        // Closed before it is executed: a file that is open for writing cannot be.
        drop(writer);
        let path = self.path(id);
        fs::rename(part, &path)?;
        if let Some(stamp) = stamp(&path) {
            self.lock().verified.insert(id, stamp);
        }
        Ok(())
    }

    fn storage_error(&self, artifact: &Artifact, error: io::Error) -> FetchError {
        let (folder, name) = (self.folder.clone(), artifact.name.clone());
        match error.kind() {
            // A limit of the process on the size of files is a full disk to it.
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
                FetchError::DiskFull { folder, name, size: artifact.size }
            }
            _ => FetchError::Io { folder, name, error },
        }
    }

    /// Removes artifacts that are not in use, least recently used first, until what is left and `coming` fit the limit.
    async fn make_room(&self, coming: u64) {
        let cache = self.clone();
        let _ = tokio::task::spawn_blocking(move || cache.remove_unused(coming)).await;
    }

    fn remove_unused(&self, coming: u64) {
        let Ok(entries) = fs::read_dir(&self.folder) else { return };
        let in_use: BTreeSet<ArtifactId> = self.lock().in_use.keys().copied().collect();
        let mut unused: Vec<(SystemTime, u64, ArtifactId)> = entries
            .flatten()
            .filter_map(|entry| {
                let id: ArtifactId = entry.file_name().to_str()?.parse().ok()?;
                let metadata = entry.metadata().ok()?;
                (!in_use.contains(&id)).then_some((metadata.accessed().ok()?, metadata.len(), id))
            })
            .collect();
        unused.sort();
        let mut total = coming + unused.iter().map(|(_, size, _)| size).sum::<u64>();
        for (_, size, id) in unused {
            if total <= self.limit {
                break;
            }
            let mut shared = self.lock();
            // Somebody may have come for it meanwhile.
            if !shared.in_use.contains_key(&id) && fs::remove_file(self.path(id)).is_ok() {
                tracing::info!(artifact = %id, bytes = size, "artifact removed from the cache to make room");
                shared.verified.remove(&id);
                total -= size;
            }
        }
    }
}

/// Passes chunks on until the content ends, breaks, or nobody takes them any more.
async fn pass_on(
    mut content: BoxStream<'static, Result<Bytes, FetchError>>,
    chunks: mpsc::Sender<Bytes>,
) -> Result<(), FetchError> {
    while let Some(chunk) = content.next().await {
        if chunks.send(chunk?).await.is_err() {
            break;
        }
    }
    Ok(())
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
}

/// An artifact that is being written.
struct Writer {
    file: File,
    written: u64,
    hash: Sha256,
}

impl Writer {
    /// Opens a file that may hold a beginning already.
    fn open(path: &Path) -> io::Result<Writer> {
        let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)?;
        // Waits for a writer that was given up a moment ago.
        file.lock()?;
        let mut hash = Sha256::new();
        let written = read_into(&mut file, &mut hash)?;
        file.seek(io::SeekFrom::Start(written))?;
        Ok(Writer { file, written, hash })
    }

    fn write_all(mut self, mut chunks: mpsc::Receiver<Bytes>, limit: u64) -> (Writer, io::Result<()>) {
        while let Some(chunk) = chunks.blocking_recv() {
            if let Err(error) = self.write(&chunk, limit) {
                return (self, Err(error));
            }
        }
        (self, Ok(()))
    }

    fn write(&mut self, chunk: &[u8], limit: u64) -> io::Result<()> {
        if self.written + chunk.len() as u64 > limit {
            return Err(io::Error::other(format!("more arrived than the {limit} bytes it should have")));
        }
        self.file.write_all(chunk)?;
        self.hash.update(chunk);
        self.written += chunk.len() as u64;
        Ok(())
    }

    fn digest(&self) -> ArtifactId {
        ArtifactId::from_bytes(self.hash.clone().finalize().into())
    }
}

fn read_into(file: &mut File, hash: &mut Sha256) -> io::Result<u64> {
    let mut buffer = vec![0; 128 * 1024];
    let mut total = 0;
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok(total),
            Ok(count) => {
                hash.update(&buffer[..count]);
                total += count as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

fn digest_of(path: &Path) -> io::Result<ArtifactId> {
    let mut hash = Sha256::new();
    read_into(&mut File::open(path)?, &mut hash)?;
    Ok(ArtifactId::from_bytes(hash.finalize().into()))
}

fn stamp(path: &Path) -> Option<(u64, SystemTime)> {
    let metadata = fs::metadata(path).ok().filter(fs::Metadata::is_file)?;
    Some((metadata.len(), metadata.modified().ok()?))
}

#[cfg(test)]
mod tests;
