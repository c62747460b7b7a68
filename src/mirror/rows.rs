//! Facts → rows: one row per key, sorted by key, with the newest value of each register.
//!
//! [`Rows`] is a state-based CRDT: merging is commutative, associative and idempotent, so the rows depend only on the
//! set of facts. One type serves as the effect of one batch, as the whole mirror in memory, and as what the tests expect.
//! `store` writes it by upserts that repeat [`Register::set`] in SQL.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::collections::BTreeMap;

use strum::EnumCount as _;

use super::ends::Ends;
use super::fact::{CREATE_SPARE_MS, Fact, FactKind, GroupBarrier, GroupKey, STRAGGLER_MS, TopicBarrier};
use super::listed::{ListRange, Listed, Silent};
use super::register::{Register, raise};
use crate::callback::{ProfileText, Role};
use crate::model::{FieldKey, Stamp, TopicId, UserId};

/// The registers and barriers of one group.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GroupRow {
    /// By [`ProfileText`].
    pub texts: [Register<Option<String>>; ProfileText::COUNT],
    /// Who owns it.
    pub owner: Register<Option<UserId>>,
    /// Who created it; its stamp is the newest create.
    pub created: Register<Option<UserId>>,
    /// By [`GroupBarrier`].
    pub barriers: [Stamp; GroupBarrier::COUNT],
    /// What the newest read of the profile says and no callback does.
    pub silent: Register<Silent>,
    /// The newest complete list of each range that was read by itself.
    pub ranges: BTreeMap<ListRange, Stamp>,
    /// The creates and destroys beside the newest of each: what ended earlier lives of the id.
    pub earlier_ends: Ends,
}

impl GroupRow {
    /// The newest complete list of members that a user would stand in: of the group, or of the user's range.
    #[must_use]
    pub fn members_barrier(&self, user: &UserId) -> Stamp {
        let whole = self.barrier(GroupBarrier::MembersBarrier);
        if self.barrier(GroupBarrier::RangesStamp) <= whole {
            return whole;
        }
        self.ranges.get(&ListRange::of(user)).map_or(whole, |range| whole.max(*range))
    }

    /// One text of the profile.
    #[must_use]
    pub fn text(&self, text: ProfileText) -> &Register<Option<String>> {
        &self.texts[text as usize]
    }

    /// One barrier.
    #[must_use]
    pub fn barrier(&self, barrier: GroupBarrier) -> Stamp {
        self.barriers[barrier as usize]
    }

    /// A membership as it is stored. What the newest complete list says carries no stamp of its own, so that a newer list
    /// that says the same of a member writes nothing of the member; what a newer complete list outdates is dropped, as it
    /// can never count again.
    #[must_use]
    pub fn stored<'a>(&self, user: &UserId, member: &'a MemberRow) -> Cow<'a, MemberRow> {
        assert!(!member.is_in_list, "a membership in its stored form is not stored again");
        if member.listed.stamp.is_zero() {
            return Cow::Borrowed(member);
        }
        match member.listed.stamp.cmp(&self.members_barrier(user)) {
            Ordering::Greater => Cow::Borrowed(member),
            Ordering::Equal => {
                let listed = Register { stamp: Stamp::ZERO, value: member.listed.value.clone() };
                Cow::Owned(MemberRow { listed, is_in_list: true, ..member.clone() })
            }
            Ordering::Less => Cow::Owned(MemberRow { listed: Register::default(), ..member.clone() }),
        }
    }

    /// Gives a membership as it is stored the stamp of the list that it stands in.
    pub fn complete(&self, user: &UserId, member: &mut MemberRow) {
        if std::mem::take(&mut member.is_in_list) {
            member.listed.stamp = self.members_barrier(user);
        }
    }

    /// The newest end of the group, whether a callback or a read says it.
    #[must_use]
    pub fn newest_end(&self) -> Stamp {
        self.barrier(GroupBarrier::DestroyedStamp).max(self.barrier(GroupBarrier::GoneStamp))
    }

    /// A barrier only grows.
    fn raise(&mut self, barrier: GroupBarrier, stamp: Stamp) {
        raise(&mut self.barriers[barrier as usize], stamp);
    }
}

/// How and by whom a membership began or ended.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Transition {
    /// `JoinType` or `ExitType`.
    pub how: Option<String>,
    /// The operator.
    pub by: Option<UserId>,
}

/// The registers of one membership.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MemberRow {
    /// The newest join.
    pub join: Register<Transition>,
    /// The newest leave.
    pub leave: Register<Transition>,
    /// The newest leave, plus [`STRAGGLER_MS`]: an older `confirmed` does not undo it. Follows from the leave.
    pub revival_barrier: Stamp,
    /// The newest callback but a join that shows the membership: a change of role, name card or owner.
    pub confirmed: Stamp,
    /// What the newest list says that names the user. It counts while no newer complete list leaves the user out.
    pub listed: Register<Option<Listed>>,
    /// The newest complete list that left the user out while the mirror showed a member.
    pub missing: Stamp,
    /// True in the stored form alone: the user stands in the newest complete list, whose stamp is not repeated here.
    pub is_in_list: bool,
    /// The newest role.
    pub role: Register<Option<Role>>,
    /// The newest name card.
    pub name_card: Register<Option<String>>,
}

/// The registers and barriers of one topic.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TopicRow {
    /// Who created it; its stamp is the newest create.
    pub created: Register<Option<UserId>>,
    /// By [`TopicBarrier`].
    pub barriers: [Stamp; TopicBarrier::COUNT],
    /// By [`ProfileText`]; a topic has those of [`ProfileText::OF_TOPICS`].
    pub texts: [Register<Option<String>>; ProfileText::COUNT],
}

