//! The internal listener: the read API composed of its routes, its state and the middleware around all of them.
//!
//! [`routes()`] is the list of paths; a path is added there and nowhere else, together with its part of the OpenAPI
//! document (see `api/openapi.rs`). [`internal`] adds health, the document and the middleware: authentication around the
//! read API, then request ids and the access log around everything. [`document`] is the OpenAPI document of the same routes. Each
//! resource has a file with its parameters, its handler and its views: rows of the store become views here alone.

mod access;
mod app_history;
pub(crate) mod arrivals;
mod at_least;
pub mod auth;
pub(crate) mod body_pages;
mod change;
mod changes;
mod columns;
mod docs;
pub mod entrance;
pub(crate) mod errors;
mod etag;
mod export;
mod export_page;
pub mod feed_reader;
pub(crate) mod follower;
mod form;
mod group_view;
pub(crate) mod groups;
pub mod health;
mod history;
mod history_view;
pub mod in_work;
mod items;
pub mod list_permits;
pub mod live;
mod local;
mod members;
mod membership;
mod moments;
mod openapi;
mod paging;
mod parameters;
pub(crate) mod parked;
pub mod prefix;
pub(crate) mod query;
mod segment;
pub mod session;
pub mod state;
mod stats;
pub mod stats_cache;
pub(crate) mod stats_verification;
mod timeline;
mod timestamp;
mod topics;

use axum::Router;
use axum::middleware::{from_fn, from_fn_with_state, map_response};
use metrics_exporter_prometheus::PrometheusHandle;
use tower_http::CompressionLevel;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::compression::CompressionLayer;
use utoipa::openapi::{OpenApi, Server};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use at_least::WaitState;
use columns::Lists;
use errors::ApiError;
use export::ExportState;
use health::{HealthState, MetricsState};
use prefix::PathPrefix;
use state::ApiState;

use crate::model::SdkAppId;
use crate::store::feed::FeedPlace;

pub(crate) use access::READS_TOTAL;
pub(crate) use paging::CURSOR_VERSION;

/// The ledger that a cursor of the feed of an app is of, by its epoch, and its place there; none for what is no such cursor.
#[must_use]
pub fn feed_place(app: SdkAppId, cursor: &str) -> Option<(String, FeedPlace)> {
    let position = change::FeedPosition::read(app.get(), cursor).ok()?;
    Some((position.epoch.clone(), position.place()))
}

/// The paths of the read API.
fn routes() -> OpenApiRouter<ApiState> {
    OpenApiRouter::default()
        .routes(routes!(groups::list))
        .routes(routes!(history::of_group))
        .routes(routes!(app_history::of_app))
        .routes(routes!(app_history::of_user))
        .routes(routes!(members::of_user))
        .routes(routes!(topics::of_group))
        .routes(routes!(parked::list))
        .routes(routes!(stats::stats))
        .route_layer(from_fn(in_work::in_time))
        // Folds and streams take longer by right; these bound each read of theirs.
        .routes(routes!(groups::find))
        .routes(routes!(timeline::of_group))
        .routes(routes!(members::of_group))
        .routes(routes!(membership::find))
        .routes(routes!(changes::changes))
}

/// Pages for people, which are made elsewhere; their state is in them already.
pub struct PageRoutes {
    /// Those that need a session, and get its caller.
    pub guarded: Router,
    /// The login, and what a page loads.
    pub open: Router,
    /// A layer around everything that is served, which shows errors to people as pages.
    pub around: Box<dyn FnOnce(Router) -> Router>,
}

/// Everything that the internal listener serves. Health needs no token, because a load balancer has none; nor does the
/// document with its page, which holds nothing of the mirror and is where a person enters a token.
pub fn internal(
    state: ApiState,
    metrics: PrometheusHandle,
    health: HealthState,
    pages: PageRoutes,
) -> Router {
    let open =
        Router::from(health::routes().with_state(health).merge(docs::routes().with_state(state.clone())))
            .method_not_allowed_fallback(async || ApiError::method_not_allowed());
    let (sessions, permits) = (state.sessions.clone(), state.reads.clone());
    let numbers = MetricsState { metrics, app: state.app };
    let reads = Router::from(routes().merge(health::metrics_routes().with_state(numbers)))
        .fallback(async || ApiError::not_found("There is no such path here; /v1/groups is one."))
        .method_not_allowed_fallback(async || ApiError::method_not_allowed())
        // Inside authentication, so that the access log names the caller of a read that panicked.
        .layer(CatchPanicLayer::custom(|_| errors::after_panic()))
        .layer(from_fn_with_state(permits.clone(), in_work::limit))
        // Outside the permits: each page of a whole list takes its own.
        .layer(from_fn_with_state(ExportState::of(Lists::of(&document())), export::in_form))
        .layer(from_fn_with_state(WaitState::of(state.clone()), at_least::wait))
        .layer(from_fn_with_state(sessions.clone(), entrance::require))
        .with_state(state);
    let guarded = pages
        .guarded
        .layer(CatchPanicLayer::custom(|_| errors::after_panic()))
        .layer(from_fn_with_state(permits, in_work::limit))
        .layer(from_fn_with_state(sessions.clone(), entrance::require_page));
    let all = (pages.around)(reads.merge(open).merge(guarded).merge(pages.open));
    let all = all
        .layer(CompressionLayer::new().quality(CompressionLevel::Fastest))
        .layer(map_response(etag::weaken))
        // Where the routes are: outside a prefix the template is not known.
        .layer(from_fn(access::note_route));
    access::with_request_ids(prefix::below(sessions.prefix(), all), sessions.prefix())
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

/// The templates of the paths of the read API.
pub(crate) fn paths() -> Vec<String> {
    document().paths.paths.into_keys().collect()
}

/// The document as text, for `/openapi.json` and for the command `openapi`.
///
/// # Errors
/// Those of the serializer, which has no reason to fail here.
pub fn document_text() -> Result<String, serde_json::Error> {
    served_document(&PathPrefix::default())
}

/// The document as it is served below a prefix, which a client that is made from it has to know.
///
/// # Errors
/// As above.
pub fn served_document(prefix: &PathPrefix) -> Result<String, serde_json::Error> {
    let mut document = document();
    if !prefix.as_str().is_empty() {
        document.servers = Some(vec![Server::new(prefix.as_str())]);
    }
    serde_json::to_string_pretty(&document).map(|text| text + "\n")
}
