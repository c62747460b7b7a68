//! The mirror as comparable lines: what the tables hold, and what they would hold after a fold of the ledger.
//!
//! Everything is text here, stamps in hex, so that a row which no fold could have made (a stamp of odd length, an unknown
//! role) is a difference like any other and no error. The columns are those of the descriptions in `mirror::tables`;
//! generated columns follow from them and are left out.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use sqlx::{AssertSqlSafe, PgConnection};

use super::upsert::{stored, wrapped};
use crate::mirror::tables::{self, Table};
use crate::mirror::{GroupKey, ListRange, MemberKey, Rows};
use crate::model::{FieldKey, TopicId, UserId};

/// The key of a line: table, app, group, and user, key or topic (empty for a group).
pub type LineKey = (&'static str, i64, String, String);

/// Lines in key order.
pub type Lines = BTreeMap<LineKey, Vec<Option<String>>>;

/// A table with the names of a line's values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableColumns {
    /// Its name.
    pub table: &'static str,
    /// The last column of its key; none for the groups themselves.
    pub key: Option<&'static str>,
    /// The names of the values of a line, and the type of each; a stamp is `bytea`.
    pub columns: Vec<(String, &'static str)>,
}

/// The six tables of the mirror, in the order in which transactions write them.
#[must_use]
pub fn tables() -> [TableColumns; 6] {
    [
        columns_of(&tables::GROUPS),
        columns_of(&tables::RANGES),
        columns_of(&tables::MEMBERS),
        columns_of(&tables::USER_DEFINED_FIELDS),
        columns_of(&tables::ATTRIBUTES),
        columns_of(&tables::TOPICS),
    ]
}

fn columns_of<R>(table: &Table<R>) -> TableColumns {
    let columns = table.columns.iter().flat_map(|columns| {
        let values = columns.values.iter().zip(columns.types).map(|(name, kind)| ((*name).to_owned(), *kind));
        values.chain([(columns.stamp.clone(), "bytea")])
    });
    TableColumns { table: table.name, key: table.key, columns: columns.collect() }
}

impl TableColumns {
    /// The statement that reads the lines of a range of groups.
    #[must_use]
    pub fn select(&self) -> String {
        format!(
            "{} FROM {} t\n WHERE (sdk_app_id, group_id) > ($1, $2) AND (sdk_app_id, group_id) <= ($3, $4)",
            self.select_columns(),
            self.table
        )
    }

    /// The statement that reads the lines of some groups. `OFFSET 0` keeps the look at one group a plan of its own, by the
    /// key: of a join with a table that was filled a moment ago, and has no statistics yet, the planner reads all rows.
    #[must_use]
    pub fn select_groups(&self) -> String {
        format!(
            "{} FROM UNNEST($1::bigint[], $2::text[]) AS k (app, id)
 CROSS JOIN LATERAL (SELECT * FROM {} x WHERE x.sdk_app_id = k.app AND x.group_id = k.id OFFSET 0) t",
            self.select_columns(),
            self.table
        )
    }

    fn select_columns(&self) -> String {
        let shown = |(name, kind): &(String, &str)| match *kind {
            "bytea" => format!("encode({name}, 'hex')"),
            "text" => name.clone(),
            _ => format!("{name}::text"),
        };
        let columns: Vec<String> = self.columns.iter().map(shown).collect();
        let key = self.key.unwrap_or("''");
        format!("SELECT sdk_app_id, group_id, {key}, ARRAY[\n    {}]\n ", wrapped(&columns))
    }
}

/// A range of groups: after the first, up to and with the last. See [`ALL`].
pub type Range<'a> = ((i64, &'a str), (i64, &'a str));

/// Every group: app ids lie between 0 and the greatest number, both excluded.
pub const ALL: Range<'static> = ((0, ""), (i64::MAX, ""));

type Line = (i64, String, String, Vec<Option<String>>);

/// What of some groups is read beside their own rows.
#[derive(Debug, Clone, Default)]
pub struct HeldParts<'a> {
    /// Groups all of whose memberships are read.
    pub whole: BTreeSet<&'a GroupKey>,
    /// Large groups whose memberships in some ranges are read, and the owner's.
    pub ranged: BTreeSet<&'a GroupKey>,
    /// Those ranges.
    pub ranges: BTreeSet<&'a str>,
    /// Groups whose owner's membership is read, which decides what is shown of the group.
    pub owned: BTreeSet<&'a GroupKey>,
    /// Further users whose memberships are read: an owner to be.
    pub named: BTreeSet<(&'a GroupKey, &'a UserId)>,
    /// Whether user-defined fields are read.
    pub fields: bool,
    /// Whether attributes are.
    pub attributes: bool,
    /// Whether topics are.
    pub topics: bool,
}

