//! Windows that overlap, which share their panes.
//!
//! Records wait in tables by pane. When a window fires, the panes it is the first to reach go into one queue per key, and those it
//! is the first to leave go out of it. A queue folds what it holds from both ends towards its middle, so that
//! its whole is always the fold of two accumulators: a firing costs each key a constant number of folds on average, however
//! many panes a window has.

use std::collections::BTreeMap;
use std::hash::Hash;

use hashbrown::DefaultHashBuilder;

use super::kind::Grid;
use super::state::{Passed, Row, Rows, Run};
use super::table::Table;
use super::{TimeWindow, WindowLogic};
use crate::element::EventTime;
use crate::operator::Collector;
use crate::record::Record;

/// A key's panes in the window that fired last.
#[derive(Debug)]
struct Queue<A> {
    /// The older ones, the oldest last: pane, its own accumulator, and the fold of it and all younger ones here.
    front: Vec<(EventTime, A, A)>,
    /// The younger ones, the youngest last.
    back: Vec<(EventTime, A)>,
    /// The fold of the younger ones.
    back_fold: Option<A>,
}

impl<A> Default for Queue<A> {
    fn default() -> Self {
        Queue { front: Vec::new(), back: Vec::new(), back_fold: None }
    }
}

impl<A: Clone> Queue<A> {
    fn is_empty(&self) -> bool {
        self.front.is_empty() && self.back.is_empty()
    }

    /// Adds a part of `pane`; usually of the youngest one.
    fn add<K, In, L: WindowLogic<K, In, Accumulator = A>>(&mut self, pane: EventTime, part: A, logic: &mut L) {
        let in_front = self.front.first().is_some_and(|(youngest, ..)| pane <= *youngest);
        if in_front {
            return self.add_to_front(pane, part, logic);
        }
        match &mut self.back_fold {
            Some(fold) => logic.combine(fold, part.clone()),
            None => self.back_fold = Some(part.clone()),
        }
        let at = self.back.partition_point(|(younger, _)| *younger < pane);
        match self.back.get_mut(at) {
            Some((same, own)) if *same == pane => logic.combine(own, part),
            _ => self.back.insert(at, (pane, part)),
        }
    }

    fn add_to_front<K, In, L: WindowLogic<K, In, Accumulator = A>>(&mut self, pane: EventTime, part: A, logic: &mut L) {
        let at = self.front.partition_point(|(older, ..)| *older > pane);
        match self.front.get_mut(at) {
            Some((same, own, _)) if *same == pane => logic.combine(own, part.clone()),
            _ => {
                let mut fold = part.clone();
                if let Some((_, _, younger)) = at.checked_sub(1).and_then(|at| self.front.get(at)) {
                    logic.combine(&mut fold, younger.clone());
                }
                self.front.insert(at, (pane, part.clone(), fold));
                self.front[at + 1..].iter_mut().for_each(|(_, _, fold)| logic.combine(fold, part.clone()));
                return;
            }
        }
        self.front[at..].iter_mut().for_each(|(_, _, fold)| logic.combine(fold, part.clone()));
    }

    /// Removes the panes before `start`.
    fn leave<K, In, L: WindowLogic<K, In, Accumulator = A>>(&mut self, start: EventTime, logic: &mut L) {
        loop {
            while self.front.last().is_some_and(|(pane, ..)| *pane < start) {
                self.front.pop();
            }
            if !self.front.is_empty() || self.back.first().is_none_or(|(pane, _)| *pane >= start) {
                return;
            }
            self.back_fold = None;
            let mut fold: Option<A> = None;
            for (pane, own) in self.back.drain(..).rev() {
                let mut next = own.clone();
                if let Some(younger) = fold.take() {
                    logic.combine(&mut next, younger);
                }
                fold = Some(next.clone());
                self.front.push((pane, own, next));
            }
        }
    }

    /// The fold of everything; none of nothing.
    fn whole<K, In, L: WindowLogic<K, In, Accumulator = A>>(&self, logic: &mut L) -> Option<A> {
        match (self.front.last(), &self.back_fold) {
            (Some((_, _, front)), Some(back)) => {
                let mut whole = front.clone();
                logic.combine(&mut whole, back.clone());
                Some(whole)
            }
            (Some((_, _, front)), None) => Some(front.clone()),
            (None, back) => back.clone(),
        }
    }
}

