//! Log files of the JobManager, and of TaskManagers over their connections.

use std::fs::File;
use std::io::{self, Read};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{self, Stream};
use tokio::sync::mpsc::Receiver;
use weir_logging::LogFileError;
use weir_model::TaskManagerId;
use weir_proto::control::answer_chunk::Content;
use weir_proto::control::{Failure, FileRequest, ForTaskManager};
use weir_rest::{FileBody, FileInfo, GatewayError, ProcessRef};

use super::no_task_manager;
use crate::shared::Shared;

/// Bytes read at a time.
const CHUNK: usize = 64 * 1024;
/// How long a TaskManager may take until the first part of its answer is here, and from each to the next.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

pub(super) async fn list(shared: &Shared, of: ProcessRef) -> Result<Vec<FileInfo>, GatewayError> {
    match of {
        ProcessRef::JobManager => {
            let folder = shared.options.log_dir.clone();
            let files = blocking(move || weir_logging::list(&folder).map_err(error_of)).await?;
            let info =
                |file: weir_logging::LogFile| FileInfo { name: file.name, size: file.size, modified: file.modified };
            Ok(files.into_iter().map(info).collect())
        }
        ProcessRef::TaskManager(id) => {
            let request = |request| file_request(request, String::new());
            let (first, _) = ask(shared, &id, request).await?;
            let Content::Files(list) = first else { return Err(unexpected(&id)) };
            let info = |file: weir_proto::control::FileInfo| FileInfo {
                name: file.name,
                size: file.size,
                modified: file.modified,
            };
            Ok(list.files.into_iter().map(info).collect())
        }
    }
}

pub(super) async fn open(shared: &Arc<Shared>, of: ProcessRef, name: String) -> Result<FileBody, GatewayError> {
    match of {
        ProcessRef::JobManager => {
            let folder = shared.options.log_dir.clone();
            let file = blocking(move || weir_logging::open(&folder, &name).map_err(error_of)).await?;
            let size = file.metadata().ok().map(|metadata| metadata.len());
            // A log grows while it is read; what was promised is what is sent.
            let left = size.unwrap_or(u64::MAX);
            Ok(FileBody { size, content: Box::pin(stream::unfold(Some((file, left)), read_on)) })
        }
        ProcessRef::TaskManager(id) => {
            if name.is_empty() {
                // To a TaskManager it would mean the list.
                return Err(GatewayError::NotFound("a log file has a name".to_owned()));
            }
            let (first, rest) = ask(shared, &id, |request| file_request(request, name)).await?;
            let Content::Data(data) = first else { return Err(unexpected(&id)) };
            Ok(FileBody { size: None, content: Box::pin(contents(id, data, rest)) })
        }
    }
}

fn file_request(request: u64, name: String) -> ForTaskManager {
    ForTaskManager::FileRequest(FileRequest { request, name, offset: 0, limit: 0 })
}

/// Asks a TaskManager; returns the first part of its answer and what brings the others.
pub(super) async fn ask(
    shared: &Shared,
    id: &TaskManagerId,
    message: impl FnOnce(u64) -> ForTaskManager,
) -> Result<(Content, Receiver<Content>), GatewayError> {
    let connection = shared.task_managers.get(id).ok_or_else(|| no_task_manager(id))?;
    let mut answer = shared.requests.open();
    connection.send(message(answer.id));
    match tokio::time::timeout(PATIENCE, answer.parts.recv()).await {
        Ok(Some(Content::Failure(Failure { message, not_found: true }))) => Err(GatewayError::NotFound(message)),
        Ok(Some(Content::Failure(Failure { message, not_found: false }))) => Err(GatewayError::Internal(message)),
        Ok(Some(first)) => Ok((first, answer.into_rest())),
        Ok(None) => Err(unexpected(id)),
        Err(_) => Err(GatewayError::Timeout(format!(
            "the TaskManager {id} did not answer within {PATIENCE:?}: it is overloaded, frozen, or about to be lost"
        ))),
    }
}

fn unexpected(id: &TaskManagerId) -> GatewayError {
    GatewayError::Internal(format!(
        "the TaskManager {id} gave an answer that is none: it is of another version of Weir"
    ))
}

/// The error when a TaskManager says nothing more in the middle of an answer.
pub(super) fn stopped(id: &TaskManagerId) -> GatewayError {
    GatewayError::Timeout(format!("the TaskManager {id} stopped in the middle of its answer"))
}

fn contents(
    id: TaskManagerId,
    first: Bytes,
    rest: Receiver<Content>,
) -> impl Stream<Item = Result<Bytes, GatewayError>> + Send {
    stream::unfold((id, Some(first), Some(rest)), |(id, first, rest)| async move {
        let mut rest = rest?;
        if let Some(first) = first {
            return Some((Ok(first), (id, None, Some(rest))));
        }
        match tokio::time::timeout(PATIENCE, rest.recv()).await {
            Ok(Some(Content::Data(data))) => Some((Ok(data), (id, None, Some(rest)))),
            Ok(Some(Content::Failure(failure))) => {
                Some((Err(GatewayError::Internal(failure.message)), (id, None, None)))
            }
            Ok(Some(Content::Files(_) | Content::Stacks(_)) | None) => None,
            Err(_) => Some((Err(stopped(&id)), (id, None, None))),
        }
    })
}

type Reading = Option<(File, u64)>;

async fn read_on(reading: Reading) -> Option<(Result<Bytes, GatewayError>, Reading)> {
    let (file, left) = reading?;
    let read = tokio::task::spawn_blocking(move || {
        let mut bytes = Vec::new();
        (&file).take(left.min(CHUNK as u64)).read_to_end(&mut bytes).map(|_| (file, bytes))
    });
    match read.await.map_err(io::Error::other).and_then(|read| read) {
        Ok((_, bytes)) if bytes.is_empty() => None,
        Ok((file, bytes)) => {
            let left = left - bytes.len() as u64;
            Some((Ok(bytes.into()), Some((file, left))))
        }
        Err(error) => Some((Err(GatewayError::Internal(format!("a log file cannot be read: {error}"))), None)),
    }
}

fn error_of(error: LogFileError) -> GatewayError {
    match error {
        LogFileError::NotFound { .. } => GatewayError::NotFound(error.to_string()),
        LogFileError::Io { .. } => GatewayError::Internal(error.to_string()),
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, GatewayError> + Send + 'static,
) -> Result<T, GatewayError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|error| Err(GatewayError::Internal(error.to_string())))
}
