//! Jobs that have ended, for as long as they are remembered.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use weir_model::{JobId, JobView};

/// The last views of ended jobs, oldest end first.
#[derive(Debug, Clone, Default)]
pub(crate) struct Archive {
    /// Each with the time it entered. Times never decrease, because `now` does not.
    jobs: VecDeque<(Duration, Arc<JobView>)>,
    by_id: HashMap<JobId, Arc<JobView>>,
}

impl Archive {
    /// Remembers a job, and forgets the oldest beyond `capacity`.
    pub(crate) fn insert(&mut self, view: Arc<JobView>, capacity: usize, now: Duration) {
        self.by_id.insert(view.summary.id, Arc::clone(&view));
        self.jobs.push_back((now, view));
        while self.jobs.len() > capacity {
            self.forget_oldest();
        }
    }

    /// Forgets jobs that entered `expiration` ago.
    pub(crate) fn expire(&mut self, expiration: Duration, now: Duration) {
        while self.next_expiry(expiration).is_some_and(|at| at <= now) {
            self.forget_oldest();
        }
    }

    /// When the oldest job is to be forgotten.
    pub(crate) fn next_expiry(&self, expiration: Duration) -> Option<Duration> {
        self.jobs.front().map(|(entered, _)| entered.saturating_add(expiration))
    }

    pub(crate) fn get(&self, id: JobId) -> Option<&Arc<JobView>> {
        self.by_id.get(&id)
    }

    /// All jobs, oldest end first.
    pub(crate) fn iter(&self) -> impl DoubleEndedIterator<Item = &Arc<JobView>> {
        self.jobs.iter().map(|(_, view)| view)
    }

    fn forget_oldest(&mut self) {
        if let Some((_, view)) = self.jobs.pop_front() {
            self.by_id.remove(&view.summary.id);
        }
    }
}
