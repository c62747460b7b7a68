//! The exchange of old partitions for one that holds what stays of them.
//!
//! The partitions of the ledger have no hole, because a callback of any time may still come. So what stays of the pruned ones, and
//! what comes for their time later, goes into a new partition of everything that is past. It is filled beside readers and writers,
//! up to a high watermark. What was entered behind that is copied in the transaction that exchanges the partitions, under the one
//! lock that writers feel. The tables that were taken out are dropped after that, which takes no lock on the ledger.
//!
//! Only the owner of the tables can do this. The statements work on the connection they are given.

use sqlx::{AssertSqlSafe, PgConnection};

use super::ledger::LedgerRow;
use super::people::{PersonRow, with_parts};
use super::prune::{self, PruneLimits, PruneState};
use super::rebuild::REPLAY_LOCK;

/// The tables that are cut by time.
const CUT: [&str; 2] = ["ledger", "ledger_people"];

/// Which partitions are exchanged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OldPartitions {
    /// Entries of an earlier time than this, Unix milliseconds, are pruned.
    pub until_ms: i64,
    /// Where the new partitions end, of the ledger and of the index of people, and which ones they take the place of; none
    /// where the index of people is cut nowhere up to there.
    exchanged: [Option<(i64, Vec<String>)>; 2],
}

/// A partition with its bounds in Unix milliseconds. The first one has no begin.
type Ended = (String, Option<i64>, i64);

/// The default one has no end.
const ENDED: &str = "
SELECT part, begin_ms, end_ms FROM ledger_partition_bounds($1) WHERE end_ms IS NOT NULL ORDER BY end_ms";

async fn ended(conn: &mut PgConnection, table: &str) -> Result<Vec<Ended>, sqlx::Error> {
    sqlx::query_as(ENDED).bind(table).fetch_all(conn).await
}

impl OldPartitions {
    /// Those before a time: whole partitions, or a part of the first one. None where the ledger has no partition yet.
    ///
    /// # Errors
    /// The statement's.
    pub async fn before(conn: &mut PgConnection, cut_ms: i64) -> Result<Option<Self>, sqlx::Error> {
        let ledger = ended(conn, CUT[0]).await?;
        let is_first = |(_, begin_ms, _): &&Ended| begin_ms.is_none();
        let whole = ledger.iter().rfind(|(.., end_ms)| *end_ms <= cut_ms);
        let Some((.., end_ms)) = whole.or(ledger.first().filter(is_first)) else { return Ok(None) };
        let people = ended(conn, CUT[1]).await?;
        // The index of people is cut where the ledger is, or earlier.
        let exchanged = [ledger.clone(), people].map(|parts| {
            let parts: Vec<Ended> = parts.into_iter().filter(|(.., end)| end <= end_ms).collect();
            let end_ms = parts.last().map(|(.., end_ms)| *end_ms)?;
            Some((end_ms, parts.into_iter().map(|(part, ..)| part).collect()))
        });
        Ok(Some(Self { until_ms: cut_ms.min(*end_ms), exchanged }))
    }

    /// How many partitions of the ledger they are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.exchanged[0].as_ref().map_or(0, |(_, parts)| parts.len())
    }

    /// Where the pruned partitions of the ledger end, Unix milliseconds.
    #[must_use]
    pub fn end_ms(&self) -> i64 {
        self.exchanged[0].as_ref().map_or(self.until_ms, |(end, _)| *end)
    }

    fn parts(&self, at: usize) -> impl Iterator<Item = &str> {
        self.exchanged[at].iter().flat_map(|(_, parts)| parts).map(String::as_str)
    }

    fn people_end_ms(&self) -> Option<i64> {
        self.exchanged[1].as_ref().map(|(end, _)| *end)
    }
}

/// The new partition while it is filled.
fn next(table: &str) -> String {
    format!("{table}_past_next")
}

/// Tables that an earlier run has taken out, or filled and not attached.
const LEFT: &str = "
SELECT c.relname::text FROM pg_class c
 WHERE c.relnamespace = current_schema()::regnamespace AND c.relkind = 'r' AND NOT c.relispartition
   AND (c.relname = ANY ($1) OR c.relname LIKE 'pruned\\_ledger\\_%')
 ORDER BY c.relname";

/// Drops what an earlier run has left behind, and what this one has taken out; answers how many tables these were.
///
/// # Errors
/// A statement's.
pub async fn drop_left(conn: &mut PgConnection) -> Result<usize, sqlx::Error> {
    let names = CUT.map(next);
    let left: Vec<String> = sqlx::query_scalar(LEFT).bind(&names[..]).fetch_all(&mut *conn).await?;
    for table in &left {
        run(conn, format!("DROP TABLE {}", quoted(table))).await?;
    }
    Ok(left.len())
}

