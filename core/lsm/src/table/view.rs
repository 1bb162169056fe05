//! The part of a file that a store sees.

use std::sync::Arc;

use crate::block::Block;
use crate::table::Table;
use crate::{KeyGroups, LsmError};

/// A file, of which only some key groups count: the others went to other tasks, and what is in the file of them may be old.
#[derive(Debug, Clone)]
pub(crate) struct TableView {
    table: Arc<Table>,
    groups: KeyGroups,
    smallest: Box<[u8]>,
    largest: Box<[u8]>,
}

impl TableView {
    /// A file all of whose keys are of `groups`.
    pub(crate) fn whole(table: Arc<Table>, groups: KeyGroups) -> Self {
        let smallest = table.properties.smallest.clone().into();
        let largest = table.properties.largest.clone().into();
        Self { table, groups, smallest, largest }
    }

    /// What of `table` is of `groups`; `None` when nothing is. Reads up to two blocks to find the first and the last such key.
    pub(crate) fn clipped(table: Arc<Table>, groups: KeyGroups) -> Result<Option<Self>, LsmError> {
        if groups.is_empty() {
            return Ok(None);
        }
        let mut view = Self::whole(table, groups);
        if !groups.contain(&view.smallest) {
            match view.first_from(&groups.first.to_be_bytes())? {
                Some(key) if groups.contain(&key) => view.smallest = key,
                _ => return Ok(None),
            }
        }
        if !groups.contain(&view.largest) {
            let Some(end) = groups.end() else { return Ok(None) };
            match view.last_below(&end)? {
                Some(key) => view.largest = key,
                None => return Ok(None),
            }
        }
        Ok(Some(view))
    }

    fn first_from(&self, start: &[u8]) -> Result<Option<Box<[u8]>>, LsmError> {
        let Some(number) = self.table.find_block(start) else { return Ok(None) };
        let block = self.table.read_block(number)?;
        Ok(key_of(&block, block.lower_bound(start)))
    }

    fn last_below(&self, end: &[u8]) -> Result<Option<Box<[u8]>>, LsmError> {
        let number = self.table.find_block(end).unwrap_or(self.table.blocks() - 1);
        let block = self.table.read_block(number)?;
        if let Some(before) = block.lower_bound(end).checked_sub(1) {
            return Ok(key_of(&block, before));
        }
        let Some(number) = number.checked_sub(1) else { return Ok(None) };
        let block = self.table.read_block(number)?;
        Ok(key_of(&block, block.count() - 1))
    }

    pub(crate) fn table(&self) -> &Arc<Table> {
        &self.table
    }

    pub(crate) fn groups(&self) -> KeyGroups {
        self.groups
    }

    /// The first key that counts.
    pub(crate) fn smallest(&self) -> &[u8] {
        &self.smallest
    }

    /// The last key that counts.
    pub(crate) fn largest(&self) -> &[u8] {
        &self.largest
    }

    /// Whether `key` lies between the first and the last key that count.
    #[inline]
    pub(crate) fn spans(&self, key: &[u8]) -> bool {
        *self.smallest <= *key && *key <= *self.largest
    }

    pub(crate) fn overlaps(&self, smallest: &[u8], largest: &[u8]) -> bool {
        *self.smallest <= *largest && *smallest <= *self.largest
    }

    /// Whether `key`, whose hash is `hash`, may have an entry here. Never wrong when it says no.
    pub(crate) fn may_contain(&self, key: &[u8], hash: u64) -> bool {
        self.spans(key) && self.table.may_contain(hash)
    }
}

fn key_of(block: &Block, number: usize) -> Option<Box<[u8]>> {
    (number < block.count()).then(|| block.bytes(&block.entry(number).key).into())
}
