//! Merging files: which ones, and how.
//!
//! Level 0 gets the write buffers. When it has four, all of them are merged with what they overlap in level 1. Any other level that holds more than it
//! should gives one file, in turn, to the next one. So a merge never takes more than a file and what overlaps it, and the space that old values and
//! tombstones take is bounded.

use std::sync::Arc;

use xxhash_rust::xxh3::xxh3_64;

use crate::LsmError;
use crate::cache::CachedTable;
use crate::levels::{LEVELS, Levels};
use crate::memtable::FrozenMemtable;
use crate::merge::Merge;
use crate::options::Sizes;
use crate::run::RunCursor;
use crate::table::{TableView, TableWriter};

/// Level 0 is merged when it has so many files.
const MERGE_AT: usize = 4;
/// How much more each level holds than the one before.
const GROWTH: u64 = 10;

/// Everything that may have older entries than the ones being written: a tombstone has to stay as long as there is one of its key.
#[derive(Default)]
pub(crate) struct Older {
    pub memtables: Vec<Arc<FrozenMemtable>>,
    pub tables: Vec<TableView>,
}

impl Older {
    pub(crate) fn may_contain(&self, key: &[u8], hash: u64) -> bool {
        self.memtables.iter().any(|memtable| memtable.get(key, hash).is_some())
            || self.tables.iter().any(|table| table.may_contain(key, hash))
    }
}

/// A merge to be done.
pub(crate) struct Compaction {
    /// The runs to be merged, the newest first, each in the order of its keys.
    pub runs: Vec<Vec<TableView>>,
    /// The level that gets the result.
    pub level: usize,
    pub older: Older,
}

impl Compaction {
    /// All files that the result replaces.
    pub(crate) fn inputs(&self) -> Vec<TableView> {
        self.runs.iter().flatten().cloned().collect()
    }
}

/// Picks merges. Remembers per level where the last one ended, so that each file has its turn.
#[derive(Default)]
pub(crate) struct Picker {
    last: [Vec<u8>; LEVELS],
}

impl Picker {
    /// The merge that is needed most, if any.
    pub(crate) fn pick(&mut self, levels: &Levels, sizes: &Sizes) -> Option<Compaction> {
        if levels.level(0).len() >= MERGE_AT {
            let runs = levels.level(0).iter().map(|table| vec![table.view().clone()]).collect();
            return Some(merge_down(levels, runs, 0));
        }
        let mut most = sizes.level_one;
        for level in 1..LEVELS - 1 {
            let held: u64 = levels.level(level).iter().map(|table| table.view().table().length()).sum();
            if held > most {
                let at = levels.level(level).partition_point(|table| *table.view().smallest() <= *self.last[level]);
                let table = levels.level(level).get(at).or_else(|| levels.level(level).first())?;
                self.last[level] = table.view().largest().to_vec();
                return Some(merge_down(levels, vec![vec![table.view().clone()]], level));
            }
            most = most.saturating_mul(GROWTH);
        }
        None
    }
}

/// The merge of `runs`, taken from `level`, with what they overlap in the next one.
fn merge_down(levels: &Levels, mut runs: Vec<Vec<TableView>>, level: usize) -> Compaction {
    let overlapping = |level: usize, (smallest, largest): &(Vec<u8>, Vec<u8>)| -> Vec<TableView> {
        let views = levels.level(level).iter().map(CachedTable::view);
        views.filter(|view| view.overlaps(smallest, largest)).cloned().collect()
    };
    let overlapped = overlapping(level + 1, &span(&runs));
    if !overlapped.is_empty() {
        runs.push(overlapped);
    }
    // What was overlapped reaches further than what overlaps it, and its tombstones hide older entries there.
    let span = span(&runs);
    let tables = (level + 2..LEVELS).flat_map(|level| overlapping(level, &span)).collect();
    Compaction { runs, level: level + 1, older: Older { memtables: Vec::new(), tables } }
}

/// The smallest and the largest key of some runs.
fn span(runs: &[Vec<TableView>]) -> (Vec<u8>, Vec<u8>) {
    let tables = || runs.iter().flatten();
    let smallest = tables().map(TableView::smallest).min().unwrap_or_default();
    let largest = tables().map(TableView::largest).max().unwrap_or_default();
    (smallest.to_vec(), largest.to_vec())
}

