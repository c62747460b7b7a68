//! The internal listener: the read API composed of its routes, its state and the middleware around all of them.
//!
//! [`routes()`] is the list of paths; a path is added there and nowhere else, together with its part of the OpenAPI
//! document (see `api/openapi.rs`). [`internal`] adds health, the document and the middleware: authentication around the
//! read API, then request ids and the access log around everything. [`document`] is the OpenAPI document of the same routes. Each
//! resource has a file with its parameters, its handler and its views: rows of the store become views here alone.

mod access;
mod app_history;
pub mod auth;
mod body_pages;
mod change;
mod changes;
mod docs;
mod errors;
mod etag;
pub mod feed_reader;
mod follower;
mod groups;
pub mod health;
mod history;
mod history_view;
pub mod in_work;
pub mod list_permits;
pub mod live;
mod local;
mod members;
mod openapi;
mod paging;
mod parameters;
mod parked;
mod query;
mod segment;
pub mod state;
mod stats;
pub mod stats_cache;
mod stats_verification;
mod timestamp;
mod topics;

use std::sync::Arc;

use axum::Router;
use axum::middleware::{from_fn, from_fn_with_state};
use metrics_exporter_prometheus::PrometheusHandle;
use tower_http::catch_panic::CatchPanicLayer;
use utoipa::openapi::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use errors::ApiError;
use health::{HealthState, MetricsState};
use state::ApiState;

/// The paths of the read API.
fn routes() -> OpenApiRouter<ApiState> {
    OpenApiRouter::default()
        .routes(routes!(groups::list))
        .routes(routes!(groups::find))
        .routes(routes!(history::of_group))
        .routes(routes!(app_history::of_app))
        .routes(routes!(app_history::of_user))
        .routes(routes!(members::of_user))
        .routes(routes!(topics::of_group))
        .routes(routes!(parked::list))
        .routes(routes!(stats::stats))
        .route_layer(from_fn(in_work::in_time))
        // Folds and streams take longer by right; these two bound each read of theirs.
        .routes(routes!(members::of_group))
        .routes(routes!(changes::changes))
}

/// Everything that the internal listener serves. Health needs no token, because a load balancer has none; nor does the
/// document with its page, which holds nothing of the mirror and is where a person enters a token.
pub fn internal(state: ApiState, metrics: PrometheusHandle, health: HealthState) -> Router {
    let open =
        Router::from(health::routes().with_state(health).merge(docs::routes().with_state(state.clone())))
            .method_not_allowed_fallback(async || ApiError::method_not_allowed());
    let auth = Arc::clone(&state.auth);
    let numbers = MetricsState { metrics, app: state.app };
    let reads = Router::from(routes().merge(health::metrics_routes().with_state(numbers)))
        .fallback(async || ApiError::not_found("There is no such path here; /v1/groups is one."))
        .method_not_allowed_fallback(async || ApiError::method_not_allowed())
        // Inside authentication, so that the access log names the caller of a read that panicked.
        .layer(CatchPanicLayer::custom(|_| errors::after_panic()))
        .layer(from_fn_with_state(state.reads.clone(), in_work::limit))
        .layer(from_fn_with_state(auth, auth::require))
        .with_state(state);
    access::with_request_ids(reads.merge(open))
}

/// What [`internal`] serves, as an OpenAPI document.
fn document() -> OpenApi {
    let mut document = openapi::frame();
    let parts = [
        routes().into_openapi(),
        docs::routes().into_openapi(),
        health::metrics_routes().into_openapi(),
        health::routes().into_openapi(),
    ];
    for part in parts {
        document.merge(part);
    }
    openapi::complete(document)
}

/// The document as text, for `/openapi.json` and for the command `openapi`.
///
/// # Errors
/// Those of the serializer, which has no reason to fail here.
pub fn document_text() -> Result<String, serde_json::Error> {
    serde_json::to_string_pretty(&document()).map(|text| text + "\n")
}
