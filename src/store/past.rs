//! The exchange of old partitions for one that holds what stays of them.
//!
//! The partitions of the ledger have no hole, because a callback of any time may still come. So what stays of the pruned ones, and
//! what comes for their time later, goes into a new partition of everything that is past. It is filled beside readers and writers,
//! up to a high watermark. What was entered behind that is copied in the transaction that exchanges the partitions, under the one
//! lock that writers feel. The tables that were taken out are dropped after that, which takes no lock on the ledger.
//!
//! Only the owner of the tables can do this. The statements work on the connection they are given.

use sqlx::{AssertSqlSafe, PgConnection};

use super::prune::PruneState;
use super::rebuild::REPLAY_LOCK;

/// How long a statement may take while the ledger is locked.
const STATEMENT_SECS_MAX: u32 = 1;

/// The tables that are cut by time.
pub(super) const CUT: [&str; 2] = ["ledger", "ledger_people"];

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

    pub(super) fn parts(&self, at: usize) -> impl Iterator<Item = &str> {
        self.exchanged[at].iter().flat_map(|(_, parts)| parts).map(String::as_str)
    }

    pub(super) fn people_end_ms(&self) -> Option<i64> {
        self.exchanged[1].as_ref().map(|(end, _)| *end)
    }
}

/// The new partition while it is filled.
pub(super) fn next(table: &str) -> String {
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

/// Partitions of which no automatic vacuum takes care.
const WITHOUT_VACUUM: &str = "
SELECT c.relname::text FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
 WHERE i.inhparent = ANY (ARRAY[to_regclass($1), to_regclass($2)]) AND 'autovacuum_enabled=off' = ANY (c.reloptions)";

/// Lets automatic vacuums take care of the old partitions again, where they were not exchanged.
///
/// # Errors
/// A statement's.
pub async fn restore_vacuum(conn: &mut PgConnection) -> Result<(), sqlx::Error> {
    let query = sqlx::query_scalar(WITHOUT_VACUUM).bind(CUT[0]).bind(CUT[1]);
    let parts: Vec<String> = query.fetch_all(&mut *conn).await?;
    for part in &parts {
        run(conn, format!("ALTER TABLE {} RESET (autovacuum_enabled)", quoted(part))).await?;
    }
    Ok(())
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

/// Locks ledger and index of people against everything, in a transaction that has done nothing before. Each statement after that
/// sees what was committed before the lock was given, whatever isolation is the server's default. Partitions that stay are not
/// locked: an automatic vacuum of one may run for hours.
///
/// # Errors
/// A statement's: a lock that was not given in time.
pub async fn lock_tables(conn: &mut PgConnection, old: &OldPartitions) -> Result<(), sqlx::Error> {
    let mut tables: Vec<String> = CUT.iter().map(|table| format!("ONLY {table}")).collect();
    for (at, table) in CUT.into_iter().enumerate() {
        tables.extend(old.parts(at).map(quoted));
        tables.push(format!("{table}_default"));
    }
    let tables = tables.join(", ");
    let statements = [
        "SET TRANSACTION ISOLATION LEVEL READ COMMITTED".to_owned(),
        format!("SET LOCAL statement_timeout = '{STATEMENT_SECS_MAX}s'"),
        // By the key and by position: there is little to be copied, in large tables.
        "SET LOCAL enable_hashjoin = off; SET LOCAL enable_mergejoin = off".to_owned(),
        format!("LOCK TABLE {tables} IN ACCESS EXCLUSIVE MODE"),
    ];
    run(conn, statements.join("; ")).await
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
    let mut statements = Vec::new();
    for (at, table) in CUT.into_iter().enumerate() {
        for part in old.parts(at) {
            let (part, out) = (quoted(part), quoted(&format!("pruned_{part}")));
            statements.push(format!("ALTER TABLE {table} DETACH PARTITION {part}"));
            statements.push(format!("ALTER TABLE {part} RENAME TO {out}"));
        }
        if let Some((end_ms, _)) = &old.exchanged[at] {
            let (new, past) = (next(table), format!("{table}_past"));
            let attach = format!(
                "ALTER TABLE {table} ATTACH PARTITION {new} FOR VALUES FROM (MINVALUE) TO ({end_ms})"
            );
            statements.push(attach);
            statements.push(format!("ALTER TABLE {new} DROP CONSTRAINT {new}_bound"));
            statements.push(format!("ALTER TABLE {new} RENAME TO {past}"));
        }
    }
    // One round trip: there may be hundreds.
    run(conn, statements.join("; ")).await?;
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
pub(super) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

pub(super) async fn run(conn: &mut PgConnection, statement: String) -> Result<(), sqlx::Error> {
    sqlx::raw_sql(AssertSqlSafe(statement)).execute(conn).await.map(drop)
}
