//! The half before the exchange: makes parts of records, folded by key and pane where that can be.

use std::hash::Hash;
use std::marker::PhantomData;

use hashbrown::DefaultHashBuilder;

use super::kind::Grid;
use super::table::Table;
use super::{TimeOf, Trigger, WindowLogic, WindowOptions};
use crate::element::EventTime;
use crate::operator::{Collector, Flush, Operator};
use crate::operators::KeyOf;
use crate::record::Record;

/// Entries in all tables before they are emptied.
const TABLE_KEYS: usize = 16 * 1024;
/// Panes whose tables are kept beside the current one's, for records out of order.
const OTHER_PANES: usize = 7;
/// Tables that took fewer records per entry than this were not worth the hashing …
const WORTHWHILE: usize = 2;
/// … and this many records pass by before it is tried again.
const BYPASS_RECORDS: usize = 256 * 1024;

/// A pane with its accumulators.
struct Pane<K, A> {
    start: EventTime,
    table: Table<K, A>,
}

/// Makes parts: the key, a time in the pane, an accumulator.
pub struct WindowPartOperator<In, K, F, T, L: WindowLogic<K, In>> {
    key_of: F,
    time_of: T,
    logic: L,
    options: WindowOptions,
    /// The spans within which times need not be told apart; none if records go on one by one.
    folded: Option<Grid>,
    current: Pane<K, L::Accumulator>,
    /// The length of the current pane; 0 while there is none.
    width: u64,
    others: Vec<Pane<K, L::Accumulator>>,
    /// Emptied tables for panes to come.
    spare: Vec<Table<K, L::Accumulator>>,
    /// Entries in the others.
    entries: usize,
    folds: usize,
    bypass: usize,
    watermark: EventTime,
    hasher: DefaultHashBuilder,
    record: PhantomData<fn(In)>,
}

impl<In, K, F, T, L> WindowPartOperator<In, K, F, T, L>
where
    K: Record + Clone + Eq + Hash,
    T: TimeOf<In>,
    L: WindowLogic<K, In>,
{
    /// Makes parts for windows of `options`.
    pub fn new(key_of: F, time_of: T, logic: L, options: WindowOptions) -> Self {
        // What the clock says is said behind the exchange.
        let folded = if L::FOLDS && !T::PROCESSING { options.folded() } else { None };
        WindowPartOperator {
            key_of,
            time_of,
            logic,
            options,
            folded,
            current: Pane { start: EventTime::MIN, table: Table::default() },
            width: 0,
            others: Vec::new(),
            spare: Vec::new(),
            entries: 0,
            folds: 0,
            bypass: 0,
            watermark: EventTime::MIN,
            hasher: DefaultHashBuilder::default(),
            record: PhantomData,
        }
    }

    fn empty<C: Collector<(K, EventTime, L::Accumulator)>>(pane: &mut Pane<K, L::Accumulator>, out: &mut C) {
        let start = pane.start;
        pane.table.drain().for_each(|(key, accumulator)| out.push((key, start, accumulator)));
    }

    fn empty_all<C: Collector<(K, EventTime, L::Accumulator)>>(&mut self, out: &mut C) {
        // In the order of time, which is easier on windows.
        self.others.sort_unstable_by_key(|pane| pane.start);
        let is_before = |pane: &Pane<_, _>| pane.start < self.current.start;
        let before = self.others.partition_point(is_before);
        for (at, mut pane) in self.others.drain(..).enumerate() {
            if at == before {
                Self::empty(&mut self.current, out);
            }
            Self::empty(&mut pane, out);
            self.spare.push(pane.table);
        }
        Self::empty(&mut self.current, out);
        self.entries = 0;
        self.folds = 0;
    }

    /// Empties the tables of which windows may fire now.
    fn empty_due<C: Collector<(K, EventTime, L::Accumulator)>>(&mut self, out: &mut C) {
        let Some(grid) = self.folded else { return };
        if self.options.trigger != Trigger::AtEnd {
            return self.empty_all(out);
        }
        // A pane that is not over can wait: no window fires before it is.
        let is_over = |start: EventTime| start.saturating_add(grid.size).saturating_sub(1) <= self.watermark;
        self.others.sort_unstable_by_key(|pane| pane.start);
        self.others.retain_mut(|pane| {
            let over = is_over(pane.start);
            if over {
                Self::empty(pane, out);
                self.spare.push(std::mem::take(&mut pane.table));
            }
            !over
        });
        if is_over(self.current.start) {
            Self::empty(&mut self.current, out);
        }
        self.entries = self.others.iter().map(|pane| pane.table.len()).sum();
        if self.entries + self.current.table.len() == 0 {
            self.folds = 0;
        }
    }

    #[inline(never)]
    fn on_full<C: Collector<(K, EventTime, L::Accumulator)>>(&mut self, out: &mut C) {
        if self.folds < WORTHWHILE * (self.entries + self.current.table.len()) {
            self.bypass = BYPASS_RECORDS;
        }
        self.empty_all(out);
    }

    /// Makes the pane of `time` the current one.
    #[inline(never)]
    fn turn<C: Collector<(K, EventTime, L::Accumulator)>>(&mut self, grid: Grid, time: EventTime, out: &mut C) {
        let start = grid.last_start(time);
        let known = self.others.iter().position(|pane| pane.start == start);
        let next = known.map(|at| self.others.swap_remove(at));
        self.entries -= next.as_ref().map_or(0, |pane| pane.table.len());
        let next = next.unwrap_or_else(|| Pane { start, table: self.spare.pop().unwrap_or_default() });
        let last = std::mem::replace(&mut self.current, next);
        self.width = grid.size as u64;
        if last.table.is_empty() {
            self.spare.push(last.table);
            return;
        }
        self.entries += last.table.len();
        self.others.push(last);
        if self.others.len() > OTHER_PANES {
            self.on_full(out);
        }
    }

    #[inline(never)]
    fn pass<C: Collector<(K, EventTime, L::Accumulator)>>(&mut self, key: K, time: EventTime, record: In, out: &mut C) {
        self.bypass = self.bypass.saturating_sub(1);
        out.push((key, time, self.logic.first(record)));
    }
}

