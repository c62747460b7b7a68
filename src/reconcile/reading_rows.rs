//! The rows of a list of members, in little memory: about 60 bytes a member, so that a list of a million fits.
//!
//! Rows stand by range ([`ListRange`]), in the order in which they came, with their texts behind each other in one string per
//! range. A user who comes again replaces the earlier row: a page that was read later shows a later state. That is done
//! when a range has doubled, so that it costs little per row. Pure.

use std::collections::BTreeMap;

use crate::mirror::ListRange;
use crate::model::{FieldKey, UserId};
use crate::tencent::UnreadParts;
use crate::tencent::canonical::member_list;
use crate::tencent::members::ListedMember;

/// How many rows a range takes before equal users are looked for.
const SORTED_AT_LEAST: usize = 64;

/// A byte of text becomes so many in JSON at most, and a row has so many beside its texts.
const ESCAPED_MAX: usize = 6;
const ROW_BYTES_MAX: usize = 256;

/// A row without its texts.
#[derive(Debug, Clone, Copy)]
struct PackedRow {
    /// Where the texts begin: user, name card, custom fields.
    at: u32,
    user_len: u32,
    card_len: Option<u32>,
    fields_len: u32,
    role: Option<ListedRole>,
    join_secs: i64,
    mute_until_secs: i64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ListedRole {
    Owner,
    Admin,
    Member,
}

impl ListedRole {
    fn of(text: &str) -> Self {
        match text {
            "Owner" => Self::Owner,
            "Admin" => Self::Admin,
            _ => Self::Member,
        }
    }

    fn text(self) -> &'static str {
        match self {
            Self::Owner => "Owner",
            Self::Admin => "Admin",
            Self::Member => "Member",
        }
    }
}

/// The rows of one range.
#[derive(Debug, Clone, Default)]
struct RangeRows {
    texts: String,
    rows: Vec<PackedRow>,
    /// So many rows at the beginning are in the order of their users, each user once.
    sorted: usize,
}

fn length(text: &str) -> u32 {
    let Ok(length) = u32::try_from(text.len()) else { unreachable!("an answer is smaller than 4 GiB") };
    length
}

impl RangeRows {
    fn push(&mut self, member: &ListedMember) {
        let pairs = member.custom_fields.as_deref().unwrap_or_default();
        let pairs: Vec<(&str, &str)> =
            pairs.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
        let fields = if pairs.is_empty() { String::new() } else { serde_json::json!(pairs).to_string() };
        let (user, card) = (member.user.as_str(), member.name_card.as_deref());
        let row = PackedRow {
            at: length(&self.texts),
            user_len: length(user),
            card_len: card.map(length),
            fields_len: length(&fields),
            role: member.role.as_deref().map(ListedRole::of),
            join_secs: member.join_secs.unwrap_or(0),
            mute_until_secs: member.mute_until_secs.unwrap_or(0),
        };
        self.texts.extend([user, card.unwrap_or_default(), &fields]);
        self.rows.push(row);
        if self.rows.len() >= SORTED_AT_LEAST.max(2 * self.sorted) {
            self.sort();
        }
    }

    fn text(&self, at: u32, len: u32) -> &str {
        &self.texts[at as usize..(at + len) as usize]
    }

    fn user(&self, row: &PackedRow) -> &str {
        self.text(row.at, row.user_len)
    }

    /// Puts the rows in the order of their users and keeps the last of each.
    fn sort(&mut self) {
        if self.sorted == self.rows.len() {
            return;
        }
        let before = std::mem::take(self);
        let newest: BTreeMap<&str, &PackedRow> =
            before.rows.iter().map(|row| (before.user(row), row)).collect();
        for row in newest.values() {
            let len = row.user_len + row.card_len.unwrap_or(0) + row.fields_len;
            let at = length(&self.texts);
            self.texts.push_str(before.text(row.at, len));
            self.rows.push(PackedRow { at, ..**row });
        }
        self.sorted = self.rows.len();
        assert!(self.sorted <= before.rows.len(), "sorting adds no row");
    }

    fn find(&self, user: &str) -> Option<&PackedRow> {
        let (sorted, rest) = self.rows.split_at(self.sorted);
        let newest = rest.iter().rev().find(|row| self.user(row) == user);
        let sorted = || sorted.binary_search_by(|row| self.user(row).cmp(user)).ok().map(|at| &sorted[at]);
        newest.or_else(sorted)
    }

    fn member(&self, row: &PackedRow) -> Option<ListedMember> {
        let card = row.card_len.map(|len| self.text(row.at + row.user_len, len).to_owned());
        let fields = self.text(row.at + row.user_len + row.card_len.unwrap_or(0), row.fields_len);
        let pairs: Vec<(String, String)> = serde_json::from_str(fields).unwrap_or_default();
        let pairs = pairs.into_iter().filter_map(|(key, value)| Some((FieldKey::parse(&key).ok()?, value)));
        Some(ListedMember {
            user: UserId::parse(self.user(row)).ok()?,
            role: row.role.map(|role| role.text().to_owned()),
            join_secs: (row.join_secs > 0).then_some(row.join_secs),
            mute_until_secs: Some(row.mute_until_secs),
            name_card: card,
            message_flag: None,
            last_message_secs: None,
            custom_fields: (!fields.is_empty()).then(|| pairs.collect()),
            unread: UnreadParts::default(),
        })
    }
}

