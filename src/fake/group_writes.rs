//! Writes on groups as a whole: create, import, change of the profile, change of the owner, destroy.
//!
//! Each fires the callbacks that its page names and no others: an import fires none, a change of options, of the member
//! limit, of mute-all or of custom fields fires none.

use serde_json::{Map, Value, json};

use super::code::{AskedBody, FakeCode, entry};
use super::state::{FakeGroup, FakeMember, GroupKind, TEXTS};
use super::world::{Actor, World};

/// The most members of one create.
const CREATE_MEMBERS_MAX: usize = 100;

/// What a write answers beside the envelope.
pub(super) type FakeAnswer = Result<Map<String, Value>, FakeCode>;

pub(super) fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(object) => object,
        _ => Map::new(),
    }
}

pub(super) fn accounts<'a>(accounts: impl IntoIterator<Item = &'a str>) -> Value {
    accounts.into_iter().map(|account| json!({ "Member_Account": account })).collect()
}

/// A free id for a new group: the one that was asked for, or one that Tencent gives.
fn free_id(world: &mut World, body: AskedBody<'_>, kind: GroupKind) -> Result<String, FakeCode> {
    let Some(id) = body.optional_text("GroupId")?.filter(|id| !id.is_empty()) else {
        return Ok(world.new_id(kind.id_prefix()));
    };
    match world.group(id) {
        Ok(_) => return Err(FakeCode::new(10021, "group id has been used")),
        Err(code) if code != FakeCode::gone() => return Err(code),
        Err(_) => {}
    }
    let is_of_community = id.starts_with("@TGS#_");
    let fits = if kind == GroupKind::Community { is_of_community } else { !id.starts_with("@TGS#") };
    if fits { Ok(id.to_owned()) } else { Err(FakeCode::bad("GroupId does not fit the type of group")) }
}

/// The group that a create or an import asks for, without its members.
fn asked_group(body: AskedBody<'_>, kind: GroupKind, create_ms: i64) -> Result<FakeGroup, FakeCode> {
    let mut group = FakeGroup::new(kind, body.optional_text("Owner_Account")?.unwrap_or_default(), create_ms);
    body.text("Name")?;
    for name in TEXTS {
        if let Some(text) = body.optional_text(name)? {
            group.texts.insert(name, text.to_owned());
        }
    }
    // `MaxMemberCount` here, `MaxMemberNum` elsewhere.
    if let Some(max) = body.number("MaxMemberCount")? {
        group.max_members = max;
    }
    for (option, key) in
        [(&mut group.apply_option, "ApplyJoinOption"), (&mut group.invite_option, "InviteJoinOption")]
    {
        if let Some(text) = body.optional_text(key)? {
            text.clone_into(option);
        }
    }
    group.fields = body.pairs("AppDefinedData", "Key", "Value")?.into_iter().collect();
    Ok(group)
}

pub(super) fn create_group(world: &mut World, body: AskedBody<'_>, actor: Actor<'_>) -> FakeAnswer {
    let kind = GroupKind::parse(body.text("Type")?)?;
    let entries = body.optional_list("MemberList")?.unwrap_or_default();
    if entries.len() > CREATE_MEMBERS_MAX {
        return Err(FakeCode::new(10005, "too many members"));
    }
    if kind == GroupKind::AvChatRoom && !entries.is_empty() {
        return Err(FakeCode::not_for_type());
    }
    let mut listed = Vec::new();
    for value in entries {
        let member = entry(value)?;
        let is_admin = match member.optional_text("Role")? {
            None | Some("") => false,
            Some("Admin") if kind != GroupKind::Work => true,
            Some(_) => {
                return Err(FakeCode::bad("Role of an initial member can only be Admin, and not in Work"));
            }
        };
        listed.push((member.text("Member_Account")?, is_admin));
    }
    asked_group(body, kind, 0)?;
    let id = free_id(world, body, kind)?;
    let now = world.begin_change("create_group", &id);
    let mut group = asked_group(body, kind, now)?;
    let owner = group.owner.clone();
    let joined = |is_admin| FakeMember::joined(is_admin, now / 1000);
    if kind != GroupKind::AvChatRoom && !owner.is_empty() {
        group.roster().add(&owner, joined(false));
    }
    for (account, is_admin) in &listed {
        group.roster().add(account, joined(*is_admin));
    }
    let owner_listed = world.knobs.owner_listed && kind != GroupKind::AvChatRoom && !owner.is_empty();
    let named = listed.iter().map(|(account, _)| *account).filter(|account| *account != owner);
    let named: Vec<&str> = owner_listed.then_some(&*owner).into_iter().chain(named).collect();
    let mut content = object(json!({
        "Type": kind.on_the_wire(), "Name": group.texts["Name"], "Owner_Account": owner,
        "MemberList": accounts(named),
    }));
    if !group.fields.is_empty() {
        let fields: Value =
            group.fields.iter().map(|(key, value)| json!({ "Key": key, "Value": value })).collect();
        content.insert("UserDefinedDataList".to_owned(), fields);
    }
    world.insert(&id, group);
    let command = "Group.CallbackAfterCreateGroup";
    world.call_back(command, (&id, Some(actor)), content, Some(now));
    if kind == GroupKind::Community {
        world.send_last_late(command, world.knobs.community_create_late_ms);
        return Ok(object(json!({ "GroupId": id, "HugeGroupFlag": 0, "Type": "Community" })));
    }
    Ok(object(json!({ "GroupId": id })))
}

