//! The JobManager process.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::response::Response;
use axum::routing::get;
use serde::Serialize;

use super::job::{OptionInEffect, masked};
use super::process::{self, Logs, MainFile, ThreadDump};
use crate::ProcessRef::JobManager;
use crate::answer::{Answer, Json};
use crate::api::{Api, Cluster};
use crate::error::ApiError;
use crate::request::{Parameters, Path};

pub(super) fn routes() -> Router<Arc<Api>> {
    Router::new()
        .route("/jobmanager/config", get(config))
        .route("/jobmanager/environment", get(environment))
        .route("/jobs/{jobid}/jobmanager/environment", get(environment_of_job))
        .route("/jobmanager/logs", get(logs))
        .route("/jobmanager/logs/{filename}", get(log_file))
        .route("/jobmanager/log", get(log))
        .route("/jobmanager/stdout", get(stdout))
        .route("/jobmanager/thread-dump", get(thread_dump))
}

async fn config(cluster: Cluster) -> Answer<Vec<OptionInEffect>> {
    Ok(Json(masked(&cluster.configuration()).map(|(key, value)| OptionInEffect { key, value }).collect()))
}

#[derive(Serialize)]
struct Environment {
    jvm: Jvm,
    classpath: [String; 0],
}

#[derive(Serialize)]
struct Jvm {
    version: String,
    arch: &'static str,
    options: Vec<String>,
}

async fn environment(State(api): State<Arc<Api>>, _: Cluster) -> Answer<Environment> {
    Ok(Json(environment_of(&api)))
}

/// All jobs have the same JobManager.
async fn environment_of_job(State(api): State<Arc<Api>>, cluster: Cluster, path: Path) -> Answer<Environment> {
    super::job::find(&cluster, &path).await?;
    Ok(Json(environment_of(&api)))
}

/// Under Flink's names what there is instead of a JVM.
fn environment_of(api: &Api) -> Environment {
    let build = if cfg!(debug_assertions) { "debug" } else { "release" };
    let options =
        [format!("commit={}", api.options.commit), format!("build={build}"), format!("os={}", std::env::consts::OS)];
    let version = format!("Weir {} (no JVM)", api.options.version);
    Environment { jvm: Jvm { version, arch: std::env::consts::ARCH, options: options.to_vec() }, classpath: [] }
}

async fn logs(cluster: Cluster) -> Answer<Logs> {
    process::logs(&cluster, JobManager).await
}

async fn log_file(cluster: Cluster, path: Path, query: Parameters) -> Result<Response, ApiError> {
    process::file(&cluster, JobManager, path.text("filename"), &query).await
}

async fn log(cluster: Cluster, query: Parameters) -> Result<Response, ApiError> {
    process::main_file(&cluster, JobManager, MainFile::Log, &query).await
}

async fn stdout(cluster: Cluster, query: Parameters) -> Result<Response, ApiError> {
    process::main_file(&cluster, JobManager, MainFile::Stdout, &query).await
}

async fn thread_dump(cluster: Cluster) -> Answer<ThreadDump> {
    process::stacks(&cluster, JobManager).await
}
