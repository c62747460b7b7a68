//! Losses: callbacks that were answered with a failure because neither PostgreSQL nor the spool made them durable.
//!
//! Losses that follow each other closely form one gap: from when to when, how many, why. The log has one line where a gap
//! begins, not one per callback: a line each would fill the disk that may be the cause. The spool's file keeps the gaps
//! as far as it can be written, so that an operator knows which period has to be read again from Tencent.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};

use crate::model::Millis;

/// A loss this long after the one before begins a new gap, in milliseconds.
const QUIET_MS: i64 = 10_000;

/// A period with losses.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Gap {
    /// Receipt of the first callback in it, in Unix milliseconds.
    pub(super) first_ms: i64,
    /// Receipt of the last.
    pub(super) last_ms: i64,
    /// How many were answered with a failure.
    pub(super) callbacks: u64,
    /// Why.
    pub(super) cause: String,
}

/// The gap that goes on, and the number of all gaps. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(super) struct Losses(Arc<Mutex<LossState>>);

#[derive(Debug, Default)]
struct LossState {
    current: Option<Gap>,
    /// The current gap is not in the file as it is here.
    changed: bool,
    gap_count: u64,
}

impl Losses {
    /// Sets the number of gaps that earlier runs have noted.
    pub(super) fn set_noted(&self, gap_count: u64) {
        self.state().gap_count = gap_count;
    }

    /// Notes one loss.
    pub(super) fn note(&self, received_at: Millis, cause: &'static str) {
        metrics::counter!("group_mirror_lost_total", "cause" => cause).increment(1);
        let now = received_at.get();
        let mut state = self.state();
        state.changed = true;
        match &mut state.current {
            Some(gap) if gap.cause == cause && now - gap.last_ms < QUIET_MS => {
                gap.last_ms = gap.last_ms.max(now);
                gap.callbacks += 1;
                return;
            }
            _ => {}
        }
        state.gap_count += 1;
        state.current = Some(Gap { first_ms: now, last_ms: now, callbacks: 1, cause: cause.to_owned() });
        drop(state);
        metrics::counter!("group_mirror_gaps_total").increment(1);
        tracing::error!(gap.first_ms = now, gap.cause = cause, "a gap begins: callbacks are not durable");
    }

    /// The current gap, once after each change.
    pub(super) fn take_changed(&self) -> Option<Gap> {
        let mut state = self.state();
        let gap = state.current.clone().filter(|_| state.changed);
        state.changed = false;
        gap
    }

    /// The current gap is still to be written: the write did not succeed.
    pub(super) fn mark_changed(&self) {
        self.state().changed = true;
    }

    pub(super) fn gap_count(&self) -> u64 {
        self.state().gap_count
    }

    fn state(&self) -> MutexGuard<'_, LossState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
