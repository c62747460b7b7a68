//! What became of a submitted callback: durable in one of five ways, or refused with a reason; and why one of a batch is not
//! committed.
//!
//! What a sender is answered has a stable label, which counters and gaps use.

use std::sync::Arc;

use strum::VariantArray as _;
use thiserror::Error;

use crate::callback::{Callback, Reading, Reason, ReasonCause, Skips};
use crate::outbox::Durability;
use crate::spool::SpoolError;
use crate::store::errors::Failure;

const PARKED_TOTAL: &str = "group_mirror_parked_total";
const PARTIAL_TOTAL: &str = "group_mirror_partial_total";

/// What became of a callback; in each case it is durable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Its effect and its ledger entry are committed.
    Applied,
    /// The same, but for parts that could not be read and were skipped.
    Partial(Skips),
    /// The ledger had it already.
    Duplicate,
    /// It is in the ledger as a dead letter, with the reason why it cannot be applied.
    Parked(Reason),
    /// It is in the spool, and will be in the ledger when PostgreSQL commits again.
    Spooled,
}

impl Outcome {
    /// The label for counters.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            Self::Applied => "applied",
            Self::Partial(_) => "partial",
            Self::Duplicate => "duplicate",
            Self::Parked(_) => "parked",
            Self::Spooled => "spooled",
        }
    }
}

/// Why a callback is not known to be committed.
#[derive(Debug, Clone)]
pub enum NotCommitted {
    /// It, or what shares its key with it, failed by itself while other parts of the batch could still be tried.
    Alone(Failure, Arc<sqlx::Error>),
    /// It failed with its batch, or was not tried any more.
    Together(Arc<sqlx::Error>),
    /// It is in the ledger with a later receipt than its own, which has to be corrected outside the batch.
    Earlier,
}

/// What became of a callback.
pub type Applied = Result<Outcome, NotCommitted>;

/// What the database answered where it took nothing of a batch and blames none of its callbacks. No answer is another matter:
/// then the way to the database is lost.
pub(super) fn whole_failure(outcomes: &[Applied]) -> Option<&sqlx::Error> {
    let refused = outcomes.iter().find_map(|outcome| match outcome {
        Err(NotCommitted::Together(error)) => Some(&**error),
        _ => None,
    });
    refused.filter(|error| matches!(error, sqlx::Error::Database(_)) && outcomes.iter().all(Result::is_err))
}

/// Makes the counters by cause exist with 0, so that an alert on one needs no first dead letter.
pub fn register_counters() {
    for cause in ReasonCause::VARIANTS {
        metrics::counter!(PARKED_TOTAL, "cause" => cause.label()).increment(0);
        metrics::counter!(PARTIAL_TOTAL, "cause" => cause.label()).increment(0);
    }
}

/// Counts what a new ledger entry could not hold, by cause.
pub(super) fn count_causes(callback: &Callback) {
    let name = match callback.reading() {
        Reading::Applied => return,
        Reading::Partial => PARTIAL_TOTAL,
        Reading::Parked => PARKED_TOTAL,
    };
    for cause in callback.causes() {
        metrics::counter!(name, "cause" => cause.label()).increment(1);
    }
}

/// Why a callback is not known to be durable.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SubmitError {
    /// Too many bytes wait already.
    #[error("too many callbacks are waiting")]
    Full,
    /// The service stops.
    #[error("the writer is stopping")]
    Closed,
    /// Neither PostgreSQL nor the spool had it on disk in time.
    #[error("neither PostgreSQL nor the spool answered in time")]
    Late,
    /// PostgreSQL did not commit it, and the spool refused it.
    #[error(transparent)]
    Spool(SpoolError),
}

impl SubmitError {
    /// The label for counters and gaps.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            Self::Full => "queue_full",
            Self::Closed => "stopping",
            Self::Late => "too_late",
            Self::Spool(error) => error.label(),
        }
    }
}

impl From<SpoolError> for SubmitError {
    fn from(error: SpoolError) -> Self {
        match error {
            SpoolError::Closed => Self::Closed,
            other => Self::Spool(other),
        }
    }
}

/// What the outcome says about where the callback is.
pub(super) fn durability(outcome: &Result<Outcome, SubmitError>) -> Durability {
    match outcome {
        Ok(Outcome::Applied | Outcome::Partial(_) | Outcome::Parked(_)) => Durability::Entered,
        Ok(Outcome::Spooled) => Durability::Spooled,
        Ok(Outcome::Duplicate) => Durability::Repeated,
        Err(_) => Durability::NotDurable,
    }
}
