//! The checkpoint of a group and its entries, read in the order of time and handed to the fold of its timeline.
//!
//! One read-only snapshot: the rows that are counted against the limits are the rows that are folded. The limits are those of
//! an as-of read, because the fold keeps the same rows; what is parked counts as a row without a body.

use futures_util::TryStreamExt as _;
use sqlx::PgConnection;
use tokio::task::spawn_blocking;

use super::as_of::{AsOfError, LEDGER_ROWS_MAX, Permit, READ_TIME_MAX, begun_with, check_size};
use super::chunks::ChunkSender;
use super::timeline::{self, Timeline};
use super::window::{TimeRange, Window};
use crate::mirror::GroupKey;
use crate::model::Millis;
use crate::store::prune;
use crate::store::timeline::{PAGE_ROWS, page, size_until, span};
use crate::store::{ReadConnection, ReadTx, STALL_WAIT_MAX, in_time};

/// The timeline of a group.
pub(super) async fn timeline(
    conn: ReadConnection,
    permit: Permit,
    group: &GroupKey,
    range: TimeRange,
) -> Result<Timeline, AsOfError> {
    in_time(READ_TIME_MAX + STALL_WAIT_MAX, async {
        let mut snapshot = ReadTx::begin(conn, READ_TIME_MAX).await?;
        prune::hold_partitions(snapshot.conn()).await?;
        let found = of_snapshot(snapshot.conn(), permit, group, range).await;
        if !matches!(found, Err(AsOfError::Database(_))) {
            snapshot.roll_back().await;
        }
        found
    })
    .await
}

async fn of_snapshot(
    conn: &mut PgConnection,
    permit: Permit,
    group: &GroupKey,
    range: TimeRange,
) -> Result<Timeline, AsOfError> {
    let whole_since = prune::whole_since(conn).await?;
    let is_asked = |bound: Option<Millis>| {
        bound.zip(whole_since).is_some_and(|(bound, whole_since)| bound.get() < whole_since - 1)
    };
    if let Some(whole_since) = whole_since.filter(|_| is_asked(range.after) || is_asked(range.before)) {
        return Err(AsOfError::Pruned(whole_since));
    }
    let span = span(conn, group, whole_since).await?.ok_or(AsOfError::Unknown)?;
    let begun = begun_with(conn, group, i64::MAX).await?;
    let window = Window::of(range, span);
    if window.buckets() == 0 {
        return Ok(Timeline::default());
    }
    check_size(size_until(conn, group, window.end(), LEDGER_ROWS_MAX + 1).await?)?;
    let (chunks, coming) = ChunkSender::channel();
    let key = group.clone();
    let folding = spawn_blocking(move || {
        // Held until the fold ends, whether or not its reader still waits.
        let _permit = permit;
        timeline::fold(coming, &key, &window, begun)
    });
    let read = feed(conn, group, window.end(), chunks).await;
    let folded = folding.await?;
    read.and(folded)
}

/// Sends the rows to the fold in the order of time. Ends early, without an error of its own, where the fold has ended.
async fn feed(
    conn: &mut PgConnection,
    group: &GroupKey,
    until_ms: i64,
    mut chunks: ChunkSender,
) -> Result<(), AsOfError> {
    let mut behind = None;
    loop {
        let (mut read, mut last) = (0, None);
        let mut rows = page(conn, group, behind.as_ref(), until_ms);
        while let Some(row) = rows.try_next().await? {
            read += 1;
            last = Some((row.time_ms, row.digest.clone()));
            if !chunks.send(row).await {
                return Ok(());
            }
        }
        drop(rows);
        if read < PAGE_ROWS {
            break;
        }
        behind = last;
    }
    chunks.finish().await;
    Ok(())
}
