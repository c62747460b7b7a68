//! How many reads may be in work at once on the internal listener, and for how long; health checks are not among them.
//!
//! Each read in work holds a connection, and so does one that waits for a permit. With as many of them as the listener has
//! connections a load balancer would find a service that does not answer. So reads beyond the limit are refused at once,
//! and connections are left for `/livez` and `/readyz`. A stream of the feed counts among the followers instead, also while it
//! waits to begin: thousands that lost their streams together come back together. A read that is over its time is dropped
//! with all that it holds, because a server that has stalled ends no statement itself.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::errors::ApiError;
use crate::replay::as_of::PERMIT_WAIT_MAX;
use crate::store::READ_WAIT_MAX;

/// How long a request may take that is one read: the wait for its permit, and the read.
const REQUEST_WAIT_MAX: Duration = PERMIT_WAIT_MAX.saturating_add(READ_WAIT_MAX);

/// Paths that stream events to who asks for them.
const STREAM_PATHS: [&str; 2] = ["/v1/changes", "/live/events"];

/// The permits for reads in work. Cheap to clone.
#[derive(Debug, Clone)]
pub struct InWorkPermits(Arc<Semaphore>);

impl InWorkPermits {
    /// So many.
    #[must_use]
    pub fn new(reads_max: usize) -> Self {
        Self(Arc::new(Semaphore::new(reads_max)))
    }
}

/// Answers 503 where all permits are taken.
pub(super) async fn limit(State(permits): State<InWorkPermits>, request: Request, next: Next) -> Response {
    if is_stream(&request) {
        return next.run(request).await;
    }
    match permits.0.try_acquire() {
        Ok(_permit) => next.run(request).await,
        Err(_) => ApiError::unavailable("Too many reads are in work; try again.").into_response(),
    }
}

/// Answers 503 to a read that takes longer than one may.
pub(crate) async fn in_time(request: Request, next: Next) -> Response {
    timeout(REQUEST_WAIT_MAX, next.run(request)).await.unwrap_or_else(|_| {
        ApiError::unavailable("The database does not answer this read in time; try again.").into_response()
    })
}

/// Whether a request asks for the feed as a stream of events.
pub(super) fn is_stream(request: &Request) -> bool {
    STREAM_PATHS.contains(&request.uri().path()) && accepts_events(request.headers())
}

/// Whether a request accepts a stream of events.
pub(super) fn accepts_events(headers: &HeaderMap) -> bool {
    let accepted = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    accepted.flat_map(|value| value.split(',')).any(|kind| {
        kind.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case("text/event-stream"))
    })
}
