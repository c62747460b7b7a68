//! What a waiter is answered: the first of lane and spool that has its callback on disk decides.
//!
//! When PostgreSQL's share of the time is over a callback is handed to the spool as well, and both may answer, in any order.
//! An error is the answer only when neither of them can have the callback any more.

use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};

use super::job::Pending;
use super::outcome::{Outcome, SubmitError};
use crate::spool::SpoolError;

/// What a waiter is answered.
pub(super) type DurableResult = Result<Outcome, SubmitError>;

/// The answer of the one that has the callback on disk first; an error only when neither can have it any more.
pub(super) async fn first_durable(
    mut lane: oneshot::Receiver<DurableResult>,
    mut spooled: oneshot::Receiver<Result<(), SpoolError>>,
) -> DurableResult {
    let mut refusal = SubmitError::Closed;
    let (mut lane_open, mut spool_open) = (true, true);
    loop {
        // A channel that has ended must not be awaited again.
        tokio::select! {
            answer = &mut lane, if lane_open => match answer {
                Ok(Ok(outcome)) => return Ok(outcome),
                Ok(Err(error)) => (refusal, lane_open) = (error, false),
                // The lane has found it in the spool.
                Err(_) => lane_open = false,
            },
            answer = &mut spooled, if spool_open => match answer {
                Ok(Ok(())) => return Ok(Outcome::Spooled),
                // The lane may still commit it.
                Ok(Err(error)) => (refusal, spool_open) = (error.into(), false),
                Err(_) => spool_open = false,
            },
            else => return Err(refusal),
        }
    }
}

/// What to say at the deadline: why the spool refused it, if it did.
pub(super) fn late(pending: &Pending) -> SubmitError {
    pending.refusal().map_or(SubmitError::Late, SubmitError::from)
}

pub(super) async fn until_durable(
    outcome: oneshot::Receiver<DurableResult>,
    pending: &Pending,
    deadline: Instant,
) -> DurableResult {
    let done = timeout_at(deadline, outcome).await.map_err(|_| late(pending))?;
    // Dropped without an answer: the spool has it, or the writer has ended.
    done.unwrap_or_else(
        |_| if pending.is_durable() { Ok(Outcome::Spooled) } else { Err(SubmitError::Closed) },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const BROKEN: SpoolError = SpoolError::DiskFull;

    #[tokio::test]
    async fn a_spool_that_refuses_after_the_lane_has_ended_is_an_answer_and_no_panic() {
        let ((lane, waits), (spool, spooled)) = (oneshot::channel(), oneshot::channel());
        let first = tokio::spawn(first_durable(waits, spooled));
        drop(lane);
        tokio::task::yield_now().await;
        spool.send(Err(BROKEN)).unwrap();
        assert_eq!(first.await.unwrap(), Err(SubmitError::Spool(BROKEN)));
    }

    #[tokio::test]
    async fn a_lane_that_commits_after_the_spool_has_refused_gives_the_answer() {
        let ((lane, waits), (spool, spooled)) = (oneshot::channel(), oneshot::channel());
        let first = tokio::spawn(first_durable(waits, spooled));
        spool.send(Err(BROKEN)).unwrap();
        tokio::task::yield_now().await;
        lane.send(Ok(Outcome::Applied)).unwrap();
        assert_eq!(first.await.unwrap(), Ok(Outcome::Applied));
    }

    #[tokio::test]
    async fn a_spool_that_syncs_after_the_lane_has_failed_gives_the_answer() {
        let ((lane, waits), (spool, spooled)) = (oneshot::channel(), oneshot::channel());
        let first = tokio::spawn(first_durable(waits, spooled));
        lane.send(Err(SubmitError::Closed)).unwrap();
        tokio::task::yield_now().await;
        spool.send(Ok(())).unwrap();
        assert_eq!(first.await.unwrap(), Ok(Outcome::Spooled));
    }
}
