//! What came of a job.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Router;
use axum::routing::get;
use serde::Serialize;
use weir_model::{JobStatus, JobView};

use crate::answer::{Answer, Empty, Json};
use crate::api::{Api, Cluster};
use crate::request::Path;
use crate::shapes::millis_between;

pub(super) fn routes() -> Router<Arc<Api>> {
    Router::new()
        .route("/jobs/{jobid}/execution-result", get(execution_result))
        .route("/jobs/{jobid}/accumulators", get(accumulators))
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct ExecutionResult {
    status: QueueStatus,
    #[serde(skip_serializing_if = "Option::is_none")]
    job_execution_result: Option<JobResult>,
}

#[derive(Serialize)]
struct QueueStatus {
    id: &'static str,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct JobResult {
    id: String,
    application_status: &'static str,
    accumulator_results: Empty,
    net_runtime: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    failure_cause: Option<FailureCause>,
    name: String,
    start_time: u64,
    end_time: u64,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct FailureCause {
    class: String,
    stack_trace: String,
    serialized_throwable: String,
}

async fn execution_result(cluster: Cluster, path: Path) -> Answer<ExecutionResult> {
    let (_, job) = super::job::find(&cluster, &path).await?;
    Ok(Json(if job.summary.status.is_globally_terminal() {
        ExecutionResult { status: QueueStatus { id: "COMPLETED" }, job_execution_result: Some(result(&job)) }
    } else {
        ExecutionResult { status: QueueStatus { id: "IN_PROGRESS" }, job_execution_result: None }
    }))
}

fn result(job: &JobView) -> JobResult {
    let summary = &job.summary;
    let end = summary.end.unwrap_or(summary.last_modification);
    JobResult {
        id: summary.id.to_string(),
        application_status: match summary.status {
            JobStatus::Finished => "SUCCEEDED",
            JobStatus::Failed => "FAILED",
            JobStatus::Canceled => "CANCELED",
            _ => "UNKNOWN",
        },
        accumulator_results: Empty {},
        net_runtime: millis_between(summary.start, end),
        failure_cause: (summary.status == JobStatus::Failed).then(|| failure_cause(job)),
        name: summary.name.clone(),
        start_time: summary.start,
        end_time: end,
    }
}

impl FailureCause {
    /// In the words of `text`, of which the first line stands for it.
    pub(super) fn new(class: &str, text: String) -> Self {
        let serialized_throwable = super::java::serialized_throwable(class, &text);
        Self { class: class.to_owned(), stack_trace: text, serialized_throwable }
    }
}

fn failure_cause(job: &JobView) -> FailureCause {
    let (class, stack_trace) = match job.failures.first() {
        Some(view) => (super::exceptions::exception_name(view.failure.kind), view.failure.to_string()),
        None => ("JobFailed", "The cause of the failure is not known.".to_owned()),
    };
    FailureCause::new(class, stack_trace)
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Accumulators {
    job_accumulators: [Empty; 0],
    user_task_accumulators: [Empty; 0],
    serialized_user_task_accumulators: BTreeMap<String, String>,
}

/// Jobs of Weir have none.
async fn accumulators(cluster: Cluster, path: Path) -> Answer<Accumulators> {
    super::job::find(&cluster, &path).await?;
    Ok(Json(Accumulators {
        job_accumulators: [],
        user_task_accumulators: [],
        serialized_user_task_accumulators: BTreeMap::new(),
    }))
}
