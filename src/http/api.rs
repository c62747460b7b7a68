//! The read API put together: paths, state, and what stands around all of them.
//!
//! [`routes`] is the list of paths; [`guarded`] closes a router with answers for unknown paths and methods and with
//! authentication. What else the internal listener serves to authenticated readers is merged before it is closed;
//! health is merged after.

use std::sync::Arc;

use axum::Router;
use axum::middleware::{from_fn, from_fn_with_state};
use axum::routing::get;
use sqlx::pool::PoolConnection;
use sqlx::{PgPool, Postgres};
use tokio::sync::watch;
use tower_http::catch_panic::CatchPanicLayer;

use super::auth::{self, ApiAuth};
use super::error::ApiError;
use super::feed::Feed;
use super::{changes, error, groups, history, members};
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

/// The paths, without authentication.
pub fn routes() -> Router<ApiState> {
    Router::new()
        .route("/v1/groups", get(groups::list))
        .route("/v1/groups/{group_id}", get(groups::find))
        .route("/v1/groups/{group_id}/history", get(history::of_group))
        .route("/v1/groups/{group_id}/members", get(members::of_group))
        .route("/v1/users/{user_id}/groups", get(members::of_user))
        .route("/v1/changes", get(changes::changes))
}

/// Closes a router: problems for unknown paths and methods, and authentication around everything.
pub fn guarded(routes: Router<ApiState>, state: ApiState) -> Router {
    let auth = Arc::clone(&state.auth);
    routes
        .fallback(async || ApiError::not_found("There is no such path here; /v1/groups is one."))
        .method_not_allowed_fallback(async || ApiError::method_not_allowed())
        .layer(from_fn_with_state(auth, auth::require))
        .layer(CatchPanicLayer::custom(|_| error::after_panic()))
        .layer(from_fn(error::log))
        .with_state(state)
}
