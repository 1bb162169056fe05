//! `/metrics` for Prometheus.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::serve::Listener;
use sha2::{Digest, Sha256};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::time::{Sleep, sleep};

use crate::event_loop::{Input, Inputs};
use crate::options::Token;

/// Connections at a time; others wait to be accepted.
const CONNECTIONS: usize = 32;
/// How long a connection may last, whatever it is used for: as long as Prometheus waits for an answer, so that whoever is slow
/// keeps nobody else out for longer.
const LIFETIME: Duration = Duration::from_secs(10);
/// How long the event loop may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);

#[derive(Clone)]
struct Endpoint {
    inputs: Inputs,
    token: Option<Token>,
}

/// Answers scrapes until its task is dropped; only those that show the token, if there is one.
pub(crate) async fn serve(listener: TcpListener, inputs: Inputs, token: Option<Token>) {
    let router = Router::new().route("/metrics", get(metrics)).with_state(Endpoint { inputs, token });
    let listener = Limited { listener, places: Arc::new(Semaphore::new(CONNECTIONS)), lifetime: LIFETIME };
    if let Err(error) = axum::serve(listener, router).await {
        tracing::warn!(%error, "the metrics endpoint has ended");
    }
}

async fn metrics(State(Endpoint { inputs, token }): State<Endpoint>, headers: HeaderMap) -> Response {
    if let Some(token) = token
        && !shows(&headers, &token)
    {
        let advice = "send the value of security.rest.token as `Authorization: Bearer …`\n";
        return (StatusCode::UNAUTHORIZED, [(header::WWW_AUTHENTICATE, "Bearer")], advice).into_response();
    }
    let (answer, exposition) = oneshot::channel();
    inputs.send(Input::Scrape(answer));
    match tokio::time::timeout(PATIENCE, exposition).await {
        Ok(Ok(text)) => ([(header::CONTENT_TYPE, weir_metrics::CONTENT_TYPE)], text).into_response(),
        Ok(Err(_)) => (StatusCode::SERVICE_UNAVAILABLE, "the TaskManager is about to end\n").into_response(),
        Err(_) => (StatusCode::SERVICE_UNAVAILABLE, "the TaskManager is too busy to answer\n").into_response(),
    }
}

fn shows(headers: &HeaderMap, token: &Token) -> bool {
    let shown = headers.get(header::AUTHORIZATION).map(|value| value.as_bytes()).unwrap_or_default();
    // What is compared has nothing to do with how much of the token is right, so the time tells nothing.
    Sha256::digest(shown) == Sha256::digest(token.bearer())
}

/// Accepts no more connections than there are places, and ends each after a while.
struct Limited {
    listener: TcpListener,
    places: Arc<Semaphore>,
    lifetime: Duration,
}

impl Listener for Limited {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Connection, SocketAddr) {
        let Ok(place) = self.places.clone().acquire_owned().await else { return std::future::pending().await };
        let (stream, peer) = Listener::accept(&mut self.listener).await;
        (Connection { stream, over: Box::pin(sleep(self.lifetime)), _place: place }, peer)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// A connection that breaks when its time is over.
struct Connection {
    stream: TcpStream,
    over: Pin<Box<Sleep>>,
    _place: OwnedSemaphorePermit,
}

impl Connection {
    fn in_time(&mut self, context: &mut Context<'_>) -> io::Result<Pin<&mut TcpStream>> {
        match self.over.as_mut().poll(context) {
            Poll::Ready(()) => Err(io::ErrorKind::TimedOut.into()),
            Poll::Pending => Ok(Pin::new(&mut self.stream)),
        }
    }
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.in_time(context)?.poll_read(context, buf)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.in_time(context)?.poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.in_time(context)?.poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.in_time(context)?.poll_shutdown(context))?;
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test]
    async fn who_says_nothing_loses_the_connection_and_makes_room() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let lifetime = Duration::from_millis(200);
        let limited = Limited { listener, places: Arc::new(Semaphore::new(1)), lifetime };
        let router = Router::new().route("/metrics", get(async || "well"));
        tokio::spawn(async move { axum::serve(limited, router).await });
        let mut silent = TcpStream::connect(address).await.unwrap();
        let mut other = TcpStream::connect(address).await.unwrap();
        other.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await.unwrap();
        let mut nothing = Vec::new();
        // A reset is an end as well.
        let _ = silent.read_to_end(&mut nothing).await;
        assert!(nothing.is_empty());
        let mut answer = String::new();
        other.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("well"), "{answer}");
    }

    #[test]
    fn only_the_token_is_the_token() {
        let shown = |value: &'static str| [(header::AUTHORIZATION, value.parse().unwrap())].into_iter().collect();
        let token = Token::new("0123456789abcdef");
        assert!(shows(&shown("Bearer 0123456789abcdef"), &token));
        assert!(!shows(&shown("Bearer 0123456789abcdeF"), &token));
        assert!(!shows(&HeaderMap::new(), &token));
    }
}
