//! Rows → what is true now: the state of a group, a membership, a topic. The twin of the views in
//! `migrations/0006_views.sql`; tests compare both.
//!
//! Nothing here is stored. A value counts while its stamp is not older than the barriers above it, so that destroying a
//! group of 100,000 members writes one row.

use super::fact::{CREATE_SPARE_MS, GroupBarrier, TopicBarrier};
use super::life::Life;
use super::listed::{ListRange, Listed, Silent};
use super::register::Register;
use super::rows::{GroupRow, MemberRow, TopicRow, Transition};
use crate::callback::{AVCHATROOM, ProfileText, Role, WORK};
use crate::model::{Millis, Rank, Stamp, UserId};

/// How far a `JoinTime`, which is in whole seconds, may lie from a known join and still mean it, in milliseconds: nothing is
/// documented about the clock that it is read from, and the join that a callback reported says how and by whom.
pub const JOIN_SPARE_MS: i64 = 3_000;

/// What is known of a group's life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Status {
    /// Exists, and a create or a profile is known.
    Active,
    /// Exists, but only facts about its members, attributes or topics are known.
    Unseen,
    /// Destroyed, and nothing shows that it exists again.
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
    pub apply_join_option: Option<String>,
    pub invite_join_option: Option<String>,
    pub mute_all: Option<bool>,
    pub max_member_count: Option<i64>,
    /// A create or a complete list of members is known of this life; see [`are_members_known`].
    pub has_all_members: bool,
}

/// A membership as it is shown.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "each field is the JSON member of that name, described in the README")]
pub struct MemberState {
    pub present: bool,
    pub role: &'static str,
    pub name_card: Option<String>,
    pub joined_at: Option<Millis>,
    pub join: Transition,
    pub left_at: Option<Millis>,
    pub exit: Transition,
    pub mute_until: Option<Millis>,
    pub custom_fields: Option<String>,
}

/// A topic as it is shown.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "each field is the JSON member of that name, described in the README")]
pub struct TopicState {
    pub active: bool,
    pub name: Option<String>,
    pub introduction: Option<String>,
    pub notification: Option<String>,
    pub face_url: Option<String>,
    pub created_by: Option<UserId>,
    pub created_at: Option<Millis>,
    pub destroyed_at: Option<Millis>,
}

impl GroupRow {
    /// Destroyed, and nothing that counts shows that it exists again.
    #[must_use]
    pub fn is_destroyed(&self) -> bool {
        Life::of_group(self).has_ended()
    }

    /// What is older belongs to an earlier life of the id.
    #[must_use]
    pub fn life_barrier(&self) -> Stamp {
        self.barrier(GroupBarrier::CreateBarrier).max(self.newest_end())
    }

    /// What ended a member's stay or a topic's life that began with this sign, where no leave and no destroy of its own
    /// did: the first of the destroys, the creates (each at its own time, although it reaches back further) and the newest
    /// complete list that came after the sign. A destroyed group ends also what is stamped after the destroy and did not
    /// undo it. Exact for the newest create and destroy and [`EARLIER_ENDS_MAX`](super::EARLIER_ENDS_MAX) more.
    fn end_of(&self, sign: Stamp, listed: Stamp) -> Stamp {
        let (destroyed, gone) =
            (self.barrier(GroupBarrier::DestroyedStamp), self.barrier(GroupBarrier::GoneStamp));
        let ends = self.earlier_ends.stamps().chain([destroyed, gone]);
        let reach = |end: Stamp| if end.is_of(Rank::Create) { end.earlier(CREATE_SPARE_MS) } else { end };
        // The newest create may be known by a read alone, to the second.
        let begin = self.barrier(GroupBarrier::CreateBarrier);
        let began = (begin, self.created.stamp.max(begin.later(CREATE_SPARE_MS)));
        let ended = ends.map(|end| (reach(end), end)).chain([began, (listed, listed)]);
        let after = ended.filter(|(barrier, _)| *barrier > sign);
        after.map(|(_, end)| end).min().unwrap_or(self.newest_end())
    }

    /// What is older is not shown as the profile. A destroyed group still shows the newest profile it had, be it stamped
    /// shortly after the destroy.
    fn profile_barrier(&self) -> Stamp {
        if self.is_destroyed() { self.barrier(GroupBarrier::CreateBarrier) } else { self.life_barrier() }
    }

    /// True where a create or a complete list of members is known of this life: who joined and left since is known from
    /// callbacks. A list in ranges is complete with the last of them, whatever their order.
    fn has_all_members(&self) -> bool {
        let barrier = self.profile_barrier();
        let counts = |stamp: Stamp| !stamp.is_zero() && stamp >= barrier;
        let ranges = || self.ranges.values().filter(|stamp| counts(**stamp)).count();
        counts(self.created.stamp)
            || counts(self.barrier(GroupBarrier::MembersBarrier))
            || counts(self.barrier(GroupBarrier::RangesStamp)) && ranges() == ListRange::all().count()
    }

