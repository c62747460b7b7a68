//! Named gaps: when callbacks could not be made durable at all, from when to when, how many, and why.
//!
//! One line of the log where a gap begins, not one per callback. Gaps are kept in the spool as far as it can be
//! written; the count of one that goes on is brought up to date with each write.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};

use crate::model::Millis;

/// A loss this long after the one before begins a new gap, in milliseconds.
const QUIET_MS: i64 = 10_000;

/// One gap.
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

/// The gap that goes on, and how many there are. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(super) struct Gaps(Arc<Mutex<Book>>);

#[derive(Debug, Default)]
struct Book {
    current: Option<Gap>,
    /// Not yet written as it is.
    changed: bool,
    count: u64,
}

impl Gaps {
    /// Takes in what earlier runs have noted.
    pub(super) fn know(&self, noted: u64) {
        self.book().count = noted;
    }

    /// A callback was not made durable.
    pub(super) fn lost(&self, received_at: Millis, cause: &'static str) {
        metrics::counter!("group_mirror_lost_total", "cause" => cause).increment(1);
        let now = received_at.get();
        let mut book = self.book();
        book.changed = true;
        match &mut book.current {
            Some(gap) if gap.cause == cause && now - gap.last_ms < QUIET_MS => {
                gap.last_ms = gap.last_ms.max(now);
                gap.callbacks += 1;
                return;
            }
            _ => {}
        }
        book.count += 1;
        book.current = Some(Gap { first_ms: now, last_ms: now, callbacks: 1, cause: cause.to_owned() });
        drop(book);
        metrics::counter!("group_mirror_gaps_total").increment(1);
        tracing::error!(gap.first_ms = now, gap.cause = cause, "a gap begins: callbacks are not durable");
    }

    /// What is to be written, once.
    pub(super) fn take_changed(&self) -> Option<Gap> {
        let mut book = self.book();
        let gap = book.current.clone().filter(|_| book.changed);
        book.changed = false;
        gap
    }

    /// The write did not succeed.
    pub(super) fn put_back(&self) {
        self.book().changed = true;
    }

    pub(super) fn count(&self) -> u64 {
        self.book().count
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
