//! Generated histories: callbacks over few groups, few users and few moments, so that everything collides, and whole lives of
//! one id that follow each other within milliseconds, with stragglers stamped after the end.
//!
//! Every test of the laws draws from here; the oracle and the twins compare what such histories lead to.

use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Map, Value, json};

/// 2023-11-14; every generated event time is near it.
pub(crate) const BASE_MS: i64 = 1_700_000_000_000;

/// Event times that meet: equal ones, neighbours, both sides of the 10 s before a create and after an end.
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
        3 => (topic_ids(group), maybe(&TEXTS)).prop_map(|(topic, name)| {
            ("AfterCreateTopic", json!({ "TopicId": topic, "Name": name }))
        }),
        2 => prop::collection::vec(topic_ids(group), 0..3).prop_map(|topics| {
            ("AfterTopicDestroyed", json!({ "TopicIdList": topics }))
        }),
        3 => (prop::option::weighted(0.8, topic_ids(group)), profile()).prop_map(move |(topic, profile)| {
            ("AfterTopicInfoChanged", with(profile, json!({ "TopicId": topic })))
        }),
    ]
}

/// A whole body out of its parts; null is absent, because Tencent leaves a key out.
fn assembled(
    group: &str,
    (command, content): (&str, Value),
    (group_type, operator): (Value, Value),
    time: Value,
) -> Value {
    let mut body = Map::new();
    body.insert("CallbackCommand".into(), json!(format!("Group.Callback{command}")));
    body.insert("GroupId".into(), json!(group));
    body.insert("Type".into(), group_type);
    body.insert("Operator_Account".into(), operator);
    body.insert("EventTime".into(), time);
    body.extend(content.as_object().unwrap().clone());
    body.retain(|_, value| !value.is_null());
    Value::Object(body)
}

/// One body of any of the eleven commands, with an event time as a number or as a text.
pub(crate) fn body() -> impl Strategy<Value = Value> {
    let group = select(&GROUPS[..]);
    let whole = group.prop_flat_map(|group| {
        (Just(group), content(group), maybe(&TYPES), maybe(&USERS), select(&OFFSETS[..]), any::<bool>())
    });
    whole.prop_map(|(group, content, group_type, operator, offset, quoted)| {
        let time = BASE_MS + offset;
        let time = if quoted { json!(time.to_string()) } else { json!(time) };
        assembled(group, content, (group_type, operator), time)
    })
}

/// One life of a group: how long it lasts, how long after it the next begins, which of its two ends were lost, what happens
/// in it, and what is stamped after it although it speaks of it.
type OneLife = (i64, i64, (bool, bool), Vec<((&'static str, Value), i64)>, Vec<((&'static str, Value), i64)>);

fn one_life(group: &'static str) -> impl Strategy<Value = OneLife> {
    let lost = || prop::bool::weighted(0.15);
    let inside = prop::collection::vec((content(group), 0..=7_000_i64), 0..5);
    let stragglers = prop::collection::vec((content(group), select(&[1_i64, 3, 9_999, 10_000][..])), 0..3);
    (
        select(&[2_i64, 400, 7_000][..]),
        select(&[1_i64, 2, 5_000, 10_001][..]),
        (lost(), lost()),
        inside,
        stragglers,
    )
}

/// Up to five lives of one id, the next often a millisecond after the one before, within two minutes in all.
fn lives() -> impl Strategy<Value = Vec<Value>> {
    let lives = select(&GROUPS[..])
        .prop_flat_map(|group| (Just(group), prop::collection::vec(one_life(group), 1..6)));
    lives.prop_map(|(group, lives)| {
        let (mut bodies, mut start) = (Vec::new(), BASE_MS);
        let said =
            |content, time: i64| assembled(group, content, (json!("Community"), Value::Null), json!(time));
        for (lasts, gap, (create_lost, destroy_lost), inside, stragglers) in lives {
            let end = start + lasts;
            let members = json!([{ "Member_Account": "boris-2" }]);
            let create = json!({ "Name": "one", "Owner_Account": "ana", "MemberList": members });
            bodies.extend((!create_lost).then(|| said(("AfterCreateGroup", create), start)));
            bodies.extend((!destroy_lost).then(|| said(("AfterGroupDestroyed", json!({})), end)));
            bodies.extend(inside.into_iter().map(|(content, at)| said(content, start + at % (lasts + 1))));
            bodies.extend(stragglers.into_iter().map(|(content, late)| said(content, end + late)));
            start = end + gap;
        }
        bodies
    })
}

/// A history: what happened, in no order that matters.
pub(crate) fn history() -> impl Strategy<Value = Vec<Value>> {
    let collisions = prop::collection::vec(body(), 1..24);
    prop_oneof![3 => collisions, 2 => lives().prop_filter("nothing was received", |bodies| !bodies.is_empty())]
}

/// A body as it was received: when, in milliseconds after the base, and with which `RequestID`.
pub(crate) type Receipt = (Value, i64, Option<&'static str>);

/// The receipts of a history, in which some bodies have no event time: their stamps hold the receipt, which is often that of
/// another body, and Tencent may have sent them again with one `RequestID`.
pub(crate) fn receipts() -> impl Strategy<Value = Vec<Receipt>> {
    history().prop_flat_map(|history| {
        let each = history.into_iter().map(|body| {
            let retries = prop::collection::vec(select(&OFFSETS[..]), 1..3);
            (Just(body), prop::bool::weighted(0.3), retries, select(&[None, Some("r1"), Some("r2")][..]))
                .prop_map(|(mut body, timeless, at, request)| {
                    if timeless {
                        body.as_object_mut().unwrap().remove("EventTime");
                    }
                    at.into_iter().map(|at| (body.clone(), at, request)).collect::<Vec<Receipt>>()
                })
        });
        each.collect::<Vec<_>>().prop_map(|receipts| receipts.concat())
    })
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
