//! Statements on the ledger. Callbacks go in with their outcome; an equal key means that it is here already.
//!
//! The only file that writes that table; `history` reads it for one group. Rows come from `ingest`; nothing here decides
//! what they mean.

use std::collections::HashSet;

use sqlx::PgConnection;

use crate::callback::Callback;
use crate::model::{Millis, storable};

/// One statement for the whole batch, in key order, so that two batches that share callbacks wait for each other and
/// do not deadlock. `ON CONFLICT` names no index: an equal `RequestID` counts as well.
const INSERT: &str = r"
INSERT INTO ledger (sdk_app_id, group_id, time_ms, digest, command, event_time_ms, received_at, source, outcome,
                    reason, query_command, client_ip, platform, request_id, body)
SELECT app, group_id, time_ms, digest, command, event_time_ms, to_timestamp(received_ms / 1000.0), 'callback',
       CASE WHEN reason IS NULL THEN 'applied' ELSE 'parked' END,
       reason, query_command, client_ip, platform, request_id, body
  FROM UNNEST($1::bigint[], $2::text[], $3::bigint[], $4::bytea[], $5::text[], $6::bigint[], $7::bigint[],
              $8::text[], $9::text[], $10::text[], $11::text[], $12::text[], $13::bytea[])
    AS batch (app, group_id, time_ms, digest, command, event_time_ms, received_ms,
              reason, query_command, client_ip, platform, request_id, body)
ON CONFLICT DO NOTHING
RETURNING sdk_app_id, group_id, time_ms, digest";

type Key = (i64, String, i64, Vec<u8>);

fn key(callback: &Callback) -> Key {
    let group = callback.group.as_ref().map_or("", |group| group.as_str());
    (callback.received.app.get(), group.to_owned(), callback.time.get(), callback.digest.as_bytes().to_vec())
}

/// Inserts callbacks; answers for each, in the order given, whether it is new. Of two equal ones in one batch the
/// first is.
///
/// # Errors
/// The statement's.
pub async fn insert_batch(conn: &mut PgConnection, batch: &[&Callback]) -> Result<Vec<bool>, sqlx::Error> {
    let keys: Vec<Key> = batch.iter().map(|callback| key(callback)).collect();
    let mut order: Vec<usize> = (0..batch.len()).collect();
    order.sort_by(|a, b| keys[*a].cmp(&keys[*b]));
    order.dedup_by(|later, first| keys[*later] == keys[*first]);
    let column = order.iter().map(|at| batch[*at]);
    let texts = |pick: fn(&Callback) -> Option<&String>| -> Vec<Option<String>> {
        column.clone().map(|callback| pick(callback).map(|text| storable(text))).collect()
    };
    let inserted: Vec<Key> = sqlx::query_as(INSERT)
        .bind(order.iter().map(|at| keys[*at].0).collect::<Vec<_>>())
        .bind(order.iter().map(|at| keys[*at].1.as_str()).collect::<Vec<_>>())
        .bind(order.iter().map(|at| keys[*at].2).collect::<Vec<_>>())
        .bind(order.iter().map(|at| keys[*at].3.as_slice()).collect::<Vec<_>>())
        .bind(column.clone().map(|callback| callback.command.as_str()).collect::<Vec<_>>())
        .bind(column.clone().map(|callback| callback.event_time.map(Millis::get)).collect::<Vec<_>>())
        .bind(column.clone().map(|callback| callback.received.received_at.get()).collect::<Vec<_>>())
        .bind(texts(|callback| callback.event.as_ref().err()))
        .bind(texts(|callback| {
            callback.received.query_command.as_ref().filter(|command| **command != callback.command)
        }))
        .bind(texts(|callback| callback.received.client_ip.as_ref()))
        .bind(texts(|callback| callback.received.platform.as_ref()))
        .bind(texts(|callback| callback.received.request_id.as_ref()))
        .bind(column.clone().map(|callback| callback.received.body.as_slice()).collect::<Vec<_>>())
        .fetch_all(conn)
        .await?;
    let inserted: HashSet<Key> = inserted.into_iter().collect();
    let mut new = vec![false; batch.len()];
    order.iter().for_each(|at| new[*at] = inserted.contains(&keys[*at]));
    Ok(new)
}

const RECEIVE_EARLIER: &str = r"
UPDATE ledger l SET time_ms = $5, received_at = to_timestamp($5 / 1000.0), position = DEFAULT
 WHERE l.sdk_app_id = $1 AND l.group_id = $2 AND l.digest = $3 AND l.request_id = $4 AND l.event_time_ms IS NULL
   AND l.time_ms > $5
   AND NOT EXISTS (SELECT FROM ledger o WHERE o.sdk_app_id = $1 AND o.group_id = $2 AND o.time_ms = $5 AND o.digest = $3)";

const RECEIVED_LATER: &str = r"
SELECT EXISTS (SELECT FROM ledger l
                WHERE l.sdk_app_id = $1 AND l.group_id = $2 AND l.digest = $3 AND l.request_id = $4
                  AND l.event_time_ms IS NULL AND l.time_ms > $5)";

/// For a repeat without event time: true where its row has a later receipt, so that [`receive_earlier`] would move it.
///
/// # Errors
/// The statement's.
pub async fn is_received_later(conn: &mut PgConnection, callback: &Callback) -> Result<bool, sqlx::Error> {
    let (Some(request_id), None) = (&callback.received.request_id, callback.event_time) else {
        return Ok(false);
    };
    let (app, group, time, digest) = key(callback);
    let query = sqlx::query_scalar(RECEIVED_LATER).bind(app).bind(group).bind(digest);
    query.bind(storable(request_id)).bind(time).fetch_one(conn).await
}

