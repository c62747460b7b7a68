//! Reads of groups: ids, profiles with or without members, attributes, topics, groups of a user.
//!
//! Each read shows a state that may be late, profile and members apart, so that `MemberNum` and `MemberList` of one answer
//! may disagree as they may at Tencent.

use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::code::{AskedBody, FakeCode};
use super::group_writes::{FakeAnswer, object};
use super::knobs::{EmptyForm, Spelling};
use super::member_reads::member_shown;
use super::state::{FakeGroup, GroupKind};
use super::world::World;
use crate::tencent::commands::{GROUPS_OF_A_CALL_MAX, IDS_OF_A_PAGE_MAX};

pub(super) fn get_appid_group_list(world: &mut World, body: AskedBody<'_>) -> FakeAnswer {
    let limit = body.number("Limit")?.unwrap_or(u64::from(IDS_OF_A_PAGE_MAX));
    if limit == 0 || limit > u64::from(IDS_OF_A_PAGE_MAX) {
        return Err(FakeCode::bad("Limit is out of its range"));
    }
    let wanted = body.optional_text("GroupType")?.map(GroupKind::parse).transpose()?;
    let (at, next_absent) = (world.read_at(), world.knobs.next_absent);
    let from = body.number("Next")?.unwrap_or(0);
    world.drop_lingering();
    let (mut ids, mut next) = (Vec::new(), 0);
    for (hash, id) in world.listed_from(from) {
        let group = world.group_at(id, at);
        let is_wanted = wanted.is_none_or(|kind| group.is_some_and(|group| group.kind == kind));
        // Neither in the list before its creation is seen, nor after its end but for a while.
        if !is_wanted || (group.is_none() && world.groups.contains_key(id)) {
            continue;
        }
        if ids.len() as u64 == limit {
            next = hash;
            break;
        }
        ids.push(json!({ "GroupId": id }));
    }
    let total = match wanted {
        None => world.count_listed(),
        Some(kind) => world.groups.values().filter(|group| group.kind == kind).count(),
    };
    let mut answer = object(json!({ "GroupIdList": ids, "TotalCount": total }));
    if next != 0 || !next_absent {
        answer.insert("Next".to_owned(), json!(next));
    }
    Ok(answer)
}

/// The fields of a profile that the type has.
fn profile(world: &World, group: &FakeGroup) -> Map<String, Value> {
    let on_off = |is_on: bool| if is_on { "On" } else { "Off" };
    let mut shown = object(json!({
        "Type": group.kind.on_the_wire(), "Owner_Account": group.owner, "CreateTime": group.create_ms / 1000,
        "LastInfoTime": group.info_secs, "LastMsgTime": 0, "NextMsgSeq": group.next_message,
        "MaxMemberNum": group.max_members, "ApplyJoinOption": group.apply_option,
        "InviteJoinOption": group.invite_option,
    }));
    shown.extend(group.texts.iter().map(|(name, text)| ((*name).to_owned(), json!(text))));
    let mute_all = match world.knobs.spelling {
        Spelling::New => "MuteAllMember",
        Spelling::Old => "ShutUpAllMember",
    };
    shown.insert(mute_all.to_owned(), json!(on_off(group.mute_all)));
    if group.kind == GroupKind::AvChatRoom {
        shown.remove("MaxMemberNum");
        shown.remove("InviteJoinOption");
    } else {
        // Of the profile's moment; the list may be of another.
        shown.insert("MemberNum".to_owned(), json!(group.members.len()));
        shown.insert("SupportTopic".to_owned(), json!(u8::from(group.kind == GroupKind::Community)));
    }
    if world.knobs.info_seq {
        shown.insert("InfoSeq".to_owned(), json!(group.info_sequence));
    }
    shown
}

fn pairs(fields: &std::collections::BTreeMap<String, String>, wanted: Option<&[&str]>) -> Value {
    let is_wanted = |key: &str| wanted.is_none_or(|wanted| wanted.contains(&key));
    let shown = fields.iter().filter(|(key, _)| is_wanted(key));
    shown.map(|(key, value)| json!({ "Key": key, "Value": value })).collect()
}

/// The spelling of a filter that the knob's spelling may write otherwise.
fn is_named(names: &[&str], key: &str) -> bool {
    names.contains(&key) || (key == "ShutUpAllMember" && names.contains(&"MuteAllMember"))
}

/// One element of `get_group_info`.
fn info_element(world: &mut World, id: &str, filter: Option<AskedBody<'_>>) -> Result<Value, FakeCode> {
    let names = |key: &str| filter.map_or(Ok(None), |filter| filter.names(key));
    let (base, member) = (names("GroupBaseInfoFilter")?, names("MemberInfoFilter")?);
    let (fields, member_fields) =
        (names("AppDefinedDataFilter_Group")?, names("AppDefinedDataFilter_GroupMember")?);
    let (group, members) = match world.shown(id) {
        Ok(shown) => shown,
        Err(code) => {
            return Ok(json!({ "GroupId": id, "ErrorCode": code.code, "ErrorInfo": code.info }));
        }
    };
    let mut shown = profile(world, &group);
    if filter.is_some() {
        shown.retain(|key, _| base.as_ref().is_some_and(|base| is_named(base, key)));
    } else {
        // `InfoSeq` comes only for those who ask.
        shown.remove("InfoSeq");
    }
    if filter.is_none() || fields.is_some() {
        shown.insert("AppDefinedData".to_owned(), pairs(&group.fields, fields.as_deref()));
    }
    if (filter.is_none() || member.is_some()) && group.kind != GroupKind::AvChatRoom {
        let most = world.knobs.packed_members_max;
        let most = if most == 0 { usize::MAX } else { most };
        let list = members.members.joined_after(0).take(most).map(|(_, account, row)| {
            let wanted = filter.is_some().then(|| member.as_deref().unwrap_or_default());
            member_shown(
                world,
                &members,
                (account, row),
                (wanted, member_fields.as_deref(), filter.is_none()),
            )
        });
        shown.insert("MemberList".to_owned(), list.collect());
    }
    shown.insert("GroupId".to_owned(), json!(id));
    shown.insert("ErrorCode".to_owned(), json!(0));
    if world.knobs.error_info {
        shown.insert("ErrorInfo".to_owned(), json!(""));
    }
    if world.knobs.extra_keys {
        shown.insert("Appid".to_owned(), json!(world.app.get()));
        shown.insert("OnlineMemberNum".to_owned(), json!(0));
    }
    Ok(Value::Object(shown))
}

