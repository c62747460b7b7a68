//! How a lane keeps what it commits (`KEEP_ANSWERED_SECS`): its batch raises a mark in the database, and once the commit is
//! confirmed the batch is handed to the files of the data directory, without waiting for them.
//!
//! Behind the commit and not before the answer, because a synced write for each batch would cost more than the setting is
//! worth: what a failover has lost is lost for good only where this host crashes as well. The drain does the same with
//! what it takes from the spool.

use super::tasks::WriterTasks;
use crate::callback::Callback;
use crate::spool::{KeptAnswers, NextMark, Spool, SpoolError, SpoolPlace};
use crate::store::Tx;
use crate::store::replica_marks::MarkRaise;

/// What one lane, or the drain, keeps. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct LaneKeeping {
    pub(super) kept: KeptAnswers,
    /// Its place among the marks.
    pub(super) lane: usize,
}

impl LaneKeeping {
    /// Commits a batch with the mark of the lane, and keeps it.
    ///
    /// # Errors
    /// The commit's; it is not known then whether it was done, and the batch counts as not committed.
    pub(super) async fn commit(&self, tx: Tx, batch: &[&Callback]) -> Result<(), sqlx::Error> {
        let next = self.kept.next_mark(self.lane);
        let NextMark { replica, lane, mark, confirmed } = next;
        let is_raised = tx.commit_with_mark(&MarkRaise { replica, lane, mark, confirmed }).await?;
        self.kept.keep(next, batch.iter().map(|callback| &callback.received), is_raised);
        Ok(())
    }
}

/// What is kept of answered callbacks, with its thread. Files that cannot be written are no reason to take no callbacks.
pub(super) fn kept_answers(
    running: &WriterTasks,
    spool: &Spool,
    place: &SpoolPlace,
) -> Result<Option<KeptAnswers>, SpoolError> {
    match spool.kept_answers(place) {
        Ok(None) => Ok(None),
        Ok(Some((kept, writing))) => {
            running.run_thread(writing);
            Ok(Some(kept))
        }
        Err(error @ SpoolError::Refused(_)) => Err(error),
        Err(error) => {
            tracing::error!(%error, "KEEP_ANSWERED_SECS has no effect until the next start: its files cannot be used");
            Ok(None)
        }
    }
}
