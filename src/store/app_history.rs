//! The ledger of an app over all its groups, newest first (keyset pagination): everything, or everything about one person.
//!
//! Reads only, on the connection it is given. The history of an app reads its index by time, that of a person the index of
//! `ledger_people`, and each entry by its key, so that a page costs the same however long the ledger and however busy the
//! person is. A page is bounded by rows, by bytes, because a body has up to 1 MiB, and with a filter that the index does not
//! serve by the rows it searches. Entries of one millisecond are sorted when they are read: neither index holds the digest.

use std::sync::LazyLock;

use sqlx::postgres::PgArguments;
use sqlx::{Arguments as _, AssertSqlSafe, FromRow, PgConnection};

use super::citus::Dialect;
use super::history::{HistoryRow, SEARCHED_ROWS_MAX, name_groups};
use super::read_pool::ReadConnection;
use super::{ledger_pages, prune};
use crate::mirror::{PersonPart, PersonParts};
use crate::model::{SdkAppId, UserId};

/// The key of an entry in the history of an app, by which pages are read.
#[derive(Debug, Clone, PartialEq, Eq, FromRow)]
pub struct AppHistoryKey {
    /// Its place in time, Unix milliseconds; newest first.
    pub time_ms: i64,
    /// Ties by digest; an empty one sorts before all.
    pub digest: Vec<u8>,
    /// Ties by group; empty where unknown.
    #[sqlx(rename = "group_id")]
    pub group: String,
}

/// Whose entries, and which of them. What is `None` does not filter.
#[derive(Debug, Clone)]
pub struct AppHistoryFilter {
    /// The app.
    pub app: SdkAppId,
    /// About this user alone.
    pub user: Option<UserId>,
    /// With a user: in this part alone.
    pub part: Option<PersonPart>,
    /// The command that counted.
    pub command: Option<String>,
    /// `applied`, `partial` or `parked`.
    pub outcome: Option<&'static str>,
    /// `callback` or `rest`.
    pub source: Option<&'static str>,
    /// Only later than this, Unix milliseconds.
    pub after_ms: i64,
    /// Only behind this key, which need not be one of an entry: an empty digest sorts before all of its millisecond.
    pub behind: AppHistoryKey,
}

impl AppHistoryFilter {
    /// Whether entries in the range may be left out, so that a page has to search for those it shows.
    fn searches(&self) -> bool {
        let is_narrow = self.command.is_some() || self.outcome.is_some() || self.source.is_some();
        is_narrow || self.user.is_some() && self.part.is_some()
    }
}

/// An entry, with what a person is in it.
#[derive(Debug, Clone, FromRow)]
pub struct AppHistoryRow {
    /// The entry.
    #[sqlx(flatten)]
    pub entry: HistoryRow,
    /// The sum of the parts of the user who was asked for; 0 without one.
    parts: i16,
}

impl AppHistoryRow {
    /// What the user who was asked for is in it; none without a user.
    #[must_use]
    pub fn parts(&self) -> PersonParts {
        PersonParts::of_stored(self.parts)
    }

    fn key(&self) -> AppHistoryKey {
        let row = &self.entry.row;
        AppHistoryKey { time_ms: row.time_ms, digest: row.digest.clone(), group: row.group_id.clone() }
    }
}

/// A page.
#[derive(Debug, Clone)]
pub struct AppHistoryPage {
    /// Newest first.
    pub rows: Vec<AppHistoryRow>,
    /// Behind which key the history goes on; `None` where it does not.
    pub next: Option<AppHistoryKey>,
    /// From when on the history is whole, Unix milliseconds; none: from the first entry on.
    pub whole_since: Option<i64>,
}

/// The last key of an app that a page may search and, as a second row, whether there is another one behind it. The index by
/// time holds `sdk_app_id + 0` and `time_ms + 0`, so that no other statement uses it; the time itself tells the planner which
/// partitions it can leave out, here and below.
const SEARCH_END_OF_APP: &str = r"
SELECT time_ms, digest, group_id FROM ledger
 WHERE sdk_app_id + 0 = $1 AND time_ms + 0 > $2 AND (time_ms + 0, digest, group_id) < ($3, $4, $5)
   AND time_ms > $2 AND time_ms <= $3
 ORDER BY time_ms + 0 DESC, digest DESC, group_id DESC
