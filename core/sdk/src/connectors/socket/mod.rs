//! [`SocketTextSource`]: lines from a TCP connection.

mod connection;

#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use weir_dataflow::operator::Collector;
use weir_dataflow::record::Text;
use weir_dataflow::source::{
    Boundedness, EnumeratorContext, NextSplit, ReaderContext, ReaderStatus, ReaderWaker, Source, SourceError,
    SourceReader, SplitEnumerator,
};
use weir_derive::Record;

use self::connection::{Connection, Received, TaskSignal};
use super::files::{SkipLog, Skipped};
use super::snapshot;
use super::text::{Block, InvalidUtf8};

/// Lines emitted by one poll.
const POLL: usize = 8192;

/// The lines a server sends over TCP, without their line ends, as [`Text`]. For trying out: `nc -lk 9999` is a server.
///
/// One subtask connects and reads, whatever the parallelism. When the server closes the connection, the source ends;
/// with [`retries`](Self::retries) it connects again first. What was received cannot be received again: this source is at-most-once.
/// Lines that came after the checkpoint a job is restored from are lost, and it continues with what the server sends then.
///
/// ```no_run
/// # use weir::prelude::*;
/// # fn job(env: &Environment) -> weir::Result<()> {
/// let lines = env.source(SocketTextSource::new("localhost", 9999));
/// # lines.discard();
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct SocketTextSource {
    server: Server,
    invalid: InvalidUtf8,
    skipped: Skipped,
}

/// Where to connect and how insistently.
#[derive(Debug, Clone)]
struct Server {
    host: String,
    port: u16,
    retries: u32,
    retry_delay: Duration,
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

impl SocketTextSource {
    /// The lines that the server at `host` and `port` sends.
    pub fn new(host: impl Into<String>, port: u16) -> Self {
        let server = Server { host: host.into(), port, retries: 0, retry_delay: Duration::from_millis(500) };
        SocketTextSource { server, invalid: InvalidUtf8::Fail, skipped: Skipped::default() }
    }

    /// Connects up to `count` times more, one after the other, when the server cannot be reached or closes the
    /// connection. Lines that arrive begin the count anew. If it is used up, a source whose last connection was closed
    /// properly ends, any other fails.
    pub fn retries(mut self, count: u32) -> Self {
        self.server.retries = count;
        self
    }

    /// How long to wait before connecting again; half a second unless set.
    pub fn retry_delay(mut self, delay: Duration) -> Self {
        self.server.retry_delay = delay;
        self
    }

    /// Decides what happens to a line that is not UTF-8; [`InvalidUtf8::Fail`] unless set.
    pub fn invalid_utf8(mut self, choice: InvalidUtf8) -> Self {
        self.invalid = choice;
        self
    }

    /// The number of lines left out by [`InvalidUtf8::Skip`], in this process.
    pub fn skipped(&self) -> Skipped {
        self.skipped.clone()
    }
}

impl Source for SocketTextSource {
    type Item = Text;
    type Split = ConnectionSplit;
    type Enumerator = ConnectionEnumerator;
    type Reader = SocketReader;

    /// Unbounded: whether and when the server closes the connection is not known.
    fn boundedness(&self) -> Boundedness {
        Boundedness::Unbounded
    }

    fn name(&self) -> String {
        format!("Source: socket {}", self.server)
    }

    fn create_enumerator(&self, context: &EnumeratorContext) -> Result<ConnectionEnumerator, SourceError> {
        let ready = match &context.restored {
            Some(state) => snapshot::decode(state, "a socket source")?,
            None => vec![ConnectionSplit { received: 0 }],
        };
        Ok(ConnectionEnumerator { ready })
    }

    fn create_reader(&self, context: &ReaderContext) -> Result<SocketReader, SourceError> {
        Ok(SocketReader::new(self, Arc::new(context.waker.clone())))
    }
}

impl TaskSignal for ReaderWaker {
    fn wake(&self) {
        ReaderWaker::wake(self);
    }

