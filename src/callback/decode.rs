//! Bytes → [`Callback`]. The one home of Tencent's quirks, each with its reason and the sample that shows it.
//!
//! Decoding never fails: what is authentic and in scope becomes a callback, and one that cannot be made out carries
//! the reason why, so that it is parked with its bytes. The same bytes, query command and time of receipt give the
//! same callback for ever; replay depends on that.

use std::collections::BTreeMap;

use serde_json::Value;

use super::commands::{STATE_COMMANDS, Scope, scope};
use super::wire::{self, Body, OneOrMany};
use super::{
    AttributesChange, Callback, Event, EventKind, Profile, ProfileText, Received, Role, present_type_name,
};
use crate::model::{Digest, FieldKey, GroupId, Millis, ModelError, TopicId, UserId, storable};

/// Cuts the group part off a topic id: `<GroupId>@TOPIC#_…` (1047/49464).
const TOPIC_MARK: &str = "@TOPIC#_";

/// What becomes of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decoded {
    /// On the closed list of what is counted and not kept; the label is for the counter.
    OutOfScope(&'static str),
    /// A ledger row, applied or parked.
    Kept(Box<Callback>),
}

/// Makes out what a verified request says.
#[must_use]
pub fn decode(received: Received) -> Decoded {
    let parsed = serde_json::from_slice::<Value>(&received.body);
    let in_body = parsed.as_ref().ok().and_then(|body| body.get("CallbackCommand")).and_then(Value::as_str);
    // As the ledger holds them, so that what is decoded from it differs where this did.
    let (in_body, in_query) = (in_body.map(storable), received.query_command.as_deref().map(storable));
    let differing = in_query.clone().filter(|query| in_body.as_ref().is_some_and(|body| body != query));
    // The command of the body counts: the signature covers neither, but the body is what was stored and replayed.
    let command = in_body.or(in_query).unwrap_or_default();
    if let (Scope::Out(label), None) = (scope(&command), &differing) {
        return Decoded::OutOfScope(label);
    }
    let callback = match parsed {
        Ok(Value::Object(mut body)) => {
            // A number, a quoted number, or absent; it is no part of the content, so that all three forms of one
            // event have one digest (samples `…event-time-string`, `…no-event-time`).
            let event_time = event_time(body.remove("EventTime"));
            let body = Value::Object(body);
            // What is parked for two commands is not a repeat of the callback itself, which may still come.
            let digest = Digest::of(differing.as_ref().unwrap_or(&command), body.to_string().as_bytes());
            in_scope(received, command, differing, event_time, digest, body)
        }
        other => {
            let reason = match other {
                Ok(_) => "the body is JSON, but no object".to_owned(),
                Err(error) => format!("the body is no JSON: {error}"),
            };
            let digest = Digest::of(&command, &received.body);
            let time = received.received_at;
            Callback { received, command, group: None, event_time: None, time, digest, event: Err(reason) }
        }
    };
    Decoded::Kept(Box::new(callback))
}

fn in_scope(
    received: Received,
    command: String,
    differing: Option<String>,
    event_time: Result<Option<Millis>, String>,
    digest: Digest,
    body: Value,
) -> Callback {
    let group_hint = body.get("GroupId").and_then(Value::as_str).and_then(|id| GroupId::parse(id).ok());
    let known_time = event_time.clone().ok().flatten();
    let believed = |time: Millis| Millis::parse_event_time(time.get(), received.received_at);
    // A time that is not believed is no place in the ledger: a later delivery of the same body, received when the
    // time is in range, must not be taken for a repeat of the parked one.
    let time = known_time.filter(|time| believed(*time).is_ok()).unwrap_or(received.received_at);
    let event = (|| {
        if let Some(query) = differing {
            return Err(format!(
                "the query says CallbackCommand={query:?}, the body {command:?}; they must agree"
            ));
        }
        if let Some(time) = event_time? {
            believed(time).map_err(|error| error.to_string())?;
        }
        if !STATE_COMMANDS.contains(&command.as_str()) {
            return Err(match command.as_str() {
                "" => "neither body nor query has a CallbackCommand".to_owned(),
                unknown => format!("{unknown:?} is not in the catalogue of group commands"),
            });
        }
        // Through a value, not straight from the bytes: of two equal keys in one object the later one counts,
        // where serde's derive would refuse.
        let body = serde_json::from_value::<Body>(body)
            .map_err(|error| format!("the body does not have the form of {command}: {error}"))?;
        event(&command, body)
    })();
    let group = event.as_ref().ok().map(|event| event.group.clone()).or(group_hint);
    Callback { received, command, group, event_time: known_time, time, digest, event }
}

