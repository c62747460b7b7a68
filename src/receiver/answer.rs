//! Answers in Tencent's shape, and the status of each (1047/34354); those of a backend go back as they are.
//!
//! After-callbacks ignore the body; it has the shape all the same, because a person who tries the address reads it.

use axum::body::Body;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Json, Response};
use serde::Serialize;

use crate::callback::BODY_BYTES_MAX;
use crate::callback::fallback::Fallback;
use crate::callback::signature::Refusal;
use crate::relay::RelayAnswer;

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
    /// 508: a relay sent it.
    Loop,
    /// What the backend answered.
    Relayed(RelayAnswer),
    /// The backend did not answer a command that waits for it.
    Fallback(Fallback),
}

impl Answer {
    /// True where the time until the answer is the backend's, not the mirror's.
    pub(super) fn is_of_backend(&self) -> bool {
        matches!(self, Self::Relayed(_) | Self::Fallback(_))
    }
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
            Self::Loop => (
                StatusCode::LOOP_DETECTED,
                "another mirror has relayed this callback already: its RELAY_URL, or that of this one, is wrong"
                    .to_owned(),
            ),
            Self::Relayed(RelayAnswer { status, headers, body }) => {
                return (status, headers, Body::from(body)).into_response();
            }
            Self::Fallback(fallback) => return without_verdict(fallback),
        };
        fail(status, info)
    }
}

fn ok(info: String) -> Response {
    Json(AnswerBody { action_status: "OK", error_info: info, error_code: 0 }).into_response()
}

/// What a command gets that waits for a backend which does not answer.
fn without_verdict(fallback: Fallback) -> Response {
    match fallback {
        Fallback::Allow => ok(String::new()),
        // Tencent's samples of a refusal say OK with code 1; the user's client gets Tencent's own error, 10016.
        Fallback::Refuse => {
            Json(AnswerBody { action_status: "OK", error_info: String::new(), error_code: 1 }).into_response()
        }
        Fallback::Fail => {
            fail(StatusCode::SERVICE_UNAVAILABLE, "the backend behind this mirror did not answer".to_owned())
        }
    }
}

/// An answer with `FAIL`.
pub(super) fn fail(status: StatusCode, info: String) -> Response {
    (status, Json(AnswerBody { action_status: "FAIL", error_info: info, error_code: 1 })).into_response()
}
