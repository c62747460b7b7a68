//! The way back: one task watches PostgreSQL while the writer is away from it, and brings what is in the spool to the
//! tables, in order of receipt, through the same transaction as everything else.
//!
//! The writer returns when a batch of the spool is committed in good time (or the spool is empty and PostgreSQL takes
//! writes): that is the proof, not an answer to a question. An entry leaves the spool only after its commit, so a
//! repeat after any failure finds it in the ledger. Entries that fail again and again are halved out of their batch
//! and passed over until the next round, so that they hold nothing else up.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::apply;
use super::away::Away;
use super::batch::{APPLY_WAIT_MAX, BATCH_BYTES_MAX, BATCH_MAX, SLOW};
use super::shelf::Key;
use super::spool::{Page, Spool};
use crate::callback::{self, Callback, Decoded, Received};
use crate::store::Database;

/// The pause before the first attempt after a failure; it doubles with each.
const PAUSE_FIRST: Duration = Duration::from_millis(100);

/// The longest pause. A server that is back is used again within about this time.
const PAUSE_MAX: Duration = Duration::from_secs(2);

/// How long the probe waits for an answer.
const PROBE_WAIT_MAX: Duration = Duration::from_secs(2);

/// The pause before entries that were passed over are tried again.
const ROUND_PAUSE: Duration = Duration::from_secs(5);

/// What the task works with.
#[derive(Debug)]
pub(super) struct Drain {
    pub(super) database: Database,
    pub(super) spool: Spool,
    pub(super) away: Away,
    pub(super) closing: CancellationToken,
}

/// How an attempt went.
enum Step {
    /// Committed, up to this key.
    Done(Key),
    /// Nothing after the key.
    Nothing,
    /// Not all of it; the key of the last, and how many there were.
    Failed(Key, usize),
    /// The spool itself could not be read or written.
    SpoolFailed,
}

impl Drain {
    /// Until it is told to close; what is left then is drained after the next start.
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
                // Somebody has to try the disk: where nothing is ready, nothing is sent.
                sleep(PAUSE_MAX).await;
            }
            if self.away.is_away() && !self.probe().await {
                sleep(pause).await;
                pause = (pause * 2).min(PAUSE_MAX);
                continue;
            }
            let begun = Instant::now();
            match self.step(after, count).await {
                Step::Done(last) => {
                    if begun.elapsed() < SLOW {
                        self.away.back();
                        pause = PAUSE_FIRST;
                    }
                    after = after.map(|_| last);
                    count = (count * 2).min(BATCH_MAX);
                    continue;
                }
                Step::Nothing if after.is_none() => {
                    self.away.back();
                    pause = PAUSE_FIRST;
                    continue;
                }
                Step::Nothing => {
                    // The end of a round in which entries were passed over. They must not keep the writer away.
                    self.away.back();
                    after = None;
                    sleep(ROUND_PAUSE).await;
                }
                Step::Failed(last, 1) => after = Some(last),
                Step::Failed(_, tried) => count = tried / 2,
                // Without the spool PostgreSQL is the only hope, and it has just answered.
                Step::SpoolFailed => self.away.back(),
            }
            sleep(pause).await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    async fn wait_for_work(&self) {
        let (mut away, mut status): (watch::Receiver<_>, watch::Receiver<_>) =
            (self.away.watch(), self.spool.watch());
        while !self.away.is_away() && self.spool.is_empty() && !self.spool.is_failing() {
            // Neither sender can be gone: one is held here, the other lives until the spool is closed.
            let (Ok(()) | Err(_)) = tokio::select! {
                changed = away.changed() => changed,
                changed = status.changed() => changed,
            };
        }
    }

    async fn probe(&self) -> bool {
        !self.away.is_barred()
            && matches!(timeout(PROBE_WAIT_MAX, self.database.is_writable()).await, Ok(true))
    }

    async fn step(&self, after: Option<Key>, count: usize) -> Step {
        let page = Page { after, count, bytes: BATCH_BYTES_MAX };
        let Ok(entries) = self.spool.read(page).await else { return Step::SpoolFailed };
        let Some((last, _)) = entries.last() else { return Step::Nothing };
        let (last, tried) = (*last, entries.len());
        let (mut gone, mut keys, mut callbacks) = (Vec::new(), Vec::new(), Vec::new());
        let mut failed = false;
        for (key, received) in entries {
            match received.map(kept) {
                Some(Some(callback)) => {
                    keys.push(key);
                    callbacks.push(callback);
                }
                Some(None) => gone.push(key),
                None => failed = true,
            }
        }
        match timeout(APPLY_WAIT_MAX, apply(&self.database, &callbacks)).await {
            Ok(outcomes) => {
                for (key, outcome) in keys.into_iter().zip(outcomes) {
                    match outcome {
                        Ok(_) => gone.push(key),
                        Err(_) => failed = true,
                    }
                }
            }
            Err(_) => failed = true,
        }
        if !gone.is_empty() && self.spool.remove(gone).await.is_err() {
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
