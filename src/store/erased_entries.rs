//! Entries of the ledger that name a person who is to be erased: found by a walk over the app in the order of the key, and
//! written with a pseudonym in the place of the id.
//!
//! No index serves the walk, because an id may stand anywhere in a body. The server looks for the bytes of the id, and for a
//! backslash, which may escape it; which of these entries name the person is decided by the caller, as is what they become.
//! A statement looks through a window of entries, so that none holds a snapshot for long, and answers a page. What is
//! written keeps key, digest and position. The statements work on the connection they are given.

use sqlx::{AssertSqlSafe, FromRow, PgConnection};

use super::ledger::{LedgerRow, NewEntry};
use super::people::{self, LedgerKey, rows_of};
use super::query_columns::QueryColumns;
use crate::mirror::People;
use crate::model::{GroupId, SdkAppId, UserId, storable};

/// How many entries a statement looks through.
const WINDOW: i64 = 20_000;

/// How many entries a page has at most; a body has at most 1 MiB.
const PAGE_ROWS: i64 = 64;

/// An entry with everything of it that may name a person.
#[derive(Debug, Clone, FromRow)]
pub struct NamingEntry {
    /// What a replay reads of it.
    #[sqlx(flatten)]
    pub row: LedgerRow,
    /// The query as it came, without its signature.
    pub query: Option<String>,
    /// The address of the client.
    pub client_ip: Option<String>,
    /// Who did it.
    pub operator: Option<String>,
    /// The first of those whom it is about.
    pub users: Option<Vec<String>>,
}

/// The place of an entry in the ledger of an app: group, time, digest.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, FromRow)]
pub struct EntryPlace {
    group_id: String,
    time_ms: i64,
    digest: Vec<u8>,
}

impl EntryPlace {
    /// Before every entry of a group.
    #[must_use]
    pub fn before_group(group: &str) -> Self {
        Self { group_id: group.to_owned(), time_ms: i64::MIN, digest: Vec::new() }
    }

    /// Behind every entry of a group.
    #[must_use]
    pub fn behind_group(group: &str) -> Self {
        // No time is this late.
        Self { group_id: group.to_owned(), time_ms: i64::MAX, digest: Vec::new() }
    }

    /// Of an entry.
    #[must_use]
    pub fn of(row: &LedgerRow) -> Self {
        Self { group_id: row.group_id.clone(), time_ms: row.time_ms, digest: row.digest.clone() }
    }
}

const COLUMNS: &str = "
SELECT sdk_app_id, group_id, time_ms, digest, command, query_command,
       ledger_request_id(request_id, odd_values) AS request_id,
       round(extract(epoch FROM received_at) * 1000)::bigint AS received_ms, source, outcome, reason, causes, body,
       query, ledger_client_ip(client_ip, odd_values) AS client_ip, operator, ledger_users(user_id, users) AS users
  FROM ledger";

/// True of every entry that names the user `$2`, and of some others. In a query a character may be escaped by `%`.
const MAY_NAME: &str = r"
   AND (position(convert_to($2, 'UTF8') IN body) > 0 OR position('\x5c'::bytea IN body) > 0
        OR operator = $2 OR user_id = $2 OR $2 = ANY (users) OR strpos(reason, $2) > 0
        OR strpos(query, $2) > 0 OR strpos(query, '%') > 0)";

const WINDOW_END: &str = "
SELECT group_id, time_ms, digest FROM ledger
 WHERE sdk_app_id = $1 AND (group_id, time_ms, digest) > ($2, $3, $4)
 ORDER BY group_id, time_ms, digest OFFSET $5 LIMIT 1";

/// A walk over the entries of an app.
#[derive(Debug)]
pub struct EntryWalk {
    app: SdkAppId,
    after: EntryPlace,
    window_end: Option<EntryPlace>,
    is_in_window: bool,
}

impl EntryWalk {
    /// From the first entry of the app on.
    #[must_use]
    pub fn of_app(app: SdkAppId) -> Self {
        Self { app, after: EntryPlace::before_group(""), window_end: None, is_in_window: false }
    }

