//! Memberships as they are read: `group_member_states` → [`MemberStateRow`], those of a group and those of a user.
//!
//! Reads only, one statement per function, on the connection it is given; who is present and with what role is decided
//! by the views of `migrations/0006_views.sql`. What no index finds (a part of a name card, a time) is looked for among a
//! bounded number of memberships per page, so that a page of a community costs no more than one of any large group. Knows
//! nothing of cursors or JSON.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use sqlx::postgres::{PgArguments, PgConnection};
use sqlx::{Arguments as _, AssertSqlSafe, FromRow, Row as _};

use super::group_filter::ListCost;
use super::groups::{GroupOrigin, GroupStateRow, LONG_COLUMNS, shown};
use super::page::{PageRows, bounded, one_more};
use crate::mirror::caseless;
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
const LONG_MEMBER_COLUMNS: [&str; 2] = ["name_card", "custom_fields"];

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

/// Which memberships; what is `None` or empty does not filter.
#[derive(Debug, Clone, Default)]
pub struct MemberFilter {
    /// Present, or past.
    pub present: Option<bool>,
    /// `Owner`, `Admin` or `Member`, as shown.
    pub role: Option<&'static str>,
    /// Of these users.
    pub users: BTreeSet<UserId>,
    /// Whose id or name card, as shown, has this part, in any case.
    pub part: Option<NamePart>,
    /// That began later than this, as shown.
    pub joined_after: Option<DateTime<Utc>>,
    /// That ended later than this, as shown.
    pub left_after: Option<DateTime<Utc>>,
}

impl MemberFilter {
    /// What a page of the members of a group costs: few have another role than the most, and who has left stands among those
    /// who are there.
    #[must_use]
    pub fn cost(&self) -> ListCost {
        let is_in_order = self.role.is_none() && self.present == Some(true) && !self.looks_through();
        if is_in_order || !self.users.is_empty() { ListCost::Page } else { ListCost::Matches }
    }

    /// True where a page looks through memberships that it does not show, up to [`LOOKED_THROUGH_MAX`] of them.
    #[must_use]
    pub fn looks_through(&self) -> bool {
        self.part.is_some() || self.joined_after.is_some() || self.left_after.is_some()
    }
}

/// A part of an id or a name card, in caseless form. What the database makes of a letter depends on its locale, so such a
/// part is looked for by the service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamePart(String);

impl NamePart {
    /// Of a text in any case.
    #[must_use]
    pub fn new(text: &str) -> Self {
        Self(caseless(text).into_owned())
    }

    /// True where the id or the card has it.
    #[must_use]
    pub fn is_in(&self, user: &str, name_card: Option<&str>) -> bool {
        caseless(user).contains(&self.0) || name_card.is_some_and(|card| caseless(card).contains(&self.0))
    }
}

/// A page of the memberships of a group.
#[derive(Debug, Clone)]
pub struct MembersFound<R> {
    /// In the order of the bytes of `user_id`; they may be fewer than were asked for, and the list go on.
    pub rows: Vec<R>,
    /// The user behind whom the list goes on.
    pub next: Option<String>,
}

const MEMBER_COLUMNS: &str =
    "m.user_id, m.present, m.role, m.name_card, m.joined_at, m.join_type, m.joined_by, m.left_at,
       m.exit_type, m.left_by, m.mute_until, m.custom_fields";

const MEMBER_FILTERS: &str = "($3::boolean IS NULL OR s.present = $3)
          AND ($4::text IS NULL OR s.role = $4)";

const MEMBER_TIMES: &str = "
          AND ($7::timestamptz IS NULL OR s.joined_at > $7)
          AND ($8::timestamptz IS NULL OR s.left_at > $8)";

/// The group leads the join, so that an unknown group gives no row, and one without members gives a row of NULLs.
fn of_group_statement(filter: &MemberFilter) -> String {
    let (edge, rows) = if !filter.users.is_empty() {
        // Each is looked up by its key, whatever the planner believes of their number.
        (
            "SELECT NULL::text AS edge",
            format!(
                "UNNEST($9::text[]) u (id)
        CROSS JOIN LATERAL (SELECT * FROM group_member_states s
                             WHERE s.sdk_app_id = $1 AND s.group_id = $2 AND s.user_id = u.id OFFSET 0) s
        WHERE {MEMBER_FILTERS}{MEMBER_TIMES}"
            ),
        )
    } else if filter.looks_through() {
        // The last membership that is looked at; no id is as long as the text that stands for none.
        (
            "SELECT (SELECT k.user_id FROM group_members k
                 WHERE k.sdk_app_id = $1 AND k.group_id = $2 AND k.user_id > $5
                 ORDER BY k.user_id OFFSET $10 - 1 LIMIT 1) AS edge OFFSET 0",
            format!(
                "group_member_states s
        WHERE s.sdk_app_id = $1 AND s.group_id = $2 AND s.user_id > $5
          AND s.user_id <= COALESCE(e.edge, repeat(chr(1114111), 129))
          AND {MEMBER_FILTERS}{MEMBER_TIMES}"
            ),
        )
    } else {
        (
            "SELECT NULL::text AS edge",
            format!(
                "group_member_states s
        WHERE s.sdk_app_id = $1 AND s.group_id = $2 AND s.user_id > $5
          AND {MEMBER_FILTERS}"
            ),
        )
    };
    let select = format!(
        "SELECT {MEMBER_COLUMNS}, e.edge
  FROM groups g
 CROSS JOIN LATERAL ({edge}) e
  LEFT JOIN LATERAL (
       SELECT s.* FROM {rows}
        ORDER BY s.user_id LIMIT $6) m ON true
 WHERE g.sdk_app_id = $1 AND g.group_id = $2"
    );
    bounded(&select, "user_id", "user_id", &LONG_MEMBER_COLUMNS)
}

