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
    #[sqlx(default)]
    pub p999_whole_at: Option<DateTime<Utc>>,
    /// When the newest completed pass through all ids began.
    #[sqlx(default)]
    pub id_list_at: Option<DateTime<Utc>>,
}

const COUNT: &str = r"
SELECT g.sdk_app_id, count(*) AS groups, count(*) FILTER (WHERE v.whole_verified_at IS NULL) AS never_verified,
       count(*) FILTER (WHERE v.whole_verified_at IS NULL
                           OR v.whole_verified_at < now() - make_interval(secs => $1)) AS outstanding,
       min(v.verified_at) AS oldest_verified_at, min(v.members_verified_at) AS oldest_members_verified_at,
       min(v.whole_verified_at) AS oldest_whole_at
  FROM groups g
  LEFT JOIN group_verifications v ON v.sdk_app_id = g.sdk_app_id AND v.group_id = g.group_id
 WHERE g.status <> 'destroyed' GROUP BY g.sdk_app_id";

/// The oldest thousandth of those that are verified lies before it.
const P999: &str = r"
SELECT v.whole_verified_at FROM group_verifications v
 WHERE v.sdk_app_id = $1 AND v.status <> 'destroyed' AND v.whole_verified_at IS NOT NULL
 ORDER BY v.whole_verified_at NULLS FIRST OFFSET $2 LIMIT 1";

const ID_LISTS: &str = "SELECT sdk_app_id, began_at FROM id_list_passes";

/// Counts all apps that have groups.
///
/// # Errors
/// A statement's.
pub async fn count(conn: &mut PgConnection) -> Result<Vec<Freshness>, sqlx::Error> {
    let secs = f64::from(i32::try_from(OUTSTANDING_AFTER_SECS).unwrap_or(i32::MAX));
    let mut counted: Vec<Freshness> = sqlx::query_as(COUNT).bind(secs).fetch_all(&mut *conn).await?;
    let id_lists: Vec<(i64, DateTime<Utc>)> = sqlx::query_as(ID_LISTS).fetch_all(&mut *conn).await?;
    for fresh in &mut counted {
        let app = fresh.sdk_app_id;
        let verified = fresh.groups - fresh.never_verified;
        let oldest = sqlx::query_scalar(P999).bind(app).bind(verified / 1000);
        fresh.p999_whole_at = oldest.fetch_optional(&mut *conn).await?;
        fresh.id_list_at = id_lists.iter().find(|(of, _)| *of == app).map(|(_, began)| *began);
    }
    Ok(counted)
}
