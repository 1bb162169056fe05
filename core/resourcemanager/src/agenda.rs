//! What to look at when: many deadlines behind one timer.

use std::collections::BTreeSet;
use std::time::Duration;

use weir_model::TaskManagerId;

/// What to look at when a deadline has come. Whether there is anything to do is decided then.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Wake {
    /// A provider, by position: it has rested, or has not answered.
    Provider(usize),
    /// A worker that should have registered, come back, left or been drained.
    Worker(TaskManagerId),
    /// A TaskManager that may have been idle for long enough.
    Idle(TaskManagerId),
}

/// Deadlines, and the timer for the next of them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Agenda {
    deadlines: BTreeSet<(Duration, Wake)>,
    timer: Option<(u64, Duration)>,
    next_timer: u64,
}

impl Agenda {
    pub(crate) fn add(&mut self, at: Duration, wake: Wake) {
        self.deadlines.insert((at, wake));
    }

    /// Takes what is due.
    pub(crate) fn take_due(&mut self, now: Duration) -> Vec<Wake> {
        let mut due = Vec::new();
        while self.deadlines.first().is_some_and(|(at, _)| *at <= now) {
            due.extend(self.deadlines.pop_first().map(|(_, wake)| wake));
        }
        due
    }

    /// A timer has come. Those that were replaced do not matter.
    pub(crate) fn on_timer(&mut self, id: u64) {
        if self.timer.is_some_and(|(current, _)| current == id) {
            self.timer = None;
        }
    }

    /// The timer to be set now, if the one that runs is too late.
    pub(crate) fn arm(&mut self) -> Option<(u64, Duration)> {
        let (at, _) = self.deadlines.first()?;
        if self.timer.is_some_and(|(_, scheduled)| scheduled <= *at) {
            return None;
        }
        let timer = (self.next_timer, *at);
        self.next_timer += 1;
        self.timer = Some(timer);
        Some(timer)
    }
}
