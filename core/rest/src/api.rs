//! From a request to an answer: access, routes, limits, headers.

use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::Router;
use axum::body::Body;
use axum::extract::FromRequestParts;
use axum::http::uri::PathAndQuery;
use axum::http::{HeaderValue, Method, Request, StatusCode, Uri, header, request};
use axum::response::{IntoResponse, Response};
use futures_util::FutureExt;
use tower::ServiceExt;

use crate::access::Access;
use crate::error::ApiError;
use crate::operations::Operations;
use crate::shapes::in_address;
use crate::{ClusterGateway, Leader, RestOptions, endpoints};

/// What all handlers share.
pub(crate) struct Api {
    pub(crate) options: RestOptions,
    pub(crate) address: SocketAddr,
    leader: Leader,
    /// Checkpoints and savepoints that clients have asked for.
    pub(crate) operations: Operations,
    /// Milliseconds since 1970-01-01 UTC.
    clock: fn() -> u64,
}

impl Api {
    pub(crate) fn new(options: RestOptions, address: SocketAddr, leader: Leader) -> Self {
        Self { options, address, leader, operations: Operations::default(), clock: wall_clock }
    }

    /// As [`new`](Self::new), with another idea of the time.
    #[cfg(test)]
    pub(crate) fn with_clock(options: RestOptions, address: SocketAddr, leader: Leader, clock: fn() -> u64) -> Self {
        Self { options, address, leader, operations: Operations::default(), clock }
    }

    /// Milliseconds since 1970-01-01 UTC.
    pub(crate) fn now(&self) -> u64 {
        (self.clock)()
    }

    /// Host and port as others reach the server.
    pub(crate) fn advertised(&self) -> String {
        match &self.options.advertised_host {
            Some(host) => format!("{}:{}", in_address(host), self.address.port()),
            None => self.address.to_string(),
        }
    }
}

fn wall_clock() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

/// The cluster, for handlers that need it; 503 while nobody leads.
#[derive(Clone)]
pub(crate) struct Cluster(Arc<dyn ClusterGateway>);

impl std::ops::Deref for Cluster {
    type Target = dyn ClusterGateway;

    fn deref(&self) -> &Self::Target {
        &*self.0
    }
}

impl FromRequestParts<Arc<Api>> for Cluster {
    type Rejection = ApiError;

    async fn from_request_parts(_: &mut request::Parts, api: &Arc<Api>) -> Result<Self, ApiError> {
        let leader = api.leader.borrow().clone();
        leader.map(Cluster).ok_or_else(ApiError::no_leader)
    }
}

/// Answers requests.
pub(crate) struct Dispatch {
    api: Arc<Api>,
    access: Access,
    router: Router,
    allow_origin: HeaderValue,
}

impl Dispatch {
    pub(crate) fn new(api: Api) -> Self {
        let access = Access::new(&api.options, api.address);
        let allow_origin =
            HeaderValue::from_str(&api.options.allow_origin).unwrap_or_else(|_| HeaderValue::from_static("null"));
        let api = Arc::new(api);
        let router = endpoints::router(&api.options).with_state(api.clone());
        Self { api, access, router, allow_origin }
    }

    /// Always an answer: whatever goes wrong inside becomes a 500.
    pub(crate) async fn answer(&self, request: Request<Body>) -> Response {
        let mut response = match self.access.check(request.method(), request.uri().path(), request.headers()) {
            Ok(()) => self.route(request).await,
            Err(refused) => endpoints::refuse(refused, &request),
        };
        let headers = response.headers_mut();
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, self.allow_origin.clone());
        headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        response
    }

    async fn route(&self, mut request: Request<Body>) -> Response {
        *request.uri_mut() = without_trailing_slash(request.uri());
        let limit = self.limit(&request);
        let what = format!("{} {}", request.method(), request.uri().path());
        let handled = AssertUnwindSafe(self.router.clone().oneshot(request)).catch_unwind();
        match tokio::time::timeout(limit, handled).await {
            Ok(Ok(Ok(response))) => response,
            Ok(Ok(Err(never))) => match never {},
            Ok(Err(panic)) => {
                let message = panic_message(&*panic);
                tracing::error!(request = what, message, "answering a request panicked");
                ApiError::internal(&format!("the server panicked: {message}")).into_response()
            }
            Err(_) => {
                let seconds = limit.as_secs();
                let message = format!("The cluster did not answer within {seconds} s; `web.timeout` sets this limit.");
                ApiError::new(StatusCode::GATEWAY_TIMEOUT, message).into_response()
            }
        }
    }

    /// How long the answer may take. An upload takes as long as its bytes take, and those have a pace of their own.
    fn limit(&self, request: &Request<Body>) -> Duration {
        let upload = request.method() == Method::POST && request.uri().path().ends_with("/jars/upload");
        if upload { Duration::from_secs(24 * 3600) } else { self.api.options.answer_timeout }
    }
}

fn panic_message(panic: &(dyn std::any::Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("of unknown cause")
}

/// Flink's router takes `/jobs/` for `/jobs`.
fn without_trailing_slash(uri: &Uri) -> Uri {
    let path = uri.path();
    let trimmed = path.trim_end_matches('/');
    if trimmed.len() == path.len() || trimmed.is_empty() {
        return uri.clone();
    }
    let text = uri.query().map_or_else(|| trimmed.to_owned(), |query| format!("{trimmed}?{query}"));
    text.parse::<PathAndQuery>().map_or_else(|_| uri.clone(), Uri::from)
}
