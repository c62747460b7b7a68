//! Gaps in the database: periods in which callbacks were lost, as the replicas have noted them in their spools, and when what
//! they may have touched was verified again.
//!
//! A gap may have touched every group that exists and was created before its end. Verified again means: profile and members
//! were read as of a time after the end. A create that was lost in the gap is found by the list of all ids alone, so a gap
//! is closed only after a pass through the ids that began later. Two replicas whose gaps begin in one millisecond for one
//! cause share a row. The statements work on the connection they are given and never commit.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;

use crate::model::{Millis, SdkAppId};

/// How far the clocks of this host and of Tencent's servers may lie apart: as far as a request's time may be from ours by
/// default. A read counts, and a creation does not, only with this distance from the end.
pub const CLOCKS_APART_MAX_MS: i64 = 60_000;

/// How many gaps of an app are kept, the open ones first, then the newest. An older open gap demands nothing that a newer one
/// does not, so that dropping it closes none too early.
pub const GAPS_KEPT_MAX: i64 = 100;

/// A gap of one app.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
#[expect(missing_docs, reason = "each field is the column of that name, described in migrations/")]
pub struct GapRow {
    pub sdk_app_id: i64,
    pub cause: String,
    pub first_at: DateTime<Utc>,
    pub last_at: DateTime<Utc>,
    pub callbacks: i64,
    pub closed_at: Option<DateTime<Utc>>,
}

/// A gap as a replica has noted it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotedGap<'a> {
    /// Receipt of the first callback that was lost.
    pub first_at: Millis,
    /// Receipt of the last one.
    pub last_at: Millis,
    /// How many; 0 where that is not known.
    pub callbacks: u64,
    /// Why.
    pub cause: &'a str,
}

/// A gap that goes on is open again, whatever was verified before.
const NOTE: &str = r"
INSERT INTO gaps AS t (sdk_app_id, cause, first_at, last_at, callbacks)
SELECT DISTINCT ON (app, first_ms, cause) app, cause, to_timestamp(first_ms / 1000.0), to_timestamp(last_ms / 1000.0), callbacks
  FROM UNNEST($1::bigint[]) AS a (app),
       UNNEST($2::text[], $3::bigint[], $4::bigint[], $5::bigint[]) AS g (cause, first_ms, last_ms, callbacks)
 ORDER BY app, first_ms, cause, last_ms DESC
ON CONFLICT (sdk_app_id, first_at, cause) DO UPDATE SET
    closed_at = CASE WHEN EXCLUDED.last_at > t.last_at THEN NULL ELSE t.closed_at END,
    last_at = EXCLUDED.last_at, callbacks = GREATEST(t.callbacks, EXCLUDED.callbacks)
 WHERE EXCLUDED.last_at > t.last_at OR EXCLUDED.callbacks > t.callbacks";

const TRIM: &str = r"
DELETE FROM gaps g USING (
    SELECT sdk_app_id, first_at, cause,
           row_number() OVER (PARTITION BY sdk_app_id ORDER BY closed_at IS NOT NULL, last_at DESC, first_at, cause) AS n
      FROM gaps) o
 WHERE o.n > $1 AND g.sdk_app_id = o.sdk_app_id AND g.first_at = o.first_at AND g.cause = o.cause";

