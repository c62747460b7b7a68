//! Statements on the outbox of the relay: who delivers what, what is next in a group, and what was delivered or given up.
//!
//! Entries come into it with their ledger entry (`entry_door`). Each belongs to one process by that process's number, which is
//! also the name of an advisory lock that its session holds: a number without a lock is that of a process that has ended
//! or lost its database, and another one takes its entries over. Each function is one statement that commits by itself,
//! without waiting for the disk: what a crash of the server takes back is delivered a second time.

use sqlx::{FromRow, PgConnection};

/// The class of the advisory locks; the other half of a lock's name is the number of a process.
const LOCK_CLASS: i32 = 0x0067_6d6f;

/// The number that no process has: that of entries which wait for one, and of the lock that only one process holds, which
/// gives them out.
pub const NO_OWNER: i32 = 0;

/// The key of an entry, in the ledger and in the outbox.
#[derive(Debug, Clone, PartialEq, Eq, Hash, FromRow)]
pub struct EntryKey {
    /// The app.
    pub sdk_app_id: i64,
    /// The group; empty where unknown.
    pub group_id: String,
    /// Its place in time.
    pub time_ms: i64,
    /// What a repeat is known by.
    pub digest: Vec<u8>,
}

/// The columns of several keys, as arrays.
type KeyColumns<'a> = (Vec<i64>, Vec<&'a str>, Vec<i64>, Vec<&'a [u8]>);

fn columns<'a>(keys: impl Iterator<Item = &'a EntryKey> + Clone) -> KeyColumns<'a> {
    (
        keys.clone().map(|key| key.sdk_app_id).collect(),
        keys.clone().map(|key| key.group_id.as_str()).collect(),
        keys.clone().map(|key| key.time_ms).collect(),
        keys.map(|key| key.digest.as_slice()).collect(),
    )
}

/// Takes the lock of a number for as long as the session lives; false where another session has it.
///
/// # Errors
/// The statement's.
pub async fn lock(conn: &mut PgConnection, number: i32) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar("SELECT pg_try_advisory_lock($1, $2)")
        .bind(LOCK_CLASS)
        .bind(number)
        .fetch_one(conn)
        .await
}

/// By one probe of the index for each number, however many entries there are.
const OWNERS: &str = r"
WITH RECURSIVE owners AS (
    (SELECT owner FROM relay_outbox ORDER BY owner LIMIT 1)
    UNION ALL
    SELECT (SELECT r.owner FROM relay_outbox r WHERE r.owner > o.owner ORDER BY r.owner LIMIT 1)
      FROM owners o WHERE o.owner IS NOT NULL)
SELECT owner, owner > 0 AND EXISTS (
       SELECT FROM pg_locks l
        WHERE l.locktype = 'advisory' AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
          AND l.classid = $1::bigint::oid AND l.objid::bigint = owner AND l.objsubid = 2 AND l.granted)
  FROM owners
 WHERE owner IS NOT NULL";

/// The numbers in the outbox, and whether their process holds its lock: that of no process never.
///
/// # Errors
/// The statement's.
pub async fn owners(conn: &mut PgConnection) -> Result<Vec<(i64, bool)>, sqlx::Error> {
    sqlx::query_as(OWNERS).bind(i64::from(LOCK_CLASS)).fetch_all(conn).await
}

/// How many entries change hands in one statement.
const TAKEN_OVER_MAX: i64 = 20_000;

/// A group stays whole: where another process that is alive has entries of it, it gets these as well.
const TAKE_OVER: &str = r"
UPDATE relay_outbox t
   SET owner = COALESCE((SELECT a.owner FROM UNNEST($5::bigint[]) AS a (owner)
                          WHERE EXISTS (SELECT FROM relay_outbox o
                                         WHERE o.owner = a.owner AND o.sdk_app_id = t.sdk_app_id AND o.order_key = t.order_key)
                          ORDER BY a.owner LIMIT 1), $2)
  FROM (SELECT set_config('synchronous_commit', 'off', true)) s
 WHERE t.ctid = ANY (ARRAY(SELECT r.ctid FROM relay_outbox r
                            WHERE r.owner = ANY ($1) AND r.sdk_app_id = ANY ($3) LIMIT $4))";

