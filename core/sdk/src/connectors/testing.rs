//! Runs enumerators and readers in tests without a task around them.

use weir_dataflow::metrics::OperatorMetrics;
use weir_dataflow::operator::Collector;
use weir_dataflow::source::{
    EnumeratorContext, NextSplit, ReaderContext, ReaderStatus, ReaderWaker, SourceError, SourceReader, SplitEnumerator,
};

/// Keeps what it is given.
#[derive(Debug)]
pub(super) struct Got<T>(pub(super) Vec<T>);

impl<T> Default for Got<T> {
    fn default() -> Self {
        Got(Vec::new())
    }
}

impl<T> Collector<T> for Got<T> {
    fn push(&mut self, record: T) {
        self.0.push(record);
    }
}

pub(super) fn context(parallelism: u32) -> EnumeratorContext {
    EnumeratorContext { parallelism, restored: None }
}

pub(super) fn reader_context() -> ReaderContext {
    ReaderContext { subtask: 0, parallelism: 1, waker: ReaderWaker::detached(), metrics: OperatorMetrics::detached() }
}

/// Lets the readers take turns until nothing is left; returns what each emitted.
pub(super) fn drain<E, R>(enumerator: &mut E, readers: Vec<R>) -> Vec<Vec<R::Item>>
where
    E: SplitEnumerator,
    R: SourceReader<Split = E::Split>,
{
    try_drain(enumerator, readers).unwrap()
}

pub(super) fn try_drain<E, R>(enumerator: &mut E, readers: Vec<R>) -> Result<Vec<Vec<R::Item>>, SourceError>
where
    E: SplitEnumerator,
    R: SourceReader<Split = E::Split>,
{
    let mut readers: Vec<_> = readers.into_iter().map(|reader| (reader, Got::default(), false)).collect();
    while readers.iter().any(|(_, _, done)| !done) {
        for (index, (reader, got, done)) in readers.iter_mut().enumerate().filter(|(_, (_, _, done))| !done) {
            match reader.poll(got)? {
                ReaderStatus::More => {}
                ReaderStatus::Wait(timeout) => std::thread::sleep(timeout.unwrap_or_default()),
                ReaderStatus::NeedSplit => match enumerator.next_split(index as u32)? {
                    NextSplit::Split(split) => reader.add_split(split)?,
                    NextSplit::NotYet(wait) => std::thread::sleep(wait),
                    NextSplit::Finished => *done = true,
                },
            }
        }
    }
    Ok(readers.into_iter().map(|(_, got, _)| got.0).collect())
}

/// Checks that wherever enumerator and reader are, a new enumerator and a new reader that begin with their state emit exactly the rest.
/// `poll` should emit little, so that there are many such places.
pub(super) fn check_restores<E, R>(
    enumerator: impl Fn(Option<Vec<u8>>) -> E,
    reader: impl Fn() -> R,
    poll: impl Fn(&mut R, &mut Got<R::Item>) -> ReaderStatus,
    expect: &[R::Item],
) where
    E: SplitEnumerator,
    R: SourceReader<Split = E::Split>,
    R::Split: Clone + PartialEq + std::fmt::Debug,
    R::Item: Clone + PartialEq + std::fmt::Debug,
{
    let (mut from, mut reading, mut got) = (enumerator(None), reader(), Got::default());
    loop {
        let (mut from_again, mut reading_again) = (enumerator(Some(from.snapshot().unwrap())), reader());
        let splits = reading.snapshot();
        for split in splits.clone() {
            reading_again.add_split(split).unwrap();
        }
        assert_eq!(reading_again.snapshot(), splits, "a reader that has read nothing has what it was given");
        let rest = drain(&mut from_again, vec![reading_again]).concat();
        assert_eq!([got.0.clone(), rest].concat(), expect, "restored after {} records", got.0.len());
        match poll(&mut reading, &mut got) {
            ReaderStatus::More | ReaderStatus::Wait(_) => {}
            ReaderStatus::NeedSplit => match from.next_split(0).unwrap() {
                NextSplit::Split(split) => reading.add_split(split).unwrap(),
                NextSplit::NotYet(_) => {}
                NextSplit::Finished => break,
            },
        }
    }
    assert_eq!(got.0, expect);
}
