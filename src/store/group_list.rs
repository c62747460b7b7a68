//! The list of groups: the statement of a page, out of its filters and its order.
//!
//! A statement is put together from the constants here, never from what a user sent, and has three forms. A list in order
//! reads the stretches of an index, one for each status and each part of the order. A list of matches begins with the few
//! groups that an id, an owner or a member names, and looks each up by its key: what the planner believes about the
//! tables, which is nothing before their first ANALYZE, cannot lead it elsewhere (an `OFFSET 0` is its fence). A search
//! leaves the way to the planner. Each way keys are chosen first, and what a group shows is read for those on the page. It
//! is one statement, so one snapshot.

use sqlx::AssertSqlSafe;
use sqlx::postgres::PgConnection;

use super::citus::Dialect;
use super::group_filter::bound;
pub use super::group_filter::{GroupFilter, ListCost};
pub use super::group_order::{GroupCursorKey, GroupOrder};
use super::group_order::{KeySource, Part, order_of, parts, source};
use super::groups::{GroupStateRow, LONG_COLUMNS, shown};
use super::page::{PageRows, bounded, one_more};
use super::read_pool::ReadConnection;

fn member_count(row: &str) -> String {
    format!(
        "
       (SELECT count(*) FROM group_member_states c
         WHERE c.sdk_app_id = {row}.sdk_app_id AND c.group_id = {row}.group_id AND c.present)"
    )
}

const CREATED: &str = "
           AND ($5::timestamptz IS NULL OR s.created_at > $5)
           AND ($6::timestamptz IS NULL OR s.created_at < $6)";

/// Never verified is before any time.
const VERIFIED_BEFORE: &str = "
           AND NOT EXISTS (SELECT FROM group_verifications v
                            WHERE v.sdk_app_id = $1 AND v.group_id = s.group_id AND v.verified_at >= $15)";

/// In these the newest claim narrows, by an index where there is one (for names: of `pg_trgm`), and the
/// state decides. The state alone is an expression that no index knows and whose frequency the planner cannot guess; `COALESCE`
/// keeps a wrong guess out of the plan.
const TYPED: &str = "
           AND s.newest_type = ANY ($3) AND COALESCE(s.type = ANY ($3), false)";

/// An index has the first 64 characters of a name.
const PREFIXED: &str = r"
           AND left(s.newest_name_caseless, 64) LIKE $16 AND s.newest_name_caseless LIKE $17
           AND COALESCE(s.name IS NOT NULL, false)";

/// An index has the time in steps; the time itself is a column, of which the planner knows how many are later.
const UPDATED: &str = "
           AND s.updated_step >= $19 AND s.updated_at > $18";

/// The name that a group shows is the newest one, or none.
const NAMED: &str = "
           AND s.newest_name_caseless LIKE $7 AND COALESCE(s.name IS NOT NULL, false)";

const OWNED: &str = "
           AND s.newest_owner = $8 AND COALESCE(s.owner = $8, false)";

fn joined(row: &str) -> String {
    format!(
        "
           AND EXISTS (SELECT FROM group_member_states m
                        WHERE m.sdk_app_id = $1 AND m.group_id = {row}.group_id AND m.user_id = $9 AND m.present)"
    )
}

/// With the value of a user-defined field; an index of the values may lead the plan.
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

/// The same where the fields of each group are looked up by its key.
fn with_field_by_key(number: usize) -> String {
    format!(
        "
           AND EXISTS (SELECT FROM (SELECT f.key, f.value, f.value_stamp FROM group_user_defined_fields f
                                     WHERE f.sdk_app_id = $1 AND f.group_id = s.group_id OFFSET 0) f
                        WHERE f.key = ($10::text[])[{number}] AND f.value = ($11::text[])[{number}]
                          AND f.value_stamp >= s.fields_from OFFSET 0)"
    )
}

/// What all groups on the page must match beside their status; of a list of matches, which looks each up by its key, also what
/// has chosen them.
fn filters(filter: &GroupFilter, order: GroupOrder, is_by_key: bool) -> String {
    let mut text = String::new();
    if filter.created_after.is_some() || filter.created_before.is_some() {
        text.push_str(CREATED);
    }
    for (is_wanted, condition) in [
        (filter.verified_before.is_some() && !order.is_by_verification(), VERIFIED_BEFORE),
        (!filter.group_types.is_empty(), TYPED),
        (filter.name_prefix.is_some(), PREFIXED),
        (filter.updated_after.is_some(), UPDATED),
        (filter.name_part.is_some(), NAMED),
        (filter.owner.is_some(), OWNED),
        (filter.member.is_some(), joined(if is_by_key { "c" } else { "s" }).as_str()),
    ] {
        if is_wanted {
            text.push_str(condition);
        }
    }
    let with_field = if is_by_key { with_field_by_key } else { with_field };
    (1..=filter.user_defined_fields.len()).for_each(|number| text.push_str(&with_field(number)));
    text
}

