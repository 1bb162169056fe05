//! What functions on keyed streams see and have in common: state and timers per key.

use std::hash::Hash;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{ProcessContext, SideOutputs};
use crate::declaration::OperatorState;
use crate::element::EventTime;
use crate::failure::{TaskError, raise};
use crate::operator::{Collector, OperatorContext};
use crate::record::Record;
use crate::snapshot::{OperatorSnapshotter, millis_now};
use crate::state::{Declared, KeyedStates, StateAccess, StateDeclarer, TimeDomain, Timer, TimerQueues};
use crate::task::TaskShared;

/// What a keyed function sees besides its record: the key, its state, timers, time, outputs.
#[derive(Debug)]
pub struct KeyedContext<K, Out> {
    pub(super) base: ProcessContext<Out>,
    states: KeyedStates<K>,
    timers: TimerQueues,
    watermark: EventTime,
    /// Set while the operator is open.
    task: Option<Arc<TaskShared>>,
}

impl<K, Out> KeyedContext<K, Out> {
    pub(super) fn new(sides: SideOutputs) -> Self {
        KeyedContext {
            base: ProcessContext::new(sides),
            states: KeyedStates::default(),
            timers: TimerQueues::default(),
            watermark: EventTime::MIN,
            task: None,
        }
    }

    /// The key of the current record or timer. Panics in `open` and `end`, where there is none.
    pub fn key(&self) -> &K {
        self.states.current_key()
    }

    /// The states of this subtask's keys.
    pub fn states(&self) -> &KeyedStates<K> {
        &self.states
    }

    /// The timers of the current key.
    pub fn timers(&mut self) -> Timers<'_, K> {
        Timers { states: &mut self.states, queues: &mut self.timers }
    }

    /// The current watermark: no record with an event time at or below it is to be expected. The least number before the first one.
    pub fn watermark(&self) -> EventTime {
        self.watermark
    }

    /// The machine's clock, in milliseconds since the epoch.
    pub fn processing_time(&self) -> EventTime {
        millis_now()
    }
}

impl<K, Out> std::ops::Deref for KeyedContext<K, Out> {
    type Target = ProcessContext<Out>;
    fn deref(&self) -> &ProcessContext<Out> {
        &self.base
    }
}

impl<K, Out> std::ops::DerefMut for KeyedContext<K, Out> {
    fn deref_mut(&mut self) -> &mut ProcessContext<Out> {
        &mut self.base
    }
}

impl<K: Record, Out> StateAccess for KeyedContext<K, Out> {
    type Key = K;
    fn keyed(&self) -> &KeyedStates<K> {
        &self.states
    }
    fn keyed_mut(&mut self) -> &mut KeyedStates<K> {
        &mut self.states
    }
}

/// The timers of the current key. A key has at most one timer of a time and clock: another one like it changes nothing.
#[derive(Debug)]
pub struct Timers<'a, K> {
    states: &'a mut KeyedStates<K>,
    queues: &'a mut TimerQueues,
}

impl<K: Record> Timers<'_, K> {
    /// Has `on_timer` called for the key when the watermark reaches `time`, at the latest when the input ends. If the watermark is there
    /// already: before it moves on the next time.
    pub fn register_event_time(&mut self, time: EventTime) {
        self.queues.register(self.states, Timer { time, domain: TimeDomain::Event });
    }

    /// Has `on_timer` called for the key when the machine's clock reaches `time`, unless the input ends before.
    pub fn register_processing_time(&mut self, time: EventTime) {
        self.queues.register(self.states, Timer { time, domain: TimeDomain::Processing });
    }

    /// Takes back a timer of event time. Does nothing if there is none.
    pub fn delete_event_time(&mut self, time: EventTime) {
        self.queues.delete(self.states, Timer { time, domain: TimeDomain::Event });
    }

    /// Takes back a timer of processing time. Does nothing if there is none.
    pub fn delete_processing_time(&mut self, time: EventTime) {
        self.queues.delete(self.states, Timer { time, domain: TimeDomain::Processing });
    }
}

/// Timers that fire between two looks at whether the task is cancelled, and at how long it has taken.
const FIRINGS: u32 = 64;
/// How long timers of processing time fire at a stretch: barriers, records and letters wait meanwhile.
const SLICE: Duration = Duration::from_millis(2);

