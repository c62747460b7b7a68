//! The outbox of the relay as a person sees it: how much waits and how long, what was given up, and entries that are queued
//! once more by hand.
//!
//! What is delivered, and by which process, is the matter of `outbox`. Entries that are queued here belong to none; a
//! process that relays finds them within seconds.

use chrono::{DateTime, Utc};
use sqlx::{FromRow, PgConnection};

use crate::model::SdkAppId;

/// The clock of the database.
///
/// # Errors
/// The statement's.
pub async fn now(conn: &mut PgConnection) -> Result<DateTime<Utc>, sqlx::Error> {
    sqlx::query_scalar("SELECT now()").fetch_one(conn).await
}

/// How much waits for delivery in an app.
#[derive(Debug, Clone, PartialEq, Eq, FromRow)]
pub struct BacklogRow {
    /// The app.
    pub sdk_app_id: i64,
    /// How many entries.
    pub entries: i64,
    /// Receipt of the oldest.
    pub oldest: Option<DateTime<Utc>>,
}

/// What waits, by app; an app without a row is not in it. Reads the whole table.
///
/// # Errors
/// The statement's.
pub async fn backlog(conn: &mut PgConnection) -> Result<Vec<BacklogRow>, sqlx::Error> {
    let statement =
        "SELECT sdk_app_id, count(*) AS entries, min(received_at) AS oldest FROM relay_outbox GROUP BY 1";
    sqlx::query_as(statement).fetch_all(conn).await
}

/// What was given up, by app and by what its last attempt failed with.
///
/// # Errors
/// The statement's.
pub async fn given_up(conn: &mut PgConnection) -> Result<Vec<(i64, String, i64)>, sqlx::Error> {
    let statement = "SELECT sdk_app_id, failure, count(*) FROM relay_skipped GROUP BY 1, 2 ORDER BY 1, 2";
    sqlx::query_as(statement).fetch_all(conn).await
}

const AGAIN: &str = r"
WITH chosen AS (
    INSERT INTO relay_outbox (sdk_app_id, group_id, time_ms, digest, place, received_at, position, origin, owner, again)
    SELECT sdk_app_id, group_id, time_ms, digest, position, received_at, position, 0, 0, true
      FROM ledger
     WHERE sdk_app_id = $1 AND group_id = $2 AND source = 'callback' AND received_at >= $3 AND received_at < $4
    ON CONFLICT DO NOTHING
    RETURNING sdk_app_id, group_id, time_ms, digest),
cleared AS (
    DELETE FROM relay_skipped s USING chosen c
     WHERE (s.sdk_app_id, s.group_id, s.time_ms, s.digest) = (c.sdk_app_id, c.group_id, c.time_ms, c.digest))
SELECT count(*) FROM chosen";

/// Queues the callbacks of a group that were received between two moments once more, those left out that wait already; how
/// many.
///
/// # Errors
/// The statement's.
pub async fn queue_again(
    conn: &mut PgConnection,
    app: SdkAppId,
    group: &str,
    (from, to): (DateTime<Utc>, DateTime<Utc>),
) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar(AGAIN).bind(app.get()).bind(group).bind(from).bind(to).fetch_one(conn).await
}
