//! The ledger as a feed: entries in the order of `position`, up to a high watermark below which no position can appear
//! any more.
//!
//! A position is given while a transaction runs and becomes visible when it commits, so the highest visible one is no
//! safe place to stop: a lower one may still be on its way. [`settle`] finds a safe place without making writers wait for
//! each other. It notes the last number given, then who holds the lock that every insert into the ledger takes before
//! it asks for a number and keeps until it is visible or rolled back, and waits until all of those have ended. A transaction
//! that begins later gets higher numbers. Transactions elsewhere in the server, however long, do not matter. The high watermark is
//! the greatest committed position below that: a number without an entry is not durable, and a crash gives it out again.
//!
//! A [`FeedPlace`] names a position together with the digest of the entry there, so that a ledger which has become
//! shorter and has grown again (a backup, a standby that took over) is recognised. No function is needed that managed
//! servers withhold.
//!
//! Reads only, on the connection it is given. Tried beside it, in batches of 64 rows, as rows per second and WAL per row
//! against no numbering at all: this 0.76 and +78 bytes; transaction id and number 0.80 and +96, which noise covers, but
//! ids start again lower after a dump and restore; numbering under a lock at the end of the transaction 0.71 and +206.

use std::collections::BTreeSet;
use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::{FromRow, PgConnection};
use tokio::time::{Instant, sleep};

use crate::model::SdkAppId;

/// How many positions one page of one app looks through. Other apps may have most of them.
const LOOKED_THROUGH_MAX: i64 = 50_000;

/// How long [`settle`] waits for writers. A transaction of callbacks takes some tens of milliseconds.
pub const SETTLE_WAIT_MAX: Duration = Duration::from_secs(1);

/// The pause between two looks at who is still writing.
const SETTLE_PAUSE: Duration = Duration::from_millis(5);

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
    /// The command that counted.
    pub command: String,
    /// Event time as sent, Unix milliseconds.
    pub event_time_ms: Option<i64>,
    /// Time of first receipt.
    pub received_at: DateTime<Utc>,
    /// `callback` or `rest`.
    pub source: String,
    /// `applied`, `partial` or `parked`.
    pub outcome: String,
}

/// What the migration wrote, with the numbers of database and table, which loading a dump makes anew.
const EPOCH: &str = "
SELECT left(md5(concat_ws('/', f.epoch, d.oid, 'ledger'::regclass::oid)), 16)
  FROM feed f, pg_database d WHERE d.datname = current_database()";

/// A name for this ledger. It is another one in every database and after loading a dump. A copy of the files and a
/// standby have the same: there [`holds`] tells whether an entry is where it was.
///
/// # Errors
/// The statement's.
pub async fn epoch(conn: &mut PgConnection) -> Result<String, sqlx::Error> {
    sqlx::query_scalar(EPOCH).fetch_one(conn).await
}

/// An entry that has moved on, or was dropped as a repeat, has left a note.
const HOLDS: &str = "
SELECT EXISTS (SELECT FROM ledger WHERE position = $1 AND encode(substr(digest, 1, 4), 'hex') = $2)
    OR EXISTS (SELECT FROM ledger_moves WHERE position = $1 AND encode(substr(digest, 1, 4), 'hex') = $2)";

