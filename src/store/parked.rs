//! The dead letters of an app as they are read, and what was applied in part: pages, newest receipt first, whatever group
//! they are about, or none.
//!
//! Reads only, on the connection it is given. A page is a range of the partial index on what is not wholly applied, so that
//! it costs the same however long the ledger is; it is bounded by rows and by bytes, because a body has up to 1 MiB.

use chrono::{DateTime, Utc};
use sqlx::{FromRow, PgConnection};

use super::history::HistoryRow;
use crate::model::{GroupId, SdkAppId};

/// A row with its place in the order.
#[derive(Debug, Clone, FromRow)]
pub struct ParkedRow {
    /// The row, as histories have it.
    #[sqlx(flatten)]
    pub entry: HistoryRow,
    /// Its receipt, to the precision of the database.
    pub received_at: DateTime<Utc>,
}

/// The key of a row, by which pages are read: receipt, digest, group, time in Unix milliseconds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParkedCursorKey {
    /// Receipt; newest first.
    pub received_at: DateTime<Utc>,
    /// Ties by digest; an empty one sorts before all.
    pub digest: Vec<u8>,
    /// Ties by group; empty where unknown.
    pub group: String,
    /// Ties by time.
    pub time_ms: i64,
}

/// Which rows of an app; what is `None` does not filter.
#[derive(Debug, Clone)]
pub struct ParkedFilter {
    /// The app.
    pub app: SdkAppId,
    /// Of this group.
    pub group: Option<GroupId>,
    /// `partial` or `parked`.
    pub outcome: Option<&'static str>,
    /// The labels of causes that are all among those of the entry.
    pub causes: Vec<&'static str>,
    /// The command that counted.
    pub command: Option<String>,
    /// Only what was received later than this.
    pub after: Option<DateTime<Utc>>,
    /// Only rows behind this key, which need not be one of a row.
    pub behind: ParkedCursorKey,
}

/// A page.
#[derive(Debug, Clone)]
pub struct ParkedPage {
    /// Newest receipt first.
    pub rows: Vec<ParkedRow>,
    /// True where the list goes on behind the last row.
    pub more: bool,
}

/// The rows are chosen first and then cut where the bodies before them reach the limit, as in a history.
const PAGE: &str = r"
SELECT sdk_app_id, group_id, time_ms, digest, command, query_command, request_id,
       round(extract(epoch FROM received_at) * 1000)::bigint AS received_ms, outcome, reason, causes, body,
       event_time_ms, source, client_ip, platform, received_at, chosen
  FROM (SELECT c.*, count(*) OVER () AS chosen,
               sum(octet_length(body)) OVER (ORDER BY received_at DESC, digest DESC, group_id DESC, time_ms DESC)
                 - octet_length(body) AS bytes_before
          FROM (SELECT * FROM ledger
                 WHERE sdk_app_id = $1 AND outcome <> 'applied'
                   AND (received_at, digest, group_id, time_ms) < ($2, $3, $4, $5)
                   AND ($6::timestamptz IS NULL OR received_at > $6)
                   AND ($7::text IS NULL OR outcome = $7)
                   AND causes @> $8
                   AND ($9::text IS NULL OR command = $9)
                   AND ($10::text IS NULL OR group_id = $10)
                 ORDER BY received_at DESC, digest DESC, group_id DESC, time_ms DESC
                 LIMIT $11) c) p
 WHERE bytes_before < $12
 ORDER BY received_at DESC, digest DESC, group_id DESC, time_ms DESC";

#[derive(FromRow)]
struct ChosenParked {
    #[sqlx(flatten)]
    parked: ParkedRow,
    chosen: i64,
}

/// The newest rows that match: at most `rows_max` of them, and none after `bytes_max` bytes of bodies; the first one always
/// passes.
///
/// # Errors
/// Those of the connection and the database.
pub async fn page(
    conn: &mut PgConnection,
    filter: &ParkedFilter,
    rows_max: usize,
    bytes_max: i64,
) -> Result<ParkedPage, sqlx::Error> {
    let one_more = i64::try_from(rows_max).unwrap_or(i64::MAX).saturating_add(1);
    let ParkedCursorKey { received_at, digest, group, time_ms } = &filter.behind;
    let found: Vec<ChosenParked> = sqlx::query_as(PAGE)
        .bind(filter.app.get())
        .bind(received_at)
        .bind(digest)
        .bind(group)
        .bind(time_ms)
        .bind(filter.after)
        .bind(filter.outcome)
        .bind(&filter.causes)
        .bind(filter.command.as_deref())
        .bind(filter.group.as_ref().map(GroupId::as_str))
        .bind(one_more)
        .bind(bytes_max)
        .fetch_all(conn)
        .await?;
    let chosen = found.first().map_or(0, |row| usize::try_from(row.chosen).unwrap_or_default());
    let mut rows: Vec<ParkedRow> = found.into_iter().map(|row| row.parked).collect();
    rows.truncate(rows_max);
    assert!(rows.len() <= chosen, "a page shows rows that were chosen");
    let more = rows.len() < chosen;
    Ok(ParkedPage { rows, more })
}
