//! The content-addressed store of artifacts.

mod lock;
mod upload;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs::File;
use std::ops::Deref;
use std::path::PathBuf;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use weir_model::{Artifact, ArtifactId};

use crate::{FileMetadata, FileReader, FileSystem, IfExists, StorageError};

pub use upload::Upload;

/// Job executables by their SHA-256, and the list of those that were uploaded.
///
/// Under its root: `content/<sha256>` holds what was uploaded, equal uploads once; `listed/<key>.json` is one entry of the list;
/// `incoming/` holds uploads under way. The content of an artifact is kept as long as an entry or an [`ArtifactPin`] names it, and goes
/// with the next [`sweep`](Self::sweep). One process at a time may use a root; where it is a folder of this machine, `lock` in it sees to that.
#[derive(Clone)]
pub struct ArtifactStore {
    inner: Arc<Inner>,
}

struct Inner {
    files: Arc<dyn FileSystem>,
    root: String,
    state: Mutex<State>,
    /// Held while content is put in its place or swept away, so that neither happens under the other's feet.
    placing: tokio::sync::Mutex<()>,
    uploads: AtomicU64,
    /// Keeps other processes out of the root.
    _lock: Option<File>,
}

#[derive(Default)]
struct State {
    /// Bytes by content.
    contents: BTreeMap<ArtifactId, u64>,
    listed: BTreeMap<String, Listed>,
    pins: BTreeMap<ArtifactId, u32>,
    /// What files looked like when their content was last found to be right.
    verified: BTreeMap<ArtifactId, FileMetadata>,
}

/// An entry of the list of artifacts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listed {
    /// Names the entry; a file name.
    pub key: String,
    /// What it names.
    #[serde(with = "artifact_id")]
    pub id: ArtifactId,
    /// Bytes.
    pub size: u64,
    /// The file name it was uploaded with.
    pub name: String,
    /// Milliseconds since 1970-01-01 UTC.
    pub uploaded: u64,
    /// The names of the jobs in it.
    pub jobs: Vec<String>,
}

impl Listed {
    /// The artifact it names.
    pub fn artifact(&self) -> Artifact {
        Artifact { id: self.id, size: self.size, name: self.name.clone() }
    }
}

/// Serialises an [`ArtifactId`] as the text it prints.
mod artifact_id {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};
    use weir_model::ArtifactId;

    pub(super) fn serialize<S: Serializer>(id: &ArtifactId, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(id)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<ArtifactId, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

/// Keeps an artifact's content in the store.
pub struct ArtifactPin {
    artifact: Artifact,
    store: ArtifactStore,
}

impl ArtifactPin {
    /// The artifact that is kept.
    pub fn artifact(&self) -> &Artifact {
        &self.artifact
    }
}

impl Deref for ArtifactPin {
    type Target = Artifact;

    fn deref(&self) -> &Artifact {
        &self.artifact
    }
}

impl fmt::Debug for ArtifactPin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ArtifactPin({})", self.artifact.id)
    }
}

impl Clone for ArtifactPin {
    fn clone(&self) -> ArtifactPin {
        *self.store.state().pins.entry(self.artifact.id).or_default() += 1;
        ArtifactPin { artifact: self.artifact.clone(), store: self.store.clone() }
    }
}

impl Drop for ArtifactPin {
    fn drop(&mut self) {
        let mut state = self.store.state();
        if let Some(count) = state.pins.get_mut(&self.artifact.id) {
            *count -= 1;
            if *count == 0 {
                state.pins.remove(&self.artifact.id);
            }
        }
    }
}

impl fmt::Debug for ArtifactStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ArtifactStore({}:{})", self.inner.files.scheme(), self.inner.root)
    }
}

