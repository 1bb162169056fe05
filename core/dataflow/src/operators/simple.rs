//! Operators of one function per record: map, filter, flat map, inspect.

use std::marker::PhantomData;

use crate::operator::{Collector, Operator};

/// One record in, one out.
pub struct MapOperator<F, Out> {
    function: F,
    out: PhantomData<fn() -> Out>,
}

impl<F, Out> MapOperator<F, Out> {
    /// Maps with `function`.
    pub fn new(function: F) -> Self {
        MapOperator { function, out: PhantomData }
    }
}

impl<F: Clone, Out> Clone for MapOperator<F, Out> {
    fn clone(&self) -> Self {
        MapOperator::new(self.function.clone())
    }
}

impl<In, Out, F> Operator<In> for MapOperator<F, Out>
where
    Out: 'static,
    F: FnMut(In) -> Out + Clone + Send + 'static,
{
    type Out = Out;
    #[inline(always)]
    fn process<C: Collector<Out>>(&mut self, record: In, out: &mut C) {
        out.push((self.function)(record));
    }
}

/// Keeps the records a predicate accepts.
#[derive(Clone)]
pub struct FilterOperator<F> {
    predicate: F,
}

impl<F> FilterOperator<F> {
    /// Keeps what `predicate` accepts.
    pub fn new(predicate: F) -> Self {
        FilterOperator { predicate }
    }
}

impl<In, F> Operator<In> for FilterOperator<F>
where
    In: 'static,
    F: FnMut(&In) -> bool + Clone + Send + 'static,
{
    type Out = In;
    #[inline(always)]
    fn process<C: Collector<In>>(&mut self, record: In, out: &mut C) {
        if (self.predicate)(&record) {
            out.push(record);
        }
    }
}

/// One record in, any number out.
pub struct FlatMapOperator<F, I> {
    function: F,
    iterator: PhantomData<fn() -> I>,
}

impl<F, I> FlatMapOperator<F, I> {
    /// Maps each record to what `function` returns an iterator over.
    pub fn new(function: F) -> Self {
        FlatMapOperator { function, iterator: PhantomData }
    }
}

impl<F: Clone, I> Clone for FlatMapOperator<F, I> {
    fn clone(&self) -> Self {
        FlatMapOperator::new(self.function.clone())
    }
}

impl<In, I, F> Operator<In> for FlatMapOperator<F, I>
where
    I: IntoIterator + 'static,
    F: FnMut(In) -> I + Clone + Send + 'static,
{
    type Out = I::Item;
    #[inline(always)]
    fn process<C: Collector<I::Item>>(&mut self, record: In, out: &mut C) {
        // Internal iteration lets adapters inside the author's iterator fuse as well.
        (self.function)(record).into_iter().for_each(|item| out.push(item));
    }
}

/// Looks at each record on its way.
#[derive(Clone)]
pub struct InspectOperator<F> {
    look: F,
}

impl<F> InspectOperator<F> {
    /// Calls `look` for each record.
    pub fn new(look: F) -> Self {
        InspectOperator { look }
    }
}

impl<In, F> Operator<In> for InspectOperator<F>
where
    In: 'static,
    F: FnMut(&In) + Clone + Send + 'static,
{
    type Out = In;
    #[inline(always)]
    fn process<C: Collector<In>>(&mut self, record: In, out: &mut C) {
        (self.look)(&record);
        out.push(record);
    }
}
