//! `/livez`, `/readyz` on both listeners, `/metrics` on the internal one.
//!
//! Knows whether a callback could be made durable now; the state of the database is a detail of the answer. Neither
//! needs a token: a load balancer has none.

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Json, Response};
use axum::routing::get;
use metrics_exporter_prometheus::PrometheusHandle;
use serde::Serialize;
use tokio::sync::watch;

use crate::store::Database;

/// What the health endpoints look at.
#[derive(Debug, Clone)]
pub struct HealthState {
    /// The database.
    pub database: Database,
    /// Why schema and database do not agree; none: they do.
    pub trouble: watch::Receiver<Option<String>>,
}

#[derive(Debug, Serialize)]
struct Readiness {
    status: &'static str,
    database: String,
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

/// 200 when a callback could be made durable now, else 503; the reason is in the answer.
async fn readyz(State(state): State<HealthState>) -> Response {
    let trouble = state.trouble.borrow().clone();
    let database = match trouble {
        Some(trouble) => trouble,
        None if state.database.answers().await => "ok".to_owned(),
        None => "does not answer, or is read-only".to_owned(),
    };
    if database == "ok" {
        Json(Readiness { status: "ready", database }).into_response()
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, Json(Readiness { status: "not ready", database })).into_response()
    }
}
