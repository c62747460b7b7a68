//! What the outbox needs of the settings: the backend of each app that has one.
//!
//! A client is made for each, so that the certificates of authorities are looked for at the start and not at the first
//! delivery.

use anyhow::Context as _;

use crate::config::ServeConfig;
use crate::outbox::DeliverySettings;
use crate::relay::{BackendAddress, LoopGuard, RelayTarget};

/// The backends of the apps that have one.
///
/// # Errors
/// An address that cannot be used, or no certificates of authorities; one line that names the variable and the app.
pub(super) fn deliveries(serving: &ServeConfig, guard: &LoopGuard) -> anyhow::Result<Vec<DeliverySettings>> {
    let of_app = |app: &crate::config::AppSettings| {
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
