//! Complete checkpoints and their files: which are kept, which are removed, and when it is safe to.
//!
//! Of a checkpoint that is not kept any more first the metadata goes, so that none is ever there whose files are not. What is in
//! its own folder goes with it. A file that checkpoints share goes when none that is kept refers to it and a checkpoint has completed
//! that began after that: until then a task may not know yet that it must not refer to the file again.

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
    /// To be removed when no task can refer to it any more.
    retiring: Vec<Retiring>,
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

#[derive(Debug)]
struct Retiring {
    item: Removal,
    /// A checkpoint with a greater number must have completed.
    after: u64,
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
            retiring: Vec::new(),
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

    /// Takes in a checkpoint that is complete and lets older ones go. `last_id`: the last that has begun. `in_use`: files that those
    /// under way refer to. Gives the numbers of those that are gone.
    pub(super) fn add(
        &mut self,
        checkpoint: CompletedCheckpoint,
        last_id: u64,
        in_use: &BTreeSet<Arc<str>>,
        out: &mut Effects,
    ) -> Vec<u64> {
        let completed = checkpoint.metadata.checkpoint;
        self.kept.push_back(Kept::new(checkpoint, Owner::Job));
        let readable = self.kept.iter().filter(|kept| kept.unreadable.is_none()).count();
        let mut surplus = readable.saturating_sub(self.limit);
        let (kept, gone): (VecDeque<_>, VecDeque<_>) = std::mem::take(&mut self.kept).into_iter().partition(|kept| {
            let goes = kept.unreadable.is_some() || surplus > 0;
            surplus -= usize::from(goes && kept.unreadable.is_none());
            !goes
        });
        self.kept = kept;
        let mut items = Vec::new();
        for gone in &gone {
            self.retire(gone, last_id, in_use, &mut items);
        }
        self.settle(completed, in_use, &mut items);
        for (items, attempts) in std::mem::take(&mut self.failed) {
            self.remove(items, attempts, out);
        }
        self.remove(items, 0, out);
        gone.iter().filter(|gone| gone.owner != Owner::Foreign).map(Kept::id).collect()
    }

    /// Lets go of one that is not kept any more.
    fn retire(&mut self, gone: &Kept, last_id: u64, in_use: &BTreeSet<Arc<str>>, items: &mut Vec<Removal>) {
        let Some(directory) = gone.checkpoint.directory.as_deref().filter(|_| gone.owner != Owner::Foreign) else {
            return;
        };
        items.push(Removal::File(join(directory, METADATA_FILE)));
        let at_once = gone.owner == Owner::Job && !self.refers_into(directory, in_use);
        let elsewhere = |file: &&Arc<str>| !at_once || relative(file, directory).is_none();
        let files = gone.files.iter().filter(|file| !self.is_kept(file) && self.is_ours(file)).filter(elsewhere);
        let files: Vec<_> = files.map(|file| Removal::File(file.to_string())).collect();
        self.retiring.extend(files.into_iter().map(|item| Retiring { item, after: last_id }));
        let item = Removal::Directory(directory.to_owned());
        if at_once { items.push(item) } else { self.retiring.push(Retiring { item, after: last_id }) }
    }

    /// Removes what no task can refer to any more, now that `completed` is complete.
    fn settle(&mut self, completed: u64, in_use: &BTreeSet<Arc<str>>, items: &mut Vec<Removal>) {
        let (due, retiring): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.retiring).into_iter().partition(|retiring| retiring.after < completed);
        self.retiring = retiring;
        for retiring in due {
            match &retiring.item {
                // Whoever refers to it will retire it again.
                Removal::File(file) if self.is_kept(file) => {}
                Removal::File(file) if in_use.contains(file.as_str()) => self.retiring.push(retiring),
                Removal::Directory(directory) if self.refers_into(directory, in_use) => self.retiring.push(retiring),
                Removal::File(_) | Removal::Directory(_) => items.push(retiring.item),
            }
        }
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
                self.retiring.push(Retiring { item: Removal::File(file.to_string()), after: last_id });
            }
        }
        self.remove(directory.map(|uri| Removal::Directory(uri.to_owned())).into_iter().collect(), 0, out);
    }

    /// The job has ended. Gives the numbers of checkpoints that are gone.
    pub(super) fn end(&mut self, remove: bool, for_good: bool, out: &mut Effects) -> Vec<u64> {
        let mut items = Vec::new();
        let mut gone = Vec::new();
        if remove {
            let (owned, foreign) =
                std::mem::take(&mut self.kept).into_iter().partition(|kept| kept.owner != Owner::Foreign);
            self.kept = foreign;
            let owned: VecDeque<Kept> = owned;
            for kept in &owned {
                self.retire(kept, 0, &BTreeSet::new(), &mut items);
            }
            gone.extend(owned.iter().map(Kept::id));
        }
        if for_good {
            // No task is left that could refer to anything.
            self.settle(u64::MAX, &BTreeSet::new(), &mut items);
        }
        if remove && !items.is_empty() {
            // What is left in it are empty folders, unless somebody has put a savepoint there.
            let directory = self
                .directory
                .iter()
                .filter(|uri| !self.foreign.iter().any(|foreign| relative(foreign, uri).is_some()));
            items.extend(directory.map(|uri| Removal::Directory(uri.clone())));
        }
        self.remove(items, 0, out);
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

    /// Whether anything refers to a file in the folder.
    fn refers_into(&self, directory: &str, in_use: &BTreeSet<Arc<str>>) -> bool {
        let kept = self.kept.iter().flat_map(|kept| &kept.files);
        kept.chain(in_use).any(|file| relative(file, directory).is_some())
    }

    /// Whether the file is the job's to remove.
    fn is_ours(&self, file: &str) -> bool {
        let ours = self.directory.as_deref().is_some_and(|directory| relative(file, directory).is_some());
        (ours || self.claimed.contains(file)) && !self.foreign.iter().any(|foreign| relative(file, foreign).is_some())
    }
}
