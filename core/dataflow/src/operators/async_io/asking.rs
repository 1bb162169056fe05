//! One request: its tries, its time limit, its panics.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use tokio::time;

use super::answers::Answers;
use super::function::{AsyncError, AsyncFunction};
use super::options::AsyncOptions;
use crate::failure::{self, FailureKind, TaskError};

/// Asks for the results of `record`, and hands them over.
pub(super) async fn ask<In, F>(
    function: Arc<F>,
    options: Arc<AsyncOptions>,
    record: In,
    answers: Arc<Answers<F::Output>>,
    number: u64,
) where
    In: Clone + Send,
    F: AsyncFunction<In>,
{
    let answer = catch(within_time(&*function, &options, record)).await;
    answers.add(number, answer.and_then(|result| result.map_err(failed)));
}

/// Runs a future so that its panic is reported, with message and place, by the task it works for.
pub(super) async fn catch<R>(future: impl Future<Output = R>) -> Result<R, TaskError> {
    let mut future = pin!(future);
    // Every poll by itself: the next one may be on another thread.
    poll_fn(|context| match failure::catch(|| Ok(future.as_mut().poll(context)), |_| String::new()) {
        Ok(poll) => poll.map(Ok),
        Err(error) => Poll::Ready(Err(error)),
    })
    .await
}

/// How an author's error fails the task.
pub(super) fn failed(error: AsyncError) -> TaskError {
    TaskError::failed(FailureKind::Job, error)
}

async fn within_time<In, F>(function: &F, options: &AsyncOptions, record: In) -> Result<F::Output, AsyncError>
where
    In: Clone + Send,
    F: AsyncFunction<In>,
{
    let Some(limit) = options.timeout else { return tries(function, options, record).await };
    let spare = record.clone();
    match time::timeout(limit, tries(function, options, record)).await {
        Ok(answer) => answer,
        Err(_) => function.timed_out(spare, limit),
    }
}

async fn tries<In, F>(function: &F, options: &AsyncOptions, record: In) -> Result<F::Output, AsyncError>
where
    In: Clone + Send,
    F: AsyncFunction<In>,
{
    let Some(strategy) = &options.retry else { return function.call(record).await };
    for retry in 0..strategy.retries() {
        match function.call(record.clone()).await {
            Ok(output) if !function.retries(&output) => return Ok(output),
            Err(error) if !strategy.accepts(&error) => return Err(error),
            Ok(_) | Err(_) => {}
        }
        time::sleep(strategy.delay(retry)).await;
    }
    let last = function.call(record).await;
    last.map_err(|error| format!("{error} (tried {} times)", u64::from(strategy.retries()) + 1).into())
}
