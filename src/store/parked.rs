//! The dead letters of an app as they are read, and what was applied in part: pages, newest receipt first, whatever group
//! they are about, or none.
//!
//! Reads only, on the connection it is given. A page is a range of the partial index on what is not wholly applied, so that
//! it costs the same however long the ledger is; it is bounded by rows, by bytes, because a body has up to 1 MiB, and with a
//! filter by the rows it searches, because an outage of a reader can leave a million that do not match.

use chrono::{DateTime, Utc};
use sqlx::{FromRow, PgConnection};

use super::history::{HistoryRow, SEARCHED_ROWS_MAX, name_groups};
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
#[derive(Debug, Clone, PartialEq, Eq, FromRow)]
pub struct ParkedCursorKey {
    /// Receipt; newest first.
    pub received_at: DateTime<Utc>,
    /// Ties by digest; an empty one sorts before all.
    pub digest: Vec<u8>,
    /// Ties by group; empty where unknown.
    #[sqlx(rename = "group_id")]
    pub group: String,
    /// Ties by time.
    pub time_ms: i64,
}

impl ParkedCursorKey {
    fn of(row: &ParkedRow) -> Self {
        let entry = &row.entry.row;
        Self {
            received_at: row.received_at,
            digest: entry.digest.clone(),
            group: entry.group_id.clone(),
            time_ms: entry.time_ms,
        }
    }
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

impl ParkedFilter {
    /// Whether rows in the range may be left out, so that a page has to search for those it shows.
    fn searches(&self) -> bool {
        self.group.is_some() || self.outcome.is_some() || !self.causes.is_empty() || self.command.is_some()
    }
}

/// A page.
#[derive(Debug, Clone)]
pub struct ParkedPage {
    /// Newest receipt first.
    pub rows: Vec<ParkedRow>,
    /// Behind which key the list goes on; `None` where it does not.
    pub next: Option<ParkedCursorKey>,
}

/// The last row that a page may search and, as a second row, whether there is another one behind it.
const SEARCH_END: &str = r"
SELECT received_at, digest, group_id, time_ms FROM ledger
 WHERE sdk_app_id = $1 AND outcome <> 'applied'
   AND (received_at, digest, group_id, time_ms) < ($2, $3, $4, $5)
   AND ($6::timestamptz IS NULL OR received_at > $6)
 ORDER BY received_at DESC, digest DESC, group_id DESC, time_ms DESC
OFFSET $7 LIMIT 2";

/// The rows are chosen first and then cut where the bodies before them reach the limit, and the filters are kept out of the
/// choice of an index, as in a history.
const PAGE: &str = r"
SELECT sdk_app_id, group_id, time_ms, digest, command, query_command,
       ledger_request_id(request_id, odd_values) AS request_id,
       round(extract(epoch FROM received_at) * 1000)::bigint AS received_ms, outcome, reason, causes, body,
       event_time_ms, source,
       ledger_client_ip(client_ip, odd_values) AS client_ip, ledger_platform(platform, odd_values) AS platform, received_at, chosen
  FROM (SELECT c.*, count(*) OVER () AS chosen,
               sum(octet_length(body)) OVER (ORDER BY received_at DESC, digest DESC, group_id DESC, time_ms DESC)
                 - octet_length(body) AS bytes_before
          FROM (SELECT * FROM
                       (SELECT * FROM ledger
                         WHERE sdk_app_id = $1 AND outcome <> 'applied'
                           AND (received_at, digest, group_id, time_ms) < ($2, $3, $4, $5)
                           AND ($6::timestamptz IS NULL OR received_at > $6)
                           AND ($13::timestamptz IS NULL
                                OR (received_at, digest, group_id, time_ms) >= ($13, $14, $15, $16))
                         ORDER BY received_at DESC, digest DESC, group_id DESC, time_ms DESC
                        LIMIT 4002) r
                 WHERE ($7::text IS NULL OR outcome = $7)
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

/// The newest rows that match: at most `rows_max` of them, none after `bytes_max` bytes of bodies (the first one always
/// passes), and with a filter none behind [`SEARCHED_ROWS_MAX`] rows.
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
    let end = if filter.searches() { search_end(conn, filter).await? } else { None };
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
        .bind(end.as_ref().map(|end| end.received_at))
        .bind(end.as_ref().map(|end| end.digest.as_slice()))
        .bind(end.as_ref().map(|end| end.group.as_str()))
        .bind(end.as_ref().map(|end| end.time_ms))
        .fetch_all(&mut *conn)
        .await?;
    let chosen = found.first().map_or(0, |row| usize::try_from(row.chosen).unwrap_or_default());
    let mut rows: Vec<ParkedRow> = found.into_iter().map(|row| row.parked).collect();
    rows.truncate(rows_max);
    assert!(rows.len() <= chosen, "a page shows rows that were chosen");
    name_groups(conn, rows.iter_mut().map(|row| &mut row.entry)).await?;
    let cut = rows.last().filter(|_| rows.len() < chosen).map(ParkedCursorKey::of);
    Ok(ParkedPage { next: cut.or(end), rows })
}

/// The last row that a page searches; `None` where no row is behind it.
async fn search_end(
    conn: &mut PgConnection,
    filter: &ParkedFilter,
) -> Result<Option<ParkedCursorKey>, sqlx::Error> {
    let ParkedCursorKey { received_at, digest, group, time_ms } = &filter.behind;
    let last: Vec<ParkedCursorKey> = sqlx::query_as(SEARCH_END)
        .bind(filter.app.get())
        .bind(received_at)
        .bind(digest)
        .bind(group)
        .bind(time_ms)
        .bind(filter.after)
        .bind(i64::try_from(SEARCHED_ROWS_MAX - 1).unwrap_or(i64::MAX))
        .fetch_all(conn)
        .await?;
    Ok(if last.len() > 1 { last.into_iter().next() } else { None })
}
