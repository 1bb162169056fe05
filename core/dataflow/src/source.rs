//! Sources: an enumerator that finds splits of the input and hands them out, and readers that read them.
//!
//! One enumerator runs beside the job's driver (the coordinator process in a cluster); one reader runs in each subtask. A
//! reader that has nothing left asks for the next split, so fast subtasks read more of them. Splits carry their own
//! position: storing the splits of a reader and giving them to another one continues where the first stood.

use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::failure::{FailureKind, TaskError};
use crate::metrics::OperatorMetrics;
use crate::operator::Collector;
use crate::record::{Decoder, Record};
use crate::task::TaskShared;

/// Why a source could not go on. Names the input, what was found, what was expected.
#[derive(Debug)]
pub struct SourceError(Box<dyn StdError + Send + Sync>);

impl SourceError {
    /// Wraps a message or an error.
    pub fn new(error: impl Into<Box<dyn StdError + Send + Sync>>) -> SourceError {
        SourceError(error.into())
    }
}

impl fmt::Display for SourceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl StdError for SourceError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source()
    }
}

impl From<SourceError> for TaskError {
    fn from(error: SourceError) -> TaskError {
        TaskError::failed(FailureKind::Source, error)
    }
}

/// Whether a source ends by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Boundedness {
    /// It ends.
    Bounded,
    /// It goes on until the job is stopped.
    Unbounded,
}

/// A source of records: makes the enumerator and the readers.
pub trait Source: Clone + Send + 'static {
    /// The records it produces.
    type Item: Send + 'static;
    /// A part of the input with a position in it. Travels from the enumerator to readers and into checkpoints.
    type Split: Record;
    /// Finds splits.
    type Enumerator: SplitEnumerator<Split = Self::Split>;
    /// Reads splits.
    type Reader: SourceReader<Item = Self::Item, Split = Self::Split>;

    /// Whether the input ends.
    fn boundedness(&self) -> Boundedness;

    /// The name shown in plans, e.g. `Source: text /data/in`.
    fn name(&self) -> String;

    /// Looks at the input and makes the enumerator. Called once per job, on the driver's side, before any reader starts:
    /// a missing or unreadable input should fail here, with a message that names it.
    fn create_enumerator(&self, context: &EnumeratorContext) -> Result<Self::Enumerator, SourceError>;

    /// Makes the reader of one subtask. Called on the subtask's thread.
    fn create_reader(&self, context: &ReaderContext) -> Result<Self::Reader, SourceError>;
}

/// What an enumerator may know when it is made.
#[derive(Debug, Clone)]
pub struct EnumeratorContext {
    /// Number of readers.
    pub parallelism: u32,
    /// State written by [`SplitEnumerator::snapshot`] when the job is restored.
    pub restored: Option<Vec<u8>>,
}

/// What a reader may know when it is made.
#[derive(Debug, Clone)]
pub struct ReaderContext {
    /// Index of the subtask, from 0.
    pub subtask: u32,
    /// Number of subtasks.
    pub parallelism: u32,
    /// Wakes the task, from any thread, when a reader that answered [`ReaderStatus::Wait`] has something to read.
    pub waker: ReaderWaker,
    /// Where the reader gets its metrics.
    pub metrics: OperatorMetrics,
}

/// Wakes a waiting reader's task from any thread.
#[derive(Debug, Clone)]
pub struct ReaderWaker(Arc<TaskShared>);

impl ReaderWaker {
    pub(crate) fn new(task: Arc<TaskShared>) -> ReaderWaker {
        ReaderWaker(task)
    }

    /// A waker of no task, for tests of a reader.
    pub fn detached() -> ReaderWaker {
        ReaderWaker(TaskShared::new(crate::task::TaskId { vertex: 0, subtask: 0 }))
    }

    /// Makes the task poll its reader again soon.
    pub fn wake(&self) {
        self.0.wake();
    }

    /// Whether the task was asked to stop; background threads of a reader should end then.
    pub fn is_canceled(&self) -> bool {
        self.0.is_canceled()
    }
}

/// The enumerator's answer to a reader that wants a split.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NextSplit<S> {
    /// Read this.
    Split(S),
    /// Nothing now; ask again after this time.
    NotYet(Duration),
    /// There will be nothing more.
    Finished,
}

/// Finds the splits of an input and hands each out once.
pub trait SplitEnumerator: Send + 'static {
    /// A part of the input.
    type Split: Record;

    /// The next split for the reader of `subtask`.
    fn next_split(&mut self, subtask: u32) -> Result<NextSplit<Self::Split>, SourceError>;

    /// Takes back splits of a reader that failed; they are handed out again, with the position they carry.
    fn add_back(&mut self, splits: Vec<Self::Split>);

    /// The enumerator's state: given back in [`EnumeratorContext::restored`].
    fn snapshot(&self) -> Result<Vec<u8>, SourceError>;
}