/// What a merge needs from the thread that does it.
pub(crate) trait Surroundings {
    /// Begins the next file.
    fn create(&mut self, level: usize) -> Result<TableWriter, LsmError>;

    /// Called every few thousand entries: does what is more urgent; an error ends the merge.
    fn pause(&mut self) -> Result<(), LsmError>;

    /// The finished file, as the store sees it.
    fn finish(&mut self, writer: TableWriter) -> Result<TableView, LsmError>;
}

/// Does a merge; the files of the result, in the order of their keys. Files get no longer than `file_size` bytes and one entry.
pub(crate) fn compact(
    job: &Compaction,
    file_size: usize,
    around: &mut impl Surroundings,
) -> Result<Vec<TableView>, LsmError> {
    const ENTRIES_BETWEEN_PAUSES: usize = 4096;
    let cursors = job.runs.iter().map(|run| RunCursor::seek(run.clone(), &[])).collect::<Result<_, _>>()?;
    let mut merge = Merge::new(cursors);
    let mut done = Vec::new();
    let mut writer: Option<TableWriter> = None;
    let mut entries = 0;
    while merge.advance()? {
        let Some((key, value)) = merge.entry() else { break };
        entries += 1;
        if entries % ENTRIES_BETWEEN_PAUSES == 0 {
            around.pause()?;
        }
        let hash = xxh3_64(key);
        if value.is_none() && !job.older.may_contain(key, hash) {
            continue;
        }
        let out = match &mut writer {
            Some(out) => out,
            none => none.insert(around.create(job.level)?),
        };
        out.add(key, hash, value)?;
        if out.length() >= file_size as u64
            && let Some(full) = writer.take()
        {
            done.push(around.finish(full)?);
        }
    }
    if let Some(last) = writer {
        done.push(around.finish(last)?);
    }
    Ok(done)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::KeyGroups;
    use crate::cache::BlockCache;
    use crate::table::WriterOptions;

    fn table(folder: &Path, name: &str, level: usize, entries: &[(&[u8], Option<&[u8]>)]) -> TableView {
        let options = WriterOptions { name: name.to_owned(), level, sequence: 0, block_size: 64 };
        let mut writer = TableWriter::create(folder, options).unwrap();
        for (key, value) in entries {
            writer.add(key, xxh3_64(key), *value).unwrap();
        }
        TableView::whole(Arc::new(writer.finish().unwrap()), KeyGroups::ALL)
    }

    #[test]
    fn a_tombstone_of_an_overlapped_file_stays_while_a_deeper_level_has_its_key() {
        let folder = tempfile::tempdir().unwrap();
        let (mut levels, mut cache) = (Levels::default(), BlockCache::default());
        for name in ["1", "2", "3", "4"] {
            levels.add(table(folder.path(), name, 0, &[(b"00b", Some(b"new"))]), &mut cache);
        }
        levels.add(table(folder.path(), "5", 1, &[(b"00a", Some(b"old")), (b"00z", None)]), &mut cache);
        levels.add(table(folder.path(), "6", 2, &[(b"00z", Some(b"deleted"))]), &mut cache);
        let sizes = crate::Options::new("p", KeyGroups::ALL).sizes();
        let compaction = Picker::default().pick(&levels, &sizes).unwrap();
        assert_eq!((compaction.runs.len(), compaction.level), (5, 1));
        assert!(compaction.older.may_contain(b"00z", xxh3_64(b"00z")));
        assert!(!compaction.older.may_contain(b"00a", xxh3_64(b"00a")));
    }

    #[test]
    fn the_files_of_a_full_level_have_their_turn_one_after_the_other() {
        let folder = tempfile::tempdir().unwrap();
        let (mut levels, mut cache) = (Levels::default(), BlockCache::default());
        for (name, key) in [("1", b"00a"), ("2", b"00b"), ("3", b"00c")] {
            levels.add(table(folder.path(), name, 1, &[(key, Some(b"value"))]), &mut cache);
        }
        let sizes = Sizes { level_one: 1, ..crate::Options::new("p", KeyGroups::ALL).sizes() };
        let mut picker = Picker::default();
        let mut next = || picker.pick(&levels, &sizes).unwrap().runs[0][0].smallest().to_vec();
        assert_eq!([next(), next(), next(), next()], [b"00a", b"00b", b"00c", b"00a"]);
    }
}