OFFSET $6 LIMIT 2";

/// The same of a user.
const SEARCH_END_OF_USER: &str = r"
SELECT time_ms, digest, group_id FROM ledger_people
 WHERE sdk_app_id = $1 AND user_id = $7 AND time_ms > $2 AND time_ms <= $3 AND (time_ms, digest, group_id) < ($3, $4, $5)
 ORDER BY time_ms DESC, digest DESC, group_id DESC
OFFSET $6 LIMIT 2";

/// The entries of an app in a range of keys. The limit keeps the other filters out of the choice of an index, and lets the
/// planner know that no more rows are wanted: it would rather read and sort a whole ledger than walk an index to its end. It is
/// twice what a page searches ([`SEARCHED_ROWS_MAX`]), with room for rows that come between the statements.
const ENTRIES_OF_APP: &str = r"
                       (SELECT *, time_ms + 0 AS at, 0::smallint AS parts FROM ledger
                         WHERE sdk_app_id + 0 = $1 AND time_ms + 0 > $2 AND (time_ms + 0, digest, group_id) < ($3, $4, $5)
                           AND time_ms > $2 AND time_ms <= $3 AND time_ms >= COALESCE($6, $2)
                           AND ($6::bigint IS NULL OR (time_ms + 0, digest, group_id) >= ($6, $7, $8))
                         ORDER BY time_ms + 0 DESC, digest DESC, group_id DESC
                        LIMIT 4002) r
                 WHERE true";

/// The entries about a user, each read by its key: without `OFFSET 0` a planner that knows nothing of a new table reads all of
/// it instead. What is ordered by comes from the index of people, whose order is that of the page. A row whose entry is not
/// there is left out.
const ENTRIES_OF_USER: &str = r"
                       (SELECT k.sdk_app_id, k.group_id, k.time_ms, k.digest, k.time_ms AS at, k.parts, l.command,
                               l.query_command, l.request_id, l.received_at, l.outcome, l.reason, l.causes, l.body,
                               l.event_time_ms, l.source, l.client_ip, l.platform, l.odd_values
                          FROM (SELECT * FROM ledger_people
                                 WHERE sdk_app_id = $1 AND user_id = $14 AND time_ms > $2 AND time_ms <= $3
                                   AND time_ms >= COALESCE($6, $2)
                                   AND (time_ms, digest, group_id) < ($3, $4, $5)
                                   AND ($6::bigint IS NULL OR (time_ms, digest, group_id) >= ($6, $7, $8))
                                 ORDER BY time_ms DESC, digest DESC, group_id DESC
                                LIMIT 4002) k
                         CROSS JOIN LATERAL
                               (SELECT * FROM ledger e
                                 WHERE e.sdk_app_id = k.sdk_app_id AND e.group_id = k.group_id
                                   AND e.time_ms = k.time_ms AND e.digest = k.digest
                                OFFSET 0) l
                         WHERE $15::smallint IS NULL OR k.parts & $15 <> 0) r
                 WHERE true";

/// The same by one join, for a server that takes nothing else.
const ENTRIES_OF_USER_ON_CITUS: &str = r"
                       (SELECT k.sdk_app_id, k.group_id, k.time_ms, k.digest, k.time_ms AS at, k.parts, l.command,
                               l.query_command, l.request_id, l.received_at, l.outcome, l.reason, l.causes, l.body,
                               l.event_time_ms, l.source, l.client_ip, l.platform, l.odd_values
                          FROM ledger_people k
                          JOIN ledger l ON l.sdk_app_id = k.sdk_app_id AND l.group_id = k.group_id
                                       AND l.time_ms = k.time_ms AND l.digest = k.digest
                         WHERE k.sdk_app_id = $1 AND k.user_id = $14 AND k.time_ms > $2 AND k.time_ms <= $3
                           AND k.time_ms >= COALESCE($6, $2)
                           AND (k.time_ms, k.digest, k.group_id) < ($3, $4, $5)
                           AND ($6::bigint IS NULL OR (k.time_ms, k.digest, k.group_id) >= ($6, $7, $8))
                           AND ($15::smallint IS NULL OR k.parts & $15 <> 0)
                         ORDER BY k.time_ms DESC, k.digest DESC, k.group_id DESC
                        LIMIT 4002) r
                 WHERE true";

