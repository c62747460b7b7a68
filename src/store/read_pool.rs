//! A pool of read-only sessions, and the connection that it lends for one read.
//!
//! A read may be abandoned at any point: its client leaves, or its time is over. Its connection then still has an answer to
//! come, and the pool would wait for that without limit, with the slot taken: for a server that has stalled, or has
//! vanished without closing its connections, until TCP gives up after a quarter of an hour. So the return of a connection
//! to the pool has a limit, beyond which the connection is closed and its slot free; and [`in_time`] is the limit of the
//! read itself, because only a server that works keeps `statement_timeout`.

use std::io;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgConnectOptions, PgConnection, PgPool, PgPoolOptions};
use sqlx::{Connection as _, Postgres};
use tokio::time::timeout;

use super::citus::Dialect;
use super::hosts::Hosts;
use super::session::{self, READ_SECS_MAX, SessionSettings};
use super::standby::StandbyReads;
use super::writers::{ACQUIRE_WAIT_MAX, FRESH};

/// How much longer this side waits than the limit that a working server keeps itself.
pub const STALL_WAIT_MAX: Duration = Duration::from_secs(2);

/// How long one read of an ordinary limit may take.
pub const READ_WAIT_MAX: Duration = Duration::from_secs(READ_SECS_MAX as u64).saturating_add(STALL_WAIT_MAX);

/// How long a connection may take to answer when its read has ended, before it is lent again.
const RETURN_WAIT_MAX: Duration = Duration::from_secs(1);

/// How long one that was idle may take to answer before it is lent; less than the wait for a connection, of which a new one
/// needs the rest.
const PING_WAIT_MAX: Duration = Duration::from_millis(500);

/// The result of a read, or an error where it takes longer than `max`: the read is dropped then, with its connection.
///
/// # Errors
/// The read's; [`sqlx::Error::Io`] of the kind `TimedOut`.
pub async fn in_time<T, E: From<sqlx::Error>>(
    max: Duration,
    read: impl Future<Output = Result<T, E>>,
) -> Result<T, E> {
    let late = |late| sqlx::Error::Io(io::Error::new(io::ErrorKind::TimedOut, late));
    timeout(max, read).await.unwrap_or_else(|elapsed| Err(late(elapsed).into()))
}

/// A pool for reading. Cheap to clone.
#[derive(Debug, Clone)]
pub struct ReadPool {
    primary: PgPool,
    /// Asked first, while it is in use.
    standby: Option<(PgPool, StandbyReads)>,
    connections: u32,
    settings: Arc<SessionSettings>,
    /// The last server that was connected to has Citus; a standby has what its primary has.
    is_citus: Arc<AtomicBool>,
}

impl ReadPool {
    /// Connects when a connection is needed; what it needs of the server is set then.
    pub(super) fn new(hosts: &Arc<Hosts>, connections: u32, settings: SessionSettings) -> Self {
        let settings = Arc::new(settings);
        let is_citus = Arc::default();
        let primary = pool(hosts, connections, &settings, hosts.are_several(), &is_citus);
        Self { primary, standby: None, connections, settings, is_citus }
    }

    /// The same with a standby in front.
    pub(super) fn reading_from(mut self, standby: &StandbyReads) -> Self {
        let pool = pool(standby.hosts(), self.connections, &self.settings, false, &self.is_citus);
        self.standby = Some((pool, standby.clone()));
        self
    }

    /// A connection for one read: to the standby while that is in use, else to the primary.
    ///
    /// # Errors
    /// No server, or no free connection in time.
    pub async fn acquire(&self) -> Result<ReadConnection, sqlx::Error> {
        if let Some((pool, standby)) = self.standby.as_ref().filter(|(_, standby)| standby.is_used()) {
            match pool.acquire().await {
                Ok(conn) => return Ok(self.lend(conn)),
                // All connections are lent: what is busy is not away, and the primary is not to get the rest of the load.
                Err(error @ sqlx::Error::PoolTimedOut)
                    if pool.num_idle() == 0 && pool.size() >= self.connections =>
                {
                    return Err(error);
                }
                Err(error) => standby.leave(&error.to_string()),
            }
        }
        Ok(self.lend(self.primary.acquire().await?))
    }

