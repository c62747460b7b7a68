//! What is claimed, and who wins: a [`Callback`] becomes [`Fact`]s, facts fold into [`Rows`], rows show a state.
//!
//! The mirror is a join-semilattice. Every stored value is a register (a value with its stamp; the greater stamp
//! wins) or a barrier (a stamp that only grows), so merging is commutative, associative and idempotent, and the rows
//! depend only on the set of facts. Pure: no clock, no database. Facts come from callbacks here and from snapshots of
//! Tencent's REST API; rows go to `store`, whose SQL repeats the one comparison, `>` on stamps, and nothing else.

mod fold;
mod state;

use crate::callback::{AVCHATROOM, AttributesChange, Callback, Event, Profile, Role, What};
use crate::model::{FieldKey, GroupId, SdkAppId, Stamp, TopicId, UserId};

pub use fold::{Entry, GroupKey, GroupRow, MemberRow, Register, Rows, TopicRow};
pub use state::{GroupState, MemberState, Status, group_state, member_state};

/// How far a create reaches back when it ends an earlier life of the same id, in milliseconds. An id can be used
/// again only when it is free, so a create proves a destroy; but joins of a community may come up to 3 s before its
/// late create (269/1663), and clocks of Tencent's servers are not aligned.
pub const CREATE_SPARE_MS: i64 = 10_000;

/// One claim about one group, stamped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fact {
    /// The group.
    pub group: GroupKey,
    /// How new the claim is.
    pub stamp: Stamp,
    /// The claim.
    pub claim: Claim,
}

/// What a fact can say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Claim {
    /// Something happened to the group; nothing else follows from it.
    Seen,
    /// The group existed. Made by create, join, change of owner or profile, and a positive REST read; no other.
    Alive,
    /// The group came to be, by whom.
    Created(Option<UserId>),
    /// The group ended.
    Destroyed,
    /// Its type.
    Type(String),
    /// Its name.
    Name(String),
    /// Its introduction.
    Introduction(String),
    /// Its notification.
    Notification(String),
    /// Its face URL.
    FaceUrl(String),
    /// Its owner, or that it has none.
    Owner(Option<UserId>),
    /// One user-defined field.
    UserDefinedField(FieldKey, String),
    /// One attribute, or that it is gone.
    Attribute(FieldKey, Option<String>),
    /// No attribute older than this is left.
    AttributesReset,
    /// The attributes changed in a way that the body does not tell.
    AttributesUnclear,
    /// The topics changed in a way that the body does not tell.
    TopicsUnclear,
    /// A membership began: whose, how, by whom.
    Joined(UserId, Option<String>, Option<UserId>),
    /// A membership ended: whose, how, by whom.
    Left(UserId, Option<String>, Option<UserId>),
    /// A membership is shown by something else than a join.
    Confirmed(UserId),
    /// A member's role.
    Role(UserId, Role),
    /// A member's name card.
    NameCard(UserId, String),
    /// A topic existed.
    TopicAlive(TopicId),
    /// A topic came to be, by whom.
    TopicCreated(TopicId, Option<UserId>),
    /// A topic ended.
    TopicDestroyed(TopicId),
    /// A topic's name.
    TopicName(TopicId, String),
    /// A topic's introduction.
    TopicIntroduction(TopicId, String),
    /// A topic's notification.
    TopicNotification(TopicId, String),
    /// A topic's face URL.
    TopicFaceUrl(TopicId, String),
}

/// The facts of a callback; none if it is parked.
#[must_use]
pub fn facts(callback: &Callback) -> Vec<Fact> {
    let Ok(event) = &callback.event else { return Vec::new() };
    let stamp = Stamp::new(callback.time, event.what.rank(), &callback.digest);
    let group = GroupKey { app: callback.received.app, group: event.group.clone() };
    claims(event).into_iter().map(|claim| Fact { group: group.clone(), stamp, claim }).collect()
}

/// The key under which a group stands everywhere.
#[must_use]
pub fn group_key(app: SdkAppId, group: GroupId) -> GroupKey {
    GroupKey { app, group }
}

