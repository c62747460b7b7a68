//! The mirror as comparable lines: what the tables hold, and what they would hold after a fold of the ledger.
//!
//! Everything is text here, stamps in hex, so that a row which no fold could have made (a stamp of odd length, an unknown
//! role) is a difference like any other and no error. The columns are those of the descriptions in `mirror::tables`;
//! generated columns follow from them and are left out.

use std::borrow::Cow;
use std::collections::BTreeMap;

use sqlx::{AssertSqlSafe, PgConnection};

use super::upsert::wrapped;
use crate::mirror::tables::{self, Table};
use crate::mirror::{GroupKey, Rows};

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
    /// The names of the values of a line, and whether each is a stamp.
    pub columns: Vec<(String, bool)>,
}

/// The five tables of the mirror, in the order in which transactions write them.
#[must_use]
pub fn tables() -> [TableColumns; 5] {
    [
        columns_of(&tables::GROUPS),
        columns_of(&tables::MEMBERS),
        columns_of(&tables::USER_DEFINED_FIELDS),
        columns_of(&tables::ATTRIBUTES),
        columns_of(&tables::TOPICS),
    ]
}

fn columns_of<R>(table: &Table<R>) -> TableColumns {
    let columns = table.columns.iter().flat_map(|columns| {
        let values = columns.values.iter().map(|name| ((*name).to_owned(), false));
        values.chain([(columns.stamp.clone(), true)])
    });
    TableColumns { table: table.name, key: table.key, columns: columns.collect() }
}

impl TableColumns {
    /// The statement that reads the lines of a range of groups.
    #[must_use]
    pub fn select(&self) -> String {
        let shown = |(name, is_stamp): &(String, bool)| {
            if *is_stamp { format!("encode({name}, 'hex')") } else { name.clone() }
        };
        let columns: Vec<String> = self.columns.iter().map(shown).collect();
        format!(
            "SELECT sdk_app_id, group_id, {}, ARRAY[\n    {}]\n  FROM {}\n WHERE (sdk_app_id, group_id) > ($1, $2) AND \
             (sdk_app_id, group_id) <= ($3, $4)",
            self.key.unwrap_or("''"),
            wrapped(&columns),
            self.table
        )
    }
}

/// A range of groups: after the first, up to and with the last. See [`ALL`].
pub type Range<'a> = ((i64, &'a str), (i64, &'a str));

/// Every group: app ids lie between 0 and the greatest number, both excluded.
pub const ALL: Range<'static> = ((0, ""), (i64::MAX, ""));

type Line = (i64, String, String, Vec<Option<String>>);

/// What the tables hold in a range of groups.
///
/// # Errors
/// A statement's.
pub async fn of_tables(conn: &mut PgConnection, (after, last): Range<'_>) -> Result<Lines, sqlx::Error> {
    let mut lines = Lines::new();
    for table in tables() {
        let query = sqlx::query_as(AssertSqlSafe(table.select())).bind(after.0).bind(after.1);
        let rows: Vec<Line> = query.bind(last.0).bind(last.1).fetch_all(&mut *conn).await?;
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
    let members = rows.members.iter().map(|((group, user), row)| (group, user.as_str(), row));
    add(&mut lines, &tables::MEMBERS, members);
    let fields = rows.user_defined_fields.iter().map(|((group, key), row)| (group, key.as_str(), row));
    add(&mut lines, &tables::USER_DEFINED_FIELDS, fields);
    let attributes = rows.attributes.iter().map(|((group, key), row)| (group, key.as_str(), row));
    add(&mut lines, &tables::ATTRIBUTES, attributes);
    let topics = rows.topics.iter().map(|((group, topic), row)| (group, topic.as_str(), row));
    add(&mut lines, &tables::TOPICS, topics);
    lines
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

fn hex(stamp: &[u8]) -> String {
    stamp.iter().map(|byte| format!("{byte:02x}")).collect()
}
