//! A key's panes.

use std::collections::VecDeque;

use super::WindowLogic;
use super::handover::Handover;
use super::slots::{Held, outside};
use crate::element::EventTime;
use crate::record::Record;

/// A key's panes, each once, the oldest first: those that have left the window that fired last and are only kept for late records,
/// those in it, and those no window that fired has reached.
///
/// What is in the window is folded from both ends towards a place in its middle, so that its whole is always the fold of two
/// accumulators: a firing costs a constant number of folds on average, however many panes a window has. Where parts can be taken
/// out of an accumulator, all of it is one fold.
#[derive(Debug)]
pub(super) struct Queue<A> {
    panes: VecDeque<(EventTime, A)>,
    /// So many have left.
    left: usize,
    /// So many have been reached, with those that have left.
    reached: usize,
    /// For each of the oldest panes in the window, the oldest last: the fold of it and of the younger ones of them.
    front: Vec<A>,
    /// The fold of the other panes in the window.
    back: Option<A>,
}

impl<K: Record, A: Record> Held<K> for Queue<A> {
    /// The length of a pane.
    type Of = i64;

    fn rows(
        &self,
        key: &K,
        size: i64,
        from: EventTime,
        snapshot: &mut Handover<K>,
        mut more: impl FnMut(&Handover<K>) -> bool,
    ) -> Option<EventTime> {
        let first = self.panes.partition_point(|(pane, _)| *pane < from);
        for (pane, own) in self.panes.range(first..) {
            if *pane > from && !more(snapshot) {
                return Some(*pane);
            }
            snapshot.row(key, (*pane, pane.saturating_add(size)), 0, own);
        }
        None
    }

    fn outside(&self) -> usize {
        let inside = self.panes.capacity() * size_of::<(EventTime, A)>() + self.front.capacity() * size_of::<A>();
        let panes: usize = self.panes.iter().map(|(_, own)| outside(own)).sum();
        inside + panes + self.front.iter().chain(&self.back).map(outside).sum::<usize>()
    }
}

fn folded<K, In, L: WindowLogic<K, In>>(fold: &mut Option<L::Accumulator>, part: &L::Accumulator, logic: &mut L) {
    match fold {
        Some(fold) => logic.combine(fold, part.clone()),
        None => *fold = Some(part.clone()),
    }
}

impl<A: Record + Clone> Queue<A> {
    pub(super) fn new() -> Self {
        Queue { panes: VecDeque::new(), left: 0, reached: 0, front: Vec::new(), back: None }
    }

    /// Whether there is nothing at all.
    pub(super) fn is_empty(&self) -> bool {
        self.panes.is_empty()
    }

    /// Whether something is in the window.
    pub(super) fn is_in_window(&self) -> bool {
        self.reached > self.left
    }

    /// The first pane that has not been reached.
    pub(super) fn waiting(&self) -> Option<EventTime> {
        self.panes.get(self.reached).map(|(pane, _)| *pane)
    }

    /// Whether panes in the window begin before `start`.
    pub(super) fn has_to_leave(&self, start: EventTime) -> bool {
        self.is_in_window() && self.panes[self.left].0 < start
    }

    /// Where a pane is, or would be.
    #[inline(always)]
    fn place(&self, pane: EventTime) -> Result<usize, usize> {
        // Nearly always the youngest one.
        match self.panes.back() {
            Some((youngest, _)) if *youngest == pane => Ok(self.panes.len() - 1),
            Some((youngest, _)) if *youngest > pane => self.search(pane),
            _ => Err(self.panes.len()),
        }
    }

    #[inline(never)]
    fn search(&self, pane: EventTime) -> Result<usize, usize> {
        self.panes.binary_search_by_key(&pane, |(pane, _)| *pane)
    }

    /// Adds a part of a pane that no window has reached. Whether the pane is new.
    #[inline(always)]
    pub(super) fn add_waiting<K, In, L>(&mut self, pane: EventTime, part: A, logic: &mut L) -> bool
    where
        L: WindowLogic<K, In, Accumulator = A>,
    {
        match self.place(pane) {
            Ok(at) => {
                logic.combine(&mut self.panes[at].1, part);
                false
            }
            Err(at) => {
                let mut part = part;
                part.detach();
                if at == self.panes.len() {
                    self.panes.push_back((pane, part));
                } else {
                    self.panes.insert(at, (pane, part));
                }
                true
            }
        }
    }

    /// Adds a pane of a snapshot. Whether it is now the first one.
    pub(super) fn restore(&mut self, pane: EventTime, part: A) -> bool {
        match self.place(pane) {
            Ok(at) => {
                self.panes[at].1 = part;
                false
            }
            Err(at) => {
                self.panes.insert(at, (pane, part));
                at == 0
            }
        }
    }

    /// Adds a part of a pane before the end of the window that fired last; `start` is its beginning. Whether the pane is new.
    pub(super) fn add_late<K, In, L>(&mut self, pane: EventTime, mut part: A, start: EventTime, logic: &mut L) -> bool
    where
        L: WindowLogic<K, In, Accumulator = A>,
    {
        part.detach();
        let place = self.place(pane);
        let (is_new, at) = (place.is_err(), place.unwrap_or_else(|at| at));
        let in_window = pane >= start;
        if in_window && L::FOLDS {
            let in_front = at.checked_sub(self.left).filter(|at| *at < self.front.len());
            match in_front {
                // The folds of this pane and of older ones.
                Some(from_left) => {
                    let younger = self.front.len() - 1 - from_left;
                    let first = younger + usize::from(is_new);
                    if is_new {
                        let mut fold = part.clone();
                        logic.combine(&mut fold, self.front[younger].clone());
                        self.front.insert(first, fold);
                    }
                    let others = first + usize::from(is_new);
                    self.front[others..].iter_mut().for_each(|fold| logic.combine(fold, part.clone()));
                }
                None => folded(&mut self.back, &part, logic),
            }
        }
        if is_new {
            self.panes.insert(at, (pane, part));
            self.reached += 1;
            self.left += usize::from(!in_window);
        } else {
            logic.combine(&mut self.panes[at].1, part);
        }
        is_new
    }

