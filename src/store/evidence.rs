//! What the mirror knows that a read can be held against: who is present, the newest callbacks about a
//! profile, the newest leaves; and the pages of a list that are kept until the list is whole.
//!
//! Only what happened a short while ago can be evidence of a read that shows an old state, so groups in which nothing has
//! happened cost one look at their row, and one at the ledger where a read has entered something. The statements work on the connection they are given and never commit.

use sqlx::{FromRow, PgConnection};

use crate::mirror::GroupKey;
use crate::model::{Millis, Rank};

fn keys<'a>(groups: impl IntoIterator<Item = &'a GroupKey>) -> (Vec<i64>, Vec<&'a str>) {
    groups.into_iter().map(|key| (key.app.get(), key.group.as_str())).unzip()
}

const PRESENT: &str = "
SELECT m.group_id, m.user_id FROM UNNEST($1::bigint[], $2::text[]) AS g (app, id)
 CROSS JOIN LATERAL (SELECT s.group_id, s.user_id FROM group_member_states s
                      WHERE s.sdk_app_id = g.app AND s.group_id = g.id AND s.present OFFSET 0) m";

/// Who is shown as a member, of groups of one app. Compared with lists by the caller: a statement that gets the lists as well
/// compares each member with each row, as the planner knows nothing of them.
///
/// # Errors
/// The statement's.
pub async fn present(
    conn: &mut PgConnection,
    groups: &[GroupKey],
) -> Result<Vec<(String, String)>, sqlx::Error> {
    let (apps, ids) = keys(groups);
    sqlx::query_as(PRESENT).bind(apps).bind(ids).fetch_all(conn).await
}

/// What happened to a group a short while ago.
#[derive(Debug, Clone, PartialEq, Eq, FromRow)]
pub struct RecentOfGroup {
    /// The group.
    pub group_id: String,
    /// The newest callback that changed its name, introduction, notice or picture, Unix milliseconds.
    pub profile_ms: Option<i64>,
    /// A user who left, and when.
    pub user_id: Option<String>,
    /// When, Unix milliseconds.
    pub left_ms: Option<i64>,
}

/// A stamp is 8 bytes of time and a byte of rank; that of a read is $4. The newest stamp of a group may be a read's, so the
/// ledger is asked whether a callback is as new before the members are looked through for leaves.
const RECENT: &str = "
SELECT g.group_id, p.ms AS profile_ms, m.user_id,
       ('x' || encode(substring(m.leave_stamp FROM 1 FOR 8), 'hex'))::bit(64)::bigint AS left_ms
  FROM groups g
  JOIN UNNEST($1::bigint[], $2::text[]) AS k (app, id) ON g.sdk_app_id = k.app AND g.group_id = k.id
  LEFT JOIN LATERAL (
       SELECT max(('x' || encode(substring(s.stamp FROM 1 FOR 8), 'hex'))::bit(64)::bigint) AS ms
         FROM UNNEST(ARRAY[g.name_stamp, g.introduction_stamp, g.notification_stamp, g.face_url_stamp]) AS s (stamp)
        WHERE s.stamp > $3 AND get_byte(s.stamp, 8) <> $4) p ON true
  LEFT JOIN LATERAL (SELECT * FROM group_members x
                      WHERE x.sdk_app_id = g.sdk_app_id AND x.group_id = g.group_id AND x.leave_stamp > $3 OFFSET 0) m ON true
 WHERE g.updated_stamp > $3
   AND EXISTS (SELECT FROM ledger l WHERE l.sdk_app_id = g.sdk_app_id AND l.group_id = g.group_id AND l.time_ms >= $5
                  AND l.source = 'callback' OFFSET 0)";

/// What happened to groups since a moment, by callbacks.
///
/// # Errors
/// The statement's.
pub async fn recent(
    conn: &mut PgConnection,
    groups: &[GroupKey],
    since: Millis,
) -> Result<Vec<RecentOfGroup>, sqlx::Error> {
    let (apps, ids) = keys(groups);
    let stamp = since.get().to_be_bytes().to_vec();
    let query = sqlx::query_as(RECENT).bind(apps).bind(ids).bind(stamp);
    query.bind(i32::from(Rank::Read as u8)).bind(since.get()).fetch_all(conn).await
}

const KEPT: &str = "
SELECT page, mark, answer FROM list_pages WHERE sdk_app_id = $1 AND group_id = $2 ORDER BY page";

/// The pages that are kept of a list, in their order, each with its mark.
///
/// # Errors
/// The statement's.
pub async fn kept_pages(
    conn: &mut PgConnection,
    group: &GroupKey,
) -> Result<Vec<(i32, String, Vec<u8>)>, sqlx::Error> {
    sqlx::query_as(KEPT).bind(group.app.get()).bind(group.group.as_str()).fetch_all(conn).await
}

const KEEP: &str = "
INSERT INTO list_pages (sdk_app_id, group_id, page, mark, answer) VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (sdk_app_id, group_id, page) DO UPDATE SET mark = EXCLUDED.mark, answer = EXCLUDED.answer";

/// Keeps a page.
///
/// # Errors
/// The statement's.
pub async fn keep_page(
    conn: &mut PgConnection,
    group: &GroupKey,
    page: i32,
    (mark, answer): (&str, &[u8]),
) -> Result<(), sqlx::Error> {
    let query = sqlx::query(KEEP).bind(group.app.get()).bind(group.group.as_str()).bind(page);
    query.bind(mark).bind(answer).execute(conn).await.map(drop)
}

const DROP: &str = "DELETE FROM list_pages WHERE sdk_app_id = $1 AND group_id = $2";

/// Forgets the pages of a list.
///
/// # Errors
/// The statement's.
pub async fn drop_pages(conn: &mut PgConnection, group: &GroupKey) -> Result<(), sqlx::Error> {
    sqlx::query(DROP).bind(group.app.get()).bind(group.group.as_str()).execute(conn).await.map(drop)
}