impl ArtifactStore {
    /// The store at `root`, with what is in it. What an earlier process left half-written, or no entry names, is removed.
    ///
    /// # Errors
    /// [`StorageError::InUse`] if another process has it open, and what goes wrong with its files.
    pub async fn open(files: Arc<dyn FileSystem>, root: String) -> Result<ArtifactStore, StorageError> {
        let root = root.trim_end_matches('/').to_owned();
        let lock = match files.local_path(&root) {
            Some(folder) => Some(lock::take(folder).await?),
            None => None,
        };
        let inner = Inner {
            files,
            root,
            state: Mutex::default(),
            placing: Default::default(),
            uploads: AtomicU64::new(0),
            _lock: lock,
        };
        let store = ArtifactStore { inner: Arc::new(inner) };
        store.clean().await?;
        store.load().await?;
        store.sweep().await?;
        Ok(store)
    }

    async fn clean(&self) -> Result<(), StorageError> {
        let files = &self.inner.files;
        for folder in ["incoming", "content", "listed"] {
            files.remove_unfinished(&self.folder(folder)).await?;
        }
        for left in files.list(&self.folder("incoming")).await? {
            files.delete(&self.path("incoming", &left.name)).await?;
        }
        Ok(())
    }

    async fn load(&self) -> Result<(), StorageError> {
        let mut loaded = State::default();
        for file in self.inner.files.list(&self.folder("content")).await? {
            // Other names are not of this store's making.
            if let Ok(id) = file.name.parse() {
                loaded.contents.insert(id, file.metadata.size);
            }
        }
        for file in self.inner.files.list(&self.folder("listed")).await? {
            let path = self.path("listed", &file.name);
            let mut reader = self.inner.files.read(&path, 0, None).await?;
            let mut text = Vec::new();
            while let Some(bytes) = reader.next().await? {
                text.extend_from_slice(&bytes);
            }
            match serde_json::from_slice::<Listed>(&text) {
                Ok(entry) if loaded.contents.contains_key(&entry.id) => {
                    loaded.listed.insert(entry.key.clone(), entry);
                }
                // Damaged, or its content is gone: of no use to anybody, and in the way of nobody else.
                Ok(_) | Err(_) => self.inner.files.delete(&path).await?,
            }
        }
        *self.state() = loaded;
        Ok(())
    }

    /// Begins an upload of a file that people know as `name`. Dropping the upload leaves nothing.
    pub async fn begin(&self, name: &str) -> Result<Upload, StorageError> {
        Upload::begin(self, name).await
    }

    /// Puts an artifact onto the list, under `key`.
    pub async fn list_as(
        &self,
        pin: &ArtifactPin,
        key: &str,
        uploaded: u64,
        jobs: Vec<String>,
    ) -> Result<Listed, StorageError> {
        let plain = !key.is_empty() && !key.starts_with('.') && !key.contains(['/', '\0']);
        if !plain {
            return Err(StorageError::InvalidName { name: key.to_owned() });
        }
        let Artifact { id, size, name } = pin.artifact.clone();
        let entry = Listed { key: key.to_owned(), id, size, name, uploaded, jobs };
        let text = serde_json::to_vec_pretty(&entry).expect("strings and numbers can always be written");
        let mut writer = self.inner.files.create(&self.entry_path(key), IfExists::Fail).await?;
        writer.write(text.into()).await?;
        writer.finish().await?;
        self.state().listed.insert(key.to_owned(), entry.clone());
        Ok(entry)
    }

    /// The list, newest first.
    pub fn list(&self) -> Vec<Listed> {
        let mut entries: Vec<Listed> = self.state().listed.values().cloned().collect();
        entries.sort_by(|a, b| b.uploaded.cmp(&a.uploaded).then_with(|| a.key.cmp(&b.key)));
        entries
    }

    /// An entry of the list.
    pub fn listed(&self, key: &str) -> Option<Listed> {
        self.state().listed.get(key).cloned()
    }

