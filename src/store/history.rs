//! The ledger of one group as it is read: a page of it, newest first (keyset pagination), and all that was applied up to a
//! moment.
//!
//! Reads only, on the connection it is given. Every statement reads one range of the ledger's primary key. A page is
//! bounded by rows, by bytes, because a body has up to 1 MiB, and with a filter by the rows it searches, because a group
//! may have a million that do not match. What the bodies say is decoded by the caller.

use futures_util::stream::BoxStream;
use sqlx::postgres::PgArguments;
use sqlx::{Arguments as _, AssertSqlSafe, FromRow, PgConnection};

use super::group_names::GroupNames;
use super::ledger::LedgerRow;
use super::{ledger_pages, prune};
use crate::mirror::GroupKey;

/// A ledger row with everything that came beside the body.
#[derive(Debug, Clone, FromRow)]
pub struct HistoryRow {
    /// The row as a fold reads it.
    #[sqlx(flatten)]
    pub row: LedgerRow,
    /// `EventTime` as sent, Unix milliseconds.
    pub event_time_ms: Option<i64>,
    /// `callback` or `rest`.
    pub source: String,
    /// `ClientIP` of the query.
    pub client_ip: Option<String>,
    /// `OptPlatform` of the query.
    pub platform: Option<String>,
    /// The present name of the group; none where none is known.
    #[sqlx(default)]
    pub group_name: Option<String>,
}

/// The key of a row in the history of its group, by which pages are read: time in Unix milliseconds, digest.
pub type HistoryCursorKey = (i64, Vec<u8>);

/// Which rows of a group; what is `None` does not filter.
#[derive(Debug, Clone)]
pub struct HistoryFilter {
    /// `applied`, `partial` or `parked`.
    pub outcome: Option<&'static str>,
    /// The label of a cause that is among those of the entry.
    pub cause: Option<&'static str>,
    /// The command that counted.
    pub command: Option<String>,
    /// Only later than this, Unix milliseconds.
    pub after_ms: i64,
    /// Only rows behind this key, which need not be one of a row: an empty digest sorts before all of its millisecond.
    pub behind: HistoryCursorKey,
}

impl HistoryFilter {
    /// Whether rows in the range may be left out, so that a page has to search for those it shows.
    fn searches(&self) -> bool {
        self.outcome.is_some() || self.cause.is_some() || self.command.is_some()
    }
}

/// A page of a history.
#[derive(Debug, Clone)]
pub struct HistoryPage {
    /// Newest first.
    pub rows: Vec<HistoryRow>,
    /// Behind which key the history goes on; `None` where it does not.
    pub next: Option<HistoryCursorKey>,
    /// From when on the history is whole, Unix milliseconds; none: from the first entry on.
    pub whole_since: Option<i64>,
}

/// How many rows one page with a filter searches at most, of a group or of what is unread.
pub const SEARCHED_ROWS_MAX: usize = 2_000;

/// The last row that a page may search and, as a second row, whether there is another one behind it. The time stands beside
/// the key in each of these conditions: a comparison of rows tells the planner nothing of the partitions that it can leave
/// out.
const SEARCH_END: &str = r"
SELECT time_ms, digest FROM ledger
 WHERE sdk_app_id = $1 AND group_id = $2 AND time_ms > $3 AND time_ms <= $4 AND (time_ms, digest) < ($4, $5)
 ORDER BY time_ms DESC, digest DESC
OFFSET $6 LIMIT 2";

/// The rows are chosen first and then cut where the bodies before them reach the limit, so that the bodies of the rest
/// are never fetched: their length stands beside the pointer to them. The first row always passes. The inner limit keeps the
/// filters out of the choice of an index, and lets the planner know that the range is read in its order, down to the end of
/// the search: it is twice [`SEARCHED_ROWS_MAX`], with room for rows that come between the statements.
const PAGE: &str = r"
SELECT sdk_app_id, group_id, time_ms, digest, command, query_command,
       ledger_request_id(request_id, odd_values) AS request_id,
       round(extract(epoch FROM received_at) * 1000)::bigint AS received_ms, outcome, reason, causes, body,
       event_time_ms, source,
       ledger_client_ip(client_ip, odd_values) AS client_ip, ledger_platform(platform, odd_values) AS platform, chosen
  FROM (SELECT c.*, count(*) OVER () AS chosen,
               sum(octet_length(body)) OVER (ORDER BY time_ms DESC, digest DESC) - octet_length(body) AS bytes_before
          FROM (SELECT * FROM
                       (SELECT * FROM ledger
                         WHERE sdk_app_id = $1 AND group_id = $2 AND time_ms > $3 AND time_ms <= $4
                           AND time_ms >= COALESCE($11, $3) AND (time_ms, digest) < ($4, $5)
                           AND ($11::bigint IS NULL OR (time_ms, digest) >= ($11, $12))
                         ORDER BY time_ms DESC, digest DESC
                        LIMIT 4002) r
                 WHERE ($6::text IS NULL OR outcome = $6)
                   AND ($7::text IS NULL OR command = $7)
                   AND ($10::text IS NULL OR $10 = ANY (causes))
                 ORDER BY time_ms DESC, digest DESC
                 LIMIT $8) c) p
 WHERE bytes_before < $9
 ORDER BY time_ms DESC, digest DESC";

