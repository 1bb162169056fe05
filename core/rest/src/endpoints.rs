//! Which path is answered by what.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::DefaultBodyLimit;
use axum::http::{Request, Uri};
use axum::response::{IntoResponse, Response};

use crate::RestOptions;
use crate::api::Api;
use crate::error::ApiError;

mod cluster;

/// All paths, with and without `/v1`.
pub(crate) fn router(options: &RestOptions) -> Router<Arc<Api>> {
    let routes = routes(options);
    Router::new()
        .nest("/v1", routes.clone())
        .merge(routes)
        .fallback(not_found)
        .method_not_allowed_fallback(not_found)
        // Bodies have limits of their own, in other words.
        .layer(DefaultBodyLimit::disable())
}

fn routes(_options: &RestOptions) -> Router<Arc<Api>> {
    Router::new().merge(cluster::routes())
}

async fn not_found(uri: Uri, body: Body) -> ApiError {
    crate::body::discard(body).await;
    ApiError::not_found(format!("Not found: {uri}"))
}

/// The answer to a request that was not let in.
pub(crate) fn refuse(error: ApiError, _request: &Request<Body>) -> Response {
    error.into_response()
}
