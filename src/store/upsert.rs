//! [`Rows`] → tables: one upsert per table, whole batches by `UNNEST`, in key order.
//!
//! The statements are written from the descriptions in `mirror::tables`, once per process, and stand as text in
//! `tests/it/data/statements.sql`, where they are reviewed. The rule "the greater stamp wins" stands in them for the second
//! time: `EXCLUDED.x_stamp > x_stamp` and `GREATEST`; bytes of a stamp compare as stamps do. The set of ends is joined by
//! a select, which only batches with a create or a destroy send. Tables are named without a schema, so that the
//! connection's search path decides which.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use sqlx::postgres::PgArguments;
use sqlx::query::Query;
use sqlx::{PgConnection, Postgres};

use crate::mirror::tables::{self, Columns, StampJoin, Table};
use crate::mirror::{EARLIER_ENDS_MAX, GroupKey, GroupRow, Rows};
use crate::model::{FieldKey, Stamp, TopicId, UserId};

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
    ended_groups: String,
    members: String,
    fields: String,
    attributes: String,
    topics: String,
}

static STATEMENTS: LazyLock<Statements> = LazyLock::new(|| Statements {
    groups: statement(&tables::GROUPS, Sets::Without),
    ended_groups: statement(&tables::GROUPS, Sets::With),
    members: statement(&tables::MEMBERS, Sets::Without),
    fields: statement(&tables::USER_DEFINED_FIELDS, Sets::Without),
    attributes: statement(&tables::ATTRIBUTES, Sets::Without),
    topics: statement(&tables::TOPICS, Sets::Without),
});

/// Whether an upsert joins sets of ends as well. The select in it costs the server some 30 µs per statement even where
/// no row needs it, so a batch without a create and a destroy is sent without.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sets {
    /// Every column.
    With,
    /// Registers and barriers alone: the sets that are stored stay.
    Without,
}

impl Sets {
    fn columns<R>(self, table: &Table<R>) -> impl Iterator<Item = &Columns<R>> {
        table.columns.iter().filter(move |columns| self == Self::With || columns.join == StampJoin::Greatest)
    }
}

/// The upsert of a table as it is sent.
#[must_use]
pub fn statement<R>(table: &Table<R>, sets: Sets) -> String {
    let key: Vec<&str> = ["sdk_app_id", "group_id"].into_iter().chain(table.key).collect();
    let (mut names, mut types): (Vec<&str>, Vec<&str>) = (key.clone(), vec!["bigint"]);
    types.resize(key.len(), "text");
    let (mut assignments, mut newer) = (Vec::new(), Vec::new());
    for columns in sets.columns(table) {
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
    values: Vec<Vec<Option<&'a str>>>,
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
    table: &Table<R>,
    sets: Sets,
    rows: &(impl ExactSizeIterator<Item = &'a R> + Clone),
) -> PgQuery<'q> {
    for columns in sets.columns(table) {
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
    let (sets, statement) = if rows.groups.values().any(GroupRow::has_end) {
        (Sets::With, &STATEMENTS.ended_groups)
    } else {
        (Sets::Without, &STATEMENTS.groups)
    };
    let query = sqlx::query(statement.as_str()).bind(apps).bind(groups);
    bind_registers(query, &tables::GROUPS, sets, &rows.groups.values()).execute(conn).await.map(drop)
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
    bind_registers(query, table, Sets::Without, &rows.values()).execute(conn).await.map(drop)
}
