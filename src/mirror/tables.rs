//! Each table of the mirror described once: its columns as registers and barriers, and where a row keeps them.
//!
//! From a description follow the upsert and the compared lines (in `store`) and the merge of two rows (here). A register
//! is one or two value columns and a stamp column; a barrier is a stamp column alone; a set of ends is a column of stamps,
//! one behind the other. A new text of a profile or a new barrier needs no line here: it is a variant of its enum, named
//! like its column. The statements that are written from the descriptions stand as text in `tests/it/data/statements.sql`.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::LazyLock;

use strum::VariantArray;

use super::caseless::caseless;
use super::fact::{GroupBarrier, TopicBarrier};
use super::register::{Register, raise};
use super::rows::{GroupRow, MemberRow, Rows, TopicRow, Transition};
use crate::callback::{ProfileText, Role};
use crate::model::{Stamp, UserId};

/// One register, barrier or set of a row as it is stored: the values, and the stamp that guards them.
#[derive(Debug, PartialEq, Eq)]
pub struct Cell<'a> {
    /// The first ones belong to the value columns, the rest is empty.
    pub values: Values<'a>,
    /// How new they are; the stamps of a set, one behind the other.
    pub stamp: &'a [u8],
}

/// The values of a register, which has at most two value columns.
pub type Values<'a> = [Option<Cow<'a, str>>; 2];

/// How the stamp columns of two rows with one key become one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StampJoin {
    /// The greater one: a register or a barrier.
    Greatest,
    /// The union of both sets, with what was displaced in the two stamp columns that hold the newest create and destroy.
    Ends([&'static str; 2]),
}

/// The columns of one register, barrier or set, and how to reach it in a row.
pub struct Columns<R> {
    /// The value columns, all of type `text`; none for a barrier or a set.
    pub values: Vec<&'static str>,
    /// The stamp column, of type `bytea`.
    pub stamp: String,
    /// How two of them are joined.
    pub join: StampJoin,
    read: Box<Read<R>>,
    merge: Box<Merge<R>>,
}

type Read<R> = dyn Fn(&R) -> Cell<'_> + Send + Sync;
type ReadText = fn(&Option<String>) -> Values<'_>;
type Merge<R> = dyn Fn(&mut R, &mut R) + Send + Sync;

/// A table of the mirror.
pub struct Table<R> {
    /// Its name.
    pub name: &'static str,
    /// The last column of its key, behind app and group; none for the groups themselves.
    pub key: Option<&'static str>,
    /// Its registers, barriers and sets, in the order of every list of columns and of the merge of two rows.
    pub columns: Vec<Columns<R>>,
}

impl<R> Columns<R> {
    /// The register of a row.
    #[must_use]
    pub fn read<'a>(&self, row: &'a R) -> Cell<'a> {
        (self.read)(row)
    }
}

impl<R> Table<R> {
    /// The names of all columns behind the key: of each register the values, then the stamp.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.columns.iter().flat_map(|columns| columns.values.iter().copied().chain([columns.stamp.as_str()]))
    }

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
        let (names, values): (Vec<&'static str>, ReadText) = match text {
            ProfileText::Name => (vec![text.into(), "name_caseless"], searched_values),
            text => (vec![text.into()], text_value),
        };
        register(&names, values, move |row: &GroupRow| &row.texts[at], move |row| &mut row.texts[at])
    });
    let users = [
        register(&["owner"], user_value, |row: &GroupRow| &row.owner, |row| &mut row.owner),
        register(&["created_by"], user_value, |row: &GroupRow| &row.created, |row| &mut row.created)
            .stamped("created_stamp"),
    ];
    let barriers = GroupBarrier::VARIANTS.iter().map(|kind| {
        let at = *kind as usize;
        barrier(kind.into(), move |row: &GroupRow| &row.barriers[at], move |row| &mut row.barriers[at])
    });
    // Before the registers and barriers that it looks at: merging those takes the stamps out of the row that is merged.
    let columns = [earlier_ends()].into_iter().chain(texts).chain(users).chain(barriers);
    Table { name: "groups", key: None, columns: columns.collect() }
});

fn earlier_ends() -> Columns<GroupRow> {
    let destroyed = |row: &GroupRow| row.barrier(GroupBarrier::DestroyedStamp);
    Columns {
        values: Vec::new(),
        stamp: "earlier_ends".to_owned(),
        join: StampJoin::Ends(["created_stamp", GroupBarrier::DestroyedStamp.into()]),
        read: Box::new(|row| Cell { values: [None, None], stamp: row.earlier_ends.as_bytes() }),
        merge: Box::new(move |into, from| {
            into.earlier_ends.merge(&from.earlier_ends);
            into.earlier_ends.displace(into.created.stamp, from.created.stamp);
            into.earlier_ends.displace(destroyed(into), destroyed(from));
        }),
    }
}

