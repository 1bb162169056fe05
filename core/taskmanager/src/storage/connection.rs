//! One connection of a worker: one file.

use std::io;
use std::sync::Arc;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use prost::Message;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use weir_proto::storage::request::Operation;
use weir_proto::storage::response::Result as Answer;
use weir_proto::storage::{
    Create, Failed, Finished, MAX_CHUNK_BYTES, MAX_REQUEST_BYTES, Opened, PROTOCOL_VERSION, Read, Request, Response,
};
use weir_storage::{FileSystem, FileWriter, IfExists, StorageError};

use super::FileSystems;
use super::copies::{Copying, JobCopies};
use super::failure::{failed, stranger, truncated};

/// What a worker's connections read and write.
#[derive(Clone)]
pub(super) struct Files {
    pub(super) systems: Arc<FileSystems>,
    /// Places for chunks that arrive or are being written.
    pub(super) chunks: Arc<Semaphore>,
    pub(super) copies: Arc<JobCopies>,
}

/// Why a connection ends before its file was written or read.
#[derive(Debug)]
enum End {
    /// The worker is told why.
    Failed(Failed),
    /// The worker is gone.
    Gone,
}

impl From<StorageError> for End {
    fn from(error: StorageError) -> End {
        End::Failed(failed(&error))
    }
}

impl From<io::Error> for End {
    fn from(_: io::Error) -> End {
        End::Gone
    }
}

/// A part of a file, and its place in memory.
struct Chunk {
    bytes: Bytes,
    place: Option<OwnedSemaphorePermit>,
}

/// Serves one connection to its end.
pub(super) async fn serve(stream: UnixStream, files: &Files) {
    let (incoming, outgoing) = stream.into_split();
    let mut connection = Connection { incoming, outgoing };
    let end = match connection.request().await {
        Ok(Operation::Create(create)) => connection.write_file(files, &create).await,
        Ok(Operation::Read(read)) => connection.read_file(files, &read).await,
        Err(end) => Err(end),
    };
    if let Err(End::Failed(failed)) = end {
        tracing::debug!(kind = ?failed.kind(), detail = failed.detail, "a file of a snapshot cannot be served");
        // A worker that is gone need not know.
        let _ = connection.answer(Answer::Failed(failed)).await;
    }
}

struct Connection {
    incoming: OwnedReadHalf,
    outgoing: OwnedWriteHalf,
}

impl Connection {
    async fn request(&mut self) -> Result<Operation, End> {
        let length = self.incoming.read_u32_le().await? as usize;
        if length > MAX_REQUEST_BYTES {
            return Err(End::Failed(stranger(format!(
                "a request has at most {MAX_REQUEST_BYTES} bytes, not {length}"
            ))));
        }
        let bytes = self.receive(length).await?;
        let request = Request::decode(bytes).map_err(|error| End::Failed(stranger(error.to_string())))?;
        match request {
            Request { protocol_version: PROTOCOL_VERSION, operation: Some(operation) } => Ok(operation),
            Request { protocol_version: PROTOCOL_VERSION, operation: None } => {
                Err(End::Failed(stranger("the request says nothing that this TaskManager knows")))
            }
            Request { protocol_version: found, .. } => Err(End::Failed(stranger(format!(
                "it speaks version {found} of the storage protocol, the TaskManager version {PROTOCOL_VERSION}; build the job \
                 with the same version of Weir"
            )))),
        }
    }

    async fn write_file(&mut self, files: &Files, Create { uri, copy }: &Create) -> Result<(), End> {
        let (system, path) = (files.systems)(uri)?;
        let mut file = system.create(&path, IfExists::Replace).await?;
        let mut copy = if *copy { files.copies.begin(uri).await } else { None };
        self.answer(Answer::Opened(Opened {})).await?;
        let length = self.receive_file(files, &mut file, &mut copy).await?;
        file.finish().await?;
        if let Some(copy) = copy {
            copy.finish();
        }
        self.answer(Answer::Finished(Finished { length })).await?;
        Ok(())
    }

