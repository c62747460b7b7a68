//! The columns of one register, barrier or set: how they are called, what raises them, and how a row holds them.
//!
//! `tables` puts them together to the descriptions of tables. A value goes to the database and comes back as text, whatever
//! its type there, so that one form serves statements, compared lines and rows that are read back.

use std::borrow::Cow;
use std::str::FromStr;

use super::caseless::caseless;
use super::ends::Ends;
use super::fact::GroupBarrier;
use super::listed::{Listed, Silent};
use super::register::{Register, raise};
use super::rows::{GroupRow, MemberRow, Transition};
use crate::callback::Role;
use crate::model::{Stamp, UserId};

/// One register, barrier or set of a row as it is stored: the values, and the stamp that guards them.
#[derive(Debug, PartialEq, Eq)]
pub struct Cell<'a> {
    /// The first ones belong to the value columns, the rest is empty.
    pub values: Values<'a>,
    /// How new they are; the stamps of a set, one behind the other.
    pub stamp: &'a [u8],
}

/// The most value columns of a register.
pub const VALUES_MAX: usize = 6;

/// The values of a register as text.
pub type Values<'a> = [Option<Cow<'a, str>>; VALUES_MAX];

/// What raises a column, and so which statement writes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// Callbacks, and perhaps reads as well.
    Callbacks,
    /// Reads of Tencent's REST API alone.
    Reads,
    /// Lists of members alone. Written as they are, under the lock of the group: they have no stamp of their own while the
    /// newest complete list holds them.
    Lists,
}

/// How the stamp columns of two rows with one key become one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StampJoin {
    /// The greater one: a register or a barrier.
    Greatest,
    /// The union of both sets, with what was displaced in the two stamp columns that hold the newest create and destroy. The
    /// select that joins them costs the server some 30 µs per statement even where no row needs it, so a batch without a
    /// create and a destroy is sent without.
    Ends([&'static str; 2]),
}

/// The columns of one register, barrier or set, and how to reach it in a row.
pub struct Columns<R> {
    /// The value columns; none for a barrier.
    pub values: Vec<&'static str>,
    /// The types of the value columns.
    pub types: &'static [&'static str],
    /// The stamp column, of type `bytea`.
    pub stamp: String,
    /// How two of them are joined.
    pub join: StampJoin,
    /// What raises it.
    pub origin: Origin,
    pub(super) read: Box<Read<R>>,
    pub(super) write: Box<Write<R>>,
    pub(super) merge: Box<Merge<R>>,
}

type Read<R> = dyn Fn(&R) -> Cell<'_> + Send + Sync;
type Write<R> = dyn Fn(&mut R, &[Option<String>], &[u8]) + Send + Sync;
type Merge<R> = dyn Fn(&mut R, &mut R) + Send + Sync;

/// A value as texts and back.
pub(super) struct Codec<T> {
    types: &'static [&'static str],
    values: fn(&T) -> Values<'_>,
    parse: fn(&[Option<String>]) -> T,
}

impl<R> Columns<R> {
    /// The register of a row.
    #[must_use]
    pub fn read<'a>(&self, row: &'a R) -> Cell<'a> {
        (self.read)(row)
    }

    /// Puts what is stored into a row.
    pub fn write(&self, row: &mut R, values: &[Option<String>], stamp: &[u8]) {
        assert_eq!(values.len(), self.values.len(), "a register has a value for each of its columns");
        (self.write)(row, values, stamp);
    }
}

/// A register whose stamp column is called like its first value column, with `_stamp`.
pub(super) fn register<R: 'static, T: Default + 'static>(
    names: &[&'static str],
    codec: &'static Codec<T>,
    get: impl Fn(&R) -> &Register<T> + Send + Sync + 'static,
    get_mut: impl Fn(&mut R) -> &mut Register<T> + Send + Sync + Copy + 'static,
) -> Columns<R> {
    assert_eq!(names.len(), codec.types.len(), "every value column has a type");
    assert!((1..=VALUES_MAX).contains(&names.len()), "a register has between one and six value columns");
    Columns {
        values: names.to_vec(),
        types: codec.types,
        stamp: format!("{}_stamp", names[0]),
        join: StampJoin::Greatest,
        origin: Origin::Callbacks,
        read: Box::new(move |row| Cell {
            values: (codec.values)(&get(row).value),
            stamp: get(row).stamp.as_bytes(),
        }),
        write: Box::new(move |row, values, stamp| {
            *get_mut(row) = Register { stamp: stamp_of(stamp), value: (codec.parse)(values) };
        }),
        merge: Box::new(move |into, from| get_mut(into).merge(std::mem::take(get_mut(from)))),
    }
}

pub(super) fn barrier<R: 'static>(
    name: &'static str,
    get: impl Fn(&R) -> &Stamp + Send + Sync + 'static,
    get_mut: impl Fn(&mut R) -> &mut Stamp + Send + Sync + Copy + 'static,
) -> Columns<R> {
    Columns {
        values: Vec::new(),
        types: &[],
        stamp: name.to_owned(),
        join: StampJoin::Greatest,
        origin: Origin::Callbacks,
        read: Box::new(move |row| Cell { values: [const { None }; _], stamp: get(row).as_bytes() }),
        write: Box::new(move |row, _, stamp| *get_mut(row) = stamp_of(stamp)),
        merge: Box::new(move |into, from| raise(get_mut(into), *get_mut(from))),
    }
}

impl<R> Columns<R> {
    pub(super) fn stamped(self, stamp: &str) -> Self {
        Self { stamp: stamp.to_owned(), ..self }
    }

    pub(super) fn raised_by(self, origin: Origin) -> Self {
        Self { origin, ..self }
    }
}

