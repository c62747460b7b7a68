//! The ledger of one group in the order of time: how far it reaches, how large it is, and its rows a page after the other.
//!
//! Reads only, on the connection it is given, in ranges of the ledger's primary key. A running count has to see the rows in
//! the order of their times. They are read in pages behind a key (keyset pagination), because one statement for all of them
//! may be planned as a sort, and a sort of 64 MiB of bodies spills to the disk of the server.

use futures_util::stream::BoxStream;
use sqlx::{FromRow, PgConnection};

use super::history::Size;
use super::ledger::LedgerRow;
use crate::mirror::GroupKey;

/// How many rows one statement reads.
pub const PAGE_ROWS: usize = 2_000;

/// From when to when the ledger of a group reaches, Unix milliseconds; what is parked included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromRow)]
pub struct LedgerSpan {
    /// The time of the first row.
    pub first_ms: i64,
    /// The time of the last row.
    pub last_ms: i64,
}

#[derive(FromRow)]
struct FoundSpan {
    first_ms: Option<i64>,
    last_ms: Option<i64>,
    is_applied: bool,
    is_pruned: bool,
}

/// What is parked makes no group, so a group of which nothing else came is unknown.
const SPAN: &str = r"
SELECT min(time_ms) AS first_ms, max(time_ms) AS last_ms,
       EXISTS (SELECT FROM ledger WHERE sdk_app_id = $1 AND group_id = $2 AND outcome <> 'parked') AS is_applied,
       EXISTS (SELECT FROM checkpoints WHERE sdk_app_id = $1 AND group_id = $2) AS is_pruned
  FROM ledger WHERE sdk_app_id = $1 AND group_id = $2";

/// From when to when the ledger of a group reaches, no further back than history is whole. `None`: nothing was ever applied to
/// the group.
///
/// # Errors
/// Those of the connection and the database.
pub async fn span(
    conn: &mut PgConnection,
    group: &GroupKey,
    whole_since: Option<i64>,
) -> Result<Option<LedgerSpan>, sqlx::Error> {
    let query = sqlx::query_as(SPAN).bind(group.app.get()).bind(group.group.as_str());
    let found: FoundSpan = query.fetch_one(conn).await?;
    let is_known = found.is_applied || found.is_pruned;
    let since = whole_since.unwrap_or(i64::MIN);
    let first_ms = found.first_ms.or(whole_since).map(|first_ms| first_ms.max(since));
    let last_ms = found.last_ms.or(whole_since).map(|last_ms| last_ms.max(since));
    let span = first_ms.zip(last_ms).map(|(first_ms, last_ms)| LedgerSpan { first_ms, last_ms });
    Ok(span.filter(|_| is_known))
}

const SIZE: &str = r"
SELECT count(*) AS ledger_rows,
       COALESCE(sum(octet_length(body)) FILTER (WHERE outcome <> 'parked'), 0)::bigint AS body_bytes
  FROM (SELECT body, outcome FROM ledger
         WHERE sdk_app_id = $1 AND group_id = $2 AND time_ms <= $3
         LIMIT $4) r";

/// How much a timeline up to and with a moment (Unix milliseconds) reads, counted up to `rows_max` rows; of what is parked
/// no body.
///
/// # Errors
/// Those of the connection and the database.
pub async fn size_until(
    conn: &mut PgConnection,
    group: &GroupKey,
    until_ms: i64,
    rows_max: i64,
) -> Result<Size, sqlx::Error> {
    let query = sqlx::query_as(SIZE).bind(group.app.get()).bind(group.group.as_str());
    query.bind(until_ms).bind(rows_max).fetch_one(conn).await
}

const PAGE: &str = r"
SELECT sdk_app_id, group_id, time_ms, digest, command, query_command,
       ledger_request_id(request_id, odd_values) AS request_id,
       round(extract(epoch FROM received_at) * 1000)::bigint AS received_ms, source, outcome, reason, causes,
       CASE WHEN outcome = 'parked' THEN ''::bytea ELSE body END AS body
  FROM ledger
 WHERE sdk_app_id = $1 AND group_id = $2 AND time_ms >= $3 AND (time_ms, digest) > ($3, $4) AND time_ms <= $5
 ORDER BY time_ms, digest
 LIMIT $6";

/// The next [`PAGE_ROWS`] rows of a group behind a row, or from the first one on, up to and with a moment, in the order of
/// time; of what is parked without the body.
pub fn page<'a>(
    conn: &'a mut PgConnection,
    group: &'a GroupKey,
    behind: Option<&'a (i64, Vec<u8>)>,
    until_ms: i64,
) -> BoxStream<'a, Result<LedgerRow, sqlx::Error>> {
    let (behind_ms, behind_digest) = behind.map_or((i64::MIN, &[][..]), |(ms, digest)| (*ms, digest));
    let query = sqlx::query_as(PAGE).bind(group.app.get()).bind(group.group.as_str()).bind(behind_ms);
    let query = query.bind(behind_digest).bind(until_ms);
    query.bind(i64::try_from(PAGE_ROWS).unwrap_or(i64::MAX)).fetch(conn)
}

/// How the database goes about [`page`], as `EXPLAIN` with these options shows it; for tests.
///
/// # Errors
/// Those of the connection and the database.
pub async fn explain_page(
    conn: &mut PgConnection,
    options: &str,
    group: &GroupKey,
    behind: (i64, &[u8]),
    until_ms: i64,
) -> Result<String, sqlx::Error> {
    let statement = format!("EXPLAIN ({options}) {PAGE}");
    let query = sqlx::query_scalar(sqlx::AssertSqlSafe(statement));
    let query = query.bind(group.app.get()).bind(group.group.as_str()).bind(behind.0).bind(behind.1);
    let query = query.bind(until_ms).bind(i64::try_from(PAGE_ROWS).unwrap_or(i64::MAX));
    let lines: Vec<String> = query.fetch_all(conn).await?;
    Ok(lines.join("\n"))
}
