//! Windows over keyed streams.

use std::marker::PhantomData;
use std::time::Duration;

use weir_dataflow::element::EventTime;
use weir_dataflow::exchange::HashPartitioner;
use weir_dataflow::operator::Then;
use weir_dataflow::operators::window::{
    AggregateWindow, EmitWindow, EventTimeOf, LateWindowOperator, ProcessWindow, ProcessingTimeOf, TimeOf, TimeWindow,
    Trigger, WindowAssigner, WindowContext, WindowFunction, WindowLogic, WindowOperator, WindowOptions,
    WindowPartOperator,
};
use weir_dataflow::operators::{Aggregator, KeyOf, Reduce};
use weir_dataflow::process::OutputTag;
use weir_dataflow::record::{Key, Record};

use super::{DataStream, Input, KeyedStream, Upstream};

/// The result of a window for a key.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, weir_derive::Record)]
pub struct WindowResult<K, R> {
    /// The key.
    pub key: K,
    /// The window.
    pub window: TimeWindow,
    /// What was computed of its records.
    pub value: R,
}

/// Emits [`WindowResult`]s.
#[derive(Debug, Clone, Copy)]
pub struct EmitResult;

impl<K: Clone + 'static, R: 'static> EmitWindow<K, R> for EmitResult {
    type Out = WindowResult<K, R>;
    #[inline(always)]
    fn emit(key: &K, window: TimeWindow, value: R) -> WindowResult<K, R> {
        WindowResult { key: key.clone(), window, value }
    }
}

/// Windows with the time of records.
#[derive(Debug, Clone)]
pub struct Windows<T> {
    assigner: WindowAssigner,
    time: T,
}

impl<T> Windows<T> {
    /// Shifts windows that begin at regular distances: one begins `offset` milliseconds after the epoch instead of at it.
    pub fn offset(self, offset: i64) -> Self {
        Windows { assigner: self.assigner.offset(offset), ..self }
    }
}

/// Windows of one size, side by side.
#[derive(Debug, Clone, Copy)]
pub struct Tumbling;

impl Tumbling {
    /// By the time that `time_of` gives of each record, in milliseconds since the epoch.
    pub fn event_time<T, F: Fn(&T) -> EventTime>(size: Duration, time_of: F) -> Windows<EventTimeOf<F>> {
        Windows { assigner: WindowAssigner::tumbling(size), time: EventTimeOf(time_of) }
    }

    /// By the clock.
    pub fn processing_time(size: Duration) -> Windows<ProcessingTimeOf> {
        Windows { assigner: WindowAssigner::tumbling(size), time: ProcessingTimeOf }
    }
}

/// Windows of one size, of which one begins at regular distances.
#[derive(Debug, Clone, Copy)]
pub struct Sliding;

impl Sliding {
    /// By the time that `time_of` gives of each record, in milliseconds since the epoch.
    pub fn event_time<T, F: Fn(&T) -> EventTime>(
        size: Duration,
        slide: Duration,
        time_of: F,
    ) -> Windows<EventTimeOf<F>> {
        Windows { assigner: WindowAssigner::sliding(size, slide), time: EventTimeOf(time_of) }
    }

    /// By the clock.
    pub fn processing_time(size: Duration, slide: Duration) -> Windows<ProcessingTimeOf> {
        Windows { assigner: WindowAssigner::sliding(size, slide), time: ProcessingTimeOf }
    }
}

/// Windows that last as long as records of a key come with no more than a gap between them.
#[derive(Debug, Clone, Copy)]
pub struct Session;

impl Session {
    /// By the time that `time_of` gives of each record, in milliseconds since the epoch.
    pub fn event_time<T, F: Fn(&T) -> EventTime>(gap: Duration, time_of: F) -> Windows<EventTimeOf<F>> {
        Windows { assigner: WindowAssigner::session(gap), time: EventTimeOf(time_of) }
    }

    /// By the clock.
    pub fn processing_time(gap: Duration) -> Windows<ProcessingTimeOf> {
        Windows { assigner: WindowAssigner::session(gap), time: ProcessingTimeOf }
    }
}

/// One window for all records of a key. Fires at the end of the input, or by a trigger.
#[derive(Debug, Clone, Copy)]
pub struct Global;

impl Global {
    /// By event time, which matters for triggers only.
    #[allow(clippy::type_complexity, reason = "a function that is a value has a long type")]
    pub fn event_time<T>() -> Windows<EventTimeOf<fn(&T) -> EventTime>> {
        Windows { assigner: WindowAssigner::Global, time: EventTimeOf(|_| 0) }
    }

    /// By the clock, which matters for triggers only.
    pub fn processing_time() -> Windows<ProcessingTimeOf> {
        Windows { assigner: WindowAssigner::Global, time: ProcessingTimeOf }
    }
}

/// A keyed stream divided into windows.
#[must_use = "a windowed stream does nothing until something is computed of its windows"]
#[derive(Debug)]
pub struct WindowedStream<C: Upstream, K, F, T> {
    stream: DataStream<C>,
    key_of: F,
    time: T,
    options: WindowOptions,
    key: PhantomData<fn() -> K>,
}

/// What is computed of windows: its chain starts behind the exchange.
pub type Windowed<In, K, L> =
    DataStream<Then<Input<(K, EventTime, <L as WindowLogic<K, In>>::Accumulator)>, WindowOperator<In, K, L>>>;

/// What is computed of windows that have an output for late records.
pub type LateWindowed<In, K, F, T, L> = DataStream<Then<Input<In>, LateWindowOperator<In, K, F, T, L>>>;

