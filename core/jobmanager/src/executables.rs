//! Job executables as files that can be started here, and what can be known of them without running a job.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use weir_model::{Artifact, ArtifactId};
use weir_process::{Command, Process};
use weir_proto::artifact::{NotAJob, ROLE_DESCRIBE, ROLE_VARIABLE, check, check_protocol};
use weir_storage::{ArtifactStore, StorageError};

use crate::launch::without_own_variables;
use crate::private_folder::PrivateFolder;

/// Copies of stored artifacts that can be executed; each verified when it was made.
#[derive(Debug)]
pub(crate) struct Executables {
    folder: PathBuf,
    tmp_dir: PathBuf,
    store: ArtifactStore,
    /// Held while a copy is made: whoever wants the same one waits for it.
    copying: tokio::sync::Mutex<()>,
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
        Executables { folder, tmp_dir, store, copying: tokio::sync::Mutex::default() }
    }

    /// The executable file of an artifact whose stored content is what it should be.
    pub(crate) async fn path(&self, id: ArtifactId) -> Result<PathBuf, StorageError> {
        // Whoever runs a damaged artifact is told so here, although the copy would still do: TaskManagers have none.
        self.store.verify(id).await?;
        let path = self.folder.join(id.to_string());
        let _copying = self.copying.lock().await;
        if !path.exists() {
            let new = path.with_extension("new");
            if let Err(error) = self.copy(id, &new, &path).await {
                let _ = fs::remove_file(&new);
                return Err(error);
            }
        }
        Ok(path)
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

/// The outer error is one of reading.
fn look_at(path: &Path) -> io::Result<Result<(), NotAJob>> {
    let mut file = File::open(path)?;
    Ok(check(&mut file)?.and_then(|note| check_protocol(&note)))
}
