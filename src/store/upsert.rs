//! [`Rows`] → tables: one upsert per table, whole batches by `UNNEST`, in key order.
//!
//! The statements are written from the descriptions in `mirror::tables`, and stand as text in
//! `tests/it/data/statements.sql`, where they are reviewed. The rule "the greater stamp wins" stands in them for the second
//! time: `EXCLUDED.x_stamp > x_stamp` and `GREATEST`; bytes of a stamp compare as stamps do. The set of ends is joined by
//! a select, which only batches with a create or a destroy send. A small batch names only the registers that it raises,
//! and any batch of callbacks leaves out what only reads raise, because each further register costs the server more than the
//! row itself. What lists say of members is merged in Rust alone, under the lock of the group, and written as it is. Tables
//! are named without a schema, so that the connection's search path decides which.

use std::borrow::Cow;
use std::collections::BTreeMap;

use sqlx::postgres::PgArguments;
use sqlx::query::Query;
use sqlx::{AssertSqlSafe, PgConnection, Postgres};

use crate::mirror::tables::{self, Columns, Origin, StampJoin, Table};
use crate::mirror::{EARLIER_ENDS_MAX, GroupKey, ListRange, MemberRow, Rows};
use crate::model::{FieldKey, Stamp, TopicId, UserId};

/// Writes the rows; what is stored and newer stays. In this order in every transaction, so that no two deadlock:
/// groups, their ranges, members, user-defined fields, attributes, topics; each by key. What lists say of members is left
/// out: see [`replace_listed`].
///
/// # Errors
/// A statement's.
pub async fn upsert(conn: &mut PgConnection, rows: &Rows) -> Result<(), sqlx::Error> {
    upsert_groups(conn, rows).await?;
    upsert_keyed(conn, &tables::RANGES, &rows.ranges(), ListRange::as_str).await?;
    upsert_keyed(conn, &tables::MEMBERS, &reported(&rows.members), UserId::as_str).await?;
    upsert_keyed(conn, &tables::USER_DEFINED_FIELDS, &rows.user_defined_fields, FieldKey::as_str).await?;
    upsert_keyed(conn, &tables::ATTRIBUTES, &rows.attributes, FieldKey::as_str).await?;
    upsert_keyed(conn, &tables::TOPICS, &rows.topics, TopicId::as_str).await
}

/// The largest batch of rows whose upsert names only what they raise. A larger one names every register that callbacks
/// raise, and those of reads all or not at all, so that a connection prepares few statements; there the rows cost more than
/// the names.
const NAMED_ROWS_MAX: usize = 8;

/// The registers, barriers and sets that the upsert of these rows has to name. What a row does not raise has the stamp
/// "never", which wins nowhere and is the default of its column, so that leaving it out changes nothing.
#[must_use]
pub fn raised<'t, 'a, R: 'a>(
    table: &'t Table<R>,
    rows: &(impl ExactSizeIterator<Item = &'a R> + Clone),
) -> Vec<&'t Columns<R>> {
    let named = |columns: &&Columns<R>| rows.clone().any(|row| !columns.read(row).stamp.is_empty());
    let newest = |names: [&str; 2]| {
        let mut ends = table.columns.iter().filter(|columns| names.contains(&columns.stamp.as_str()));
        ends.any(|columns| named(&columns))
    };
    let is_large = rows.len() > NAMED_ROWS_MAX;
    let is_read = is_large && of_origin(table, Origin::Reads).any(|columns| named(&columns));
    let columns = table.columns.iter().filter(|columns| match (columns.join, columns.origin) {
        (StampJoin::Ends(names), _) => named(columns) || newest(names),
        (StampJoin::Greatest, Origin::Callbacks) => is_large || named(columns),
        (StampJoin::Greatest, Origin::Reads) => is_read || !is_large && named(columns),
        (StampJoin::Greatest, Origin::Lists) => false,
    });
    columns.collect()
}

fn of_origin<R>(table: &Table<R>, origin: Origin) -> impl Iterator<Item = &Columns<R>> {
    table.columns.iter().filter(move |columns| columns.origin == origin)
}

/// The upsert of some columns of a table as it is sent.
#[must_use]
pub fn statement<R>(table: &Table<R>, columns: &[&Columns<R>]) -> String {
    let (mut assignments, mut newer) = (Vec::new(), Vec::new());
    for columns in columns {
        let stamp = &columns.stamp;
        assignments.extend(columns.values.iter().map(|value| {
            format!(
                "{value} = CASE WHEN EXCLUDED.{stamp} > t.{stamp}\n        THEN EXCLUDED.{value} ELSE t.{value} END"
            )
        }));
        let (joined, grows) = match columns.join {
            StampJoin::Greatest => {
                (format!("GREATEST(t.{stamp}, EXCLUDED.{stamp})"), format!("EXCLUDED.{stamp} > t.{stamp}"))
            }
            StampJoin::Ends(newest) => ends(stamp, newest),
        };
        assignments.push(format!("{stamp} = {joined}"));
        newer.push(grows);
    }
    assert!(!newer.is_empty(), "a row of {} raises something", table.name);
    format!(
        "{}{}\n-- A fact that loses everywhere writes nothing.\nWHERE {}",
        insert(table, columns),
        assignments.join(",\n    "),
        newer.join("\n   OR ")
    )
}

