//! Complete checkpoints and their files: which are kept, which are removed, and when it is safe to.
//!
//! Of a checkpoint that is not kept any more first the metadata goes, so that none is ever there whose files are not. The rest goes
//! when no checkpoint that is kept refers to it and none is under way that began before that: one that begins later is told of a
//! newer base.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use weir_model::{Committable, JobId};

use super::Effects;
use crate::uri::{METADATA_FILE, job_directory, join, relative};
use crate::{CheckpointEffect, CheckpointOptions, CompletedCheckpoint, Removal, RestorePoint, TaskSnapshot};

/// Times a removal is tried.
const ATTEMPTS: u32 = 3;

/// What the coordinator knows of the job's files.
#[derive(Debug)]
pub(super) struct Retention {
    /// The folder of the job's checkpoints.
    directory: Option<String>,
    limit: usize,
    /// From which the job can be restored, oldest first.
    kept: VecDeque<Kept>,
    /// Folders of savepoints, which are somebody else's.
    foreign: BTreeSet<String>,
    /// Files outside the job's folder that belong to it.
    claimed: BTreeSet<Arc<str>>,
    /// To be removed when nothing can refer to it any more, with the last checkpoint that may.
    retiring: BTreeMap<Removal, u64>,
    last_removal: u64,
    /// Removals that are not done, with the number of attempts.
    under_way: BTreeMap<u64, (Vec<Removal>, u32)>,
    failed: Vec<(Vec<Removal>, u32)>,
}

#[derive(Debug)]
struct Kept {
    checkpoint: CompletedCheckpoint,
    files: BTreeSet<Arc<str>>,
    owner: Owner,
    /// Why it cannot be restored from.
    unreadable: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Owner {
    Job,
    /// The job, but it was somebody else's before.
    Claimed,
    Foreign,
}

impl Kept {
    fn new(checkpoint: CompletedCheckpoint, owner: Owner) -> Self {
        Self { files: checkpoint.metadata.files(), checkpoint, owner, unreadable: None }
    }

    fn id(&self) -> u64 {
        self.checkpoint.metadata.checkpoint
    }
}

impl Retention {
    pub(super) fn new(job: JobId, options: &CheckpointOptions) -> Self {
        Self {
            directory: options.directory.as_deref().map(|uri| job_directory(uri, job)),
            limit: options.retained.max(1) as usize,
            kept: VecDeque::new(),
            foreign: BTreeSet::new(),
            claimed: BTreeSet::new(),
            retiring: BTreeMap::new(),
            last_removal: 0,
            under_way: BTreeMap::new(),
            failed: Vec::new(),
        }
    }

    pub(super) fn restore_point(&self, unconfirmed: impl Fn(u64) -> Vec<Committable>) -> RestorePoint {
        match (self.kept.iter().rev().find(|kept| kept.unreadable.is_none()), self.kept.back()) {
            (Some(kept), _) => {
                RestorePoint::Checkpoint { checkpoint: kept.checkpoint.clone(), committables: unconfirmed(kept.id()) }
            }
            (None, Some(last)) => RestorePoint::Lost { reason: last.unreadable.clone().unwrap_or_default() },
            (None, None) => RestorePoint::Beginning,
        }
    }

    pub(super) fn set_unreadable(&mut self, checkpoint: u64, reason: String) {
        if let Some(kept) = self.kept.iter_mut().find(|kept| kept.id() == checkpoint) {
            kept.unreadable.get_or_insert(reason);
        }
    }

    /// Takes in a checkpoint that is somebody else's: it is restored from and never removed.
    pub(super) fn add_foreign(&mut self, checkpoint: CompletedCheckpoint) {
        self.protect(&checkpoint);
        self.kept.push_back(Kept::new(checkpoint, Owner::Foreign));
    }

    /// Takes in a checkpoint that was somebody else's and belongs to the job now.
    pub(super) fn add_claimed(&mut self, checkpoint: CompletedCheckpoint) {
        let kept = Kept::new(checkpoint, Owner::Claimed);
        self.claimed.extend(kept.files.iter().cloned());
        self.kept.push_back(kept);
    }

    /// Leaves the folder of a savepoint alone, wherever it is.
    pub(super) fn protect(&mut self, checkpoint: &CompletedCheckpoint) {
        self.foreign.extend(checkpoint.directory.clone());
    }

    /// The checkpoint whose files the next one may refer to.
    pub(super) fn base(&self) -> Option<u64> {
        let newest = self.kept.iter().rev().find(|kept| kept.unreadable.is_none())?;
        (newest.owner != Owner::Foreign).then(|| newest.id())
    }

    /// Takes in a checkpoint that is complete and lets older ones go. `last_id`: the last that has begun. Gives the numbers of those
    /// that are gone.
    pub(super) fn add(&mut self, checkpoint: CompletedCheckpoint, last_id: u64, out: &mut Effects) -> Vec<u64> {
        self.kept.push_back(Kept::new(checkpoint, Owner::Job));
        let readable = self.kept.iter().filter(|kept| kept.unreadable.is_none()).count();
        let mut surplus = readable.saturating_sub(self.limit);
        let (kept, gone): (VecDeque<_>, VecDeque<_>) = std::mem::take(&mut self.kept).into_iter().partition(|kept| {
            let goes = kept.unreadable.is_some() || surplus > 0;
            surplus -= usize::from(goes && kept.unreadable.is_none());
            !goes
        });
        self.kept = kept;
        for (items, attempts) in std::mem::take(&mut self.failed) {
            self.remove(items, attempts, out);
        }
        self.retire(&gone, last_id, out)
    }

