//! Groups as they are read: `group_states` → [`GroupStateRow`].
//!
//! Reads only, one statement per function, on the connection it is given; what a state means is decided by the views
//! of `migrations/0006_views.sql`. Knows nothing of pages, cursors or JSON: a caller asks for the rows after a key.
//!
//! A statement is put together from the constants here, never from what a user sent. Simple filters are switched off
//! by NULL, which a custom plan folds away. A filter by another table stands in the statement only while it is used,
//! because as a plain `AND EXISTS` it can lead the plan, and behind an `OR` it cannot.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use sqlx::postgres::{PgArguments, PgConnection};
use sqlx::types::Json;
use sqlx::{Arguments as _, AssertSqlSafe, FromRow};
use strum::VariantArray as _;

use crate::callback::ProfileText;
use crate::mirror::Status;
use crate::model::{FieldKey, GroupId, SdkAppId, UserId};

/// A group as the views show it.
#[derive(Debug, Clone, FromRow)]
#[expect(missing_docs, reason = "each field is the column of that name, described in migrations/")]
pub struct GroupStateRow {
    pub sdk_app_id: i64,
    pub group_id: String,
    pub status: String,
    #[sqlx(rename = "type")]
    pub group_type: Option<String>,
    pub name: Option<String>,
    pub introduction: Option<String>,
    pub notification: Option<String>,
    pub face_url: Option<String>,
    pub owner: Option<String>,
    pub created_by: Option<String>,
    pub created_at: Option<DateTime<Utc>>,
    pub updated_at: Option<DateTime<Utc>>,
    pub destroyed_at: Option<DateTime<Utc>>,
    pub user_defined_fields: Json<BTreeMap<String, String>>,
    pub attributes: Json<BTreeMap<String, String>>,
    /// Present members; only where it was asked for.
    pub member_count: Option<i64>,
}

/// Which groups of one app; what is `None` or empty does not filter.
#[derive(Debug, Clone)]
pub struct GroupFilter {
    /// The app.
    pub app: SdkAppId,
    /// This one.
    pub group: Option<GroupId>,
    /// Of this type, under its present name.
    pub group_type: Option<String>,
    /// Owned now by this user.
    pub owner: Option<UserId>,
    /// With this user as a present member.
    pub member: Option<UserId>,
    /// With this text as a part of the name, in any case; no character has a special meaning.
    pub name_part: Option<String>,
    /// With this status.
    pub status: Option<Status>,
    /// With each of these user-defined fields. The statement grows with their number; the caller sets the limit.
    pub user_defined_fields: Vec<(FieldKey, String)>,
    /// Created later than this.
    pub created_after: Option<DateTime<Utc>>,
    /// Created earlier than this.
    pub created_before: Option<DateTime<Utc>>,
}

/// In which order; missing times last, ties by the bytes of the id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GroupOrder {
    /// Newest first.
    Newest,
    /// Oldest first.
    Oldest,
    /// By the bytes of the id.
    Id,
}

/// The place of a row in any [`GroupOrder`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupCursorKey {
    /// `created_at` of the row; [`GroupOrder::Id`] does not look at it.
    pub created_at: Option<DateTime<Utc>>,
    /// `group_id` of the row.
    pub group_id: String,
}

/// What a group shows beside its columns; for the few rows that were chosen, so that no plan counts for the others.
/// `p` is a row of `group_states`.
pub(super) fn shown() -> String {
    let texts: Vec<String> =
        ProfileText::VARIANTS.iter().map(|text| format!("p.{}", text.column())).collect();
    format!("p.sdk_app_id, p.group_id, p.status, {}, {SHOWN_BESIDE_TEXTS}", texts.join(", "))
}

const SHOWN_BESIDE_TEXTS: &str = "p.owner, p.created_by, p.created_at, p.updated_at, p.destroyed_at,
    COALESCE((SELECT json_object_agg(f.key, f.value) FROM group_user_defined_fields f
               WHERE f.sdk_app_id = p.sdk_app_id AND f.group_id = p.group_id
                 AND f.value_stamp >= p.fields_from AND f.value IS NOT NULL), '{}') AS user_defined_fields,
    COALESCE((SELECT json_object_agg(a.key, a.value) FROM group_attributes a
               WHERE a.sdk_app_id = p.sdk_app_id AND a.group_id = p.group_id
                 AND a.value_stamp >= p.attributes_from AND a.value IS NOT NULL), '{}') AS attributes";

const MEMBER_COUNT: &str = "
    (SELECT count(*) FROM group_member_states c
      WHERE c.sdk_app_id = p.sdk_app_id AND c.group_id = p.group_id AND c.present)";

const MATCHING: &str = "SELECT s.* FROM group_states s
     WHERE s.sdk_app_id = $1
       AND ($2::text IS NULL OR s.group_id = $2)
       AND ($4::text IS NULL OR s.status = $4)
       AND ($5::timestamptz IS NULL OR s.created_at > $5)
       AND ($6::timestamptz IS NULL OR s.created_at < $6)";

