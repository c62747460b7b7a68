//! What the outbox needs of the settings: the backend of each app that has one.
//!
//! Verdicts and deliveries go through one client per app, with one pool of connections and one loop guard.

use crate::config::ServeConfig;
use crate::outbox::DeliverySettings;
use crate::relay::Relays;

/// The backends of the apps that have one.
pub(super) fn deliveries(serving: &ServeConfig, relays: &Relays) -> Vec<DeliverySettings> {
    let of_app = |app: &crate::config::AppSettings| {
        let (settings, target) = (app.relay.as_ref()?, relays.of(app.app)?.target().clone());
        let (token, pauses) = (settings.token.clone(), serving.delivery_pauses);
        Some(DeliverySettings { app: app.app, target, token, pauses })
    };
    serving.apps.iter().filter_map(of_app).collect()
}
