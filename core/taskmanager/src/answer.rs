//! Answers to requests for files and stacks, sent apart from the control stream.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use weir_logging::LogFileError;
use weir_model::{LeaderEpoch, TaskManagerId};
use weir_proto::control::answer_chunk::Content;
use weir_proto::control::{AnswerChunk, Failure, FileInfo, FileList, FileRequest, Stacks};

use crate::connection::Client;
use crate::stacks;

/// Bytes of a file in a message.
const CHUNK: usize = 64 * 1024;

/// Who answers what.
#[derive(Debug, Clone)]
pub(crate) struct Address {
    pub(crate) epoch: LeaderEpoch,
    pub(crate) task_manager: TaskManagerId,
    pub(crate) request: u64,
}

/// Sends the answer to a request for a file, or for the list of files.
pub(crate) fn answer_file(client: Client, address: Address, folder: PathBuf, request: FileRequest) {
    answer(client, address, move |mut chunks| async move {
        if request.name.is_empty() {
            let listed = blocking(move || list(&folder)).await;
            chunks.send(listed).await;
        } else if let Err(error) = read(folder, request, &mut chunks).await {
            chunks.send(failure(&error)).await;
        }
    });
}

/// Sends what the threads of this process and of workers are doing.
pub(crate) fn answer_stacks(client: Client, address: Address, workers: Vec<(String, u32)>) {
    answer(client, address, move |mut chunks| async move {
        let stacks = blocking(move || stacks::of(&workers)).await;
        chunks.send(Content::Stacks(Stacks { stacks })).await;
    });
}

/// The parts of an answer on their way.
struct Chunks {
    address: Address,
    first: bool,
    out: mpsc::Sender<AnswerChunk>,
    open: bool,
}

impl Chunks {
    async fn send(&mut self, content: Content) {
        let Address { epoch, task_manager, request } = &self.address;
        let chunk = match std::mem::take(&mut self.first) {
            true => AnswerChunk {
                epoch: epoch.0,
                task_manager: task_manager.to_string(),
                request: *request,
                content: Some(content),
            },
            false => AnswerChunk { content: Some(content), ..AnswerChunk::default() },
        };
        self.open = self.out.send(chunk).await.is_ok();
    }
}

/// Produces the parts not faster than they are taken. There are few threads for what may block, so none waits for a slow reader.
fn answer<F>(mut client: Client, address: Address, produce: impl FnOnce(Chunks) -> F)
where
    F: Future<Output = ()> + Send + 'static,
{
    let (out, chunks) = mpsc::channel(2);
    let request = address.request;
    tokio::spawn(produce(Chunks { address, first: true, out, open: true }));
    tokio::spawn(async move {
        if let Err(status) = client.answer(ReceiverStream::new(chunks)).await {
            tracing::warn!(request, reason = status.message(), "an answer did not reach the JobManager");
        }
    });
}

/// Does what may block, on a thread for that.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(failed) => match failed.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // The runtime ends, and this task with it.
            Err(_) => std::future::pending().await,
        },
    }
}

fn list(folder: &Path) -> Content {
    match weir_logging::list(folder) {
        Ok(files) => {
            let files = files.into_iter().map(|f| FileInfo { name: f.name, size: f.size, modified: f.modified });
            Content::Files(FileList { files: files.collect() })
        }
        Err(error) => failure(&error),
    }
}

async fn read(folder: PathBuf, request: FileRequest, chunks: &mut Chunks) -> Result<(), LogFileError> {
    let path = folder.join(&request.name);
    let (mut file, mut left) = blocking(move || open(&folder, &request)).await?;
    loop {
        let (back, data) = blocking(move || {
            let mut data = Vec::new();
            let read = (&mut file).take(left.min(CHUNK as u64)).read_to_end(&mut data);
            (file, read.map(|_| data))
        })
        .await;
        file = back;
        let data = data.map_err(|error| LogFileError::Io { path: path.clone(), error })?;
        left -= data.len() as u64;
        let over = data.is_empty() || left == 0;
        // An empty file has an answer as well.
        if !data.is_empty() || chunks.first {
            chunks.send(Content::Data(Bytes::from(data))).await;
        }
        if over || !chunks.open {
            return Ok(());
        }
    }
}