/// The few groups that a list of matches begins with; none: the list is read in order. The groups of an owner have an index
/// in the order of their times, because a service may own all of them; a search through these is not left to the planner.
fn matches(filter: &GroupFilter, order: GroupOrder) -> Option<&'static str> {
    if !filter.groups.is_empty() {
        Some("SELECT UNNEST($2::text[]) AS group_id")
    } else if filter.member.is_some() {
        Some(
            "SELECT m.group_id FROM group_members m WHERE m.sdk_app_id = $1 AND m.user_id = $9 AND NOT m.has_left",
        )
    } else if filter.owner.is_some()
        && (!matches!(order, GroupOrder::Newest | GroupOrder::Oldest)
            || filter.name_part.is_some()
            || filter.name_prefix.is_some()
            || filter.updated_after.is_some()
            || filter.verified_before.is_some())
    {
        Some("SELECT g.group_id FROM groups g WHERE g.sdk_app_id = $1 AND g.owner = $8")
    } else {
        None
    }
}

/// The keys of the groups behind a place, by a list of matches: each group is looked up by its key, and only then filtered.
/// In one step the planner may take another index, of those that match no more than the key as far as it knows.
fn keys_of_matches(matches: &str, filters: &str, parts: &[Part], time: &str) -> String {
    let conditions: Vec<String> = parts.iter().map(|part| format!("({})", part.condition)).collect();
    format!(
        "SELECT s.{time}, s.group_id
          FROM ({matches} OFFSET 0) c
         CROSS JOIN LATERAL (
        SELECT s.{time}, s.group_id
          FROM (SELECT g.*, (SELECT v.verified_at FROM group_verifications v
                              WHERE v.sdk_app_id = g.sdk_app_id AND v.group_id = g.group_id) AS verified_at
                  FROM group_states g WHERE g.sdk_app_id = $1 AND g.group_id = c.group_id OFFSET 0) s
         WHERE s.status = ANY ($4)
           AND ({}){filters}
        OFFSET 0) s",
        conditions.join(" OR ")
    )
}

/// The same of a list in order: the stretches of an index, each for as many rows as a page can show.
fn keys_in_order(source: &KeySource, filters: &str, Part { condition, order }: &Part, time: &str) -> String {
    let KeySource { rows, status } = source;
    format!(
        "SELECT s.{time}, s.group_id
          FROM UNNEST($4::text[]) w (status)
         CROSS JOIN LATERAL (
        SELECT s.{time}, s.group_id FROM {rows} s
         WHERE s.sdk_app_id = $1 AND s.{status} = w.status
           AND {condition}{filters}
         ORDER BY {order} FETCH FIRST ($12) ROWS WITH TIES) s"
    )
}

/// The same of a search: one pass through all groups, in order where the planner expects many matches.
fn keys_of_search(
    filter: &GroupFilter,
    KeySource { rows, status: column }: &KeySource,
    filters: &str,
    Part { condition, order }: &Part,
    time: &str,
) -> String {
    let status = if filter.status.is_some() { "($4::text[])[1]" } else { "ANY ($4)" };
    format!(
        "(SELECT s.{time}, s.group_id FROM {rows} s
         WHERE s.sdk_app_id = $1 AND s.{column} = {status}
           AND {condition}{filters}
         ORDER BY {order} FETCH FIRST ($12) ROWS WITH TIES)"
    )
}

/// The same of an order by verification: what was never verified is looked for only where the page has room for it.
fn keys_by_verification(parts: &[Part], keys_of_part: impl Fn(&Part) -> String) -> String {
    let (timeless, timed): (Vec<&Part>, Vec<&Part>) = parts.iter().partition(|part| part.is_timeless());
    let [timeless] = timeless[..] else { unreachable!("one part has no time") };
    let timeless = keys_of_part(timeless);
    if timed.is_empty() {
        return timeless;
    }
    let timed: Vec<String> = timed.into_iter().map(keys_of_part).collect();
    format!(
        "WITH timed AS MATERIALIZED (
        {})
        SELECT * FROM timed
         UNION ALL
        SELECT * FROM ({timeless}) n WHERE (SELECT count(*) FROM timed) < $12",
        timed.join("\n         UNION ALL\n        ")
    )
}

