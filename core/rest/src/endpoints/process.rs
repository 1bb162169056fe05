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
        return Err(ApiError::not_found(missing(&of, which)));
    };
    open(cluster, of, file, query).await
}

fn missing(of: &ProcessRef, which: MainFile) -> String {
    match which {
        MainFile::Log => "The process has no log file; the path `logs` lists the files it has.".to_owned(),
        MainFile::Stdout => format!(
            "Nobody keeps what this process prints itself: whoever starts it may send its output to a file weir-{}-NAME.out in its log folder. \
             What jobs print is in the files that the path `logs` lists.",
            role(of)
        ),
    }
}

fn role(of: &ProcessRef) -> &'static str {
    match of {
        ProcessRef::JobManager => "jobmanager",
        ProcessRef::TaskManager(_) => "taskmanager",
    }
}

/// The newest file of the kind that the process itself writes: what coordinators and workers print is not what it prints. Its name begins
/// with the role, with or without `weir-` in front; `local` is the role of a process that is JobManager and TaskManager. Several
/// TaskManagers may have one folder, so a file with the right id comes first.
fn choose<'f>(files: &'f [FileInfo], of: &ProcessRef, which: MainFile) -> Option<&'f FileInfo> {
    let extension = match which {
        MainFile::Log => ".log",
        MainFile::Stdout => ".out",
    };
    let of_role = |file: &&FileInfo| {
        let name = file.name.strip_prefix("weir-").unwrap_or(&file.name);
        name.starts_with(role(of)) || name.starts_with("local-")
    };
    let has_id = |file: &FileInfo| match of {
        ProcessRef::JobManager => true,
        ProcessRef::TaskManager(id) => file.name.contains(id.as_str()),
    };
    let candidates = files.iter().filter(|file| file.name.ends_with(extension)).filter(of_role);
    candidates.max_by_key(|file| (has_id(file), file.modified))
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
    fn only_files_of_the_process_itself_are_its_log_and_output() {
        let file = |name: &str, modified| FileInfo { name: name.to_owned(), size: 1, modified };
        let task_manager = ProcessRef::TaskManager(weir_model::TaskManagerId::new("tm-1"));
        let choose =
            |files: &[FileInfo], of: &ProcessRef, which| choose(files, of, which).map(|file| file.name.clone());
        let named = |name: &str| Some(name.to_owned());
        let files = [
            file("weir-taskmanager-tm-1.log", 2),
            file("weir-taskmanager-tm-1.log.1", 9),
            file("weir-taskmanager-tm-2.log", 3),
            file("taskmanager-tm-1.out", 1),
            file("worker-a.log", 9),
            file("worker-a.out", 9),
            file("coordinator-b.out", 9),
        ];
        assert_eq!(choose(&files, &task_manager, MainFile::Log), named("weir-taskmanager-tm-1.log"));
        assert_eq!(choose(&files, &task_manager, MainFile::Stdout), named("taskmanager-tm-1.out"));
        for which in [MainFile::Log, MainFile::Stdout] {
            assert_eq!(choose(&files, &ProcessRef::JobManager, which), None);
            assert_eq!(choose(&files[4..], &task_manager, which), None);
        }
        let local = [file("weir-local-7.log", 1), file("coordinator-b.out", 9)];
        for of in [&task_manager, &ProcessRef::JobManager] {
            assert_eq!(choose(&local, of, MainFile::Log), named("weir-local-7.log"));
            assert_eq!(choose(&local, of, MainFile::Stdout), None);
        }
    }
}
