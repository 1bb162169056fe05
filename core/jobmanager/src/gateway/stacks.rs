//! What threads are doing.

use std::fs;

use weir_proto::control::ForTaskManager;
use weir_proto::control::answer_chunk::Content;
use weir_rest::{GatewayError, ProcessRef, Stack};

use super::files;
use crate::shared::Shared;

pub(super) async fn of(shared: &Shared, of: ProcessRef) -> Result<Vec<Stack>, GatewayError> {
    match of {
        ProcessRef::JobManager => {
            let own = tokio::task::spawn_blocking(own_threads).await;
            own.map_err(|error| GatewayError::Internal(error.to_string()))
        }
        ProcessRef::TaskManager(id) => {
            let ask = |request| ForTaskManager::StacksRequest { request };
            let (first, mut rest) = files::ask(shared, &id, ask).await?;
            let mut stacks = Vec::new();
            let mut next = Some(first);
            while let Some(content) = next {
                if let Content::Stacks(part) = content {
                    stacks.extend(part.stacks.into_iter().map(|it| Stack { name: it.name, text: it.text }));
                }
                next = match tokio::time::timeout(files::PATIENCE, rest.recv()).await {
                    Ok(next) => next,
                    Err(_) => return Err(files::stopped(&id)),
                };
            }
            Ok(stacks)
        }
    }
}

/// The threads of this process as the kernel shows them. A native program has no cheap way to walk its threads' stacks; where a
/// thread waits tells most of what is asked for.
fn own_threads() -> Vec<Stack> {
    let Ok(entries) = fs::read_dir("/proc/self/task") else { return Vec::new() };
    let mut threads: Vec<(u32, Stack)> = entries
        .flatten()
        .filter_map(|entry| {
            let read = |name: &str| Some(fs::read_to_string(entry.path().join(name)).ok()?.trim().to_owned());
            let tid = entry.file_name().to_str()?.parse().ok()?;
            let name = read("comm")?;
            let state =
                read("status")?.lines().find_map(|line| Some(line.strip_prefix("State:")?.trim().to_owned()))?;
            let mut text = format!("\"{name}\" tid={tid}\n   state: {state}\n");
            if let Some(place) = read("wchan").filter(|place| !place.is_empty() && place != "0") {
                text.push_str(&format!("   waits in kernel function: {place}\n"));
            }
            Some((tid, Stack { name, text }))
        })
        .collect();
    threads.sort_by_key(|(tid, _)| *tid);
    threads.into_iter().map(|(_, stack)| stack).collect()
}
