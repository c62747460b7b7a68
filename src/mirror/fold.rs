//! Many facts → one winner per key, sorted by key. The only place in Rust that decides which of two facts is newer.
//!
//! [`Rows`] is at once the effect of one batch, the whole mirror in memory, and the yardstick of the tests: all three
//! are joins of the same lattice. `store` writes it by upserts that repeat [`Register::set`] in SQL.

use std::collections::BTreeMap;
use std::collections::btree_map;

use super::{CREATE_SPARE_MS, Claim, Fact};
use crate::callback::Role;
use crate::model::{FieldKey, GroupId, SdkAppId, Stamp, TopicId, UserId};

/// The head of every key of the mirror. Sorted as the tables are: by app, then by the bytes of the id.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupKey {
    /// The app.
    pub app: SdkAppId,
    /// The group.
    pub group: GroupId,
}

/// One value with its stamp.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Register<T> {
    /// How new the value is; zero: never set.
    pub stamp: Stamp,
    /// The newest value.
    pub value: T,
}

impl<T: Default> Default for Register<T> {
    fn default() -> Self {
        Self { stamp: Stamp::ZERO, value: T::default() }
    }
}

impl<T> Register<T> {
    /// The one rule: the greater stamp wins, and replaces the stamp when the value is equal. Equal stamps come from
    /// one body, which speaks of each key once.
    pub fn set(&mut self, stamp: Stamp, value: T) {
        if stamp > self.stamp {
            *self = Self { stamp, value };
        }
    }

    fn merge(&mut self, other: Self) {
        self.set(other.stamp, other.value);
    }
}

fn raise(barrier: &mut Stamp, stamp: Stamp) {
    *barrier = stamp.max(*barrier);
}

/// The registers and barriers of one group.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[expect(
    missing_docs,
    reason = "each field is the column of that name, described in migrations/0002_groups.sql"
)]
pub struct GroupRow {
    pub group_type: Register<Option<String>>,
    pub name: Register<Option<String>>,
    pub introduction: Register<Option<String>>,
    pub notification: Register<Option<String>>,
    pub face_url: Register<Option<String>>,
    pub owner: Register<Option<UserId>>,
    pub created: Register<Option<UserId>>,
    pub create_barrier: Stamp,
    pub destroyed: Stamp,
    pub alive: Stamp,
    pub updated: Stamp,
    pub members_barrier: Stamp,
    pub fields_barrier: Stamp,
    pub attributes_barrier: Stamp,
    pub attributes_unclear: Stamp,
    pub topics_barrier: Stamp,
    pub topics_unclear: Stamp,
}

impl GroupRow {
    fn merge(&mut self, other: Self) {
        self.group_type.merge(other.group_type);
        self.name.merge(other.name);
        self.introduction.merge(other.introduction);
        self.notification.merge(other.notification);
        self.face_url.merge(other.face_url);
        self.owner.merge(other.owner);
        self.created.merge(other.created);
        raise(&mut self.create_barrier, other.create_barrier);
        raise(&mut self.destroyed, other.destroyed);
        raise(&mut self.alive, other.alive);
        raise(&mut self.updated, other.updated);
        raise(&mut self.members_barrier, other.members_barrier);
        raise(&mut self.fields_barrier, other.fields_barrier);
        raise(&mut self.attributes_barrier, other.attributes_barrier);
        raise(&mut self.attributes_unclear, other.attributes_unclear);
        raise(&mut self.topics_barrier, other.topics_barrier);
        raise(&mut self.topics_unclear, other.topics_unclear);
    }
}

/// How a membership began or ended.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Entry {
    /// `JoinType` or `ExitType`.
    pub how: Option<String>,
    /// The operator.
    pub by: Option<UserId>,
}

/// The registers of one membership.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[expect(
    missing_docs,
    reason = "each field is the column of that name, described in migrations/0003_members.sql"
)]
pub struct MemberRow {
    pub join: Register<Entry>,
    pub leave: Register<Entry>,
    pub confirmed: Stamp,
    pub role: Register<Option<Role>>,
    pub name_card: Register<Option<String>>,
}

impl MemberRow {
    fn merge(&mut self, other: Self) {
        self.join.merge(other.join);
        self.leave.merge(other.leave);
        raise(&mut self.confirmed, other.confirmed);
        self.role.merge(other.role);
        self.name_card.merge(other.name_card);
    }
}

