//! Generated callbacks over few groups, few users and few moments, so that everything collides.

use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Map, Value, json};

/// 2023-11-14; every generated event time is near it.
pub(crate) const BASE_MS: i64 = 1_700_000_000_000;

/// Event times that meet: equal ones, neighbours, both sides of the 10 s that a create reaches back.
const OFFSETS: [i64; 12] = [0, 1, 2, 3, 4_000, 9_999, 10_000, 10_001, 10_002, 14_000, 20_001, 30_000];

const GROUPS: [&str; 3] = ["g1", "g 2/%", "g3"];
const USERS: [&str; 4] = ["ana", "boris-2", "chen_li", "dora9"];
const TEXTS: [&str; 4] = ["", "one", "two", "nul\u{0}and\u{7}bell"];
const KEYS: [&str; 3] = ["k1", "k2", "k\u{0}3"];
const TYPES: [&str; 6] = ["Private", "Work", "Public", "ChatRoom", "Community", "AVChatRoom"];
const TOPICS: [&str; 2] = ["@TOPIC#_a", "@TOPIC#_@TOPIC#b"];

fn user() -> impl Strategy<Value = &'static str> {
    select(&USERS[..])
}

fn accounts() -> impl Strategy<Value = Value> {
    prop::collection::vec(user(), 0..4)
        .prop_map(|users| users.into_iter().map(|user| json!({ "Member_Account": user })).collect())
}

fn maybe(text: &'static [&'static str]) -> impl Strategy<Value = Value> {
    prop_oneof![2 => Just(Value::Null), 3 => select(text).prop_map(|text| json!(text))]
}

fn pairs(key: &'static str, value: &'static str) -> impl Strategy<Value = Value> {
    prop::collection::vec((select(&KEYS[..]), select(&TEXTS[..])), 0..3)
        .prop_map(move |pairs| pairs.into_iter().map(|(k, v)| json!({ key: k, value: v })).collect())
}

fn topic_ids(group: &'static str) -> impl Strategy<Value = String> {
    select(&TOPICS[..]).prop_map(move |topic| format!("{group}{topic}"))
}

/// The parts of a body beside group, type, operator and time.
fn content(group: &'static str) -> impl Strategy<Value = (&'static str, Value)> {
    let profile = || {
        (maybe(&TEXTS), maybe(&TEXTS), maybe(&TEXTS), maybe(&TEXTS)).prop_map(|(name, intro, notice, face)| {
            json!({ "Name": name, "Introduction": intro, "Notification": notice, "FaceUrl": face })
        })
    };
    let with = |mut into: Value, more: Value| {
        into.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        into
    };
    prop_oneof![
        3 => (maybe(&TEXTS), maybe(&USERS), accounts(), pairs("Key", "Value")).prop_map(|(name, owner, list, fields)| {
            let body = json!({ "Name": name, "Owner_Account": owner, "MemberList": list, "UserDefinedDataList": fields });
            ("AfterCreateGroup", body)
        }),
        4 => accounts().prop_map(|list| ("AfterNewMemberJoin", json!({ "JoinType": "Apply", "NewMemberList": list }))),
        4 => accounts().prop_map(|list| ("AfterMemberExit", json!({ "ExitType": "Quit", "ExitMemberList": list }))),
        2 => accounts().prop_map(|list| ("AfterGroupDestroyed", json!({ "MemberList": list, "Name": "end" }))),
        2 => (profile(), pairs("Key", "Value")).prop_map(move |(profile, fields)| {
            ("AfterGroupInfoChanged", with(profile, json!({ "UserDefinedDataList": fields })))
        }),
        3 => (user(), maybe(&["Admin", "Member"]), maybe(&TEXTS)).prop_map(|(user, role, card)| {
            ("AfterMemberFieldChanged", json!({ "Member_Account": user, "Role": role, "NameCard": card }))
        }),
        3 => (maybe(&["set", "modify", "delete", "clear", "odd"]), pairs("key", "value")).prop_map(|(option, pairs)| {
            ("AfterGroupAttrChanged", json!({ "OptionType": option, "GroupAttr": pairs }))
        }),
        3 => (maybe(&USERS), maybe(&USERS)).prop_map(|(old, new)| {
            let new = if new.is_null() { json!("") } else { new };
            ("AfterChangeGroupOwner", json!({ "OldOwner_Account": old, "NewOwner_Account": new }))
        }),
        1 => (topic_ids(group), maybe(&TEXTS)).prop_map(|(topic, name)| {
            ("AfterCreateTopic", json!({ "TopicId": topic, "Name": name }))
        }),
        1 => prop::collection::vec(topic_ids(group), 0..3).prop_map(|topics| {
            ("AfterTopicDestroyed", json!({ "TopicIdList": topics }))
        }),
        1 => (prop::option::of(topic_ids(group)), profile()).prop_map(move |(topic, profile)| {
            ("AfterTopicInfoChanged", with(profile, json!({ "TopicId": topic })))
        }),
    ]
}

/// One body of any of the eleven commands, with an event time as a number or as a text.
pub(crate) fn body() -> impl Strategy<Value = Value> {
    let group = select(&GROUPS[..]);
    let whole = group.prop_flat_map(|group| {
        (Just(group), content(group), maybe(&TYPES), maybe(&USERS), select(&OFFSETS[..]), any::<bool>())
    });
    whole.prop_map(|(group, (command, content), group_type, operator, offset, quoted)| {
        let time = BASE_MS + offset;
        let mut body = Map::new();
        body.insert("CallbackCommand".into(), json!(format!("Group.Callback{command}")));
        body.insert("GroupId".into(), json!(group));
        body.insert("Type".into(), group_type);
        body.insert("Operator_Account".into(), operator);
        body.insert("EventTime".into(), if quoted { json!(time.to_string()) } else { json!(time) });
        body.extend(content.as_object().unwrap().clone());
        // Null is absent; Tencent leaves a key out.
        body.retain(|_, value| !value.is_null());
        Value::Object(body)
    })
}

/// A history: what happened, in no order that matters.
pub(crate) fn history() -> impl Strategy<Value = Vec<Value>> {
    prop::collection::vec(body(), 1..24)
}

/// The history with ids of its own, so that many fit into one database.
pub(crate) fn renamed(history: &[Value], prefix: &str) -> Vec<Value> {
    let rename = |body: &Value| {
        let mut body = body.clone();
        let group = format!("{prefix}{}", body["GroupId"].as_str().unwrap());
        if let Some(topic) = body.get("TopicId").and_then(Value::as_str) {
            body["TopicId"] = json!(format!("{prefix}{topic}"));
        }
        if let Some(topics) = body.get("TopicIdList").and_then(Value::as_array) {
            let topics: Vec<_> =
                topics.iter().map(|id| format!("{prefix}{}", id.as_str().unwrap())).collect();
            body["TopicIdList"] = json!(topics);
        }
        body["GroupId"] = json!(group);
        body
    };
    history.iter().map(rename).collect()
}
