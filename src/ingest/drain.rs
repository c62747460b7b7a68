//! The drain: one task that brings what is in the spool to the tables, in order of receipt, through the same transaction as
//! everything else, and beside the lanes: neither waits for the other.
//!
//! A record leaves the spool only after its commit, so a repeat after any failure meets its entry in the ledger. The task
//! goes through the spool in rounds. Records that are set aside, or that this program cannot read, are skipped without a
//! pause; what is due is tried by itself. A batch that is refused as a whole makes the next ones smaller, down to the one
//! record that may be the cause. Nothing is tried while the breaker is open or a probe is under way.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::aside::{SetAside, Standing};
use super::aside_key::AsideKey;
use super::attempt::Attempts;
use super::breaker::Breaker;
use super::by_shard::by_shard;
use super::commit::{BATCH_BYTES_MAX, BATCH_MAX};
use super::earlier::CorrectionQueue;
use super::outcome::{NotCommitted, whole_failure};
use super::pace::Pace;
use crate::callback::{self, Callback, Decoded, Received};
use crate::spool::{ReadRange, RecordKey, Spool, StoredRecord};
use crate::store::errors::Failure;

/// The pause after a batch that the server did not take; it doubles with each (exponential back-off).
const PAUSE_FIRST: Duration = Duration::from_millis(100);

/// The longest pause of any kind.
const PAUSE_MAX: Duration = Duration::from_secs(2);

/// The pause after a round in which records were skipped; it doubles while nothing is committed.
const ROUND_PAUSE: Duration = Duration::from_millis(250);

/// How long what is due may be tried before the rest of the records is: keys that are refused quickly are many.
const DUE_TIME: Duration = Duration::from_millis(100);

/// How often the task looks whether a probe has answered, while there is something to drain.
const LOOK_PERIOD: Duration = Duration::from_millis(50);

/// What the task works with.
#[derive(Debug)]
pub(super) struct Drain {
    pub(super) attempts: Attempts,
    pub(super) spool: Spool,
    pub(super) breaker: Breaker,
    pub(super) aside: SetAside,
    /// For repeats that were received before what the ledger has.
    pub(super) corrections: CorrectionQueue,
}

/// How one reading of the spool went.
enum Step {
    /// Its records were committed or skipped.
    Passed,
    /// There was none left in this round.
    RoundOver,
    /// The server took nothing.
    Refused,
    /// The spool itself could not be read or written.
    SpoolFailed,
}

/// A callback and its record.
type SpooledCallback = (RecordKey, Callback);

/// Where a round is.
#[derive(Debug)]
struct Round {
    after: Option<RecordKey>,
    skipped: bool,
    committed: bool,
    /// Whether the log has the records that this program cannot read; it says so once.
    is_newer_reported: bool,
    pace: Pace,
}

impl Round {
    /// A newer program wrote a record; it stays in the spool until that one drains it.
    fn skips_newer(&mut self) {
        self.skipped = true;
        if !std::mem::replace(&mut self.is_newer_reported, true) {
            tracing::warn!(
                "records in the spool have a version that this program does not know; they stay there, and count as its depth, \
                 until a newer program runs on this data directory"
            );
        }
    }
}

impl Drain {
    /// Runs until it is asked to close; what is left then is drained after the next start.
    pub(super) async fn run(self) {
        let closing = self.attempts.closing.clone();
        closing.run_until_cancelled(Box::pin(self.work())).await;
    }

    async fn work(self) {
        let mut round = Round {
            after: None,
            skipped: false,
            committed: false,
            is_newer_reported: false,
            pace: Pace::new(),
        };
        let (mut pause, mut round_pause) = (PAUSE_FIRST, ROUND_PAUSE);
        loop {
            self.wait_for_work().await;
            if self.spool.is_failing() && self.spool.remove(Vec::new()).await.is_err() {
                // An empty write probes the disk: while PostgreSQL commits no callback would.
                sleep(PAUSE_MAX).await;
                continue;
            }
            match self.step(&mut round).await {
                Step::Passed => pause = PAUSE_FIRST,
                Step::RoundOver => {
                    if round.skipped {
                        round_pause =
                            if round.committed { ROUND_PAUSE } else { (round_pause * 2).min(PAUSE_MAX) };
                        sleep(round_pause).await;
                    }
                    (round.after, round.skipped, round.committed) = (None, false, false);
                }
                Step::Refused => {
                    self.attempts.suspicion.report();
                    sleep(pause).await;
                    pause = (pause * 2).min(PAUSE_MAX);
                }
                Step::SpoolFailed => sleep(PAUSE_MAX).await,
            }
        }
    }

    /// Waits until there is something to drain and PostgreSQL takes it, or the spool has to be probed.
    async fn wait_for_work(&self) {
        let mut status = self.spool.watch();
        while !self.spool.is_failing() {
            if self.spool.is_empty() {
                // The sender lives until the spool is closed, and this task ends before.
                if status.changed().await.is_err() {
                    sleep(PAUSE_MAX).await;
                }
            } else if self.breaker.is_open() || self.attempts.suspicion.is_open() {
                sleep(LOOK_PERIOD).await;
            } else {
                return;
            }
        }
    }

