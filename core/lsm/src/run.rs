//! Reading one sorted run: files whose keys follow each other.

use std::sync::Arc;

use crate::LsmError;
use crate::block::{Block, Entry};
use crate::merge::Cursor;
use crate::table::TableView;

/// A file and a way to its blocks, through a cache or not.
pub(crate) trait BlockSource {
    fn view(&self) -> &TableView;

    fn block(&self, number: usize) -> Result<Arc<Block>, LsmError>;
}

/// Straight from disk.
impl BlockSource for TableView {
    fn view(&self) -> &TableView {
        self
    }

    fn block(&self, number: usize) -> Result<Arc<Block>, LsmError> {
        self.table().read_block(number).map(Arc::new)
    }
}

/// A place in a run.
pub(crate) struct RunCursor<S> {
    /// In the order of their keys, which do not overlap.
    tables: Vec<S>,
    table: usize,
    block: usize,
    entry_number: usize,
    /// `None` behind the last entry.
    here: Option<(Arc<Block>, Entry)>,
}

impl<S: BlockSource> RunCursor<S> {
    /// At the first key of the run that is not below `start`.
    pub(crate) fn seek(tables: Vec<S>, start: &[u8]) -> Result<Self, LsmError> {
        let table = tables.partition_point(|table| table.view().largest() < start);
        let mut cursor = Self { tables, table, block: 0, entry_number: 0, here: None };
        cursor.enter_table(start)?;
        Ok(cursor)
    }

    /// Enters the current table, if there is one, at its first key that counts and is not below `start`.
    fn enter_table(&mut self, start: &[u8]) -> Result<(), LsmError> {
        self.here = None;
        let Some(source) = self.tables.get(self.table) else { return Ok(()) };
        let start = source.view().smallest().max(start);
        // There is such a block: the table's largest key is not below `start`.
        let Some(block) = source.view().table().find_block(start) else { return Ok(()) };
        self.block = block;
        let block = source.block(block)?;
        self.entry_number = block.lower_bound(start);
        if self.entry_number < block.count() {
            let entry = block.entry(self.entry_number);
            self.here = Some((block, entry));
        }
        Ok(())
    }
}

impl<S: BlockSource> Cursor for RunCursor<S> {
    #[inline]
    fn key(&self) -> Option<&[u8]> {
        self.here.as_ref().map(|(block, entry)| block.bytes(&entry.key))
    }

    #[inline]
    fn value(&self) -> Option<&[u8]> {
        let (block, entry) = self.here.as_ref()?;
        entry.value.as_ref().map(|value| block.bytes(value))
    }

    fn advance(&mut self) -> Result<(), LsmError> {
        let Some((block, entry)) = &mut self.here else { return Ok(()) };
        let source = &self.tables[self.table];
        self.entry_number += 1;
        if self.entry_number < block.count() {
            *entry = block.entry(self.entry_number);
        } else if self.block + 1 < source.view().table().blocks() {
            self.block += 1;
            self.entry_number = 0;
            *block = source.block(self.block)?;
            *entry = block.entry(0);
        } else {
            self.table += 1;
            return self.enter_table(&[]);
        }
        // What lies behind the largest key that counts belongs to another task.
        if block.bytes(&entry.key) > source.view().largest() {
            self.table += 1;
            return self.enter_table(&[]);
        }
        Ok(())
    }
}
