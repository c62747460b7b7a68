//! What the outbox needs of the settings: the backend of each app that has one.
//!
//! Verdicts and deliveries go through one client per app, with one pool of connections and one loop guard.

use anyhow::Context as _;

use super::outbox_number::outbox_number;
use crate::config::{AppSettings, ServeConfig};
use crate::outbox::{DeliverySettings, Outbox};
use crate::relay::Relays;

/// The outbox of the apps that have a backend.
///
/// # Errors
/// A data directory that cannot be written; one line.
pub(super) fn outbox_of(serving: &ServeConfig, relays: &Relays) -> anyhow::Result<Outbox> {
    let deliveries = deliveries(serving, relays);
    if deliveries.is_empty() {
        return Ok(Outbox::none());
    }
    let number = outbox_number(&serving.spool.dir).context("DATA_DIR")?;
    Ok(Outbox::new(deliveries, number))
}

/// The backends of the apps that have one.
fn deliveries(serving: &ServeConfig, relays: &Relays) -> Vec<DeliverySettings> {
    let of_app = |app: &AppSettings| {
        let (settings, target) = (app.relay.as_ref()?, relays.of(app.app)?.target().clone());
        let (token, pauses) = (settings.token.clone(), serving.delivery_pauses);
        Some(DeliverySettings { app: app.app, target, token, pauses })
    };
    serving.apps.iter().filter_map(of_app).collect()
}
