//! Each table of the mirror described once: its columns as registers and barriers, and where a row keeps them.
//!
//! From a description follow the upserts, the compared lines and the reading of rows (in `store`), and the merge of two rows
//! (here). A register is one or more value columns and a stamp column; a barrier is a stamp column alone; a set of ends is a
//! column of stamps, one behind the other. A new text of a profile or a new barrier needs no line here: it is a variant of
//! its enum, named like its column. Each column says what raises it, so that the statement of the hot path leaves out those
//! that no callback raises. The statements that are written from the descriptions stand as text in
//! `tests/it/data/statements.sql`.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::LazyLock;

use strum::VariantArray;

use super::columns::{
    ROLE, SEARCHED_TEXT, SILENT, TEXT, TRANSITION, USER, barrier, earlier_ends, listed_columns, register,
};
use super::fact::{GroupBarrier, GroupKey, TopicBarrier};
use super::listed::ListRange;
use super::register::{Register, raise};
use super::rows::{GroupRow, MemberRow, Rows, TopicRow};
use crate::callback::ProfileText;
use crate::model::Stamp;

pub use super::columns::{Cell, Columns, Origin, StampJoin, VALUES_MAX, Values};

/// A table of the mirror.
pub struct Table<R> {
    /// Its name.
    pub name: &'static str,
    /// The last column of its key, behind app and group; none for the groups themselves.
    pub key: Option<&'static str>,
    /// Its registers, barriers and sets, in the order of every list of columns and of the merge of two rows.
    pub columns: Vec<Columns<R>>,
}

impl<R> Table<R> {
    /// Joins two rows with one key: the newer value of each register, the greater stamp of each barrier, both sets.
    fn merge(&self, into: &mut R, mut from: R) {
        self.columns.iter().for_each(|columns| (columns.merge)(into, &mut from));
    }
}

/// `groups`.
pub static GROUPS: LazyLock<Table<GroupRow>> = LazyLock::new(|| {
    let texts = ProfileText::VARIANTS.iter().map(|text| {
        let at = *text as usize;
        // Lists are searched by the name.
        let (names, codec): (Vec<&'static str>, _) = match text {
            ProfileText::Name => (vec![text.into(), "name_caseless"], &SEARCHED_TEXT),
            text => (vec![text.into()], &TEXT),
        };
        register(&names, codec, move |row: &GroupRow| &row.texts[at], move |row| &mut row.texts[at])
    });
    let users = [
        register(&["owner"], &USER, |row: &GroupRow| &row.owner, |row| &mut row.owner),
        register(&["created_by"], &USER, |row: &GroupRow| &row.created, |row| &mut row.created)
            .stamped("created_stamp"),
    ];
    let barriers = GroupBarrier::VARIANTS.iter().map(|kind| {
        let at = *kind as usize;
        barrier(kind.into(), move |row: &GroupRow| &row.barriers[at], move |row| &mut row.barriers[at])
            .raised_by(group_barrier_origin(*kind))
    });
    let names = ["apply_join_option", "invite_join_option", "mute_all", "max_member_count", "create_secs"];
    let silent = register(&names, &SILENT, |row: &GroupRow| &row.silent, |row| &mut row.silent)
        .stamped("silent_stamp")
        .raised_by(Origin::Reads);
    // The set comes before the registers and barriers that it looks at: merging those takes the stamps out of the row that
    // is merged.
    let columns = [earlier_ends()].into_iter().chain(texts).chain(users).chain(barriers).chain([silent]);
    Table { name: "groups", key: None, columns: columns.collect() }
});

fn group_barrier_origin(barrier: GroupBarrier) -> Origin {
    use GroupBarrier::{FieldsBarrier, GoneStamp, MembersBarrier, RangesStamp, ReadStamp, TopicsBarrier};
    match barrier {
        ReadStamp | GoneStamp | MembersBarrier | RangesStamp | FieldsBarrier | TopicsBarrier => Origin::Reads,
        _ => Origin::Callbacks,
    }
}

/// `group_list_ranges`: a stamp per range of a large group, in [`GroupRow::ranges`].
pub static RANGES: LazyLock<Table<Stamp>> = LazyLock::new(|| Table {
    name: "group_list_ranges",
    key: Some("range"),
    columns: vec![barrier("list_stamp", |row: &Stamp| row, |row| row).raised_by(Origin::Reads)],
});

/// `group_members`.
pub static MEMBERS: LazyLock<Table<MemberRow>> = LazyLock::new(|| Table {
    name: "group_members",
    key: Some("user_id"),
    columns: vec![
        register(&["join_type", "joined_by"], &TRANSITION, |row: &MemberRow| &row.join, |row| &mut row.join)
            .stamped("join_stamp"),
        register(&["exit_type", "left_by"], &TRANSITION, |row: &MemberRow| &row.leave, |row| &mut row.leave)
            .stamped("leave_stamp"),
        barrier("revival_barrier", |row: &MemberRow| &row.revival_barrier, |row| &mut row.revival_barrier),
        barrier("confirmed_stamp", |row: &MemberRow| &row.confirmed, |row| &mut row.confirmed),
        register(&["role"], &ROLE, |row: &MemberRow| &row.role, |row| &mut row.role),
        register(&["name_card"], &TEXT, |row: &MemberRow| &row.name_card, |row| &mut row.name_card),
        barrier("missing_stamp", |row: &MemberRow| &row.missing, |row| &mut row.missing)
            .raised_by(Origin::Reads),
        listed_columns(),
    ],
});

/// `group_user_defined_fields`.
pub static USER_DEFINED_FIELDS: LazyLock<Table<Register<Option<String>>>> =
    LazyLock::new(|| keyed_values("group_user_defined_fields"));

