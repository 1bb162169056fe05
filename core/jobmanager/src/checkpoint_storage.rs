//! What a job's checkpoints need of storage: metadata is written, files and folders are removed, apart from the job's loop, which never waits
//! for a disk.
//!
//! Metadata is written one after the other. A removal waits for all metadata that was asked for before it, so that none comes into a folder
//! that is gone already; nothing waits for a removal but the next one.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio_util::task::TaskTracker;
use weir_checkpoint::{CheckpointMetadata, CompletedCheckpoint, METADATA_FILE, Removal};
use weir_storage::{IfExists, StorageError, file_system};

/// Something to be done.
#[derive(Debug)]
enum Task {
    Write { checkpoint: u64, uri: String, bytes: Arc<[u8]> },
    Remove { removal: u64, items: Vec<Removal> },
}

/// What was done.
#[derive(Debug)]
pub(crate) enum Done {
    /// A checkpoint's metadata is durable, or is not.
    Written { checkpoint: u64, result: Result<(), String> },
    /// Everything is gone, or something is not.
    Removed { removal: u64, result: Result<(), String> },
}

/// The storage of one job's checkpoints. What it was asked for is done even if it is dropped.
#[derive(Debug)]
pub(crate) struct CheckpointStorage {
    tasks: UnboundedSender<Task>,
    done: UnboundedReceiver<Done>,
}

impl CheckpointStorage {
    /// `tracker`: knows of the work as long as there is some.
    pub(crate) fn new(tracker: &TaskTracker) -> CheckpointStorage {
        let (tasks, to_do) = unbounded_channel();
        let (removals, to_remove) = unbounded_channel();
        let (tell, done) = unbounded_channel();
        tracker.spawn(write_all(to_do, removals, tell.clone()));
        tracker.spawn(remove_all(to_remove, tell));
        CheckpointStorage { tasks, done }
    }

    pub(crate) fn write(&self, checkpoint: u64, uri: String, bytes: Arc<[u8]>) {
        let _ = self.tasks.send(Task::Write { checkpoint, uri, bytes });
    }

    pub(crate) fn remove(&self, removal: u64, items: Vec<Removal>) {
        let _ = self.tasks.send(Task::Remove { removal, items });
    }

    /// The next thing that was done. May be dropped and called again.
    pub(crate) async fn next(&mut self) -> Done {
        match self.done.recv().await {
            Some(done) => done,
            // The runtime is being shut down.
            None => std::future::pending().await,
        }
    }
}

async fn write_all(
    mut tasks: UnboundedReceiver<Task>,
    removals: UnboundedSender<(u64, Vec<Removal>)>,
    tell: UnboundedSender<Done>,
) {
    while let Some(task) = tasks.recv().await {
        match task {
            Task::Write { checkpoint, uri, bytes } => {
                let result = write(&uri, Bytes::from_owner(bytes)).await.map_err(|error| error.to_string());
                let _ = tell.send(Done::Written { checkpoint, result });
            }
            Task::Remove { removal, items } => drop(removals.send((removal, items))),
        }
    }
}

async fn remove_all(mut removals: UnboundedReceiver<(u64, Vec<Removal>)>, tell: UnboundedSender<Done>) {
    while let Some((removal, items)) = removals.recv().await {
        let mut result = Ok(());
        for item in items {
            if let Err(error) = remove(&item).await {
                tracing::warn!(%error, ?item, "something of an old checkpoint cannot be removed");
                result = result.and(Err(error.to_string()));
            }
        }
        let _ = tell.send(Done::Removed { removal, result });
    }
}

async fn write(uri: &str, bytes: Bytes) -> Result<(), StorageError> {
    let (files, path) = file_system(uri)?;
    let mut writer = files.create(&path, IfExists::Replace).await?;
    writer.write(bytes).await?;
    writer.finish().await
}

async fn remove(item: &Removal) -> Result<(), StorageError> {
    match item {
        Removal::File(uri) => {
            let (files, path) = file_system(uri)?;
            files.delete(&path).await
        }
        Removal::Directory(uri) => {
            let (files, path) = file_system(uri)?;
            files.delete_folder(&path).await
        }
    }
}

