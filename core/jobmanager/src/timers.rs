//! Timers of a state machine.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::clock::Clock;

/// Timers that are not due yet, by time and id.
#[derive(Debug, Default)]
pub(crate) struct Timers(BTreeSet<(Duration, u64)>);

impl Timers {
    pub(crate) fn add(&mut self, id: u64, at: Duration) {
        self.0.insert((at, id));
    }

    /// Adds a timer that takes the place of all others.
    pub(crate) fn replace(&mut self, id: u64, at: Duration) {
        self.0.clear();
        self.add(id, at);
    }

    /// Waits until the next timer is due and takes it out; for ever if there is none. May be dropped and called again.
    pub(crate) async fn next(&mut self, clock: &Clock) -> u64 {
        let Some(&(at, id)) = self.0.first() else { return std::future::pending().await };
        tokio::time::sleep_until(clock.instant(at)).await;
        // Timers of the runtime are exact to a millisecond only; the machine must not be told early.
        while clock.now() < at {
            tokio::task::yield_now().await;
        }
        self.0.pop_first();
        id
    }
}
