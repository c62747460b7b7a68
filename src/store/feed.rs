//! The ledger as a feed: which ledger it is, whether it still has the entry that a cursor names, and pages of entries in
//! the order of `position`.
//!
//! A [`FeedPlace`] names a position together with the digest of the entry there, so that a ledger which has become
//! shorter and has grown again (a backup, a standby that took over) is recognised. No function is needed that managed
//! servers withhold. How far a reader may go is the matter of `high_watermark`.
//!
//! A page with a filter searches a limited number of positions and says how far it came, so that a filter which finds
//! nothing costs a bounded read and still leads on. Reads only, on the connection it is given, but for [`advance`].

use chrono::{DateTime, Utc};
use sqlx::postgres::PgArguments;
use sqlx::{Arguments as _, AssertSqlSafe, FromRow, PgConnection};

use super::group_names::GroupNames;
use crate::model::{GroupId, SdkAppId};

/// How many positions one page with a filter, be it the app alone, searches. Other entries may have all of them.
const SEARCHED_MAX: i64 = 20_000;

/// The longest command that is shown whole, in characters; Tencent's have some fifty. One that is parked may have any
/// length, and each follower gets it.
pub const COMMAND_CHARS_MAX: usize = 256;

/// What stands behind a command that was cut.
const CUT: char = '…';

/// A place in the feed: behind the entry at a position.
#[derive(Debug, Clone, PartialEq, Eq, FromRow)]
pub struct FeedPlace {
    /// Of the entry; 0: before the first one.
    pub position: i64,
    /// The first bytes of its digest, in hex; empty before the first one.
    pub digest: String,
}

impl FeedPlace {
    /// Before the first entry.
    #[must_use]
    pub const fn start() -> Self {
        Self { position: 0, digest: String::new() }
    }

    /// The one of the two that is further on.
    #[must_use]
    pub fn or_later(self, other: &Self) -> Self {
        if other.position > self.position { other.clone() } else { self }
    }
}

/// A ledger entry as the feed shows it.
#[derive(Debug, Clone, FromRow)]
pub struct ChangeRow {
    /// Behind this entry.
    #[sqlx(flatten)]
    pub place: FeedPlace,
    /// The app.
    pub sdk_app_id: i64,
    /// The group; empty where unknown.
    pub group_id: String,
    /// The command that counted, cut after [`COMMAND_CHARS_MAX`].
    pub command: String,
    /// Event time as sent, Unix milliseconds.
    pub event_time_ms: Option<i64>,
    /// Time of first receipt.
    pub received_at: DateTime<Utc>,
    /// `callback` or `rest`.
    pub source: String,
    /// `applied`, `partial` or `parked`.
    pub outcome: String,
    /// Who did it.
    pub operator: Option<String>,
    /// The first of those it happened to.
    pub users: Option<Vec<String>>,
    /// How many these are in all.
    pub user_count: i32,
    /// The name that the group has now, cut as the command is.
    #[sqlx(default)]
    pub group_name: Option<String>,
}

/// Which entries a reader of the feed wants. The parts that are there must all fit.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FeedFilter {
    /// Of this app.
    pub app: Option<SdkAppId>,
    /// About this group.
    pub group: Option<GroupId>,
    /// Of this command, whole; not longer than [`COMMAND_CHARS_MAX`].
    pub command: Option<String>,
    /// With this outcome.
    pub outcome: Option<String>,
    /// Received later than this.
    pub after: Option<DateTime<Utc>>,
    /// Received earlier than this.
    pub before: Option<DateTime<Utc>>,
}

impl FeedFilter {
    /// Every entry of every app.
    pub const ALL: Self =
        Self { app: None, group: None, command: None, outcome: None, after: None, before: None };

    /// Whether an entry fits; the twin of the condition in [`PAGE`]. A command that was cut is longer than any in a
    /// filter, and fits none.
    #[must_use]
    pub fn fits(&self, row: &ChangeRow) -> bool {
        self.app.is_none_or(|app| app.get() == row.sdk_app_id)
            && self.group.as_ref().is_none_or(|group| group.as_str() == row.group_id)
            && self.command.as_ref().is_none_or(|command| *command == row.command)
            && self.outcome.as_ref().is_none_or(|outcome| *outcome == row.outcome)
            && self.after.is_none_or(|after| row.received_at > after)
            && self.before.is_none_or(|before| row.received_at < before)
    }
}

