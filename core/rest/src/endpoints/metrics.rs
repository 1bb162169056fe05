//! Metrics over REST: by name, and aggregated over tasks, jobs or TaskManagers.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::routing::get;
use serde::Serialize;
use weir_metrics::{CheckpointFigures, Values, job_metrics, subtask_metrics, value_text};
use weir_model::{JobId, SubtaskView, TaskManagerId};

use super::vertex::Found;
use crate::answer::{Answer, Double, Json};
use crate::api::{Api, Cluster};
use crate::error::ApiError;
use crate::request::{Parameters, Path};

pub(super) fn routes() -> Router<Arc<Api>> {
    let vertex = |suffix: &str| format!("/jobs/{{jobid}}/vertices/{{vertexid}}{suffix}");
    Router::new()
        .route("/jobmanager/metrics", get(job_manager))
        .route("/jobs/metrics", get(jobs))
        .route("/jobs/{jobid}/metrics", get(job))
        .route("/taskmanagers/metrics", get(task_managers))
        .route("/taskmanagers/{taskmanagerid}/metrics", get(task_manager))
        .route(&vertex("/metrics"), get(vertex_metrics))
        .route(&vertex("/watermarks"), get(watermarks))
        .route(&vertex("/jm-operator-metrics"), get(coordinator))
        .route(&vertex("/subtasks/metrics"), get(subtasks))
        .route(&vertex("/subtasks/{subtaskindex}/metrics"), get(subtask))
}

/// A metric; only its name when no values were asked for.
#[derive(Debug, PartialEq, Serialize)]
pub(super) struct Metric {
    id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<String>,
}

/// The names of all metrics, or the values of those in `get=`; names that are not known are left out.
fn select(values: &Values, query: &Parameters) -> Json<Vec<Metric>> {
    let wanted = query.list("get");
    if wanted.is_empty() {
        return Json(values.keys().map(|id| Metric { id: id.clone(), value: None }).collect());
    }
    let known = wanted.into_iter().filter_map(|id| values.get(id).map(|&value| (id, value)));
    Json(known.map(|(id, value)| Metric { id: id.to_owned(), value: Some(value_text(id, value)) }).collect())
}

async fn job_manager(cluster: Cluster, query: Parameters) -> Answer<Vec<Metric>> {
    Ok(select(&cluster.job_manager_metrics().await?, &query))
}

async fn job(State(api): State<Arc<Api>>, cluster: Cluster, path: Path, query: Parameters) -> Answer<Vec<Metric>> {
    let (id, job) = super::job::find(&cluster, &path).await?;
    Ok(select(&job_metrics(&job, &figures(&cluster, id).await, api.now()), &query))
}

/// The job's checkpoints in numbers; without them if it has been forgotten meanwhile.
async fn figures(cluster: &Cluster, id: JobId) -> CheckpointFigures {
    let checkpoints = cluster.checkpoints(id).await.ok().flatten();
    checkpoints.map(|checkpoints| checkpoints.figures()).unwrap_or_default()
}

async fn task_manager(cluster: Cluster, path: Path, query: Parameters) -> Answer<Vec<Metric>> {
    Ok(select(&super::task_managers::find(&cluster, &path).await?.metrics, &query))
}

fn values_of(found: &Found, task: &SubtaskView) -> Values {
    subtask_metrics(&found.job.graph, found.index as u32, task)
}

async fn vertex_metrics(cluster: Cluster, path: Path, query: Parameters) -> Answer<Vec<Metric>> {
    let found = super::vertex::find(&cluster, &path).await?;
    let wanted = query.list("get");
    // With a wide vertex the names are many: only the tasks that are asked for are looked at.
    let asked = |index: u32| {
        let prefix = format!("{index}.");
        wanted.is_empty() || wanted.iter().any(|name| name.starts_with(&prefix))
    };
    let tasks = found.numbered_tasks().filter(|(index, _)| asked(*index));
    let values = tasks.flat_map(|(index, task)| {
        values_of(&found, task).into_iter().map(move |(name, value)| (format!("{index}.{name}"), value))
    });
    Ok(select(&values.collect(), &query))
}

async fn subtask(cluster: Cluster, path: Path, query: Parameters) -> Answer<Vec<Metric>> {
    let found = super::vertex::find(&cluster, &path).await?;
    let (_, task) = found.task(&path)?;
    Ok(select(&values_of(&found, task), &query))
}

/// Weir's coordinators have no metrics.
async fn coordinator(cluster: Cluster, path: Path) -> Answer<Vec<Metric>> {
    super::vertex::find(&cluster, &path).await?;
    Ok(Json(Vec::new()))
}

const WATERMARK: &str = "currentInputWatermark";

async fn watermarks(cluster: Cluster, path: Path) -> Answer<Vec<Metric>> {
    let found = super::vertex::find(&cluster, &path).await?;
    let watermark = |(index, task): (u32, &SubtaskView)| {
        // Flink's mark for "no watermark yet".
        let value = values_of(&found, task).get(WATERMARK).map_or(i64::MIN, |value| *value as i64);
        Metric { id: format!("{index}.{WATERMARK}"), value: Some(value.to_string()) }
    };
    Ok(Json(found.numbered_tasks().map(watermark).collect()))
}

async fn jobs(State(api): State<Arc<Api>>, cluster: Cluster, query: Parameters) -> Answer<Vec<Aggregate>> {
    let wanted = query.parsed_list::<JobId>("jobs")?;
    let mut values = Vec::new();
    for summary in cluster.jobs().await? {
        if wanted.is_empty() || wanted.contains(&summary.id) {
            // A job may be forgotten between the two questions.
            if let Ok(job) = cluster.job(summary.id).await {
                values.push(job_metrics(&job, &figures(&cluster, summary.id).await, api.now()));
            }
        }
    }
    aggregates(&values, &query)
}

