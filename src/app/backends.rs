//! The backends behind the mirror, put together from the settings of each app.
//!
//! An address that is this process's own listener is refused here, as far as the address itself shows it: the mirror would
//! pass each callback to itself. What only the first callback can show, the loop guard of the relay refuses.

use std::net::SocketAddr;

use anyhow::{Context as _, ensure};

use crate::config::AppSettings;
use crate::relay::{BackendAddress, BackendRules, Relays};

/// The relays of the apps that have a `RELAY_URL`.
///
/// # Errors
/// One line about the setting: an address that is the listener of callbacks, or TLS without certificates of authorities.
pub(super) fn relays(apps: &[AppSettings], listener: SocketAddr) -> anyhow::Result<Relays> {
    let mut backends = Vec::new();
    for (app, relay) in apps.iter().filter_map(|app| app.relay.as_ref().map(|relay| (app.app, relay))) {
        let address = BackendAddress::parse(relay.url.as_str())
            .with_context(|| format!("RELAY_URL of app {app} cannot be used"))?;
        ensure!(
            !address.is_own(listener),
            "RELAY_URL of app {app} leads to {}, which is this mirror's own listener of callbacks; it should be the address of \
             the backend behind it",
            address.origin()
        );
        let origin = address.origin();
        tracing::info!(%app, backend = %origin, "RELAY_URL: the backend of app {app} is {origin}");
        let rules = BackendRules { timeout: relay.timeout, fallback: relay.fallback.clone() };
        backends.push((app, address, rules));
    }
    Relays::new(backends).context("RELAY_URL: TLS cannot be started")
}
