//! `/metrics` for Prometheus.

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::net::TcpListener;
use tokio::sync::oneshot;

use crate::event_loop::{Input, Inputs};

/// Answers scrapes until its task is dropped.
pub(crate) async fn serve(listener: TcpListener, inputs: Inputs) {
    let router = Router::new().route("/metrics", get(metrics)).with_state(inputs);
    if let Err(error) = axum::serve(listener, router).await {
        tracing::warn!(%error, "the metrics endpoint has ended");
    }
}

async fn metrics(State(inputs): State<Inputs>) -> Response {
    let (answer, exposition) = oneshot::channel();
    inputs.send(Input::Scrape(answer));
    match exposition.await {
        Ok(text) => ([(header::CONTENT_TYPE, weir_metrics::CONTENT_TYPE)], text).into_response(),
        Err(_) => (StatusCode::SERVICE_UNAVAILABLE, "the TaskManager is about to end\n").into_response(),
    }
}
