//! The thread that connects and receives, so that the task never waits for the network.

use std::io::{ErrorKind, Read};
use std::net::{TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use weir_dataflow::source::SourceError;

use super::Server;

/// Blocks received ahead of the task; then the server has to wait.
const QUEUED: usize = 16;

/// Bytes received at once.
const BLOCK: usize = 64 << 10;

/// How long an unfinished line may become: a record's text has a 32-bit length.
const LONGEST_LINE: usize = u32::MAX as usize - BLOCK;

/// How often a thread that waits for the network looks whether it is still wanted.
const LOOK: Duration = Duration::from_millis(100);

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// What a connection's thread may ask and tell its task.
pub(super) trait TaskSignal: Send + Sync + 'static {
    fn wake(&self);
    fn is_canceled(&self) -> bool;
}

/// What there is to read.
pub(super) enum Received {
    /// Nothing yet; the task is woken when that changes.
    Nothing,
    /// Whole lines; only the last one before the end may lack its line feed.
    Lines(Vec<u8>),
    /// There will be no more.
    End,
    /// The connection failed.
    Failed(String),
}

/// The task's side of a connection. The thread ends soon after it is dropped.
pub(super) struct Connection {
    received: Receiver<Received>,
    stop: Arc<AtomicBool>,
}

impl Connection {
    pub(super) fn open(server: Server, signal: Arc<dyn TaskSignal>) -> Result<Connection, SourceError> {
        let (sender, received) = sync_channel(QUEUED);
        let stop = Arc::new(AtomicBool::new(false));
        let thread = ConnectionThread { server, signal, stop: Arc::clone(&stop), sender, heard: false };
        thread::Builder::new()
            .name("weir-socket".to_owned())
            .spawn(move || thread.run())
            .map_err(|error| SourceError::new(format!("a thread for reading a socket cannot be started: {error}")))?;
        Ok(Connection { received, stop })
    }

    pub(super) fn receive(&self) -> Received {
        match self.received.try_recv() {
            Ok(received) => received,
            Err(TryRecvError::Empty) => Received::Nothing,
            // The thread says how it ended; without that it panicked.
            Err(TryRecvError::Disconnected) => Received::Failed("the thread that reads a socket died".to_owned()),
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
    }
}

struct ConnectionThread {
    server: Server,
    signal: Arc<dyn TaskSignal>,
    stop: Arc<AtomicBool>,
    sender: SyncSender<Received>,
    /// Whether anything arrived since the last retry began.
    heard: bool,
}

/// Why a connection is no more.
enum Ended {
    /// The server closed it.
    Closed,
    /// It could not be made, or broke.
    Broken(String),
    /// The task does not want it any longer.
    Unwanted,
}

impl ConnectionThread {
    fn run(mut self) {
        let mut left = self.server.retries;
        let mut closed_properly = false;
        let last = loop {
            let ended = match self.connect() {
                Ok(stream) => self.receive_from(stream),
                Err(error) => Ended::Broken(error),
            };
            if std::mem::take(&mut self.heard) {
                left = self.server.retries;
            }
            closed_properly |= matches!(ended, Ended::Closed);
            if left == 0 || matches!(ended, Ended::Unwanted) {
                break ended;
            }
            left -= 1;
            if !self.sleep(self.server.retry_delay) {
                break Ended::Unwanted;
            }
        };
        self.send(match last {
            Ended::Unwanted => return,
            Ended::Closed => Received::End,
            // The server went away after its work was done: nobody to connect to again is no failure.
            Ended::Broken(_) if closed_properly => Received::End,
            Ended::Broken(message) => Received::Failed(message),
        });
    }

    fn connect(&self) -> Result<TcpStream, String> {
        let server = &self.server;
        let addresses = (server.host.as_str(), server.port)
            .to_socket_addrs()
            .map_err(|error| format!("socket {server}: the host cannot be found: {error}"))?;
        let mut failure = format!("socket {server}: the host has no address");
        for address in addresses {
            match TcpStream::connect_timeout(&address, CONNECT_TIMEOUT) {
                Ok(stream) => return Ok(stream),
                Err(error) => {
                    failure = match error.kind() {
                        ErrorKind::ConnectionRefused => format!(
                            "socket {server}: the connection was refused; is the server running (for example `nc -lk {}`)?",
                            server.port
                        ),
                        ErrorKind::ConnectionReset => broken_off(server),
                        _ => format!("socket {server}: connecting failed: {error}"),
                    }
                }
            }
        }
        Err(failure)
    }

    fn receive_from(&mut self, mut stream: TcpStream) -> Ended {
        if let Err(error) = stream.set_read_timeout(Some(LOOK)) {
            return Ended::Broken(format!("socket {}: {error}", self.server));
        }
        let mut block = vec![0; BLOCK];
        // The start of a line whose rest has not arrived.
        let mut carry = Vec::new();
        loop {
            if self.is_unwanted() {
                return Ended::Unwanted;
            }
            let read = match stream.read(&mut block) {
                Ok(0) => {
                    // The last line may do without a line feed.
                    let delivered = carry.is_empty() || self.send(Received::Lines(carry));
                    return if delivered { Ended::Closed } else { Ended::Unwanted };
                }
                Ok(read) => &block[..read],
                Err(error) => match error.kind() {
                    ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted => continue,
                    ErrorKind::ConnectionReset => return Ended::Broken(broken_off(&self.server)),
                    _ => return Ended::Broken(format!("socket {}: receiving failed: {error}", self.server)),
                },
            };
            self.heard = true;
            let end = memchr::memrchr(b'\n', read).map_or(0, |at| at + 1);
            if end > 0 {
                carry.extend_from_slice(&read[..end]);
                if !self.send(Received::Lines(std::mem::take(&mut carry))) {
                    return Ended::Unwanted;
                }
            }
            carry.extend_from_slice(&read[end..]);
            if carry.len() > LONGEST_LINE {
                return Ended::Broken(format!("socket {}: a line is longer than {LONGEST_LINE} bytes", self.server));
            }
        }
    }

    /// Waits while the queue is full; false if the task is gone.
    fn send(&self, received: Received) -> bool {
        let sent = self.sender.send(received).is_ok();
        self.signal.wake();
        sent
    }

    fn sleep(&self, time: Duration) -> bool {
        let until = Instant::now() + time;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if self.is_unwanted() || left.is_zero() {
                return left.is_zero();
            }
            thread::sleep(left.min(LOOK));
        }
    }

    fn is_unwanted(&self) -> bool {
        self.stop.load(Ordering::Acquire) || self.signal.is_canceled()
    }
}

fn broken_off(server: &Server) -> String {
    format!("socket {server}: the server broke the connection off instead of closing it")
}
