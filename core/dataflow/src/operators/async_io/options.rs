//! How an asynchronous function is called.

use std::fmt;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use super::function::AsyncError;

/// In which order results go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    /// In that of their records.
    Input,
    /// As they come.
    Completion,
}

/// How an asynchronous function is called: in which order its results go on, how many requests are in flight at once, how long each may
/// take, whether it is tried again.
#[derive(Debug, Clone)]
pub struct AsyncOptions {
    pub(super) order: Order,
    pub(super) capacity: NonZeroUsize,
    pub(super) timeout: Option<Duration>,
    pub(super) retry: Option<RetryStrategy>,
}

impl AsyncOptions {
    /// Requests in flight unless it is said otherwise.
    const CAPACITY: NonZeroUsize = NonZeroUsize::new(100).expect("not zero");

    fn new(order: Order) -> AsyncOptions {
        AsyncOptions { order, capacity: Self::CAPACITY, timeout: None, retry: None }
    }

    /// Results go on in the order of their records; one that takes long keeps those behind it.
    pub fn ordered() -> AsyncOptions {
        AsyncOptions::new(Order::Input)
    }

    /// Results go on as they come, but never past a watermark that was before or behind their record.
    pub fn unordered() -> AsyncOptions {
        AsyncOptions::new(Order::Completion)
    }

    /// At most so many records of a subtask whose results have not gone on; 100 unless set. With so many the subtask takes no more in, and
    /// its producers have to wait.
    ///
    /// # Panics
    /// If it is 0: nothing could ever be asked for.
    pub fn capacity(mut self, records: usize) -> AsyncOptions {
        self.capacity =
            NonZeroUsize::new(records).expect("an asynchronous function needs a capacity of 1 or more records");
        self
    }

    /// How long a record may take, tries and the pauses between them included. Then
    /// [`AsyncFunction::timed_out`](super::AsyncFunction::timed_out) has its say, which fails the job unless the function says otherwise.
    /// Without it there is no limit.
    pub fn timeout(mut self, timeout: Duration) -> AsyncOptions {
        self.timeout = Some(timeout);
        self
    }

    /// Asks again for what has failed.
    pub fn retry(mut self, strategy: RetryStrategy) -> AsyncOptions {
        self.retry = Some(strategy);
        self
    }
}

type Accepts = dyn Fn(&AsyncError) -> bool + Send + Sync;

/// Which requests are tried again, how often, and with what pauses.
#[derive(Clone)]
pub struct RetryStrategy {
    retries: u32,
    first: Duration,
    factor: f64,
    longest: Duration,
    accepts: Option<Arc<Accepts>>,
}

impl fmt::Debug for RetryStrategy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let RetryStrategy { retries, first, factor, longest, accepts } = self;
        let which = if accepts.is_some() { "some errors" } else { "any error" };
        write!(f, "up to {retries} retries of {which}, after {first:?}, times {factor} up to {longest:?}")
    }
}

impl RetryStrategy {
    /// Up to `retries` more tries, each `delay` after the one before has failed.
    pub fn fixed_delay(retries: u32, delay: Duration) -> RetryStrategy {
        RetryStrategy { retries, first: delay, factor: 1.0, longest: delay, accepts: None }
    }

    /// Up to `retries` more tries, the first after `delay`, and each after `factor` times the pause of the one before, but after `longest`
    /// at the latest.
    ///
    /// # Panics
    /// If `factor` is less than 1 or not finite: pauses would become shorter.
    pub fn exponential(retries: u32, delay: Duration, factor: f64, longest: Duration) -> RetryStrategy {
        assert!(
            factor.is_finite() && factor >= 1.0,
            "pauses between tries cannot be multiplied by {factor}; use a factor of 1 or more"
        );
        RetryStrategy { retries, first: delay, factor, longest, accepts: None }
    }

    /// Only tries again after errors that `accepts` says true for; others fail the job at once.
    pub fn when(mut self, accepts: impl Fn(&AsyncError) -> bool + Send + Sync + 'static) -> RetryStrategy {
        self.accepts = Some(Arc::new(accepts));
        self
    }

    /// Tries behind the first one.
    pub(super) fn retries(&self) -> u32 {
        self.retries
    }

    pub(super) fn accepts(&self, error: &AsyncError) -> bool {
        self.accepts.as_ref().is_none_or(|accepts| accepts(error))
    }

    /// The pause before the retry of this number, from 0.
    pub(super) fn delay(&self, retry: u32) -> Duration {
        let seconds = self.first.as_secs_f64() * self.factor.powi(retry.min(i32::MAX as u32) as i32);
        let longest = self.longest.as_secs_f64();
        // Not by `min` alone: the product may have become infinite.
        if seconds < longest { Duration::from_secs_f64(seconds) } else { self.longest }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn pauses_between_tries_stay_or_grow_to_their_limit() {
        let delays = |strategy: RetryStrategy| [0, 1, 2, 3, u32::MAX].map(|retry| strategy.delay(retry).as_secs());
        assert_eq!(delays(RetryStrategy::fixed_delay(9, SECOND)), [1; 5]);
        assert_eq!(delays(RetryStrategy::exponential(9, SECOND, 2.0, 5 * SECOND)), [1, 2, 4, 5, 5]);
        assert_eq!(delays(RetryStrategy::exponential(9, Duration::ZERO, 2.0, SECOND)), [0, 0, 0, 0, 1]);
    }

    #[test]
    #[should_panic(expected = "a capacity of 1 or more")]
    fn no_capacity_at_all_is_refused() {
        let _ = AsyncOptions::ordered().capacity(0);
    }

    #[test]
    #[should_panic(expected = "cannot be multiplied by 0.5")]
    fn pauses_that_shrink_are_refused() {
        let _ = RetryStrategy::exponential(3, SECOND, 0.5, SECOND);
    }
}
