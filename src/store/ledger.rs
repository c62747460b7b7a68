//! Statements on the ledger. Callbacks go in with their outcome; an equal key means that it is here already.
//!
//! The only file that knows the columns of that table. Rows come from `ingest`; nothing here decides what they mean.

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
