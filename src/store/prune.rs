//! How far the ledger is pruned, and which of its entries can be: read by every reader of history and of the feed, written by
//! `prune` alone.
//!
//! An entry is folded into a checkpoint only if nothing can change it any more. It was applied as a whole, its key holds its own
//! event time, and it is older than the limits by event time, by receipt and by its position in the feed. So it does no harm where
//! a checkpoint holds an entry that the ledger has as well, which is what an interrupted run leaves.

use chrono::{DateTime, Utc};
use futures_util::stream::BoxStream;
use sqlx::{AssertSqlSafe, FromRow, PgConnection};

use super::feed::FeedPlace;
use super::high_watermark;
use super::ledger::LedgerRow;
use super::ledger_walk::StoredGroup;
use super::partitions::TimeSpan;

/// How far the ledger is pruned.
#[derive(Debug, Clone, PartialEq, Eq, FromRow)]
pub struct PruneState {
    /// From when on history is whole, Unix milliseconds; none: nothing was pruned.
    pub pruned_until_ms: Option<i64>,
    /// The last place in the feed from which an entry was dropped; the start: none.
    #[sqlx(flatten)]
    pub dropped: FeedPlace,
}

const STATE: &str =
    "SELECT pruned_until_ms, position, position_digest AS digest FROM prune_state WHERE only_row";

/// How far the ledger is pruned.
///
/// # Errors
/// The statement's; a table without its row.
pub async fn state(conn: &mut PgConnection) -> Result<PruneState, sqlx::Error> {
    sqlx::query_as(STATE).fetch_one(conn).await
}

/// From when on history is whole, Unix milliseconds; none: nothing was pruned.
///
/// # Errors
/// As above.
pub async fn whole_since(conn: &mut PgConnection) -> Result<Option<i64>, sqlx::Error> {
    Ok(state(conn).await?.pruned_until_ms)
}

/// Keeps other runs from reading and writing checkpoints until the end of the transaction.
///
/// # Errors
/// The statement's.
pub async fn lock_checkpoints(conn: &mut PgConnection) -> Result<(), sqlx::Error> {
    sqlx::query("SELECT FROM prune_state WHERE only_row FOR UPDATE").execute(conn).await.map(drop)
}

/// Says that history may not be whole before a time any more. A time that was said once is never taken back.
///
/// # Errors
/// The statement's.
pub async fn raise_until(conn: &mut PgConnection, until_ms: i64) -> Result<(), sqlx::Error> {
    let raise = "UPDATE prune_state SET pruned_until_ms = greatest(pruned_until_ms, $1) WHERE only_row";
    sqlx::query(raise).bind(until_ms).execute(conn).await.map(drop)
}

/// What may be dropped: what is older than each of these.
#[derive(Debug, Clone)]
pub struct PruneLimits {
    /// By event time, Unix milliseconds.
    pub until_ms: i64,
    /// By receipt.
    pub received_before: DateTime<Utc>,
    /// By position in the feed: no entry that was received later has a lower one.
    pub before_position: i64,
}

/// An entry that can be folded into a checkpoint: the limits are `$1` to `$3`.
const FOLDABLE: &str = "time_ms < $1 AND received_at < $2 AND position < $3 AND outcome = 'applied'
   AND NOT (event_time_ms IS DISTINCT FROM time_ms AND ledger_request_id(request_id, odd_values) IS NOT NULL)";

/// An entry that the relay still needs, in a table of the ledger called `l`.
const OF_RELAY: &str =
    "(EXISTS (SELECT FROM relay_outbox o WHERE o.sdk_app_id = l.sdk_app_id AND o.group_id = l.group_id
                AND o.time_ms = l.time_ms AND o.digest = l.digest)
     OR EXISTS (SELECT FROM relay_skipped o WHERE o.sdk_app_id = l.sdk_app_id AND o.group_id = l.group_id
                AND o.time_ms = l.time_ms AND o.digest = l.digest))";

/// The condition on entries that stay, in a table of the ledger called `l`. The limits are `$1` to `$3`.
pub(super) fn stays(with_relay: bool) -> String {
    if with_relay { format!("(NOT ({FOLDABLE}) OR {OF_RELAY})") } else { format!("NOT ({FOLDABLE})") }
}

/// The entries of a range of groups within a time that can be folded into checkpoints.
pub fn foldable<'a>(
    conn: &'a mut PgConnection,
    limits: &'a PruneLimits,
    (after, last): (&'a StoredGroup, &'a StoredGroup),
    time: TimeSpan,
    statement: &'a str,
) -> BoxStream<'a, Result<LedgerRow, sqlx::Error>> {
    let query = sqlx::query_as(AssertSqlSafe(statement)).bind(limits.until_ms).bind(limits.received_before);
    let query = query.bind(limits.before_position).bind(after.0).bind(&after.1).bind(last.0).bind(&last.1);
    query.bind(time.first_ms).bind(time.last_ms).fetch(conn)
}

