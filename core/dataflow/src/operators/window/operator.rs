//! The half behind the exchange: keeps windows and fires them.

use std::hash::Hash;
use std::marker::PhantomData;

use weir_model::KeyGroups;

use super::grid::GridWindows;
use super::handover::{Budget, Handover};
use super::session::SessionWindows;
use super::sliding::SlidingWindows;
use super::state::{self, Passed, Row, Run};
use super::{WindowAssigner, WindowLogic, WindowOptions};
use crate::declaration::OperatorState;
use crate::element::EventTime;
use crate::failure::TaskError;
use crate::metrics::{Counter, StateMetrics};
use crate::operator::{Collector, Flush, Operator, OperatorContext};
use crate::record::Record;
use crate::snapshot::{OperatorSnapshotter, TableId, millis_now};

/// Windows of one kind.
enum Windows<K, A> {
    Grid(GridWindows<K, A>),
    Sliding(SlidingWindows<K, A>),
    Session(SessionWindows<K, A>),
}

impl<K: Record + Clone + Eq + Hash, A: Record + Clone> Windows<K, A> {
    fn new(options: &WindowOptions, snapshot: &Handover<K>) -> Self {
        match options.assigner {
            WindowAssigner::Grid(grid) if options.shares_panes() => {
                Windows::Sliding(SlidingWindows::new(grid, snapshot))
            }
            WindowAssigner::Grid(grid) => Windows::Grid(GridWindows::new(Some(grid))),
            WindowAssigner::Session { gap } => Windows::Session(SessionWindows::new(gap, snapshot)),
            WindowAssigner::Global => Windows::Grid(GridWindows::new(None)),
        }
    }

    fn restore(&mut self, row: Row<K, A>, lateness: i64, passed: &Passed, snapshot: &Handover<K>) {
        match self {
            Windows::Grid(windows) => windows.restore(row, snapshot),
            Windows::Sliding(windows) => windows.restore(row, lateness, snapshot),
            Windows::Session(windows) => windows.restore(row, passed, snapshot),
        }
    }

