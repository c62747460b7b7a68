//! The mirror as comparable lines: what the tables hold, and what they would hold after a fold.
//!
//! Everything is text here, stamps in hex, so that a row which no fold could have made (a stamp of odd length, a
//! role of one's own) is a difference like any other and no error. Generated columns are left out: they follow from
//! the others. Used by replay, and by the tests as the oracle's scale.

use std::collections::BTreeMap;

use sqlx::PgConnection;

use crate::callback::Role;
use crate::mirror::{GroupKey, Register, Rows};
use crate::model::{FieldKey, Stamp, UserId};

/// Where a line stands: table, app, group, and user, key or topic (empty for a group).
pub type LineKey = (&'static str, i64, String, String);

/// Lines in key order.
pub type Lines = BTreeMap<LineKey, Vec<Option<String>>>;

/// A table, the last part of its key, and its columns in the order of a line.
pub struct Table {
    /// Its name.
    pub name: &'static str,
    /// The names of the values of a line.
    pub columns: &'static [&'static str],
    select: &'static str,
}

/// The five tables of the mirror.
pub const TABLES: [Table; 5] = [
    Table {
        name: "groups",
        columns: &[
            "type", "type_stamp", "name", "name_stamp", "introduction", "introduction_stamp", "notification",
            "notification_stamp", "face_url", "face_url_stamp", "owner", "owner_stamp", "created_by", "created_stamp",
            "create_barrier", "destroyed_stamp", "alive_stamp", "updated_stamp", "members_barrier", "fields_barrier",
            "attributes_barrier", "attributes_unclear", "topics_barrier", "topics_unclear",
        ],
        select: "SELECT sdk_app_id, group_id, '', ARRAY[type, encode(type_stamp, 'hex'), name, encode(name_stamp, 'hex'),
            introduction, encode(introduction_stamp, 'hex'), notification, encode(notification_stamp, 'hex'),
            face_url, encode(face_url_stamp, 'hex'), owner, encode(owner_stamp, 'hex'),
            created_by, encode(created_stamp, 'hex'), encode(create_barrier, 'hex'), encode(destroyed_stamp, 'hex'),
            encode(alive_stamp, 'hex'), encode(updated_stamp, 'hex'), encode(members_barrier, 'hex'),
            encode(fields_barrier, 'hex'), encode(attributes_barrier, 'hex'), encode(attributes_unclear, 'hex'),
            encode(topics_barrier, 'hex'), encode(topics_unclear, 'hex')]
           FROM groups WHERE (sdk_app_id, group_id) > ($1, $2) AND (sdk_app_id, group_id) <= ($3, $4)",
    },
    Table {
        name: "group_members",
        columns: &[
            "join_stamp", "join_type", "joined_by", "leave_stamp", "exit_type", "left_by", "confirmed_stamp", "role",
            "role_stamp", "name_card", "name_card_stamp",
        ],
        select: "SELECT sdk_app_id, group_id, user_id, ARRAY[encode(join_stamp, 'hex'), join_type, joined_by,
            encode(leave_stamp, 'hex'), exit_type, left_by, encode(confirmed_stamp, 'hex'), role,
            encode(role_stamp, 'hex'), name_card, encode(name_card_stamp, 'hex')]
           FROM group_members WHERE (sdk_app_id, group_id) > ($1, $2) AND (sdk_app_id, group_id) <= ($3, $4)",
    },
    Table {
        name: "group_user_defined_fields",
        columns: &["value", "value_stamp"],
        select: "SELECT sdk_app_id, group_id, key, ARRAY[value, encode(value_stamp, 'hex')]
           FROM group_user_defined_fields WHERE (sdk_app_id, group_id) > ($1, $2) AND (sdk_app_id, group_id) <= ($3, $4)",
    },
    Table {
        name: "group_attributes",
        columns: &["value", "value_stamp"],
        select: "SELECT sdk_app_id, group_id, key, ARRAY[value, encode(value_stamp, 'hex')]
           FROM group_attributes WHERE (sdk_app_id, group_id) > ($1, $2) AND (sdk_app_id, group_id) <= ($3, $4)",
    },
    Table {
        name: "group_topics",
        columns: &[
            "created_by", "created_stamp", "alive_stamp", "destroyed_stamp", "name", "name_stamp", "introduction",
            "introduction_stamp", "notification", "notification_stamp", "face_url", "face_url_stamp",
        ],
        select: "SELECT sdk_app_id, group_id, topic_id, ARRAY[created_by, encode(created_stamp, 'hex'),
            encode(alive_stamp, 'hex'), encode(destroyed_stamp, 'hex'), name, encode(name_stamp, 'hex'),
            introduction, encode(introduction_stamp, 'hex'), notification, encode(notification_stamp, 'hex'),
            face_url, encode(face_url_stamp, 'hex')]
           FROM group_topics WHERE (sdk_app_id, group_id) > ($1, $2) AND (sdk_app_id, group_id) <= ($3, $4)",
    },
];

