//! Forms of answers: JSON, files, and numbers as Flink writes them.

use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::Body;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::stream::Stream;
use serde::{Serialize, Serializer};

use crate::error::ApiError;
use crate::{FileBody, GatewayError};

/// What a handler gives back.
pub(crate) type Answer<T> = Result<Json<T>, ApiError>;

const JSON: HeaderValue = HeaderValue::from_static("application/json; charset=UTF-8");

/// A body in JSON.
#[derive(Debug)]
pub(crate) struct Json<T>(pub(crate) T);

impl<T: Serialize> IntoResponse for Json<T> {
    fn into_response(self) -> Response {
        match serde_json::to_vec(&self.0) {
            Ok(bytes) => ([(header::CONTENT_TYPE, JSON)], bytes).into_response(),
            Err(error) => {
                tracing::error!(%error, "an answer cannot be written as JSON");
                StatusCode::INTERNAL_SERVER_ERROR.into_response()
            }
        }
    }
}

/// `{}`: how Flink says that all went well.
#[derive(Debug, Serialize)]
pub(crate) struct Empty {}

/// 202 with `{}`.
pub(crate) fn accepted() -> Response {
    (StatusCode::ACCEPTED, Json(Empty {})).into_response()
}

/// Text of some kind.
pub(crate) fn text(content_type: &'static str, text: impl Into<Body>) -> Response {
    ([(header::CONTENT_TYPE, HeaderValue::from_static(content_type))], text.into()).into_response()
}

/// The content of a file as `text/plain`, as it is read.
pub(crate) fn file(file: FileBody) -> Response {
    let size = file.size;
    let mut response = text("text/plain", Body::from_stream(Sized { content: file.content, left: size }));
    if let Some(size) = size {
        response.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from(size));
    }
    response
}

/// A stream that ends where it was said to end: a log file grows while it is read.
struct Sized {
    content: Pin<Box<dyn Stream<Item = Result<Bytes, GatewayError>> + Send>>,
    left: Option<u64>,
}

impl Stream for Sized {
    type Item = Result<Bytes, GatewayError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.left == Some(0) {
            return Poll::Ready(None);
        }
        let mut next = std::task::ready!(self.content.as_mut().poll_next(context));
        if let (Some(left), Some(Ok(bytes))) = (&mut self.left, &mut next) {
            bytes.truncate(usize::try_from(*left).unwrap_or(usize::MAX));
            *left -= bytes.len() as u64;
        }
        // A file that has become shorter breaks the connection instead of looking complete.
        if next.is_none() && self.left.is_some() {
            self.left = Some(0);
            return Poll::Ready(Some(Err(GatewayError::Internal(
                "the file became shorter while it was read".to_owned(),
            ))));
        }
        Poll::Ready(next)
    }
}

/// A number that need not be finite: JSON has no word for that, so Flink writes `"NaN"`, `"Infinity"`, `"-Infinity"`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Double(pub(crate) f64);

impl Serialize for Double {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            number if number.is_finite() => serializer.serialize_f64(number),
            f64::INFINITY => serializer.serialize_str("Infinity"),
            f64::NEG_INFINITY => serializer.serialize_str("-Infinity"),
            _ => serializer.serialize_str("NaN"),
        }
    }
}

/// What a value is replaced by when its key sounds secret.
pub(crate) const MASK: &str = "******";

/// Whether an option's value must not be shown, by its key. Flink's list, plus `credential`.
pub(crate) fn is_secret(key: &str) -> bool {
    const PARTS: [&str; 12] = [
        "password",
        "secret",
        "token",
        "apikey",
        "api-key",
        "service-key",
        "auth-params",
        "basic-auth",
        "jaas.config",
        "http-headers",
        "fs.azure.account.key",
        "credential",
    ];
    let key = key.to_ascii_lowercase();
    PARTS.iter().any(|part| key.contains(part))
}

#[cfg(test)]
mod tests {
    use futures_util::{StreamExt, stream};

    use super::*;

    #[test]
    fn numbers_that_are_not_finite_are_strings() {
        let text = |value| serde_json::to_string(&Double(value)).unwrap();
        assert_eq!(text(f64::NAN), r#""NaN""#);
        assert_eq!(text(f64::INFINITY), r#""Infinity""#);
        assert_eq!(text(1.0), "1.0");
        assert_eq!(text(0.25), "0.25");
    }

    #[test]
    fn secrets_are_known_by_their_keys() {
        for key in ["s3.secret-key", "security.rest.token", "a.PassWord.b", "fs.azure.account.key.x", "aws.credentials"]
        {
            assert!(is_secret(key), "{key}");
        }
        for key in ["rest.port", "parallelism.default", "io.tmp.dirs"] {
            assert!(!is_secret(key), "{key}");
        }
    }

    #[tokio::test]
    async fn a_file_ends_where_it_was_said_to_end() {
        let pieces = |texts: &'static [&'static str]| {
            stream::iter(texts.iter().map(|text| Ok(Bytes::from_static(text.as_bytes())))).boxed()
        };
        let grown = Sized { content: pieces(&["abc", "def"]), left: Some(4) };
        let read = grown.map(Result::unwrap).collect::<Vec<_>>().await.concat();
        assert_eq!(read, b"abcd");
        let cut = Sized { content: pieces(&["abc"]), left: Some(4) };
        assert!(cut.collect::<Vec<_>>().await.pop().unwrap().is_err());
    }
}
