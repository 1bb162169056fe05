//! What went wrong in a job.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Router;
use axum::routing::get;
use serde::Serialize;
use weir_model::{FailureKind, FailureView};

use crate::answer::{Answer, Json};
use crate::api::{Api, Cluster};
use crate::error::ApiError;
use crate::request::{Parameters, Path};
use crate::shapes::endpoint;

pub(super) fn routes() -> Router<Arc<Api>> {
    Router::new().route("/jobs/{jobid}/exceptions", get(exceptions))
}

/// The history, and before it the older form that some clients still read.
#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Exceptions {
    root_exception: Option<String>,
    timestamp: Option<u64>,
    all_exceptions: Vec<OldEntry>,
    truncated: bool,
    #[serde(rename = "exceptionHistory")]
    exception_history: History,
}

#[derive(Serialize)]
struct OldEntry {
    exception: String,
    task: Option<String>,
    location: Option<String>,
    endpoint: Option<String>,
    timestamp: u64,
    #[serde(rename = "taskManagerId")]
    task_manager_id: Option<String>,
}

#[derive(Serialize)]
struct History {
    entries: Vec<RootEntry>,
    truncated: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct RootEntry {
    #[serde(flatten)]
    entry: Entry,
    concurrent_exceptions: Vec<Entry>,
}

/// A failure; place and task are left out if it was not a task's.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    exception_name: &'static str,
    stacktrace: String,
    timestamp: u64,
    failure_labels: BTreeMap<&'static str, &'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    task_name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    endpoint: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    location: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    task_manager_id: Option<String>,
}

async fn exceptions(cluster: Cluster, path: Path, query: Parameters) -> Answer<Exceptions> {
    let (_, job) = super::job::find(&cluster, &path).await?;
    let limit = query.get::<u32>("maxExceptions")?.unwrap_or(20) as usize;
    let wanted = label_filter(&query)?;
    let matching =
        job.failures.iter().filter(|failure| wanted.iter().all(|(key, value)| has_label(failure, key, value)));
    let matching = matching.collect::<Vec<_>>();
    let shown = &matching[..limit.min(matching.len())];
    let truncated = shown.len() < matching.len() || job.failures_truncated;
    let newest = job.failures.first();
    Ok(Json(Exceptions {
        root_exception: newest.map(text),
        timestamp: newest.map(|failure| failure.timestamp),
        all_exceptions: shown
            .iter()
            .filter(|failure| failure.task.is_some())
            .map(|failure| old_entry(failure))
            .collect(),
        truncated,
        exception_history: History { entries: shown.iter().map(|failure| root_entry(failure)).collect(), truncated },
    }))
}

/// `failureLabelFilter=key:value,…`: only failures that have all these labels.
fn label_filter<'q>(query: &'q Parameters) -> Result<Vec<(&'q str, &'q str)>, ApiError> {
    let pair = |text: &'q str| {
        text.split_once(':').ok_or_else(|| {
            ApiError::bad_parameter(format!(
                "Cannot resolve query parameter (failureLabelFilter) from value {text:?}: expected key:value"
            ))
        })
    };
    query.list("failureLabelFilter").into_iter().map(pair).collect()
}

fn has_label(failure: &FailureView, key: &str, value: &str) -> bool {
    labels(failure).get(key).is_some_and(|own| *own == value)
}

/// What enrichers are in Flink: who can put it right.
fn labels(failure: &FailureView) -> BTreeMap<&'static str, &'static str> {
    BTreeMap::from([("kind", failure.failure.kind.name())])
}

/// Stands where Flink has the class of the exception.
pub(super) fn exception_name(kind: FailureKind) -> &'static str {
    match kind {
        FailureKind::Panic => "TaskPanicked",
        FailureKind::Source => "SourceFailed",
        FailureKind::Sink => "SinkFailed",
        FailureKind::Network => "ConnectionLost",
        FailureKind::Worker => "WorkerLost",
        FailureKind::Job => "JobFailed",
        FailureKind::State => "StateUnreadable",
    }
}

fn text(failure: &FailureView) -> String {
    format!("{}: {}", exception_name(failure.failure.kind), failure.failure)
}

fn entry(failure: &FailureView) -> Entry {
    let place = failure.task_manager.is_some().then(|| endpoint(failure.host.as_deref().unwrap_or_default()));
    Entry {
        exception_name: exception_name(failure.failure.kind),
        stacktrace: text(failure),
        timestamp: failure.timestamp,
        failure_labels: labels(failure),
        task_name: failure.task_name.clone(),
        endpoint: place.clone(),
        location: place,
        task_manager_id: failure.task_manager.as_ref().map(ToString::to_string),
    }
}

fn root_entry(failure: &FailureView) -> RootEntry {
    RootEntry { entry: entry(failure), concurrent_exceptions: failure.concurrent.iter().map(entry).collect() }
}

fn old_entry(failure: &FailureView) -> OldEntry {
    let entry = entry(failure);
    OldEntry {
        exception: entry.stacktrace,
        task: entry.task_name,
        location: entry.location,
        endpoint: entry.endpoint,
        timestamp: entry.timestamp,
        task_manager_id: entry.task_manager_id,
    }
}
