//! What the outbox needs of the settings: the backend of each app that has one.
//!
//! A client is made for each, so that the certificates of authorities are looked for at the start and not at the first
//! delivery.

use anyhow::Context as _;

use super::outbox_number::outbox_number;
use crate::config::{AppSettings, ServeConfig};
use crate::outbox::{DeliverySettings, Outbox};
use crate::relay::{BackendAddress, LoopGuard, RelayTarget};

/// The outbox of the apps that have a backend.
///
/// # Errors
/// As for a backend, or a data directory that cannot be written; one line.
pub(super) fn outbox_of(serving: &ServeConfig) -> anyhow::Result<Outbox> {
    let deliveries = deliveries(serving, &LoopGuard::new())?;
    if deliveries.is_empty() {
        return Ok(Outbox::none());
    }
    let number = outbox_number(&serving.spool.dir).context("DATA_DIR")?;
    Ok(Outbox::new(deliveries, number))
}

/// The backends of the apps that have one.
///
/// # Errors
/// An address that cannot be used, or no certificates of authorities; one line that names the variable and the app.
fn deliveries(serving: &ServeConfig, guard: &LoopGuard) -> anyhow::Result<Vec<DeliverySettings>> {
    let of_app = |app: &AppSettings| {
        let relay = app.relay.as_ref()?;
        let target = BackendAddress::parse(relay.url.as_str())
            .map_err(anyhow::Error::from)
            .and_then(|address| Ok(RelayTarget::new(address, guard.clone())?))
            .with_context(|| format!("RELAY_URL of app {}", app.app));
        let (token, pauses) = (relay.token.clone(), serving.delivery_pauses);
        Some(target.map(|target| DeliverySettings { app: app.app, target, token, pauses }))
    };
    serving.apps.iter().filter_map(of_app).collect()
}
