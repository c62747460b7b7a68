//! What a snapshot changes of what is shown: the drift, by kind, and whether the snapshot says anything new at all.
//!
//! A snapshot that shows what the mirror shows already is not entered, so that reading a million groups again writes
//! nothing. One that does is merged as any other facts; what it changes was missing: a change that fires no callback, or a
//! callback that was lost. Pure: the caller hands in what the tables hold, and enters what is news.

use std::collections::{BTreeMap, BTreeSet};

use strum::{IntoStaticStr, VariantArray};

use super::fact::{Fact, FactKind, GroupBarrier, GroupKey};
use super::listed::ListRange;
use super::rows::{GroupRow, Rows};
use super::snapshot::{ReadKind, Snapshot, UnreadableSnapshot};
use super::state::{GroupState, MemberState, Status, TopicState, group_state, member_state, topic_state};
use crate::model::{Digest, UserId};

/// One kind of difference between mirror and snapshot. The labels never change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "snake_case")]
pub enum DriftKind {
    /// A group that was not known to exist.
    GroupFound,
    /// A group that exists no more.
    GroupGone,
    /// A text of a group's profile, or its time of creation.
    Profile,
    /// The same of a group that was known, where nothing had named it yet: a create does not say it.
    ProfileCompleted,
    /// The owner.
    Owner,
    /// A value of a group that no callback reports.
    Silent,
    /// A user-defined field.
    UserDefinedField,
    /// An attribute.
    Attribute,
    /// A member who was not known.
    MemberFound,
    /// A member who is none.
    MemberGone,
    /// A member's role.
    Role,
    /// A member's name card.
    NameCard,
    /// When a membership began.
    JoinTime,
    /// A value of a member that no callback reports.
    MemberSilent,
    /// A topic that was not known to exist.
    TopicFound,
    /// A topic that exists no more.
    TopicGone,
    /// A text of a topic's profile.
    TopicProfile,
}

impl DriftKind {
    /// True for what a read of this kind is made to find; other kinds it finds only where nothing is known of the group.
    #[must_use]
    pub fn is_found_by(self, read: ReadKind) -> bool {
        let finds = match self {
            Self::GroupGone => ReadKind::Gone,
            Self::GroupFound
            | Self::Profile
            | Self::ProfileCompleted
            | Self::Owner
            | Self::Silent
            | Self::UserDefinedField => ReadKind::Profile,
            Self::Attribute => ReadKind::Attributes,
            Self::MemberFound
            | Self::MemberGone
            | Self::Role
            | Self::NameCard
            | Self::JoinTime
            | Self::MemberSilent => ReadKind::Members,
            Self::TopicFound | Self::TopicGone | Self::TopicProfile => ReadKind::Topics,
        };
        finds == read
    }
}

/// How many differences of each kind; only those that are there.
pub type Drift = BTreeMap<DriftKind, u64>;

/// A snapshot that was compared.
#[derive(Debug, Clone)]
pub struct ComparedSnapshot {
    /// The snapshot, with those whom it leaves out.
    pub snapshot: Snapshot,
    /// The bytes that the ledger keeps.
    pub body: Vec<u8>,
    /// What its ledger entry is known by.
    pub digest: Digest,
    /// What it states.
    pub facts: Vec<Fact>,
    /// What it changes.
    pub drift: Drift,
    /// False where it says nothing new: it is then not entered.
    pub is_news: bool,
}

/// What the tables hold of some groups, with every snapshot merged in that was news.
#[derive(Debug, Default)]
pub struct Comparison(BTreeMap<GroupKey, HeldGroup>);

#[derive(Debug, Default)]
struct HeldGroup {
    /// The rows of this group alone.
    rows: Rows,
    /// The users in each range, if the group is read by range: hashing 100,000 ids once is enough.
    ranges: Option<BTreeMap<ListRange, BTreeSet<UserId>>>,
}

