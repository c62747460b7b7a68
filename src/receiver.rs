//! The receiver: a POST of Tencent's servers, from its arrival to an answer, inside the time that Tencent waits.
//!
//! App id and signature are verified from the query before the body is read. A request that is not taken is counted by
//! cause; an authentic one that is not taken is a loss as well, and forms a gap. Query strings are never logged, because
//! they carry signatures. The clock is read once per request and handed down. Where a backend stands behind the mirror,
//! commands that wait for a verdict get its answer, and nothing of that is stored.

mod answer;
mod passing;
mod request;
mod sightings;

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Request, State};
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use http_body::Body as _;
use tower_http::catch_panic::CatchPanicLayer;

use crate::callback::signature::{self, Gate, Refusal};
use crate::callback::{self, Callback, Decoded, Received, Unkept};
use crate::clock::{self, ReceiptClock};
use crate::ingest::{Outcome, Writer};
use crate::model::{GroupId, Millis, SdkAppId};
use crate::refusals::{RefusalCause, RefusalLog};
use crate::relay::{LoopSighting, Relays};
use crate::traces::Traces;
use crate::traffic::Traffic;
use answer::{Answer, fail};
use passing::Passing;
use request::{
    CallbackQuery, Unread, is_callback_path, is_from_browser, keep_request, quoted_path, read_body,
};

pub use request::ReadPermits;
pub use sightings::Sightings;

/// How long after receipt a body must have come and a callback must be durable; then it is answered either way. Tencent
/// waits 2 s for the whole exchange; the rest is for the answer and the way.
const DURABLE_WITHIN: Duration = Duration::from_millis(1400);
const _: () = assert!(DURABLE_WITHIN.as_millis() < 2000);

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
    /// Where requests are counted that are not taken.
    pub refusals: RefusalLog,
    /// What was seen for the first time.
    pub sightings: Sightings,
    /// Gives every request the time of its receipt.
    pub receipts: ReceiptClock,
    /// The backends behind the mirror.
    pub relays: Relays,
    /// Where callbacks and answers are counted by minute.
    pub traffic: Traffic,
    /// Gives sampled callbacks their span.
    pub traces: Traces,
}

/// The routes of the public listener, with those of `health` beside.
pub fn router(state: ReceiverState, health: Router) -> Router {
    let on_panic = state.clone();
    Router::new()
        .merge(health.with_state::<ReceiverState>(()))
        .fallback(receive)
        .method_not_allowed_fallback(refuse_method)
        .with_state(state)
        .layer(CatchPanicLayer::custom(move |_| {
            // Before the signature is verified there is next to nothing that could panic, so this is a loss.
            on_panic.lose(None, RefusalCause::Fault, clock::now());
            fail(StatusCode::SERVICE_UNAVAILABLE, "an internal fault; it is logged".to_owned())
        }))
}

impl ReceiverState {
    /// Counts a request that is not known to be Tencent's; `app` is one of ours that it names.
    fn refuse(&self, app: Option<SdkAppId>, cause: RefusalCause, seen: Option<String>) {
        self.refusals.note(app, cause, seen);
    }

    /// Counts an authentic callback, whatever became of it.
    fn counted(&self, app: SdkAppId, command: &'static str, outcome: &'static str) {
        metrics::counter!("group_mirror_callbacks_total", "command" => command, "outcome" => outcome, "app" => app.to_string())
            .increment(1);
        self.traffic.callback(app, clock::now());
    }

    /// Counts an authentic callback that is not kept.
    fn out_of_scope(&self, app: SdkAppId, label: &'static str) {
        self.counted(app, label, "out_of_scope");
        self.traffic.not_kept(app, label, clock::now());
        self.sightings.callback(app, label, "out_of_scope");
    }

    /// Counts an authentic request that is not durable: its sender does not repeat it, so it is a gap.
    fn lose(&self, app: Option<SdkAppId>, cause: RefusalCause, received_at: Millis) {
        self.refusals.note(app, cause, None);
        self.writer.note_loss(app, received_at, cause.label());
    }
}