/// The file at the place from which it is wanted, and how many bytes of it are.
fn open(folder: &Path, request: &FileRequest) -> Result<(File, u64), LogFileError> {
    let mut file = weir_logging::open(folder, &request.name)?;
    let failed = |error: io::Error| LogFileError::Io { path: folder.join(&request.name), error };
    let size = file.metadata().map_err(failed)?.len();
    let start = match u64::try_from(request.offset) {
        Ok(offset) => offset.min(size),
        Err(_) => size.saturating_sub(request.offset.unsigned_abs()),
    };
    file.seek(SeekFrom::Start(start)).map_err(failed)?;
    // Not beyond its present end: a file that grows as fast as it is read would never be over.
    let left = match request.limit {
        0 => size - start,
        limit => limit.min(size - start),
    };
    Ok((file, left))
}

fn failure(error: &LogFileError) -> Content {
    let not_found = matches!(error, LogFileError::NotFound { .. });
    Content::Failure(Failure { message: error.to_string(), not_found })
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn answer_to(folder: &Path, name: &str, offset: i64, limit: u64) -> Vec<AnswerChunk> {
        let (out, mut chunks) = mpsc::channel(100);
        let task_manager = TaskManagerId::new("tm");
        let address = Address { epoch: LeaderEpoch(3), task_manager, request: 9 };
        let request = FileRequest { request: 9, name: name.to_owned(), offset, limit };
        let mut sender = Chunks { address, first: true, out, open: true };
        if let Err(error) = read(folder.to_owned(), request, &mut sender).await {
            sender.send(failure(&error)).await;
        }
        drop(sender);
        let mut all = Vec::new();
        while let Some(chunk) = chunks.recv().await {
            all.push(chunk);
        }
        all
    }

    fn text(chunks: &[AnswerChunk]) -> String {
        let bytes = chunks.iter().flat_map(|chunk| match &chunk.content {
            Some(Content::Data(data)) => data.to_vec(),
            other => panic!("{other:?}"),
        });
        String::from_utf8(bytes.collect()).unwrap()
    }

    #[tokio::test]
    async fn files_are_read_from_anywhere_in_pieces() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("a.log"), "0123456789").unwrap();
        std::fs::write(folder.path().join("empty"), "").unwrap();
        let large = "x".repeat(2 * CHUNK + 7);
        std::fs::write(folder.path().join("large"), &large).unwrap();
        let check = async |name, offset, limit, expect: &str| {
            let chunks = answer_to(folder.path(), name, offset, limit).await;
            assert_eq!(text(&chunks), expect, "{name} {offset} {limit}");
            assert_eq!((chunks[0].epoch, chunks[0].request, chunks[0].task_manager.as_str()), (3, 9, "tm"));
        };
        check("a.log", 0, 0, "0123456789").await;
        check("a.log", 4, 3, "456").await;
        check("a.log", -3, 0, "789").await;
        check("a.log", -300, 2, "01").await;
        check("a.log", i64::MIN, 0, "0123456789").await;
        check("a.log", 10, 0, "").await;
        check("a.log", i64::MAX, 0, "").await;
        check("empty", 0, 0, "").await;
        check("../elsewhere/a.log", 0, 1, "0").await;
        check("large", 0, 0, &large).await;
        assert_eq!(answer_to(folder.path(), "large", 0, 0).await.len(), 3);
    }

    #[tokio::test]
    async fn a_file_that_is_not_there_is_a_failure() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["none", "..", "/etc/passwd"] {
            let chunks = answer_to(folder.path(), name, 0, 0).await;
            let Some(Content::Failure(failure)) = &chunks[0].content else { panic!("{chunks:?}") };
            assert!(failure.not_found && chunks.len() == 1, "{failure:?}");
        }
    }
}