/// True where the ledger has the entry of a place there, or had it until the entry moved to the end. False: it is
/// another ledger, or a shorter one, or the entry was pruned.
///
/// # Errors
/// The statement's.
pub async fn holds(conn: &mut PgConnection, place: &FeedPlace) -> Result<bool, sqlx::Error> {
    if *place == FeedPlace::start() {
        return Ok(true);
    }
    sqlx::query_scalar(HOLDS).bind(place.position).bind(&place.digest).fetch_one(conn).await
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

/// Read without regard to transactions, and before [`WRITERS`] in a statement of its own. On a standby other sessions'
/// locks cannot be seen, so nothing is known to be complete.
const LAST: &str = "
SELECT CASE WHEN is_called THEN last_value ELSE 0 END, pg_is_in_recovery() FROM ledger_position_seq";

/// The session part of a virtual transaction id is used again, the other part is not.
const WRITERS: &str = "
SELECT virtualtransaction FROM pg_locks
 WHERE locktype = 'relation' AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
   AND relation = 'ledger'::regclass AND mode = 'RowExclusiveLock' AND pid IS DISTINCT FROM pg_backend_pid()";

/// The last entry up to a position, of whatever app.
const PLACE_AT: &str = "
SELECT position, encode(substr(digest, 1, 4), 'hex') AS digest
  FROM ledger WHERE position <= $1 ORDER BY position DESC LIMIT 1";

/// The high watermark: the last entry such that every position up to it is visible or never will be. `None`: a writer
/// was still at work after [`SETTLE_WAIT_MAX`], or the server is a standby. Outside a transaction only, because each look must
/// see the newest state.
///
/// # Errors
/// A statement's.
pub async fn settle(conn: &mut PgConnection) -> Result<Option<FeedPlace>, sqlx::Error> {
    let (last, is_standby): (i64, bool) = sqlx::query_as(LAST).fetch_one(&mut *conn).await?;
    if is_standby {
        return Ok(None);
    }
    let until = Instant::now() + SETTLE_WAIT_MAX;
    let mut waited_for = writers(conn).await?;
    while !waited_for.is_empty() {
        if Instant::now() >= until {
            return Ok(None);
        }
        sleep(SETTLE_PAUSE).await;
        let writing = writers(conn).await?;
        waited_for.retain(|writer| writing.contains(writer));
    }
    place_at(conn, last).await.map(Some)
}

async fn writers(conn: &mut PgConnection) -> Result<BTreeSet<String>, sqlx::Error> {
    let writers: Vec<String> = sqlx::query_scalar(WRITERS).fetch_all(conn).await?;
    Ok(writers.into_iter().collect())
}

async fn place_at(conn: &mut PgConnection, position: i64) -> Result<FeedPlace, sqlx::Error> {
    let place: Option<FeedPlace> = sqlx::query_as(PLACE_AT).bind(position).fetch_optional(conn).await?;
    Ok(place.unwrap_or(FeedPlace::start()))
}

const NEXT: &str = "SELECT COALESCE(min(position), $2) FROM ledger WHERE position > $1";

/// Entries that share a position, which copied rows may, stay together: a page goes on behind a position.
const PAGE: &str = "
SELECT position, encode(substr(digest, 1, 4), 'hex') AS digest, sdk_app_id, group_id, command, event_time_ms,
       received_at, source, outcome
  FROM ledger
 WHERE position > $1 AND position <= $2 AND ($3::bigint IS NULL OR sdk_app_id = $3)
 ORDER BY position FETCH FIRST ($4) ROWS WITH TIES";

/// Entries after one place, up to and with another, of one app or of all, at most `limit` and those that share the
/// position of the last one; and the place up to which was looked, which with an app may be earlier.
///
/// # Errors
/// A statement's.
pub async fn page(
    conn: &mut PgConnection,
    after: i64,
    high_watermark: &FeedPlace,
    app: Option<SdkAppId>,
    limit: i64,
) -> Result<(Vec<ChangeRow>, FeedPlace), sqlx::Error> {
    let mut last = high_watermark.position;
    if app.is_some() && after.saturating_add(LOOKED_THROUGH_MAX) < last {
        // From the next entry, not from `after`: there may be none for longer than that.
        let next: i64 = sqlx::query_scalar(NEXT).bind(after).bind(last).fetch_one(&mut *conn).await?;
        last = last.min(next.saturating_add(LOOKED_THROUGH_MAX));
    }
    let query = sqlx::query_as(PAGE).bind(after).bind(last).bind(app.map(SdkAppId::get)).bind(limit);
    let rows: Vec<ChangeRow> = query.fetch_all(&mut *conn).await?;
    assert!(
        rows.iter().all(|row| (after + 1..=last).contains(&row.place.position)),
        "a page lies between its ends"
    );
    let looked =
        if last < high_watermark.position { place_at(conn, last).await? } else { high_watermark.clone() };
    Ok((rows, looked))
}
