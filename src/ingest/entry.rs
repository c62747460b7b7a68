//! Callback → the ledger entry that it will be.
//!
//! The ledger has one door for facts of every source; this file says how a callback goes through it.

use crate::callback::{Callback, without_signature};
use crate::replay::{people_of, verdict};
use crate::store::ledger::{EntrySource, NewEntry, OutboxMark};

/// The entry of a callback, and how it is queued for delivery with it.
pub(super) fn new_entry(callback: &Callback, outbox: Option<OutboxMark>) -> NewEntry<'_> {
    let received = &callback.received;
    NewEntry {
        app: received.app,
        group: callback.group.as_ref(),
        time: callback.time,
        digest: callback.digest,
        is_known_by_request: callback.is_known_by_request(),
        command: &callback.command,
        event_time: callback.event_time,
        received_at: received.received_at,
        source: EntrySource::Callback,
        verdict: verdict(callback),
        query_command: received.query_command.as_deref().filter(|command| *command != callback.command),
        client_ip: received.client_ip.as_deref(),
        platform: received.platform.as_deref(),
        request_id: received.request_id.as_deref(),
        query: received.query.as_deref().map(without_signature),
        content_type: received.content_type.as_deref(),
        outbox,
        people: people_of(callback),
        body: &received.body,
    }
}
