//! Error answers: RFC 9457 `application/problem+json` with a stable `code`.
//!
//! Handlers return [`ApiError`]. The answer holds the code for programs and a text for a person, never text of the
//! database or of a library. The error travels in the extensions of its response to the access log, which stands
//! around everything: there the document gets the id of the request, and the cause is logged once.

use std::error::Error;
use std::sync::Arc;

use axum::body::Body;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use thiserror::Error;
use utoipa::ToSchema;

use super::timestamp::Timestamp;
use crate::model::GroupId;
use crate::replay::as_of::{AsOfError, READ_TIME_MAX};
use crate::store::READ_SECS_MAX;
use crate::store::errors::{is_passing_read, is_statement_timeout};

/// `Retry-After` in seconds. A restart or a failover takes a few of them.
const RETRY_AFTER_SECS: &str = "1";

/// An error answer: status, code, text, and the cause for the log.
#[derive(Debug, Clone, Error)]
#[error("{code}: {detail}")]
pub(crate) struct ApiError {
    status: StatusCode,
    code: &'static str,
    detail: String,
    source: Option<Arc<dyn Error + Send + Sync>>,
    /// The answer is a page that says all of it already.
    is_shown: bool,
}

impl ApiError {
    fn new(status: StatusCode, code: &'static str, detail: impl Into<String>) -> Self {
        Self { status, code, detail: detail.into(), source: None, is_shown: false }
    }

    /// 404 `not_found`: the path names nothing that is known.
    pub(crate) fn not_found(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", detail)
    }

    /// 404 `not_found`: no group of this id is known.
    pub(crate) fn unknown_group(group: &GroupId) -> Self {
        Self::not_found(format!("No group {:?} is known here.", group.as_str()))
    }

    /// 405 `method_not_allowed`: the API is read with GET.
    #[must_use]
    pub(crate) fn method_not_allowed() -> Self {
        let detail = "This path cannot be called with this method; the API is read with GET.";
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", detail)
    }

    /// 400 `bad_parameter`: a parameter of path or query is unknown or cannot be used.
    pub(crate) fn bad_parameter(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad_parameter", detail)
    }

    /// 400 `bad_cursor`: the cursor is not one of this list.
    pub(crate) fn bad_cursor(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad_cursor", detail)
    }

