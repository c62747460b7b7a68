//! The ledger as a feed: rows in the order of `position`, up to a head below which nothing can appear any more.
//!
//! Numbers are given while a transaction runs and become visible when it commits, so the highest visible one is no safe
//! place to stop: a lower one may still be on its way. [`settle`] finds a safe place without making writers wait for
//! each other. It notes the last number given, then who holds the lock that every insert into the ledger takes before
//! it asks for a number and keeps until it is visible or gone, and waits until all of those have ended. Whoever begins
//! later gets higher numbers. Transactions elsewhere in the server, however long, do not matter.
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

/// How many places one page of one app looks through. Other apps may have most of them.
const LOOKED_THROUGH_MAX: i64 = 50_000;

/// How long [`settle`] waits for writers. A transaction of callbacks takes some tens of milliseconds.
pub const SETTLE_WAIT_MAX: Duration = Duration::from_secs(1);

/// The pause between two looks at who is still writing.
const SETTLE_PAUSE: Duration = Duration::from_millis(5);

/// A ledger entry as the feed shows it.
#[derive(Debug, Clone, FromRow)]
pub struct ChangeRow {
    /// Its place in the feed.
    pub position: i64,
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

/// The timeline is part of it because a standby that takes over may lack what followers have seen; the database and the
/// table, because loading a dump makes new ones. A copy of the files that is put back has the same; a cursor beyond its
/// [`last`] number shows that.
const EPOCH: &str = "
SELECT left(md5(concat_ws('/', s.system_identifier, left(pg_walfile_name(pg_current_wal_lsn()), 8), d.oid,
                          'ledger'::regclass::oid)), 16)
  FROM pg_control_system() s, pg_database d WHERE d.datname = current_database()";

/// A name for this ledger in this history of this server. After a restore, an upgrade or a failover it is another, and
/// positions of before mean nothing any more.
///
/// # Errors
/// The statement's.
pub async fn epoch(conn: &mut PgConnection) -> Result<String, sqlx::Error> {
    sqlx::query_scalar(EPOCH).fetch_one(conn).await
}

/// Read without regard to transactions, and before [`WRITERS`] in a statement of its own.
const LAST: &str = "SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM ledger_position_seq";

/// The last number that was given.
///
/// # Errors
/// The statement's.
pub async fn last(conn: &mut PgConnection) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar(LAST).fetch_one(conn).await
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

/// The session part of a virtual transaction id is used again, the other part is not.
const WRITERS: &str = "
SELECT virtualtransaction FROM pg_locks
 WHERE locktype = 'relation' AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
   AND relation = 'ledger'::regclass AND mode = 'RowExclusiveLock' AND pid IS DISTINCT FROM pg_backend_pid()";

/// The place up to which the feed is complete: every number up to it is visible or never will be. `None`: somebody was
/// still writing after [`SETTLE_WAIT_MAX`]. Outside a transaction only, because each look must see the newest state.
///
/// # Errors
/// A statement's.
pub async fn settle(conn: &mut PgConnection) -> Result<Option<i64>, sqlx::Error> {
    let last = last(conn).await?;
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
    Ok(Some(last))
}

async fn writers(conn: &mut PgConnection) -> Result<BTreeSet<String>, sqlx::Error> {
    let writers: Vec<String> = sqlx::query_scalar(WRITERS).fetch_all(conn).await?;
    Ok(writers.into_iter().collect())
}

const PAGE: &str = "
SELECT position, sdk_app_id, group_id, command, event_time_ms, received_at, source, outcome
  FROM ledger
 WHERE position > $1 AND position <= $2 AND ($3::bigint IS NULL OR sdk_app_id = $3)
 ORDER BY position LIMIT $4";

/// Entries after one place, up to and with another, of one app or of all, at most `limit`; and up to where was looked,
/// which with an app may be earlier.
///
/// # Errors
/// The statement's.
pub async fn page(
    conn: &mut PgConnection,
    (after, last): (i64, i64),
    app: Option<SdkAppId>,
    limit: i64,
) -> Result<(Vec<ChangeRow>, i64), sqlx::Error> {
    let last = if app.is_some() { last.min(after.saturating_add(LOOKED_THROUGH_MAX)) } else { last };
    let query = sqlx::query_as(PAGE).bind(after).bind(last).bind(app.map(SdkAppId::get)).bind(limit);
    Ok((query.fetch_all(conn).await?, last))
}
