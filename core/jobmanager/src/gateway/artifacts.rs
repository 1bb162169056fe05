//! Uploaded artifacts.

use std::sync::Arc;

use bytes::Bytes;
use weir_rest::{Answer, ArtifactUpload, GatewayError, StoredArtifact};
use weir_storage::{ArtifactPin, Listed, StorageError, Upload};

use crate::executables::ExecutableError;
use crate::shared::Shared;

/// Longest part of a file name that is kept in a key.
const LONGEST_NAME: usize = 100;

pub(super) fn list(shared: &Shared) -> Vec<StoredArtifact> {
    shared.store.list().into_iter().map(stored).collect()
}

fn stored(entry: Listed) -> StoredArtifact {
    let artifact = entry.artifact();
    StoredArtifact { key: entry.key, artifact, uploaded: entry.uploaded, jobs: entry.jobs }
}

pub(super) async fn begin(shared: &Arc<Shared>, name: String) -> Result<Box<dyn ArtifactUpload>, GatewayError> {
    let name = file_name(&name);
    let upload = shared.store.begin(&name).await.map_err(error_of)?;
    Ok(Box::new(UploadUnderWay { shared: shared.clone(), upload, name }))
}

/// The last part of a path, fit to be a part of a key.
fn file_name(name: &str) -> String {
    let last = name.rsplit(['/', '\\']).next().unwrap_or_default();
    let plain = |c: char| if c.is_alphanumeric() || "-_.+".contains(c) { c } else { '_' };
    let mut cut: String = last.chars().map(plain).collect();
    while cut.len() > LONGEST_NAME {
        cut.pop();
    }
    if cut.is_empty() { "job".to_owned() } else { cut }
}

struct UploadUnderWay {
    shared: Arc<Shared>,
    upload: Upload,
    name: String,
}

impl ArtifactUpload for UploadUnderWay {
    fn write(&mut self, bytes: Bytes) -> Answer<'_, ()> {
        Box::pin(async move { self.upload.write(bytes).await.map_err(error_of) })
    }

    fn finish(self: Box<Self>) -> Answer<'static, StoredArtifact> {
        let UploadUnderWay { shared, upload, name } = *self;
        // In a task of its own, because what is half done must not stay so when the client goes away.
        Box::pin(async move {
            match tokio::spawn(keep(shared, upload, name)).await {
                Ok(result) => result,
                Err(error) => Err(GatewayError::Internal(format!("keeping the upload failed: {error}"))),
            }
        })
    }
}

async fn keep(shared: Arc<Shared>, upload: Upload, name: String) -> Result<StoredArtifact, GatewayError> {
    let pin = upload.finish().await.map_err(error_of)?;
    let kept = list_it(&shared, &pin, &name).await;
    match &kept {
        Ok(kept) => {
            tracing::info!(key = kept.key, size = kept.artifact.size, jobs = ?kept.jobs, "an artifact was uploaded")
        }
        Err(error) => {
            tracing::info!(name, %error, "an upload was refused");
            drop(pin);
            shared.sweep_artifacts().await;
        }
    }
    kept
}

async fn list_it(shared: &Shared, pin: &ArtifactPin, name: &str) -> Result<StoredArtifact, GatewayError> {
    let jobs = {
        let _turn = shared.builders.turn().await?;
        shared.executables.jobs_of(pin, shared.options.worker_start_timeout).await
    };
    let jobs = jobs.map_err(|error| match error {
        ExecutableError::NotAJob(problem) => GatewayError::BadRequest(problem),
        ExecutableError::Storage(error) => error_of(error),
    })?;
    make_room(shared).await?;
    let key = format!("{}_{name}", new_uuid()?);
    let listed = shared.store.list_as(pin, &key, shared.clock.millis(), jobs).await;
    listed.map(stored).map_err(error_of)
}

/// Removes the oldest artifacts that nobody needs, if there are too many with what was just uploaded.
async fn make_room(shared: &Shared) -> Result<(), GatewayError> {
    let limit = shared.options.max_artifacts_size;
    let removed = shared.store.make_room(limit).await.map_err(error_of)?;
    for entry in &removed {
        tracing::info!(
            key = entry.key,
            size = entry.size,
            limit,
            "an old artifact was removed to make room for a new one"
        );
    }
    if !removed.is_empty() {
        shared.sweep_artifacts().await;
    }
    Ok(())
}

/// A random UUID (version 4).
fn new_uuid() -> Result<String, GatewayError> {
    let mut bytes = [0u8; 16];
    getrandom::fill(&mut bytes).map_err(|error| GatewayError::Internal(format!("there is no randomness ({error})")))?;
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let hex = format!("{:032x}", u128::from_be_bytes(bytes));
    Ok(format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]))
}

pub(super) async fn delete(shared: &Shared, key: String) -> Result<(), GatewayError> {
    if !shared.store.remove(&key).await.map_err(error_of)? {
        return Err(GatewayError::NotFound(format!("there is no uploaded artifact {key:?}; GET /jars lists them")));
    }
    tracing::info!(key, "an artifact was deleted");
    shared.sweep_artifacts().await;
    Ok(())
}

/// The error in the words of the HTTP API.
pub(super) fn error_of(error: StorageError) -> GatewayError {
    let text = error.to_string();
    match error {
        StorageError::NoSpace { .. } => GatewayError::NoSpace(text),
        StorageError::LimitReached { .. } => GatewayError::NoSpace(format!("{text} (`weir.artifacts.max-total-size`)")),
        StorageError::UnknownArtifact { .. } => GatewayError::NotFound(text),
        error => {
            tracing::warn!(%error, "the store of artifacts failed");
            GatewayError::Internal(text)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lose_their_path_and_what_a_file_name_cannot_have() {
        assert_eq!(file_name("wordcount"), "wordcount");
        assert_eq!(file_name("/a/../b c\0d"), "b_c_d");
        assert_eq!(file_name(r"C:\jobs\x.bin"), "x.bin");
        assert_eq!(file_name(""), "job");
        assert_eq!(file_name(&"é".repeat(300)).len(), LONGEST_NAME);
    }

    #[test]
    fn a_uuid_has_its_version_and_form() {
        let uuid = new_uuid().unwrap();
        assert_eq!(uuid.len(), 36);
        assert_eq!((&uuid[8..9], &uuid[14..15]), ("-", "4"), "{uuid}");
    }
}
