//! Checkpoints: the fold of the entries that were pruned, one row for each row of the mirror that they made.
//!
//! A row holds the columns of the description in `mirror::tables` that are not empty, by their names, as JSON: a column that a
//! later version adds is empty in what an earlier one wrote. A fold takes the checkpoint of a group first and its entries after
//! that, because a membership in its stored form says no more than that it stands in the newest complete list of its group, which
//! is the one of the checkpoint. The statements work on the connection they are given.

use std::collections::BTreeMap;

use futures_util::stream::BoxStream;
use serde_json::{Map, Value};
use sqlx::{FromRow, PgConnection};

use super::ledger_walk::StoredGroup;
use super::lines::{MemberWindow, hex, unhex};
use super::upsert::stored;
use crate::mirror::tables::{self, Table};
use crate::mirror::{GroupKey, ListRange, Rows, group_key};
use crate::model::{FieldKey, GroupId, SdkAppId, TopicId, UserId};

/// Which table of the mirror a row is of, in the order in which they are read: what a membership says depends on its group.
const GROUP: i16 = 0;
const RANGE: i16 = 1;
const MEMBER: i16 = 2;
const USER_DEFINED_FIELD: i16 = 3;
const ATTRIBUTE: i16 = 4;
const TOPIC: i16 = 5;

/// A row of a checkpoint, as it is read.
#[derive(Debug, Clone, FromRow)]
pub struct CheckpointRow {
    /// The app.
    pub sdk_app_id: i64,
    /// The group.
    pub group_id: String,
    part: i16,
    key: String,
    registers: String,
}

/// The key of a row: app, group, table, and the last column of the key there.
type CheckpointKey = (i64, String, i16, String);

/// The rows of a checkpoint, with their registers.
pub type CheckpointRows = BTreeMap<CheckpointKey, Map<String, Value>>;

const OF_RANGE: &str = r"
SELECT sdk_app_id, group_id, part, key, registers::text AS registers FROM checkpoints
 WHERE (sdk_app_id, group_id) > ($1, $2) AND (sdk_app_id, group_id) <= ($3, $4)
 ORDER BY sdk_app_id, group_id, part, key";

/// The checkpoints of a range of groups: after one, up to and with another.
pub fn of_range<'a>(
    conn: &'a mut PgConnection,
    after: &'a StoredGroup,
    last: &'a StoredGroup,
) -> BoxStream<'a, Result<CheckpointRow, sqlx::Error>> {
    sqlx::query_as(OF_RANGE).bind(after.0).bind(&after.1).bind(last.0).bind(&last.1).fetch(conn)
}

const OF_GROUP: &str = r"
SELECT sdk_app_id, group_id, part, key, registers::text AS registers FROM checkpoints
 WHERE sdk_app_id = $1 AND group_id = $2
 ORDER BY part, key";

/// The checkpoint of one group.
pub fn of_group<'a>(
    conn: &'a mut PgConnection,
    group: &'a StoredGroup,
) -> BoxStream<'a, Result<CheckpointRow, sqlx::Error>> {
    sqlx::query_as(OF_GROUP).bind(group.0).bind(&group.1).fetch(conn)
}

const GROUP_AHEAD: &str = r"
SELECT sdk_app_id, group_id FROM checkpoints
 WHERE (sdk_app_id, group_id) > ($1, $2)
 ORDER BY sdk_app_id, group_id OFFSET $3 LIMIT 1";

/// The group of the row that lies so many behind the first one after a group; none where there are fewer.
///
/// # Errors
/// The statement's.
pub async fn group_ahead(
    conn: &mut PgConnection,
    after: &StoredGroup,
    rows: i64,
) -> Result<Option<StoredGroup>, sqlx::Error> {
    sqlx::query_as(GROUP_AHEAD).bind(after.0).bind(&after.1).bind(rows).fetch_optional(conn).await
}

