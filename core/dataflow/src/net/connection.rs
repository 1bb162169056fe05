//! One connection to a peer: who writes, who reads, and what happens when it breaks.
//!
//! *Writing.* Whoever queues something while nobody writes, writes: a task's batch is in the kernel when its call returns,
//! without waking another thread. When the socket is full the connection's writer (a future on the network threads) takes over
//! until the queue is empty; meanwhile tasks only queue, bounded by their credit.
//!
//! *Breaking.* The two directions break apart. A failed write ends the sending side only: what the peer sent before it
//! went away is still read, so an `End` on its way is not lost to a credit that could not be returned.

use std::io::{self, IoSlice};
use std::net::{Shutdown, SocketAddr};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Instant;

use tokio::net::TcpStream;
use tokio::sync::Notify;

use super::frame::{FRAGMENT_BYTES, FrameError, Head};
use super::incoming::Incoming;
use super::outbox::{Lane, OutFrame, Outbox};
use super::sender::Outgoing;
use super::{ChannelId, socket};
use crate::channel::RemoteInbox;

/// Capacity of a new send buffer: an encoded batch and a little more, because the last record may cross the line.
const BUFFER_BYTES: usize = 36 * 1024;
/// Longer buffers are not kept.
const MAX_KEPT_BUFFER_BYTES: usize = 2 * BUFFER_BYTES;
const MAX_KEPT_BUFFERS: usize = 64;

/// Frames of one write; the system takes 1024 pieces, two a frame.
const MAX_FRAMES_PER_WRITE: usize = 32;
const MAX_BYTES_PER_WRITE: usize = FRAGMENT_BYTES;
/// A task that found nobody writing writes this much at most before it goes back to its own work.
const TASK_WRITE_BUDGET: usize = 2 * MAX_BYTES_PER_WRITE;
/// The network thread looks after other connections after this much.
pub(super) const THREAD_BUDGET: usize = 1024 * 1024;

pub(super) struct Connection {
    peer: u32,
    address: SocketAddr,
    pub(super) stream: TcpStream,
    queue: Mutex<Queue>,
    /// Signalled when the queue became empty and when the reader ended.
    changed: Condvar,
    in_flight: Mutex<InFlight>,
    writer_wanted: Notify,
    buffers: Mutex<Vec<Vec<u8>>>,
    /// Why nothing can be sent any more.
    broken: OnceLock<String>,
    pub(super) outgoing: Mutex<Outgoing>,
    incoming: Mutex<IncomingChannels>,
}

#[derive(Debug, Default)]
struct Queue {
    outbox: Outbox,
    /// Somebody writes or has handed over to the writer.
    writing: bool,
    /// What is queued is dropped, because nothing can be written.
    closed: bool,
    reader_ended: bool,
}

/// Frames taken from the queue and not fully written.
#[derive(Debug, Default)]
struct InFlight {
    frames: Vec<OutFrame>,
    /// Bytes of `frames` already written.
    written: usize,
}

#[derive(Default)]
struct IncomingChannels {
    all: Vec<Arc<Incoming>>,
    /// Why nothing will arrive any more.
    lost: Option<String>,
}

/// How a stretch of writing ended.
enum Written {
    Everything,
    /// The socket takes no more for now.
    SocketFull,
    /// There is more, but it is somebody else's turn.
    BudgetSpent,
}

/// Why reading ended.
pub(super) enum ReadEnd {
    /// The peer closed the connection.
    Closed,
    Failed(io::Error),
    Damaged(FrameError),
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Connection to worker {} at {}", self.peer, self.address)
    }
}

impl Connection {
    pub(super) fn new(peer: u32, address: SocketAddr, stream: TcpStream) -> Arc<Connection> {
        Arc::new(Connection {
            peer,
            address,
            stream,
            queue: Mutex::default(),
            changed: Condvar::new(),
            in_flight: Mutex::default(),
            writer_wanted: Notify::new(),
            buffers: Mutex::default(),
            broken: OnceLock::new(),
            outgoing: Mutex::default(),
            incoming: Mutex::default(),
        })
    }

    /// Why nothing can be sent any more, if so.
    pub(super) fn broken(&self) -> Option<&str> {
        self.broken.get().map(String::as_str)
    }

