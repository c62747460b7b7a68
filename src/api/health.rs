//! Health: `/livez` and `/readyz` on both listeners, `/metrics` on the internal one.
//!
//! Readiness is the writer's word, not the database's answer to a question: a server that answers may refuse every
//! write. The internal listener says why; the public one says ready or not, since anybody can ask it. Neither needs a token,
//! because a load balancer has none.

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Json, Response};
use axum::routing::get;
use metrics_exporter_prometheus::PrometheusHandle;
use serde::Serialize;
use tokio_util::sync::CancellationToken;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::auth::{Caller, ConfiguredApp};
use super::errors::ApiError;
use super::openapi::{Guarded, NotFound, OnlyGet};
use crate::clock;
use crate::ingest::Writer;
use crate::spool::SpoolError;
use crate::store::StandbyReads;
use crate::store::schema::SchemaState;

/// What the health endpoints look at.
#[derive(Debug, Clone)]
pub struct HealthState {
    /// Whether schema and program agree.
    pub schema: SchemaState,
    /// Whether its circuit breaker is open, and whether its spool takes callbacks.
    pub writer: Writer,
    /// Where lists and lookups are read, if not from the database itself.
    pub standby: Option<StandbyReads>,
    /// Cancelled once the service stops: then it is not ready, so that a load balancer sends nothing new.
    pub stop: CancellationToken,
}

/// The status of a service that takes callbacks.
const READY: &str = "ready";

/// What the public listener says.
#[derive(Debug, Serialize)]
struct PublicReadiness {
    status: &'static str,
}

/// Whether a callback could be made durable now.
#[derive(Debug, Serialize, ToSchema)]
struct Readiness {
    /// `ready`, `not ready` or `stopping`.
    status: &'static str,
    /// `ok` while callbacks are committed to it, else why they are not.
    database: String,
    /// Where lists and lookups are read: `standby`, or why not from there; null where no standby is named for them.
    reads: Option<String>,
    spool: SpoolReadiness,
}

/// The durable local queue for the time when the database does not commit.
#[derive(Debug, Serialize, ToSchema)]
struct SpoolReadiness {
    /// `ok`, or why it takes nothing.
    state: String,
    /// Callbacks in it; null while its file was not opened yet.
    depth: Option<u64>,
    /// What they are charged with.
    bytes: Option<u64>,
    /// Seconds since the oldest callback in it was received; null when it is empty.
    oldest_age: Option<i64>,
    /// Times when callbacks could not be made durable, of this run and earlier ones.
    gaps: u64,
}

/// `/livez` and `/readyz` of the public listener: ready or not, without a reason.
pub fn router(state: HealthState) -> Router {
    let ready = async |State(state): State<HealthState>| {
        let Readiness { status, .. } = readiness(&state);
        (status_code(status), Json(PublicReadiness { status }))
    };
    Router::new().route("/livez", get(livez)).route("/readyz", get(ready)).with_state(state)
}

/// `/livez` and `/readyz` of the internal listener, with their part of the document.
pub(super) fn routes() -> OpenApiRouter<HealthState> {
    OpenApiRouter::default().routes(routes!(livez)).routes(routes!(readyz))
}

/// The numbers, and whose they are.
#[derive(Debug, Clone)]
pub(super) struct MetricsState {
    pub(super) metrics: PrometheusHandle,
    pub(super) app: ConfiguredApp,
}

/// `/metrics`, with its part of the document.
pub(super) fn metrics_routes() -> OpenApiRouter<MetricsState> {
    OpenApiRouter::default().routes(routes!(metrics))
}

/// Numbers for Prometheus.
///
/// No label holds an id but that of the app. Where several apps are served a token of one of them has no numbers: 404.
#[utoipa::path(
    get,
    path = "/metrics",
    operation_id = "metrics",
    tag = "health",
    responses((status = 200, description = "In Prometheus' text format.", body = String, content_type = "text/plain"), Guarded, NotFound)
)]
async fn metrics(State(state): State<MetricsState>, caller: Caller) -> Result<Response, ApiError> {
    caller.of_process(state.app)?;
    // State of the process, read off at the moment of the scrape.
    #[cfg(target_os = "linux")]
    metrics_process::Collector::default().collect();
    let kind = [(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")];
    Ok((kind, state.metrics.render()).into_response())
}

/// The process answers.
#[utoipa::path(
    get,
    path = "/livez",
    operation_id = "livez",
    tag = "health",
    security(()),
    responses((status = 200, description = "It does.", body = String, content_type = "text/plain"), OnlyGet)
)]
async fn livez() -> &'static str {
    "ok"
}

/// A callback could be made durable now, in PostgreSQL or in the spool.
///
/// The reasons are in the answer.
#[utoipa::path(
    get,
    path = "/readyz",
    operation_id = "readyz",
    tag = "health",
    security(()),
    responses(
        (status = 200, description = "It could.", body = Readiness),
        (status = 503, description = "It could not.", body = Readiness),
        OnlyGet,
    )
)]
async fn readyz(State(state): State<HealthState>) -> Response {
    let readiness = readiness(&state);
    (status_code(readiness.status), Json(readiness)).into_response()
}

fn status_code(status: &str) -> StatusCode {
    if status == READY { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }
}

fn readiness(state: &HealthState) -> Readiness {
    let status = state.writer.spool();
    let database = match (state.schema.mismatch(), state.writer.is_database_away()) {
        (Some(mismatch), _) => mismatch,
        (None, true) if status.failure.is_some() => "it does not commit in time".to_owned(),
        (None, true) => "it does not commit in time; callbacks go to the spool".to_owned(),
        (None, false) => "ok".to_owned(),
    };
    let is_known = status.failure != Some(SpoolError::Opening);
    let spool = SpoolReadiness {
        state: status.failure.as_ref().map_or_else(|| "ok".to_owned(), ToString::to_string),
        depth: is_known.then_some(status.depth),
        bytes: is_known.then_some(status.bytes),
        oldest_age: status.oldest.map(|oldest| (clock::now().get() - oldest.get()).max(0) / 1000),
        gaps: status.gaps,
    };
    let status = match (state.stop.is_cancelled(), database == "ok" || status.failure.is_none()) {
        (true, _) => "stopping",
        (false, true) => READY,
        (false, false) => "not ready",
    };
    let reads =
        state.standby.as_ref().map(|standby| standby.trouble().unwrap_or_else(|| "standby".to_owned()));
    Readiness { status, database, reads, spool }
}
