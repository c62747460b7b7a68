//! A transaction on a pooled connection: begun to write ([`Tx`]) or to read ([`ReadTx`]), committed, rolled back, or given
//! up with its connection; and the probe, which is a transaction that leaves nothing.
//!
//! A function that works on a connection never commits. What is dropped in the middle closes its connection, because the
//! statement in it may stall: back in its pool it would keep a permit for as long as it does.

use std::time::{Duration, Instant};

use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Executor as _, Row as _, SqlSafeStr};
use tokio::sync::watch;

use super::given_up::{GivenUp, OpenSession};
use super::read_pool::ReadConnection;
use super::replica_marks::MarkRaise;
use super::session::SESSION_LOCK_MAX;
use super::writers::PooledSession;

/// A transaction that writes; rolled back unless committed.
#[derive(Debug)]
pub struct Tx {
    session: PooledSession,
    name: &'static str,
    /// Counts the commit.
    commits: watch::Sender<u64>,
    open: OpenSession,
    begun: Instant,
    /// Whether the session may be used again.
    clean: bool,
    close_afterwards: bool,
}

impl Tx {
    /// Begins to write. The name is for the metrics; `lock_max` is how long a statement may wait for a lock.
    pub(super) async fn begin(
        mut session: PooledSession,
        name: &'static str,
        commits: watch::Sender<u64>,
        (given_up, lock_max): (GivenUp, Duration),
    ) -> Result<Self, sqlx::Error> {
        let begun = Instant::now();
        begin_with(session.conn(), lock_max).await?;
        let open = OpenSession::new(session.pid(), given_up);
        Ok(Self { session, name, commits, open, begun, clean: false, close_afterwards: false })
    }

    /// The connection it runs on.
    pub fn conn(&mut self) -> &mut PgConnection {
        self.session.conn()
    }

    /// Lifts the time limits of a writing session, for work that is known to take long.
    ///
    /// # Errors
    /// The statement's.
    pub async fn take_time(&mut self) -> Result<(), sqlx::Error> {
        self.conn()
            .execute("SET LOCAL statement_timeout = 0; SET LOCAL idle_in_transaction_session_timeout = 0; SET LOCAL lock_timeout = 0")
            .await
            .map(drop)
    }

    /// The server's process that runs it.
    #[must_use]
    pub fn pid(&self) -> i32 {
        self.open.pid()
    }

    /// Commits; after an error it is not known whether it did.
    ///
    /// # Errors
    /// The server's refusal, or a lost connection.
    pub async fn commit(self) -> Result<(), sqlx::Error> {
        self.end("COMMIT").await.map(drop)
    }

    /// Commits without waiting for the disk or a standby (asynchronous commit): a crash of the server may take the last
    /// fraction of a second of such transactions back, in the order in which they were made. For what a repetition brings
    /// again, such as how far a pass is.
    ///
    /// # Errors
    /// As above.
    pub async fn commit_without_sync(self) -> Result<(), sqlx::Error> {
        self.end("SET LOCAL synchronous_commit = off; COMMIT").await.map(drop)
    }

    /// Commits, and raises a mark in the same round trip. False: committed, and the mark is not raised, because the database
    /// has a lower one than was confirmed before.
    ///
    /// # Errors
    /// As above.
    pub async fn commit_with_mark(self, raise: &MarkRaise) -> Result<bool, sqlx::Error> {
        let statement = format!("{}; COMMIT", raise.statement());
        Ok(self.end(AssertSqlSafe(statement)).await? > 0)
    }

    /// Sends the last statements; answers how many rows they affected.
    async fn end(mut self, statements: impl SqlSafeStr) -> Result<u64, sqlx::Error> {
        let done = self.conn().execute(sqlx::raw_sql(statements)).await;
        self.open.end();
        let done = done?;
        self.clean = true;
        self.commits.send_modify(|count| *count += 1);
        metrics::histogram!("group_mirror_transaction_seconds", "name" => self.name)
            .record(self.begun.elapsed());
        Ok(done.rows_affected())
    }

    /// Rolls back and keeps the connection, which dropping does not.
    pub async fn roll_back(mut self) {
        self.clean = self.conn().execute("ROLLBACK").await.is_ok();
        self.open.end();
    }

    /// Closes the connection at the end of the transaction, however that ends.
    pub fn close_afterwards(&mut self) {
        self.close_afterwards = true;
    }

    /// Rolls back by closing the connection: its session is of no more use.
    pub fn discard(mut self) {
        self.open.end();
    }
}

impl Drop for Tx {
    fn drop(&mut self) {
        // The server rolls back when it sees the connection closed.
        self.session.keep_if(self.clean && !self.close_afterwards);
    }
}

/// A transaction that reads one snapshot of the database and writes nothing.
#[derive(Debug)]
pub struct ReadTx {
    conn: ReadConnection,
    ended: bool,
}

impl ReadTx {
    /// Begins to read. `statement_max` limits each statement; zero: no limit.
    ///
    /// # Errors
    /// A lost connection.
    pub async fn begin(conn: ReadConnection, statement_max: Duration) -> Result<Self, sqlx::Error> {
        let mut tx = Self { conn, ended: false };
        tx.conn.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await?;
        let limit = format!("SET LOCAL statement_timeout = {}", statement_max.as_millis());
        tx.conn.execute(AssertSqlSafe(limit)).await?;
        Ok(tx)
    }

    /// The connection it runs on.
    pub fn conn(&mut self) -> &mut PgConnection {
        &mut self.conn
    }

    /// Ends and keeps the connection, which dropping does not.
    pub async fn roll_back(mut self) {
        self.ended = self.conn.execute("ROLLBACK").await.is_ok();
    }
}

impl Drop for ReadTx {
    fn drop(&mut self) {
        if !self.ended {
            self.conn.close_on_drop();
        }
    }
}

/// One round trip. The limit is sent only where it is not the session's, because each statement more costs every batch.
async fn begin_with(conn: &mut PgConnection, lock_max: Duration) -> Result<(), sqlx::Error> {
    assert!(lock_max.as_millis() > 0, "a lock timeout of 0 would wait without limit");
    if lock_max == SESSION_LOCK_MAX {
        return conn.execute("BEGIN").await.map(drop);
    }
    let begin = format!("BEGIN; SET LOCAL lock_timeout = {}", lock_max.as_millis());
    conn.execute(AssertSqlSafe(begin)).await.map(drop)
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
VALUES (0, '{group}', round(extract(epoch FROM now()) * 1000)::bigint,
        substr(sha256(convert_to(concat(pg_backend_pid(), clock_timestamp()), 'UTF8')), 1, 16), 'probe', now(), 'callback',
        'applied', '');
UPDATE groups SET type = type WHERE false;
ROLLBACK TO SAVEPOINT probe;
COMMIT";

/// One commit that writes nothing which stays, in the shard of a group.
pub(super) async fn probe(
    conn: &mut PgConnection,
    given_up: GivenUp,
    group: &str,
) -> Result<(), sqlx::Error> {
    assert!(group.bytes().all(|byte| byte.is_ascii_digit()), "it needs no quoting");
    let pid = conn.fetch_one("SELECT pg_backend_pid()").await?.try_get(0)?;
    let mut open = OpenSession::new(pid, given_up);
    begin_with(conn, PROBE_LOCK_MAX).await?;
    let done = conn.execute(AssertSqlSafe(PROBE.replace("{group}", group))).await;
    open.end();
    done.map(drop)
}
