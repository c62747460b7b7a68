//! The read API put together: paths, state, and what stands around all of them.
//!
//! [`routes`] is the list of paths; a path is added there and nowhere else, together with what the document says of
//! it (see `openapi.rs`). [`guarded`] closes a router with answers for unknown paths and methods and with
//! authentication. [`internal`] is all that the internal listener serves, [`document`] all that is said of it.

use std::sync::Arc;

use axum::Router;
use axum::middleware::{from_fn, from_fn_with_state};
use metrics_exporter_prometheus::PrometheusHandle;
use sqlx::pool::PoolConnection;
use sqlx::{PgPool, Postgres};
use tokio::sync::watch;
use tower_http::catch_panic::CatchPanicLayer;
use utoipa::openapi::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::auth::{self, ApiAuth};
use super::counting::Counting;
use super::error::ApiError;
use super::feed::Feed;
use super::health::{self, HealthState};
use super::{changes, docs, error, groups, history, members, openapi, stats, topics};
use crate::ingest::SpoolStatus;
use crate::ingest::past::Past;
use crate::model::SdkAppId;
use crate::store::Database;

/// What the read API works with.
#[derive(Debug, Clone)]
pub struct ApiState {
    /// Its reading pools are used, and nothing else of it.
    pub database: Database,
    /// Why schema and database do not agree; none: they do.
    pub trouble: watch::Receiver<Option<String>>,
    /// The app of a request that names none.
    pub app: SdkAppId,
    /// Who may read.
    pub auth: Arc<ApiAuth>,
    /// The live end of the ledger.
    pub feed: Feed,
    /// How much is in the mirror.
    pub counting: Counting,
    /// How the spool is.
    pub spool: watch::Receiver<SpoolStatus>,
    /// Turns for reads that make out many bodies.
    pub past: Past,
}

impl ApiState {
    /// A connection for one read of a list. A handler asks for it last, so that none is taken for a request that is
    /// refused.
    ///
    /// # Errors
    /// `unavailable` while database and schema do not agree, or where there is no connection to be had in time.
    pub async fn connection(&self) -> Result<PoolConnection<Postgres>, ApiError> {
        self.of(self.database.reader()).await
    }

    /// The same for finding one thing by its id.
    ///
    /// # Errors
    /// As above.
    pub async fn finding(&self) -> Result<PoolConnection<Postgres>, ApiError> {
        self.of(self.database.finder()).await
    }

    async fn of(&self, pool: &PgPool) -> Result<PoolConnection<Postgres>, ApiError> {
        if self.trouble.borrow().is_some() {
            return Err(ApiError::unavailable(
                "The mirror's database is not there, or its schema is not the one of this version; nothing is read \
                 until both agree.",
            ));
        }
        Ok(pool.acquire().await?)
    }
}

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
        .layer(CatchPanicLayer::custom(|_| error::after_panic()))
        .layer(from_fn(error::log))
        .with_state(state)
}
