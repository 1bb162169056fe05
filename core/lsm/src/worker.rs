//! The background thread of a store: writes buffers to files and merges files.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{self, JoinHandle};

use xxhash_rust::xxh3::xxh3_64;

use crate::compaction::{Compaction, Older, Surroundings, compact};
use crate::memtable::FrozenMemtable;
use crate::options::Sizes;
use crate::table::{TableView, TableWriter, WriterOptions};
use crate::ticket::{Duty, Ticket};
use crate::{KeyGroups, LsmError};

/// A buffer to be written.
pub(crate) struct Flush {
    pub memtable: Arc<FrozenMemtable>,
    pub sequence: u64,
    pub older: Older,
}

enum Job {
    Flush(Flush, Duty<Option<TableView>>),
    Compact(Compaction, Duty<Vec<TableView>>),
}

/// Where and how files are written.
#[derive(Debug, Clone)]
pub(crate) struct WorkerOptions {
    pub folder: PathBuf,
    pub prefix: String,
    pub groups: KeyGroups,
    pub sizes: Sizes,
}

/// The store's side of the thread, which is started by the first piece of work: a store whose state stays small has none.
pub(crate) struct Worker {
    options: WorkerOptions,
    /// How many pieces of work are done.
    finished: Arc<AtomicU64>,
    stopping: Arc<AtomicBool>,
    thread: Option<(Sender<Job>, JoinHandle<()>)>,
}

impl Worker {
    pub(crate) fn new(options: WorkerOptions) -> Self {
        Self { options, finished: Arc::default(), stopping: Arc::default(), thread: None }
    }

    /// How many pieces of work are done; cheap enough to be asked before each write.
    #[inline]
    pub(crate) fn finished(&self) -> u64 {
        self.finished.load(Ordering::Acquire)
    }

    /// Has a buffer written. The result is `None` when there is nothing in it that has to be kept.
    pub(crate) fn flush(&mut self, flush: Flush) -> Result<Ticket<Option<TableView>>, LsmError> {
        let (duty, ticket) = self.duty();
        self.submit(Job::Flush(flush, duty))?;
        Ok(ticket)
    }

    /// Has files merged; the files of the result.
    pub(crate) fn compact(&mut self, compaction: Compaction) -> Result<Ticket<Vec<TableView>>, LsmError> {
        let (duty, ticket) = self.duty();
        self.submit(Job::Compact(compaction, duty))?;
        Ok(ticket)
    }

    fn duty<T>(&self) -> (Duty<T>, Ticket<T>) {
        Duty::new(self.finished.clone(), self.options.folder.clone())
    }

    fn submit(&mut self, job: Job) -> Result<(), LsmError> {
        if self.thread.is_none() {
            let (jobs, inbox) = channel();
            let thread = Thread { options: self.options.clone(), inbox, stopping: self.stopping.clone(), files: 0 };
            let handle = thread::Builder::new().name("weir-lsm".to_owned()).spawn(move || thread.run()).map_err(
                |error: io::Error| LsmError::io("starting a thread for the store in", &self.options.folder, error),
            )?;
            self.thread = Some((jobs, handle));
        }
        let (jobs, _) = self.thread.as_ref().expect("it was started above");
        // A thread that is gone took the job's duty along, whose ticket then says so.
        let _ = jobs.send(job);
        Ok(())
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.stopping.store(true, Ordering::Relaxed);
        if let Some((jobs, handle)) = self.thread.take() {
            drop(jobs);
            // A panic of the thread was delivered as abandoned work.
            let _ = handle.join();
        }
    }
}

/// The thread's own side.
struct Thread {
    options: WorkerOptions,
    inbox: Receiver<Job>,
    stopping: Arc<AtomicBool>,
    /// How many files were begun: their names are never used again, even when one fails.
    files: u64,
}

impl Thread {
    fn run(mut self) {
        while let Ok(job) = self.inbox.recv() {
            self.work(job);
        }
    }

    fn work(&mut self, job: Job) {
        match job {
            Job::Flush(flush, duty) => {
                // When the store is gone, only a snapshot may still want the buffer.
                if duty.is_awaited() {
                    let outcome = self.flush(&flush);
                    drop(flush);
                    duty.deliver(outcome);
                }
            }
            Job::Compact(compaction, duty) => {
                let size = self.options.sizes.file;
                let outcome = if self.stopping() { Err(self.abandoned()) } else { compact(&compaction, size, self) };
                drop(compaction);
                duty.deliver(outcome);
            }
        }
    }

    fn flush(&mut self, flush: &Flush) -> Result<Option<TableView>, LsmError> {
        let Flush { memtable, sequence, older } = flush;
        let mut writer: Option<TableWriter> = None;
        for &place in memtable.order() {
            let (key, value) = (memtable.key(place), memtable.value(place));
            let hash = xxh3_64(key);
            if value.is_none() && !older.may_contain(key, hash) {
                continue;
            }
            let out = match &mut writer {
                Some(out) => out,
                none => none.insert(self.begin(0, *sequence)?),
            };
            out.add(key, hash, value)?;
        }
        writer.map(|writer| self.finish(writer)).transpose()
    }

    fn begin(&mut self, level: usize, sequence: u64) -> Result<TableWriter, LsmError> {
        self.files += 1;
        let WorkerOptions { folder, prefix, sizes, .. } = &self.options;
        let name = format!("{prefix}-{:08}.sst", self.files);
        TableWriter::create(folder, WriterOptions { name, level, sequence, block_size: sizes.block })
    }

    fn stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }

    fn abandoned(&self) -> LsmError {
        LsmError::Abandoned { path: self.options.folder.clone() }
    }
}

impl Surroundings for Thread {
    fn create(&mut self, level: usize) -> Result<TableWriter, LsmError> {
        self.begin(level, 0)
    }

    /// Buffers are more urgent than merges: writes wait for them. A store has one merge at a time, so nothing else can be in the inbox.
    fn pause(&mut self) -> Result<(), LsmError> {
        if self.stopping() {
            return Err(self.abandoned());
        }
        while let Ok(job) = self.inbox.try_recv() {
            self.work(job);
        }
        Ok(())
    }

    fn finish(&mut self, writer: TableWriter) -> Result<TableView, LsmError> {
        Ok(TableView::whole(Arc::new(writer.finish()?), self.options.groups))
    }
}
