//! The half behind the exchange: keeps windows and fires them.

use std::hash::Hash;
use std::marker::PhantomData;

use weir_model::KeyGroups;

use super::grid::GridWindows;
use super::session::SessionWindows;
use super::sliding::SlidingWindows;
use super::state::{self, Passed, Row, Rows, Run};
use super::{WindowAssigner, WindowLogic, WindowOptions};
use crate::declaration::OperatorState;
use crate::element::EventTime;
use crate::failure::TaskError;
use crate::operator::{Collector, Flush, Operator, OperatorContext};
use crate::record::Record;
use crate::snapshot::{OperatorSnapshotter, millis_now};

/// Windows of one kind.
enum Windows<K, A> {
    Grid(GridWindows<K, A>),
    Sliding(SlidingWindows<K, A>),
    Session(SessionWindows<K, A>),
}

impl<K: Record + Clone + Eq + Hash, A: Record + Clone> Windows<K, A> {
    fn restore(&mut self, row: Row<K, A>, passed: &Passed) {
        match self {
            Windows::Grid(windows) => windows.restore(row),
            Windows::Sliding(windows) => windows.restore(row),
            Windows::Session(windows) => windows.restore(row, passed),
        }
    }

    fn rows(&self, lateness: i64, rows: &mut Rows<K>) {
        match self {
            Windows::Grid(windows) => windows.rows(rows),
            Windows::Sliding(windows) => windows.rows(lateness, rows),
            Windows::Session(windows) => windows.rows(rows),
        }
    }
}

/// Windows with what is computed of them.
pub(super) struct WindowTable<In, K, L: WindowLogic<K, In>> {
    pub(super) logic: L,
    pub(super) options: WindowOptions,
    windows: Windows<K, L::Accumulator>,
    passed: Passed,
    groups: (KeyGroups, u32),
    record: PhantomData<fn(In)>,
}

impl<In, K, L> WindowTable<In, K, L>
where
    K: Record + Clone + Eq + Hash,
    L: WindowLogic<K, In>,
{
    pub(super) fn new(logic: L, options: WindowOptions) -> Self {
        let windows = match options.assigner {
            WindowAssigner::Grid(grid) if options.shares_panes() => Windows::Sliding(SlidingWindows::new(grid)),
            WindowAssigner::Grid(grid) => Windows::Grid(GridWindows::new(Some(grid))),
            WindowAssigner::Session { gap } => Windows::Session(SessionWindows::new(gap)),
            WindowAssigner::Global => Windows::Grid(GridWindows::new(None)),
        };
        let groups = (KeyGroups::new(1, 1), 0);
        WindowTable { logic, options, windows, passed: Passed::NOTHING, groups, record: PhantomData }
    }

    pub(super) fn open(&mut self, context: &OperatorContext<'_>) -> Result<(), TaskError> {
        self.groups = (context.key_groups(), context.task.subtask());
        let WindowTable { windows, passed, .. } = self;
        state::restore(context, passed, |row, passed| windows.restore(row, passed))
    }

    /// Whether a record of this time comes too late for all its windows.
    pub(super) fn is_late(&self, key: &K, time: EventTime) -> bool {
        let (lateness, passed) = (self.options.lateness, &self.passed);
        match &self.windows {
            Windows::Grid(windows) => windows.is_late(key, time, lateness, passed),
            Windows::Sliding(windows) => windows.is_late(key, time, lateness, passed),
            Windows::Session(windows) => windows.is_late(key, time, lateness, passed),
        }
    }

    #[inline(always)]
    pub(super) fn add<C: Collector<L::Out>>(&mut self, key: K, time: EventTime, part: L::Accumulator, out: &mut C) {
        let mut run = Run { logic: &mut self.logic, options: &self.options, passed: &self.passed };
        match &mut self.windows {
            Windows::Grid(windows) => windows.add(key, time, part, &mut run, out),
            Windows::Sliding(windows) => windows.add(key, time, part, &mut run, out),
            Windows::Session(windows) => windows.add(key, time, part, &mut run, out),
        }
    }

    pub(super) fn advance<C: Collector<L::Out>>(&mut self, to: EventTime, out: &mut C) {
        if to <= self.passed.time {
            return;
        }
        let mut run = Run { logic: &mut self.logic, options: &self.options, passed: &self.passed };
        match &mut self.windows {
            Windows::Grid(windows) => windows.advance(to, &mut run, out),
            Windows::Sliding(windows) => windows.advance(to, &mut run, out),
            Windows::Session(windows) => windows.advance(to, &mut run, out),
        }
        self.passed.advance(to);
    }

    /// When something may have to fire; `EventTime::MAX` for never.
    pub(super) fn next_end(&self, now: EventTime) -> EventTime {
        let end = match &self.windows {
            Windows::Grid(windows) => windows.next_end(),
            Windows::Sliding(windows) => windows.next_end(),
            Windows::Session(windows) => windows.next_end(),
        };
        match self.options.trigger {
            super::Trigger::Every(interval) if end < EventTime::MAX => {
                end.min(now.saturating_sub(now.rem_euclid(interval)).saturating_add(interval))
            }
            _ => end,
        }
    }

    pub(super) fn declare(state: &mut OperatorState) {
        state::declare::<K, L::Accumulator>(state);
    }

    pub(super) fn snapshot(&self, snapshot: &mut OperatorSnapshotter<'_>) {
        state::snapshot::<K, L::Accumulator>(snapshot, self.groups, &self.passed, |rows| {
            self.windows.rows(self.options.lateness, rows);
        });
    }

    /// What a snapshot would hold: rows, and how far time has come for which key groups.
    #[cfg(test)]
    pub(super) fn state(&self) -> (Rows<K>, Vec<(u32, u32, EventTime)>) {
        let mut rows = Rows::new(self.groups.0);
        self.windows.rows(self.options.lateness, &mut rows);
        (rows, self.passed.spans(self.groups.0, self.groups.1))
    }

    /// A table that begins with this.
    #[cfg(test)]
    pub(super) fn begin_with(
        &mut self,
        groups: (KeyGroups, u32),
        spans: &[(u32, u32, EventTime)],
        rows: impl Iterator<Item = Row<K, L::Accumulator>>,
    ) {
        self.groups = groups;
        self.passed.restore(groups.0, spans);
        let WindowTable { windows, passed, .. } = self;
        rows.for_each(|row| windows.restore(row, passed));
    }
}

