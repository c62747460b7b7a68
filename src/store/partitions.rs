//! Partitions of the ledger and of its index of people (range partitioning by time), made ahead of time.
//!
//! What is to be made, and how without a long lock, is decided by a function of the schema (`ledger_partition_step` in
//! migration 0001): it runs with the rights of the owner of the tables, so that the service, whose role owns none, can make
//! partitions as `migrate` does. This file calls it until nothing is left to do. A failure loses nothing: what no other
//! partition takes goes to the default one, and is dealt with when a later call succeeds.

use std::time::Duration;

use chrono::TimeDelta;
use sqlx::PgConnection;
use tokio::time::sleep;

use super::errors::{Failure, classify};

/// More steps than any state of the partitions needs: two tables, the past, six weeks, three steps of a default partition.
const STEPS_MAX: usize = 64;

/// The pause before a step that did not get its lock is tried again.
const TRY_PAUSE: Duration = Duration::from_millis(100);

/// With partitions for fewer days than this they have to be made soon; there are 28 days or more after each success.
pub const DAYS_AHEAD_MIN: i64 = 14;

/// How often a step that does not get its lock is tried. While it waits, a statement that opens all partitions waits behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tries {
    /// Once: a later call is early enough.
    Once,
    /// For some seconds.
    Several,
}

impl Tries {
    /// Those of a caller for whom there are partitions for some time.
    #[must_use]
    pub fn with(ahead: TimeDelta) -> Self {
        if ahead.num_days() < DAYS_AHEAD_MIN { Self::Several } else { Self::Once }
    }

    const fn max(self) -> usize {
        match self {
            Self::Once => 1,
            Self::Several => 21,
        }
    }
}

const STEP: &str = "SELECT ledger_partition_step()";

/// Makes the partitions that are missing, for some weeks from now on by the clock of the database; answers what was done. Safe
/// to be called by several at once. Outside a transaction: each step is one.
///
/// # Errors
/// The statement's; a lock that was not given in any of the tries.
pub async fn make_ahead(conn: &mut PgConnection, tries: Tries) -> Result<Vec<String>, sqlx::Error> {
    let (mut done, mut tried) = (Vec::new(), 1);
    while done.len() < STEPS_MAX {
        match sqlx::query_scalar::<_, Option<String>>(STEP).fetch_one(&mut *conn).await {
            Ok(Some(step)) => done.push(step),
            Ok(None) => return Ok(done),
            Err(error) if is_passing(&error) && tried < tries.max() => {
                tried += 1;
                sleep(TRY_PAUSE).await;
            }
            Err(error) => return Err(error),
        }
    }
    Ok(done)
}

/// The same where a failure is only a warning: what waits for partitions waits in the default one, and `serve` tries again.
pub async fn make_ahead_or_warn(conn: &mut PgConnection) {
    if let Err(error) = make_ahead(conn, Tries::Several).await {
        tracing::warn!(%error, "partitions of the ledger could not be made now; `serve` makes them while it runs");
    }
}

/// A lock that another holds, or an entry that came between the look at the default partition and its lock.
fn is_passing(error: &sqlx::Error) -> bool {
    matches!(classify(error), Failure::TimedOut | Failure::Retry)
}

/// A stretch of time, both ends included, in Unix milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimeSpan {
    /// From this on.
    pub first_ms: i64,
    /// Up to and with this.
    pub last_ms: i64,
}

const CUTS: &str =
    "SELECT end_ms FROM ledger_partition_bounds('ledger') WHERE end_ms IS NOT NULL ORDER BY end_ms";

/// The times of the partitions, one behind the other. Together they are all of time, also where partitions are made or
/// dropped meanwhile: who reads one after the other misses no entry.
///
/// # Errors
/// The statement's.
pub async fn time_spans(conn: &mut PgConnection) -> Result<Vec<TimeSpan>, sqlx::Error> {
    let cuts: Vec<i64> = sqlx::query_scalar(CUTS).fetch_all(conn).await?;
    let begins = [i64::MIN].into_iter().chain(cuts.iter().copied());
    let ends = cuts.iter().map(|cut| cut - 1).chain([i64::MAX]);
    let spans: Vec<TimeSpan> =
        begins.zip(ends).map(|(first_ms, last_ms)| TimeSpan { first_ms, last_ms }).collect();
    assert_eq!(spans.len(), cuts.len() + 1, "each cut ends one and begins another");
    Ok(spans)
}

/// As `ledger_partition_bounds` finds it, without calling it: a role that may call no function has to see the end come.
const AHEAD_MS: &str = r"
SELECT COALESCE(max((regexp_match(pg_get_expr(c.relpartbound, c.oid), 'TO \(''(-?\d+)''\)'))[1]::bigint)
                - floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint, 0)
  FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
 WHERE i.inhparent = to_regclass('ledger')";

/// For how long from now on there are partitions; less than 0 where the last one has ended.
///
/// # Errors
/// The statement's.
pub async fn ahead(conn: &mut PgConnection) -> Result<TimeDelta, sqlx::Error> {
    let ahead_ms = sqlx::query_scalar(AHEAD_MS).fetch_one(conn).await?;
    Ok(TimeDelta::milliseconds(ahead_ms))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_is_tried_once_while_there_are_partitions_for_weeks() {
        for (days, tries) in [(28, 1), (14, 1), (13, 21), (0, 21), (-3, 21)] {
            assert_eq!(Tries::with(TimeDelta::days(days)).max(), tries, "{days}");
        }
    }
}
