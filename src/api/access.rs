//! The access log and the request id: one log line per request, and one id that the caller, the log and a problem
//! document share.
//!
//! The layers of [`with_request_ids`] stand around the whole internal router, refusals and unknown paths included. A
//! request id that the caller sent in `X-Request-Id` is kept where it is safe to repeat, else a new one is made; it
//! returns in the same header of the answer. [`log`] writes the line when the head of the answer is ready, so the time
//! of a stream is the time to its first byte, and a request whose client disconnects before has no line. Logged are
//! method, path, status, time and the caller's name, and `raw` where raw bodies or client addresses were shown; never a query, because filters hold values of users, and never a
//! token. The cause of an error is in the same line. Each answer is counted by the template of its route and its status.

use std::time::Instant;

use axum::Router;
use axum::extract::{MatchedPath, Request, State};
use axum::http::header::CONTENT_LENGTH;
use axum::middleware::{Next, from_fn_with_state, map_request};
use axum::response::Response;
use tower_http::request_id::{MakeRequestUuid, PropagateRequestIdLayer, RequestId, SetRequestIdLayer};

use super::auth::Caller;
use super::errors::ApiError;
use super::prefix::PathPrefix;

/// Counts answers.
pub(crate) const READS_TOTAL: &str = "group_mirror_reads_total";

/// The label of a path that no route has: senders choose those.
const OTHER_PATH: &str = "other";

/// The header of the request id, both ways.
pub(super) const REQUEST_ID: &str = "x-request-id";

/// The longest request id that is kept as it came, in bytes; ids of proxies and traces have up to 100.
const REQUEST_ID_BYTES_MAX: usize = 128;

/// How much of a path is logged, in bytes: two ids of the greatest length, each byte percent-encoded, fit.
const PATH_BYTES_MAX: usize = 4 * 1024;

/// Asked by machines every few seconds; logged at `debug`.
const QUIET_PATHS: [&str; 3] = ["/livez", "/readyz", "/metrics"];

/// Puts the access log and the request ids around everything that a router answers.
pub(super) fn with_request_ids(router: Router, prefix: &PathPrefix) -> Router {
    router
        .layer(from_fn_with_state(prefix.clone(), log))
        .layer(PropagateRequestIdLayer::x_request_id())
        .layer(SetRequestIdLayer::x_request_id(MakeRequestUuid))
        .layer(map_request(drop_unusable_id))
}

/// Notes the template of the route in the answer, for [`log`], which stands outside a path prefix.
pub(super) async fn note_route(request: Request, next: Next) -> Response {
    let route = request.extensions().get::<MatchedPath>().cloned();
    let mut answer = next.run(request).await;
    if let Some(route) = route {
        answer.extensions_mut().insert(route);
    }
    answer
}

/// An id that is too long, holds other characters than ids have, or comes twice is replaced by one of our own: what is
/// repeated in a header and in the log must not be able to forge either.
async fn drop_unusable_id(mut request: Request) -> Request {
    let mut ids = request.headers().get_all(REQUEST_ID).iter();
    let usable = match (ids.next(), ids.next()) {
        (Some(id), None) => is_usable(id.as_bytes()),
        _ => false,
    };
    if !usable {
        request.headers_mut().remove(REQUEST_ID);
    }
    request
}

fn is_usable(id: &[u8]) -> bool {
    let allowed = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.:/+=@".contains(byte);
    (1..=REQUEST_ID_BYTES_MAX).contains(&id.len()) && id.iter().all(allowed)
}

/// Writes problem documents, which repeat the request id, and the line of the access log.
async fn log(State(prefix): State<PathPrefix>, request: Request, next: Next) -> Response {
    let begun = Instant::now();
    let id = request.extensions().get::<RequestId>().and_then(|id| id.header_value().to_str().ok());
    let id = id.unwrap_or_default().to_owned();
    assert!(is_usable(id.as_bytes()), "the layers outside this one give every request a usable id");
    let method = request.method().clone();
    let path = request.uri().path();
    // What follows an encoded question mark was meant to be a query.
    let path = path.split_once("%3F").or_else(|| path.split_once("%3f")).map_or(path, |(path, _)| path);
    let path = path[..path.floor_char_boundary(PATH_BYTES_MAX)].to_owned();
    let mut answer = next.run(request).await;
    let error = answer.extensions_mut().remove::<ApiError>();
    if let Some(document) = error.as_ref().and_then(|error| error.document(&id)) {
        *answer.body_mut() = document;
        // A router has noted the length of the body that there was.
        answer.headers_mut().remove(CONTENT_LENGTH);
    }
    let status = answer.status().as_u16();
    let route = answer.extensions_mut().remove::<MatchedPath>();
    let route = route.as_ref().map_or(OTHER_PATH, MatchedPath::as_str).to_owned();
    metrics::counter!(READS_TOTAL, "path" => route, "status" => status.to_string()).increment(1);
    let caller = answer.extensions().get::<Caller>();
    let raw = caller.filter(|_| status == 200).and_then(Caller::raw_shown);
    let caller = caller.map_or("-", |caller| &caller.name);
    let duration_ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
    let error = error.as_ref().and_then(ApiError::cause).map(tracing::field::display);
    if QUIET_PATHS.contains(&prefix.strip(&path).unwrap_or(&path)) {
        tracing::debug!(
            request_id = id, caller, http.method = %method, http.path = path, http.status = status,
            duration_ms, raw, error, "read"
        );
    } else if status == 500 {
        tracing::error!(
            request_id = id, caller, http.method = %method, http.path = path, http.status = status,
            duration_ms, raw, error, "a read failed"
        );
    } else {
        tracing::info!(
            request_id = id, caller, http.method = %method, http.path = path, http.status = status,
            duration_ms, raw, error, "read"
        );
    }
    answer
}
