//! What has been answered, on its way from the futures' threads to the task's.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::failure::TaskError;
use crate::task::TaskShared;

/// The number of a request, and what became of it.
pub(super) type Answer<T> = (u64, Result<T, TaskError>);

/// Answers that the task has not taken yet.
#[derive(Debug)]
pub(super) struct Answers<T> {
    task: Arc<TaskShared>,
    some: AtomicBool,
    arrived: Mutex<Vec<Answer<T>>>,
}

impl<T> Answers<T> {
    pub(super) fn new(task: Arc<TaskShared>) -> Arc<Answers<T>> {
        Arc::new(Answers { task, some: AtomicBool::new(false), arrived: Mutex::default() })
    }

    /// Adds an answer. The task is woken for the first of those that it finds together. Any thread.
    pub(super) fn add(&self, number: u64, answer: Result<T, TaskError>) {
        let mut arrived = self.arrived.lock().unwrap_or_else(PoisonError::into_inner);
        let first = arrived.is_empty();
        arrived.push((number, answer));
        self.some.store(true, Ordering::Release);
        drop(arrived);
        if first {
            self.task.wake();
        }
    }

    /// Exchanges what has arrived for `taken`, which is empty; costs a load when there is nothing. Task thread only.
    pub(super) fn take(&self, taken: &mut Vec<Answer<T>>) {
        if !self.some.load(Ordering::Acquire) {
            return;
        }
        let mut arrived = self.arrived.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::swap(&mut *arrived, taken);
        self.some.store(false, Ordering::Release);
    }
}