/// For a repeat without event time: moves the row back to this receipt if that was the earlier one; true if it did.
/// Which of two receipts was committed first is chance; which came first is not. Followers of the feed see the entry
/// again, as it is now.
///
/// # Errors
/// The statement's.
pub async fn receive_earlier(conn: &mut PgConnection, callback: &Callback) -> Result<bool, sqlx::Error> {
    let (Some(request_id), None) = (&callback.received.request_id, callback.event_time) else {
        return Ok(false);
    };
    let (app, group, time, digest) = key(callback);
    let query =
        sqlx::query(RECEIVE_EARLIER).bind(app).bind(group).bind(digest).bind(storable(request_id)).bind(time);
    Ok(query.execute(conn).await?.rows_affected() > 0)
}

/// A row as it is read back, in key order.
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
    /// Time of first receipt, Unix milliseconds.
    pub received_ms: i64,
    /// False: parked.
    pub applied: bool,
    /// The body as it came.
    pub body: Vec<u8>,
}

impl LedgerRow {
    fn key(&self) -> RowKey<'_> {
        (self.sdk_app_id, &self.group_id, self.time_ms, &self.digest)
    }
}

/// The ledger's key, borrowed.
type RowKey<'a> = (i64, &'a str, i64, &'a [u8]);

/// Sorts before every row: there is no app 0.
const BEFORE_ALL: RowKey<'static> = (0, "", i64::MIN, &[]);

const PAGE: &str = r"
SELECT sdk_app_id, group_id, time_ms, digest, command, query_command,
       round(extract(epoch FROM received_at) * 1000)::bigint AS received_ms, outcome = 'applied' AS applied, body
  FROM ledger
 WHERE (sdk_app_id, group_id, time_ms, digest) > ($1, $2, $3, $4) AND ($5 IS FALSE OR outcome = 'parked')
 ORDER BY sdk_app_id, group_id, time_ms, digest
 LIMIT $6";

/// Rows after one, in key order; from the start without one.
///
/// # Errors
/// The statement's.
pub async fn page(
    conn: &mut PgConnection,
    after: Option<&LedgerRow>,
    only_parked: bool,
    limit: i64,
) -> Result<Vec<LedgerRow>, sqlx::Error> {
    page_after(conn, after.map_or(BEFORE_ALL, LedgerRow::key), only_parked, limit).await
}

/// Rows of all groups after one group.
///
/// # Errors
/// The statement's.
pub async fn page_after_group(
    conn: &mut PgConnection,
    (app, group): (i64, &str),
    limit: i64,
) -> Result<Vec<LedgerRow>, sqlx::Error> {
    // No digest is empty and no time is this late, so the key stands behind every row of the group.
    page_after(conn, (app, group, i64::MAX, &[]), false, limit).await
}

/// Rows from the first of a group on.
///
/// # Errors
/// The statement's.
pub async fn page_of_group(
    conn: &mut PgConnection,
    (app, group): (i64, &str),
    limit: i64,
) -> Result<Vec<LedgerRow>, sqlx::Error> {
    page_after(conn, (app, group, i64::MIN, &[]), false, limit).await
}

async fn page_after(
    conn: &mut PgConnection,
    (app, group, time, digest): RowKey<'_>,
    only_parked: bool,
    limit: i64,
) -> Result<Vec<LedgerRow>, sqlx::Error> {
    let query = sqlx::query_as(PAGE).bind(app).bind(group).bind(time).bind(digest);
    query.bind(only_parked).bind(limit).fetch_all(conn).await
}

const ESTIMATE: &str = "SELECT greatest(reltuples, 0)::bigint FROM pg_class WHERE oid = 'ledger'::regclass";

/// About how many rows there are, for a progress bar; 0 where it is not known.
///
/// # Errors
/// The statement's.
pub async fn estimate(conn: &mut PgConnection) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar(ESTIMATE).fetch_one(conn).await
}

const UNPARK: &str = r"
UPDATE ledger SET outcome = 'applied', reason = NULL, command = $5, group_id = $6, time_ms = $7, event_time_ms = $8,
       position = DEFAULT
 WHERE sdk_app_id = $1 AND group_id = $2 AND time_ms = $3 AND digest = $4 AND outcome = 'parked'
   AND NOT EXISTS (SELECT FROM ledger l WHERE l.sdk_app_id = $1 AND l.group_id = $6 AND l.time_ms = $7
                      AND l.digest = $4 AND l.outcome = 'applied')";

/// Marks a parked row as applied, under what could be made out now; false if another row says the same already.
/// Followers of the feed see the entry again, as applied.
///
/// # Errors
/// The statement's.
pub async fn unpark(
    conn: &mut PgConnection,
    row: &LedgerRow,
    callback: &Callback,
) -> Result<bool, sqlx::Error> {
    let (app, group, time, digest) = row.key();
    let query = sqlx::query(UNPARK).bind(app).bind(group).bind(time).bind(digest);
    let query = query
        .bind(&callback.command)
        .bind(callback.group.as_ref().map_or("", |group| group.as_str()))
        .bind(callback.time.get())
        .bind(callback.event_time.map(Millis::get));
    Ok(query.execute(conn).await?.rows_affected() == 1)
}

const DROP_PARKED: &str = r"
DELETE FROM ledger
 WHERE sdk_app_id = $1 AND group_id = $2 AND time_ms = $3 AND digest = $4 AND outcome = 'parked'";

/// Removes a parked row that another row says already: it is a duplicate, and duplicates are not kept.
///
/// # Errors
/// The statement's.
pub async fn drop_parked(conn: &mut PgConnection, row: &LedgerRow) -> Result<(), sqlx::Error> {
    let (app, group, time, digest) = row.key();
    sqlx::query(DROP_PARKED).bind(app).bind(group).bind(time).bind(digest).execute(conn).await.map(drop)
}
