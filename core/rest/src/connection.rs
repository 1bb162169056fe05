//! One connection: HTTP/1.1 within limits of time and size.

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

use crate::api::{Api, Dispatch};
use crate::body::PacedBody;
use crate::stall::StallGuard;

/// The longest head of a request, in bytes: lists of metrics stand in queries.
const MAX_HEAD: usize = 64 << 10;
/// How long a connection is kept open for a client that still sends while the answer is on its way.
const LINGER: Duration = Duration::from_secs(2);

/// What all connections share.
pub(crate) struct Handler {
    dispatch: Arc<Dispatch>,
    http: http1::Builder,
    body_timeout: Duration,
    /// Cancelled to end all connections at once.
    pub(crate) cut: CancellationToken,
}

impl Handler {
    pub(crate) fn new(api: Api) -> Self {
        let mut http = http1::Builder::new();
        http.timer(TokioTimer::new()).header_read_timeout(api.options.header_timeout);
        http.max_header_size(MAX_HEAD).max_buf_size(2 * MAX_HEAD).half_close(false);
        let body_timeout = api.options.body_timeout;
        Self { dispatch: Arc::new(Dispatch::new(api)), http, body_timeout, cut: CancellationToken::new() }
    }
}

/// Serves a connection until it ends, or until the answer under way when `shutdown` is cancelled.
pub(crate) async fn run(stream: TcpStream, handler: Arc<Handler>, shutdown: CancellationToken) {
    // Answers are written whole; waiting to fill a packet would only delay them.
    stream.set_nodelay(true).ok();
    let patience = handler.body_timeout;
    let io = TokioIo::new(StallGuard::new(stream, patience));
    let dispatch = handler.dispatch.clone();
    let service = service_fn(move |request: hyper::Request<Incoming>| {
        let request = request.map(|body| Body::new(PacedBody::new(body, patience)));
        let dispatch = dispatch.clone();
        let answer: Pin<Box<dyn Future<Output = Result<Response, Infallible>> + Send>> =
            Box::pin(async move { Ok(dispatch.answer(request).await) });
        answer
    });
    let mut connection = handler.http.serve_connection(io, service);
    let ended = tokio::select! {
        ended = poll_fn(|context| connection.poll_without_shutdown(context)) => ended,
        () = shutdown.cancelled() => {
            Pin::new(&mut connection).graceful_shutdown();
            poll_fn(|context| connection.poll_without_shutdown(context)).await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended early");
    }
    let stream = connection.into_parts().io.into_inner().into_inner();
    let limit = if shutdown.is_cancelled() { LINGER / 20 } else { LINGER };
    // A client that is no longer read would lose the answer it has not read yet, so it is read a little longer.
    tokio::time::timeout(limit, linger(stream)).await.ok();
}

async fn linger(mut stream: TcpStream) {
    let mut nowhere = [0; 4096];
    if stream.shutdown().await.is_ok() {
        while stream.read(&mut nowhere).await.is_ok_and(|read| read > 0) {}
    }
}

/// Answers a connection that is one too many, without reading it.
pub(crate) fn turn_away(stream: &TcpStream) {
    const BODY: &str = r#"{"errors":["Too many connections are open. Try again later."]}"#;
    let head = "HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json; charset=UTF-8\r\nRetry-After: 1\r\nConnection: close";
    let answer = format!("{head}\r\nContent-Length: {}\r\n\r\n{BODY}", BODY.len());
    stream.try_write(answer.as_bytes()).ok();
    tracing::warn!("too many connections: one was turned away");
}
