//! Watermarks inside a source: a generator for each split, and sources that wait for each other.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::watermarks::{Sent, WatermarkGenerator, WatermarkStrategy, millis};
use crate::element::{Control, EventTime};
use crate::operator::Collector;
use crate::snapshot::millis_now;
use crate::source::{Boundedness, EnumeratorContext, ReaderContext, ReaderStatus, Source, SourceError, SourceReader};

/// How long a reader that is ahead of the others waits before it looks again.
const AHEAD_PAUSE: Duration = Duration::from_millis(10);

/// Source tasks that keep together in event time: one whose watermark is ahead of the least one by more than a bound does not read
/// until that one has caught up, and the same goes for each split of a reader that can pause single ones. Only tasks of one worker process
/// see each other.
#[derive(Debug, Clone)]
pub struct WatermarkAlignment {
    max_drift: i64,
    members: Arc<Mutex<Members>>,
}

/// Watermarks of the tasks that are neither idle nor at their end.
#[derive(Debug, Default)]
struct Members {
    next: u64,
    watermarks: BTreeMap<u64, EventTime>,
}

impl WatermarkAlignment {
    /// A group to be given to all sources that belong to it; they drift apart by `max_drift` and one batch at most.
    pub fn new(max_drift: Duration) -> Self {
        WatermarkAlignment { max_drift: millis(max_drift), members: Arc::default() }
    }

    fn join(&self) -> Member {
        let mut members = self.members.lock().unwrap_or_else(PoisonError::into_inner);
        members.next += 1;
        let id = members.next;
        members.watermarks.insert(id, EventTime::MIN);
        Member { group: self.clone(), id }
    }
}

/// A task in a group, which it leaves when it ends.
#[derive(Debug)]
struct Member {
    group: WatermarkAlignment,
    id: u64,
}

impl Member {
    /// Says how far the task is, nothing while it is idle. The least watermark of the group; none if all are idle.
    fn report(&self, watermark: Option<EventTime>) -> Option<EventTime> {
        let mut members = self.group.members.lock().unwrap_or_else(PoisonError::into_inner);
        match watermark {
            Some(own) => members.watermarks.insert(self.id, own),
            None => members.watermarks.remove(&self.id),
        };
        members.watermarks.values().min().copied()
    }

    /// As [`report`](Self::report); how far the group allows to read.
    fn bound(&self, watermark: Option<EventTime>) -> EventTime {
        self.report(watermark).map_or(EventTime::MAX, |least| least.saturating_add(self.group.max_drift))
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.report(None);
    }
}

/// A source that makes watermarks of the records of each split; its watermark is the least one of the splits that are read.
#[derive(Clone)]
pub struct WithWatermarks<S, G> {
    source: S,
    strategy: WatermarkStrategy<G>,
    alignment: Option<WatermarkAlignment>,
}

impl<S, G> WithWatermarks<S, G> {
    /// `source` with watermarks by `strategy`.
    pub fn new(source: S, strategy: WatermarkStrategy<G>, alignment: Option<WatermarkAlignment>) -> Self {
        WithWatermarks { source, strategy, alignment }
    }
}

impl<S: Source, G: WatermarkGenerator<S::Item>> Source for WithWatermarks<S, G> {
    type Item = S::Item;
    type Split = S::Split;
    type Enumerator = S::Enumerator;
    type Reader = WatermarkReader<S::Reader, G>;

    fn boundedness(&self) -> Boundedness {
        self.source.boundedness()
    }

    fn name(&self) -> String {
        self.source.name()
    }

    fn create_enumerator(&self, context: &EnumeratorContext) -> Result<S::Enumerator, SourceError> {
        self.source.create_enumerator(context)
    }

    fn create_reader(&self, context: &ReaderContext) -> Result<Self::Reader, SourceError> {
        let reader = self.source.create_reader(context)?;
        let member = self.alignment.as_ref().map(WatermarkAlignment::join);
        let times = SplitTimes::new(self.strategy.clone(), millis_now());
        Ok(WatermarkReader { reader, times, member, paused: Vec::new() })
    }
}

/// A split with its generator.
#[derive(Debug)]
struct SplitTime<G> {
    generator: G,
    active: bool,
    active_at: EventTime,
}

/// The times of the splits of a reader.
#[derive(Debug)]
struct SplitTimes<G> {
    strategy: WatermarkStrategy<G>,
    splits: BTreeMap<u64, SplitTime<G>>,
    /// Of the split whose records come now.
    current: SplitTime<G>,
    current_id: u64,
    sent: Sent,
    /// When watermarks were last looked at.
    looked_at: EventTime,
    due: bool,
}

