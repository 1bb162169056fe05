//! For Prometheus: the JobManager's metrics, and where to find those of all.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::response::Response;
use axum::routing::get;
use serde::Serialize;
use weir_model::TaskManagerView;

use crate::answer::{Answer, Json, text};
use crate::api::{Api, Cluster};
use crate::error::ApiError;
use crate::shapes::in_address;

pub(super) fn routes() -> Router<Arc<Api>> {
    Router::new().route("/metrics", get(metrics)).route("/prometheus/targets", get(targets))
}

async fn metrics(cluster: Cluster) -> Result<Response, ApiError> {
    Ok(text(weir_metrics::CONTENT_TYPE, cluster.prometheus().await?))
}

/// A group of targets as `http_sd_configs` reads them. Every target has its own labels, so it is a group by itself.
#[derive(Serialize)]
struct TargetGroup {
    targets: [String; 1],
    labels: BTreeMap<&'static str, String>,
}

/// TaskManagers whose metrics are not served are left out.
async fn targets(State(api): State<Arc<Api>>, cluster: Cluster) -> Answer<Vec<TargetGroup>> {
    let job_manager = TargetGroup {
        targets: [api.advertised()],
        labels: BTreeMap::from([("component", "jobmanager".to_owned()), ("version", api.options.version.clone())]),
    };
    let task_managers = cluster.task_managers().await?;
    let task_managers = task_managers.iter().filter(|view| view.info.metrics_port != 0).map(target);
    Ok(Json(std::iter::once(job_manager).chain(task_managers).collect()))
}

fn target(view: &TaskManagerView) -> TargetGroup {
    let address = format!("{}:{}", in_address(&view.info.host), view.info.metrics_port);
    let mut labels = BTreeMap::from([
        ("component", "taskmanager".to_owned()),
        ("taskmanager", view.info.id.to_string()),
        ("version", view.info.version.clone()),
    ]);
    labels.extend(view.provider.as_ref().map(|provider| ("provider", provider.clone())));
    TargetGroup { targets: [address], labels }
}
