//! Memberships as they are read: `group_member_states` → [`MemberStateRow`], one by its key, and those of a user.
//!
//! Reads only, one statement per function, on the connection it is given; who is present and with what role is decided
//! by the views of `migrations/0006_views.sql`. Knows nothing of cursors or JSON. `member_list` has the members of a group.

use chrono::{DateTime, Utc};
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, FromRow, Row as _};

use super::citus::Dialect;
use super::groups::{GroupOrigin, GroupStateRow, LONG_COLUMNS, shown};
use super::page::{PageRows, bounded, one_more};
use super::read_pool::ReadConnection;
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
    pub mute_until: Option<DateTime<Utc>>,
    /// A JSON object.
    pub custom_fields: Option<String>,
}

/// The columns of a membership whose length has no limit but that of a body.
pub(super) const LONG_MEMBER_COLUMNS: [&str; 2] = ["name_card", "custom_fields"];

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

/// How many memberships one page looks through before it ends early. Of a user: a destroy changes the row of its group
/// alone, so no index knows which memberships ended with their groups, and a bot may have any number of those. Of a group:
/// no index has parts of name cards, or what is shown as the begin and the end of a stay.
pub const LOOKED_THROUGH_MAX: i64 = 10_000;

/// A page of the memberships of a user.
#[derive(Debug, Clone)]
pub struct UserGroups {
    /// In the order of the bytes of `group_id`; they may be fewer than were asked for, and the list go on.
    pub rows: Vec<UserGroupRow>,
    /// The group behind which the list goes on.
    pub next: Option<String>,
}

/// What a membership shows; `m` is a row of `group_member_states`.
pub(super) const MEMBER_COLUMNS: &str =
    "m.user_id, m.present, m.role, m.name_card, m.joined_at, m.join_type, m.joined_by, m.left_at,
       m.exit_type, m.left_by, m.mute_until, m.custom_fields";

/// One membership, and what is known of its group.
#[derive(Debug, Clone)]
pub struct Membership {
    /// What decides whether all members are known.
    pub origin: GroupOrigin,
    /// The newest stay; none where no fact stated a membership.
    pub member: Option<MemberStateRow>,
}

fn find_statement() -> String {
    format!(
        "SELECT g.type, g.has_all_members, {MEMBER_COLUMNS}
  FROM group_states g
  LEFT JOIN LATERAL (
       SELECT s.* FROM group_member_states s
        WHERE s.sdk_app_id = $1 AND s.group_id = $2 AND s.user_id = $3 OFFSET 0) m ON true
 WHERE g.sdk_app_id = $1 AND g.group_id = $2"
    )
}

/// The membership of one user in one group, of whatever status. `None`: the group is unknown.
///
/// # Errors
/// Those of the connection and the database.
pub async fn find(
    connection: &mut PgConnection,
    app: SdkAppId,
    group: &GroupId,
    user: &UserId,
) -> Result<Option<Membership>, sqlx::Error> {
    let query = sqlx::query(AssertSqlSafe(find_statement())).bind(app.get()).bind(group.as_str());
    let Some(row) = query.bind(user.as_str()).fetch_optional(connection).await? else { return Ok(None) };
    let is_named = row.try_get::<Option<String>, _>("user_id")?.is_some();
    let member = if is_named { Some(MemberStateRow::from_row(&row)?) } else { None };
    Ok(Some(Membership { origin: GroupOrigin::from_row(&row)?, member }))
}

