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
/// until that one has caught up. Only tasks of one worker process see each other.
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
    /// Says how far the task is, nothing while it is idle. Whether it is too far ahead.
    fn is_ahead(&self, watermark: Option<EventTime>) -> bool {
        let mut members = self.group.members.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(own) = watermark else {
            members.watermarks.remove(&self.id);
            return false;
        };
        members.watermarks.insert(self.id, own);
        let least = members.watermarks.values().min().copied().unwrap_or(own);
        own > least.saturating_add(self.group.max_drift)
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.is_ahead(None);
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
        Ok(WatermarkReader { reader, times: SplitTimes::new(self.strategy.clone(), millis_now()), member })
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
}

impl<R: SourceReader, G: WatermarkGenerator<R::Item>> SourceReader for WatermarkReader<R, G> {
    type Item = R::Item;
    type Split = R::Split;

    fn add_split(&mut self, split: R::Split) -> Result<(), SourceError> {
        self.reader.add_split(split)
    }

    fn poll<C: Collector<R::Item>>(&mut self, out: &mut C) -> Result<ReaderStatus, SourceError> {
        let own = (!self.times.sent.idle).then_some(self.times.sent.watermark);
        if self.member.as_ref().is_some_and(|member| member.is_ahead(own)) {
            return Ok(ReaderStatus::Wait(Some(AHEAD_PAUSE)));
        }
        let status = self.reader.poll(&mut Timed { out, times: &mut self.times })?;
        Ok(match (status, self.times.strategy.idle_after) {
            // Somebody has to notice that nothing comes.
            (ReaderStatus::Wait(wait), Some(idle)) => {
                ReaderStatus::Wait(Some(wait.map_or(idle, |wait| wait.min(idle))))
            }
            (status, _) => status,
        })
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

    #[test]
    fn a_task_that_is_ahead_waits_for_the_others() {
        let group = WatermarkAlignment::new(Duration::from_millis(100));
        let (slow, fast) = (group.join(), group.join());
        assert!(fast.is_ahead(Some(0)), "the other one has not begun");
        assert!(!slow.is_ahead(Some(0)));
        assert!(!fast.is_ahead(Some(100)));
        assert!(fast.is_ahead(Some(101)));
        slow.is_ahead(None);
        assert!(!fast.is_ahead(Some(1000)), "the other one is idle");
        slow.is_ahead(Some(5));
        assert!(fast.is_ahead(Some(1000)));
        drop(slow);
        assert!(!fast.is_ahead(Some(1000)), "the other one has ended");
    }
}