/// `group_attributes`.
pub static ATTRIBUTES: LazyLock<Table<Register<Option<String>>>> =
    LazyLock::new(|| keyed_values("group_attributes"));

/// `group_topics`.
pub static TOPICS: LazyLock<Table<TopicRow>> = LazyLock::new(|| {
    let created = register(&["created_by"], &USER, |row: &TopicRow| &row.created, |row| &mut row.created)
        .stamped("created_stamp");
    let barriers = TopicBarrier::VARIANTS.iter().map(|kind| {
        let at = *kind as usize;
        let is_of_reads = [TopicBarrier::ReadStamp, TopicBarrier::MissingStamp].contains(kind);
        let origin = if is_of_reads { Origin::Reads } else { Origin::Callbacks };
        barrier(kind.into(), move |row: &TopicRow| &row.barriers[at], move |row| &mut row.barriers[at])
            .raised_by(origin)
    });
    let texts = ProfileText::OF_TOPICS.iter().map(|text| {
        let at = *text as usize;
        register(&[text.into()], &TEXT, move |row: &TopicRow| &row.texts[at], move |row| &mut row.texts[at])
    });
    let columns = [created].into_iter().chain(barriers).chain(texts).collect();
    Table { name: "group_topics", key: Some("topic_id"), columns }
});

/// A table whose rows are one register: user-defined fields and attributes.
fn keyed_values(name: &'static str) -> Table<Register<Option<String>>> {
    Table {
        name,
        key: Some("key"),
        columns: vec![register(&["value"], &TEXT, |row: &Register<Option<String>>| row, |row| row)],
    }
}

impl Rows {
    /// The join of two mirrors.
    pub fn merge(&mut self, other: Self) {
        for (key, from) in other.groups.iter().filter(|(_, from)| !from.ranges.is_empty()) {
            let into = &mut self.groups.entry(key.clone()).or_default().ranges;
            for (range, stamp) in &from.ranges {
                raise(into.entry(range.clone()).or_default(), *stamp);
            }
        }
        merge_rows(&GROUPS, &mut self.groups, other.groups);
        merge_rows(&MEMBERS, &mut self.members, other.members);
        merge_rows(&USER_DEFINED_FIELDS, &mut self.user_defined_fields, other.user_defined_fields);
        merge_rows(&ATTRIBUTES, &mut self.attributes, other.attributes);
        merge_rows(&TOPICS, &mut self.topics, other.topics);
    }
}

impl Rows {
    /// The rows of [`RANGES`].
    #[must_use]
    pub fn ranges(&self) -> BTreeMap<(GroupKey, ListRange), Stamp> {
        let of_group = |(key, row): (&GroupKey, &GroupRow)| -> Vec<_> {
            row.ranges.iter().map(|(range, stamp)| ((key.clone(), range.clone()), *stamp)).collect()
        };
        self.groups.iter().flat_map(of_group).collect()
    }
}

fn merge_rows<K: Ord, R>(table: &Table<R>, into: &mut BTreeMap<K, R>, from: BTreeMap<K, R>) {
    for (key, value) in from {
        match into.entry(key) {
            Entry::Occupied(mut row) => table.merge(row.get_mut(), value),
            Entry::Vacant(free) => {
                free.insert(value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::listed::Silent;
    use super::super::rows::Transition;
    use super::*;
    use crate::model::{Digest, Millis, Rank};

    /// Merges a row in which everything is set into an empty one; what is not described stays zero.
    fn assert_whole<R: Default + std::fmt::Debug>(
        table: &Table<R>,
        undescribed: usize,
        fill: impl Fn(&mut R),
    ) {
        let mut full = R::default();
        fill(&mut full);
        let mut merged = R::default();
        table.merge(&mut merged, full);
        let zero = format!("{:?}", Stamp::ZERO);
        let zeros = format!("{merged:?}").matches(&zero).count();
        assert_eq!(zeros, undescribed, "{}: a register is not described: {merged:?}", table.name);
    }

    #[test]
    fn every_register_and_barrier_of_a_row_is_described() {
        let stamp = Stamp::new(Millis::new(1_700_000_000_000), Rank::Change, &Digest::of("c", b"x"));
        let set = |register: &mut Register<Option<String>>| register.set(stamp, Some(String::new()));
        assert_whole(&GROUPS, 0, |row| {
            row.texts.iter_mut().for_each(set);
            row.owner.set(stamp, None);
            row.created.set(stamp, None);
            row.barriers = [stamp; _];
            row.silent.set(stamp, Silent::default());
        });
        let twice = |of: &mut GroupRow, ms: i64| {
            let digest = Digest::of("c", b"x");
            of.created.set(Stamp::new(Millis::new(ms), Rank::Create, &digest), None);
        };
        let (mut into, mut from) = (GroupRow::default(), GroupRow::default());
        twice(&mut into, 1);
        twice(&mut from, 2);
        GROUPS.merge(&mut into, from);
        assert_eq!(into.earlier_ends.stamps().map(Stamp::time).collect::<Vec<_>>(), [Millis::new(1)]);
        assert_whole(&MEMBERS, 0, |row| {
            row.join.set(stamp, Transition::default());
            row.leave.set(stamp, Transition::default());
            row.revival_barrier = stamp;
            row.confirmed = stamp;
            row.listed.set(stamp, None);
            row.missing = stamp;
            row.role.set(stamp, None);
            set(&mut row.name_card);
        });
        assert_whole(&USER_DEFINED_FIELDS, 0, set);
        assert_whole(&ATTRIBUTES, 0, set);
        assert_whole(&TOPICS, 1, |row| {
            row.created.set(stamp, None);
            row.barriers = [stamp; _];
            // The type among them: topics have none.
            row.texts.iter_mut().for_each(set);
        });
    }
}