impl Comparison {
    /// From what the tables hold.
    #[must_use]
    pub fn new(held: Rows) -> Self {
        let mut groups = BTreeMap::<GroupKey, HeldGroup>::new();
        let mut rows = |key: &GroupKey, put: &mut dyn FnMut(&mut Rows)| {
            put(&mut groups.entry(key.clone()).or_default().rows);
        };
        for (key, row) in held.groups {
            rows(&key, &mut |rows| drop(rows.groups.insert(key.clone(), row.clone())));
        }
        for (key, row) in held.members {
            rows(&key.0, &mut |rows| drop(rows.members.insert(key.clone(), row.clone())));
        }
        for (key, row) in held.user_defined_fields {
            rows(&key.0, &mut |rows| drop(rows.user_defined_fields.insert(key.clone(), row.clone())));
        }
        for (key, row) in held.attributes {
            rows(&key.0, &mut |rows| drop(rows.attributes.insert(key.clone(), row.clone())));
        }
        for (key, row) in held.topics {
            rows(&key.0, &mut |rows| drop(rows.topics.insert(key.clone(), row.clone())));
        }
        Self(groups)
    }

    /// What the tables held, with all news.
    #[must_use]
    pub fn into_rows(self) -> Rows {
        let mut whole = Rows::default();
        for HeldGroup { rows, .. } in self.0.into_values() {
            whole.groups.extend(rows.groups);
            whole.members.extend(rows.members);
            whole.user_defined_fields.extend(rows.user_defined_fields);
            whole.attributes.extend(rows.attributes);
            whole.topics.extend(rows.topics);
        }
        whole
    }

    /// Compares one snapshot, and merges it if it is news.
    ///
    /// # Errors
    /// None that can happen: a snapshot that was read once is read again with those whom it leaves out.
    pub fn compare(
        &mut self,
        mut compared: ComparedSnapshot,
    ) -> Result<ComparedSnapshot, UnreadableSnapshot> {
        let held = self.0.entry(compared.snapshot.group.clone()).or_default();
        let before = held.part(&compared);
        let missing = compared.compare(&before);
        if !missing.is_empty() {
            compared = ComparedSnapshot::of(Snapshot { missing, ..compared.snapshot })?;
            compared.compare(&before);
        }
        if compared.is_news {
            compared.facts.iter().cloned().for_each(|fact| held.apply(fact));
        }
        Ok(compared)
    }
}

impl HeldGroup {
    fn apply(&mut self, fact: Fact) {
        if let (FactKind::Listed(user, _), Some(ranges)) = (&fact.kind, &mut self.ranges) {
            ranges.entry(ListRange::of(user)).or_default().insert(user.clone());
        }
        self.rows.apply(fact);
    }

    /// The rows that a snapshot can change the look of.
    fn part(&mut self, compared: &ComparedSnapshot) -> Rows {
        let users = self.users_beside(compared);
        let rows = &self.rows;
        let mut part = Rows { groups: rows.groups.clone(), ..Rows::default() };
        match compared.snapshot.kind {
            ReadKind::Profile => part.user_defined_fields.clone_from(&rows.user_defined_fields),
            ReadKind::Attributes => part.attributes.clone_from(&rows.attributes),
            ReadKind::Topics => part.topics.clone_from(&rows.topics),
            ReadKind::Members | ReadKind::Gone => {}
        }
        let key = &compared.snapshot.group;
        let members = users.into_iter().map(|user| (key.clone(), user));
        part.members.extend(members.filter_map(|key| rows.members.get(&key).cloned().map(|row| (key, row))));
        part
    }

