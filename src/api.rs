//! The internal listener: the read API put together from its paths, its state, and what stands around all of them.
//!
//! [`routes()`] is the list of paths; a path is added there and nowhere else, together with its part of the document
//! (see `api/openapi.rs`). [`guarded`] closes a router with answers for unknown paths and methods and with
//! authentication. [`internal`] is all that the internal listener serves, [`document`] all that is said of it. Rows of
//! the store become views here and nowhere else.

pub mod auth;
mod change;
pub mod changes;
pub mod docs;
pub mod errors;
mod follower;
pub mod groups;
pub mod health;
pub mod history;
mod history_view;
pub mod live;
pub mod members;
mod openapi;
mod paging;
mod query;
pub mod state;
pub mod stats;
pub mod stats_cache;
mod timestamp;
pub mod topics;

use std::sync::Arc;

use axum::Router;
use axum::middleware::{from_fn, from_fn_with_state};
use metrics_exporter_prometheus::PrometheusHandle;
use tower_http::catch_panic::CatchPanicLayer;
use utoipa::openapi::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use errors::ApiError;
use health::HealthState;
use state::ApiState;

/// The paths of the read API, without authentication.
pub fn routes() -> OpenApiRouter<ApiState> {
    OpenApiRouter::default()
        .routes(routes!(groups::list))
        .routes(routes!(groups::find))
        .routes(routes!(history::of_group))
        .routes(routes!(members::of_group))
        .routes(routes!(members::of_user))
        .routes(routes!(topics::of_group))
        .routes(routes!(stats::stats))
        .routes(routes!(changes::changes))
        .merge(docs::routes())
}

/// Everything on the internal listener. Health needs no token: a load balancer has none.
pub fn internal(state: ApiState, metrics: PrometheusHandle, health: HealthState) -> Router {
    let health = Router::from(health::routes().with_state(health));
    guarded(routes().merge(health::metrics_routes().with_state(metrics)), state)
        .merge(health.method_not_allowed_fallback(async || ApiError::method_not_allowed()))
}

/// What [`internal`] serves, as an OpenAPI document.
#[must_use]
pub fn document() -> OpenApi {
    let mut document = openapi::frame();
    let parts =
        [routes().into_openapi(), health::metrics_routes().into_openapi(), health::routes().into_openapi()];
    for part in parts {
        document.merge(part);
    }
    openapi::complete(document)
}

/// Closes a router: problems for unknown paths and methods, and authentication around everything.
pub fn guarded(routes: OpenApiRouter<ApiState>, state: ApiState) -> Router {
    let auth = Arc::clone(&state.auth);
    Router::from(routes)
        .fallback(async || ApiError::not_found("There is no such path here; /v1/groups is one."))
        .method_not_allowed_fallback(async || ApiError::method_not_allowed())
        .layer(from_fn_with_state(auth, auth::require))
        .layer(CatchPanicLayer::custom(|_| errors::after_panic()))
        .layer(from_fn(errors::log))
        .with_state(state)
}

/// The document as `/openapi.json` and the command give it.
///
/// # Errors
/// None that could happen: a document that is no JSON.
pub fn document_text() -> Result<String, serde_json::Error> {
    serde_json::to_string_pretty(&document()).map(|text| text + "\n")
}