/// How what lists say of members is written: as it is, because it was merged under the lock of the group.
#[must_use]
pub fn replace_listed_statement() -> String {
    let columns: Vec<_> = of_origin(&tables::MEMBERS, Origin::Lists).collect();
    let names = columns.iter().flat_map(|columns| columns.values.iter().copied().chain([&*columns.stamp]));
    let sets: Vec<String> = names.map(|name| format!("{name} = EXCLUDED.{name}")).collect();
    format!("{}{}", insert(&tables::MEMBERS, &columns), sets.join(",\n    "))
}

/// An insert by `UNNEST` up to what is done with a row that is there already.
fn insert<R>(table: &Table<R>, columns: &[&Columns<R>]) -> String {
    let key: Vec<&str> = ["sdk_app_id", "group_id"].into_iter().chain(table.key).collect();
    let (mut names, mut types): (Vec<&str>, Vec<&str>) = (key.clone(), vec!["bigint"]);
    types.resize(key.len(), "text");
    for columns in columns {
        names.extend(columns.values.iter().copied().chain([&*columns.stamp]));
        types.extend(columns.types.iter().copied().chain(["bytea"]));
    }
    assert_eq!(names.len(), types.len(), "every column has a type");
    let arrays = types.iter().zip(1..).map(|(kind, number)| match *kind {
        // Values are bound as text.
        "boolean" | "bigint" if number > 1 => format!("${number}::text[]::{kind}[]"),
        kind => format!("${number}::{kind}[]"),
    });
    format!(
        "INSERT INTO {} AS t (\n    {})\nSELECT * FROM UNNEST(\n    {})\nON CONFLICT ({}) DO UPDATE SET\n    ",
        table.name,
        wrapped(&names),
        wrapped(&arrays.collect::<Vec<_>>()),
        key.join(", "),
    )
}

/// How a set of ends is joined, and whether it may grow. Twin of `mirror::Ends`: a group that is not used again has an empty
/// set and at most one create and one destroy, so nothing is selected.
fn ends(set: &str, newest: [&str; 2]) -> (String, String) {
    let displaced = newest.map(|newest| {
        format!("(EXCLUDED.{newest} <> t.{newest} AND LEAST(EXCLUDED.{newest}, t.{newest}) > '')")
    });
    let grows = format!("EXCLUDED.{set} > ''\n   OR {}\n   OR {}", displaced[0], displaced[1]);
    let [created, destroyed] = newest;
    let bytes = Stamp::BYTES;
    let joined = format!(
        "CASE WHEN {grows} THEN (
            SELECT string_agg(kept.stamp, '' ORDER BY kept.stamp DESC) FROM (
                SELECT DISTINCT substring(s.ends FROM n FOR {bytes}) AS stamp
                  FROM (SELECT t.{set} || EXCLUDED.{set}
                               || LEAST(EXCLUDED.{created}, t.{created})
                               || LEAST(EXCLUDED.{destroyed}, t.{destroyed}) AS ends) s,
                       generate_series(1, length(s.ends), {bytes}) n
                 WHERE substring(s.ends FROM n FOR {bytes}) NOT IN (
                       GREATEST(EXCLUDED.{created}, t.{created}),
                       GREATEST(EXCLUDED.{destroyed}, t.{destroyed}))
                 ORDER BY stamp DESC LIMIT {EARLIER_ENDS_MAX}) kept)
        ELSE t.{set} END"
    );
    (joined, grows)
}

/// The longest line of [`wrapped`], in characters.
const LINE_WIDTH_MAX: usize = 110;

/// A list for people to review: lines of at most [`LINE_WIDTH_MAX`] characters, indented by four.
pub(super) fn wrapped(items: &[impl AsRef<str>]) -> String {
    let (mut text, mut width) = (String::new(), 4);
    for (item, at) in items.iter().map(AsRef::as_ref).zip(0..) {
        if at > 0 {
            let fits = width + item.len() + 3 <= LINE_WIDTH_MAX;
            text.push_str(if fits { ", " } else { ",\n    " });
            width = if fits { width + 2 } else { 4 };
        }
        text.push_str(item);
        width += item.len();
    }
    text
}

/// One register of many rows as arrays, with one entry per row in each: `UNNEST` would pad a shorter one with NULL.
struct RegisterArrays<'a> {
    /// One per value column.
    values: Vec<Vec<Option<Cow<'a, str>>>>,
    stamps: Vec<&'a [u8]>,
}

impl<'a> RegisterArrays<'a> {
    fn of<R: 'a>(columns: &Columns<R>, rows: impl ExactSizeIterator<Item = &'a R>) -> Self {
        let count = rows.len();
        let mut values = vec![Vec::with_capacity(count); columns.values.len()];
        let mut stamps = Vec::with_capacity(count);
        for row in rows {
            let cell = columns.read(row);
            values.iter_mut().zip(cell.values).for_each(|(column, value)| column.push(value));
            stamps.push(cell.stamp);
        }
        assert_eq!(stamps.len(), count, "every row has a stamp");
        assert!(values.iter().all(|column| column.len() == count), "every row has a value in every column");
        Self { values, stamps }
    }
}