impl<G: Clone> SplitTimes<G> {
    fn new(strategy: WatermarkStrategy<G>, now: EventTime) -> Self {
        let current = SplitTime { generator: strategy.generator.clone(), active: false, active_at: now };
        let (splits, sent) = (BTreeMap::new(), Sent::NOTHING);
        SplitTimes { strategy, splits, current, current_id: 0, sent, looked_at: EventTime::MIN, due: false }
    }

    fn fresh(&self) -> SplitTime<G> {
        let active_at = self.looked_at.max(self.current.active_at);
        SplitTime { generator: self.strategy.generator.clone(), active: false, active_at }
    }

    fn enter(&mut self, split: u64) {
        if split == self.current_id {
            return;
        }
        let next = self.splits.remove(&split).unwrap_or_else(|| self.fresh());
        let last = std::mem::replace(&mut self.current, next);
        let last_id = std::mem::replace(&mut self.current_id, split);
        // Before the first split is entered there is no other one.
        if last_id != 0 {
            self.splits.insert(last_id, last);
        }
    }

    fn leave(&mut self, split: u64) {
        if split != self.current_id {
            self.splits.remove(&split);
        } else if let Some((id, next)) = self.splits.pop_first() {
            (self.current_id, self.current) = (id, next);
        } else {
            self.current = self.fresh();
            self.current_id = 0;
        }
    }

    /// The splits whose watermarks are above `bound`.
    fn ahead_of<T>(&self, bound: EventTime) -> impl Iterator<Item = u64>
    where
        G: WatermarkGenerator<T>,
    {
        let known = self.splits.iter().map(|(id, split)| (*id, split)).chain([(self.current_id, &self.current)]);
        known.filter(move |(id, split)| *id != 0 && split.generator.watermark() > bound).map(|(id, _)| id)
    }

    /// These splits have nothing to say because they are not read: that does not make them idle.
    fn keep_awake(&mut self, paused: &[u64], now: EventTime) {
        for split in paused {
            if *split == self.current_id {
                self.current.active_at = now;
            } else if let Some(split) = self.splits.get_mut(split) {
                split.active_at = now;
            }
        }
    }

    /// As [`keep_awake`](Self::keep_awake), for all.
    fn keep_all_awake(&mut self, now: EventTime) {
        self.splits.values_mut().chain([&mut self.current]).for_each(|split| split.active_at = now);
    }

    /// The least watermark of the splits that are not idle; none if all are.
    fn least<T>(&mut self, now: EventTime) -> Option<EventTime>
    where
        G: WatermarkGenerator<T>,
    {
        let idle_after = self.strategy.idle_after.map_or(i64::MAX, millis);
        let mut least = None;
        for split in self.splits.values_mut().chain([&mut self.current]) {
            if std::mem::take(&mut split.active) {
                split.active_at = now;
            }
            if now.saturating_sub(split.active_at) < idle_after {
                let watermark = split.generator.watermark();
                least = Some(least.map_or(watermark, |least: EventTime| least.min(watermark)));
            }
        }
        least
    }

    /// What to send, if anything.
    fn control<T>(&mut self, now: EventTime) -> Option<Control>
    where
        G: WatermarkGenerator<T>,
    {
        if !std::mem::take(&mut self.due) && now < self.looked_at.saturating_add(millis(self.strategy.interval).max(1))
        {
            return None;
        }
        self.looked_at = now;
        let Some(least) = self.least(now) else { return self.sent.turn(true) };
        if let Some(active) = self.sent.turn(false) {
            // The watermark follows.
            self.due = true;
            return Some(active);
        }
        self.sent.advance(least)
    }
}

/// Passes records on with their times seen.
struct Timed<'a, C, G> {
    out: &'a mut C,
    times: &'a mut SplitTimes<G>,
}

impl<T, C: Collector<T>, G: WatermarkGenerator<T>> Collector<T> for Timed<'_, C, G> {
    #[inline(always)]
    fn push(&mut self, record: T) {
        self.times.due |= self.times.current.generator.on_record(&record);
        self.times.current.active = true;
        self.out.push(record);
    }

    #[inline(always)]
    fn push_numbered(&mut self, numbers: Range<u64>, mut make: impl FnMut(u64) -> T) {
        self.times.current.active = true;
        let times = &mut *self.times;
        self.out.push_numbered(numbers, |number| {
            let record = make(number);
            times.due |= times.current.generator.on_record(&record);
            record
        });
    }

    fn enter_split(&mut self, split: u64) {
        self.times.enter(split);
    }

    fn leave_split(&mut self, split: u64) {
        self.times.leave(split);
    }
}

