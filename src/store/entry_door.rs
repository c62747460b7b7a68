//! The one door into the ledger: facts of every source enter as a [`NewEntry`], once each.
//!
//! An entry with a known key, or of a known request, is a duplicate and is not written; of two receipts of one request the earlier
//! counts, whichever was committed first.

use std::collections::{BTreeSet, HashMap};

use sqlx::PgConnection;

use super::entry::{Entered, NewEntry, OutboxMark, Queued};
use super::erasures::ErasuresApplied;
use super::moves;
use super::people::{self, LedgerKey, rows_of};
use super::query_columns::QueryColumns;
use crate::mirror::People;
use crate::model::{GroupId, Millis, UserId, storable};

/// The key of an entry.
type Key = (i64, String, i64, Vec<u8>);

fn key_of(entry: &NewEntry<'_>) -> Key {
    let group = entry.group.map_or("", GroupId::as_str);
    (entry.app.get(), group.to_owned(), entry.time.get(), entry.digest.as_bytes().to_vec())
}

/// A request: its app, group and digest.
type RequestKey = (i64, String, Vec<u8>);

fn request_key((app, group, _, digest): &Key) -> RequestKey {
    (*app, group.clone(), digest.clone())
}

/// Enters facts; answers for each, in the order given. Of two equal ones in one batch the first is new; of two receipts of
/// one request the earlier.
///
/// # Errors
/// A statement's; a conflict, where another person is erased than those whose ids were replaced.
pub async fn enter_batch(
    conn: &mut PgConnection,
    batch: &[NewEntry<'_>],
    applied: ErasuresApplied<'_>,
) -> Result<Vec<Entered>, sqlx::Error> {
    let keys: Vec<Key> = batch.iter().map(key_of).collect();
    let known = lock_requests(conn, batch, &keys).await?;
    let mut entered = vec![Entered::Known; batch.len()];
    let mut order: Vec<usize> = (0..batch.len()).collect();
    order.sort_by(|a, b| keys[*a].cmp(&keys[*b]));
    order.dedup_by(|later, first| keys[*later] == keys[*first]);
    // In the order of keys the earliest receipt of a request comes first.
    let mut requests = HashMap::new();
    let mut writes = Vec::with_capacity(order.len());
    for at in order {
        if batch[at].is_known_by_request {
            let request = request_key(&keys[at]);
            if *requests.entry(request.clone()).or_insert(at) != at {
                continue;
            }
            if let Some(time) = known.get(&request) {
                if keys[at].2 < *time {
                    entered[at] = Entered::Earlier;
                }
                continue;
            }
        }
        writes.push(at);
    }
    let inserted = insert(conn, (batch, applied), &keys, &writes).await?;
    for at in writes {
        if let Some(owner) = inserted.get(&keys[at]) {
            entered[at] = Entered::New(*owner);
        }
    }
    let new = (0..batch.len()).filter(|at| matches!(entered[*at], Entered::New(_)));
    let named = new.flat_map(|at| rows_of(borrowed(&keys[at]), &batch[at].people)).collect();
    people::insert(conn, named).await?;
    Ok(entered)
}

fn borrowed((app, group, time, digest): &Key) -> LedgerKey<'_> {
    (*app, group, *time, digest)
}

/// One lock per request until the end of the transaction, in one order: two receipts of one request, at two replicas,
/// have two keys, so the key of the table does not keep them apart. Taken before any row, so that no lock is waited for
/// while another is held that its holder wants.
const LOCK_REQUESTS: &str =
    "SELECT pg_advisory_xact_lock(number) FROM UNNEST($1::bigint[]) AS request (number)";

const KNOWN_REQUESTS: &str = r"
SELECT l.sdk_app_id, l.group_id, l.time_ms, l.digest
  FROM UNNEST($1::bigint[], $2::text[], $3::bytea[]) AS request (app, group_id, digest)
  JOIN ledger l ON l.sdk_app_id = request.app AND l.group_id = request.group_id AND l.digest = request.digest
 WHERE l.event_time_ms IS DISTINCT FROM l.time_ms AND ledger_request_id(l.request_id, l.odd_values) IS NOT NULL";

