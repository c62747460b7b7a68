//! Facts → rows: one row per key, sorted by key, with the newest value of each register.
//!
//! [`Rows`] is a state-based CRDT: merging is commutative, associative and idempotent, so the rows depend only on the
//! set of facts. One type serves as the effect of one batch, as the whole mirror in memory, and as what the tests expect.
//! `store` writes it by upserts that repeat [`Register::set`] in SQL.

use std::collections::BTreeMap;

use strum::EnumCount as _;

use super::ends::Ends;
use super::fact::{CREATE_SPARE_MS, Fact, FactKind, GroupBarrier, GroupKey, STRAGGLER_MS, TopicBarrier};
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
    /// The creates and destroys beside the newest of each: what ended earlier lives of the id.
    pub earlier_ends: Ends,
}

impl GroupRow {
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
    /// The newest REST read that shows the membership. Unused until reconciliation raises it: no callback does.
    pub read: Stamp,
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

    /// Takes one fact in.
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
