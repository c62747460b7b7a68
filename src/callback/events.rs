//! The fields of a body → [`Event`]: what each command says. The one home of Tencent's quirks of content, each with its
//! reason and the sample that shows it.
//!
//! As much as can be read is applied. Each command has one essential fact; a callback whose essential fact cannot be read
//! is parked, everything else that cannot be read is skipped singly and recorded.

use super::fields::{Fields, PairKeys, Readable, id};
use super::reason::{Reason, ReasonCause};
use super::wire;
use super::{AttributesChange, Event, EventKind, Profile, Role, present_type_name};
use crate::json::Json;
use crate::model::{FieldKey, GroupId, ModelError, TopicId, UserId};

/// Cuts the group part off a topic id: `<GroupId>@TOPIC#_…` (1047/49464).
const TOPIC_MARK: &str = "@TOPIC#_";

const USER_DEFINED_FIELDS: PairKeys =
    PairKeys { list: wire::FIELDS, key: wire::FIELD_KEY, value: Some(wire::FIELD_VALUE) };

const ATTRIBUTES: PairKeys =
    PairKeys { list: wire::ATTRIBUTES, key: wire::ATTRIBUTE_KEY, value: Some(wire::ATTRIBUTE_VALUE) };

/// What a body of a command says; what had to be skipped is recorded in the fields.
///
/// # Errors
/// The group or the one essential fact cannot be read.
pub(super) fn event(command: &str, fields: &mut Fields<'_, '_>) -> Result<Event, Reason> {
    let command = command.trim_start_matches("Group.Callback");
    let operator = fields.user(wire::OPERATOR);
    // A destroy repeats the type, which is then not used.
    let group_type = match command {
        "AfterGroupDestroyed" => None,
        _ => fields.known_word(wire::TYPE),
    };
    let operator = fields.skip(operator).flatten();
    let mut is_owner_unread = false;
    let (group, kind) = match command {
        "AfterCreateTopic" | "AfterTopicDestroyed" | "AfterTopicInfoChanged" => topic_event(command, fields)?,
        "AfterCreateGroup" => {
            let group = group_id(fields)?;
            // Absent or empty when the app's administrator creates a group without an owner (sample `…no-owner`).
            let owner = fields.user(wire::OWNER);
            is_owner_unread = owner.is_err();
            let owner = fields.skip(owner).flatten();
            (group, created(fields, owner))
        }
        _ => (group_id(fields)?, group_event(command, fields)?),
    };
    let group_type = group_type.map(|name| present_type_name(&name).to_owned());
    Ok(Event { group, group_type, operator, is_owner_unread, kind })
}

fn created(fields: &mut Fields<'_, '_>, owner: Option<UserId>) -> EventKind {
    let list = fields.list(wire::MEMBER_LIST);
    // A create without a list has no members but its owner.
    let list = fields.skip(list).flatten().unwrap_or_default();
    let members = fields.members(list, wire::MEMBER_LIST, wire::MEMBER).items;
    EventKind::GroupCreated { owner, members, profile: profile(fields, true).items }
}

fn group_event(command: &str, fields: &mut Fields<'_, '_>) -> Result<EventKind, Reason> {
    Ok(match command {
        "AfterNewMemberJoin" => EventKind::MembersJoined {
            how: fields.known_text(wire::JOIN_TYPE),
            members: essential_members(fields, wire::NEW_MEMBER_LIST)?,
        },
        "AfterMemberExit" => EventKind::MembersLeft {
            how: fields.known_text(wire::EXIT_TYPE),
            // Never from Operator_Account: the page calls that the leaver in its table and the operator in its sample.
            members: essential_members(fields, wire::EXIT_MEMBER_LIST)?,
        },
        "AfterGroupDestroyed" => EventKind::GroupDestroyed,
        "AfterGroupInfoChanged" => EventKind::ProfileChanged(essential_profile(fields, true)?),
        "AfterMemberFieldChanged" => member_changed(fields)?,
        "AfterGroupAttrChanged" => EventKind::AttributesChanged(attributes_change(fields)),
        "AfterChangeGroupOwner" => {
            // Empty says that there is none now; absent would say that nothing changed.
            if fields.get(wire::NEW_OWNER).is_none() {
                return Err(Reason::missing(wire::NEW_OWNER));
            }
            let new = fields.user(wire::NEW_OWNER)?;
            let old = fields.user(wire::OLD_OWNER);
            EventKind::OwnerChanged { old: fields.skip(old).flatten(), new }
        }
        other => unreachable!("{other} is a command of the catalogue and has a form"),
    })
}