    fn step(&mut self, snapshot: &mut Handover<K>, budget: &mut Budget) -> bool {
        match self {
            Windows::Grid(windows) => windows.step(snapshot, budget),
            Windows::Sliding(windows) => windows.step(snapshot, budget),
            Windows::Session(windows) => windows.step(snapshot, budget),
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
    snapshot: Handover<K>,
    late: Counter,
    metrics: StateMetrics,
    record: PhantomData<fn(In)>,
}

impl<In, K, L> WindowTable<In, K, L>
where
    K: Record + Clone + Eq + Hash,
    L: WindowLogic<K, In>,
{
    pub(super) fn new(logic: L, options: WindowOptions) -> Self {
        let groups = (KeyGroups::new(1, 1), 0);
        let snapshot = Handover::new(groups.0);
        let windows = Windows::new(&options, &snapshot);
        WindowTable {
            logic,
            options,
            windows,
            passed: Passed::NOTHING,
            groups,
            snapshot,
            late: Counter::default(),
            metrics: StateMetrics::default(),
            record: PhantomData,
        }
    }

    pub(super) fn open(&mut self, context: &OperatorContext<'_>) -> Result<(), TaskError> {
        self.place((context.key_groups(), context.task.subtask()));
        self.late = context.metrics().counter("numLateRecordsDropped");
        self.metrics = StateMetrics::new(context.task.shared().clone());
        let WindowTable { windows, passed, options, snapshot, .. } = self;
        state::restore(context, passed, |row, passed| windows.restore(row, options.lateness, passed, snapshot))
    }

    /// It keeps the keys of this subtask.
    fn place(&mut self, groups: (KeyGroups, u32)) {
        self.groups = groups;
        self.snapshot = Handover::new(groups.0);
    }

    /// Shows among the task's metrics how much there is, unless that was done a moment ago.
    pub(super) fn measure(&mut self, now: EventTime) {
        if self.metrics.is_due(now) {
            self.measure_now(now);
        }
    }

    /// Shows among the task's metrics how much there is.
    fn measure_now(&mut self, now: EventTime) {
        let (bytes, keys) = match &self.windows {
            Windows::Grid(windows) => windows.size(),
            Windows::Sliding(windows) => windows.size(),
            Windows::Session(windows) => windows.size(),
        };
        self.metrics.report(now, bytes as u64, keys as u64);
    }

    /// The input has ended: fires what there is.
    pub(super) fn end<C: Collector<L::Out>>(&mut self, out: &mut C) {
        self.measure_now(millis_now());
        self.advance(EventTime::MAX, out);
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
        let WindowTable { logic, options, windows, passed, snapshot, late, .. } = self;
        let mut run = Run { logic, options, passed, snapshot, late };
        match windows {
            Windows::Grid(windows) => windows.add(key, time, part, &mut run, out),
            Windows::Sliding(windows) => windows.add(key, time, part, &mut run, out),
            Windows::Session(windows) => windows.add(key, time, part, &mut run, out),
        }
    }

    pub(super) fn advance<C: Collector<L::Out>>(&mut self, to: EventTime, out: &mut C) {
        if to <= self.passed.time {
            return;
        }
        let WindowTable { logic, options, windows, passed, snapshot, late, .. } = self;
        let mut run = Run { logic, options, passed, snapshot, late };
        match windows {
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

    /// The latest time that has passed, also before a restore; only of use where windows go by the clock.
    fn latest(&self) -> EventTime {
        self.passed.latest()
    }

    /// Time, which is the clock's, goes on from `to`, before what has passed. Windows that have fired may fire once more.
    #[cold]
    fn go_back(&mut self, to: EventTime) {
        self.passed = Passed::at(to);
        if let Windows::Sliding(windows) = &mut self.windows {
            windows.begin_anew();
        }
    }

    pub(super) fn declare(state: &mut OperatorState) {
        state::declare::<K, L::Accumulator>(state);
    }

    /// Begins to hand over everything as it is now.
    pub(super) fn snapshot(&mut self, snapshot: &mut OperatorSnapshotter<'_>) {
        let table = state::begin::<K, L::Accumulator>(snapshot, self.groups, &self.passed);
        self.begin(snapshot.barrier().checkpoint, table);
    }

    pub(super) fn begin(&mut self, checkpoint: u64, table: TableId) {
        self.snapshot.begin(checkpoint, table);
        if let Windows::Grid(windows) = &mut self.windows {
            windows.begin();
        }
    }

    /// Hands over some more rows. Whether there may be more.
    pub(super) fn snapshot_step(&mut self, snapshot: &mut OperatorSnapshotter<'_>) -> bool {
        let slice = Budget::slice(&self.snapshot);
        self.step(slice, |table, group, rows, bytes| snapshot.write_group(table, group, rows, bytes))
    }

    pub(super) fn step(&mut self, mut slice: Budget, write: impl FnMut(TableId, u32, u64, Vec<u8>)) -> bool {
        if !self.snapshot.is_under_way() {
            return false;
        }
        let complete = self.windows.step(&mut self.snapshot, &mut slice);
        self.snapshot.pass_on(complete, write);
        !complete
    }

    /// Nothing more of this checkpoint is wanted, if it is under way.
    pub(super) fn checkpoint_ended(&mut self, checkpoint: u64) {
        self.snapshot.checkpoint_ended(checkpoint);
    }

    /// How far time has come for which key groups.
    #[cfg(test)]
    pub(super) fn spans(&self) -> Vec<(u32, u32, EventTime)> {
        self.passed.spans(self.groups.0, self.groups.1)
    }

    /// A table that begins with this.
    #[cfg(test)]
    pub(super) fn begin_with(
        &mut self,
        groups: (KeyGroups, u32),
        spans: &[(u32, u32, EventTime)],
        rows: impl Iterator<Item = Row<K, L::Accumulator>>,
    ) {
        self.place(groups);
        self.passed.restore(groups.0, spans);
        let WindowTable { windows, passed, options, snapshot, .. } = self;
        rows.for_each(|row| windows.restore(row, options.lateness, passed, snapshot));
    }
}

/// The clock, looked at once in a while. It may be set: what goes back by less than [`TOLERATED`](Self::TOLERATED) is time that
/// stands still, what goes back further begins anew.
#[derive(Debug, Clone)]
pub(super) struct Clock {
    now: EventTime,
    /// Records until it is looked at again.
    looks_in: u32,
    look: fn() -> EventTime,
}

impl Default for Clock {
    fn default() -> Self {
        Clock::of(millis_now)
    }
}

impl Clock {
    /// Milliseconds for which time may stand still.
    const TOLERATED: i64 = 1000;

    pub(super) fn of(look: fn() -> EventTime) -> Self {
        Clock { now: EventTime::MIN, looks_in: 0, look }
    }

    /// The time of a record of windows.
    #[inline(always)]
    pub(super) fn now<In, K, L>(&mut self, table: &mut WindowTable<In, K, L>) -> EventTime
    where
        K: Record + Clone + Eq + Hash,
        L: WindowLogic<K, In>,
    {
        if self.looks_in == 0 {
            self.turn((self.look)(), table);
            self.looks_in = 64;
        }
        self.looks_in -= 1;
        self.now
    }

    /// It is `now`: fires what is over. When to look again; `EventTime::MAX` if nothing waits.
    pub(super) fn fire<In, K, L, C>(
        &mut self,
        now: EventTime,
        table: &mut WindowTable<In, K, L>,
        out: &mut C,
    ) -> EventTime
    where
        K: Record + Clone + Eq + Hash,
        L: WindowLogic<K, In>,
        C: Collector<L::Out>,
    {
        self.turn(now, table);
        self.looks_in = 0;
        // A window is over when its last millisecond is, not when it begins.
        table.advance(self.now.saturating_sub(1), out);
        match table.next_end(self.now) {
            EventTime::MAX => EventTime::MAX,
            last => last.saturating_add(1),
        }
    }

    fn turn<In, K, L>(&mut self, now: EventTime, table: &mut WindowTable<In, K, L>)
    where
        K: Record + Clone + Eq + Hash,
        L: WindowLogic<K, In>,
    {
        if now < self.now.saturating_sub(Self::TOLERATED) || now < table.latest().saturating_sub(Self::TOLERATED) {
            table.go_back(now.saturating_sub(1));
            self.now = now;
        }
        self.now = self.now.max(now);
    }

    /// There may be a long pause until the next record.
    pub(super) fn pause(&mut self) {
        self.looks_in = 0;
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

    /// With another clock.
    #[cfg(test)]
    pub(super) fn with_clock(logic: L, options: WindowOptions, look: fn() -> EventTime) -> Self {
        WindowOperator { table: WindowTable::new(logic, options), clock: Some(Clock::of(look)) }
    }
}

impl<In, K, L> Clone for WindowOperator<In, K, L>
where
    K: Record + Clone + Eq + Hash,
    L: WindowLogic<K, In>,
{
    fn clone(&self) -> Self {
        WindowOperator {
            table: WindowTable::new(self.table.logic.clone(), self.table.options),
            clock: self.clock.clone(),
        }
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
        let time = self.clock.as_mut().map_or(time, |clock| clock.now(&mut self.table));
        self.table.add(key, time, part, out);
    }

    fn watermark<C: Collector<L::Out>>(&mut self, time: EventTime, out: &mut C) {
        if self.clock.is_none() {
            self.table.advance(time, out);
        }
    }

    fn processing_time<C: Collector<L::Out>>(&mut self, now: EventTime, out: &mut C) -> EventTime {
        self.table.measure(now);
        let Some(clock) = &mut self.clock else { return EventTime::MAX };
        clock.fire(now, &mut self.table, out)
    }

    fn flush<C: Collector<L::Out>>(&mut self, _why: Flush, _out: &mut C) {
        if let Some(clock) = &mut self.clock {
            clock.pause();
        }
    }

    fn end<C: Collector<L::Out>>(&mut self, out: &mut C) {
        self.table.end(out);
    }

    fn snapshot(&mut self, snapshot: &mut OperatorSnapshotter<'_>) {
        self.table.snapshot(snapshot);
    }

    fn snapshot_step(&mut self, snapshot: &mut OperatorSnapshotter<'_>) -> bool {
        self.table.snapshot_step(snapshot)
    }

    fn checkpoint_ended(&mut self, checkpoint: u64, _completed: bool) {
        self.table.checkpoint_ended(checkpoint);
    }
}