/// `group_members`.
pub static MEMBERS: LazyLock<Table<MemberRow>> = LazyLock::new(|| Table {
    name: "group_members",
    key: Some("user_id"),
    columns: vec![
        register(
            &["join_type", "joined_by"],
            transition_values,
            |row: &MemberRow| &row.join,
            |row| &mut row.join,
        )
        .stamped("join_stamp"),
        register(
            &["exit_type", "left_by"],
            transition_values,
            |row: &MemberRow| &row.leave,
            |row| &mut row.leave,
        )
        .stamped("leave_stamp"),
        barrier("revival_barrier", |row: &MemberRow| &row.revival_barrier, |row| &mut row.revival_barrier),
        barrier("confirmed_stamp", |row: &MemberRow| &row.confirmed, |row| &mut row.confirmed),
        barrier("read_stamp", |row: &MemberRow| &row.read, |row| &mut row.read),
        register(&["role"], role_value, |row: &MemberRow| &row.role, |row| &mut row.role),
        register(&["name_card"], text_value, |row: &MemberRow| &row.name_card, |row| &mut row.name_card),
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
    let created =
        register(&["created_by"], user_value, |row: &TopicRow| &row.created, |row| &mut row.created)
            .stamped("created_stamp");
    let barriers = TopicBarrier::VARIANTS.iter().map(|kind| {
        let at = *kind as usize;
        barrier(kind.into(), move |row: &TopicRow| &row.barriers[at], move |row| &mut row.barriers[at])
    });
    let texts = ProfileText::OF_TOPICS.iter().map(|text| {
        let at = *text as usize;
        register(
            &[text.into()],
            text_value,
            move |row: &TopicRow| &row.texts[at],
            move |row| &mut row.texts[at],
        )
    });
    let columns = [created].into_iter().chain(barriers).chain(texts).collect();
    Table { name: "group_topics", key: Some("topic_id"), columns }
});

/// A table whose rows are one register: user-defined fields and attributes.
fn keyed_values(name: &'static str) -> Table<Register<Option<String>>> {
    Table {
        name,
        key: Some("key"),
        columns: vec![register(&["value"], text_value, |row: &Register<Option<String>>| row, |row| row)],
    }
}

/// A register whose stamp column is called like its first value column, with `_stamp`.
fn register<R: 'static, T: Default + 'static>(
    names: &[&'static str],
    values: fn(&T) -> Values<'_>,
    get: impl Fn(&R) -> &Register<T> + Send + Sync + 'static,
    get_mut: impl Fn(&mut R) -> &mut Register<T> + Send + Sync + 'static,
) -> Columns<R> {
    assert!((1..=2).contains(&names.len()), "a register has one or two value columns");
    Columns {
        values: names.to_vec(),
        stamp: format!("{}_stamp", names[0]),
        join: StampJoin::Greatest,
        read: Box::new(move |row| Cell { values: values(&get(row).value), stamp: get(row).stamp.as_bytes() }),
        merge: Box::new(move |into, from| get_mut(into).merge(std::mem::take(get_mut(from)))),
    }
}

fn barrier<R: 'static>(
    name: &'static str,
    get: impl Fn(&R) -> &Stamp + Send + Sync + 'static,
    get_mut: impl Fn(&mut R) -> &mut Stamp + Send + Sync + 'static,
) -> Columns<R> {
    Columns {
        values: Vec::new(),
        stamp: name.to_owned(),
        join: StampJoin::Greatest,
        read: Box::new(move |row| Cell { values: [None, None], stamp: get(row).as_bytes() }),
        merge: Box::new(move |into, from| raise(get_mut(into), *get_mut(from))),
    }
}

impl<R> Columns<R> {
    fn stamped(self, stamp: &str) -> Self {
        Self { stamp: stamp.to_owned(), ..self }
    }
}

fn text_value(text: &Option<String>) -> Values<'_> {
    [text.as_deref().map(Cow::from), None]
}

/// The text, and the form of it by which it is found in any case.
fn searched_values(text: &Option<String>) -> Values<'_> {
    [text.as_deref().map(Cow::from), text.as_deref().map(caseless)]
}

fn user_value(user: &Option<UserId>) -> Values<'_> {
    [user.as_ref().map(|user| user.as_str().into()), None]
}

fn transition_values(transition: &Transition) -> Values<'_> {
    [transition.how.as_deref().map(Cow::from), transition.by.as_ref().map(|by| by.as_str().into())]
}

/// The column is never NULL: a user without another role is a member.
fn role_value(role: &Option<Role>) -> Values<'_> {
    [Some(role.unwrap_or(Role::Member).as_str().into()), None]
}

impl Rows {
    /// The join of two mirrors.
    pub fn merge(&mut self, other: Self) {
        merge_rows(&GROUPS, &mut self.groups, other.groups);
        merge_rows(&MEMBERS, &mut self.members, other.members);
        merge_rows(&USER_DEFINED_FIELDS, &mut self.user_defined_fields, other.user_defined_fields);
        merge_rows(&ATTRIBUTES, &mut self.attributes, other.attributes);
        merge_rows(&TOPICS, &mut self.topics, other.topics);
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
            row.read = stamp;
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
