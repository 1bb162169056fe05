//! Joins of two keyed streams: both become one stream of [`Side`]s, whose windows or states hold records of both.

use std::collections::BTreeMap;
use std::ops::Bound;

use weir_dataflow::element::EventTime;
use weir_dataflow::operator::Then;
use weir_dataflow::operators::KeyOf;
use weir_dataflow::operators::window::{ProcessWindow, TimeOf, TimeWindow, WindowContext, WindowFunction};
use weir_dataflow::process::{KeyedContext, KeyedProcessFunction, KeyedProcessOperator};
use weir_dataflow::record::{Key, Record};
use weir_dataflow::state::{StateDeclarer, Timer, ValueState};

use super::windows::{Windowed, WindowedStream};
use super::{DataStream, Input, KeyedStream, Upstream};

/// A record of one of two streams.
#[derive(Debug, Clone, PartialEq, Eq, weir_derive::Record)]
pub enum Side<A, B> {
    /// Of the first stream.
    First(A),
    /// Of the second stream.
    Second(B),
}

impl<A, B> Side<A, B> {
    /// What `first` or `second` says of the record.
    pub fn with<R>(&self, first: impl FnOnce(&A) -> R, second: impl FnOnce(&B) -> R) -> R {
        match self {
            Side::First(record) => first(record),
            Side::Second(record) => second(record),
        }
    }
}

impl<C, K, F> KeyedStream<C, K, F>
where
    C: Upstream,
    C::Out: Record,
    K: Key,
    F: KeyOf<C::Out, K>,
{
    /// Brings the records of two streams together by their keys.
    ///
    /// What comes of it is divided into windows, whose pairs [`WindowedStream::pairs`] makes; or joined by time
    /// ([`interval_join`](KeyedStream::interval_join)); or given to a keyed function.
    #[allow(clippy::type_complexity, reason = "the chain is in the type by design")]
    pub fn join<C2, F2>(
        self,
        other: KeyedStream<C2, K, F2>,
    ) -> KeyedStream<Input<Side<C::Out, C2::Out>>, K, impl KeyOf<Side<C::Out, C2::Out>, K> + use<C, C2, K, F, F2>>
    where
        C2: Upstream,
        C2::Out: Record,
        F2: KeyOf<C2::Out, K>,
    {
        let (first, mut key_of_first) = self.into_parts();
        let (second, mut key_of_second) = other.into_parts();
        let sides = first.map(Side::First).name("First").union(second.map(Side::Second).name("Second"));
        sides.key_by(move |side: &Side<C::Out, C2::Out>| match side {
            Side::First(record) => key_of_first(record),
            Side::Second(record) => key_of_second(record),
        })
    }
}

/// Makes pairs of the records of a window.
#[derive(Clone)]
pub struct Pairs<F>(F);

impl<K, A, B, O, F> WindowFunction<K, Side<A, B>> for Pairs<F>
where
    K: 'static,
    A: 'static,
    B: 'static,
    O: Send + 'static,
    F: FnMut(&K, TimeWindow, &A, &B) -> O + Clone + Send + 'static,
{
    type Out = O;
    fn process(&mut self, key: &K, records: &[Side<A, B>], context: &mut WindowContext<O>) {
        let window = context.window();
        let mut second = Vec::new();
        for side in records {
            if let Side::Second(b) = side {
                second.push(b);
            }
        }
        for side in records {
            let Side::First(a) = side else { continue };
            for b in &second {
                context.emit((self.0)(key, window, a, b));
            }
        }
    }
}

impl<C, K, F, T, A, B> WindowedStream<C, K, F, T>
where
    C: Upstream<Out = Side<A, B>>,
    A: Record + Clone,
    B: Record + Clone,
    K: Key,
    F: KeyOf<Side<A, B>, K>,
    T: TimeOf<Side<A, B>>,
{
    /// Calls `f` for each pair of a record of the first and one of the second stream that have their key and a window in common.
    #[allow(clippy::type_complexity, reason = "the chain is in the type by design")]
    pub fn pairs<O, G>(self, f: G) -> Windowed<Side<A, B>, K, ProcessWindow<Pairs<G>, O>>
    where
        O: Send + 'static,
        G: FnMut(&K, TimeWindow, &A, &B) -> O + Clone + Send + 'static,
    {
        self.process(Pairs(f))
    }
}

/// Records by their times.
type Times<T> = BTreeMap<EventTime, Vec<T>>;

/// Joins records whose times are not too far apart.
pub struct IntervalJoin<A, B, T, F> {
    /// From and to how many milliseconds after a record of the first stream those of the second lie.
    from: i64,
    to: i64,
    time_of: T,
    f: F,
    first: ValueState<Times<A>>,
    second: ValueState<Times<B>>,
}

