//! The circuit breaker between the writer and PostgreSQL.
//!
//! While it is open, callbacks go straight to the spool, so that none waits for a server that does not commit. The prober
//! alone opens and closes it, on evidence of one small commit. A schema that is not the program's holds it open for as
//! long as that lasts. While the spool cannot write, callbacks are tried in PostgreSQL all the same, because one that would be
//! refused there may still be committed; what operators see stays that of the database.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::spool::Spool;
use crate::store::schema::SchemaState;

/// A batch or a probe that takes longer is slow: about what a waiter may spend on PostgreSQL.
pub(super) const SLOW_COMMIT: Duration = Duration::from_millis(700);

/// A time in which the server takes no commit.
#[derive(Debug)]
struct CommitOutage {
    since: Instant,
    /// What the last probe said.
    cause: String,
}

/// Cheap to clone; all clones are one breaker.
#[derive(Debug, Clone)]
pub(super) struct Breaker {
    open: Arc<AtomicBool>,
    outage: Arc<Mutex<Option<CommitOutage>>>,
    schema: SchemaState,
    spool: Spool,
}

impl Breaker {
    /// Closed: it counts as open until the schema fits, and the check that finds so is evidence enough. A probe by the
    /// drain would wait for the spool's file, whose opening may take long.
    pub(super) fn new(schema: SchemaState, spool: Spool) -> Self {
        Self { open: Arc::new(AtomicBool::new(false)), outage: Arc::default(), schema, spool }
    }

    /// True while new callbacks go straight to the spool.
    pub(super) fn is_open(&self) -> bool {
        self.is_held_open() || (self.is_tripped() && !self.spool.is_failing())
    }

    /// True while PostgreSQL does not commit or does not fit, whether or not the spool can take what it does not.
    pub(super) fn is_database_away(&self) -> bool {
        self.is_held_open() || self.is_tripped()
    }

    /// True while the last probe failed.
    pub(super) fn is_tripped(&self) -> bool {
        self.open.load(Ordering::Acquire)
    }

    /// True while schema and program do not agree: then no probe can close the breaker.
    pub(super) fn is_held_open(&self) -> bool {
        !self.schema.fits()
    }

    /// Why the last probe failed; none while the breaker is closed.
    pub(super) fn cause(&self) -> Option<String> {
        self.outage().as_ref().map(|outage| outage.cause.clone())
    }

    /// How many callbacks wait in the spool.
    pub(super) fn waiting(&self) -> u64 {
        self.spool.status().depth
    }

    /// What becomes of callbacks while it is tripped, for a log line.
    pub(super) fn fate(&self) -> &'static str {
        if self.spool.is_failing() && !self.is_held_open() {
            return "callbacks are tried there all the same, because the spool cannot be written,";
        }
        self.spool.status().fate_of_callbacks()
    }

    /// From now on callbacks go to the spool, where it can be written. One line begins an outage, whatever later probes say.
    pub(super) fn open(&self, cause: &str) {
        let mut outage = self.outage();
        let since = outage.as_ref().map_or_else(Instant::now, |outage| outage.since);
        *outage = Some(CommitOutage { since, cause: cause.to_owned() });
        drop(outage);
        if !self.open.swap(true, Ordering::AcqRel) {
            tracing::error!(cause, "PostgreSQL does not commit ({cause}); {} until it does", self.fate());
        }
    }

    /// From now on callbacks go to PostgreSQL; the drain follows with what waits.
    pub(super) fn close(&self) {
        let outage = self.outage().take();
        if self.open.swap(false, Ordering::AcqRel) {
            let lasted = outage.map_or(Duration::ZERO, |outage| outage.since.elapsed());
            let (lasted_secs, waiting) = (lasted.as_secs_f64(), self.waiting());
            tracing::info!(
                outage.seconds = lasted_secs,
                spool.depth = waiting,
                "PostgreSQL commits again, after {lasted_secs:.1} s; {waiting} callbacks wait in the spool"
            );
        }
    }

    fn outage(&self) -> MutexGuard<'_, Option<CommitOutage>> {
        self.outage.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