pub(super) fn import_group(world: &mut World, body: AskedBody<'_>) -> FakeAnswer {
    let kind = GroupKind::parse(body.text("Type")?)?;
    if kind == GroupKind::AvChatRoom {
        return Err(FakeCode::not_for_type());
    }
    asked_group(body, kind, 0)?;
    let create_secs = body.number("CreateTime")?.and_then(|secs| i64::try_from(secs).ok());
    let id = free_id(world, body, kind)?;
    let now = world.begin_change("import_group", &id);
    let create_ms = create_secs.map_or(now, |secs| secs.saturating_mul(1000).min(now));
    let mut group = asked_group(body, kind, create_ms)?;
    let owner = group.owner.clone();
    if !owner.is_empty() {
        group.roster().add(&owner, FakeMember::joined(false, create_ms / 1000));
    }
    world.insert(&id, group);
    Ok(object(json!({ "GroupId": id })))
}

pub(super) fn modify_group_base_info(world: &mut World, body: AskedBody<'_>, actor: Actor<'_>) -> FakeAnswer {
    let id = body.text("GroupId")?;
    world.group(id)?;
    let mut texts = Vec::new();
    for name in TEXTS {
        texts.extend(body.optional_text(name)?.map(|text| (name, text.to_owned())));
    }
    let (apply, invite) = (body.optional_text("ApplyJoinOption")?, body.optional_text("InviteJoinOption")?);
    let (mute_all, max) = (body.optional_text("MuteAllMember")?, body.number("MaxMemberNum")?);
    let fields = body.pairs("AppDefinedData", "Key", "Value")?;
    let now = world.begin_change("modify_group_base_info", id);
    let notices = world.knobs.notices;
    let group = world.changing(id)?;
    group.changed(now);
    let mut content = object(json!({ "Type": group.kind.on_the_wire() }));
    for (name, text) in texts {
        if group.texts.insert(name, text.clone()).as_ref() != Some(&text) {
            content.insert(name.to_owned(), json!(text));
            group.next_message += u64::from(notices && group.kind != GroupKind::AvChatRoom);
        }
    }
    if let Some(apply) = apply {
        apply.clone_into(&mut group.apply_option);
    }
    if let Some(invite) = invite {
        invite.clone_into(&mut group.invite_option);
    }
    group.mute_all = mute_all.map_or(group.mute_all, |mute_all| mute_all == "On");
    group.max_members = max.unwrap_or(group.max_members);
    for (key, value) in fields {
        if value.is_empty() {
            group.fields.remove(&key);
        } else {
            group.fields.insert(key, value);
        }
    }
    if content.len() > 1 {
        world.call_back("Group.CallbackAfterGroupInfoChanged", (id, Some(actor)), content, Some(now));
    }
    Ok(Map::new())
}

pub(super) fn change_group_owner(world: &mut World, body: AskedBody<'_>, actor: Actor<'_>) -> FakeAnswer {
    let (id, new) = (body.text("GroupId")?, body.text("NewOwner_Account")?);
    let group = world.group(id)?;
    if group.kind == GroupKind::AvChatRoom {
        return Err(FakeCode::not_for_type());
    }
    if group.members.get(new).is_none() {
        return Err(FakeCode::bad("the new owner is no member"));
    }
    if group.owner == new {
        return Ok(Map::new());
    }
    let now = world.begin_change("change_group_owner", id);
    let notices = world.knobs.notices;
    let group = world.changing(id)?;
    let old = std::mem::replace(&mut group.owner, new.to_owned());
    for account in [&*old, new] {
        // The old owner becomes an ordinary member.
        if let Some(member) = group.roster().get_mut(account) {
            member.is_admin = false;
        }
    }
    group.next_message += u64::from(notices);
    group.changed(now);
    let content = object(json!({
        "Type": group.kind.on_the_wire(), "OldOwner_Account": old, "NewOwner_Account": new,
    }));
    world.call_back("Group.CallbackAfterChangeGroupOwner", (id, Some(actor)), content, Some(now));
    Ok(Map::new())
}

pub(super) fn destroy_group(world: &mut World, body: AskedBody<'_>, actor: Actor<'_>) -> FakeAnswer {
    let id = body.text("GroupId")?;
    world.group(id)?;
    let now = world.begin_change("destroy_group", id);
    let group = world.group(id)?;
    let mut content = object(json!({
        "Type": group.kind.on_the_wire(), "Owner_Account": group.owner, "Name": group.texts["Name"],
    }));
    if group.kind != GroupKind::Community {
        let members = accounts(group.members.accounts().map(|account| &**account));
        content.insert("MemberList".to_owned(), members);
    }
    world.remove(id, now);
    world.call_back("Group.CallbackAfterGroupDestroyed", (id, Some(actor)), content, Some(now));
    Ok(Map::new())
}