/// Takes what is sent to `/` or `/callback`, with a slash too many or not, and refuses the rest.
async fn receive(State(state): State<ReceiverState>, request: Request) -> Response {
    let begun = Instant::now();
    if !is_callback_path(request.uri().path()) {
        state.refuse(None, RefusalCause::Path, Some(quoted_path(request.uri().path())));
        return fail(StatusCode::NOT_FOUND, "callbacks are taken at / and /callback".to_owned());
    }
    if request.method() != Method::POST {
        return refuse_method(State(state), request).await;
    }
    let answer = handle(&state, request, begun).await;
    if !answer.is_of_backend() {
        metrics::histogram!("group_mirror_answer_seconds").record(begun.elapsed());
        state.traffic.answered(begun.elapsed(), clock::now());
    }
    answer.into_response()
}

async fn refuse_method(State(state): State<ReceiverState>, request: Request) -> Response {
    // A method may be any word; only the usual ones are repeated.
    let usual = [Method::GET, Method::HEAD, Method::PUT, Method::DELETE, Method::OPTIONS, Method::PATCH];
    let seen = usual.contains(request.method()).then(|| request.method().to_string());
    state.refuse(None, RefusalCause::Method, seen);
    let mut answer = fail(StatusCode::METHOD_NOT_ALLOWED, "callbacks are sent by POST".to_owned());
    answer.headers_mut().insert(header::ALLOW, HeaderValue::from_static("POST"));
    answer
}

async fn handle(state: &ReceiverState, request: Request, begun: Instant) -> Answer {
    let deadline = begun + DURABLE_WITHIN;
    let now = clock::now();
    let received_at = state.receipts.receipt(now);
    let (parts, body) = request.into_parts();
    if is_from_browser(&parts.headers) {
        state.refuse(None, RefusalCause::Browser, None);
        return Answer::Browser;
    }
    if let Some(sighting) = state.relays.loop_sighting(&parts.headers) {
        let sender = match sighting {
            LoopSighting::Own => "this one sent it",
            LoopSighting::Other => "another one sent it",
        };
        state.refuse(None, RefusalCause::Loop, Some(sender.to_owned()));
        return Answer::Loop;
    }
    // The console's check: it may carry neither app id nor signature, and there is nothing to store.
    if body.is_end_stream() {
        return empty(state);
    }
    let query = CallbackQuery::parse(&parts);
    let app = match signature::verify(query.credentials(), &state.gate, now.get() / 1000) {
        Ok(app) => app,
        Err(refusal) => {
            let (cause, seen) = cause_of(refusal);
            let named = query.credentials().app.and_then(|text| SdkAppId::parse(text).ok());
            state.refuse(named.filter(|app| state.gate.tokens.contains_key(app)), cause, seen);
            return Answer::Refused(refusal);
        }
    };
    let body = match read_body(&state.reading, body, deadline.into()).await {
        Ok(body) => body,
        Err(unread) => {
            let (cause, answer) = match unread {
                Unread::TooLarge => (RefusalCause::TooLarge, Answer::TooLarge),
                Unread::Incomplete => (RefusalCause::BrokenOff, Answer::Incomplete),
                Unread::Late => (RefusalCause::Budget, Answer::NotDurable("its body did not come in time")),
                Unread::Busy => {
                    (RefusalCause::Reading, Answer::NotDurable("too many callbacks are being read"))
                }
            };
            state.lose(Some(app), cause, received_at);
            return answer;
        }
    };
    if body.is_empty() {
        return empty(state);
    }
    let mut received = query.received(app, received_at, body);
    if state.writer.relays(app) {
        keep_request(&mut received, &parts);
    }
    let backend = Passing::new(&state.relays, app, &parts, begun);
    keep(state, received, backend, begun).await
}

fn empty(state: &ReceiverState) -> Answer {
    metrics::counter!("group_mirror_callbacks_total", "command" => "none", "outcome" => "empty").increment(1);
    state.sightings.check();
    Answer::Done(String::new())
}

