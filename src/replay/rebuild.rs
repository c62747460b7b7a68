//! What replay writes: a range of groups, or one group, replaced by the fold of its checkpoint and its ledger
//! entries.
//!
//! Each in one transaction under the locks of its groups, so that replay can be stopped and started again, and so that
//! views, grants and readers stay. The fold is made in memory, and so by other code than the upserts that it checks.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use sqlx::{Connection as _, PgConnection};

use super::ranges::{RangeFold, Span};
use crate::mirror::{Erasures, GroupKey};
use crate::store::errors::{Failure, classify};
use crate::store::ledger::NewEntry;
use crate::store::{Database, erased_entries, held, ledger, partitions, rebuild};

/// How often a range, or an entry, is retried after a serialization failure or a deadlock with a writer.
pub(super) const RETRIES_MAX: u32 = 20;

/// How often a lock that another holds is tried again.
const LOCK_POLL: Duration = Duration::from_millis(100);

/// Takes the lock of replays. Two at once would undo each other's work; the second is refused.
///
/// # Errors
/// A database that fails, one without a ledger, or another replay that runs.
pub async fn lock(database: &Database) -> anyhow::Result<PgConnection> {
    lock_within(database, Duration::ZERO).await
}

/// The same, where another that has ended may hold the lock for a moment: the server notices the end of a killed client when
/// its statement is done.
///
/// # Errors
/// As above.
pub async fn lock_within(database: &Database, wait_max: Duration) -> anyhow::Result<PgConnection> {
    let mut conn = database.connect().await?;
    anyhow::ensure!(
        rebuild::has_ledger(&mut conn).await?,
        "the database has no ledger; run `group-mirror migrate`"
    );
    let begun = Instant::now();
    while !rebuild::try_lock_replay(&mut conn).await? {
        anyhow::ensure!(begun.elapsed() < wait_max, "another replay of this database is running");
        tokio::time::sleep(LOCK_POLL).await;
    }
    Ok(conn)
}

/// Gives the lock back before the session ends: the server takes its time to notice the end, and the next replay may
/// be begun by then.
///
/// # Errors
/// A database that fails.
pub async fn unlock(mut keeper: PgConnection) -> anyhow::Result<()> {
    rebuild::unlock_replay(&mut keeper).await?;
    Ok(keeper.close().await?)
}

pub(super) async fn restore(database: &Database) -> anyhow::Result<Vec<String>> {
    let mut tx = database.begin("restore").await?;
    if rebuild::missing(tx.conn()).await?.is_empty() {
        return Ok(Vec::new());
    }
    tx.take_time().await?;
    let restored = rebuild::restore_tables(tx.conn()).await.context("cannot make the missing tables")?;
    tx.commit().await?;
    // A table that is cut as the ledger is gets its partitions before its rows.
    partitions::make_ahead_or_warn(&mut database.connect().await?).await;
    Ok(restored)
}

pub(super) async fn rebuild_with_retries(database: &Database, span: &Span) -> anyhow::Result<()> {
    let mut tries = 0;
    loop {
        match rebuild_range(database, span).await {
            Err(error) if classify(&error) == Failure::Retry && tries < RETRIES_MAX => tries += 1,
            done => return done.context("cannot rebuild a range of groups"),
        }
    }
}

/// Replaces a range by the fold of its ledger rows, read anew under the locks.
async fn rebuild_range(database: &Database, span: &Span) -> Result<(), sqlx::Error> {
    let mut tx = database.begin("rebuild").await?;
    tx.take_time().await?;
    let times = partitions::time_spans(tx.conn()).await?;
    let (mut locked, mut fold) = (Vec::new(), RangeFold::default());
    // A group that has no row gets one to be locked, and is then folded anew: what lists say is written without a guard.
    while locked.is_empty() || fold.rows.groups.keys().any(|key| !is_locked(&locked, key)) {
        let groups: Vec<&GroupKey> = fold.rows.groups.keys().collect();
        held::ensure(tx.conn(), &groups).await?;
        locked = rebuild::lock(tx.conn(), span.bounds()).await?;
        fold = RangeFold::of_range(tx.conn(), span, &times, None).await?;
        if fold.rows.groups.is_empty() {
            break;
        }
    }
    rebuild::clear_strays(tx.conn(), span.bounds()).await?;
    rebuild::clear_groups(tx.conn(), &locked).await?;
    held::write_whole(tx.conn(), &fold.rows).await?;
    while let Some(from) = fold.window.before.take() {
        fold = RangeFold::of_range(tx.conn(), span, &times, Some(from)).await?;
        held::write_whole(tx.conn(), &fold.rows).await?;
    }
    rebuild::clear_verifications(tx.conn(), span.bounds()).await?;
    tx.commit().await
}

fn is_locked(locked: &[(i64, String)], key: &GroupKey) -> bool {
    locked.binary_search_by(|(app, group)| (*app, &**group).cmp(&(key.app.get(), key.group.as_str()))).is_ok()
}

/// Moves the ledger entry of a repeat without event time back to this receipt, where that is the earlier one, and makes
/// its group what the ledger then says. In a transaction of its own without the time limits of the writer, because a
/// group may have any number of entries. `erased`: the same without persons who are erased, where it names one.
///
/// # Errors
/// A statement's, or no connection; a conflict, where another person is erased than those whose ids were replaced.
pub async fn receive_earlier(
    database: &Database,
    (entry, erased): (&NewEntry<'_>, Option<&NewEntry<'_>>),
    group: Option<&GroupKey>,
    applied: &Erasures,
) -> Result<(), sqlx::Error> {
    let mut tx = database.begin("receive_earlier").await?;
    tx.take_time().await?;
    database.erasures().applied(applied).check_now(tx.conn()).await?;
    // Whom the entry is about is not known before it is moved: it has been rewritten, or not.
    let mut either = entry.clone();
    either.people.parts.extend(erased.iter().flat_map(|erased| erased.people.parts.clone()));
    if ledger::receive_earlier(tx.conn(), &either).await? {
        if let Some(erased) = erased {
            erased_entries::replace(tx.conn(), erased, &entry.people).await?;
        }
        if let Some(group) = group {
            rebuild_group(tx.conn(), group).await?;
        }
    }
    tx.commit().await
}

/// Locks one group, if it has a row.
///
/// # Errors
/// The statement's.
pub async fn lock_group(conn: &mut PgConnection, group: &GroupKey) -> Result<(), sqlx::Error> {
    rebuild::lock_group(conn, (group.app.get(), group.group.as_str())).await
}

/// Makes one group what its ledger entries say, inside the caller's transaction: for an entry whose time has
/// changed, which merging cannot undo.
///
/// # Errors
/// A statement's.
pub async fn rebuild_group(conn: &mut PgConnection, group: &GroupKey) -> Result<(), sqlx::Error> {
    let key = (group.app.get(), group.group.as_str().to_owned());
    rebuild::lock_group(conn, (key.0, &key.1)).await?;
    let times = partitions::time_spans(conn).await?;
    let mut fold = RangeFold::of_group(conn, &key, &times, None).await?;
    rebuild::clear_groups(conn, std::slice::from_ref(&key)).await?;
    held::write_whole(conn, &fold.rows).await?;
    while let Some(from) = fold.window.before.take() {
        fold = RangeFold::of_group(conn, &key, &times, Some(from)).await?;
        held::write_whole(conn, &fold.rows).await?;
    }
    Ok(())
}