/// In this and the next two the newest claim narrows, by an index where there is one (for names: of `pg_trgm`), and the
/// state decides. The state alone is an expression that no index knows and whose frequency the planner cannot guess; `COALESCE`
/// keeps a wrong guess out of the plan.
const TYPED: &str = "
       AND s.newest_type = $3 AND COALESCE(s.type = $3, false)";

const NAMED: &str = "
       AND s.newest_name ILIKE $7 AND COALESCE(s.name ILIKE $7, false)";

const OWNED: &str = "
       AND s.newest_owner = $8 AND COALESCE(s.owner = $8, false)";

const JOINED: &str = "
       AND EXISTS (SELECT FROM group_member_states m
                    WHERE m.sdk_app_id = $1 AND m.group_id = s.group_id AND m.user_id = $9 AND m.present)";

fn with_field(number: usize) -> String {
    format!(
        "
       AND EXISTS (SELECT FROM group_user_defined_fields f
                    WHERE f.sdk_app_id = $1 AND f.group_id = s.group_id
                      AND f.key = ($10::text[])[{number}] AND f.value = ($11::text[])[{number}]
                      AND left(f.value, 64) = left(($11::text[])[{number}], 64)
                      AND f.value_stamp >= s.fields_from)"
    )
}

/// A part of the rows that follow a place, in an order that an index has.
struct Part {
    condition: &'static str,
    order: &'static str,
}

const NEWEST: &str = "created_at DESC NULLS LAST, group_id";

/// Oldest first, as the index for the newest is read backwards; for parts without missing times.
const BACKWARDS: &str = "created_at ASC NULLS FIRST, group_id";

const ALL: Part = Part { condition: "", order: NEWEST };
const OLDER: Part = Part {
    condition: " AND s.created_at <= $13 AND (s.created_at < $13 OR s.group_id > $14)",
    order: NEWEST,
};
const TIMED: Part = Part { condition: " AND s.created_at IS NOT NULL", order: BACKWARDS };
const NEWER: Part = Part {
    condition: " AND s.created_at >= $13 AND (s.created_at > $13 OR s.group_id > $14)",
    order: BACKWARDS,
};
/// Missing times come last in both orders.
const WITHOUT_TIME: Part = Part { condition: " AND s.created_at IS NULL", order: NEWEST };
const REST_WITHOUT_TIME: Part =
    Part { condition: " AND s.created_at IS NULL AND s.group_id > $14", order: NEWEST };
const BY_ID: Part = Part { condition: "", order: "group_id" };
const REST_BY_ID: Part = Part { condition: " AND s.group_id > $14", order: "group_id" };

/// The parts a list is read in, one after the other: `created_at <= x` ends before the missing times, so these are a
/// part of their own.
fn parts(order: GroupOrder, after: Option<&GroupCursorKey>) -> &'static [Part] {
    let timed = after.map(|place| place.created_at.is_some());
    match (order, timed) {
        (GroupOrder::Newest, None) => &[ALL],
        (GroupOrder::Newest, Some(true)) => &[OLDER, WITHOUT_TIME],
        (GroupOrder::Oldest, None) => &[TIMED, WITHOUT_TIME],
        (GroupOrder::Oldest, Some(true)) => &[NEWER, WITHOUT_TIME],
        (GroupOrder::Newest | GroupOrder::Oldest, Some(false)) => &[REST_WITHOUT_TIME],
        (GroupOrder::Id, None) => &[BY_ID],
        (GroupOrder::Id, Some(_)) => &[REST_BY_ID],
    }
}

fn list_statement(filter: &GroupFilter, Part { condition, order }: &Part, count: bool) -> String {
    let mut matching = MATCHING.to_owned();
    if filter.group_type.is_some() {
        matching.push_str(TYPED);
    }
    if filter.name_part.is_some() {
        matching.push_str(NAMED);
    }
    if filter.owner.is_some() {
        matching.push_str(OWNED);
    }
    if filter.member.is_some() {
        matching.push_str(JOINED);
    }
    (1..=filter.user_defined_fields.len()).for_each(|number| matching.push_str(&with_field(number)));
    format!(
        "SELECT {}, {} AS member_count FROM ({matching}{condition} ORDER BY {order} LIMIT $12) p ORDER BY {order}",
        shown(),
        if count { MEMBER_COUNT } else { "NULL::bigint" }
    )
}