#[derive(Debug)]
pub(super) struct SlidingWindows<K, A> {
    grid: Grid,
    pane: Grid,
    /// Panes no window that fired has reached; and, if windows are kept for late records, the others that they have.
    panes: BTreeMap<EventTime, Table<K, A>>,
    queues: Table<K, Queue<A>>,
    /// The end of the last window that fired: panes before it are in the queues.
    reached: EventTime,
    pane_hasher: DefaultHashBuilder,
    queue_hasher: DefaultHashBuilder,
}

impl<K: Record + Clone + Eq + Hash, A: Record + Clone> SlidingWindows<K, A> {
    pub(super) fn new(grid: Grid) -> Self {
        let size = grid.pane();
        SlidingWindows {
            grid,
            pane: Grid { size, slide: size, offset: grid.offset.rem_euclid(size) },
            panes: BTreeMap::new(),
            queues: Table::default(),
            reached: EventTime::MIN,
            pane_hasher: DefaultHashBuilder::default(),
            queue_hasher: DefaultHashBuilder::default(),
        }
    }

    /// The last window that `pane` is in; none if it lies between windows.
    fn last_window(&self, pane: EventTime) -> Option<TimeWindow> {
        let start = self.grid.last_start(pane);
        let window = TimeWindow { start, end: start.saturating_add(self.grid.size) };
        (pane < window.end).then_some(window)
    }

    pub(super) fn is_late(&self, key: &K, time: EventTime, lateness: i64, passed: &Passed) -> bool {
        let window = self.last_window(self.pane.last_start(time));
        window.is_some_and(|window| passed.is_over(key, window.last().saturating_add(lateness)))
    }