    /// The value of a user-defined field, if it counts.
    #[must_use]
    pub fn user_defined_field<'a>(&self, field: &'a Register<Option<String>>) -> Option<&'a str> {
        field.shown(self.profile_barrier().max(self.barrier(GroupBarrier::FieldsBarrier)))
    }

    /// The value of an attribute, if it counts.
    #[must_use]
    pub fn attribute<'a>(&self, attribute: &'a Register<Option<String>>) -> Option<&'a str> {
        attribute.shown(self.profile_barrier().max(self.barrier(GroupBarrier::AttributesBarrier)))
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
    let shown = |text| group.text(text).shown(barrier).map(str::to_owned);
    // A type alone, which membership callbacks carry too, makes no profile.
    let known = ProfileText::OF_TOPICS.map(|text| group.text(text).stamp);
    let known = known.into_iter().fold(group.created.stamp, Stamp::max);
    let status = if group.is_destroyed() {
        Status::Destroyed
    } else if !known.is_zero() && known >= barrier {
        Status::Active
    } else {
        Status::Unseen
    };
    let group_type = shown(ProfileText::Type);
    // A Work group lives on without the owner who left it, and no callback says so (1047/33529).
    let left = group_type.as_deref() == Some(WORK)
        && owner_row.is_some_and(|member| member.leave.stamp.max(member.missing) > group.owner.stamp);
    let created = !group.created.stamp.is_zero() && group.created.stamp >= barrier;
    let unread = Silent::default();
    let silent = if group.silent.stamp >= barrier { &group.silent.value } else { &unread };
    GroupState {
        status,
        name: shown(ProfileText::Name),
        introduction: shown(ProfileText::Introduction),
        notification: shown(ProfileText::Notification),
        face_url: shown(ProfileText::FaceUrl),
        owner: group.owner.value.clone().filter(|_| group.owner.stamp >= barrier && !left),
        created_by: group.created.value.clone().filter(|_| created),
        created_at: created.then(|| group.created.stamp.time()).or_else(|| seconds(silent.create_secs)),
        updated_at: group.barrier(GroupBarrier::UpdatedStamp).time(),
        destroyed_at: group.is_destroyed().then(|| group.newest_end().time()),
        group_type,
        apply_join_option: silent.apply_join_option.clone(),
        invite_join_option: silent.invite_join_option.clone(),
        mute_all: silent.mute_all,
        max_member_count: silent.max_member_count,
        has_all_members: group.has_all_members(),
    }
}

/// A time that Tencent gives in seconds.
fn seconds(secs: Option<i64>) -> Option<Millis> {
    secs.map(|secs| Millis::new(secs.saturating_mul(1_000)))
}

impl MemberRow {
    /// What the newest list says that names the user, unless a newer complete list leaves the user out.
    #[must_use]
    pub fn listed_since(&self, barrier: Stamp) -> Option<&Listed> {
        assert!(!self.is_in_list, "the stored form is completed before it is read");
        self.listed.value.as_ref().filter(|_| self.listed.stamp >= barrier)
    }

    /// When and how the membership began, where a list that is newer than the join names the member. A `JoinTime` near the
    /// join that a callback reported means the same join.
    fn join_beside(&self, listed: &Listed, barrier: Stamp) -> (Option<Millis>, Transition) {
        let (join, known) = (self.join.stamp, self.join.stamp > self.leave.stamp);
        let reported = || (Some(join.time()), self.join.value.clone());
        match seconds(listed.join_secs) {
            Some(at) if known && is_near(join.time(), at) => reported(),
            Some(at) => (Some(at), Transition::default()),
            None if known && join >= barrier => reported(),
            None => (None, Transition::default()),
        }
    }
}

/// True for a join within [`JOIN_SPARE_MS`] of the second that begins at `at`.
fn is_near(join: Millis, at: Millis) -> bool {
    let ahead = join.get() - at.get();
    (-JOIN_SPARE_MS..=JOIN_SPARE_MS + 999).contains(&ahead)
}

/// Whether all members of a group are known, so that their number can be shown: from a create or a complete list on
/// (`has_all_members` of [`GroupState`]); and of an audio-video room only where its membership is mirrored (`rooms`).
#[must_use]
pub fn are_members_known(group_type: Option<&str>, has_all_members: bool, rooms: bool) -> bool {
    has_all_members && (rooms || group_type != Some(AVCHATROOM))
}

/// What a membership stands on, weighed against what outdates it.
struct Signs {
    /// The newest complete list that the user would stand in.
    complete: Stamp,
    /// What is older does not count: the beginning of the group's life, or that list.
    barrier: Stamp,
    /// The newest list that names the user, where it counts.
    read: Stamp,
    life: Life,
}

impl Signs {
    fn of(group: &GroupRow, user: &UserId, member: &MemberRow) -> Self {
        let complete = group.members_barrier(user);
        let read = member.listed_since(complete).map_or(Stamp::ZERO, |_| member.listed.stamp);
        let life = Life::of_member(member, read);
        Self { complete, barrier: group.life_barrier().max(complete), read, life }
    }