/// What a reader says after a poll.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReaderStatus {
    /// There may be more to read at once.
    More,
    /// Nothing now: poll again after this time or when woken, whichever is first.
    Wait(Option<Duration>),
    /// Everything assigned is read; give it another split.
    NeedSplit,
}

/// Reads splits in one subtask.
pub trait SourceReader: 'static {
    /// The records it produces.
    type Item;
    /// A part of the input.
    type Split: Record;

    /// Takes a split to read, from the position it carries. It may have others: after a restore it gets all splits that are its own before
    /// it is polled, which may be those of several readers before. Unless it reads them side by side, it reads them in the order in which it
    /// got them, and names all of them to the collector ([`Collector::enter_split`]) when it is polled the next time.
    fn add_split(&mut self, split: Self::Split) -> Result<(), SourceError>;

    /// Emits some records, about a few thousand or what is there, without waiting.
    fn poll<C: Collector<Self::Item>>(&mut self, out: &mut C) -> Result<ReaderStatus, SourceError>;

    /// The unread rest of every split it holds, as of the last record emitted.
    fn snapshot(&self) -> Vec<Self::Split>;

    /// A checkpoint that holds a snapshot of this reader is complete.
    fn checkpoint_completed(&mut self, checkpoint: u64) {
        let _ = checkpoint;
    }

    /// These splits, by the numbers they have at [`Collector::enter_split`], are too far ahead of others in event time: they are not to be
    /// read until this is called without them. A reader that reads one split after the other has nothing to pause.
    fn pause_splits(&mut self, ahead: &[u64]) {
        let _ = ahead;
    }

    /// A watermark or change of idleness to send behind what was emitted; asked for after each poll until there is none.
    #[inline]
    fn time(&mut self) -> Option<crate::element::Control> {
        None
    }
}

/// The answer to a split request as it reaches a task: the split encoded as a [`Record`].
#[doc(hidden)]
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SplitAnswer {
    /// An encoded split, a time to wait, or the end.
    Next(NextSplit<Vec<u8>>),
    /// The enumerator failed; the message names the input.
    Failed(String),
}

/// An enumerator with its split type erased; splits are encoded.
#[doc(hidden)]
pub trait ErasedEnumerator: Send {
    /// See [`SplitEnumerator::next_split`].
    fn next_split(&mut self, subtask: u32) -> SplitAnswer;
    /// See [`SplitEnumerator::add_back`].
    fn add_back(&mut self, splits: &[Vec<u8>]) -> Result<(), SourceError>;
    /// See [`SplitEnumerator::snapshot`].
    fn snapshot(&self) -> Result<Vec<u8>, SourceError>;
}

/// A source's driver side with types erased.
#[doc(hidden)]
pub trait ErasedSource: Send {
    /// See [`Source::create_enumerator`].
    fn create_enumerator(&self, context: &EnumeratorContext) -> Result<Box<dyn ErasedEnumerator>, SourceError>;
}

/// Erases a source's types for the driver.
#[doc(hidden)]
#[derive(Debug)]
pub struct DriverSource<S>(pub S);

struct Enumerating<E>(E);

impl<S: Source> ErasedSource for DriverSource<S> {
    fn create_enumerator(&self, context: &EnumeratorContext) -> Result<Box<dyn ErasedEnumerator>, SourceError> {
        Ok(Box::new(Enumerating(self.0.create_enumerator(context)?)))
    }
}

impl<E: SplitEnumerator> ErasedEnumerator for Enumerating<E> {
    fn next_split(&mut self, subtask: u32) -> SplitAnswer {
        match self.0.next_split(subtask) {
            Ok(NextSplit::Split(split)) => {
                let mut bytes = Vec::with_capacity(split.encoded_len());
                split.encode(&mut bytes);
                SplitAnswer::Next(NextSplit::Split(bytes))
            }
            Ok(NextSplit::NotYet(wait)) => SplitAnswer::Next(NextSplit::NotYet(wait)),
            Ok(NextSplit::Finished) => SplitAnswer::Next(NextSplit::Finished),
            Err(error) => SplitAnswer::Failed(error.to_string()),
        }
    }

    fn add_back(&mut self, splits: &[Vec<u8>]) -> Result<(), SourceError> {
        let decoded: Result<Vec<_>, _> =
            splits.iter().map(|bytes| E::Split::decode(&mut Decoder::new(bytes))).collect();
        let undecodable = |error| SourceError::new(format!("a split that was handed out cannot be decoded: {error}"));
        self.0.add_back(decoded.map_err(undecodable)?);
        Ok(())
    }

    fn snapshot(&self) -> Result<Vec<u8>, SourceError> {
        self.0.snapshot()
    }
}

/// Decodes a split that came from [`ErasedEnumerator::next_split`].
pub(crate) fn decode_split<S: Record>(bytes: &[u8]) -> Result<S, TaskError> {
    S::decode(&mut Decoder::new(bytes)).map_err(|e| {
        TaskError::failed(FailureKind::Source, format!("a split from the enumerator cannot be decoded: {e}"))
    })
}
