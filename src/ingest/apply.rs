//! THE transaction: ledger rows and their effect, together or not at all. The only code that writes mirror rows for
//! callbacks.
//!
//! Failures are sorted by `store::classify`: a meeting of two transactions is tried again, the database's own trouble
//! is told to every waiter, and data that PostgreSQL refuses is found by halving and parked, so that one bad callback
//! takes nothing else with it.

use std::sync::Arc;
use std::time::Duration;

use super::{Outcome, SubmitError, replay};
use crate::callback::Callback;
use crate::mirror::{self, Rows};
use crate::store::{Database, Failure, classify, ledger, rows};

/// How often a transaction that met another is tried again. Batches take their locks in one order, so a second
/// meeting is rare and a tenth means something else is wrong.
const RETRIES_MAX: u32 = 10;

/// The pause before the first retry; it grows with each.
const RETRY_PAUSE: Duration = Duration::from_millis(2);

/// Commits callbacks and answers for each, in the order given. Applying the same again changes nothing.
pub async fn apply(database: &Database, batch: &[Callback]) -> Vec<Result<Outcome, SubmitError>> {
    let mut outcomes: Vec<Option<Result<Outcome, SubmitError>>> = vec![None; batch.len()];
    let mut todo = Vec::from([(0, batch.len())]);
    while let Some((from, to)) = todo.pop() {
        let range = from..to;
        let part: Vec<&Callback> = batch[range.clone()].iter().collect();
        let error = match with_retries(database, &part).await {
            Ok(done) => {
                range.zip(done).for_each(|(at, outcome)| outcomes[at] = Some(Ok(outcome)));
                continue;
            }
            Err(error) => error,
        };
        if classify(&error) != Failure::Data {
            let error = SubmitError::Database(Arc::new(error));
            tracing::error!(batch.callbacks = range.len(), error = %error, "callbacks were not committed");
            range.for_each(|at| outcomes[at] = Some(Err(error.clone())));
        } else if range.len() > 1 {
            let middle = from + range.len() / 2;
            todo.extend([(middle, to), (from, middle)]);
        } else {
            outcomes[from] = Some(park(database, part[0], &error).await);
        }
    }
    outcomes.into_iter().map(|outcome| outcome.unwrap_or(Err(SubmitError::Closed))).collect()
}

async fn with_retries(database: &Database, part: &[&Callback]) -> Result<Vec<Outcome>, sqlx::Error> {
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
    let new = ledger::insert_batch(tx.conn(), part).await?;
    assert_eq!(new.len(), part.len(), "the ledger answers for every callback");
    for (callback, _) in part.iter().zip(&new).filter(|(_, new)| !**new) {
        if let (true, Ok(event)) = (ledger::receive_earlier(tx.conn(), callback).await?, &callback.event) {
            let group = mirror::group_key(callback.received.app, event.group.clone());
            replay::rebuild_group(tx.conn(), &group).await?;
        }
    }
    let fresh = part.iter().zip(&new).filter(|(_, new)| **new);
    let facts = Rows::of(fresh.flat_map(|(callback, _)| mirror::facts(callback)));
    rows::upsert(tx.conn(), &facts).await?;
    tx.commit().await?;
    let outcome = |(callback, new): (&&Callback, bool)| match &callback.event {
        _ if !new => Outcome::Duplicate,
        Ok(_) => Outcome::Applied,
        Err(reason) => Outcome::Parked(reason.clone()),
    };
    Ok(part.iter().zip(new).map(outcome).collect())
}

/// Keeps the bytes of a callback that PostgreSQL refuses to apply.
async fn park(database: &Database, callback: &Callback, error: &sqlx::Error) -> Result<Outcome, SubmitError> {
    let parked = Callback { event: Err(format!("PostgreSQL refuses it: {error}")), ..callback.clone() };
    let done = with_retries(database, &[&parked]).await;
    let outcome =
        done.map(|mut outcomes| outcomes.pop()).map_err(|error| SubmitError::Database(Arc::new(error)))?;
    outcome.ok_or(SubmitError::Closed)
}
