//! One lane: it takes everything that waits, commits it as one transaction (group commit), and answers every waiter.
//!
//! Callbacks come from `Writer::submit`. What PostgreSQL does not commit, or may not have committed, goes to the spool,
//! which then answers the waiters. The lane knows nothing of what the transaction does.

use std::pin::pin;

use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::breaker::{Breaker, SLOW_COMMIT};
use super::commit::{Applied, BATCH_BYTES_MAX, BATCH_MAX, COMMIT_WAIT_MAX, commit};
use super::job::Job;
use crate::callback::Callback;
use crate::spool::Spool;
use crate::store::Database;
use crate::store::errors::{Failure, classify};

/// What a lane works with.
#[derive(Debug, Clone)]
pub(super) struct Lane {
    pub(super) database: Database,
    pub(super) spool: Spool,
    pub(super) breaker: Breaker,
}

impl Lane {
    /// Runs until it is asked to close and nothing waits.
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
                let count = fits.count().max(1);
                assert!(count <= BATCH_MAX.min(jobs.len()), "a batch keeps its limit");
                self.commit(jobs.drain(..count).collect()).await;
            }
        }
    }

    async fn commit(&self, mut jobs: Vec<Job>) {
        // A callback that waited too long is in the spool already.
        jobs.retain(|job| !job.pending.is_spooled());
        if jobs.is_empty() {
            return;
        }
        if self.breaker.is_open() {
            self.spool_all(jobs);
            return;
        }
        #[expect(clippy::cast_precision_loss, reason = "a batch has at most 256 callbacks")]
        metrics::histogram!("group_mirror_batch_callbacks").record(jobs.len() as f64);
        let Some(outcomes) = self.commit_or_open(&jobs).await else {
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
                // A waiter whose sender hung up needs no answer.
                Ok(outcome) => drop(job.waiter.send(Ok(outcome))),
                Err(error) => {
                    if classify(&error) == Failure::Unavailable {
                        self.breaker.open("does not commit");
                    }
                    job.spool(&self.spool);
                }
            }
        }
    }

    fn spool_all(&self, jobs: Vec<Job>) {
        for job in jobs {
            job.spool(&self.spool);
        }
    }

    /// None: the batch took too long, and it is not known what was committed.
    async fn commit_or_open(&self, jobs: &[Job]) -> Option<Vec<Applied>> {
        let callbacks: Vec<&Callback> = jobs.iter().map(|job| &*job.pending.callback).collect();
        let mut committing = pin!(timeout(COMMIT_WAIT_MAX, commit(&self.database, &callbacks)));
        tokio::select! {
            outcomes = &mut committing => outcomes.ok(),
            () = sleep(SLOW_COMMIT) => {
                self.breaker.open("does not commit in time");
                committing.await.ok()
            }
        }
    }
}
