//! The result of background work, for whoever waits for it.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use crate::LsmError;

type Outcome<T> = Result<T, LsmError>;

struct Shared<T> {
    outcome: Mutex<Option<Outcome<T>>>,
    ready: Condvar,
}

impl<T> Shared<T> {
    fn lock(&self) -> MutexGuard<'_, Option<Outcome<T>>> {
        // The value is set in one step, so a panic elsewhere cannot have left it half done.
        self.outcome.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A claim to a result.
pub(crate) struct Ticket<T>(Arc<Shared<T>>);

impl<T> Clone for Ticket<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T: Clone> Ticket<T> {
    /// The result, if there is one yet.
    pub(crate) fn poll(&self) -> Option<Outcome<T>> {
        self.0.lock().clone()
    }

    /// Waits for the result.
    pub(crate) fn wait(&self) -> Outcome<T> {
        let mut outcome = self.0.lock();
        loop {
            if let Some(outcome) = &*outcome {
                return outcome.clone();
            }
            outcome = self.0.ready.wait(outcome).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// The duty to deliver a result. Dropped before, it delivers that the work was abandoned, so that nobody waits for ever.
pub(crate) struct Duty<T> {
    shared: Arc<Shared<T>>,
    finished: Arc<AtomicU64>,
    folder: PathBuf,
}

impl<T> Duty<T> {
    /// Work for the store in `folder`, whose count of finished pieces of work is `finished`.
    pub(crate) fn new(finished: Arc<AtomicU64>, folder: PathBuf) -> (Self, Ticket<T>) {
        let shared = Arc::new(Shared { outcome: Mutex::new(None), ready: Condvar::new() });
        (Self { shared: shared.clone(), finished, folder }, Ticket(shared))
    }

    /// Whether somebody still holds a claim.
    pub(crate) fn is_awaited(&self) -> bool {
        Arc::strong_count(&self.shared) > 1
    }

    pub(crate) fn deliver(self, outcome: Outcome<T>) {
        self.set(outcome);
    }

    fn set(&self, outcome: Outcome<T>) {
        let mut place = self.shared.lock();
        if place.is_none() {
            *place = Some(outcome);
            self.finished.fetch_add(1, Ordering::Release);
            self.shared.ready.notify_all();
        }
    }
}

impl<T> Drop for Duty<T> {
    fn drop(&mut self) {
        self.set(Err(LsmError::Abandoned { path: self.folder.clone() }));
    }
}