fn member_changed(fields: &mut Fields<'_, '_>) -> Result<EventKind, Reason> {
    // International pages say Member_Account, the domestic one Modified_Account (sample `…modified-account`).
    let account = fields.get(wire::MEMBER).or_else(|| fields.get(wire::MODIFIED));
    let member = id(account.ok_or(Reason::missing(wire::MEMBER))?, wire::MEMBER, UserId::parse)?;
    let role = fields.text(wire::ROLE).map(|name| role(&name));
    let role = role.and_then(|role| fields.skip(role));
    Ok(EventKind::MemberChanged { member, role, name_card: fields.text(wire::NAME_CARD) })
}

fn role(name: &str) -> Result<Role, Reason> {
    match name {
        "Admin" => Ok(Role::Admin),
        "Member" => Ok(Role::Member),
        // An owner comes with a callback of its own; believing this one would make two owners.
        other => Err(Reason::new(ReasonCause::UnknownRole, wire::ROLE, other)),
    }
}

/// Of a join or leave: the list must be there, and if it names anybody, one name at least must be readable.
fn essential_members(fields: &mut Fields<'_, '_>, list: &'static str) -> Result<Vec<UserId>, Reason> {
    let entries = fields.list(list)?.ok_or(Reason::missing(list))?;
    essential(fields.members(entries, list, wire::MEMBER))
}

/// What can be read, unless that is nothing because of a fault.
fn essential<T>(readable: Readable<Vec<T>>) -> Result<Vec<T>, Reason> {
    match readable.fault {
        Some(fault) if readable.items.is_empty() => Err(fault),
        _ => Ok(readable.items),
    }
}

/// Of a change of the profile: if it names anything, one part at least must be readable.
fn essential_profile(fields: &mut Fields<'_, '_>, of_group: bool) -> Result<Profile, Reason> {
    let Readable { items: profile, fault } = profile(fields, of_group);
    match fault {
        Some(fault) if profile == Profile::default() => Err(fault),
        _ => Ok(profile),
    }
}

fn profile(fields: &mut Fields<'_, '_>, of_group: bool) -> Readable<Profile> {
    let (mut profile, mut fault) = (Profile::default(), None);
    for (text, key) in wire::PROFILE_TEXTS.iter().copied() {
        match fields.try_text(key) {
            Ok(value) => profile.texts.extend(value.map(|value| (text, value))),
            Err(reason) => fault = fault.or(Some(reason)),
        }
    }
    // A topic has no fields of its own.
    if of_group {
        match fields.list(wire::FIELDS) {
            Ok(list) => {
                let pairs = fields.pairs(list.unwrap_or_default(), USER_DEFINED_FIELDS);
                profile.user_defined_fields = pairs.items;
                fault = fault.or(pairs.fault);
            }
            Err(reason) => {
                fields.skip::<()>(Err(reason.clone()));
                fault = fault.or(Some(reason));
            }
        }
    }
    Readable { items: profile, fault }
}