/// The groups that match, in this order, after this place; at most `limit`.
///
/// # Errors
/// Those of the connection and the database.
pub async fn list(
    connection: &mut PgConnection,
    filter: &GroupFilter,
    order: GroupOrder,
    after: Option<&GroupCursorKey>,
    limit: i64,
    with_member_count: bool,
) -> Result<Vec<GroupStateRow>, sqlx::Error> {
    let mut rows = Vec::new();
    for part in parts(order, after) {
        let left = limit - i64::try_from(rows.len()).unwrap_or(limit);
        if left > 0 {
            let statement = list_statement(filter, part, with_member_count);
            let query = sqlx::query_as_with(AssertSqlSafe(statement), bound(filter, after, left)?);
            rows.extend(query.fetch_all(&mut *connection).await?);
        }
    }
    Ok(rows)
}

/// How the database would go about [`list`], as `EXPLAIN` tells it; for tests and benchmarks.
///
/// # Errors
/// Those of the connection and the database.
pub async fn plan(
    connection: &mut PgConnection,
    filter: &GroupFilter,
    order: GroupOrder,
    after: Option<&GroupCursorKey>,
    limit: i64,
) -> Result<String, sqlx::Error> {
    let mut lines: Vec<String> = Vec::new();
    for part in parts(order, after) {
        let statement = format!("EXPLAIN {}", list_statement(filter, part, false));
        let query = sqlx::query_scalar_with(AssertSqlSafe(statement), bound(filter, after, limit)?);
        lines.extend(query.fetch_all(&mut *connection).await?);
    }
    Ok(lines.join("\n"))
}

fn bound(
    filter: &GroupFilter,
    after: Option<&GroupCursorKey>,
    limit: i64,
) -> Result<PgArguments, sqlx::Error> {
    let (keys, values): (Vec<_>, Vec<_>) =
        filter.user_defined_fields.iter().map(|(key, value)| (key.as_str(), value.as_str())).unzip();
    let mut arguments = PgArguments::default();
    let added = [
        arguments.add(filter.app.get()),
        arguments.add(filter.group.as_ref().map(GroupId::as_str)),
        arguments.add(filter.group_type.as_deref()),
        arguments.add(filter.status.map(Status::as_str)),
        arguments.add(filter.created_after),
        arguments.add(filter.created_before),
        arguments.add(filter.name_part.as_deref().map(part_pattern)),
        arguments.add(filter.owner.as_ref().map(UserId::as_str)),
        arguments.add(filter.member.as_ref().map(UserId::as_str)),
        arguments.add(keys),
        arguments.add(values),
        arguments.add(limit),
        arguments.add(after.and_then(|place| place.created_at)),
        arguments.add(after.map(|place| place.group_id.as_str())),
    ];
    added.into_iter().collect::<Result<(), _>>().map_err(sqlx::Error::Encode)?;
    Ok(arguments)
}

/// The `ILIKE` pattern of a part; what would be a wildcard stands for itself.
fn part_pattern(part: &str) -> String {
    let mut pattern = String::with_capacity(part.len() + 2);
    pattern.push('%');
    for character in part.chars() {
        if matches!(character, '%' | '_' | '\\') {
            pattern.push('\\');
        }
        pattern.push(character);
    }
    pattern.push('%');
    pattern
}

/// The count names the group by the same parameters, not by `p`: the group's barriers are then read once and not once
/// per member (100,000 members: 60 ms instead of 320).
const FIND: &str = "
    (SELECT count(*) FROM group_member_states c
      WHERE c.sdk_app_id = $1 AND c.group_id = $2 AND c.present) AS member_count
  FROM group_states p WHERE p.sdk_app_id = $1 AND p.group_id = $2";

/// The statement of [`find`], with `$1` for the app and `$2` for the group; for benchmarks.
#[must_use]
pub fn find_statement() -> String {
    format!("SELECT {}, {FIND}", shown())
}

/// What decides whether all members of a group are known.
#[derive(Debug, Clone, PartialEq, Eq, FromRow)]
pub struct GroupOrigin {
    /// Under its present name.
    #[sqlx(rename = "type")]
    pub group_type: Option<String>,
    /// Event time of the create, where it is known.
    pub created_at: Option<DateTime<Utc>>,
}

const ORIGIN: &str = "SELECT type, created_at FROM group_states WHERE sdk_app_id = $1 AND group_id = $2";

/// Type and create of a group; `None`: the group is unknown.
///
/// # Errors
/// Those of the connection and the database.
pub async fn origin(
    connection: &mut PgConnection,
    app: SdkAppId,
    group: &GroupId,
) -> Result<Option<GroupOrigin>, sqlx::Error> {
    sqlx::query_as(ORIGIN).bind(app.get()).bind(group.as_str()).fetch_optional(connection).await
}

/// One group of whatever status, with its exact number of present members.
///
/// # Errors
/// Those of the connection and the database.
pub async fn find(
    connection: &mut PgConnection,
    app: SdkAppId,
    group: &GroupId,
) -> Result<Option<GroupStateRow>, sqlx::Error> {
    sqlx::query_as(AssertSqlSafe(find_statement()))
        .bind(app.get())
        .bind(group.as_str())
        .fetch_optional(connection)
        .await
}