/// What the migration wrote, with the numbers of database and table, which loading a dump makes anew.
const EPOCH: &str = "
SELECT left(encode(sha256(convert_to(concat_ws('/', f.epoch, d.oid, 'ledger'::regclass::oid), 'UTF8')), 'hex'), 16)
  FROM feed f, pg_database d WHERE d.datname = current_database()";

/// A name for this ledger. It is another one in every database and after loading a dump. A copy of the files and a
/// standby have the same: there [`holds`] says whether an entry is where it was.
///
/// # Errors
/// The statement's.
pub async fn epoch(conn: &mut PgConnection) -> Result<String, sqlx::Error> {
    sqlx::query_scalar(EPOCH).fetch_one(conn).await
}

/// An entry that has moved on, or was dropped as a repeat, has left a note.
const HOLDS: &str = "
SELECT p.position <= $1
   AND (EXISTS (SELECT FROM ledger WHERE position = $1 AND encode(substr(digest, 1, 4), 'hex') = $2)
        OR EXISTS (SELECT FROM ledger_moves WHERE position = $1 AND encode(substr(digest, 1, 4), 'hex') = $2)
        OR (p.position = $1 AND p.position_digest = $2))
  FROM prune_state p WHERE p.only_row";

/// True where the ledger has the entry of a place there, or had it until the entry moved to the end, or was the last one that was
/// pruned. False: it is another ledger, or a shorter one, or entries behind the place were pruned.
///
/// # Errors
/// The statement's.
pub async fn holds(conn: &mut PgConnection, place: &FeedPlace) -> Result<bool, sqlx::Error> {
    if *place == FeedPlace::start() {
        return Ok(true);
    }
    sqlx::query_scalar(HOLDS).bind(place.position).bind(&place.digest).fetch_one(conn).await
}

const DROPPED: &str = "SELECT position, position_digest AS digest FROM prune_state WHERE only_row";

/// The last place from which an entry was pruned; the start where there is none.
///
/// # Errors
/// The statement's.
pub async fn dropped(conn: &mut PgConnection) -> Result<FeedPlace, sqlx::Error> {
    let place: Option<FeedPlace> = sqlx::query_as(DROPPED).fetch_optional(conn).await?;
    Ok(place.unwrap_or(FeedPlace::start()))
}

const ADVANCE: &str = "
SELECT setval('ledger_position_seq', n.newest)
  FROM (SELECT max(position) AS newest FROM ledger) n, ledger_position_seq s
 WHERE n.newest > CASE WHEN s.is_called THEN s.last_value ELSE 0 END";

/// Moves the sequence behind the newest entry, where it is not: rows that were copied into the table, or came by
/// logical replication, bring their numbers and leave the sequence where it was.
///
/// # Errors
/// The statement's.
pub async fn advance(conn: &mut PgConnection) -> Result<(), sqlx::Error> {
    sqlx::query(ADVANCE).execute(conn).await.map(drop)
}

/// The last entry up to a position, of whatever app; or the last one that was pruned.
const PLACE_AT: &str = "
SELECT position, digest
  FROM ((SELECT position, encode(substr(digest, 1, 4), 'hex') AS digest
           FROM ledger WHERE position <= $1 ORDER BY position DESC LIMIT 1)
        UNION ALL
        SELECT position, position_digest FROM prune_state WHERE only_row AND position <= $1) p
 ORDER BY position DESC LIMIT 1";

/// The place of the last entry up to and with a position.
///
/// # Errors
/// The statement's.
pub(super) async fn place_at(conn: &mut PgConnection, position: i64) -> Result<FeedPlace, sqlx::Error> {
    let place: Option<FeedPlace> = sqlx::query_as(PLACE_AT).bind(position).fetch_optional(conn).await?;
    Ok(place.unwrap_or(FeedPlace::start()))
}

const NEXT: &str = "SELECT COALESCE(min(position), $2) FROM ledger WHERE position > $1";

/// `OFFSET 0` keeps the filter outside, so that the positions are read in their order and as many as were asked for:
/// by the key of the group all entries of a large group would be read for each page. Entries that share a position,
/// which copied rows may, stay together: a page goes on behind a position.
const PAGE: &str = "
SELECT l.position, encode(substr(l.digest, 1, 4), 'hex') AS digest, l.sdk_app_id, l.group_id,
       left(l.command, $8) AS command, l.event_time_ms, l.received_at, l.source, l.outcome, l.operator,
       ledger_users(l.user_id, l.users) AS users, ledger_user_count(l.user_count, l.user_id, l.users) AS user_count
  FROM (SELECT * FROM ledger WHERE position > $1 AND position <= $2 ORDER BY position OFFSET 0) l
 WHERE ($3::bigint IS NULL OR l.sdk_app_id = $3) AND ($4::text IS NULL OR l.group_id = $4)
   AND ($5::text IS NULL OR l.command = $5) AND ($6::text IS NULL OR l.outcome = $6)
   AND ($9::timestamptz IS NULL OR l.received_at > $9) AND ($10::timestamptz IS NULL OR l.received_at < $10)
 ORDER BY l.position FETCH FIRST ($7) ROWS WITH TIES";

