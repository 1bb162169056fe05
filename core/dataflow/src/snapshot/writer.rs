//! Makes snapshots durable beside their tasks, and acknowledges them.

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use weir_checkpoint::{FileSlice, Location, SortedFile, TaskSnapshot};
use weir_model::{
    CheckpointAcknowledgement, CheckpointDecline, CheckpointTrigger, Committable, DeclineCause, OperatorId,
    SnapshotMetrics,
};
use xxhash_rust::xxh3::xxh3_64;

use super::builder::assemble;
use super::sorted::{StoreSnapshot, UploadedStore};
use crate::storage::{StateFile, StorageError};
use crate::task::TaskShared;
use crate::worker::{WorkerEvent, WorkerRuntime};

/// What writers of a task's snapshots need.
pub(crate) struct WriterSetup {
    task: Arc<TaskShared>,
    runtime: Arc<WorkerRuntime>,
    /// The thread that acknowledges the last snapshot: acknowledgements of a task stay in order.
    last: Mutex<Option<JoinHandle<()>>>,
    /// Bytes that no writer of this task has written yet. One that was given up counts as well: those behind it wait for it anyway, and
    /// while storage stands still every checkpoint that is given up would leave its share in memory.
    backlog: Arc<AtomicUsize>,
}

/// Bytes that wait for storage, for as long as this lives.
struct Unwritten {
    bytes: usize,
    backlog: Arc<AtomicUsize>,
}

impl Unwritten {
    fn new(bytes: usize, backlog: &Arc<AtomicUsize>) -> Unwritten {
        backlog.fetch_add(bytes, Ordering::Relaxed);
        Unwritten { bytes, backlog: backlog.clone() }
    }
}

