//! Generated snapshots: answers of Tencent's REST API of every kind, about the groups, users and moments of the generated
//! callbacks, so that reads and callbacks meet in every order.
//!
//! The answers are no true state of anything: the laws must hold whatever Tencent says. A third of them has a σ that is
//! another read's, with another time of sending.

use group_mirror::mirror::{Fact, ListRange, ReadKind, ReadTime, Snapshot, group_key};
use group_mirror::model::{Digest, GroupId, Millis, SdkAppId, UserId};
use group_mirror::tencent::UnreadParts;
use group_mirror::tencent::members::ListedMember;
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Value, json};

use super::APP;
use super::histories::{BASE_MS, GROUPS, OFFSETS, TEXTS, TYPES, USERS};

fn maybe(text: &'static [&'static str]) -> impl Strategy<Value = Option<&'static str>> {
    prop::option::weighted(0.6, select(text))
}

fn profile(group: &'static str) -> impl Strategy<Value = (ReadKind, Value)> {
    let owner = prop_oneof![1 => Just(None), 1 => Just(Some("")), 3 => select(&USERS[..]).prop_map(Some)];
    let fields =
        prop::option::of(prop::collection::vec((select(&["k1", "k2"][..]), select(&TEXTS[..])), 0..3));
    let silent = (any::<bool>(), select(&[0_i64, 200, 2_000][..]), select(&OFFSETS[..]));
    (maybe(&TYPES), maybe(&TEXTS), maybe(&TEXTS), owner, fields, silent).prop_map(
        move |(kind, name, notice, owner, fields, (mute, most, created))| {
            let fields = fields.map(|fields| -> Value {
                fields.into_iter().map(|(key, value)| json!({ "Key": key, "Value": value })).collect()
            });
            let mut element = json!({
                "GroupId": group, "ErrorCode": 0, "Type": kind, "Name": name, "Notification": notice,
                "Owner_Account": owner, "AppDefinedData": fields, "MaxMemberNum": most,
                "MuteAllMember": if mute { "On" } else { "Off" }, "CreateTime": (BASE_MS + created) / 1000,
            });
            element.as_object_mut().unwrap().retain(|_, value| !value.is_null());
            (ReadKind::Profile, json!({ "ActionStatus": "OK", "ErrorCode": 0, "GroupInfo": [element] }))
        },
    )
}

fn members() -> impl Strategy<Value = (ReadKind, Value)> {
    let member = (
        select(&["Owner", "Admin", "Member", "Member "][..]),
        maybe(&TEXTS),
        prop::option::of(select(&OFFSETS[..])),
        select(&[0_i64, 4_294_967_295][..]),
        any::<bool>(),
    );
    prop::collection::btree_map(select(&USERS[..]), member, 0..4).prop_map(|members| {
        let rows: Vec<Value> = members
            .into_iter()
            .map(|(user, (role, card, joined, mute, has_fields))| {
                let fields = has_fields.then(|| json!([{ "Key": "level", "Value": "3" }]));
                let mut row = json!({
                    "Member_Account": user, "Role": role, "NameCard": card, "MuteUntil": mute,
                    "JoinTime": joined.map(|joined| (BASE_MS + joined) / 1000), "AppMemberDefinedData": fields,
                });
                row.as_object_mut().unwrap().retain(|_, value| !value.is_null());
                row
            })
            .collect();
        (ReadKind::Members, json!({ "ActionStatus": "OK", "ErrorCode": 0, "MemberList": rows }))
    })
}

fn attributes() -> impl Strategy<Value = (ReadKind, Value)> {
    prop::collection::btree_map(select(&["k1", "k2"][..]), select(&TEXTS[..]), 0..3).prop_map(|pairs| {
        let pairs: Value =
            pairs.into_iter().map(|(key, value)| json!({ "key": key, "value": value })).collect();
        (ReadKind::Attributes, json!({ "ActionStatus": "OK", "ErrorCode": 0, "GroupAttrAry": pairs }))
    })
}

fn topics(group: &'static str) -> impl Strategy<Value = (ReadKind, Value)> {
    let topics = [format!("{group}@TOPIC#_a"), format!("{group}@TOPIC#_@TOPIC#b")];
    prop::collection::btree_map(select(topics.to_vec()), (maybe(&TEXTS), any::<bool>()), 0..3).prop_map(
        |topics| {
            let topics: Value = topics
                .into_iter()
                .map(|(topic, (name, is_gone))| {
                    let code = if is_gone { 110_003 } else { 0 };
                    json!({ "ErrorCode": code, "TopicInfo": { "TopicId": topic, "TopicName": name } })
                })
                .collect();
            (ReadKind::Topics, json!({ "ActionStatus": "OK", "ErrorCode": 0, "TopicAndSelfInfo": topics }))
        },
    )
}