    /// Writes chunks until the last one; says how many bytes there were.
    async fn receive_file(
        &mut self,
        files: &Files,
        file: &mut Box<dyn FileWriter>,
        copy: &mut Option<Copying>,
    ) -> Result<u64, End> {
        let mut length = 0;
        let mut chunk = self.receive_chunk(files).await?;
        while !chunk.bytes.is_empty() {
            let Chunk { bytes, place } = chunk;
            length += bytes.len() as u64;
            let stored = async {
                let copied = async {
                    if let Some(copying) = copy.take() {
                        *copy = copying.write(bytes.clone()).await;
                    }
                };
                let (written, ()) = tokio::join!(file.write(bytes.clone()), copied);
                drop((bytes, place));
                written
            };
            let (stored, next) = tokio::join!(stored, self.receive_chunk(files));
            stored?;
            chunk = next?;
        }
        Ok(length)
    }

    async fn receive_chunk(&mut self, files: &Files) -> Result<Chunk, End> {
        let length = self.incoming.read_u32_le().await? as usize;
        if length > MAX_CHUNK_BYTES {
            return Err(End::Failed(stranger(format!("a chunk has at most {MAX_CHUNK_BYTES} bytes, not {length}"))));
        }
        let place = files.chunks.clone().acquire_owned().await.ok();
        Ok(Chunk { bytes: self.receive(length).await?, place })
    }

    async fn receive(&mut self, length: usize) -> io::Result<Bytes> {
        let mut bytes = BytesMut::with_capacity(length);
        while bytes.len() < length {
            let left = length - bytes.len();
            if self.incoming.read_buf(&mut (&mut bytes).limit(left)).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        Ok(bytes.freeze())
    }

    async fn read_file(&mut self, files: &Files, read: &Read) -> Result<(), End> {
        let Read { uri, offset, length } = read;
        let (system, path) = (files.systems)(uri)?;
        let mut sent = 0;
        if let Some(mut copy) = files.copies.find(uri, *offset, *length) {
            self.answer(Answer::Opened(Opened {})).await?;
            while let Some(bytes) = copy.next().await {
                sent += bytes.len() as u64;
                self.send(bytes).await?;
            }
            if sent == *length {
                return Ok(());
            }
            // The copy is damaged or gone, and has been given up.
        } else {
            let size = system.metadata(&path).await?.size;
            if offset.checked_add(*length).is_none_or(|end| end > size) {
                return Err(End::Failed(truncated(size, *offset, *length)));
            }
            self.answer(Answer::Opened(Opened {})).await?;
        }
        let rest = self.send_original(&*system, &path, offset + sent, length - sent).await;
        if let Err(End::Failed(_)) = rest {
            // Where a chunk is expected.
            self.outgoing.write_u32_le(0).await?;
        }
        rest
    }

    /// Sends a part of a file that is said to have it.
    async fn send_original(
        &mut self,
        system: &dyn FileSystem,
        path: &str,
        offset: u64,
        length: u64,
    ) -> Result<(), End> {
        let mut reader = system.read(path, offset, Some(length)).await?;
        let mut sent = 0;
        let mut bytes = reader.next().await?;
        while let Some(chunk) = bytes {
            sent += chunk.len() as u64;
            let (next, passed_on) = tokio::join!(reader.next(), self.send(chunk));
            passed_on?;
            bytes = next?;
        }
        if sent == length { Ok(()) } else { Err(End::Failed(truncated(offset + sent, offset, length))) }
    }

    /// Sends bytes of a file, in as many chunks as they need.
    async fn send(&mut self, mut bytes: Bytes) -> io::Result<()> {
        while !bytes.is_empty() {
            let chunk = bytes.split_to(bytes.len().min(MAX_CHUNK_BYTES));
            let prefix = (chunk.len() as u32).to_le_bytes();
            self.outgoing.write_all_buf(&mut Buf::chain(prefix.as_slice(), chunk)).await?;
        }
        Ok(())
    }

    async fn answer(&mut self, answer: Answer) -> io::Result<()> {
        let response = Response { result: Some(answer) };
        let mut frame = BytesMut::with_capacity(4 + response.encoded_len());
        frame.put_u32_le(response.encoded_len() as u32);
        response.encode(&mut frame).expect("a buffer grows as needed");
        self.outgoing.write_all(&frame).await
    }
}