    /// 410 `bad_cursor`: the cursor was valid once, and the ledger that it points into has been replaced.
    pub(super) fn gone(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::GONE, "bad_cursor", detail)
    }

    /// 410 `pruned`: what is asked for was folded into checkpoints; the text says from when on history is whole.
    pub(crate) fn pruned(whole_since_ms: i64) -> Self {
        let whole_since =
            Timestamp::of_millis(whole_since_ms).map(|time| time.to_string()).unwrap_or_default();
        let detail = format!(
            "Entries of the ledger from before {whole_since} were pruned: history is whole from that moment on, and older states \
             cannot be read any more."
        );
        Self::new(StatusCode::GONE, "pruned", detail)
    }

    /// 410 `pruned`: the cursor stands before entries of the feed that were pruned.
    pub(super) fn pruned_feed() -> Self {
        Self::new(
            StatusCode::GONE,
            "pruned",
            "Entries behind this cursor were pruned, so the feed cannot go on there. Read the lists again, then follow from \
             since=now, or from what is left of the feed without since.",
        )
    }

    /// 422 `too_large`: the request needs more work than one read may make; the text names the maximum.
    pub(crate) fn too_large(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, "too_large", detail)
    }

    /// 401 `unauthorized`: the token is missing or wrong; the answer asks for a bearer token.
    pub(crate) fn unauthorized(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "unauthorized", detail)
    }

    /// 403 `unauthorized`: the API is read without tokens, and the request does not come from this machine.
    pub(super) fn not_local(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, "unauthorized", detail)
    }

    /// 403 `forbidden`: the caller is known, and its token has no right to this.
    pub(crate) fn forbidden(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, "forbidden", detail)
    }

    /// 503 `unavailable`: the read cannot be served at the moment; the answer has `Retry-After`.
    pub(crate) fn unavailable(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", detail)
    }

    /// 500 `internal`: a fault of the service; the cause goes to the log alone.
    pub(crate) fn internal(source: impl Error + Send + Sync + 'static) -> Self {
        let detail = "The service failed; its log has the cause under this request id.";
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", detail).caused_by(source)
    }

    /// True where the same request may be served a little later.
    pub(crate) fn is_unavailable(&self) -> bool {
        self.status == StatusCode::SERVICE_UNAVAILABLE
    }

    /// True where what is asked for was pruned.
    pub(crate) fn is_pruned(&self) -> bool {
        self.code == "pruned"
    }

    /// True where the caller is not known.
    pub(super) fn is_unauthenticated(&self) -> bool {
        self.status == StatusCode::UNAUTHORIZED
    }

    /// Why, in words that are for the log alone.
    pub(crate) fn cause(&self) -> Option<&(dyn Error + Send + Sync)> {
        self.source.as_deref()
    }

    /// The status of the answer.
    pub(crate) fn status(&self) -> StatusCode {
        self.status
    }

    /// What is wrong, for a person.
    pub(crate) fn detail(&self) -> &str {
        &self.detail
    }

    /// The same for an answer that shows it as a page: only its cause still has to go to the log.
    #[must_use]
    pub(crate) fn shown(self) -> Self {
        Self { is_shown: true, ..self }
    }

    /// The body of the answer to the request with this id; none where the answer has one.
    pub(super) fn document(&self, request_id: &str) -> Option<Body> {
        if self.is_shown {
            return None;
        }
        let problem = Problem {
            r#type: "about:blank",
            title: self.status.canonical_reason().unwrap_or("Error"),
            status: self.status.as_u16(),
            detail: &self.detail,
            code: self.code,
            request_id,
        };
        // Texts and a number: there is nothing that JSON could not hold.
        Some(serde_json::to_vec(&problem).unwrap_or_default().into())
    }

    #[must_use]
    fn caused_by(mut self, source: impl Error + Send + Sync + 'static) -> Self {
        self.source = Some(Arc::new(source));
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
            AsOfError::Unknown => Self::not_found("This group is not known here."),
            AsOfError::Pruned(whole_since_ms) => Self::pruned(whole_since_ms),
            AsOfError::TooLarge(most) => Self::too_large(format!(
                "This would be folded from more than {most}, which is the maximum; an earlier moment is folded from less, \
                 and the history of the group shows the same step by step."
            )),
            AsOfError::Busy => {
                Self::unavailable("Too many reads as of a past moment run at once; try again.")
                    .caused_by(error)
            }
            AsOfError::Database(error) if is_statement_timeout(&error) => Self::unavailable(format!(
                "Reading the ledger up to that moment took longer than {} s; try again when the database has less to do.",
                READ_TIME_MAX.as_secs()
            ))
            .caused_by(error),
            AsOfError::Database(error) => error.into(),
            AsOfError::Unreadable(_) | AsOfError::Ended(_) => Self::internal(error),
        }
    }
}

/// The answer in place of a panic.
#[must_use]
pub(super) fn after_panic() -> Response {
    let detail = "The service failed; its log has the cause under this request id.";
    ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", detail).into_response()
}

/// The body of every error answer.
///
/// `type` is `about:blank`, so `title` is the phrase of the status; programs should look at `code`.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Problem<'a> {
    r#type: &'static str,
    title: &'static str,
    status: u16,
    /// For a person; may change.
    detail: &'a str,
    #[schema(value_type = String, examples("not_found", "bad_parameter", "bad_cursor", "pruned", "unauthorized", "forbidden",
                                           "unavailable", "method_not_allowed", "too_large", "internal"))]
    code: &'static str,
    /// The one of the header `X-Request-Id`; the service's log has it too.
    request_id: &'a str,
}

impl IntoResponse for ApiError {
    /// Status and headers; [`ApiError::document`] is the body, which the access log puts in.
    fn into_response(self) -> Response {
        let mut response = self.status.into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if self.status == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static(RETRY_AFTER_SECS));
        }
        response.extensions_mut().insert(self);
        response
    }
}
