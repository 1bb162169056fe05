//! The clock of the state machines.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Time since 1970-01-01 UTC that never goes back: taken once from the system, then advanced by a monotonic clock.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    at_start: Duration,
    start: Instant,
}

impl Clock {
    pub(crate) fn new() -> Clock {
        let at_start = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Clock { at_start, start: Instant::now() }
    }

    /// Now.
    pub(crate) fn now(&self) -> Duration {
        self.at_start + self.start.elapsed()
    }

    /// Now, in whole milliseconds.
    pub(crate) fn millis(&self) -> u64 {
        self.now().as_millis() as u64
    }

    /// The moment at which [`now`](Self::now) shows `at`.
    pub(crate) fn instant(&self, at: Duration) -> tokio::time::Instant {
        // A time that no timer can hold is as good as a century.
        const FAR: Duration = Duration::from_secs(100 * 365 * 86_400);
        (self.start + at.saturating_sub(self.at_start).min(FAR)).into()
    }
}