/// Makes the new partitions, empty and not attached. An automatic vacuum of an old one would hold up the exchange, and ends
/// here: it is cancelled by one that waits for longer than the exchange does.
///
/// # Errors
/// A statement's.
pub async fn make_next(conn: &mut PgConnection, old: &OldPartitions) -> Result<(), sqlx::Error> {
    for (at, table) in CUT.into_iter().enumerate() {
        for part in old.parts(at) {
            run(conn, format!("ALTER TABLE {} SET (autovacuum_enabled = off)", quoted(part))).await?;
        }
        if let Some((end_ms, _)) = &old.exchanged[at] {
            let described = format!("Partition of {table}, of what is past and of what stays of it.");
            sqlx::query("SELECT ledger_new_partition($1, $2, $3)")
                .bind(table)
                .bind(next(table))
                .bind(described)
                .execute(&mut *conn)
                .await?;
            // So that attaching it reads no row.
            let check =
                format!("ALTER TABLE {0} ADD CONSTRAINT {0}_bound CHECK (time_ms < {end_ms})", next(table));
            run(conn, check).await?;
        }
    }
    Ok(())
}

/// The columns of an entry that a fold reads.
const ROW: &str = "l.sdk_app_id, l.group_id, l.time_ms, l.digest, l.command, l.query_command, l.request_id,
       round(extract(epoch FROM l.received_at) * 1000)::bigint AS received_ms, l.source, l.outcome, l.reason, l.causes, l.body";

/// Copies what stays, up to and with a position, into the new partition; answers how many entries that is.
///
/// # Errors
/// A statement's.
pub async fn copy_staying(
    conn: &mut PgConnection,
    old: &OldPartitions,
    limits: &PruneLimits,
    (with_relay, up_to): (bool, i64),
) -> Result<u64, sqlx::Error> {
    let mut copied = 0;
    for part in old.parts(0) {
        let statement = format!(
            "INSERT INTO {} SELECT l.* FROM {} l WHERE {} AND l.position <= $4",
            next(CUT[0]),
            quoted(part),
            prune::stays(with_relay)
        );
        let query = sqlx::query(AssertSqlSafe(statement)).bind(limits.until_ms).bind(limits.received_before);
        copied += query.bind(limits.before_position).bind(up_to).execute(&mut *conn).await?.rows_affected();
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

/// Locks ledger and index of people against everything, in a transaction that has done nothing before. Each statement after that
/// sees what was committed before the lock was given, whatever isolation is the server's default.
///
/// # Errors
/// A statement's: a lock that was not given in time.
pub async fn lock_tables(conn: &mut PgConnection) -> Result<(), sqlx::Error> {
    run(conn, "SET TRANSACTION ISOLATION LEVEL READ COMMITTED".to_owned()).await?;
    run(conn, format!("LOCK TABLE {} IN ACCESS EXCLUSIVE MODE", CUT.join(", "))).await
}

const IS_KEPT: &str = "
SELECT EXISTS (SELECT FROM pg_locks
                WHERE locktype = 'advisory' AND granted AND pid = $1
                  AND ((classid::bigint << 32) | objid::bigint) = $2 AND objsubid = 1)";

/// True while a session holds the lock of replays.
///
/// # Errors
/// The statement's.
pub async fn is_lock_kept(conn: &mut PgConnection, pid: i32) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar(IS_KEPT).bind(pid).bind(REPLAY_LOCK).fetch_one(conn).await
}

/// The process of the server that serves a session.
///
/// # Errors
/// The statement's.
pub async fn pid(conn: &mut PgConnection) -> Result<i32, sqlx::Error> {
    sqlx::query_scalar("SELECT pg_backend_pid()").fetch_one(conn).await
}

/// Takes out of the new partition what has left its position since it was copied: it stands behind the high watermark by now.
async fn remove_moved(conn: &mut PgConnection, old: &OldPartitions) -> Result<(), sqlx::Error> {
    let [ledger, people] = CUT.map(next);
    let moved = format!("DELETE FROM {ledger} n USING ledger_moves m WHERE n.position = m.position");
    let moved = sqlx::query(AssertSqlSafe(moved)).execute(&mut *conn).await?.rows_affected();
    if moved > 0 && old.people_end_ms().is_some() {
        let gone = format!(
            "DELETE FROM {people} p WHERE NOT EXISTS (
                 SELECT FROM {ledger} n WHERE n.sdk_app_id = p.sdk_app_id AND n.group_id = p.group_id
                    AND n.time_ms = p.time_ms AND n.digest = p.digest)"
        );
        run(conn, gone).await?;
    }
    Ok(())
}

/// Copies what was entered behind a position, and what the relay was given since then; answers these entries. Under the lock.
///
/// # Errors
/// A statement's.
pub async fn copy_new(
    conn: &mut PgConnection,
    old: &OldPartitions,
    (with_relay, up_to): (bool, i64),
) -> Result<Vec<LedgerRow>, sqlx::Error> {
    remove_moved(conn, old).await?;
    let mut copied = Vec::new();
    // By the key, because there are few of these and many entries.
    run(conn, "SET LOCAL enable_hashjoin = off; SET LOCAL enable_mergejoin = off".to_owned()).await?;
    for part in old.parts(0) {
        let mut sources = vec!["SELECT l.* FROM {part} l WHERE l.position > $1".to_owned()];
        let of_relay = ["relay_outbox", "relay_skipped"].map(|table| {
            format!(
                "SELECT l.* FROM {table} o JOIN {{part}} l ON l.sdk_app_id = o.sdk_app_id AND l.group_id = o.group_id
                    AND l.time_ms = o.time_ms AND l.digest = o.digest WHERE l.position <= $1"
            )
        });
        sources.extend(of_relay.into_iter().filter(|_| with_relay));
        for source in sources {
            let statement = format!(
                "INSERT INTO {} AS l {} ON CONFLICT (sdk_app_id, group_id, time_ms, digest) DO NOTHING RETURNING {ROW}",
                next(CUT[0]),
                source.replace("{part}", &quoted(part))
            );
            let rows: Vec<LedgerRow> =
                sqlx::query_as(AssertSqlSafe(statement)).bind(up_to).fetch_all(&mut *conn).await?;
            copied.extend(rows);
        }
    }
    Ok(copied)
}

