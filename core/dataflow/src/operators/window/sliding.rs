//! Windows that overlap, which share their panes.
//!
//! Each key has a queue of its panes ([`Queue`]). When a window fires, each key that has something in it takes the panes it is the
//! first to reach into account and those it is the first to leave out of it. Keys without anything in the window are not
//! looked at: they wait for the time of their next pane.

use std::collections::BTreeMap;
use std::hash::Hash;

use hashbrown::DefaultHashBuilder;

use super::handover::{Budget, Handover};
use super::kind::Grid;
use super::queue::Queue;
use super::slots::Slots;
use super::state::{Passed, Row, Run};
use super::{TimeWindow, WindowLogic};
use crate::element::EventTime;
use crate::operator::Collector;
use crate::record::Record;

#[derive(Debug)]
pub(super) struct SlidingWindows<K, A> {
    grid: Grid,
    pane: Grid,
    /// The first of them have something in the window that fired last.
    keys: Slots<K, Queue<A>>,
    /// So many.
    live: usize,
    /// By their next panes: keys that have nothing in the window. There may be others, which have something again.
    waiting: BTreeMap<EventTime, Vec<K>>,
    /// By panes that they have, if those are kept for late records.
    kept: BTreeMap<EventTime, Vec<K>>,
    /// The last pane that is no longer kept.
    forgotten: EventTime,
    /// The pane of the last part, its end, and the last window that it is in: the next one is nearly always of the same.
    last: (EventTime, EventTime, Option<TimeWindow>),
    /// The end of the last window that fired: it has reached the panes before.
    reached: EventTime,
    hasher: DefaultHashBuilder,
}

impl<K: Record + Clone + Eq + Hash, A: Record + Clone> SlidingWindows<K, A> {
    pub(super) fn new(grid: Grid, snapshot: &Handover<K>) -> Self {
        let size = grid.pane();
        SlidingWindows {
            grid,
            pane: Grid { size, slide: size, offset: grid.offset.rem_euclid(size) },
            keys: Slots::new(snapshot),
            live: 0,
            waiting: BTreeMap::new(),
            kept: BTreeMap::new(),
            forgotten: EventTime::MIN,
            last: (0, 0, None),
            reached: EventTime::MIN,
            hasher: DefaultHashBuilder::default(),
        }
    }

    /// About how many bytes of memory it takes, and how many keys it has.
    pub(super) fn size(&self) -> (usize, usize) {
        (self.keys.bytes(), self.keys.len())
    }

    /// The last window that `pane` is in; none if it lies between windows.
    #[inline(always)]
    fn last_window(&self, pane: EventTime) -> Option<TimeWindow> {
        let start = self.grid.last_start(pane);
        let window = TimeWindow { start, end: start.saturating_add(self.grid.size) };
        (pane < window.end).then_some(window)
    }

    pub(super) fn is_late(&self, key: &K, time: EventTime, lateness: i64, passed: &Passed) -> bool {
        let window = self.last_window(self.pane.last_start(time));
        window.is_some_and(|window| passed.is_over(key, window.last().saturating_add(lateness)))
    }

