//! State in the sorted files of a store: how it becomes part of snapshots, and how it comes back.
//!
//! Files of a store never change, so a checkpoint is a list of them. What the checkpoint it is based on has of them is referred to; the
//! rest is written, as it is, to the folder of files that checkpoints share. A savepoint has the rows themselves, in the form that all
//! state by key has in snapshots, so that it can be restored without a store; so has a checkpoint where no files can be shared.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use weir_checkpoint::{FileSlice, SortedFile, TableSnapshot};
use weir_lsm::{KeyGroups, LsmError, Options, PendingSnapshot, RestoreFile, Scan, Snapshot, SnapshotFile, Store};
use weir_model::FailureKind;
use xxhash_rust::xxh3::Xxh3;

use super::restore::{RestoredTask, unreadable};
use crate::failure::TaskError;
use crate::storage::{StateStorage, StorageError};

/// Bytes that are read from a file at a time.
const READ: usize = 1 << 20;
/// Rows are handed on in parts of about so many bytes.
const PART: usize = 4 << 20;
/// Bytes of memory for a store that is read from one end to the other.
const MEMORY_TO_READ: usize = 1 << 20;

/// The folder of the working files of one operator in one subtask; it goes with the last reference.
#[derive(Debug)]
pub(crate) struct StoreFolder(PathBuf);

impl StoreFolder {
    /// A folder in `base` that nobody else has. It is made with the first file in it.
    pub(crate) fn new(base: &Path, name: &str) -> Arc<StoreFolder> {
        Arc::new(StoreFolder(base.join(format!("{name}-{}", unique()))))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for StoreFolder {
    fn drop(&mut self) {
        // What cannot be removed goes with the worker's folder.
        let _ = fs::remove_dir_all(&self.0);
        let _ = self.0.parent().map(fs::remove_dir);
    }
}

/// A word that nobody else uses: time tells processes apart that have the same id, one after another or on several machines.
pub(crate) fn unique() -> String {
    static COUNTER: AtomicU64 = AtomicU64::new(0);
    let time = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos());
    format!("{:x}-{time:x}-{:x}", std::process::id(), COUNTER.fetch_add(1, Ordering::Relaxed))
}

/// What went wrong in a store, as the failure of its task.
pub(crate) fn store_failed(error: &LsmError) -> TaskError {
    TaskError::failed(FailureKind::State, format!("state in files cannot be used: {error}"))
}

type Files = HashMap<String, FileSlice>;

/// For how many checkpoints it is known which files they have. Of an older one nothing is referred to.
const KNOWN_CHECKPOINTS: usize = 64;

/// Which files of a store have been written for which checkpoint.
#[derive(Debug, Default)]
pub(crate) struct Uploads(Mutex<Uploaded>);

#[derive(Debug, Default)]
struct Uploaded {
    /// Those of the checkpoint the task began with.
    restored: Arc<Files>,
    /// The first checkpoint that the task itself took part in, with files or without.
    first: Option<u64>,
    /// Those of the newest checkpoints.
    acknowledged: BTreeMap<u64, Arc<Files>>,
    /// Written for checkpoints that were declined: nobody else knows of them.
    loose: Files,
}

impl Uploads {
    fn lock(&self) -> MutexGuard<'_, Uploaded> {
        // Each change is one step, so a panic elsewhere cannot have left it half done.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The files of the checkpoint that the task begins with.
    pub(crate) fn set_restored(&self, files: impl Iterator<Item = FileSlice>) {
        self.lock().restored = Arc::new(files.map(|slice| (name_in(&slice.uri).to_owned(), slice)).collect());
    }

    /// The task takes part in a checkpoint, be it without a file.
    pub(crate) fn begin(&self, checkpoint: u64) {
        self.lock().first.get_or_insert(checkpoint);
    }

