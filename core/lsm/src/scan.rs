//! Entries in the order of their keys.

use std::ops::Bound;

use crate::LsmError;
use crate::cache::ThroughCache;
use crate::memtable::{FrozenMemtable, Memtable, Place};
use crate::merge::{Cursor, Merge};
use crate::run::RunCursor;

/// How many keys of the write buffer are looked up at a time.
const BATCH: usize = 64;

/// A place in the write buffer.
pub(crate) struct BufferCursor<'a> {
    memtable: &'a Memtable,
    /// The next entries, the first one last.
    batch: Vec<Place>,
}

impl<'a> BufferCursor<'a> {
    pub(crate) fn seek(memtable: &'a Memtable, start: &[u8]) -> Self {
        let mut cursor = Self { memtable, batch: Vec::with_capacity(BATCH) };
        cursor.fill(Bound::Included(start));
        cursor
    }

    fn fill(&mut self, start: Bound<&[u8]>) {
        self.memtable.next(start, BATCH, &mut self.batch);
        self.batch.reverse();
    }
}

/// A place in a full buffer.
pub(crate) struct FrozenCursor<'a> {
    memtable: &'a FrozenMemtable,
    rest: &'a [Place],
}

impl<'a> FrozenCursor<'a> {
    pub(crate) fn seek(memtable: &'a FrozenMemtable, start: &[u8]) -> Self {
        let order = memtable.order();
        let at = order.partition_point(|&place| memtable.key(place) < start);
        Self { memtable, rest: &order[at..] }
    }
}

/// A place in one of a store's sources.
pub(crate) enum Source<'a> {
    Buffer(BufferCursor<'a>),
    Frozen(FrozenCursor<'a>),
    Run(RunCursor<ThroughCache<'a>>),
}

impl Cursor for Source<'_> {
    fn key(&self) -> Option<&[u8]> {
        match self {
            Self::Buffer(cursor) => cursor.batch.last().map(|&place| cursor.memtable.key(place)),
            Self::Frozen(cursor) => cursor.rest.first().map(|&place| cursor.memtable.key(place)),
            Self::Run(cursor) => cursor.key(),
        }
    }

    fn value(&self) -> Option<&[u8]> {
        match self {
            Self::Buffer(cursor) => cursor.batch.last().and_then(|&place| cursor.memtable.value(place)),
            Self::Frozen(cursor) => cursor.rest.first().and_then(|&place| cursor.memtable.value(place)),
            Self::Run(cursor) => cursor.value(),
        }
    }

    fn advance(&mut self) -> Result<(), LsmError> {
        match self {
            Self::Buffer(cursor) => {
                if let Some(place) = cursor.batch.pop()
                    && cursor.batch.is_empty()
                {
                    cursor.fill(Bound::Excluded(cursor.memtable.key(place)));
                }
                Ok(())
            }
            Self::Frozen(cursor) => {
                cursor.rest = cursor.rest.get(1..).unwrap_or_default();
                Ok(())
            }
            Self::Run(cursor) => cursor.advance(),
        }
    }
}

/// A key and its value.
pub type ScannedEntry<'a> = (&'a [u8], &'a [u8]);

/// The entries of a range of keys, in ascending order.
///
/// A scan walks over tombstones until they are merged away. Whoever takes entries from the front again and again, as a queue does, should
/// begin the next scan behind the last key taken, not at the beginning of the range.
pub struct Scan<'a> {
    merge: Merge<Source<'a>>,
    end: Option<Box<[u8]>>,
    done: bool,
}

impl<'a> Scan<'a> {
    pub(crate) fn new(sources: Vec<Source<'a>>, end: Option<&[u8]>) -> Self {
        Self { merge: Merge::new(sources), end: end.map(Box::from), done: false }
    }

    /// The next key and its value; `None` at the end of the range.
    ///
    /// # Errors
    /// [`LsmError::Corrupt`] or [`LsmError::Io`] when a block cannot be read; the scan is at its end then.
    pub fn next_entry(&mut self) -> Result<Option<ScannedEntry<'_>>, LsmError> {
        if self.done || !self.advance().inspect_err(|_| self.done = true)? {
            self.done = true;
            return Ok(None);
        }
        Ok(self.merge.entry().and_then(|(key, value)| Some((key, value?))))
    }

    /// Goes to the next key that has a value; whether there is one.
    fn advance(&mut self) -> Result<bool, LsmError> {
        while self.merge.advance()? {
            match self.merge.entry() {
                Some((key, _)) if self.end.as_deref().is_some_and(|end| key >= end) => return Ok(false),
                Some((_, Some(_))) => return Ok(true),
                Some((_, None)) | None => {}
            }
        }
        Ok(false)
    }
}