    #[inline(always)]
    pub(super) fn add<In, L, C>(&mut self, key: K, time: EventTime, part: A, run: &mut Run<'_, K, L>, out: &mut C)
    where
        L: WindowLogic<K, In, Accumulator = A>,
        C: Collector<L::Out>,
    {
        if !(self.last.0..self.last.1).contains(&time) {
            let pane = self.pane.last_start(time);
            self.last = (pane, pane.saturating_add(self.pane.size), self.last_window(pane));
        }
        let (pane, _, Some(last)) = self.last else { return };
        let lateness = run.options.lateness;
        if run.passed.is_over(&key, last.last().saturating_add(lateness)) {
            run.late.add(1);
            return;
        }
        let slot = self.keys.enter(&self.hasher, key, run.snapshot, |_| Queue::new());
        self.keys.preserve(slot, self.pane.size, run.snapshot);
        let (key, queue) = self.keys.get_mut(slot);
        let is_new = if pane >= self.reached {
            let is_new = queue.add_waiting(pane, part, run.logic);
            if is_new && slot >= self.live && queue.waiting() == Some(pane) {
                self.waiting.entry(pane).or_default().push(key.clone());
            }
            is_new
        } else {
            queue.add_late(pane, part, self.reached.saturating_sub(self.grid.size), run.logic)
        };
        if lateness > 0 {
            if is_new {
                self.kept.entry(pane).or_default().push(key.clone());
            }
            self.fire_late(slot, pane, last, run, out);
        }
        if slot >= self.live && self.keys.get(slot).1.is_in_window() {
            self.keys.swap(slot, self.live, &self.hasher, self.pane.size, run.snapshot);
            self.live += 1;
        }
    }

    /// Fires the windows around `pane` that are over, but kept, once more for a key.
    fn fire_late<In, L, C>(&self, slot: usize, pane: EventTime, last: TimeWindow, run: &mut Run<'_, K, L>, out: &mut C)
    where
        L: WindowLogic<K, In, Accumulator = A>,
        C: Collector<L::Out>,
    {
        let (key, queue) = self.keys.get(slot);
        let Run { logic, passed, options, .. } = run;
        if !passed.is_over(key, self.grid.first_end_after(pane).saturating_sub(1)) {
            return;
        }
        let Grid { size, slide, .. } = self.grid;
        let is_kept = |window: &TimeWindow| {
            window.end > pane && !passed.is_over(key, window.last().saturating_add(options.lateness))
        };
        let earlier = |window: &TimeWindow| {
            let start = window.start.checked_sub(slide)?;
            Some(TimeWindow { start, end: start.saturating_add(size) })
        };
        let windows = std::iter::successors(Some(last), earlier).take_while(is_kept);
        let fired = windows.filter(|window| passed.is_over(key, window.last()));
        let mut spans: Vec<_> = fired.map(|window| (window.start, window.end)).collect();
        spans.reverse();
        queue.around(pane, spans.into_iter(), *logic, |logic, (start, end), whole| {
            logic.emit(key, TimeWindow { start, end }, whole, out);
        });
    }

    /// The end of the next window to fire.
    fn next(&self, passed: EventTime) -> Option<EventTime> {
        let end = if self.live > 0 {
            self.reached.saturating_add(self.grid.slide)
        } else {
            let (&pane, _) = self.waiting.first_key_value()?;
            self.grid.first_end_after(pane)
        };
        // Windows that were over before did not have what came late.
        Some(if end.saturating_sub(1) <= passed { self.grid.first_end_after(passed.saturating_add(1)) } else { end })
    }

    pub(super) fn advance<In, L, C>(&mut self, to: EventTime, run: &mut Run<'_, K, L>, out: &mut C)
    where
        L: WindowLogic<K, In, Accumulator = A>,
        C: Collector<L::Out>,
    {
        while let Some(end) = self.next(run.passed.time)
            && end.saturating_sub(1) <= to
            && end > self.reached
        {
            self.fire(end, run, out);
        }
        if run.options.lateness > 0 {
            self.forget(to, run);
        }
    }

    /// Forgets panes of which no window is kept any more.
    fn forget<L>(&mut self, to: EventTime, run: &mut Run<'_, K, L>) {
        let lateness = run.options.lateness;
        while let Some((&pane, _)) = self.kept.first_key_value()
            && self.last_window(pane).is_none_or(|window| window.last().saturating_add(lateness) <= to)
        {
            self.forgotten = pane;
            for key in self.kept.pop_first().into_iter().flat_map(|(_, keys)| keys) {
                let Some(slot) = self.keys.find(&self.hasher, &key) else { continue };
                self.keys.preserve(slot, self.pane.size, run.snapshot);
                let (_, queue) = self.keys.get_mut(slot);
                queue.forget(pane);
                if queue.is_empty() {
                    self.keys.remove(slot, &self.hasher, self.pane.size, run.snapshot);
                }
            }
        }
    }

    fn fire<In, L, C>(&mut self, end: EventTime, run: &mut Run<'_, K, L>, out: &mut C)
    where
        L: WindowLogic<K, In, Accumulator = A>,
        C: Collector<L::Out>,
    {
        self.reached = end;
        self.wake(end, run.snapshot);
        let window = TimeWindow { start: end.saturating_sub(self.grid.size), end };
        let Run { logic, passed, options, snapshot, .. } = run;
        let keep = options.lateness > 0;
        let mut slot = 0;
        while slot < self.live {
            if self.keys.get(slot).1.has_to_leave(window.start) {
                self.keys.preserve(slot, self.pane.size, snapshot);
            }
            let (key, queue) = self.keys.get_mut(slot);
            queue.reach(end, *logic);
            queue.leave(window.start, keep, *logic);
            if queue.is_in_window() {
                if !passed.is_over(key, window.last()) {
                    queue.whole(*logic, |logic, whole| logic.emit(key, window, whole, out));
                }
                slot += 1;
            } else {
                self.sleep(slot, snapshot);
            }
        }
    }

    /// Takes the keys whose panes a window is the first to reach to those that have something in it.
    fn wake(&mut self, end: EventTime, snapshot: &mut Handover<K>) {
        while let Some(entry) = self.waiting.first_entry()
            && *entry.key() < end
        {
            for key in entry.remove() {
                let Some(slot) = self.keys.find(&self.hasher, &key) else { continue };
                let is_due = self.keys.get(slot).1.waiting().is_some_and(|pane| pane < end);
                if slot >= self.live && is_due {
                    self.keys.swap(slot, self.live, &self.hasher, self.pane.size, snapshot);
                    self.live += 1;
                }
            }
        }
    }

    /// No window has reached anything.
    pub(super) fn begin_anew(&mut self) {
        self.reached = EventTime::MIN;
        self.live = 0;
        self.waiting.clear();
        for slot in 0..self.keys.len() {
            let (key, queue) = self.keys.get_mut(slot);
            if let Some(pane) = queue.begin_anew() {
                self.waiting.entry(pane).or_default().push(key.clone());
            }
        }
    }

    /// A key has nothing in the window any more.
    fn sleep(&mut self, slot: usize, snapshot: &mut Handover<K>) {
        self.live -= 1;
        let size = self.pane.size;
        self.keys.swap(slot, self.live, &self.hasher, size, snapshot);
        self.keys.preserve(self.live, size, snapshot);
        let (key, queue) = self.keys.get_mut(self.live);
        queue.forget(self.forgotten);
        if let Some(pane) = queue.waiting() {
            self.waiting.entry(pane).or_default().push(key.clone());
        } else if queue.is_empty() {
            self.keys.remove(self.live, &self.hasher, size, snapshot);
        }
    }

    pub(super) fn next_end(&self) -> EventTime {
        self.next(EventTime::MIN).map_or(EventTime::MAX, |end| end.saturating_sub(1))
    }

    /// Hands over some more rows. Whether those were all.
    pub(super) fn step(&mut self, snapshot: &mut Handover<K>, budget: &mut Budget) -> bool {
        self.keys.step(self.pane.size, snapshot, budget)
    }

    pub(super) fn restore(&mut self, row: Row<K, A>, lateness: i64, snapshot: &Handover<K>) {
        let Row { key, start, accumulator, .. } = row;
        if lateness > 0 {
            self.kept.entry(start).or_default().push(key.clone());
        }
        let slot = self.keys.enter(&self.hasher, key, snapshot, |_| Queue::new());
        let (key, queue) = self.keys.get_mut(slot);
        if queue.restore(start, accumulator) {
            self.waiting.entry(start).or_default().push(key.clone());
        }
    }
}
