//! Whether callbacks go to PostgreSQL or straight to the spool.
//!
//! The first batch that fails or takes too long takes the writer away, so that nobody else waits for a server that does
//! not answer; `drain` brings it back. A schema that is not the program's bars the way as well, for as long as it lasts.

use std::sync::Arc;

use tokio::sync::watch;

/// Cheap to clone; all clones are one switch.
#[derive(Debug, Clone)]
pub(super) struct Away {
    state: Arc<watch::Sender<bool>>,
    /// Why schema and database do not agree; none: they do.
    trouble: watch::Receiver<Option<String>>,
}

impl Away {
    pub(super) fn new(trouble: watch::Receiver<Option<String>>) -> Self {
        // Where the start found no database, the first to find one is the probe.
        let away = trouble.borrow().is_some();
        Self { state: Arc::new(watch::Sender::new(away)), trouble }
    }

    /// True while new callbacks go straight to the spool.
    pub(super) fn is_away(&self) -> bool {
        *self.state.borrow() || self.is_barred()
    }

    /// True while schema and program do not agree.
    pub(super) fn is_barred(&self) -> bool {
        self.trouble.borrow().is_some()
    }

    /// From now on callbacks go to the spool.
    pub(super) fn leave(&self, why: &str) {
        if !self.state.send_replace(true) {
            tracing::warn!("PostgreSQL {why}; callbacks go to the spool until it is back");
        }
    }

    /// From now on callbacks go to PostgreSQL again.
    pub(super) fn back(&self) {
        if self.state.send_replace(false) {
            tracing::info!("PostgreSQL commits again");
        }
    }

    /// For waiting until it changes.
    pub(super) fn watch(&self) -> watch::Receiver<bool> {
        self.state.subscribe()
    }
}