#[derive(FromRow)]
struct Chosen {
    #[sqlx(flatten)]
    history: HistoryRow,
    chosen: i64,
}

/// A group is known when a row of the ledger names it, parked or not, or the mirror has it.
const KNOWN: &str = r"
SELECT EXISTS (SELECT FROM ledger WHERE sdk_app_id = $1 AND group_id = $2)
    OR EXISTS (SELECT FROM groups WHERE sdk_app_id = $1 AND group_id = $2)";

/// The newest rows that match: at most `rows_max` of them, none after `bytes_max` bytes of bodies, and with a filter none
/// behind [`SEARCHED_ROWS_MAX`] rows. `None`: neither the ledger nor the mirror knows the group.
///
/// # Errors
/// Those of the connection and the database.
pub async fn page(
    conn: &mut PgConnection,
    group: &GroupKey,
    filter: &HistoryFilter,
    rows_max: usize,
    bytes_max: i64,
) -> Result<Option<HistoryPage>, sqlx::Error> {
    let mut snapshot = ledger_pages::begin(conn).await?;
    let end = if filter.searches() { search_end(&mut snapshot, group, filter).await? } else { None };
    let values = page_values(group, filter, end.as_ref(), rows_max, bytes_max)?;
    let mut found: Vec<Chosen> = sqlx::query_as_with(PAGE, values).fetch_all(&mut *snapshot).await?;
    name_groups(&mut snapshot, found.iter_mut().map(|row| &mut row.history)).await?;
    let is_known = !found.is_empty() || end.is_some() || is_known(&mut snapshot, KNOWN, group).await?;
    let whole_since = prune::whole_since(&mut snapshot).await?;
    snapshot.rollback().await?;
    if !is_known {
        return Ok(None);
    }
    let chosen = found.first().map_or(0, |row| usize::try_from(row.chosen).unwrap_or_default());
    let mut rows: Vec<HistoryRow> = found.into_iter().map(|row| row.history).collect();
    rows.truncate(rows_max);
    assert!(rows.len() <= chosen, "a page shows rows that were chosen");
    let cut =
        rows.last().filter(|_| rows.len() < chosen).map(|last| (last.row.time_ms, last.row.digest.clone()));
    Ok(Some(HistoryPage { next: cut.or(end), rows, whole_since }))
}

/// Gives each entry the whole name of its group.
///
/// # Errors
/// The statement's.
pub(super) async fn name_groups(
    conn: &mut PgConnection,
    entries: impl Iterator<Item = &mut HistoryRow>,
) -> Result<(), sqlx::Error> {
    let entries: Vec<&mut HistoryRow> = entries.collect();
    let groups = entries.iter().map(|entry| (entry.row.sdk_app_id, entry.row.group_id.as_str()));
    let names = GroupNames::of(conn, groups, i32::MAX).await?;
    for entry in entries {
        entry.group_name = names.name(entry.row.sdk_app_id, &entry.row.group_id);
    }
    Ok(())
}

/// The values of [`PAGE`]; `end` is the last key that it may search.
fn page_values(
    group: &GroupKey,
    filter: &HistoryFilter,
    end: Option<&HistoryCursorKey>,
    rows_max: usize,
    bytes_max: i64,
) -> Result<PgArguments, sqlx::Error> {
    let one_more = i64::try_from(rows_max).unwrap_or(i64::MAX).saturating_add(1);
    let (behind_ms, behind_digest) = &filter.behind;
    let mut values = PgArguments::default();
    let added = [
        values.add(group.app.get()),
        values.add(group.group.as_str()),
        values.add(filter.after_ms),
        values.add(behind_ms),
        values.add(behind_digest),
        values.add(filter.outcome),
        values.add(filter.command.as_deref()),
        values.add(one_more),
        values.add(bytes_max),
        values.add(filter.cause),
        values.add(end.map(|(ms, _)| *ms)),
        values.add(end.map(|(_, digest)| digest.as_slice())),
    ];
    added.into_iter().collect::<Result<(), _>>().map_err(sqlx::Error::Encode)?;
    Ok(values)
}

/// How the database would go about a page without a search, as `EXPLAIN` with these options says it; for tests.
///
/// # Errors
/// The statement's.
pub async fn explain(
    conn: &mut PgConnection,
    options: &str,
    group: &GroupKey,
    filter: &HistoryFilter,
) -> Result<String, sqlx::Error> {
    let mut snapshot = ledger_pages::begin(conn).await?;
    let values = page_values(group, filter, None, 50, i64::MAX)?;
    let explained = AssertSqlSafe(format!("EXPLAIN ({options}) {PAGE}"));
    let lines: Vec<String> = sqlx::query_scalar_with(explained, values).fetch_all(&mut *snapshot).await?;
    Ok(lines.join("\n"))
}

