//! Replay: the ledger folded again. Is the mirror what its ledger says, and if not, make it so.
//!
//! Both modes go through the groups in key order, a range at a time: fold the range's checkpoints and ledger entries, partition
//! after partition, and compare with what the tables hold. Comparing reads one snapshot for each range, in which ledger and mirror
//! belong together, and writes nothing, so writers do not notice, and vacuum is held up for seconds. Rebuilding writes the
//! ranges that differ and no other.
//!
//! The index of people, which follows from each entry alone, is compared and mended after that (`people`).
//!
//! The write path uses [`receive_earlier`], reads of a past moment use [`as_of`] and [`timeline`], and `prune` folds old entries
//! by [`fold_into_checkpoints`]; none of them is known here.

pub mod as_of;
mod checkpoint;
mod chunks;
mod kept_folds;
mod people;
mod place;
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

use crate::store::ledger_walk::{self, StoredGroup};
use crate::store::lines;
use crate::store::{Database, ledger, partitions, schema};
use ranges::{RangeFold, Span};
use rebuild::{rebuild_with_retries, restore};

use place::PlaceNotes;

pub use checkpoint::{FoldedRange, fold_into_checkpoints};
pub use kept_folds::{AsOfReader, GroupFold};
pub use place::ReplayPlace;
pub use rebuild::{lock, lock_group, lock_within, rebuild_group, receive_earlier, unlock};
pub use report::Report;
pub use reread::{event, people_in, people_of, reason_of, snapshot_facts, verdict};
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
    replay_from(database, mode, ReplayPlace::start(), progress).await
}

/// The same from a place on: what comes before it is not looked at. Where it is stands in the log once a minute.
///
/// # Errors
/// As above.
pub async fn replay_from(
    database: &Database,
    mode: Mode,
    from: ReplayPlace,
    progress: impl Fn(u64),
) -> anyhow::Result<Report> {
    let mut keeper = lock(database).await?;
    let lost = crate::store::rebuild::missing_beside_ledger(&mut keeper).await?;
    anyhow::ensure!(
        lost.is_empty(),
        "the database has no {}, and the ledger does not say who is erased or what was pruned; restore these tables from a backup, or make them as docs/operations.md says under Damage",
        lost.join(" and no ")
    );
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
    let mut notes = PlaceNotes::default();
    let mut place = from;
    while let ReplayPlace::Groups(after) = place {
        let span = check_range(database, mode, after, &mut report, &progress).await?;
        place = if span.is_end() { ReplayPlace::People(i64::MIN) } else { ReplayPlace::Groups(span.last) };
        notes.note(&place, &report);
    }
    if let ReplayPlace::People(from_ms) = place {
        people::check(database, mode == Mode::Rebuild, from_ms, (&mut report, &mut notes), &progress).await?;
    }
    if mode == Mode::Rebuild && (report.differences > 0 || !report.restored.is_empty()) {
        schema::analyze(&mut keeper).await?;
    }
    unlock(keeper).await?;
    Ok(report)
}

/// Compares the next range of groups, a window of its members after the other, and rebuilds it where that is wanted. Each
/// window is read in a snapshot of its own, in which ledger and mirror belong together.
async fn check_range(
    database: &Database,
    mode: Mode,
    after: StoredGroup,
    report: &mut Report,
    progress: &impl Fn(u64),
) -> anyhow::Result<Span> {
    let (mut span, mut from, mut differs) = (None, None, false);
    let span = loop {
        let mut snapshot = database.snapshot().await?;
        let conn = snapshot.conn();
        ledger_walk::by_key(conn).await?;
        let times = partitions::time_spans(conn).await?;
        let range = match span.take() {
            Some(range) => range,
            None => Span::next(conn, after.clone(), &times).await?,
        };
        let fold = RangeFold::of_range(conn, &range, &times, from.take()).await?;
        let held = lines::of_window(conn, range.bounds(), &fold.window).await?;
        snapshot.roll_back().await;
        if fold.window.from.is_none() {
            progress(fold.ledger_rows);
            report.ledger_rows += fold.ledger_rows;
            report.add_unreadable(&fold.unreadable);
            report.add_readable(&fold.readable);
        }
        let spared = if mode == Mode::Verify { &fold.read_further } else { &BTreeSet::new() };
        differs |= report.compare(&held, &fold.lines(), spared);
        from = fold.window.before;
        if from.is_none() {
            break range;
        }
        span = Some(range);
    };
    if differs && mode == Mode::Rebuild {
        rebuild_with_retries(database, &span).await?;
    }
    Ok(span)
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