fn event_time(value: Option<Value>) -> Result<Option<Millis>, String> {
    let refuse =
        |value: &Value| Err(format!("EventTime is {value}; it must be Unix milliseconds as an integer"));
    let millis = match value {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::Number(ref number)) => number.as_i64(),
        Some(Value::String(ref text)) if text.bytes().all(|byte| byte.is_ascii_digit()) => text.parse().ok(),
        Some(ref other) => return refuse(other),
    };
    match (millis, value) {
        (Some(millis), _) => Ok(Some(Millis::new(millis))),
        (None, Some(value)) => refuse(&value),
        (None, None) => Ok(None),
    }
}

fn event(command: &str, body: Body) -> Result<Event, String> {
    let group_type = text(body.group_type.as_deref()).map(|name| present_type_name(&name).to_owned());
    let operator = optional_user(body.operator.as_deref(), "Operator_Account")?;
    let in_body = body.group_id.clone();
    let (group, kind) = match command.trim_start_matches("Group.Callback") {
        "AfterCreateTopic" | "AfterTopicDestroyed" | "AfterTopicInfoChanged" => topic_event(command, body)?,
        _ => (group_id(in_body.as_deref())?, group_event(command, body)?),
    };
    Ok(Event { group, group_type, operator, kind })
}

fn group_event(command: &str, mut body: Body) -> Result<EventKind, String> {
    Ok(match command.trim_start_matches("Group.Callback") {
        "AfterCreateGroup" => EventKind::GroupCreated {
            // Absent or empty when the app's administrator creates a group for nobody (sample `…no-owner`).
            owner: optional_user(body.owner.as_deref(), "Owner_Account")?,
            members: initial_members(body.member_list.take())?,
            profile: profile(body)?,
        },
        "AfterNewMemberJoin" => EventKind::MembersJoined {
            how: text(body.join_type.as_deref()),
            members: members(&required(body.new_member_list, "NewMemberList")?, "NewMemberList")?,
        },
        "AfterMemberExit" => EventKind::MembersLeft {
            how: text(body.exit_type.as_deref()),
            // Never from Operator_Account: the page calls that the leaver in its table and the operator in its sample.
            members: members(&required(body.exit_member_list, "ExitMemberList")?, "ExitMemberList")?,
        },
        "AfterGroupDestroyed" => EventKind::GroupDestroyed,
        "AfterGroupInfoChanged" => EventKind::ProfileChanged(profile(body)?),
        "AfterMemberFieldChanged" => EventKind::MemberChanged {
            // International pages say Member_Account, the domestic one Modified_Account (sample `…modified-account`).
            member: user(
                required(body.member.or(body.modified), "Member_Account")?.as_str(),
                "Member_Account",
            )?,
            role: body.role.as_deref().map(role).transpose()?,
            name_card: body.name_card.as_deref().map(storable),
        },
        "AfterGroupAttrChanged" => {
            EventKind::AttributesChanged(attributes_change(body.option_type.as_deref(), body.group_attr)?)
        }
        _ => EventKind::OwnerChanged {
            old: optional_user(body.old_owner.as_deref(), "OldOwner_Account")?,
            // Empty says that there is none now; absent would say that nothing changed.
            new: optional_user(Some(&required(body.new_owner, "NewOwner_Account")?), "NewOwner_Account")?,
        },
    })
}

fn topic_event(command: &str, mut body: Body) -> Result<(GroupId, EventKind), String> {
    let listed = command.ends_with("AfterTopicDestroyed");
    let topics = match body.topic_id_list.take() {
        Some(OneOrMany::One(topic)) => vec![topic],
        Some(OneOrMany::Many(topics)) => topics,
        // Without it nobody can tell which topics are gone; to take it as none would hide that.
        None if listed => return Err("the body has no TopicIdList".to_owned()),
        None => Vec::new(),
    };
    let topics = topics.iter().map(|id| topic_id(id)).collect::<Result<Vec<_>, _>>()?;
    // An empty text is as good as none: the page does not document the key here at all.
    let topic = body.topic_id.as_deref().filter(|id| !id.is_empty()).map(topic_id).transpose()?;
    let group = topic_group(if listed { &topics } else { topic.as_slice() }, body.group_id.as_deref())?;
    let kind = match command.trim_start_matches("Group.Callback") {
        "AfterCreateTopic" => {
            EventKind::TopicCreated { topic: required(topic, "TopicId")?, profile: profile(body)? }
        }
        "AfterTopicDestroyed" => EventKind::TopicsDestroyed(topics),
        _ => EventKind::TopicChanged { topic, profile: profile(body)? },
    };
    Ok((group, kind))
}

