//! What is computed of a window's records.

use std::marker::PhantomData;

use super::TimeWindow;
use crate::operator::Collector;
use crate::operators::Aggregator;
use crate::record::Record;

/// Computes something of a window's records, for a key.
pub trait WindowLogic<K, In>: Clone + Send + 'static {
    /// What is kept of them.
    type Accumulator: Record + Clone;
    /// What is emitted.
    type Out: 'static;
    /// Whether keeping many records takes no more than keeping one.
    const FOLDS: bool;

    /// Of a first record.
    fn first(&mut self, record: In) -> Self::Accumulator;
    /// With one more.
    fn add(&mut self, accumulator: &mut Self::Accumulator, record: In);
    /// Two parts together.
    fn combine(&mut self, accumulator: &mut Self::Accumulator, other: Self::Accumulator);
    /// Takes a part out again, if that can be done. Whether it was; if not, nothing has changed.
    fn subtract(&mut self, accumulator: &mut Self::Accumulator, part: &Self::Accumulator) -> bool {
        let _ = (accumulator, part);
        false
    }
    /// Emits the result.
    fn emit<C: Collector<Self::Out>>(
        &mut self,
        key: &K,
        window: TimeWindow,
        accumulator: &Self::Accumulator,
        out: &mut C,
    );
}

/// Builds what a windowed aggregation emits.
pub trait EmitWindow<K, R>: Clone + Send + 'static {
    /// What is emitted.
    type Out: 'static;
    /// Makes it from a key, a window and the result.
    fn emit(key: &K, window: TimeWindow, result: R) -> Self::Out;
}

/// An [`Aggregator`] over windows.
pub struct AggregateWindow<A, M> {
    aggregator: A,
    emit: PhantomData<fn() -> M>,
}

impl<A, M> AggregateWindow<A, M> {
    /// Folds with `aggregator`.
    pub fn new(aggregator: A) -> Self {
        AggregateWindow { aggregator, emit: PhantomData }
    }
}

impl<A: Clone, M> Clone for AggregateWindow<A, M> {
    fn clone(&self) -> Self {
        AggregateWindow::new(self.aggregator.clone())
    }
}

impl<K, In, A, M> WindowLogic<K, In> for AggregateWindow<A, M>
where
    A: Aggregator<In>,
    M: EmitWindow<K, A::Out>,
{
    type Accumulator = A::Accumulator;
    type Out = M::Out;
    const FOLDS: bool = true;

    // What stays must not keep the input buffer alive that it was cut from.
    #[inline(always)]
    fn first(&mut self, record: In) -> A::Accumulator {
        let mut accumulator = self.aggregator.first(record);
        accumulator.detach();
        accumulator
    }
    #[inline(always)]
    fn add(&mut self, accumulator: &mut A::Accumulator, record: In) {
        self.aggregator.add(accumulator, record);
        accumulator.detach();
    }
    #[inline(always)]
    fn combine(&mut self, accumulator: &mut A::Accumulator, other: A::Accumulator) {
        self.aggregator.combine(accumulator, other);
        accumulator.detach();
    }
    #[inline(always)]
    fn subtract(&mut self, accumulator: &mut A::Accumulator, part: &A::Accumulator) -> bool {
        self.aggregator.subtract(accumulator, part)
    }
    #[inline(always)]
    fn emit<C: Collector<M::Out>>(&mut self, key: &K, window: TimeWindow, accumulator: &A::Accumulator, out: &mut C) {
        out.push(M::emit(key, window, self.aggregator.result(accumulator)));
    }
}

/// What a function over windows sees besides the records.
#[derive(Debug)]
pub struct WindowContext<Out> {
    window: TimeWindow,
    emitted: Vec<Out>,
}

impl<Out> WindowContext<Out> {
    /// The window.
    pub fn window(&self) -> TimeWindow {
        self.window
    }

    /// Emits a record.
    pub fn emit(&mut self, record: Out) {
        self.emitted.push(record);
    }
}

/// A function over all records of a window. Cloned once per subtask.
pub trait WindowFunction<K, In>: Clone + Send + 'static {
    /// The records it emits.
    type Out: Send + 'static;

    /// Called when the window of a key fires; `records` in the order of their arrival.
    fn process(&mut self, key: &K, records: &[In], context: &mut WindowContext<Self::Out>);
}

impl<K, In, Out, F> WindowFunction<K, In> for (F, PhantomData<fn() -> Out>)
where
    F: FnMut(&K, &[In], &mut WindowContext<Out>) + Clone + Send + 'static,
    Out: Send + 'static,
    K: 'static,
    In: 'static,
{
    type Out = Out;
    fn process(&mut self, key: &K, records: &[In], context: &mut WindowContext<Out>) {
        (self.0)(key, records, context);
    }
}

/// A [`WindowFunction`] over windows, which keeps all records.
pub struct ProcessWindow<F, Out> {
    function: F,
    context: WindowContext<Out>,
}

impl<F, Out> ProcessWindow<F, Out> {
    /// Calls `function`.
    pub fn new(function: F) -> Self {
        ProcessWindow { function, context: WindowContext { window: TimeWindow::GLOBAL, emitted: Vec::new() } }
    }
}

impl<F: Clone, Out> Clone for ProcessWindow<F, Out> {
    fn clone(&self) -> Self {
        ProcessWindow::new(self.function.clone())
    }
}

impl<K, In, F> WindowLogic<K, In> for ProcessWindow<F, F::Out>
where
    In: Record + Clone,
    F: WindowFunction<K, In>,
{
    type Accumulator = Vec<In>;
    type Out = F::Out;
    const FOLDS: bool = false;

    fn first(&mut self, mut record: In) -> Vec<In> {
        record.detach();
        vec![record]
    }
    fn add(&mut self, records: &mut Vec<In>, mut record: In) {
        record.detach();
        records.push(record);
    }
    fn combine(&mut self, records: &mut Vec<In>, mut other: Vec<In>) {
        // Parts come from other tasks as well, where nothing was detached for this one.
        other.iter_mut().for_each(In::detach);
        records.append(&mut other);
    }
    fn emit<C: Collector<F::Out>>(&mut self, key: &K, window: TimeWindow, records: &Vec<In>, out: &mut C) {
        self.context.window = window;
        self.function.process(key, records, &mut self.context);
        self.context.emitted.drain(..).for_each(|record| out.push(record));
    }
}