const SET_DROPPED: &str = "
UPDATE prune_state SET position = $1, position_digest = $2 WHERE only_row AND position < $1";

/// What the relay still had of entries that are dropped all the same.
const FORGET_RELAY: [&str; 2] = [
    "DELETE FROM relay_outbox o WHERE o.time_ms < $1 AND NOT EXISTS (
         SELECT FROM ledger l WHERE l.sdk_app_id = o.sdk_app_id AND l.group_id = o.group_id AND l.time_ms = o.time_ms
            AND l.digest = o.digest)",
    "DELETE FROM relay_skipped o WHERE o.time_ms < $1 AND NOT EXISTS (
         SELECT FROM ledger l WHERE l.sdk_app_id = o.sdk_app_id AND l.group_id = o.group_id AND l.time_ms = o.time_ms
            AND l.digest = o.digest)",
];

/// Puts the new partitions in the place of the old ones, which become tables of their own. Under the lock.
///
/// # Errors
/// A statement's.
pub async fn exchange(
    conn: &mut PgConnection,
    old: &OldPartitions,
    dropped: &PruneState,
    with_relay: bool,
) -> Result<(), sqlx::Error> {
    for (at, table) in CUT.into_iter().enumerate() {
        for part in old.parts(at) {
            let (part, out) = (quoted(part), quoted(&format!("pruned_{part}")));
            run(conn, format!("ALTER TABLE {table} DETACH PARTITION {part}")).await?;
            run(conn, format!("ALTER TABLE {part} RENAME TO {out}")).await?;
        }
        if let Some((end_ms, _)) = &old.exchanged[at] {
            let (new, past) = (next(table), format!("{table}_past"));
            let attach = format!(
                "ALTER TABLE {table} ATTACH PARTITION {new} FOR VALUES FROM (MINVALUE) TO ({end_ms})"
            );
            run(conn, attach).await?;
            run(conn, format!("ALTER TABLE {new} DROP CONSTRAINT {new}_bound")).await?;
            run(conn, format!("ALTER TABLE {new} RENAME TO {past}")).await?;
        }
    }
    if !with_relay {
        for statement in FORGET_RELAY {
            sqlx::query(statement).bind(old.end_ms()).execute(&mut *conn).await?;
        }
    }
    let place = &dropped.dropped;
    sqlx::query(SET_DROPPED).bind(place.position).bind(&place.digest).execute(conn).await.map(drop)
}

/// Notes of positions below the last one that was dropped: no cursor there is taken any more.
const FORGET_MOVES: &str = "DELETE FROM ledger_moves WHERE position < (SELECT position FROM prune_state)";

/// Rows of people whose entries are gone, where the index of people is cut later than the ledger.
const STRAYS: &str = "
DELETE FROM ledger_people p
 WHERE p.time_ms >= $1 AND p.time_ms < $2
   AND NOT EXISTS (SELECT FROM ledger l WHERE l.sdk_app_id = p.sdk_app_id AND l.group_id = p.group_id
                      AND l.time_ms = p.time_ms AND l.digest = p.digest)";

/// Deletes what an exchange has left of no use.
///
/// # Errors
/// A statement's.
pub async fn tidy(conn: &mut PgConnection) -> Result<(), sqlx::Error> {
    sqlx::query(FORGET_MOVES).execute(&mut *conn).await?;
    let (ledger, people) = (ended(conn, CUT[0]).await?, ended(conn, CUT[1]).await?);
    let Some((.., end_ms)) = ledger.first() else { return Ok(()) };
    let from_ms = people.iter().rfind(|(.., end)| end <= end_ms).map_or(i64::MIN, |(.., end_ms)| *end_ms);
    if from_ms < *end_ms {
        sqlx::query(STRAYS).bind(from_ms).bind(end_ms).execute(&mut *conn).await?;
    }
    Ok(())
}

/// Gathers the planner's statistics of the new partition.
///
/// # Errors
/// The statement's.
pub async fn analyze(conn: &mut PgConnection) -> Result<(), sqlx::Error> {
    run(conn, format!("ANALYZE {}_past", CUT[0])).await
}

/// A name as an identifier.
fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

async fn run(conn: &mut PgConnection, statement: String) -> Result<(), sqlx::Error> {
    sqlx::raw_sql(AssertSqlSafe(statement)).execute(conn).await.map(drop)
}