    /// Takes the panes before `end` into the window.
    #[inline(always)]
    pub(super) fn reach<K, In, L>(&mut self, end: EventTime, logic: &mut L)
    where
        L: WindowLogic<K, In, Accumulator = A>,
    {
        while let Some((pane, own)) = self.panes.get(self.reached)
            && *pane < end
        {
            if L::FOLDS {
                folded(&mut self.back, own, logic);
            }
            self.reached += 1;
        }
    }

    /// Takes the panes before `start` out of the window; `keep`: they stay for late records.
    #[inline(always)]
    pub(super) fn leave<K, In, L>(&mut self, start: EventTime, keep: bool, logic: &mut L)
    where
        L: WindowLogic<K, In, Accumulator = A>,
    {
        while self.has_to_leave(start) {
            if self.panes[self.reached - 1].0 < start {
                return self.leave_all(keep);
            }
            if L::FOLDS && self.front.pop().is_none() {
                let whole = self.back.as_mut().expect("what is in no fold of the front is in that of the back");
                if !logic.subtract(whole, &self.panes[self.left].1) {
                    self.turn(logic);
                    self.front.pop();
                }
            }
            if keep {
                self.left += 1;
            } else {
                self.panes.pop_front();
                self.reached -= 1;
            }
        }
    }

    fn leave_all(&mut self, keep: bool) {
        self.front.clear();
        self.back = None;
        if keep {
            self.left = self.reached;
        } else {
            self.panes.drain(self.left..self.reached);
            self.reached = self.left;
        }
    }

    /// Makes a front of all that is in the window.
    fn turn<K, In, L: WindowLogic<K, In, Accumulator = A>>(&mut self, logic: &mut L) {
        self.back = None;
        for (_, own) in self.panes.range(self.left..self.reached).rev() {
            let mut fold = own.clone();
            if let Some(younger) = self.front.last() {
                logic.combine(&mut fold, younger.clone());
            }
            self.front.push(fold);
        }
    }

    /// Forgets panes up to `pane` that have left.
    pub(super) fn forget(&mut self, pane: EventTime) {
        while self.left > 0 && self.panes.front().is_some_and(|(oldest, _)| *oldest <= pane) {
            self.panes.pop_front();
            self.left -= 1;
            self.reached -= 1;
        }
    }

    /// Nothing has been reached. The first pane.
    pub(super) fn begin_anew(&mut self) -> Option<EventTime> {
        self.front.clear();
        self.back = None;
        (self.left, self.reached) = (0, 0);
        self.waiting()
    }

    /// Gives the fold of what is in the window to `emit`.
    #[inline(always)]
    pub(super) fn whole<K, In, L>(&self, logic: &mut L, emit: impl FnOnce(&mut L, &A))
    where
        L: WindowLogic<K, In, Accumulator = A>,
    {
        if !L::FOLDS {
            let mut whole = None;
            self.panes.range(self.left..self.reached).for_each(|(_, own)| folded(&mut whole, own, logic));
            if let Some(whole) = &whole {
                emit(logic, whole);
            }
            return;
        }
        match (self.front.last(), &self.back) {
            (Some(front), Some(back)) => {
                let mut whole = front.clone();
                logic.combine(&mut whole, back.clone());
                emit(logic, &whole);
            }
            (Some(whole), None) | (None, Some(whole)) => emit(logic, whole),
            (None, None) => {}
        }
    }

    /// Gives the folds of spans of time, the earliest first, to `emit`. All of them have `pane`, which is there.
    pub(super) fn around<K, In, L>(
        &self,
        pane: EventTime,
        spans: impl Iterator<Item = (EventTime, EventTime)>,
        logic: &mut L,
        mut emit: impl FnMut(&mut L, (EventTime, EventTime), &A),
    ) where
        L: WindowLogic<K, In, Accumulator = A>,
    {
        let Ok(middle) = self.place(pane) else { return };
        let from = |start| self.panes.partition_point(|(pane, _)| *pane < start);
        // From the pane back: the folds of it and of more and more older ones.
        let mut before: Vec<A> = Vec::new();
        // From behind it on.
        let (mut after, mut next) = (None, middle + 1);
        for (start, end) in spans {
            let first = from(start);
            if !L::FOLDS {
                let mut whole = None;
                let span = self.panes.range(first..).take_while(|(pane, _)| *pane < end);
                span.for_each(|(_, own)| folded(&mut whole, own, logic));
                whole.iter().for_each(|whole| emit(logic, (start, end), whole));
                continue;
            }
            while middle - first >= before.len() {
                let mut fold = self.panes[middle - before.len()].1.clone();
                if let Some(younger) = before.last() {
                    logic.combine(&mut fold, younger.clone());
                }
                before.push(fold);
            }
            while let Some((_, own)) = self.panes.get(next).filter(|(pane, _)| *pane < end) {
                folded(&mut after, own, logic);
                next += 1;
            }
            let mut whole = before[middle - first].clone();
            if let Some(after) = &after {
                logic.combine(&mut whole, after.clone());
            }
            emit(logic, (start, end), &whole);
        }
    }
}
