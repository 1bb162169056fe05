//! Reading requests: path parameters, query parameters, bodies.

use std::fmt::Display;
use std::str::FromStr;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{FromRequest, FromRequestParts, Query, RawPathParams};
use axum::http::{Request, header, request};
use serde::de::DeserializeOwned;

use crate::api::Api;
use crate::body;
use crate::error::ApiError;

/// The named parts of a path, decoded.
#[derive(Debug)]
pub(crate) struct Path(Vec<(String, String)>);

impl Path {
    /// The part called `name`, which the route has.
    pub(crate) fn text(&self, name: &str) -> &str {
        self.0.iter().find(|(key, _)| key == name).map_or("", |(_, value)| value)
    }

    /// The part called `name`, read.
    ///
    /// # Errors
    /// 400 in Flink's words.
    pub(crate) fn get<T: FromStr<Err: Display>>(&self, name: &str) -> Result<T, ApiError> {
        parse(self.text(name), "path", name)
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Path {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut request::Parts, state: &S) -> Result<Self, ApiError> {
        let params = RawPathParams::from_request_parts(parts, state).await.map_err(ApiError::bad_parameter)?;
        Ok(Self(params.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()))
    }
}

/// The parameters behind the question mark, decoded, in order. Unknown ones are never looked at.
#[derive(Debug)]
pub(crate) struct Parameters(Vec<(String, String)>);

impl Parameters {
    /// The first value of `name`, if it has one that is not empty.
    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(key, value)| key == name && !value.is_empty()).map(|(_, value)| value.as_str())
    }

    /// The first value of `name`, read.
    ///
    /// # Errors
    /// 400 in Flink's words.
    pub(crate) fn get<T: FromStr<Err: Display>>(&self, name: &str) -> Result<Option<T>, ApiError> {
        self.text(name).map(|text| parse(text, "query", name)).transpose()
    }

    /// All values of `name`: it may stand several times, and each time with a list separated by commas.
    pub(crate) fn list(&self, name: &str) -> Vec<&str> {
        let values = self.0.iter().filter(|(key, _)| key == name);
        values.flat_map(|(_, value)| value.split(',')).filter(|item| !item.is_empty()).collect()
    }

    /// All values of `name`, read.
    ///
    /// # Errors
    /// 400 in Flink's words.
    pub(crate) fn parsed_list<T: FromStr<Err: Display>>(&self, name: &str) -> Result<Vec<T>, ApiError> {
        self.list(name).into_iter().map(|text| parse(text, "query", name)).collect()
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Parameters {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut request::Parts, _: &S) -> Result<Self, ApiError> {
        let Query(pairs) = Query::try_from_uri(&parts.uri).map_err(ApiError::bad_parameter)?;
        Ok(Self(pairs))
    }
}

fn parse<T: FromStr<Err: Display>>(text: &str, kind: &str, name: &str) -> Result<T, ApiError> {
    text.parse().map_err(|problem| {
        ApiError::bad_parameter(format!("Cannot resolve {kind} parameter ({name}) from value {text:?}: {problem}"))
    })
}

/// The JSON object in the body; no body is an empty object. Fields that are not known are ignored.
#[derive(Debug)]
pub(crate) struct Object<T>(pub(crate) T);

impl<T: DeserializeOwned> FromRequest<Arc<Api>> for Object<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request<Body>, api: &Arc<Api>) -> Result<Self, ApiError> {
        if is_multipart(request.headers()) {
            body::discard(request.into_body()).await;
            return Err(ApiError::bad_request("File upload not allowed: this path takes a body in JSON."));
        }
        let bytes = body::collect(request.into_body(), api.options.max_content_length).await?;
        let text = bytes.trim_ascii();
        // As a map first: serde would also take a list for an object.
        let object = serde_json::from_slice::<serde_json::Map<_, _>>(if text.is_empty() { b"{}" } else { text });
        let object = object.and_then(|fields| serde_json::from_value(fields.into()));
        object.map(Object).map_err(|error| {
            let name = std::any::type_name::<T>().rsplit("::").next().unwrap_or_default();
            ApiError::bad_request(format!("Request did not match expected format {name}. {error}"))
        })
    }
}

/// Whether the body is a form with files.
pub(crate) fn is_multipart(headers: &axum::http::HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    kind.is_some_and(|kind| kind.trim_start().to_ascii_lowercase().starts_with("multipart/"))
}
