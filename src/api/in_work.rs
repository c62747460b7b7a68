//! How many reads may be in work at once on the internal listener; health checks are not among them.
//!
//! Each read in work holds a connection, and so does one that waits for a permit. With as many of them as the listener has
//! places a load balancer would find a service that does not answer. So reads beyond the limit are refused at once, and
//! places are left for `/livez` and `/readyz`. A stream of the feed counts among the followers instead, also while it
//! waits to begin: thousands that lost their streams together come back together.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use tokio::sync::Semaphore;

use super::errors::ApiError;

/// The places for reads. Cheap to clone.
#[derive(Debug, Clone)]
pub struct ReadPlaces(Arc<Semaphore>);

impl ReadPlaces {
    /// So many.
    #[must_use]
    pub fn new(reads_max: usize) -> Self {
        Self(Arc::new(Semaphore::new(reads_max)))
    }
}

/// Answers 503 where all places are taken.
pub(super) async fn limit(State(places): State<ReadPlaces>, request: Request, next: Next) -> Response {
    let is_stream = request.uri().path() == "/v1/changes" && accepts_events(request.headers());
    if is_stream {
        return next.run(request).await;
    }
    match places.0.try_acquire() {
        Ok(_place) => next.run(request).await,
        Err(_) => ApiError::unavailable("Too many reads are in work; try again.").into_response(),
    }
}

/// Whether a request asks for the feed as a stream of events.
pub(super) fn accepts_events(headers: &HeaderMap) -> bool {
    let accepted = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    accepted.flat_map(|value| value.split(',')).any(|kind| {
        kind.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case("text/event-stream"))
    })
}
