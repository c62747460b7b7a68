//! Writes on the members of a group, and what users do by themselves: join, quit, end their account.
//!
//! A mute, a receive option and a custom field of a member fire no callback; a role and a name card do. A member who joins
//! again is a new one at the end of the list; a mute outlives that.

use serde_json::{Map, Value, json};

use super::code::{AskedBody, FakeCode, entry};
use super::group_writes::{FakeAnswer, accounts, object};
use super::state::{FakeGroup, FakeMember, GroupKind};
use super::world::{Actor, World};

/// The most members of one add or import, of one delete, of one mute.
const ADD_MAX: usize = 300;
const DELETE_MAX: usize = 100;
const MUTE_MAX: usize = 500;

/// `MuteTime` of a mute without end, and `MuteUntil` of it.
const WITHOUT_END: u64 = 4_294_967_295;

/// Whether joining and leaving are stored as notices in this type.
fn stores_membership(kind: GroupKind) -> bool {
    matches!(kind, GroupKind::Work | GroupKind::Public | GroupKind::Community)
}

fn count_notice(world: &mut World, id: &str, silent: bool) -> Result<(), FakeCode> {
    let counts = world.knobs.notices && !silent;
    let group = world.changing(id)?;
    group.next_message += u64::from(counts && stores_membership(group.kind));
    Ok(())
}

/// Lets accounts join; gives those who were no members before, and whether the group is full now.
fn join(group: &mut FakeGroup, wanted: &[&str], now_ms: i64) -> (Vec<String>, bool) {
    let mut joined = Vec::new();
    for account in wanted {
        if group.members.len() as u64 >= group.max_members {
            return (joined, true);
        }
        if group.roster().add(account, FakeMember::joined(false, now_ms / 1000)) {
            joined.push((*account).to_owned());
        }
    }
    (joined, group.members.len() as u64 >= group.max_members)
}

fn fire_join(world: &mut World, id: &str, actor: Actor<'_>, how: &str, joined: &[String], now: i64) {
    let Ok(group) = world.group(id) else { return };
    let content = object(json!({
        "Type": group.kind.on_the_wire(), "JoinType": how,
        "NewMemberList": accounts(joined.iter().map(String::as_str)),
    }));
    world.call_back("Group.CallbackAfterNewMemberJoin", (id, Some(actor)), content, Some(now));
}

fn fire_exit(world: &mut World, id: &str, actor: Actor<'_>, how: &str, left: &[&str], now: i64) {
    let Ok(group) = world.group(id) else { return };
    let content = object(json!({
        "Type": group.kind.on_the_wire(), "ExitType": how,
        "ExitMemberList": accounts(left.iter().copied()),
    }));
    world.call_back("Group.CallbackAfterMemberExit", (id, Some(actor)), content, Some(now));
}

pub(super) fn add_group_member(
    world: &mut World,
    body: AskedBody<'_>,
    actor: Actor<'_>,
    refused: &[String],
) -> FakeAnswer {
    let id = body.text("GroupId")?;
    let entries = body.list("MemberList", ADD_MAX, 10005)?;
    let wanted: Vec<&str> =
        entries.iter().map(|value| entry(value)?.text("Member_Account")).collect::<Result<_, _>>()?;
    let silent = body.number("Silence")? == Some(1);
    let group = world.group(id)?;
    if group.kind == GroupKind::AvChatRoom {
        return Err(FakeCode::not_for_type());
    }
    let is_full = group.members.len() as u64 >= group.max_members;
    let let_in: Vec<&str> =
        wanted.iter().filter(|account| !refused.iter().any(|it| it == *account)).copied().collect();
    let before: Vec<bool> = wanted.iter().map(|account| group.members.get(account).is_some()).collect();
    if is_full && before.iter().any(|was_member| !was_member) {
        let now = world.begin_change("add_group_member", id);
        world.call_back("Group.CallbackAfterGroupFull", (id, None), Map::new(), Some(now));
        return Err(FakeCode::new(10014, "the group is full"));
    }
    let now = world.begin_change("add_group_member", id);
    let (joined, is_full) = join(world.changing(id)?, &let_in, now);
    if !joined.is_empty() {
        count_notice(world, id, silent)?;
        fire_join(world, id, actor, "Invited", &joined, now);
        if is_full {
            world.call_back("Group.CallbackAfterGroupFull", (id, None), Map::new(), Some(now));
        }
    }
    let result = |(account, was_member): (&&str, &bool)| {
        let result = match (was_member, joined.iter().any(|it| it == *account)) {
            (true, _) => 2,
            (false, true) => 1,
            (false, false) => 0,
        };
        json!({ "Member_Account": account, "Result": result })
    };
    let results: Value = wanted.iter().zip(&before).map(result).collect();
    Ok(object(json!({ "MemberList": results })))
}

