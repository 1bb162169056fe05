//! What a worker has been told of checkpoints: barriers may arrive before it is.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use weir_model::CheckpointTrigger;

/// The checkpoints under way.
#[derive(Debug, Default)]
pub(crate) struct Triggers {
    known: Mutex<Known>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Known {
    triggers: BTreeMap<u64, Arc<CheckpointTrigger>>,
    /// All checkpoints up to here are over.
    over: u64,
    /// Checkpoints behind it of which nothing will become.
    aborted: BTreeSet<u64>,
}

/// How long a writer waits before it looks whether its task still runs.
const LOOK: Duration = Duration::from_millis(50);

impl Triggers {
    pub(crate) fn add(&self, trigger: Arc<CheckpointTrigger>) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.triggers.insert(trigger.checkpoint, trigger);
        self.changed.notify_all();
    }

    /// The checkpoint is complete, and with it those before it are over; or nothing will become of it.
    pub(crate) fn end(&self, checkpoint: u64, completed: bool) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if completed {
            known.over = known.over.max(checkpoint);
            known.triggers.retain(|&number, _| number > checkpoint);
            known.aborted.retain(|&number| number > checkpoint);
        } else {
            known.triggers.remove(&checkpoint);
            known.aborted.insert(checkpoint);
        }
        self.changed.notify_all();
    }

    /// Waits for what is known of a checkpoint; `None` once it is over or `given_up` says so.
    pub(crate) fn wait(&self, checkpoint: u64, given_up: impl Fn() -> bool) -> Option<Arc<CheckpointTrigger>> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(trigger) = known.triggers.get(&checkpoint) {
                return Some(trigger.clone());
            }
            if known.over >= checkpoint || known.aborted.contains(&checkpoint) || given_up() {
                return None;
            }
            known = self.changed.wait_timeout(known, LOOK).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}
