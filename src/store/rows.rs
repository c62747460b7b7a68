//! [`Rows`] → tables: one upsert per table, whole batches by `UNNEST`, in key order.
//!
//! The rule "the greater stamp wins" stands here for the second time: `EXCLUDED.x_stamp > x_stamp` and `GREATEST`,
//! and nothing else. Bytes of a stamp compare as stamps do. All arrays of a statement come from one pass over one
//! map, so they have equal length (`UNNEST` would pad a shorter one with NULL). Tables are named without a schema:
//! replay builds beside the live ones.

use sqlx::PgConnection;

use crate::mirror::{GroupKey, GroupRow, MemberRow, Register, Rows, TopicRow};
use crate::model::Stamp;

/// Writes the rows; what is stored and newer stays. In this order in every transaction, so that no two deadlock:
/// groups, members, user-defined fields, attributes, topics; each by key.
///
/// # Errors
/// A statement's.
pub async fn upsert(conn: &mut PgConnection, rows: &Rows) -> Result<(), sqlx::Error> {
    upsert_groups(conn, rows).await?;
    upsert_members(conn, rows).await?;
    upsert_user_defined_fields(conn, rows).await?;
    upsert_attributes(conn, rows).await?;
    upsert_topics(conn, rows).await
}

/// The heads of a table's keys: app ids and group ids.
fn heads<'a>(keys: impl Iterator<Item = &'a GroupKey>) -> (Vec<i64>, Vec<&'a str>) {
    keys.map(|key| (key.app.get(), key.group.as_str())).unzip()
}

