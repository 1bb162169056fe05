//! Asynchronous functions on streams.

/// The code in the documentation is compiled, and run where it can be.
#[cfg(doctest)]
#[doc = include_str!("../../../../docs/async-io.md")]
struct Documentation;

use std::future::Future;

use weir_dataflow::operator::Then;
use weir_dataflow::operators::async_io::{AsyncError, AsyncFunction, AsyncOperator, AsyncOptions, FnAsync, FnAsyncOne};
use weir_dataflow::record::Record;

use super::{DataStream, Upstream};

impl<C: Upstream<Out: Record + Clone>> DataStream<C> {
    /// One record in, one out, which a future comes to; many of them are in flight at once.
    ///
    /// ```
    /// # use std::time::Duration;
    /// use weir::prelude::*;
    ///
    /// async fn price_of(item: u64) -> Result<u64, AsyncError> {
    ///     Ok(item * 100) // in earnest: ask a database
    /// }
    ///
    /// let (sink, results) = CollectSink::new();
    /// weir::run::in_process("prices", |env| {
    ///     let options = AsyncOptions::unordered()
    ///         .capacity(200)
    ///         .timeout(Duration::from_secs(5))
    ///         .retry(RetryStrategy::fixed_delay(3, Duration::from_millis(100)));
    ///     env.from_collection([1u64, 2, 3]).async_map(options, |item| async move { Ok((item, price_of(item).await?)) }).sink(sink);
    ///     Ok(())
    /// })?;
    /// assert_eq!(results.take_sorted(), [(1, 100), (2, 200), (3, 300)]);
    /// # Ok::<(), weir::Error>(())
    /// ```
    #[allow(clippy::type_complexity, reason = "the chain is in the type by design")]
    pub fn async_map<F, R, O>(
        self,
        options: AsyncOptions,
        f: F,
    ) -> DataStream<Then<C, AsyncOperator<C::Out, FnAsyncOne<F, O>>>>
    where
        F: Fn(C::Out) -> R + Clone + Send + Sync + 'static,
        R: Future<Output = Result<O, AsyncError>> + Send + 'static,
        O: Send + 'static,
    {
        self.transform("Async Map", AsyncOperator::new(FnAsyncOne::new(f), options))
    }

    /// One record in, any number out: those that a future comes to, as an `Option`, an array or a `Vec`.
    #[allow(clippy::type_complexity, reason = "the chain is in the type by design")]
    pub fn async_flat_map<F, R, O>(
        self,
        options: AsyncOptions,
        f: F,
    ) -> DataStream<Then<C, AsyncOperator<C::Out, FnAsync<F>>>>
    where
        F: Fn(C::Out) -> R + Clone + Send + Sync + 'static,
        R: Future<Output = Result<O, AsyncError>> + Send + 'static,
        O: IntoIterator<Item: 'static> + Send + 'static,
    {
        self.transform("Async Flat Map", AsyncOperator::new(FnAsync::new(f), options))
    }

    /// Runs an asynchronous function that connects before the first record and has a say in timeouts.
    pub fn async_process<F: AsyncFunction<C::Out>>(
        self,
        options: AsyncOptions,
        f: F,
    ) -> DataStream<Then<C, AsyncOperator<C::Out, F>>> {
        self.transform("Async Process", AsyncOperator::new(f, options))
    }
}
