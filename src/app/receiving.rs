//! What the public listener works with, put together from the parts of the service.
//!
//! Its own file because the parts are many; nothing is decided here.

use std::sync::Arc;

use crate::clock::ReceiptClock;
use crate::config::ServeConfig;
use crate::ingest::Writer;
use crate::receiver::{ReadPermits, ReceiverState, Sightings};
use crate::refusals::RefusalLog;
use crate::relay::Relays;
use crate::traffic::Traffic;

/// The state of the receiver.
pub(super) fn receiver_state(
    serving: &ServeConfig,
    relays: Relays,
    writer: &Writer,
    refusals: &RefusalLog,
    receipts: &ReceiptClock,
) -> ReceiverState {
    ReceiverState {
        gate: Arc::new(serving.gate()),
        avchatroom_members: serving.avchatroom_members,
        writer: writer.clone(),
        reading: ReadPermits::default(),
        refusals: refusals.clone(),
        sightings: Sightings::of(serving.spool.apps.iter().copied()),
        receipts: receipts.clone(),
        relays,
        traffic: Traffic::default(),
    }
}