pub(super) const TEXT: Codec<Option<String>> = Codec {
    types: &["text"],
    values: |value| [text(value), None, None, None, None, None],
    parse: |values| values[0].clone(),
};

/// The text, and the form of it by which it is found in any case.
pub(super) const SEARCHED_TEXT: Codec<Option<String>> = Codec {
    types: &["text", "text"],
    values: |value| [text(value), value.as_deref().map(caseless), None, None, None, None],
    parse: |values| values[0].clone(),
};

pub(super) const USER: Codec<Option<UserId>> = Codec {
    types: &["text"],
    values: |user| [user_text(user), None, None, None, None, None],
    parse: |values| user_of(&values[0]),
};

pub(super) const TRANSITION: Codec<Transition> = Codec {
    types: &["text", "text"],
    values: |transition| [text(&transition.how), user_text(&transition.by), None, None, None, None],
    parse: |values| Transition { how: values[0].clone(), by: user_of(&values[1]) },
};

/// The column is never NULL: a user without another role is a member.
pub(super) const ROLE: Codec<Option<Role>> = Codec {
    types: &["text"],
    values: |role| [Some(Cow::Borrowed(role.unwrap_or(Role::Member).as_str())), None, None, None, None, None],
    parse: |values| values[0].as_deref().map(role_of),
};

pub(super) const SILENT: Codec<Silent> = Codec {
    types: &["text", "text", "boolean", "bigint", "bigint"],
    values: |silent| {
        [
            text(&silent.apply_join_option),
            text(&silent.invite_join_option),
            shown(silent.mute_all),
            shown(silent.max_member_count),
            shown(silent.create_secs),
            None,
        ]
    },
    parse: |values| Silent {
        apply_join_option: values[0].clone(),
        invite_join_option: values[1].clone(),
        mute_all: parsed(&values[2]),
        max_member_count: parsed(&values[3]),
        create_secs: parsed(&values[4]),
    },
};

/// A stamp that no fold made counts as none; `replay --verify` reports it.
fn stamp_of(bytes: &[u8]) -> Stamp {
    Stamp::from_bytes(bytes).unwrap_or_default()
}

fn text(text: &Option<String>) -> Option<Cow<'_, str>> {
    text.as_deref().map(Cow::Borrowed)
}

fn shown<T: ToString>(value: Option<T>) -> Option<Cow<'static, str>> {
    value.map(|value| Cow::Owned(value.to_string()))
}

fn parsed<T: FromStr>(text: &Option<String>) -> Option<T> {
    text.as_deref()?.parse().ok()
}

fn user_text(user: &Option<UserId>) -> Option<Cow<'_, str>> {
    user.as_ref().map(|user| Cow::Borrowed(user.as_str()))
}

fn user_of(text: &Option<String>) -> Option<UserId> {
    UserId::parse(text.as_deref()?).ok()
}

fn role_of(text: &str) -> Role {
    if text == Role::Admin.as_str() { Role::Admin } else { Role::Member }
}

/// The ends of a group's earlier lives.
pub(super) fn earlier_ends() -> Columns<GroupRow> {
    let destroyed = |row: &GroupRow| row.barrier(GroupBarrier::DestroyedStamp);
    Columns {
        values: Vec::new(),
        types: &[],
        stamp: "earlier_ends".to_owned(),
        join: StampJoin::Ends(["created_stamp", GroupBarrier::DestroyedStamp.into()]),
        origin: Origin::Callbacks,
        read: Box::new(|row| Cell { values: [const { None }; _], stamp: row.earlier_ends.as_bytes() }),
        write: Box::new(|row, _, stamps| row.earlier_ends = Ends::of_bytes(stamps)),
        merge: Box::new(move |into, from| {
            into.earlier_ends.merge(&from.earlier_ends);
            into.earlier_ends.displace(into.created.stamp, from.created.stamp);
            into.earlier_ends.displace(destroyed(into), destroyed(from));
        }),
    }
}

/// What a list says of a member, in the stored form: see `GroupRow::stored`.
pub(super) fn listed_columns() -> Columns<MemberRow> {
    Columns {
        values: vec![
            "is_listed",
            "listed_role",
            "listed_name_card",
            "listed_join_secs",
            "mute_until_secs",
            "custom_fields",
        ],
        types: &["boolean", "text", "text", "bigint", "bigint", "text"],
        stamp: "read_stamp".to_owned(),
        join: StampJoin::Greatest,
        origin: Origin::Lists,
        read: Box::new(|row| Cell { values: listed_values(row), stamp: row.listed.stamp.as_bytes() }),
        write: Box::new(|row, values, stamp| {
            row.is_in_list = parsed(&values[0]).unwrap_or_default();
            row.listed = Register { stamp: stamp_of(stamp), value: listed_of(&values[1..]) };
        }),
        merge: Box::new(|into, from| into.listed.merge(std::mem::take(&mut from.listed))),
    }
}

fn listed_values(row: &MemberRow) -> Values<'_> {
    let in_list = Some(Cow::Owned(row.is_in_list.to_string()));
    let Some(listed) = &row.listed.value else { return [in_list, None, None, None, None, None] };
    [
        in_list,
        Some(Cow::Borrowed(listed.role.as_str())),
        text(&listed.name_card),
        shown(listed.join_secs),
        shown(listed.mute_until),
        text(&listed.custom_fields),
    ]
}

fn listed_of(values: &[Option<String>]) -> Option<Listed> {
    let [role, name_card, join_secs, mute_until, custom_fields] = values else {
        unreachable!("the description has five columns behind the first")
    };
    Some(Listed {
        role: role_of(role.as_deref()?),
        name_card: name_card.clone(),
        join_secs: parsed(join_secs),
        mute_until: parsed(mute_until),
        custom_fields: custom_fields.clone(),
    })
}