impl<'a> HeldParts<'a> {
    /// Everything of these groups.
    pub fn all(groups: impl IntoIterator<Item = &'a GroupKey>) -> Self {
        let whole = groups.into_iter().collect();
        Self { whole, fields: true, attributes: true, topics: true, ..Self::default() }
    }

    /// True where a table holds something of it, that of the memberships aside. The ranges of a large group say when its
    /// members were listed.
    fn has(&self, table: &str) -> bool {
        match table {
            name if name == tables::RANGES.name => {
                !(self.whole.is_empty() && self.ranged.is_empty() && self.owned.is_empty())
            }
            name if name == tables::USER_DEFINED_FIELDS.name => self.fields,
            name if name == tables::ATTRIBUTES.name => self.attributes,
            name if name == tables::TOPICS.name => self.topics,
            _ => true,
        }
    }
}

const OF_RANGES: &str = r"
 WHERE left(encode(sha256(convert_to(t.user_id, 'UTF8')), 'hex'), 2) = ANY($3)
    OR t.user_id = (SELECT g.owner FROM groups g WHERE g.sdk_app_id = t.sdk_app_id AND g.group_id = t.group_id)";

/// Owners of groups, and users by name, each once.
const OF_USERS: &str = r"FROM (SELECT o.app, o.id, g.owner AS person FROM UNNEST($1::bigint[], $2::text[]) AS o (app, id)
         CROSS JOIN LATERAL (SELECT x.owner FROM groups x WHERE x.sdk_app_id = o.app AND x.group_id = o.id OFFSET 0) g
         WHERE g.owner IS NOT NULL
        UNION
        SELECT n.app, n.id, n.person FROM UNNEST($3::bigint[], $4::text[], $5::text[]) AS n (app, id, person)) k
 CROSS JOIN LATERAL (SELECT * FROM group_members x
                      WHERE x.sdk_app_id = k.app AND x.group_id = k.id AND x.user_id = k.person OFFSET 0) t";

/// Which members of a range are looked at. The default: all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MemberWindow {
    /// From this one on; without it from the first, and with all that is no membership.
    pub from: Option<MemberKey>,
    /// Only before this one.
    pub before: Option<MemberKey>,
}

impl MemberWindow {
    /// Whether a member is looked at.
    #[must_use]
    pub fn has(&self, group: &GroupKey, user: &UserId) -> bool {
        let key = (group, user);
        self.from.as_ref().is_none_or(|from| key >= (&from.0, &from.1))
            && self.before.as_ref().is_none_or(|before| key < (&before.0, &before.1))
    }

    /// Whether a table has something in it.
    fn has_table(&self, table: &str) -> bool {
        self.from.is_none() || table == tables::MEMBERS.name
    }
}

const OF_WINDOW: &str = r"
   AND ($5::bigint IS NULL OR (sdk_app_id, group_id, user_id) >= ($5, $6, $7))
   AND ($8::bigint IS NULL OR (sdk_app_id, group_id, user_id) < ($8, $9, $10))";

/// What the tables hold in a range of groups.
///
/// # Errors
/// A statement's.
pub async fn of_tables(conn: &mut PgConnection, range: Range<'_>) -> Result<Lines, sqlx::Error> {
    of_window(conn, range, &MemberWindow::default()).await
}

/// What the tables hold in a range of groups, with a window of its members.
///
/// # Errors
/// A statement's.
pub async fn of_window(
    conn: &mut PgConnection,
    (after, last): Range<'_>,
    window: &MemberWindow,
) -> Result<Lines, sqlx::Error> {
    let mut lines = Lines::new();
    for table in tables().into_iter().filter(|table| window.has_table(table.table)) {
        let is_of_members = table.table == tables::MEMBERS.name;
        let statement = format!("{}{}", table.select(), if is_of_members { OF_WINDOW } else { "" });
        let mut query =
            sqlx::query_as(AssertSqlSafe(statement)).bind(after.0).bind(after.1).bind(last.0).bind(last.1);
        for end in [&window.from, &window.before].into_iter().filter(|_| is_of_members) {
            let (group, user) = end.as_ref().map(|(group, user)| (group, user.as_str())).unzip();
            query = query
                .bind(group.map(|key| key.app.get()))
                .bind(group.map(|key| key.group.as_str()))
                .bind(user);
        }
        let rows: Vec<Line> = query.fetch_all(&mut *conn).await?;
        lines.extend(rows.into_iter().map(|(app, group, key, values)| {
            assert_eq!(values.len(), table.columns.len(), "a line has a value for each of its columns");
            ((table.table, app, group, key), values)
        }));
    }
    Ok(lines)
}

