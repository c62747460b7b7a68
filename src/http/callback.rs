//! `POST /` and `POST /callback`: from a request to an answer in Tencent's shape, inside the time that Tencent waits.
//!
//! App id and signature are verified from the query before the body is read. Query strings are never logged: they
//! carry signatures. The clock is read here, once per request, and handed down. Answers: 1047/34354.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header, request::Parts};
use axum::response::{IntoResponse, Json, Response};
use axum::routing::post;
use http_body::Body as _;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use serde::Serialize;
use tokio::sync::Semaphore;
use tower_http::catch_panic::CatchPanicLayer;

use crate::callback::sign::{self, Claim, Gate, Refusal};
use crate::callback::{self, BODY_BYTES_MAX, Decoded, QUERY_TEXT_BYTES_MAX, Received};
use crate::ingest::{Outcome, Writer};
use crate::model::Millis;

/// How long after receipt an answer must leave. Tencent waits 2 s for the whole exchange; the rest is for the way.
pub const ANSWER_BUDGET: Duration = Duration::from_millis(1500);
const _: () = assert!(ANSWER_BUDGET.as_millis() < 2000);

/// How long after receipt a callback must be durable; the rest is for telling so.
const DURABLE_WITHIN: Duration = Duration::from_millis(1400);
const _: () = assert!(DURABLE_WITHIN.as_millis() < ANSWER_BUDGET.as_millis());

/// How many bytes of bodies may be read at the same time, 32 MiB; a body without a length counts as the largest. What
/// comes at the limit is answered with 503 before its body is read.
const READING_BYTES_MAX: usize = 32 * BODY_BYTES_MAX;

/// What the callback listener needs.
#[derive(Debug, Clone)]
pub struct CallbackState {
    /// Who may send.
    pub gate: Arc<Gate>,
    /// Whether the membership of audio-video rooms is mirrored.
    pub avchatroom_members: bool,
    /// Where callbacks go.
    pub writer: Writer,
    /// The room for bodies that are being read.
    pub reading: Reading,
}

/// The room for bodies that are being read; all clones share it.
#[derive(Debug, Clone)]
pub struct Reading(Arc<Semaphore>);

impl Default for Reading {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(READING_BYTES_MAX)))
    }
}

/// The shape that Tencent reads. After-callbacks ignore it; it is always there all the same.
#[derive(Debug, Serialize)]
struct Answer {
    #[serde(rename = "ActionStatus")]
    action_status: &'static str,
    #[serde(rename = "ErrorInfo")]
    error_info: String,
    #[serde(rename = "ErrorCode")]
    error_code: u8,
}

/// How a request ends.
#[derive(Debug)]
enum Ending {
    /// 200: durable, or of no concern; the text is empty or says why it is parked.
    Done(String),
    /// 403.
    Refused(Refusal),
    /// 403: a browser sent it.
    Browser,
    /// 413.
    TooLarge,
    /// 400: the sender broke off.
    Unread,
    /// 503: not known to be durable.
    NotDurable(&'static str),
}

impl IntoResponse for Ending {
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
            Self::Unread => (StatusCode::BAD_REQUEST, "the body broke off".to_owned()),
            Self::NotDurable(why) => {
                let retry = [(header::RETRY_AFTER, "1")];
                return (retry, fail(StatusCode::SERVICE_UNAVAILABLE, why.to_owned())).into_response();
            }
        };
        fail(status, info)
    }
}

fn ok(info: String) -> Response {
    Json(Answer { action_status: "OK", error_info: info, error_code: 0 }).into_response()
}

fn fail(status: StatusCode, info: String) -> Response {
    (status, Json(Answer { action_status: "FAIL", error_info: info, error_code: 1 })).into_response()
}

/// The public surface, health endpoints apart.
pub fn router(state: CallbackState) -> Router {
    let not_found = async || fail(StatusCode::NOT_FOUND, "callbacks are taken at / and /callback".to_owned());
    let not_allowed = async || fail(StatusCode::METHOD_NOT_ALLOWED, "callbacks are sent by POST".to_owned());
    Router::new()
        .route("/", post(receive))
        .route("/callback", post(receive))
        .fallback(not_found)
        .method_not_allowed_fallback(not_allowed)
        .with_state(state)
        .layer(CatchPanicLayer::custom(|_| {
            fail(StatusCode::SERVICE_UNAVAILABLE, "an internal fault; it is logged".to_owned())
        }))
}

async fn receive(State(state): State<CallbackState>, request: Request) -> Response {
    let begun = Instant::now();
    let ending = tokio::time::timeout(ANSWER_BUDGET, handle(&state, request, begun + DURABLE_WITHIN))
        .await
        .unwrap_or_else(|_| {
            refused("budget");
            Ending::NotDurable("it could not be made durable in time")
        });
    metrics::histogram!("group_mirror_answer_seconds").record(begun.elapsed());
    ending.into_response()
}

fn refused(cause: &'static str) {
    metrics::counter!("group_mirror_refusals_total", "cause" => cause).increment(1);
}

fn counted(command: &'static str, outcome: &'static str) {
    metrics::counter!("group_mirror_callbacks_total", "command" => command, "outcome" => outcome)
        .increment(1);
}