/// The last row that a page searches; `None` where no row is behind it.
async fn search_end(
    conn: &mut PgConnection,
    group: &GroupKey,
    filter: &HistoryFilter,
) -> Result<Option<HistoryCursorKey>, sqlx::Error> {
    let (behind_ms, behind_digest) = &filter.behind;
    let last: Vec<HistoryCursorKey> = sqlx::query_as(SEARCH_END)
        .bind(group.app.get())
        .bind(group.group.as_str())
        .bind(filter.after_ms)
        .bind(behind_ms)
        .bind(behind_digest)
        .bind(i64::try_from(SEARCHED_ROWS_MAX - 1).unwrap_or(i64::MAX))
        .fetch_all(conn)
        .await?;
    Ok(if last.len() > 1 { last.into_iter().next() } else { None })
}

async fn is_known(
    conn: &mut PgConnection,
    statement: &'static str,
    group: &GroupKey,
) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar(statement).bind(group.app.get()).bind(group.group.as_str()).fetch_one(conn).await
}

/// What a fold would have to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromRow)]
pub struct Size {
    /// Ledger rows, counted up to a limit.
    pub ledger_rows: i64,
    /// Bytes of the bodies of these.
    pub body_bytes: i64,
}

const SIZE: &str = r"
SELECT count(*) AS ledger_rows, COALESCE(sum(octet_length(body)), 0)::bigint AS body_bytes
  FROM (SELECT body FROM ledger
         WHERE sdk_app_id = $1 AND group_id = $2 AND time_ms <= $3 AND outcome <> 'parked'
         LIMIT $4) r";

/// As [`KNOWN`], by what was applied alone: what is parked makes no group.
const APPLIED: &str = r"
SELECT EXISTS (SELECT FROM groups WHERE sdk_app_id = $1 AND group_id = $2)
    OR EXISTS (SELECT FROM ledger WHERE sdk_app_id = $1 AND group_id = $2 AND outcome <> 'parked')";

/// How much was applied up to and with a moment (Unix milliseconds), counted up to `rows_max` rows. `None`: nothing was
/// ever applied to the group.
///
/// # Errors
/// Those of the connection and the database.
pub async fn size_until(
    conn: &mut PgConnection,
    group: &GroupKey,
    until_ms: i64,
    rows_max: i64,
) -> Result<Option<Size>, sqlx::Error> {
    let query = sqlx::query_as(SIZE).bind(group.app.get()).bind(group.group.as_str());
    let size: Size = query.bind(until_ms).bind(rows_max).fetch_one(&mut *conn).await?;
    if size.ledger_rows == 0 && !is_known(conn, APPLIED, group).await? {
        return Ok(None);
    }
    Ok(Some(size))
}

/// `OFFSET 0` keeps the group outside, and with a second bound the planner counts on few positions: by the key of the group a plan
/// for any values would read all entries of a large group.
const HAS_ENTRY_AFTER: &str = r"
SELECT EXISTS (SELECT FROM (SELECT sdk_app_id, group_id FROM ledger
                             WHERE position > $3 AND position <= 9223372036854775807 OFFSET 0) l
                WHERE l.sdk_app_id = $1 AND l.group_id = $2)";

/// True where an entry about the group stands behind a position of the feed: one that came later, or has moved there.
///
/// # Errors
/// Those of the connection and the database.
pub async fn has_entry_after(
    conn: &mut PgConnection,
    group: &GroupKey,
    position: i64,
) -> Result<bool, sqlx::Error> {
    let query = sqlx::query_scalar(HAS_ENTRY_AFTER).bind(group.app.get()).bind(group.group.as_str());
    query.bind(position).fetch_one(conn).await
}

/// In no order: a fold needs none.
const UNTIL: &str = r"
SELECT sdk_app_id, group_id, time_ms, digest, command, query_command,
       ledger_request_id(request_id, odd_values) AS request_id,
       round(extract(epoch FROM received_at) * 1000)::bigint AS received_ms, source, outcome, reason, causes, body
  FROM ledger
 WHERE sdk_app_id = $1 AND group_id = $2 AND time_ms <= $3 AND outcome <> 'parked'";

/// All that was applied up to and with a moment (Unix milliseconds), as it comes from the server. Ask for the
/// [`size_until`] first, in the same snapshot.
pub fn until<'a>(
    conn: &'a mut PgConnection,
    group: &'a GroupKey,
    until_ms: i64,
) -> BoxStream<'a, Result<LedgerRow, sqlx::Error>> {
    let query = sqlx::query_as(UNTIL).bind(group.app.get()).bind(group.group.as_str());
    query.bind(until_ms).fetch(conn)
}
