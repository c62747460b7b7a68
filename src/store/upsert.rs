//! [`Rows`] → tables: one upsert per table, whole batches by `UNNEST`, in key order.
//!
//! The statements are written from the descriptions in `mirror::tables`, once per process, and stand as text in
//! `tests/it/data/statements.sql`, where they are reviewed. The rule "the greater stamp wins" stands in them for the second
//! time: `EXCLUDED.x_stamp > x_stamp` and `GREATEST`; bytes of a stamp compare as stamps do. The set of ends is joined by
//! a select, which only batches with a create or a destroy send. What lists say of members is merged in Rust alone, under the
//! lock of the group, and written as it is. Tables are named without a schema, so that the connection's search path decides
//! which.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::LazyLock;

use sqlx::postgres::PgArguments;
use sqlx::query::Query;
use sqlx::{PgConnection, Postgres};

use crate::mirror::tables::{self, Columns, Origin, StampJoin, Table};
use crate::mirror::{EARLIER_ENDS_MAX, GroupKey, GroupRow, ListRange, MemberRow, Rows};
use crate::model::{FieldKey, Stamp, TopicId, UserId};

/// Writes the rows; what is stored and newer stays. In this order in every transaction, so that no two deadlock:
/// groups, their ranges, members, user-defined fields, attributes, topics; each by key. What lists say of members is left
/// out: see [`replace_listed`].
///
/// # Errors
/// A statement's.
pub async fn upsert(conn: &mut PgConnection, rows: &Rows) -> Result<(), sqlx::Error> {
    let statements: &'static Statements = &STATEMENTS;
    upsert_groups(conn, rows).await?;
    upsert_keyed(conn, &statements.ranges, &tables::RANGES, &rows.ranges(), ListRange::as_str).await?;
    let members = reported(&rows.members);
    upsert_keyed(conn, &statements.members, &tables::MEMBERS, &members, UserId::as_str).await?;
    let fields = &rows.user_defined_fields;
    upsert_keyed(conn, &statements.fields, &tables::USER_DEFINED_FIELDS, fields, FieldKey::as_str).await?;
    upsert_keyed(conn, &statements.attributes, &tables::ATTRIBUTES, &rows.attributes, FieldKey::as_str)
        .await?;
    upsert_keyed(conn, &statements.topics, &tables::TOPICS, &rows.topics, TopicId::as_str).await
}

/// The upserts of a table: that of the hot path is the shortest, because every column costs each callback.
struct Upserts {
    of_callbacks: String,
    with_ends: String,
    of_reads: String,
}

struct Statements {
    groups: Upserts,
    ranges: Upserts,
    members: Upserts,
    fields: Upserts,
    attributes: Upserts,
    topics: Upserts,
    listed: String,
}

static STATEMENTS: LazyLock<Statements> = LazyLock::new(|| Statements {
    groups: upserts(&tables::GROUPS),
    ranges: upserts(&tables::RANGES),
    members: upserts(&tables::MEMBERS),
    fields: upserts(&tables::USER_DEFINED_FIELDS),
    attributes: upserts(&tables::ATTRIBUTES),
    topics: upserts(&tables::TOPICS),
    listed: replace_listed_statement(),
});

fn upserts<R>(table: &Table<R>) -> Upserts {
    Upserts {
        of_callbacks: statement(table, OF_CALLBACKS),
        with_ends: statement(table, WITH_ENDS),
        of_reads: statement(table, OF_READS),
    }
}

/// The columns that a batch without a create, a destroy and a read names.
pub const OF_CALLBACKS: &[Origin] = &[Origin::Callbacks];

/// The columns that a batch of callbacks with a create or a destroy names.
pub const WITH_ENDS: &[Origin] = &[Origin::Callbacks, Origin::Ends];

/// The columns that a batch with a read names: all that have a stamp of their own.
pub const OF_READS: &[Origin] = &[Origin::Callbacks, Origin::Ends, Origin::Reads];

