//! Counting what was left out.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Number of skipped records a reader describes on standard error; it only counts further ones.
const DESCRIBED: u64 = 5;

/// Counts the records a source left out, over all subtasks in this process.
#[derive(Debug, Clone, Default)]
pub struct Skipped(Arc<AtomicU64>);

impl Skipped {
    /// Number of records left out so far.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A reader's account of what it skips.
#[derive(Debug)]
pub(in crate::connectors) struct SkipLog {
    total: Skipped,
    here: u64,
    what: &'static str,
}

impl SkipLog {
    /// `what` names the records, in the plural.
    pub(in crate::connectors) fn new(total: &Skipped, what: &'static str) -> SkipLog {
        SkipLog { total: total.clone(), here: 0, what }
    }

    /// Counts one record; `describe` says which and why.
    #[cold]
    pub(in crate::connectors) fn skip(&mut self, describe: impl FnOnce() -> String) {
        self.total.0.fetch_add(1, Ordering::Relaxed);
        self.here += 1;
        if self.here <= DESCRIBED {
            eprintln!("skipped: {}", describe());
        }
    }
}

impl Drop for SkipLog {
    fn drop(&mut self) {
        if self.here > DESCRIBED {
            eprintln!("skipped: {} {} in all by this subtask", self.here, self.what);
        }
    }
}
