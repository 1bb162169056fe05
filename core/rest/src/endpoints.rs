//! Which path is answered by what.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::DefaultBodyLimit;
use axum::http::{HeaderMap, Method, Request, Uri};
use axum::response::{IntoResponse, Response};

use crate::RestOptions;
use crate::api::Api;
use crate::error::ApiError;

mod checkpoints;
mod cluster;
mod dashboard;
mod exceptions;
mod jars;
mod java;
mod job;
mod job_manager;
mod jobs;
mod metrics;
mod multipart;
mod outcome;
mod process;
mod prometheus;
mod savepoints;
mod task_managers;
mod vertex;

/// All paths, with and without `/v1`.
pub(crate) fn router(options: &RestOptions) -> Router<Arc<Api>> {
    let routes = routes(options);
    Router::new()
        .nest("/v1", routes.clone())
        .merge(routes)
        .merge(dashboard::routes())
        .fallback(not_found)
        .method_not_allowed_fallback(not_found)
        // Bodies have limits of their own, in other words.
        .layer(DefaultBodyLimit::disable())
}

fn routes(options: &RestOptions) -> Router<Arc<Api>> {
    let routes = Router::new()
        .merge(cluster::routes())
        .merge(jobs::routes())
        .merge(job::routes())
        .merge(exceptions::routes())
        .merge(outcome::routes())
        .merge(checkpoints::routes())
        .merge(savepoints::routes())
        .merge(vertex::routes())
        .merge(metrics::routes())
        .merge(task_managers::routes())
        .merge(job_manager::routes())
        .merge(prometheus::routes());
    // As in Flink, the paths are not there when submission is off.
    if options.submit_enabled { routes.merge(jars::routes()) } else { routes }
}

async fn not_found(uri: Uri, body: Body) -> ApiError {
    crate::body::discard(body).await;
    ApiError::not_found(format!("Not found: {uri}"))
}

/// The answer to a request that was not let in. A browser that asks for the page gets it even so, because only the page can
/// ask its reader for the token; there is nothing of the cluster in it.
pub(crate) fn refuse(error: ApiError, request: &Request<Body>) -> Response {
    let page = request.uri().path() == "/" && *request.method() == Method::GET && wants_html(request.headers());
    let mut response = error.into_response();
    if page && response.status() == axum::http::StatusCode::UNAUTHORIZED {
        let challenge = response.headers_mut().remove(axum::http::header::WWW_AUTHENTICATE);
        response = dashboard::page();
        *response.status_mut() = axum::http::StatusCode::UNAUTHORIZED;
        if let Some(challenge) = challenge {
            response.headers_mut().insert(axum::http::header::WWW_AUTHENTICATE, challenge);
        }
    }
    response
}

fn wants_html(headers: &HeaderMap) -> bool {
    let accept = headers.get(axum::http::header::ACCEPT).and_then(|accept| accept.to_str().ok());
    accept.is_some_and(|accept| accept.contains("text/html"))
}