/// The upsert of the columns of a table that these raise, as it is sent.
#[must_use]
pub fn statement<R>(table: &Table<R>, origins: &[Origin]) -> String {
    let columns: Vec<&Columns<R>> = of_origins(table, origins).collect();
    let (mut assignments, mut newer) = (Vec::new(), Vec::new());
    for columns in &columns {
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
    format!(
        "{}{}\n-- A fact that loses everywhere writes nothing.\nWHERE {}",
        insert(table, &columns),
        assignments.join(",\n    "),
        newer.join("\n   OR ")
    )
}

/// How what lists say of members is written: as it is, because it was merged under the lock of the group.
#[must_use]
pub fn replace_listed_statement() -> String {
    let columns: Vec<_> = of_origins(&tables::MEMBERS, &[Origin::Lists]).collect();
    let names = columns.iter().flat_map(|columns| columns.values.iter().copied().chain([&*columns.stamp]));
    let sets: Vec<String> = names.map(|name| format!("{name} = EXCLUDED.{name}")).collect();
    format!("{}{}", insert(&tables::MEMBERS, &columns), sets.join(",\n    "))
}

fn of_origins<'t, R>(table: &'t Table<R>, origins: &'t [Origin]) -> impl Iterator<Item = &'t Columns<R>> {
    table.columns.iter().filter(|columns| origins.contains(&columns.origin))
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
    (table, origins): (&Table<R>, &[Origin]),
    rows: &(impl ExactSizeIterator<Item = &'a R> + Clone),
) -> PgQuery<'q> {
    for columns in of_origins(table, origins) {
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
    let columns: Vec<_> = of_origins(&tables::MEMBERS, OF_READS).collect();
    let is_reported = |row: &MemberRow| columns.iter().any(|columns| !columns.read(row).stamp.is_empty());
    let reported = members.iter().filter(|(_, row)| is_reported(row));
    Cow::Owned(reported.map(|(key, row)| (key.clone(), row.clone())).collect())
}

/// Chooses the upsert: the one that names every column of which a row may raise something, and as few others as can be.
fn choose<'s, 'a, R: 'a>(
    statements: &'s Upserts,
    table: &Table<R>,
    mut rows: impl Iterator<Item = &'a R>,
    has_end: bool,
) -> (&'s str, &'static [Origin]) {
    let raised: Vec<_> = of_origins(table, &[Origin::Reads]).collect();
    let is_read = |row: &R| raised.iter().any(|columns| !columns.read(row).stamp.is_empty());
    let is_of_reads = raised.len() == table.columns.len();
    if is_of_reads || !raised.is_empty() && rows.any(is_read) {
        (&statements.of_reads, OF_READS)
    } else if has_end {
        (&statements.with_ends, WITH_ENDS)
    } else {
        (&statements.of_callbacks, OF_CALLBACKS)
    }
}

async fn upsert_groups(conn: &mut PgConnection, rows: &Rows) -> Result<(), sqlx::Error> {
    if rows.groups.is_empty() {
        return Ok(());
    }
    let has_end = rows.groups.values().any(GroupRow::has_end);
    let (statement, origins) = choose(&STATEMENTS.groups, &tables::GROUPS, rows.groups.values(), has_end);
    let (apps, groups) = group_keys(rows.groups.keys());
    let query = sqlx::query(statement).bind(apps).bind(groups);
    bind_registers(query, (&tables::GROUPS, origins), &rows.groups.values()).execute(conn).await.map(drop)
}

/// The same for a table whose key has a third column.
async fn upsert_keyed<K: Ord, R>(
    conn: &mut PgConnection,
    statements: &'static Upserts,
    table: &Table<R>,
    rows: &BTreeMap<(GroupKey, K), R>,
    text: fn(&K) -> &str,
) -> Result<(), sqlx::Error> {
    if rows.is_empty() {
        return Ok(());
    }
    let (statement, origins) = choose(statements, table, rows.values(), false);
    let (apps, groups) = group_keys(rows.keys().map(|(group, _)| group));
    let keys: Vec<&str> = rows.keys().map(|(_, key)| text(key)).collect();
    let query = sqlx::query(statement).bind(apps).bind(groups).bind(keys);
    bind_registers(query, (table, origins), &rows.values()).execute(conn).await.map(drop)
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
    let query = sqlx::query(STATEMENTS.listed.as_str()).bind(apps).bind(groups).bind(users);
    let rows = members.iter().map(|(.., row)| row.as_ref());
    bind_registers(query, (&tables::MEMBERS, &[Origin::Lists]), &rows).execute(conn).await.map(drop)
}
