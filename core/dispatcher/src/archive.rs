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
    /// Tasks of all of them, which is what they need memory for.
    tasks: usize,
}

/// How much is remembered at most.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) jobs: usize,
    /// Of all jobs together; the newest job is remembered even if it has more.
    pub(crate) tasks: usize,
}

impl Archive {
    /// Remembers a job, and forgets the oldest beyond the limits.
    pub(crate) fn insert(&mut self, view: Arc<JobView>, limits: Limits, now: Duration) {
        self.tasks += tasks(&view);
        self.by_id.insert(view.summary.id, Arc::clone(&view));
        self.jobs.push_back((now, view));
        while self.jobs.len() > limits.jobs || (self.jobs.len() > 1 && self.tasks > limits.tasks) {
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
            self.tasks -= tasks(&view);
            self.by_id.remove(&view.summary.id);
        }
    }
}

fn tasks(view: &JobView) -> usize {
    view.vertices.iter().map(Vec::len).sum()
}
