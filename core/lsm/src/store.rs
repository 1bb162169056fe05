//! The store as its task sees it.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use xxhash_rust::xxh3::xxh3_64;

use crate::cache::{BlockCache, CachedTable, ThroughCache};
use crate::compaction::{Older, Picker};
use crate::levels::{LEVELS, Levels};
use crate::memtable::{FrozenMemtable, Memtable};
use crate::options::Sizes;
use crate::restore::take_over;
use crate::run::RunCursor;
use crate::scan::{BufferCursor, FrozenCursor, Source};
use crate::table::TableView;
use crate::ticket::Ticket;
use crate::worker::{Flush, Worker, WorkerOptions};
use crate::{KeyGroups, LsmError, Options, PendingSnapshot, RestoreFile, Scan, Value};

/// Key and value together may have so many bytes.
const LARGEST_ENTRY: usize = 1 << 30;
/// Writes wait when so many full buffers are not on disk yet.
const MOST_FROZEN: usize = 2;
/// Writes wait when level 0 has so many files, because each one makes reads slower.
const MOST_UNMERGED: usize = 20;

/// A full buffer that reads still look at.
struct Frozen {
    memtable: Arc<FrozenMemtable>,
    sequence: u64,
    /// `None` until it is given to the background thread, and again when that failed.
    flush: Option<Ticket<Option<TableView>>>,
}

/// Files being merged.
struct Merging {
    inputs: Vec<TableView>,
    outputs: Ticket<Vec<TableView>>,
}

/// A sorted map from byte strings to byte strings, larger than memory. See the [crate](crate).
///
/// Dropping it removes its files, except those that a [`Snapshot`](crate::Snapshot) pins.
pub struct Store {
    groups: KeyGroups,
    sizes: Sizes,
    buffer: Memtable,
    /// The oldest first.
    frozen: VecDeque<Frozen>,
    levels: Levels,
    cache: RefCell<BlockCache>,
    picker: Picker,
    merging: Option<Merging>,
    next_sequence: u64,
    /// How many pieces of background work were looked at.
    seen: u64,
    /// The last field: dropping it waits for the thread, which must find that nobody wants its work any more.
    worker: Worker,
}

/// How large a store is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stats {
    /// What the write buffers take in memory, in bytes.
    pub buffer_bytes: usize,
    /// What cached blocks take in memory, in bytes.
    pub cache_bytes: usize,
    /// What indexes and filters of the files take in memory, in bytes.
    pub index_bytes: usize,
    /// What the files take on disk, in bytes; without those that only snapshots pin.
    pub disk_bytes: u64,
    /// Number of files.
    pub files: usize,
    /// Number of files that reads of any key may have to look at, because they are not merged yet.
    pub unmerged_files: usize,
}

impl Store {
    /// A new, empty store in `folder`, which is made when it is not there and must be empty.
    ///
    /// # Errors
    /// [`LsmError::FolderNotEmpty`], [`LsmError::InvalidPrefix`], or [`LsmError::Io`] when the folder cannot be made.
    pub fn open(folder: impl Into<PathBuf>, options: Options) -> Result<Self, LsmError> {
        Self::restore(folder, options, &[])
    }

    /// A store in `folder` with what `files` hold of the key groups in `options`, and nothing else of them.
    ///
    /// `files` are those of one snapshot, or of snapshots of several stores that had different key groups; files of other groups may be among them and
    /// are left alone. The state need not fit into memory, and is not read: only the ends of files that are cut by the range are.
    ///
    /// # Errors
    /// As [`Store::open`]; [`LsmError::Corrupt`] and [`LsmError::UnknownFormat`] for files that cannot be used, [`LsmError::Overlap`] for files that do
    /// not belong together, [`LsmError::PrefixInUse`] when the prefix is an old one.
    pub fn restore(folder: impl Into<PathBuf>, options: Options, files: &[RestoreFile]) -> Result<Self, LsmError> {
        let folder = folder.into();
        options.check()?;
        prepare(&folder)?;
        let views = take_over(&folder, &options, files)?;
        let sizes = options.sizes();
        let next_sequence = views.iter().map(|view| view.table().sequence() + 1).max().unwrap_or(0);
        let groups = options.key_groups;
        let mut store = Self {
            groups,
            sizes,
            buffer: Memtable::default(),
            frozen: VecDeque::new(),
            levels: Levels::default(),
            cache: RefCell::default(),
            picker: Picker::default(),
            merging: None,
            next_sequence,
            seen: 0,
            worker: Worker::new(WorkerOptions { folder, prefix: options.prefix, groups, sizes }),
        };
        store.replace(&[], views);
        if let Some((first, second)) = store.levels.overlap() {
            let (first, second) = (first.table().name().to_owned(), second.table().name().to_owned());
            return Err(LsmError::Overlap { first, second });
        }
        Ok(store)
    }

