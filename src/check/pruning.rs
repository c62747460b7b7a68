//! Whether `prune` runs: with `LEDGER_KEEP_DAYS`, whether entries stand in the ledger that it should have dropped by now.
//!
//! Nothing runs `prune` but a timer of the operator, and a timer that fails is noticed when the disk is full.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use sqlx::PgConnection;
use tokio::time::timeout;

use super::line::{CheckLine, CheckSubject};
use crate::model::Millis;
use crate::store::Database;
use crate::store::feed::FeedPlace;
use crate::store::prune::{self, PruneLimits, PruneState};

/// How much older than `LEDGER_KEEP_DAYS` entries are before they are overdue, in days: up to a week, because whole partitions are
/// pruned, and a timer that runs once a week.
const OVERDUE_DAYS: i64 = 15;

/// How long the search may take: it may have to read all that stays of a long past.
const LOOK_WAIT_MAX: Duration = Duration::from_secs(5);

/// Looks for what is overdue; none: entries are kept without end.
pub async fn line(database: &Database, keep_days: u32, now: Millis) -> Option<CheckLine> {
    let days = Some(i64::from(keep_days)).filter(|days| *days > 0)?;
    let before = DateTime::from_timestamp_millis(now.get())? - TimeDelta::days(days + OVERDUE_DAYS);
    Some(match timeout(LOOK_WAIT_MAX, look(database, before)).await {
        Ok(Ok((state, is_overdue))) => line_of(&state, is_overdue, keep_days),
        Ok(Err(error)) => CheckLine::warning(
            CheckSubject::Pruning,
            format!("not found out: {error}"),
            "look at the log of the server",
        ),
        Err(_) => CheckLine::warning(
            CheckSubject::Pruning,
            format!("not found out in {} s", LOOK_WAIT_MAX.as_secs()),
            "see by group-mirror prune --dry-run how much is to be pruned",
        ),
    })
}

async fn look(
    database: &Database,
    before: DateTime<Utc>,
) -> Result<(PruneState, bool), crate::store::StoreError> {
    let mut conn = database.connect().await?;
    let found = overdue(&mut conn, before).await?;
    let _ = sqlx::Connection::close(conn).await;
    Ok(found)
}

async fn overdue(conn: &mut PgConnection, before: DateTime<Utc>) -> Result<(PruneState, bool), sqlx::Error> {
    // An entry that was read further or received earlier since then has a late place in the feed, and stays for a while.
    let end = FeedPlace { position: i64::MAX - 1, digest: String::new() };
    let limits = PruneLimits {
        until_ms: before.timestamp_millis(),
        received_before: before,
        before_position: prune::first_position_since(conn, &end, before).await?,
    };
    Ok((prune::state(conn).await?, prune::is_any_foldable(conn, &limits, true).await?))
}

fn line_of(state: &PruneState, is_overdue: bool, keep_days: u32) -> CheckLine {
    let since = state.pruned_until_ms.and_then(DateTime::from_timestamp_millis);
    let since = since.map_or_else(
        || "nothing was pruned yet".to_owned(),
        |since| format!("history is whole from {} on", since.format("%Y-%m-%dT%H:%M:%SZ")),
    );
    if is_overdue {
        let found = format!(
            "{since}, and entries are there that are over {OVERDUE_DAYS} days older than LEDGER_KEEP_DAYS={keep_days}"
        );
        let remedy = "run group-mirror prune from a timer, once a week, as the role that owns the tables; its output says what stays";
        return CheckLine::warning(CheckSubject::Pruning, found, remedy);
    }
    CheckLine::ok(CheckSubject::Pruning, format!("{since}; no entry is overdue"))
}
