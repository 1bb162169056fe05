//! Log files and stacks of the JobManager and of TaskManagers.

use axum::response::Response;
use serde::Serialize;

use crate::answer::{self, Answer, Json};
use crate::api::Cluster;
use crate::error::ApiError;
use crate::request::Parameters;
use crate::{FileInfo, GatewayError, ProcessRef};

#[derive(Serialize)]
pub(super) struct Logs {
    logs: Vec<LogLine>,
}

#[derive(Serialize)]
struct LogLine {
    name: String,
    size: u64,
    mtime: u64,
}

pub(super) async fn logs(cluster: &Cluster, of: ProcessRef) -> Answer<Logs> {
    let files = files(cluster, of).await?;
    let logs = files.into_iter().map(|file| LogLine { name: file.name, size: file.size, mtime: file.modified });
    Ok(Json(Logs { logs: logs.collect() }))
}

async fn files(cluster: &Cluster, of: ProcessRef) -> Result<Vec<FileInfo>, ApiError> {
    match cluster.files(of.clone()).await {
        Ok(files) => Ok(files),
        Err(error) => Err(explain(&of, error)),
    }
}

fn explain(of: &ProcessRef, error: GatewayError) -> ApiError {
    match (of, error) {
        (ProcessRef::TaskManager(id), GatewayError::NotFound(_)) => super::task_managers::unknown(id),
        (_, error) => error.into(),
    }
}

/// The file called `name`, which is one of those listed: no other file can be asked for, whatever the name looks like.
pub(super) async fn file(
    cluster: &Cluster,
    of: ProcessRef,
    name: &str,
    query: &Parameters,
) -> Result<Response, ApiError> {
    let name = last_element(name);
    let listed = files(cluster, of.clone()).await?;
    let Some(file) = listed.iter().find(|file| file.name == name) else {
        return Err(ApiError::not_found(format!("This file does not exist in the log folder: {name:?}")));
    };
    open(cluster, of, file, query).await
}

/// The content, with `offset=N` from there on, with `offset=-N` the last N bytes. Flink has no such parameter.
async fn open(cluster: &Cluster, of: ProcessRef, file: &FileInfo, query: &Parameters) -> Result<Response, ApiError> {
    let offset = query.get::<i64>("offset")?.unwrap_or(0);
    let offset = match u64::try_from(offset) {
        Ok(from_start) => from_start,
        Err(_) => file.size.saturating_sub(offset.unsigned_abs()),
    };
    let name = file.name.clone();
    Ok(answer::file(if offset == 0 {
        cluster.file(of, name).await?
    } else {
        cluster.file_from(of, name, offset).await?
    }))
}

fn last_element(name: &str) -> &str {
    name.rsplit(['/', '\\']).next().unwrap_or_default()
}

/// Which of a process's files is meant by a path without a name.
#[derive(Debug, Clone, Copy)]
pub(super) enum MainFile {
    /// What the process logs.
    Log,
    /// What it writes to its standard output.
    Stdout,
}

pub(super) async fn main_file(
    cluster: &Cluster,
    of: ProcessRef,
    which: MainFile,
    query: &Parameters,
) -> Result<Response, ApiError> {
    let listed = files(cluster, of.clone()).await?;
    let Some(file) = choose(&listed, &of, which) else {
        let what = match which {
            MainFile::Log => "log file",
            MainFile::Stdout => "file of its standard output",
        };
        return Err(ApiError::not_found(format!("The process has no {what}; the path `logs` lists the files it has.")));
    };
    open(cluster, of, file, query).await
}

/// The newest file of the kind, one of the process itself before those of its workers.
fn choose<'f>(files: &'f [FileInfo], of: &ProcessRef, which: MainFile) -> Option<&'f FileInfo> {
    let role = match of {
        ProcessRef::JobManager => "jobmanager",
        ProcessRef::TaskManager(_) => "taskmanager",
    };
    let extension = match which {
        MainFile::Log => ".log",
        MainFile::Stdout => ".out",
    };
    let candidates = files.iter().filter(|file| file.name.ends_with(extension));
    candidates.max_by_key(|file| (file.name.contains(role), file.modified))
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ThreadDump {
    thread_infos: Vec<ThreadInfo>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ThreadInfo {
    thread_name: String,
    stringified_thread_info: String,
}

pub(super) async fn stacks(cluster: &Cluster, of: ProcessRef) -> Answer<ThreadDump> {
    let stacks = cluster.stacks(of.clone()).await.map_err(|error| explain(&of, error))?;
    let infos =
        stacks.into_iter().map(|stack| ThreadInfo { thread_name: stack.name, stringified_thread_info: stack.text });
    Ok(Json(ThreadDump { thread_infos: infos.collect() }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_last_element_of_a_name_counts() {
        for (name, expect) in [
            ("weir.log", "weir.log"),
            ("../../etc/passwd", "passwd"),
            ("/etc/passwd", "passwd"),
            ("a\\..\\b", "b"),
            ("..", ".."),
            ("logs/", ""),
        ] {
            assert_eq!(last_element(name), expect);
        }
    }

    #[test]
    fn the_log_of_the_process_itself_is_preferred() {
        let file = |name: &str, modified| FileInfo { name: name.to_owned(), size: 1, modified };
        let files =
            [file("worker-a.log", 9), file("taskmanager.log", 2), file("taskmanager.log.1", 3), file("a.out", 1)];
        let of = ProcessRef::TaskManager(weir_model::TaskManagerId::new("tm"));
        let choose = |files: &[FileInfo], of, which| choose(files, of, which).map(|file| file.name.clone());
        let named = |name: &str| Some(name.to_owned());
        assert_eq!(choose(&files, &of, MainFile::Log), named("taskmanager.log"));
        assert_eq!(choose(&files, &of, MainFile::Stdout), named("a.out"));
        assert_eq!(choose(&files[..1], &of, MainFile::Stdout), None);
        assert_eq!(choose(&files, &ProcessRef::JobManager, MainFile::Log), named("worker-a.log"));
    }
}
