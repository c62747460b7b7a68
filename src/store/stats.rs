//! Counts of the mirror and the ledger, by app.
//!
//! Each reads a whole table or index, too much for every request: callers keep the result. All apps at once, because the
//! cost is that of reading, whatever is counted. Reads only, on the connection it is given.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use sqlx::PgConnection;

use super::drift_totals::{self, DriftTotal};
use super::freshness::{self, Freshness};
use super::gaps::{self, CountedGap};
use crate::model::SdkAppId;

/// How many pairs of type and status are counted at most, the most frequent ones; Tencent has five types.
const KINDS_MAX: i64 = 1_000;

/// What one app has.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AppCounts {
    /// Groups by type, as shown, and status.
    pub groups: Vec<(Option<String>, String, i64)>,
    /// Present memberships.
    pub members: i64,
    /// Ledger entries whose whole effect is in the mirror.
    pub applied: i64,
    /// Those with a part that could not be read.
    pub partial: i64,
    /// Those that could not be applied at all.
    pub parked: i64,
    /// The partial ones by cause; one with two causes counts under both.
    pub partial_by_cause: BTreeMap<String, i64>,
    /// The parked ones by cause; each has one.
    pub parked_by_cause: BTreeMap<String, i64>,
    /// Receipt of the callback that was entered last, where it is among the newest 100,000 positions.
    pub last_callback_at: Option<DateTime<Utc>>,
    /// How fresh its groups are; none where it has no group.
    pub freshness: Option<Freshness>,
    /// What reads have changed.
    pub drift: Vec<DriftTotal>,
    /// The gaps that are kept, oldest first.
    pub gaps: Vec<CountedGap>,
}

/// What every app has, in one snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Counts {
    /// The clock of the database.
    pub counted_at: DateTime<Utc>,
    /// By app; one without rows is not in it.
    pub apps: BTreeMap<i64, AppCounts>,
}

const GROUPS: &str = "
SELECT sdk_app_id, type, status, count(*) FROM group_states GROUP BY 1, 2, 3 ORDER BY 4 DESC LIMIT $1";

const MEMBERS: &str = "SELECT sdk_app_id, count(*) FROM group_member_states WHERE present GROUP BY 1";

/// How far back the newest callback of an app is looked for, in positions: one that has been silent, or is not served any
/// more, would have the whole ledger read otherwise.
const LATEST_POSITIONS_MAX: i64 = 100_000;

/// The count reads the primary key alone; bodies are never touched.
const LEDGER: &str = "SELECT sdk_app_id, count(*) FROM ledger GROUP BY 1";

const LAST_POSITION: &str = "SELECT COALESCE(max(position), 0) FROM ledger";

/// A statement for each app, and no sub-select of the count: Citus refuses one that names what is counted.
const LAST_CALLBACK: &str = "
SELECT received_at FROM ledger
 WHERE sdk_app_id = $1 AND source = 'callback' AND position > $2 ORDER BY position DESC LIMIT 1";

/// Reads the index of what was parked or read in part, and its rows.
const UNREAD: &str = "
SELECT l.sdk_app_id, l.outcome, c.cause, count(*), count(*) FILTER (WHERE c.at = 1)
  FROM ledger l CROSS JOIN LATERAL UNNEST(l.causes) WITH ORDINALITY c (cause, at)
 WHERE l.outcome <> 'applied'
 GROUP BY 1, 2, 3";

/// Counts everything. To be called inside a snapshot, so that the parts fit together.
///
/// # Errors
/// A statement's.
pub async fn count(conn: &mut PgConnection) -> Result<Counts, sqlx::Error> {
    let counted_at = sqlx::query_scalar("SELECT now()").fetch_one(&mut *conn).await?;
    let mut apps: BTreeMap<i64, AppCounts> = BTreeMap::new();
    let groups: Vec<(i64, Option<String>, String, i64)> =
        sqlx::query_as(GROUPS).bind(KINDS_MAX).fetch_all(&mut *conn).await?;
    for (app, group_type, status, count) in groups {
        apps.entry(app).or_default().groups.push((group_type, status, count));
    }
    let members: Vec<(i64, i64)> = sqlx::query_as(MEMBERS).fetch_all(&mut *conn).await?;
    for (app, count) in members {
        apps.entry(app).or_default().members = count;
    }
    let unread: Vec<(i64, String, String, i64, i64)> = sqlx::query_as(UNREAD).fetch_all(&mut *conn).await?;
    for (app, outcome, cause, entries, entries_first) in unread {
        let counts = apps.entry(app).or_default();
        let (whole, by_cause) = match outcome.as_str() {
            "parked" => (&mut counts.parked, &mut counts.parked_by_cause),
            _ => (&mut counts.partial, &mut counts.partial_by_cause),
        };
        *whole += entries_first;
        by_cause.insert(cause, entries);
    }
    count_ledger(conn, &mut apps).await?;
    for fresh in freshness::count(&mut *conn).await? {
        let app = fresh.sdk_app_id;
        apps.entry(app).or_default().freshness = Some(fresh);
    }
    for total in drift_totals::all(&mut *conn).await? {
        apps.entry(total.sdk_app_id).or_default().drift.push(total);
    }
    for gap in gaps::counted(&mut *conn).await? {
        apps.entry(gap.gap.sdk_app_id).or_default().gaps.push(gap);
    }
    Ok(Counts { counted_at, apps })
}

/// How many entries each app has, and when its newest callback came.
async fn count_ledger(
    conn: &mut PgConnection,
    apps: &mut BTreeMap<i64, AppCounts>,
) -> Result<(), sqlx::Error> {
    let ledger: Vec<(i64, i64)> = sqlx::query_as(LEDGER).fetch_all(&mut *conn).await?;
    let last: i64 = sqlx::query_scalar(LAST_POSITION).fetch_one(&mut *conn).await?;
    for (app, entries) in ledger {
        let counts = apps.entry(app).or_default();
        counts.applied = entries - counts.partial - counts.parked;
        let newest = sqlx::query_scalar(LAST_CALLBACK).bind(app).bind(last - LATEST_POSITIONS_MAX);
        counts.last_callback_at = newest.fetch_optional(&mut *conn).await?;
    }
    Ok(())
}

const LATEST: &str = "
SELECT max(received_at)
  FROM (SELECT sdk_app_id, source, received_at FROM ledger ORDER BY position DESC LIMIT 1000) l
 WHERE sdk_app_id = $1 AND source = 'callback'";

/// Receipt of the newest callback of an app among the last thousand rows of the ledger, of whatever app; the counts have
/// an older one.
///
/// # Errors
/// The statement's.
pub async fn latest(conn: &mut PgConnection, app: SdkAppId) -> Result<Option<DateTime<Utc>>, sqlx::Error> {
    sqlx::query_scalar(LATEST).bind(app.get()).fetch_one(conn).await
}
