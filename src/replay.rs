//! Replay: the ledger folded again. Is the mirror what its ledger says, and if not, make it so.
//!
//! Both modes go through the groups in key order, a range at a time: fold the range's ledger entries, compare with what
//! the tables hold. Comparing reads one snapshot, in which ledger and mirror belong together, and writes nothing, so
//! writers do not notice. Rebuilding writes the ranges that differ and no other.
//!
//! The index of people, which follows from each entry alone, is compared and mended after that (`people`).
//!
//! The write path uses [`receive_earlier`], and reads of a past moment use [`as_of`] and [`timeline`]; none of them is known here.

pub mod as_of;
mod chunks;
mod kept_folds;
mod people;
mod ranges;
mod rebuild;
mod report;
mod reread;
pub mod timeline;
mod timeline_read;
mod unpark;
mod window;

use std::collections::BTreeSet;

use sqlx::Connection as _;

use crate::store::lines::{self, ALL};
use crate::store::{Database, ledger, schema};
use ranges::RangeReader;
use rebuild::{rebuild_with_retries, restore};

pub use kept_folds::{AsOfReader, GroupFold};
pub use rebuild::{lock, lock_group, lock_within, rebuild_group, receive_earlier, unlock};
pub use report::Report;
pub use reread::{event, people_of, reason_of, snapshot_facts, verdict};
pub use unpark::{Retry, Unparked, unpark};
pub use window::TimeRange;

/// What to do about differences.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Report them.
    Verify,
    /// Report them and rebuild the ranges that have any.
    Rebuild,
}

/// Goes through the whole ledger twice: for the mirror, and for the index of people. `progress` is called with the number of
/// ledger entries of each part.
///
/// # Errors
/// A ledger that is missing, another replay that runs, a database that fails.
pub async fn replay(database: &Database, mode: Mode, progress: impl Fn(u64)) -> anyhow::Result<Report> {
    let mut keeper = lock(database).await?;
    let mut report = Report::default();
    if mode == Mode::Rebuild {
        report.restored = restore(database).await?;
    } else {
        let missing = crate::store::rebuild::missing(&mut keeper).await?;
        anyhow::ensure!(
            missing.is_empty(),
            "the mirror has no {}; run `group-mirror replay`",
            missing.join(", ")
        );
    }
    let mut snapshot = database.snapshot().await?;
    let mut reader = RangeReader::after(ALL.0.0, ALL.0.1);
    loop {
        let fold = reader.range(snapshot.conn()).await?;
        progress(fold.ledger_rows);
        report.ledger_rows += fold.ledger_rows;
        report.add_unreadable(&fold.unreadable);
        report.add_readable(&fold.readable);
        let held = lines::of_tables(snapshot.conn(), fold.span.bounds()).await?;
        let spared = if mode == Mode::Verify { &fold.read_further } else { &BTreeSet::new() };
        let differing = report.compare(&held, &lines::of_rows(&fold.rows), spared);
        if differing && mode == Mode::Rebuild {
            rebuild_with_retries(database, &fold.span).await?;
        }
        if fold.end {
            break;
        }
    }
    let mending = Some(database).filter(|_| mode == Mode::Rebuild);
    people::check(snapshot.conn(), mending, &mut report, &progress).await?;
    if mode == Mode::Rebuild && (report.differences > 0 || !report.restored.is_empty()) {
        schema::analyze(&mut keeper).await?;
    }
    unlock(keeper).await?;
    Ok(report)
}

/// How many ledger rows there are, about.
///
/// # Errors
/// A database that fails.
pub async fn estimate(database: &Database) -> anyhow::Result<u64> {
    let mut conn = database.connect().await?;
    let rows = ledger::estimate(&mut conn).await?;
    conn.close().await?;
    Ok(u64::try_from(rows).unwrap_or_default())
}