    /// True for a member of a group that exists. A user of whom a list said no more than a missing one has no sign of
    /// membership.
    fn hold(&self) -> bool {
        let arrived = self.life.newest();
        !self.life.has_ended() && !arrived.is_zero() && arrived >= self.barrier
    }
}

/// Whether a user is a member as long as the group exists; of a destroyed group [`member_state`] shows no member. A fact about
/// the group alone can make this false and never true, so that a running count looks again only at those who are in it.
#[must_use]
pub fn is_standing(group: &GroupRow, user: &UserId, member: &MemberRow) -> bool {
    Signs::of(group, user, member).hold()
}

/// What is true of a membership; none if no fact ever stated one. `owner` is the owner that [`group_state`] shows.
#[must_use]
pub fn member_state(
    group: &GroupRow,
    owner: Option<&UserId>,
    user: &UserId,
    member: &MemberRow,
) -> Option<MemberState> {
    let signs = Signs::of(group, user, member);
    let Signs { complete, barrier, read, ref life } = signs;
    let listed = member.listed_since(complete);
    let (arrived, by_leave) = (life.newest(), life.has_ended());
    if arrived.is_zero() && life.ended.is_zero() && member.missing.is_zero() {
        return None;
    }
    let present = !group.is_destroyed() && signs.hold();
    let lasts = |stamp: Stamp| present && stamp > member.leave.stamp && stamp >= barrier;
    let listed = listed.filter(|_| lasts(read));
    // Of what both callbacks and lists say, the newer counts.
    let is_newest = |stamp: Stamp| lasts(stamp) && listed.is_none_or(|_| stamp > read);
    let role = match member.role.value {
        _ if present && owner == Some(user) => "Owner",
        Some(role) if is_newest(member.role.stamp) => role.as_str(),
        _ => listed.map_or(Role::Member, |listed| listed.role).as_str(),
    };
    let name_card = if is_newest(member.name_card.stamp) {
        member.name_card.value.clone()
    } else {
        listed.and_then(|listed| listed.name_card.clone())
    };
    // A stay whose join belongs to an earlier one has a beginning that is not known.
    let of_this_stay = by_leave || member.join.stamp > member.leave.stamp;
    let join_shown =
        !member.join.stamp.is_zero() && of_this_stay && (!present || member.join.stamp >= barrier);
    let (joined_at, join) = match listed.filter(|_| member.join.stamp <= read) {
        Some(listed) => member.join_beside(listed, group.life_barrier()),
        None if join_shown => (Some(member.join.stamp.time()), member.join.value.clone()),
        None => (None, Transition::default()),
    };
    // A list that left the user out ended the stay, unless something newer is known of it.
    let by_list = !present && member.missing > arrived.max(member.leave.stamp);
    let by_leave = by_leave && !by_list;
    let ended = match (by_list, by_leave) {
        (true, _) => member.missing,
        (false, true) => member.leave.stamp,
        (false, false) => group.end_of(arrived, complete),
    };
    Some(MemberState {
        present,
        role,
        name_card,
        joined_at,
        join,
        left_at: (!present).then(|| ended.time()),
        exit: if by_leave { member.leave.value.clone() } else { Transition::default() },
        mute_until: seconds(listed.and_then(|listed| listed.mute_until)),
        custom_fields: listed.and_then(|listed| listed.custom_fields.clone()),
    })
}

/// What is true of a topic.
#[must_use]
pub fn topic_state(group: &GroupRow, topic: &TopicRow) -> TopicState {
    let life = Life::of_topic(topic);
    let barrier = group.life_barrier().max(group.barrier(GroupBarrier::TopicsBarrier));
    let active = !group.is_destroyed() && !life.has_ended() && life.newest() >= barrier;
    // What was said of an earlier life is not shown. A topic that is gone still shows the newest profile it had.
    let from = if active { life.ended.max(barrier) } else { life.began };
    let shown = |text| topic.text(text).shown(from).map(str::to_owned);
    let created_shown = !life.began.is_zero() && life.began >= from;
    let (missing, listed) =
        (topic.barrier(TopicBarrier::MissingStamp), group.barrier(GroupBarrier::TopicsBarrier));
    let ended = if missing > life.newest().max(life.ended) {
        missing
    } else if life.has_ended() {
        life.ended
    } else {
        group.end_of(life.newest(), listed)
    };
    TopicState {
        active,
        name: shown(ProfileText::Name),
        introduction: shown(ProfileText::Introduction),
        notification: shown(ProfileText::Notification),
        face_url: shown(ProfileText::FaceUrl),
        created_by: topic.created.value.clone().filter(|_| created_shown),
        created_at: created_shown.then(|| life.began.time()),
        destroyed_at: (!active).then(|| ended.time()),
    }
}