/// The statement of [`foldable`].
#[must_use]
pub fn foldable_statement() -> String {
    format!(
        r"
SELECT sdk_app_id, group_id, time_ms, digest, command, query_command,
       ledger_request_id(request_id, odd_values) AS request_id,
       round(extract(epoch FROM received_at) * 1000)::bigint AS received_ms, source, outcome, reason, causes, body
  FROM ledger
 WHERE {FOLDABLE}
   AND (sdk_app_id, group_id) > ($4, $5) AND (sdk_app_id, group_id) <= ($6, $7) AND time_ms >= $8 AND time_ms <= $9"
    )
}

/// How many entries of a ledger can be folded, and how many older ones stay.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, FromRow)]
pub struct PruneCount {
    /// Those that can be folded and dropped.
    pub foldable: i64,
    /// Those that are older by event time and stay all the same.
    pub staying: i64,
}

/// Counts what a run would do.
///
/// # Errors
/// The statement's.
pub async fn count(
    conn: &mut PgConnection,
    limits: &PruneLimits,
    with_relay: bool,
) -> Result<PruneCount, sqlx::Error> {
    let stays = stays(with_relay);
    let statement = format!(
        "SELECT count(*) FILTER (WHERE NOT {stays}) AS foldable, count(*) FILTER (WHERE {stays}) AS staying
           FROM ledger l WHERE time_ms < $1"
    );
    let query = sqlx::query_as(AssertSqlSafe(statement)).bind(limits.until_ms).bind(limits.received_before);
    query.bind(limits.before_position).fetch_one(conn).await
}

const FIRST_RECEIVED: &str = "
SELECT position FROM ledger WHERE position > $1 AND position <= $2 AND received_at >= $3 ORDER BY position LIMIT 1";

/// The first position, up to and with a high watermark, of an entry that was received at a time or later; the one behind the
/// high watermark where there is none. What was received before and has a higher position stays: a follower that was never
/// further behind than that time has read everything below the position that is answered.
///
/// # Errors
/// A statement's.
pub async fn first_position_since(
    conn: &mut PgConnection,
    high_watermark: &FeedPlace,
    time: DateTime<Utc>,
) -> Result<i64, sqlx::Error> {
    // A mark says that all up to there was received before: the search need not begin at the first entry.
    let marked = high_watermark::marked_before(conn, time).await?;
    let query = sqlx::query_scalar(FIRST_RECEIVED).bind(marked.position).bind(high_watermark.position);
    let first: Option<i64> = query.bind(time).fetch_optional(conn).await?;
    Ok(first.unwrap_or(high_watermark.position + 1))
}

/// True where there is an entry that can be folded and dropped, without what the relay still needs or with it.
///
/// # Errors
/// The statement's.
pub async fn is_any_foldable(
    conn: &mut PgConnection,
    limits: &PruneLimits,
    with_relay: bool,
) -> Result<bool, sqlx::Error> {
    let statement = format!("SELECT EXISTS (SELECT FROM ledger l WHERE NOT {})", stays(with_relay));
    let query = sqlx::query_scalar(AssertSqlSafe(statement)).bind(limits.until_ms);
    query.bind(limits.received_before).bind(limits.before_position).fetch_one(conn).await
}

/// The entry at the greatest position among those that can be dropped and are not in a table of what stays; the start where
/// there is none.
///
/// # Errors
/// The statement's.
pub(super) async fn last_dropped(
    conn: &mut PgConnection,
    limits: &PruneLimits,
    staying: &str,
) -> Result<FeedPlace, sqlx::Error> {
    let statement = format!(
        "SELECT l.position, encode(substr(l.digest, 1, 4), 'hex') AS digest FROM ledger l
          WHERE {FOLDABLE} AND NOT EXISTS (
                SELECT FROM {staying} n WHERE n.sdk_app_id = l.sdk_app_id AND n.group_id = l.group_id
                   AND n.time_ms = l.time_ms AND n.digest = l.digest)
          ORDER BY l.position DESC LIMIT 1"
    );
    let query = sqlx::query_as(AssertSqlSafe(statement)).bind(limits.until_ms).bind(limits.received_before);
    let place: Option<FeedPlace> = query.bind(limits.before_position).fetch_optional(conn).await?;
    Ok(place.unwrap_or(FeedPlace::start()))
}

/// Keeps the partitions from being exchanged until the end of the transaction. Before the first other statement of one that reads
/// a single snapshot: with a snapshot from before the exchange it would see neither the old partitions nor what was copied out
/// of them.
///
/// # Errors
/// The statement's.
pub async fn hold_partitions(conn: &mut PgConnection) -> Result<(), sqlx::Error> {
    sqlx::query("LOCK TABLE ONLY ledger IN ACCESS SHARE MODE").execute(conn).await.map(drop)
}