pub(super) fn import_group_member(world: &mut World, body: AskedBody<'_>) -> FakeAnswer {
    let id = body.text("GroupId")?;
    let entries = body.list("MemberList", ADD_MAX, 10005)?;
    if world.group(id)?.kind == GroupKind::AvChatRoom {
        return Err(FakeCode::not_for_type());
    }
    let mut asked = Vec::new();
    for value in entries {
        let member = entry(value)?;
        let is_admin = member.optional_text("Role")? == Some("Admin");
        let join_secs = member.number("JoinTime")?.and_then(|secs| i64::try_from(secs).ok());
        asked.push((member.text("Member_Account")?, is_admin, join_secs));
    }
    let now = world.begin_change("import_group_member", id);
    let group = world.changing(id)?;
    let mut results = Vec::new();
    for (account, is_admin, join_secs) in asked {
        // After the group's creation and before now, else it is not imported.
        let fits = join_secs.is_none_or(|secs| secs > group.create_ms / 1000 && secs < now / 1000);
        let has_room = (group.members.len() as u64) < group.max_members;
        let is_admin = is_admin && group.kind != GroupKind::Work;
        let member = FakeMember::joined(is_admin, join_secs.unwrap_or(now / 1000));
        let result = match (group.members.get(account).is_some(), fits && has_room) {
            (true, _) => 2,
            (false, true) => u8::from(group.roster().add(account, member)),
            (false, false) => 0,
        };
        results.push(json!({ "Member_Account": account, "Result": result }));
    }
    Ok(object(json!({ "MemberList": results })))
}

/// Who of the named can leave: members, and the owner of a Work group alone.
fn leaving<'a>(group: &FakeGroup, named: &[&'a str]) -> Vec<&'a str> {
    let can = |account: &&&str| {
        group.members.get(account).is_some() && (group.owner != **account || group.kind == GroupKind::Work)
    };
    let mut leaving: Vec<&str> = named.iter().filter(can).copied().collect();
    leaving.sort_unstable();
    leaving.dedup();
    leaving
}

fn leave(world: &mut World, id: &str, leaving: &[&str], silent: bool) -> Result<(), FakeCode> {
    let group = world.changing(id)?;
    for account in leaving {
        assert!(group.roster().remove(account), "who leaves was a member");
        if group.owner == *account {
            group.owner = String::new();
        }
    }
    count_notice(world, id, silent)
}

pub(super) fn delete_group_member(world: &mut World, body: AskedBody<'_>, actor: Actor<'_>) -> FakeAnswer {
    let id = body.text("GroupId")?;
    let named = body.texts("MemberToDel_Account", DELETE_MAX, 10005)?;
    let silent = body.number("Silence")? == Some(1);
    let group = world.group(id)?;
    if group.kind == GroupKind::AvChatRoom {
        return Err(FakeCode::bad("members of this type cannot be removed"));
    }
    let leaving = leaving(group, &named);
    if leaving.is_empty() {
        // A success for those who are no members, too.
        return Ok(Map::new());
    }
    let now = world.begin_change("delete_group_member", id);
    leave(world, id, &leaving, silent)?;
    fire_exit(world, id, actor, "Kicked", &leaving, now);
    Ok(Map::new())
}

/// A user joins by the SDK.
pub(super) fn user_joins(world: &mut World, body: AskedBody<'_>) -> FakeAnswer {
    let (id, user) = (body.text("GroupId")?, body.text("Member_Account")?);
    let group = world.group(id)?;
    if group.kind == GroupKind::Work {
        return Err(FakeCode::not_for_type());
    }
    if group.members.get(user).is_some() {
        return Err(FakeCode::new(10013, "already a member"));
    }
    if group.members.len() as u64 >= group.max_members {
        return Err(FakeCode::new(10014, "the group is full"));
    }
    let now = world.begin_change("user_joins", id);
    let (joined, is_full) = join(world.changing(id)?, &[user], now);
    count_notice(world, id, false)?;
    fire_join(world, id, Actor { account: user, platform: "Android" }, "Apply", &joined, now);
    if is_full {
        world.call_back("Group.CallbackAfterGroupFull", (id, None), Map::new(), Some(now));
    }
    Ok(Map::new())
}

