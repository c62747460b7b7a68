//! One lane: it takes everything that waits, commits it as one transaction (group commit), and answers every waiter.
//!
//! Callbacks come from `Writer::submit`, and back from a spool that refused them. What PostgreSQL does not commit, or may
//! not have committed, goes to the spool, which then answers the waiters. What is set aside goes there at once. The lane
//! knows nothing of what the transaction does.

use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::sleep;

use super::aside::{SetAside, Standing};
use super::aside_key::AsideKey;
use super::attempt::Attempts;
use super::breaker::Breaker;
use super::by_shard::by_shard;
use super::commit::{BATCH_BYTES_MAX, BATCH_MAX};
use super::earlier::CorrectionQueue;
use super::job::{Job, Pending};
use super::outcome::{Applied, NotCommitted, whole_failure};
use super::pace::Pace;
use crate::callback::Callback;
use crate::spool::Spool;
use crate::traces::BatchSpan;

/// The pause before callbacks that the spool refused are tried again, when there is nothing else to commit.
const RETURNED_PAUSE: Duration = Duration::from_millis(20);

/// What a lane works with.
#[derive(Debug, Clone)]
pub(super) struct Lane {
    pub(super) attempts: Attempts,
    pub(super) spool: Spool,
    pub(super) breaker: Breaker,
    pub(super) aside: SetAside,
    /// For repeats that were received before what the ledger has, and that the spool refuses.
    pub(super) corrections: CorrectionQueue,
}

impl Lane {
    /// Runs until it is asked to close and nothing waits.
    pub(super) async fn run(self, mut queue: mpsc::Receiver<Job>) {
        let (mut jobs, mut pace) = (Vec::new(), Pace::new());
        loop {
            tokio::select! {
                biased;
                taken = queue.recv_many(&mut jobs, BATCH_MAX) => {
                    if taken == 0 {
                        return;
                    }
                }
                // Closing the queue lets the loop drain it and then end.
                () = self.attempts.closing.cancelled(), if !queue.is_closed() => {
                    queue.close();
                    continue;
                }
            }
            if jobs.iter().all(|job| job.returned) {
                sleep(RETURNED_PAUSE).await;
            }
            while !jobs.is_empty() {
                let mut bytes = 0;
                let fits = jobs.iter().take(pace.count()).take_while(|job| {
                    bytes += job.pending.callback.received.body.len();
                    bytes <= BATCH_BYTES_MAX
                });
                let count = fits.count().max(1);
                assert!(count <= BATCH_MAX.min(jobs.len()), "a batch keeps its limit");
                self.commit(jobs.drain(..count).collect(), &mut pace).await;
            }
        }
    }

    async fn commit(&self, mut jobs: Vec<Job>, pace: &mut Pace) {
        // A callback that waited too long is in the spool already.
        jobs.retain(|job| !job.pending.is_durable());
        for lost in jobs.extract_if(.., |job| job.returned && job.waiter.is_closed()) {
            lost.lose(&self.spool);
        }
        if self.breaker.is_open() {
            self.spool_all(jobs);
            return;
        }
        let (free, aside): (Vec<Job>, Vec<Job>) =
            jobs.into_iter().partition(|job| self.aside.standing(&job.pending.callback) == Standing::Free);
        self.commit_by_shard(free, pace).await;
        // What the spool has refused, failing or full, can only be tried here.
        let (refused, aside): (Vec<Job>, Vec<Job>) =
            aside.into_iter().partition(|job| job.pending.refusal().is_some());
        self.spool_all(aside);
        self.commit_by_shard(refused, pace).await;
    }

    async fn commit_by_shard(&self, jobs: Vec<Job>, pace: &mut Pace) {
        let shards = self.attempts.database.shards().current();
        for jobs in by_shard(&shards, jobs, |job| &job.pending.callback) {
            self.commit_together(jobs, pace).await;
        }
    }

    async fn commit_together(&self, jobs: Vec<Job>, pace: &mut Pace) {
        #[expect(clippy::cast_precision_loss, reason = "a batch has at most 256 callbacks")]
        metrics::histogram!("group_mirror_batch_callbacks").record(jobs.len() as f64);
        let callbacks: Vec<&Callback> = jobs.iter().map(|job| &*job.pending.callback).collect();
        let sampled = jobs.iter().filter_map(|job| job.pending.span.as_ref());
        let span = BatchSpan::begin(sampled, jobs.len());
        let committed = self.attempts.commit(&callbacks, pace).await;
        if let Some(span) = span {
            let done = |outcomes: &Vec<Applied>| outcomes.iter().filter(|outcome| outcome.is_ok()).count();
            span.end(committed.as_ref().map_or(0, done));
        }
        let Some(outcomes) = committed else {
            if !self.spool.is_failing() {
                self.aside.set_shard(callbacks[0], &"a batch did not end in time");
            }
            self.spool_all(jobs);
            return;
        };
        // While the spool refuses everything, waiting is all that can be done about a table that is locked as a whole.
        let sets_aside = !self.spool.is_failing() || outcomes.iter().any(Result::is_ok);
        let shard_failed = whole_failure(&outcomes).filter(|_| sets_aside);
        if !shard_failed.is_some_and(|error| self.aside.set_shard(callbacks[0], error)) && sets_aside {
            self.aside.learn(callbacks.iter().copied().zip(&outcomes));
        }
        for (job, outcome) in jobs.into_iter().zip(outcomes) {
            match outcome {
                // A waiter whose sender hung up needs no answer.
                Ok(outcome) => drop(job.waiter.send(Ok(outcome))),
                Err(not) => {
                    self.note(&job.pending, &not, sets_aside);
                    job.spool(&self.spool, &self.breaker);
                }
            }
        }
    }

    fn note(&self, pending: &Pending, not: &NotCommitted, sets_aside: bool) {
        match not {
            NotCommitted::Alone(failure, error) => {
                if sets_aside {
                    self.aside.set(AsideKey::of(&pending.callback, *failure), error);
                }
                self.attempts.suspicion.report();
            }
            NotCommitted::Together(_) => self.attempts.suspicion.report(),
            // From the spool the drain offers it. What the spool refuses comes back here until it is corrected, and then
            // counts as a duplicate.
            NotCommitted::Earlier if pending.refusal().is_some() => self.corrections.offer(&pending.callback),
            NotCommitted::Earlier => {}
        }
    }

    fn spool_all(&self, jobs: Vec<Job>) {
        for job in jobs {
            job.spool(&self.spool, &self.breaker);
        }
    }
}
