//! The cluster as a whole.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::routing::{delete, get};
use serde::Serialize;
use weir_model::{JobStatus, JobSummary};

use crate::answer::{Answer, Empty, Json};
use crate::api::{Api, Cluster};

pub(super) fn routes() -> Router<Arc<Api>> {
    Router::new()
        .route("/overview", get(overview))
        .route("/config", get(config))
        .route("/cluster", delete(shut_down))
        .route("/datasets", get(datasets))
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Overview {
    taskmanagers: u32,
    slots_total: u32,
    slots_available: u32,
    jobs_running: u32,
    jobs_finished: u32,
    jobs_cancelled: u32,
    jobs_failed: u32,
    flink_version: String,
    flink_commit: String,
}

async fn overview(State(api): State<Arc<Api>>, cluster: Cluster) -> Answer<Overview> {
    let resources = cluster.resources().await?;
    let jobs = cluster.jobs().await?;
    let count = |of: fn(&JobStatus) -> bool| jobs.iter().filter(|job: &&JobSummary| of(&job.status)).count() as u32;
    Ok(Json(Overview {
        taskmanagers: resources.task_managers,
        slots_total: resources.slots_total,
        slots_available: resources.slots_available,
        jobs_running: count(|status| !status.is_globally_terminal()),
        jobs_finished: count(|status| *status == JobStatus::Finished),
        jobs_cancelled: count(|status| *status == JobStatus::Canceled),
        jobs_failed: count(|status| *status == JobStatus::Failed),
        flink_version: api.options.version.clone(),
        flink_commit: api.options.commit.clone(),
    }))
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Config {
    refresh_interval: u64,
    timezone_name: &'static str,
    timezone_offset: i32,
    flink_version: String,
    flink_revision: String,
    features: Features,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Features {
    web_submit: bool,
    web_cancel: bool,
    web_rescale: bool,
    web_history: bool,
}

/// What the dashboard asks first. Answered without a leader too: it is about this process only.
async fn config(State(api): State<Arc<Api>>) -> Answer<Config> {
    let options = &api.options;
    Ok(Json(Config {
        refresh_interval: options.refresh_interval.as_millis() as u64,
        timezone_name: "UTC",
        timezone_offset: 0,
        flink_version: options.version.clone(),
        flink_revision: format!("{} @ {}", options.commit, options.commit_date),
        features: Features {
            web_submit: options.submit_enabled,
            web_cancel: options.cancel_enabled,
            web_rescale: options.rescale_enabled,
            web_history: false,
        },
    }))
}

async fn shut_down(cluster: Cluster) -> Answer<Empty> {
    cluster.shut_down().await?;
    Ok(Json(Empty {}))
}

#[derive(Serialize)]
struct Datasets {
    #[serde(rename = "dataSets")]
    data_sets: [Empty; 0],
}

/// Weir keeps no results between jobs.
async fn datasets() -> Answer<Datasets> {
    Ok(Json(Datasets { data_sets: [] }))
}
