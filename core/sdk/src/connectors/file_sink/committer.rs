//! Makes finished part files visible.

use std::collections::BTreeMap;

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

    fn publish(&mut self, parts: Vec<Part>) -> Result<(), OutputError> {
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