impl Drop for Unwritten {
    fn drop(&mut self) {
        self.backlog.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// A part of what is handed over.
pub(crate) struct Piece {
    pub(super) of: PieceOf,
    pub(super) bytes: Vec<u8>,
}

/// Where a part belongs.
pub(crate) enum PieceOf {
    Group { operator: usize, table: usize, group: u32, rows: u64 },
    List { operator: usize, list: usize },
}

/// A table whose rows are in a store.
pub(crate) struct StorePiece {
    pub(super) operator: usize,
    pub(super) table: usize,
    pub(super) snapshot: StoreSnapshot,
}

/// A part, and where it is.
pub(crate) enum Located {
    Piece { of: PieceOf, location: Location },
    Store { operator: usize, table: usize, rows: Vec<(u32, u64)>, files: Vec<SortedFile> },
}

/// What is known when everything is handed over.
pub(crate) struct SnapshotEnd {
    pub(super) checkpoint: u64,
    pub(super) skeleton: TaskSnapshot,
    pub(super) committables: Vec<Committable>,
    pub(super) failure: Option<String>,
    pub(super) metrics: SnapshotMetrics,
    pub(super) since: Instant,
}

enum Order {
    Write(Piece, Unwritten),
    WriteStore(Box<StorePiece>),
    Finish(Box<SnapshotEnd>),
}

impl WriterSetup {
    pub(crate) fn new(task: Arc<TaskShared>, runtime: Arc<WorkerRuntime>) -> Arc<WriterSetup> {
        Arc::new(WriterSetup { task, runtime, last: Mutex::default(), backlog: Arc::default() })
    }

    pub(super) fn operator_id(&self, node: u32) -> OperatorId {
        self.runtime.plan().operator_ids[node as usize]
    }

    pub(super) fn inline_threshold(&self) -> usize {
        self.runtime.plan().options.inline_threshold
    }

    /// Bytes of this task that are not written yet.
    pub(super) fn backlog(&self) -> usize {
        self.backlog.load(Ordering::Relaxed)
    }

    fn take_last(&self) -> Option<JoinHandle<()>> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Waits until everything that was handed over is acknowledged.
    pub(crate) fn wait(&self) {
        if let Some(last) = self.take_last() {
            // A panic of a writer is a bug; the checkpoint then times out.
            let _ = last.join();
        }
    }

    /// Acknowledges a snapshot that needs no file, behind those that do.
    pub(super) fn acknowledge_in_order(self: &Arc<Self>, end: SnapshotEnd, located: Vec<Located>) {
        match self.take_last().filter(|last| !last.is_finished()) {
            None => self.report(end, Ok(located), 0),
            Some(last) => {
                let setup = self.clone();
                let acknowledge = move || {
                    let _ = last.join();
                    setup.report(end, Ok(located), 0);
                };
                self.keep(thread::Builder::new().name("weir-snapshot".into()).spawn(acknowledge));
            }
        }
    }

    fn keep(&self, thread: io::Result<JoinHandle<()>>) {
        // Without a thread nothing is acknowledged, and the checkpoint times out.
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = thread.ok();
    }

    /// `reused`: bytes that an earlier checkpoint had written.
    fn report(&self, end: SnapshotEnd, located: Result<Vec<Located>, String>, reused: u64) {
        let task = self.task.id();
        let SnapshotEnd { checkpoint, skeleton, committables, failure, mut metrics, since } = end;
        let located = failure.map_or(located, Err);
        let event = match located {
            Ok(located) => {
                let snapshot = assemble(skeleton, located);
                metrics.state_size = snapshot.size();
                let snapshot = snapshot.encode();
                metrics.checkpointed_size = metrics.state_size.saturating_sub(reused);
                metrics.asynchronous = since.elapsed();
                let ack = CheckpointAcknowledgement { checkpoint, task, snapshot, committables, metrics };
                WorkerEvent::CheckpointAcknowledged(Box::new(ack))
            }
            Err(reason) => {
                let cause = DeclineCause::Failed;
                let decline = CheckpointDecline { checkpoint, task, cause, reason, committables };
                WorkerEvent::CheckpointDeclined(Box::new(decline))
            }
        };
        self.runtime.report(event);
    }
}

/// A thread that writes one snapshot.
pub(super) struct SnapshotWriter {
    orders: Sender<Order>,
    backlog: Arc<AtomicUsize>,
    /// Buffers whose bytes are written.
    written: Receiver<Vec<u8>>,
}

/// Buffers that are kept until they are used again.
const BUFFERS: usize = 4;

impl SnapshotWriter {
    pub(super) fn start(setup: Arc<WriterSetup>, checkpoint: u64) -> io::Result<SnapshotWriter> {
        let (orders, received) = channel();
        let (home, written) = sync_channel(BUFFERS);
        let before = setup.take_last();
        let (owner, backlog) = (setup.clone(), setup.backlog.clone());
        let write = move || {
            let mut writing = Writing { setup: &setup, checkpoint, home };
            writing.run(&received, before);
        };
        let thread = thread::Builder::new().name("weir-snapshot".into()).spawn(write)?;
        owner.keep(Ok(thread));
        Ok(SnapshotWriter { orders, backlog, written })
    }

    /// An empty buffer to be used again, if there is one.
    pub(super) fn buffer(&self) -> Option<Vec<u8>> {
        self.written.try_recv().ok()
    }

    pub(super) fn send(&self, piece: Piece) {
        let unwritten = Unwritten::new(piece.bytes.len(), &self.backlog);
        // A writer that has given up reports that at the end.
        let _ = self.orders.send(Order::Write(piece, unwritten));
    }

    pub(super) fn send_store(&self, piece: StorePiece) {
        let _ = self.orders.send(Order::WriteStore(Box::new(piece)));
    }

    pub(super) fn finish(self, end: SnapshotEnd) {
        let _ = self.orders.send(Order::Finish(Box::new(end)));
    }
}

struct Writing<'a> {
    setup: &'a WriterSetup,
    checkpoint: u64,
    /// Where buffers go back to.
    home: SyncSender<Vec<u8>>,
}

/// Where the pieces of a snapshot go.
enum Target {
    Unknown,
    /// There is no folder: everything stays in memory.
    Inline,
    File {
        file: Box<dyn StateFile>,
        uri: Arc<str>,
        written: u64,
    },
    Failed(String),
}

impl Target {
    fn given_up() -> Target {
        Target::Failed("the checkpoint was given up before its state was written".to_owned())
    }
}

impl Writing<'_> {
    fn run(&mut self, orders: &Receiver<Order>, before: Option<JoinHandle<()>>) {
        let (mut target, mut located) = (Target::Unknown, Vec::new());
        // Begun when this task has no other file open any more: a worker can write so many files at a time.
        let mut stores = Vec::new();
        for order in orders {
            match order {
                Order::WriteStore(piece) => {
                    stores.extend(self.write_store(&mut target, *piece, &mut located));
                }
                Order::Write(piece, _unwritten) => {
                    self.give_up_if_over(&mut target);
                    if let Some(at) = self.write(&mut target, piece) {
                        located.push(at);
                    }
                }
                Order::Finish(end) => {
                    self.give_up_if_over(&mut target);
                    let wanted = end.failure.is_none();
                    let mut finished = if wanted { finish(target) } else { Ok(()) };
                    let mut reused = 0;
                    for (trigger, piece) in stores.into_iter().filter(|_| wanted) {
                        finished = finished.and_then(|()| {
                            let (store, of_base) = self.upload(&trigger, piece)?;
                            reused += of_base;
                            located.push(store);
                            Ok(())
                        });
                    }
                    if let Some(before) = before {
                        let _ = before.join();
                    }
                    return self.setup.report(*end, finished.map(|()| located), reused);
                }
            }
        }
        // The task has ended without finishing the snapshot: dropping the file removes it.
    }

