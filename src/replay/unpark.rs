//! What could not be read, tried again: after an update of this program, once PostgreSQL no longer refuses it, or once a
//! time that lay in the future has come.
//!
//! Entries that were parked or read in part come from the ledger and stay in it, under what can be read now. Each is
//! applied in a transaction of its own: what was parked by the upserts that every callback goes through; what was read in
//! part by rebuilding its group, because another reading of one callback has the same stamps and would not win.

use super::ranges::PAGE_ROWS;
use super::rebuild::{RETRIES_MAX, lock, rebuild_group, unlock};
use super::reread::{judged_again, people_before, people_of, says_the_same, verdict};
use crate::callback::{Callback, Reading, ReasonCause};
use crate::mirror::{self, Rows};
use crate::model::Millis;
use crate::store::errors::{Failure, classify};
use crate::store::ledger::{self, LedgerRow, Reread, Rewritten};
use crate::store::ledger_walk::{self, UnreadEntry};
use crate::store::{Database, upsert};

/// Which entries are tried again, and when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retry {
    /// Those with this cause; all without one.
    pub cause: Option<ReasonCause>,
    /// A time that lay in the future at receipt is judged by this moment.
    pub now: Millis,
}

/// What became of the entries that were tried again.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Unparked {
    /// Applied now.
    pub applied: u64,
    /// Applied now, or further than before, but for a part that is still skipped.
    pub partial: u64,
    /// Another entry says the same; removed.
    pub duplicates: u64,
    /// Still parked, or still read as far as before.
    pub unchanged: u64,
}

impl Unparked {
    fn count(&mut self, one: Retried) {
        match one {
            Retried::Read(Reading::Applied) => self.applied += 1,
            Retried::Read(Reading::Partial) => self.partial += 1,
            Retried::Duplicate => self.duplicates += 1,
            Retried::Read(Reading::Parked) | Retried::Unchanged => self.unchanged += 1,
        }
    }
}

/// What became of one entry.
#[derive(Debug, Clone, Copy)]
enum Retried {
    Read(Reading),
    Duplicate,
    Unchanged,
}

/// Tries again what was parked or read in part.
///
/// # Errors
/// Another replay that runs, a database that fails.
pub async fn unpark(database: &Database, retry: Retry, progress: impl Fn(u64)) -> anyhow::Result<Unparked> {
    let mut keeper = lock(database).await?;
    let mut counts = Unparked::default();
    let mut last: Option<UnreadEntry> = None;
    loop {
        let page = ledger_walk::unread(&mut keeper, last.as_ref(), PAGE_ROWS).await?;
        for row in page
            .iter()
            .map(|entry| &entry.row)
            .filter(|row| retry.cause.is_none_or(|cause| row.has_cause(cause.label())))
        {
            counts.count(unpark_one(database, row, retry.now).await?);
            progress(1);
        }
        match page.into_iter().last() {
            Some(entry) => last = Some(entry),
            None => break,
        }
    }
    unlock(keeper).await?;
    Ok(counts)
}

async fn unpark_one(database: &Database, row: &LedgerRow, now: Millis) -> anyhow::Result<Retried> {
    let Some(callback) = judged_again(row, now) else { return Ok(Retried::Unchanged) };
    if callback.event.is_err() || says_the_same(row, &verdict(&callback)) {
        return Ok(Retried::Unchanged);
    }
    let mut tries = 0;
    loop {
        match apply(database, row, &callback).await {
            Ok(done) => return Ok(done),
            // A deadlock with a writer, or a serialization failure.
            Err(error) if classify(&error) == Failure::Retry && tries < RETRIES_MAX => tries += 1,
            // PostgreSQL still refuses it.
            Err(error) if classify(&error) == Failure::Data => return Ok(Retried::Unchanged),
            Err(error) => return Err(error.into()),
        }
    }
}

async fn apply(database: &Database, row: &LedgerRow, callback: &Callback) -> Result<Retried, sqlx::Error> {
    let (before, people) = (people_before(row), people_of(callback));
    let now = Reread {
        command: &callback.command,
        group: callback.group.as_ref(),
        time: callback.time,
        event_time: callback.event_time,
        digest: callback.digest,
        verdict: verdict(callback),
        people_before: &before,
        people: &people,
    };
    let mut tx = database.begin("unpark").await?;
    // A group may have any number of entries, and one that is locked must not end the whole run.
    tx.take_time().await?;
    let done = match ledger::unpark(tx.conn(), row, &now).await? {
        Rewritten::Written => {
            match &callback.event {
                Ok(event) if row.is_applied() => {
                    let group = mirror::group_key(callback.received.app, event.group.clone());
                    rebuild_group(tx.conn(), &group).await?;
                }
                _ => upsert::upsert(tx.conn(), &Rows::of(mirror::facts(callback))).await?,
            }
            Retried::Read(callback.reading())
        }
        Rewritten::SaidAlready if ledger::drop_parked(tx.conn(), row, &now).await? => Retried::Duplicate,
        // The next run finds it at its new place.
        Rewritten::SaidAlready | Rewritten::NotThere => Retried::Unchanged,
    };
    tx.commit().await?;
    Ok(done)
}