type MemberRows = BTreeMap<(GroupKey, UserId), MemberRow>;

type PgQuery<'q> = Query<'q, Postgres, PgArguments>;

/// Binds everything behind the key, in the order of the statement.
fn bind_registers<'q, 'a, R: 'a>(
    mut query: PgQuery<'q>,
    columns: &[&Columns<R>],
    rows: &(impl ExactSizeIterator<Item = &'a R> + Clone),
) -> PgQuery<'q> {
    for columns in columns {
        let arrays = RegisterArrays::of(columns, rows.clone());
        for column in arrays.values {
            query = query.bind(column);
        }
        query = query.bind(arrays.stamps);
    }
    query
}

/// The begin of every key: app ids and group ids.
fn group_keys<'a>(keys: impl Iterator<Item = &'a GroupKey>) -> (Vec<i64>, Vec<&'a str>) {
    keys.map(|key| (key.app.get(), key.group.as_str())).unzip()
}

/// Without the members of whom lists alone say anything: an upsert locks each row that it does not change.
fn reported(members: &MemberRows) -> Cow<'_, MemberRows> {
    if members.values().all(|row| row.listed.stamp.is_zero()) {
        return Cow::Borrowed(members);
    }
    let columns: Vec<_> = tables::MEMBERS.columns.iter().filter(|of| of.origin != Origin::Lists).collect();
    let is_reported = |row: &MemberRow| columns.iter().any(|columns| !columns.read(row).stamp.is_empty());
    let reported = members.iter().filter(|(_, row)| is_reported(row));
    Cow::Owned(reported.map(|(key, row)| (key.clone(), row.clone())).collect())
}

async fn upsert_groups(conn: &mut PgConnection, rows: &Rows) -> Result<(), sqlx::Error> {
    if rows.groups.is_empty() {
        return Ok(());
    }
    let (apps, groups) = group_keys(rows.groups.keys());
    let (table, rows) = (&*tables::GROUPS, rows.groups.values());
    let columns = raised(table, &rows);
    let query = sqlx::query(AssertSqlSafe(statement(table, &columns))).bind(apps).bind(groups);
    bind_registers(query, &columns, &rows).execute(conn).await.map(drop)
}

/// The same for a table whose key has a third column.
async fn upsert_keyed<K: Ord, R>(
    conn: &mut PgConnection,
    table: &Table<R>,
    rows: &BTreeMap<(GroupKey, K), R>,
    text: fn(&K) -> &str,
) -> Result<(), sqlx::Error> {
    if rows.is_empty() {
        return Ok(());
    }
    let (apps, groups) = group_keys(rows.keys().map(|(group, _)| group));
    let keys: Vec<&str> = rows.keys().map(|(_, key)| text(key)).collect();
    let rows = rows.values();
    let columns = raised(table, &rows);
    let query = sqlx::query(AssertSqlSafe(statement(table, &columns))).bind(apps).bind(groups).bind(keys);
    bind_registers(query, &columns, &rows).execute(conn).await.map(drop)
}

/// A membership in its stored form, with its key.
pub type StoredMember<'a> = (&'a GroupKey, &'a UserId, Cow<'a, MemberRow>);

/// The memberships that a list ever named, in the form in which they are stored.
#[must_use]
pub fn listed_members(rows: &Rows) -> Vec<StoredMember<'_>> {
    let listed = rows.members.iter().filter(|(_, row)| !row.listed.stamp.is_zero());
    listed.map(|((group, user), row)| (group, user, stored(rows, group, user, row))).collect()
}

/// A membership in the form in which it is stored.
pub(super) fn stored<'a>(
    rows: &Rows,
    group: &GroupKey,
    user: &UserId,
    row: &'a MemberRow,
) -> Cow<'a, MemberRow> {
    let Some(of) = rows.groups.get(group) else { unreachable!("a fact about a member makes its group") };
    of.stored(user, row)
}

/// Writes what lists say of these members, whatever was there before. The caller holds the locks of their groups, and has
/// merged what the tables held with what is new: a list has one stamp, in the row of its group.
///
/// # Errors
/// The statement's.
pub async fn replace_listed(
    conn: &mut PgConnection,
    members: &[StoredMember<'_>],
) -> Result<(), sqlx::Error> {
    if members.is_empty() {
        return Ok(());
    }
    let (apps, groups) = group_keys(members.iter().map(|(group, ..)| *group));
    let users: Vec<&str> = members.iter().map(|(_, user, _)| user.as_str()).collect();
    let query = sqlx::query(AssertSqlSafe(replace_listed_statement())).bind(apps).bind(groups).bind(users);
    let rows = members.iter().map(|(.., row)| row.as_ref());
    let columns: Vec<_> = of_origin(&tables::MEMBERS, Origin::Lists).collect();
    bind_registers(query, &columns, &rows).execute(conn).await.map(drop)
}
