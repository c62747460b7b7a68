//! The ledger as a fold reads it: a range of groups, one partition after the other.
//!
//! Merging is commutative, so a fold may take the entries of a group in any order. A statement that reads the key over all
//! partitions at once would begin at the index of each for every page; here each statement names a stretch of time that is one
//! partition, and the planner leaves the others out. Entries come as a stream, so that memory depends on no size. Reads only.

use chrono::{DateTime, Utc};
use futures_util::stream::BoxStream;
use sqlx::{Executor as _, FromRow, PgConnection};

use super::ledger::LedgerRow;
use super::partitions::TimeSpan;
use super::people::LedgerKey;

/// An app and a group, as they are stored; the group is empty for entries of none.
pub type StoredGroup = (i64, String);

/// A table that was filled a moment ago has no statistics, and of such a one the planner would read all for each range.
const BY_KEY: &str = "SET LOCAL enable_seqscan = off; SET LOCAL enable_sort = off";

/// Makes the statements of this transaction read by the key.
///
/// # Errors
/// The statement's.
pub async fn by_key(conn: &mut PgConnection) -> Result<(), sqlx::Error> {
    conn.execute(BY_KEY).await.map(drop)
}

const GROUP_AHEAD: &str = r"
SELECT sdk_app_id, group_id FROM ledger
 WHERE (sdk_app_id, group_id) > ($1, $2) AND time_ms >= $3 AND time_ms <= $4
 ORDER BY sdk_app_id, group_id OFFSET $5 LIMIT 1";

/// The group of the entry that lies so many behind the first one after a group, within a time; none where there are fewer.
///
/// # Errors
/// The statement's.
pub async fn group_ahead(
    conn: &mut PgConnection,
    after: &StoredGroup,
    time: TimeSpan,
    entries: i64,
) -> Result<Option<StoredGroup>, sqlx::Error> {
    let query = sqlx::query_as(GROUP_AHEAD).bind(after.0).bind(&after.1).bind(time.first_ms);
    query.bind(time.last_ms).bind(entries).fetch_optional(conn).await
}

const OF_RANGE: &str = r"
SELECT sdk_app_id, group_id, time_ms, digest, command, query_command,
       ledger_request_id(request_id, odd_values) AS request_id,
       round(extract(epoch FROM received_at) * 1000)::bigint AS received_ms, source, outcome, reason, causes, body
  FROM ledger
 WHERE (sdk_app_id, group_id) > ($1, $2) AND (sdk_app_id, group_id) <= ($3, $4) AND time_ms >= $5 AND time_ms <= $6";

/// All entries of a range of groups within a time: after one group, up to and with another.
pub fn of_range<'a>(
    conn: &'a mut PgConnection,
    after: &'a StoredGroup,
    last: &'a StoredGroup,
    time: TimeSpan,
) -> BoxStream<'a, Result<LedgerRow, sqlx::Error>> {
    let query = sqlx::query_as(OF_RANGE).bind(after.0).bind(&after.1).bind(last.0).bind(&last.1);
    query.bind(time.first_ms).bind(time.last_ms).fetch(conn)
}

const OF_GROUP: &str = r"
SELECT sdk_app_id, group_id, time_ms, digest, command, query_command,
       ledger_request_id(request_id, odd_values) AS request_id,
       round(extract(epoch FROM received_at) * 1000)::bigint AS received_ms, source, outcome, reason, causes, body
  FROM ledger
 WHERE sdk_app_id = $1 AND group_id = $2 AND time_ms >= $3 AND time_ms <= $4";

/// All entries of one group within a time.
pub fn of_group<'a>(
    conn: &'a mut PgConnection,
    group: &'a StoredGroup,
    time: TimeSpan,
) -> BoxStream<'a, Result<LedgerRow, sqlx::Error>> {
    let query = sqlx::query_as(OF_GROUP).bind(group.0).bind(&group.1);
    query.bind(time.first_ms).bind(time.last_ms).fetch(conn)
}

/// Sorts before every entry: there is no app 0.
const BEFORE_ALL: LedgerKey<'static> = (0, "", i64::MIN, &[]);

const PAGE: &str = r"
SELECT sdk_app_id, group_id, time_ms, digest, command, query_command,
       ledger_request_id(request_id, odd_values) AS request_id,
       round(extract(epoch FROM received_at) * 1000)::bigint AS received_ms, source, outcome, reason, causes, body
  FROM ledger
 WHERE (sdk_app_id, group_id, time_ms, digest) > ($1, $2, $3, $4) AND time_ms >= $5 AND time_ms <= $6
 ORDER BY sdk_app_id, group_id, time_ms, digest
 LIMIT $7";

/// Entries after one within a time, in key order; from the start without one.
///
/// # Errors
/// The statement's.
pub async fn page(
    conn: &mut PgConnection,
    after: Option<&LedgerRow>,
    time: TimeSpan,
    limit: i64,
) -> Result<Vec<LedgerRow>, sqlx::Error> {
    let (app, group, ms, digest) = after.map_or(BEFORE_ALL, LedgerRow::key);
    let query = sqlx::query_as(PAGE).bind(app).bind(group).bind(ms).bind(digest);
    query.bind(time.first_ms).bind(time.last_ms).bind(limit).fetch_all(conn).await
}

/// An entry that is not wholly applied, with its receipt to the precision of the database.
#[derive(Debug, Clone, FromRow)]
pub struct UnreadEntry {
    /// The entry.
    #[sqlx(flatten)]
    pub row: LedgerRow,
    received_at: DateTime<Utc>,
}

/// In the order of the partial index on what is not wholly applied: it is small, whatever the number of partitions.
const UNREAD: &str = r"
SELECT sdk_app_id, group_id, time_ms, digest, command, query_command,
       ledger_request_id(request_id, odd_values) AS request_id,
       round(extract(epoch FROM received_at) * 1000)::bigint AS received_ms, source, outcome, reason, causes, body,
       received_at
  FROM ledger
 WHERE outcome <> 'applied' AND (sdk_app_id, received_at, digest, group_id, time_ms) > ($1, $2, $3, $4, $5)
 ORDER BY sdk_app_id, received_at, digest, group_id, time_ms
 LIMIT $6";

/// What was parked or read in part, after one of them, by receipt; from the start without one.
///
/// # Errors
/// The statement's.
pub async fn unread(
    conn: &mut PgConnection,
    after: Option<&UnreadEntry>,
    limit: i64,
) -> Result<Vec<UnreadEntry>, sqlx::Error> {
    let (app, group, ms, digest) = after.map_or(BEFORE_ALL, |entry| entry.row.key());
    let received_at = after.map_or(DateTime::UNIX_EPOCH, |entry| entry.received_at);
    let query = sqlx::query_as(UNREAD).bind(app).bind(received_at).bind(digest).bind(group).bind(ms);
    query.bind(limit).fetch_all(conn).await
}
