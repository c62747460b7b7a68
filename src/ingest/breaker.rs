//! The circuit breaker between the writer and PostgreSQL.
//!
//! The first batch that fails or takes too long opens it: from then on callbacks go straight to the spool, so that none
//! waits for a server that does not answer. The drain closes it again on evidence of a commit. A schema that is not the
//! program's keeps it open for as long as that lasts.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use crate::store::schema::SchemaState;

/// A batch that takes longer opens the breaker: about what a waiter may spend on PostgreSQL.
pub(super) const SLOW_COMMIT: Duration = Duration::from_millis(700);

/// Cheap to clone; all clones are one breaker.
#[derive(Debug, Clone)]
pub(super) struct Breaker {
    open: Arc<watch::Sender<bool>>,
    schema: SchemaState,
}

impl Breaker {
    /// Closed: it counts as open until the schema fits, and the check that finds so is evidence enough. A probe by the
    /// drain would wait for the spool's file, whose opening may take long.
    pub(super) fn new(schema: SchemaState) -> Self {
        Self { open: Arc::new(watch::Sender::new(false)), schema }
    }

    /// True while new callbacks go straight to the spool.
    pub(super) fn is_open(&self) -> bool {
        *self.open.borrow() || !self.schema.fits()
    }

    /// True while schema and program do not agree: then no probe can close the breaker.
    pub(super) fn is_held_open(&self) -> bool {
        !self.schema.fits()
    }

    /// From now on callbacks go to the spool.
    pub(super) fn open(&self, cause: &str) {
        if !self.open.send_replace(true) {
            tracing::warn!("PostgreSQL {cause}; callbacks go to the spool until it commits again");
        }
    }

    /// From now on callbacks go to PostgreSQL.
    pub(super) fn close(&self) {
        if self.open.send_replace(false) {
            tracing::info!("PostgreSQL commits again");
        }
    }

    /// For waiting until it opens or closes.
    pub(super) fn watch(&self) -> watch::Receiver<bool> {
        self.open.subscribe()
    }
}
