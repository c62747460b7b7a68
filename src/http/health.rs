//! `/livez`, `/readyz` on both listeners, `/metrics` on the internal one.
//!
//! Knows whether a callback could be made durable now; the states of database and spool are details of the answer. Neither
//! needs a token: a load balancer has none.

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Json, Response};
use axum::routing::get;
use metrics_exporter_prometheus::PrometheusHandle;
use serde::Serialize;
use tokio::sync::watch;

use super::callback::now;
use crate::ingest::Writer;
use crate::store::Database;

/// What the health endpoints look at.
#[derive(Debug, Clone)]
pub struct HealthState {
    /// The database.
    pub database: Database,
    /// Why schema and database do not agree; none: they do.
    pub trouble: watch::Receiver<Option<String>>,
    /// The spool's owner.
    pub writer: Writer,
}

#[derive(Debug, Serialize)]
struct Readiness {
    status: &'static str,
    /// `ok`, or what is wrong with it.
    database: String,
    spool: Spool,
}

#[derive(Debug, Serialize)]
struct Spool {
    /// `ok`, or why it takes nothing.
    state: String,
    depth: u64,
    bytes: u64,
    /// Seconds since the oldest callback in it was received; null when it is empty.
    oldest_age: Option<i64>,
    /// Times when callbacks could not be made durable, of this run and earlier ones.
    gaps: u64,
}

/// `/livez` and `/readyz`.
pub fn router(state: HealthState) -> Router {
    Router::new().route("/livez", get(livez)).route("/readyz", get(readyz)).with_state(state)
}

/// `/metrics`, in Prometheus' text format.
pub fn metrics_router<S: Clone + Send + Sync + 'static>(metrics: PrometheusHandle) -> Router<S> {
    let render = async move || {
        ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], metrics.render())
    };
    Router::new().route("/metrics", get(render))
}

/// The process answers.
async fn livez() -> &'static str {
    "ok"
}

/// 200 when a callback could be made durable now, else 503; the reasons are in the answer.
async fn readyz(State(state): State<HealthState>) -> Response {
    let trouble = state.trouble.borrow().clone();
    let database = match trouble {
        Some(trouble) => trouble,
        None if state.database.answers().await => "ok".to_owned(),
        None => "does not answer, or is read-only".to_owned(),
    };
    let status = state.writer.spool();
    let spool = Spool {
        state: status.failure.as_ref().map_or_else(|| "ok".to_owned(), ToString::to_string),
        depth: status.depth,
        bytes: status.bytes,
        oldest_age: status.oldest.map(|oldest| (now().get() - oldest.get()).max(0) / 1000),
        gaps: status.gaps,
    };
    if database == "ok" || spool.state == "ok" {
        Json(Readiness { status: "ready", database, spool }).into_response()
    } else {
        let readiness = Readiness { status: "not ready", database, spool };
        (StatusCode::SERVICE_UNAVAILABLE, Json(readiness)).into_response()
    }
}
