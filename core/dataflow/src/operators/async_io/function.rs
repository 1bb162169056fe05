//! What the author of a job writes.

use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::time::Duration;

/// Why a request failed: any error.
pub type AsyncError = Box<dyn std::error::Error + Send + Sync>;

/// What an asynchronous function may know when it is opened.
#[derive(Debug, Clone)]
pub struct AsyncContext {
    pub(super) subtask: u32,
    pub(super) parallelism: u32,
}

impl AsyncContext {
    /// Index of the subtask, from 0.
    pub fn subtask(&self) -> u32 {
        self.subtask
    }

    /// Number of subtasks of the operator.
    pub fn parallelism(&self) -> u32 {
        self.parallelism
    }
}

/// An asynchronous function over the records of a stream. Cloned once per subtask.
///
/// Its futures run within a tokio runtime of the worker, with I/O and time, on few threads: they must not block. One that has to
/// moves that to `tokio::task::spawn_blocking`. After a failure of the job a record may be asked for again, so requests should have the same effect
/// when they come twice.
pub trait AsyncFunction<In>: Clone + Send + Sync + 'static {
    /// What a request comes to: the records that are emitted. An `Option`, an array or a `Vec` of them.
    type Output: IntoIterator<Item: 'static> + Send + 'static;

    /// Called once before the first record: the place to connect.
    ///
    /// # Errors
    /// The job fails with it.
    fn open(&mut self, context: &AsyncContext) -> impl Future<Output = Result<(), AsyncError>> + Send {
        let _ = context;
        async { Ok(()) }
    }

    /// Asks for the results of one record.
    ///
    /// # Errors
    /// The job fails with it, unless the retry strategy has it tried again.
    fn call(&self, record: In) -> impl Future<Output = Result<Self::Output, AsyncError>> + Send;

    /// Whether a result is none yet, and is to be asked for again as after an error. What the last try brings is emitted in any case.
    fn retries(&self, output: &Self::Output) -> bool {
        let _ = output;
        false
    }

    /// A record has taken longer than it may; what is emitted in place of its results.
    ///
    /// # Errors
    /// The job fails with it. So it does unless the function has its own way.
    fn timed_out(&self, record: In, timeout: Duration) -> Result<Self::Output, AsyncError> {
        let _ = record;
        Err(format!(
            "a record had no result after {timeout:?}; raise the timeout, or say in `timed_out` what is emitted instead"
        )
        .into())
    }

    /// Called when the input has ended and all results are emitted. Not called when the job fails or is canceled, or stopped with a savepoint:
    /// then the function is dropped.
    ///
    /// # Errors
    /// The job fails with it.
    fn close(&self) -> impl Future<Output = Result<(), AsyncError>> + Send {
        async { Ok(()) }
    }
}

/// An [`AsyncFunction`] made of a closure.
#[derive(Clone)]
pub struct FnAsync<F>(F);

impl<F> FnAsync<F> {
    /// Wraps `function`.
    pub fn new(function: F) -> Self {
        FnAsync(function)
    }
}

impl<F> fmt::Debug for FnAsync<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FnAsync")
    }
}

impl<In, F, R, O> AsyncFunction<In> for FnAsync<F>
where
    F: Fn(In) -> R + Clone + Send + Sync + 'static,
    R: Future<Output = Result<O, AsyncError>> + Send + 'static,
    O: IntoIterator<Item: 'static> + Send + 'static,
{
    type Output = O;

    fn call(&self, record: In) -> impl Future<Output = Result<O, AsyncError>> + Send {
        (self.0)(record)
    }
}

/// An [`AsyncFunction`] made of a closure that gives one result for each record.
pub struct FnAsyncOne<F, Out> {
    function: F,
    out: PhantomData<fn() -> Out>,
}

impl<F, Out> FnAsyncOne<F, Out> {
    /// Wraps `function`.
    pub fn new(function: F) -> Self {
        FnAsyncOne { function, out: PhantomData }
    }
}

impl<F: Clone, Out> Clone for FnAsyncOne<F, Out> {
    fn clone(&self) -> Self {
        FnAsyncOne::new(self.function.clone())
    }
}

impl<F, Out> fmt::Debug for FnAsyncOne<F, Out> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FnAsyncOne")
    }
}

impl<In, F, R, Out> AsyncFunction<In> for FnAsyncOne<F, Out>
where
    F: Fn(In) -> R + Clone + Send + Sync + 'static,
    R: Future<Output = Result<Out, AsyncError>> + Send + 'static,
    Out: Send + 'static,
{
    type Output = Option<Out>;

    fn call(&self, record: In) -> impl Future<Output = Result<Option<Out>, AsyncError>> + Send {
        let future = (self.function)(record);
        async { future.await.map(Some) }
    }
}