    /// Goes on behind this place, if it is not there yet.
    pub fn skip_to(&mut self, place: EntryPlace) {
        if place > self.after {
            self.after = place;
        }
    }

    /// The next entries that may name the user, without those that surely do not; none at the end of the ledger.
    ///
    /// # Errors
    /// A statement's.
    pub async fn next(
        &mut self,
        conn: &mut PgConnection,
        user: &UserId,
    ) -> Result<Option<Vec<NamingEntry>>, sqlx::Error> {
        if !self.is_in_window {
            let EntryPlace { group_id, time_ms, digest } = &self.after;
            let query = sqlx::query_as(WINDOW_END).bind(self.app.get()).bind(group_id).bind(time_ms);
            self.window_end = query.bind(digest).bind(WINDOW).fetch_optional(&mut *conn).await?;
            self.is_in_window = true;
        }
        let end = self.window_end.as_ref();
        if end.is_some_and(|end| *end <= self.after) {
            // It was skipped over.
            self.is_in_window = false;
            return Ok(Some(Vec::new()));
        }
        let statement = format!(
            "{COLUMNS} WHERE sdk_app_id = $1 AND (group_id, time_ms, digest) > ($3, $4, $5)
   AND ($6::text IS NULL OR (group_id, time_ms, digest) <= ($6, $7, $8)){MAY_NAME}
 ORDER BY group_id, time_ms, digest LIMIT $9"
        );
        let query = sqlx::query_as(AssertSqlSafe(statement)).bind(self.app.get()).bind(user.as_str());
        let query = query.bind(&self.after.group_id).bind(self.after.time_ms).bind(&self.after.digest);
        let query = query
            .bind(end.map(|end| &*end.group_id))
            .bind(end.map(|end| end.time_ms))
            .bind(end.map(|end| &*end.digest));
        let page: Vec<NamingEntry> = query.bind(PAGE_ROWS).fetch_all(conn).await?;
        if page.len() == usize::try_from(PAGE_ROWS).unwrap_or(usize::MAX) {
            let last = page.last().map(|entry| EntryPlace::of(&entry.row));
            self.after = last.unwrap_or_else(|| unreachable!("a full page has a last entry"));
            return Ok(Some(page));
        }
        match self.window_end.take() {
            Some(end) => (self.after, self.is_in_window) = (end, false),
            None if page.is_empty() => return Ok(None),
            // What came meanwhile is looked at as well.
            None => self.after = page.last().map_or(self.after.clone(), |entry| EntryPlace::of(&entry.row)),
        }
        Ok(Some(page))
    }
}

/// The entries of a group after a place that may name the user, locked.
///
/// # Errors
/// The statement's.
pub async fn of_group(
    conn: &mut PgConnection,
    app: SdkAppId,
    user: &UserId,
    after: &EntryPlace,
) -> Result<Vec<NamingEntry>, sqlx::Error> {
    let statement = format!(
        "{COLUMNS} WHERE sdk_app_id = $1 AND group_id = $3 AND (time_ms, digest) > ($4, $5){MAY_NAME}
 ORDER BY time_ms, digest LIMIT $6 FOR UPDATE"
    );
    let query = sqlx::query_as(AssertSqlSafe(statement)).bind(app.get()).bind(user.as_str());
    let query = query.bind(&after.group_id).bind(after.time_ms).bind(&after.digest);
    query.bind(PAGE_ROWS).fetch_all(conn).await
}

/// What an entry becomes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ErasedEntry {
    /// Its body.
    pub body: Vec<u8>,
    /// Its query.
    pub query: Option<String>,
    /// Whether the address of its client stays.
    pub keeps_address: bool,
    /// Why it is parked, or what was skipped of it.
    pub reason: Option<String>,
}

