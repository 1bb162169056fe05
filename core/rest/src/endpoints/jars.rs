//! Artifacts, which Flink calls jars: upload, list, look at, run, delete.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{FromRequest, Multipart, State};
use axum::http::Request;
use axum::routing::{delete, get, post};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;
use weir_model::JobId;

use super::multipart;
use crate::answer::{Answer, Empty, Json};
use crate::api::{Api, Cluster};
use crate::error::ApiError;
use crate::request::{Object, Parameters, Path, is_multipart};
use crate::shapes::Plan;
use crate::{CarriedState, GatewayError, RunRequest, StoredArtifact};

pub(super) fn routes() -> Router<Arc<Api>> {
    Router::new()
        .route("/jars", get(list))
        .route("/jars/upload", post(upload))
        .route("/jars/{jarid}", delete(remove))
        .route("/jars/{jarid}/plan", get(plan).post(plan))
        .route("/jars/{jarid}/run", post(run))
}

#[derive(Serialize)]
struct Uploaded {
    filename: String,
    status: &'static str,
}

async fn upload(State(api): State<Arc<Api>>, cluster: Cluster, request: Request<Body>) -> Answer<Uploaded> {
    if !is_multipart(request.headers()) {
        crate::body::discard(request.into_body()).await;
        return Err(multipart::none());
    }
    let form = Multipart::from_request(request, &()).await.map_err(|error| ApiError::bad_request(error.body_text()))?;
    let stored = multipart::receive(&api, &cluster, form).await?;
    // Clients take what stands behind the last slash for the id.
    Ok(Json(Uploaded { filename: format!("/flink-web-upload/{}", stored.key), status: "success" }))
}

#[derive(Serialize)]
struct Jars {
    address: String,
    files: Vec<Jar>,
}

#[derive(Serialize)]
struct Jar {
    id: String,
    name: String,
    uploaded: u64,
    entry: Vec<Entry>,
    /// Not in Flink: by it, a client sees that it need not upload the file again.
    sha256: String,
}

#[derive(Serialize)]
struct Entry {
    name: String,
    description: Option<String>,
}

async fn list(State(api): State<Arc<Api>>, cluster: Cluster) -> Answer<Jars> {
    let files = cluster.artifacts().await?.into_iter().map(jar).collect();
    Ok(Json(Jars { address: format!("http://{}", api.advertised()), files }))
}

fn jar(stored: StoredArtifact) -> Jar {
    let entry = stored.jobs.into_iter().map(|name| Entry { name, description: None }).collect();
    let sha256 = stored.artifact.id.to_string();
    Jar { id: stored.key, name: stored.artifact.name, uploaded: stored.uploaded, entry, sha256 }
}

async fn remove(cluster: Cluster, path: Path) -> Answer<Empty> {
    let id = path.text("jarid");
    cluster.delete_artifact(id.to_owned()).await.map_err(|error| missing(id, error))?;
    Ok(Json(Empty {}))
}

/// For Flink a jar that is not there is the client's mistake.
fn missing(id: &str, error: GatewayError) -> ApiError {
    match error {
        GatewayError::NotFound(_) => {
            ApiError::bad_request(format!("File {id} does not exist; the path `jars` lists those that do."))
        }
        other => other.into(),
    }
}

#[derive(Serialize)]
struct PlanAnswer {
    plan: Plan,
    /// Not in Flink: only for a job that is to start from state.
    #[serde(skip_serializing_if = "Option::is_none")]
    state: Option<CarriedState>,
}

async fn plan(cluster: Cluster, path: Path, query: Parameters, body: Object<JarBody>) -> Answer<PlanAnswer> {
    let id = path.text("jarid");
    let request = request(id, &query, body.0)?;
    let planned = cluster.plan(request).await.map_err(|error| could_not_execute(id, error))?;
    Ok(Json(PlanAnswer { plan: Plan::of(planned.id, &planned.graph), state: planned.state }))
}

#[derive(Serialize)]
struct Started {
    jobid: String,
}

async fn run(cluster: Cluster, path: Path, query: Parameters, body: Object<JarBody>) -> Answer<Started> {
    let id = path.text("jarid");
    let request = request(id, &query, body.0)?;
    let job = cluster.run(request).await.map_err(|error| could_not_execute(id, error))?;
    Ok(Json(Started { jobid: job.to_string() }))
}

fn could_not_execute(id: &str, error: GatewayError) -> ApiError {
    match error {
        GatewayError::BadRequest(what) => ApiError::bad_request(format!("Could not execute application. {what}")),
        other => missing(id, other),
    }
}

/// What may stand in the body of plan and run. Flink's clients send numbers and truth values as such or as text, or empty.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct JarBody {
    #[serde(deserialize_with = "as_text")]
    entry_class: Option<String>,
    program_args_list: Option<Vec<String>>,
    #[serde(deserialize_with = "as_text")]
    program_args: Option<String>,
    #[serde(deserialize_with = "as_text")]
    parallelism: Option<String>,
    #[serde(deserialize_with = "as_text")]
    job_id: Option<String>,
    #[serde(deserialize_with = "as_text")]
    savepoint_path: Option<String>,
    #[serde(deserialize_with = "as_text")]
    allow_non_restored_state: Option<String>,
    #[serde(deserialize_with = "as_text")]
    claim_mode: Option<String>,
    /// Its name before Flink 1.20.
    #[serde(deserialize_with = "as_text")]
    restore_mode: Option<String>,
    flink_configuration: Option<BTreeMap<String, Value>>,
    /// Not in Flink: the running job whose state this one is to go on with.
    #[serde(deserialize_with = "as_text")]
    replaces: Option<String>,
}

