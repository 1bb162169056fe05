//! A complete checkpoint, and from where a job is to start again.

use std::sync::Arc;

use weir_model::Committable;

use crate::uri::{METADATA_FILE, join};
use crate::{CheckpointMetadata, Removal};

/// A checkpoint from which a job can be restored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CompletedCheckpoint {
    /// What is in it.
    pub metadata: Arc<CheckpointMetadata>,
    /// URI of the folder its metadata is in; `None` if it is in memory only.
    pub directory: Option<String>,
}

impl CompletedCheckpoint {
    /// What to remove, in this order, when its owner disposes of it. Files outside its folder stay, as other checkpoints may refer to
    /// them.
    pub fn disposal(&self) -> Vec<Removal> {
        let directory = self.directory.iter();
        directory.flat_map(|uri| [Removal::File(join(uri, METADATA_FILE)), Removal::Directory(uri.clone())]).collect()
    }
}

/// From where tasks are to start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RestorePoint {
    /// From the beginning: there has never been a checkpoint.
    Beginning,
    /// From a checkpoint.
    Checkpoint {
        /// Which.
        checkpoint: CompletedCheckpoint,
        /// What of its output is perhaps not visible yet. To be made visible before any task runs, when all of the job's tasks start
        /// again; when only some do, their commit is still under way and nothing is to be done.
        committables: Vec<Committable>,
    },
    /// There were checkpoints and none of them can be read: the job must not start over as if it had none.
    Lost {
        /// What went wrong with the last of them.
        reason: String,
    },
}

/// To whom a checkpoint belongs that a job is started from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum RestoreMode {
    /// To whoever gave it: it is left alone, and the next checkpoint shares no file with it.
    #[default]
    NoClaim,
    /// To the job from now on: it is removed when newer ones replace it.
    Claim,
}