    /// The value of `key`, if it has one.
    ///
    /// # Errors
    /// [`LsmError::ForeignKey`]; [`LsmError::Corrupt`] or [`LsmError::Io`] when a file cannot be read.
    #[inline]
    pub fn get(&self, key: &[u8]) -> Result<Option<Value<'_>>, LsmError> {
        self.check_key(key)?;
        let hash = xxh3_64(key);
        if let Some(found) = self.buffer.get(key, hash) {
            return Ok(found.map(Value::in_buffer));
        }
        for frozen in self.frozen.iter().rev() {
            if let Some(found) = frozen.memtable.get(key, hash) {
                return Ok(found.map(Value::in_buffer));
            }
        }
        Ok(self.levels.get(key, hash, &self.cache)?.flatten())
    }

    /// Sets the value of `key`.
    ///
    /// # Errors
    /// [`LsmError::ForeignKey`], [`LsmError::EntryTooLarge`], or what went wrong in the background. The value is not taken then.
    #[inline]
    pub fn put(&mut self, key: &[u8], value: &[u8]) -> Result<(), LsmError> {
        let length = key.len().saturating_add(value.len());
        if length > LARGEST_ENTRY {
            return Err(LsmError::EntryTooLarge { length, limit: LARGEST_ENTRY });
        }
        self.write(key, Some(value))
    }

    /// Removes `key` and its value. That it has one is not checked.
    ///
    /// # Errors
    /// [`LsmError::ForeignKey`], or what went wrong in the background. The key is not removed then.
    #[inline]
    pub fn delete(&mut self, key: &[u8]) -> Result<(), LsmError> {
        self.write(key, None)
    }

    /// The entries with keys from `start` on and, if there is an `end`, below it.
    ///
    /// # Errors
    /// [`LsmError::Corrupt`] or [`LsmError::Io`] when a file cannot be read.
    pub fn scan(&self, start: &[u8], end: Option<&[u8]>) -> Result<Scan<'_>, LsmError> {
        let mut sources = vec![Source::Buffer(BufferCursor::seek(&self.buffer, start))];
        sources
            .extend(self.frozen.iter().rev().map(|frozen| Source::Frozen(FrozenCursor::seek(&frozen.memtable, start))));
        let in_range = |table: &&CachedTable| {
            let view = table.view();
            view.largest() >= start && end.is_none_or(|end| view.smallest() < end)
        };
        let cached = |table| ThroughCache { table, cache: &self.cache };
        for table in self.levels.level(0).iter().filter(in_range) {
            sources.push(Source::Run(RunCursor::seek(vec![cached(table)], start)?));
        }
        for level in 1..LEVELS {
            let tables: Vec<_> = self.levels.level(level).iter().filter(in_range).map(cached).collect();
            if !tables.is_empty() {
                sources.push(Source::Run(RunCursor::seek(tables, start)?));
            }
        }
        Ok(Scan::new(sources, end))
    }

    /// The entries whose keys begin with `prefix`, e.g. with the two bytes of a key group.
    ///
    /// # Errors
    /// As [`Store::scan`].
    pub fn scan_prefix(&self, prefix: &[u8]) -> Result<Scan<'_>, LsmError> {
        // The smallest key behind all that begin with the prefix: its last byte that can grow, grown.
        let end = prefix.iter().rposition(|&byte| byte < u8::MAX).map(|last| {
            let mut end = prefix[..=last].to_vec();
            end[last] += 1;
            end
        });
        self.scan(prefix, end.as_deref())
    }

    /// Takes a snapshot of all that was written so far. Returns at once, unless earlier writes are still on their way to disk; the rest can be waited
    /// for on another thread, while this one goes on.
    ///
    /// # Errors
    /// What went wrong in the background, e.g. [`LsmError::NoSpace`]; nothing in the store is lost by it.
    pub fn snapshot(&mut self) -> Result<PendingSnapshot, LsmError> {
        self.collect()?;
        if !self.buffer.is_empty() {
            self.rotate()?;
        }
        self.submit_frozen()?;
        let tables = self.levels.views().cloned().collect();
        let flushes = self.frozen.iter().filter_map(|frozen| frozen.flush.clone()).collect();
        Ok(PendingSnapshot { tables, flushes })
    }

    /// How large the store is now.
    pub fn stats(&self) -> Stats {
        let tables = || self.levels.views().map(TableView::table);
        Stats {
            buffer_bytes: self.buffer.bytes() + self.frozen.iter().map(|frozen| frozen.memtable.bytes()).sum::<usize>(),
            cache_bytes: self.cache.borrow().bytes(),
            index_bytes: tables().map(|table| table.memory()).sum(),
            disk_bytes: tables().map(|table| table.length()).sum(),
            files: tables().count(),
            unmerged_files: self.levels.level(0).len(),
        }
    }

    /// The key groups of the store.
    pub fn key_groups(&self) -> KeyGroups {
        self.groups
    }

    #[inline]
    fn check_key(&self, key: &[u8]) -> Result<(), LsmError> {
        if self.groups.contain(key) {
            return Ok(());
        }
        Err(LsmError::ForeignKey {
            key: key[..key.len().min(16)].to_vec(),
            groups: (self.groups.first, self.groups.last),
        })
    }

    #[inline]
    fn write(&mut self, key: &[u8], value: Option<&[u8]>) -> Result<(), LsmError> {
        self.check_key(key)?;
        if self.worker.finished() != self.seen {
            self.collect()?;
        }
        if self.buffer.bytes() >= self.sizes.buffer {
            self.rotate()?;
        }
        self.buffer.set(key, xxh3_64(key), value);
        Ok(())
    }

    /// Makes the full buffer one of those that are written, and begins an empty one.
    fn rotate(&mut self) -> Result<(), LsmError> {
        self.submit_frozen()?;
        while self.frozen.len() >= MOST_FROZEN {
            self.wait_for_oldest_flush()?;
        }
        while self.levels.level(0).len() >= MOST_UNMERGED {
            self.wait_for_merge()?;
        }
        let buffer = std::mem::take(&mut self.buffer);
        self.buffer = buffer.successor();
        self.frozen.push_back(Frozen {
            memtable: Arc::new(buffer.freeze()),
            sequence: self.next_sequence,
            flush: None,
        });
        self.next_sequence += 1;
        self.submit_frozen()
    }

    /// Gives the background thread what it does not have yet, or could not write.
    fn submit_frozen(&mut self) -> Result<(), LsmError> {
        for number in 0..self.frozen.len() {
            if self.frozen[number].flush.is_some() {
                continue;
            }
            let memtables = self.frozen.range(..number).map(|frozen| frozen.memtable.clone()).collect();
            let older = Older { memtables, tables: self.levels.views().cloned().collect() };
            let Frozen { memtable, sequence, .. } = &self.frozen[number];
            let flush = Flush { memtable: memtable.clone(), sequence: *sequence, older };
            self.frozen[number].flush = Some(self.worker.flush(flush)?);
        }
        Ok(())
    }

    fn wait_for_oldest_flush(&mut self) -> Result<(), LsmError> {
        if let Some(Frozen { flush: Some(flush), .. }) = self.frozen.front() {
            // The outcome, good or bad, is dealt with by the one who collects it.
            let _ = flush.wait();
        }
        self.collect()
    }

    fn wait_for_merge(&mut self) -> Result<(), LsmError> {
        self.schedule_merge()?;
        if let Some(merging) = &self.merging {
            let _ = merging.outputs.wait();
        }
        self.collect()
    }

    /// Takes over what the background thread has done, and gives it the next merge.
    #[cold]
    fn collect(&mut self) -> Result<(), LsmError> {
        self.seen = self.worker.finished();
        // In their order: a newer buffer in a file would be hidden by an older one in memory.
        while let Some(Frozen { flush: Some(flush), .. }) = self.frozen.front() {
            match flush.poll() {
                None => break,
                Some(Ok(view)) => {
                    self.frozen.pop_front();
                    self.replace(&[], view);
                }
                Some(Err(error)) => {
                    if let Some(oldest) = self.frozen.front_mut() {
                        oldest.flush = None;
                    }
                    return Err(error);
                }
            }
        }
        if let Some(outcome) = self.merging.as_ref().and_then(|merging| merging.outputs.poll())
            && let Some(merging) = self.merging.take()
        {
            self.replace(&merging.inputs, outcome?);
        }
        self.schedule_merge()
    }

    fn schedule_merge(&mut self) -> Result<(), LsmError> {
        if self.merging.is_none()
            && let Some(compaction) = self.picker.pick(&self.levels, &self.sizes)
        {
            let inputs = compaction.inputs();
            let outputs = self.worker.compact(compaction)?;
            self.merging = Some(Merging { inputs, outputs });
        }
        Ok(())
    }

    /// Exchanges files for others that hold the same, or adds new ones.
    fn replace(&mut self, old: &[TableView], new: impl IntoIterator<Item = TableView>) {
        let mut cache = self.cache.borrow_mut();
        for view in old {
            self.levels.remove(view, &mut cache);
        }
        for view in new {
            self.levels.add(view, &mut cache);
        }
        let indexes: usize = self.levels.views().map(|view| view.table().memory()).sum();
        // With indexes larger than the budget, a small cache is still better than none.
        cache.resize(self.sizes.cache.saturating_sub(indexes).max(self.sizes.cache / 8));
    }
}

/// Makes the folder, or checks that there is nothing in it.
fn prepare(folder: &Path) -> Result<(), LsmError> {
    fs::create_dir_all(folder).map_err(|error| LsmError::io("making the folder", folder, error))?;
    let mut entries = fs::read_dir(folder).map_err(|error| LsmError::io("listing", folder, error))?;
    match entries.next() {
        None => Ok(()),
        Some(Ok(entry)) => {
            let found = entry.file_name().to_string_lossy().into_owned();
            Err(LsmError::FolderNotEmpty { path: folder.to_path_buf(), found })
        }
        Some(Err(error)) => Err(LsmError::io("listing", folder, error)),
    }
}
