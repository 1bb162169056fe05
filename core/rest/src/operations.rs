//! Work that outlasts the request that began it: it has an id, by which others ask what has become of it.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use weir_model::JobId;

use crate::GatewayError;

/// How many may be remembered. Beyond, none is begun until some are forgotten.
const MOST: usize = 10_000;
/// How long it is remembered what came of one: Flink's `rest.async.store-duration`.
const KEPT: Duration = Duration::from_secs(300);

/// What an operation is about; ids are unique within that.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Scope {
    /// A checkpoint of a job.
    Checkpoint(JobId),
    /// A savepoint of a job, also one with which it stops.
    Savepoint(JobId),
    /// The removal of a savepoint.
    Disposal,
}

/// What has come of an operation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// A checkpoint with this number.
    Checkpoint(u64),
    /// A savepoint in this folder.
    Savepoint(String),
    /// Nothing to tell.
    Done,
}

/// An operation as those see it who ask.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Progress {
    /// Under way.
    InProgress,
    /// At its end.
    Completed(Result<Outcome, GatewayError>),
}

type Id = [u8; 16];

/// How far each has come, and when it ended.
type Known = BTreeMap<(Scope, Id), (Progress, Option<Instant>)>;

/// All operations that are under way or ended lately.
#[derive(Debug, Default, Clone)]
pub(crate) struct Operations(Arc<Mutex<Known>>);

impl Operations {
    /// Begins one, unless one of this id has begun already. False: there are too many.
    pub(crate) fn begin(
        &self,
        scope: Scope,
        id: Id,
        work: impl Future<Output = Result<Outcome, GatewayError>> + Send + 'static,
    ) -> bool {
        let mut operations = self.lock();
        forget(&mut operations);
        let full = operations.len() >= MOST;
        match operations.entry((scope, id)) {
            Entry::Occupied(_) => return true,
            Entry::Vacant(_) if full => return false,
            Entry::Vacant(entry) => entry.insert((Progress::InProgress, None)),
        };
        let all = self.clone();
        tokio::spawn(async move {
            // A task of its own, so that a panic in it is an outcome as well.
            let result = tokio::spawn(work).await;
            let result = result.unwrap_or_else(|error| {
                tracing::error!(%error, "an operation panicked");
                Err(GatewayError::Internal(error.to_string()))
            });
            all.lock().insert((scope, id), (Progress::Completed(result), Some(Instant::now())));
        });
        true
    }

    /// How far one has come; `None` if there is none of this id, or it ended too long ago.
    pub(crate) fn progress(&self, scope: Scope, id: Id) -> Option<Progress> {
        let mut operations = self.lock();
        forget(&mut operations);
        operations.get(&(scope, id)).map(|(progress, _)| progress.clone())
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn forget(operations: &mut Known) {
    operations.retain(|_, (_, ended)| ended.is_none_or(|ended| ended.elapsed() < KEPT));
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_has_ended_is_forgotten_after_a_while_and_what_has_not_stays() {
        let operations = Operations::default();
        let (finish, finished) = oneshot::channel::<()>();
        let scope = Scope::Disposal;
        assert!(operations.begin(scope, [1; 16], async { Ok(Outcome::Checkpoint(7)) }));
        assert!(operations.begin(scope, [2; 16], async {
            let _ = finished.await;
            Ok(Outcome::Done)
        }));
        tokio::time::sleep(KEPT / 2).await;
        assert_eq!(operations.progress(scope, [1; 16]), Some(Progress::Completed(Ok(Outcome::Checkpoint(7)))));
        tokio::time::sleep(KEPT).await;
        assert_eq!(operations.progress(scope, [1; 16]), None);
        assert_eq!(operations.progress(scope, [2; 16]), Some(Progress::InProgress));
        finish.send(()).unwrap();
        tokio::time::sleep(KEPT / 2).await;
        assert_eq!(operations.progress(scope, [2; 16]), Some(Progress::Completed(Ok(Outcome::Done))));
        assert_eq!(operations.progress(Scope::Checkpoint(JobId::from_bytes([2; 16])), [2; 16]), None);
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_panics_has_failed() {
        let operations = Operations::default();
        operations.begin(Scope::Disposal, [1; 16], async { panic!("a fault for the test") });
        tokio::time::sleep(Duration::from_secs(1)).await;
        let progress = operations.progress(Scope::Disposal, [1; 16]);
        assert!(matches!(progress, Some(Progress::Completed(Err(GatewayError::Internal(_))))), "{progress:?}");
    }
}