    pub(super) fn take_buffer(&self) -> Vec<u8> {
        lock(&self.buffers).pop().unwrap_or_else(|| Vec::with_capacity(BUFFER_BYTES))
    }

    /// A new sending channel.
    pub(super) fn add_lane(&self) -> Lane {
        lock(&self.queue).outbox.add_lane()
    }

    /// Queues something and sees to it that it is written.
    pub(super) fn enqueue(&self, push: impl FnOnce(&mut Outbox)) {
        let mut queue = lock(&self.queue);
        if queue.closed {
            return;
        }
        push(&mut queue.outbox);
        if std::mem::replace(&mut queue.writing, true) {
            return;
        }
        drop(queue);
        match self.write(TASK_WRITE_BUDGET) {
            Ok(Written::Everything) => {}
            Ok(Written::SocketFull | Written::BudgetSpent) => self.writer_wanted.notify_one(),
            Err(error) => self.break_sending(self.describe(&error)),
        }
    }

    /// Writes for as long as there is something queued, room in the socket and budget. Only for who set `writing`.
    fn write(&self, budget: usize) -> io::Result<Written> {
        let mut in_flight = lock(&self.in_flight);
        let mut done = 0;
        loop {
            if in_flight.frames.is_empty() && !self.take_frames(&mut in_flight) {
                return Ok(Written::Everything);
            }
            if done >= budget {
                return Ok(Written::BudgetSpent);
            }
            match in_flight.write_to(&self.stream) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(n) => {
                    done += n;
                    self.keep_buffers(in_flight.advance(n));
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(Written::SocketFull),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
    }

    /// Takes the next frames in turn. Without any, stops writing in the same breath, so that no later push is overlooked.
    fn take_frames(&self, in_flight: &mut InFlight) -> bool {
        let mut queue = lock(&self.queue);
        let mut bytes = 0;
        while in_flight.frames.len() < MAX_FRAMES_PER_WRITE && bytes < MAX_BYTES_PER_WRITE {
            let Some(frame) = queue.outbox.pop() else { break };
            bytes += frame.len();
            in_flight.frames.push(frame);
        }
        if in_flight.frames.is_empty() {
            queue.writing = false;
            self.changed.notify_all();
        }
        !in_flight.frames.is_empty()
    }

    fn keep_buffers(&self, written: impl Iterator<Item = OutFrame>) {
        let mut buffers = None;
        for mut buffer in written.filter_map(OutFrame::into_buffer) {
            let buffers = buffers.get_or_insert_with(|| lock(&self.buffers));
            if buffer.capacity() <= MAX_KEPT_BUFFER_BYTES && buffers.len() < MAX_KEPT_BUFFERS {
                buffer.clear();
                buffers.push(buffer);
            }
        }
    }

    /// The future that writes what tasks could not.
    pub(super) async fn run_writer(self: Arc<Self>) {
        while self.broken().is_none() {
            self.writer_wanted.notified().await;
            if let Err(error) = self.write_on_thread().await {
                self.break_sending(self.describe(&error));
            }
        }
    }

    async fn write_on_thread(&self) -> io::Result<()> {
        while self.broken().is_none() {
            match self.write(THREAD_BUDGET)? {
                Written::Everything => break,
                Written::SocketFull => self.stream.writable().await?,
                Written::BudgetSpent => tokio::task::yield_now().await,
            }
        }
        Ok(())
    }

    /// Opens the receiving end of a channel and tells the producer.
    pub(super) fn open_incoming(
        &self,
        id: ChannelId,
        inbox: Arc<dyn RemoteInbox>,
        channel: u32,
        credits: u32,
    ) -> Result<Arc<Incoming>, String> {
        let mut incoming = lock(&self.incoming);
        if let Some(reason) = &incoming.lost {
            return Err(reason.clone());
        }
        let slot = incoming.all.len() as u32;
        let opened = Arc::new(Incoming::new(slot, inbox, channel, credits));
        incoming.all.push(opened.clone());
        // Still locked: grants must leave in the order of their numbers.
        self.enqueue(|outbox| outbox.push_urgent(Head::grant(slot, id, credits)));
        Ok(opened)
    }

    /// Adds to `known` the channels opened since it was last filled.
    pub(super) fn update_incoming(&self, known: &mut Vec<Arc<Incoming>>) {
        let incoming = lock(&self.incoming);
        if let Some(new) = incoming.all.get(known.len()..) {
            known.extend_from_slice(new);
        }
    }

    pub(super) fn return_credits(&self, incoming: &Incoming, n: u32) {
        if let Some(credits) = incoming.take_returnable(n) {
            self.enqueue(|outbox| outbox.push_urgent(Head::credit(incoming.slot(), credits)));
        }
    }

    /// Nothing can be sent any more: drops what is queued and wakes the producers, who will find out.
    pub(super) fn break_sending(&self, reason: String) {
        // The first reason is the cause, later ones are consequences.
        let _ = self.broken.set(reason);
        let mut queue = lock(&self.queue);
        queue.closed = true;
        queue.outbox.clear();
        drop(queue);
        self.changed.notify_all();
        self.writer_wanted.notify_one();
        lock(&self.outgoing).wake_all();
    }

    /// Nothing will arrive any more: tells the consumers whose channels have not ended.
    fn break_receiving(&self, reason: String) {
        let mut incoming = lock(&self.incoming);
        if incoming.lost.is_some() {
            return;
        }
        incoming.lost = Some(reason.clone());
        let all = std::mem::take(&mut incoming.all);
        drop(incoming);
        all.iter().for_each(|channel| channel.lose(&reason));
    }

    /// Called by the reader as its last act.
    pub(super) fn on_read_end(&self, end: &ReadEnd) {
        let reason = match end {
            ReadEnd::Closed => format!(
                "worker {} at {} closed the data connection too early; it failed or was stopped: look at its log",
                self.peer, self.address
            ),
            ReadEnd::Failed(error) => self.describe(error),
            ReadEnd::Damaged(error) => format!(
                "damaged data from worker {} at {}: {error}; check that both run the same artifact, and the network between them",
                self.peer, self.address
            ),
        };
        self.close(reason);
        lock(&self.queue).reader_ended = true;
        self.changed.notify_all();
    }

    /// Ends both directions at once.
    pub(super) fn close(&self, reason: String) {
        self.break_sending(reason.clone());
        self.break_receiving(reason);
        socket::shut_down(&self.stream, Shutdown::Both);
    }

    fn describe(&self, error: &io::Error) -> String {
        format!(
            "the data connection to worker {} at {} broke: {error}; that worker probably ended first: look at its log",
            self.peer, self.address
        )
    }

    /// Waits until everything queued is written, then tells the peer that nothing follows.
    pub(super) fn finish_sending(&self, deadline: Instant) {
        self.wait(deadline, |queue| queue.closed || (!queue.writing && queue.outbox.is_empty()));
        socket::shut_down(&self.stream, Shutdown::Write);
    }

    /// Waits until the peer closed its side too. Closing earlier, with something unread, would make the system throw
    /// away what the peer has not read yet.
    pub(super) fn finish_reading(&self, deadline: Instant) {
        self.wait(deadline, |queue| queue.reader_ended);
    }

    fn wait(&self, deadline: Instant, done: impl Fn(&Queue) -> bool) {
        let mut queue = lock(&self.queue);
        while !done(&queue) {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            queue = self.changed.wait_timeout(queue, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl InFlight {
    /// One write of everything in flight.
    fn write_to(&self, stream: &TcpStream) -> io::Result<usize> {
        let mut pieces = [IoSlice::new(&[]); 2 * MAX_FRAMES_PER_WRITE];
        let mut count = 0;
        let mut skip = self.written;
        for piece in self.frames.iter().flat_map(OutFrame::pieces) {
            let rest = &piece[skip.min(piece.len())..];
            skip -= piece.len() - rest.len();
            if !rest.is_empty() {
                pieces[count] = IoSlice::new(rest);
                count += 1;
            }
        }
        stream.try_write_vectored(&pieces[..count])
    }

    /// Counts `n` more bytes as written and returns the frames that are complete.
    fn advance(&mut self, n: usize) -> impl Iterator<Item = OutFrame> {
        self.written += n;
        let mut complete = 0;
        for frame in &self.frames {
            let len = frame.len();
            if self.written < len {
                break;
            }
            self.written -= len;
            complete += 1;
        }
        self.frames.drain(..complete)
    }
}