impl<C, K, F> KeyedStream<C, K, F>
where
    C: Upstream,
    C::Out: Record,
    K: Key,
    F: KeyOf<C::Out, K>,
{
    /// Divides the records of each key into windows.
    pub fn window<T: TimeOf<C::Out>>(self, windows: Windows<T>) -> WindowedStream<C, K, F, T> {
        let (stream, key_of) = self.into_parts();
        let Windows { assigner, time } = windows;
        WindowedStream { stream, key_of, time, options: WindowOptions::new(assigner), key: PhantomData }
    }
}

impl<C, K, F, T> WindowedStream<C, K, F, T>
where
    C: Upstream,
    C::Out: Record,
    K: Key,
    F: KeyOf<C::Out, K>,
    T: TimeOf<C::Out>,
{
    /// Fires windows at other times than when they are over.
    pub fn trigger(mut self, trigger: Trigger) -> Self {
        self.options.trigger = trigger;
        self
    }

    /// Empties a window whenever it fires.
    pub fn purging(mut self) -> Self {
        self.options.purging = true;
        self
    }

    /// Keeps windows for so much longer. Each record that comes for one that has fired makes it fire once more.
    pub fn allowed_lateness(mut self, lateness: Duration) -> Self {
        self.options.lateness = i64::try_from(lateness.as_millis()).unwrap_or(i64::MAX);
        self
    }

    /// Gives records that come too late for all their windows to a side output, to be had with `side_output`; otherwise they are
    /// dropped. All records then cross the exchange as they are: nothing is folded before it.
    pub fn late_output(self, tag: &OutputTag<C::Out>) -> LateWindowedStream<C, K, F, T> {
        LateWindowedStream { windowed: self, tag: tag.clone() }
    }

    /// Folds the records of each window with `aggregator`.
    pub fn aggregate<A: Aggregator<C::Out>>(
        self,
        aggregator: A,
    ) -> Windowed<C::Out, K, AggregateWindow<A, EmitResult>> {
        self.compute(AggregateWindow::new(aggregator))
    }

    /// Combines the records of each window into one, two at a time; `f` must be associative.
    pub fn reduce<G>(self, f: G) -> Windowed<C::Out, K, AggregateWindow<Reduce<G>, EmitResult>>
    where
        C::Out: Clone,
        G: FnMut(C::Out, C::Out) -> C::Out + Clone + Send + 'static,
    {
        self.aggregate(Reduce(f))
    }

    /// Keeps all records of each window and gives them to `function`.
    pub fn process<G: WindowFunction<K, C::Out>>(self, function: G) -> Windowed<C::Out, K, ProcessWindow<G, G::Out>>
    where
        C::Out: Clone,
    {
        self.compute(ProcessWindow::new(function))
    }

    /// [`process`](Self::process) with a closure.
    #[allow(clippy::type_complexity, reason = "the chain is in the type by design")]
    pub fn process_with<O, G>(self, function: G) -> Windowed<C::Out, K, ProcessWindow<(G, PhantomData<fn() -> O>), O>>
    where
        C::Out: Clone,
        O: Send + 'static,
        G: FnMut(&K, &[C::Out], &mut WindowContext<O>) + Clone + Send + 'static,
    {
        self.compute(ProcessWindow::new((function, PhantomData)))
    }

    fn compute<L: WindowLogic<K, C::Out>>(self, logic: L) -> Windowed<C::Out, K, L> {
        let WindowedStream { stream, key_of, time, options, .. } = self;
        let parts = WindowPartOperator::new(key_of, time, logic.clone(), options);
        let by_key = HashPartitioner::new(|(key, ..): &(K, EventTime, L::Accumulator)| key.key_hash());
        let windows = WindowOperator::new(logic, options, T::PROCESSING);
        stream.transform("Pre-Window", parts).exchange(by_key).transform("Window", windows)
    }
}

/// A keyed stream divided into windows, with an output for what comes too late.
#[must_use = "a windowed stream does nothing until something is computed of its windows"]
#[derive(Debug)]
pub struct LateWindowedStream<C: Upstream, K, F, T>
where
    C::Out: Record,
{
    windowed: WindowedStream<C, K, F, T>,
    tag: OutputTag<C::Out>,
}

impl<C, K, F, T> LateWindowedStream<C, K, F, T>
where
    C: Upstream,
    C::Out: Record,
    K: Key,
    F: KeyOf<C::Out, K>,
    T: TimeOf<C::Out>,
{
    /// As [`WindowedStream::aggregate`].
    pub fn aggregate<A: Aggregator<C::Out>>(
        self,
        aggregator: A,
    ) -> LateWindowed<C::Out, K, F, T, AggregateWindow<A, EmitResult>> {
        self.compute(AggregateWindow::new(aggregator))
    }

    /// As [`WindowedStream::reduce`].
    pub fn reduce<G>(self, f: G) -> LateWindowed<C::Out, K, F, T, AggregateWindow<Reduce<G>, EmitResult>>
    where
        C::Out: Clone,
        G: FnMut(C::Out, C::Out) -> C::Out + Clone + Send + 'static,
    {
        self.aggregate(Reduce(f))
    }

    /// As [`WindowedStream::process`].
    pub fn process<G: WindowFunction<K, C::Out>>(
        self,
        function: G,
    ) -> LateWindowed<C::Out, K, F, T, ProcessWindow<G, G::Out>>
    where
        C::Out: Clone,
    {
        self.compute(ProcessWindow::new(function))
    }

    fn compute<L: WindowLogic<K, C::Out>>(self, logic: L) -> LateWindowed<C::Out, K, F, T, L> {
        let WindowedStream { stream, key_of, time, options, .. } = self.windowed;
        let mut partition_key = key_of.clone();
        let by_key = HashPartitioner::new(move |record: &C::Out| partition_key(record).key_hash());
        let windows = LateWindowOperator::new(key_of, time, logic, options, self.tag);
        stream.exchange(by_key).transform("Window", windows)
    }
}