/// A snapshot of any kind.
pub(crate) fn snapshot() -> impl Strategy<Value = Snapshot> {
    let answer = |group: &'static str| {
        prop_oneof![
            3 => profile(group),
            1 => Just((ReadKind::Gone, json!({ "ErrorCode": 10_010 }))),
            6 => members(),
            1 => attributes(),
            1 => topics(group),
        ]
    };
    select(&GROUPS[..]).prop_flat_map(move |group| around(group, answer(group)))
}

/// Some members of a group.
pub(crate) fn incomplete_list() -> impl Strategy<Value = Snapshot> {
    let list = select(&GROUPS[..]).prop_flat_map(|group| around(group, members()));
    list.prop_map(|list| Snapshot { is_complete: false, ..list })
}

fn around(
    group: &'static str,
    answer: impl Strategy<Value = (ReadKind, Value)>,
) -> impl Strategy<Value = Snapshot> {
    let range = prop::option::weighted(0.3, select(&USERS[..]));
    let missing = prop::collection::btree_set(select(&USERS[..]), 0..2);
    let time = (select(&OFFSETS[..]), select(&[0_i64, 15_000, 60_000][..]));
    let parts = (answer, time, prop::bool::weighted(0.7), range, missing);
    parts.prop_map(move |((kind, answer), (offset, spare_ms), is_complete, range, missing)| {
        let sigma = BASE_MS + offset;
        let is_list = kind == ReadKind::Members;
        Snapshot {
            group: group_key(SdkAppId::parse(APP).unwrap(), GroupId::parse(group).unwrap()),
            time: ReadTime { sigma: Millis::new(sigma), sent: Millis::new(sigma + spare_ms), spare_ms },
            kind,
            is_complete: is_complete || kind == ReadKind::Profile,
            range: range.filter(|_| is_list).map(|of| ListRange::of(&UserId::parse(of).unwrap())),
            missing: missing.into_iter().filter(|_| is_list).map(str::to_owned).collect(),
            answer: answer.to_string().into_bytes(),
        }
    })
}

/// What a snapshot states, read from the bytes that the ledger would keep.
pub(crate) fn facts(snapshot: &Snapshot) -> Vec<Fact> {
    let body = snapshot.body();
    let digest = Digest::of(snapshot.kind.command(), &body);
    let read = Snapshot::of_body(snapshot.group.clone(), &body).unwrap();
    assert_eq!(&read, snapshot, "the envelope is read as it was written");
    read.facts(&digest).unwrap()
}

/// The same of a group with another id, so that many histories fit into one database.
pub(crate) fn renamed(snapshot: &Snapshot, prefix: &str) -> Snapshot {
    let id = snapshot.group.group.as_str();
    let answer = String::from_utf8(snapshot.answer.clone()).unwrap();
    let (quoted, topic) = (format!("\"{id}\""), format!("\"{id}@TOPIC"));
    let answer = answer.replace(&quoted, &format!("\"{prefix}{id}\""));
    let answer = answer.replace(&topic, &format!("\"{prefix}{id}@TOPIC"));
    Snapshot {
        group: group_key(snapshot.group.app, GroupId::parse(&format!("{prefix}{id}")).unwrap()),
        answer: answer.into_bytes(),
        ..snapshot.clone()
    }
}

/// A complete list of these users as of a moment, in ranges where it is large.
pub(crate) fn lists(group: &str, users: &[String], sigma: i64) -> Vec<Snapshot> {
    let member = |user: &String| ListedMember {
        user: UserId::parse(user).unwrap(),
        role: Some("Member".to_owned()),
        join_secs: Some(BASE_MS / 1000),
        mute_until_secs: None,
        name_card: Some(format!("card of {user}")),
        message_flag: None,
        last_message_secs: None,
        custom_fields: None,
        unread: UnreadParts::default(),
    };
    let group = group_key(SdkAppId::parse(APP).unwrap(), GroupId::parse(group).unwrap());
    let time = ReadTime { sigma: Millis::new(sigma), sent: Millis::new(sigma), spare_ms: 0 };
    Snapshot::of_members(&group, time, &users.iter().map(member).collect::<Vec<_>>())
}