/// The statement of a page.
fn list_statement(
    dialect: Dialect,
    filter: &GroupFilter,
    order: GroupOrder,
    after: Option<&GroupCursorKey>,
    with_member_count: bool,
) -> String {
    let is_bounded = order.is_by_verification() && filter.verified_before.is_some();
    let parts = parts(order, after, is_bounded);
    let select = match dialect {
        Dialect::Plain => select_by_keys(filter, order, &parts, with_member_count),
        Dialect::Citus => select_on_one_level(filter, order, &parts, with_member_count),
    };
    bounded(&select, "group_id", &order_of(order), &LONG_COLUMNS)
}

/// Keys are chosen first, and then read.
fn select_by_keys(
    filter: &GroupFilter,
    order: GroupOrder,
    parts: &[Part],
    with_member_count: bool,
) -> String {
    let filters = filters(filter, order, matches(filter, order).is_some());
    let time = order.time_column();
    let is_of_states = [
        !filter.group_types.is_empty(),
        filter.name_part.is_some(),
        filter.name_prefix.is_some(),
        filter.updated_after.is_some(),
        filter.owner.is_some(),
        filter.member.is_some(),
        !filter.user_defined_fields.is_empty(),
    ]
    .contains(&true);
    let keys_of_part = |part: &Part| match filter.name_part {
        Some(_) => keys_of_search(filter, &source(order, part, is_of_states), &filters, part, time),
        None => keys_in_order(&source(order, part, is_of_states), &filters, part, time),
    };
    let keys = match matches(filter, order) {
        Some(matches) => keys_of_matches(matches, &filters, parts, time),
        None if order.is_by_verification() => keys_by_verification(parts, keys_of_part),
        None => parts.iter().map(keys_of_part).collect::<Vec<_>>().join("\n         UNION ALL\n        "),
    };
    let (order, count) = (order_of(order), count("p", with_member_count));
    format!(
        "SELECT {}, {count} AS member_count
  FROM (SELECT * FROM (
        {keys}) k ORDER BY {order} LIMIT $12) k
 CROSS JOIN LATERAL (
       SELECT * FROM group_states g WHERE g.sdk_app_id = $1 AND g.group_id = k.group_id OFFSET 0) p",
        shown("p")
    )
}

fn count(row: &str, is_wanted: bool) -> String {
    if is_wanted { member_count(row) } else { "NULL::bigint".to_owned() }
}

/// The same on one level, for a server that takes nothing else: it looks through all groups that the filters and an index leave.
fn select_on_one_level(
    filter: &GroupFilter,
    order: GroupOrder,
    parts: &[Part],
    with_member_count: bool,
) -> String {
    let parts: Vec<String> = parts.iter().map(|part| format!("({})", part.condition)).collect();
    let rows = if order.is_by_verification() {
        "(SELECT g.*, v.verified_at
          FROM group_states g
          LEFT JOIN group_verifications v ON v.sdk_app_id = g.sdk_app_id AND v.group_id = g.group_id)"
    } else {
        "group_states"
    };
    let ids = if filter.groups.is_empty() { "" } else { " AND s.group_id = ANY ($2)" };
    format!(
        "SELECT {}, {} AS member_count
  FROM {rows} s
 WHERE s.sdk_app_id = $1 AND s.status = ANY ($4){ids}
   AND ({}){}
 ORDER BY {} LIMIT $12",
        shown("s"),
        count("s", with_member_count),
        parts.join(" OR "),
        filters(filter, order, false),
        order_of(order)
    )
}

/// The groups that match, in this order, after this place; at most `rows_max`, and up to a limit of bytes.
///
/// # Errors
/// Those of the connection and the database.
pub async fn list(
    connection: &mut ReadConnection,
    filter: &GroupFilter,
    order: GroupOrder,
    after: Option<&GroupCursorKey>,
    rows_max: usize,
    with_member_count: bool,
) -> Result<PageRows<GroupStateRow>, sqlx::Error> {
    let statement = list_statement(connection.dialect(), filter, order, after, with_member_count);
    let arguments = bound(filter, after, one_more(rows_max))?;
    let answer = sqlx::query_with(AssertSqlSafe(statement), arguments).fetch_all(&mut **connection).await?;
    PageRows::of(&answer, rows_max)
}

/// How the database goes about [`list`], as `EXPLAIN` with these options shows it; for tests and benchmarks.
///
/// # Errors
/// Those of the connection and the database.
pub async fn explain(
    connection: &mut PgConnection,
    options: &str,
    filter: &GroupFilter,
    order: GroupOrder,
    after: Option<&GroupCursorKey>,
    rows_max: usize,
) -> Result<String, sqlx::Error> {
    let statement =
        format!("EXPLAIN ({options}) {}", list_statement(Dialect::Plain, filter, order, after, false));
    let arguments = bound(filter, after, one_more(rows_max))?;
    let lines: Vec<String> =
        sqlx::query_scalar_with(AssertSqlSafe(statement), arguments).fetch_all(connection).await?;
    Ok(lines.join("\n"))
}