/// Entries after one place, up to and with another, that fit a filter: at most `limit` and those that share the position
/// of the last one; and the place up to which was searched, which with a filter may be earlier, and never lies before
/// `after`.
///
/// # Errors
/// A statement's.
pub async fn page(
    conn: &mut PgConnection,
    after: &FeedPlace,
    high_watermark: &FeedPlace,
    filter: &FeedFilter,
    limit: i64,
) -> Result<(Vec<ChangeRow>, FeedPlace), sqlx::Error> {
    let mut last = high_watermark.position;
    if *filter != FeedFilter::ALL && after.position.saturating_add(SEARCHED_MAX) < last {
        // From the next entry, not from `after`: there may be none for longer than that.
        let next = sqlx::query_scalar(NEXT).bind(after.position).bind(last);
        let next: i64 = next.fetch_one(&mut *conn).await?;
        last = last.min(next.saturating_add(SEARCHED_MAX));
    }
    let query = sqlx::query_as_with(PAGE, bound(after, last, filter, limit)?);
    let mut rows: Vec<ChangeRow> = query.fetch_all(&mut *conn).await?;
    let groups = rows.iter().map(|row| (row.sdk_app_id, row.group_id.as_str()));
    let names =
        GroupNames::of(&mut *conn, groups, i32::try_from(COMMAND_CHARS_MAX + 1).unwrap_or(i32::MAX)).await?;
    for row in &mut rows {
        cut(&mut row.command);
        row.group_name = names.name(row.sdk_app_id, &row.group_id);
        row.group_name.iter_mut().for_each(cut);
    }
    assert!(
        rows.iter().all(|row| (after.position + 1..=last).contains(&row.place.position)),
        "a page lies between its ends"
    );
    // An entry may move away between two statements.
    let searched =
        if last < high_watermark.position { place_at(conn, last).await? } else { high_watermark.clone() };
    Ok((rows, searched.or_later(after)))
}

/// How the database would go about a page of entries between two positions, as `EXPLAIN` says it; for tests.
///
/// # Errors
/// The statement's.
pub async fn plan(
    conn: &mut PgConnection,
    after: &FeedPlace,
    last: i64,
    filter: &FeedFilter,
    limit: i64,
) -> Result<String, sqlx::Error> {
    let statement = AssertSqlSafe(format!("EXPLAIN {PAGE}"));
    let query = sqlx::query_scalar_with(statement, bound(after, last, filter, limit)?);
    let lines: Vec<String> = query.fetch_all(conn).await?;
    Ok(lines.join("\n"))
}

/// The values of [`PAGE`].
fn bound(after: &FeedPlace, last: i64, filter: &FeedFilter, limit: i64) -> Result<PgArguments, sqlx::Error> {
    let mut values = PgArguments::default();
    let added = [
        values.add(after.position),
        values.add(last),
        values.add(filter.app.map(SdkAppId::get)),
        values.add(filter.group.as_ref().map(GroupId::as_str)),
        values.add(filter.command.as_deref()),
        values.add(filter.outcome.as_deref()),
        values.add(limit),
        values.add(i32::try_from(COMMAND_CHARS_MAX + 1).unwrap_or(i32::MAX)),
        values.add(filter.after),
        values.add(filter.before),
    ];
    added.into_iter().collect::<Result<(), _>>().map_err(sqlx::Error::Encode)?;
    Ok(values)
}

/// Cuts a text that is longer than a feed shows, and marks it.
fn cut(text: &mut String) {
    if let Some((end, _)) = text.char_indices().nth(COMMAND_CHARS_MAX) {
        text.truncate(end);
        text.push(CUT);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_cut_between_characters_and_marked_and_one_at_the_limit_is_whole() {
        for mark in ['x', 'é', '界', '🦀'] {
            let whole: String = std::iter::repeat_n(mark, COMMAND_CHARS_MAX).collect();
            let mut shown = whole.clone();
            cut(&mut shown);
            assert_eq!(shown, whole);
            shown.push(mark);
            cut(&mut shown);
            assert_eq!(shown, format!("{whole}…"));
        }
    }
}
