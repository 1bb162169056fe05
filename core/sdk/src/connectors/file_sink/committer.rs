//! Makes finished part files visible.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use weir_dataflow::sink::{Committer, SinkError};

use super::directory::OutputDirectory;
use super::error::OutputError;
use super::part::Part;
use super::staging::Staging;

/// The driver's side of a [`FileSink`](super::FileSink).
#[derive(Debug)]
pub(super) struct FileCommitter {
    directory: OutputDirectory,
}

impl FileCommitter {
    pub(super) fn new(directory: OutputDirectory) -> FileCommitter {
        FileCommitter { directory }
    }

    /// Makes parts visible in the directories they were written to: usually this one.
    fn publish(&mut self, parts: Vec<Part>) -> Result<(), OutputError> {
        let mut own = Vec::new();
        let mut elsewhere: BTreeMap<PathBuf, Vec<Part>> = BTreeMap::new();
        for part in parts {
            match self.home(&part) {
                Home::Here => own.push(part),
                Home::Elsewhere => elsewhere.entry(part.output.clone()).or_default().push(part),
                Home::Gone => eprintln!(
                    "{} is gone, and with it {}, which belongs to the state this job goes on from",
                    part.output.display(),
                    part.name
                ),
            }
        }
        for (path, parts) in elsewhere {
            match OutputDirectory::prepare(&path, &self.directory.staging.run(), false, true) {
                Ok(directory) => FileCommitter::new(directory).publish_here(parts)?,
                // The job that wrote them runs, and does it itself.
                Err(OutputError::InUse { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        self.publish_here(own)
    }

    /// Whose directory a part belongs to. Directories may have been renamed, and may be named in several ways.
    fn home(&self, part: &Part) -> Home {
        let id = |path: &Path| fs::metadata(path).map(|metadata| (metadata.dev(), metadata.ino())).ok();
        let here = Staging::of(&self.directory.path, &part.run);
        match id(&part.output) {
            found if found == id(&self.directory.path) => Home::Here,
            Some(_) => Home::Elsewhere,
            None if here.has(part) => Home::Here,
            None => Home::Gone,
        }
    }

    fn publish_here(&mut self, parts: Vec<Part>) -> Result<(), OutputError> {
        // This run's own, even if there is nothing of it: an empty output replaces an old one too.
        let mut by_run = BTreeMap::from([(self.directory.staging.run(), Vec::new())]);
        for part in parts {
            by_run.entry(part.run.clone()).or_insert_with(Vec::new).push(part);
        }
        // Looked at before anything is touched: after this, only a failing disk can leave a commit half done.
        let mut plans = Vec::new();
        for (run, parts) in by_run {
            let staging = Staging::of(&self.directory.path, &run);
            plans.push((staging.plan(&parts)?, staging));
        }
        for (steps, staging) in plans {
            steps.iter().try_for_each(|step| staging.perform(step))?;
        }
        self.directory.committed()
    }
}

/// Where the directory of a part is.
enum Home {
    /// It is the committer's.
    Here,
    /// It is another one: the job was started again with another output directory.
    Elsewhere,
    /// It was removed, and with it all that was in it.
    Gone,
}

impl Committer for FileCommitter {
    fn commit(&mut self, committables: Vec<Vec<u8>>) -> Result<(), SinkError> {
        let parts: Result<Vec<Part>, String> = committables.iter().map(|bytes| Part::from_bytes(bytes)).collect();
        let parts = parts.map_err(|reason| OutputError::Committable { path: self.directory.path.clone(), reason })?;
        Ok(self.publish(parts)?)
    }

    fn abort(&mut self) {
        if let Err(error) = self.directory.staging.take_back() {
            // There is no job left to fail.
            eprintln!("cleaning up after the job failed: {error}");
            self.directory.leave();
            return;
        }
        self.directory.clean_up();
    }
}
