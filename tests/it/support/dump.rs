//! The mirror as comparable values: once from PostgreSQL, once from the pure fold. Byte for byte, stamps included.

use std::collections::BTreeMap;

use group_mirror::mirror::{GroupKey, Register, Rows};
use group_mirror::model::Stamp;
use serde_json::{Value, json};
use sqlx::postgres::PgConnection;

/// Table name → rows in key order.
pub(crate) type Dump = BTreeMap<&'static str, Vec<Value>>;

const TABLES: [(&str, &str); 5] = [
    (
        "groups",
        "SELECT json_build_array(sdk_app_id, group_id, type, encode(type_stamp, 'hex'), name, encode(name_stamp, 'hex'),
            introduction, encode(introduction_stamp, 'hex'), notification, encode(notification_stamp, 'hex'),
            face_url, encode(face_url_stamp, 'hex'), owner, encode(owner_stamp, 'hex'),
            created_by, encode(created_stamp, 'hex'), encode(create_barrier, 'hex'), encode(destroyed_stamp, 'hex'),
            encode(alive_stamp, 'hex'), encode(updated_stamp, 'hex'), encode(members_barrier, 'hex'),
            encode(fields_barrier, 'hex'), encode(attributes_barrier, 'hex'), encode(attributes_unclear, 'hex'),
            encode(topics_barrier, 'hex'), encode(topics_unclear, 'hex'))
           FROM groups ORDER BY sdk_app_id, group_id",
    ),
    (
        "group_members",
        "SELECT json_build_array(sdk_app_id, group_id, user_id, encode(join_stamp, 'hex'), join_type, joined_by,
            encode(leave_stamp, 'hex'), exit_type, left_by, encode(confirmed_stamp, 'hex'), role,
            encode(role_stamp, 'hex'), name_card, encode(name_card_stamp, 'hex'))
           FROM group_members ORDER BY sdk_app_id, group_id, user_id",
    ),
    (
        "group_user_defined_fields",
        "SELECT json_build_array(sdk_app_id, group_id, key, value, encode(value_stamp, 'hex'))
           FROM group_user_defined_fields ORDER BY sdk_app_id, group_id, key",
    ),
    (
        "group_attributes",
        "SELECT json_build_array(sdk_app_id, group_id, key, value, encode(value_stamp, 'hex'))
           FROM group_attributes ORDER BY sdk_app_id, group_id, key",
    ),
    (
        "group_topics",
        "SELECT json_build_array(sdk_app_id, group_id, topic_id, created_by, encode(created_stamp, 'hex'),
            encode(alive_stamp, 'hex'), encode(destroyed_stamp, 'hex'), name, encode(name_stamp, 'hex'),
            introduction, encode(introduction_stamp, 'hex'), notification, encode(notification_stamp, 'hex'),
            face_url, encode(face_url_stamp, 'hex'))
           FROM group_topics ORDER BY sdk_app_id, group_id, topic_id",
    ),
];

/// What the tables hold.
pub(crate) async fn tables(conn: &mut PgConnection) -> Dump {
    let mut dump = Dump::new();
    for (table, select) in TABLES {
        dump.insert(table, sqlx::query_scalar(select).fetch_all(&mut *conn).await.unwrap());
    }
    dump
}

fn hex(stamp: Stamp) -> String {
    stamp.as_bytes().iter().map(|byte| format!("{byte:02x}")).collect()
}

fn row(key: &GroupKey, rest: Vec<Value>) -> Value {
    let mut row = vec![json!(key.app.get()), json!(key.group.as_str())];
    row.extend(rest);
    Value::Array(row)
}

fn text(register: &Register<Option<String>>) -> [Value; 2] {
    [json!(register.value), json!(hex(register.stamp))]
}

/// What the tables would hold after these rows.
pub(crate) fn rows(rows: &Rows) -> Dump {
    let user = |user: &Option<group_mirror::model::UserId>| {
        json!(user.as_ref().map(group_mirror::model::UserId::as_str))
    };
    let groups = rows.groups.iter().map(|(key, group)| {
        let texts =
            [&group.group_type, &group.name, &group.introduction, &group.notification, &group.face_url];
        let mut rest: Vec<Value> = texts.into_iter().flat_map(text).collect();
        rest.extend([user(&group.owner.value), json!(hex(group.owner.stamp))]);
        rest.extend([user(&group.created.value), json!(hex(group.created.stamp))]);
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
        rest.extend(barriers.map(|stamp| json!(hex(stamp))));
        row(key, rest)
    });
    let members = rows.members.iter().map(|((key, id), member)| {
        let role = member.role.value.map_or("Member", |role| role.as_str());
        let mut rest = vec![json!(id.as_str())];
        for (stamp, entry) in
            [(member.join.stamp, &member.join.value), (member.leave.stamp, &member.leave.value)]
        {
            rest.extend([json!(hex(stamp)), json!(entry.how), user(&entry.by)]);
        }
        rest.extend([json!(hex(member.confirmed)), json!(role), json!(hex(member.role.stamp))]);
        rest.extend(text(&member.name_card));
        row(key, rest)
    });
    let pairs = |pairs: &BTreeMap<(GroupKey, group_mirror::model::FieldKey), Register<Option<String>>>| {
        pairs
            .iter()
            .map(|((key, field), value)| {
                let [value, stamp] = text(value);
                row(key, vec![json!(field.as_str()), value, stamp])
            })
            .collect::<Vec<_>>()
    };
    let topics = rows.topics.iter().map(|((key, id), topic)| {
        let mut rest = vec![json!(id.as_str()), user(&topic.created.value), json!(hex(topic.created.stamp))];
        rest.extend([json!(hex(topic.alive)), json!(hex(topic.destroyed))]);
        let texts = [&topic.name, &topic.introduction, &topic.notification, &topic.face_url];
        rest.extend(texts.into_iter().flat_map(text));
        row(key, rest)
    });
    Dump::from([
        ("groups", groups.collect()),
        ("group_members", members.collect()),
        ("group_user_defined_fields", pairs(&rows.user_defined_fields)),
        ("group_attributes", pairs(&rows.attributes)),
        ("group_topics", topics.collect()),
    ])
}
