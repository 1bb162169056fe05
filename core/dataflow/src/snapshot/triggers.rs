//! What a worker has been told of checkpoints: barriers may arrive before it is.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use weir_model::{Alignment, CheckpointTrigger};

/// The checkpoints under way.
#[derive(Debug, Default)]
pub(crate) struct Triggers {
    known: Mutex<Known>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Known {
    triggers: BTreeMap<u64, Triggered>,
    /// All checkpoints up to here are over.
    over: u64,
    /// Checkpoints behind it of which nothing will become.
    aborted: BTreeSet<u64>,
}

/// A checkpoint under way.
#[derive(Debug)]
struct Triggered {
    trigger: Arc<CheckpointTrigger>,
    /// From when on its barriers overtake data, on this worker's clock; those of different machines need not agree.
    overtakes_at: Option<Instant>,
}

/// How long a writer waits before it looks whether its task still runs.
const LOOK: Duration = Duration::from_millis(50);

impl Known {
    fn is_over(&self, checkpoint: u64) -> bool {
        self.over >= checkpoint || self.aborted.contains(&checkpoint)
    }
}

impl Triggers {
    /// Returns from when on barriers overtake data, if they do.
    pub(crate) fn add(&self, trigger: Arc<CheckpointTrigger>) -> Option<Instant> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let overtakes_at = match trigger.alignment {
            Alignment::UnalignedAfter(after) if !trigger.kind.is_savepoint() => Instant::now().checked_add(after),
            Alignment::UnalignedAfter(_) | Alignment::Aligned | Alignment::None => None,
        };
        known.triggers.insert(trigger.checkpoint, Triggered { trigger, overtakes_at });
        self.changed.notify_all();
        overtakes_at
    }

    /// The newest checkpoint behind `last` whose barriers overtake data by now.
    pub(crate) fn overtaking(&self, last: u64) -> Option<Arc<CheckpointTrigger>> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let overtakes = |triggered: &&Triggered| triggered.overtakes_at.is_some_and(|at| at <= now);
        known.triggers.range(last + 1..).rev().map(|(_, t)| t).find(overtakes).map(|t| t.trigger.clone())
    }

    /// When the barriers of the first checkpoint behind `last` begin to overtake data, of those that will.
    pub(crate) fn next_overtaking(&self, last: u64) -> Option<Instant> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        known.triggers.range(last + 1..).filter_map(|(_, t)| t.overtakes_at).filter(|&at| at > now).min()
    }

    /// Whether a checkpoint is over, one way or the other.
    pub(crate) fn is_over(&self, checkpoint: u64) -> bool {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).is_over(checkpoint)
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
            if let Some(triggered) = known.triggers.get(&checkpoint) {
                return Some(triggered.trigger.clone());
            }
            if known.is_over(checkpoint) || given_up() {
                return None;
            }
            known = self.changed.wait_timeout(known, LOOK).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}