/// The entries are chosen first and then cut where the bodies before them reach the limit, so that the bodies of the rest
/// are never fetched: their length stands beside the pointer to them. The first one always passes.
fn page_statement(entries: &str) -> String {
    format!(
        "
SELECT sdk_app_id, group_id, time_ms, digest, command, query_command,
       ledger_request_id(request_id, odd_values) AS request_id,
       round(extract(epoch FROM received_at) * 1000)::bigint AS received_ms, outcome, reason, causes, body,
       event_time_ms, source,
       ledger_client_ip(client_ip, odd_values) AS client_ip, ledger_platform(platform, odd_values) AS platform, parts, chosen
  FROM (SELECT c.*, count(*) OVER () AS chosen,
               sum(octet_length(body)) OVER (ORDER BY at DESC, digest DESC, group_id DESC)
                 - octet_length(body) AS bytes_before
          FROM (SELECT * FROM {entries}
                   AND ($9::text IS NULL OR command = $9)
                   AND ($10::text IS NULL OR outcome = $10)
                   AND ($11::text IS NULL OR source = $11)
                 ORDER BY at DESC, digest DESC, group_id DESC
                 LIMIT $12) c) p
 WHERE bytes_before < $13
 ORDER BY at DESC, digest DESC, group_id DESC"
    )
}

static PAGE_OF_APP: LazyLock<String> = LazyLock::new(|| page_statement(ENTRIES_OF_APP));
static PAGE_OF_USER: LazyLock<String> = LazyLock::new(|| page_statement(ENTRIES_OF_USER));
static PAGE_OF_USER_ON_CITUS: LazyLock<String> = LazyLock::new(|| page_statement(ENTRIES_OF_USER_ON_CITUS));

#[derive(FromRow)]
struct ChosenEntry {
    #[sqlx(flatten)]
    row: AppHistoryRow,
    chosen: i64,
}

/// The newest entries that match: at most `rows_max` of them, none after `bytes_max` bytes of bodies, and with a filter that
/// the index does not serve none behind [`SEARCHED_ROWS_MAX`] rows.
///
/// # Errors
/// Those of the connection and the database.
pub async fn page(
    conn: &mut ReadConnection,
    filter: &AppHistoryFilter,
    rows_max: usize,
    bytes_max: i64,
) -> Result<AppHistoryPage, sqlx::Error> {
    let dialect = conn.dialect();
    let mut snapshot = ledger_pages::begin(conn).await?;
    let end = if filter.searches() { search_end(&mut snapshot, filter).await? } else { None };
    let values = page_values(filter, end.as_ref(), rows_max, bytes_max)?;
    let mut found: Vec<ChosenEntry> = sqlx::query_as_with(AssertSqlSafe(statement(filter, dialect)), values)
        .fetch_all(&mut *snapshot)
        .await?;
    name_groups(&mut snapshot, found.iter_mut().map(|chosen| &mut chosen.row.entry)).await?;
    let whole_since = prune::whole_since(&mut snapshot).await?;
    snapshot.rollback().await?;
    let chosen = found.first().map_or(0, |row| usize::try_from(row.chosen).unwrap_or_default());
    let mut rows: Vec<AppHistoryRow> = found.into_iter().map(|chosen| chosen.row).collect();
    // Nothing but the door keeps a row of the index from being there twice.
    rows.dedup_by(|later, first| later.key() == first.key());
    rows.truncate(rows_max);
    assert!(rows.len() <= chosen, "a page shows rows that were chosen");
    let cut = rows.last().filter(|_| rows.len() < chosen).map(AppHistoryRow::key);
    Ok(AppHistoryPage { next: cut.or(end), rows, whole_since })
}