/// The cause of a refusal, and what of the query may be logged: numbers only.
fn cause_of(refusal: Refusal) -> (RefusalCause, Option<String>) {
    match refusal {
        Refusal::App(None) => (RefusalCause::App, Some("no readable SdkAppid".to_owned())),
        Refusal::App(Some(app)) => (RefusalCause::App, Some(format!("SdkAppid {app} is not ours"))),
        Refusal::Missing => (RefusalCause::Missing, None),
        Refusal::Stale(behind) => {
            let (secs, side) = (behind.unsigned_abs(), if behind >= 0 { "behind" } else { "ahead of" });
            (RefusalCause::Stale, Some(format!("RequestTime is {secs} s {side} this host's clock")))
        }
        Refusal::Wrong => (RefusalCause::Wrong, None),
    }
}

/// Decodes, passes on what is not kept, and waits until what is kept is durable. What is kept and waits for a verdict, an
/// unknown command of groups for example, waits for both: its answer is the backend's, once it is durable.
async fn keep(
    state: &ReceiverState,
    received: Received,
    backend: Option<Passing<'_>>,
    begun: Instant,
) -> Answer {
    let app = received.app;
    let callback = match callback::decode(received) {
        Decoded::OutOfScope(unkept) => {
            let Unkept { label, command, received } = *unkept;
            state.out_of_scope(app, label);
            let Some(backend) = backend else { return Answer::Done(String::new()) };
            return backend.unkept(&command, received.body.into()).await;
        }
        Decoded::Kept(callback) => callback,
    };
    if !state.avchatroom_members && callback.is_avchatroom_membership() {
        state.out_of_scope(app, callback::command_label(&callback.command));
        if let Some(backend) = backend {
            backend.notify(callback.received.body.into());
        }
        return Answer::Done(String::new());
    }
    let waiting = backend.zip(callback.answered_by_backend().map(str::to_owned));
    let Some((backend, command)) = waiting else { return make_durable(state, *callback, begun).await };
    let body = Bytes::copy_from_slice(&callback.received.body);
    let verdict = backend.verdict(&command, body);
    let (durable, verdict) = tokio::join!(make_durable(state, *callback, begun), verdict);
    if matches!(durable, Answer::Done(_)) { verdict } else { durable }
}

/// Waits until a callback is durable.
async fn make_durable(state: &ReceiverState, callback: Callback, begun: Instant) -> Answer {
    let span = state.traces.callback(callback.received.app, begun);
    let deadline = begun + DURABLE_WITHIN;
    let (app, label) = (callback.received.app, callback::command_label(&callback.command));
    let group = callback.group.clone();
    let unread = match &callback.event {
        Err(reason) => Some(Outcome::Parked(reason.clone())),
        Ok(_) if callback.skipped.is_empty() => None,
        Ok(_) => Some(Outcome::Partial(callback.skipped.clone())),
    };
    let submitted = state.writer.submit(callback, span.clone(), deadline.into()).await;
    if let Some(span) = span {
        let outcome = submitted.as_ref().map_or("not_durable", Outcome::label);
        span.end(label, outcome, submitted.is_ok());
    }
    match submitted {
        Ok(outcome) => {
            state.counted(app, label, outcome.label());
            state.sightings.callback(app, label, outcome.label());
            // It will be parked when the drain commits it; the sender gets the same answer either way.
            let outcome = match (outcome, unread) {
                (Outcome::Spooled, Some(unread)) => unread,
                (outcome, _) => outcome,
            };
            match outcome {
                Outcome::Parked(reason) => {
                    // The reason quotes what was sent, so it stays out of the log.
                    tracing::warn!(
                        callback.app = app.get(),
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
            state.counted(app, label, "not_durable");
            // The writer has counted the loss, with its cause; this counts the request.
            state.refuse(Some(app), RefusalCause::NotDurable, Some(error.label().to_owned()));
            Answer::NotDurable("it could not be made durable")
        }
    }
}
