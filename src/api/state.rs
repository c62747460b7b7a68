//! What the handlers of the read API share: pools, the feed, caches, permits.
//!
//! A handler takes its connection here and last, so that none is taken for a request that is refused.

use std::sync::Arc;

use sqlx::pool::PoolConnection;
use sqlx::{PgPool, Postgres};
use tokio::sync::watch;

use super::auth::ApiAuth;
use super::errors::ApiError;
use super::live::LiveFeed;
use super::stats_cache::StatsCache;
use crate::model::SdkAppId;
use crate::refusals::RefusalLog;
use crate::replay::as_of::AsOfPermits;
use crate::spool::SpoolStatus;
use crate::store::Database;
use crate::store::schema::SchemaState;

/// What the read API works with.
#[derive(Debug, Clone)]
pub struct ApiState {
    /// Its reading pools are used, and nothing else of it.
    pub database: Database,
    /// Whether schema and program agree.
    pub schema: SchemaState,
    /// The app of a request that names none.
    pub app: SdkAppId,
    /// Who may read.
    pub auth: Arc<ApiAuth>,
    /// The live end of the feed.
    pub feed: LiveFeed,
    /// Counts of what is in the mirror.
    pub stats_cache: StatsCache,
    /// The state of the spool.
    pub spool: watch::Receiver<SpoolStatus>,
    /// Requests that the public listener did not take.
    pub refusals: RefusalLog,
    /// Permits for reads that decode many bodies.
    pub as_of: AsOfPermits,
    /// The OpenAPI document, as JSON.
    pub document: Arc<str>,
}

impl ApiState {
    /// A connection for one read of a list. A handler asks for it last, so that none is taken for a request that is
    /// refused.
    ///
    /// # Errors
    /// `unavailable` while database and schema do not agree, or where there is no connection to be had in time.
    pub async fn connection(&self) -> Result<PoolConnection<Postgres>, ApiError> {
        self.acquire(self.database.reader()).await
    }

    /// A connection for a lookup.
    ///
    /// # Errors
    /// As above.
    pub async fn lookup_connection(&self) -> Result<PoolConnection<Postgres>, ApiError> {
        self.acquire(self.database.lookup()).await
    }

    async fn acquire(&self, pool: &PgPool) -> Result<PoolConnection<Postgres>, ApiError> {
        if !self.schema.fits() {
            return Err(ApiError::unavailable(
                "The mirror's database is not there, or its schema is not the one of this version; nothing is read \
                 until both agree.",
            ));
        }
        Ok(pool.acquire().await?)
    }
}
