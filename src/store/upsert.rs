//! [`Rows`] → tables: one upsert per table, whole batches by `UNNEST`, in key order.
//!
//! The statements are written from the descriptions in `mirror::tables`, and stand as text in
//! `tests/it/data/statements.sql`, where they are reviewed. The rule "the greater stamp wins" stands in them for the second
//! time: `EXCLUDED.x_stamp > x_stamp` and `GREATEST`; bytes of a stamp compare as stamps do. The set of ends is joined by
//! a select, which only batches with a create or a destroy send. A small batch names only the registers that it raises,
//! because each further one costs the server more than the row itself. Tables are named without a schema, so that the
//! connection's search path decides which.

use std::borrow::Cow;
use std::collections::BTreeMap;

use sqlx::postgres::PgArguments;
use sqlx::query::Query;
use sqlx::{AssertSqlSafe, PgConnection, Postgres};

use crate::mirror::tables::{self, Columns, StampJoin, Table};
use crate::mirror::{EARLIER_ENDS_MAX, GroupKey, Rows};
use crate::model::{FieldKey, Stamp, TopicId, UserId};

/// Writes the rows; what is stored and newer stays. In this order in every transaction, so that no two deadlock:
/// groups, members, user-defined fields, attributes, topics; each by key.
///
/// # Errors
/// A statement's.
pub async fn upsert(conn: &mut PgConnection, rows: &Rows) -> Result<(), sqlx::Error> {
    upsert_groups(conn, rows).await?;
    upsert_keyed(conn, &tables::MEMBERS, &rows.members, UserId::as_str).await?;
    upsert_keyed(conn, &tables::USER_DEFINED_FIELDS, &rows.user_defined_fields, FieldKey::as_str).await?;
    upsert_keyed(conn, &tables::ATTRIBUTES, &rows.attributes, FieldKey::as_str).await?;
    upsert_keyed(conn, &tables::TOPICS, &rows.topics, TopicId::as_str).await
}

/// The largest batch of rows whose upsert names only what they raise. A larger one names every register, so that a
/// connection prepares few statements; there the rows cost more than the names.
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
    let columns = table.columns.iter().filter(|columns| match columns.join {
        StampJoin::Greatest => rows.len() > NAMED_ROWS_MAX || named(columns),
        StampJoin::Ends(names) => named(columns) || newest(names),
    });
    columns.collect()
}

/// The upsert of some columns of a table as it is sent.
#[must_use]
pub fn statement<R>(table: &Table<R>, columns: &[&Columns<R>]) -> String {
    let key: Vec<&str> = ["sdk_app_id", "group_id"].into_iter().chain(table.key).collect();
    let (mut names, mut types): (Vec<&str>, Vec<&str>) = (key.clone(), vec!["bigint"]);
    types.resize(key.len(), "text");
    let (mut assignments, mut newer) = (Vec::new(), Vec::new());
    for columns in columns {
        let stamp = &columns.stamp;
        for value in &columns.values {
            names.push(value);
            types.push("text");
            assignments.push(format!(
                "{value} = CASE WHEN EXCLUDED.{stamp} > t.{stamp}\n        THEN EXCLUDED.{value} ELSE t.{value} END"
            ));
        }
        names.push(stamp);
        types.push("bytea");
        let (joined, grows) = match columns.join {
            StampJoin::Greatest => {
                (format!("GREATEST(t.{stamp}, EXCLUDED.{stamp})"), format!("EXCLUDED.{stamp} > t.{stamp}"))
            }
            StampJoin::Ends(newest) => ends(stamp, newest),
        };
        assignments.push(format!("{stamp} = {joined}"));
        newer.push(grows);
    }
    assert_eq!(names.len(), types.len(), "every column has a type");
    assert!(!newer.is_empty(), "a row of {} raises something", table.name);
    let arrays: Vec<String> =
        types.iter().zip(1..).map(|(kind, number)| format!("${number}::{kind}[]")).collect();
    format!(
        "INSERT INTO {} AS t (\n    {})\nSELECT * FROM UNNEST(\n    {})\nON CONFLICT ({}) DO UPDATE SET\n    {}\n\
         -- A fact that loses everywhere writes nothing.\nWHERE {}",
        table.name,
        wrapped(&names),
        wrapped(&arrays),
        key.join(", "),
        assignments.join(",\n    "),
        newer.join("\n   OR ")
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
