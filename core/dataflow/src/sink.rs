//! Sinks: writers that write aside in every subtask, and one committer beside the driver that makes the output visible.
//!
//! The two phases: a writer prepares (its data is complete and durable but not visible) and hands over committables; when the
//! whole job (or, with checkpoints, a whole checkpoint) is complete, the committer makes all of them visible. If the job fails
//! or is cancelled, the committer discards what was written aside.

use std::error::Error as StdError;
use std::fmt;

use crate::failure::{FailureKind, TaskError, raise};
use crate::metrics::OperatorMetrics;
use crate::operator::{Collector, Flush, Operator, OperatorContext};
use crate::snapshot::OperatorSnapshotter;
use crate::task::TaskShared;

/// Why a sink could not go on. Names the output, what was found, what was expected.
#[derive(Debug)]
pub struct SinkError(Box<dyn StdError + Send + Sync>);

impl SinkError {
    /// Wraps a message or an error.
    pub fn new(error: impl Into<Box<dyn StdError + Send + Sync>>) -> SinkError {
        SinkError(error.into())
    }
}

impl fmt::Display for SinkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl StdError for SinkError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source()
    }
}

impl From<SinkError> for TaskError {
    fn from(error: SinkError) -> TaskError {
        TaskError::failed(FailureKind::Sink, error)
    }
}

pub use weir_model::Committable;

/// What the writer of one subtask may know when it is made.
#[derive(Debug, Clone)]
pub struct WriterContext {
    /// Index of the subtask, from 0.
    pub subtask: u32,
    /// Number of subtasks.
    pub parallelism: u32,
    /// Unique to one run of the job on this machine; names of things written aside should contain it.
    pub run_id: String,
    /// Which attempt at this subtask this is, from 0. An earlier attempt that was given up may still be writing somewhere, so
    /// names of things written aside should contain this too.
    pub attempt: u32,
    /// Where the writer gets its metrics.
    pub metrics: OperatorMetrics,
}

/// What the committer may know when it is made.
#[derive(Debug, Clone)]
pub struct CommitterContext {
    /// The same as [`WriterContext::run_id`].
    pub run_id: String,
    /// Whether the job goes on from a checkpoint: what earlier runs have made visible is its output and stays, and the first
    /// [`Committer::commit`], which comes before anything is written, says what of theirs is still to be made visible. Whatever else they
    /// wrote aside may be removed after that, and not before.
    pub restored: bool,
}

/// A sink of records: makes writers and, if its output must become visible all at once, a committer.
pub trait Sink<T>: Clone + Send + 'static {
    /// Writes the records of one subtask.
    type Writer: SinkWriter<T>;

    /// The name shown in plans, e.g. `Sink: print`.
    fn name(&self) -> String;

    /// Makes the writer of one subtask. Called on the subtask's thread.
    fn create_writer(&self, context: &WriterContext) -> Result<Self::Writer, SinkError>;

    /// Makes the committer; called on the driver's side before any task starts, so this is the place to refuse an output
    /// that cannot be written. When the process with a run's committers was lost, the next one makes committers with that run's id
    /// only to commit what is to be restored, if there is anything, and to call [`Committer::abort`], before it makes its own.
    fn create_committer(&self, context: &CommitterContext) -> Result<Option<Box<dyn Committer>>, SinkError> {
        let _ = context;
        Ok(None)
    }
}

/// Writes the records of one subtask.
pub trait SinkWriter<T>: Send + 'static {
    /// Writes one record.
    fn write(&mut self, record: T) -> Result<(), SinkError>;

    /// Lets buffered output reach its destination; called when the task has nothing to read or the buffer timeout passed.
    fn flush(&mut self) -> Result<(), SinkError> {
        Ok(())
    }

    /// First phase: makes everything written so far complete and durable, still invisible, and says what to commit.
    /// Called for each checkpoint and at the end of the input. What is written afterwards belongs to the next call.
    fn prepare_commit(&mut self) -> Result<Vec<Vec<u8>>, SinkError>;
}

