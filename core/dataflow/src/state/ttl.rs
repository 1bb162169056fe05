//! State that is forgotten when it has not been used for some time.

use std::time::Duration;

use crate::element::EventTime;

/// How long entries of a state live, by processing time. Entries are a value, the items of a list and the entries of a map, each for itself.
///
/// What has expired is dropped when it is met, when a snapshot passes over it, and bit by bit while the task works.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StateTtl {
    /// How long an entry lives after it was last used.
    pub time: Duration,
    /// What counts as use.
    pub update: TtlUpdate,
    /// Whether entries that have expired and are still there can be seen.
    pub visibility: TtlVisibility,
}

/// What makes an entry live longer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum TtlUpdate {
    /// Creating or changing it.
    #[default]
    OnCreateAndWrite,
    /// Reading it as well.
    OnReadAndWrite,
}

/// Whether expired entries can be seen.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum TtlVisibility {
    /// Never.
    #[default]
    NeverReturnExpired,
    /// While they have not been dropped yet.
    ReturnExpiredIfNotCleanedUp,
}

impl StateTtl {
    /// Entries live for `time` after they were last written, and are not seen afterwards.
    pub fn new(time: Duration) -> StateTtl {
        StateTtl { time, update: TtlUpdate::default(), visibility: TtlVisibility::default() }
    }

    /// Reading an entry makes it live longer as well.
    pub fn update_on_read(self) -> StateTtl {
        StateTtl { update: TtlUpdate::OnReadAndWrite, ..self }
    }

    /// Entries are seen until they are dropped.
    pub fn return_expired(self) -> StateTtl {
        StateTtl { visibility: TtlVisibility::ReturnExpiredIfNotCleanedUp, ..self }
    }

    /// What was last used then or before has expired.
    pub(super) fn deadline(&self, now: EventTime) -> EventTime {
        let time = i64::try_from(self.time.as_millis()).unwrap_or(i64::MAX);
        now.saturating_sub(time)
    }

    /// What was last used then or before is not seen.
    pub(super) fn hidden(&self, now: EventTime) -> EventTime {
        match self.visibility {
            TtlVisibility::NeverReturnExpired => self.deadline(now),
            TtlVisibility::ReturnExpiredIfNotCleanedUp => EventTime::MIN,
        }
    }
}
