//! What was parked, tried again: after an update of this program, or once PostgreSQL no longer refuses it.
//!
//! Rows come from the ledger and stay in it, under what could be made out now. Each is applied in a transaction of its
//! own, by the upserts that every callback goes through.

use super::ranges::PAGE_ROWS;
use super::rebuild::{lock, unlock};
use super::reread::decode;
use crate::mirror::{self, Rows};
use crate::store::errors::{Failure, classify};
use crate::store::ledger::{self, LedgerRow};
use crate::store::{Database, upsert};

/// What became of the parked.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Unparked {
    /// Applied now.
    pub applied: u64,
    /// Another row says the same; gone.
    pub duplicates: u64,
    /// Still parked.
    pub parked: u64,
}

/// Tries the parked ones again.
///
/// # Errors
/// Another replay that runs, a database that fails.
pub async fn unpark(database: &Database, progress: impl Fn(u64)) -> anyhow::Result<Unparked> {
    let mut keeper = lock(database).await?;
    let mut counts = Unparked::default();
    let mut last: Option<LedgerRow> = None;
    loop {
        let page = ledger::page(&mut keeper, last.as_ref(), true, PAGE_ROWS).await?;
        for row in &page {
            match unpark_one(database, row).await? {
                Some(true) => counts.applied += 1,
                Some(false) => counts.duplicates += 1,
                None => counts.parked += 1,
            }
            progress(1);
        }
        match page.into_iter().last() {
            Some(row) => last = Some(row),
            None => break,
        }
    }
    unlock(keeper).await?;
    Ok(counts)
}

/// `None`: still parked; true: applied; false: a duplicate.
async fn unpark_one(database: &Database, row: &LedgerRow) -> anyhow::Result<Option<bool>> {
    let Some(callback) = decode(row) else { return Ok(None) };
    if callback.event.is_err() {
        return Ok(None);
    }
    let attempt = async {
        let mut tx = database.begin("unpark").await?;
        let applied = ledger::unpark(tx.conn(), row, &callback).await?;
        if applied {
            upsert::upsert(tx.conn(), &Rows::of(mirror::facts(&callback))).await?;
        } else {
            ledger::drop_parked(tx.conn(), row).await?;
        }
        tx.commit().await?;
        Ok(applied)
    };
    match attempt.await {
        Ok(applied) => Ok(Some(applied)),
        // PostgreSQL still refuses it.
        Err(error) if classify(&error) == Failure::Data => Ok(None),
        Err(error) => Err(error.into()),
    }
}