/// One register as two columns: values and stamps.
fn register<'a, R: 'a, T: 'a, V>(
    rows: impl Iterator<Item = &'a R>,
    pick: impl Fn(&'a R) -> &'a Register<T>,
    show: impl Fn(&'a T) -> V,
) -> (Vec<V>, Vec<&'a [u8]>) {
    rows.map(|row| (show(&pick(row).value), pick(row).stamp.as_bytes())).unzip()
}

fn stamps<'a, R: 'a>(rows: impl Iterator<Item = &'a R>, pick: impl Fn(&'a R) -> &'a Stamp) -> Vec<&'a [u8]> {
    rows.map(|row| pick(row).as_bytes()).collect()
}

const UPSERT_GROUPS: &str = r"
INSERT INTO groups AS g (sdk_app_id, group_id, type, type_stamp, name, name_stamp, introduction, introduction_stamp,
    notification, notification_stamp, face_url, face_url_stamp, owner, owner_stamp, created_by, created_stamp,
    create_barrier, destroyed_stamp, alive_stamp, updated_stamp, members_barrier, fields_barrier, attributes_barrier,
    attributes_unclear, topics_barrier, topics_unclear)
SELECT * FROM UNNEST($1::bigint[], $2::text[], $3::text[], $4::bytea[], $5::text[], $6::bytea[], $7::text[],
    $8::bytea[], $9::text[], $10::bytea[], $11::text[], $12::bytea[], $13::text[], $14::bytea[], $15::text[],
    $16::bytea[], $17::bytea[], $18::bytea[], $19::bytea[], $20::bytea[], $21::bytea[], $22::bytea[], $23::bytea[],
    $24::bytea[], $25::bytea[], $26::bytea[])
ON CONFLICT (sdk_app_id, group_id) DO UPDATE SET
    type = CASE WHEN EXCLUDED.type_stamp > g.type_stamp THEN EXCLUDED.type ELSE g.type END,
    type_stamp = GREATEST(g.type_stamp, EXCLUDED.type_stamp),
    name = CASE WHEN EXCLUDED.name_stamp > g.name_stamp THEN EXCLUDED.name ELSE g.name END,
    name_stamp = GREATEST(g.name_stamp, EXCLUDED.name_stamp),
    introduction = CASE WHEN EXCLUDED.introduction_stamp > g.introduction_stamp
                        THEN EXCLUDED.introduction ELSE g.introduction END,
    introduction_stamp = GREATEST(g.introduction_stamp, EXCLUDED.introduction_stamp),
    notification = CASE WHEN EXCLUDED.notification_stamp > g.notification_stamp
                        THEN EXCLUDED.notification ELSE g.notification END,
    notification_stamp = GREATEST(g.notification_stamp, EXCLUDED.notification_stamp),
    face_url = CASE WHEN EXCLUDED.face_url_stamp > g.face_url_stamp THEN EXCLUDED.face_url ELSE g.face_url END,
    face_url_stamp = GREATEST(g.face_url_stamp, EXCLUDED.face_url_stamp),
    owner = CASE WHEN EXCLUDED.owner_stamp > g.owner_stamp THEN EXCLUDED.owner ELSE g.owner END,
    owner_stamp = GREATEST(g.owner_stamp, EXCLUDED.owner_stamp),
    created_by = CASE WHEN EXCLUDED.created_stamp > g.created_stamp THEN EXCLUDED.created_by ELSE g.created_by END,
    created_stamp = GREATEST(g.created_stamp, EXCLUDED.created_stamp),
    create_barrier = GREATEST(g.create_barrier, EXCLUDED.create_barrier),
    destroyed_stamp = GREATEST(g.destroyed_stamp, EXCLUDED.destroyed_stamp),
    alive_stamp = GREATEST(g.alive_stamp, EXCLUDED.alive_stamp),
    updated_stamp = GREATEST(g.updated_stamp, EXCLUDED.updated_stamp),
    members_barrier = GREATEST(g.members_barrier, EXCLUDED.members_barrier),
    fields_barrier = GREATEST(g.fields_barrier, EXCLUDED.fields_barrier),
    attributes_barrier = GREATEST(g.attributes_barrier, EXCLUDED.attributes_barrier),
    attributes_unclear = GREATEST(g.attributes_unclear, EXCLUDED.attributes_unclear),
    topics_barrier = GREATEST(g.topics_barrier, EXCLUDED.topics_barrier),
    topics_unclear = GREATEST(g.topics_unclear, EXCLUDED.topics_unclear)
-- Late news that loses everywhere writes nothing.
WHERE EXCLUDED.updated_stamp > g.updated_stamp OR EXCLUDED.type_stamp > g.type_stamp
   OR EXCLUDED.name_stamp > g.name_stamp OR EXCLUDED.introduction_stamp > g.introduction_stamp
   OR EXCLUDED.notification_stamp > g.notification_stamp OR EXCLUDED.face_url_stamp > g.face_url_stamp
   OR EXCLUDED.owner_stamp > g.owner_stamp OR EXCLUDED.created_stamp > g.created_stamp
   OR EXCLUDED.create_barrier > g.create_barrier OR EXCLUDED.destroyed_stamp > g.destroyed_stamp
   OR EXCLUDED.alive_stamp > g.alive_stamp OR EXCLUDED.members_barrier > g.members_barrier
   OR EXCLUDED.fields_barrier > g.fields_barrier OR EXCLUDED.attributes_barrier > g.attributes_barrier
   OR EXCLUDED.attributes_unclear > g.attributes_unclear OR EXCLUDED.topics_barrier > g.topics_barrier
   OR EXCLUDED.topics_unclear > g.topics_unclear";

async fn upsert_groups(conn: &mut PgConnection, rows: &Rows) -> Result<(), sqlx::Error> {
    if rows.groups.is_empty() {
        return Ok(());
    }
    let (apps, groups) = heads(rows.groups.keys());
    let row = rows.groups.values();
    let text = |pick: fn(&GroupRow) -> &Register<Option<String>>| {
        register(row.clone(), pick, |value: &Option<String>| value.as_deref())
    };
    let barrier = |pick: fn(&GroupRow) -> &Stamp| stamps(row.clone(), pick);
    let (types, type_stamps) = text(|group| &group.group_type);
    let (names, name_stamps) = text(|group| &group.name);
    let (introductions, introduction_stamps) = text(|group| &group.introduction);
    let (notifications, notification_stamps) = text(|group| &group.notification);
    let (face_urls, face_url_stamps) = text(|group| &group.face_url);
    let (owners, owner_stamps) = register(
        row.clone(),
        |group| &group.owner,
        |owner| owner.as_ref().map(super::super::model::UserId::as_str),
    );
    let (creators, created_stamps) = register(
        row.clone(),
        |group| &group.created,
        |by| by.as_ref().map(super::super::model::UserId::as_str),
    );
    sqlx::query(UPSERT_GROUPS)
        .bind(apps)
        .bind(groups)
        .bind(types)
        .bind(type_stamps)
        .bind(names)
        .bind(name_stamps)
        .bind(introductions)
        .bind(introduction_stamps)
        .bind(notifications)
        .bind(notification_stamps)
        .bind(face_urls)
        .bind(face_url_stamps)
        .bind(owners)
        .bind(owner_stamps)
        .bind(creators)
        .bind(created_stamps)
        .bind(barrier(|group| &group.create_barrier))
        .bind(barrier(|group| &group.destroyed))
        .bind(barrier(|group| &group.alive))
        .bind(barrier(|group| &group.updated))
        .bind(barrier(|group| &group.members_barrier))
        .bind(barrier(|group| &group.fields_barrier))
        .bind(barrier(|group| &group.attributes_barrier))
        .bind(barrier(|group| &group.attributes_unclear))
        .bind(barrier(|group| &group.topics_barrier))
        .bind(barrier(|group| &group.topics_unclear))
        .execute(conn)
        .await
        .map(drop)
}

const UPSERT_MEMBERS: &str = r"
INSERT INTO group_members AS m (sdk_app_id, group_id, user_id, join_stamp, join_type, joined_by, leave_stamp,
    exit_type, left_by, confirmed_stamp, role, role_stamp, name_card, name_card_stamp)
SELECT * FROM UNNEST($1::bigint[], $2::text[], $3::text[], $4::bytea[], $5::text[], $6::text[], $7::bytea[],
    $8::text[], $9::text[], $10::bytea[], $11::text[], $12::bytea[], $13::text[], $14::bytea[])
ON CONFLICT (sdk_app_id, group_id, user_id) DO UPDATE SET
    join_type = CASE WHEN EXCLUDED.join_stamp > m.join_stamp THEN EXCLUDED.join_type ELSE m.join_type END,
    joined_by = CASE WHEN EXCLUDED.join_stamp > m.join_stamp THEN EXCLUDED.joined_by ELSE m.joined_by END,
    join_stamp = GREATEST(m.join_stamp, EXCLUDED.join_stamp),
    exit_type = CASE WHEN EXCLUDED.leave_stamp > m.leave_stamp THEN EXCLUDED.exit_type ELSE m.exit_type END,
    left_by = CASE WHEN EXCLUDED.leave_stamp > m.leave_stamp THEN EXCLUDED.left_by ELSE m.left_by END,
    leave_stamp = GREATEST(m.leave_stamp, EXCLUDED.leave_stamp),
    confirmed_stamp = GREATEST(m.confirmed_stamp, EXCLUDED.confirmed_stamp),
    role = CASE WHEN EXCLUDED.role_stamp > m.role_stamp THEN EXCLUDED.role ELSE m.role END,
    role_stamp = GREATEST(m.role_stamp, EXCLUDED.role_stamp),
    name_card = CASE WHEN EXCLUDED.name_card_stamp > m.name_card_stamp THEN EXCLUDED.name_card ELSE m.name_card END,
    name_card_stamp = GREATEST(m.name_card_stamp, EXCLUDED.name_card_stamp)
WHERE EXCLUDED.join_stamp > m.join_stamp OR EXCLUDED.leave_stamp > m.leave_stamp
   OR EXCLUDED.confirmed_stamp > m.confirmed_stamp OR EXCLUDED.role_stamp > m.role_stamp
   OR EXCLUDED.name_card_stamp > m.name_card_stamp";

async fn upsert_members(conn: &mut PgConnection, rows: &Rows) -> Result<(), sqlx::Error> {
    if rows.members.is_empty() {
        return Ok(());
    }
    let (apps, groups) = heads(rows.members.keys().map(|(group, _)| group));
    let users: Vec<&str> = rows.members.keys().map(|(_, user)| user.as_str()).collect();
    let row = rows.members.values();
    let (joins, join_stamps) = register(row.clone(), |member| &member.join, |join| join);
    let (leaves, leave_stamps) = register(row.clone(), |member| &member.leave, |leave| leave);
    let (roles, role_stamps) =
        register(row.clone(), |member| &member.role, |role| role.map_or("Member", |role| role.as_str()));
    let (cards, card_stamps) = register(row.clone(), |member| &member.name_card, |card| card.as_deref());
    let by = |entries: &[&crate::mirror::Entry]| -> Vec<Option<String>> {
        entries.iter().map(|entry| entry.by.as_ref().map(|user| user.as_str().to_owned())).collect()
    };
    sqlx::query(UPSERT_MEMBERS)
        .bind(apps)
        .bind(groups)
        .bind(users)
        .bind(join_stamps)
        .bind(joins.iter().map(|join| join.how.as_deref()).collect::<Vec<_>>())
        .bind(by(&joins))
        .bind(leave_stamps)
        .bind(leaves.iter().map(|leave| leave.how.as_deref()).collect::<Vec<_>>())
        .bind(by(&leaves))
        .bind(stamps(row, |member: &MemberRow| &member.confirmed))
        .bind(roles)
        .bind(role_stamps)
        .bind(cards)
        .bind(card_stamps)
        .execute(conn)
        .await
        .map(drop)
}

const UPSERT_USER_DEFINED_FIELDS: &str = r"
INSERT INTO group_user_defined_fields AS f (sdk_app_id, group_id, key, value, value_stamp)
SELECT * FROM UNNEST($1::bigint[], $2::text[], $3::text[], $4::text[], $5::bytea[])
ON CONFLICT (sdk_app_id, group_id, key) DO UPDATE SET value = EXCLUDED.value, value_stamp = EXCLUDED.value_stamp
WHERE EXCLUDED.value_stamp > f.value_stamp";

async fn upsert_user_defined_fields(conn: &mut PgConnection, rows: &Rows) -> Result<(), sqlx::Error> {
    if rows.user_defined_fields.is_empty() {
        return Ok(());
    }
    let (apps, groups) = heads(rows.user_defined_fields.keys().map(|(group, _)| group));
    let keys: Vec<&str> = rows.user_defined_fields.keys().map(|(_, key)| key.as_str()).collect();
    let (values, value_stamps) =
        register(rows.user_defined_fields.values(), |field| field, |value| value.as_deref());
    let query = sqlx::query(UPSERT_USER_DEFINED_FIELDS).bind(apps).bind(groups).bind(keys);
    query.bind(values).bind(value_stamps).execute(conn).await.map(drop)
}

const UPSERT_ATTRIBUTES: &str = r"
INSERT INTO group_attributes AS a (sdk_app_id, group_id, key, value, value_stamp)
SELECT * FROM UNNEST($1::bigint[], $2::text[], $3::text[], $4::text[], $5::bytea[])
ON CONFLICT (sdk_app_id, group_id, key) DO UPDATE SET value = EXCLUDED.value, value_stamp = EXCLUDED.value_stamp
WHERE EXCLUDED.value_stamp > a.value_stamp";

async fn upsert_attributes(conn: &mut PgConnection, rows: &Rows) -> Result<(), sqlx::Error> {
    if rows.attributes.is_empty() {
        return Ok(());
    }
    let (apps, groups) = heads(rows.attributes.keys().map(|(group, _)| group));
    let keys: Vec<&str> = rows.attributes.keys().map(|(_, key)| key.as_str()).collect();
    let (values, value_stamps) =
        register(rows.attributes.values(), |attribute| attribute, |value| value.as_deref());
    let query = sqlx::query(UPSERT_ATTRIBUTES).bind(apps).bind(groups).bind(keys);
    query.bind(values).bind(value_stamps).execute(conn).await.map(drop)
}

const UPSERT_TOPICS: &str = r"
INSERT INTO group_topics AS t (sdk_app_id, group_id, topic_id, created_by, created_stamp, alive_stamp,
    destroyed_stamp, name, name_stamp, introduction, introduction_stamp, notification, notification_stamp,
    face_url, face_url_stamp)
SELECT * FROM UNNEST($1::bigint[], $2::text[], $3::text[], $4::text[], $5::bytea[], $6::bytea[], $7::bytea[],
    $8::text[], $9::bytea[], $10::text[], $11::bytea[], $12::text[], $13::bytea[], $14::text[], $15::bytea[])
ON CONFLICT (sdk_app_id, group_id, topic_id) DO UPDATE SET
    created_by = CASE WHEN EXCLUDED.created_stamp > t.created_stamp THEN EXCLUDED.created_by ELSE t.created_by END,
    created_stamp = GREATEST(t.created_stamp, EXCLUDED.created_stamp),
    alive_stamp = GREATEST(t.alive_stamp, EXCLUDED.alive_stamp),
    destroyed_stamp = GREATEST(t.destroyed_stamp, EXCLUDED.destroyed_stamp),
    name = CASE WHEN EXCLUDED.name_stamp > t.name_stamp THEN EXCLUDED.name ELSE t.name END,
    name_stamp = GREATEST(t.name_stamp, EXCLUDED.name_stamp),
    introduction = CASE WHEN EXCLUDED.introduction_stamp > t.introduction_stamp
                        THEN EXCLUDED.introduction ELSE t.introduction END,
    introduction_stamp = GREATEST(t.introduction_stamp, EXCLUDED.introduction_stamp),
    notification = CASE WHEN EXCLUDED.notification_stamp > t.notification_stamp
                        THEN EXCLUDED.notification ELSE t.notification END,
    notification_stamp = GREATEST(t.notification_stamp, EXCLUDED.notification_stamp),
    face_url = CASE WHEN EXCLUDED.face_url_stamp > t.face_url_stamp THEN EXCLUDED.face_url ELSE t.face_url END,
    face_url_stamp = GREATEST(t.face_url_stamp, EXCLUDED.face_url_stamp)
WHERE EXCLUDED.created_stamp > t.created_stamp OR EXCLUDED.alive_stamp > t.alive_stamp
   OR EXCLUDED.destroyed_stamp > t.destroyed_stamp OR EXCLUDED.name_stamp > t.name_stamp
   OR EXCLUDED.introduction_stamp > t.introduction_stamp OR EXCLUDED.notification_stamp > t.notification_stamp
   OR EXCLUDED.face_url_stamp > t.face_url_stamp";

async fn upsert_topics(conn: &mut PgConnection, rows: &Rows) -> Result<(), sqlx::Error> {
    if rows.topics.is_empty() {
        return Ok(());
    }
    let (apps, groups) = heads(rows.topics.keys().map(|(group, _)| group));
    let topics: Vec<&str> = rows.topics.keys().map(|(_, topic)| topic.as_str()).collect();
    let row = rows.topics.values();
    let text = |pick: fn(&TopicRow) -> &Register<Option<String>>| {
        register(row.clone(), pick, |value: &Option<String>| value.as_deref())
    };
    let (creators, created_stamps) = register(
        row.clone(),
        |topic| &topic.created,
        |by| by.as_ref().map(super::super::model::UserId::as_str),
    );
    let (names, name_stamps) = text(|topic| &topic.name);
    let (introductions, introduction_stamps) = text(|topic| &topic.introduction);
    let (notifications, notification_stamps) = text(|topic| &topic.notification);
    let (face_urls, face_url_stamps) = text(|topic| &topic.face_url);
    sqlx::query(UPSERT_TOPICS)
        .bind(apps)
        .bind(groups)
        .bind(topics)
        .bind(creators)
        .bind(created_stamps)
        .bind(stamps(row.clone(), |topic| &topic.alive))
        .bind(stamps(row.clone(), |topic| &topic.destroyed))
        .bind(names)
        .bind(name_stamps)
        .bind(introductions)
        .bind(introduction_stamps)
        .bind(notifications)
        .bind(notification_stamps)
        .bind(face_urls)
        .bind(face_url_stamps)
        .execute(conn)
        .await
        .map(drop)
}
