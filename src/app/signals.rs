//! SIGINT and SIGTERM, caught before anything is begun, so that none is lost while the service starts.
//!
//! The first signal asks for an orderly stop, the second for an immediate one. This file counts them; the command
//! decides what they mean. SIGHUP is caught only where there is something to read again: otherwise it ends the process, as
//! it does when a terminal is closed, and one that `nohup` has switched off stays so.

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

/// The number of signals since the start.
pub(super) struct Signals(watch::Receiver<u32>);

impl Signals {
    pub(super) fn new() -> anyhow::Result<Self> {
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let (count, seen) = watch::channel(0);
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                }
                count.send_modify(|count| *count += 1);
            }
        });
        Ok(Self(seen))
    }

    /// True when one has come since the start.
    pub(super) fn any(&self) -> bool {
        *self.0.borrow() > 0
    }

    /// Resolves when that many signals have come since the start.
    pub(super) async fn nth(&self, wanted: u32) {
        let _ = self.0.clone().wait_for(|count| *count >= wanted).await;
    }
}

/// The SIGHUPs from now on.
pub(super) fn hang_ups() -> anyhow::Result<Signal> {
    Ok(signal(SignalKind::hangup())?)
}