/// The clock, looked at once in a while.
#[derive(Debug, Clone, Default)]
pub(super) struct Clock {
    now: EventTime,
    /// Records until it is looked at again.
    looks_in: u32,
}

impl Clock {
    pub(super) fn now(&mut self) -> EventTime {
        if self.looks_in == 0 {
            self.now = self.now.max(millis_now());
            self.looks_in = 64;
        }
        self.looks_in -= 1;
        self.now
    }

    pub(super) fn set(&mut self, now: EventTime) -> EventTime {
        self.now = self.now.max(now);
        self.looks_in = 0;
        self.now
    }
}

/// Keeps windows of parts, a key, a time and an accumulator each, and fires them.
pub struct WindowOperator<In, K, L: WindowLogic<K, In>> {
    table: WindowTable<In, K, L>,
    /// If windows are of the clock's time.
    clock: Option<Clock>,
}

impl<In, K, L> WindowOperator<In, K, L>
where
    K: Record + Clone + Eq + Hash,
    L: WindowLogic<K, In>,
{
    /// Computes `logic` over the windows of `options`; `processing`: by the clock, whatever time parts say.
    pub fn new(logic: L, options: WindowOptions, processing: bool) -> Self {
        WindowOperator { table: WindowTable::new(logic, options), clock: processing.then(Clock::default) }
    }
}

impl<In, K, L> Clone for WindowOperator<In, K, L>
where
    K: Record + Clone + Eq + Hash,
    L: WindowLogic<K, In>,
{
    fn clone(&self) -> Self {
        WindowOperator::new(self.table.logic.clone(), self.table.options, self.clock.is_some())
    }
}

impl<In, K, L> Operator<(K, EventTime, L::Accumulator)> for WindowOperator<In, K, L>
where
    In: 'static,
    K: Record + Clone + Eq + Hash,
    L: WindowLogic<K, In>,
{
    type Out = L::Out;

    fn declare(&mut self, state: &mut OperatorState) {
        WindowTable::<In, K, L>::declare(state);
    }

    fn open(&mut self, context: &OperatorContext<'_>) -> Result<(), TaskError> {
        self.table.open(context)
    }

    #[inline(always)]
    fn process<C: Collector<L::Out>>(&mut self, part: (K, EventTime, L::Accumulator), out: &mut C) {
        let (key, time, part) = part;
        let time = self.clock.as_mut().map_or(time, Clock::now);
        self.table.add(key, time, part, out);
    }

    fn watermark<C: Collector<L::Out>>(&mut self, time: EventTime, out: &mut C) {
        if self.clock.is_none() {
            self.table.advance(time, out);
        }
    }

    fn processing_time<C: Collector<L::Out>>(&mut self, now: EventTime, out: &mut C) -> EventTime {
        let Some(clock) = &mut self.clock else { return EventTime::MAX };
        // A window is over when its last millisecond is, not when it begins.
        let now = clock.set(now);
        self.table.advance(now.saturating_sub(1), out);
        match self.table.next_end(now) {
            EventTime::MAX => EventTime::MAX,
            last => last.saturating_add(1),
        }
    }

    fn flush<C: Collector<L::Out>>(&mut self, _why: Flush, _out: &mut C) {
        if let Some(clock) = &mut self.clock {
            // There may be a long pause until the next record.
            clock.looks_in = 0;
        }
    }

    fn end<C: Collector<L::Out>>(&mut self, out: &mut C) {
        self.table.advance(EventTime::MAX, out);
    }

    fn snapshot(&mut self, snapshot: &mut OperatorSnapshotter<'_>) {
        self.table.snapshot(snapshot);
    }
}