/// The registers of one topic.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[expect(
    missing_docs,
    reason = "each field is the column of that name, described in migrations/0005_topics.sql"
)]
pub struct TopicRow {
    pub created: Register<Option<UserId>>,
    pub alive: Stamp,
    pub destroyed: Stamp,
    pub name: Register<Option<String>>,
    pub introduction: Register<Option<String>>,
    pub notification: Register<Option<String>>,
    pub face_url: Register<Option<String>>,
}

impl TopicRow {
    fn merge(&mut self, other: Self) {
        self.created.merge(other.created);
        raise(&mut self.alive, other.alive);
        raise(&mut self.destroyed, other.destroyed);
        self.name.merge(other.name);
        self.introduction.merge(other.introduction);
        self.notification.merge(other.notification);
        self.face_url.merge(other.face_url);
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
        let Fact { group: key, stamp, claim } = fact;
        let group = self.groups.entry(key.clone()).or_default();
        raise(&mut group.updated, stamp);
        let (members, topics) = (&mut self.members, &mut self.topics);
        match claim {
            Claim::Seen => {}
            Claim::Alive => raise(&mut group.alive, stamp),
            Claim::Created(by) => {
                group.created.set(stamp, by);
                raise(&mut group.create_barrier, stamp.earlier(CREATE_SPARE_MS));
            }
            Claim::Destroyed => raise(&mut group.destroyed, stamp),
            Claim::Type(text) => group.group_type.set(stamp, Some(text)),
            Claim::Name(text) => group.name.set(stamp, Some(text)),
            Claim::Introduction(text) => group.introduction.set(stamp, Some(text)),
            Claim::Notification(text) => group.notification.set(stamp, Some(text)),
            Claim::FaceUrl(text) => group.face_url.set(stamp, Some(text)),
            Claim::Owner(owner) => group.owner.set(stamp, owner),
            Claim::AttributesReset => raise(&mut group.attributes_barrier, stamp),
            Claim::AttributesUnclear => raise(&mut group.attributes_unclear, stamp),
            Claim::TopicsUnclear => raise(&mut group.topics_unclear, stamp),
            Claim::UserDefinedField(field, value) => {
                row(&mut self.user_defined_fields, key, field).set(stamp, Some(value));
            }
            Claim::Attribute(field, value) => {
                row(&mut self.attributes, key, field).set(stamp, value);
            }
            Claim::Joined(user, how, by) => row(members, key, user).join.set(stamp, Entry { how, by }),
            Claim::Left(user, how, by) => row(members, key, user).leave.set(stamp, Entry { how, by }),
            Claim::Confirmed(user) => raise(&mut row(members, key, user).confirmed, stamp),
            Claim::Role(user, role) => row(members, key, user).role.set(stamp, Some(role)),
            Claim::NameCard(user, card) => row(members, key, user).name_card.set(stamp, Some(card)),
            Claim::TopicAlive(id) => raise(&mut row(topics, key, id).alive, stamp),
            Claim::TopicCreated(id, by) => row(topics, key, id).created.set(stamp, by),
            Claim::TopicDestroyed(id) => raise(&mut row(topics, key, id).destroyed, stamp),
            Claim::TopicName(id, text) => row(topics, key, id).name.set(stamp, Some(text)),
            Claim::TopicIntroduction(id, text) => row(topics, key, id).introduction.set(stamp, Some(text)),
            Claim::TopicNotification(id, text) => row(topics, key, id).notification.set(stamp, Some(text)),
            Claim::TopicFaceUrl(id, text) => row(topics, key, id).face_url.set(stamp, Some(text)),
        }
    }

    /// The join of two mirrors.
    pub fn merge(&mut self, other: Self) {
        merge_maps(&mut self.groups, other.groups, GroupRow::merge);
        merge_maps(&mut self.members, other.members, MemberRow::merge);
        merge_maps(&mut self.user_defined_fields, other.user_defined_fields, Register::merge);
        merge_maps(&mut self.attributes, other.attributes, Register::merge);
        merge_maps(&mut self.topics, other.topics, TopicRow::merge);
    }
}

/// The row of a member, field, attribute or topic, made if it is new.
fn row<K: Ord, V: Default>(rows: &mut BTreeMap<(GroupKey, K), V>, group: GroupKey, key: K) -> &mut V {
    rows.entry((group, key)).or_default()
}

fn merge_maps<K: Ord, V>(into: &mut BTreeMap<K, V>, from: BTreeMap<K, V>, merge: impl Fn(&mut V, V)) {
    for (key, value) in from {
        match into.entry(key) {
            btree_map::Entry::Occupied(mut row) => merge(row.get_mut(), value),
            btree_map::Entry::Vacant(place) => {
                place.insert(value);
            }
        }
    }
}
