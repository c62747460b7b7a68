//! Memberships as they are read: `group_member_states` → [`MemberStateRow`].
//!
//! Reads only, one statement per function, on the connection it is given; who is present and with what role is decided
//! by the views of `migrations/0006_views.sql`. Knows nothing of pages, cursors or JSON.

use chrono::{DateTime, Utc};
use sqlx::postgres::{PgConnection, PgRow};
use sqlx::{AssertSqlSafe, FromRow, Row as _};

use super::groups::{GroupStateRow, shown};
use crate::model::{GroupId, SdkAppId, UserId};

/// A membership as the views show it.
#[derive(Debug, Clone, FromRow)]
#[expect(missing_docs, reason = "each field is the column of that name, described in migrations/")]
pub struct MemberStateRow {
    pub user_id: String,
    pub present: bool,
    pub role: String,
    pub name_card: Option<String>,
    pub joined_at: Option<DateTime<Utc>>,
    pub join_type: Option<String>,
    pub joined_by: Option<String>,
    pub left_at: Option<DateTime<Utc>>,
    pub exit_type: Option<String>,
    pub left_by: Option<String>,
}

/// A membership with its group.
#[derive(Debug, Clone, FromRow)]
pub struct UserGroupRow {
    /// The group; its members are not counted.
    #[sqlx(flatten)]
    pub group: GroupStateRow,
    /// The membership.
    #[sqlx(flatten)]
    pub member: MemberStateRow,
}

/// Which memberships; what is `None` does not filter.
#[derive(Debug, Clone, Copy)]
pub struct MemberFilter {
    /// Present, or past.
    pub present: Option<bool>,
    /// `Owner`, `Admin` or `Member`, as shown.
    pub role: Option<&'static str>,
}

/// The group leads the join, so that an unknown group gives no row, and one without members gives a row of NULLs.
const OF_GROUP: &str = "
SELECT m.user_id, m.present, m.role, m.name_card, m.joined_at, m.join_type, m.joined_by, m.left_at, m.exit_type,
       m.left_by
  FROM groups g
  LEFT JOIN LATERAL (
       SELECT s.* FROM group_member_states s
        WHERE s.sdk_app_id = $1 AND s.group_id = $2
          AND ($3::boolean IS NULL OR s.present = $3)
          AND ($4::text IS NULL OR s.role = $4)
          AND ($5::text IS NULL OR s.user_id > $5)
        ORDER BY s.user_id LIMIT $6) m ON true
 WHERE g.sdk_app_id = $1 AND g.group_id = $2
 ORDER BY m.user_id";

/// The memberships of a group in the order of the bytes of `user_id`, after this one; at most `limit`. `None`: the
/// group is unknown.
///
/// # Errors
/// Those of the connection and the database.
pub async fn of_group(
    connection: &mut PgConnection,
    app: SdkAppId,
    group: &GroupId,
    filter: MemberFilter,
    after: Option<&str>,
    limit: i64,
) -> Result<Option<Vec<MemberStateRow>>, sqlx::Error> {
    let rows: Vec<PgRow> = sqlx::query(OF_GROUP)
        .bind(app.get())
        .bind(group.as_str())
        .bind(filter.present)
        .bind(filter.role)
        .bind(after)
        .bind(limit)
        .fetch_all(connection)
        .await?;
    if rows.is_empty() {
        return Ok(None);
    }
    let mut members = Vec::with_capacity(rows.len());
    for row in &rows {
        if row.try_get::<Option<&str>, _>("user_id")?.is_some() {
            members.push(MemberStateRow::from_row(row)?);
        }
    }
    Ok(Some(members))
}

/// Memberships are chosen first; what a group shows is read for those on the page only.
const OF_USER: &str = "
  FROM (SELECT s.* FROM group_member_states s
         WHERE s.sdk_app_id = $1 AND s.user_id = $2
           AND ($3::boolean IS NULL OR s.present = $3)
           AND ($4::text IS NULL OR s.group_id > $4)
         ORDER BY s.group_id LIMIT $5) m
  JOIN group_states p ON p.sdk_app_id = m.sdk_app_id AND p.group_id = m.group_id
 ORDER BY m.group_id";

/// The memberships of a user in the order of the bytes of `group_id`, after this one; at most `limit`. `present`:
/// `None` is both, present and past.
///
/// # Errors
/// Those of the connection and the database.
pub async fn of_user(
    connection: &mut PgConnection,
    app: SdkAppId,
    user: &UserId,
    present: Option<bool>,
    after: Option<&str>,
    limit: i64,
) -> Result<Vec<UserGroupRow>, sqlx::Error> {
    let statement = format!(
        "SELECT {}, NULL::bigint AS member_count, m.user_id, m.present, m.role, m.name_card, m.joined_at,
                m.join_type, m.joined_by, m.left_at, m.exit_type, m.left_by {OF_USER}",
        shown()
    );
    sqlx::query_as(AssertSqlSafe(statement))
        .bind(app.get())
        .bind(user.as_str())
        .bind(present)
        .bind(after)
        .bind(limit)
        .fetch_all(connection)
        .await
}
