//! Bodies of requests that must arrive at some pace.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use futures_util::StreamExt;
use http_body_util::BodyExt;
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use tokio::time::{Instant, Sleep, sleep};

use crate::error::ApiError;

/// Bytes a second below which a body is too slow.
const PACE: u64 = 1024;

/// The client sends too slowly.
#[derive(Debug, thiserror::Error)]
#[error("the body of the request arrives too slowly: it was not complete in time")]
pub(crate) struct TooSlow;

/// A body that fails with [`TooSlow`] when nothing comes for some time, or when it comes at less than [`PACE`] after that time.
/// A reader that takes its time is not held against the client.
pub(crate) struct PacedBody<B> {
    inner: B,
    patience: Duration,
    received: u64,
    began: Option<Instant>,
    deadline: Option<Pin<Box<Sleep>>>,
}

impl<B> PacedBody<B> {
    pub(crate) fn new(inner: B, patience: Duration) -> Self {
        Self { inner, patience, received: 0, began: None, deadline: None }
    }

    fn deadline(&mut self) -> &mut Pin<Box<Sleep>> {
        let now = Instant::now();
        let began = *self.began.get_or_insert(now);
        let at_pace = began + self.patience + Duration::from_millis(self.received.saturating_mul(1000) / PACE);
        let until = at_pace.min(now + self.patience);
        self.deadline.get_or_insert_with(|| Box::pin(sleep(until.saturating_duration_since(now))))
    }
}

impl<B> HttpBody for PacedBody<B>
where
    B: HttpBody<Data = Bytes> + Unpin,
    B::Error: std::error::Error + Send + Sync + 'static,
{
    type Data = Bytes;
    type Error = Box<dyn std::error::Error + Send + Sync>;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        match Pin::new(&mut self.inner).poll_frame(context) {
            Poll::Ready(frame) => {
                self.deadline = None;
                if let Some(Ok(frame)) = &frame {
                    self.received += frame.data_ref().map_or(0, |data| data.len() as u64);
                }
                Poll::Ready(frame.map(|frame| frame.map_err(Into::into)))
            }
            Poll::Pending => match self.deadline().as_mut().poll(context) {
                Poll::Ready(()) => Poll::Ready(Some(Err(Box::new(TooSlow)))),
                Poll::Pending => Poll::Pending,
            },
        }
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// The whole of a body of at most `limit` bytes.
///
/// # Errors
/// 413 naming `rest.server.max-content-length`, 408 when the client is too slow, 400 when it breaks off.
pub(crate) async fn collect(body: Body, limit: u64) -> Result<Vec<u8>, ApiError> {
    if body.size_hint().lower() > limit {
        return Err(ApiError::too_large(limit, "rest.server.max-content-length"));
    }
    let mut bytes = Vec::new();
    let mut stream = body.into_data_stream();
    while let Some(piece) = stream.next().await {
        let piece = piece.map_err(|error| broken_off(&error))?;
        if (bytes.len() + piece.len()) as u64 > limit {
            return Err(ApiError::too_large(limit, "rest.server.max-content-length"));
        }
        bytes.extend_from_slice(&piece);
    }
    Ok(bytes)
}

/// Why a body did not arrive.
pub(crate) fn broken_off(error: &(dyn std::error::Error + 'static)) -> ApiError {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(slow) = error.downcast_ref::<TooSlow>() {
            return ApiError::timeout(slow);
        }
        cause = error.source();
    }
    ApiError::bad_request(format!("the body of the request did not arrive: {error}"))
}

/// Reads the rest of a body and forgets it, so that the client gets to read the answer. Ends early when it is large or slow.
pub(crate) async fn discard(body: Body) {
    let mut left: usize = 1 << 20;
    let mut body = body;
    while let Some(Ok(frame)) = body.frame().await {
        let length = frame.data_ref().map_or(0, Bytes::len);
        let Some(rest) = left.checked_sub(length) else { return };
        left = rest;
    }
}

#[cfg(test)]
mod tests {
    use axum::http::StatusCode;
    use futures_util::stream;

    use super::*;

    /// A body of `pieces` bytes, one after each pause.
    fn dripping(pieces: usize, size: usize, pause: Duration) -> Body {
        let stream = stream::unfold(0, move |sent| async move {
            if sent == pieces {
                return None;
            }
            sleep(pause).await;
            Some((Ok::<_, std::io::Error>(Bytes::from(vec![b'x'; size])), sent + 1))
        });
        Body::new(PacedBody::new(Body::from_stream(stream), Duration::from_secs(30)))
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_stops_sending_is_cut() {
        let error = collect(dripping(1, 10, Duration::from_secs(31)), 100).await.unwrap_err();
        assert_eq!(error.status, StatusCode::REQUEST_TIMEOUT);
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_drips_is_cut() {
        let error = collect(dripping(1000, 1, Duration::from_secs(5)), 10_000).await.unwrap_err();
        assert_eq!(error.status, StatusCode::REQUEST_TIMEOUT);
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_but_steady_client_is_served() {
        let bytes = collect(dripping(100, 4096, Duration::from_secs(3)), 1 << 20).await.unwrap();
        assert_eq!(bytes.len(), 100 * 4096);
    }

    #[tokio::test]
    async fn a_body_above_the_limit_names_the_option() {
        let error = collect(Body::from("12345"), 4).await.unwrap_err();
        assert_eq!(error.status, StatusCode::PAYLOAD_TOO_LARGE);
        assert!(error.errors[0].contains("rest.server.max-content-length"), "{:?}", error.errors);
        assert_eq!(collect(Body::from("1234"), 4).await.unwrap(), b"1234");
        let error = collect(dripping(5, 1, Duration::ZERO), 4).await.unwrap_err();
        assert_eq!(error.status, StatusCode::PAYLOAD_TOO_LARGE);
    }
}
