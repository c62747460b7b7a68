//! Losses: callbacks that were answered with a failure because neither PostgreSQL nor the spool made them durable, and
//! those that a damaged disk has taken from the spool.
//!
//! Losses that follow each other closely form one gap: from when to when, how many, why. The log has one line where a gap
//! begins, not one per callback: a line each would fill the disk that may be the cause. The spool's file keeps the gaps
//! as far as it can be written, so that an operator knows which period has to be read again from Tencent.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};

use crate::model::{Millis, SdkAppId};

/// A loss this long after the one before begins a new gap, in milliseconds.
const QUIET_MS: i64 = 10_000;

/// How many gaps wait in memory for a file that can be written; of more the oldest go.
const UNWRITTEN_MAX: usize = 1000;

/// How many gaps are kept in memory for those who ask; of more the oldest go. The file keeps more of them.
pub const GAPS_LISTED_MAX: usize = 100;

/// The cause of a gap whose callbacks were durable in a file, or a record, that is damaged now.
pub const DAMAGED: &str = "spool_damaged";

/// The cause of a gap whose callbacks were committed and kept, and had been dropped when the database lost the commits.
pub const KEPT_DROPPED: &str = "kept_dropped";

/// The cause of a gap whose callbacks were committed and kept, in a file of which not all could be read when the database had, or
/// may have, lost the commits.
pub const KEPT_UNREAD: &str = "kept_unread";

/// A period with losses.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gap {
    /// The app whose callbacks they were; none where that is not known: the file of all apps is damaged, or the
    /// program failed at a callback before it could say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub app: Option<i64>,
    /// Receipt of the first callback in it, in Unix milliseconds.
    pub first_ms: i64,
    /// Receipt of the last.
    pub last_ms: i64,
    /// How many were answered with a failure, or were in what is damaged; 0 where that is not known.
    pub callbacks: u64,
    /// Why.
    pub cause: String,
}

impl Gap {
    /// What the file keeps it by.
    pub(super) fn key(&self) -> (i64, i64) {
        (self.first_ms, self.app.unwrap_or_default())
    }
}

/// The gap of each app that goes on, the newest ones before them, and the number of all gaps. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(super) struct Losses(Arc<Mutex<LossState>>);

#[derive(Debug, Default)]
struct LossState {
    /// The gap that goes on, by app; none for what belongs to no app that is known.
    current: BTreeMap<Option<i64>, CurrentGap>,
    /// Gaps that are over and not in the file yet.
    ended: Vec<Gap>,
    /// The newest gaps that are over, of earlier runs as well, oldest first.
    past: VecDeque<Gap>,
    gap_count: u64,
}

#[derive(Debug)]
struct CurrentGap {
    gap: Gap,
    /// It is not in the file as it is here.
    changed: bool,
}

impl LossState {
    fn begin(&mut self, gap: Gap) {
        self.end(gap.app);
        self.gap_count += 1;
        self.current.insert(gap.app, CurrentGap { gap, changed: true });
    }

    fn end(&mut self, app: Option<i64>) {
        let Some(CurrentGap { gap, changed }) = self.current.remove(&app) else { return };
        if self.past.len() == GAPS_LISTED_MAX {
            self.past.pop_front();
        }
        self.past.push_back(gap.clone());
        if changed {
            self.ended.push(gap);
        }
    }
}

/// Counts losses, by app where that is known.
fn count(app: Option<i64>, cause: &str, callbacks: u64) {
    let cause = cause.to_owned();
    match app {
        Some(app) => {
            metrics::counter!("group_mirror_lost_total", "cause" => cause, "app" => app.to_string())
        }
        None => metrics::counter!("group_mirror_lost_total", "cause" => cause),
    }
    .increment(callbacks);
}

impl Losses {
    /// Adds the gaps that earlier runs have noted, oldest first.
    pub(super) fn add_noted(&self, gaps: &[Gap]) {
        let mut state = self.state();
        state.gap_count += gaps.len() as u64;
        let room = GAPS_LISTED_MAX.saturating_sub(state.past.len());
        gaps.iter().rev().take(room).for_each(|gap| state.past.push_front(gap.clone()));
    }

    /// Notes one loss, of an app where that is known.
    pub(super) fn note(&self, app: Option<SdkAppId>, received_at: Millis, cause: &'static str) {
        let app = app.map(SdkAppId::get);
        count(app, cause, 1);
        let now = received_at.get();
        let mut state = self.state();
        match state.current.get_mut(&app) {
            Some(CurrentGap { gap, changed }) if gap.cause == cause && now - gap.last_ms < QUIET_MS => {
                gap.last_ms = gap.last_ms.max(now);
                gap.callbacks += 1;
                *changed = true;
                return;
            }
            _ => {}
        }
        state.begin(Gap { app, first_ms: now, last_ms: now, callbacks: 1, cause: cause.to_owned() });
        drop(state);
        metrics::counter!("group_mirror_gaps_total").increment(1);
        tracing::error!(
            gap.app = app,
            gap.first_ms = now,
            gap.cause = cause,
            "a gap begins: callbacks are not durable"
        );
    }

    /// Says how many callbacks a gap has that was noted as damage, once that is known.
    pub(super) fn complete(&self, gap: Gap) {
        count(gap.app, DAMAGED, gap.callbacks);
        self.state().ended.push(gap);
    }

    /// Notes a gap that is over: callbacks that were durable, and whose records cannot be read any more.
    pub(super) fn note_ended(&self, gap: Gap) {
        count(gap.app, &gap.cause, gap.callbacks);
        metrics::counter!("group_mirror_gaps_total").increment(1);
        let (mut state, app) = (self.state(), gap.app);
        state.begin(gap);
        state.end(app);
    }

    /// The gaps that are not in the file as they are here, once after each change.
    pub(super) fn take_changed(&self) -> Vec<Gap> {
        let mut state = self.state();
        let mut gaps = std::mem::take(&mut state.ended);
        for current in state.current.values_mut().filter(|current| current.changed) {
            gaps.push(current.gap.clone());
            current.changed = false;
        }
        gaps
    }

    /// Gaps are still to be written: the write did not succeed.
    pub(super) fn give_back(&self, gaps: Vec<Gap>) {
        let mut state = self.state();
        for gap in gaps {
            match state.current.get_mut(&gap.app) {
                Some(CurrentGap { gap: current, changed })
                    if current.first_ms == gap.first_ms && current.cause == gap.cause =>
                {
                    *changed = true;
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

    /// The newest gaps, oldest first; the last one of an app may still go on.
    pub(super) fn newest(&self) -> Vec<Gap> {
        let state = self.state();
        let current = state.current.values().map(|current| &current.gap);
        let mut gaps: Vec<Gap> = state.past.iter().chain(current).cloned().collect();
        gaps.sort_by_key(|gap| gap.first_ms);
        gaps
    }

    fn state(&self) -> MutexGuard<'_, LossState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