/// The ids of the groups are read from the two indexes, of which that of the left ones shows all it has, and each
/// membership is looked up by its key. `edge` is the last group that is looked at; no id is as long as the text that
/// stands for none. It leads the join, so that a page without rows has it too.
fn of_user_statement(present: Option<bool>) -> String {
    let ids = |has_left: &str, limit: &str| {
        format!(
            "(SELECT m.group_id FROM group_members m
            WHERE m.sdk_app_id = $1 AND m.user_id = $2 AND {has_left} AND m.group_id > $3
              AND m.group_id <= COALESCE(e.edge, repeat(chr(1114111), 129))
            ORDER BY m.group_id LIMIT {limit})"
        )
    };
    let (here, left) = (ids("NOT m.has_left", "$5"), ids("m.has_left", "$4"));
    let (ids, condition) = match present {
        Some(true) => (here, "s.present"),
        Some(false) => (format!("{here} UNION ALL {left}"), "NOT s.present"),
        None => (format!("{here} UNION ALL {left}"), "true"),
    };
    let select = format!(
        "SELECT {}, NULL::bigint AS member_count, m.user_id, m.present, m.role, m.name_card, m.joined_at, m.join_type,
       m.joined_by, m.left_at, m.exit_type, m.left_by, m.mute_until, m.custom_fields, e.edge
  FROM (SELECT (SELECT m.group_id FROM group_members m
                 WHERE m.sdk_app_id = $1 AND m.user_id = $2 AND NOT m.has_left AND m.group_id > $3
                 ORDER BY m.group_id OFFSET $5 - 1 LIMIT 1) AS edge OFFSET 0) e
  LEFT JOIN LATERAL (
       SELECT s.* FROM (SELECT * FROM ({ids}) i ORDER BY group_id OFFSET 0) c
        CROSS JOIN LATERAL (
              SELECT s.* FROM group_member_states s
               WHERE s.sdk_app_id = $1 AND s.group_id = c.group_id AND s.user_id = $2 AND {condition} OFFSET 0) s
        ORDER BY c.group_id LIMIT $4) m ON true
  LEFT JOIN LATERAL (
       SELECT * FROM group_states g WHERE g.sdk_app_id = $1 AND g.group_id = m.group_id OFFSET 0) p ON true",
        shown("p")
    );
    bounded_by_group(&select)
}

fn bounded_by_group(select: &str) -> String {
    let long: Vec<&str> = LONG_COLUMNS.into_iter().chain(LONG_MEMBER_COLUMNS).collect();
    bounded(select, "group_id", "group_id", &long)
}

/// The same by one join, for a server that takes nothing else. How many memberships are looked through has no limit but time there.
fn of_user_on_citus(present: Option<bool>) -> String {
    let condition = match present {
        Some(true) => "m.present",
        Some(false) => "NOT m.present",
        None => "true",
    };
    bounded_by_group(&format!(
        "SELECT {}, NULL::bigint AS member_count, {MEMBER_COLUMNS}, NULL::text AS edge
  FROM group_member_states m
  JOIN group_states p ON p.sdk_app_id = m.sdk_app_id AND p.group_id = m.group_id
 WHERE m.sdk_app_id = $1 AND m.user_id = $2 AND m.group_id > $3 AND {condition}
 ORDER BY m.group_id LIMIT $4",
        shown("p")
    ))
}

/// The memberships of a user in the order of the bytes of `group_id`, after this one; at most `rows_max`, and up to a limit
/// of bytes and of memberships that are looked through. `present`: `None` is both, present and past.
///
/// # Errors
/// Those of the connection and the database.
pub async fn of_user(
    connection: &mut ReadConnection,
    app: SdkAppId,
    user: &UserId,
    present: Option<bool>,
    after: Option<&str>,
    rows_max: usize,
) -> Result<UserGroups, sqlx::Error> {
    let statement = match connection.dialect() {
        Dialect::Plain => of_user_statement(present),
        Dialect::Citus => of_user_on_citus(present),
    };
    let answer = sqlx::query(AssertSqlSafe(statement))
        .bind(app.get())
        .bind(user.as_str())
        .bind(after.unwrap_or_default())
        .bind(one_more(rows_max))
        .bind(LOOKED_THROUGH_MAX)
        .fetch_all(&mut **connection)
        .await?;
    let edge: Option<String> = answer.first().map(|row| row.try_get("edge")).transpose()?.flatten();
    let page = PageRows::<UserGroupRow>::of(&answer, rows_max)?;
    let last = page.rows.last().map(|row| row.group.group_id.clone());
    let next = if page.more { last } else { edge };
    Ok(UserGroups { rows: page.rows, next })
}

/// How the database goes about [`of_user`], as `EXPLAIN` with these options shows it; for tests.
///
/// # Errors
/// Those of the connection and the database.
pub async fn explain_of_user(
    connection: &mut PgConnection,
    options: &str,
    app: SdkAppId,
    user: &UserId,
    present: Option<bool>,
) -> Result<String, sqlx::Error> {
    let statement = format!("EXPLAIN ({options}) {}", of_user_statement(present));
    let query = sqlx::query_scalar(AssertSqlSafe(statement)).bind(app.get()).bind(user.as_str());
    let lines: Vec<String> =
        query.bind("").bind(51_i64).bind(LOOKED_THROUGH_MAX).fetch_all(connection).await?;
    Ok(lines.join("\n"))
}