    /// Lets go of those that are not kept. Gives the numbers of those that are gone.
    fn retire(&mut self, gone: &VecDeque<Kept>, last_id: u64, out: &mut Effects) -> Vec<u64> {
        let mut ids = Vec::new();
        let mut metadata = Vec::new();
        for gone in gone.iter().filter(|gone| gone.owner != Owner::Foreign) {
            ids.push(gone.id());
            let Some(directory) = gone.checkpoint.directory.as_deref() else { continue };
            metadata.push(Removal::File(join(directory, METADATA_FILE)));
            let shared = gone.files.iter().filter(|file| relative(file, directory).is_none() && self.is_ours(file));
            let shared: Vec<_> = shared.map(|file| Removal::File(file.to_string())).collect();
            let items = shared.into_iter().chain([Removal::Directory(directory.to_owned())]);
            self.retiring.extend(items.map(|item| (item, last_id)));
        }
        self.remove(metadata, 0, out);
        ids
    }

    /// Removes what nothing can refer to any more. `oldest`: the oldest checkpoint under way.
    pub(super) fn settle(&mut self, oldest: Option<u64>, out: &mut Effects) {
        let may_be_used = |last: u64| oldest.is_some_and(|oldest| oldest <= last);
        let mut items = Vec::new();
        let (files, directories): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.retiring).into_iter().partition(|(item, _)| matches!(item, Removal::File(_)));
        for (item, last) in files {
            match &item {
                // Whoever refers to it will retire it again.
                Removal::File(file) if self.is_kept(file) => {}
                _ if may_be_used(last) => drop(self.retiring.insert(item, last)),
                _ => items.push(item),
            }
        }
        for (item, last) in directories {
            let Removal::Directory(directory) = &item else { continue };
            let inside = |item: &Removal| matches!(item, Removal::File(file) if relative(file, directory).is_some());
            if may_be_used(last) || self.refers_into(directory) || self.retiring.keys().any(inside) {
                self.retiring.insert(item, last);
            } else {
                items.push(item);
            }
        }
        self.remove(items, 0, out);
    }

    /// Lets go of what a checkpoint wrote that was given up.
    pub(super) fn discard(
        &mut self,
        snapshots: Vec<TaskSnapshot>,
        directory: Option<&str>,
        last_id: u64,
        out: &mut Effects,
    ) {
        for file in snapshots.iter().flat_map(TaskSnapshot::files) {
            let own = directory.is_some_and(|directory| relative(file, directory).is_some());
            if !own && self.is_ours(file) && !self.is_kept(file) {
                self.retiring.insert(Removal::File(file.to_string()), last_id);
            }
        }
        self.remove(directory.map(|uri| Removal::Directory(uri.to_owned())).into_iter().collect(), 0, out);
    }

    /// The job has ended, nothing is under way. Gives the numbers of checkpoints that are gone.
    pub(super) fn end(&mut self, remove: bool, for_good: bool, out: &mut Effects) -> Vec<u64> {
        let mut gone = Vec::new();
        if remove {
            let (owned, foreign) =
                std::mem::take(&mut self.kept).into_iter().partition(|kept| kept.owner != Owner::Foreign);
            self.kept = foreign;
            gone = self.retire(&owned, 0, out);
        }
        if for_good {
            self.settle(None, out);
        }
        // What is left in it are empty folders, unless somebody has put a savepoint there.
        let empty = |uri: &&String| !self.foreign.iter().any(|foreign| relative(foreign, uri).is_some());
        let directory = self.directory.iter().filter(empty).map(|uri| Removal::Directory(uri.clone())).collect();
        if remove && !out.is_empty() {
            self.remove(directory, 0, out);
        }
        gone
    }

    pub(super) fn removed(&mut self, removal: u64, result: Result<(), String>) {
        // Otherwise answered twice.
        let Some((items, attempts)) = self.under_way.remove(&removal) else { return };
        if result.is_err() && attempts < ATTEMPTS {
            self.failed.push((items, attempts));
        }
    }

    fn remove(&mut self, items: Vec<Removal>, attempts: u32, out: &mut Effects) {
        if items.is_empty() {
            return;
        }
        self.last_removal += 1;
        self.under_way.insert(self.last_removal, (items.clone(), attempts + 1));
        out.push(CheckpointEffect::Remove { removal: self.last_removal, items });
    }

    /// Whether a checkpoint that is kept refers to the file.
    fn is_kept(&self, file: &str) -> bool {
        self.kept.iter().any(|kept| kept.files.contains(file))
    }

    /// Whether a checkpoint that is kept refers to a file in the folder.
    fn refers_into(&self, directory: &str) -> bool {
        self.kept.iter().flat_map(|kept| &kept.files).any(|file| relative(file, directory).is_some())
    }

    /// Whether the file is the job's to remove.
    fn is_ours(&self, file: &str) -> bool {
        let ours = self.directory.as_deref().is_some_and(|directory| relative(file, directory).is_some());
        (ours || self.claimed.contains(file)) && !self.foreign.iter().any(|foreign| relative(file, foreign).is_some())
    }
}
