//! The pool of writing sessions, each of which knows the number of its server process.
//!
//! A statement that takes too long is cancelled by that number, and a session that was given up is recognised by it. The
//! driver does not reveal it, and asking for it with each `BEGIN` costs every batch a statement; so it is asked once per
//! session and kept beside the connection, which the driver's own pool has no place for. Sessions are handed out last
//! in, first out, so that the few which a quiet service needs stay warm.

use std::sync::Arc;
use std::time::{Duration, Instant};

use deadpool::managed::{Manager, Metrics, Object, Pool, PoolError, QueueMode, RecycleError, RecycleResult};
use sqlx::postgres::PgConnection;
use sqlx::{Connection as _, Row as _};
use tokio::time::timeout;

use super::hosts::Hosts;
use super::session::{self, SessionSettings};

/// How long a caller waits for a session, connecting included. Below the answer budget of a callback.
pub(super) const ACQUIRE_WAIT_MAX: Duration = Duration::from_millis(1000);

/// How long a connection may have been idle to be used without a ping first.
pub(super) const FRESH: Duration = Duration::from_secs(1);

/// How long that ping may take: a connection that a firewall has forgotten must not use up its caller's time.
const PING_WAIT_MAX: Duration = Duration::from_millis(200);

/// How long a session is kept that is not used.
const IDLE_MAX: Duration = Duration::from_secs(10 * 60);

/// The age at which a session is replaced: what a server process has gathered (plans, caches) is given back.
const AGE_MAX: Duration = Duration::from_secs(30 * 60);

/// A connection whose session is set up to write.
#[derive(Debug)]
pub(super) struct WritingSession {
    pub(super) conn: PgConnection,
    /// The server's process.
    pub(super) pid: i32,
    /// Before the host was chosen that it leads to.
    begun: Instant,
}

/// Opens sessions, and looks at them before they are used again.
#[derive(Debug)]
pub(super) struct SessionOpener {
    hosts: Arc<Hosts>,
    settings: SessionSettings,
}

impl SessionOpener {
    async fn open(&self) -> Result<WritingSession, sqlx::Error> {
        let begun = Instant::now();
        let mut conn = PgConnection::connect_with(&self.hosts.options()).await?;
        session::prepare(&mut conn, &self.settings, self.hosts.are_several()).await?;
        let pid = sqlx::raw_sql("SELECT pg_backend_pid()").fetch_one(&mut conn).await?.try_get(0)?;
        Ok(WritingSession { conn, pid, begun })
    }
}

impl Manager for SessionOpener {
    type Type = WritingSession;
    type Error = sqlx::Error;

    async fn create(&self) -> Result<WritingSession, sqlx::Error> {
        // Boxed, because it is rare and large: every transaction's future would carry its size.
        Box::pin(self.open()).await
    }

    async fn recycle(&self, session: &mut WritingSession, metrics: &Metrics) -> RecycleResult<sqlx::Error> {
        let age = session.begun.elapsed();
        if age > AGE_MAX || self.hosts.have_moved_since(age) {
            return Err(RecycleError::message("too old, or of a host that is not in use any more"));
        }
        if metrics.last_used() > FRESH {
            let answered = timeout(PING_WAIT_MAX, session.conn.ping()).await;
            answered.map_err(|_| RecycleError::message("it does not answer"))??;
        }
        Ok(())
    }
}

/// The pool. Cheap to clone; all clones are one.
#[derive(Debug, Clone)]
pub(super) struct Writers(Pool<SessionOpener>);

impl Writers {
    /// A pool that connects when it is needed.
    pub(super) fn new(hosts: &Arc<Hosts>, sessions_max: usize) -> Self {
        let opener = SessionOpener { hosts: Arc::clone(hosts), settings: session::writing() };
        let pool = Pool::builder(opener).max_size(sessions_max).queue_mode(QueueMode::Lifo).build();
        match pool {
            Ok(pool) => Self(pool),
            Err(error) => unreachable!("only time limits of the pool's own need a runtime: {error}"),
        }
    }

    /// A session, when one is free.
    ///
    /// # Errors
    /// No connection, or none in time.
    pub(super) async fn acquire(&self) -> Result<PooledSession, sqlx::Error> {
        match timeout(ACQUIRE_WAIT_MAX, self.0.get()).await {
            Ok(Ok(session)) => Ok(PooledSession(Some(session))),
            Ok(Err(PoolError::Backend(error))) => Err(error),
            Ok(Err(PoolError::Closed)) => Err(sqlx::Error::PoolClosed),
            Ok(Err(_)) | Err(_) => Err(sqlx::Error::PoolTimedOut),
        }
    }

    /// How many sessions there are, and how many of them are idle.
    pub(super) fn size(&self) -> (u32, usize) {
        let status = self.0.status();
        (u32::try_from(status.size).unwrap_or(u32::MAX), status.available)
    }

    /// Closes the sessions that were not used for long.
    pub(super) fn close_idle(&self) {
        drop(self.0.retain(|_, metrics| metrics.last_used() < IDLE_MAX));
    }

    /// Hands out no session any more, and closes each as it comes back.
    pub(super) fn close(&self) {
        self.0.close();
    }
}

/// A session on loan. Dropped without [`PooledSession::keep_if`] it is closed: what it was doing may not have ended.
#[derive(Debug)]
pub(super) struct PooledSession(Option<Object<SessionOpener>>);

impl PooledSession {
    pub(super) fn conn(&mut self) -> &mut PgConnection {
        match &mut self.0 {
            Some(session) => &mut session.conn,
            None => unreachable!("a session that was closed is not used"),
        }
    }

    pub(super) fn pid(&self) -> i32 {
        match &self.0 {
            Some(session) => session.pid,
            None => unreachable!("a session that was closed is not used"),
        }
    }

    /// Ends the loan. A session that is not kept is closed without waiting for the server, which rolls back when it
    /// notices.
    pub(super) fn keep_if(&mut self, keep: bool) {
        let session = self.0.take();
        if !keep {
            drop(session.map(Object::take));
        }
    }
}

impl Drop for PooledSession {
    fn drop(&mut self) {
        self.keep_if(false);
    }
}
