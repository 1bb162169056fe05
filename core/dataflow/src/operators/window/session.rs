//! Sessions: windows per key that grow and merge.

use std::collections::BTreeMap;
use std::hash::Hash;
use std::ops::Bound;

use hashbrown::DefaultHashBuilder;

use super::handover::{Budget, Handover};
use super::slots::{Held, Slots, outside};
use super::state::{Passed, Row, Run};
use super::{TimeWindow, Trigger, WindowLogic};
use crate::element::EventTime;
use crate::operator::Collector;
use crate::record::Record;

#[derive(Debug)]
struct Session<A> {
    end: EventTime,
    accumulator: A,
    pending: u64,
    fired: bool,
    /// When the timer that belongs to it is due: never later than it has to be.
    timer: EventTime,
}

/// The sessions of a key, by their beginnings.
type Sessions<A> = BTreeMap<EventTime, Session<A>>;

impl<K: Record, A: Record> Held<K> for Sessions<A> {
    type Of = ();

    fn rows(
        &self,
        key: &K,
        (): (),
        from: EventTime,
        snapshot: &mut Handover<K>,
        mut more: impl FnMut(&Handover<K>) -> bool,
    ) -> Option<EventTime> {
        for (&start, session) in self.range(from..) {
            if start > from && !more(snapshot) {
                return Some(start);
            }
            snapshot.row(key, (start, session.end), session.pending, &session.accumulator);
        }
        None
    }

    fn outside(&self) -> usize {
        let inside = self.len() * size_of::<(EventTime, Session<A>)>();
        inside + self.values().map(|session| outside(&session.accumulator)).sum::<usize>()
    }
}

#[derive(Debug)]
pub(super) struct SessionWindows<K, A> {
    gap: i64,
    /// Sessions of a key do not touch each other.
    sessions: Slots<K, Sessions<A>>,
    /// One per session, by its time; others are of sessions that were merged into one.
    timers: BTreeMap<EventTime, Vec<K>>,
    hasher: DefaultHashBuilder,
}

impl<K: Record + Clone + Eq + Hash, A: Record + Clone> SessionWindows<K, A> {
    pub(super) fn new(gap: i64, snapshot: &Handover<K>) -> Self {
        SessionWindows {
            gap,
            sessions: Slots::new(snapshot),
            timers: BTreeMap::new(),
            hasher: DefaultHashBuilder::default(),
        }
    }

    /// About how many bytes of memory it takes, and how many keys it has.
    pub(super) fn size(&self) -> (usize, usize) {
        (self.sessions.bytes(), self.sessions.len())
    }

    /// The session that a record of `time` would be in.
    fn merged(&self, key: &K, time: EventTime) -> TimeWindow {
        let mut window = TimeWindow { start: time, end: time.saturating_add(self.gap) };
        let Some(slot) = self.sessions.find(&self.hasher, key) else { return window };
        let (_, sessions) = self.sessions.get(slot);
        // Those before it may reach it, the first one behind it may begin before its end.
        if let Some((&start, session)) = sessions.range(..=time).next_back()
            && session.end >= window.start
        {
            window = TimeWindow { start, end: window.end.max(session.end) };
        }
        if let Some((&start, session)) = sessions.range(time..=window.end).next_back()
            && start <= window.end
        {
            window.end = window.end.max(session.end);
        }
        window
    }

    pub(super) fn is_late(&self, key: &K, time: EventTime, lateness: i64, passed: &Passed) -> bool {
        passed.is_over(key, time.saturating_add(self.gap).saturating_sub(1).saturating_add(lateness))
            && passed.is_over(key, self.merged(key, time).last().saturating_add(lateness))
    }