    fn is_canceled(&self) -> bool {
        ReaderWaker::is_canceled(self)
    }
}

/// The one connection of a socket source.
#[derive(Debug, Clone, PartialEq, Eq, Record)]
#[record(crate = "weir_dataflow::record")]
pub struct ConnectionSplit {
    /// Bytes of the lines emitted so far; only for messages.
    pub received: u64,
}

/// Gives the connection to the subtask that asks first.
#[derive(Debug)]
pub struct ConnectionEnumerator {
    ready: Vec<ConnectionSplit>,
}

impl SplitEnumerator for ConnectionEnumerator {
    type Split = ConnectionSplit;

    fn next_split(&mut self, _subtask: u32) -> Result<NextSplit<ConnectionSplit>, SourceError> {
        Ok(self.ready.pop().map_or(NextSplit::Finished, NextSplit::Split))
    }

    fn add_back(&mut self, splits: Vec<ConnectionSplit>) {
        self.ready.extend(splits);
    }

    fn snapshot(&self) -> Result<Vec<u8>, SourceError> {
        Ok(snapshot::encode(&self.ready))
    }
}

/// Reads the lines that a connection's thread received.
pub struct SocketReader {
    server: Server,
    invalid: InvalidUtf8,
    skips: SkipLog,
    signal: Arc<dyn TaskSignal>,
    open: Option<OpenConnection>,
}

struct OpenConnection {
    connection: Connection,
    block: Block,
    received: u64,
}

impl SocketReader {
    fn new(source: &SocketTextSource, signal: Arc<dyn TaskSignal>) -> SocketReader {
        SocketReader {
            server: source.server.clone(),
            invalid: source.invalid,
            skips: SkipLog::new(&source.skipped, "lines"),
            signal,
            open: None,
        }
    }
}

impl fmt::Debug for SocketReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SocketReader({}, connected: {})", self.server, self.open.is_some())
    }
}

impl SourceReader for SocketReader {
    type Item = Text;
    type Split = ConnectionSplit;

    fn add_split(&mut self, split: ConnectionSplit) -> Result<(), SourceError> {
        let connection = Connection::open(self.server.clone(), Arc::clone(&self.signal))?;
        self.open = Some(OpenConnection { connection, block: Block::empty(), received: split.received });
        Ok(())
    }

    fn poll<C: Collector<Text>>(&mut self, out: &mut C) -> Result<ReaderStatus, SourceError> {
        let Some(open) = &mut self.open else { return Ok(ReaderStatus::NeedSplit) };
        if open.block.is_empty() {
            match open.connection.receive() {
                Received::Nothing => return Ok(ReaderStatus::Wait(None)),
                Received::End => {
                    self.open = None;
                    return Ok(ReaderStatus::NeedSplit);
                }
                Received::Failed(message) => return Err(SourceError::new(message)),
                Received::Lines(bytes) => {
                    let len = bytes.len();
                    open.block = Block::new(bytes, 0, len, open.received);
                    open.received += len as u64;
                }
            }
            if self.invalid == InvalidUtf8::Fail
                && let Some((at, found)) = open.block.invalid()
            {
                return Err(SourceError::new(format!(
                    "{}; make the server send UTF-8, or choose to replace or skip such lines with `.invalid_utf8(…)`",
                    not_utf8(&self.server, at, found)
                )));
            }
        }
        let (server, skips) = (&self.server, &mut self.skips);
        open.block.emit(POLL, self.invalid, out, |at, found| skips.skip(|| not_utf8(server, at, found)));
        Ok(ReaderStatus::More)
    }

    fn snapshot(&self) -> Vec<ConnectionSplit> {
        self.open.iter().map(|open| ConnectionSplit { received: open.block.position() }).collect()
    }
}

fn not_utf8(server: &Server, at: u64, found: &[u8]) -> String {
    let found = &found[..found.len().min(4)];
    format!("socket {server}: received byte {at} is not UTF-8 text (found {found:02x?})")
}
