//! Callback → facts: what a callback states about its group, members, user-defined fields, attributes and topics.
//!
//! Pure. A rule about what a command implies (a create makes its owner a member, a new owner is thereby confirmed as a
//! member) stands here; which of two facts is newer does not.

use super::fact::{Fact, FactKind, GroupBarrier, GroupKey, TopicBarrier};
use crate::callback::{AVCHATROOM, AttributesChange, Callback, Event, EventKind, Profile, ProfileText, Role};
use crate::model::{FieldKey, Stamp, TopicId, UserId};

/// The facts of a callback; none if it is parked.
#[must_use]
pub fn facts(callback: &Callback) -> Vec<Fact> {
    let Ok(event) = &callback.event else { return Vec::new() };
    let stamp = Stamp::new(callback.time, event.kind.rank(), &callback.digest);
    let group = GroupKey { app: callback.received.app, group: event.group.clone() };
    kinds(event).into_iter().map(|kind| Fact { group: group.clone(), stamp, kind }).collect()
}

fn kinds(event: &Event) -> Vec<FactKind> {
    let by = &event.operator;
    let mut kinds = vec![FactKind::Seen];
    // Of a destroy only the destroy counts: the other keys of its body describe a group that is gone.
    if let (Some(group_type), false) = (&event.group_type, event.kind == EventKind::GroupDestroyed) {
        kinds.push(FactKind::Text(ProfileText::Type, group_type.clone()));
    }
    match &event.kind {
        EventKind::GroupCreated { owner, profile, members } => {
            kinds.push(FactKind::Created(by.clone()));
            // A body without an owner states that there is none, so that an owner of an earlier life does not stay.
            if !event.is_owner_unread {
                kinds.push(FactKind::Owner(owner.clone()));
            }
            kinds.extend(profile_facts(profile));
            // In an audio-video room no user is a member before joining through an SDK, the owner included (1047/34895).
            if event.group_type.as_deref() != Some(AVCHATROOM) {
                let joined = members.iter().chain(owner).cloned();
                kinds.extend(joined.map(|user| FactKind::Joined(user, None, by.clone())));
            }
        }
        EventKind::MembersJoined { how, members } => {
            kinds.push(FactKind::Barrier(GroupBarrier::AliveStamp));
            kinds.extend(members.iter().map(|user| FactKind::Joined(user.clone(), how.clone(), by.clone())));
        }
        EventKind::MembersLeft { how, members } => {
            kinds.extend(members.iter().map(|user| FactKind::Left(user.clone(), how.clone(), by.clone())));
        }
        EventKind::GroupDestroyed => kinds.push(FactKind::Destroyed),
        EventKind::ProfileChanged(profile) => {
            kinds.push(FactKind::Barrier(GroupBarrier::AliveStamp));
            kinds.extend(profile_facts(profile));
        }
        EventKind::MemberChanged { member, role, name_card } => {
            kinds.push(FactKind::Confirmed(member.clone()));
            kinds.extend(role.map(|role| FactKind::Role(member.clone(), role)));
            kinds.extend(name_card.iter().map(|card| FactKind::NameCard(member.clone(), card.clone())));
        }
        EventKind::AttributesChanged(change) => kinds.extend(attribute_facts(change)),
        EventKind::OwnerChanged { old, new } => kinds.extend(owner_facts(old.as_ref(), new.as_ref())),
        EventKind::TopicCreated { topic, profile } => {
            kinds.push(FactKind::TopicCreated(topic.clone(), by.clone()));
            kinds.extend(topic_profile_facts(topic, profile));
        }
        EventKind::TopicsDestroyed(topics) => {
            kinds.extend(topics.iter().cloned().map(FactKind::TopicDestroyed));
        }
        EventKind::TopicChanged { topic: Some(topic), profile } => {
            kinds.push(FactKind::TopicBarrier(topic.clone(), TopicBarrier::AliveStamp));
            kinds.extend(topic_profile_facts(topic, profile));
        }
        EventKind::TopicChanged { topic: None, .. } => {
            kinds.push(FactKind::Barrier(GroupBarrier::TopicsUnclear));
        }
    }
    kinds
}

fn owner_facts(old: Option<&UserId>, new: Option<&UserId>) -> Vec<FactKind> {
    let mut kinds = vec![FactKind::Barrier(GroupBarrier::AliveStamp), FactKind::Owner(new.cloned())];
    // No body says what the old owner's new role is; Tencent makes the old owner an ordinary member.
    kinds.extend(old.filter(|old| Some(*old) != new).map(|old| FactKind::Role(old.clone(), Role::Member)));
    kinds.extend(new.cloned().map(FactKind::Confirmed));
    kinds
}

fn profile_facts(profile: &Profile) -> impl Iterator<Item = FactKind> {
    let texts = profile.texts.iter().map(|(text, value)| FactKind::Text(*text, value.clone()));
    let fields = profile.user_defined_fields.iter().cloned();
    texts.chain(fields.map(|(key, value)| FactKind::UserDefinedField(key, value)))
}

fn topic_profile_facts(topic: &TopicId, profile: &Profile) -> impl Iterator<Item = FactKind> {
    let texts = profile.texts.iter().filter(|(text, _)| ProfileText::OF_TOPICS.contains(text));
    texts.map(|(text, value)| FactKind::TopicText(topic.clone(), *text, value.clone()))
}

fn attribute_facts(change: &AttributesChange) -> Vec<FactKind> {
    let given = |pairs: &[(FieldKey, String)]| -> Vec<FactKind> {
        pairs.iter().cloned().map(|(key, value)| FactKind::Attribute(key, Some(value))).collect()
    };
    match change {
        // The barrier outdates what is strictly older; the pairs carry its own stamp and stay.
        AttributesChange::Set(pairs) => {
            [vec![FactKind::Barrier(GroupBarrier::AttributesBarrier)], given(pairs)].concat()
        }
        AttributesChange::Modify(pairs) => given(pairs),
        AttributesChange::Delete(keys) => {
            keys.iter().cloned().map(|key| FactKind::Attribute(key, None)).collect()
        }
        AttributesChange::Clear => vec![FactKind::Barrier(GroupBarrier::AttributesBarrier)],
        AttributesChange::Unknown => vec![FactKind::Barrier(GroupBarrier::AttributesUnclear)],
    }
}
