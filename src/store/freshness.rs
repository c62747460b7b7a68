//! Counts of how fresh the groups are, by app: what is never verified, what is outstanding, and the oldest times.
//!
//! One pass through the groups and their times, and for the percentile a thousandth of an index. Too much for every request:
//! callers keep the result. Reads only.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;

/// A group of which profile or members were not verified for so long is outstanding: what the rolling passes promise.
pub const OUTSTANDING_AFTER_SECS: i64 = 24 * 60 * 60;

/// How fresh the groups of one app are that exist.
#[derive(Debug, Clone, Default, PartialEq, Eq, sqlx::FromRow)]
pub struct Freshness {
    /// The app.
    pub sdk_app_id: i64,
    /// How many groups exist.
    pub groups: i64,
    /// Of these the profile or the members were never verified.
    pub never_verified: i64,
    /// Of these the profile or the members were not verified within the last day, the never verified ones included.
    pub outstanding: i64,
    /// The oldest verification of a profile.
    pub oldest_verified_at: Option<DateTime<Utc>>,
    /// The oldest complete list of members.
    pub oldest_members_verified_at: Option<DateTime<Utc>>,
    /// The oldest of the times as of which both are verified.
    pub oldest_whole_at: Option<DateTime<Utc>>,
    /// 99.9 % of the groups that are verified wholly are so as of this time or a later one.
    pub p999_whole_at: Option<DateTime<Utc>>,
    /// When the newest completed pass through all ids began.
    pub id_list_at: Option<DateTime<Utc>>,
}

const COUNT: &str = r"
SELECT f.*, p.began_at AS id_list_at,
       (SELECT v.whole_verified_at FROM group_verifications v
         WHERE v.sdk_app_id = f.sdk_app_id AND v.status <> 'destroyed' AND v.whole_verified_at IS NOT NULL
         ORDER BY v.whole_verified_at NULLS FIRST OFFSET (f.groups - f.never_verified) / 1000 LIMIT 1) AS p999_whole_at
  FROM (SELECT g.sdk_app_id, count(*) AS groups, count(*) FILTER (WHERE v.whole_verified_at IS NULL) AS never_verified,
               count(*) FILTER (WHERE v.whole_verified_at IS NULL
                                   OR v.whole_verified_at < now() - make_interval(secs => $1)) AS outstanding,
               min(v.verified_at) AS oldest_verified_at, min(v.members_verified_at) AS oldest_members_verified_at,
               min(v.whole_verified_at) AS oldest_whole_at
          FROM groups g
          LEFT JOIN group_verifications v ON v.sdk_app_id = g.sdk_app_id AND v.group_id = g.group_id
         WHERE g.status <> 'destroyed' GROUP BY g.sdk_app_id) f
  LEFT JOIN id_list_passes p ON p.sdk_app_id = f.sdk_app_id";

/// Counts all apps that have groups.
///
/// # Errors
/// The statement's.
pub async fn count(conn: &mut PgConnection) -> Result<Vec<Freshness>, sqlx::Error> {
    let secs = f64::from(i32::try_from(OUTSTANDING_AFTER_SECS).unwrap_or(i32::MAX));
    sqlx::query_as(COUNT).bind(secs).fetch_all(conn).await
}