/// What the tables would hold after a fold.
#[must_use]
pub fn of_rows(rows: &Rows) -> Lines {
    let mut lines = Lines::new();
    let groups = rows.groups.iter().map(|(group, row)| (group, "", row));
    add(&mut lines, &tables::GROUPS, groups);
    let ranges = rows.ranges();
    add(&mut lines, &tables::RANGES, ranges.iter().map(|((group, range), row)| (group, range.as_str(), row)));
    let members: Vec<_> = rows
        .members
        .iter()
        .map(|((group, user), row)| (group, user, stored(rows, group, user, row)))
        .collect();
    let members = members.iter().map(|(group, user, row)| (*group, user.as_str(), row.as_ref()));
    add(&mut lines, &tables::MEMBERS, members);
    let fields = rows.user_defined_fields.iter().map(|((group, key), row)| (group, key.as_str(), row));
    add(&mut lines, &tables::USER_DEFINED_FIELDS, fields);
    let attributes = rows.attributes.iter().map(|((group, key), row)| (group, key.as_str(), row));
    add(&mut lines, &tables::ATTRIBUTES, attributes);
    let topics = rows.topics.iter().map(|((group, topic), row)| (group, topic.as_str(), row));
    add(&mut lines, &tables::TOPICS, topics);
    lines
}

/// The same of a window of the members, which are all that the rows have.
#[must_use]
pub fn of_window_of_rows(rows: &Rows, window: &MemberWindow) -> Lines {
    let mut lines = of_rows(rows);
    lines.retain(|(table, ..), _| window.has_table(table));
    lines
}

/// What the tables hold of some groups, as rows: their own, and these parts.
///
/// # Errors
/// A statement's.
pub async fn rows_of_groups(
    conn: &mut PgConnection,
    groups: &[&GroupKey],
    parts: &HeldParts<'_>,
) -> Result<Rows, sqlx::Error> {
    if groups.is_empty() {
        return Ok(Rows::default());
    }
    let (apps, ids) = bound(groups.iter().copied());
    let mut found = Vec::new();
    for table in tables() {
        let lines: Vec<Line> = if table.table == tables::MEMBERS.name {
            members_of(conn, &table, parts).await?
        } else if parts.has(table.table) {
            let query = sqlx::query_as(AssertSqlSafe(table.select_groups())).bind(&apps).bind(&ids);
            query.fetch_all(&mut *conn).await?
        } else {
            Vec::new()
        };
        found.push(lines);
    }
    let keys: BTreeMap<(i64, &str), &GroupKey> =
        groups.iter().map(|key| ((key.app.get(), key.group.as_str()), *key)).collect();
    let key = |app: i64, group: &str| keys.get(&(app, group)).map(|key| (*key).clone());
    Ok(rows_of(found, key))
}

/// The memberships of some groups that are wanted: they are most of what the tables hold.
async fn members_of(
    conn: &mut PgConnection,
    table: &TableColumns,
    parts: &HeldParts<'_>,
) -> Result<Vec<Line>, sqlx::Error> {
    let mut lines = Vec::new();
    if !parts.whole.is_empty() {
        let (apps, ids) = bound(parts.whole.iter().copied());
        let query = sqlx::query_as(AssertSqlSafe(table.select_groups())).bind(apps).bind(ids);
        lines = query.fetch_all(&mut *conn).await?;
    }
    if !parts.ranged.is_empty() {
        let (apps, ids) = bound(parts.ranged.iter().copied());
        let statement = AssertSqlSafe(format!("{}{OF_RANGES}", table.select_groups()));
        let ranges: Vec<&str> = parts.ranges.iter().copied().collect();
        let query = sqlx::query_as(statement).bind(apps).bind(ids).bind(ranges);
        lines.extend(query.fetch_all(&mut *conn).await?);
    }
    if !(parts.owned.is_empty() && parts.named.is_empty()) {
        let (apps, ids) = bound(parts.owned.iter().copied());
        let (named_apps, named_ids) = bound(parts.named.iter().map(|(group, _)| *group));
        let users: Vec<&str> = parts.named.iter().map(|(_, user)| user.as_str()).collect();
        let statement = AssertSqlSafe(format!("{}{OF_USERS}", table.select_columns()));
        let query = sqlx::query_as(statement).bind(apps).bind(ids).bind(named_apps).bind(named_ids);
        lines.extend(query.bind(users).fetch_all(conn).await?);
    }
    Ok(lines)
}

