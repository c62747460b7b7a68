//! The receiver: `POST /` and `POST /callback`, from a request to an answer, inside the time that Tencent waits.
//!
//! App id and signature are verified from the query before the body is read. Query strings are never logged: they carry
//! signatures. The clock is read once per request and handed down.

mod answer;
mod request;

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use axum::routing::post;
use http_body::Body as _;
use tower_http::catch_panic::CatchPanicLayer;

use crate::callback::signature::{self, Gate};
use crate::callback::{self, Decoded, Received};
use crate::clock::{self, ReceiptClock};
use crate::ingest::{Outcome, Writer};
use crate::model::GroupId;
use answer::{Answer, fail};
use request::{CallbackQuery, Unread, is_from_browser, read_body};

pub use request::ReadPermits;

/// How long after receipt an answer must leave. Tencent waits 2 s for the whole exchange; the rest is for the way.
pub const ANSWER_BUDGET: Duration = Duration::from_millis(1500);
const _: () = assert!(ANSWER_BUDGET.as_millis() < 2000);

/// How long after receipt a callback must be durable; the rest is for the answer.
const DURABLE_WITHIN: Duration = Duration::from_millis(1400);
const _: () = assert!(DURABLE_WITHIN.as_millis() < ANSWER_BUDGET.as_millis());

/// What the receiver works with.
#[derive(Debug, Clone)]
pub struct ReceiverState {
    /// Who may send.
    pub gate: Arc<Gate>,
    /// Whether the membership of audio-video rooms is mirrored.
    pub avchatroom_members: bool,
    /// Where callbacks go.
    pub writer: Writer,
    /// For bodies that are being read.
    pub reading: ReadPermits,
    /// Gives every request the time of its receipt.
    pub receipts: ReceiptClock,
}

/// The routes of the public listener, health apart.
pub fn router(state: ReceiverState) -> Router {
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

async fn receive(State(state): State<ReceiverState>, request: Request) -> Response {
    let begun = Instant::now();
    let answer = tokio::time::timeout(ANSWER_BUDGET, handle(&state, request, begun + DURABLE_WITHIN))
        .await
        .unwrap_or_else(|_| {
            refused("budget");
            Answer::NotDurable("it could not be made durable in time")
        });
    metrics::histogram!("group_mirror_answer_seconds").record(begun.elapsed());
    answer.into_response()
}

fn refused(cause: &'static str) {
    metrics::counter!("group_mirror_refusals_total", "cause" => cause).increment(1);
}

fn counted(command: &'static str, outcome: &'static str) {
    metrics::counter!("group_mirror_callbacks_total", "command" => command, "outcome" => outcome)
        .increment(1);
}

async fn handle(state: &ReceiverState, request: Request, deadline: Instant) -> Answer {
    let now = clock::now();
    let received_at = state.receipts.receipt(now);
    let (parts, body) = request.into_parts();
    if is_from_browser(&parts.headers) {
        refused("browser");
        return Answer::Browser;
    }
    // The console's check: it may carry neither app id nor signature, and there is nothing to store.
    if body.is_end_stream() {
        counted("none", "empty");
        return Answer::Done(String::new());
    }
    let query = CallbackQuery::parse(&parts);
    if let Err(refusal) = signature::verify(query.credentials(), &state.gate, now.get() / 1000) {
        refused(refusal.label());
        return Answer::Refused(refusal);
    }
    let body = match read_body(&state.reading, body).await {
        Ok(body) => body,
        Err(Unread::TooLarge) => {
            refused("too_large");
            return Answer::TooLarge;
        }
        Err(Unread::Incomplete) => {
            refused("broken_off");
            return Answer::Incomplete;
        }
        Err(Unread::Busy) => {
            refused("reading");
            state.writer.note_loss(received_at, "reading");
            return Answer::NotDurable("too many callbacks are being read");
        }
    };
    if body.is_empty() {
        counted("none", "empty");
        return Answer::Done(String::new());
    }
    keep(state, query.received(state.gate.app, received_at, body), deadline).await
}

/// Decodes, and waits until what is in scope is durable.
async fn keep(state: &ReceiverState, received: Received, deadline: Instant) -> Answer {
    let callback = match callback::decode(received) {
        Decoded::OutOfScope(label) => {
            counted(label, "out_of_scope");
            return Answer::Done(String::new());
        }
        Decoded::Kept(callback) => callback,
    };
    let label = callback::command_label(&callback.command);
    if !state.avchatroom_members && callback.is_avchatroom_membership() {
        counted(label, "out_of_scope");
        return Answer::Done(String::new());
    }
    let group = callback.group.clone();
    let unread = match &callback.event {
        Err(reason) => Some(Outcome::Parked(reason.clone())),
        Ok(_) if callback.skipped.is_empty() => None,
        Ok(_) => Some(Outcome::Partial(callback.skipped.clone())),
    };
    match state.writer.submit(*callback, deadline.into()).await {
        Ok(outcome) => {
            counted(label, outcome.label());
            // It will be parked when the drain commits it; the sender gets the same answer either way.
            let outcome = match (outcome, unread) {
                (Outcome::Spooled, Some(unread)) => unread,
                (outcome, _) => outcome,
            };
            match outcome {
                Outcome::Parked(reason) => {
                    // The reason quotes what was sent, so it stays out of the log.
                    tracing::warn!(
                        callback.command = label,
                        cause = reason.cause.label(),
                        group.id = group.as_ref().map(GroupId::as_str),
                        "a callback is parked; the ledger has the reason"
                    );
                    Answer::Done(format!("parked: {reason}"))
                }
                Outcome::Partial(skipped) => Answer::Done(format!("partial: {skipped}")),
                Outcome::Applied | Outcome::Duplicate | Outcome::Spooled => Answer::Done(String::new()),
            }
        }
        Err(error) => {
            counted(label, "not_durable");
            // The log has one line for the whole gap, at error; one per callback would fill the disk that may be the cause.
            tracing::debug!(callback.command = label, error = %error, "a callback is not durable");
            Answer::NotDurable("it could not be made durable")
        }
    }
}