    /// The users whose membership a snapshot can change, and the owners, whose memberships decide what is shown of them.
    fn users_beside(&mut self, compared: &ComparedSnapshot) -> BTreeSet<UserId> {
        let users = || self.rows.members.keys().map(|(_, user)| user);
        let mut beside = BTreeSet::new();
        match (&compared.snapshot.range, compared.snapshot.kind) {
            (Some(range), ReadKind::Members) => {
                let ranges = self.ranges.get_or_insert_with(|| {
                    let mut ranges = BTreeMap::<ListRange, BTreeSet<UserId>>::new();
                    for user in users() {
                        ranges.entry(ListRange::of(user)).or_default().insert(user.clone());
                    }
                    ranges
                });
                beside.extend(ranges.get(range).into_iter().flatten().cloned());
            }
            (None, ReadKind::Members) => beside.extend(users().cloned()),
            _ => {}
        }
        beside.extend(self.rows.groups.values().filter_map(|group| group.owner.value.clone()));
        beside.extend(compared.facts.iter().filter_map(|fact| match &fact.kind {
            FactKind::Owner(owner) => owner.clone(),
            FactKind::Listed(user, _) => Some(user.clone()),
            _ => None,
        }));
        beside
    }
}

impl ComparedSnapshot {
    /// Reads a snapshot, which is not compared yet.
    ///
    /// # Errors
    /// A snapshot that cannot be read.
    pub fn of(snapshot: Snapshot) -> Result<Self, UnreadableSnapshot> {
        let body = snapshot.body();
        let digest = Digest::of(snapshot.kind.command(), &body);
        let facts = snapshot.facts(&digest)?;
        Ok(Self { snapshot, body, digest, facts, drift: Drift::new(), is_news: false })
    }

    fn add(&mut self, kind: DriftKind) {
        *self.drift.entry(kind).or_default() += 1;
    }

    /// Counts what is shown differently; answers who is shown no more although nothing in the list says so.
    fn compare(&mut self, before: &Rows) -> Vec<String> {
        let after = &mut before.clone();
        self.facts.iter().cloned().for_each(|fact| after.apply(fact));
        let (key, unknown) = (&self.snapshot.group.clone(), GroupRow::default());
        let (old, new) = (before.groups.get(key).unwrap_or(&unknown), &after.groups[key]);
        let is_unknown = old.barrier(GroupBarrier::UpdatedStamp).is_zero();
        let states = (shown_group(before, key, old), shown_group(after, key, new));
        self.compare_groups(&states.0, &states.1, is_unknown);
        let mut missing = Vec::new();
        if self.snapshot.kind == ReadKind::Members {
            missing = self.compare_lists((before, old, &states.0), (after, new, &states.1));
        }
        for (of, topic) in &after.topics {
            let was = before.topics.get(of).map(|topic| topic_state(old, topic));
            if self.compare_topics(was.as_ref(), &topic_state(new, topic)) {
                missing.push(of.1.as_str().to_owned());
            }
        }
        for (of, value) in &after.user_defined_fields {
            let was = before.user_defined_fields.get(of).and_then(|value| old.user_defined_field(value));
            if was != new.user_defined_field(value) {
                self.add(DriftKind::UserDefinedField);
            }
        }
        for (of, value) in &after.attributes {
            let was = before.attributes.get(of).and_then(|value| old.attribute(value));
            if was != new.attribute(value) {
                self.add(DriftKind::Attribute);
            }
        }
        self.is_news = !self.drift.is_empty() || is_unknown || clears_a_mark(old, new);
        missing
    }

    /// Compares the memberships; answers the users whom the list leaves out.
    fn compare_lists(
        &mut self,
        (before, old, was): (&Rows, &GroupRow, &GroupState),
        (after, new, is): (&Rows, &GroupRow, &GroupState),
    ) -> Vec<String> {
        let mut missing = Vec::new();
        for (of, row) in &after.members {
            let state = |row, group, owner: &Option<UserId>| member_state(group, owner.as_ref(), &of.1, row);
            let was = before.members.get(of).and_then(|row| state(row, old, &was.owner));
            let gone = self.compare_members(was.as_ref(), state(row, new, &is.owner).as_ref());
            if gone && row.listed_since(new.members_barrier(&of.1)).is_none() {
                missing.push(of.1.as_str().to_owned());
            }
        }
        missing
    }