/// A text, number or truth value as text; nothing if it is null or empty.
fn as_text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    match Option::<Value>::deserialize(deserializer)? {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.trim().to_owned()).filter(|text| !text.is_empty())),
        Some(value @ (Value::Number(_) | Value::Bool(_))) => Ok(Some(value.to_string())),
        Some(other) => Err(serde::de::Error::custom(format!("expected a text or a number, found {other}"))),
    }
}

/// What the client wants: the body before the query.
fn request(artifact: &str, query: &Parameters, body: JarBody) -> Result<RunRequest, ApiError> {
    let text = |own: Option<String>, name: &str| own.or_else(|| query.text(name).map(str::to_owned));
    let mut configuration = configuration(body.flink_configuration.unwrap_or_default())?;
    // As in Flink, these say the same as options, and go before them.
    let restore = [
        ("execution.state-recovery.path", text(body.savepoint_path, "savepointPath")),
        (
            "execution.state-recovery.ignore-unclaimed-state",
            text(body.allow_non_restored_state, "allowNonRestoredState")
                .map(|text| truth(&text, "allowNonRestoredState"))
                .transpose()?,
        ),
        (
            "execution.state-recovery.claim-mode",
            text(body.claim_mode.or(body.restore_mode), "claimMode").map(|text| claim_mode(&text)).transpose()?,
        ),
    ];
    let replaces = text(body.replaces, "replaces").map(|text| text.parse::<JobId>()).transpose();
    let replaces = replaces.map_err(ApiError::bad_parameter)?;
    let from_state = restore[0].1.is_some() || replaces.is_some();
    // Dashboards send the other two with every job; without state to start from they mean nothing.
    let given = restore.into_iter().filter(|_| from_state);
    configuration.extend(given.filter_map(|(key, value)| Some((key.to_owned(), value?))));
    let parallelism = text(body.parallelism, "parallelism").map(|text| parallelism(&text)).transpose()?;
    let job_id = body.job_id.or_else(|| query.text("jobid").map(str::to_owned));
    let job_id = job_id.map(|text| text.parse::<JobId>()).transpose().map_err(ApiError::bad_parameter)?;
    Ok(RunRequest {
        artifact: artifact.to_owned(),
        job: text(body.entry_class, "entry-class"),
        arguments: arguments(query, body.program_args_list, body.program_args)?,
        parallelism,
        configuration,
        job_id,
        replaces,
    })
}

fn parallelism(text: &str) -> Result<u32, ApiError> {
    let number = text.parse().ok().filter(|&number| number > 0);
    number.ok_or_else(|| {
        ApiError::bad_parameter(format!(
            "Cannot resolve parameter (parallelism) from value {text:?}: expected a number of at least 1"
        ))
    })
}

fn truth(text: &str, name: &str) -> Result<String, ApiError> {
    match text.to_ascii_lowercase().as_str() {
        value @ ("true" | "false") => Ok(value.to_owned()),
        _ => Err(ApiError::bad_parameter(format!(
            "Cannot resolve parameter ({name}) from value {text:?}: expected true or false"
        ))),
    }
}

fn claim_mode(text: &str) -> Result<String, ApiError> {
    match text.to_ascii_uppercase().as_str() {
        mode @ ("CLAIM" | "NO_CLAIM") => Ok(mode.to_owned()),
        "LEGACY" => Err(ApiError::bad_request(
            "The claim mode LEGACY leaves open who removes the snapshot, so Weir does not have it: use NO_CLAIM, and it \
             stays yours, or CLAIM, and it is the job's.",
        )),
        _ => Err(ApiError::bad_parameter(format!(
            "Cannot resolve parameter (claimMode) from value {text:?}: expected CLAIM or NO_CLAIM"
        ))),
    }
}

fn arguments(query: &Parameters, list: Option<Vec<String>>, line: Option<String>) -> Result<Vec<String>, ApiError> {
    let from_query = || {
        let list = query.list("programArg").into_iter().map(str::to_owned).collect::<Vec<_>>();
        let line = query.text("program-args").map(words).unwrap_or_default();
        if list.is_empty() { line } else { list }
    };
    match (list, line) {
        (Some(list), Some(line)) if !list.is_empty() && !line.is_empty() => Err(ApiError::bad_request(
            "Confusing request: programArgs and programArgsList are specified, please, use only programArgsList",
        )),
        (Some(list), _) if !list.is_empty() => Ok(list),
        (_, Some(line)) => Ok(words(&line)),
        _ => Ok(from_query()),
    }
}

/// A command line cut at spaces outside of quotes.
fn words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None);
    for character in line.chars() {
        match (quote, character) {
            (Some(open), close) if open == close => quote = None,
            (None, '"' | '\'') => {
                quote = Some(character);
                word.get_or_insert_default();
            }
            (None, space) if space.is_whitespace() => words.extend(word.take()),
            (_, other) => word.get_or_insert_default().push(other),
        }
    }
    words.extend(word);
    words
}

fn configuration(options: BTreeMap<String, Value>) -> Result<BTreeMap<String, String>, ApiError> {
    let text = |(key, value): (String, Value)| match value {
        Value::String(text) => Ok((key, text)),
        Value::Number(_) | Value::Bool(_) => Ok((key, value.to_string())),
        other => {
            Err(ApiError::bad_request(format!("The option {key:?} in flinkConfiguration is {other}: expected a text")))
        }
    };
    options.into_iter().map(text).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_line_is_cut_at_spaces_outside_of_quotes() {
        assert_eq!(words(r#"--input  "my file" --x='a b'c ''"#), ["--input", "my file", "--x=a bc", ""]);
        assert!(words("  ").is_empty());
    }
}
