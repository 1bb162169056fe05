//! [`CollectSink`]: keeps what arrives for a test to look at.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use weir_dataflow::sink::{Sink, SinkError, SinkWriter, WriterContext};

/// Records a subtask gathers before it takes the lock.
const BUFFERED: usize = 1024;

/// A sink that keeps every record in memory, for tests.
///
/// Works only when the job runs inside the process that holds the handle: with several worker processes, their
/// records are kept in them and the handle sees none of theirs.
///
/// ```
/// use weir::prelude::*;
///
/// let (sink, results) = CollectSink::new();
/// weir::run::in_process("count", |env| {
///     env.from_collection([1u64, 2, 3]).sink(sink);
///     Ok(())
/// })?;
/// assert_eq!(results.take_sorted(), [1, 2, 3]);
/// # Ok::<(), weir::Error>(())
/// ```
pub struct CollectSink<T> {
    collected: Arc<Mutex<Vec<T>>>,
}

/// Sees what a [`CollectSink`] collected.
pub struct Collected<T> {
    collected: Arc<Mutex<Vec<T>>>,
}

impl<T> CollectSink<T> {
    /// A sink and the handle to read it with.
    #[allow(clippy::new_ret_no_self, reason = "one without the other is of no use")]
    pub fn new() -> (CollectSink<T>, Collected<T>) {
        let collected = Arc::default();
        (CollectSink { collected: Arc::clone(&collected) }, Collected { collected })
    }
}

impl<T> Collected<T> {
    /// Takes everything collected so far: in order within a subtask, in no particular order between subtasks.
    pub fn take(&self) -> Vec<T> {
        std::mem::take(&mut *lock(&self.collected))
    }

    /// Number of records there are to take.
    pub fn len(&self) -> usize {
        lock(&self.collected).len()
    }

    /// Whether there is nothing to take.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl<T: Ord> Collected<T> {
    /// Takes everything collected so far, sorted.
    pub fn take_sorted(&self) -> Vec<T> {
        let mut records = self.take();
        records.sort();
        records
    }
}

/// A job that panicked while it held the lock has left a valid, if shorter, collection.
fn lock<T>(collected: &Mutex<Vec<T>>) -> MutexGuard<'_, Vec<T>> {
    collected.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<T> Clone for CollectSink<T> {
    fn clone(&self) -> Self {
        CollectSink { collected: Arc::clone(&self.collected) }
    }
}

impl<T> Clone for Collected<T> {
    fn clone(&self) -> Self {
        Collected { collected: Arc::clone(&self.collected) }
    }
}

impl<T> fmt::Debug for CollectSink<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CollectSink({} records)", lock(&self.collected).len())
    }
}

impl<T> fmt::Debug for Collected<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Collected({} records)", self.len())
    }
}

impl<T: Send + 'static> Sink<T> for CollectSink<T> {
    type Writer = CollectWriter<T>;

    fn name(&self) -> String {
        "Sink: collect".to_owned()
    }

    fn create_writer(&self, _context: &WriterContext) -> Result<CollectWriter<T>, SinkError> {
        Ok(CollectWriter { buffer: Vec::new(), collected: Arc::clone(&self.collected) })
    }
}

/// Keeps the records of a subtask.
pub struct CollectWriter<T> {
    buffer: Vec<T>,
    collected: Arc<Mutex<Vec<T>>>,
}

impl<T> fmt::Debug for CollectWriter<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CollectWriter({} buffered)", self.buffer.len())
    }
}

impl<T: Send + 'static> SinkWriter<T> for CollectWriter<T> {
    fn write(&mut self, record: T) -> Result<(), SinkError> {
        self.buffer.push(record);
        if self.buffer.len() >= BUFFERED { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<(), SinkError> {
        lock(&self.collected).append(&mut self.buffer);
        Ok(())
    }

    fn prepare_commit(&mut self) -> Result<Vec<Vec<u8>>, SinkError> {
        self.flush()?;
        Ok(Vec::new())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_handle_sees_what_all_writers_flushed() {
        let (sink, results) = CollectSink::new();
        let context = |subtask| WriterContext {
            subtask,
            parallelism: 2,
            run_id: "r".to_owned(),
            attempt: 0,
            metrics: weir_dataflow::metrics::OperatorMetrics::detached(),
        };
        let mut writers = [0, 1].map(|subtask| sink.clone().create_writer(&context(subtask)).unwrap());
        for n in 0..3000 {
            writers[n % 2].write(n).unwrap();
        }
        for writer in &mut writers {
            assert!(writer.prepare_commit().unwrap().is_empty());
        }
        assert_eq!(results.len(), 3000);
        assert!(results.take_sorted().into_iter().eq(0..3000));
        assert!(results.is_empty());
    }
}
