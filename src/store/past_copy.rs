//! What stays of old partitions, copied into the one that takes their place.
//!
//! Most of it is copied beside readers and writers, up to a high watermark; under the lock of the exchange follows what was entered
//! behind that, and what the relay was given since then. The statements work on the connection they are given.

use chrono::{DateTime, Utc};
use sqlx::{AssertSqlSafe, PgConnection};

use super::feed::FeedPlace;
use super::ledger::LedgerRow;
use super::past::{CUT, OldPartitions, next, quoted, run};
use super::people::{PersonRow, with_parts};
use super::prune::{self, PruneLimits};

/// The columns of an entry that a fold reads.
const ROW: &str = "l.sdk_app_id, l.group_id, l.time_ms, l.digest, l.command, l.query_command,
       ledger_request_id(l.request_id, l.odd_values) AS request_id,
       round(extract(epoch FROM l.received_at) * 1000)::bigint AS received_ms, l.source, l.outcome, l.reason, l.causes, l.body";

/// How what stays is copied before the exchange.
#[derive(Debug, Clone, Copy)]
pub struct StayingCopy {
    /// Whether the relay keeps what it has not delivered.
    pub with_relay: bool,
    /// Up to and with this position, a high watermark.
    pub up_to: i64,
    /// When the copy began, by the clock of the database.
    pub begun: DateTime<Utc>,
}

/// The time, by the clock of the database.
///
/// # Errors
/// The statement's.
pub async fn now(conn: &mut PgConnection) -> Result<DateTime<Utc>, sqlx::Error> {
    sqlx::query_scalar("SELECT now()").fetch_one(conn).await
}

/// The last place in the feed of an entry that is not copied and can be dropped; the start where there is none.
///
/// # Errors
/// The statement's.
pub async fn last_dropped(conn: &mut PgConnection, limits: &PruneLimits) -> Result<FeedPlace, sqlx::Error> {
    prune::last_dropped(conn, limits, &next(CUT[0])).await
}

/// Copies what stays, up to and with a position, into the new partition; answers how many entries that is.
///
/// # Errors
/// A statement's.
pub async fn copy_staying(
    conn: &mut PgConnection,
    old: &OldPartitions,
    limits: &PruneLimits,
    copy: &StayingCopy,
) -> Result<u64, sqlx::Error> {
    let mut copied = 0;
    for part in old.parts(0) {
        let statement = format!(
            "INSERT INTO {} SELECT l.* FROM {} l WHERE {} AND l.position <= $4",
            next(CUT[0]),
            quoted(part),
            prune::stays(copy.with_relay)
        );
        let query = sqlx::query(AssertSqlSafe(statement)).bind(limits.until_ms).bind(limits.received_before);
        copied +=
            query.bind(limits.before_position).bind(copy.up_to).execute(&mut *conn).await?.rows_affected();
    }
    Ok(copied)
}

/// Copies whom the copied entries are about.
///
/// # Errors
/// A statement's.
pub async fn copy_people(conn: &mut PgConnection, old: &OldPartitions) -> Result<(), sqlx::Error> {
    for part in old.parts(1) {
        let copy = format!(
            "INSERT INTO {} SELECT p.* FROM {} p
              WHERE EXISTS (SELECT FROM {} n WHERE n.sdk_app_id = p.sdk_app_id AND n.group_id = p.group_id
                               AND n.time_ms = p.time_ms AND n.digest = p.digest)",
            next(CUT[1]),
            quoted(part),
            next(CUT[0])
        );
        run(conn, copy).await?;
    }
    Ok(())
}

/// Enters whom entries are about into the new partition of the index of people, as far as it reaches.
///
/// # Errors
/// The statement's.
pub async fn insert_people(
    conn: &mut PgConnection,
    old: &OldPartitions,
    mut rows: Vec<PersonRow<'_>>,
) -> Result<(), sqlx::Error> {
    let Some(end_ms) = old.people_end_ms() else { return Ok(()) };
    rows.retain(|row| row.time_ms < end_ms);
    if rows.is_empty() {
        return Ok(());
    }
    rows.sort_unstable();
    let statement = format!(
        "INSERT INTO {} (sdk_app_id, user_id, time_ms, digest, group_id, parts)
         SELECT * FROM UNNEST($1::bigint[], $2::text[], $3::bigint[], $4::bytea[], $5::text[], $6::smallint[])",
        next(CUT[1])
    );
    sqlx::query_with(AssertSqlSafe(statement), with_parts(&rows)?).execute(conn).await.map(drop)
}