    fn compare_groups(&mut self, was: &GroupState, is: &GroupState, is_unknown: bool) {
        let exists = |state: &GroupState| state.status != Status::Destroyed;
        match (exists(was) && !is_unknown, exists(is)) {
            (false, true) => self.add(DriftKind::GroupFound),
            (true, false) => self.add(DriftKind::GroupGone),
            _ => {}
        }
        if !exists(is) {
            return;
        }
        let texts = |state: &GroupState| {
            let texts =
                [&state.group_type, &state.name, &state.introduction, &state.notification, &state.face_url];
            let created_at = state.created_at.map(|at| at.get().to_string());
            texts.map(Clone::clone).into_iter().chain([created_at]).collect::<Vec<_>>()
        };
        let pairs = || texts(was).into_iter().zip(texts(is)).filter(|(was, is)| was != is);
        let is_completed = |(was, _): &(Option<String>, _)| was.is_none() && !is_unknown;
        if pairs().any(|pair| !is_completed(&pair)) {
            self.add(DriftKind::Profile);
        }
        if pairs().any(|pair| is_completed(&pair)) || (was.status != is.status && pairs().count() == 0) {
            self.add(DriftKind::ProfileCompleted);
        }
        if was.owner != is.owner {
            self.add(DriftKind::Owner);
        }
        let silent = |state: &GroupState| {
            let options = (state.apply_join_option.clone(), state.invite_join_option.clone());
            (options, state.mute_all, state.max_member_count)
        };
        if silent(was) != silent(is) {
            self.add(DriftKind::Silent);
        }
    }

    /// True for a member who is shown no more.
    fn compare_members(&mut self, was: Option<&MemberState>, is: Option<&MemberState>) -> bool {
        let present = |state: Option<&MemberState>| state.is_some_and(|state| state.present);
        match (was, is) {
            (Some(was), Some(is)) if was.present && is.present => {
                if was.role != is.role {
                    self.add(DriftKind::Role);
                }
                if was.name_card.as_deref().unwrap_or_default() != is.name_card.as_deref().unwrap_or_default()
                {
                    self.add(DriftKind::NameCard);
                }
                if was.joined_at != is.joined_at {
                    self.add(DriftKind::JoinTime);
                }
                if (was.mute_until, &was.custom_fields) != (is.mute_until, &is.custom_fields) {
                    self.add(DriftKind::MemberSilent);
                }
                false
            }
            _ if present(is) => {
                self.add(DriftKind::MemberFound);
                false
            }
            _ if present(was) => {
                self.add(DriftKind::MemberGone);
                true
            }
            _ => false,
        }
    }

    /// True for a topic that is shown no more.
    fn compare_topics(&mut self, was: Option<&TopicState>, is: &TopicState) -> bool {
        match (was.filter(|was| was.active), is.active) {
            (None, true) => self.add(DriftKind::TopicFound),
            (Some(_), false) => self.add(DriftKind::TopicGone),
            (Some(was), true) if was != is => self.add(DriftKind::TopicProfile),
            _ => {}
        }
        was.is_some_and(|was| was.active) && !is.active
    }
}

/// A mark says that something changed and not what; the next read answers it, be it that nothing looks different.
fn clears_a_mark(was: &GroupRow, is: &GroupRow) -> bool {
    let marks = [
        (GroupBarrier::AttributesUnclear, GroupBarrier::AttributesBarrier),
        (GroupBarrier::TopicsUnclear, GroupBarrier::TopicsBarrier),
    ];
    marks.into_iter().any(|(mark, barrier)| {
        was.barrier(mark) > was.barrier(barrier) && is.barrier(mark) <= is.barrier(barrier)
    })
}

fn shown_group(rows: &Rows, key: &GroupKey, group: &GroupRow) -> GroupState {
    let owner = group.owner.value.clone().and_then(|owner| rows.members.get(&(key.clone(), owner)));
    group_state(group, owner)
}