/// How the database would go about a page, as `EXPLAIN` with these options says it; for tests.
///
/// # Errors
/// The statement's.
pub async fn explain(
    conn: &mut PgConnection,
    options: &str,
    filter: &AppHistoryFilter,
    rows_max: usize,
) -> Result<String, sqlx::Error> {
    let mut snapshot = ledger_pages::begin(conn).await?;
    let conn = &mut *snapshot;
    let end = if filter.searches() { search_end(conn, filter).await? } else { None };
    let values = page_values(filter, end.as_ref(), rows_max, i64::MAX)?;
    let explained = AssertSqlSafe(format!("EXPLAIN ({options}) {}", statement(filter, Dialect::Plain)));
    let mut lines: Vec<String> = sqlx::query_scalar_with(explained, values).fetch_all(&mut *conn).await?;
    let explained = AssertSqlSafe(format!("EXPLAIN ({options}) {}", search_end_statement(filter)));
    let values = search_end_values(filter)?;
    let search: Vec<String> = sqlx::query_scalar_with(explained, values).fetch_all(conn).await?;
    lines.extend(search.into_iter().filter(|_| filter.searches()));
    Ok(lines.join("\n"))
}

fn statement(filter: &AppHistoryFilter, dialect: Dialect) -> &'static str {
    match (filter.user.is_some(), dialect) {
        (false, _) => &PAGE_OF_APP,
        (true, Dialect::Plain) => &PAGE_OF_USER,
        (true, Dialect::Citus) => &PAGE_OF_USER_ON_CITUS,
    }
}

fn search_end_statement(filter: &AppHistoryFilter) -> &'static str {
    if filter.user.is_some() { SEARCH_END_OF_USER } else { SEARCH_END_OF_APP }
}

/// The last key that a page searches; `None` where no entry is behind it.
async fn search_end(
    conn: &mut PgConnection,
    filter: &AppHistoryFilter,
) -> Result<Option<AppHistoryKey>, sqlx::Error> {
    let query = sqlx::query_as_with(search_end_statement(filter), search_end_values(filter)?);
    let last: Vec<AppHistoryKey> = query.fetch_all(conn).await?;
    Ok(if last.len() > 1 { last.into_iter().next() } else { None })
}

fn search_end_values(filter: &AppHistoryFilter) -> Result<PgArguments, sqlx::Error> {
    let AppHistoryKey { time_ms, digest, group } = &filter.behind;
    let mut values = PgArguments::default();
    let mut added = vec![
        values.add(filter.app.get()),
        values.add(filter.after_ms),
        values.add(*time_ms),
        values.add(digest),
        values.add(group),
        values.add(i64::try_from(SEARCHED_ROWS_MAX - 1).unwrap_or(i64::MAX)),
    ];
    added.extend(filter.user.as_ref().map(|user| values.add(user.as_str())));
    added.into_iter().collect::<Result<(), _>>().map_err(sqlx::Error::Encode)?;
    Ok(values)
}

/// The values of a page; `end` is the last key that it may search.
fn page_values(
    filter: &AppHistoryFilter,
    end: Option<&AppHistoryKey>,
    rows_max: usize,
    bytes_max: i64,
) -> Result<PgArguments, sqlx::Error> {
    let AppHistoryKey { time_ms, digest, group } = &filter.behind;
    let one_more = i64::try_from(rows_max).unwrap_or(i64::MAX).saturating_add(1);
    let mut values = PgArguments::default();
    let mut added = vec![
        values.add(filter.app.get()),
        values.add(filter.after_ms),
        values.add(*time_ms),
        values.add(digest),
        values.add(group),
        values.add(end.map(|end| end.time_ms)),
        values.add(end.map(|end| end.digest.as_slice())),
        values.add(end.map(|end| end.group.as_str())),
        values.add(filter.command.as_deref()),
        values.add(filter.outcome),
        values.add(filter.source),
        values.add(one_more),
        values.add(bytes_max),
    ];
    if let Some(user) = &filter.user {
        added.push(values.add(user.as_str()));
        added.push(values.add(filter.part.map(PersonPart::stored)));
    }
    added.into_iter().collect::<Result<(), _>>().map_err(sqlx::Error::Encode)?;
    Ok(values)
}