    /// Takes an entry off the list; false if there is none. The content stays until [`sweep`](Self::sweep).
    pub async fn remove(&self, key: &str) -> Result<bool, StorageError> {
        if self.listed(key).is_none() {
            return Ok(false);
        }
        self.inner.files.delete(&self.entry_path(key)).await?;
        Ok(self.state().listed.remove(key).is_some())
    }

    /// Keeps an artifact's content here as long as the pin lives.
    pub fn pin(&self, id: ArtifactId) -> Result<ArtifactPin, StorageError> {
        let mut state = self.state();
        let Some(size) = state.contents.get(&id).copied() else { return Err(StorageError::UnknownArtifact { id }) };
        *state.pins.entry(id).or_default() += 1;
        let name = state.listed.values().find(|entry| entry.id == id).map(|entry| entry.name.clone());
        let artifact = Artifact { id, size, name: name.unwrap_or_else(|| id.to_string()) };
        Ok(ArtifactPin { artifact, store: self.clone() })
    }

    /// Takes the oldest entries off the list until all content together has at most `limit` bytes; says which. What pins name stays,
    /// and counts. The content goes with the next [`sweep`](Self::sweep).
    ///
    /// # Errors
    /// [`StorageError::LimitReached`] if pinned content alone has more; the list is left as it is then.
    pub async fn make_room(&self, limit: u64) -> Result<Vec<Listed>, StorageError> {
        let victims = self.oldest_beyond(limit)?;
        for entry in &victims {
            self.remove(&entry.key).await?;
        }
        Ok(victims)
    }

    fn oldest_beyond(&self, limit: u64) -> Result<Vec<Listed>, StorageError> {
        let state = self.state();
        let mut entries: BTreeMap<ArtifactId, Vec<&Listed>> = BTreeMap::new();
        for entry in state.listed.values() {
            entries.entry(entry.id).or_default().push(entry);
        }
        let size = |id: &ArtifactId| state.contents.get(id).copied().unwrap_or_default();
        let needed: u64 = state.pins.keys().map(size).sum();
        if needed > limit {
            return Err(StorageError::LimitReached { needed, limit });
        }
        // Content is as old as its last upload: removing one of several entries of it would make no room.
        let mut unneeded: Vec<(u64, u64, Vec<&Listed>)> = entries
            .into_iter()
            .filter(|(id, _)| !state.pins.contains_key(id))
            .map(|(id, of)| (of.iter().map(|entry| entry.uploaded).max().unwrap_or_default(), size(&id), of))
            .collect();
        unneeded.sort_by_key(|(uploaded, ..)| *uploaded);
        let mut total = needed + unneeded.iter().map(|(_, size, _)| size).sum::<u64>();
        let mut victims = Vec::new();
        for (_, size, of) in unneeded {
            if total <= limit {
                break;
            }
            total -= size;
            victims.extend(of.into_iter().cloned());
        }
        Ok(victims)
    }

    /// Removes all content that no entry and no pin names; says what.
    pub async fn sweep(&self) -> Result<Vec<ArtifactId>, StorageError> {
        let _placing = self.inner.placing.lock().await;
        let unused = self.strike_unused();
        let mut result = Ok(());
        for id in &unused {
            // What stays because of an error goes when the store is opened the next time.
            result = result.and(self.inner.files.delete(&self.content_path(*id)).await);
        }
        result.map(|()| unused)
    }

    /// Takes unused content out of the books, at once: whoever asks from now on does not get a pin of what is about to go.
    fn strike_unused(&self) -> Vec<ArtifactId> {
        let mut state = self.state();
        let listed: BTreeSet<ArtifactId> = state.listed.values().map(|entry| entry.id).collect();
        let unused = |id: &&ArtifactId| !listed.contains(id) && !state.pins.contains_key(id);
        let unused: Vec<ArtifactId> = state.contents.keys().filter(unused).copied().collect();
        for id in &unused {
            state.contents.remove(id);
            state.verified.remove(id);
        }
        unused
    }

