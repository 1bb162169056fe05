//! Lists of jobs.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use serde::Serialize;
use weir_model::JobSummary;

use crate::answer::{Answer, Json};
use crate::api::{Api, Cluster};
use crate::body;
use crate::error::ApiError;
use crate::shapes::{ByState, LowerCaseCounts, job_type, millis_between};

pub(super) fn routes() -> Router<Arc<Api>> {
    Router::new().route("/jobs", get(list).post(submit)).route("/jobs/overview", get(overview))
}

#[derive(Serialize)]
struct Jobs<T> {
    jobs: Vec<T>,
}

#[derive(Serialize)]
struct JobAndStatus {
    id: String,
    status: &'static str,
}

async fn list(cluster: Cluster) -> Answer<Jobs<JobAndStatus>> {
    let jobs = cluster.jobs().await?;
    let jobs = jobs.iter().map(|job| JobAndStatus { id: job.id.to_string(), status: job.status.name() });
    Ok(Json(Jobs { jobs: jobs.collect() }))
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct JobLine {
    jid: String,
    name: String,
    state: &'static str,
    start_time: u64,
    end_time: i64,
    duration: i64,
    last_modification: u64,
    tasks: LowerCaseCounts,
    #[serde(rename = "jobType")]
    job_type: &'static str,
    #[serde(rename = "schedulerType")]
    scheduler_type: &'static str,
    pending_operators: u32,
}

/// With those that ended lately.
async fn overview(State(api): State<Arc<Api>>, cluster: Cluster) -> Answer<Jobs<JobLine>> {
    let (jobs, now) = (cluster.jobs().await?, api.now());
    Ok(Json(Jobs { jobs: jobs.iter().map(|job| line(job, now)).collect() }))
}

fn line(job: &JobSummary, now: u64) -> JobLine {
    JobLine {
        jid: job.id.to_string(),
        name: job.name.clone(),
        state: job.status.name(),
        start_time: job.start,
        end_time: job.end.map_or(-1, |end| end as i64),
        duration: millis_between(job.start, job.end.unwrap_or(now)),
        last_modification: job.last_modification,
        tasks: LowerCaseCounts(ByState(job.tasks)),
        job_type: job_type(job.bounded),
        scheduler_type: super::job::scheduler_type(job.adaptive),
        pending_operators: 0,
    }
}

/// What `flink run` sends: a graph of Java objects. There is nobody here to run it.
async fn submit(body: axum::body::Body) -> Result<(), ApiError> {
    body::discard(body).await;
    Err(ApiError::new(
        StatusCode::BAD_REQUEST,
        "Weir does not run JobGraphs of Java: a job of Weir is an executable that links the crate `weir`. \
         Upload it with POST /jars/upload and start it with POST /jars/:jarid/run, or use `weir run`.",
    ))
}