impl<In, K, F, T, L> Clone for WindowPartOperator<In, K, F, T, L>
where
    K: Record + Clone + Eq + Hash,
    F: Clone,
    T: TimeOf<In>,
    L: WindowLogic<K, In>,
{
    fn clone(&self) -> Self {
        WindowPartOperator::new(self.key_of.clone(), self.time_of.clone(), self.logic.clone(), self.options)
    }
}

impl<In, K, F, T, L> Operator<In> for WindowPartOperator<In, K, F, T, L>
where
    In: 'static,
    K: Record + Clone + Eq + Hash,
    F: KeyOf<In, K>,
    T: TimeOf<In>,
    L: WindowLogic<K, In>,
{
    type Out = (K, EventTime, L::Accumulator);

    #[inline(always)]
    fn process<C: Collector<Self::Out>>(&mut self, record: In, out: &mut C) {
        let key = (self.key_of)(&record);
        // The clock is looked at where windows are kept.
        let time = if T::PROCESSING { 0 } else { self.time_of.time(&record) };
        let Some(grid) = self.folded.filter(|_| self.bypass == 0) else {
            return self.pass(key, time, record, out);
        };
        if time.wrapping_sub(self.current.start) as u64 >= self.width {
            self.turn(grid, time, out);
        }
        let WindowPartOperator { logic, current, hasher, .. } = self;
        // `first` and `add` both need the logic; only one of them runs.
        let logic = std::cell::RefCell::new(logic);
        let first = |key: &mut K, record| {
            key.detach();
            logic.borrow_mut().first(record)
        };
        current.table.upsert(&*hasher, key, record, first, |own, record| logic.borrow_mut().add(own, record));
        self.folds += 1;
        if self.entries + self.current.table.len() >= TABLE_KEYS {
            self.on_full(out);
        }
    }

    fn watermark<C: Collector<Self::Out>>(&mut self, time: EventTime, out: &mut C) {
        self.watermark = time;
        self.empty_due(out);
    }

    fn flush<C: Collector<Self::Out>>(&mut self, _why: Flush, out: &mut C) {
        // Late records should not wait for the next watermark.
        self.empty_due(out);
    }

    fn before_barrier<C: Collector<Self::Out>>(&mut self, out: &mut C) {
        self.empty_all(out);
    }

    fn end<C: Collector<Self::Out>>(&mut self, out: &mut C) {
        self.empty_all(out);
    }
}
