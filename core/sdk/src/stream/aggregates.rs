//! Ready-made aggregators.

use std::marker::PhantomData;

use weir_dataflow::operators::Aggregator;
use weir_dataflow::record::Record;

/// Numbers that can be summed.
pub trait Number: Record + Copy + std::ops::Add<Output = Self> {}

impl<N: Record + Copy + std::ops::Add<Output = N>> Number for N {}

/// Counts records.
#[derive(Debug, Clone, Copy, Default)]
pub struct Count;

impl<T: 'static> Aggregator<T> for Count {
    type Accumulator = u64;
    type Out = u64;

    #[inline(always)]
    fn first(&mut self, _record: T) -> u64 {
        1
    }
    #[inline(always)]
    fn add(&mut self, count: &mut u64, _record: T) {
        *count += 1;
    }
    #[inline(always)]
    fn combine(&mut self, count: &mut u64, other: u64) {
        *count += other;
    }
    #[inline(always)]
    fn subtract(&mut self, count: &mut u64, part: &u64) -> bool {
        *count -= part;
        true
    }
    fn result(&mut self, count: &u64) -> u64 {
        *count
    }
}

/// An aggregator over a value taken from each record by a function.
macro_rules! value_aggregator {
    ($(#[$doc:meta])* $name:ident, $value:ident: [$($bounds:tt)*], |$a:ident, $b:ident| $fold:expr) => {
        $(#[$doc])*
        pub struct $name<F, $value> {
            value_of: F,
            value: PhantomData<fn() -> $value>,
        }

        impl<F, $value> $name<F, $value> {
            /// An aggregator over what `value_of` takes from each record.
            pub fn new(value_of: F) -> Self {
                $name { value_of, value: PhantomData }
            }
        }

        impl<F: Clone, $value> Clone for $name<F, $value> {
            fn clone(&self) -> Self {
                $name::new(self.value_of.clone())
            }
        }

        impl<T, F, $value> Aggregator<T> for $name<F, $value>
        where
            $value: $($bounds)*,
            F: FnMut(&T) -> $value + Clone + Send + 'static,
        {
            type Accumulator = $value;
            type Out = $value;

            #[inline(always)]
            fn first(&mut self, record: T) -> $value {
                (self.value_of)(&record)
            }
            #[inline(always)]
            fn add(&mut self, $a: &mut $value, record: T) {
                let $b = (self.value_of)(&record);
                $fold
            }
            #[inline(always)]
            fn combine(&mut self, $a: &mut $value, $b: $value) {
                $fold
            }
            fn result(&mut self, value: &$value) -> $value {
                value.clone()
            }
        }
    };
}

value_aggregator!(
    /// Sums a number of each record.
    Sum, N: [Number], |a, b| *a = *a + b
);
value_aggregator!(
    /// Keeps the largest of a value of each record.
    Max, V: [Record + Clone + PartialOrd], |a, b| if b > *a { *a = b }
);
value_aggregator!(
    /// Keeps the smallest of a value of each record.
    Min, V: [Record + Clone + PartialOrd], |a, b| if b < *a { *a = b }
);

/// The mean of a number of each record, with how many there were.
#[derive(Clone)]
pub struct Mean<F>(pub F);

impl<T, F> Aggregator<T> for Mean<F>
where
    F: FnMut(&T) -> f64 + Clone + Send + 'static,
{
    type Accumulator = (f64, u64);
    type Out = (f64, u64);

    fn first(&mut self, record: T) -> (f64, u64) {
        ((self.0)(&record), 1)
    }
    fn add(&mut self, (sum, count): &mut (f64, u64), record: T) {
        *sum += (self.0)(&record);
        *count += 1;
    }
    fn combine(&mut self, (sum, count): &mut (f64, u64), other: (f64, u64)) {
        *sum += other.0;
        *count += other.1;
    }
    fn result(&mut self, (sum, count): &(f64, u64)) -> (f64, u64) {
        (sum / *count as f64, *count)
    }
}
