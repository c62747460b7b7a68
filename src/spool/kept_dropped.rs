//! What of the kept records went before its time, and the gap that this is where the database then lacks commits.
//!
//! Records go early where the spool needs the room, where too much waits for the disk, and where the disk takes no write.
//! That alone loses nothing, because the database has what they say. Only where it turns out to lack commits may some of
//! that period be missing, with nothing left that could be sent again: then the period is noted as a gap, without a number,
//! because it is not known what the database has of it. Its moments are those of the commits. Held in memory: a restart
//! forgets the period.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::losses::{Gap, KEPT_DROPPED, Losses};

/// Bytes of records that went before their time.
const DROPPED_TOTAL: &str = "group_mirror_kept_dropped_bytes_total";

/// The period of what went. Cheap to clone; all clones are one.
#[derive(Debug, Clone)]
pub(super) struct KeptDropped {
    losses: Losses,
    /// From when to when it was appended, in Unix milliseconds; none while nothing is missing.
    period: Arc<Mutex<Option<(i64, i64)>>>,
}

impl KeptDropped {
    pub(super) fn new(losses: Losses) -> Self {
        Self { losses, period: Arc::default() }
    }

    /// Records of this period are not kept any more.
    pub(super) fn add(&self, bytes: u64, first_ms: i64, last_ms: i64) {
        metrics::counter!(DROPPED_TOTAL).increment(bytes);
        let mut period = self.period();
        let (first, last) = period.unwrap_or((first_ms, last_ms));
        *period = Some((first.min(first_ms), last.max(last_ms)));
    }

    /// What was appended up to this moment would be gone by its age as well.
    pub(super) fn forget(&self, until_ms: i64) {
        let mut period = self.period();
        *period = period.and_then(|(first, last)| (last > until_ms).then_some((first.max(until_ms), last)));
    }

    /// The database lacks commits, or it is not known whether it does.
    pub(super) fn note_gap(&self) {
        let Some((first_ms, last_ms)) = self.period().take() else { return };
        tracing::error!(
            gap.first_ms = first_ms,
            gap.last_ms = last_ms,
            gap.cause = KEPT_DROPPED,
            "a gap: the database lacks commits, or may lack them, and what was kept of this period was dropped before its time"
        );
        let cause = KEPT_DROPPED.to_owned();
        self.losses.note_ended(Gap { app: None, first_ms, last_ms, callbacks: 0, cause });
    }

    fn period(&self) -> MutexGuard<'_, Option<(i64, i64)>> {
        self.period.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