/// Gives entries of processes that have ended to one, for these apps, or to one of those that are alive and have their group;
/// how many.
///
/// # Errors
/// The statement's.
pub async fn take_over(
    conn: &mut PgConnection,
    (ended, alive): (&[i64], &[i64]),
    owner: i64,
    apps: &[i64],
) -> Result<u64, sqlx::Error> {
    let query = sqlx::query(TAKE_OVER).bind(ended).bind(owner).bind(apps).bind(TAKEN_OVER_MAX).bind(alive);
    Ok(query.execute(conn).await?.rows_affected())
}

/// By one probe of an index for each group.
const GROUPS_HANDED_OVER: &str = r"
WITH RECURSIVE g AS (
    (SELECT sdk_app_id, order_key FROM relay_outbox
      WHERE owner = $1 AND owner <> origin AND (sdk_app_id, order_key) > ($2, $3)
      ORDER BY sdk_app_id, order_key LIMIT 1)
    UNION ALL
    SELECT n.sdk_app_id, n.order_key
      FROM g CROSS JOIN LATERAL (
           SELECT sdk_app_id, order_key FROM relay_outbox r
            WHERE r.owner = $1 AND r.owner <> r.origin AND (r.sdk_app_id, r.order_key) > (g.sdk_app_id, g.order_key)
            ORDER BY r.sdk_app_id, r.order_key LIMIT 1) n)
SELECT sdk_app_id, order_key FROM g LIMIT $4";

/// The same for every group of a process.
const GROUPS_OWNED: &str = r"
WITH RECURSIVE g AS (
    (SELECT sdk_app_id, order_key FROM relay_outbox
      WHERE owner = $1 AND (sdk_app_id, order_key) > ($2, $3)
      ORDER BY sdk_app_id, order_key LIMIT 1)
    UNION ALL
    SELECT n.sdk_app_id, n.order_key
      FROM g CROSS JOIN LATERAL (
           SELECT sdk_app_id, order_key FROM relay_outbox r
            WHERE r.owner = $1 AND (r.sdk_app_id, r.order_key) > (g.sdk_app_id, g.order_key)
            ORDER BY r.sdk_app_id, r.order_key LIMIT 1) n)
SELECT sdk_app_id, order_key FROM g LIMIT $4";

/// An app, and what is delivered in order in it: a group, or one callback without a group.
pub type OrderKey = (i64, String);

/// Groups with entries of a process, after one, in the order of their keys: all of them, or those with an entry that another
/// process has entered.
///
/// # Errors
/// The statement's.
pub async fn groups(
    conn: &mut PgConnection,
    owner: i64,
    only_handed_over: bool,
    (app, order_key): &OrderKey,
    limit: i64,
) -> Result<Vec<OrderKey>, sqlx::Error> {
    let statement = if only_handed_over { GROUPS_HANDED_OVER } else { GROUPS_OWNED };
    sqlx::query_as(statement).bind(owner).bind(app).bind(order_key).bind(limit).fetch_all(conn).await
}

/// An entry that waits, without its request.
#[derive(Debug, Clone, FromRow)]
pub struct WaitingRow {
    /// What is delivered in order.
    pub order_key: String,
    /// Its key.
    #[sqlx(flatten)]
    pub key: EntryKey,
    /// The process that has entered it.
    pub origin: i64,
    /// Time of receipt, Unix milliseconds.
    pub received_ms: i64,
    /// Position of the ledger entry when it was queued.
    pub position: i64,
    /// `RequestTime` as it came.
    pub request_time: Option<i64>,
    /// How many attempts have failed.
    pub attempts: i32,
    /// What the last one failed with.
    pub failure: Option<String>,
    /// Queued by hand.
    pub again: bool,
    /// How many bytes its body has; none where the ledger does not have the entry any more.
    pub body_bytes: Option<i32>,
}

const WAITING: &str = r"
SELECT o.order_key, o.sdk_app_id, o.group_id, o.time_ms, o.digest, o.origin,
       round(extract(epoch FROM o.received_at) * 1000)::bigint AS received_ms, o.position, o.request_time, o.attempts,
       o.failure, o.again,
       (SELECT octet_length(l.body) FROM ledger l
         WHERE (l.sdk_app_id, l.group_id, l.time_ms, l.digest) = (o.sdk_app_id, o.group_id, o.time_ms, o.digest)) AS body_bytes
  FROM UNNEST($2::bigint[], $3::text[]) AS g (app, order_key)
 CROSS JOIN LATERAL (
       SELECT * FROM relay_outbox r
        WHERE r.sdk_app_id = g.app AND r.order_key = g.order_key AND r.owner = $1
        ORDER BY r.place, r.received_at, r.position LIMIT $4) o
 ORDER BY o.sdk_app_id, o.order_key, o.place, o.received_at, o.position";

