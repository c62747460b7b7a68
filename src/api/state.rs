//! The state that the handlers of the read API share: pools, the live feed, caches, permits.
//!
//! A handler takes its permit first and its connection last, so that no connection is held by a request that waits or is
//! refused.

use std::sync::Arc;

use super::auth::ConfiguredApp;
use super::errors::ApiError;
use super::in_work::InWorkPermits;
use super::list_permits::ListPermits;
use super::live::LiveFeed;
use super::session::Sessions;
use super::stats_cache::StatsCache;
use crate::ingest::Writer;
use crate::refusals::RefusalLog;
use crate::replay::AsOfReader;
use crate::store::group_list::ListCost;
use crate::store::schema::SchemaState;
use crate::store::{Database, READ_WAIT_MAX, ReadConnection, ReadPool, in_time};

/// What the read API works with.
#[derive(Debug, Clone)]
pub struct ApiState {
    /// Only its reading pools are used.
    pub database: Database,
    /// Whether the schema is the one of this program.
    pub schema: SchemaState,
    /// The app of a request without `sdk_app_id` and without a token of one app.
    pub app: ConfiguredApp,
    /// Whether the membership of audio-video rooms is mirrored; without it their number of members is not known.
    pub avchatroom_members: bool,
    /// How callers are authenticated.
    pub sessions: Sessions,
    /// The live end of the feed.
    pub feed: LiveFeed,
    /// Counts of groups, members and ledger entries.
    pub stats_cache: StatsCache,
    /// Asked for the state of its spool, the gaps, and the newest callback; the read API hands it nothing.
    pub writer: Writer,
    /// Requests that the public listener did not take.
    pub refusals: RefusalLog,
    /// Reads as of a moment, and the permits for reads that decode many bodies.
    pub as_of: AsOfReader,
    /// Permits for lists that no index serves.
    pub lists: ListPermits,
    /// Permits for reads in work.
    pub reads: InWorkPermits,
    /// The OpenAPI document, as JSON.
    pub document: Arc<str>,
}

impl ApiState {
    /// A connection of the pool for lists.
    ///
    /// # Errors
    /// `unavailable`: the schema is not the one of this program, or the pool has no free connection in time.
    pub(crate) async fn connection(&self) -> Result<ReadConnection, ApiError> {
        self.acquire(self.database.reader()).await
    }

    /// A connection of the pool for lookups, which long lists cannot exhaust.
    ///
    /// # Errors
    /// As above.
    pub(crate) async fn lookup_connection(&self) -> Result<ReadConnection, ApiError> {
        self.acquire(self.database.lookup()).await
    }

    /// A connection of the pool for the feed.
    ///
    /// # Errors
    /// As above.
    pub(crate) async fn feed_connection(&self) -> Result<ReadConnection, ApiError> {
        self.acquire(self.database.feed()).await
    }

    /// Reads a list of this cost, within the permits for it. Where that is more than a page the read is a task of its own: the
    /// statement of a client that gives up goes on in the server, and keeps its permit for as long, or until the server is
    /// known to have stalled.
    ///
    /// # Errors
    /// Those of the read; `unavailable`, as above, or without a permit in time.
    pub(crate) async fn list<T, F>(
        &self,
        cost: ListCost,
        read: impl FnOnce(ReadConnection) -> F + Send + 'static,
    ) -> Result<T, ApiError>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, sqlx::Error>> + Send + 'static,
    {
        let permit = self.lists.take(cost).await?;
        let connection = self.connection().await?;
        if cost == ListCost::Page {
            return Ok(in_time(READ_WAIT_MAX, read(connection)).await?);
        }
        let reading = tokio::spawn(async move {
            let done = in_time(READ_WAIT_MAX, read(connection)).await;
            drop(permit);
            done
        });
        Ok(reading.await.map_err(ApiError::internal)??)
    }

    async fn acquire(&self, pool: &ReadPool) -> Result<ReadConnection, ApiError> {
        self.fits()?;
        Ok(pool.acquire().await?)
    }

    /// # Errors
    /// `unavailable`: the schema is not the one of this program.
    pub(crate) fn fits(&self) -> Result<(), ApiError> {
        if self.schema.fits() {
            return Ok(());
        }
        Err(ApiError::unavailable(
            "The mirror's database is not there, or its schema is not the one of this version; nothing is read until \
             both agree.",
        ))
    }
}