    /// What nobody wants any more is not written: storage that was slow may have become quick, and has the next checkpoint to take.
    fn give_up_if_over(&self, target: &mut Target) {
        if !matches!(target, Target::Failed(_)) && self.setup.runtime.triggers().is_over(self.checkpoint) {
            *target = Target::given_up();
        }
    }

    fn write(&self, target: &mut Target, mut piece: Piece) -> Option<Located> {
        if matches!(target, Target::Unknown) {
            *target = self.begin();
        }
        match target {
            Target::Unknown | Target::Failed(_) => None,
            Target::Inline => Some(Located::Piece { of: piece.of, location: Location::Inline(piece.bytes) }),
            Target::File { file, uri, written } => match file.write(&piece.bytes) {
                Ok(()) => {
                    let (offset, length) = (*written, piece.bytes.len() as u64);
                    *written += length;
                    let slice = FileSlice { uri: uri.clone(), offset, length, checksum: xxh3_64(&piece.bytes) };
                    piece.bytes.clear();
                    // One that is not wanted is freed.
                    let _ = self.home.try_send(piece.bytes);
                    Some(Located::Piece { of: piece.of, location: Location::File(slice) })
                }
                Err(error) => {
                    *target = Target::Failed(describe(&error));
                    None
                }
            },
        }
    }

    /// Writes the rows of a store, or gives it back, to be uploaded.
    fn write_store(
        &self,
        target: &mut Target,
        piece: StorePiece,
        located: &mut Vec<Located>,
    ) -> Option<(Arc<CheckpointTrigger>, StorePiece)> {
        if matches!(target, Target::Failed(_)) {
            return None;
        }
        let Some(trigger) = self.trigger() else {
            *target = Target::given_up();
            return None;
        };
        if !trigger.kind.is_savepoint() && trigger.shared_directory.is_some() {
            return Some((trigger, piece));
        }
        let StorePiece { operator, table, snapshot } = piece;
        let read = snapshot.read(|group, rows, bytes| {
            let of = PieceOf::Group { operator, table, group, rows };
            located.extend(self.write(target, Piece { of, bytes }));
        });
        if let Err(error) = read {
            *target = Target::Failed(error.to_string());
        }
        None
    }

    /// Where a store is after it was written, and how many bytes of it an earlier checkpoint had written.
    fn upload(&self, trigger: &CheckpointTrigger, piece: StorePiece) -> Result<(Located, u64), String> {
        let StorePiece { operator, table, snapshot } = piece;
        let (checkpoint, rows) = (trigger.checkpoint, snapshot.rows.clone());
        let directory = trigger.shared_directory.as_deref().unwrap_or_default();
        let runtime = &self.setup.runtime;
        let given_up = || runtime.triggers().is_over(checkpoint) || self.setup.task.is_over();
        let UploadedStore { files, reused } =
            snapshot.upload(checkpoint, trigger.base, directory, runtime.storage(), given_up)?;
        Ok((Located::Store { operator, table, rows, files }, reused))
    }

    fn trigger(&self) -> Option<Arc<CheckpointTrigger>> {
        self.setup.runtime.triggers().wait(self.checkpoint, || self.setup.task.is_over())
    }

    fn begin(&self) -> Target {
        let Some(trigger) = self.trigger() else { return Target::given_up() };
        let Some(directory) = &trigger.directory else { return Target::Inline };
        let id = self.setup.task.id();
        // With the attempt: an earlier one that was given up may still be writing.
        let name = format!("task-{}-{}-{}", id.vertex, id.subtask, self.setup.runtime.attempt());
        let uri = format!("{}/{name}", directory.trim_end_matches('/'));
        match self.setup.runtime.storage().create(&uri) {
            Ok(file) => Target::File { file, uri: uri.into(), written: 0 },
            Err(error) => Target::Failed(describe(&error)),
        }
    }
}

fn finish(target: Target) -> Result<(), String> {
    match target {
        Target::Unknown | Target::Inline => Ok(()),
        Target::File { file, .. } => file.finish().map(drop).map_err(|error| describe(&error)),
        Target::Failed(reason) => Err(reason),
    }
}

fn describe(error: &StorageError) -> String {
    format!("its state cannot be written: {error}")
}
