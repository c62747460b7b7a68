//! Topics as they are read: `group_topic_states` → [`TopicStateRow`].
//!
//! Reads only, on the connection it is given; which topic exists is decided by the views of `migrations/0006_views.sql`.
//! Knows nothing of pages, cursors or JSON.

use chrono::{DateTime, Utc};
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, FromRow};

use super::page::{PageRows, bounded, one_more};
use crate::model::{GroupId, SdkAppId};

/// A topic as the views show it.
#[derive(Debug, Clone, FromRow)]
#[expect(missing_docs, reason = "each field is the column of that name, described in migrations/")]
pub struct TopicStateRow {
    pub topic_id: String,
    pub active: bool,
    pub name: Option<String>,
    pub introduction: Option<String>,
    pub notification: Option<String>,
    pub face_url: Option<String>,
    pub created_by: Option<String>,
    pub created_at: Option<DateTime<Utc>>,
    pub destroyed_at: Option<DateTime<Utc>>,
}

/// The group leads the join, so that an unknown group gives no row, and one without topics gives a row of NULLs.
const OF_GROUP: &str = "
SELECT t.topic_id, t.active, t.name, t.introduction, t.notification, t.face_url, t.created_by, t.created_at,
       t.destroyed_at
  FROM groups g
  LEFT JOIN LATERAL (
       SELECT s.* FROM group_topic_states s
        WHERE s.sdk_app_id = $1 AND s.group_id = $2
          AND ($3::boolean IS NULL OR s.active = $3)
          AND ($4::text IS NULL OR s.topic_id > $4)
        ORDER BY s.topic_id LIMIT $5) t ON true
 WHERE g.sdk_app_id = $1 AND g.group_id = $2";

/// Whose length has no limit but that of a body.
const LONG_COLUMNS: [&str; 4] = ["name", "introduction", "notification", "face_url"];

/// The topics of a group in the order of the bytes of `topic_id`, after this one; at most `rows_max`, and up to a
/// limit of bytes. `active`: `None` is both, present and past. `None` as the answer: the group is unknown.
///
/// # Errors
/// Those of the connection and the database.
pub async fn of_group(
    connection: &mut PgConnection,
    app: SdkAppId,
    group: &GroupId,
    active: Option<bool>,
    after: Option<&str>,
    rows_max: usize,
) -> Result<Option<PageRows<TopicStateRow>>, sqlx::Error> {
    let statement = bounded(OF_GROUP, "topic_id", "topic_id", &LONG_COLUMNS);
    let answer = sqlx::query(AssertSqlSafe(statement))
        .bind(app.get())
        .bind(group.as_str())
        .bind(active)
        .bind(after)
        .bind(one_more(rows_max))
        .fetch_all(connection)
        .await?;
    if answer.is_empty() {
        return Ok(None);
    }
    PageRows::of(&answer, rows_max).map(Some)
}