/// What the operators of keyed functions have in common.
impl<K: Record + Eq + Hash, Out> KeyedContext<K, Out> {
    fn declared(declare: impl FnOnce(&mut StateDeclarer<'_>)) -> (Declared, TimerQueues) {
        let mut declared = Declared::default();
        declare(&mut declared.declarer());
        let timers = TimerQueues::declare(&mut declared);
        (declared, timers)
    }

    pub(super) fn declare(state: &mut OperatorState, declare: impl FnOnce(&mut StateDeclarer<'_>)) {
        state.tables.push(Self::declared(declare).0.table::<K>());
    }

    pub(super) fn open(
        &mut self,
        context: &OperatorContext<'_>,
        declare: impl FnOnce(&mut StateDeclarer<'_>),
    ) -> Result<(), TaskError> {
        self.base.open(context)?;
        self.task = Some(context.task.shared().clone());
        let (declared, timers) = Self::declared(declare);
        self.timers = timers;
        self.states = KeyedStates::open(declared, context, millis_now())?;
        self.timers.restore(&mut self.states)
    }

    /// Asks for the states of keys whose records come next.
    #[inline(always)]
    pub(super) fn prepare(&mut self, keys: impl Iterator<Item = K>) {
        self.states.prepare(keys);
    }

    /// Runs `f` for a record with this key.
    #[inline(always)]
    pub(super) fn with_key<C: Collector<Out>>(&mut self, key: K, out: &mut C, f: impl FnOnce(&mut Self)) {
        if self.states.expires() {
            self.states.set_time(millis_now());
        }
        self.states.enter(key);
        f(self);
        self.states.leave();
        self.base.drain_into(out);
    }

    /// Runs `f` where there is no key.
    pub(super) fn without_key<C: Collector<Out>>(&mut self, out: &mut C, f: impl FnOnce(&mut Self)) {
        f(self);
        self.base.drain_into(out);
    }

    /// Runs `f` for each key that has state, because the input has ended.
    pub(super) fn for_each_key<C: Collector<Out>>(&mut self, out: &mut C, mut f: impl FnMut(&mut Self)) {
        self.states.measure_now(millis_now());
        let mut keys = self.states.walk();
        while self.states.enter_next(&mut keys) {
            f(self);
            self.states.leave();
            self.base.drain_into(out);
        }
    }

    fn fire<C: Collector<Out>>(
        &mut self,
        domain: TimeDomain,
        now: EventTime,
        out: &mut C,
        mut on_timer: impl FnMut(Timer, &mut Self),
    ) {
        let mut until_look = FIRINGS;
        let began = Instant::now();
        while let Some(timer) = self.timers.next_due(&mut self.states, domain, now) {
            on_timer(timer, self);
            self.states.leave();
            self.base.drain_into(out);
            until_look -= 1;
            if until_look == 0 {
                until_look = FIRINGS;
                // Timers that make new ones may go on for ever.
                let canceled = self.task.as_ref().map_or(Ok(()), |task| task.check_canceled());
                canceled.unwrap_or_else(|error| raise(error));
                if domain == TimeDomain::Processing && began.elapsed() >= SLICE {
                    return;
                }
            }
        }
    }

    /// Event time advanced.
    pub(super) fn advance<C: Collector<Out>>(
        &mut self,
        watermark: EventTime,
        out: &mut C,
        on_timer: impl FnMut(Timer, &mut Self),
    ) {
        self.watermark = self.watermark.max(watermark);
        self.set_time(millis_now());
        self.fire(TimeDomain::Event, watermark, out, on_timer);
    }

    /// Processing time advanced. When the next timer is due: at `now` or before if many are, so that others have a turn.
    pub(super) fn tick<C: Collector<Out>>(
        &mut self,
        now: EventTime,
        out: &mut C,
        on_timer: impl FnMut(Timer, &mut Self),
    ) -> EventTime {
        self.set_time(now);
        self.states.sweep();
        self.states.measure(now);
        self.fire(TimeDomain::Processing, now, out, on_timer);
        self.timers.next_processing_time()
    }

    fn set_time(&mut self, now: EventTime) {
        if self.states.expires() {
            self.states.set_time(now);
        }
    }

    pub(super) fn snapshot(&mut self, snapshot: &mut OperatorSnapshotter<'_>) {
        self.states.snapshot(snapshot, millis_now());
    }

    pub(super) fn snapshot_step(&mut self, snapshot: &mut OperatorSnapshotter<'_>) -> bool {
        self.states.snapshot_step(snapshot)
    }

    pub(super) fn checkpoint_ended(&mut self, checkpoint: u64) {
        self.states.checkpoint_ended(checkpoint);
    }
}
