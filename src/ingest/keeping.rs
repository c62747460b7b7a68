//! How a lane keeps what it commits (`KEEP_ANSWERED_SECS`): its batch raises a mark in the database, and once the commit is
//! confirmed the batch is handed to the files of the data directory, without waiting for them.
//!
//! Behind the commit and not before the answer, because a synced write for each batch would cost more than the setting is
//! worth: what a failover has lost is lost for good only where this host crashes as well. The drain does the same with
//! what it takes from the spool.

use crate::callback::Callback;
use crate::spool::{KeptAnswers, NextMark};
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
