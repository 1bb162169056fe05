//! Client of the storage service that a TaskManager has for its workers.

use std::io::{self, IoSlice, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use weir_proto::storage::request::Operation;
use weir_proto::storage::response::Result as Answer;
use weir_proto::storage::{
    self as proto, Failed, FailureKind, Finished, MAX_CHUNK_BYTES, MAX_REQUEST_BYTES, PROTOCOL_VERSION, Request,
    Response,
};
use weir_proto::{FrameError, read_frame, write_frame};

use super::local::space_for;
use super::{StateFile, StateStorage, StorageError, StorageErrorKind};

/// Writes of at least this many bytes go to the socket as they are; smaller ones are gathered.
const LARGE: usize = 128 * 1024;

/// Storage as the TaskManager serves it to its workers, over a Unix socket. Each file that is written, and each read, has a
/// connection of its own: none waits for another.
#[derive(Debug, Clone)]
pub struct StorageService {
    socket: PathBuf,
    copies: bool,
}

impl StorageService {
    /// The service that listens at `socket`. Nothing is asked of it yet.
    pub fn new(socket: impl Into<PathBuf>) -> StorageService {
        StorageService { socket: socket.into(), copies: false }
    }

    /// Whether the service is to keep copies of checkpoints on this machine, for a quick restart.
    pub fn with_copies(self, copies: bool) -> StorageService {
        StorageService { copies, ..self }
    }
}

impl StateStorage for StorageService {
    fn create(&self, uri: &str) -> Result<Box<dyn StateFile>, StorageError> {
        let create = Operation::Create(proto::Create { uri: uri.to_owned(), copy: self.copies });
        let connection = Connection::open(&self.socket, "creating", uri, create)?;
        Ok(Box::new(RemoteFile { connection, gathered: Vec::new(), written: 0 }))
    }

    fn read(&self, uri: &str, offset: u64, len: u64) -> Result<Vec<u8>, StorageError> {
        let read = Operation::Read(proto::Read { uri: uri.to_owned(), offset, length: len });
        let mut connection = Connection::open(&self.socket, "reading", uri, read)?;
        // The service has looked whether the file has them.
        let mut bytes = space_for(uri, len)?;
        while (bytes.len() as u64) < len {
            connection.receive_chunk(len, &mut bytes)?;
        }
        Ok(bytes)
    }
}

/// A connection on which the service has agreed to do something with a file.
struct Connection {
    stream: UnixStream,
    uri: String,
}

impl Connection {
    fn open(socket: &Path, operation: &'static str, uri: &str, wanted: Operation) -> Result<Connection, StorageError> {
        if uri.len() > MAX_REQUEST_BYTES / 2 {
            let problem = format!("it is {} bytes long", uri.len());
            return Err(StorageError::new(StorageErrorKind::InvalidUri, operation, uri, problem));
        }
        let stream = UnixStream::connect(socket).map_err(|error| {
            let problem = format!("the storage service at {} cannot be reached ({error})", socket.display());
            StorageError::new(StorageErrorKind::Service, operation, uri, problem)
        })?;
        let mut connection = Connection { stream, uri: uri.to_owned() };
        let request = Request { protocol_version: PROTOCOL_VERSION, operation: Some(wanted) };
        let sent = write_frame(&mut connection.stream, &request);
        // If it could not be sent, the service may have said why.
        match (connection.answer(operation), sent) {
            (Ok(Answer::Opened(_)), Ok(())) => Ok(connection),
            (Err(error), _) => Err(error),
            (Ok(_), Err(error)) => Err(connection.broken(operation, &error)),
            (Ok(_), Ok(())) => Err(connection.nonsense(operation, "it did not open the file")),
        }
    }

    /// What the service says next; a failure is an error.
    fn answer(&mut self, operation: &'static str) -> Result<Answer, StorageError> {
        match read_frame::<Response>(&mut self.stream) {
            Ok(Some(Response { result: Some(Answer::Failed(failed)) })) => {
                Err(StorageError::new(kind_of(failed.kind()), operation, &self.uri, detail_of(failed)))
            }
            Ok(Some(Response { result: Some(answer) })) => Ok(answer),
            Ok(Some(Response { result: None })) => Err(self.nonsense(operation, "it gave no answer")),
            Ok(None) => Err(self.broken(operation, &FrameError::Io(io::ErrorKind::UnexpectedEof.into()))),
            Err(error) => Err(self.broken(operation, &error)),
        }
    }

    /// Sends one chunk; an empty one ends the file.
    fn send_chunk(&mut self, operation: &'static str, chunk: &[u8]) -> Result<(), StorageError> {
        let prefix = (chunk.len() as u32).to_le_bytes();
        match write_both(&mut self.stream, &prefix, chunk) {
            Ok(()) => Ok(()),
            // The service says why before it hangs up.
            Err(error) => match self.answer(operation) {
                Err(failed) if failed.kind() != StorageErrorKind::Service => Err(failed),
                Ok(_) | Err(_) => Err(self.broken(operation, &error.into())),
            },
        }
    }

    /// Appends the next chunk of `len` bytes in all to `bytes`, which has room for them.
    fn receive_chunk(&mut self, len: u64, bytes: &mut Vec<u8>) -> Result<(), StorageError> {
        let mut prefix = [0; 4];
        self.stream.read_exact(&mut prefix).map_err(|error| self.broken("reading", &error.into()))?;
        let (length, before) = (u32::from_le_bytes(prefix) as usize, bytes.len());
        if length == 0 {
            return Err(match self.answer("reading") {
                Err(failed) => failed,
                Ok(_) => self.nonsense("reading", "it ended the file without a reason"),
            });
        }
        if length > MAX_CHUNK_BYTES || (before + length) as u64 > len {
            return Err(self.nonsense("reading", "it sent more than was asked for"));
        }
        let received = (&self.stream).take(length as u64).read_to_end(bytes);
        match received {
            Ok(found) if found == length => Ok(()),
            Ok(_) => Err(self.broken("reading", &FrameError::Io(io::ErrorKind::UnexpectedEof.into()))),
            Err(error) => Err(self.broken("reading", &error.into())),
        }
    }

    fn broken(&self, operation: &'static str, error: &FrameError) -> StorageError {
        let problem = format!("the connection with the storage service broke ({error})");
        StorageError::new(StorageErrorKind::Service, operation, &self.uri, problem)
    }

    fn nonsense(&self, operation: &'static str, what: &str) -> StorageError {
        let problem = format!("the storage service does not speak this worker's protocol: {what}");
        StorageError::new(StorageErrorKind::Service, operation, &self.uri, problem)
    }
}

/// Writes one behind the other, without putting them together first.
fn write_both(stream: &mut UnixStream, mut first: &[u8], mut second: &[u8]) -> io::Result<()> {
    while !first.is_empty() {
        let written = match stream.write_vectored(&[IoSlice::new(first), IoSlice::new(second)]) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => written,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        let of_first = written.min(first.len());
        first = &first[of_first..];
        second = &second[written - of_first..];
    }
    stream.write_all(second)
}

fn detail_of(failed: Failed) -> String {
    if failed.kind() == FailureKind::Request {
        return format!("the storage service does not understand this worker: {}", failed.detail);
    }
    failed.detail
}

fn kind_of(kind: FailureKind) -> StorageErrorKind {
    match kind {
        FailureKind::Unspecified => StorageErrorKind::Failed,
        FailureKind::Request => StorageErrorKind::Service,
        FailureKind::InvalidUri => StorageErrorKind::InvalidUri,
        FailureKind::UnsupportedScheme => StorageErrorKind::UnsupportedScheme,
        FailureKind::NotFound => StorageErrorKind::NotFound,
        FailureKind::Truncated => StorageErrorKind::Truncated,
        FailureKind::PermissionDenied => StorageErrorKind::PermissionDenied,
        FailureKind::ReadOnly => StorageErrorKind::ReadOnly,
        FailureKind::NoSpace => StorageErrorKind::NoSpace,
        FailureKind::NotAFolder => StorageErrorKind::NotAFolder,
    }
}

/// A file that the service writes.
struct RemoteFile {
    connection: Connection,
    gathered: Vec<u8>,
    written: u64,
}

impl RemoteFile {
    fn send_gathered(&mut self, operation: &'static str) -> Result<(), StorageError> {
        if !self.gathered.is_empty() {
            self.connection.send_chunk(operation, &self.gathered)?;
            self.gathered.clear();
        }
        Ok(())
    }
}

impl StateFile for RemoteFile {
    fn write(&mut self, mut bytes: &[u8]) -> Result<(), StorageError> {
        self.written += bytes.len() as u64;
        if bytes.len() >= LARGE {
            self.send_gathered("writing")?;
        }
        while bytes.len() >= LARGE {
            let (chunk, rest) = bytes.split_at(bytes.len().min(MAX_CHUNK_BYTES));
            self.connection.send_chunk("writing", chunk)?;
            bytes = rest;
        }
        if self.gathered.len() + bytes.len() > MAX_CHUNK_BYTES {
            self.send_gathered("writing")?;
        }
        self.gathered.extend_from_slice(bytes);
        Ok(())
    }

    fn finish(mut self: Box<Self>) -> Result<u64, StorageError> {
        self.send_gathered("writing")?;
        self.connection.send_chunk("finishing", &[])?;
        match self.connection.answer("finishing")? {
            Answer::Finished(Finished { length }) if length == self.written => Ok(length),
            Answer::Finished(Finished { length }) => {
                let what = format!("it finished {length} bytes of {}", self.written);
                Err(self.connection.nonsense("finishing", &what))
            }
            Answer::Opened(_) | Answer::Failed(_) => {
                Err(self.connection.nonsense("finishing", "it did not finish the file"))
            }
        }
    }
}

#[cfg(test)]
mod tests;
