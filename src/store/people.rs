//! Whom the entries of the ledger are about, one row for each user of an entry: the index of a person's history.
//!
//! Rows are written by the door of the ledger, in the transaction of their entry, and follow it where its key changes. What
//! they say is made of the bytes of the entry by `mirror`; replay compares and mends them. A row whose entry is not there
//! shows no entry, because every read of entries joins the two. The statements work on the connection they are given.

use sqlx::postgres::PgArguments;
use sqlx::{Arguments as _, FromRow, PgConnection};

use super::partitions::TimeSpan;
use crate::mirror::{People, PersonParts};
use crate::model::UserId;

/// A row, borrowed from what it is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct PersonRow<'a> {
    /// The app.
    pub app: i64,
    /// The user.
    pub user: &'a str,
    /// Of the entry.
    pub time_ms: i64,
    /// Of the entry.
    pub digest: &'a [u8],
    /// Of the entry; empty where unknown.
    pub group: &'a str,
    /// What the user is in it.
    pub parts: PersonParts,
}

/// A user in an entry, whatever the parts: app, user, time in Unix milliseconds, digest, group.
pub type PersonKey<'a> = (i64, &'a str, i64, &'a [u8], &'a str);

impl<'a> PersonRow<'a> {
    /// Which user in which entry.
    #[must_use]
    pub fn key(&self) -> PersonKey<'a> {
        (self.app, self.user, self.time_ms, self.digest, self.group)
    }
}

/// The key of an entry, borrowed: app, group, time in Unix milliseconds, digest.
pub type LedgerKey<'a> = (i64, &'a str, i64, &'a [u8]);

/// The rows of an entry.
pub fn rows_of<'a>(key: LedgerKey<'a>, people: &'a People) -> impl Iterator<Item = PersonRow<'a>> {
    let (app, group, time_ms, digest) = key;
    let row = move |(user, parts): (&'a UserId, &PersonParts)| PersonRow {
        app,
        user: user.as_str(),
        time_ms,
        digest,
        group,
        parts: *parts,
    };
    people.parts.iter().map(row)
}

