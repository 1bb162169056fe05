//! Which windows a record belongs to, and when they fire.

use std::time::Duration;

use crate::element::EventTime;
use crate::operators::watermarks::millis;
use crate::snapshot::millis_now;

/// Where the time of a record comes from.
pub trait TimeOf<In>: Clone + Send + 'static {
    /// Whether it is the clock's.
    const PROCESSING: bool;
    /// The record's time in milliseconds since the epoch.
    fn time(&mut self, record: &In) -> EventTime;
}

/// A function gives the time of a record.
#[derive(Debug, Clone)]
pub struct EventTimeOf<F>(pub F);

impl<In, F: FnMut(&In) -> EventTime + Clone + Send + 'static> TimeOf<In> for EventTimeOf<F> {
    const PROCESSING: bool = false;
    #[inline(always)]
    fn time(&mut self, record: &In) -> EventTime {
        (self.0)(record)
    }
}

/// The clock when a record is processed.
#[derive(Debug, Clone, Copy, Default)]
pub struct ProcessingTimeOf;

impl<In> TimeOf<In> for ProcessingTimeOf {
    const PROCESSING: bool = true;
    fn time(&mut self, _record: &In) -> EventTime {
        millis_now()
    }
}

/// Divides time into windows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WindowAssigner {
    /// Windows of one size that begin at regular distances; those that overlap share what they have in common.
    Grid(Grid),
    /// One window per key for records less than a gap apart, in milliseconds.
    Session {
        /// Without records for so long, a session is over.
        gap: i64,
    },
    /// One window for all time.
    Global,
}

impl WindowAssigner {
    /// Windows side by side.
    ///
    /// # Panics
    /// If `size` is less than a millisecond.
    pub fn tumbling(size: Duration) -> Self {
        Self::sliding(size, size)
    }

    /// Windows of `size` of which one begins every `slide`.
    ///
    /// # Panics
    /// If `size` or `slide` is less than a millisecond.
    pub fn sliding(size: Duration, slide: Duration) -> Self {
        let (size, slide) = (positive(size, "the size of a window"), positive(slide, "the slide of windows"));
        WindowAssigner::Grid(Grid { size, slide, offset: 0 })
    }

    /// Sessions that end after `gap` without records.
    ///
    /// # Panics
    /// If `gap` is less than a millisecond.
    pub fn session(gap: Duration) -> Self {
        WindowAssigner::Session { gap: positive(gap, "the gap between sessions") }
    }

    /// Shifts windows on a grid: they begin `offset` after the epoch instead of at it. Others stay as they are.
    pub fn offset(self, offset: i64) -> Self {
        match self {
            WindowAssigner::Grid(grid) => WindowAssigner::Grid(Grid { offset: offset.rem_euclid(grid.slide), ..grid }),
            other => other,
        }
    }
}

fn positive(duration: Duration, what: &str) -> i64 {
    let millis = millis(duration);
    assert!(millis > 0, "{what} is {duration:?}; it must be at least a millisecond");
    millis
}

/// Windows at regular distances.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grid {
    /// Milliseconds a window lasts.
    pub size: i64,
    /// Milliseconds between the beginnings of two.
    pub slide: i64,
    /// Where one begins, from 0 to below `slide`.
    pub offset: i64,
}

impl Grid {
    /// The beginning of the last window that begins at or before `time`.
    #[inline(always)]
    pub(super) fn last_start(&self, time: EventTime) -> EventTime {
        time.saturating_sub(time.saturating_sub(self.offset).rem_euclid(self.slide))
    }

    /// The longest spans of which every window has all or nothing.
    pub(super) fn pane(&self) -> i64 {
        let (mut a, mut b) = (self.size, self.slide);
        while b != 0 {
            (a, b) = (b, a % b);
        }
        a
    }

    /// The end of the first window that ends after `time`.
    pub(super) fn first_end_after(&self, time: EventTime) -> EventTime {
        let start = self.last_start(time.saturating_sub(self.size));
        start.saturating_add(self.slide).saturating_add(self.size)
    }
}

/// When windows fire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Trigger {
    /// When the window is over, and again for each late record that is still allowed.
    #[default]
    AtEnd,
    /// After each so many records of a key in a window, and not when it is over.
    Count(u64),
    /// Every so many milliseconds for the keys that have something new, and when it is over.
    Every(i64),
}

impl Trigger {
    /// After each `count` records of a key in a window.
    ///
    /// # Panics
    /// If `count` is 0.
    pub fn count(count: u64) -> Self {
        assert!(count > 0, "a window cannot fire after each 0 records");
        Trigger::Count(count)
    }

    /// Every `interval`, of the windows' time, and when a window is over.
    ///
    /// # Panics
    /// If `interval` is less than a millisecond.
    pub fn every(interval: Duration) -> Self {
        Trigger::Every(positive(interval, "the interval between firings"))
    }

    pub(super) fn fires_at_end(self) -> bool {
        !matches!(self, Trigger::Count(_))
    }
}

/// What windows are, when they fire, how long they are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WindowOptions {
    /// The windows.
    pub assigner: WindowAssigner,
    /// When they fire.
    pub trigger: Trigger,
    /// Whether firing empties a window.
    pub purging: bool,
    /// Milliseconds for which a window that is over is kept for late records.
    pub lateness: i64,
}

impl WindowOptions {
    /// Windows that fire once, when they are over.
    pub fn new(assigner: WindowAssigner) -> Self {
        WindowOptions { assigner, trigger: Trigger::AtEnd, purging: false, lateness: 0 }
    }

    /// Whether windows that overlap are kept as panes.
    pub(super) fn shares_panes(&self) -> bool {
        let WindowAssigner::Grid(grid) = self.assigner else { return false };
        grid.size != grid.slide && self.trigger == Trigger::AtEnd && !self.purging
    }

    /// The windows of a grid of which each record has one: panes, or windows that do not overlap.
    pub(super) fn folded(&self) -> Option<Grid> {
        let WindowAssigner::Grid(grid) = self.assigner else { return None };
        let pane = grid.pane();
        let panes = Grid { size: pane, slide: pane, offset: grid.offset.rem_euclid(pane) };
        match self.trigger {
            _ if grid.size == grid.slide && self.trigger.fires_at_end() => Some(grid),
            Trigger::AtEnd if self.shares_panes() => Some(panes),
            Trigger::AtEnd | Trigger::Count(_) | Trigger::Every(_) => None,
        }
    }
}