/// The first entries of each of these groups, in order, at most `limit` of each.
///
/// # Errors
/// The statement's.
pub async fn waiting(
    conn: &mut PgConnection,
    owner: i64,
    groups: &[OrderKey],
    limit: i64,
) -> Result<Vec<WaitingRow>, sqlx::Error> {
    let (apps, keys): (Vec<i64>, Vec<&str>) = groups.iter().map(|(app, key)| (*app, key.as_str())).unzip();
    sqlx::query_as(WAITING).bind(owner).bind(apps).bind(keys).bind(limit).fetch_all(conn).await
}

/// A request as the ledger has it.
#[derive(Debug, Clone, FromRow)]
pub struct KeptRequest {
    /// Its key.
    #[sqlx(flatten)]
    pub key: EntryKey,
    /// The command that counted.
    pub command: String,
    /// The command of the query, where it differed.
    pub query_command: Option<String>,
    /// `ClientIP` of the query.
    pub client_ip: Option<String>,
    /// `OptPlatform` of the query.
    pub platform: Option<String>,
    /// `RequestID` of the query.
    pub request_id: Option<String>,
    /// The query without its signature; none where the app had no relay at its receipt.
    pub query: Option<String>,
    /// `Content-Type`, each byte as a character.
    pub content_type: Option<String>,
    /// The body as it came.
    pub body: Vec<u8>,
}

const REQUESTS: &str = r"
SELECT l.sdk_app_id, l.group_id, l.time_ms, l.digest, l.command, l.query_command,
       ledger_client_ip(l.client_ip, l.odd_values) AS client_ip, ledger_platform(l.platform, l.odd_values) AS platform,
       ledger_request_id(l.request_id, l.odd_values) AS request_id, l.query, l.content_type, l.body
  FROM UNNEST($1::bigint[], $2::text[], $3::bigint[], $4::bytea[]) AS k (app, group_id, time_ms, digest)
  JOIN ledger l ON l.sdk_app_id = k.app AND l.group_id = k.group_id AND l.time_ms = k.time_ms AND l.digest = k.digest";

/// The requests of these entries, in any order.
///
/// # Errors
/// The statement's.
pub async fn requests(conn: &mut PgConnection, keys: &[EntryKey]) -> Result<Vec<KeptRequest>, sqlx::Error> {
    let (apps, groups, times, digests) = columns(keys.iter());
    sqlx::query_as(REQUESTS).bind(apps).bind(groups).bind(times).bind(digests).fetch_all(conn).await
}

const DELIVERED: &str = r"
DELETE FROM relay_outbox o
 USING UNNEST($1::bigint[], $2::text[], $3::bigint[], $4::bytea[]) AS k (app, group_id, time_ms, digest),
       (SELECT set_config('synchronous_commit', 'off', true)) s
 WHERE o.sdk_app_id = k.app AND o.group_id = k.group_id AND o.time_ms = k.time_ms AND o.digest = k.digest";

/// Takes out what was delivered.
///
/// # Errors
/// The statement's.
pub async fn delivered(conn: &mut PgConnection, keys: &[EntryKey]) -> Result<(), sqlx::Error> {
    let (apps, groups, times, digests) = columns(keys.iter());
    let query = sqlx::query(DELIVERED).bind(apps).bind(groups).bind(times).bind(digests);
    query.execute(conn).await.map(drop)
}

/// An attempt that failed.
#[derive(Debug, Clone)]
pub struct FailedAttempt {
    /// Of this entry.
    pub key: EntryKey,
    /// How many have failed by now.
    pub attempts: i32,
    /// What it failed with, as a label.
    pub failure: String,
}

/// A group in which two processes have entries (both entered one at the same time) goes to one of them, so that it is in order
/// from the first failure on.
const FAILED: &str = r"
WITH k AS (
    SELECT * FROM UNNEST($1::bigint[], $2::text[], $3::bigint[], $4::bytea[], $5::int[], $6::text[])
        AS k (app, group_id, time_ms, digest, attempts, failure)),
