//! Answers as the ledger keeps them where no answer can be kept as it came: a list of members that came in pages, one
//! group out of an answer about fifty, parts of an answer that is too large for an entry.
//!
//! What is written here is an answer of the same command, so that [`MemberPage`](super::members::MemberPage),
//! [`GroupInfos`](super::groups::GroupInfos) and the readers of [`super::details`] read it as they read one of Tencent's.

use serde_json::{Map, Value, json};

use super::details::TopicElement;
use super::groups::GroupInfo;
use super::members::ListedMember;
use crate::model::{FieldKey, GroupId};

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

/// An object of what is given.
fn given<const N: usize>(values: [(&str, Option<Value>); N]) -> Value {
    let given = values.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?)));
    Value::Object(given.collect::<Map<_, _>>())
}

fn pairs(fields: &[(FieldKey, String)]) -> Value {
    fields.iter().map(|(key, value)| json!({ "Key": key.as_str(), "Value": value })).collect()
}

fn row(member: &ListedMember) -> Value {
    let fields = member.custom_fields.as_deref().filter(|fields| !fields.is_empty()).map(pairs);
    given([
        ("Member_Account", Some(json!(member.user.as_str()))),
        ("Role", member.role.as_ref().map(|role| json!(role))),
        ("JoinTime", member.join_secs.map(|secs| json!(secs))),
        ("MuteUntil", member.mute_until_secs.map(|secs| json!(secs))),
        ("NameCard", member.name_card.as_ref().map(|card| json!(card))),
        ("AppMemberDefinedData", fields),
    ])
}

/// An answer of `get_group_info` about one group out of many, with the fields that the mirror uses, and `LastInfoTime` and
/// `MemberNum`, which show a person how it fits to what came before. Members are entered by themselves.
#[must_use]
pub fn profile(group: &GroupId, info: &GroupInfo) -> Vec<u8> {
    let text = |text: &Option<String>| text.as_ref().map(|text| json!(text));
    let owner = |owner: &Option<_>| json!(owner.as_ref().map_or("", crate::model::UserId::as_str));
    let element = given([
        ("GroupId", Some(json!(group.as_str()))),
        ("ErrorCode", Some(json!(0))),
        ("Type", text(&info.group_type)),
        ("Name", text(&info.name)),
        ("Introduction", text(&info.introduction)),
        ("Notification", text(&info.notification)),
        ("FaceUrl", text(&info.face_url)),
        ("Owner_Account", info.owner.as_ref().map(owner)),
        ("CreateTime", info.create_secs.map(|secs| json!(secs))),
        ("LastInfoTime", info.last_info_secs.map(|secs| json!(secs))),
        ("MemberNum", info.member_num.map(|number| json!(number))),
        ("MaxMemberNum", info.max_member_num.map(|number| json!(number))),
        ("ApplyJoinOption", text(&info.apply_join_option)),
        ("InviteJoinOption", text(&info.invite_join_option)),
        ("MuteAllMember", info.mute_all.map(|is_on| json!(if is_on { "On" } else { "Off" }))),
        ("SupportTopic", info.supports_topics.map(|is_on| json!(u8::from(is_on)))),
        ("AppDefinedData", info.custom_fields.as_deref().map(pairs)),
    ]);
    one_group(element.to_string().as_bytes())
}

/// An answer of `get_group_info` that says by a code that there is no such group.
#[must_use]
pub fn no_group(group: &GroupId, code: i64) -> Vec<u8> {
    one_group(json!({ "GroupId": group.as_str(), "ErrorCode": code }).to_string().as_bytes())
}

/// A part of an answer of `get_group_attr`.
#[must_use]
pub fn attributes(attributes: &[(FieldKey, String)]) -> Vec<u8> {
    let pairs: Value =
        attributes.iter().map(|(key, value)| json!({ "key": key.as_str(), "value": value })).collect();
    json!({ "ActionStatus": "OK", "ErrorCode": 0, "GroupAttrAry": pairs }).to_string().into_bytes()
}

/// A part of an answer of `get_topic`, with the fields that the mirror uses.
#[must_use]
pub fn topics(topics: &[TopicElement]) -> Vec<u8> {
    let element = |topic: &TopicElement| {
        let id = json!(topic.topic.as_str());
        let info = match &topic.info {
            Err(code) => return json!({ "ErrorCode": code.code, "TopicInfo": { "TopicId": id } }),
            Ok(info) => info,
        };
        let text = |text: &Option<String>| text.as_ref().map(|text| json!(text));
        let info = given([
            ("TopicId", Some(id)),
            ("TopicName", text(&info.name)),
            ("Introduction", text(&info.introduction)),
            ("Notification", text(&info.notification)),
            ("FaceUrl", text(&info.face_url)),
        ]);
        json!({ "ErrorCode": 0, "TopicInfo": info })
    };
    let elements: Value = topics.iter().map(element).collect();
    json!({ "ActionStatus": "OK", "ErrorCode": 0, "TopicAndSelfInfo": elements }).to_string().into_bytes()
}

/// An answer of `get_group_info` about one group, around the bytes of its element.
#[must_use]
pub fn one_group(element: &[u8]) -> Vec<u8> {
    let mut answer = br#"{"ActionStatus":"OK","ErrorCode":0,"GroupInfo":["#.to_vec();
    answer.extend_from_slice(element);
    answer.extend_from_slice(b"]}");
    answer
}
