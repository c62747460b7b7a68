//! What a reader is shown of a group, its members and topics, as one comparable value: once from the pure rules, once from
//! the views, once from the read API. Times are Unix milliseconds.

use std::collections::BTreeMap;

use chrono::DateTime;
use group_mirror::mirror::{GroupKey, Rows, group_state, member_state, topic_state};
use group_mirror::model::{Millis, UserId};
use serde_json::{Map, Value, json};
use sqlx::postgres::PgConnection;

use super::Service;

/// What the pure rules show of every group in the rows.
pub(crate) fn pure(rows: &Rows) -> BTreeMap<String, Value> {
    rows.groups.keys().map(|key| (key.group.as_str().to_owned(), pure_group(rows, key))).collect()
}

fn pure_group(rows: &Rows, key: &GroupKey) -> Value {
    let group = &rows.groups[key];
    let owner_row =
        group.owner.value.as_ref().and_then(|owner| rows.members.get(&(key.clone(), owner.clone())));
    let state = group_state(group, owner_row);
    let user = |user: &Option<UserId>| json!(user.as_ref().map(UserId::as_str));
    let time = |time: Option<Millis>| json!(time.map(Millis::get));
    let fields: Map<String, Value> = rows
        .user_defined_fields
        .iter()
        .filter(|((of, _), _)| of == key)
        .filter_map(|((_, field), value)| {
            Some((field.as_str().to_owned(), json!(group.user_defined_field(value)?)))
        })
        .collect();
    let attributes: Map<String, Value> = rows
        .attributes
        .iter()
        .filter(|((of, _), _)| of == key)
        .filter_map(|((_, field), value)| Some((field.as_str().to_owned(), json!(group.attribute(value)?))))
        .collect();
    let members: Vec<Value> = rows
        .members
        .iter()
        .filter(|((of, _), _)| of == key)
        .filter_map(|((_, id), member)| {
            let shown = member_state(group, state.owner.as_ref(), id, member)?;
            Some(json!({
                "user_id": id.as_str(), "status": if shown.present { "member" } else { "left" },
                "role": shown.role, "name_card": shown.name_card, "joined_at": time(shown.joined_at),
                "join_type": shown.join.how, "joined_by": user(&shown.join.by), "left_at": time(shown.left_at),
                "exit_type": shown.exit.how, "left_by": user(&shown.exit.by),
            }))
        })
        .collect();
    let topics: Vec<Value> = rows
        .topics
        .iter()
        .filter(|((of, _), _)| of == key)
        .map(|((_, id), topic)| {
            let shown = topic_state(group, topic);
            json!({
                "topic_id": id.as_str(), "status": if shown.active { "active" } else { "destroyed" },
                "name": shown.name, "introduction": shown.introduction, "notification": shown.notification,
                "face_url": shown.face_url, "created_by": user(&shown.created_by),
                "created_at": time(shown.created_at), "destroyed_at": time(shown.destroyed_at),
            })
        })
        .collect();
    json!({
        "group_id": key.group.as_str(), "status": state.status.as_str(), "type": state.group_type,
        "name": state.name, "introduction": state.introduction, "notification": state.notification,
        "face_url": state.face_url, "owner": user(&state.owner), "created_by": user(&state.created_by),
        "member_count": members.iter().filter(|member| member["status"] == "member").count(),
        "user_defined_fields": fields, "attributes": attributes, "created_at": time(state.created_at),
        "updated_at": state.updated_at.get(), "destroyed_at": time(state.destroyed_at), "members": members,
        "topics": topics,
    })
}