fn of_group_bound(
    app: SdkAppId,
    group: &GroupId,
    filter: &MemberFilter,
    after: Option<&str>,
    limit: i64,
) -> Result<PgArguments, sqlx::Error> {
    let wanted =
        filter.users.iter().map(UserId::as_str).filter(|user| after.is_none_or(|after| *user > after));
    let mut arguments = PgArguments::default();
    let added = [
        arguments.add(app.get()),
        arguments.add(group.as_str()),
        arguments.add(filter.present),
        arguments.add(filter.role),
        arguments.add(after.unwrap_or_default()),
        arguments.add(limit),
        arguments.add(filter.joined_after),
        arguments.add(filter.left_after),
        arguments.add(wanted.collect::<Vec<_>>()),
        arguments.add(LOOKED_THROUGH_MAX),
    ];
    added.into_iter().collect::<Result<(), _>>().map_err(sqlx::Error::Encode)?;
    Ok(arguments)
}

/// How many rows the statement of a page gives at most: what a part is looked for in is all that is looked through.
fn rows_wanted(filter: &MemberFilter, rows_max: usize) -> usize {
    let looked_through = usize::try_from(LOOKED_THROUGH_MAX).unwrap_or(usize::MAX);
    if filter.part.is_some() { looked_through } else { rows_max }
}

/// The memberships of a group in the order of the bytes of `user_id`, after this one; at most `rows_max`, and up to a limit
/// of bytes and of memberships that are looked through. `None`: the group is unknown.
///
/// # Errors
/// Those of the connection and the database.
pub async fn of_group(
    connection: &mut PgConnection,
    app: SdkAppId,
    group: &GroupId,
    filter: &MemberFilter,
    after: Option<&str>,
    rows_max: usize,
) -> Result<Option<MembersFound<MemberStateRow>>, sqlx::Error> {
    let wanted = rows_wanted(filter, rows_max);
    let arguments = of_group_bound(app, group, filter, after, one_more(wanted))?;
    let statement = AssertSqlSafe(of_group_statement(filter));
    let answer = sqlx::query_with(statement, arguments).fetch_all(connection).await?;
    let Some(first) = answer.first() else { return Ok(None) };
    let edge: Option<String> = first.try_get("edge")?;
    let PageRows { mut rows, more } = PageRows::<MemberStateRow>::of(&answer, wanted)?;
    let mut next = if more { rows.last().map(|row| row.user_id.clone()) } else { edge };
    if let Some(part) = &filter.part {
        rows.retain(|row| part.is_in(&row.user_id, row.name_card.as_deref()));
        if rows.len() > rows_max {
            rows.truncate(rows_max);
            next = rows.last().map(|row| row.user_id.clone());
        }
    }
    Ok(Some(MembersFound { rows, next }))
}

/// How the database goes about [`of_group`], as `EXPLAIN` with these options shows it; for tests.
///
/// # Errors
/// Those of the connection and the database.
pub async fn explain_of_group(
    connection: &mut PgConnection,
    options: &str,
    (app, group): (SdkAppId, &GroupId),
    filter: &MemberFilter,
    after: Option<&str>,
) -> Result<String, sqlx::Error> {
    let statement = format!("EXPLAIN ({options}) {}", of_group_statement(filter));
    let arguments = of_group_bound(app, group, filter, after, one_more(rows_wanted(filter, 50)))?;
    let lines: Vec<String> =
        sqlx::query_scalar_with(AssertSqlSafe(statement), arguments).fetch_all(connection).await?;
    Ok(lines.join("\n"))
}

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
        shown()
    );
    let long: Vec<&str> = LONG_COLUMNS.into_iter().chain(LONG_MEMBER_COLUMNS).collect();
    bounded(&select, "group_id", "group_id", &long)
}

/// The memberships of a user in the order of the bytes of `group_id`, after this one; at most `rows_max`, and up to a limit
/// of bytes and of memberships that are looked through. `present`: `None` is both, present and past.
///
/// # Errors
/// Those of the connection and the database.
pub async fn of_user(
    connection: &mut PgConnection,
    app: SdkAppId,
    user: &UserId,
    present: Option<bool>,
    after: Option<&str>,
    rows_max: usize,
) -> Result<UserGroups, sqlx::Error> {
    let answer = sqlx::query(AssertSqlSafe(of_user_statement(present)))
        .bind(app.get())
        .bind(user.as_str())
        .bind(after.unwrap_or_default())
        .bind(one_more(rows_max))
        .bind(LOOKED_THROUGH_MAX)
        .fetch_all(connection)
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