    fn lend(&self, conn: PoolConnection<Postgres>) -> ReadConnection {
        let dialect = if self.is_citus.load(Ordering::Relaxed) { Dialect::Citus } else { Dialect::Plain };
        ReadConnection { conn, dialect, is_closed_on_drop: false }
    }

    /// How many connections it has, and how many of them are idle.
    pub(super) fn size(&self) -> (u32, usize) {
        let standby = self.standby.as_ref().map_or((0, 0), |(pool, _)| (pool.size(), pool.num_idle()));
        (self.primary.size() + standby.0, self.primary.num_idle() + standby.1)
    }

    /// New connections lead there.
    pub(super) fn lead_to(&self, options: PgConnectOptions) {
        self.primary.set_connect_options(options);
    }

    /// New connections to the standby lead there.
    pub(super) fn lead_standby_to(&self, options: PgConnectOptions) {
        if let Some((pool, _)) = &self.standby {
            pool.set_connect_options(options);
        }
    }

    /// Closes it after what is running.
    pub(super) async fn close(&self) {
        self.primary.close().await;
        if let Some((pool, _)) = &self.standby {
            pool.close().await;
        }
    }
}

fn pool(
    hosts: &Arc<Hosts>,
    connections: u32,
    settings: &Arc<SessionSettings>,
    refuse_standby: bool,
    is_citus: &Arc<AtomicBool>,
) -> PgPool {
    let (settings, used_hosts, is_citus) = (Arc::clone(settings), Arc::clone(hosts), Arc::clone(is_citus));
    let options = PgPoolOptions::new()
        .max_connections(connections)
        .acquire_timeout(ACQUIRE_WAIT_MAX)
        .acquire_slow_threshold(ACQUIRE_WAIT_MAX)
        .test_before_acquire(false)
        .after_connect(move |conn, _| {
            let (settings, is_citus) = (Arc::clone(&settings), Arc::clone(&is_citus));
            Box::pin(async move {
                let dialect = session::prepare(conn, &settings, refuse_standby).await?;
                is_citus.store(dialect == Dialect::Citus, Ordering::Relaxed);
                Ok(())
            })
        })
        .before_acquire(move |conn, meta| {
            let left_behind = used_hosts.have_moved_since(meta.age);
            Box::pin(async move {
                if !left_behind && meta.idle_for > FRESH {
                    in_time(PING_WAIT_MAX, conn.ping()).await?;
                }
                Ok(!left_behind)
            })
        });
    options.connect_lazy_with(hosts.options())
}

/// A connection that is lent for one read, and goes back when it is dropped, if it answers.
#[derive(Debug)]
pub struct ReadConnection {
    conn: PoolConnection<Postgres>,
    dialect: Dialect,
    is_closed_on_drop: bool,
}

impl ReadConnection {
    /// Which form of a statement its server gets, where there are two.
    #[must_use]
    pub fn dialect(&self) -> Dialect {
        self.dialect
    }

    /// Closes it when it is dropped: its session has a state that the next read must not find.
    pub(super) fn close_on_drop(&mut self) {
        self.is_closed_on_drop = true;
        self.conn.close_on_drop();
    }
}

impl Drop for ReadConnection {
    fn drop(&mut self) {
        // What the pool itself does, but with a limit. One that is to be closed has nothing to return: its own drop closes it.
        if !self.is_closed_on_drop {
            let returned = self.conn.return_to_pool();
            tokio::spawn(async move {
                if timeout(RETURN_WAIT_MAX, returned).await.is_err() {
                    tracing::debug!("a connection whose read has ended does not answer and is closed");
                }
            });
        }
    }
}

impl Deref for ReadConnection {
    type Target = PgConnection;

    fn deref(&self) -> &PgConnection {
        &self.conn
    }
}

impl DerefMut for ReadConnection {
    fn deref_mut(&mut self) -> &mut PgConnection {
        &mut self.conn
    }
}
