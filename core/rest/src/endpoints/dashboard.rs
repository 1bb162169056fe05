//! The dashboard page: one document without anything from elsewhere.

use std::sync::Arc;

use axum::Router;
use axum::http::{HeaderValue, header};
use axum::response::Response;
use axum::routing::get;

use crate::answer::text;
use crate::api::Api;

const PAGE: &str = concat!(
    include_str!("../../dashboard/head.html"),
    "<style>\n",
    include_str!("../../dashboard/style.css"),
    "</style>\n",
    include_str!("../../dashboard/body.html"),
    "<script>\n",
    include_str!("../../dashboard/core.js"),
    include_str!("../../dashboard/plan.js"),
    include_str!("../../dashboard/job.js"),
    include_str!("../../dashboard/cluster.js"),
    "</script>\n</body>\n</html>\n",
);

/// Nothing is loaded from elsewhere, no other page may embed this one, and data goes nowhere but here.
const POLICY: &str = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; connect-src 'self'; \
     img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

pub(super) fn routes() -> Router<Arc<Api>> {
    Router::new().route("/", get(async || page())).route("/index.html", get(async || page()))
}

pub(super) fn page() -> Response {
    let mut response = text("text/html; charset=UTF-8", PAGE);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    response
}
