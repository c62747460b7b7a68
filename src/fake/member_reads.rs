//! Reads of members: pages by offset and by cursor, given members, roles, mutes, the audience of an audio-video room.
//!
//! An offset counts in the list as it is at that moment, so rows move between two pages; a cursor of a community stands
//! behind a member, and a page may repeat some of the page before.

use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::code::{AskedBody, FakeCode};
use super::group_writes::{FakeAnswer, object};
use super::knobs::{LargeLimit, ListOrder, Spelling};
use super::state::{FakeGroup, FakeMember, GroupKind};
use super::world::World;
use crate::tencent::commands::{COMMUNITY_PAGE_MAX, MEMBERS_OF_A_CALL_MAX, ROLES_OF_A_CALL_MAX};

/// The `Limit` that the text about paging names, and the one of the table of fields.
const PAGE_OF_TEXT: u64 = 200;
const PAGE_OF_TABLE: u64 = 6_000;

/// A page of the audience of an audio-video room.
const AUDIENCE_PAGE: usize = 500;

/// One row of a list: names of fields (all where there is no filter), and keys of custom fields, which come without a
/// filter where `all_fields` says so.
pub(super) fn member_shown(
    world: &World,
    group: &FakeGroup,
    (account, member): (&Arc<str>, &FakeMember),
    (names, fields, all_fields): (Option<&[&str]>, Option<&[&str]>, bool),
) -> Value {
    let mut role = group.role(account, member).to_owned();
    if world.knobs.role_blank {
        role.push(' ');
    }
    let until = group.mutes.get(&**account).copied().unwrap_or(0);
    let flag = if member.flag.is_empty() { "AcceptAndNotify" } else { &member.flag };
    let mut shown = object(json!({
        "Role": role, "JoinTime": member.join_secs, "MsgSeq": 0, "MsgFlag": flag, "LastSendMsgTime": 0,
        "MuteUntil": until, "NameCard": member.card,
    }));
    if let Some(names) = names {
        shown.retain(|key, _| names.contains(&key.as_str()));
    }
    if world.knobs.spelling == Spelling::Old
        && let Some(until) = shown.remove("MuteUntil")
    {
        shown.insert("ShutUpUntil".to_owned(), until);
    }
    if all_fields || fields.is_some() {
        let is_wanted = |key: &String| fields.is_none_or(|wanted| wanted.contains(&key.as_str()));
        let pairs = member.fields.iter().filter(|(key, _)| is_wanted(key));
        let pairs: Value = pairs.map(|(key, value)| json!({ "Key": key, "Value": value })).collect();
        shown.insert("AppMemberDefinedData".to_owned(), pairs);
    }
    shown.insert("Member_Account".to_owned(), json!(account));
    Value::Object(shown)
}

fn with_members(
    world: &mut World,
    body: AskedBody<'_>,
) -> Result<(Arc<FakeGroup>, Arc<FakeGroup>), FakeCode> {
    let shown = world.shown(body.text("GroupId")?)?;
    if shown.0.kind == GroupKind::AvChatRoom { Err(FakeCode::not_for_type()) } else { Ok(shown) }
}

pub(super) fn get_group_member_info(world: &mut World, body: AskedBody<'_>) -> FakeAnswer {
    let (profile, members) = with_members(world, body)?;
    let (names, roles) = (body.names("MemberInfoFilter")?, body.names("MemberRoleFilter")?);
    let fields = body.names("AppDefinedDataFilter_GroupMember")?;
    let is_wanted = |(account, member): &(&Arc<str>, &FakeMember)| {
        roles.as_ref().is_none_or(|roles| roles.contains(&members.role(account, member)))
    };
    let show = |row: (&Arc<str>, &FakeMember)| {
        member_shown(world, &members, row, (names.as_deref(), fields.as_deref(), names.is_none()))
    };
    let (rows, next): (Vec<Value>, Option<String>) = if profile.kind == GroupKind::Community {
        let (limit, from) = community_page(world, body)?;
        // At least one member of a page is new, or the list would not end.
        let repeats = world.knobs.cursor_repeats.min(limit as u64 - 1);
        let start = if from == 0 { 0 } else { members.members.back_from(from, repeats) };
        let page: Vec<(u64, &Arc<str>, &FakeMember)> =
            members.members.joined_after(start).take(limit).collect();
        let last = page.last().map_or(0, |(order, _, _)| *order);
        let is_end = members.members.joined_after(last).next().is_none();
        let next = if is_end { String::new() } else { format!("1441152{last:011}") };
        let rows = page.into_iter().map(|(_, account, member)| (account, member)).filter(is_wanted);
        (rows.map(show).collect(), Some(next))
    } else {
        let (limit, offset) = offset_page(world, body)?;
        let rows: Vec<(&Arc<str>, &FakeMember)> = match world.knobs.list_order {
            ListOrder::Account => members.members.sorted().collect(),
            ListOrder::Join => {
                members.members.joined_after(0).map(|(_, account, member)| (account, member)).collect()
            }
        };
        let rows = rows.into_iter().filter(is_wanted).skip(offset).take(limit);
        (rows.map(show).collect(), None)
    };
    let mut answer = object(json!({ "MemberNum": profile.members.len(), "MemberList": rows }));
    if let Some(next) = next {
        answer.insert("Next".to_owned(), json!(next));
    }
    Ok(answer)
}