    /// Reads an artifact from `offset` on, after its content has been found to be right.
    pub async fn open_content(&self, id: ArtifactId, offset: u64) -> Result<ArtifactStream, StorageError> {
        self.verify(id).await?;
        let path = self.content_path(id);
        let reader = self.inner.files.read(&path, offset, None).await.map_err(|error| unknown_if_gone(id, error))?;
        let size = self.state().contents.get(&id).copied().unwrap_or_default();
        let hasher = (offset == 0).then(Sha256::new);
        Ok(ArtifactStream { reader, id, hasher, position: offset, size })
    }

    /// The file with an artifact's content, if it is one of this machine. It must not be written to.
    pub fn local_content(&self, id: ArtifactId) -> Option<PathBuf> {
        self.inner.files.local_path(&self.content_path(id))
    }

    /// An error if the content is not what its id says. It is read again only if the file has changed since it was last found right.
    pub async fn verify(&self, id: ArtifactId) -> Result<(), StorageError> {
        let expected = self.state().contents.get(&id).copied().ok_or(StorageError::UnknownArtifact { id })?;
        let path = self.content_path(id);
        let found = self.inner.files.metadata(&path).await.map_err(|error| unknown_if_gone(id, error))?;
        if found.size != expected {
            let problem = format!("{path} has {} bytes, but {expected} were uploaded", found.size);
            return Err(StorageError::Corrupted { id, problem });
        }
        if self.state().verified.get(&id) == Some(&found) {
            return Ok(());
        }
        let reader = self.inner.files.read(&path, 0, None).await.map_err(|error| unknown_if_gone(id, error))?;
        let hasher = Some(Sha256::new());
        let mut stream = ArtifactStream { reader, id, hasher, position: 0, size: expected };
        while stream.next().await?.is_some() {}
        let mut state = self.state();
        if state.contents.contains_key(&id) {
            state.verified.insert(id, found);
        }
        Ok(())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.inner.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn folder(&self, name: &str) -> String {
        format!("{}/{name}", self.inner.root)
    }

    fn path(&self, folder: &str, name: &str) -> String {
        format!("{}/{folder}/{name}", self.inner.root)
    }

    fn content_path(&self, id: ArtifactId) -> String {
        self.path("content", &id.to_string())
    }

    fn entry_path(&self, key: &str) -> String {
        self.path("listed", &format!("{key}.json"))
    }
}

fn unknown_if_gone(id: ArtifactId, error: StorageError) -> StorageError {
    if error.is_not_found() { StorageError::UnknownArtifact { id } } else { error }
}

/// The content of an artifact, in pieces.
pub struct ArtifactStream {
    reader: Box<dyn FileReader>,
    id: ArtifactId,
    /// Only if it is read from its beginning.
    hasher: Option<Sha256>,
    position: u64,
    size: u64,
}

impl fmt::Debug for ArtifactStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ArtifactStream({} at {} of {})", self.id, self.position, self.size)
    }
}

impl ArtifactStream {
    /// The next bytes; `None` at the end. An error at the end if what was read is not the artifact.
    pub async fn next(&mut self) -> Result<Option<Bytes>, StorageError> {
        let corrupted = |problem: String| StorageError::Corrupted { id: self.id, problem };
        let bytes = self.reader.next().await?;
        match &bytes {
            Some(bytes) => {
                self.position += bytes.len() as u64;
                if let Some(hasher) = &mut self.hasher {
                    hasher.update(bytes);
                }
            }
            None if self.position < self.size => {
                return Err(corrupted(format!("it ends after {} of {} bytes", self.position, self.size)));
            }
            None => {
                let found = self.hasher.take().map(|hasher| ArtifactId::from_bytes(hasher.finalize().into()));
                if let Some(found) = found.filter(|found| *found != self.id) {
                    return Err(corrupted(format!("the SHA-256 of its content is {found}")));
                }
            }
        }
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests;
