//! What timers are for.

use std::collections::BTreeMap;
use std::time::Duration;

use super::Outbox;
use crate::JobMasterEffect;

/// What is due when a timer rings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Timer {
    /// Something of the scheduler's.
    Scheduler { generation: u64 },
    /// A deployment must have slots.
    Slots { deployment: u32 },
    /// A deployment's workers must be ready.
    Workers { deployment: u32 },
    /// The coordinator must have opened inputs and outputs.
    Opening { number: u32 },
    /// There may be slots enough, or time enough may have passed, for another parallelism.
    Resources,
    /// Something of the checkpoints'.
    Checkpoints { generation: u64 },
    /// The coordinator must have reset a deployment's tasks.
    Reset { deployment: u32 },
}

/// Timers under way, by id. Whether a timer still matters is decided when it rings.
#[derive(Debug, Default)]
pub(super) struct Timers {
    last: u64,
    waiting: BTreeMap<u64, Timer>,
}

impl Timers {
    pub(super) fn set(&mut self, timer: Timer, at: Duration, out: &mut Outbox) {
        self.last += 1;
        self.waiting.insert(self.last, timer);
        out.push(JobMasterEffect::ScheduleTimer { id: self.last, at });
    }

    pub(super) fn take(&mut self, id: u64) -> Option<Timer> {
        self.waiting.remove(&id)
    }
}
