//! A transaction on a pooled connection: begun to write or to read, committed, rolled back, or given up with its
//! connection.
//!
//! [`Database::begin`](super::Database::begin) begins one to write, [`Tx::reading`] one to read; a function that works on
//! a connection never commits. The driver's own handle returns its connection to the pool even where it stalls; this one
//! closes it.

use std::time::{Duration, Instant};

use sqlx::pool::PoolConnection;
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Executor as _, Postgres};
use tokio::sync::watch;

/// A transaction; rolled back unless committed.
#[derive(Debug)]
pub struct Tx {
    conn: PoolConnection<Postgres>,
    name: &'static str,
    /// Counts the commit; a transaction that only reads has none.
    commits: Option<watch::Sender<u64>>,
    begun: Instant,
    ended: bool,
}

impl Tx {
    /// Begins to write. The name is for the metrics.
    pub(super) async fn writing(
        conn: PoolConnection<Postgres>,
        name: &'static str,
        commits: watch::Sender<u64>,
    ) -> Result<Self, sqlx::Error> {
        let mut tx = Self { conn, name, commits: Some(commits), begun: Instant::now(), ended: false };
        tx.conn.execute("BEGIN").await?;
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
        let mut tx = Self { conn, name: "snapshot", commits: None, begun: Instant::now(), ended: false };
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

    /// Commits. After an error it is unknown whether the server did.
    ///
    /// # Errors
    /// The server's refusal, or a lost connection.
    pub async fn commit(mut self) -> Result<(), sqlx::Error> {
        assert!(!self.ended, "a transaction ends once");
        self.conn.execute("COMMIT").await?;
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
