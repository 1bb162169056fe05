//! Windows in tables, one for each: those that do not overlap, those with triggers of their own, and the one for all time.

use std::collections::BTreeMap;
use std::hash::Hash;
use std::ops::Bound;

use hashbrown::DefaultHashBuilder;

use super::handover::{Budget, Handover};
use super::kind::Grid;
use super::slots::{Held, Slots, outside};
use super::state::{Passed, Row, Run};
use super::{TimeWindow, Trigger, WindowLogic};
use crate::element::EventTime;
use crate::operator::Collector;
use crate::record::Record;

/// What a window has of a key.
#[derive(Debug)]
struct Kept<A> {
    accumulator: A,
    /// Parts since it last fired.
    pending: u64,
}

impl<K: Record, A: Record> Held<K> for Kept<A> {
    type Of = TimeWindow;

    fn rows(
        &self,
        key: &K,
        of: TimeWindow,
        _from: EventTime,
        snapshot: &mut Handover<K>,
        _more: impl FnMut(&Handover<K>) -> bool,
    ) -> Option<EventTime> {
        snapshot.row(key, (of.start, of.end), self.pending, &self.accumulator);
        None
    }

    fn outside(&self) -> usize {
        outside(&self.accumulator)
    }
}

/// Windows that are looked at to estimate how much memory the others take.
const WINDOWS: usize = 64;
/// Emptied tables that are kept for windows to come.
const SPARE: usize = 16;

#[derive(Debug)]
pub(super) struct GridWindows<K, A> {
    /// None for the one window for all time.
    grid: Option<Grid>,
    /// By their beginnings.
    windows: BTreeMap<EventTime, Slots<K, Kept<A>>>,
    spare: Vec<Slots<K, Kept<A>>>,
    /// Windows before it are handed over, of the snapshot under way.
    handed_over: EventTime,
    hasher: DefaultHashBuilder,
}

impl<K: Record + Clone + Eq + Hash, A: Record + Clone> GridWindows<K, A> {
    pub(super) fn new(grid: Option<Grid>) -> Self {
        GridWindows {
            grid,
            windows: BTreeMap::new(),
            spare: Vec::new(),
            handed_over: EventTime::MIN,
            hasher: DefaultHashBuilder::default(),
        }
    }

    fn window(&self, start: EventTime) -> TimeWindow {
        match self.grid {
            Some(grid) => TimeWindow { start, end: start.saturating_add(grid.size) },
            None => TimeWindow::GLOBAL,
        }
    }

    /// The beginnings of the windows that `time` is in, last first.
    fn starts(&self, time: EventTime) -> impl Iterator<Item = EventTime> + use<K, A> {
        let (first, step, size) = match self.grid {
            Some(grid) => (grid.last_start(time), grid.slide, grid.size),
            None => (EventTime::MIN, 1, 1),
        };
        let only = self.grid.is_none();
        let next = move |start: &EventTime| start.checked_sub(step).filter(|_| !only);
        std::iter::successors(Some(first), next).take_while(move |start| only || time.saturating_sub(*start) < size)
    }

    /// Whether nothing of `time` is kept any more.
    pub(super) fn is_late(&self, key: &K, time: EventTime, lateness: i64, passed: &Passed) -> bool {
        // Of the windows a time is in, the last one stays longest.
        let Some(start) = self.starts(time).next() else { return false };
        passed.is_over(key, self.window(start).last().saturating_add(lateness))
    }