    /// What a checkpoint with this base may refer to: files that the base has, because only those are kept until it is complete.
    fn of_base(&self, base: Option<u64>) -> Arc<Files> {
        let mut known = self.lock();
        let Some(base) = base else { return Arc::default() };
        // Bases only get newer.
        known.acknowledged.retain(|&checkpoint, _| checkpoint >= base);
        match known.acknowledged.get(&base) {
            Some(files) => files.clone(),
            // Before the task has had part in one, the base is what it began with. Later a base that is not known had no files of it.
            None if known.first.is_none_or(|first| base < first) => known.restored.clone(),
            None => Arc::default(),
        }
    }
}

/// Where a file goes. Several subtasks may have a file of one name, after a restore at another parallelism, and one of them may have to
/// remove what it wrote.
fn shared_uri(directory: &str, checkpoint: u64, name: &str) -> String {
    format!("{}/{checkpoint}.{}-{name}", directory.trim_end_matches('/'), unique().replace('-', "."))
}

/// In the shared folder a file has the number of its checkpoint and a word of its own before its name.
fn name_in(uri: &str) -> &str {
    let name = uri.rsplit_once('/').map_or(uri, |(_, name)| name);
    name.split_once('-').map_or(name, |(_, name)| name)
}

/// A store as it was at a barrier.
pub(crate) struct StoreSnapshot {
    pub(crate) pending: PendingSnapshot,
    /// The key groups of the task.
    pub(crate) groups: KeyGroups,
    /// How many rows the key groups have, those that have some.
    pub(crate) rows: Vec<(u32, u64)>,
    pub(crate) uploads: Arc<Uploads>,
    /// Keeps the files where they are.
    pub(crate) folder: Arc<StoreFolder>,
}

/// The files of a snapshot in storage.
pub(crate) struct UploadedStore {
    pub(crate) files: Vec<SortedFile>,
    /// Bytes of those that an earlier checkpoint had written.
    pub(crate) reused: u64,
}

impl StoreSnapshot {
    /// Hands on all rows, by key group, in parts: group, number of rows, rows.
    pub(crate) fn read(self, mut part: impl FnMut(u32, u64, Vec<u8>)) -> Result<(), LsmError> {
        let StoreSnapshot { pending, groups, rows, folder, uploads: _ } = self;
        let snapshot = pending.wait()?;
        let files: Vec<_> = snapshot.files().iter().map(to_restore).collect();
        let path = folder.path().join(format!("read-{}", unique()));
        let store = open_to_read(&path, groups, &files)?;
        for (group, _) in rows {
            let mut rows = GroupRows::new(&store, group)?;
            while let Some((count, bytes)) = rows.next_part()? {
                part(group, count, bytes);
            }
        }
        drop(store);
        let _ = fs::remove_dir(path);
        Ok(())
    }

    /// Writes the files that the base has not. `directory`: of shared files; `given_up` is asked between two files.
    pub(crate) fn upload(
        self,
        checkpoint: u64,
        base: Option<u64>,
        directory: &str,
        storage: &dyn StateStorage,
        given_up: impl Fn() -> bool,
    ) -> Result<UploadedStore, String> {
        let StoreSnapshot { pending, uploads, folder: _folder, .. } = self;
        let snapshot = pending.wait().map_err(|error| error.to_string())?;
        let known = uploads.of_base(base);
        let mut files = Files::new();
        let mut reused = 0;
        for file in snapshot.files() {
            if files.contains_key(&file.name) {
                continue;
            }
            let loose = uploads.lock().loose.get(&file.name).cloned();
            let slice = match (known.get(&file.name), loose) {
                (Some(slice), _) => {
                    reused += slice.length;
                    slice.clone()
                }
                (None, Some(slice)) => slice,
                (None, None) if given_up() => return Err("the checkpoint was given up".to_owned()),
                (None, None) => {
                    let uri = shared_uri(directory, checkpoint, &file.name);
                    let slice = upload(file, uri, storage)?;
                    uploads.lock().loose.insert(file.name.clone(), slice.clone());
                    slice
                }
            };
            files.insert(file.name.clone(), slice);
        }
        let sorted = sorted_files(&snapshot, &files);
        let mut uploads = uploads.lock();
        uploads.loose.retain(|name, _| !files.contains_key(name));
        uploads.acknowledged.insert(checkpoint, Arc::new(files));
        while uploads.acknowledged.len() > KNOWN_CHECKPOINTS {
            uploads.acknowledged.pop_first();
        }
        Ok(UploadedStore { files: sorted, reused })
    }
}

fn sorted_files(snapshot: &Snapshot, files: &Files) -> Vec<SortedFile> {
    let sorted = snapshot.files().iter().filter_map(|file| {
        let slice = files.get(&file.name)?.clone();
        let KeyGroups { first, last } = file.key_groups;
        Some(SortedFile { slice, first_group: first.into(), last_group: last.into() })
    });
    sorted.collect()
}

fn upload(file: &SnapshotFile, uri: String, storage: &dyn StateStorage) -> Result<FileSlice, String> {
    let unread = |error: std::io::Error| format!("the file {} cannot be read: {error}", file.path.display());
    let unwritten = |error: StorageError| format!("its state cannot be written: {error}");
    let mut from = File::open(&file.path).map_err(unread)?;
    let mut to = storage.create(&uri).map_err(unwritten)?;
    let mut buffer = vec![0; READ];
    loop {
        match from.read(&mut buffer).map_err(unread)? {
            0 => break,
            read => to.write(&buffer[..read]).map_err(unwritten)?,
        }
    }
    let written = to.finish().map_err(unwritten)?;
    if written != file.length {
        let (path, length) = (file.path.display(), file.length);
        return Err(format!("the file {path} has {written} bytes and should have {length}: somebody has changed it"));
    }
    Ok(FileSlice { uri: uri.into(), offset: 0, length: file.length, checksum: file.checksum })
}

fn to_restore(file: &SnapshotFile) -> RestoreFile {
    RestoreFile { path: file.path.clone(), checksum: file.checksum, key_groups: file.key_groups }
}

/// A store that is only read.
fn open_to_read(path: &Path, groups: KeyGroups, files: &[RestoreFile]) -> Result<Store, LsmError> {
    let memory = MEMORY_TO_READ;
    Store::restore(path, Options { memory, ..Options::new(format!("read-{}", unique()), groups) }, files)
}

/// The key of a row in a store: its key group, then the encoded key.
pub(crate) fn put_store_key(group: u32, out: &mut Vec<u8>) {
    out.clear();
    // There are at most 2^15 groups.
    out.extend_from_slice(&(group as u16).to_be_bytes());
}

/// Bytes before the encoded key.
pub(crate) const GROUP_BYTES: usize = 2;

/// The rows of one key group of a store, as they are in snapshots.
pub(crate) struct GroupRows<'s>(Scan<'s>);