counted AS (
    UPDATE relay_outbox o SET attempts = k.attempts, failure = k.failure
      FROM k, (SELECT set_config('synchronous_commit', 'off', true)) s
     WHERE o.sdk_app_id = k.app AND o.group_id = k.group_id AND o.time_ms = k.time_ms AND o.digest = k.digest
    RETURNING o.sdk_app_id, o.order_key, o.owner)
SELECT DISTINCT c.sdk_app_id, c.order_key, first.owner
  FROM counted c CROSS JOIN LATERAL (
       SELECT r.owner FROM relay_outbox r
        WHERE r.sdk_app_id = c.sdk_app_id AND r.order_key = c.order_key AND r.origin > 0
        ORDER BY r.origin LIMIT 1) first
 WHERE c.owner = $7 AND first.owner > 0 AND first.owner <> $7";

const HAND_OVER: &str = r"
UPDATE relay_outbox o SET owner = g.owner
  FROM UNNEST($1::bigint[], $2::text[], $3::bigint[]) AS g (app, order_key, owner)
 WHERE o.sdk_app_id = g.app AND o.order_key = g.order_key AND o.owner = $4";

/// Notes attempts that failed, and hands groups over that belong to another process as well.
///
/// # Errors
/// A statement's.
pub async fn failed(
    conn: &mut PgConnection,
    failed: &[FailedAttempt],
    owner: i64,
) -> Result<(), sqlx::Error> {
    let (apps, groups, times, digests) = columns(failed.iter().map(|one| &one.key));
    let shared: Vec<(i64, String, i64)> = sqlx::query_as(FAILED)
        .bind(apps)
        .bind(groups)
        .bind(times)
        .bind(digests)
        .bind(failed.iter().map(|one| one.attempts).collect::<Vec<_>>())
        .bind(failed.iter().map(|one| one.failure.as_str()).collect::<Vec<_>>())
        .bind(owner)
        .fetch_all(&mut *conn)
        .await?;
    if shared.is_empty() {
        return Ok(());
    }
    let query = sqlx::query(HAND_OVER)
        .bind(shared.iter().map(|(app, ..)| *app).collect::<Vec<_>>())
        .bind(shared.iter().map(|(_, order_key, _)| order_key.as_str()).collect::<Vec<_>>())
        .bind(shared.iter().map(|(.., first)| *first).collect::<Vec<_>>());
    query.bind(owner).execute(conn).await.map(drop)
}

const SKIPPED: &str = r"
WITH k AS (
    SELECT * FROM UNNEST($1::bigint[], $2::text[], $3::bigint[], $4::bytea[], $5::int[], $6::text[])
        AS k (app, group_id, time_ms, digest, attempts, failure)),
gone AS (
    DELETE FROM relay_outbox o USING k
     WHERE o.sdk_app_id = k.app AND o.group_id = k.group_id AND o.time_ms = k.time_ms AND o.digest = k.digest
    RETURNING o.sdk_app_id, o.group_id, o.time_ms, o.digest, o.received_at, k.attempts, k.failure)
INSERT INTO relay_skipped (sdk_app_id, group_id, time_ms, digest, received_at, attempts, failure)
SELECT * FROM gone
ON CONFLICT (sdk_app_id, group_id, time_ms, digest)
DO UPDATE SET skipped_at = now(), attempts = EXCLUDED.attempts, failure = EXCLUDED.failure";

/// Notes what is not tried any more, in the place of its entry in the outbox.
///
/// # Errors
/// The statement's.
pub async fn skipped(conn: &mut PgConnection, skipped: &[FailedAttempt]) -> Result<(), sqlx::Error> {
    let (apps, groups, times, digests) = columns(skipped.iter().map(|one| &one.key));
    let query = sqlx::query(SKIPPED).bind(apps).bind(groups).bind(times).bind(digests);
    let attempts = skipped.iter().map(|one| one.attempts).collect::<Vec<_>>();
    let failures = skipped.iter().map(|one| one.failure.as_str()).collect::<Vec<_>>();
    query.bind(attempts).bind(failures).execute(conn).await.map(drop)
}