    pub(super) fn add<In, L, C>(&mut self, key: K, time: EventTime, part: A, run: &mut Run<'_, K, L>, out: &mut C)
    where
        L: WindowLogic<K, In, Accumulator = A>,
        C: Collector<L::Out>,
    {
        if self.is_late(&key, time, run.options.lateness, run.passed) {
            run.late.add(1);
            return;
        }
        let slot = self.sessions.enter(&self.hasher, key, run.snapshot, |_| Sessions::new());
        self.sessions.preserve(slot, (), run.snapshot);
        let (key, sessions) = self.sessions.get_mut(slot);
        let end = time.saturating_add(self.gap);
        let (start, session) = match sessions.range_mut(..=time).next_back() {
            Some((&start, session)) if session.end >= time => (start, Some(session)),
            _ => (time, None),
        };
        let mut grown = match session {
            Some(session) => {
                run.logic.combine(&mut session.accumulator, part);
                session.pending += 1;
                if end <= session.end {
                    (session.end, false)
                } else {
                    session.end = end;
                    (end, true)
                }
            }
            None => {
                let mut accumulator = part;
                accumulator.detach();
                let session = Session { end, accumulator, pending: 1, fired: false, timer: EventTime::MIN };
                sessions.insert(start, session);
                (end, true)
            }
        };
        while grown.1
            && let Some((&next, _)) = sessions.range((Bound::Excluded(start), Bound::Included(grown.0))).next()
            && let Some(other) = sessions.remove(&next)
        {
            let session = sessions.get_mut(&start).expect("it was there or inserted above");
            run.logic.combine(&mut session.accumulator, other.accumulator);
            session.pending += other.pending;
            session.timer = session.timer.max(other.timer);
            grown = (session.end.max(other.end), other.end > session.end);
            session.end = grown.0;
        }
        let session = sessions.get_mut(&start).expect("it was there or inserted above");
        let window = TimeWindow { start, end: session.end };
        let over = run.options.trigger.fires_at_end() && run.passed.is_over(key, window.last());
        let full = matches!(run.options.trigger, Trigger::Count(count) if session.pending >= count);
        session.fired = over;
        if over || full {
            session.pending = 0;
            run.logic.emit(key, window, &session.accumulator, out);
        }
        if (over || full) && run.options.purging {
            sessions.remove(&start);
            if sessions.is_empty() {
                self.sessions.remove(slot, &self.hasher, (), run.snapshot);
            }
            return;
        }
        let due = if over { window.last().saturating_add(run.options.lateness) } else { window.last() };
        // A session that had fired may have grown into one that has not.
        if session.timer == EventTime::MIN || session.timer > due {
            session.timer = due;
            self.timers.entry(session.timer).or_default().push(key.clone());
        }
    }

    pub(super) fn advance<In, L, C>(&mut self, to: EventTime, run: &mut Run<'_, K, L>, out: &mut C)
    where
        L: WindowLogic<K, In, Accumulator = A>,
        C: Collector<L::Out>,
    {
        while let Some(entry) = self.timers.first_entry()
            && *entry.key() <= to
        {
            let (at, keys) = entry.remove_entry();
            for key in keys {
                self.on_timer(&key, at, to, run, out);
            }
        }
        if let Trigger::Every(interval) = run.options.trigger
            && to.div_euclid(interval) > run.passed.time.div_euclid(interval)
        {
            self.fire_changed(run, out);
        }
    }

    fn on_timer<In, L, C>(&mut self, key: &K, at: EventTime, to: EventTime, run: &mut Run<'_, K, L>, out: &mut C)
    where
        L: WindowLogic<K, In, Accumulator = A>,
        C: Collector<L::Out>,
    {
        let lateness = run.options.lateness;
        let Some(slot) = self.sessions.find(&self.hasher, key) else { return };
        self.sessions.preserve(slot, (), run.snapshot);
        let (_, sessions) = self.sessions.get_mut(slot);
        // A timer lies in its session, or behind it by what it is kept for.
        let in_time = sessions.range(..=at).next_back().map(|(start, session)| (*start, session.timer));
        let kept = match in_time {
            Some((start, timer)) if timer == at => Some(start),
            _ => {
                let from = at.saturating_sub(lateness);
                sessions.range(..=from).next_back().filter(|(_, session)| session.timer == at).map(|(start, _)| *start)
            }
        };
        let Some(start) = kept else { return };
        let session = sessions.get_mut(&start).expect("it was found just now");
        let window = TimeWindow { start, end: session.end };
        if window.last() <= to && !session.fired {
            session.fired = true;
            if run.options.trigger.fires_at_end() && !run.passed.is_over(key, window.last()) {
                session.pending = 0;
                run.logic.emit(key, window, &session.accumulator, out);
            }
        }
        let dropped = window.last().saturating_add(lateness);
        if dropped <= to || (session.fired && run.options.purging && run.options.trigger.fires_at_end()) {
            sessions.remove(&start);
            if sessions.is_empty() {
                self.sessions.remove(slot, &self.hasher, (), run.snapshot);
            }
            return;
        }
        session.timer = if session.fired { dropped } else { window.last() };
        self.timers.entry(session.timer).or_default().push(key.clone());
    }

    fn fire_changed<In, L, C>(&mut self, run: &mut Run<'_, K, L>, out: &mut C)
    where
        L: WindowLogic<K, In, Accumulator = A>,
        C: Collector<L::Out>,
    {
        let Run { logic, options, snapshot, .. } = run;
        let purging = options.purging;
        self.sessions.retain(&self.hasher, (), snapshot, |key, sessions| {
            sessions.retain(|&start, session| {
                let fires = session.pending > 0;
                if fires {
                    session.pending = 0;
                    let window = TimeWindow { start, end: session.end };
                    logic.emit(key, window, &session.accumulator, out);
                }
                !(fires && purging)
            });
            !sessions.is_empty()
        });
    }

    pub(super) fn next_end(&self) -> EventTime {
        self.timers.keys().next().copied().unwrap_or(EventTime::MAX)
    }

    /// Hands over some more rows. Whether those were all.
    pub(super) fn step(&mut self, snapshot: &mut Handover<K>, budget: &mut Budget) -> bool {
        self.sessions.step((), snapshot, budget)
    }

    pub(super) fn restore(&mut self, row: Row<K, A>, passed: &Passed, snapshot: &Handover<K>) {
        let Row { key, start, end, pending, accumulator } = row;
        let timer = end.saturating_sub(1);
        let fired = passed.is_over(&key, timer);
        self.timers.entry(timer).or_default().push(key.clone());
        let session = Session { end, accumulator, pending, fired, timer };
        let slot = self.sessions.enter(&self.hasher, key, snapshot, |_| Sessions::new());
        self.sessions.get_mut(slot).1.insert(start, session);
    }
}