/// Takes out of the new partition what has left its position since it was copied: it stands behind the high watermark by now.
async fn remove_moved(conn: &mut PgConnection, old: &OldPartitions) -> Result<(), sqlx::Error> {
    let [ledger, people] = CUT.map(next);
    let moved = format!(
        "DELETE FROM {ledger} n USING ledger_moves m WHERE n.position = m.position AND n.digest = m.digest
         RETURNING n.sdk_app_id, n.group_id, n.time_ms, n.digest"
    );
    let moved: Vec<(i64, String, i64, Vec<u8>)> =
        sqlx::query_as(AssertSqlSafe(moved)).fetch_all(&mut *conn).await?;
    if moved.is_empty() || old.people_end_ms().is_none() {
        return Ok(());
    }
    let gone = format!(
        "DELETE FROM {people} p USING UNNEST($1::bigint[], $2::text[], $3::bigint[], $4::bytea[]) AS m (app, id, ms, digest)
          WHERE p.sdk_app_id = m.app AND p.group_id = m.id AND p.time_ms = m.ms AND p.digest = m.digest"
    );
    let query = sqlx::query(AssertSqlSafe(gone))
        .bind(moved.iter().map(|key| key.0).collect::<Vec<_>>())
        .bind(moved.iter().map(|key| key.1.as_str()).collect::<Vec<_>>())
        .bind(moved.iter().map(|key| key.2).collect::<Vec<_>>())
        .bind(moved.iter().map(|key| key.3.as_slice()).collect::<Vec<_>>());
    query.execute(conn).await.map(drop)
}

/// What was entered, or has moved, behind a position.
const BEHIND: &str = "SELECT l.* FROM ledger l WHERE l.position > $1 AND l.time_ms < $2";

/// What the relay was given since the copy, out of what it had taken: entries that are queued once more by hand, and those of them
/// that were given up since then. What waited at the time of the copy was copied.
const GIVEN_TO_RELAY: &str = "
SELECT l.* FROM relay_outbox o
  JOIN ledger l ON l.sdk_app_id = o.sdk_app_id AND l.group_id = o.group_id AND l.time_ms = o.time_ms AND l.digest = o.digest
 WHERE o.again AND o.time_ms < $2 AND l.time_ms < $2 AND l.position <= $1
 UNION ALL
SELECT l.* FROM relay_skipped o
  JOIN ledger l ON l.sdk_app_id = o.sdk_app_id AND l.group_id = o.group_id AND l.time_ms = o.time_ms AND l.digest = o.digest
 WHERE o.skipped_at >= $3 AND o.time_ms < $2 AND l.time_ms < $2 AND l.position <= $1";

/// Copies what was entered behind a position, and what the relay was given since a time; answers these entries. Under the lock.
///
/// # Errors
/// A statement's.
pub async fn copy_new(
    conn: &mut PgConnection,
    old: &OldPartitions,
    copy: &StayingCopy,
) -> Result<Vec<LedgerRow>, sqlx::Error> {
    remove_moved(conn, old).await?;
    let into = |source: &str| {
        format!(
            "INSERT INTO {} AS l {source} ON CONFLICT (sdk_app_id, group_id, time_ms, digest) DO NOTHING RETURNING {ROW}",
            next(CUT[0])
        )
    };
    let behind = sqlx::query_as(AssertSqlSafe(into(BEHIND))).bind(copy.up_to).bind(old.end_ms());
    let mut copied: Vec<LedgerRow> = behind.fetch_all(&mut *conn).await?;
    if copy.with_relay {
        let given = sqlx::query_as(AssertSqlSafe(into(GIVEN_TO_RELAY))).bind(copy.up_to).bind(old.end_ms());
        copied.extend(given.bind(copy.begun).fetch_all(conn).await?);
    }
    Ok(copied)
}
