//! `/livez`, `/readyz` on both listeners, `/metrics` on the internal one.
//!
//! Knows whether a callback could be made durable now; the states of database and spool are details of the answer. Neither
//! needs a token: a load balancer has none.

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Json, Response};
use metrics_exporter_prometheus::PrometheusHandle;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::openapi::{Guarded, OnlyGet};
use crate::clock;
use crate::ingest::Writer;
use crate::store::Database;
use crate::store::schema::SchemaState;

/// What the health endpoints look at.
#[derive(Debug, Clone)]
pub struct HealthState {
    /// The database.
    pub database: Database,
    /// Whether schema and program agree.
    pub schema: SchemaState,
    /// The spool's owner.
    pub writer: Writer,
}

/// Whether a callback could be made durable now.
#[derive(Debug, Serialize, ToSchema)]
struct Readiness {
    /// `ready`, or `not ready`.
    status: &'static str,
    /// `ok`, or what is wrong with it.
    database: String,
    spool: SpoolReadiness,
}

/// Where callbacks are durable while the database is away.
#[derive(Debug, Serialize, ToSchema)]
struct SpoolReadiness {
    /// `ok`, or why it takes nothing.
    state: String,
    /// Callbacks in it.
    depth: u64,
    /// What they are charged with.
    bytes: u64,
    /// Seconds since the oldest callback in it was received; null when it is empty.
    oldest_age: Option<i64>,
    /// Times when callbacks could not be made durable, of this run and earlier ones.
    gaps: u64,
}

/// `/livez` and `/readyz`.
pub fn router(state: HealthState) -> Router {
    routes().with_state(state).into()
}

/// The same, with their part of the document.
pub(super) fn routes() -> OpenApiRouter<HealthState> {
    OpenApiRouter::default().routes(routes!(livez)).routes(routes!(readyz))
}

/// `/metrics`, with its part of the document.
pub(super) fn metrics_routes() -> OpenApiRouter<PrometheusHandle> {
    OpenApiRouter::default().routes(routes!(metrics))
}

/// Numbers for Prometheus.
///
/// No label holds an id.
#[utoipa::path(
    get,
    path = "/metrics",
    operation_id = "metrics",
    tag = "health",
    responses((status = 200, description = "In Prometheus' text format.", body = String, content_type = "text/plain"), Guarded)
)]
async fn metrics(State(metrics): State<PrometheusHandle>) -> Response {
    let kind = [(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")];
    (kind, metrics.render()).into_response()
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
    let database = match state.schema.mismatch() {
        Some(mismatch) => mismatch,
        None if state.database.answers().await => "ok".to_owned(),
        None => "does not answer, or is read-only".to_owned(),
    };
    let status = state.writer.spool();
    let spool = SpoolReadiness {
        state: status.failure.as_ref().map_or_else(|| "ok".to_owned(), ToString::to_string),
        depth: status.depth,
        bytes: status.bytes,
        oldest_age: status.oldest.map(|oldest| (clock::now().get() - oldest.get()).max(0) / 1000),
        gaps: status.gaps,
    };
    if database == "ok" || spool.state == "ok" {
        Json(Readiness { status: "ready", database, spool }).into_response()
    } else {
        let readiness = Readiness { status: "not ready", database, spool };
        (StatusCode::SERVICE_UNAVAILABLE, Json(readiness)).into_response()
    }
}
