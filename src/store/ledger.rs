//! Statements on the ledger: facts enter by the door in `entry_door`, and entries are read back in key order to be folded again.
//!
//! This file and `entry_door` are the only ones that write the table; `history`, `app_history`, `parked` and `feed` read it for
//! people. Nothing here decides what an entry means.

use sqlx::PgConnection;

use super::people::{self, LedgerKey, rows_of};
use crate::mirror::People;
use crate::model::{Digest, GroupId, Millis, UserId, storable};

pub use super::entry::{Entered, EntrySource, NewEntry, OutboxMark, Queued, Verdict};
pub use super::entry_door::{enter_batch, receive_earlier};
use super::moves;

/// An entry as it is read back.
#[derive(Debug, Clone, sqlx::FromRow)]
pub struct LedgerRow {
    /// The app.
    pub sdk_app_id: i64,
    /// The group; empty where unknown.
    pub group_id: String,
    /// Its place in time.
    pub time_ms: i64,
    /// As computed when it came; never anew.
    pub digest: Vec<u8>,
    /// The command that counted.
    pub command: String,
    /// The command of the query, where it differed.
    pub query_command: Option<String>,
    /// `RequestID` of the query.
    pub request_id: Option<String>,
    /// Time of first receipt, Unix milliseconds.
    pub received_ms: i64,
    /// `callback` or `rest`.
    pub source: String,
    /// `applied`, `partial` or `parked`.
    pub outcome: String,
    /// Why it is parked, or what was skipped of it.
    pub reason: Option<String>,
    /// The labels of the causes in that reason.
    pub causes: Option<Vec<String>>,
    /// The body as it came.
    pub body: Vec<u8>,
}

impl LedgerRow {
    /// True where the mirror holds what it says, or a part of it.
    #[must_use]
    pub fn is_applied(&self) -> bool {
        self.outcome != "parked"
    }

    /// True for an answer of Tencent's REST API.
    #[must_use]
    pub fn is_snapshot(&self) -> bool {
        self.source == EntrySource::Rest.as_str()
    }

    /// True where this label is among the causes.
    #[must_use]
    pub fn has_cause(&self, label: &str) -> bool {
        self.causes.iter().flatten().any(|cause| cause == label)
    }

    /// Its key.
    #[must_use]
    pub fn key(&self) -> LedgerKey<'_> {
        (self.sdk_app_id, &self.group_id, self.time_ms, &self.digest)
    }
}

const OF_KEYS: &str = r"
SELECT l.sdk_app_id, l.group_id, l.time_ms, l.digest, l.command, l.query_command,
       ledger_request_id(l.request_id, l.odd_values) AS request_id,
       round(extract(epoch FROM l.received_at) * 1000)::bigint AS received_ms, l.source, l.outcome, l.reason, l.causes,
       l.body
  FROM (SELECT DISTINCT * FROM UNNEST($1::bigint[], $2::text[], $3::bigint[], $4::bytea[])) AS k (app, grp, time, digest)
  JOIN ledger l ON l.sdk_app_id = k.app AND l.group_id = k.grp AND l.time_ms = k.time AND l.digest = k.digest";

/// The rows that are there of these, each once.
///
/// # Errors
/// The statement's.
pub async fn of_keys(conn: &mut PgConnection, keys: &[LedgerKey<'_>]) -> Result<Vec<LedgerRow>, sqlx::Error> {
    let query = sqlx::query_as(OF_KEYS)
        .bind(keys.iter().map(|key| key.0).collect::<Vec<_>>())
        .bind(keys.iter().map(|key| key.1).collect::<Vec<_>>())
        .bind(keys.iter().map(|key| key.2).collect::<Vec<_>>())
        .bind(keys.iter().map(|key| key.3).collect::<Vec<_>>());
    query.fetch_all(conn).await
}

const ESTIMATE: &str = "
SELECT COALESCE(sum(greatest(c.reltuples, 0)), 0)::bigint
  FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid WHERE i.inhparent = to_regclass('ledger')";

/// About how many rows there are, for a progress bar; 0 where it is not known, or where there is no ledger.
///
/// # Errors
/// The statement's.
pub async fn estimate(conn: &mut PgConnection) -> Result<i64, sqlx::Error> {
    Ok(sqlx::query_scalar(ESTIMATE).fetch_optional(conn).await?.unwrap_or_default())
}

/// An entry that was parked or read in part, as it is read now.
#[derive(Debug, Clone)]
pub struct Reread<'a> {
    /// The command that counts.
    pub command: &'a str,
    /// The group, where it is known.
    pub group: Option<&'a GroupId>,
    /// Its place in time.
    pub time: Millis,
    /// The event time as sent.
    pub event_time: Option<Millis>,
    /// What a repeat is known by.
    pub digest: Digest,
    /// What becomes of it.
    pub verdict: Verdict,
    /// Whom it is about by what was read of it before.
    pub people_before: &'a People,
    /// Whom it is about by what is read now.
    pub people: &'a People,
}

const UNPARK: &str = r"
UPDATE ledger SET outcome = $6, reason = $7, causes = string_to_array($8, ','), command = $9,
       time_ms = $11, digest = $12, event_time_ms = $13, operator = $14, user_id = $15, users = $16::text[],
       user_count = $17, position = $18
 WHERE sdk_app_id = $1 AND group_id = $2 AND time_ms = $3 AND digest = $4 AND outcome = $5
   AND NOT EXISTS (SELECT FROM ledger l WHERE l.sdk_app_id = $1 AND l.group_id = $10 AND l.time_ms = $11
                      AND l.digest = $12 AND l.outcome <> 'parked'
                      AND (l.group_id, l.time_ms, l.digest) <> ($2, $3, $4))";