/// The operator and the first users follow from the body, in which one id is replaced by one that was not there.
const WRITE: &str = "
UPDATE ledger l SET body = n.body, query = n.query, reason = n.reason,
       client_ip = CASE WHEN n.keeps_address THEN l.client_ip END,
       odd_values = CASE WHEN n.keeps_address THEN l.odd_values ELSE NULLIF(l.odd_values - 'ClientIP', '{}') END,
       operator = CASE WHEN l.operator = $9 THEN $10 ELSE l.operator END,
       user_id = CASE WHEN l.user_id = $9 THEN $10 ELSE l.user_id END, users = array_replace(l.users, $9, $10)
  FROM UNNEST($3::bigint[], $4::bytea[], $5::bytea[], $6::text[], $7::boolean[], $8::text[])
    AS n (time_ms, digest, body, query, keeps_address, reason)
 WHERE l.sdk_app_id = $1 AND l.group_id = $2 AND l.time_ms = n.time_ms AND l.digest = n.digest";

/// One statement, so that rows of the person and of the pseudonym, which an entry may both have, become one.
const RENAME_PEOPLE: &str = "
WITH gone AS (
    DELETE FROM ledger_people p USING UNNEST($3::bigint[], $4::bytea[]) AS e (time_ms, digest)
     WHERE p.sdk_app_id = $1 AND p.group_id = $2 AND p.user_id IN ($5, $6)
       AND p.time_ms = e.time_ms AND p.digest = e.digest
    RETURNING p.time_ms, p.digest, p.parts)
INSERT INTO ledger_people (sdk_app_id, group_id, user_id, time_ms, digest, parts)
SELECT $1, $2, $6, time_ms, digest, bit_or(parts) FROM gone GROUP BY time_ms, digest";