const VIEWS: &str = r"
SELECT g.group_id, json_build_object(
    'group_id', g.group_id, 'status', g.status, 'type', g.type, 'name', g.name, 'introduction', g.introduction,
    'notification', g.notification, 'face_url', g.face_url, 'owner', g.owner, 'created_by', g.created_by,
    'member_count', (SELECT count(*) FROM active_group_members a WHERE a.group_id = g.group_id),
    'user_defined_fields', COALESCE((SELECT json_object_agg(f.key, f.value) FROM group_user_defined_fields f
                                      WHERE f.group_id = g.group_id AND f.value_stamp >= g.fields_from
                                        AND f.value IS NOT NULL), '{}'),
    'attributes', COALESCE((SELECT json_object_agg(f.key, f.value) FROM group_attributes f
                             WHERE f.group_id = g.group_id AND f.value_stamp >= g.attributes_from
                               AND f.value IS NOT NULL), '{}'),
    'created_at', (extract(epoch FROM g.created_at) * 1000)::bigint,
    'updated_at', (extract(epoch FROM g.updated_at) * 1000)::bigint,
    'destroyed_at', (extract(epoch FROM g.destroyed_at) * 1000)::bigint,
    'members', COALESCE((SELECT json_agg(json_build_object(
        'user_id', m.user_id, 'status', CASE WHEN m.present THEN 'member' ELSE 'left' END, 'role', m.role,
        'name_card', m.name_card, 'joined_at', (extract(epoch FROM m.joined_at) * 1000)::bigint,
        'join_type', m.join_type, 'joined_by', m.joined_by,
        'left_at', (extract(epoch FROM m.left_at) * 1000)::bigint, 'exit_type', m.exit_type, 'left_by', m.left_by)
        ORDER BY m.user_id) FROM group_member_states m WHERE m.group_id = g.group_id), '[]'),
    'topics', COALESCE((SELECT json_agg(json_build_object(
        'topic_id', t.topic_id, 'status', CASE WHEN t.active THEN 'active' ELSE 'destroyed' END, 'name', t.name,
        'introduction', t.introduction, 'notification', t.notification, 'face_url', t.face_url,
        'created_by', t.created_by, 'created_at', (extract(epoch FROM t.created_at) * 1000)::bigint,
        'destroyed_at', (extract(epoch FROM t.destroyed_at) * 1000)::bigint)
        ORDER BY t.topic_id) FROM group_topic_states t WHERE t.group_id = g.group_id), '[]'))
  FROM group_states g";

/// What the views show of every group of the one app in the database.
pub(crate) async fn views(conn: &mut PgConnection) -> BTreeMap<String, Value> {
    let rows: Vec<(String, Value)> = sqlx::query_as(VIEWS).fetch_all(&mut *conn).await.unwrap();
    // The views of what is true now are cuts of the others, and of nothing else.
    let same: bool = sqlx::query_scalar(
        "SELECT (SELECT array_agg(group_id ORDER BY group_id) FROM active_groups)
                IS NOT DISTINCT FROM (SELECT array_agg(group_id ORDER BY group_id) FROM group_states WHERE status = 'active')
            AND (SELECT array_agg((group_id, user_id, role, name_card)::text ORDER BY group_id, user_id)
                   FROM active_group_members)
                IS NOT DISTINCT FROM (SELECT array_agg((group_id, user_id, role, name_card)::text ORDER BY group_id, user_id)
                                        FROM group_member_states WHERE present)
            AND (SELECT array_agg((group_id, topic_id, name, introduction)::text ORDER BY group_id, topic_id)
                   FROM active_group_topics)
                IS NOT DISTINCT FROM (SELECT array_agg((group_id, topic_id, name, introduction)::text ORDER BY group_id, topic_id)
                                        FROM group_topic_states WHERE active)",
    )
    .fetch_one(conn)
    .await
    .unwrap();
    assert!(same, "the active_ views show what is true now");
    rows.into_iter().collect()
}

fn millis(time: &Value) -> Value {
    json!(time.as_str().map(|text| DateTime::parse_from_rfc3339(text).unwrap().timestamp_millis()))
}

/// An id as one segment of a path.
pub(crate) fn escaped(id: &str) -> String {
    id.bytes().fold(String::new(), |text, byte| format!("{text}%{byte:02X}"))
}

fn kept(from: &Value, keys: &[&str]) -> Map<String, Value> {
    keys.iter().map(|key| ((*key).to_owned(), from[*key].clone())).collect()
}

/// The members of one page.
pub(crate) fn members_of(page: &Value) -> Vec<Value> {
    let shown = |member: &Value| {
        let keys =
            ["user_id", "status", "role", "name_card", "join_type", "joined_by", "exit_type", "left_by"];
        let mut shown = kept(member, &keys);
        for key in ["joined_at", "left_at"] {
            shown.insert(key.to_owned(), millis(&member[key]));
        }
        Value::Object(shown)
    };
    page["items"].as_array().unwrap().iter().map(shown).collect()
}

/// The topics of one page.
fn topics_of(page: &Value) -> Vec<Value> {
    let shown = |topic: &Value| {
        let keys = ["topic_id", "status", "name", "introduction", "notification", "face_url", "created_by"];
        let mut shown = kept(topic, &keys);
        for key in ["created_at", "destroyed_at"] {
            shown.insert(key.to_owned(), millis(&topic[key]));
        }
        Value::Object(shown)
    };
    page["items"].as_array().unwrap().iter().map(shown).collect()
}

