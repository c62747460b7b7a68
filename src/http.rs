//! The two listeners. The public one takes callbacks and nothing else; the internal one serves the mirror.
//!
//! Rows become views here and nowhere else. Handlers receive everything by state; nothing here begins a transaction.

pub mod api;
pub mod auth;
pub mod callback;
pub mod error;
pub mod groups;
pub mod health;
pub mod members;
mod page;
mod query;
mod time;

use std::time::Duration;

use axum::Router;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// How long a stop waits for requests that are open. Longer than the answer budget of a callback.
pub const DRAIN_WAIT_MAX: Duration = Duration::from_secs(10);

/// Serves until told to stop, then finishes what is open, for at most [`DRAIN_WAIT_MAX`].
///
/// # Errors
/// The listener's.
pub async fn serve(listener: TcpListener, router: Router, stop: CancellationToken) -> std::io::Result<()> {
    let draining = stop.clone();
    let serving = axum::serve(listener, router).with_graceful_shutdown(stop.cancelled_owned());
    tokio::select! {
        served = serving => served,
        () = async {
            draining.cancelled().await;
            tokio::time::sleep(DRAIN_WAIT_MAX).await;
        } => Ok(()),
    }
}