impl<A, B, T: Clone, F: Clone> Clone for IntervalJoin<A, B, T, F> {
    fn clone(&self) -> Self {
        let (time_of, f) = (self.time_of.clone(), self.f.clone());
        IntervalJoin { from: self.from, to: self.to, time_of, f, first: self.first, second: self.second }
    }
}

/// Drops what no record of the other stream can be joined with any more.
fn drop_until<K: Record, O, V: Record>(
    state: ValueState<Times<V>>,
    until: EventTime,
    context: &mut KeyedContext<K, O>,
) {
    if state.get(context).is_none_or(|times| times.keys().next().is_none_or(|first| *first > until)) {
        return;
    }
    let mut times = state.take(context).unwrap_or_default();
    let kept = times.split_off(&until.saturating_add(1));
    if !kept.is_empty() {
        state.set(context, kept);
    }
}

impl<K, A, B, O, T, F> KeyedProcessFunction<K, Side<A, B>> for IntervalJoin<A, B, T, F>
where
    K: Key,
    A: Record + Clone,
    B: Record + Clone,
    O: Send + 'static,
    T: FnMut(&Side<A, B>) -> EventTime + Clone + Send + 'static,
    F: FnMut(&K, &A, &B) -> O + Clone + Send + 'static,
{
    type Out = O;

    fn declare(&mut self, states: &mut StateDeclarer<'_>) {
        self.first = states.value("first");
        self.second = states.value("second");
    }

    fn process(&mut self, side: Side<A, B>, context: &mut KeyedContext<K, O>) {
        let time = (self.time_of)(&side);
        let key = context.key().clone();
        let mut made = Vec::new();
        let kept_until = match side {
            Side::First(a) => {
                let between =
                    (Bound::Included(time.saturating_add(self.from)), Bound::Included(time.saturating_add(self.to)));
                let others = self.second.get(context).into_iter().flat_map(|times| times.range(between));
                made.extend(others.flat_map(|(_, others)| others).map(|b| (self.f)(&key, &a, b)));
                let until = time.saturating_add(self.to.max(0));
                if until > context.watermark() {
                    self.first.get_or_insert_with(context, Times::new).entry(time).or_default().push(a);
                }
                until
            }
            Side::Second(b) => {
                let between =
                    (Bound::Included(time.saturating_sub(self.to)), Bound::Included(time.saturating_sub(self.from)));
                let others = self.first.get(context).into_iter().flat_map(|times| times.range(between));
                made.extend(others.flat_map(|(_, others)| others).map(|a| (self.f)(&key, a, &b)));
                let until = time.saturating_sub(self.from.min(0));
                if until > context.watermark() {
                    self.second.get_or_insert_with(context, Times::new).entry(time).or_default().push(b);
                }
                until
            }
        };
        made.into_iter().for_each(|pair| context.emit(pair));
        if kept_until > context.watermark() {
            context.timers().register_event_time(kept_until);
        }
    }

    fn on_timer(&mut self, timer: Timer, context: &mut KeyedContext<K, O>) {
        drop_until(self.first, timer.time.saturating_sub(self.to.max(0)), context);
        drop_until(self.second, timer.time.saturating_add(self.from.min(0)), context);
    }
}

impl<C, K, F, A, B> KeyedStream<C, K, F>
where
    C: Upstream<Out = Side<A, B>>,
    A: Record + Clone,
    B: Record + Clone,
    K: Key,
    F: KeyOf<Side<A, B>, K>,
{
    /// Calls `f` for each pair of a record of the first and one of the second stream that have their key in common, where the second one
    /// lies from `from` to `to` milliseconds, both included, after the first one; less than 0 for before it. `time_of` gives
    /// a record's time.
    ///
    /// Records are kept until the watermark says that nothing more can be joined with them.
    ///
    /// # Panics
    /// If `from` is greater than `to`.
    #[allow(clippy::type_complexity, reason = "the chain is in the type by design")]
    pub fn interval_join<O, T, G>(
        self,
        from: i64,
        to: i64,
        time_of: T,
        f: G,
    ) -> DataStream<Then<Input<Side<A, B>>, KeyedProcessOperator<IntervalJoin<A, B, T, G>, K, F, O>>>
    where
        O: Send + 'static,
        T: FnMut(&Side<A, B>) -> EventTime + Clone + Send + 'static,
        G: FnMut(&K, &A, &B) -> O + Clone + Send + 'static,
    {
        assert!(from <= to, "an interval from {from} to {to} ms is empty");
        let (first, second) = (ValueState::default(), ValueState::default());
        self.process(IntervalJoin { from, to, time_of, f, first, second })
    }
}
