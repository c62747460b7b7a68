//! The prober: one task that opens and closes the circuit breaker by what a small commit of its own shows.
//!
//! A batch that fails or takes long may wait for one locked row, or be large, or the server may be down; the batch cannot
//! tell. So lanes and drain only report a suspicion. The probe inserts into `ledger` on a fresh connection, takes the lock
//! on `groups` that every callback takes, and commits: if that succeeds within [`SLOW_COMMIT`] the breaker stays closed.
//! While it is open the task probes with exponential back-off. One probe runs at a time, and it is waited for to its end.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use super::aside::SetAside;
use super::breaker::{Breaker, SLOW_COMMIT};
use crate::store::{Database, StoreError};

/// The pause after the first probe that failed; it doubles with each.
const PAUSE_FIRST: Duration = Duration::from_millis(100);

/// The longest pause. A server that commits again is used again within about this time.
const PAUSE_MAX: Duration = Duration::from_secs(2);

/// How long a probe is waited for, until it is given up.
const PROBE_WAIT_MAX: Duration = Duration::from_secs(5);

/// How often the log repeats that the breaker is open.
const REPORT_PERIOD: Duration = Duration::from_secs(60);

/// Where lanes and drain report that PostgreSQL may not commit. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(super) struct Suspicion {
    reports: Arc<Notify>,
    open: Arc<AtomicBool>,
}

impl Suspicion {
    /// A batch failed or is slow. Reports that come while a probe runs are one.
    pub(super) fn report(&self) {
        self.open.store(true, Ordering::Release);
        self.reports.notify_one();
    }

    /// True until a probe has answered: the drain begins no further try that could get stuck as well.
    pub(super) fn is_open(&self) -> bool {
        self.open.load(Ordering::Acquire)
    }

    async fn reported(&self) {
        self.reports.notified().await;
        self.open.store(true, Ordering::Release);
    }
}

/// What the task works with.
#[derive(Debug)]
pub(super) struct Prober {
    pub(super) database: Database,
    pub(super) breaker: Breaker,
    pub(super) aside: SetAside,
    pub(super) suspicion: Suspicion,
    pub(super) closing: CancellationToken,
}

impl Prober {
    /// Runs until it is asked to close.
    pub(super) async fn run(self) {
        let closing = self.closing.clone();
        closing.run_until_cancelled(self.work()).await;
    }

    async fn work(self) {
        let (mut pause, mut reported) = (PAUSE_FIRST, Instant::now());
        loop {
            if !self.breaker.is_tripped() {
                // A report of while the last probe ran is answered by another probe.
                self.suspicion.reported().await;
                (pause, reported) = (PAUSE_FIRST, Instant::now());
            }
            if self.breaker.is_held_open() {
                // Nothing is written into a schema that is not the program's.
                sleep(PAUSE_FIRST).await;
                continue;
            }
            let answer = self.probe().await;
            self.suspicion.open.store(false, Ordering::Release);
            match answer {
                Ok(()) => self.breaker.close(),
                Err(cause) => {
                    self.breaker.open(&cause);
                    self.aside.clear();
                    if reported.elapsed() >= REPORT_PERIOD {
                        reported = Instant::now();
                        tracing::warn!(
                            cause,
                            spool.depth = self.breaker.waiting(),
                            "PostgreSQL still does not commit ({cause}); {} until it does",
                            self.breaker.fate()
                        );
                    }
                }
            }
            sleep(pause).await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    /// Succeeds when one small commit took less than [`SLOW_COMMIT`]; otherwise says why not.
    async fn probe(&self) -> Result<(), String> {
        let begun = Instant::now();
        let mut probing = Box::pin(self.database.probe());
        let said = |done: Result<(), StoreError>| done.map_err(|error| error.to_string());
        tokio::select! {
            done = &mut probing => return said(done),
            () = sleep(SLOW_COMMIT) => {}
        }
        let slow = format!("one small commit takes over {} ms", SLOW_COMMIT.as_millis());
        self.breaker.open(&slow);
        let turn = async {
            sleep_until(begun + PROBE_WAIT_MAX).await;
            self.database.turn_to_give_up().await
        };
        tokio::select! {
            done = &mut probing => said(done).and(Err(slow)),
            turn = turn => {
                drop(probing);
                drop(turn);
                Err(format!("one small commit takes over {} s", PROBE_WAIT_MAX.as_secs()))
            }
        }
    }
}