/// Takes a row of a checkpoint into a fold that has no entry of its group yet. A membership outside of the window is left out.
pub fn take(rows: &mut Rows, row: &CheckpointRow, window: &MemberWindow) {
    let Some(group) = group_of(row) else { return };
    let user = UserId::parse(&row.key).ok();
    if row.part == MEMBER && !user.as_ref().is_some_and(|user| window.has(&group, user)) {
        return;
    }
    let registers: Map<String, Value> = serde_json::from_str(&row.registers).unwrap_or_default();
    match row.part {
        GROUP => {
            let before = rows.groups.insert(group, row_of(&tables::GROUPS, &registers));
            assert!(before.is_none(), "a checkpoint is read before the entries of its group");
        }
        RANGE => {
            if let (Some(of), Some(range)) = (rows.groups.get_mut(&group), ListRange::parse(&row.key)) {
                of.ranges.insert(range, row_of(&tables::RANGES, &registers));
            }
        }
        MEMBER => {
            let Some(user) = user else { return };
            let mut member = row_of(&tables::MEMBERS, &registers);
            if let Some(of) = rows.groups.get(&group) {
                of.complete(&user, &mut member);
            }
            rows.members.insert((group, user), member);
        }
        USER_DEFINED_FIELD | ATTRIBUTE => {
            let Ok(key) = FieldKey::parse(&row.key) else { return };
            if row.part == ATTRIBUTE {
                rows.attributes.insert((group, key), row_of(&tables::ATTRIBUTES, &registers));
            } else {
                let fields = &mut rows.user_defined_fields;
                fields.insert((group, key), row_of(&tables::USER_DEFINED_FIELDS, &registers));
            }
        }
        _ => {
            let Ok(topic) = TopicId::parse(&row.key) else { return };
            rows.topics.insert((group, topic), row_of(&tables::TOPICS, &registers));
        }
    }
}

/// A key that no id can be is left out: no fold makes it.
fn group_of(row: &CheckpointRow) -> Option<GroupKey> {
    let app = SdkAppId::parse(&row.sdk_app_id.to_string()).ok()?;
    Some(group_key(app, GroupId::parse(&row.group_id).ok()?))
}

/// The checkpoints that some rows are.
#[must_use]
pub fn of_rows(rows: &Rows) -> CheckpointRows {
    let mut found = CheckpointRows::new();
    let mut add = |group: &GroupKey, part: i16, key: &str, registers: Map<String, Value>| {
        found.insert((group.app.get(), group.group.as_str().to_owned(), part, key.to_owned()), registers);
    };
    for (group, row) in &rows.groups {
        add(group, GROUP, "", registers_of(&tables::GROUPS, row));
        for (range, stamp) in &row.ranges {
            add(group, RANGE, range.as_str(), registers_of(&tables::RANGES, stamp));
        }
    }
    for ((group, user), row) in &rows.members {
        let stored = stored(rows, group, user, row);
        add(group, MEMBER, user.as_str(), registers_of(&tables::MEMBERS, &stored));
    }
    for ((group, key), row) in &rows.user_defined_fields {
        let registers = registers_of(&tables::USER_DEFINED_FIELDS, row);
        add(group, USER_DEFINED_FIELD, key.as_str(), registers);
    }
    for ((group, key), row) in &rows.attributes {
        add(group, ATTRIBUTE, key.as_str(), registers_of(&tables::ATTRIBUTES, row));
    }
    for ((group, topic), row) in &rows.topics {
        add(group, TOPIC, topic.as_str(), registers_of(&tables::TOPICS, row));
    }
    found
}

/// True for what a membership, or anything but the group and its lists, says.
#[must_use]
pub fn is_of_window((.., part, _): &CheckpointKey) -> bool {
    *part > RANGE
}

/// The columns of a row that are not those of an empty one.
fn registers_of<R: Default>(table: &Table<R>, row: &R) -> Map<String, Value> {
    let (empty, mut registers) = (R::default(), Map::new());
    for columns in &table.columns {
        let cell = columns.read(row);
        if cell == columns.read(&empty) {
            continue;
        }
        let values = columns.values.iter().zip(&cell.values);
        let values = values.filter_map(|(name, value)| Some(((*name).to_owned(), value.as_deref()?.into())));
        registers.extend(values);
        registers.insert(columns.stamp.clone(), hex(cell.stamp).into());
    }
    registers
}

fn row_of<R: Default>(table: &Table<R>, registers: &Map<String, Value>) -> R {
    let mut row = R::default();
    let text = |name: &str| registers.get(name).and_then(Value::as_str);
    for columns in &table.columns {
        if let Some(stamp) = text(&columns.stamp) {
            let values: Vec<Option<String>> =
                columns.values.iter().map(|name| text(name).map(str::to_owned)).collect();
            columns.write(&mut row, &values, &unhex(stamp));
        }
    }
    row
}

/// How many rows one statement writes.
const WRITTEN_AT_ONCE: usize = 2_000;

const WRITE: &str = r"
INSERT INTO checkpoints AS c (sdk_app_id, group_id, part, key, registers)
SELECT app, id, part, key, registers::jsonb
  FROM UNNEST($1::bigint[], $2::text[], $3::smallint[], $4::text[], $5::text[]) AS n (app, id, part, key, registers)