/// The keys of rows, a column each: app, user, time, digest, group.
fn keys(rows: &[PersonRow<'_>]) -> Result<PgArguments, sqlx::Error> {
    let mut columns = PgArguments::default();
    let added = [
        columns.add(rows.iter().map(|row| row.app).collect::<Vec<_>>()),
        columns.add(rows.iter().map(|row| row.user).collect::<Vec<_>>()),
        columns.add(rows.iter().map(|row| row.time_ms).collect::<Vec<_>>()),
        columns.add(rows.iter().map(|row| row.digest).collect::<Vec<_>>()),
        columns.add(rows.iter().map(|row| row.group).collect::<Vec<_>>()),
    ];
    added.into_iter().collect::<Result<(), _>>().map_err(sqlx::Error::Encode)?;
    Ok(columns)
}

/// The same, and the parts.
pub(super) fn with_parts(rows: &[PersonRow<'_>]) -> Result<PgArguments, sqlx::Error> {
    let mut columns = keys(rows)?;
    let parts: Vec<i16> = rows.iter().map(|row| row.parts.stored()).collect();
    columns.add(parts).map_err(sqlx::Error::Encode)?;
    Ok(columns)
}

/// Sorted by the caller in the order of the index, so that the rows of one user go to one page of it.
const INSERT: &str = r"
INSERT INTO ledger_people (sdk_app_id, user_id, time_ms, digest, group_id, parts)
SELECT * FROM UNNEST($1::bigint[], $2::text[], $3::bigint[], $4::bytea[], $5::text[], $6::smallint[])";

/// Enters the rows of entries that are new.
///
/// # Errors
/// The statement's.
pub async fn insert(conn: &mut PgConnection, mut rows: Vec<PersonRow<'_>>) -> Result<(), sqlx::Error> {
    if rows.is_empty() {
        return Ok(());
    }
    rows.sort_unstable();
    sqlx::query_with(INSERT, with_parts(&rows)?).execute(conn).await.map(drop)
}

const REMOVE: &str = r"
DELETE FROM ledger_people p
 USING UNNEST($1::bigint[], $2::text[], $3::bigint[], $4::bytea[], $5::text[])
    AS gone (app, user_id, time_ms, digest, group_id)
 WHERE p.sdk_app_id = gone.app AND p.user_id = gone.user_id AND p.time_ms = gone.time_ms
   AND p.digest = gone.digest AND p.group_id = gone.group_id";

/// Deletes rows, whatever parts they say.
///
/// # Errors
/// The statement's.
pub async fn remove(conn: &mut PgConnection, rows: &[PersonRow<'_>]) -> Result<(), sqlx::Error> {
    if rows.is_empty() {
        return Ok(());
    }
    sqlx::query_with(REMOVE, keys(rows)?).execute(conn).await.map(drop)
}

/// The user who stands beside an entry, where it is one.
pub(super) fn shown_alone(people: &People) -> Option<&str> {
    people.users.first().filter(|_| people.users.len() == 1).map(UserId::as_str)
}

/// The users that stand beside an entry, where they are several, as the literal of an array: an array of arrays cannot be
/// handed over.
pub(super) fn shown(people: &People) -> Option<String> {
    let quoted = |user: &UserId| format!("\"{}\"", user.as_str().replace('\\', r"\\").replace('"', "\\\""));
    let users: Vec<String> = people.users.iter().map(quoted).collect();
    (users.len() > 1).then(|| format!("{{{}}}", users.join(",")))
}

/// How many users an entry is about, as stored: NULL where all of them stand beside it.
pub(super) fn count(people: &People) -> Option<i32> {
    (people.user_count != people.users.len()).then(|| i32::try_from(people.user_count).unwrap_or(i32::MAX))
}

/// A row as it is read back.
#[derive(Debug, Clone, PartialEq, Eq, FromRow)]
pub struct HeldPerson {
    sdk_app_id: i64,
    user_id: String,
    time_ms: i64,
    digest: Vec<u8>,
    group_id: String,
    /// The sum of the parts, as stored.
    pub parts: i16,
}

impl HeldPerson {
    /// Borrowed. Bits that no program of this version writes are left out.
    #[must_use]
    pub fn row(&self) -> PersonRow<'_> {
        let (app, group, time_ms, digest) = self.entry_key();
        PersonRow {
            app,
            user: &self.user_id,
            time_ms,
            digest,
            group,
            parts: PersonParts::of_stored(self.parts),
        }
    }

    /// The key of its entry.
    #[must_use]
    pub fn entry_key(&self) -> LedgerKey<'_> {
        (self.sdk_app_id, &self.group_id, self.time_ms, &self.digest)
    }

    /// What its user is among these; none where the user is not one of them.
    #[must_use]
    pub fn parts_in(&self, people: &People) -> Option<PersonParts> {
        people.parts.get(&UserId::parse(&self.user_id).ok()?).copied()
    }
}

const MOVE: &str = r"
UPDATE ledger_people SET time_ms = $5
 WHERE sdk_app_id = $1 AND group_id = $2 AND time_ms = $3 AND digest = $4 AND user_id = ANY ($6)";

/// Takes the rows of these users along when their entry gets another time. What they say stays: it follows from the entry that
/// the ledger holds.
///
/// # Errors
/// The statement's.
pub async fn follow(
    conn: &mut PgConnection,
    (app, group, time_ms, digest): LedgerKey<'_>,
    to_ms: i64,
    users: impl Iterator<Item = &UserId>,
) -> Result<(), sqlx::Error> {
    let users: Vec<&str> = users.map(UserId::as_str).collect();
    let query = sqlx::query(MOVE).bind(app).bind(group).bind(time_ms).bind(digest).bind(to_ms);
    query.bind(users).execute(conn).await.map(drop)
}

const HELD: &str = r"
SELECT p.sdk_app_id, p.user_id, p.time_ms, p.digest, p.group_id, p.parts
  FROM UNNEST($1::bigint[], $2::text[], $3::bigint[], $4::bytea[], $5::text[])
    AS wanted (app, user_id, time_ms, digest, group_id)
  JOIN ledger_people p ON p.sdk_app_id = wanted.app AND p.user_id = wanted.user_id AND p.time_ms = wanted.time_ms
                      AND p.digest = wanted.digest AND p.group_id = wanted.group_id
 WHERE p.time_ms >= $6 AND p.time_ms <= $7";

/// The rows that are there of these, all of which are within a time: only partitions of it are opened.
///
/// # Errors
/// The statement's.
pub async fn held(
    conn: &mut PgConnection,
    wanted: &[PersonRow<'_>],
    time: TimeSpan,
) -> Result<Vec<HeldPerson>, sqlx::Error> {
    let query = sqlx::query_as_with(HELD, keys(wanted)?).bind(time.first_ms).bind(time.last_ms);
    query.fetch_all(conn).await
}

const COUNT_ROWS: &str = "SELECT count(*) FROM ledger_people WHERE time_ms >= $1 AND time_ms <= $2";

/// How many rows there are within a time; it reads all of them.
///
/// # Errors
/// The statement's.
pub async fn count_rows(conn: &mut PgConnection, time: TimeSpan) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar(COUNT_ROWS).bind(time.first_ms).bind(time.last_ms).fetch_one(conn).await
}

const PAGE: &str = r"
SELECT sdk_app_id, user_id, time_ms, digest, group_id, parts FROM ledger_people
 WHERE (sdk_app_id, user_id, time_ms, digest, group_id) > ($1, $2, $3, $4, $5) AND time_ms >= $7 AND time_ms <= $8
 ORDER BY sdk_app_id, user_id, time_ms, digest, group_id
 FETCH FIRST ($6) ROWS WITH TIES";

/// Rows after one within a time, in the order of users; from the start without one. What is there twice comes in one page.
///
/// # Errors
/// The statement's.
pub async fn page(
    conn: &mut PgConnection,
    after: Option<&HeldPerson>,
    time: TimeSpan,
    limit: i64,
) -> Result<Vec<HeldPerson>, sqlx::Error> {
    // There is no app 0.
    let (app, user, time_ms, digest, group) = after.map_or((0, "", 0, &[][..], ""), |row| {
        (row.sdk_app_id, row.user_id.as_str(), row.time_ms, &row.digest[..], row.group_id.as_str())
    });
    let query = sqlx::query_as(PAGE).bind(app).bind(user).bind(time_ms).bind(digest).bind(group);
    query.bind(limit).bind(time.first_ms).bind(time.last_ms).fetch_all(conn).await
}

/// Without a row whose entry has moved or was dropped since it was read.
const INSERT_FOR_ENTRIES: &str = r"
INSERT INTO ledger_people (sdk_app_id, user_id, time_ms, digest, group_id, parts)
SELECT n.* FROM UNNEST($1::bigint[], $2::text[], $3::bigint[], $4::bytea[], $5::text[], $6::smallint[])
    AS n (app, user_id, time_ms, digest, group_id, parts)
 WHERE EXISTS (SELECT FROM ledger l WHERE l.sdk_app_id = n.app AND l.group_id = n.group_id AND l.time_ms = n.time_ms
                  AND l.digest = n.digest)";

/// Enters rows of entries that the ledger has.
///
/// # Errors
/// The statement's.
pub async fn insert_for_entries(conn: &mut PgConnection, rows: &[PersonRow<'_>]) -> Result<(), sqlx::Error> {
    sqlx::query_with(INSERT_FOR_ENTRIES, with_parts(rows)?).execute(conn).await.map(drop)
}

/// Enters rows in the place of those that are there.
///
/// # Errors
/// A statement's.
pub async fn replace(conn: &mut PgConnection, rows: Vec<PersonRow<'_>>) -> Result<(), sqlx::Error> {
    remove(conn, &rows).await?;
    insert(conn, rows).await
}

/// What stands of people beside an entry.
#[derive(Debug, Clone, PartialEq, Eq, FromRow)]
pub struct ShownPeople {
    sdk_app_id: i64,
    group_id: String,
    time_ms: i64,
    digest: Vec<u8>,
    operator: Option<String>,
    users: Option<Vec<String>>,
    user_count: i32,
}

impl ShownPeople {
    /// The key of its entry.
    #[must_use]
    pub fn entry_key(&self) -> LedgerKey<'_> {
        (self.sdk_app_id, &self.group_id, self.time_ms, &self.digest)
    }

    /// What should stand there.
    #[must_use]
    pub fn of((app, group, time_ms, digest): LedgerKey<'_>, people: &People) -> Self {
        let text = |user: &UserId| user.as_str().to_owned();
        Self {
            sdk_app_id: app,
            group_id: group.to_owned(),
            time_ms,
            digest: digest.to_vec(),
            operator: people.operator.as_ref().map(text),
            users: Some(people.users.iter().map(text).collect()).filter(|users: &Vec<_>| !users.is_empty()),
            user_count: i32::try_from(people.user_count).unwrap_or(i32::MAX),
        }
    }
}

const SHOWN_BESIDE: &str = r"
SELECT l.sdk_app_id, l.group_id, l.time_ms, l.digest, l.operator,
       ledger_users(l.user_id, l.users) AS users, ledger_user_count(l.user_count, l.user_id, l.users) AS user_count
  FROM UNNEST($1::bigint[], $2::text[], $3::bigint[], $4::bytea[]) AS wanted (app, group_id, time_ms, digest)
  JOIN ledger l ON l.sdk_app_id = wanted.app AND l.group_id = wanted.group_id AND l.time_ms = wanted.time_ms
               AND l.digest = wanted.digest
 WHERE l.time_ms >= $5 AND l.time_ms <= $6";

/// What stands beside these entries, all of which are within a time: only partitions of it are opened.
///
/// # Errors
/// The statement's.
pub async fn shown_beside(
    conn: &mut PgConnection,
    keys: &[LedgerKey<'_>],
    time: TimeSpan,
) -> Result<Vec<ShownPeople>, sqlx::Error> {
    let query = sqlx::query_as(SHOWN_BESIDE)
        .bind(keys.iter().map(|key| key.0).collect::<Vec<_>>())
        .bind(keys.iter().map(|key| key.1).collect::<Vec<_>>())
        .bind(keys.iter().map(|key| key.2).collect::<Vec<_>>())
        .bind(keys.iter().map(|key| key.3).collect::<Vec<_>>())
        .bind(time.first_ms)
        .bind(time.last_ms);
    query.fetch_all(conn).await
}

const SET_SHOWN: &str = r"
UPDATE ledger SET operator = $5, user_id = $6, users = $7::text[], user_count = $8
 WHERE sdk_app_id = $1 AND group_id = $2 AND time_ms = $3 AND digest = $4";

/// Writes what should stand beside an entry; its place in the feed stays.
///
/// # Errors
/// The statement's.
pub async fn set_shown(
    conn: &mut PgConnection,
    (app, group, time_ms, digest): LedgerKey<'_>,
    people: &People,
) -> Result<(), sqlx::Error> {
    let query = sqlx::query(SET_SHOWN).bind(app).bind(group).bind(time_ms).bind(digest);
    let query = query.bind(people.operator.as_ref().map(UserId::as_str)).bind(shown_alone(people));
    query.bind(shown(people)).bind(count(people)).execute(conn).await.map(drop)
}
