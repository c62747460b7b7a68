//! The circuit breaker between the writer and PostgreSQL.
//!
//! While it is open, callbacks go straight to the spool, so that none waits for a server that does not commit. The prober
//! alone opens and closes it, on evidence of one small commit. A schema that is not the program's holds it open for as
//! long as that lasts. A spool that cannot write closes it: a callback that would be refused there may still be committed.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::spool::Spool;
use crate::store::schema::SchemaState;

/// A batch or a probe that takes longer is slow: about what a waiter may spend on PostgreSQL.
pub(super) const SLOW_COMMIT: Duration = Duration::from_millis(700);

/// Cheap to clone; all clones are one breaker.
#[derive(Debug, Clone)]
pub(super) struct Breaker {
    open: Arc<AtomicBool>,
    schema: SchemaState,
    spool: Spool,
}

impl Breaker {
    /// Closed: it counts as open until the schema fits, and the check that finds so is evidence enough. A probe by the
    /// drain would wait for the spool's file, whose opening may take long.
    pub(super) fn new(schema: SchemaState, spool: Spool) -> Self {
        Self { open: Arc::new(AtomicBool::new(false)), schema, spool }
    }

    /// True while new callbacks go straight to the spool.
    pub(super) fn is_open(&self) -> bool {
        self.is_held_open() || (self.is_tripped() && !self.spool.is_failing())
    }

    /// True while the last probe failed.
    pub(super) fn is_tripped(&self) -> bool {
        self.open.load(Ordering::Acquire)
    }

    /// True while schema and program do not agree: then no probe can close the breaker.
    pub(super) fn is_held_open(&self) -> bool {
        !self.schema.fits()
    }

    /// From now on callbacks go to the spool.
    pub(super) fn open(&self, cause: &str) {
        if !self.open.swap(true, Ordering::AcqRel) {
            tracing::warn!("PostgreSQL does not commit ({cause}); callbacks go to the spool until it does");
        }
    }

    /// From now on callbacks go to PostgreSQL.
    pub(super) fn close(&self) {
        if self.open.swap(false, Ordering::AcqRel) {
            tracing::info!("PostgreSQL commits again");
        }
    }
}
