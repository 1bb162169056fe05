//! An artifact on its way into the store.

use std::fmt;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use sha2::{Digest, Sha256};
use weir_model::{Artifact, ArtifactId};

use super::{ArtifactPin, ArtifactStore};
use crate::{FileWriter, IfExists, StorageError};

/// An upload under way. Nothing of it is in memory but the bytes being written; dropping it leaves nothing.
pub struct Upload {
    store: ArtifactStore,
    writer: Box<dyn FileWriter>,
    path: String,
    name: String,
    hasher: Sha256,
    size: u64,
}

impl fmt::Debug for Upload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Upload({:?}, {} bytes)", self.name, self.size)
    }
}

impl Upload {
    pub(super) async fn begin(store: &ArtifactStore, name: &str) -> Result<Upload, StorageError> {
        let number = store.inner.uploads.fetch_add(1, Ordering::Relaxed);
        let path = store.path("incoming", &number.to_string());
        let writer = store.inner.files.create(&path, IfExists::Fail).await?;
        Ok(Upload { store: store.clone(), writer, path, name: name.to_owned(), hasher: Sha256::new(), size: 0 })
    }

    /// Takes the next bytes.
    pub async fn write(&mut self, bytes: Bytes) -> Result<(), StorageError> {
        self.hasher.update(&bytes);
        self.size += bytes.len() as u64;
        self.writer.write(bytes).await
    }

    /// Bytes so far.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Puts the content in its place. It stays as long as the pin lives, or for good once it is listed.
    pub async fn finish(self) -> Result<ArtifactPin, StorageError> {
        let Upload { store, writer, path, name, hasher, size } = self;
        let id = ArtifactId::from_bytes(hasher.finalize().into());
        writer.finish().await?;
        let _placing = store.inner.placing.lock().await;
        let placed = {
            // What is there already is the same, unless it is damaged: replacing it repairs it.
            let to = store.content_path(id);
            store.inner.files.rename(&path, &to, IfExists::Replace).await
        };
        if let Err(error) = placed {
            // The first error is the one to be told.
            let _ = store.inner.files.delete(&path).await;
            return Err(error);
        }
        let mut state = store.state();
        state.contents.insert(id, size);
        state.verified.remove(&id);
        *state.pins.entry(id).or_default() += 1;
        drop(state);
        let artifact = Artifact { id, size, name };
        Ok(ArtifactPin { artifact, store: store.clone() })
    }
}
