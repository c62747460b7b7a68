//! THE transaction: ledger entries and their effect on the mirror, together or not at all.
//!
//! Failures are sorted by SQLSTATE in `store::errors`. A serialization failure or a deadlock is retried, a session whose
//! prepared statements are gone is replaced. Anything else is found by bisecting the batch, so that it takes nothing else
//! with it: data that PostgreSQL refuses is parked; what a lock, a time limit or a missing right keeps out is reported as
//! having failed alone. Where one part after another fails and none is committed, the server as a whole takes nothing.

use std::borrow::Borrow;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use sqlx::PgConnection;

use super::aside_key::AsideKey;
use super::bisect::Bisection;
use super::earlier::correct;
use super::entry::new_entry;
use super::keeping::LaneKeeping;
use super::outcome::{Applied, NotCommitted, Outcome, count_causes};
use crate::callback::{BODY_BYTES_MAX, Callback, Reason, Skips, command_label};
use crate::mirror::{self, Rows};
use crate::model::GroupId;
use crate::outbox::Outbox;
use crate::store::errors::{Failure, classify, refused_data};
use crate::store::ledger::Entered;
use crate::store::{Database, SESSION_LOCK_MAX, Tx, ledger, upsert};

/// The largest batch. Larger ones gain little throughput and make everyone in them wait longer.
pub(super) const BATCH_MAX: usize = 256;

/// A batch is cut when its bodies exceed this, so that one statement stays far below the 1 GiB that PostgreSQL takes.
pub(super) const BATCH_BYTES_MAX: usize = 8 * BODY_BYTES_MAX;

/// How often a transaction is retried after a serialization failure or a deadlock. Batches take their locks in one
/// order, so a second failure is rare and a tenth means something else is wrong.
const RETRIES_MAX: u32 = 10;

/// The pause before the first retry; it grows with each.
const RETRY_PAUSE: Duration = Duration::from_millis(2);

/// How often a transaction is retried on another session: each of the pool's 8 may have the stale statements, and a new
/// one has none.
const SESSIONS_MAX: u32 = 9;

/// The limits of time for one batch.
#[derive(Debug, Clone, Copy)]
pub(super) struct BatchLimits {
    /// How long a statement of the whole batch waits for a lock.
    first_lock: Duration,
    /// The same for its parts, once the batch has failed.
    lock: Duration,
    /// How long the statements of a transaction may take by the clock of this process, beside [`STATEMENTS_WAIT_EACH`]: a
    /// server without timers (the bundled one) waits for a lock without limit.
    statements: Duration,
}

impl BatchLimits {
    /// Longer than another batch holds one, and short enough that bisecting ends inside PostgreSQL's share of a
    /// callback's time: of 256 callbacks one that is locked is found in 8 waits.
    pub(super) const SHORT: Self = Self {
        first_lock: SESSION_LOCK_MAX,
        lock: Duration::from_millis(50),
        statements: Duration::from_secs(1),
    };

    /// Where no sender waits.
    const LONG: Self = Self {
        first_lock: Duration::from_secs(2),
        lock: Duration::from_secs(2),
        statements: Duration::from_secs(5),
    };
}

/// The same again for each callback of the transaction: no server that works needs as long.
const STATEMENTS_WAIT_EACH: Duration = Duration::from_millis(20);

/// Where callbacks are committed, which of them are to be delivered, and whose mark a batch raises.
#[derive(Debug, Clone, Copy)]
pub(super) struct CommitTarget<'a> {
    pub(super) database: &'a Database,
    pub(super) outbox: &'a Outbox,
    /// None: nothing is kept of what is committed.
    pub(super) keeping: Option<&'a LaneKeeping>,
}

/// Commits callbacks and answers for each, in the order given; corrects receipts as well. Committing the same again
/// changes nothing.
pub async fn commit<C: Borrow<Callback> + Sync>(database: &Database, batch: &[C]) -> Vec<Applied> {
    let outbox = Outbox::none();
    let target = CommitTarget { database, outbox: &outbox, keeping: None };
    let mut outcomes = commit_batch(target, batch, BatchLimits::LONG).await;
    for (callback, outcome) in batch.iter().zip(&mut outcomes) {
        if matches!(outcome, Err(NotCommitted::Earlier)) {
            *outcome = match correct(database, callback.borrow()).await {
                Ok(()) => Ok(Outcome::Duplicate),
                Err(error) => Err(NotCommitted::Alone(classify(&error), Arc::new(error))),
            };
        }
    }
    outcomes
}

/// Commits a batch and answers for each callback, in the order given.
pub(super) async fn commit_batch<C: Borrow<Callback> + Sync>(
    target: CommitTarget<'_>,
    batch: &[C],
    mut limits: BatchLimits,
) -> Vec<Applied> {
    let mut bisection = Bisection::of(batch);
    while let Some(range) = bisection.next() {
        let part: Vec<&Callback> = range.iter().map(|at| batch[*at].borrow()).collect();
        match transact_with_retries(target, &part, limits).await {
            Ok(done) => bisection.committed(&range, done),
            Err(error) => match classify(&error) {
                Failure::Data if part.len() == 1 => {
                    let outcome = park(target, part[0], &error, limits).await;
                    bisection.parked(&range, outcome);
                }
                failure => {
                    let alone = AsideKey::of(part[0], failure) == AsideKey::of(part[part.len() - 1], failure);
                    bisection.failed(range, failure, error, alone);
                }
            },
        }
        if bisection.has_failed() {
            limits.first_lock = limits.lock;
        }
    }
    bisection.outcomes()
}