fn bound<'a>(groups: impl Iterator<Item = &'a GroupKey>) -> (Vec<i64>, Vec<&'a str>) {
    groups.map(|key| (key.app.get(), key.group.as_str())).unzip()
}

/// Lines of the tables, in their order, as rows. A key that no id can be is left out: no fold makes it.
fn rows_of(found: Vec<Vec<Line>>, key: impl Fn(i64, &str) -> Option<GroupKey>) -> Rows {
    let mut rows = Rows::default();
    let mut tables = found.into_iter();
    let mut next = || tables.next().unwrap_or_default().into_iter();
    for (app, group, _, values) in next() {
        rows.groups.extend(key(app, &group).map(|key| (key, row_of(&tables::GROUPS, &values))));
    }
    for (app, group, range, values) in next() {
        let of = key(app, &group).and_then(|key| rows.groups.get_mut(&key));
        if let (Some(of), Some(range)) = (of, ListRange::parse(&range)) {
            of.ranges.insert(range, row_of(&tables::RANGES, &values));
        }
    }
    for (app, group, user, values) in next() {
        if let (Some(key), Ok(user)) = (key(app, &group), UserId::parse(&user)) {
            let mut member = row_of(&tables::MEMBERS, &values);
            if let Some(of) = rows.groups.get(&key) {
                of.complete(&user, &mut member);
            }
            rows.members.insert((key, user), member);
        }
    }
    for (app, group, field, values) in next() {
        if let (Some(key), Ok(field)) = (key(app, &group), FieldKey::parse(&field)) {
            rows.user_defined_fields.insert((key, field), row_of(&tables::USER_DEFINED_FIELDS, &values));
        }
    }
    for (app, group, field, values) in next() {
        if let (Some(key), Ok(field)) = (key(app, &group), FieldKey::parse(&field)) {
            rows.attributes.insert((key, field), row_of(&tables::ATTRIBUTES, &values));
        }
    }
    for (app, group, topic, values) in next() {
        if let (Some(key), Ok(topic)) = (key(app, &group), TopicId::parse(&topic)) {
            rows.topics.insert((key, topic), row_of(&tables::TOPICS, &values));
        }
    }
    rows
}

/// One line as a row.
fn row_of<R: Default>(table: &Table<R>, mut values: &[Option<String>]) -> R {
    let mut row = R::default();
    for columns in &table.columns {
        let (own, rest) = values.split_at(columns.values.len());
        let [stamp, rest @ ..] = rest else { unreachable!("a line has a value for each of its columns") };
        columns.write(&mut row, own, &unhex(stamp.as_deref().unwrap_or_default()));
        values = rest;
    }
    row
}

pub(super) fn unhex(text: &str) -> Vec<u8> {
    let digits = text.as_bytes().chunks_exact(2);
    digits.filter_map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()).collect()
}

fn add<'a, R: 'a>(
    lines: &mut Lines,
    table: &Table<R>,
    rows: impl Iterator<Item = (&'a GroupKey, &'a str, &'a R)>,
) {
    for (group, key, row) in rows {
        let values = table.columns.iter().flat_map(|columns| {
            let cell = columns.read(row);
            let values = cell.values.into_iter().take(columns.values.len());
            values.map(|value| value.map(Cow::into_owned)).chain([Some(hex(cell.stamp))])
        });
        let key = (table.name, group.app.get(), group.group.as_str().to_owned(), key.to_owned());
        lines.insert(key, values.collect());
    }
}

pub(super) fn hex(stamp: &[u8]) -> String {
    stamp.iter().map(|byte| format!("{byte:02x}")).collect()
}
