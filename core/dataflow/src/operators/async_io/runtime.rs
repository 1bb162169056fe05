//! Where futures run.

use std::sync::{Mutex, PoisonError};
use std::thread;

use tokio::runtime::{Builder, Handle, Runtime};

use crate::failure::{FailureKind, TaskError};

/// Futures wait more than they work, and the cores belong to the tasks.
const MOST_THREADS: usize = 4;

/// The threads on which the asynchronous functions of a worker's tasks run. Started when the first of them is opened.
#[derive(Debug, Default)]
pub(crate) struct AsyncRuntime(Mutex<Option<Runtime>>);

impl AsyncRuntime {
    /// A handle to the threads, which are started unless they are there.
    pub(super) fn handle(&self) -> Result<Handle, TaskError> {
        let mut runtime = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(runtime) = &*runtime {
            return Ok(runtime.handle().clone());
        }
        let threads = thread::available_parallelism().map_or(1, |cores| cores.get().min(MOST_THREADS));
        let started =
            Builder::new_multi_thread().worker_threads(threads).thread_name("weir-async").enable_all().build();
        let started = started.map_err(|error| {
            let message = format!(
                "no threads could be started for asynchronous functions ({error}); raise the limit of threads (ulimit -u)"
            );
            TaskError::failed(FailureKind::Job, message)
        })?;
        Ok(runtime.insert(started).handle().clone())
    }
}

impl Drop for AsyncRuntime {
    fn drop(&mut self) {
        let runtime = self.0.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(runtime) = runtime {
            // An author's blocking call must not keep the worker from ending.
            runtime.shutdown_background();
        }
    }
}
