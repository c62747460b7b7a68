//! Answers as the ledger keeps them where no answer can be kept as it came: a list of members that came in pages, and one
//! group out of an answer about fifty.
//!
//! What is written here is an answer of the same command, so that [`MemberPage`](super::members::MemberPage) and
//! [`GroupInfos`](super::groups::GroupInfos) read it as they read one of Tencent's.

use serde_json::{Map, Value, json};

use super::members::ListedMember;

/// A list of members by user, with the fields that the mirror uses and no other: what changes with every message would
/// only make the entry larger.
#[must_use]
pub fn member_list<'a>(members: impl IntoIterator<Item = &'a ListedMember>) -> Vec<u8> {
    let mut members: Vec<&ListedMember> = members.into_iter().collect();
    members.sort_by(|a, b| a.user.cmp(&b.user));
    members.dedup_by(|later, first| later.user == first.user);
    let rows: Vec<Value> = members.into_iter().map(row).collect();
    json!({ "ActionStatus": "OK", "ErrorCode": 0, "MemberList": rows }).to_string().into_bytes()
}

fn row(member: &ListedMember) -> Value {
    let fields = member.custom_fields.as_ref().filter(|fields| !fields.is_empty()).map(|fields| {
        fields.iter().map(|(key, value)| json!({ "Key": key.as_str(), "Value": value })).collect::<Value>()
    });
    let values = [
        ("Member_Account", Some(json!(member.user.as_str()))),
        ("Role", member.role.as_ref().map(|role| json!(role))),
        ("JoinTime", member.join_secs.map(|secs| json!(secs))),
        ("MuteUntil", member.mute_until_secs.map(|secs| json!(secs))),
        ("NameCard", member.name_card.as_ref().map(|card| json!(card))),
        ("AppMemberDefinedData", fields),
    ];
    let given = values.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?)));
    Value::Object(given.collect::<Map<_, _>>())
}

/// An answer of `get_group_info` about one group, around the bytes of its element.
#[must_use]
pub fn one_group(element: &[u8]) -> Vec<u8> {
    let mut answer = br#"{"ActionStatus":"OK","ErrorCode":0,"GroupInfo":["#.to_vec();
    answer.extend_from_slice(element);
    answer.extend_from_slice(b"]}");
    answer
}
