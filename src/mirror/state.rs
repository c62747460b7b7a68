//! Rows → what is true now. The twin of the views in `migrations/0006_views.sql`; a test compares both.
//!
//! Nothing here is stored. A value counts while its stamp is not older than the barriers above it, so that ending a
//! group of 100,000 members writes one row.

use super::fold::{Entry, GroupRow, MemberRow, Register, TopicRow};
use crate::callback::{Role, WORK};
use crate::model::{Millis, Stamp, UserId};

/// What is known of a group's life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Status {
    /// Exists, and a create or a profile is known.
    Active,
    /// Exists, but was met only through its members, attributes or topics.
    Unseen,
    /// Ended.
    Destroyed,
}

impl Status {
    /// As stored and shown.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Unseen => "unseen",
            Self::Destroyed => "destroyed",
        }
    }
}

/// A group as it is shown.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "each field is the JSON member of that name, described in the README")]
pub struct GroupState {
    pub status: Status,
    pub group_type: Option<String>,
    pub name: Option<String>,
    pub introduction: Option<String>,
    pub notification: Option<String>,
    pub face_url: Option<String>,
    pub owner: Option<UserId>,
    pub created_by: Option<UserId>,
    pub created_at: Option<Millis>,
    pub updated_at: Millis,
    pub destroyed_at: Option<Millis>,
}

/// A membership as it is shown.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "each field is the JSON member of that name, described in the README")]
pub struct MemberState {
    pub present: bool,
    pub role: &'static str,
    pub name_card: Option<String>,
    pub joined_at: Option<Millis>,
    pub join: Entry,
    pub left_at: Option<Millis>,
    pub exit: Entry,
}

impl GroupRow {
    /// Ended, and nothing that shows life is newer.
    #[must_use]
    pub fn is_destroyed(&self) -> bool {
        !self.destroyed.is_zero() && self.destroyed >= self.alive
    }

    /// What is older belongs to an earlier life of the id.
    #[must_use]
    pub fn life_barrier(&self) -> Stamp {
        self.create_barrier.max(self.destroyed)
    }

    /// What ended a stay that no leave ended: the first barrier after its beginning. A later life of the id raises
    /// barriers too, and they must not move the end of what was over.
    fn end_of_stay(&self, arrived: Stamp) -> Option<Stamp> {
        let barriers = [self.create_barrier, self.destroyed, self.members_barrier];
        barriers.into_iter().filter(|barrier| *barrier > arrived).min()
    }

    /// What is older is not shown as the profile. A destroyed group keeps the profile of its last life.
    fn profile_barrier(&self) -> Stamp {
        if self.is_destroyed() { self.create_barrier } else { self.life_barrier() }
    }

    /// True for a topic that exists in a group that exists.
    #[must_use]
    pub fn has_topic(&self, topic: &TopicRow) -> bool {
        let barrier = self.life_barrier().max(self.topics_barrier);
        !self.is_destroyed() && topic.alive > topic.destroyed && topic.alive >= barrier
    }

    /// The value of a user-defined field, if it counts.
    #[must_use]
    pub fn user_defined_field<'a>(&self, field: &'a Register<Option<String>>) -> Option<&'a str> {
        field.shown(self.profile_barrier().max(self.fields_barrier))
    }

    /// The value of an attribute, if it counts.
    #[must_use]
    pub fn attribute<'a>(&self, attribute: &'a Register<Option<String>>) -> Option<&'a str> {
        attribute.shown(self.profile_barrier().max(self.attributes_barrier))
    }
}

impl Register<Option<String>> {
    fn shown(&self, barrier: Stamp) -> Option<&str> {
        self.value.as_deref().filter(|_| self.stamp >= barrier)
    }
}

/// What is true of a group. `owner_row` is the membership of the user in its owner register.
#[must_use]
pub fn group_state(group: &GroupRow, owner_row: Option<&MemberRow>) -> GroupState {
    let barrier = group.profile_barrier();
    let shown = |register: &Register<Option<String>>| register.shown(barrier).map(str::to_owned);
    let known = [&group.name, &group.introduction, &group.notification, &group.face_url]
        .map(|register| register.stamp)
        .into_iter()
        .fold(group.created.stamp, Stamp::max);
    let status = match () {
        () if group.is_destroyed() => Status::Destroyed,
        () if !known.is_zero() && known >= barrier => Status::Active,
        () => Status::Unseen,
    };
    let group_type = shown(&group.group_type);
    // A Work group lives on without the owner who left it, and no callback says so (1047/33529).
    let left = group_type.as_deref() == Some(WORK)
        && owner_row.is_some_and(|member| member.leave.stamp > group.owner.stamp);
    let created = !group.created.stamp.is_zero() && group.created.stamp >= barrier;
    GroupState {
        status,
        name: shown(&group.name),
        introduction: shown(&group.introduction),
        notification: shown(&group.notification),
        face_url: shown(&group.face_url),
        owner: group.owner.value.clone().filter(|_| group.owner.stamp >= barrier && !left),
        created_by: group.created.value.clone().filter(|_| created),
        created_at: created.then(|| group.created.stamp.time()),
        updated_at: group.updated.time(),
        destroyed_at: group.is_destroyed().then(|| group.destroyed.time()),
        group_type,
    }
}

/// What is true of a membership; `None` if nobody ever claimed one. `owner` is the owner that [`group_state`] shows.
#[must_use]
pub fn member_state(
    group: &GroupRow,
    owner: Option<&UserId>,
    user: &UserId,
    member: &MemberRow,
) -> Option<MemberState> {
    let barrier = group.life_barrier().max(group.members_barrier);
    let arrived = member.join.stamp.max(member.confirmed);
    if arrived.is_zero() && member.leave.stamp.is_zero() {
        return None;
    }
    let present = !group.is_destroyed() && arrived > member.leave.stamp && arrived >= barrier;
    let lasts = |stamp: Stamp| present && stamp > member.leave.stamp && stamp >= barrier;
    let role = match member.role.value {
        _ if present && owner == Some(user) => "Owner",
        Some(role) if lasts(member.role.stamp) => role.as_str(),
        _ => Role::Member.as_str(),
    };
    let by_leave = !present && member.leave.stamp > arrived;
    // A stay whose join belongs to an earlier one has a beginning that is not known.
    let of_this_stay = by_leave || member.join.stamp > member.leave.stamp;
    let join_shown =
        !member.join.stamp.is_zero() && of_this_stay && (!present || member.join.stamp >= barrier);
    let ended = if by_leave { member.leave.stamp } else { group.end_of_stay(arrived).unwrap_or(barrier) };
    Some(MemberState {
        present,
        role,
        name_card: member.name_card.value.clone().filter(|_| lasts(member.name_card.stamp)),
        joined_at: join_shown.then(|| member.join.stamp.time()),
        join: if join_shown { member.join.value.clone() } else { Entry::default() },
        left_at: (!present).then(|| ended.time()),
        exit: if by_leave { member.leave.value.clone() } else { Entry::default() },
    })
}
