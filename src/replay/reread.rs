//! An entry of the ledger read again: row → callback → facts, by the same decoder that read the callback when it came.
//!
//! Pure. The digest and the time stay those that the entry was given at receipt: they are stored, never computed anew.

use crate::callback::{self, Callback, Decoded, Event, Received};
use crate::mirror::{self, Fact};
use crate::model::{Digest, Millis, SdkAppId};
use crate::store::ledger::LedgerRow;

/// What an entry says, with the digest that it was given at receipt; none where this program cannot read it.
pub(super) fn decode(row: &LedgerRow) -> Option<Callback> {
    let hint =
        row.query_command.clone().or_else(|| Some(row.command.clone()).filter(|text| !text.is_empty()));
    let received = Received {
        app: SdkAppId::parse(&row.sdk_app_id.to_string()).ok()?,
        query_command: hint,
        client_ip: None,
        platform: None,
        request_id: None,
        received_at: Millis::new(row.received_ms),
        body: row.body.clone(),
    };
    match callback::decode(received) {
        Decoded::Kept(mut callback) => {
            callback.digest = Digest::from_bytes(&row.digest)?;
            Some(*callback)
        }
        Decoded::OutOfScope(_) => None,
    }
}

/// The facts of an entry that was applied; none where this program cannot read it.
pub(super) fn facts(row: &LedgerRow) -> Option<Vec<Fact>> {
    let mut callback = decode(row).filter(|callback| callback.event.is_ok())?;
    callback.time = Millis::new(row.time_ms);
    Some(mirror::facts(&callback))
}

/// What an entry says, applied or parked; none where this program cannot read it.
#[must_use]
pub fn event(row: &LedgerRow) -> Option<Event> {
    decode(row).and_then(|callback| callback.event.ok())
}
