//! What is asked on a connection of its own: whether a write commits, whether a session that was given up has ended, and
//! that a statement be cancelled.
//!
//! The connections of the pools may be dead, or be the ones in question. Nothing here decides what an answer means.

use std::sync::Arc;
use std::time::Duration;

use sqlx::{Connection as _, Executor as _, PgConnection};
use tokio::sync::OwnedMutexGuard;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::errors::StoreError;
use super::pools::Database;
use super::transaction;

/// The pause between two questions whether a session has ended.
const ASK_PAUSE: Duration = Duration::from_millis(500);

/// How long one such question may take, connecting included.
const ASK_WAIT_MAX: Duration = Duration::from_secs(2);

/// How long asking the server to cancel a statement may take.
const CANCEL_WAIT_MAX: Duration = Duration::from_secs(1);

/// The right to give up a session; held until that has happened.
#[derive(Debug)]
pub struct GiveUpTurn {
    _held: OwnedMutexGuard<()>,
}

/// A pid may belong to another session by now; one of this program that is idle has nothing that was given up.
const STILL_THERE: &str = "
SELECT pid FROM pg_stat_activity
 WHERE pid = ANY($1) AND application_name = current_setting('application_name') AND state <> 'idle'";

impl Database {
    /// Waits until no session that was given up exists in the server; the caller then gives up one by dropping its
    /// transaction, and drops the turn after it.
    pub async fn turn_to_give_up(&self) -> GiveUpTurn {
        let turn = GiveUpTurn { _held: Arc::clone(&self.given_up.turn).lock_owned().await };
        while !self.given_up.pids().is_empty() {
            // No answer means not known: the session may exist.
            let _ = timeout(ASK_WAIT_MAX, self.forget_ended_sessions()).await;
            if !self.given_up.pids().is_empty() {
                sleep(ASK_PAUSE).await;
            }
        }
        turn
    }

    async fn forget_ended_sessions(&self) -> Result<(), StoreError> {
        let mut conn = self.connect().await?;
        self.forget_ended_sessions_on(&mut conn).await?;
        let _ = conn.close().await;
        Ok(())
    }

    async fn forget_ended_sessions_on(&self, conn: &mut PgConnection) -> Result<(), StoreError> {
        let asked = self.given_up.pids().clone();
        if asked.is_empty() {
            return Ok(());
        }
        let there: Vec<i32> = sqlx::query_scalar(STILL_THERE).bind(&asked).fetch_all(conn).await?;
        self.given_up.pids().retain(|pid| there.contains(pid) || !asked.contains(pid));
        Ok(())
    }

    /// One small commit that inserts into `ledger` and leaves no row, on a connection of its own: the pool's may be dead
    /// and not know it. Of several shards one that takes it is enough. The caller bounds the time.
    ///
    /// # Errors
    /// Why nothing can be committed now; also that a session that was given up still exists, since another one could
    /// get stuck as that one did.
    pub async fn probe(&self) -> Result<(), StoreError> {
        let mut conn = self.connect().await?;
        self.forget_ended_sessions_on(&mut conn).await?;
        if !self.given_up.pids().is_empty() {
            return Err(StoreError::GivenUp);
        }
        self.probe_a_shard(&mut conn).await?;
        let _ = conn.close().await;
        Ok(())
    }

    /// Commits in one shard after the other until one takes it: a worker that is away is not the whole server.
    async fn probe_a_shard(&self, conn: &mut PgConnection) -> Result<(), sqlx::Error> {
        let shards = self.shards().to_probe();
        let count = shards.len();
        for (tried, (shard, group)) in shards.into_iter().enumerate() {
            // Should this one never answer, the next probe begins with another.
            self.shards().probe_next(shard + 1);
            match transaction::probe(conn, self.given_up.clone(), &group).await {
                Ok(()) => {
                    self.shards().probe_next(shard);
                    return Ok(());
                }
                Err(sqlx::Error::Database(_)) if tried + 1 < count => {
                    conn.execute("ROLLBACK").await?;
                }
                Err(error) => return Err(error),
            }
        }
        unreachable!("there is one shard at least, and the last one returns")
    }

    /// Asks the server to cancel the statement that a session runs. Never to be used for a commit: a commit that waits for
    /// a synchronous standby would report success. False: the request may reach the session at any later time, so its
    /// transaction must not be committed.
    pub async fn cancel(&self, pid: i32) -> bool {
        let until = Instant::now() + CANCEL_WAIT_MAX;
        let Ok(Ok(mut conn)) = timeout_at(until, self.connect()).await else {
            // Nothing was asked.
            return true;
        };
        let asking = sqlx::query("SELECT pg_cancel_backend($1)").bind(pid).execute(&mut conn);
        let has_arrived = matches!(timeout_at(until, asking).await, Ok(Ok(_)));
        if has_arrived {
            let _ = timeout_at(until, conn.close()).await;
        }
        has_arrived
    }
}