/// Writes entries of one group in the place of what they were, with whom they are about.
///
/// # Errors
/// A statement's.
pub async fn write(
    conn: &mut PgConnection,
    entries: &[(LedgerKey<'_>, ErasedEntry)],
    (user, pseudonym): (&UserId, &UserId),
) -> Result<(), sqlx::Error> {
    let Some(((app, group, ..), _)) = entries.first() else { return Ok(()) };
    assert!(entries.iter().all(|(key, _)| key.1 == *group), "entries of one group are written together");
    let times: Vec<i64> = entries.iter().map(|((_, _, time, _), _)| *time).collect();
    let digests: Vec<&[u8]> = entries.iter().map(|((.., digest), _)| *digest).collect();
    let query = sqlx::query(WRITE).bind(app).bind(group).bind(&times).bind(&digests);
    let query = query
        .bind(entries.iter().map(|(_, entry)| &entry.body[..]).collect::<Vec<_>>())
        .bind(entries.iter().map(|(_, entry)| entry.query.as_deref()).collect::<Vec<_>>())
        .bind(entries.iter().map(|(_, entry)| entry.keeps_address).collect::<Vec<_>>())
        .bind(entries.iter().map(|(_, entry)| entry.reason.as_deref()).collect::<Vec<_>>());
    let written = query.bind(user.as_str()).bind(pseudonym.as_str()).execute(&mut *conn).await?;
    assert_eq!(
        written.rows_affected(),
        entries.len() as u64,
        "the entries are locked, and stay where they are"
    );
    let query = sqlx::query(RENAME_PEOPLE).bind(app).bind(group).bind(&times).bind(&digests);
    query.bind(user.as_str()).bind(pseudonym.as_str()).execute(conn).await.map(drop)
}

const REPLACE: &str = "
UPDATE ledger SET body = $5, query = $6, client_ip = $7::inet, reason = $8,
       odd_values = NULLIF(COALESCE(odd_values, '{}') - 'ClientIP' || COALESCE($9::jsonb, '{}'), '{}')
 WHERE sdk_app_id = $1 AND group_id = $2 AND time_ms = $3 AND digest = $4";

/// Writes an entry without a person in the place of what it was, where it has come into the time of an erasure by an earlier
/// receipt. `before`: whom it was about.
///
/// # Errors
/// A statement's.
pub async fn replace(
    conn: &mut PgConnection,
    entry: &NewEntry<'_>,
    before: &People,
) -> Result<(), sqlx::Error> {
    let group = entry.group.map_or("", GroupId::as_str);
    let key: LedgerKey<'_> = (entry.app.get(), group, entry.time.get(), entry.digest.as_bytes());
    let query = sqlx::query(REPLACE).bind(key.0).bind(key.1).bind(key.2).bind(key.3).bind(entry.body);
    let address = QueryColumns::of(entry.client_ip, None, None);
    let query = query.bind(entry.query.as_deref()).bind(address.client_ip);
    let query = query.bind(entry.verdict.reason.as_deref().map(storable)).bind(address.odd_values);
    query.execute(&mut *conn).await?;
    people::set_shown(conn, key, &entry.people).await?;
    people::remove(conn, &rows_of(key, before).collect::<Vec<_>>()).await?;
    people::replace(conn, rows_of(key, &entry.people).collect()).await
}

/// What the last reads of the group said: they named the person.
const FORGET_READ: &str = "DELETE FROM group_read_digests WHERE sdk_app_id = $1 AND group_id = $2";

/// Makes the next reads of a group be compared with its rows.
///
/// # Errors
/// The statement's.
pub async fn forget_read(conn: &mut PgConnection, app: SdkAppId, group: &str) -> Result<(), sqlx::Error> {
    sqlx::query(FORGET_READ).bind(app.get()).bind(group).execute(conn).await.map(drop)
}

const STRAYS: &str = "
DELETE FROM ledger_people p
 WHERE p.sdk_app_id = $1 AND p.user_id = $2
   AND NOT EXISTS (SELECT FROM ledger l WHERE l.sdk_app_id = p.sdk_app_id AND l.group_id = p.group_id
                      AND l.time_ms = p.time_ms AND l.digest = p.digest)";

/// Deletes rows of a person whose entries are not there.
///
/// # Errors
/// The statement's.
pub async fn delete_strays(conn: &mut PgConnection, app: SdkAppId, user: &UserId) -> Result<(), sqlx::Error> {
    sqlx::query(STRAYS).bind(app.get()).bind(user.as_str()).execute(conn).await.map(drop)
}

/// A page of a list of members that is being read.
#[derive(Debug, Clone, PartialEq, Eq, FromRow)]
pub struct ListPage {
    group_id: String,
    page: i32,
    /// Where the page after this one begins, and as of when the list counts; JSON.
    pub mark: String,
    /// The members that the page added.
    pub answer: Vec<u8>,
}

const LIST_PAGES: &str = r"
SELECT group_id, page, mark, answer FROM list_pages
 WHERE sdk_app_id = $1 AND (group_id, page) > ($3, $4)
   AND (position(convert_to($2, 'UTF8') IN answer) > 0 OR position('\x5c'::bytea IN answer) > 0)
 ORDER BY group_id, page LIMIT 16";

/// Pages after one that may name the user.
///
/// # Errors
/// The statement's.
pub async fn list_pages(
    conn: &mut PgConnection,
    app: SdkAppId,
    user: &UserId,
    after: Option<&ListPage>,
) -> Result<Vec<ListPage>, sqlx::Error> {
    let (group, page) = after.map_or(("", -1), |page| (page.group_id.as_str(), page.page));
    let query = sqlx::query_as(LIST_PAGES).bind(app.get()).bind(user.as_str()).bind(group).bind(page);
    query.fetch_all(conn).await
}

const WRITE_LIST_PAGE: &str = "
UPDATE list_pages SET answer = $5 WHERE sdk_app_id = $1 AND group_id = $2 AND page = $3 AND answer = $4";

/// Writes a page in the place of what it was, unless it has changed.
///
/// # Errors
/// The statement's.
pub async fn write_list_page(
    conn: &mut PgConnection,
    app: SdkAppId,
    page: &ListPage,
    answer: &[u8],
) -> Result<(), sqlx::Error> {
    let query = sqlx::query(WRITE_LIST_PAGE).bind(app.get()).bind(&page.group_id).bind(page.page);
    let query = query.bind(&page.answer);
    query.bind(answer).execute(conn).await.map(drop)
}