impl TopicRow {
    /// One text of the profile.
    #[must_use]
    pub fn text(&self, text: ProfileText) -> &Register<Option<String>> {
        &self.texts[text as usize]
    }

    /// One barrier.
    #[must_use]
    pub fn barrier(&self, barrier: TopicBarrier) -> Stamp {
        self.barriers[barrier as usize]
    }

    /// A barrier only grows.
    fn raise(&mut self, barrier: TopicBarrier, stamp: Stamp) {
        raise(&mut self.barriers[barrier as usize], stamp);
    }
}

/// At most one row per key, in key order: the order in which every transaction takes its locks.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rows {
    /// `groups`.
    pub groups: BTreeMap<GroupKey, GroupRow>,
    /// `group_members`.
    pub members: BTreeMap<(GroupKey, UserId), MemberRow>,
    /// `group_user_defined_fields`.
    pub user_defined_fields: BTreeMap<(GroupKey, FieldKey), Register<Option<String>>>,
    /// `group_attributes`; no value: a tombstone.
    pub attributes: BTreeMap<(GroupKey, FieldKey), Register<Option<String>>>,
    /// `group_topics`.
    pub topics: BTreeMap<(GroupKey, TopicId), TopicRow>,
}

impl Rows {
    /// The fold of a set of facts, in whatever order they come.
    #[must_use]
    pub fn of(facts: impl IntoIterator<Item = Fact>) -> Self {
        let mut rows = Self::default();
        facts.into_iter().for_each(|fact| rows.apply(fact));
        rows
    }

    /// Takes one fact in. All of a list is one fact per member and one for the list itself, with one stamp.
    pub fn apply(&mut self, fact: Fact) {
        let Fact { group: key, stamp, kind } = fact;
        let group = self.groups.entry(key.clone()).or_default();
        group.raise(GroupBarrier::UpdatedStamp, stamp);
        let (members, topics) = (&mut self.members, &mut self.topics);
        match kind {
            FactKind::Seen => {}
            FactKind::Created(by) => {
                group.earlier_ends.displace(group.created.stamp, stamp);
                group.created.set(stamp, by);
                let barrier = stamp.earlier(CREATE_SPARE_MS);
                assert!(barrier <= stamp, "a create outlives its own barrier: {stamp:?}");
                group.raise(GroupBarrier::CreateBarrier, barrier);
            }
            FactKind::Began(at) => {
                // Never above what the read itself says.
                let before =
                    stamp.time().get().saturating_sub(at.get()).max(0).saturating_add(CREATE_SPARE_MS);
                group.raise(GroupBarrier::CreateBarrier, stamp.earlier(before));
            }
            FactKind::Destroyed => {
                group.earlier_ends.displace(group.barrier(GroupBarrier::DestroyedStamp), stamp);
                group.raise(GroupBarrier::DestroyedStamp, stamp);
                group.raise(GroupBarrier::RevivalBarrier, stamp.later(STRAGGLER_MS));
            }
            FactKind::Barrier(barrier) => group.raise(barrier, stamp),
            FactKind::Text(text, value) => group.texts[text as usize].set(stamp, Some(value)),
            FactKind::Owner(owner) => group.owner.set(stamp, owner),
            FactKind::UserDefinedField(field, value) => {
                row(&mut self.user_defined_fields, key, field).set(stamp, Some(value));
            }
            FactKind::Attribute(field, value) => {
                row(&mut self.attributes, key, field).set(stamp, value);
            }
            FactKind::Joined(user, how, by) => {
                row(members, key, user).join.set(stamp, Transition { how, by });
            }
            FactKind::Left(user, how, by) => {
                let member = row(members, key, user);
                member.leave.set(stamp, Transition { how, by });
                raise(&mut member.revival_barrier, stamp.later(STRAGGLER_MS));
            }
            FactKind::Confirmed(user) => raise(&mut row(members, key, user).confirmed, stamp),
            FactKind::Role(user, role) => row(members, key, user).role.set(stamp, Some(role)),
            FactKind::NameCard(user, card) => row(members, key, user).name_card.set(stamp, Some(card)),
            FactKind::Silent(silent) => group.silent.set(stamp, silent),
            FactKind::Listed(user, listed) => row(members, key, user).listed.set(stamp, Some(listed)),
            FactKind::Missing(user) => raise(&mut row(members, key, user).missing, stamp),
            FactKind::RangeListed(range) => {
                raise(group.ranges.entry(range).or_default(), stamp);
                group.raise(GroupBarrier::RangesStamp, stamp);
            }
            FactKind::TopicCreated(id, by) => row(topics, key, id).created.set(stamp, by),
            FactKind::TopicDestroyed(id) => {
                let topic = row(topics, key, id);
                topic.raise(TopicBarrier::DestroyedStamp, stamp);
                topic.raise(TopicBarrier::RevivalBarrier, stamp.later(STRAGGLER_MS));
            }
            FactKind::TopicBarrier(id, barrier) => row(topics, key, id).raise(barrier, stamp),
            FactKind::TopicText(id, text, value) => {
                row(topics, key, id).texts[text as usize].set(stamp, Some(value));
            }
        }
    }
}

/// The row of a member, field, attribute or topic, made if it is new.
fn row<K: Ord, V: Default>(rows: &mut BTreeMap<(GroupKey, K), V>, group: GroupKey, key: K) -> &mut V {
    rows.entry((group, key)).or_default()
}