pub(super) fn get_group_info(world: &mut World, body: AskedBody<'_>) -> FakeAnswer {
    let ids = body.texts("GroupIdList", GROUPS_OF_A_CALL_MAX, 10004)?;
    let filter = body.object("ResponseFilter")?;
    let mut elements = ids.iter().map(|id| info_element(world, id, filter)).collect::<Result<Vec<_>, _>>()?;
    if world.knobs.shuffled {
        world.chance.shuffle(&mut elements);
    }
    Ok(object(json!({ "GroupInfo": elements })))
}

/// A list, or what stands in the place of an empty one.
fn listed(key: &str, list: &[Value], empty: EmptyForm) -> Map<String, Value> {
    match (list.is_empty(), empty) {
        (true, EmptyForm::Null) => object(json!({ key: null })),
        (true, EmptyForm::Absent) => Map::new(),
        (true, EmptyForm::List) | (false, _) => object(json!({ key: list })),
    }
}

pub(super) fn get_group_attr(world: &mut World, body: AskedBody<'_>) -> FakeAnswer {
    let (group, _) = world.shown(body.text("GroupId")?)?;
    let list = group.attributes.iter().map(|(key, value)| json!({ "key": key, "value": value }));
    Ok(listed("GroupAttrAry", &list.collect::<Vec<_>>(), world.knobs.no_attributes))
}

pub(super) fn get_topic(world: &mut World, body: AskedBody<'_>) -> FakeAnswer {
    let (id, from) = (body.text("GroupId")?, body.text("From_Account")?);
    let (group, _) = world.shown(id)?;
    if group.kind != GroupKind::Community {
        return Err(FakeCode::not_for_type());
    }
    if world.knobs.topics_for_members_only && group.members.get(from).is_none() {
        return Err(FakeCode::not_for_type());
    }
    let asked = body.names("TopicIdList")?.filter(|asked| !asked.is_empty());
    let filter = body.names("ResponseFilter")?;
    let all = group.topics.keys().map(String::as_str).collect();
    let list = asked.unwrap_or(all).into_iter().map(|topic_id| {
        let Some(topic) = group.topics.get(topic_id) else {
            return json!({ "ErrorCode": 110_003, "ErrorInfo": "topic has been deleted",
                           "TopicInfo": { "GroupID": id, "TopicId": topic_id } });
        };
        let mut shown = object(json!({
            "TopicName": topic.texts["Name"], "FaceUrl": topic.texts["FaceUrl"],
            "Notification": topic.texts["Notification"], "Introduction": topic.texts["Introduction"],
            "CreateTime": topic.create_secs, "LastMsgTime": 0, "NextMsgSeq": 1,
            "MuteAllMember": if topic.mute_all { "On" } else { "Off" }, "CustomString": topic.custom,
        }));
        if let Some(filter) = &filter {
            shown.retain(|key, _| filter.contains(&key.as_str()));
        }
        shown.insert("TopicId".to_owned(), json!(topic_id));
        shown.insert("GroupID".to_owned(), json!(id));
        json!({ "ErrorCode": 0, "ErrorInfo": "ok", "TopicInfo": shown,
                "SelfInfo": { "MsgFlag": "AcceptAndNotify", "MsgSeq": 0, "ShutUpTime": 0 } })
    });
    Ok(listed("TopicAndSelfInfo", &list.collect::<Vec<_>>(), world.knobs.no_topics))
}

pub(super) fn get_joined_group_list(world: &mut World, body: AskedBody<'_>) -> FakeAnswer {
    let user = body.text("Member_Account")?;
    let offset = usize::try_from(body.number("Offset")?.unwrap_or(0)).unwrap_or(usize::MAX);
    let limit = usize::try_from(body.number("Limit")?.unwrap_or(5_000)).unwrap_or(usize::MAX).min(5_000);
    let wanted = body.optional_text("GroupType")?.map(GroupKind::parse).transpose()?;
    let joined: Vec<(&String, &Arc<FakeGroup>)> = world
        .groups
        .iter()
        .filter(|(_, group)| group.members.get(user).is_some())
        .filter(|(_, group)| wanted.is_none_or(|kind| group.kind == kind))
        .collect();
    let row = |(id, group): &(&String, &Arc<FakeGroup>)| {
        let member = group.members.get(user)?;
        Some(json!({
            "GroupId": id, "Type": group.kind.on_the_wire(), "Name": group.texts["Name"],
            "MemberNum": group.members.len(),
            "SelfInfo": { "Role": group.role(user, member), "JoinTime": member.join_secs },
        }))
    };
    let rows: Vec<Value> = joined.iter().skip(offset).take(limit).filter_map(row).collect();
    Ok(object(json!({ "GroupIdList": rows, "TotalCount": joined.len() })))
}
