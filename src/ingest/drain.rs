//! The drain: one task that brings what is in the spool to the tables, in order of receipt, through the same
//! transaction as everything else, and closes the circuit breaker.
//!
//! While the breaker is open the task probes PostgreSQL with exponential back-off. The breaker closes when a batch of the
//! spool is committed in good time, or when the spool is empty and PostgreSQL takes writes. A record leaves the spool
//! only after its commit, so a repeat after any failure meets its entry in the ledger. Records that fail again and again
//! are bisected out of their batch and skipped until the next round, so that they hold nothing else up.

use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::breaker::{Breaker, SLOW_COMMIT};
use super::commit::{BATCH_BYTES_MAX, BATCH_MAX, COMMIT_WAIT_MAX, commit};
use crate::callback::{self, Callback, Decoded, Received};
use crate::spool::{ReadRange, RecordKey, Spool};
use crate::store::Database;

/// The pause before the first attempt after a failure; it doubles with each (exponential back-off).
const PAUSE_FIRST: Duration = Duration::from_millis(100);

/// The longest pause. A server that commits again is used again within about this time.
const PAUSE_MAX: Duration = Duration::from_secs(2);

/// How long the probe waits for an answer.
const PROBE_WAIT_MAX: Duration = Duration::from_secs(2);

/// The pause before records that were skipped are tried again.
const ROUND_PAUSE: Duration = Duration::from_secs(5);

/// What the task works with.
#[derive(Debug)]
pub(super) struct Drain {
    pub(super) database: Database,
    pub(super) spool: Spool,
    pub(super) breaker: Breaker,
    pub(super) closing: CancellationToken,
}

/// How an attempt went.
enum Step {
    /// Committed, up to this key.
    Done(RecordKey),
    /// Nothing after the key.
    Nothing,
    /// Not all of it; the key of the last, and how many there were.
    Failed(RecordKey, usize),
    /// The spool itself could not be read or written.
    SpoolFailed,
}

impl Drain {
    /// Runs until it is asked to close; what is left then is drained after the next start.
    pub(super) async fn run(self) {
        let closing = self.closing.clone();
        closing.run_until_cancelled(self.work()).await;
    }

    async fn work(self) {
        // Where this round is, how much is tried at once, and how long to wait after the next failure.
        let (mut after, mut count, mut pause) = (None, BATCH_MAX, PAUSE_FIRST);
        loop {
            self.wait_for_work().await;
            if self.spool.is_failing() && self.spool.remove(Vec::new()).await.is_err() {
                // An empty write probes the disk: a load balancer sends nothing to an instance that is not ready, so no
                // callback would.
                sleep(PAUSE_MAX).await;
            }
            if self.breaker.is_open() && !self.probe().await {
                sleep(pause).await;
                pause = (pause * 2).min(PAUSE_MAX);
                continue;
            }
            let begun = Instant::now();
            match self.step(after, count).await {
                Step::Done(last) => {
                    if begun.elapsed() < SLOW_COMMIT {
                        self.breaker.close();
                        pause = PAUSE_FIRST;
                    }
                    after = after.map(|_| last);
                    count = (count * 2).min(BATCH_MAX);
                    continue;
                }
                Step::Nothing if after.is_none() => {
                    self.breaker.close();
                    pause = PAUSE_FIRST;
                    continue;
                }
                Step::Nothing => {
                    // The end of a round in which records were skipped. They must not keep the breaker open.
                    self.breaker.close();
                    after = None;
                    sleep(ROUND_PAUSE).await;
                }
                Step::Failed(last, 1) => after = Some(last),
                Step::Failed(_, tried) => count = tried / 2,
                // Without the spool PostgreSQL is the only hope, and it has just answered.
                Step::SpoolFailed => self.breaker.close(),
            }
            sleep(pause).await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    async fn wait_for_work(&self) {
        let (mut breaker, mut status) = (self.breaker.watch(), self.spool.watch());
        while !self.breaker.is_open() && self.spool.is_empty() && !self.spool.is_failing() {
            // Neither sender can be gone: this task holds one, the other lives until the spool is closed.
            tokio::select! {
                _ = breaker.changed() => {}
                _ = status.changed() => {}
            }
        }
    }

    async fn probe(&self) -> bool {
        !self.breaker.is_held_open()
            && matches!(timeout(PROBE_WAIT_MAX, self.database.is_writable()).await, Ok(true))
    }

    async fn step(&self, after: Option<RecordKey>, count: usize) -> Step {
        let range = ReadRange { after, count, bytes: BATCH_BYTES_MAX };
        let Ok(records) = self.spool.read(range).await else { return Step::SpoolFailed };
        let Some((last, _)) = records.last() else { return Step::Nothing };
        let (last, tried) = (*last, records.len());
        let (mut done, mut keys, mut callbacks) = (Vec::new(), Vec::new(), Vec::new());
        let mut failed = false;
        for (key, received) in records {
            match received.map(kept) {
                Some(Some(callback)) => {
                    keys.push(key);
                    callbacks.push(callback);
                }
                Some(None) => done.push(key),
                None => failed = true,
            }
        }
        assert_eq!(keys.len(), callbacks.len(), "every callback of a batch has its key in the spool");
        match timeout(COMMIT_WAIT_MAX, commit(&self.database, &callbacks)).await {
            Ok(outcomes) => {
                assert_eq!(outcomes.len(), keys.len(), "every record that was read has one outcome");
                for (key, outcome) in keys.into_iter().zip(outcomes) {
                    match outcome {
                        Ok(_) => done.push(key),
                        Err(_) => failed = true,
                    }
                }
            }
            Err(_) => failed = true,
        }
        assert!(done.len() <= tried, "no record is removed that was not read");
        if !done.is_empty() && self.spool.remove(done).await.is_err() {
            return Step::SpoolFailed;
        }
        if failed { Step::Failed(last, tried) } else { Step::Done(last) }
    }
}

/// What was put into the spool is in scope, unless this program has a longer list of what is not.
fn kept(received: Received) -> Option<Callback> {
    match callback::decode(received) {
        Decoded::Kept(callback) => Some(*callback),
        Decoded::OutOfScope(_) => None,
    }
}
