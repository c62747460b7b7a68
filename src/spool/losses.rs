//! Losses: callbacks that were answered with a failure because neither PostgreSQL nor the spool made them durable, and
//! those that a damaged disk has taken from the spool.
//!
//! Losses that follow each other closely form one gap: from when to when, how many, why. The log has one line where a gap
//! begins, not one per callback: a line each would fill the disk that may be the cause. The spool's file keeps the gaps
//! as far as it can be written, so that an operator knows which period has to be read again from Tencent.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};

use crate::model::Millis;

/// A loss this long after the one before begins a new gap, in milliseconds.
const QUIET_MS: i64 = 10_000;

/// How many gaps wait in memory for a file that can be written; of more the oldest go.
const UNWRITTEN_MAX: usize = 1000;

/// How many gaps are kept in memory for those who ask; of more the oldest go. The file keeps more of them.
pub const GAPS_LISTED_MAX: usize = 100;

/// The cause of a gap whose callbacks were durable in a file, or a record, that is damaged now.
pub const DAMAGED: &str = "spool_damaged";

/// A period with losses.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gap {
    /// Receipt of the first callback in it, in Unix milliseconds.
    pub first_ms: i64,
    /// Receipt of the last.
    pub last_ms: i64,
    /// How many were answered with a failure, or were in what is damaged; 0 where that is not known.
    pub callbacks: u64,
    /// Why.
    pub cause: String,
}

/// The gap that goes on, the newest ones before it, and the number of all gaps. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(super) struct Losses(Arc<Mutex<LossState>>);

#[derive(Debug, Default)]
struct LossState {
    current: Option<Gap>,
    /// The current gap is not in the file as it is here.
    changed: bool,
    /// Gaps that are over and not in the file yet.
    ended: Vec<Gap>,
    /// The newest gaps that are over, of earlier runs as well, oldest first.
    past: VecDeque<Gap>,
    gap_count: u64,
}

impl LossState {
    fn begin(&mut self, gap: Gap) {
        self.end();
        self.gap_count += 1;
        self.current = Some(gap);
        self.changed = true;
    }

    fn end(&mut self) {
        let Some(gap) = self.current.take() else { return };
        if self.past.len() == GAPS_LISTED_MAX {
            self.past.pop_front();
        }
        self.past.push_back(gap.clone());
        if std::mem::take(&mut self.changed) {
            self.ended.push(gap);
        }
    }
}

impl Losses {
    /// Adds the gaps that earlier runs have noted, oldest first.
    pub(super) fn add_noted(&self, gaps: &[Gap]) {
        let mut state = self.state();
        state.gap_count += gaps.len() as u64;
        let room = GAPS_LISTED_MAX.saturating_sub(state.past.len());
        gaps.iter().rev().take(room).for_each(|gap| state.past.push_front(gap.clone()));
    }

    /// Notes one loss.
    pub(super) fn note(&self, received_at: Millis, cause: &'static str) {
        metrics::counter!("group_mirror_lost_total", "cause" => cause).increment(1);
        let now = received_at.get();
        let mut state = self.state();
        match &mut state.current {
            Some(gap) if gap.cause == cause && now - gap.last_ms < QUIET_MS => {
                gap.last_ms = gap.last_ms.max(now);
                gap.callbacks += 1;
                state.changed = true;
                return;
            }
            _ => {}
        }
        state.begin(Gap { first_ms: now, last_ms: now, callbacks: 1, cause: cause.to_owned() });
        drop(state);
        metrics::counter!("group_mirror_gaps_total").increment(1);
        tracing::error!(gap.first_ms = now, gap.cause = cause, "a gap begins: callbacks are not durable");
    }

    /// Says how many callbacks a gap has that was noted as damage, once that is known.
    pub(super) fn complete(&self, gap: Gap) {
        metrics::counter!("group_mirror_lost_total", "cause" => DAMAGED).increment(gap.callbacks);
        self.state().ended.push(gap);
    }

    /// Notes a gap that is over: records that were durable and cannot be read any more.
    pub(super) fn note_damage(&self, gap: Gap) {
        metrics::counter!("group_mirror_lost_total", "cause" => DAMAGED).increment(gap.callbacks);
        metrics::counter!("group_mirror_gaps_total").increment(1);
        let mut state = self.state();
        state.begin(gap);
        state.end();
    }

    /// The gaps that are not in the file as they are here, once after each change.
    pub(super) fn take_changed(&self) -> Vec<Gap> {
        let mut state = self.state();
        let mut gaps = std::mem::take(&mut state.ended);
        gaps.extend(state.current.clone().filter(|_| state.changed));
        state.changed = false;
        gaps
    }

    /// Gaps are still to be written: the write did not succeed.
    pub(super) fn give_back(&self, gaps: Vec<Gap>) {
        let mut state = self.state();
        for gap in gaps {
            match &state.current {
                Some(current) if current.first_ms == gap.first_ms && current.cause == gap.cause => {
                    state.changed = true;
                }
                _ => state.ended.push(gap),
            }
        }
        let excess = state.ended.len().saturating_sub(UNWRITTEN_MAX);
        state.ended.drain(..excess);
    }

    pub(super) fn gap_count(&self) -> u64 {
        self.state().gap_count
    }

    /// The newest gaps, oldest first; the last one may still go on.
    pub(super) fn newest(&self) -> Vec<Gap> {
        let state = self.state();
        state.past.iter().chain(&state.current).cloned().collect()
    }

    fn state(&self) -> MutexGuard<'_, LossState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