fn claims(event: &Event) -> Vec<Claim> {
    let by = &event.operator;
    let mut claims = vec![Claim::Seen];
    // The body of a destroy says one thing only: its owner, name and type are those of the end.
    if let (Some(group_type), false) = (&event.group_type, event.what == What::GroupDestroyed) {
        claims.push(Claim::Type(group_type.clone()));
    }
    match &event.what {
        What::GroupCreated { owner, profile, members } => {
            claims.extend([Claim::Created(by.clone()), Claim::Alive]);
            // No owner named is no owner: one of an earlier life whose destroy was lost must not stay.
            claims.push(Claim::Owner(owner.clone()));
            claims.extend(profile_claims(profile));
            // In an audio-video room nobody is a member before joining through an SDK, the owner included (1047/34895).
            if event.group_type.as_deref() != Some(AVCHATROOM) {
                let joined = members.iter().chain(owner).cloned();
                claims.extend(joined.map(|user| Claim::Joined(user, None, by.clone())));
            }
        }
        What::MembersJoined { how, members } => {
            claims.push(Claim::Alive);
            claims.extend(members.iter().map(|user| Claim::Joined(user.clone(), how.clone(), by.clone())));
        }
        What::MembersLeft { how, members } => {
            claims.extend(members.iter().map(|user| Claim::Left(user.clone(), how.clone(), by.clone())));
        }
        What::GroupDestroyed => claims.push(Claim::Destroyed),
        What::ProfileChanged(profile) => {
            claims.push(Claim::Alive);
            claims.extend(profile_claims(profile));
        }
        What::MemberChanged { member, role, name_card } => {
            claims.push(Claim::Confirmed(member.clone()));
            claims.extend(role.map(|role| Claim::Role(member.clone(), role)));
            claims.extend(name_card.iter().map(|card| Claim::NameCard(member.clone(), card.clone())));
        }
        What::AttributesChanged(change) => claims.extend(attribute_claims(change)),
        What::OwnerChanged { old, new } => claims.extend(owner_claims(old.as_ref(), new.as_ref())),
        What::TopicCreated { topic, profile } => {
            claims.extend([Claim::TopicCreated(topic.clone(), by.clone()), Claim::TopicAlive(topic.clone())]);
            claims.extend(topic_profile_claims(topic, profile));
        }
        What::TopicsDestroyed(topics) => {
            claims.extend(topics.iter().cloned().map(Claim::TopicDestroyed));
        }
        What::TopicChanged { topic: Some(topic), profile } => {
            claims.push(Claim::TopicAlive(topic.clone()));
            claims.extend(topic_profile_claims(topic, profile));
        }
        What::TopicChanged { topic: None, .. } => claims.push(Claim::TopicsUnclear),
    }
    claims
}

fn owner_claims(old: Option<&UserId>, new: Option<&UserId>) -> Vec<Claim> {
    let mut claims = vec![Claim::Alive, Claim::Owner(new.cloned())];
    // The new role of the old owner is in no body; Member is what it means not to be the owner any more.
    claims.extend(old.filter(|old| Some(*old) != new).map(|old| Claim::Role(old.clone(), Role::Member)));
    claims.extend(new.cloned().map(Claim::Confirmed));
    claims
}

fn profile_claims(profile: &Profile) -> Vec<Claim> {
    let named = [
        profile.name.clone().map(Claim::Name),
        profile.introduction.clone().map(Claim::Introduction),
        profile.notification.clone().map(Claim::Notification),
        profile.face_url.clone().map(Claim::FaceUrl),
    ];
    let fields = profile.user_defined_fields.iter().cloned();
    named
        .into_iter()
        .flatten()
        .chain(fields.map(|(key, value)| Claim::UserDefinedField(key, value)))
        .collect()
}

fn topic_profile_claims(topic: &TopicId, profile: &Profile) -> Vec<Claim> {
    let named = [
        profile.name.clone().map(|text| Claim::TopicName(topic.clone(), text)),
        profile.introduction.clone().map(|text| Claim::TopicIntroduction(topic.clone(), text)),
        profile.notification.clone().map(|text| Claim::TopicNotification(topic.clone(), text)),
        profile.face_url.clone().map(|text| Claim::TopicFaceUrl(topic.clone(), text)),
    ];
    named.into_iter().flatten().collect()
}

fn attribute_claims(change: &AttributesChange) -> Vec<Claim> {
    let given = |pairs: &[(FieldKey, String)]| -> Vec<Claim> {
        pairs.iter().cloned().map(|(key, value)| Claim::Attribute(key, Some(value))).collect()
    };
    match change {
        // The reset kills what is strictly older; the pairs carry its own stamp and stay.
        AttributesChange::Set(pairs) => [vec![Claim::AttributesReset], given(pairs)].concat(),
        AttributesChange::Modify(pairs) => given(pairs),
        AttributesChange::Delete(keys) => {
            keys.iter().cloned().map(|key| Claim::Attribute(key, None)).collect()
        }
        AttributesChange::Clear => vec![Claim::AttributesReset],
        AttributesChange::Unknown => vec![Claim::AttributesUnclear],
    }
}