async fn handle(state: &CallbackState, request: Request, deadline: Instant) -> Ending {
    let received_at = now();
    let (parts, body) = request.into_parts();
    if from_browser(&parts.headers) {
        refused("browser");
        return Ending::Browser;
    }
    // The console's check: it may carry neither app id nor signature, and there is nothing to store.
    if body.is_end_stream() {
        counted("none", "empty");
        return Ending::Done(String::new());
    }
    let query = Query::parse(&parts);
    if let Err(refusal) = sign::verify(query.claim(), &state.gate, received_at.get() / 1000) {
        refused(refusal.label());
        return Ending::Refused(refusal);
    }
    let body = match read(state, body).await {
        Ok(body) => body,
        Err(ending) => {
            if matches!(ending, Ending::NotDurable(_)) {
                state.writer.lost(received_at, "reading");
            }
            return ending;
        }
    };
    if body.is_empty() {
        counted("none", "empty");
        return Ending::Done(String::new());
    }
    keep(state, query.received(state, received_at, body), deadline).await
}

/// The time of receipt.
#[expect(clippy::disallowed_methods, reason = "the one place where the time of receipt comes from")]
pub fn now() -> Millis {
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Millis::new(i64::try_from(since_1970.as_millis()).unwrap_or(i64::MAX))
}

/// Decodes, and waits until what is in scope is durable.
async fn keep(state: &CallbackState, received: Received, deadline: Instant) -> Ending {
    let callback = match callback::decode(received) {
        Decoded::OutOfScope(label) => {
            counted(label, "out_of_scope");
            return Ending::Done(String::new());
        }
        Decoded::Kept(callback) => callback,
    };
    let label = callback::command_label(&callback.command);
    if !state.avchatroom_members && callback.is_avchatroom_membership() {
        counted(label, "out_of_scope");
        return Ending::Done(String::new());
    }
    let unreadable = callback.event.as_ref().err().cloned();
    match state.writer.submit(*callback, deadline.into()).await {
        Ok(outcome) => {
            counted(label, outcome.label());
            // It will be parked when it comes out of the spool; the sender is told the same either way.
            let outcome = match (outcome, unreadable) {
                (Outcome::Spooled, Some(reason)) => Outcome::Parked(reason),
                (outcome, _) => outcome,
            };
            match outcome {
                Outcome::Parked(reason) => {
                    // The reason quotes what was sent, so it stays out of the log.
                    tracing::warn!(
                        callback.command = label,
                        "a callback is parked; the ledger has the reason"
                    );
                    Ending::Done(format!("parked: {reason}"))
                }
                Outcome::Applied | Outcome::Duplicate | Outcome::Spooled => Ending::Done(String::new()),
            }
        }
        Err(error) => {
            counted(label, "not_durable");
            // The log has one line for the gap; one per callback would fill the disk that may be the cause.
            tracing::debug!(callback.command = label, error = %error, "a callback is not durable");
            Ending::NotDurable("it could not be made durable")
        }
    }
}

/// Tencent's servers send neither header; every browser sends at least one with a POST.
fn from_browser(headers: &HeaderMap) -> bool {
    headers.contains_key(header::ORIGIN) || headers.contains_key("sec-fetch-site")
}

async fn read(state: &CallbackState, body: Body) -> Result<Vec<u8>, Ending> {
    // Said before the first byte is read, where the sender says it.
    if body.size_hint().lower() > BODY_BYTES_MAX as u64 {
        refused("too_large");
        return Err(Ending::TooLarge);
    }
    let size = body.size_hint().upper().and_then(|size| u32::try_from(size).ok());
    let most = size.map_or(BODY_BYTES_MAX, |size| (size as usize).min(BODY_BYTES_MAX));
    let Ok(_room) = state.reading.0.try_acquire_many(u32::try_from(most).unwrap_or(u32::MAX)) else {
        refused("reading");
        return Err(Ending::NotDurable("too many callbacks are being read"));
    };
    match Limited::new(body, BODY_BYTES_MAX).collect().await {
        Ok(body) => Ok(body.to_bytes().into()),
        Err(error) if error.is::<LengthLimitError>() => {
            refused("too_large");
            Err(Ending::TooLarge)
        }
        Err(_) => {
            refused("broken_off");
            Err(Ending::Unread)
        }
    }
}

/// The query string as a map; of a repeated parameter the first counts. Extra parameters are tolerated (1047/34354).
struct Query(Vec<(String, String)>);

impl Query {
    fn parse(parts: &Parts) -> Self {
        let raw = parts.uri.query().unwrap_or_default();
        Self(form_urlencoded::parse(raw.as_bytes()).into_owned().collect())
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    fn claim(&self) -> Claim<'_> {
        Claim { app: self.get("SdkAppid"), sign: self.get("Sign"), request_time: self.get("RequestTime") }
    }

    fn received(&self, state: &CallbackState, received_at: Millis, body: Vec<u8>) -> Received {
        let kept = |name: &str| {
            self.get(name)
                .filter(|text| !text.is_empty() && text.len() <= QUERY_TEXT_BYTES_MAX)
                .map(str::to_owned)
        };
        Received {
            app: state.gate.app,
            query_command: kept("CallbackCommand"),
            client_ip: kept("ClientIP"),
            platform: kept("OptPlatform"),
            request_id: kept("RequestID").or_else(|| kept("RequestId")),
            received_at,
            body,
        }
    }
}