/// Reads splits and makes watermarks of their records.
pub struct WatermarkReader<R, G> {
    reader: R,
    times: SplitTimes<G>,
    member: Option<Member>,
    /// The splits that are too far ahead of others.
    paused: Vec<u64>,
}

impl<R: SourceReader, G: WatermarkGenerator<R::Item>> WatermarkReader<R, G> {
    /// Whether the task must not read now, because it is too far ahead of others; otherwise pauses the splits that are.
    fn is_ahead(&mut self) -> bool {
        let Some(member) = &self.member else { return false };
        let own = (!self.times.sent.idle).then_some(self.times.sent.watermark);
        let bound = member.bound(own);
        if own.is_some_and(|own| own > bound) {
            self.times.keep_all_awake(millis_now());
            return true;
        }
        if !self.paused.is_empty() {
            self.times.keep_awake(&self.paused, millis_now());
        }
        if !self.times.ahead_of(bound).eq(self.paused.iter().copied()) {
            self.paused = self.times.ahead_of(bound).collect();
            self.reader.pause_splits(&self.paused);
        }
        false
    }
}

impl<R: SourceReader, G: WatermarkGenerator<R::Item>> SourceReader for WatermarkReader<R, G> {
    type Item = R::Item;
    type Split = R::Split;

    fn add_split(&mut self, split: R::Split) -> Result<(), SourceError> {
        self.reader.add_split(split)
    }

    fn poll<C: Collector<R::Item>>(&mut self, out: &mut C) -> Result<ReaderStatus, SourceError> {
        if self.is_ahead() {
            return Ok(ReaderStatus::Wait(Some(AHEAD_PAUSE)));
        }
        let status = self.reader.poll(&mut Timed { out, times: &mut self.times })?;
        let ReaderStatus::Wait(wait) = status else { return Ok(status) };
        // Somebody has to notice that nothing comes, and that others have caught up.
        let paused = (!self.paused.is_empty()).then_some(AHEAD_PAUSE);
        let earliest = wait.into_iter().chain(self.times.strategy.idle_after).chain(paused).min();
        Ok(ReaderStatus::Wait(earliest))
    }

    fn snapshot(&self) -> Vec<R::Split> {
        self.reader.snapshot()
    }

    fn checkpoint_completed(&mut self, checkpoint: u64) {
        self.reader.checkpoint_completed(checkpoint);
    }

    fn time(&mut self) -> Option<Control> {
        self.times.control(millis_now())
    }