/// Reads the metadata of a checkpoint or savepoint. `place`: its folder or the file in it, as a path or URI. The error is for whoever named it.
pub(crate) async fn load(place: &str) -> Result<CompletedCheckpoint, String> {
    let wrong =
        |problem: &dyn std::fmt::Display| format!("there is no checkpoint or savepoint at {place:?}: {problem}");
    let folder = place.trim_end_matches('/');
    let folder = folder.strip_suffix(METADATA_FILE).and_then(|folder| folder.strip_suffix('/')).unwrap_or(folder);
    let directory = directory_uri(folder).map_err(|error| wrong(&error))?;
    let (files, path) = file_system(&directory).map_err(|error| wrong(&error))?;
    let path = format!("{}/{METADATA_FILE}", path.trim_end_matches('/'));
    let bytes = async {
        let mut reader = files.read(&path, 0, None).await?;
        let mut bytes = Vec::new();
        while let Some(chunk) = reader.next().await? {
            bytes.extend_from_slice(&chunk);
        }
        Ok::<_, StorageError>(bytes)
    };
    let bytes = bytes.await.map_err(|error| match error.is_not_found() {
        true => wrong(&format_args!(
            "{path} does not exist; name the folder chk-<n> or savepoint-<…> that has the file {METADATA_FILE}"
        )),
        false => {
            wrong(&format_args!("{error}; name the folder chk-<n> or savepoint-<…> that has the file {METADATA_FILE}"))
        }
    })?;
    let metadata = CheckpointMetadata::decode(&bytes, &directory)
        .map_err(|error| format!("{path} cannot be read as the metadata of a checkpoint: {error}"))?;
    Ok(CompletedCheckpoint { metadata: Arc::new(metadata), directory: Some(directory) })
}

/// The URI of a folder that somebody named by a URI or a path.
pub(crate) fn directory_uri(text: &str) -> Result<String, StorageError> {
    // Whether there is such a file system is to be known before anything is written.
    let (files, path) = file_system(text)?;
    let location = weir_storage::Location::parse(text)?;
    Ok(format!("{}://{}{path}", files.scheme(), location.authority))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use weir_model::{CheckpointKind, JobId};

    use super::*;

    fn metadata() -> CheckpointMetadata {
        CheckpointMetadata {
            job: JobId::from_bytes([1; 16]),
            job_name: "job".to_owned(),
            checkpoint: 7,
            timestamp: 0,
            kind: CheckpointKind::Checkpoint,
            enumerators: Vec::new(),
            committables: Vec::new(),
            operators: Vec::new(),
        }
    }

    fn uri(path: &Path) -> String {
        format!("file://{}", path.display())
    }

    #[tokio::test]
    async fn what_was_written_is_loaded_by_any_of_its_names_and_removed_in_order() {
        let folder = tempfile::tempdir().unwrap();
        let tracker = TaskTracker::new();
        let mut storage = CheckpointStorage::new(&tracker);
        let directory = folder.path().join("job/chk-7");
        let file = directory.join(METADATA_FILE);
        storage.write(7, uri(&file), metadata().encode(&uri(&directory)).into());
        assert!(matches!(storage.next().await, Done::Written { checkpoint: 7, result: Ok(()) }));
        for name in [directory.display().to_string(), format!("{}/", directory.display()), uri(&directory), uri(&file)]
        {
            let loaded = load(&name).await.unwrap();
            assert_eq!((&*loaded.metadata, loaded.directory), (&metadata(), Some(uri(&directory))), "{name}");
        }
        // Asked for while another file is about to be written into the folder.
        storage.write(7, uri(&directory.join("other")), Arc::from(vec![1; 1 << 20]));
        storage.remove(1, vec![Removal::File(uri(&file)), Removal::Directory(uri(&directory))]);
        drop(storage);
        tracker.close();
        tracker.wait().await;
        assert!(!directory.exists());
    }

    #[tokio::test]
    async fn what_cannot_be_written_or_removed_is_said_and_does_not_stop_the_rest() {
        let folder = tempfile::tempdir().unwrap();
        let blocked = folder.path().join("file");
        std::fs::write(&blocked, "x").unwrap();
        std::fs::create_dir(folder.path().join("gone")).unwrap();
        let mut storage = CheckpointStorage::new(&TaskTracker::new());
        storage.write(1, uri(&blocked.join("chk-1/_metadata")), Arc::from(vec![1]));
        let Done::Written { checkpoint: 1, result: Err(error) } = storage.next().await else { panic!() };
        assert!(error.contains("file"), "{error}");
        let items =
            vec![Removal::File("s3://bucket/x".to_owned()), Removal::Directory(uri(&folder.path().join("gone")))];
        storage.remove(2, items);
        let Done::Removed { removal: 2, result: Err(error) } = storage.next().await else { panic!() };
        assert!(error.contains("s3"), "{error}");
        assert!(!folder.path().join("gone").exists());
    }

    #[tokio::test]
    async fn what_is_no_checkpoint_is_explained() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().display().to_string();
        let error = load(&place).await.unwrap_err();
        assert!(error.contains(&place) && error.contains("chk-<n>"), "{error}");
        std::fs::write(folder.path().join(METADATA_FILE), "hello").unwrap();
        let error = load(&place).await.unwrap_err();
        assert!(error.contains("not the metadata of a checkpoint"), "{error}");
        let error = load("relative/chk-1").await.unwrap_err();
        assert!(error.contains("neither a scheme"), "{error}");
        let error = load("hdfs://names/chk-1").await.unwrap_err();
        assert!(error.contains("hdfs://"), "{error}");
    }
}
