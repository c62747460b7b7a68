//! THE transaction: ledger rows and their effect, together or not at all. The only code that writes mirror rows for
//! callbacks.
//!
//! Failures are sorted by `store::classify`: a meeting of two transactions is tried again, the database's own trouble
//! is told to every waiter, and data that PostgreSQL refuses is found by halving and parked, so that one bad callback
//! takes nothing else with it.

use std::borrow::Borrow;
use std::sync::Arc;
use std::time::Duration;

use sqlx::PgConnection;

use super::{Outcome, replay};
use crate::callback::Callback;
use crate::mirror::{self, Rows};
use crate::store::{Database, Failure, classify, ledger, rows};

/// How often a transaction that met another is tried again. Batches take their locks in one order, so a second
/// meeting is rare and a tenth means something else is wrong.
const RETRIES_MAX: u32 = 10;

/// The pause before the first retry; it grows with each.
const RETRY_PAUSE: Duration = Duration::from_millis(2);

/// What became of a callback, or why nobody knows: the database did not commit, or it did and could not say so.
pub type Applied = Result<Outcome, Arc<sqlx::Error>>;

/// Commits callbacks and answers for each, in the order given. Applying the same again changes nothing.
pub async fn apply<C: Borrow<Callback> + Sync>(database: &Database, batch: &[C]) -> Vec<Applied> {
    let mut outcomes: Vec<Option<Applied>> = vec![None; batch.len()];
    let mut todo = Vec::from([(0, batch.len())]);
    todo.retain(|(from, to)| from < to);
    while let Some((from, to)) = todo.pop() {
        let range = from..to;
        let part: Vec<&Callback> = batch[range.clone()].iter().map(Borrow::borrow).collect();
        let error = match with_retries(database, &part).await {
            Ok(done) => {
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
            todo.extend([(middle, to), (from, middle)]);
        } else {
            outcomes[from] = Some(park(database, part[0], &error).await);
        }
    }
    outcomes.into_iter().map(|outcome| outcome.unwrap_or_else(unanswered)).collect()
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
    let new = match write(tx.conn(), part).await {
        Ok(new) => new,
        Err(error) => {
            tx.roll_back().await;
            return Err(error);
        }
    };
    tx.commit().await?;
    let outcome = |(callback, new): (&&Callback, bool)| match &callback.event {
        _ if !new => Outcome::Duplicate,
        Ok(_) => Outcome::Applied,
        Err(reason) => Outcome::Parked(reason.clone()),
    };
    Ok(part.iter().zip(new).map(outcome).collect())
}

/// The ledger rows and their effect; answers for each callback whether it is new.
async fn write(conn: &mut PgConnection, part: &[&Callback]) -> Result<Vec<bool>, sqlx::Error> {
    let new = ledger::insert_batch(conn, part).await?;
    assert_eq!(new.len(), part.len(), "the ledger answers for every callback");
    for (callback, _) in part.iter().zip(&new).filter(|(_, new)| !**new) {
        if let (true, Ok(event)) = (ledger::receive_earlier(conn, callback).await?, &callback.event) {
            let group = mirror::group_key(callback.received.app, event.group.clone());
            replay::rebuild_group(conn, &group).await?;
        }
    }
    let fresh = part.iter().zip(&new).filter(|(_, new)| **new);
    let facts = Rows::of(fresh.flat_map(|(callback, _)| mirror::facts(callback)));
    rows::upsert(conn, &facts).await?;
    Ok(new)
}

/// Keeps the bytes of a callback that PostgreSQL refuses to apply.
async fn park(database: &Database, callback: &Callback, error: &sqlx::Error) -> Applied {
    let parked = Callback { event: Err(format!("PostgreSQL refuses it: {error}")), ..callback.clone() };
    let mut outcomes = with_retries(database, &[&parked]).await?;
    match outcomes.pop() {
        // The server's words stay in the ledger: they can quote rows, and the sender is outside.
        Some(Outcome::Parked(_)) => {
            Ok(Outcome::Parked("PostgreSQL refuses it; the ledger has the reason".to_owned()))
        }
        other => other.map_or_else(unanswered, Ok),
    }
}

/// Cannot happen: every callback is answered for. If it does, the callback counts as not committed.
fn unanswered() -> Applied {
    Err(Arc::new(sqlx::Error::RowNotFound))
}