    fn pause_splits(&mut self, ahead: &[u64]) {
        self.reader.pause_splits(ahead);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn times(idle_after: Option<Duration>) -> SplitTimes<impl WatermarkGenerator<i64>> {
        let mut strategy = WatermarkStrategy::monotonic(|time: &i64| *time);
        strategy.idle_after = idle_after;
        SplitTimes::new(strategy, 0)
    }

    struct Nowhere;
    impl Collector<i64> for Nowhere {
        fn push(&mut self, _record: i64) {}
    }

    #[test]
    fn the_slowest_split_says_how_far_event_time_is() {
        let mut times = times(None);
        let mut timed = Timed { out: &mut Nowhere, times: &mut times };
        timed.enter_split(7);
        timed.push(100);
        timed.enter_split(8);
        timed.push(50);
        timed.enter_split(7);
        timed.push(200);
        assert_eq!(times.control(1), Some(Control::Watermark(49)));
        assert_eq!(times.control(2), None);
        times.leave(8);
        assert_eq!(times.control(3), Some(Control::Watermark(199)));
        times.enter(9);
        Timed { out: &mut Nowhere, times: &mut times }.push(20);
        assert_eq!(times.control(4), None, "a watermark never goes back");
    }

    #[test]
    fn an_idle_split_holds_nothing_back() {
        let mut times = times(Some(Duration::from_millis(10)));
        for (split, time) in [(1, 10), (2, 30)] {
            times.enter(split);
            Timed { out: &mut Nowhere, times: &mut times }.push(time);
        }
        assert_eq!(times.control(1), Some(Control::Watermark(9)));
        Timed { out: &mut Nowhere, times: &mut times }.push(40);
        assert_eq!(times.control(9), None);
        assert_eq!(times.control(12), Some(Control::Watermark(39)));
        assert_eq!(times.control(30), Some(Control::Idle(true)));
        Timed { out: &mut Nowhere, times: &mut times }.push(60);
        assert_eq!(times.control(31), Some(Control::Idle(false)));
        assert_eq!(times.control(31), Some(Control::Watermark(59)));
    }

    /// Emits the next record of one split after the other, as far as they are not paused. The last time of a split is its end.
    struct Splits {
        times: BTreeMap<u64, std::collections::VecDeque<i64>>,
        paused: Vec<u64>,
    }

    impl SourceReader for Splits {
        type Item = i64;
        type Split = u64;

        fn add_split(&mut self, _split: u64) -> Result<(), SourceError> {
            Ok(())
        }

        fn poll<C: Collector<i64>>(&mut self, out: &mut C) -> Result<ReaderStatus, SourceError> {
            for (id, times) in &mut self.times {
                if self.paused.contains(id) {
                    continue;
                }
                match times.pop_front() {
                    Some(time) => {
                        out.enter_split(*id);
                        out.push(time);
                    }
                    None => out.leave_split(*id),
                }
            }
            Ok(ReaderStatus::Wait(None))
        }

        fn snapshot(&self) -> Vec<u64> {
            Vec::new()
        }

        fn pause_splits(&mut self, ahead: &[u64]) {
            self.paused = ahead.to_vec();
        }
    }

    #[derive(Default)]
    struct Seen(Vec<i64>);
    impl Collector<i64> for Seen {
        fn push(&mut self, record: i64) {
            self.0.push(record);
        }
    }

    /// Polls once and sends what there is to send. What the reader said, and its records.
    fn read<G: WatermarkGenerator<i64>>(reader: &mut WatermarkReader<Splits, G>) -> (ReaderStatus, Vec<i64>) {
        let mut seen = Seen::default();
        let status = reader.poll(&mut seen).unwrap();
        reader.times.due = true;
        while reader.times.control(reader.times.looked_at.saturating_add(1)).is_some() {}
        (status, seen.0)
    }

    #[test]
    fn a_split_that_is_ahead_of_the_others_of_its_reader_is_paused_until_they_have_caught_up() {
        let group = WatermarkAlignment::new(Duration::from_millis(100));
        let splits = [(1, vec![1000, 2000, 3000]), (2, vec![10, 20, 950, 2950])];
        let reader =
            Splits { times: splits.map(|(id, times)| (id, times.into())).into_iter().collect(), paused: Vec::new() };
        let (times, member) = (times(Some(Duration::from_secs(3600))), Some(group.join()));
        let mut reader = WatermarkReader { reader, times, member, paused: Vec::new() };
        assert_eq!(read(&mut reader).1, [1000, 10]);
        for slow in [20, 950] {
            let (status, records) = read(&mut reader);
            assert_eq!(records, [slow]);
            assert_eq!(status, ReaderStatus::Wait(Some(AHEAD_PAUSE)), "the others may catch up any moment");
        }
        assert_eq!(read(&mut reader).1, [2000, 2950]);
        assert_eq!(reader.reader.paused, [0; 0]);
        assert_eq!(read(&mut reader).1, [3000], "the other way round");
        assert_eq!(reader.reader.paused, [2], "{:?}", reader.times.sent);
    }

    #[test]
    fn a_task_that_waits_for_others_is_not_idle() {
        let group = WatermarkAlignment::new(Duration::from_millis(100));
        let slow = group.join();
        slow.report(Some(0));
        let reader = Splits { times: BTreeMap::from([(1, vec![500, 600].into())]), paused: Vec::new() };
        let (times, member) = (times(Some(Duration::from_secs(3600))), Some(group.join()));
        let mut reader = WatermarkReader { reader, times, member, paused: Vec::new() };
        assert_eq!(read(&mut reader).1, [500]);
        reader.times.current.active_at = 0;
        assert_eq!(reader.poll(&mut Seen::default()).unwrap(), ReaderStatus::Wait(Some(AHEAD_PAUSE)));
        assert_eq!(reader.times.control(millis_now()), None, "it says nothing, not that it is idle");
        assert!(!reader.times.sent.idle);
        slow.report(Some(500));
        assert_eq!(read(&mut reader).1, [600]);
    }

    #[test]
    fn a_task_that_is_ahead_waits_for_the_others() {
        let group = WatermarkAlignment::new(Duration::from_millis(100));
        let (slow, fast) = (group.join(), group.join());
        assert!(fast.bound(Some(0)) < 0, "the other one has not begun");
        assert_eq!(slow.bound(Some(0)), 100);
        assert_eq!(fast.bound(Some(100)), 100);
        slow.report(None);
        assert_eq!(fast.bound(Some(1000)), 1100, "the other one is idle");
        slow.report(Some(5));
        assert_eq!(fast.bound(Some(1000)), 105);
        drop(slow);
        assert_eq!(fast.bound(Some(1000)), 1100, "the other one has ended");
        assert_eq!(fast.bound(None), EventTime::MAX, "nobody has a say");
    }
}
