//! The steps of a run of `prune`: what can be dropped is folded into checkpoints, what stays is copied, then the old partitions are
//! exchanged for the copy and dropped.
//!
//! Each step can be done again, and the mirror is what checkpoints and ledger say together after each of them. A checkpoint may hold
//! what the ledger still has, and history counts as pruned before the first entry is dropped. So a run that was interrupted, at
//! whatever point, is finished by the next one. It holds the lock of replays.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use tokio::time::sleep;

use crate::replay::{self, ReplayPlace};
use crate::store::errors::{Failure, classify};
use crate::store::feed::FeedPlace;
use crate::store::high_watermark::{self, LedgerWriters, Proof};
use crate::store::past::{self, OldPartitions};
use crate::store::past_copy::{self, StayingCopy};
use crate::store::people::{PersonRow, rows_of};
use crate::store::prune::{self, PruneCount, PruneLimits, PruneState};
use crate::store::{Database, ledger::LedgerRow, partitions};

/// How long a run waits for the end of one that was killed, or of a replay.
const LOCK_WAIT_MAX: Duration = Duration::from_secs(20);

/// How long the exchange waits for its lock in one attempt: writers wait behind it meanwhile.
const EXCHANGE_LOCK_MAX: Duration = Duration::from_millis(200);

/// The pause between two attempts, in which those who waited go on.
const EXCHANGE_PAUSE: Duration = Duration::from_millis(500);

/// After this a transaction that reads or writes the ledger all the time is reported: a dump does so as long as it runs.
const EXCHANGE_WAIT_MAX: Duration = Duration::from_mins(10);

/// How long writers that are open are waited for.
const WATERMARK_WAIT_MAX: Duration = Duration::from_mins(1);

/// What is to be pruned.
#[derive(Debug, Clone)]
pub struct PruneWanted {
    /// What was received, and counts from, before this.
    pub before: DateTime<Utc>,
    /// Nothing behind this place of a follower.
    pub follower: Option<FeedPlace>,
    /// Drop what the relay has not delivered as well.
    pub forced: bool,
}

/// What a run has done, or would do.
#[derive(Debug, Clone, Default)]
pub struct Pruned {
    /// From when on history is whole; none where nothing was to be done.
    pub until: Option<DateTime<Utc>>,
    /// How many entries were folded into checkpoints.
    pub entries: u64,
    /// How many groups they were about.
    pub groups: u64,
    /// How many older entries stay.
    pub staying: u64,
    /// How many partitions of the ledger were dropped.
    pub partitions: usize,
    /// For how long readers and writers were locked out.
    pub locked: Duration,
}

/// Counts what a run would do.
///
/// # Errors
/// A database that fails.
pub async fn count(database: &Database, wanted: &PruneWanted) -> anyhow::Result<Pruned> {
    let mut conn = database.connect().await?;
    let Some((old, limits)) = limits(&mut conn, wanted).await? else { return Ok(Pruned::default()) };
    let PruneCount { foldable, staying } = prune::count(&mut conn, &limits, !wanted.forced).await?;
    Ok(Pruned {
        until: (foldable > 0).then(|| DateTime::from_timestamp_millis(old.until_ms)).flatten(),
        entries: u64::try_from(foldable)?,
        groups: 0,
        staying: u64::try_from(staying)?,
        partitions: old.count(),
        locked: Duration::ZERO,
    })
}

/// Prunes. `progress` is called with the number of entries that were folded.
///
/// # Errors
/// A database that fails, a replay that runs, a role that does not own the tables, a transaction that does not end.
pub async fn prune(
    database: &Database,
    wanted: &PruneWanted,
    progress: impl Fn(u64),
) -> anyhow::Result<Pruned> {
    let mut keeper = replay::lock_within(database, LOCK_WAIT_MAX).await?;
    past::drop_left(&mut keeper).await.context("cannot drop what an earlier run has left")?;
    past::tidy(&mut keeper).await.context("cannot delete what an earlier run has left")?;
    past::restore_vacuum(&mut keeper).await.context("cannot set a partition back to automatic vacuums")?;
    let Some((old, limits)) = limits(&mut keeper, wanted).await? else {
        replay::unlock(keeper).await?;
        return Ok(Pruned::default());
    };
    if !prune::is_any_foldable(&mut keeper, &limits, !wanted.forced).await? {
        replay::unlock(keeper).await?;
        return Ok(Pruned::default());
    }
    prune::raise_until(&mut keeper, limits.until_ms).await?;
    let mut pruned = fold(database, &old, &limits, &progress).await?;
    past::make_next(&mut keeper, &old)
        .await
        .context("cannot make a partition; prune needs the role that owns the tables")?;
    // Folding may have taken hours: what came meanwhile is copied beside writers as well.
    let copy = StayingCopy {
        with_relay: !wanted.forced,
        up_to: high_watermark(&mut keeper).await?.position,
        begun: past_copy::now(&mut keeper).await?,
    };
    pruned.staying = past_copy::copy_staying(&mut keeper, &old, &limits, &copy).await?;
    past_copy::copy_people(&mut keeper, &old).await?;
    let dropped = past_copy::last_dropped(&mut keeper, &limits).await?;
    let state = PruneState { pruned_until_ms: Some(limits.until_ms), dropped };
    match exchange(database, &mut keeper, (&old, &state), &copy).await {
        Ok((came, locked)) => {
            pruned.staying += came;
            pruned.locked = locked;
        }
        Err(error) => {
            past::restore_vacuum(&mut keeper).await?;
            return Err(error);
        }
    }
    past::drop_left(&mut keeper).await.context("cannot drop the partitions that were taken out")?;
    past::tidy(&mut keeper).await?;
    past::analyze(&mut keeper).await?;
    pruned.partitions = old.count();
    pruned.until = prune::whole_since(&mut keeper).await?.and_then(DateTime::from_timestamp_millis);
    replay::unlock(keeper).await?;
    Ok(pruned)
}

