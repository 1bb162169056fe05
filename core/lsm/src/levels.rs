//! Which files a store has, and in which order a read asks them.

use std::cell::RefCell;
use std::sync::Arc;

use crate::LsmError;
use crate::cache::{BlockCache, CachedTable, ThroughCache};
use crate::table::TableView;
use crate::value::Value;

/// Number of levels. With ten times as much in each, the last one is never full.
pub(crate) const LEVELS: usize = 7;

/// What a read of one file found: nothing, a tombstone, or a value.
type Found<'a> = Option<Option<Value<'a>>>;

/// The files by level. Level 0: whole write buffers, which overlap, the newest first. Further levels: files in the order of their keys, which do
/// not overlap. For each key, the entry in the lowest level is the newest.
#[derive(Default)]
pub(crate) struct Levels {
    levels: [Vec<CachedTable>; LEVELS],
}

impl Levels {
    /// The files of a level, as they are ordered in it.
    pub(crate) fn level(&self, level: usize) -> &[CachedTable] {
        &self.levels[level]
    }

    /// All files, the newest level first.
    pub(crate) fn tables(&self) -> impl Iterator<Item = &CachedTable> {
        self.levels.iter().flatten()
    }

    /// All files as what a snapshot, or a merge, has to know of them.
    pub(crate) fn views(&self) -> impl Iterator<Item = &TableView> {
        self.tables().map(CachedTable::view)
    }

    /// Takes a file into the level it was written for.
    pub(crate) fn add(&mut self, view: TableView, cache: &mut BlockCache) {
        let number = view.table().level().min(LEVELS - 1);
        let level = &mut self.levels[number];
        let at = level.partition_point(|other| match number {
            0 => other.view().table().sequence() > view.table().sequence(),
            _ => other.view().smallest() < view.smallest(),
        });
        level.insert(at, cache.adopt(view));
    }

    /// Takes a file out.
    pub(crate) fn remove(&mut self, view: &TableView, cache: &mut BlockCache) {
        let same = |other: &CachedTable| {
            Arc::ptr_eq(other.view().table(), view.table()) && other.view().groups() == view.groups()
        };
        for level in &mut self.levels {
            if let Some(at) = level.iter().position(same) {
                cache.forget(&level.remove(at));
                return;
            }
        }
    }

    /// Two neighbours in a level that share keys, which must never be.
    pub(crate) fn overlap(&self) -> Option<(&TableView, &TableView)> {
        self.levels[1..]
            .iter()
            .flat_map(|level| level.windows(2))
            .map(|pair| (pair[0].view(), pair[1].view()))
            .find(|(left, right)| left.largest() >= right.smallest())
    }

    /// The newest entry of `key`, whose hash is `hash`.
    pub(crate) fn get<'a>(&self, key: &[u8], hash: u64, cache: &RefCell<BlockCache>) -> Result<Found<'a>, LsmError> {
        for table in &self.levels[0] {
            if let Some(found) = look(table, key, hash, cache)? {
                return Ok(Some(found));
            }
        }
        for level in &self.levels[1..] {
            let at = level.partition_point(|table| table.view().largest() < key);
            if let Some(table) = level.get(at)
                && let Some(found) = look(table, key, hash, cache)?
            {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }
}

fn look<'a>(table: &CachedTable, key: &[u8], hash: u64, cache: &RefCell<BlockCache>) -> Result<Found<'a>, LsmError> {
    use crate::run::BlockSource;
    if !table.view().may_contain(key, hash) {
        return Ok(None);
    }
    let Some(number) = table.view().table().find_block(key) else { return Ok(None) };
    let block = ThroughCache { table, cache }.block(number)?;
    Ok(block.find(key).map(|entry| entry.value.map(|value| Value::in_block(block, value))))
}