fn usize_of(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

/// Limit and the order number behind which a page of a community begins.
fn community_page(world: &World, body: AskedBody<'_>) -> Result<(usize, u64), FakeCode> {
    if world.knobs.community_offset_refused && body.has("Offset") {
        return Err(FakeCode::bad("Offset is not for communities"));
    }
    let limit = body.number("Limit")?.unwrap_or(u64::from(COMMUNITY_PAGE_MAX));
    if limit == 0 || limit > u64::from(COMMUNITY_PAGE_MAX) {
        return Err(FakeCode::bad("Limit is out of its range"));
    }
    let cut = world.knobs.large_limit == LargeLimit::Cut;
    let limit = if cut { limit.min(world.knobs.cut_rows) } else { limit };
    let from = match body.optional_text("Next")?.unwrap_or_default() {
        "" => 0,
        next => next
            .strip_prefix("1441152")
            .and_then(|order| order.parse().ok())
            .ok_or_else(|| FakeCode::bad("Next is none of ours"))?,
    };
    Ok((usize_of(limit), from))
}

/// Limit and offset of a page of any other group.
fn offset_page(world: &World, body: AskedBody<'_>) -> Result<(usize, usize), FakeCode> {
    let limit = body.number("Limit")?.unwrap_or(PAGE_OF_TABLE);
    let limit = match world.knobs.large_limit {
        _ if limit == 0 || limit > PAGE_OF_TABLE => return Err(FakeCode::bad("Limit is out of its range")),
        LargeLimit::Cut => limit.min(world.knobs.cut_rows),
        LargeLimit::Refused if limit > PAGE_OF_TEXT => {
            return Err(FakeCode::bad("Limit is out of its range"));
        }
        LargeLimit::Served | LargeLimit::Refused => limit,
    };
    Ok((usize_of(limit), usize_of(body.number("Offset")?.unwrap_or(0))))
}

pub(super) fn get_specified_group_member_info(world: &mut World, body: AskedBody<'_>) -> FakeAnswer {
    let (_, group) = with_members(world, body)?;
    let accounts = body.texts("Member_List_Account", MEMBERS_OF_A_CALL_MAX, 10004)?;
    let (names, fields) = (body.names("MemberInfoFilter")?, body.names("AppDefinedDataFilter_GroupMember")?);
    let row = |account: &str| {
        let (account, member): (Arc<str>, &FakeMember) = (account.into(), group.members.get(account)?);
        let filter = (names.as_deref(), fields.as_deref(), names.is_none());
        Some(member_shown(world, &group, (&account, member), filter))
    };
    let rows: Value = accounts.into_iter().filter_map(row).collect();
    Ok(object(json!({ "GroupId": body.text("GroupId")?, "MemberList": rows })))
}

pub(super) fn get_role_in_group(world: &mut World, body: AskedBody<'_>) -> FakeAnswer {
    let (_, group) = with_members(world, body)?;
    let accounts = body.texts("User_Account", ROLES_OF_A_CALL_MAX, 10004)?;
    let role = |account: &str| {
        let role = group.members.get(account).map_or("NotMember", |member| group.role(account, member));
        json!({ "Member_Account": account, "Role": role })
    };
    Ok(object(json!({ "UserIdList": accounts.into_iter().map(role).collect::<Value>() })))
}

pub(super) fn get_group_muted_account(world: &mut World, body: AskedBody<'_>) -> FakeAnswer {
    let id = body.text("GroupId")?;
    let (group, _) = world.shown(id)?;
    if group.kind == GroupKind::Work {
        return Err(FakeCode::not_for_type());
    }
    let (list, until) = match world.knobs.spelling {
        Spelling::New => ("MutedAccountList", "MutedUntil"),
        Spelling::Old => ("ShuttedUinList", "ShuttedUntil"),
    };
    let now_secs = world.clock.now_ms() / 1000;
    let muted = group.mutes.iter().filter(|(_, end)| **end > now_secs);
    let rows: Value = muted.map(|(account, end)| json!({ "Member_Account": account, until: end })).collect();
    Ok(object(json!({ "GroupId": id, list: rows })))
}

/// The audience of an audio-video room, which is online as long as it has not quit.
pub(super) fn get_members(world: &mut World, body: AskedBody<'_>) -> FakeAnswer {
    let (group, _) = world.shown(body.text("GroupId")?)?;
    if group.kind != GroupKind::AvChatRoom {
        return Err(FakeCode::not_for_type());
    }
    let from = body.number("Timestamp")?.unwrap_or(0);
    let page: Vec<(u64, &Arc<str>, &FakeMember)> =
        group.members.joined_after(from).take(AUDIENCE_PAGE).collect();
    let last = page.last().map_or(0, |(order, _, _)| *order);
    let next = if group.members.joined_after(last).next().is_some() { last } else { 0 };
    let row = |(_, account, member): (u64, &Arc<str>, &FakeMember)| json!({ "Member_Account": account, "JoinTime": member.join_secs, "NickName": "", "Avatar": "" });
    let rows: Value = page.into_iter().map(row).collect();
    Ok(object(json!({ "MemberList": rows, "NextTimestamp": next })))
}

pub(super) fn get_online_member_num(world: &mut World, body: AskedBody<'_>) -> FakeAnswer {
    let (group, _) = world.shown(body.text("GroupId")?)?;
    let mut answer = Map::new();
    answer.insert("OnlineMemberNum".to_owned(), json!(group.members.len()));
    Ok(answer)
}