/// A user quits by the SDK.
pub(super) fn user_quits(world: &mut World, body: AskedBody<'_>) -> FakeAnswer {
    let (id, user) = (body.text("GroupId")?, body.text("Member_Account")?);
    let group = world.group(id)?;
    let leaving = leaving(group, &[user]);
    if leaving.is_empty() {
        return Err(FakeCode::new(10009, "the owner cannot quit, nor can who is no member"));
    }
    let now = world.begin_change("user_quits", id);
    leave(world, id, &leaving, false)?;
    fire_exit(world, id, Actor { account: user, platform: "iOS" }, "Quit", &leaving, now);
    Ok(Map::new())
}

/// An account ends: its memberships end, and no callback says so.
pub(super) fn account_ends(world: &mut World, body: AskedBody<'_>) -> FakeAnswer {
    let user = body.text("Member_Account")?;
    let of_user = world.groups.iter().filter(|(_, group)| !leaving(group, &[user]).is_empty());
    let ids: Vec<String> = of_user.map(|(id, _)| id.clone()).collect();
    for id in ids {
        world.begin_change("account_ends", &id);
        leave(world, &id, &[user], true)?;
    }
    Ok(Map::new())
}

/// Seconds of a mute to its end; 0 ends it.
fn mute(group: &mut FakeGroup, account: &str, secs: u64, now_ms: i64) {
    if secs == 0 {
        group.mutes.remove(account);
        return;
    }
    let until = if secs >= WITHOUT_END { WITHOUT_END } else { now_ms.unsigned_abs() / 1000 + secs };
    group.mutes.insert(account.to_owned(), i64::try_from(until).unwrap_or(i64::MAX));
}

pub(super) fn modify_group_member_info(
    world: &mut World,
    body: AskedBody<'_>,
    actor: Actor<'_>,
) -> FakeAnswer {
    let (id, account) = (body.text("GroupId")?, body.text("Member_Account")?);
    let (role, card) = (body.optional_text("Role")?, body.optional_text("NameCard")?);
    let (flag, secs) = (body.optional_text("MsgFlag")?, body.number("MuteTime")?);
    let fields = body.pairs("AppMemberDefinedData", "Key", "Value")?;
    let group = world.group(id)?;
    if group.kind == GroupKind::AvChatRoom || (role.is_some() && group.kind == GroupKind::Work) {
        return Err(FakeCode::not_for_type());
    }
    let Some(member) = group.members.get(account) else {
        return Err(FakeCode::bad("no member of this group"));
    };
    let is_admin = match role {
        None => member.is_admin,
        Some("Admin") => true,
        Some("Member") => false,
        Some(_) => return Err(FakeCode::bad("Role can only be Admin or Member")),
    };
    if is_admin != member.is_admin && group.owner == account {
        return Err(FakeCode::bad("the role of the owner cannot be changed"));
    }
    let now = world.begin_change("modify_group_member_info", id);
    let (notices, named) = (world.knobs.notices, world.knobs.modified_account);
    let group = world.changing(id)?;
    let mut content = object(json!({ "Type": group.kind.on_the_wire() }));
    if let Some(member) = group.roster().get_mut(account) {
        if std::mem::replace(&mut member.is_admin, is_admin) != is_admin {
            content.insert("Role".to_owned(), json!(if is_admin { "Admin" } else { "Member" }));
        }
        if let Some(card) = card.filter(|card| *card != member.card) {
            card.clone_into(&mut member.card);
            content.insert("NameCard".to_owned(), json!(card));
        }
        if let Some(flag) = flag {
            flag.clone_into(&mut member.flag);
        }
        member.fields.extend(fields);
        member.fields.retain(|_, value| !value.is_empty());
    }
    if let Some(secs) = secs {
        mute(group, account, secs, now);
    }
    let is_noticed = content.contains_key("Role") || secs.is_some();
    group.next_message += u64::from(notices && is_noticed && stores_membership(group.kind));
    if content.len() > 1 {
        let key = if named { "Modified_Account" } else { "Member_Account" };
        content.insert(key.to_owned(), json!(account));
        world.call_back("Group.CallbackAfterMemberFieldChanged", (id, Some(actor)), content, Some(now));
    }
    Ok(Map::new())
}

pub(super) fn forbid_send_msg(world: &mut World, body: AskedBody<'_>) -> FakeAnswer {
    let id = body.text("GroupId")?;
    let named = body.texts("Members_Account", MUTE_MAX, 10004)?;
    let secs = body.number("MuteTime")?.ok_or_else(|| FakeCode::bad("MuteTime is missing"))?;
    if world.group(id)?.kind == GroupKind::Work {
        return Err(FakeCode::not_for_type());
    }
    let now = world.begin_change("forbid_send_msg", id);
    let group = world.changing(id)?;
    named.iter().for_each(|account| mute(group, account, secs, now));
    count_notice(world, id, false)?;
    Ok(Map::new())
}
