//! What went wrong, as the reader is told: RFC 9457 `application/problem+json`.
//!
//! Handlers return [`ApiError`]; the answer holds a stable `code` and a text for a person, never text of the database
//! or of a library. The cause travels in the extensions of the response as [`ErrorSource`], so that one middleware
//! outside everything writes it to the log, once.

use std::error::Error;
use std::sync::Arc;

use axum::extract::Request;
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use thiserror::Error;
use utoipa::ToSchema;

use crate::replay::as_of::{AsOfError, READ_TIME_MAX};
use crate::store::READ_SECS_MAX;
use crate::store::errors::{is_passing_read, is_statement_timeout};

/// How long a reader should wait before asking again, in seconds. Restarts and failovers take a few of them.
const RETRY_AFTER_SECS: &str = "1";

/// An answer that is not what was asked for.
#[derive(Debug, Clone, Error)]
#[error("{code}: {detail}")]
pub struct ApiError {
    status: StatusCode,
    code: &'static str,
    detail: String,
    source: Option<ErrorSource>,
}

/// The cause of an error answer, in the extensions of its response.
#[derive(Debug, Clone)]
pub struct ErrorSource(pub Arc<dyn Error + Send + Sync>);

impl std::fmt::Display for ErrorSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl Error for ErrorSource {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.0.source()
    }
}

impl ApiError {
    fn new(status: StatusCode, code: &'static str, detail: impl Into<String>) -> Self {
        Self { status, code, detail: detail.into(), source: None }
    }

    /// 404 `not_found`: there is no such thing.
    pub fn not_found(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", detail)
    }

    /// 405 `method_not_allowed`: the API is read with GET.
    #[must_use]
    pub fn method_not_allowed() -> Self {
        let detail = "This path cannot be called with this method; the API is read with GET.";
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", detail)
    }

    /// 400 `bad_parameter`: a parameter of path or query that cannot be used as it is.
    pub fn bad_parameter(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad_parameter", detail)
    }

    /// 400 `bad_cursor`: not a cursor of this list.
    pub fn bad_cursor(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad_cursor", detail)
    }

    /// 410 `bad_cursor`: it was right once, and what it points into is not there any more.
    pub fn gone(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::GONE, "bad_cursor", detail)
    }

    /// 422 `too_large`: understood, and more work than one read may make; the text names the maximum.
    pub fn too_large(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, "too_large", detail)
    }

    /// 401 `unauthorized`: no token, or a wrong one; the answer asks for a bearer token.
    pub fn unauthorized(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "unauthorized", detail)
    }

    /// 403 `unauthorized`: a request that no token would make right.
    pub fn forbidden(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, "unauthorized", detail)
    }

    /// 503 `unavailable`: not now, with `Retry-After`.
    pub fn unavailable(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", detail)
    }

    /// 500 `internal`: our fault; the cause is for the log.
    pub fn internal(source: impl Error + Send + Sync + 'static) -> Self {
        let detail = "Something went wrong inside; the log has the cause.";
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", detail).caused_by(source)
    }

    #[must_use]
    fn caused_by(mut self, source: impl Error + Send + Sync + 'static) -> Self {
        self.source = Some(ErrorSource(Arc::new(source)));
        self
    }
}

impl From<sqlx::Error> for ApiError {
    fn from(error: sqlx::Error) -> Self {
        if is_statement_timeout(&error) {
            Self::unavailable(format!(
                "This read takes longer than the {READ_SECS_MAX} s that a read may take: ask for less, with further filters or a \
                 smaller limit, or try again when the database has less to do."
            ))
            .caused_by(error)
        } else if is_passing_read(&error) {
            Self::unavailable("The database cannot answer just now; try again.").caused_by(error)
        } else {
            Self::internal(error)
        }
    }
}

impl From<AsOfError> for ApiError {
    fn from(error: AsOfError) -> Self {
        match error {
            AsOfError::Unknown => Self::not_found("No group of this id was ever heard of."),
            AsOfError::TooLarge(most) => Self::too_large(format!(
                "The membership of that moment would have to be made out of more than {most}, which is the maximum; \
                 the history of the group tells the same step by step."
            )),
            AsOfError::Busy => {
                Self::unavailable("Other reads of past moments are being worked on; try again.")
                    .caused_by(error)
            }
            AsOfError::Database(error) if is_statement_timeout(&error) => Self::unavailable(format!(
                "Reading what the membership of that moment is made out of took longer than {} s; try again when the \
                 database has less to do.",
                READ_TIME_MAX.as_secs()
            ))
            .caused_by(error),
            AsOfError::Database(error) => error.into(),
            AsOfError::Unreadable(_) | AsOfError::Ended(_) => Self::internal(error),
        }
    }
}

/// Writes the cause of an error answer to the log, once, outside everything. The path may be logged, the query not:
/// it can hold values of user-defined fields.
pub async fn log(request: Request, next: Next) -> Response {
    let path = request.uri().path().to_owned();
    let response = next.run(request).await;
    if let Some(ErrorSource(source)) = response.extensions().get::<ErrorSource>() {
        tracing::error!(http.path = path, http.status = response.status().as_u16(), error = %source, "a read failed");
    }
    response
}

/// The answer in place of a panic.
#[must_use]
pub fn after_panic() -> Response {
    let detail = "Something went wrong inside; the log has the cause.";
    ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", detail).into_response()
}

/// The body of every error answer.
///
/// `type` is `about:blank`, so `title` is the phrase of the status; `code` is what programs look at.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Problem<'a> {
    r#type: &'static str,
    title: &'static str,
    status: u16,
    /// For a person; may change.
    detail: &'a str,
    #[schema(value_type = String, examples("not_found", "bad_parameter", "bad_cursor", "unauthorized", "unavailable",
                                           "method_not_allowed", "too_large", "internal"))]
    code: &'static str,
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let problem = Problem {
            r#type: "about:blank",
            title: self.status.canonical_reason().unwrap_or("Error"),
            status: self.status.as_u16(),
            detail: &self.detail,
            code: self.code,
        };
        let mut response = (self.status, axum::Json(problem)).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if self.status == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static(RETRY_AFTER_SECS));
        }
        if let Some(source) = self.source {
            response.extensions_mut().insert(source);
        }
        response
    }
}