/// The same where the group is another one, known only now: the entry is written under it, and [`LEAVE_GROUP`] removes it
/// under the other. Citus refuses an update of the column that says in which shard a row stands.
const UNPARK_INTO_GROUP: &str = r"
INSERT INTO ledger (sdk_app_id, group_id, time_ms, digest, command, event_time_ms, received_at, source, outcome, reason,
                    causes, query_command, client_ip, platform, request_id, odd_values, query, content_type, operator,
                    user_id, users, user_count, body, position)
SELECT p.sdk_app_id, $10, $11, $12, $9, $13, p.received_at, p.source, $6, $7, string_to_array($8, ','), p.query_command,
       p.client_ip, p.platform, p.request_id, p.odd_values, p.query, p.content_type, $14, $15, $16::text[], $17, p.body, $18
  FROM ledger p
 WHERE p.sdk_app_id = $1 AND p.group_id = $2 AND p.time_ms = $3 AND p.digest = $4 AND p.outcome = $5
   AND NOT EXISTS (SELECT FROM ledger l WHERE l.sdk_app_id = $1 AND l.group_id = $10 AND l.time_ms = $11
                      AND l.digest = $12 AND l.outcome <> 'parked')";

const LEAVE_GROUP: &str =
    "DELETE FROM ledger WHERE sdk_app_id = $1 AND group_id = $2 AND time_ms = $3 AND digest = $4";

/// What came of writing what is read of an entry now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rewritten {
    /// It stands there.
    Written,
    /// Not written: another entry says the same, or another transaction has read this one further.
    SaidAlready,
    /// Not written: no such entry stands where it was read. Its receipt was corrected since then.
    NotThere,
}

/// Writes what is read of an entry now in the place of what was read of it before. Followers of the feed see the entry again, as
/// it is now. Inside a transaction, which holds the lock by which the feed knows its writers.
///
/// # Errors
/// The statement's.
pub async fn unpark(
    conn: &mut PgConnection,
    row: &LedgerRow,
    now: &Reread<'_>,
) -> Result<Rewritten, sqlx::Error> {
    let (app, group, time, digest) = row.key();
    let Some(left) = moves::lock_position(conn, row.key()).await? else {
        return Ok(Rewritten::NotThere);
    };
    let next = moves::next_position(conn).await?;
    let is_of_group = now.group.map_or("", GroupId::as_str) == group;
    let statement = if is_of_group { UNPARK } else { UNPARK_INTO_GROUP };
    let query = sqlx::query(statement).bind(app).bind(group).bind(time).bind(digest).bind(&row.outcome);
    let query = query
        .bind(now.verdict.outcome)
        .bind(now.verdict.reason.as_deref().map(storable))
        .bind(now.verdict.joined_causes())
        .bind(now.command)
        .bind(now.group.map_or("", GroupId::as_str))
        .bind(now.time.get())
        .bind(now.digest.as_bytes())
        .bind(now.event_time.map(Millis::get))
        .bind(now.people.operator.as_ref().map(UserId::as_str))
        .bind(people::shown_alone(now.people))
        .bind(people::shown(now.people))
        .bind(people::count(now.people))
        .bind(next);
    if query.execute(&mut *conn).await?.rows_affected() != 1 {
        return Ok(Rewritten::SaidAlready);
    }
    if !is_of_group {
        let query = sqlx::query(LEAVE_GROUP).bind(app).bind(group).bind(time).bind(digest);
        query.execute(&mut *conn).await?;
    }
    let key = (app, now.group.map_or("", GroupId::as_str), now.time.get(), now.digest.as_bytes());
    moves::moved(conn, (left, row.key()), key).await?;
    people::remove(conn, &rows_of(row.key(), now.people_before).collect::<Vec<_>>()).await?;
    people::replace(conn, rows_of(key, now.people).collect()).await?;
    Ok(Rewritten::Written)
}

/// Deletes nothing without the other entry: a callback is kept once at least, whatever the caller believes.
const DROP_PARKED: &str = r"
DELETE FROM ledger
 WHERE sdk_app_id = $1 AND group_id = $2 AND time_ms = $3 AND digest = $4 AND outcome = 'parked'
   AND EXISTS (SELECT FROM ledger l WHERE l.sdk_app_id = $1 AND l.group_id = $5 AND l.time_ms = $6
                  AND l.digest = $7 AND l.outcome <> 'parked'
                  AND (l.group_id, l.time_ms, l.digest) <> ($2, $3, $4))
RETURNING position";

/// Removes a parked entry that another entry says already, as it is read now: it is a duplicate, and duplicates are not kept.
/// False if there is no such other entry, or this one does not stand where it was read any more.
///
/// # Errors
/// The statement's.
pub async fn drop_parked(
    conn: &mut PgConnection,
    row: &LedgerRow,
    now: &Reread<'_>,
) -> Result<bool, sqlx::Error> {
    let (app, group, time, digest) = row.key();
    let query = sqlx::query_scalar(DROP_PARKED).bind(app).bind(group).bind(time).bind(digest);
    let query =
        query.bind(now.group.map_or("", GroupId::as_str)).bind(now.time.get()).bind(now.digest.as_bytes());
    let Some(left) = query.fetch_optional(&mut *conn).await? else { return Ok(false) };
    moves::dropped(conn, (left, row.key())).await?;
    people::remove(conn, &rows_of(row.key(), now.people_before).collect::<Vec<_>>()).await?;
    Ok(true)
}
