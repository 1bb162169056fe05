//! Event time: how far it has come is said by watermarks, which generators make of the times of records.

use std::marker::PhantomData;
use std::time::Duration;

use crate::element::{Control, EventTime};
use crate::failure::TaskError;
use crate::operator::{Collector, Flush, Operator, OperatorContext, OwnStep};
use crate::snapshot::millis_now;

/// Follows the times of records. Cloned once per subtask, or per split.
pub trait WatermarkGenerator<T>: Clone + Send + 'static {
    /// Takes a record into account. Whether its watermark should be sent at once; otherwise it is sent after a while.
    fn on_record(&mut self, record: &T) -> bool;

    /// The watermark as of now: no record at or below it is expected. Need not be monotonic; `EventTime::MIN` for none yet.
    fn watermark(&self) -> EventTime;
}

/// The largest time seen less a bound.
#[derive(Clone)]
pub struct BoundedOutOfOrderness<F> {
    time_of: F,
    bound: i64,
    largest: EventTime,
}

impl<T, F: FnMut(&T) -> EventTime + Clone + Send + 'static> WatermarkGenerator<T> for BoundedOutOfOrderness<F> {
    #[inline(always)]
    fn on_record(&mut self, record: &T) -> bool {
        self.largest = self.largest.max((self.time_of)(record));
        false
    }

    fn watermark(&self) -> EventTime {
        // One less, because more records of the largest time may come.
        self.largest.saturating_sub(self.bound).saturating_sub(1)
    }
}

/// How watermarks are made.
#[derive(Debug, Clone)]
pub struct WatermarkStrategy<G> {
    pub(crate) generator: G,
    pub(crate) idle_after: Option<Duration>,
    pub(crate) interval: Duration,
}

impl<F> WatermarkStrategy<BoundedOutOfOrderness<F>> {
    /// Records come at most `bound` of event time later than others of the same or a later time. `time_of` gives a record's time
    /// in milliseconds since the epoch.
    pub fn bounded_out_of_orderness<T>(bound: Duration, time_of: F) -> Self
    where
        F: FnMut(&T) -> EventTime + Clone + Send + 'static,
    {
        WatermarkStrategy::custom(BoundedOutOfOrderness { time_of, bound: millis(bound), largest: EventTime::MIN })
    }

    /// Records come in the order of their times.
    pub fn monotonic<T>(time_of: F) -> Self
    where
        F: FnMut(&T) -> EventTime + Clone + Send + 'static,
    {
        WatermarkStrategy::bounded_out_of_orderness(Duration::ZERO, time_of)
    }
}

impl<G> WatermarkStrategy<G> {
    /// By a generator of the job's author.
    pub fn custom(generator: G) -> Self {
        WatermarkStrategy { generator, idle_after: None, interval: Duration::ZERO }
    }

    /// A subtask (or split) without records for so long, by the clock, no longer holds event time back.
    pub fn idle_after(mut self, time: Duration) -> Self {
        self.idle_after = Some(time);
        self
    }

    /// Sends a watermark at most once in `interval` of processing time, unless the task has nothing to read. Without it: at most
    /// once a batch and millisecond.
    pub fn interval(mut self, interval: Duration) -> Self {
        self.interval = interval;
        self
    }
}

/// Whole milliseconds, as many as there can be.
pub(crate) fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

/// What was sent, and what is to be: watermarks that grow, and changes of idleness.
#[derive(Debug, Clone)]
pub(crate) struct Sent {
    pub(crate) watermark: EventTime,
    pub(crate) idle: bool,
}

impl Sent {
    pub(crate) const NOTHING: Sent = Sent { watermark: EventTime::MIN, idle: false };

    /// The watermark to send, if event time has come further.
    pub(crate) fn advance(&mut self, to: EventTime) -> Option<Control> {
        if to <= self.watermark {
            return None;
        }
        self.watermark = to;
        Some(Control::Watermark(to))
    }

