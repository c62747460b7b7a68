//! Answers in Tencent's shape, and the status of each (1047/34354).
//!
//! After-callbacks ignore the body; it has the shape all the same, because a person who tries the address reads it.

use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Json, Response};
use serde::Serialize;

use crate::callback::BODY_BYTES_MAX;
use crate::callback::signature::Refusal;

/// The shape that Tencent reads.
#[derive(Debug, Serialize)]
struct AnswerBody {
    #[serde(rename = "ActionStatus")]
    action_status: &'static str,
    #[serde(rename = "ErrorInfo")]
    error_info: String,
    #[serde(rename = "ErrorCode")]
    error_code: u8,
}

/// The answer to a request.
#[derive(Debug)]
pub(super) enum Answer {
    /// 200: durable, or out of scope; the text is empty or says why it is parked.
    Done(String),
    /// 403.
    Refused(Refusal),
    /// 403: a browser sent it.
    Browser,
    /// 413.
    TooLarge,
    /// 400: the sender closed the connection in the middle of the body.
    Incomplete,
    /// 503: not known to be durable.
    NotDurable(&'static str),
}

impl IntoResponse for Answer {
    fn into_response(self) -> Response {
        let (status, info) = match self {
            Self::Done(info) => return ok(info),
            Self::Refused(refusal) => (StatusCode::FORBIDDEN, refusal.to_string()),
            Self::Browser => (
                StatusCode::FORBIDDEN,
                "callbacks come from Tencent's servers, not from a browser".to_owned(),
            ),
            Self::TooLarge => (
                StatusCode::PAYLOAD_TOO_LARGE,
                format!("the body is over the limit of {BODY_BYTES_MAX} bytes"),
            ),
            Self::Incomplete => (StatusCode::BAD_REQUEST, "the body broke off".to_owned()),
            Self::NotDurable(why) => {
                let retry = [(header::RETRY_AFTER, "1")];
                return (retry, fail(StatusCode::SERVICE_UNAVAILABLE, why.to_owned())).into_response();
            }
        };
        fail(status, info)
    }
}

fn ok(info: String) -> Response {
    Json(AnswerBody { action_status: "OK", error_info: info, error_code: 0 }).into_response()
}

/// An answer with `FAIL`.
pub(super) fn fail(status: StatusCode, info: String) -> Response {
    (status, Json(AnswerBody { action_status: "FAIL", error_info: info, error_code: 1 })).into_response()
}
