//! The storage service: reads and writes the files of workers' snapshots for them, so that clients of file systems and their
//! credentials stay out of the processes that run user code.
//!
//! Each worker has a socket of its own, on which each file and each read has a connection (`weir/storage.proto`). It all runs on
//! one thread of its own, apart from that of the event loop; what waits for a disk waits on further ones. A connection holds at
//! most two chunks of a file, and all of a worker a limited number, so whoever sends faster than the storage takes is slowed down.

mod checked;
mod connection;
mod copies;
mod failure;

use std::fs;
use std::io;
use std::os::unix::net::UnixListener as StdListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::net::UnixListener;
use tokio::runtime::{Builder, Handle};
use tokio::sync::{Semaphore, oneshot};
use tokio::task::JoinSet;
use weir_model::JobId;
use weir_storage::{FileSystem, StorageError};

use crate::worker::AbortOnDrop;
use connection::Files;
use copies::JobCopies;
pub(crate) use copies::{KEPT_FOR_RESTART, LocalCopies};

/// Connections of a worker that are served at a time, so the files it may write at a time; the others wait to be accepted.
const CONNECTIONS: usize = 256;
/// Chunks of a worker's files, of a mebibyte at most, that are in memory while they arrive and are written; the others wait in their
/// sockets.
const CHUNKS: usize = 64;
/// Threads that wait for disks. Beyond, requests wait for each other.
const DISK_THREADS: usize = 128;
/// Stack of those threads. They do not recurse.
const STACK: usize = 512 * 1024;
/// How long a service that cannot accept waits before it tries again.
const PAUSE: Duration = Duration::from_millis(100);

/// Finds the file system of a uri, and the path in it.
pub(crate) type FileSystems = dyn Fn(&str) -> Result<(Arc<dyn FileSystem>, String), StorageError> + Send + Sync;

/// The service's thread. It ends when this is dropped, with all it serves; what still waits for a disk is not waited for.
#[derive(Debug)]
pub(crate) struct StorageThread {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
    handle: Handle,
}

impl StorageThread {
    /// Starts it.
    pub(crate) fn start() -> io::Result<StorageThread> {
        let runtime = Builder::new_current_thread()
            .enable_all()
            .thread_stack_size(STACK)
            .thread_name("weir-tm-disk")
            .max_blocking_threads(DISK_THREADS)
            .build()?;
        let handle = runtime.handle().clone();
        let (stop, stopped) = oneshot::channel::<()>();
        let thread = std::thread::Builder::new().name("weir-tm-storage".to_owned()).spawn(move || {
            // An error means that the owner is gone, which is the same.
            let _ = runtime.block_on(stopped);
            runtime.shutdown_background();
        })?;
        Ok(StorageThread { stop: Some(stop), thread: Some(thread), handle })
    }

    /// What serves on this thread, with a place for copies on this machine.
    pub(crate) fn service(&self, files: Arc<FileSystems>, copies: LocalCopies) -> StorageService {
        StorageService { handle: self.handle.clone(), files, copies: Arc::new(copies) }
    }
}

impl Drop for StorageThread {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Serves storage to workers.
pub(crate) struct StorageService {
    handle: Handle,
    files: Arc<FileSystems>,
    copies: Arc<LocalCopies>,
}

impl std::fmt::Debug for StorageService {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StorageService").field("copies", &self.copies).finish_non_exhaustive()
    }
}

impl StorageService {
    /// Listens at `socket` for a worker of `job`.
    pub(crate) fn serve(&self, socket: PathBuf, job: JobId) -> io::Result<Served> {
        let listener = StdListener::bind(&socket)?;
        let socket = SocketFile(socket);
        listener.set_nonblocking(true)?;
        let _runtime = self.handle.enter();
        let listener = UnixListener::from_std(listener)?;
        let copies = JobCopies::of(self.copies.clone(), job, self.handle.clone());
        let chunks = Arc::new(Semaphore::new(CHUNKS));
        let files = Files { systems: self.files.clone(), chunks, copies: copies.clone() };
        let task = AbortOnDrop(tokio::spawn(accept(listener, files)));
        Ok(Served { _task: task, _copies: copies, socket })
    }
}

/// A worker that is served. Dropping it ends its connections and removes what it has not finished.
pub(crate) struct Served {
    _task: AbortOnDrop,
    /// As long as one of them is there, the job has a worker here.
    _copies: Arc<JobCopies>,
    socket: SocketFile,
}

impl Served {
    /// Where it listens.
    pub(crate) fn socket(&self) -> &Path {
        &self.socket.0
    }
}

struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

async fn accept(listener: UnixListener, files: Files) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    // Connections end with this.
    let mut connections = JoinSet::new();
    loop {
        let Ok(place) = places.clone().acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let files = files.clone();
                connections.spawn(async move {
                    connection::serve(stream, &files).await;
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "the storage service cannot accept a connection; it tries again");
                tokio::time::sleep(PAUSE).await;
            }
        }
        while connections.try_join_next().is_some() {}
    }
}

#[cfg(test)]
mod tests;
