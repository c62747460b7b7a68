//! The filters of the list of groups: which groups, what a page of them costs, and the parameters of its statement.
//!
//! [`GroupFilter::cost`] is the one place that says whether an index serves a list. A page that none serves could read every
//! group of the app, so callers run it under a limit of its own. `group_list` has the statement that the parameters are for.

use chrono::{DateTime, Utc};
use sqlx::Arguments as _;
use sqlx::postgres::PgArguments;

use super::group_order::{GroupCursorKey, GroupOrder};
use crate::mirror::{Status, caseless};
use crate::model::{FieldKey, GroupId, SdkAppId, UserId};

/// The index that serves `updated_after` has the time of the newest fact in steps of 2 to this power milliseconds, about 19
/// hours: a finer one would move with each callback, and an update that moves a value in an index has to write to all indexes of
/// the table (it is no heap-only tuple). Twin of the column `groups.updated_step`.
const UPDATED_STEP_BITS: u32 = 26;

/// How many characters of a name the index of prefixes has.
const INDEXED_CHARS: usize = 64;

/// Which groups of one app; what is `None` or empty does not filter.
#[derive(Debug, Clone)]
pub struct GroupFilter {
    /// The app.
    pub app: SdkAppId,
    /// These; the caller sets the limit.
    pub groups: Vec<GroupId>,
    /// Of one of these types, under their present names.
    pub group_types: Vec<String>,
    /// Owned now by this user.
    pub owner: Option<UserId>,
    /// With this user as a present member.
    pub member: Option<UserId>,
    /// With this text as a part of the name, in any case; no character has a special meaning.
    pub name_part: Option<String>,
    /// With this text as the begin of the name, in any case.
    pub name_prefix: Option<String>,
    /// With this status.
    pub status: Option<Status>,
    /// With each of these user-defined fields. The statement grows with their number; the caller sets the limit.
    pub user_defined_fields: Vec<(FieldKey, String)>,
    /// Created later than this.
    pub created_after: Option<DateTime<Utc>>,
    /// Created earlier than this.
    pub created_before: Option<DateTime<Utc>>,
    /// With a fact that is newer than this.
    pub updated_after: Option<DateTime<Utc>>,
    /// Of which the profile was last read as of a time before this, or never.
    pub verified_before: Option<DateTime<Utc>>,
}

/// What a page of a list costs at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ListCost {
    /// Its rows: an index has them, in this order, and no others.
    Page,
    /// All rows that match a filter: an index finds these, and they are put in order. A user may be in any number of groups.
    Matches,
    /// All groups of the app: no index finds the matches.
    Search,
}

impl GroupFilter {
    /// What a page of this list costs. With the numbers of members it costs all memberships of its groups as well.
    #[must_use]
    pub fn cost(&self, order: GroupOrder, with_member_count: bool) -> ListCost {
        let by_key = !self.groups.is_empty();
        let by_user = self.owner.is_some() || self.member.is_some();
        let has_times = self.created_after.is_some() || self.created_before.is_some();
        let by_value = !self.group_types.is_empty()
            || !self.user_defined_fields.is_empty()
            || self.name_prefix.is_some()
            || self.updated_after.is_some();
        // An index has the times of one kind in the order of that kind, and in no other. What was never verified stands in no
        // index at all: the last pages of an order by verification may look at every group.
        let of_other_times = match order {
            GroupOrder::Newest | GroupOrder::Oldest => self.verified_before.is_some(),
            GroupOrder::VerifiedOldest | GroupOrder::VerifiedNewest => true,
            GroupOrder::Id => has_times || self.verified_before.is_some(),
        };
        let of_rows = if by_key {
            ListCost::Page
        } else if by_user {
            ListCost::Matches
        } else if self.name_part.is_some() {
            ListCost::Search
        } else if by_value || of_other_times {
            ListCost::Matches
        } else {
            ListCost::Page
        };
        if with_member_count { of_rows.max(ListCost::Matches) } else { of_rows }
    }

    /// The statuses that are wanted.
    fn statuses(&self) -> Vec<&'static str> {
        let all = [Status::Active, Status::Destroyed, Status::Unseen];
        all.into_iter()
            .filter(|status| self.status.is_none_or(|wanted| wanted == *status))
            .map(Status::as_str)
            .collect()
    }
}

/// The parameters of the statement of a page behind a place.
pub(super) fn bound(
    filter: &GroupFilter,
    after: Option<&GroupCursorKey>,
    limit: i64,
) -> Result<PgArguments, sqlx::Error> {
    let (keys, values): (Vec<_>, Vec<_>) =
        filter.user_defined_fields.iter().map(|(key, value)| (key.as_str(), value.as_str())).unzip();
    let prefix = filter.name_prefix.as_deref().map(caseless);
    let mut arguments = PgArguments::default();
    let added = [
        arguments.add(filter.app.get()),
        arguments.add(filter.groups.iter().map(GroupId::as_str).collect::<Vec<_>>()),
        arguments.add(&filter.group_types),
        arguments.add(filter.statuses()),
        arguments.add(filter.created_after),
        arguments.add(filter.created_before),
        arguments.add(filter.name_part.as_deref().map(|part| format!("%{}%", escaped(&caseless(part))))),
        arguments.add(filter.owner.as_ref().map(UserId::as_str)),
        arguments.add(filter.member.as_ref().map(UserId::as_str)),
        arguments.add(keys),
        arguments.add(values),
        arguments.add(limit),
        arguments.add(after.and_then(|place| place.time)),
        arguments.add(after.map(|place| place.group_id.as_str())),
        arguments.add(filter.verified_before),
        arguments.add(prefix.as_deref().map(|prefix| begin_pattern(prefix, INDEXED_CHARS))),
        arguments.add(prefix.as_deref().map(|prefix| begin_pattern(prefix, usize::MAX))),
        arguments.add(filter.updated_after),
        arguments.add(filter.updated_after.map(updated_step)),
    ];
    added.into_iter().collect::<Result<(), _>>().map_err(sqlx::Error::Encode)?;
    Ok(arguments)
}

/// The step of a time: see [`UPDATED_STEP_BITS`].
fn updated_step(time: DateTime<Utc>) -> i32 {
    let step = time.timestamp_millis() >> UPDATED_STEP_BITS;
    i32::try_from(step).unwrap_or(if step < 0 { i32::MIN } else { i32::MAX })
}

/// The `LIKE` pattern of what begins with a text, or with its first characters.
fn begin_pattern(text: &str, chars_max: usize) -> String {
    let begin: String = text.chars().take(chars_max).collect();
    escaped(&begin) + "%"
}

/// What would be a wildcard of `LIKE` stands for itself.
fn escaped(text: &str) -> String {
    let mut pattern = String::with_capacity(text.len());
    for character in text.chars() {
        if matches!(character, '%' | '_' | '\\') {
            pattern.push('\\');
        }
        pattern.push(character);
    }
    pattern
}
