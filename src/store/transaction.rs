//! A transaction on a pooled connection: begun to write or to read, committed, rolled back, or given up with its
//! connection; and the probe, which is a transaction that leaves nothing.
//!
//! [`Database::begin`](super::Database::begin) begins one to write, [`Tx::reading`] one to read; a function that works on
//! a connection never commits. The driver's own handle returns its connection to the pool even where it stalls; this one
//! closes it.

use std::time::{Duration, Instant};

use sqlx::pool::PoolConnection;
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Executor as _, Postgres, Row as _};
use tokio::sync::watch;

use super::given_up::{GivenUp, OpenSession};
use super::session::SESSION_LOCK_MAX;

/// A transaction; rolled back unless committed.
#[derive(Debug)]
pub struct Tx {
    conn: PoolConnection<Postgres>,
    name: &'static str,
    /// Counts the commit; a transaction that only reads has none.
    commits: Option<watch::Sender<u64>>,
    /// A transaction that only reads has none.
    session: Option<OpenSession>,
    begun: Instant,
    ended: bool,
}

impl Tx {
    /// Begins to write. The name is for the metrics; `lock_max` is how long a statement may wait for a lock.
    pub(super) async fn writing(
        conn: PoolConnection<Postgres>,
        name: &'static str,
        commits: watch::Sender<u64>,
        (given_up, lock_max): (GivenUp, Duration),
    ) -> Result<Self, sqlx::Error> {
        let mut tx =
            Self { conn, name, commits: Some(commits), session: None, begun: Instant::now(), ended: false };
        let pid = begin_with(&mut tx.conn, lock_max).await?;
        tx.session = Some(OpenSession::new(pid, given_up));
        Ok(tx)
    }

    /// Begins to read one snapshot of the database on a connection for reading. `statement_max` limits each statement;
    /// zero: no limit.
    ///
    /// # Errors
    /// A lost connection.
    pub async fn reading(
        conn: PoolConnection<Postgres>,
        statement_max: Duration,
    ) -> Result<Self, sqlx::Error> {
        let mut tx = Self {
            conn,
            name: "snapshot",
            commits: None,
            session: None,
            begun: Instant::now(),
            ended: false,
        };
        tx.conn.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await?;
        let limit = format!("SET LOCAL statement_timeout = {}", statement_max.as_millis());
        tx.conn.execute(AssertSqlSafe(limit)).await?;
        Ok(tx)
    }

    /// The connection it runs on.
    pub fn conn(&mut self) -> &mut PgConnection {
        &mut self.conn
    }

    /// Lifts the time limits of a writing session, for work that is known to take long.
    ///
    /// # Errors
    /// The statement's.
    pub async fn take_time(&mut self) -> Result<(), sqlx::Error> {
        self.conn
            .execute("SET LOCAL statement_timeout = 0; SET LOCAL idle_in_transaction_session_timeout = 0; SET LOCAL lock_timeout = 0")
            .await
            .map(drop)
    }

    /// The server's process that runs it; none for a transaction that only reads.
    #[must_use]
    pub fn pid(&self) -> Option<i32> {
        self.session.as_ref().map(OpenSession::pid)
    }

    /// Commits; after an error it is not known whether it did.
    ///
    /// # Errors
    /// The server's refusal, or a lost connection.
    pub async fn commit(mut self) -> Result<(), sqlx::Error> {
        let done = self.conn.execute("COMMIT").await;
        self.end_session();
        done?;
        self.ended = true;
        if let Some(commits) = &self.commits {
            commits.send_modify(|count| *count += 1);
        }
        metrics::histogram!("group_mirror_transaction_seconds", "name" => self.name)
            .record(self.begun.elapsed());
        Ok(())
    }

    /// Rolls back and keeps the connection, which dropping does not.
    pub async fn roll_back(mut self) {
        self.ended = self.conn.execute("ROLLBACK").await.is_ok();
        self.end_session();
    }

    /// Closes the connection at the end of the transaction, however that ends.
    pub fn close_afterwards(&mut self) {
        self.conn.close_on_drop();
    }

    /// Rolls back by closing the connection: its session is of no more use.
    pub fn discard(mut self) {
        self.end_session();
    }

    /// The server has answered, or the connection is lost.
    fn end_session(&mut self) {
        if let Some(session) = &mut self.session {
            session.end();
        }
    }
}

impl Drop for Tx {
    fn drop(&mut self) {
        if !self.ended {
            // Given up in the middle, perhaps because the connection stalls: in the pool it would keep a place for as
            // long as it does. The server rolls back when it sees the connection closed.
            self.conn.close_on_drop();
        }
    }
}

const BEGIN: &str = "BEGIN ISOLATION LEVEL READ COMMITTED; SELECT pg_backend_pid()";

async fn begin_with(conn: &mut PgConnection, lock_max: Duration) -> Result<i32, sqlx::Error> {
    assert!(lock_max.as_millis() > 0, "a lock timeout of 0 would wait without limit");
    // One round trip. The isolation level is sent with each transaction, because what is read behind a lock has to be newer
    // than the wait for it; the limit only where it is not the session's, because each statement more costs every batch.
    if lock_max == SESSION_LOCK_MAX {
        return conn.fetch_one(BEGIN).await?.try_get(0);
    }
    let begin = format!("{BEGIN}, set_config('lock_timeout', '{}', true)", lock_max.as_millis());
    conn.fetch_one(AssertSqlSafe(begin)).await?.try_get(0)
}

/// How long the probe waits for a lock: longer than writers hold one, shorter than a probe may take.
const PROBE_LOCK_MAX: Duration = Duration::from_millis(500);

/// The insert takes the locks, the rights and the disk that a callback takes, and the update, which changes no row, the
/// lock and the right on `groups`, where every callback that is applied writes its group. Both are undone before the
/// commit, so that no reader ever sees them; the commit is synced (and waits for standbys) as each one does that follows a write. No app has
/// the number 0.
const PROBE: &str = r"
SELECT set_config('synchronous_commit', 'on', true) WHERE current_setting('synchronous_commit') = 'off';
SAVEPOINT probe;
INSERT INTO ledger (sdk_app_id, group_id, time_ms, digest, command, received_at, source, outcome, body)
VALUES (0, '', round(extract(epoch FROM now()) * 1000)::bigint,
        sha256(convert_to(concat(pg_backend_pid(), clock_timestamp()), 'UTF8')), 'probe', now(), 'callback', 'applied', '');
UPDATE groups SET type = type WHERE false;
ROLLBACK TO SAVEPOINT probe;
COMMIT";

/// One commit that writes nothing which stays.
pub(super) async fn probe(conn: &mut PgConnection, given_up: GivenUp) -> Result<(), sqlx::Error> {
    let mut session = OpenSession::new(begin_with(conn, PROBE_LOCK_MAX).await?, given_up);
    let done = conn.execute(PROBE).await;
    session.end();
    done.map(drop)
}