/// A range of groups: after the first, up to and with the last. See [`ALL`].
pub type Range<'a> = ((i64, &'a str), (i64, &'a str));

/// Every group: there is no app 0, and none has the greatest number.
pub const ALL: Range<'static> = ((0, ""), (i64::MAX, ""));

type Line = (i64, String, String, Vec<Option<String>>);

/// What the tables hold in a range of groups.
///
/// # Errors
/// A statement's.
pub async fn of_tables(conn: &mut PgConnection, (after, last): Range<'_>) -> Result<Lines, sqlx::Error> {
    let mut lines = Lines::new();
    for table in &TABLES {
        let query = sqlx::query_as(table.select).bind(after.0).bind(after.1).bind(last.0).bind(last.1);
        let rows: Vec<Line> = query.fetch_all(&mut *conn).await?;
        lines.extend(
            rows.into_iter().map(|(app, group, rest, values)| ((table.name, app, group, rest), values)),
        );
    }
    Ok(lines)
}

/// What the tables would hold after a fold.
#[must_use]
pub fn of_rows(rows: &Rows) -> Lines {
    let mut lines = Lines::new();
    for (key, group) in &rows.groups {
        let texts =
            [&group.group_type, &group.name, &group.introduction, &group.notification, &group.face_url];
        let mut values: Vec<_> = texts.into_iter().flat_map(text).collect();
        values.extend(user(&group.owner).into_iter().chain(user(&group.created)));
        let barriers = [
            group.create_barrier,
            group.destroyed,
            group.alive,
            group.updated,
            group.members_barrier,
            group.fields_barrier,
            group.attributes_barrier,
            group.attributes_unclear,
            group.topics_barrier,
            group.topics_unclear,
        ];
        values.extend(barriers.map(hex));
        lines.insert(line_key("groups", key, ""), values);
    }
    for ((key, id), member) in &rows.members {
        let mut values = Vec::new();
        for entry in [&member.join, &member.leave] {
            let by = entry.value.by.as_ref().map(|user| user.as_str().to_owned());
            values.extend([hex(entry.stamp), entry.value.how.clone(), by]);
        }
        let role = member.role.value.unwrap_or(Role::Member);
        values.extend([hex(member.confirmed), Some(role.as_str().to_owned()), hex(member.role.stamp)]);
        values.extend(text(&member.name_card));
        lines.insert(line_key("group_members", key, id.as_str()), values);
    }
    lines.extend(pairs("group_user_defined_fields", &rows.user_defined_fields));
    lines.extend(pairs("group_attributes", &rows.attributes));
    for ((key, id), topic) in &rows.topics {
        let mut values = Vec::from(user(&topic.created));
        values.extend([hex(topic.alive), hex(topic.destroyed)]);
        values.extend(
            [&topic.name, &topic.introduction, &topic.notification, &topic.face_url]
                .into_iter()
                .flat_map(text),
        );
        lines.insert(line_key("group_topics", key, id.as_str()), values);
    }
    lines
}

fn line_key(table: &'static str, key: &GroupKey, rest: &str) -> LineKey {
    (table, key.app.get(), key.group.as_str().to_owned(), rest.to_owned())
}

/// Always a value; the lines hold options because other columns may be NULL.
#[expect(clippy::unnecessary_wraps, reason = "one form for all values of a line")]
fn hex(stamp: Stamp) -> Option<String> {
    Some(stamp.as_bytes().iter().map(|byte| format!("{byte:02x}")).collect())
}

fn text(register: &Register<Option<String>>) -> [Option<String>; 2] {
    [register.value.clone(), hex(register.stamp)]
}

fn user(register: &Register<Option<UserId>>) -> [Option<String>; 2] {
    [register.value.as_ref().map(|user| user.as_str().to_owned()), hex(register.stamp)]
}

fn pairs(
    table: &'static str,
    pairs: &BTreeMap<(GroupKey, FieldKey), Register<Option<String>>>,
) -> impl Iterator<Item = (LineKey, Vec<Option<String>>)> {
    pairs.iter().map(move |((key, field), value)| (line_key(table, key, field.as_str()), text(value).into()))
}