    /// The change of idleness to send, if it is one.
    pub(crate) fn turn(&mut self, idle: bool) -> Option<Control> {
        if idle == self.idle {
            return None;
        }
        self.idle = idle;
        Some(Control::Idle(idle))
    }
}

/// Makes watermarks; those from before it end here, but for the last one of all.
pub struct WatermarkOperator<T, G> {
    strategy: WatermarkStrategy<G>,
    sent: Sent,
    /// Whether the watermark is to be looked at.
    due: bool,
    /// Whether there was a record since the clock was last looked at.
    active: bool,
    active_at: EventTime,
    sent_at: EventTime,
    falls_idle: bool,
    record: PhantomData<fn(T)>,
}

impl<T, G> WatermarkOperator<T, G> {
    /// By `strategy`.
    pub fn new(strategy: WatermarkStrategy<G>) -> Self {
        WatermarkOperator {
            strategy,
            sent: Sent::NOTHING,
            due: false,
            active: false,
            active_at: EventTime::MIN,
            sent_at: EventTime::MIN,
            falls_idle: false,
            record: PhantomData,
        }
    }

    /// The next watermark or change of idleness to send.
    #[inline(always)]
    fn next_time(&mut self) -> Option<Control>
    where
        G: WatermarkGenerator<T>,
    {
        if self.active && self.sent.idle {
            return self.sent.turn(false);
        }
        // Before idleness, because a watermark also says that there is something.
        if !self.sent.idle
            && let Some(control) = self.sent.advance(self.strategy.generator.watermark())
        {
            return Some(control);
        }
        self.due = false;
        if std::mem::take(&mut self.falls_idle) { self.sent.turn(true) } else { None }
    }
}

impl<T, G: Clone> Clone for WatermarkOperator<T, G> {
    fn clone(&self) -> Self {
        WatermarkOperator::new(self.strategy.clone())
    }
}

impl<T: 'static, G: WatermarkGenerator<T>> Operator<T> for WatermarkOperator<T, G> {
    type Out = T;
    const OWN_STEPS: bool = true;

    fn open(&mut self, _context: &OperatorContext<'_>) -> Result<(), TaskError> {
        self.active_at = millis_now();
        Ok(())
    }

    #[inline(always)]
    fn process<C: Collector<T>>(&mut self, record: T, out: &mut C) {
        self.due |= self.strategy.generator.on_record(&record);
        if self.sent.idle {
            self.due = true;
        }
        self.active = true;
        out.push(record);
    }

    fn flush<C: Collector<T>>(&mut self, why: Flush, _out: &mut C) {
        self.due |= why == Flush::Idle;
    }

    fn before_barrier<C: Collector<T>>(&mut self, _out: &mut C) {
        self.due = true;
    }

    fn upstream_time(&mut self, control: Control) -> Option<Control> {
        match control {
            Control::Watermark(EventTime::MAX) => self.sent.advance(EventTime::MAX),
            // Where idleness is not this operator's business, it is that of whoever said so.
            Control::Idle(idle) if self.strategy.idle_after.is_none() => self.sent.turn(idle),
            Control::Watermark(_) | Control::Idle(_) => None,
            Control::Barrier(_) | Control::End => Some(control),
        }
    }

    #[inline(always)]
    fn own_step<C: Collector<T>>(&mut self, _out: &mut C) -> OwnStep {
        if !self.due {
            return OwnStep::Done;
        }
        self.next_time().map_or(OwnStep::Done, OwnStep::Time)
    }

    fn processing_time<C: Collector<T>>(&mut self, now: EventTime, _out: &mut C) -> EventTime {
        if std::mem::take(&mut self.active) {
            self.active_at = now;
        }
        if now >= self.sent_at.saturating_add(millis(self.strategy.interval)) {
            self.due = true;
            self.sent_at = now;
        }
        let Some(after) = self.strategy.idle_after else { return EventTime::MAX };
        let idle_at = self.active_at.saturating_add(millis(after));
        if now < idle_at {
            return idle_at;
        }
        if !self.sent.idle {
            self.falls_idle = true;
            self.due = true;
        }
        EventTime::MAX
    }
}
