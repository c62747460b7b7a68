//! Old entries of the ledger folded into the checkpoints of their groups, a range of groups after the other.
//!
//! A checkpoint is joined with what is folded, so it does not matter whether an earlier run has folded some of it before: the
//! entries stay in the ledger until `retention` drops them. A range is one transaction, in which the group and its lists are
//! written last, because a later window of its members is read by what they were.

use std::collections::BTreeSet;

use futures_util::TryStreamExt as _;

use super::ranges::{RangeFold, Span};
use super::rebuild::RETRIES_MAX;
use crate::store::Database;
use crate::store::checkpoints::{self, CheckpointRows};
use crate::store::errors::{Failure, classify};
use crate::store::ledger_walk::{self, StoredGroup};
use crate::store::lines::MemberWindow;
use crate::store::partitions::TimeSpan;
use crate::store::prune::{self, PruneLimits};

/// What was folded of one range of groups.
#[derive(Debug, Clone, Default)]
pub struct FoldedRange {
    /// How many entries.
    pub entries: u64,
    /// How many groups they were about.
    pub groups: u64,
    /// Entries that were applied and that this program cannot read: another version wrote them.
    pub unreadable: Vec<String>,
    /// The last group; none at the end of the ledger.
    pub last: Option<StoredGroup>,
}

/// Folds the next range of groups behind one into checkpoints.
///
/// # Errors
/// A statement's.
pub async fn fold_into_checkpoints(
    database: &Database,
    after: &StoredGroup,
    times: &[TimeSpan],
    limits: &PruneLimits,
) -> Result<FoldedRange, sqlx::Error> {
    let mut tries = 0;
    loop {
        match transact(database, after, times, limits).await {
            Err(error) if classify(&error) == Failure::Retry && tries < RETRIES_MAX => tries += 1,
            done => return done,
        }
    }
}

async fn transact(
    database: &Database,
    after: &StoredGroup,
    times: &[TimeSpan],
    limits: &PruneLimits,
) -> Result<FoldedRange, sqlx::Error> {
    let mut tx = database.begin("checkpoint").await?;
    tx.take_time().await?;
    prune::lock_checkpoints(tx.conn()).await?;
    ledger_walk::by_key(tx.conn()).await?;
    let span = Span::next(tx.conn(), after.clone(), times).await?;
    let statement = prune::foldable_statement();
    let (mut folded, mut from) = (FoldedRange::default(), None);
    let mut of_groups = CheckpointRows::new();
    loop {
        let window = MemberWindow { from: from.take(), before: None };
        let is_first = window.from.is_none();
        let mut fold = RangeFold::of_checkpoints(tx.conn(), &span, window).await?;
        let before = checkpoints::of_rows(&fold.rows);
        let mut groups = BTreeSet::new();
        for time in times {
            let range = (&span.after, &span.last);
            let mut entries = prune::foldable(tx.conn(), limits, range, *time, &statement);
            while let Some(row) = entries.try_next().await? {
                fold.take(&row);
                groups.insert(row.group_id);
            }
        }
        let mut after = checkpoints::of_rows(&fold.rows);
        after.retain(|key, registers| before.get(key) != Some(registers));
        let (members, of_group): (CheckpointRows, CheckpointRows) =
            after.into_iter().partition(|(key, _)| checkpoints::is_of_window(key));
        checkpoints::write(tx.conn(), &members).await?;
        if is_first {
            of_groups = of_group;
            folded.entries = fold.ledger_rows;
            folded.groups = groups.len() as u64;
            folded.unreadable = fold.unreadable;
        }
        from = fold.window.before;
        if from.is_none() {
            break;
        }
    }
    checkpoints::write(tx.conn(), &of_groups).await?;
    folded.last = (!span.is_end()).then_some(span.last);
    if folded.unreadable.is_empty() {
        tx.commit().await?;
    } else {
        tx.roll_back().await;
    }
    Ok(folded)
}