    pub(super) fn add<In, L, C>(&mut self, key: K, time: EventTime, part: A, run: &mut Run<'_, L>, out: &mut C)
    where
        L: WindowLogic<K, In, Accumulator = A>,
        C: Collector<L::Out>,
    {
        let pane = self.pane.last_start(time);
        let Some(last) = self.last_window(pane) else { return };
        let lateness = run.options.lateness;
        if run.passed.is_over(&key, last.last().saturating_add(lateness)) {
            return;
        }
        let late = (lateness > 0).then(|| key.clone());
        if pane >= self.reached {
            self.wait(key, pane, part, run.logic);
        } else {
            if lateness > 0 {
                self.wait(key.clone(), pane, part.clone(), run.logic);
            }
            let logic = &mut *run.logic;
            let (_, queue) = self.queues.upsert(&self.queue_hasher, key, (), detached_key, |_, ()| {});
            queue.add(pane, part, logic);
        }
        if let Some(key) = late {
            self.fire_late(&key, pane, last, run, out);
        }
    }

    fn wait<In, L: WindowLogic<K, In, Accumulator = A>>(&mut self, key: K, pane: EventTime, part: A, logic: &mut L) {
        let first = |key: &mut K, mut part: A| {
            key.detach();
            part.detach();
            part
        };
        let fold = |own: &mut A, part| logic.combine(own, part);
        self.panes.entry(pane).or_default().upsert(&self.pane_hasher, key, part, first, fold);
    }

    /// Fires the windows around `pane` that are over, but kept, once more for `key`.
    fn fire_late<In, L, C>(&self, key: &K, pane: EventTime, last: TimeWindow, run: &mut Run<'_, L>, out: &mut C)
    where
        L: WindowLogic<K, In, Accumulator = A>,
        C: Collector<L::Out>,
    {
        let mut window = last;
        while window.end > pane {
            if run.passed.is_over(key, window.last().saturating_add(run.options.lateness)) {
                return;
            }
            if run.passed.is_over(key, window.last()) {
                let mut whole: Option<A> = None;
                for (_, table) in self.panes.range(window.start..window.end) {
                    let Some(own) = table.get(&self.pane_hasher, key) else { continue };
                    match &mut whole {
                        Some(whole) => run.logic.combine(whole, own.clone()),
                        None => whole = Some(own.clone()),
                    }
                }
                if let Some(whole) = whole {
                    run.logic.emit(key, window, &whole, out);
                }
            }
            let Some(start) = window.start.checked_sub(self.grid.slide) else { return };
            window = TimeWindow { start, end: start.saturating_add(self.grid.size) };
        }
    }

    /// The end of the next window to fire.
    fn next(&self, passed: EventTime) -> Option<EventTime> {
        let end = match self.queues.is_empty() {
            false => self.reached.saturating_add(self.grid.slide),
            true => {
                let (&pane, _) = self.panes.range(self.reached..).next()?;
                self.grid.first_end_after(pane)
            }
        };
        // Windows that were over before did not have what came late.
        Some(if end.saturating_sub(1) <= passed { self.grid.first_end_after(passed.saturating_add(1)) } else { end })
    }

    pub(super) fn advance<In, L, C>(&mut self, to: EventTime, run: &mut Run<'_, L>, out: &mut C)
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
            while let Some((&pane, _)) = self.panes.first_key_value()
                && self.last_window(pane).is_none_or(|window| window.last().saturating_add(run.options.lateness) <= to)
            {
                self.panes.pop_first();
            }
        }
    }

    fn fire<In, L, C>(&mut self, end: EventTime, run: &mut Run<'_, L>, out: &mut C)
    where
        L: WindowLogic<K, In, Accumulator = A>,
        C: Collector<L::Out>,
    {
        self.reach(end, run);
        let window = TimeWindow { start: end.saturating_sub(self.grid.size), end };
        let Run { logic, passed, .. } = run;
        self.queues.retain(|(key, queue)| {
            queue.leave(window.start, *logic);
            if !passed.is_over(key, window.last())
                && let Some(whole) = queue.whole(*logic)
            {
                logic.emit(key, window, &whole, out);
            }
            !queue.is_empty()
        });
    }

    /// Takes the panes before `end` into the queues.
    fn reach<In, L: WindowLogic<K, In, Accumulator = A>>(&mut self, end: EventTime, run: &mut Run<'_, L>) {
        let keep = run.options.lateness > 0;
        let mut at = self.reached;
        while let Some((&pane, table)) = self.panes.range_mut(at..end).next() {
            let logic = &mut *run.logic;
            let (queues, hasher) = (&mut self.queues, &self.queue_hasher);
            let mut take = |key: K, part: A| {
                let (_, queue) = queues.upsert(hasher, key, (), |_, ()| Queue::default(), |_, ()| {});
                queue.add(pane, part, logic);
            };
            if keep {
                table.iter().for_each(|(key, part)| take(key.clone(), part.clone()));
            } else {
                table.drain().for_each(|(key, part)| take(key, part));
                self.panes.remove(&pane);
            }
            at = pane.saturating_add(1);
        }
        self.reached = end;
    }

    pub(super) fn next_end(&self) -> EventTime {
        self.next(EventTime::MIN).map_or(EventTime::MAX, |end| end.saturating_sub(1))
    }

    pub(super) fn rows(&self, lateness: i64, rows: &mut Rows<K>) {
        let mut add = |key: &K, pane: EventTime, part: &A| {
            rows.add(key, pane, pane.saturating_add(self.pane.size), 0, part);
        };
        for (&pane, table) in &self.panes {
            table.iter().for_each(|(key, part)| add(key, pane, part));
        }
        // Where windows are kept for late records, their panes are all there.
        if lateness == 0 {
            for (key, queue) in self.queues.iter() {
                queue.front.iter().for_each(|(pane, own, _)| add(key, *pane, own));
                queue.back.iter().for_each(|(pane, own)| add(key, *pane, own));
            }
        }
    }

    pub(super) fn restore(&mut self, row: Row<K, A>) {
        let Row { key, start, accumulator, .. } = row;
        let table = self.panes.entry(start).or_default();
        table.upsert(&self.pane_hasher, key, accumulator, |_, part| part, |old, part| *old = part);
    }
}

fn detached_key<K: Record, A>(key: &mut K, (): ()) -> Queue<A> {
    key.detach();
    Queue::default()
}