/// The requests of a batch that the ledger knows, with the time of their receipt. No other transaction enters one of
/// these requests until this one ends.
async fn lock_requests(
    conn: &mut PgConnection,
    batch: &[NewEntry<'_>],
    keys: &[Key],
) -> Result<HashMap<RequestKey, i64>, sqlx::Error> {
    let requests: BTreeSet<(i64, RequestKey)> = batch
        .iter()
        .zip(keys)
        .filter(|(entry, _)| entry.is_known_by_request)
        .map(|(entry, key)| (entry.digest.number(), request_key(key)))
        .collect();
    if requests.is_empty() {
        return Ok(HashMap::new());
    }
    let numbers: Vec<i64> = requests.iter().map(|(number, _)| *number).collect();
    sqlx::query(LOCK_REQUESTS).bind(numbers).execute(&mut *conn).await?;
    let known: Vec<Key> = sqlx::query_as(KNOWN_REQUESTS)
        .bind(requests.iter().map(|(_, (app, ..))| *app).collect::<Vec<_>>())
        .bind(requests.iter().map(|(_, (_, group, _))| group.as_str()).collect::<Vec<_>>())
        .bind(requests.iter().map(|(_, (.., digest))| digest.as_slice()).collect::<Vec<_>>())
        .fetch_all(conn)
        .await?;
    let mut earliest = HashMap::new();
    for key in &known {
        let time = earliest.entry(request_key(key)).or_insert(key.2);
        *time = key.2.min(*time);
    }
    Ok(earliest)
}

/// One statement for the whole batch, in key order, so that two batches that share callbacks wait for each other and
/// do not deadlock.
const INSERT: &str = r"
INSERT INTO ledger (sdk_app_id, group_id, time_ms, digest, command, event_time_ms, received_at, source, outcome,
                    reason, causes, query_command, client_ip, platform, request_id, odd_values, body, operator, user_id,
                    users, user_count)
SELECT app, group_id, time_ms, digest, command, event_time_ms, to_timestamp(received_ms / 1000.0), source, outcome,
       reason, string_to_array(causes, ','), query_command, client_ip::inet, platform, request_id::uuid, odd_values::jsonb,
       body, operator, user_id, users::text[], user_count
  FROM UNNEST($1::bigint[], $2::text[], $3::bigint[], $4::bytea[], $5::text[], $6::bigint[], $7::bigint[],
              $8::text[], $9::text[], $10::text[], $11::text[], $12::text[], $13::text[], $14::smallint[], $15::text[],
              $16::text[], $17::bytea[], $18::text[], $19::text[], $20::text[], $21::int[])
    AS batch (app, group_id, time_ms, digest, command, event_time_ms, received_ms, source, outcome, reason, causes,
              query_command, client_ip, platform, request_id, odd_values, body, operator, user_id, users, user_count)
ON CONFLICT (sdk_app_id, group_id, time_ms, digest) DO NOTHING
RETURNING sdk_app_id, group_id, time_ms, digest, NULL::bigint, false, (SELECT version FROM erasure_state WHERE only_row)";

/// The same where an app of the batch has a relay, in one round trip as well: new entries go to the outbox too. A group
/// with entries there has a process that delivers it, and the next entry belongs to that one, so that the order of a
/// group holds across processes. What one process has received keeps that order whichever was committed first: a callback
/// that waited in the spool takes the place of what came after it.
const INSERT_WITH_OUTBOX: &str = r"
WITH batch AS (
    SELECT *
      FROM UNNEST($1::bigint[], $2::text[], $3::bigint[], $4::bytea[], $5::text[], $6::bigint[], $7::bigint[],
                  $8::text[], $9::text[], $10::text[], $11::text[], $12::text[], $13::text[], $14::smallint[], $15::text[],
                  $16::text[], $17::bytea[], $18::text[], $19::text[], $20::text[], $21::int[], $22::text[], $23::text[],
                  $24::bigint[], $25::bigint[])
        AS b (app, group_id, time_ms, digest, command, event_time_ms, received_ms, source, outcome, reason, causes,
              query_command, client_ip, platform, request_id, odd_values, body, operator, user_id, users, user_count, query,
              content_type, origin, request_time)),
entered AS (
    INSERT INTO ledger (sdk_app_id, group_id, time_ms, digest, command, event_time_ms, received_at, source, outcome,
                        reason, causes, query_command, client_ip, platform, request_id, odd_values, body, operator, user_id,
                        users, user_count, query, content_type)
    SELECT app, group_id, time_ms, digest, command, event_time_ms, to_timestamp(received_ms / 1000.0), source, outcome,
           reason, string_to_array(causes, ','), query_command, client_ip::inet, platform, request_id::uuid,
           odd_values::jsonb, body, operator, user_id, users::text[], user_count, query, content_type
      FROM batch
    ON CONFLICT (sdk_app_id, group_id, time_ms, digest) DO NOTHING
    RETURNING sdk_app_id, group_id, time_ms, digest, received_at, position),
queued AS (
    INSERT INTO relay_outbox (sdk_app_id, group_id, time_ms, digest, place, received_at, position, request_time, origin,
                              owner)
    SELECT e.sdk_app_id, e.group_id, e.time_ms, e.digest,
           LEAST(min(e.position) OVER (PARTITION BY e.sdk_app_id, e.group_id ORDER BY e.received_at DESC),
                 (SELECT o.place FROM relay_outbox o
                   WHERE e.group_id <> '' AND o.sdk_app_id = e.sdk_app_id AND o.order_key = e.group_id
                     AND o.origin = b.origin AND o.received_at > e.received_at
                   ORDER BY o.received_at LIMIT 1)), e.received_at, e.position, b.request_time, b.origin,
           COALESCE((SELECT o.owner FROM relay_outbox o
                      WHERE e.group_id <> '' AND o.sdk_app_id = e.sdk_app_id AND o.order_key = e.group_id
                      ORDER BY o.origin LIMIT 1), b.origin)
      FROM entered e JOIN batch b ON (b.app, b.group_id, b.time_ms, b.digest)
                                   = (e.sdk_app_id, e.group_id, e.time_ms, e.digest)
     WHERE b.origin IS NOT NULL
    RETURNING sdk_app_id, group_id, time_ms, digest, owner)
SELECT e.sdk_app_id, e.group_id, e.time_ms, e.digest, q.owner,
       EXISTS (SELECT FROM relay_outbox o
                WHERE o.owner = q.owner AND o.owner <> o.origin AND e.group_id <> ''
                  AND o.sdk_app_id = e.sdk_app_id AND o.order_key = e.group_id),
       (SELECT version FROM erasure_state WHERE only_row)
  FROM entered e LEFT JOIN queued q USING (sdk_app_id, group_id, time_ms, digest)";

/// A key that was not there, the process that delivers its entry, whether entries of others come before, and the version of
/// the erasures.
type InsertedRow = (i64, String, i64, Vec<u8>, Option<i64>, bool, i64);

/// Inserts some entries of a batch; the keys of those that were not there, with who delivers each.
async fn insert(
    conn: &mut PgConnection,
    (batch, applied): (&[NewEntry<'_>], ErasuresApplied<'_>),
    keys: &[Key],
    order: &[usize],
) -> Result<HashMap<Key, Option<Queued>>, sqlx::Error> {
    if order.is_empty() {
        return Ok(HashMap::new());
    }
    let relayed = order.iter().any(|at| batch[*at].query.is_some() || batch[*at].outbox.is_some());
    let column = order.iter().map(|at| &batch[*at]);
    let texts = |pick: fn(&NewEntry<'_>) -> Option<String>| -> Vec<Option<String>> {
        column.clone().map(|entry| pick(entry).map(|text| storable(&text))).collect()
    };
    let of_query: Vec<QueryColumns> = column
        .clone()
        .map(|entry| QueryColumns::of(entry.client_ip, entry.platform, entry.request_id))
        .collect();
    let query = sqlx::query_as(applied.insert(if relayed { INSERT_WITH_OUTBOX } else { INSERT }))
        .bind(order.iter().map(|at| keys[*at].0).collect::<Vec<_>>())
        .bind(order.iter().map(|at| keys[*at].1.as_str()).collect::<Vec<_>>())
        .bind(order.iter().map(|at| keys[*at].2).collect::<Vec<_>>())
        .bind(order.iter().map(|at| keys[*at].3.as_slice()).collect::<Vec<_>>())
        .bind(column.clone().map(|entry| entry.command).collect::<Vec<_>>())
        .bind(column.clone().map(|entry| entry.event_time.map(Millis::get)).collect::<Vec<_>>())
        .bind(column.clone().map(|entry| entry.received_at.get()).collect::<Vec<_>>())
        .bind(column.clone().map(|entry| entry.source.as_str()).collect::<Vec<_>>())
        .bind(column.clone().map(|entry| entry.verdict.outcome).collect::<Vec<_>>())
        .bind(texts(|entry| entry.verdict.reason.clone()))
        .bind(column.clone().map(|entry| entry.verdict.joined_causes()).collect::<Vec<_>>())
        .bind(texts(|entry| entry.query_command.map(str::to_owned)))
        .bind(of_query.iter().map(|of| of.client_ip.as_deref()).collect::<Vec<_>>())
        .bind(of_query.iter().map(|of| of.platform).collect::<Vec<_>>())
        .bind(of_query.iter().map(|of| of.request_id.as_deref()).collect::<Vec<_>>())
        .bind(of_query.iter().map(|of| of.odd_values.as_deref()).collect::<Vec<_>>())
        .bind(column.clone().map(|entry| entry.body).collect::<Vec<_>>())
        .bind(
            column
                .clone()
                .map(|entry| entry.people.operator.as_ref().map(UserId::as_str))
                .collect::<Vec<_>>(),
        )
        .bind(column.clone().map(|entry| people::shown_alone(&entry.people)).collect::<Vec<_>>())
        .bind(column.clone().map(|entry| people::shown(&entry.people)).collect::<Vec<_>>())
        .bind(column.clone().map(|entry| people::count(&entry.people)).collect::<Vec<_>>());
    let query = if relayed {
        let mark = |pick: fn(OutboxMark) -> Option<i64>| -> Vec<Option<i64>> {
            column.clone().map(|entry| entry.outbox.and_then(pick)).collect()
        };
        query
            .bind(texts(|entry| entry.query.clone()))
            .bind(texts(|entry| entry.content_type.map(str::to_owned)))
            .bind(mark(|mark| Some(mark.origin)))
            .bind(mark(|mark| mark.request_time))
    } else {
        query
    };
    let inserted: Vec<InsertedRow> = query.fetch_all(&mut *conn).await?;
    if let Some((.., version)) = inserted.first() {
        applied.check_entered(conn, *version).await?;
    }
    assert!(inserted.len() <= order.len(), "no entry is inserted twice");
    let queued = |(app, group, time, digest, owner, is_behind_others, _): InsertedRow| {
        let queued = owner.map(|owner| Queued { owner, is_behind_others });
        ((app, group, time, digest), queued)
    };
    Ok(inserted.into_iter().map(queued).collect())
}

const RECEIVE_EARLIER: &str = r"
UPDATE ledger l SET time_ms = $5, received_at = to_timestamp($5 / 1000.0), position = $6
 WHERE l.sdk_app_id = $1 AND l.group_id = $2 AND l.time_ms = $3 AND l.digest = $4
   AND NOT EXISTS (SELECT FROM ledger o WHERE o.sdk_app_id = $1 AND o.group_id = $2 AND o.time_ms = $5 AND o.digest = $4)";

/// Moves the entry of a request back to this receipt, where that is the earlier one; true if it did. Which of two receipts
/// was committed first is chance; which came first is not. Followers of the feed see the entry again, as it is now.
///
/// # Errors
/// A statement's.
pub async fn receive_earlier(conn: &mut PgConnection, entry: &NewEntry<'_>) -> Result<bool, sqlx::Error> {
    let key = key_of(entry);
    let known = lock_requests(conn, std::slice::from_ref(entry), std::slice::from_ref(&key)).await?;
    let Some(held) = known.get(&request_key(&key)).filter(|held| key.2 < **held) else { return Ok(false) };
    let ((app, group, time, digest), to) = (&key, borrowed(&key));
    let from: LedgerKey<'_> = (*app, group, *held, digest);
    let Some(left) = moves::lock_position(conn, from).await? else { return Ok(false) };
    let next = moves::next_position(conn).await?;
    let query = sqlx::query(RECEIVE_EARLIER).bind(app).bind(group).bind(held).bind(digest).bind(time);
    let is_moved = query.bind(next).execute(&mut *conn).await?.rows_affected() > 0;
    if is_moved {
        moves::moved(conn, (left, from), to).await?;
        // Of an entry that was parked any user in its body, of one that was read those of its event.
        let unread = People::of_callback(None, Some(entry.body));
        let users = entry.people.parts.keys().chain(unread.parts.keys());
        people::follow(conn, from, *time, users).await?;
    }
    Ok(is_moved)
}