/// The rows of a list of members.
#[derive(Debug, Clone, Default)]
pub struct ListRows {
    ranges: BTreeMap<ListRange, RangeRows>,
}

impl ListRows {
    pub(super) fn of<'a>(members: impl IntoIterator<Item = &'a ListedMember>) -> Self {
        let mut rows = Self::default();
        members.into_iter().for_each(|member| rows.push(member));
        rows.sort();
        rows
    }

    pub(super) fn push(&mut self, member: &ListedMember) {
        self.ranges.entry(ListRange::of(&member.user)).or_default().push(member);
    }

    /// After this each user counts once.
    pub(super) fn sort(&mut self) {
        self.ranges.values_mut().for_each(RangeRows::sort);
    }

    /// How many rows; users who came twice may still count twice while the list is read.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ranges.values().map(|range| range.rows.len()).sum()
    }

    /// True where there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ranges.values().all(|range| range.rows.is_empty())
    }

    /// True for a user who is in the list.
    #[must_use]
    pub fn contains(&self, user: &UserId) -> bool {
        self.join_secs(user).is_some()
    }

    /// `JoinTime` of a user who is in the list, Unix seconds; 0: not said.
    #[must_use]
    pub fn join_secs(&self, user: &UserId) -> Option<i64> {
        let range = self.ranges.get(&ListRange::of(user))?;
        range.find(user.as_str()).map(|row| row.join_secs)
    }

    /// The members of a range.
    #[must_use]
    pub fn of_range(&self, range: &ListRange) -> Vec<ListedMember> {
        let rows = self.ranges.get(range);
        rows.into_iter().flat_map(|range| range.rows.iter().filter_map(|row| range.member(row))).collect()
    }

    /// True where the list of one range has more bytes than this.
    pub(super) fn has_range_above(&self, bytes_max: usize) -> bool {
        self.ranges.iter().any(|(range, rows)| {
            let at_most = rows.texts.len() * ESCAPED_MAX + rows.rows.len() * ROW_BYTES_MAX;
            at_most > bytes_max && member_list(&self.of_range(range)).len() > bytes_max
        })
    }

    /// All members, range by range.
    #[must_use]
    pub fn all(&self) -> Vec<ListedMember> {
        let rows = self.ranges.values();
        rows.flat_map(|range| range.rows.iter().filter_map(|row| range.member(row))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(number: u32, card: &str) -> ListedMember {
        ListedMember {
            user: UserId::parse(&format!("user_{number:07}")).unwrap_or_else(|_| unreachable!("an id")),
            role: Some("Member".to_owned()),
            join_secs: Some(1_700_000_000 + i64::from(number)),
            mute_until_secs: Some(0),
            name_card: Some(card.to_owned()),
            message_flag: None,
            last_message_secs: None,
            custom_fields: None,
            unread: UnreadParts::default(),
        }
    }

    fn bytes(rows: &ListRows) -> usize {
        let of = |range: &RangeRows| range.texts.capacity() + range.rows.capacity() * size_of::<PackedRow>();
        rows.ranges.values().map(of).sum()
    }

    #[test]
    fn a_row_takes_so_little_memory_that_a_million_fit() {
        let mut rows = ListRows::default();
        let count = 50_000;
        for number in 0..count {
            rows.push(&row(number, "a card"));
            // A cursor repeats members.
            rows.push(&row(number / 2, "another"));
        }
        let while_read = bytes(&rows) / count as usize;
        rows.sort();
        assert_eq!(rows.len(), count as usize);
        assert!(while_read < 300 && bytes(&rows) / (count as usize) < 130, "{while_read} bytes per member");
    }

    #[test]
    fn the_row_that_was_read_last_counts_and_every_value_comes_back() {
        let mut rows = ListRows::default();
        for number in 0..400 {
            rows.push(&row(number % 150, &format!("card {number}")));
        }
        let full = ListedMember {
            role: Some("Owner".to_owned()),
            join_secs: None,
            mute_until_secs: Some(4_294_967_295),
            name_card: None,
            custom_fields: Some(vec![(FieldKey::default(), "\"散歩\"".to_owned())]),
            ..row(7, "")
        };
        rows.push(&full);
        assert_eq!(rows.join_secs(&full.user), Some(0), "the newest, before sorting");
        rows.sort();
        assert_eq!(rows.len(), 150);
        let all: BTreeMap<UserId, ListedMember> =
            rows.all().into_iter().map(|member| (member.user.clone(), member)).collect();
        assert_eq!(all[&full.user], full);
        assert_eq!(all[&row(99, "").user], row(99, "card 399"));
        assert_eq!(all[&row(100, "").user], row(100, "card 250"));
        assert!(!rows.contains(&row(150, "").user));
        let by_range: usize = ListRange::all().map(|range| rows.of_range(&range).len()).sum();
        assert_eq!(by_range, 150);
    }
}