/// The page's sample of a new topic shows a `GroupId` that does not fit its `TopicId`; the prefix is trusted.
fn topic_group(topics: &[TopicId], in_body: Option<&str>) -> Result<GroupId, String> {
    let prefix = |topic: &TopicId| topic.as_str().split_once(TOPIC_MARK).map(|(group, _)| group.to_owned());
    let prefixes: Vec<_> = topics.iter().filter_map(prefix).collect();
    match prefixes.split_first() {
        Some((first, rest)) if rest.iter().all(|other| other == first) => group_id(Some(first)),
        Some(_) => Err("TopicIdList names topics of several groups; one body speaks of one group".to_owned()),
        None => group_id(in_body),
    }
}

fn profile(body: Body) -> Result<Profile, String> {
    let pairs = body.user_defined_data_list.unwrap_or_default();
    let texts = [
        (ProfileText::Name, body.name),
        (ProfileText::Introduction, body.introduction),
        (ProfileText::Notification, body.notification),
        (ProfileText::FaceUrl, body.face_url),
    ];
    Ok(Profile {
        texts: texts.into_iter().filter_map(|(text, value)| Some((text, storable(&value?)))).collect(),
        user_defined_fields: later_wins(pairs.into_iter().map(|pair| (pair.key, pair.value)))?,
    })
}

fn attributes_change(
    option: Option<&str>,
    pairs: Option<Vec<wire::Attribute>>,
) -> Result<AttributesChange, String> {
    // Only a clear means something without a list; whatever else changed is not told.
    let listed = pairs.is_some();
    let pairs = later_wins(pairs.unwrap_or_default().into_iter().map(|pair| (pair.key, pair.value)))?;
    Ok(match option {
        Some("clear") => AttributesChange::Clear,
        _ if !listed => AttributesChange::Unknown,
        Some("set") => AttributesChange::Set(pairs),
        Some("modify") => AttributesChange::Modify(pairs),
        // With values or without: not documented (sample `…delete`).
        Some("delete") => AttributesChange::Delete(pairs.into_iter().map(|(key, _)| key).collect()),
        // Stands in the page's sample and not in its table.
        _ => AttributesChange::Unknown,
    })
}

/// Of two entries with one key in one body the later one counts; the rest of the service meets each key once.
fn later_wins(
    pairs: impl Iterator<Item = (String, Option<String>)>,
) -> Result<Vec<(FieldKey, String)>, String> {
    // A map, because a body of a mebibyte can hold 90,000 keys.
    let mut kept = BTreeMap::new();
    for (key, value) in pairs {
        let key = FieldKey::parse(&key).map_err(|error| error.to_string())?;
        kept.insert(key, storable(&value.unwrap_or_default()));
    }
    Ok(kept.into_iter().collect())
}

fn members(list: &[wire::Member], what: &str) -> Result<Vec<UserId>, String> {
    list.iter().map(|member| user(&member.account, what)).collect()
}

/// A create without a list has no members but its owner.
fn initial_members(list: Option<Value>) -> Result<Vec<UserId>, String> {
    let list = serde_json::from_value::<Option<Vec<wire::Member>>>(list.unwrap_or_default());
    let list = list.map_err(|error| format!("MemberList is no list of members: {error}"))?;
    members(&list.unwrap_or_default(), "MemberList")
}

fn required<T>(value: Option<T>, key: &str) -> Result<T, String> {
    value.ok_or_else(|| format!("the body has no {key}"))
}

fn group_id(text: Option<&str>) -> Result<GroupId, String> {
    GroupId::parse(text.ok_or("the body has no GroupId")?).map_err(|error: ModelError| error.to_string())
}

fn topic_id(text: &str) -> Result<TopicId, String> {
    TopicId::parse(text).map_err(|error| error.to_string())
}

fn user(text: &str, what: &str) -> Result<UserId, String> {
    UserId::parse(text).map_err(|error| format!("in {what}: {error}"))
}

/// Empty stands for nobody.
fn optional_user(text: Option<&str>, what: &str) -> Result<Option<UserId>, String> {
    text.filter(|text| !text.is_empty()).map(|text| user(text, what)).transpose()
}

/// Empty stands for not known.
fn text(value: Option<&str>) -> Option<String> {
    value.filter(|text| !text.is_empty()).map(storable)
}

fn role(name: &str) -> Result<Role, String> {
    match name {
        "Admin" => Ok(Role::Admin),
        "Member" => Ok(Role::Member),
        // An owner comes with a callback of its own; believing this one would make two owners.
        other => Err(format!("Role is {other:?}; a member's role changes to Admin or Member")),
    }
}
