//! `weir logs`.

use std::collections::{BTreeSet, VecDeque};

use anyhow::bail;
use reqwest::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};
use weir_config::Configuration;

use crate::arguments::{LogsArgs, OutputFormat};
use crate::client::{Client, Refused};
use crate::failure::{self, usage};
use crate::text;

/// A log file of a process.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct File {
    /// Path of the process in the API: `jobmanager`, or `taskmanagers/<id>`.
    process: String,
    name: String,
    size: u64,
}

#[derive(Debug, Deserialize)]
struct Listing {
    logs: Vec<Listed>,
}

#[derive(Debug, Deserialize)]
struct Listed {
    name: String,
    size: u64,
}

pub(crate) async fn logs(arguments: &LogsArgs, configuration: &Configuration) -> anyhow::Result<u8> {
    let client = Client::new(arguments.cluster.jobmanager.as_deref(), configuration)?;
    let mut files = files_of(&client, &arguments.of).await?;
    if let Some(name) = &arguments.file {
        files.retain(|file| file.name == *name);
        if files.is_empty() {
            return Err(usage(format!("{} has no log file {name:?}; --list shows which there are", arguments.of)));
        }
    }
    if arguments.list {
        return list(&files, arguments.cluster.output);
    }
    if files.is_empty() {
        eprintln!("{} has written no log yet", arguments.of);
    }
    let json = arguments.cluster.output == OutputFormat::Json;
    let several = files.len() > 1;
    let mut rows = Vec::new();
    for file in &files {
        if json {
            let mut content = Vec::new();
            let keep = |bytes: &[u8]| {
                content.extend_from_slice(bytes);
                Ok(())
            };
            read(&client, file, arguments.tail, keep).await?;
            let text = String::from_utf8_lossy(&content);
            rows.push(json!({ "process": file.process, "name": file.name, "text": text }));
            continue;
        }
        if several {
            text::print(&format!("==> {} {}\n", file.process, file.name))?;
        }
        read(&client, file, arguments.tail, text::print_bytes).await?;
    }
    if json {
        text::print(&format!("{}\n", Value::Array(rows)))?;
    }
    Ok(failure::OK)
}

fn list(files: &[File], output: OutputFormat) -> anyhow::Result<u8> {
    match output {
        OutputFormat::Json => {
            let rows = files.iter().map(|f| json!({ "process": f.process, "name": f.name, "size": f.size }));
            text::print(&format!("{}\n", Value::Array(rows.collect())))?;
        }
        OutputFormat::Text => {
            let mut rows = vec![["PROCESS", "FILE", "BYTES"].map(str::to_owned).to_vec()];
            rows.extend(files.iter().map(|f| vec![f.process.clone(), f.name.clone(), f.size.to_string()]));
            text::print(&text::table(&rows))?;
        }
    }
    Ok(failure::OK)
}

/// The files of a process, or those a job's processes wrote.
async fn files_of(client: &Client, of: &str) -> anyhow::Result<Vec<File>> {
    if of.eq_ignore_ascii_case("jobmanager") {
        return listing(client, "jobmanager").await;
    }
    match listing(client, &format!("taskmanagers/{of}")).await {
        Err(error)
            if error.downcast_ref::<Refused>().is_some_and(|refused| refused.status == StatusCode::NOT_FOUND) => {}
        found => return found,
    }
    let Ok(job) = client.find_job(of).await else {
        bail!("there is neither a TaskManager nor a job {of:?} on the cluster at {}", client.base());
    };
    let mut files = listing(client, "jobmanager").await?;
    for task_manager in task_managers_of(client, &job.jid).await? {
        match listing(client, &format!("taskmanagers/{task_manager}")).await {
            Ok(found) => files.extend(found),
            Err(error) => eprintln!("the logs of TaskManager {task_manager} cannot be had: {error}"),
        }
    }
    files.retain(|file| file.name.contains(&job.jid));
    files.sort();
    Ok(files)
}

async fn task_managers_of(client: &Client, job: &str) -> anyhow::Result<BTreeSet<String>> {
    let detail: Value = client.get(&format!("/jobs/{job}")).await?;
    let mut ids = BTreeSet::new();
    for vertex in detail["vertices"].as_array().into_iter().flatten().filter_map(|vertex| vertex["id"].as_str()) {
        let vertex: Value = client.get(&format!("/jobs/{job}/vertices/{vertex}/taskmanagers")).await?;
        let rows = vertex["taskmanagers"].as_array().into_iter().flatten();
        ids.extend(rows.filter_map(|row| row["taskmanager-id"].as_str()).map(str::to_owned));
    }
    // A task that has not been placed names none.
    ids.retain(|id| !id.is_empty() && id != "(unassigned)");
    Ok(ids)
}

async fn listing(client: &Client, process: &str) -> anyhow::Result<Vec<File>> {
    let Listing { logs } = client.get(&format!("/{process}/logs")).await?;
    let file = |Listed { name, size }| File { process: process.to_owned(), name, size };
    Ok(logs.into_iter().map(file).collect())
}

/// Reads a file, or its last lines, to `sink`, in pieces.
async fn read(
    client: &Client,
    file: &File,
    tail: Option<usize>,
    mut sink: impl FnMut(&[u8]) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let mut response = client.text(&format!("/{}/logs/{}", file.process, file.name)).await?;
    let mut last = LastLines::new(tail);
    while let Some(bytes) = response.chunk().await? {
        match &mut last {
            None => sink(&bytes)?,
            Some(last) => last.add(&bytes),
        }
    }
    last.map_or(Ok(()), |last| sink(&last.into_bytes()))
}

/// The last lines of a text that comes in pieces.
struct LastLines {
    count: usize,
    lines: VecDeque<Vec<u8>>,
}

impl LastLines {
    fn new(count: Option<usize>) -> Option<LastLines> {
        count.map(|count| LastLines { count, lines: VecDeque::from([Vec::new()]) })
    }

    fn add(&mut self, bytes: &[u8]) {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            let line = self.lines.back_mut().expect("a line is always begun");
            line.extend_from_slice(piece);
            if piece.ends_with(b"\n") {
                self.lines.push_back(Vec::new());
            }
            // One more than asked for: the last may be empty.
            while self.lines.len() > self.count + 1 {
                self.lines.pop_front();
            }
        }
    }

    fn into_bytes(mut self) -> Vec<u8> {
        if self.lines.back().is_some_and(Vec::is_empty) {
            self.lines.pop_back();
        }
        let skip = self.lines.len().saturating_sub(self.count);
        self.lines.into_iter().skip(skip).flatten().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lines_are_kept_however_the_text_is_cut() {
        for (text, count, expect) in
            [("a\nb\nc\n", 2, "b\nc\n"), ("a\nb\nc", 2, "b\nc"), ("a\n", 5, "a\n"), ("", 3, ""), ("a\nb\n", 0, "")]
        {
            for size in 1..4 {
                let mut last = LastLines::new(Some(count)).unwrap();
                text.as_bytes().chunks(size).for_each(|piece| last.add(piece));
                assert_eq!(last.into_bytes(), expect.as_bytes(), "{text:?} {count} {size}");
            }
        }
    }
}
