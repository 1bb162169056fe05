//! Answers to requests for files and stacks, sent apart from the control stream.

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
    answer(client, address, move |chunks| {
        if request.name.is_empty() {
            chunks.send(list(&folder));
        } else if let Err(error) = read(&folder, &request, chunks) {
            chunks.send(failure(&error));
        }
    });
}

/// Sends what the threads of this process and of workers are doing.
pub(crate) fn answer_stacks(client: Client, address: Address, workers: Vec<(String, u32)>) {
    answer(client, address, move |chunks| chunks.send(Content::Stacks(Stacks { stacks: stacks::of(&workers) })));
}

/// The parts of an answer on their way.
struct Chunks {
    address: Address,
    first: bool,
    out: mpsc::Sender<AnswerChunk>,
    open: bool,
}

impl Chunks {
    fn send(&mut self, content: Content) {
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
        self.open = self.out.blocking_send(chunk).is_ok();
    }
}

/// Produces the parts on a thread of their own, as reading files may block, and not faster than they are taken.
fn answer(mut client: Client, address: Address, produce: impl FnOnce(&mut Chunks) + Send + 'static) {
    let (out, chunks) = mpsc::channel(2);
    let request = address.request;
    tokio::task::spawn_blocking(move || produce(&mut Chunks { address, first: true, out, open: true }));
    tokio::spawn(async move {
        if let Err(status) = client.answer(ReceiverStream::new(chunks)).await {
            tracing::warn!(request, reason = status.message(), "an answer did not reach the JobManager");
        }
    });
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

fn read(folder: &Path, request: &FileRequest, chunks: &mut Chunks) -> Result<(), LogFileError> {
    let mut file = weir_logging::open(folder, &request.name)?;
    let failed = |error: io::Error| LogFileError::Io { path: folder.join(&request.name), error };
    let size = file.metadata().map_err(failed)?.len();
    let start = match u64::try_from(request.offset) {
        Ok(offset) => offset.min(size),
        Err(_) => size.saturating_sub(request.offset.unsigned_abs()),
    };
    file.seek(SeekFrom::Start(start)).map_err(failed)?;
    // Not beyond its present end: a file that grows as fast as it is read would never be over.
    let mut left = match request.limit {
        0 => size - start,
        limit => limit.min(size - start),
    };
    loop {
        let mut data = Vec::new();
        (&mut file).take(left.min(CHUNK as u64)).read_to_end(&mut data).map_err(failed)?;
        left -= data.len() as u64;
        let over = data.is_empty() || left == 0;
        // An empty file has an answer as well.
        if !data.is_empty() || chunks.first {
            chunks.send(Content::Data(Bytes::from(data)));
        }
        if over || !chunks.open {
            return Ok(());
        }
    }
}

fn failure(error: &LogFileError) -> Content {
    let not_found = matches!(error, LogFileError::NotFound { .. });
    Content::Failure(Failure { message: error.to_string(), not_found })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer_to(folder: &Path, name: &str, offset: i64, limit: u64) -> Vec<AnswerChunk> {
        let (out, mut chunks) = mpsc::channel(100);
        let task_manager = TaskManagerId::new("tm");
        let address = Address { epoch: LeaderEpoch(3), task_manager, request: 9 };
        let request = FileRequest { request: 9, name: name.to_owned(), offset, limit };
        let folder = folder.to_owned();
        let mut sender = Chunks { address, first: true, out, open: true };
        if let Err(error) = read(&folder, &request, &mut sender) {
            sender.send(failure(&error));
        }
        drop(sender);
        std::iter::from_fn(|| chunks.blocking_recv()).collect()
    }

    fn text(chunks: &[AnswerChunk]) -> String {
        let bytes = chunks.iter().flat_map(|chunk| match &chunk.content {
            Some(Content::Data(data)) => data.to_vec(),
            other => panic!("{other:?}"),
        });
        String::from_utf8(bytes.collect()).unwrap()
    }

    #[test]
    fn files_are_read_from_anywhere_in_pieces() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("a.log"), "0123456789").unwrap();
        std::fs::write(folder.path().join("empty"), "").unwrap();
        let large = "x".repeat(2 * CHUNK + 7);
        std::fs::write(folder.path().join("large"), &large).unwrap();
        let check = |name, offset, limit, expect: &str| {
            let chunks = answer_to(folder.path(), name, offset, limit);
            assert_eq!(text(&chunks), expect, "{name} {offset} {limit}");
            assert_eq!((chunks[0].epoch, chunks[0].request, chunks[0].task_manager.as_str()), (3, 9, "tm"));
        };
        check("a.log", 0, 0, "0123456789");
        check("a.log", 4, 3, "456");
        check("a.log", -3, 0, "789");
        check("a.log", -300, 2, "01");
        check("a.log", i64::MIN, 0, "0123456789");
        check("a.log", 10, 0, "");
        check("a.log", i64::MAX, 0, "");
        check("empty", 0, 0, "");
        check("../elsewhere/a.log", 0, 1, "0");
        check("large", 0, 0, &large);
        assert_eq!(answer_to(folder.path(), "large", 0, 0).len(), 3);
    }

    #[test]
    fn a_file_that_is_not_there_is_a_failure() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["none", "..", "/etc/passwd"] {
            let chunks = answer_to(folder.path(), name, 0, 0);
            let Some(Content::Failure(failure)) = &chunks[0].content else { panic!("{chunks:?}") };
            assert!(failure.not_found && chunks.len() == 1, "{failure:?}");
        }
    }
}
