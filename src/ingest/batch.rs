//! One lane: take everything that waits, commit it as one transaction, tell every waiter.
//!
//! Callbacks come from `Writer::submit`; outcomes go back through each waiter's channel. Knows nothing of what the
//! transaction does.

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::{Job, apply};
use crate::callback::BODY_BYTES_MAX;
use crate::store::Database;

/// The largest batch. Larger ones gain little throughput and make everybody in them wait longer.
const BATCH_MAX: usize = 256;

/// A batch is cut when its bodies exceed this, so that one statement stays far below the 1 GiB that PostgreSQL takes.
const BATCH_BYTES_MAX: usize = 8 * BODY_BYTES_MAX;

/// Runs until it is told to close and nothing waits.
pub(super) async fn run(database: Database, mut queue: mpsc::Receiver<Job>, closing: CancellationToken) {
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
                bytes += job.callback.received.body.len();
                bytes <= BATCH_BYTES_MAX
            });
            let batch = fits.count().max(1);
            commit(&database, jobs.drain(..batch).collect()).await;
        }
    }
}

async fn commit(database: &Database, jobs: Vec<Job>) {
    #[expect(clippy::cast_precision_loss, reason = "a batch has at most 256 callbacks")]
    metrics::histogram!("group_mirror_batch_callbacks").record(jobs.len() as f64);
    let (callbacks, waiters): (Vec<_>, Vec<_>) =
        jobs.into_iter().map(|job| (job.callback, (job.answer, job.room))).unzip();
    let outcomes = apply(database, &callbacks).await;
    assert_eq!(outcomes.len(), waiters.len(), "every callback has one outcome");
    for ((waiter, _room), outcome) in waiters.into_iter().zip(outcomes) {
        // A waiter that has gone away (its sender hung up) needs no answer.
        let _ = waiter.send(outcome);
    }
}