async fn transact_with_retries(
    target: CommitTarget<'_>,
    part: &[&Callback],
    limits: BatchLimits,
) -> Result<Vec<Applied>, sqlx::Error> {
    let (mut retries, mut sessions) = (0, 1);
    loop {
        let error = match transact(target, part, limits).await {
            Ok(done) => return Ok(done),
            Err(error) => error,
        };
        match classify(&error) {
            Failure::Retry if retries < RETRIES_MAX => {
                retries += 1;
                metrics::counter!("group_mirror_transaction_retries_total").increment(1);
                tokio::time::sleep(RETRY_PAUSE * retries).await;
            }
            Failure::Stale if sessions < SESSIONS_MAX => sessions += 1,
            _ => return Err(error),
        }
    }
}

async fn transact(
    target: CommitTarget<'_>,
    part: &[&Callback],
    limits: BatchLimits,
) -> Result<Vec<Applied>, sqlx::Error> {
    let mut tx = target.database.begin_within("apply", limits.first_lock).await?;
    let written = match write_in_time(target, &mut tx, part, limits.statements).await {
        Ok(written) => written,
        Err(error) if classify(&error) == Failure::Stale => {
            tx.discard();
            return Err(error);
        }
        Err(error) => {
            tx.roll_back().await;
            return Err(error);
        }
    };
    match target.keeping {
        None => tx.commit().await?,
        Some(keeping) => keeping.commit(tx, part).await?,
    }
    part.iter().zip(&written).for_each(|(callback, entered)| target.outbox.entered(callback, *entered));
    let outcome = |(callback, entered): (&&Callback, &Entered)| match (entered, &callback.event) {
        (Entered::Earlier, _) => Err(NotCommitted::Earlier),
        (Entered::Known, _) => Ok(Outcome::Duplicate),
        (Entered::New(_), Ok(_)) if callback.skipped.is_empty() => Ok(Outcome::Applied),
        (Entered::New(_), Ok(_)) => Ok(Outcome::Partial(callback.skipped.clone())),
        (Entered::New(_), Err(reason)) => Ok(Outcome::Parked(reason.clone())),
    };
    let new = part.iter().zip(&written).filter(|(_, entered)| matches!(entered, Entered::New(_)));
    new.for_each(|(callback, _)| count_causes(callback));
    Ok(part.iter().zip(&written).map(outcome).collect())
}

/// Bounds the statements by the clock of this process: after that the server is asked to cancel, and answers as it does
/// for a limit of its own. The commit is not bounded here, because cancelling it would make its answer a lie; nor does one
/// follow a request to cancel of which it is not known whether it has arrived.
async fn write_in_time(
    target: CommitTarget<'_>,
    tx: &mut Tx,
    part: &[&Callback],
    base: Duration,
) -> Result<Vec<Entered>, sqlx::Error> {
    let pid = tx.pid();
    let callbacks = u32::try_from(part.len()).unwrap_or(u32::MAX);
    let limit = base + STATEMENTS_WAIT_EACH.saturating_mul(callbacks);
    let (written, may_commit) = {
        let mut writing = pin!(write(target, tx.conn(), part));
        tokio::select! {
            written = &mut writing => return written,
            () = tokio::time::sleep(limit) => {}
        }
        let may_commit = target.database.cancel(pid).await;
        (writing.await, may_commit)
    };
    if may_commit {
        return written;
    }
    tx.close_afterwards();
    written.and(Err(sqlx::Error::PoolTimedOut))
}

/// The ledger entries and their effect, without the ids of persons who are erased; answers for each callback what the ledger
/// made of it.
async fn write(
    CommitTarget { database, outbox, .. }: CommitTarget<'_>,
    conn: &mut PgConnection,
    part: &[&Callback],
) -> Result<Vec<Entered>, sqlx::Error> {
    let erasures = database.erasures().for_writing(conn).await?;
    let erased: Vec<Option<Callback>> = part.iter().map(|callback| erasures.apply(callback)).collect();
    let part: Vec<&Callback> =
        part.iter().zip(&erased).map(|(callback, erased)| erased.as_ref().unwrap_or(callback)).collect();
    let entries: Vec<_> = part.iter().map(|callback| new_entry(callback, outbox.mark(callback))).collect();
    let written = ledger::enter_batch(conn, &entries, database.erasures().applied(&erasures)).await?;
    assert_eq!(written.len(), part.len(), "the ledger answers for every callback");
    let fresh = part.iter().zip(&written).filter(|(_, entered)| matches!(entered, Entered::New(_)));
    let facts = Rows::of(fresh.flat_map(|(callback, _)| mirror::facts(callback)));
    upsert::upsert(conn, &facts).await?;
    Ok(written)
}

/// Keeps the bytes of a callback that PostgreSQL refuses to apply. Ledger, readers and sender get the reason in words of
/// this program; the log has the code.
async fn park(
    target: CommitTarget<'_>,
    callback: &Callback,
    error: &sqlx::Error,
    limits: BatchLimits,
) -> Applied {
    let (what, code) = refused_data(error);
    tracing::warn!(
        sqlstate = code,
        callback.app = callback.received.app.get(),
        callback.command = command_label(&callback.command),
        group.id = callback.group.as_ref().map(GroupId::as_str),
        "PostgreSQL refuses {what}; the callback is parked"
    );
    let refused = Err(Reason::refused(what));
    let parked = Callback { event: refused, skipped: Skips::default(), ..callback.clone() };
    let outcomes = match transact_with_retries(target, &[&parked], limits).await {
        Ok(outcomes) => outcomes,
        Err(error) => {
            let (failure, error) = (classify(&error), Arc::new(error));
            return Err(match failure {
                Failure::Unavailable => NotCommitted::Together(error),
                failure => NotCommitted::Alone(failure, error),
            });
        }
    };
    let Some(outcome) = outcomes.into_iter().next() else {
        unreachable!("a transaction of one callback has one outcome")
    };
    outcome
}