    async fn step(&self, round: &mut Round) -> Step {
        let range = ReadRange { after: round.after, count: BATCH_MAX, bytes: BATCH_BYTES_MAX };
        let Ok(records) = self.spool.read(range).await else { return Step::SpoolFailed };
        let Some((last, _)) = records.last() else { return Step::RoundOver };
        let last = *last;
        let (free, due, out_of_scope) = self.sort(records, round);
        if !out_of_scope.is_empty() && self.spool.remove(out_of_scope).await.is_err() {
            return Step::SpoolFailed;
        }
        let begun = Instant::now();
        for (key, records) in due {
            if begun.elapsed() > DUE_TIME {
                round.skipped = true;
                continue;
            }
            // One record shows whether a shard is back, as in a circuit breaker that is half open.
            let count = if matches!(key, AsideKey::Shard(..)) { 1 } else { records.len() };
            round.skipped |= count < records.len();
            match self.apply(&records[..count], round).await {
                Ok(taken) if taken == records.len() || (taken > 0 && key.ends_with_one()) => {
                    self.aside.applied(&key);
                }
                Ok(_) => drop(self.aside.add(key)),
                Err(step) => {
                    self.aside.add(key);
                    return step;
                }
            }
        }
        let mut rest = &free[..];
        while !rest.is_empty() {
            let (batch, later) = rest.split_at(round.pace.count().min(rest.len()));
            if let Err(step) = self.apply(batch, round).await {
                return step;
            }
            rest = later;
        }
        round.after = Some(last);
        Step::Passed
    }

    /// What to commit together, what to try by itself, and the records to remove because they are not to be stored.
    fn sort(
        &self,
        records: Vec<StoredRecord>,
        round: &mut Round,
    ) -> (Vec<SpooledCallback>, BTreeMap<AsideKey, Vec<SpooledCallback>>, Vec<RecordKey>) {
        let count = records.len();
        let (mut free, mut due, mut out_of_scope) =
            (Vec::new(), BTreeMap::<AsideKey, Vec<SpooledCallback>>::new(), Vec::new());
        for (key, received) in records {
            match received.map(kept) {
                Some(Some(callback)) => match self.aside.standing(&callback) {
                    Standing::Free => free.push((key, callback)),
                    Standing::Due(set_aside) => due.entry(set_aside).or_default().push((key, callback)),
                    Standing::Waiting => round.skipped = true,
                },
                Some(None) => out_of_scope.push(key),
                None => round.skips_newer(),
            }
        }
        assert!(free.len() + out_of_scope.len() <= count, "no record is drained that was not read");
        (free, due, out_of_scope)
    }

    /// Commits records, shard by shard, and removes those that are in the ledger; answers how many are.
    async fn apply(&self, records: &[SpooledCallback], round: &mut Round) -> Result<usize, Step> {
        let shards = self.attempts.database.shards().current();
        let mut taken = 0;
        for part in by_shard(&shards, records.iter().collect(), |(_, callback)| callback) {
            taken += self.apply_part(&part, round).await?;
        }
        Ok(taken)
    }

    async fn apply_part(&self, records: &[&SpooledCallback], round: &mut Round) -> Result<usize, Step> {
        let callbacks: Vec<&Callback> = records.iter().map(|(_, callback)| callback).collect();
        let Some(outcomes) = self.attempts.commit(&callbacks, &mut round.pace).await else {
            let error = &"it did not end in time";
            if records.len() == 1 || !self.aside.set_shard(callbacks[0], error) {
                self.narrow(records, round, error);
            }
            return Err(Step::Refused);
        };
        // One record by itself may be what its server cannot take, and does not speak for the shard.
        if records.len() > 1
            && let Some(error) = whole_failure(&outcomes)
            && self.aside.set_shard(callbacks[0], error)
        {
            self.attempts.suspicion.report();
            round.skipped = true;
            return Ok(0);
        }
        // A record whose entry has to be corrected first stays in the spool, and has not failed.
        let (mut done, mut refused, mut to_correct) = (Vec::new(), None, 0);
        for ((key, callback), outcome) in records.iter().zip(outcomes) {
            match outcome {
                Ok(_) => done.push(*key),
                Err(NotCommitted::Together(error)) => refused = Some(error),
                Err(NotCommitted::Alone(failure, error)) => self.failed_alone(callback, failure, &error),
                Err(NotCommitted::Earlier) => {
                    to_correct += 1;
                    self.corrections.offer(callback);
                }
            }
        }
        let count = done.len();
        round.skipped |= count < records.len();
        round.committed |= count > 0;
        if !done.is_empty() && self.spool.remove(done).await.is_err() {
            return Err(Step::SpoolFailed);
        }
        if let Some(error) = refused {
            self.narrow(records, round, &error);
            return Err(Step::Refused);
        }
        Ok(count + to_correct)
    }

    /// A batch that the server refused as a whole may hold a record which ends the session that applies it, or takes more
    /// time than a batch has. So the next batch is smaller, and a record that was refused by itself is set aside; where
    /// the server takes nothing at all, the prober clears that.
    fn narrow(&self, records: &[&SpooledCallback], round: &mut Round, error: &dyn fmt::Display) {
        match records {
            [(_, callback)] => drop(self.aside.set(AsideKey::callback(callback), error)),
            _ => round.pace.refused(records.len()),
        }
    }

    /// It failed by itself: other records can still be committed.
    fn failed_alone(&self, callback: &Callback, failure: Failure, error: &sqlx::Error) {
        if self.aside.set(AsideKey::of(callback, failure), error) {
            self.attempts.suspicion.report();
        }
    }
}

/// What was put into the spool is in scope, unless this program has a longer list of what is not.
fn kept(received: Received) -> Option<Callback> {
    match callback::decode(received) {
        Decoded::Kept(callback) => Some(*callback),
        Decoded::OutOfScope(_) => None,
    }
}
