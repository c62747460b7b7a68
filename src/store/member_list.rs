//! The list of the members of a group: its filters, its statement, and what a page of it costs.
//!
//! Reads only, on the connection it is given, in the order of user ids (keyset pagination). What no index finds (a part of a
//! name card, the begin or the end of a stay) is looked for among a bounded number of memberships per page, as the history
//! does: such a page may be short or empty, and the list go on behind it.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use sqlx::postgres::{PgArguments, PgConnection};
use sqlx::{Arguments as _, AssertSqlSafe, Row as _};

use super::group_filter::ListCost;
use super::members::{LONG_MEMBER_COLUMNS, LOOKED_THROUGH_MAX, MEMBER_COLUMNS, MemberStateRow};
use super::page::{PageRows, bounded, one_more};
use crate::mirror::caseless;
use crate::model::{GroupId, SdkAppId, UserId};

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
    (filter, after): (&MemberFilter, Option<&str>),
    limit: i64,
    looked_through_max: i64,
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
        arguments.add(looked_through_max),
    ];
    added.into_iter().collect::<Result<(), _>>().map_err(sqlx::Error::Encode)?;
    Ok(arguments)
}

/// How many memberships the first statement of a search by a part looks through, for each row that is wanted: where the part
/// is common they are enough.
const LOOKED_THROUGH_PER_ROW: i64 = 4;

/// How many memberships the first statement of a page looks through.
fn first_stretch(filter: &MemberFilter, rows_max: usize) -> i64 {
    if filter.part.is_none() {
        return LOOKED_THROUGH_MAX;
    }
    (LOOKED_THROUGH_PER_ROW * one_more(rows_max)).clamp(LOOKED_THROUGH_PER_ROW, LOOKED_THROUGH_MAX)
}

/// The memberships of a group in the order of the bytes of `user_id`, after this one; at most `rows_max`, and up to a limit
/// of bytes and of memberships that are looked through. `None`: the group is unknown.
///
/// A part of a name is looked for in stretches that grow, until there are enough rows.
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
    let mut stretch = first_stretch(filter, rows_max);
    let mut looked_through = 0;
    let mut found = MembersFound { rows: Vec::new(), next: after.map(str::to_owned) };
    loop {
        let after = found.next.as_deref();
        let Some(page) = stretch_of_group(connection, app, group, (filter, after), rows_max, stretch).await?
        else {
            return Ok(None);
        };
        let (rows, is_cut) = (page.found.rows, page.is_cut);
        found.next = page.found.next;
        let is_wanted = |row: &MemberStateRow| {
            filter.part.as_ref().is_none_or(|part| part.is_in(&row.user_id, row.name_card.as_deref()))
        };
        found.rows.extend(rows.into_iter().filter(is_wanted));
        if found.rows.len() > rows_max {
            found.rows.truncate(rows_max);
            found.next = found.rows.last().map(|row| row.user_id.clone());
        }
        looked_through += stretch;
        let is_full = found.rows.len() >= rows_max || is_cut || looked_through >= LOOKED_THROUGH_MAX;
        if is_full || found.next.is_none() {
            return Ok(Some(found));
        }
        stretch = (stretch * 4).min(LOOKED_THROUGH_MAX - looked_through);
    }
}

/// What one statement of a page has found.
struct StretchFound {
    found: MembersFound<MemberStateRow>,
    /// It ended early, because its rows are long or enough.
    is_cut: bool,
}

async fn stretch_of_group(
    connection: &mut PgConnection,
    app: SdkAppId,
    group: &GroupId,
    (filter, after): (&MemberFilter, Option<&str>),
    rows_max: usize,
    stretch: i64,
) -> Result<Option<StretchFound>, sqlx::Error> {
    // What a part is looked for in is all that is looked through.
    let wanted = if filter.part.is_some() { usize::try_from(stretch).unwrap_or(rows_max) } else { rows_max };
    let arguments = of_group_bound(app, group, (filter, after), one_more(wanted), stretch)?;
    let statement = AssertSqlSafe(of_group_statement(filter));
    let answer = sqlx::query_with(statement, arguments).fetch_all(connection).await?;
    let Some(first) = answer.first() else { return Ok(None) };
    let edge: Option<String> = first.try_get("edge")?;
    let PageRows { rows, more } = PageRows::<MemberStateRow>::of(&answer, wanted)?;
    let next = if more { rows.last().map(|row| row.user_id.clone()) } else { edge };
    Ok(Some(StretchFound { found: MembersFound { rows, next }, is_cut: more }))
}

/// How the database goes about the longest statement of [`of_group`], as `EXPLAIN` with these options shows it; for tests.
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
    let arguments = of_group_bound(app, group, (filter, after), LOOKED_THROUGH_MAX, LOOKED_THROUGH_MAX)?;
    let lines: Vec<String> =
        sqlx::query_scalar_with(AssertSqlSafe(statement), arguments).fetch_all(connection).await?;
    Ok(lines.join("\n"))
}