async fn task_managers(cluster: Cluster, query: Parameters) -> Answer<Vec<Aggregate>> {
    let wanted = query.list("taskmanagers").into_iter().map(TaskManagerId::new).collect::<BTreeSet<_>>();
    let all = cluster.task_managers().await?;
    let chosen = all.into_iter().filter(|view| wanted.is_empty() || wanted.contains(&view.info.id));
    aggregates(&chosen.map(|view| view.metrics).collect::<Vec<_>>(), &query)
}

async fn subtasks(cluster: Cluster, path: Path, query: Parameters) -> Answer<Vec<Aggregate>> {
    let found = super::vertex::find(&cluster, &path).await?;
    let wanted = query.parsed_list::<IndexRange>("subtasks")?;
    let chosen = |index: &u32| wanted.is_empty() || wanted.iter().any(|range| range.0.contains(index));
    let tasks = found.numbered_tasks().filter(|(index, _)| chosen(index));
    aggregates(&tasks.map(|(_, task)| values_of(&found, task)).collect::<Vec<_>>(), &query)
}

/// `3` or `3-5`.
struct IndexRange(RangeInclusive<u32>);

impl FromStr for IndexRange {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = |text: &str| text.trim().parse::<u32>();
        let range = match text.split_once('-') {
            Some((first, last)) => number(first).and_then(|first| Ok(first..=number(last)?)),
            None => number(text).map(|only| only..=only),
        };
        range.map(IndexRange).map_err(|_| "expected numbers of subtasks, such as 0,2-5".to_owned())
    }
}

/// A metric over several holders; only its name when no values were asked for.
#[derive(Debug, Default, Serialize)]
struct Aggregate {
    id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    min: Option<Double>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max: Option<Double>,
    #[serde(skip_serializing_if = "Option::is_none")]
    avg: Option<Double>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sum: Option<Double>,
    #[serde(skip_serializing_if = "Option::is_none")]
    skew: Option<Double>,
}

const AGGREGATIONS: [&str; 5] = ["min", "max", "avg", "sum", "skew"];

/// All names, or the metrics of `get=` aggregated as `agg=` says. As in Flink, the answer is empty if one of them is nowhere:
/// those who ask for several compare them.
fn aggregates(holders: &[Values], query: &Parameters) -> Answer<Vec<Aggregate>> {
    let agg = query.list("agg").into_iter().map(str::to_ascii_lowercase).collect::<Vec<_>>();
    if let Some(unknown) = agg.iter().find(|name| !AGGREGATIONS.contains(&name.as_str())) {
        let known = AGGREGATIONS.join(", ");
        let problem = format!("Cannot resolve query parameter (agg) from value {unknown:?}: expected {known}");
        return Err(ApiError::bad_parameter(problem));
    }
    let wanted = query.list("get");
    if wanted.is_empty() {
        let names = holders.iter().flat_map(BTreeMap::keys).collect::<BTreeSet<_>>();
        return Ok(Json(names.into_iter().map(|id| Aggregate { id: id.clone(), ..Aggregate::default() }).collect()));
    }
    let mut answer = Vec::with_capacity(wanted.len());
    for id in wanted {
        let values = holders.iter().filter_map(|values| values.get(id).copied()).collect::<Vec<_>>();
        if values.is_empty() {
            return Ok(Json(Vec::new()));
        }
        answer.push(aggregate(id, &values, &agg));
    }
    Ok(Json(answer))
}

/// `values` is not empty.
fn aggregate(id: &str, values: &[f64], agg: &[String]) -> Aggregate {
    let wanted = |name: &str| agg.is_empty() || agg.iter().any(|wanted| wanted == name);
    let sum = values.iter().sum::<f64>();
    let avg = sum / values.len() as f64;
    let when = |name: &str, value: f64| wanted(name).then_some(Double(value));
    Aggregate {
        id: id.to_owned(),
        min: when("min", values.iter().copied().fold(f64::INFINITY, f64::min)),
        max: when("max", values.iter().copied().fold(f64::NEG_INFINITY, f64::max)),
        avg: when("avg", avg),
        sum: when("sum", sum),
        skew: when("skew", skew(values, avg)),
    }
}

/// The average distance from the average, in percent of it, 100 at most.
fn skew(values: &[f64], avg: f64) -> f64 {
    if avg == 0.0 {
        return 0.0;
    }
    let deviation = values.iter().map(|value| (avg - value).abs()).sum::<f64>() / values.len() as f64;
    (deviation / avg * 100.0).min(100.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn skew_is_a_share_of_the_average() {
        let of = |values: &[f64]| skew(values, values.iter().sum::<f64>() / values.len() as f64);
        assert_eq!(of(&[5.0, 5.0]), 0.0);
        assert_eq!(of(&[0.0, 0.0]), 0.0);
        assert_eq!(of(&[5.0, 15.0]), 50.0);
        assert_eq!(of(&[0.0, 0.0, 0.0, 12.0]), 100.0);
    }

    #[test]
    fn subtasks_are_chosen_by_number_or_range() {
        let parse = |text: &str| text.parse::<IndexRange>().map(|range| range.0);
        assert_eq!(parse("3"), Ok(3..=3));
        assert_eq!(parse("2-5"), Ok(2..=5));
        for wrong in ["", "a", "-1", "1-", "1-2-3"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