impl<'s> GroupRows<'s> {
    pub(crate) fn new(store: &'s Store, group: u32) -> Result<GroupRows<'s>, LsmError> {
        let mut prefix = Vec::new();
        put_store_key(group, &mut prefix);
        Ok(GroupRows(store.scan_prefix(&prefix)?))
    }

    /// Some more rows and their number.
    pub(crate) fn next_part(&mut self) -> Result<Option<(u64, Vec<u8>)>, LsmError> {
        let (mut rows, mut bytes) = (0, Vec::new());
        while bytes.len() < PART
            && let Some((key, row)) = self.0.next_entry()?
        {
            let key = &key[GROUP_BYTES..];
            bytes.extend_from_slice(&(key.len() as u32).to_le_bytes());
            bytes.extend_from_slice(key);
            bytes.extend_from_slice(row);
            rows += 1;
        }
        Ok((rows > 0).then_some((rows, bytes)))
    }
}

impl RestoredTask {
    /// Brings the sorted files of a table here, into `folder`.
    pub(crate) fn fetch(&self, table: &TableSnapshot, folder: &Path) -> Result<Vec<RestoreFile>, TaskError> {
        fs::create_dir_all(folder).map_err(|error| cannot_write(folder, &error))?;
        let mut fetched: HashMap<&str, PathBuf> = HashMap::new();
        let mut files = Vec::new();
        for SortedFile { slice, first_group, last_group } in &table.files {
            let path = match fetched.get(&*slice.uri) {
                Some(path) => path.clone(),
                None => {
                    let path = folder.join(format!("{:08}.fetched", fetched.len()));
                    self.fetch_file(slice, &path)?;
                    fetched.insert(&slice.uri, path.clone());
                    path
                }
            };
            let group =
                |group: u32| u16::try_from(group).map_err(|_| unreadable(format!("there is no key group {group}")));
            let key_groups = KeyGroups::new(group(*first_group)?, group(*last_group)?);
            files.push(RestoreFile { path, checksum: slice.checksum, key_groups });
        }
        Ok(files)
    }

    fn fetch_file(&self, slice: &FileSlice, path: &Path) -> Result<(), TaskError> {
        let mut file = File::create(path).map_err(|error| cannot_write(path, &error))?;
        let (mut at, mut checksum) = (0, Xxh3::new());
        while at < slice.length {
            let length = (slice.length - at).min(READ as u64);
            let bytes = self.storage.read(&slice.uri, slice.offset + at, length).map_err(unreadable)?;
            file.write_all(&bytes).map_err(|error| cannot_write(path, &error))?;
            checksum.update(&bytes);
            at += length;
        }
        if checksum.digest() != slice.checksum {
            return Err(unreadable(format!(
                "{} is damaged: the checksum of its {} bytes is another one than when they were written",
                slice.uri, slice.length
            )));
        }
        Ok(())
    }

    /// Opens the sorted files of a table to read them, and calls `part` with their rows: group, number of rows, rows. `base`: for
    /// working files.
    pub(crate) fn read_sorted(
        &self,
        table: &TableSnapshot,
        base: &Path,
        mut part: impl FnMut(u32, u64, Vec<u8>) -> Result<(), TaskError>,
    ) -> Result<(), TaskError> {
        let folder = StoreFolder::new(base, "read");
        let files = self.fetch(table, &folder.path().join("fetched"))?;
        let store = open_to_read(&folder.path().join("store"), KeyGroups::ALL, &files);
        let store = store.map_err(|error| store_failed(&error))?;
        for group in table.groups.iter().filter(|slice| slice.location == weir_checkpoint::Location::Sorted) {
            let mut rows = GroupRows::new(&store, group.group).map_err(|error| store_failed(&error))?;
            while let Some((count, bytes)) = rows.next_part().map_err(|error| store_failed(&error))? {
                part(group.group, count, bytes)?;
            }
        }
        Ok(())
    }
}

fn cannot_write(path: &Path, error: &std::io::Error) -> TaskError {
    let path = path.display();
    let message = format!(
        "state cannot be brought to {path}: {error}; make room there, or name another folder (`io.tmp.dirs`, `taskmanager.state.local.root-dirs`, \
         or TMPDIR of an embedded run)"
    );
    TaskError::failed(FailureKind::State, message)
}
