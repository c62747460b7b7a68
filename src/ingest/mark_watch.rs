//! Whether the database has all that it has confirmed, looked at every few seconds and whenever a lane doubts it.
//!
//! A standby that takes over may lack the last commits, and files or a dump may be restored. Then the marks of this service
//! are behind those that were confirmed, and all that is kept goes into the spool again: most of it finds its entry in the
//! ledger and counts as a repeat. The confirmed marks are read first: one that is raised meanwhile is no reason. What is kept
//! ages up to the last look that found nothing missing, so that an outage of any length takes nothing of it.
//!
//! Until the marks are lowered a lane that is behind commits without one. Should the database lose commits once more meanwhile,
//! its marks would not show that, so what was committed in that way is sent once more before a look may find nothing missing.

use std::time::Duration;

use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::breaker::Breaker;
use crate::spool::{KeptAnswers, LaneMarks, MARK_LANES};
use crate::store::{Database, in_time, replica_marks};

/// How often the database is looked at, and how often old records are removed.
const LOOK_PERIOD: Duration = Duration::from_secs(5);
const TIDY_PERIOD: Duration = Duration::from_secs(1);

/// How long a look may wait for the server. A host that vanishes leaves a connection that answers nothing until TCP gives up,
/// a quarter of an hour later; meanwhile the lanes are at the one that took over.
const LOOK_WAIT_MAX: Duration = Duration::from_secs(4);

/// Callbacks that were sent again.
const RESENT_TOTAL: &str = "group_mirror_resent_total";

/// What the task works with.
#[derive(Debug)]
pub(super) struct MarkWatch {
    pub(super) database: Database,
    pub(super) kept: KeptAnswers,
    pub(super) breaker: Breaker,
    pub(super) closing: CancellationToken,
}

impl MarkWatch {
    /// Runs until it is asked to close.
    pub(super) async fn run(self) {
        let closing = self.closing.clone();
        closing.run_until_cancelled(Box::pin(self.work())).await;
    }

    async fn work(self) {
        let (mut looked, mut is_tidied) = (None::<Instant>, false);
        loop {
            let is_due = looked.is_none_or(|looked| looked.elapsed() >= LOOK_PERIOD);
            // A server that does not commit cannot be asked, and one whose schema differs is not ours.
            if is_due && !self.breaker.is_open() {
                match self.look(&mut is_tidied).await {
                    Ok(()) => looked = Some(Instant::now()),
                    Err(error) => tracing::debug!(%error, "the marks of this service cannot be read"),
                }
            }
            tokio::select! {
                () = sleep(TIDY_PERIOD) => self.kept.tidy(),
                () = self.kept.found_behind() => looked = None,
            }
        }
    }

    async fn look(&self, is_tidied: &mut bool) -> Result<(), sqlx::Error> {
        let (replica, confirmed, begun) = self.kept.confirmed();
        let has_unmarked = self.kept.has_unmarked();
        let Some(found) = in_time(LOOK_WAIT_MAX, self.found(replica, is_tidied)).await? else {
            return Ok(());
        };
        let is_behind = found.iter().zip(&confirmed).any(|(found, confirmed)| found < confirmed);
        if !is_behind && !has_unmarked {
            self.kept.found_complete(begun);
            return Ok(());
        }
        // A spool that is closed is the end of this task as well.
        let Ok(sent) = self.tidying(self.kept.send_again(confirmed, found)).await else { return Ok(()) };
        metrics::counter!(RESENT_TOTAL).increment(sent);
        if is_behind {
            tracing::warn!(
                callbacks = sent,
                "the database lacks commits that it had confirmed (a standby that had not received them took over, or a copy \
                 was restored); all that was answered lately is sent again, and what it has counts as a repeat"
            );
        } else {
            tracing::info!(
                callbacks = sent,
                "callbacks that were kept without a mark are sent once more: it is not known whether the database still has them"
            );
        }
        Ok(())
    }

    /// The marks that the database has; none where it is a standby.
    async fn found(&self, replica: u128, is_tidied: &mut bool) -> Result<Option<LaneMarks>, sqlx::Error> {
        let mut tx = self.database.begin("marks").await?;
        let found = replica_marks::marks::<MARK_LANES>(tx.conn(), replica).await?;
        if *is_tidied || found.is_none() {
            tx.roll_back().await;
            return Ok(found);
        }
        *is_tidied = true;
        // Old rows of others are no reason not to compare.
        match replica_marks::forget_old(tx.conn(), replica).await {
            Ok(()) => tx.commit_without_sync().await?,
            Err(error) => tracing::debug!(%error, "old marks of other services stay"),
        }
        Ok(found)
    }

    /// Old records are removed meanwhile as well: the work may wait for a disk that is full.
    async fn tidying<T>(&self, work: impl Future<Output = T>) -> T {
        let mut work = std::pin::pin!(work);
        loop {
            tokio::select! {
                done = &mut work => return done,
                () = sleep(TIDY_PERIOD) => self.kept.tidy(),
            }
        }
    }
}
