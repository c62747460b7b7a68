//! Reads the next callbacks of groups that wait, with their requests, in the order in which they are to be delivered.
//!
//! First what waits, then the requests of as many as fit into memory: a body has up to 1 MiB. Reads only, but for rows
//! whose ledger entry is gone, which can never be delivered.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use sqlx::PgConnection;

use super::delivery::OutboxDelivery;
use crate::model::SdkAppId;
use crate::store::outbox::{self, EntryKey, OrderKey, WaitingRow};

/// How many groups are read at a time, and how many callbacks of each.
pub(super) const GROUPS_READ_MAX: usize = 16;
const CALLBACKS_READ_MAX: usize = 64;

/// Out of how many callbacks of a group those are chosen: more than two batches hold that were committed at the same time.
const CALLBACKS_SORTED_MAX: usize = 600;

/// How many bytes of bodies are read at a time; the first of a group always is.
const BYTES_READ_MAX: usize = 8 * 1024 * 1024;

/// What was read of a group, and whether that is all of it.
pub(super) type ReadGroup = (Vec<OutboxDelivery>, bool);

/// Reads the next callbacks of these groups, by group. What exceeds the bytes of one reading stays for the next.
pub(super) async fn read(
    conn: &mut PgConnection,
    number: i64,
    app: SdkAppId,
    hungry: &[Arc<str>],
) -> Result<BTreeMap<String, ReadGroup>, sqlx::Error> {
    let groups: Vec<OrderKey> = hungry.iter().map(|key| (app.get(), key.to_string())).collect();
    let limit = i64::try_from(CALLBACKS_SORTED_MAX).unwrap_or(i64::MAX);
    let rows = outbox::waiting(conn, number, &groups, limit).await?;
    let mut by_group: BTreeMap<String, Vec<WaitingRow>> = BTreeMap::new();
    for row in rows {
        by_group.entry(row.order_key.clone()).or_default().push(row);
    }
    let (mut bytes, mut chosen, mut complete) = (0, Vec::new(), BTreeMap::new());
    let mut without_entry = Vec::new();
    for (order_key, mut rows) in by_group {
        without_entry.extend(rows.iter().filter(|row| row.body_bytes.is_none()).map(|row| row.key.clone()));
        let mut is_all = rows.len() < CALLBACKS_SORTED_MAX;
        rows.retain(|row| row.body_bytes.is_some());
        in_order_of_receipt(&mut rows);
        is_all &= rows.len() <= CALLBACKS_READ_MAX;
        rows.truncate(CALLBACKS_READ_MAX);
        let size = |row: &WaitingRow| usize::try_from(row.body_bytes.unwrap_or_default()).unwrap_or_default();
        let fitting = rows.iter().enumerate().take_while(|(at, row)| {
            bytes += size(row);
            *at == 0 || bytes <= BYTES_READ_MAX
        });
        let count = fitting.count();
        is_all &= count == rows.len();
        rows.truncate(count);
        complete.insert(order_key, is_all);
        chosen.extend(rows);
    }
    if !without_entry.is_empty() {
        tracing::warn!(
            callbacks = without_entry.len(),
            "the ledger has callbacks no more that the relay was to deliver"
        );
        outbox::delivered(conn, &without_entry).await?;
    }
    let keys: Vec<EntryKey> = chosen.iter().map(|row| row.key.clone()).collect();
    let requests = outbox::requests(conn, &keys).await?;
    let mut requests: HashMap<EntryKey, _> =
        requests.into_iter().map(|request| (request.key.clone(), request)).collect();
    let mut read: BTreeMap<String, ReadGroup> =
        complete.into_iter().map(|(order_key, is_all)| (order_key, (Vec::new(), is_all))).collect();
    for row in chosen {
        let order_key = row.order_key.clone();
        // An entry whose key has changed since then is read the next time.
        let request = requests.remove(&row.key);
        let Some((deliveries, is_all)) = read.get_mut(&order_key) else { continue };
        match request {
            Some(request) => deliveries.push(OutboxDelivery::kept(row, request)),
            None => *is_all = false,
        }
    }
    Ok(read)
}

/// A callback that waited in the spool has the place of what was received after it, unless the two were committed at the same
/// time, when neither transaction saw the other. So those of one process take their places in the order of receipt, and of one
/// millisecond in that of their positions; between processes places count.
fn in_order_of_receipt(rows: &mut [WaitingRow]) {
    let mut places: BTreeMap<i64, Vec<usize>> = BTreeMap::new();
    for (at, row) in rows.iter().enumerate() {
        places.entry(row.origin).or_default().push(at);
    }
    let mut ordered: Vec<Option<WaitingRow>> = vec![None; rows.len()];
    for places in places.into_values() {
        let mut of_process: Vec<WaitingRow> = places.iter().map(|at| rows[*at].clone()).collect();
        of_process.sort_by_key(|row| (row.received_ms, row.position));
        for (at, row) in places.into_iter().zip(of_process) {
            ordered[at] = Some(row);
        }
    }
    for (row, ordered) in rows.iter_mut().zip(ordered.into_iter().flatten()) {
        *row = ordered;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::outbox::EntryKey;

    fn row(origin: i64, received_ms: i64, position: i64) -> WaitingRow {
        WaitingRow {
            order_key: "g".to_owned(),
            key: EntryKey { sdk_app_id: 1, group_id: "g".to_owned(), time_ms: position, digest: vec![7] },
            origin,
            received_ms,
            position,
            request_time: None,
            attempts: 0,
            failure: None,
            again: false,
            body_bytes: Some(2),
        }
    }

    #[test]
    fn receipts_of_one_millisecond_go_in_the_order_of_their_positions_and_processes_keep_their_places() {
        let mut rows = vec![row(1, 5, 12), row(2, 9, 10), row(1, 5, 11), row(1, 4, 20)];
        in_order_of_receipt(&mut rows);
        let order: Vec<_> = rows.iter().map(|row| (row.origin, row.position)).collect();
        assert_eq!(order, [(1, 20), (2, 10), (1, 11), (1, 12)]);
    }
}