/// What the read API shows of one group; fields that it may grow later are left out.
pub(crate) async fn api(service: &Service, id: &str) -> Value {
    let path = format!("/v1/groups/{}", escaped(id));
    let mut group = service.read(&path).await;
    let members = service.read(&format!("{path}/members?status=all&limit=500")).await;
    let members = members_of(&members);
    let topics = topics_of(&service.read(&format!("{path}/topics?status=all&limit=500")).await);
    if group["member_count"].is_null() {
        // The tables have a number of rows, of a group whose create is not known as well.
        assert!(group["created_at"].is_null() && group["status"] != "destroyed", "{group}");
        group["member_count"] = json!(members.iter().filter(|member| member["status"] == "member").count());
    }
    for key in ["created_at", "updated_at", "destroyed_at"] {
        group[key] = millis(&group[key]);
    }
    group["members"] = json!(members);
    group["topics"] = json!(topics);
    let keys = [
        "group_id",
        "status",
        "type",
        "name",
        "introduction",
        "notification",
        "face_url",
        "owner",
        "created_by",
        "member_count",
        "user_defined_fields",
        "attributes",
        "created_at",
        "updated_at",
        "destroyed_at",
        "members",
        "topics",
    ];
    Value::Object(kept(&group, &keys))
}

/// The same in few words, for tables of expectations. Times are relative to `base`.
///
/// `active Work "one" owner=ana by=ana @0 †9000 {k=v} [k=v] | ana:Owner boris:Admin"card" | chen@3000`, and the topics
/// of [`topic_words`].
pub(crate) fn words(shown: &Value, base: i64) -> String {
    let at = |key: &str, of: &Value| of[key].as_i64().map(|time| time - base);
    let mut words = vec![shown["status"].as_str().unwrap().to_owned()];
    words.extend(shown["type"].as_str().map(str::to_owned));
    words.extend(shown["name"].as_str().map(|name| format!("{name:?}")));
    for (mark, key) in [("intro", "introduction"), ("notice", "notification"), ("face", "face_url")] {
        words.extend(shown[key].as_str().map(|text| format!("{mark}={text:?}")));
    }
    for (mark, key) in [("owner", "owner"), ("by", "created_by")] {
        words.extend(shown[key].as_str().map(|user| format!("{mark}={user}")));
    }
    words.extend(at("created_at", shown).map(|time| format!("@{time}")));
    words.extend(at("destroyed_at", shown).map(|time| format!("†{time}")));
    for (key, open, close) in [("user_defined_fields", '{', '}'), ("attributes", '[', ']')] {
        let pairs: Vec<String> = shown[key]
            .as_object()
            .unwrap()
            .iter()
            .map(|(key, value)| format!("{key}={}", value.as_str().unwrap()))
            .collect();
        if !pairs.is_empty() {
            words.push(format!("{open}{}{close}", pairs.join(",")));
        }
    }
    let (mut present, mut left) = (String::new(), String::new());
    for member in shown["members"].as_array().unwrap() {
        let id = member["user_id"].as_str().unwrap();
        if member["status"] == "member" {
            let card = member["name_card"].as_str().map(|card| format!("{card:?}")).unwrap_or_default();
            present += &format!(" {id}:{}{card}", member["role"].as_str().unwrap());
        } else {
            assert_eq!((&member["role"], &member["name_card"]), (&json!("Member"), &Value::Null), "{shown}");
            left += &format!(" {id}@{}", at("left_at", member).unwrap());
        }
    }
    format!("{} |{present} |{left}{}", words.join(" "), topic_words(shown, base))
}

/// Behind the members, where there are topics: ` | #a:"name" intro="hi" @3000 #b†4000`.
fn topic_words(shown: &Value, base: i64) -> String {
    let mut words = String::new();
    for topic in shown["topics"].as_array().unwrap() {
        let id = topic["topic_id"].as_str().unwrap();
        words += &format!(" #{}", id.rsplit('_').next().unwrap());
        words.extend(topic["name"].as_str().map(|name| format!(":{name:?}")));
        for (mark, key) in [("intro", "introduction"), ("notice", "notification"), ("face", "face_url")] {
            words.extend(topic[key].as_str().map(|text| format!(" {mark}={text:?}")));
        }
        for (mark, key) in [("@", "created_at"), ("†", "destroyed_at")] {
            words.extend(topic[key].as_i64().map(|time| format!(" {mark}{}", time - base)));
        }
    }
    if words.is_empty() { words } else { format!(" |{words}") }
}
