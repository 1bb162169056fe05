//! [`CollectionSource`]: the elements of a `Vec`.

use std::fmt;
use std::sync::Arc;

use weir_dataflow::operator::Collector;
use weir_dataflow::source::{
    Boundedness, EnumeratorContext, NextSplit, ReaderContext, ReaderStatus, Source, SourceError, SourceReader,
    SplitEnumerator,
};
use weir_derive::Record;

use super::snapshot;

/// Elements emitted by one poll.
const POLL: u64 = 4096;

/// A source of given elements, for tests and small lookup tables.
///
/// The elements are part of the job's code: they must be the same whenever the job is built. A single subtask emits them in
/// order.
///
/// ```no_run
/// # use weir::prelude::*;
/// # fn job(env: &Environment) -> weir::Result<()> {
/// let words = env.source(CollectionSource::new(["to", "be", "or"].map(Text::from)));
/// # words.discard();
/// # Ok(())
/// # }
/// ```
pub struct CollectionSource<T> {
    elements: Arc<[T]>,
}

impl<T> CollectionSource<T> {
    /// A source of `elements`.
    pub fn new(elements: impl IntoIterator<Item = T>) -> Self {
        CollectionSource { elements: elements.into_iter().collect() }
    }
}

impl<T> Clone for CollectionSource<T> {
    fn clone(&self) -> Self {
        CollectionSource { elements: Arc::clone(&self.elements) }
    }
}

impl<T> fmt::Debug for CollectionSource<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CollectionSource({} elements)", self.elements.len())
    }
}

impl<T: Clone + Send + Sync + 'static> Source for CollectionSource<T> {
    type Item = T;
    type Split = IndexSplit;
    type Enumerator = IndexEnumerator;
    type Reader = CollectionReader<T>;

    fn boundedness(&self) -> Boundedness {
        Boundedness::Bounded
    }

    fn name(&self) -> String {
        format!("Source: collection of {}", self.elements.len())
    }

    fn create_enumerator(&self, context: &EnumeratorContext) -> Result<IndexEnumerator, SourceError> {
        if let Some(state) = &context.restored {
            return Ok(IndexEnumerator { ready: snapshot::decode(state, "a collection")? });
        }
        let len = self.elements.len() as u64;
        // Several splits a reader, so that readers whose elements take long leave the rest to others.
        let splits = if context.parallelism > 1 { u64::from(context.parallelism) * 4 } else { 1 };
        let size = len.div_ceil(splits).max(1);
        let mut ready: Vec<_> =
            (0..len).step_by(size as usize).map(|next| IndexSplit { next, end: (next + size).min(len) }).collect();
        ready.reverse();
        Ok(IndexEnumerator { ready })
    }

    fn create_reader(&self, _context: &ReaderContext) -> Result<CollectionReader<T>, SourceError> {
        Ok(CollectionReader::new(self))
    }
}

/// The elements from `next` up to, and without, `end`.
#[derive(Debug, Clone, PartialEq, Eq, Record)]
#[record(crate = "weir_dataflow::record")]
pub struct IndexSplit {
    /// Index of the first element not yet emitted.
    pub next: u64,
    /// Index after the last one.
    pub end: u64,
}

/// Divides a collection among readers.
#[derive(Debug)]
pub struct IndexEnumerator {
    /// Handed out from the back.
    ready: Vec<IndexSplit>,
}

impl SplitEnumerator for IndexEnumerator {
    type Split = IndexSplit;

    fn next_split(&mut self, _subtask: u32) -> Result<NextSplit<IndexSplit>, SourceError> {
        Ok(self.ready.pop().map_or(NextSplit::Finished, NextSplit::Split))
    }

    fn add_back(&mut self, splits: Vec<IndexSplit>) {
        self.ready.extend(splits);
    }

    fn snapshot(&self) -> Result<Vec<u8>, SourceError> {
        Ok(snapshot::encode(&self.ready))
    }
}

/// Emits the elements of a subtask.
pub struct CollectionReader<T> {
    elements: Arc<[T]>,
    splits: Vec<IndexSplit>,
}

impl<T> CollectionReader<T> {
    fn new(source: &CollectionSource<T>) -> Self {
        CollectionReader { elements: Arc::clone(&source.elements), splits: Vec::new() }
    }
}

impl<T> fmt::Debug for CollectionReader<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CollectionReader").field("splits", &self.splits).finish_non_exhaustive()
    }
}

impl<T: Clone + 'static> SourceReader for CollectionReader<T> {
    type Item = T;
    type Split = IndexSplit;

    fn add_split(&mut self, split: IndexSplit) -> Result<(), SourceError> {
        if split.next > split.end || split.end > self.elements.len() as u64 {
            return Err(SourceError::new(format!(
                "elements {} to {} of a collection are wanted but it has {}: it was not the same when the job was built before",
                split.next,
                split.end,
                self.elements.len()
            )));
        }
        // Behind the one that is being read.
        self.splits.insert(0, split);
        Ok(())
    }

    fn poll<C: Collector<T>>(&mut self, out: &mut C) -> Result<ReaderStatus, SourceError> {
        let Some(split) = self.splits.last_mut() else { return Ok(ReaderStatus::NeedSplit) };
        let from = split.next;
        let to = split.end.min(from + POLL);
        split.next = to;
        if to == split.end {
            self.splits.pop();
        }
        for element in &self.elements[from as usize..to as usize] {
            out.push(element.clone());
        }
        Ok(if self.splits.is_empty() { ReaderStatus::NeedSplit } else { ReaderStatus::More })
    }

    fn snapshot(&self) -> Vec<IndexSplit> {
        self.splits.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{check_restores, context, drain};
    use super::*;

    #[test]
    fn every_element_is_emitted_once_and_in_order_by_one_reader() {
        for (len, parallelism) in [(0u32, 1), (0, 2), (1, 4), (10_000, 1), (10_001, 3)] {
            let source = CollectionSource::new(0..len);
            let mut enumerator = source.create_enumerator(&context(parallelism)).unwrap();
            let readers = (0..parallelism).map(|_| CollectionReader::new(&source)).collect();
            let mut all = drain(&mut enumerator, readers).concat();
            if parallelism > 1 {
                all.sort_unstable();
            }
            assert!(all.into_iter().eq(0..len), "{len} elements, {parallelism} readers");
        }
    }

    #[test]
    fn a_reader_goes_on_wherever_it_was() {
        let source = CollectionSource::new(0..20_000);
        let expect: Vec<i32> = (0..20_000).collect();
        for parallelism in [1, 3] {
            check_restores(
                |restored| source.create_enumerator(&EnumeratorContext { parallelism, restored }).unwrap(),
                || CollectionReader::new(&source),
                |reader, got| reader.poll(got).unwrap(),
                &expect,
            );
        }
    }

    #[test]
    fn a_split_of_another_collection_is_refused() {
        let mut reader = CollectionReader::new(&CollectionSource::new([1, 2, 3]));
        let error = reader.add_split(IndexSplit { next: 0, end: 4 }).unwrap_err();
        assert!(error.to_string().contains("it has 3"), "{error}");
    }
}