    pub(super) fn add<In, L, C>(&mut self, key: K, time: EventTime, part: A, run: &mut Run<'_, K, L>, out: &mut C)
    where
        L: WindowLogic<K, In, Accumulator = A>,
        C: Collector<L::Out>,
    {
        let mut starts = self.starts(time);
        let Some(mut start) = starts.next() else { return };
        let mut taken = false;
        for next in starts {
            taken |= self.add_to(start, key.clone(), part.clone(), run, out);
            start = next;
        }
        taken |= self.add_to(start, key, part, run, out);
        if !taken {
            run.late.add(1);
        }
    }

    /// About how many bytes of memory it takes, and how many keys its windows have.
    pub(super) fn size(&self) -> (usize, usize) {
        let keys = self.windows.values().map(Slots::len).sum();
        let (count, bytes) = self.windows.values().take(WINDOWS).fold((0, 0), |(count, bytes), window| {
            (count + 1, bytes + window.bytes() + size_of::<Slots<K, Kept<A>>>())
        });
        let spare: usize = self.spare.iter().map(Slots::bytes).sum();
        (bytes * self.windows.len() / count.max(1) + spare, keys)
    }

    /// Adds to one window, if it is still kept. Whether it is.
    fn add_to<In, L, C>(&mut self, start: EventTime, key: K, part: A, run: &mut Run<'_, K, L>, out: &mut C) -> bool
    where
        L: WindowLogic<K, In, Accumulator = A>,
        C: Collector<L::Out>,
    {
        let window = self.window(start);
        let last = window.last();
        if run.passed.is_over(&key, last.saturating_add(run.options.lateness)) {
            return false;
        }
        let over = run.options.trigger.fires_at_end() && run.passed.is_over(&key, last);
        let Run { logic, options, snapshot, .. } = run;
        let spare = &mut self.spare;
        let table = self.windows.entry(start).or_insert_with(|| Self::table(spare, snapshot));
        let mut part = Some(part);
        let slot = table.enter(&self.hasher, key, snapshot, |_| {
            let mut accumulator = part.take().expect("it is only taken here");
            accumulator.detach();
            Kept { accumulator, pending: 1 }
        });
        if let Some(part) = part {
            table.preserve(slot, window, snapshot);
            let (_, kept) = table.get_mut(slot);
            logic.combine(&mut kept.accumulator, part);
            kept.pending += 1;
        }
        let (key, kept) = table.get_mut(slot);
        let full = matches!(options.trigger, Trigger::Count(count) if kept.pending >= count);
        if !over && !full {
            return true;
        }
        kept.pending = 0;
        logic.emit(key, window, &kept.accumulator, out);
        if options.purging {
            table.remove(slot, &self.hasher, window, snapshot);
            if table.is_empty() {
                self.windows.remove(&start);
            }
        }
        true
    }

    /// A table without anything.
    fn table(spare: &mut Vec<Slots<K, Kept<A>>>, snapshot: &Handover<K>) -> Slots<K, Kept<A>> {
        let Some(mut table) = spare.pop() else { return Slots::new(snapshot) };
        table.begin_anew(snapshot);
        table
    }

    /// Time advanced from `run.passed` to `to`: fires what is over and drops what is no longer kept.
    pub(super) fn advance<In, L, C>(&mut self, to: EventTime, run: &mut Run<'_, K, L>, out: &mut C)
    where
        L: WindowLogic<K, In, Accumulator = A>,
        C: Collector<L::Out>,
    {
        if run.options.lateness > 0 && run.options.trigger.fires_at_end() {
            self.fire_over(to, run, out);
        }
        self.drop_over(to, run, out);
        if let Trigger::Every(interval) = run.options.trigger
            && to.div_euclid(interval) > run.passed.time.div_euclid(interval)
        {
            self.fire_changed(run, out);
        }
    }

    /// Fires the windows that are over since the last time and are kept for late records.
    fn fire_over<In, L, C>(&mut self, to: EventTime, run: &mut Run<'_, K, L>, out: &mut C)
    where
        L: WindowLogic<K, In, Accumulator = A>,
        C: Collector<L::Out>,
    {
        let (grid, since) = (self.grid, run.passed.time);
        let range = match grid {
            Some(grid) => {
                let start_of = |last: EventTime| last.saturating_add(1).saturating_sub(grid.size);
                match (since, start_of(since), start_of(to)) {
                    (EventTime::MIN, _, until) => (Bound::Unbounded, Bound::Included(until)),
                    (_, from, until) if from < until => (Bound::Excluded(from), Bound::Included(until)),
                    _ => return,
                }
            }
            None if to >= TimeWindow::GLOBAL.last() => (Bound::Unbounded, Bound::Unbounded),
            None => return,
        };
        let mut emptied = Vec::new();
        for (&start, table) in self.windows.range_mut(range) {
            let end = grid.map_or(EventTime::MAX, |grid| start.saturating_add(grid.size));
            let window = TimeWindow { start, end };
            let Run { logic, passed, options, snapshot, .. } = run;
            table.retain(&self.hasher, window, snapshot, |key, kept| {
                if !passed.is_over(key, window.last()) {
                    kept.pending = 0;
                    logic.emit(key, window, &kept.accumulator, out);
                }
                !options.purging
            });
            if options.purging {
                emptied.push(start);
            }
        }
        emptied.iter().for_each(|start| drop(self.windows.remove(start)));
    }

    /// Drops the windows that are no longer kept, and fires them if they have not been.
    fn drop_over<In, L, C>(&mut self, to: EventTime, run: &mut Run<'_, K, L>, out: &mut C)
    where
        L: WindowLogic<K, In, Accumulator = A>,
        C: Collector<L::Out>,
    {
        let fires = run.options.lateness == 0 && run.options.trigger.fires_at_end();
        while let Some(entry) = self.windows.first_entry() {
            let start = *entry.key();
            let end = self.grid.map_or(EventTime::MAX, |grid| start.saturating_add(grid.size));
            let window = TimeWindow { start, end };
            if window.last().saturating_add(run.options.lateness) > to {
                return;
            }
            let mut table = entry.remove();
            for (key, kept) in table.drain(window, run.snapshot) {
                if fires && !run.passed.is_over(&key, window.last()) {
                    run.logic.emit(&key, window, &kept.accumulator, out);
                }
            }
            if self.spare.len() < SPARE {
                self.spare.push(table);
            }
        }
    }

    /// Fires the keys that have something new.
    fn fire_changed<In, L, C>(&mut self, run: &mut Run<'_, K, L>, out: &mut C)
    where
        L: WindowLogic<K, In, Accumulator = A>,
        C: Collector<L::Out>,
    {
        let grid = self.grid;
        for (&start, table) in &mut self.windows {
            let end = grid.map_or(EventTime::MAX, |grid| start.saturating_add(grid.size));
            let window = TimeWindow { start, end };
            let Run { logic, options, snapshot, .. } = run;
            table.retain(&self.hasher, window, snapshot, |key, kept| {
                let fires = kept.pending > 0;
                if fires {
                    kept.pending = 0;
                    logic.emit(key, window, &kept.accumulator, out);
                }
                !(fires && options.purging)
            });
        }
        self.windows.retain(|_, table| !table.is_empty());
    }

    /// When the next window is over.
    pub(super) fn next_end(&self) -> EventTime {
        self.windows.keys().next().map_or(EventTime::MAX, |start| self.window(*start).last())
    }

    /// A snapshot of everything as it is now begins.
    pub(super) fn begin(&mut self) {
        self.handed_over = EventTime::MIN;
    }

    /// Hands over some more rows. Whether those were all.
    pub(super) fn step(&mut self, snapshot: &mut Handover<K>, budget: &mut Budget) -> bool {
        let grid = self.grid;
        for (&start, table) in self.windows.range_mut(self.handed_over..) {
            let window =
                grid.map_or(TimeWindow::GLOBAL, |grid| TimeWindow { start, end: start.saturating_add(grid.size) });
            self.handed_over = start;
            if !budget.lasts(snapshot) || !table.step(window, snapshot, budget) {
                return false;
            }
        }
        true
    }

    pub(super) fn restore(&mut self, row: Row<K, A>, snapshot: &Handover<K>) {
        let Row { key, start, pending, accumulator, .. } = row;
        let kept = Kept { accumulator, pending };
        let table = self.windows.entry(start).or_insert_with(|| Slots::new(snapshot));
        table.enter(&self.hasher, key, snapshot, |_| kept);
    }
}
