//! Job executables as files that can be started here, and what can be known of them without running a job.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::Deserialize;
use weir_model::{Artifact, ArtifactId};
use weir_process::{Command, Process};
use weir_proto::artifact::{NotAJob, ROLE_DESCRIBE, ROLE_VARIABLE, check, check_protocol};
use weir_storage::{ArtifactStore, StorageError};

use crate::launch::without_own_variables;
use crate::private_folder::PrivateFolder;

/// Links to stored artifacts, or copies of them, that can be executed; copies were verified when they were made.
#[derive(Debug)]
pub(crate) struct Executables {
    folder: PathBuf,
    tmp_dir: PathBuf,
    store: ArtifactStore,
    /// Held while a copy is made: whoever wants the same one waits for it, and nobody else. Only of copies under way.
    copying: Mutex<BTreeMap<ArtifactId, Arc<tokio::sync::Mutex<()>>>>,
    /// What is a copy; everything else is a link.
    copies: Mutex<BTreeSet<ArtifactId>>,
}

/// Why an artifact cannot be run here.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ExecutableError {
    /// The upload was no job for this machine: the uploader's mistake.
    #[error("{0}")]
    NotAJob(String),
    /// It cannot be read, or not be copied.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

/// What an executable says when it is asked to describe itself.
#[derive(Debug, Deserialize)]
struct Description {
    jobs: Vec<DescribedJob>,
}

#[derive(Debug, Deserialize)]
struct DescribedJob {
    name: String,
}

impl Executables {
    /// `folder` is emptied: copies of an earlier process have not been verified by this one.
    pub(crate) fn new(folder: PathBuf, tmp_dir: PathBuf, store: ArtifactStore) -> Executables {
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            let _ = fs::remove_file(entry.path());
        }
        Executables { folder, tmp_dir, store, copying: Mutex::default(), copies: Mutex::default() }
    }

    /// The executable file of an artifact whose stored content is what it should be.
    pub(crate) async fn path(&self, id: ArtifactId) -> Result<PathBuf, StorageError> {
        // Whoever runs a damaged artifact is told so here, although the copy would still do: TaskManagers have none.
        self.store.verify(id).await?;
        let path = self.folder.join(id.to_string());
        if self.is_right(id, &path) {
            return Ok(path);
        }
        let turn = self.lock_copying().entry(id).or_default().clone();
        let copying = turn.lock().await;
        let made = if self.is_right(id, &path) { Ok(()) } else { self.make(id, &path).await };
        drop(copying);
        let mut all = self.lock_copying();
        // That of the map, and this one: nobody waits for it.
        if Arc::strong_count(&turn) == 2 {
            all.remove(&id);
        }
        drop(all);
        made.map(|()| path)
    }

    /// Whether the file is a copy, or a link to what was just found to be right. It may be one to what an upload has replaced since.
    fn is_right(&self, id: ArtifactId, path: &Path) -> bool {
        let inode = |path: &Path| fs::metadata(path).ok().map(|metadata| (metadata.dev(), metadata.ino()));
        let Some(found) = inode(path) else { return false };
        let copied = self.copies.lock().unwrap_or_else(PoisonError::into_inner).contains(&id);
        copied || self.store.local_content(id).and_then(|content| inode(&content)) == Some(found)
    }

    /// A link if the store is on the same file system, which takes neither time nor room; a copy otherwise.
    async fn make(&self, id: ArtifactId, path: &Path) -> Result<(), StorageError> {
        let new = path.with_extension("new");
        if let Some(content) = self.store.local_content(id) {
            let (new, path) = (new.clone(), path.to_owned());
            let linked = tokio::task::spawn_blocking(move || link(&content, &new, &path)).await;
            if matches!(linked, Ok(Ok(()))) {
                return Ok(());
            }
        }
        let copied = self.copy(id, &new, path).await;
        match &copied {
            Ok(()) => drop(self.copies.lock().unwrap_or_else(PoisonError::into_inner).insert(id)),
            Err(_) => drop(fs::remove_file(&new)),
        }
        copied
    }

    fn lock_copying(&self) -> MutexGuard<'_, BTreeMap<ArtifactId, Arc<tokio::sync::Mutex<()>>>> {
        self.copying.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn copy(&self, id: ArtifactId, new: &Path, path: &Path) -> Result<(), StorageError> {
        let mut content = self.store.open_content(id, 0).await?;
        let failed = |error| StorageError::from_io("copying an artifact to", new.display().to_string(), error);
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true).mode(0o700);
        let mut file = options.open(new).map_err(failed)?;
        while let Some(bytes) = content.next().await? {
            let write = tokio::task::spawn_blocking(move || file.write_all(&bytes).map(|()| file));
            file = write.await.map_err(io::Error::other).and_then(|written| written).map_err(failed)?;
        }
        drop(file);
        fs::rename(new, path).map_err(failed)
    }

    /// Removes copies that are not needed any more.
    pub(crate) fn forget(&self, ids: &[ArtifactId]) {
        for id in ids {
            let _ = fs::remove_file(self.folder.join(id.to_string()));
            self.copies.lock().unwrap_or_else(PoisonError::into_inner).remove(id);
        }
    }

    /// The names of the jobs in an artifact; an error if it is none for this machine. It is asked itself, as a child process.
    pub(crate) async fn jobs_of(&self, artifact: &Artifact, limit: Duration) -> Result<Vec<String>, ExecutableError> {
        let path = self.path(artifact.id).await?;
        let shown = artifact.name.clone();
        let looked = path.clone();
        let look = tokio::task::spawn_blocking(move || look_at(&looked));
        let looked = look.await.map_err(io::Error::other).and_then(|looked| looked);
        let looked = looked.map_err(|error| StorageError::from_io("reading", path.display().to_string(), error))?;
        looked.map_err(|what| ExecutableError::NotAJob(what.explain(&shown)))?;
        self.describe(&path, &shown, limit).await.map_err(ExecutableError::NotAJob)
    }

    async fn describe(&self, path: &Path, shown: &str, limit: Duration) -> Result<Vec<String>, String> {
        let folder = PrivateFolder::new(&self.tmp_dir)
            .map_err(|error| format!("no folder can be made in {} ({error})", self.tmp_dir.display()))?;
        let out = folder.path().join("description");
        let mut command = Command::new(path);
        command.environment = vec![(ROLE_VARIABLE.to_owned(), ROLE_DESCRIBE.to_owned())];
        command.without = without_own_variables();
        command.folder = Some(folder.path().to_owned());
        command.stdout = Some(out.clone());
        let mut process = Process::spawn(command).await.map_err(|error| format!("{shown}: {error}"))?;
        let Ok(ended) = tokio::time::timeout(limit, process.wait()).await else {
            return Err(format!("{shown} was asked to describe itself and gave no answer within {limit:?}"));
        };
        if !ended.status.is_some_and(|status| status.success()) {
            return Err(format!("{shown} was asked to describe itself and {}", ended.describe()));
        }
        let answer = fs::read(&out).unwrap_or_default();
        match serde_json::from_slice::<Description>(&answer) {
            Ok(description) if !description.jobs.is_empty() => {
                Ok(description.jobs.into_iter().map(|job| job.name).collect())
            }
            Ok(_) => Err(format!("{shown} has no jobs in it: `weir::main!` names them")),
            Err(error) => Err(format!("{shown} was asked to describe itself and gave no valid answer: {error}")),
        }
    }
}

