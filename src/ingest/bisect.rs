//! Bisection: a batch that failed is halved until what fails stands alone, and everything else is committed.
//!
//! Pure bookkeeping; `commit` runs the transactions. Callbacks that would be set aside together stand together, so that
//! 200 callbacks of a locked group cost one wait for the lock and not 200. Where one part after another fails the server as a
//! whole takes nothing, and the rest is not tried: going on would only multiply the time.

use std::borrow::Borrow;
use std::sync::Arc;

use super::outcome::{Applied, NotCommitted};
use crate::callback::Callback;
use crate::model::{GroupId, SdkAppId};
use crate::store::errors::Failure;

/// So many parts of a batch may fail in a row, without one that is committed, before the rest is not tried. Finding one bad
/// callback among 256 takes 9.
const FAILURES_IN_A_ROW_MAX: usize = 10;

/// Callbacks with one `AsideKey::Command` have one such key. Borrowed, because every batch is ordered and hardly any fails.
fn shared_key(callback: &Callback) -> (SdkAppId, Option<&str>, &str) {
    (callback.received.app, callback.group.as_ref().map(GroupId::as_str), &callback.command)
}

/// The state of bisecting one batch: which parts are still to be tried, and what became of the others.
pub(super) struct Bisection {
    /// The parts to be tried, the next one last; callbacks that share a key stand together.
    parts: Vec<Vec<usize>>,
    outcomes: Vec<Option<Applied>>,
    /// How many parts have failed since one was committed.
    in_a_row: usize,
    failed: bool,
}

impl Bisection {
    pub(super) fn of<C: Borrow<Callback>>(batch: &[C]) -> Self {
        let mut order: Vec<usize> = (0..batch.len()).collect();
        order.sort_by_key(|at| shared_key(batch[*at].borrow()));
        let parts = if order.is_empty() { Vec::new() } else { Vec::from([order]) };
        Self { parts, outcomes: vec![None; batch.len()], in_a_row: 0, failed: false }
    }

    pub(super) fn next(&mut self) -> Option<Vec<usize>> {
        self.parts.pop()
    }

    pub(super) fn has_failed(&self) -> bool {
        self.failed
    }

    pub(super) fn committed(&mut self, part: &[usize], done: Vec<Applied>) {
        assert_eq!(done.len(), part.len(), "every callback of a transaction has one outcome");
        part.iter().zip(done).for_each(|(at, outcome)| self.outcomes[*at] = Some(outcome));
        self.in_a_row = 0;
    }

    pub(super) fn parked(&mut self, part: &[usize], outcome: Applied) {
        match outcome {
            Err(NotCommitted::Together(error)) => self.give_up(part.to_vec(), &error),
            outcome => self.committed(part, vec![outcome]),
        }
    }

    /// A part failed; `alone`: all of it shares what would be set aside.
    pub(super) fn failed(&mut self, mut part: Vec<usize>, failure: Failure, error: sqlx::Error, alone: bool) {
        let error = Arc::new(error);
        tracing::debug!(batch.callbacks = part.len(), %error, "callbacks were not committed");
        self.failed = true;
        if failure != Failure::Data {
            self.in_a_row += 1;
        }
        if failure == Failure::Unavailable || self.in_a_row > FAILURES_IN_A_ROW_MAX {
            self.give_up(part, &error);
        } else if alone && failure != Failure::Data {
            let outcome = Err(NotCommitted::Alone(failure, error));
            part.iter().for_each(|at| self.outcomes[*at] = Some(outcome.clone()));
        } else {
            assert!(part.len() > 1, "a part that is bisected has two callbacks");
            let rest = part.split_off(part.len() / 2);
            self.parts.extend([rest, part]);
        }
    }

    /// The server takes nothing: what was not tried fails with this part.
    fn give_up(&mut self, part: Vec<usize>, error: &Arc<sqlx::Error>) {
        self.parts.push(part);
        let rest: Vec<usize> = self.parts.drain(..).flatten().collect();
        // An outage has its error line from the circuit breaker; each batch of it has this one.
        tracing::warn!(batch.callbacks = rest.len(), %error, "callbacks were not committed");
        rest.iter().for_each(|at| self.outcomes[*at] = Some(Err(NotCommitted::Together(Arc::clone(error)))));
    }

    pub(super) fn outcomes(self) -> Vec<Applied> {
        let count = self.outcomes.len();
        let answered: Vec<Applied> = self.outcomes.into_iter().flatten().collect();
        assert_eq!(answered.len(), count, "every callback of a batch is answered for");
        answered
    }
}
