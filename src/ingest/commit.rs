//! THE transaction: ledger entries and their effect on the mirror, together or not at all.
//!
//! Failures are sorted by SQLSTATE in `store::errors`. A serialization failure or a deadlock is retried; trouble of the
//! database is reported to every waiter of the batch; data that PostgreSQL refuses is found by bisecting the batch, and
//! that one callback is parked, so that it takes nothing else with it.

use std::borrow::Borrow;
use std::sync::Arc;
use std::time::Duration;

use sqlx::PgConnection;

use super::entry::new_entry;
use super::outcome::{Outcome, count_causes};
use crate::callback::{BODY_BYTES_MAX, Callback, Reason, Skips};
use crate::mirror::{self, Rows};
use crate::replay;
use crate::store::errors::{Failure, classify};
use crate::store::ledger::Entered;
use crate::store::{Database, ledger, upsert};

/// The largest batch. Larger ones gain little throughput and make everyone in them wait longer.
pub(super) const BATCH_MAX: usize = 256;

/// A batch is cut when its bodies exceed this, so that one statement stays far below the 1 GiB that PostgreSQL takes.
pub(super) const BATCH_BYTES_MAX: usize = 8 * BODY_BYTES_MAX;

/// The longest time a batch may take, retries and bisection included; then its connection is dropped. Everyone in it has
/// an answer from the spool by then, and a stalled connection must not hold a lane.
pub(super) const COMMIT_WAIT_MAX: Duration = Duration::from_secs(5);

/// How often a transaction is retried after a serialization failure or a deadlock. Batches take their locks in one
/// order, so a second failure is rare and a tenth means something else is wrong.
const RETRIES_MAX: u32 = 10;

/// The pause before the first retry; it grows with each.
const RETRY_PAUSE: Duration = Duration::from_millis(2);

/// What became of a callback; an error means that it is not known to be committed.
pub type Applied = Result<Outcome, Arc<sqlx::Error>>;

/// Commits callbacks and answers for each, in the order given. Committing the same again changes nothing.
pub async fn commit<C: Borrow<Callback> + Sync>(database: &Database, batch: &[C]) -> Vec<Applied> {
    let mut outcomes: Vec<Option<Applied>> = vec![None; batch.len()];
    let mut ranges = Vec::from([(0, batch.len())]);
    ranges.retain(|(from, to)| from < to);
    while let Some((from, to)) = ranges.pop() {
        assert!(from < to && to <= batch.len(), "bisection stays inside the batch");
        let range = from..to;
        let part: Vec<&Callback> = batch[range.clone()].iter().map(Borrow::borrow).collect();
        let error = match transact_with_retries(database, &part).await {
            Ok(done) => {
                assert_eq!(done.len(), part.len(), "every callback of a transaction has one outcome");
                range.zip(done).for_each(|(at, outcome)| outcomes[at] = Some(Ok(outcome)));
                continue;
            }
            Err(error) => error,
        };
        if classify(&error) != Failure::Data {
            let error = Arc::new(error);
            tracing::error!(batch.callbacks = range.len(), error = %error, "callbacks were not committed");
            range.for_each(|at| outcomes[at] = Some(Err(error.clone())));
        } else if range.len() > 1 {
            let middle = from + range.len() / 2;
            ranges.extend([(middle, to), (from, middle)]);
        } else {
            outcomes[from] = Some(park(database, part[0], &error).await);
        }
    }
    let answered: Vec<Applied> = outcomes.into_iter().flatten().collect();
    assert_eq!(answered.len(), batch.len(), "every callback of a batch is answered for");
    answered
}

async fn transact_with_retries(database: &Database, part: &[&Callback]) -> Result<Vec<Outcome>, sqlx::Error> {
    let mut tries = 0;
    loop {
        match transact(database, part).await {
            Err(error) if classify(&error) == Failure::Retry && tries < RETRIES_MAX => {
                tries += 1;
                metrics::counter!("group_mirror_transaction_retries_total").increment(1);
                tokio::time::sleep(RETRY_PAUSE * tries).await;
            }
            done => return done,
        }
    }
}

async fn transact(database: &Database, part: &[&Callback]) -> Result<Vec<Outcome>, sqlx::Error> {
    let mut tx = database.begin("apply").await?;
    let new = match write(tx.conn(), part).await {
        Ok(new) => new,
        Err(error) => {
            tx.roll_back().await;
            return Err(error);
        }
    };
    tx.commit().await?;
    let outcome = |(callback, entered): (&&Callback, Entered)| match &callback.event {
        _ if entered != Entered::New => Outcome::Duplicate,
        Ok(_) if callback.skipped.is_empty() => Outcome::Applied,
        Ok(_) => Outcome::Partial(callback.skipped.clone()),
        Err(reason) => Outcome::Parked(reason.clone()),
    };
    part.iter().zip(&new).filter(|(_, entered)| **entered == Entered::New).for_each(|(callback, _)| {
        count_causes(callback);
    });
    Ok(part.iter().zip(new).map(outcome).collect())
}

/// The ledger entries and their effect; answers for each callback what the ledger made of it.
async fn write(conn: &mut PgConnection, part: &[&Callback]) -> Result<Vec<Entered>, sqlx::Error> {
    let entries: Vec<_> = part.iter().map(|callback| new_entry(callback)).collect();
    let new = ledger::enter_batch(conn, &entries).await?;
    assert_eq!(new.len(), part.len(), "the ledger answers for every callback");
    for (callback, _) in part.iter().zip(&new).filter(|(_, entered)| **entered == Entered::Earlier) {
        if let Ok(event) = &callback.event {
            let group = mirror::group_key(callback.received.app, event.group.clone());
            replay::rebuild_group(conn, &group).await?;
        }
    }
    let fresh = part.iter().zip(&new).filter(|(_, entered)| **entered == Entered::New);
    let facts = Rows::of(fresh.flat_map(|(callback, _)| mirror::facts(callback)));
    upsert::upsert(conn, &facts).await?;
    Ok(new)
}

/// Keeps the bytes of a callback that PostgreSQL refuses to apply.
async fn park(database: &Database, callback: &Callback, error: &sqlx::Error) -> Applied {
    let refused = Err(Reason::refused(error.to_string()));
    let parked = Callback { event: refused, skipped: Skips::default(), ..callback.clone() };
    let outcomes = transact_with_retries(database, &[&parked]).await?;
    let Some(outcome) = outcomes.into_iter().next() else {
        unreachable!("a transaction of one callback has one outcome")
    };
    Ok(match outcome {
        // The server's words stay in the ledger: they can quote rows, and the sender is outside.
        Outcome::Parked(_) => Outcome::Parked(Reason::refused("the ledger has the reason")),
        other => other,
    })
}
