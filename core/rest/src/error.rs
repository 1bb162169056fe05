//! Answers that say why not, in Flink's form: `{"errors": [...]}`.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use crate::GatewayError;
use crate::answer::Json;

/// What Flink says while nobody leads; clients ask again after a 503.
pub(crate) const NO_LEADER: &str = "Service temporarily unavailable due to an ongoing leader election. Please refresh.";

/// A request that is not answered as asked.
#[derive(Debug)]
pub(crate) struct ApiError {
    pub(crate) status: StatusCode,
    pub(crate) errors: Vec<String>,
}

#[derive(Serialize)]
struct ErrorBody {
    errors: Vec<String>,
}

impl ApiError {
    pub(crate) fn new(status: StatusCode, message: impl ToString) -> Self {
        Self { status, errors: vec![message.to_string()] }
    }

    pub(crate) fn bad_request(message: impl ToString) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message)
    }

    /// A value of the path or query that cannot be read, in Flink's words.
    pub(crate) fn bad_parameter(problem: impl std::fmt::Display) -> Self {
        Self::bad_request(format!("Bad request, could not parse parameters: {problem}"))
    }

    pub(crate) fn not_found(message: impl ToString) -> Self {
        Self::new(StatusCode::NOT_FOUND, message)
    }

    pub(crate) fn timeout(message: impl ToString) -> Self {
        Self::new(StatusCode::REQUEST_TIMEOUT, message)
    }

    pub(crate) fn no_leader() -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, NO_LEADER)
    }

    pub(crate) fn too_large(limit: u64, option: &str) -> Self {
        let message = format!("The request is larger than {limit} bytes; the option `{option}` sets this limit.");
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, message)
    }

    /// A fault of ours, in the two parts Flink uses.
    pub(crate) fn internal(what: &str) -> Self {
        let detail = format!("<Exception on server side:\n{what}\nEnd of exception on server side>");
        Self { status: StatusCode::INTERNAL_SERVER_ERROR, errors: vec!["Internal server error.".to_owned(), detail] }
    }
}

impl From<GatewayError> for ApiError {
    fn from(error: GatewayError) -> Self {
        let status = match &error {
            GatewayError::Unavailable(_) => StatusCode::SERVICE_UNAVAILABLE,
            GatewayError::NotFound(_) => StatusCode::NOT_FOUND,
            GatewayError::Conflict(_) => StatusCode::CONFLICT,
            GatewayError::BadRequest(_) => StatusCode::BAD_REQUEST,
            GatewayError::Timeout(_) => StatusCode::GATEWAY_TIMEOUT,
            GatewayError::NoSpace(_) => StatusCode::INSUFFICIENT_STORAGE,
            GatewayError::Internal(what) => return ApiError::internal(what),
        };
        Self::new(status, error)
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = Json(ErrorBody { errors: self.errors }).into_response();
        *response.status_mut() = self.status;
        if self.status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"weir\""));
        }
        response
    }
}
