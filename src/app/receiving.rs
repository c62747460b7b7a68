//! What the public listener and the health checks of both listeners work with, put together from the parts of the service.
//!
//! Its own file because the parts are many; nothing is decided here.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use crate::api::health::HealthState;
use crate::clock::ReceiptClock;
use crate::config::ServeConfig;
use crate::ingest::Writer;
use crate::receiver::{ReadPermits, ReceiverState, Sightings};
use crate::refusals::RefusalLog;
use crate::relay::Relays;
use crate::store::Database;
use crate::store::schema::SchemaState;
use crate::traces::Traces;
use crate::traffic::Traffic;

/// What health checks look at.
pub(super) fn health_state(
    schema: &SchemaState,
    writer: &Writer,
    database: &Database,
    stop: &CancellationToken,
) -> HealthState {
    HealthState {
        schema: schema.clone(),
        writer: writer.clone(),
        standby: database.standby().cloned(),
        stop: stop.clone(),
    }
}

/// The state of the receiver.
pub(super) fn receiver_state(
    serving: &ServeConfig,
    relays: Relays,
    writer: &Writer,
    refusals: &RefusalLog,
    (receipts, traces): (&ReceiptClock, &Traces),
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
        traces: traces.clone(),
    }
}