/// Makes an executable of a stored file, under another name.
fn link(content: &Path, new: &Path, path: &Path) -> io::Result<()> {
    let _ = fs::remove_file(new);
    fs::hard_link(content, new)?;
    let mut permissions = fs::metadata(new)?.permissions();
    permissions.set_mode(permissions.mode() | 0o100);
    let placed = fs::set_permissions(new, permissions).and_then(|()| fs::rename(new, path));
    if placed.is_err() {
        let _ = fs::remove_file(new);
    }
    placed
}

/// The outer error is one of reading.
fn look_at(path: &Path) -> io::Result<Result<(), NotAJob>> {
    let mut file = File::open(path)?;
    Ok(check(&mut file)?.and_then(|note| check_protocol(&note)))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use weir_storage::LocalFileSystem;

    use super::*;

    #[tokio::test]
    async fn an_executable_is_a_link_to_what_is_stored_and_goes_with_it() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("store");
        let shown = root.display().to_string();
        let store = ArtifactStore::open(Arc::new(LocalFileSystem), shown).await.unwrap();
        let copies = folder.path().join("executables");
        fs::create_dir(&copies).unwrap();
        let executables = Executables::new(copies, folder.path().to_owned(), store.clone());
        let upload = async || {
            let mut upload = store.begin("job").await.unwrap();
            upload.write(Bytes::from_static(b"#!/bin/sh\nexit 7\n")).await.unwrap();
            upload.finish().await.unwrap()
        };
        let pin = upload().await;
        let (first, second) = tokio::join!(executables.path(pin.id), executables.path(pin.id));
        let path = first.unwrap();
        assert_eq!(path, second.unwrap());
        let inode = |path: &Path| fs::metadata(path).unwrap().ino();
        assert_eq!(inode(&path), inode(&root.join("content").join(pin.id.to_string())));
        assert_eq!(std::process::Command::new(&path).status().unwrap().code(), Some(7));
        assert!(executables.lock_copying().is_empty());
        // Uploaded once more, because what was stored is damaged, which the link is then too.
        fs::write(&path, "#!/bin/sh\nexit 8\n").unwrap();
        executables.path(pin.id).await.unwrap_err();
        let again = upload().await;
        executables.path(pin.id).await.unwrap();
        assert_eq!(std::process::Command::new(&path).status().unwrap().code(), Some(7));
        let id = pin.id;
        drop((pin, again));
        executables.forget(&store.sweep().await.unwrap());
        assert!(!path.exists());
        assert!(executables.path(id).await.unwrap_err().is_not_found());
    }
}