/// The driver's side of a sink.
pub trait Committer: Send {
    /// Second phase: makes this output visible, and leaves what is visible already as it is. Called when a checkpoint is complete, in
    /// their order, and at the end of the job with what came since; a job without checkpoints has only this one. May be called again
    /// with the same committables after a failure, also of a committer of a later run: checkpoints keep them until they are known to
    /// be visible, and a job that is restored from one begins with them.
    fn commit(&mut self, committables: Vec<Vec<u8>>) -> Result<(), SinkError>;

    /// Discards everything that was written aside and not committed, because the job ends without it. What belongs to a complete checkpoint
    /// has been committed before. If that was not possible, this is not called, and what was written aside must stay.
    fn abort(&mut self);
}

/// A sink's driver side with types erased.
#[doc(hidden)]
pub trait ErasedSink: Send {
    /// See [`Sink::create_committer`].
    fn create_committer(&self, context: &CommitterContext) -> Result<Option<Box<dyn Committer>>, SinkError>;
}

/// Erases a sink's types for the driver.
#[doc(hidden)]
pub struct DriverSink<T, S>(pub S, pub std::marker::PhantomData<fn(T)>);

impl<T: 'static, S: Sink<T>> ErasedSink for DriverSink<T, S> {
    fn create_committer(&self, context: &CommitterContext) -> Result<Option<Box<dyn Committer>>, SinkError> {
        self.0.create_committer(context)
    }
}

/// The operator a sink becomes.
#[doc(hidden)]
pub struct SinkOperator<T, S: Sink<T>> {
    sink: S,
    open: Option<OpenWriter<S::Writer>>,
    written: u64,
}

struct OpenWriter<W> {
    writer: W,
    task: std::sync::Arc<TaskShared>,
    node: u32,
}

impl<T: 'static, S: Sink<T>> SinkOperator<T, S> {
    /// The operator of `sink`.
    pub fn new(sink: S) -> Self {
        SinkOperator { sink, open: None, written: 0 }
    }
}

impl<T: 'static, S: Sink<T>> Clone for SinkOperator<T, S> {
    fn clone(&self) -> Self {
        SinkOperator::new(self.sink.clone())
    }
}

impl<T, S: Sink<T>> SinkOperator<T, S> {
    fn with_writer<R>(&mut self, f: impl FnOnce(&mut OpenWriter<S::Writer>) -> Result<R, SinkError>) -> R {
        let open = self.open.as_mut().expect("a sink is opened before its first record");
        open.task.metrics().add_records_out(std::mem::take(&mut self.written));
        f(open).unwrap_or_else(|error| raise(error.into()))
    }
}

impl<T: 'static, S: Sink<T>> Operator<T> for SinkOperator<T, S> {
    type Out = ();

    fn open(&mut self, context: &OperatorContext<'_>) -> Result<(), TaskError> {
        let task = context.task;
        let writer = self.sink.create_writer(&WriterContext {
            subtask: task.subtask(),
            parallelism: task.parallelism(),
            run_id: task.run_id().to_owned(),
            attempt: task.attempt(),
            metrics: context.metrics(),
        })?;
        self.open = Some(OpenWriter { writer, task: task.shared().clone(), node: context.node });
        Ok(())
    }

    #[inline(always)]
    fn process<C: Collector<()>>(&mut self, record: T, _out: &mut C) {
        self.written += 1;
        let open = self.open.as_mut().expect("a sink is opened before its first record");
        if let Err(error) = open.writer.write(record) {
            raise(error.into());
        }
    }

    fn flush<C: Collector<()>>(&mut self, _why: Flush, _out: &mut C) {
        self.with_writer(|open| open.writer.flush());
    }

    fn snapshot(&mut self, _snapshot: &mut OperatorSnapshotter<'_>) {
        self.prepare();
    }

    fn end<C: Collector<()>>(&mut self, _out: &mut C) {
        self.prepare();
    }
}

impl<T, S: Sink<T>> SinkOperator<T, S> {
    /// The first phase; what it prepares goes with the task's next report.
    fn prepare(&mut self) {
        self.with_writer(|open| {
            let node = open.node;
            let payloads = open.writer.prepare_commit()?;
            open.task.add_committables(payloads.into_iter().map(|payload| Committable { node, payload }));
            Ok(())
        });
    }
}