ON CONFLICT (sdk_app_id, group_id, part, key) DO UPDATE SET registers = EXCLUDED.registers";

/// Writes rows in the place of what they were. The caller has joined them with that, and keeps others from doing the same.
///
/// # Errors
/// The statement's.
pub async fn write(conn: &mut PgConnection, rows: &CheckpointRows) -> Result<(), sqlx::Error> {
    let rows: Vec<(&CheckpointKey, &Map<String, Value>)> = rows.iter().collect();
    for rows in rows.chunks(WRITTEN_AT_ONCE) {
        let text = |registers: &Map<String, Value>| Value::from(registers.clone()).to_string();
        let query = sqlx::query(WRITE)
            .bind(rows.iter().map(|((app, ..), _)| *app).collect::<Vec<_>>())
            .bind(rows.iter().map(|((_, group, ..), _)| group.as_str()).collect::<Vec<_>>())
            .bind(rows.iter().map(|((.., part, _), _)| *part).collect::<Vec<_>>())
            .bind(rows.iter().map(|((.., key), _)| key.as_str()).collect::<Vec<_>>())
            .bind(rows.iter().map(|(_, registers)| text(registers)).collect::<Vec<_>>());
        query.execute(&mut *conn).await?;
    }
    Ok(())
}

const REMOVE: &str = r"
DELETE FROM checkpoints c
 USING UNNEST($1::bigint[], $2::text[], $3::smallint[], $4::text[]) AS n (app, id, part, key)
 WHERE c.sdk_app_id = n.app AND c.group_id = n.id AND c.part = n.part AND c.key = n.key";

/// Deletes rows, whose ids have become others.
///
/// # Errors
/// The statement's.
pub async fn remove(conn: &mut PgConnection, keys: &[&CheckpointKey]) -> Result<(), sqlx::Error> {
    let query = sqlx::query(REMOVE)
        .bind(keys.iter().map(|key| key.0).collect::<Vec<_>>())
        .bind(keys.iter().map(|key| key.1.as_str()).collect::<Vec<_>>())
        .bind(keys.iter().map(|key| key.2).collect::<Vec<_>>())
        .bind(keys.iter().map(|key| key.3.as_str()).collect::<Vec<_>>());
    query.execute(conn).await.map(drop)
}

/// The groups and lists of a group, and the rows that may name a user: `$3` is the id, `$4` the same as JSON writes it. A backslash
/// may escape anything, and JSON within JSON does so twice.
const NAMING: &str = r"
SELECT sdk_app_id, group_id, part, key, registers::text AS registers FROM checkpoints
 WHERE sdk_app_id = $1 AND group_id = $2
   AND (part < 2 OR key IN ($3, $5) OR strpos(registers::text, $4) > 0 OR strpos(registers::text, '\') > 0)
 ORDER BY part, key";

/// What the checkpoint of a group holds of a user, with the group itself and the rows of the pseudonym.
///
/// # Errors
/// The statement's.
pub async fn naming(
    conn: &mut PgConnection,
    group: &StoredGroup,
    user: &UserId,
    pseudonym: &UserId,
) -> Result<Rows, sqlx::Error> {
    let query = sqlx::query_as(NAMING).bind(group.0).bind(&group.1).bind(user.as_str());
    let query = query.bind(in_json(user)).bind(pseudonym.as_str());
    let mut rows = Rows::default();
    for row in query.fetch_all(conn).await? {
        take(&mut rows, &row, &MemberWindow::default());
    }
    Ok(rows)
}

/// An id as JSON writes it, in quotes: a short one may be part of a stamp.
fn in_json(user: &UserId) -> String {
    Value::from(user.as_str()).to_string()
}

const GROUPS_NAMING: &str = r"
SELECT DISTINCT group_id FROM checkpoints
 WHERE sdk_app_id = $1 AND (key = $2 OR strpos(registers::text, $3) > 0 OR strpos(registers::text, '\') > 0)
 ORDER BY group_id";

/// The groups of an app whose checkpoints may name a user.
///
/// # Errors
/// The statement's.
pub async fn groups_naming(
    conn: &mut PgConnection,
    app: SdkAppId,
    user: &UserId,
) -> Result<Vec<String>, sqlx::Error> {
    let query = sqlx::query_scalar(GROUPS_NAMING).bind(app.get()).bind(user.as_str()).bind(in_json(user));
    query.fetch_all(conn).await
}