/// The partitions and the limits; none where the ledger has no partition that old.
async fn limits(
    conn: &mut PgConnection,
    wanted: &PruneWanted,
) -> anyhow::Result<Option<(OldPartitions, PruneLimits)>> {
    let Some(old) = OldPartitions::before(conn, wanted.before.timestamp_millis()).await? else {
        return Ok(None);
    };
    let high_watermark = high_watermark(conn).await?;
    let mut before_position = prune::first_position_since(conn, &high_watermark, wanted.before).await?;
    if let Some(follower) = &wanted.follower {
        before_position = before_position.min(follower.position + 1);
    }
    let limits = PruneLimits { until_ms: old.until_ms, received_before: wanted.before, before_position };
    Ok(Some((old, limits)))
}

async fn high_watermark(conn: &mut PgConnection) -> anyhow::Result<FeedPlace> {
    match high_watermark::prove_within(conn, &LedgerWriters::new(), WATERMARK_WAIT_MAX).await? {
        Proof::At(high_watermark) => Ok(high_watermark),
        Proof::HeldBack(_) => anyhow::bail!(
            "the server is a standby, or a transaction that has written to the ledger has been open for {} s; nothing was dropped",
            WATERMARK_WAIT_MAX.as_secs()
        ),
    }
}

/// Folds everything that can be dropped into checkpoints.
async fn fold(
    database: &Database,
    old: &OldPartitions,
    limits: &PruneLimits,
    progress: &impl Fn(u64),
) -> anyhow::Result<Pruned> {
    let mut conn = database.connect().await?;
    let times = partitions::time_spans(&mut conn).await?;
    let times: Vec<_> = times.into_iter().filter(|time| time.first_ms < old.until_ms).collect();
    let mut pruned = Pruned::default();
    let ReplayPlace::Groups(mut after) = ReplayPlace::start() else { unreachable!("groups come first") };
    loop {
        let folded = replay::fold_into_checkpoints(database, &after, &times, limits).await?;
        ensure!(
            folded.unreadable.is_empty(),
            "{}, and {} others of its range; nothing was dropped. Run prune with the version that serves",
            folded.unreadable[0],
            folded.unreadable.len() - 1
        );
        pruned.entries += folded.entries;
        pruned.groups += folded.groups;
        progress(folded.entries);
        let Some(last) = folded.last else { return Ok(pruned) };
        after = last;
    }
}

/// Enters whom entries are about that came after the others were copied.
async fn insert_people(
    conn: &mut PgConnection,
    old: &OldPartitions,
    entries: &[LedgerRow],
) -> Result<(), sqlx::Error> {
    let named: Vec<_> = entries.iter().map(|row| (row, replay::people_in(row))).collect();
    let rows: Vec<PersonRow<'_>> =
        named.iter().flat_map(|(row, people)| rows_of(row.key(), people)).collect();
    past_copy::insert_people(conn, old, rows).await
}

/// How often the exchange is given up because it takes too long under its lock.
const TOO_SLOW_MAX: u32 = 3;

/// Exchanges the partitions, in as many attempts as it takes to get the lock; answers how many entries came
/// meanwhile, and how long the lock was held.
async fn exchange(
    database: &Database,
    keeper: &mut PgConnection,
    what: (&OldPartitions, &PruneState),
    copy: &StayingCopy,
) -> anyhow::Result<(u64, Duration)> {
    let (begun, pid) = (Instant::now(), past::pid(keeper).await?);
    let mut too_slow = 0;
    loop {
        let mut is_locked = false;
        match try_exchange(database, what, (copy, pid), &mut is_locked).await {
            Ok(Some(done)) => return Ok(done),
            Ok(None) => anyhow::bail!(
                "the session that keeps other runs away was lost; nothing was dropped. Run the command again"
            ),
            Err(error) => {
                too_slow += u32::from(is_locked);
                let may_wait = matches!(classify(&error), Failure::TimedOut | Failure::Retry)
                    && too_slow < TOO_SLOW_MAX
                    && begun.elapsed() < EXCHANGE_WAIT_MAX;
                if !may_wait {
                    return Err(error).context(if is_locked {
                        "cannot exchange the partitions: it takes too long under the lock, or the role does not own them; nothing was dropped"
                    } else {
                        "cannot exchange the partitions: a transaction holds the ledger, or the role does not own it; nothing was dropped"
                    });
                }
            }
        }
        sleep(EXCHANGE_PAUSE).await;
    }
}

async fn try_exchange(
    database: &Database,
    (old, state): (&OldPartitions, &PruneState),
    (copy, pid): (&StayingCopy, i32),
    is_locked: &mut bool,
) -> Result<Option<(u64, Duration)>, sqlx::Error> {
    let mut tx = database.begin_within("prune", EXCHANGE_LOCK_MAX).await?;
    // The session has had another number of partitions before.
    tx.close_afterwards();
    past::lock_tables(tx.conn(), old).await?;
    *is_locked = true;
    let locked = Instant::now();
    if !past::is_lock_kept(tx.conn(), pid).await? {
        tx.roll_back().await;
        return Ok(None);
    }
    let copied = past_copy::copy_new(tx.conn(), old, copy).await?;
    insert_people(tx.conn(), old, &copied).await?;
    past::exchange(tx.conn(), old, state, copy.with_relay).await?;
    tx.commit().await?;
    Ok(Some((copied.len() as u64, locked.elapsed())))
}
