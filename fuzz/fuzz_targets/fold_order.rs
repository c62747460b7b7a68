//! Bytes become a history of callbacks, then an order and a cut: neither changes the rows, and what is shown of them
//! never contradicts itself.
#![no_main]

use group_mirror_fuzz::callback::{Callback, Decoded, decode};
use group_mirror_fuzz::mirror::{self, Rows, Status, Transition, group_state, member_state};
use group_mirror_fuzz::{RECEIVED_MS, received};
use libfuzzer_sys::fuzz_target;
use serde_json::{Value, json};

const USERS: [&str; 4] = ["ana", "boris", "chen", "dora"];
const TEXTS: [Option<&str>; 4] = [None, Some(""), Some("one"), Some("two\0")];
const TYPES: [Option<&str>; 4] = [None, Some("Private"), Some("Public"), Some("AVChatRoom")];
const ROLES: [Option<&str>; 4] = [None, Some("Admin"), Some("Member"), None];
const OPTIONS: [&str; 5] = ["set", "modify", "delete", "clear", "odd"];
const OFFSETS: [i64; 8] = [0, 1, 2, 5_000, 9_999, 10_000, 10_001, 20_002];
const BASE_MS: i64 = 1_700_000_000_000;

/// Six bytes of the input: what, when, who, and three that fill in the rest.
fn body(six: [u8; 6]) -> Value {
    let [what, when, who, a, b, c] = six;
    let pick = |texts: [Option<&'static str>; 4], by: u8| texts[usize::from(by % 4)];
    let user = |by: u8| USERS[usize::from(by % 4)];
    let list: Vec<Value> = USERS
        .iter()
        .enumerate()
        .filter(|(bit, _)| who >> bit & 1 == 1)
        .map(|(_, user)| json!({ "Member_Account": user }))
        .collect();
    let pair = |key: &str, value: &str| {
        let name = ["k", "l", "m", ""][usize::from(a % 4)];
        json!([{ key: name, value: pick(TEXTS, b) }])
    };
    let maybe = |by: u8| (by % 5 > 0).then(|| user(by));
    let topic = format!("g@TOPIC#_{}", a % 2);
    let (command, mut body) = match what % 11 {
        0 => (
            "AfterCreateGroup",
            json!({ "Owner_Account": maybe(a), "MemberList": list, "Name": pick(TEXTS, b),
            "UserDefinedDataList": pair("Key", "Value") }),
        ),
        1 => ("AfterNewMemberJoin", json!({ "NewMemberList": list, "JoinType": pick(TEXTS, a) })),
        2 => ("AfterMemberExit", json!({ "ExitMemberList": list, "ExitType": pick(TEXTS, a) })),
        3 => ("AfterGroupDestroyed", json!({})),
        4 => (
            "AfterGroupInfoChanged",
            json!({ "Name": pick(TEXTS, a), "Introduction": pick(TEXTS, b),
            "FaceUrl": pick(TEXTS, who), "UserDefinedDataList": pair("Key", "Value") }),
        ),
        5 => (
            "AfterMemberFieldChanged",
            json!({ "Member_Account": user(who), "NameCard": pick(TEXTS, b),
            "Role": pick(ROLES, a) }),
        ),
        6 => (
            "AfterGroupAttrChanged",
            json!({ "GroupAttr": pair("key", "value"),
            "OptionType": OPTIONS[usize::from(who % 5)] }),
        ),
        7 => ("AfterChangeGroupOwner", json!({ "OldOwner_Account": maybe(a), "NewOwner_Account": maybe(b) })),
        8 => ("AfterCreateTopic", json!({ "TopicId": topic, "Name": pick(TEXTS, b) })),
        9 => ("AfterTopicDestroyed", json!({ "TopicIdList": [topic] })),
        _ => (
            "AfterTopicInfoChanged",
            json!({ "TopicId": (b % 2 == 0).then_some(topic), "Name": pick(TEXTS, b) }),
        ),
    };
    body["CallbackCommand"] = json!(format!("Group.Callback{command}"));
    body["GroupId"] = json!("g");
    body["Type"] = json!(pick(TYPES, c));
    body["Operator_Account"] = json!(maybe(c / 4));
    body["EventTime"] = json!(BASE_MS + OFFSETS[usize::from(when % 8)] + i64::from(when / 64));
    body
}

fn fold<'a>(callbacks: impl Iterator<Item = &'a Callback>) -> Rows {
    Rows::of(callbacks.flat_map(mirror::facts))
}

/// What no history may lead to.
fn check(rows: &Rows) {
    for (key, group) in &rows.groups {
        let of_group = |user| rows.members.get(&(key.clone(), user));
        let state = group_state(group, group.owner.value.clone().and_then(of_group));
        assert_eq!(state.status == Status::Destroyed, state.destroyed_at.is_some());
        assert!(
            [state.created_at, state.destroyed_at].iter().flatten().all(|time| *time <= state.updated_at)
        );
        for ((_, user), member) in &rows.members {
            let Some(shown) = member_state(group, state.owner.as_ref(), user, member) else { continue };
            assert_eq!(shown.present, shown.left_at.is_none());
            assert!(!(shown.present && state.status == Status::Destroyed));
            assert_eq!(shown.role == "Owner", shown.present && state.owner.as_ref() == Some(user));
            assert!(shown.present || (shown.name_card.is_none() && shown.role == "Member"));
            // A leave cannot come before the join it ended, but for a join that straggles behind the destroy.
            let straggles = shown.exit == Transition::default() && shown.left_at == state.destroyed_at;
            assert!(shown.left_at.is_none() || straggles || shown.joined_at <= shown.left_at, "{shown:?}");
        }
    }
}

fuzz_target!(|data: &[u8]| {
    let callbacks: Vec<Callback> = data
        .as_chunks()
        .0
        .iter()
        .take(12)
        .map(|six| match decode(received(body(*six).to_string().as_bytes(), None, RECEIVED_MS)) {
            Decoded::Kept(callback) if callback.event.is_ok() => *callback,
            other => panic!("{other:?}"),
        })
        .collect();
    let rows = fold(callbacks.iter());
    check(&rows);
    // An order and a cut that depend on every byte.
    let mut seed = data.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3)
    });
    let mut order: Vec<&Callback> = callbacks.iter().chain(&callbacks).collect();
    for at in (1..order.len()).rev() {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        order.swap(at, usize::try_from(seed >> 33).expect("31 bits") % (at + 1));
    }
    assert_eq!(fold(order.iter().copied()), rows);
    let (left, right) = order.split_at(order.len() / 3);
    let mut merged = fold(right.iter().copied());
    merged.merge(fold(left.iter().copied()));
    assert_eq!(merged, rows);
});
