//! One lane: take everything that waits, commit it as one transaction, tell every waiter.
//!
//! Callbacks come from `Writer::submit`; outcomes go back through each waiter's channel. What PostgreSQL does not
//! commit, or may not have committed, goes to the spool, and its waiters are told from there. Knows nothing of what the
//! transaction does.

use std::pin::pin;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::away::Away;
use super::spool::{Job, Spool};
use super::{Applied, apply};
use crate::callback::{BODY_BYTES_MAX, Callback};
use crate::store::{Database, Failure, classify};

/// The largest batch. Larger ones gain little throughput and make everybody in them wait longer.
pub(super) const BATCH_MAX: usize = 256;

/// A batch is cut when its bodies exceed this, so that one statement stays far below the 1 GiB that PostgreSQL takes.
pub(super) const BATCH_BYTES_MAX: usize = 8 * BODY_BYTES_MAX;

/// A batch that takes longer takes the writer away from PostgreSQL: about what a waiter may spend on it.
pub(super) const SLOW: Duration = Duration::from_millis(700);

/// The longest time a batch may take, retries and halving included; then its connection is dropped. Everybody in it has
/// an answer from the spool by then, and a stalled connection must not hold a lane.
pub(super) const APPLY_WAIT_MAX: Duration = Duration::from_secs(5);

/// What a lane works with.
#[derive(Debug, Clone)]
pub(super) struct Lane {
    pub(super) database: Database,
    pub(super) spool: Spool,
    pub(super) away: Away,
}

impl Lane {
    /// Runs until it is told to close and nothing waits.
    pub(super) async fn run(self, mut queue: mpsc::Receiver<Job>, closing: CancellationToken) {
        let mut jobs = Vec::new();
        loop {
            tokio::select! {
                biased;
                taken = queue.recv_many(&mut jobs, BATCH_MAX) => {
                    if taken == 0 {
                        return;
                    }
                }
                // Closing the queue lets the loop drain it and then end.
                () = closing.cancelled(), if !queue.is_closed() => {
                    queue.close();
                    continue;
                }
            }
            while !jobs.is_empty() {
                let mut bytes = 0;
                let fits = jobs.iter().take_while(|job| {
                    bytes += job.pending.callback.received.body.len();
                    bytes <= BATCH_BYTES_MAX
                });
                let batch = fits.count().max(1);
                self.commit(jobs.drain(..batch).collect()).await;
            }
        }
    }

    async fn commit(&self, mut jobs: Vec<Job>) {
        // A callback that waited too long is in the spool already.
        jobs.retain(|job| !job.pending.is_claimed());
        if jobs.is_empty() {
            return;
        }
        if self.away.is_away() {
            self.spool_all(jobs);
            return;
        }
        #[expect(clippy::cast_precision_loss, reason = "a batch has at most 256 callbacks")]
        metrics::histogram!("group_mirror_batch_callbacks").record(jobs.len() as f64);
        let outcomes = self.apply(&jobs).await;
        let Some(outcomes) = outcomes else {
            tracing::error!(
                batch.callbacks = jobs.len(),
                "a batch was given up; its callbacks go to the spool"
            );
            self.spool_all(jobs);
            return;
        };
        assert_eq!(outcomes.len(), jobs.len(), "every callback has one outcome");
        for (job, outcome) in jobs.into_iter().zip(outcomes) {
            match outcome {
                // A waiter that has gone away (its sender hung up) needs no answer.
                Ok(outcome) => drop(job.answer.send(Ok(outcome))),
                Err(error) => {
                    if classify(&error) == Failure::Unavailable {
                        self.away.leave("does not commit");
                    }
                    self.spool.put(job);
                }
            }
        }
    }

    fn spool_all(&self, jobs: Vec<Job>) {
        for job in jobs {
            self.spool.put(job);
        }
    }

    /// None: it took too long, and nobody knows what was committed.
    async fn apply(&self, jobs: &[Job]) -> Option<Vec<Applied>> {
        let callbacks: Vec<&Callback> = jobs.iter().map(|job| &job.pending.callback).collect();
        let mut applying = pin!(timeout(APPLY_WAIT_MAX, apply(&self.database, &callbacks)));
        tokio::select! {
            outcomes = &mut applying => outcomes.ok(),
            () = sleep(SLOW) => {
                self.away.leave("does not commit in time");
                applying.await.ok()
            }
        }
    }
}