/// Notes gaps of this replica, whose callbacks may have been of any of these apps, and drops what is beyond the limit.
///
/// # Errors
/// A statement's.
pub async fn note(
    conn: &mut PgConnection,
    apps: &[SdkAppId],
    gaps: &[NotedGap<'_>],
) -> Result<(), sqlx::Error> {
    if gaps.is_empty() {
        return Ok(());
    }
    sqlx::query(NOTE)
        .bind(apps.iter().map(|app| app.get()).collect::<Vec<_>>())
        .bind(gaps.iter().map(|gap| gap.cause).collect::<Vec<_>>())
        .bind(gaps.iter().map(|gap| gap.first_at.get()).collect::<Vec<_>>())
        .bind(gaps.iter().map(|gap| gap.last_at.get()).collect::<Vec<_>>())
        .bind(gaps.iter().map(|gap| i64::try_from(gap.callbacks).unwrap_or(i64::MAX)).collect::<Vec<_>>())
        .execute(&mut *conn)
        .await?;
    sqlx::query(TRIM).bind(GAPS_KEPT_MAX).execute(conn).await.map(drop)
}

/// Only the open gap of each app that ended first is looked at: what it may have touched, a later one may have touched too. The
/// look ends at the first group that is outstanding, in the order of `group_verifications_whole_idx`, or the planner gathers
/// all of them before it looks at one. Groups that were never read are looked for last, because that may read every group.
const CLOSE: &str = r"
UPDATE gaps g SET closed_at = now()
  FROM (SELECT DISTINCT ON (o.sdk_app_id) o.sdk_app_id, o.first_at, o.cause,
               o.last_at + make_interval(secs => $1 / 1000.0) AS until
          FROM gaps o WHERE o.closed_at IS NULL ORDER BY o.sdk_app_id, o.last_at, o.first_at, o.cause) o
  JOIN id_list_passes p ON p.sdk_app_id = o.sdk_app_id AND p.began_at > o.until
 WHERE g.sdk_app_id = o.sdk_app_id AND g.first_at = o.first_at AND g.cause = o.cause AND g.closed_at IS NULL
   AND CASE WHEN (SELECT v.group_id FROM group_verifications v
                   WHERE v.sdk_app_id = o.sdk_app_id AND v.status <> 'destroyed' AND v.whole_verified_at < o.until
                     AND COALESCE(v.created_at < o.until, true)
                   ORDER BY v.whole_verified_at NULLS FIRST, v.group_id LIMIT 1) IS NOT NULL THEN false
            ELSE NOT EXISTS (SELECT FROM groups c
                              WHERE c.sdk_app_id = o.sdk_app_id AND c.status <> 'destroyed'
                                AND COALESCE(c.created_at < o.until, true)
                                AND NOT EXISTS (SELECT FROM group_verifications v
                                                 WHERE v.sdk_app_id = c.sdk_app_id AND v.group_id = c.group_id
                                                   AND v.whole_verified_at IS NOT NULL)) END
RETURNING g.sdk_app_id, g.cause, g.first_at, g.last_at, g.callbacks, g.closed_at";

/// Closes the gaps of which everything that they may have touched is verified again; answers which.
///
/// # Errors
/// The statement's.
pub async fn close(conn: &mut PgConnection) -> Result<Vec<GapRow>, sqlx::Error> {
    let mut closed = Vec::new();
    loop {
        let next: Vec<GapRow> = sqlx::query_as(CLOSE).bind(CLOCKS_APART_MAX_MS).fetch_all(&mut *conn).await?;
        if next.is_empty() {
            return Ok(closed);
        }
        closed.extend(next);
    }
}

const OPEN_END: &str = r"
SELECT (extract(epoch FROM max(last_at)) * 1000)::bigint FROM gaps WHERE sdk_app_id = $1 AND closed_at IS NULL";

/// The moment as of which every group of an app has to be read, because a gap is open: the latest end, with the distance
/// between clocks. `None`: no gap is open.
///
/// # Errors
/// The statement's.
pub async fn open_gap_end(conn: &mut PgConnection, app: SdkAppId) -> Result<Option<Millis>, sqlx::Error> {
    let end: Option<i64> = sqlx::query_scalar(OPEN_END).bind(app.get()).fetch_one(conn).await?;
    Ok(end.map(|end| Millis::new(end + CLOCKS_APART_MAX_MS)))
}

/// A gap with how much of what it may have touched is verified again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CountedGap {
    /// The gap.
    pub gap: GapRow,
    /// How many groups it may have touched; `None`: it is closed.
    pub groups: Option<i64>,
    /// How many of them are verified again.
    pub verified: Option<i64>,
}

const ALL: &str = r"
SELECT sdk_app_id, cause, first_at, last_at, callbacks, closed_at FROM gaps ORDER BY sdk_app_id, last_at, first_at, cause";

/// The groups of an app by where their creation and their verification lie between the ends of its open gaps: one pass
/// through them, however many gaps there are.
const BETWEEN_ENDS: &str = r"
SELECT width_bucket(COALESCE(g.created_at, '-infinity'), $2::timestamptz[])::bigint,
       width_bucket(COALESCE(v.whole_verified_at, '-infinity'), $2::timestamptz[])::bigint, count(*)
  FROM groups g LEFT JOIN group_verifications v ON v.sdk_app_id = g.sdk_app_id AND v.group_id = g.group_id
 WHERE g.sdk_app_id = $1 AND g.status <> 'destroyed' GROUP BY 1, 2";

/// All gaps that are kept, oldest first, with what is outstanding of the open ones.
///
/// # Errors
/// A statement's.
pub async fn counted(conn: &mut PgConnection) -> Result<Vec<CountedGap>, sqlx::Error> {
    let gaps: Vec<GapRow> = sqlx::query_as(ALL).fetch_all(&mut *conn).await?;
    let mut counted = Vec::with_capacity(gaps.len());
    for gaps in gaps.chunk_by(|a, b| a.sdk_app_id == b.sdk_app_id) {
        let apart = chrono::TimeDelta::milliseconds(CLOCKS_APART_MAX_MS);
        let ends: Vec<DateTime<Utc>> =
            gaps.iter().filter(|gap| gap.closed_at.is_none()).map(|gap| gap.last_at + apart).collect();
        let buckets: Vec<(i64, i64, i64)> = if ends.is_empty() {
            Vec::new()
        } else {
            sqlx::query_as(BETWEEN_ENDS).bind(gaps[0].sdk_app_id).bind(&ends).fetch_all(&mut *conn).await?
        };
        let mut place = 0;
        for gap in gaps {
            let (mut groups, mut verified) = (None, None);
            if gap.closed_at.is_none() {
                // Bucket n lies behind n ends.
                let touched = || buckets.iter().filter(|(created, ..)| *created <= place);
                let again = touched().filter(|(_, verified, _)| *verified > place);
                groups = Some(touched().map(|(.., count)| count).sum());
                verified = Some(again.map(|(.., count)| count).sum());
                place += 1;
            }
            counted.push(CountedGap { gap: gap.clone(), groups, verified });
        }
    }
    Ok(counted)
}
