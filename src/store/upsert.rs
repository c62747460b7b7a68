//! [`Rows`] → tables: one upsert per table, whole batches by `UNNEST`, in key order.
//!
//! The statements are written from the descriptions in `mirror::tables`, once per process, and stand as text in
//! `tests/it/data/statements.sql`, where they are reviewed. The rule "the greater stamp wins" stands in them for the second
//! time: `EXCLUDED.x_stamp > x_stamp` and `GREATEST`, and nothing else; bytes of a stamp compare as stamps do. Tables are
//! named without a schema, so that the connection's search path decides which.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::LazyLock;

use sqlx::postgres::PgArguments;
use sqlx::query::Query;
use sqlx::{PgConnection, Postgres};

use crate::mirror::tables::{self, Columns, Table};
use crate::mirror::{GroupKey, Rows};
use crate::model::{FieldKey, TopicId, UserId};

/// Writes the rows; what is stored and newer stays. In this order in every transaction, so that no two deadlock:
/// groups, members, user-defined fields, attributes, topics; each by key.
///
/// # Errors
/// A statement's.
pub async fn upsert(conn: &mut PgConnection, rows: &Rows) -> Result<(), sqlx::Error> {
    let statements: &'static Statements = &STATEMENTS;
    upsert_groups(conn, rows).await?;
    upsert_keyed(conn, &statements.members, &tables::MEMBERS, &rows.members, UserId::as_str).await?;
    let fields = &rows.user_defined_fields;
    upsert_keyed(conn, &statements.fields, &tables::USER_DEFINED_FIELDS, fields, FieldKey::as_str).await?;
    upsert_keyed(conn, &statements.attributes, &tables::ATTRIBUTES, &rows.attributes, FieldKey::as_str)
        .await?;
    upsert_keyed(conn, &statements.topics, &tables::TOPICS, &rows.topics, TopicId::as_str).await
}

struct Statements {
    groups: String,
    members: String,
    fields: String,
    attributes: String,
    topics: String,
}

static STATEMENTS: LazyLock<Statements> = LazyLock::new(|| Statements {
    groups: statement(&tables::GROUPS),
    members: statement(&tables::MEMBERS),
    fields: statement(&tables::USER_DEFINED_FIELDS),
    attributes: statement(&tables::ATTRIBUTES),
    topics: statement(&tables::TOPICS),
});

/// The upsert of a table as it is sent.
#[must_use]
pub fn statement<R>(table: &Table<R>) -> String {
    let key: Vec<&str> = ["sdk_app_id", "group_id"].into_iter().chain(table.key).collect();
    let (mut names, mut types): (Vec<&str>, Vec<&str>) = (key.clone(), vec!["bigint"]);
    types.resize(key.len(), "text");
    let (mut sets, mut newer) = (Vec::new(), Vec::new());
    for columns in &table.columns {
        let stamp = &columns.stamp;
        for value in &columns.values {
            names.push(value);
            types.push("text");
            sets.push(format!(
                "{value} = CASE WHEN EXCLUDED.{stamp} > t.{stamp}\n        THEN EXCLUDED.{value} ELSE t.{value} END"
            ));
        }
        names.push(stamp);
        types.push("bytea");
        sets.push(format!("{stamp} = GREATEST(t.{stamp}, EXCLUDED.{stamp})"));
        newer.push(format!("EXCLUDED.{stamp} > t.{stamp}"));
    }
    assert_eq!(names.len(), types.len(), "every column has a type");
    let arrays: Vec<String> =
        types.iter().zip(1..).map(|(kind, number)| format!("${number}::{kind}[]")).collect();
    format!(
        "INSERT INTO {} AS t (\n    {})\nSELECT * FROM UNNEST(\n    {})\nON CONFLICT ({}) DO UPDATE SET\n    {}\n\
         -- A fact that loses everywhere writes nothing.\nWHERE {}",
        table.name,
        wrapped(&names),
        wrapped(&arrays),
        key.join(", "),
        sets.join(",\n    "),
        newer.join("\n   OR ")
    )
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
            stamps.push(cell.stamp.as_bytes());
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
    table: &Table<R>,
    rows: &(impl ExactSizeIterator<Item = &'a R> + Clone),
) -> PgQuery<'q> {
    for columns in &table.columns {
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
    let query = sqlx::query(STATEMENTS.groups.as_str()).bind(apps).bind(groups);
    bind_registers(query, &tables::GROUPS, &rows.groups.values()).execute(conn).await.map(drop)
}

/// The same for a table whose key has a third column.
async fn upsert_keyed<K: Ord, R>(
    conn: &mut PgConnection,
    statement: &'static str,
    table: &Table<R>,
    rows: &BTreeMap<(GroupKey, K), R>,
    text: fn(&K) -> &str,
) -> Result<(), sqlx::Error> {
    if rows.is_empty() {
        return Ok(());
    }
    let (apps, groups) = group_keys(rows.keys().map(|(group, _)| group));
    let keys: Vec<&str> = rows.keys().map(|(_, key)| text(key)).collect();
    let query = sqlx::query(statement).bind(apps).bind(groups).bind(keys);
    bind_registers(query, table, &rows.values()).execute(conn).await.map(drop)
}
