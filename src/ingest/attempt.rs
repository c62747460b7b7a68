//! One attempt to commit a batch, bounded by the clock of this process.
//!
//! The server's own limits may be missing (a pooler that drops them, a server without timers) or not apply: a commit that
//! waits for a synchronous standby has none. A batch that takes long is reported to the prober. One that never ends is
//! given up, so that its lane goes on, but only while no other session that was given up exists in the server.

use std::borrow::Borrow;
use std::time::Duration;

use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use super::breaker::SLOW_COMMIT;
use super::commit::{BatchLimits, CommitTarget, commit_batch};
use super::keeping::LaneKeeping;
use super::outcome::Applied;
use super::pace::Pace;
use super::prober::Suspicion;
use crate::callback::Callback;
use crate::outbox::Outbox;
use crate::store::Database;

/// The longest time a batch may take, retries and bisection included. Everyone in it has an answer from the spool by
/// then, and a stalled connection must not hold a lane.
const COMMIT_WAIT_MAX: Duration = Duration::from_secs(5);

/// What an attempt works with.
#[derive(Debug, Clone)]
pub(super) struct Attempts {
    pub(super) database: Database,
    pub(super) outbox: Outbox,
    pub(super) suspicion: Suspicion,
    pub(super) closing: CancellationToken,
    /// None: nothing is kept of what is committed.
    pub(super) keeping: Option<LaneKeeping>,
}

impl Attempts {
    fn target(&self) -> CommitTarget<'_> {
        CommitTarget { database: &self.database, outbox: &self.outbox, keeping: self.keeping.as_ref() }
    }

    /// Commits a batch and keeps the pace. None: it was given up, and it is not known what was committed.
    pub(super) async fn commit<C: Borrow<Callback> + Sync>(
        &self,
        batch: &[C],
        pace: &mut Pace,
    ) -> Option<Vec<Applied>> {
        let begun = Instant::now();
        let outcomes = self.commit_or_give_up(batch, begun).await;
        pace.took(batch.len(), begun.elapsed());
        if let Some(outcomes) = &outcomes {
            assert_eq!(outcomes.len(), batch.len(), "every callback has one outcome");
        }
        outcomes
    }

    async fn commit_or_give_up<C: Borrow<Callback> + Sync>(
        &self,
        batch: &[C],
        begun: Instant,
    ) -> Option<Vec<Applied>> {
        let mut committing = Box::pin(commit_batch(self.target(), batch, BatchLimits::SHORT));
        tokio::select! {
            outcomes = &mut committing => return Some(outcomes),
            () = sleep(SLOW_COMMIT) => self.suspicion.report(),
        }
        let turn = async {
            sleep_until(begun + COMMIT_WAIT_MAX).await;
            // A process that ends cannot wait: its connections end with it.
            self.closing.run_until_cancelled(self.database.turn_to_give_up()).await
        };
        tokio::select! {
            outcomes = &mut committing => Some(outcomes),
            turn = turn => {
                tracing::error!(batch.callbacks = batch.len(), "a batch did not end and is given up");
                drop(committing);
                drop(turn);
                None
            }
        }
    }
}