fn attributes_change(fields: &mut Fields<'_, '_>) -> AttributesChange {
    let option = fields.text(wire::OPTION_TYPE);
    if option.as_deref() == Some("clear") {
        return AttributesChange::Clear;
    }
    let list = fields.list(wire::ATTRIBUTES);
    // Only a clear means something without a list.
    let Some(entries) = fields.skip(list).flatten() else { return AttributesChange::Unknown };
    let Readable { items: pairs, fault } = match option.as_deref() {
        // With values or without: not documented (sample `…delete`), so the values are not read.
        Some("delete") => {
            let keys = PairKeys { value: None, ..ATTRIBUTES };
            fields.pairs(entries, keys)
        }
        Some("set" | "modify") => fields.pairs(entries, ATTRIBUTES),
        // Stands in the page's sample and not in its table.
        _ => return AttributesChange::Unknown,
    };
    // Nothing is left to say but that something changed: an empty `set` would wipe what is there.
    if fault.is_some() && pairs.is_empty() {
        return AttributesChange::Unknown;
    }
    match option.as_deref() {
        Some("set") => AttributesChange::Set(pairs),
        Some("modify") => AttributesChange::Modify(pairs),
        _ => AttributesChange::Delete(keys_of(pairs)),
    }
}

fn keys_of(pairs: Vec<(FieldKey, String)>) -> Vec<FieldKey> {
    pairs.into_iter().map(|(key, _)| key).collect()
}

fn topic_event(command: &str, fields: &mut Fields<'_, '_>) -> Result<(GroupId, EventKind), Reason> {
    // An empty text is as good as none: the page of a change does not document the key at all.
    let topic = |fields: &Fields<'_, '_>| fields.id_or_empty(wire::TOPIC_ID, TopicId::parse);
    Ok(match command {
        "AfterCreateTopic" => {
            let topic = topic(fields)?.ok_or(Reason::missing(wire::TOPIC_ID))?;
            let group = topic_group(std::slice::from_ref(&topic), fields)?;
            (group, EventKind::TopicCreated { topic, profile: profile(fields, false).items })
        }
        "AfterTopicDestroyed" => {
            let topics = destroyed_topics(fields)?;
            (topic_group(&topics, fields)?, EventKind::TopicsDestroyed(topics))
        }
        _ => {
            let topic = topic(fields);
            let topic = fields.skip(topic).flatten();
            let group = topic_group(topic.as_slice(), fields)?;
            let profile = profile(fields, false).items;
            (group, EventKind::TopicChanged { topic, profile })
        }
    })
}

fn destroyed_topics(fields: &mut Fields<'_, '_>) -> Result<Vec<TopicId>, Reason> {
    let topic = |entry: &Json<'_>| id(entry, wire::TOPIC_ID_LIST, TopicId::parse);
    match fields.get(wire::TOPIC_ID_LIST) {
        // Without it the topics that have ended are unknown; to take it as none would hide that.
        None => Err(Reason::missing(wire::TOPIC_ID_LIST)),
        Some(Json::List(entries)) => essential(fields.each(wire::TOPIC_ID_LIST, entries, topic)),
        Some(one) => topic(one).map(|topic| vec![topic]),
    }
}

/// The page's sample of a new topic shows a `GroupId` that does not fit its `TopicId`; the prefix is trusted.
fn topic_group(topics: &[TopicId], fields: &Fields<'_, '_>) -> Result<GroupId, Reason> {
    let prefix = |topic: &TopicId| topic.as_str().split_once(TOPIC_MARK).map(|(group, _)| group.to_owned());
    let prefixes: Vec<_> = topics.iter().filter_map(prefix).collect();
    match prefixes.split_first() {
        Some((first, rest)) if rest.iter().all(|other| other == first) => {
            GroupId::parse(first).map_err(|error| bad_group(wire::TOPIC_ID, &error))
        }
        Some(_) => Err(Reason::new(ReasonCause::SeveralGroups, wire::TOPIC_ID_LIST, "")),
        None => group_id(fields),
    }
}

fn bad_group(field: &'static str, error: &ModelError) -> Reason {
    Reason::new(ReasonCause::BadGroupId, field, error.to_string())
}

/// The group that a body names.
///
/// # Errors
/// None, or one that is no id.
pub(super) fn group_id(fields: &Fields<'_, '_>) -> Result<GroupId, Reason> {
    let value = fields.get(wire::GROUP_ID).ok_or(Reason::new(ReasonCause::NoGroup, wire::GROUP_ID, ""))?;
    id(value, wire::GROUP_ID, GroupId::parse)
        .map_err(|reason| Reason::new(ReasonCause::BadGroupId, wire::GROUP_ID, reason.detail()))
}
