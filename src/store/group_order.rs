//! The orders of the list of groups, as ranges of an index: keyset pagination, where a page follows a place.
//!
//! Two kinds of times put groups in order, that of creation and that of verification, each with an index of its own that
//! begins with the status; what was never verified has no row there and is looked for last. The ranges are written once, for the creation, and serve the other by the name of its column.
//! Missing times come last in both directions, ties go by the bytes of the id.

use std::borrow::Cow;

use chrono::{DateTime, Utc};

/// In which order; missing times last, ties by the bytes of the id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GroupOrder {
    /// Newest first.
    Newest,
    /// Oldest first.
    Oldest,
    /// By the bytes of the id.
    Id,
    /// The profile was verified longest ago first.
    VerifiedOldest,
    /// The profile was verified last first.
    VerifiedNewest,
}

impl GroupOrder {
    pub(super) fn is_by_verification(self) -> bool {
        matches!(self, Self::VerifiedOldest | Self::VerifiedNewest)
    }

    /// The column of the times that it puts in order; by id none counts.
    pub(super) fn time_column(self) -> &'static str {
        if self.is_by_verification() { "verified_at" } else { "created_at" }
    }
}

/// The place of a row in any [`GroupOrder`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupCursorKey {
    /// The time of the row that its order goes by; [`GroupOrder::Id`] does not look at it.
    pub time: Option<DateTime<Utc>>,
    /// `group_id` of the row.
    pub group_id: String,
}

/// A part of the rows that follow a place, in an order that an index has. Written for the order by creation; see
/// [`parts`] for the other.
#[derive(Clone)]
pub(super) struct Part {
    pub(super) condition: Cow<'static, str>,
    pub(super) order: Cow<'static, str>,
}

impl Part {
    /// True for the part of the groups without a time.
    pub(super) fn is_timeless(&self) -> bool {
        self.condition.contains("IS NULL")
    }
}

const fn part(condition: &'static str, order: &'static str) -> Part {
    Part { condition: Cow::Borrowed(condition), order: Cow::Borrowed(order) }
}

const NEWEST: &str = "created_at DESC NULLS LAST, group_id";
const OLDEST: &str = "created_at ASC NULLS LAST, group_id";

/// Oldest first, as the index for the newest is read backwards; for parts without missing times. Ids run backwards then, so
/// they are left to the order of the whole, and a part ends behind all that share the time of its last row.
const BACKWARDS: &str = "created_at ASC NULLS FIRST";

const ALL: Part = part("true", NEWEST);
/// Not an equation, from which the planner would see that any index in the order of ids has this order.
const SAME_TIME: Part = part("s.created_at BETWEEN $13 AND $13 AND s.group_id > $14", NEWEST);
const OLDER: Part = part("s.created_at < $13", NEWEST);
const TIMED_NEWEST: Part = part("s.created_at IS NOT NULL", NEWEST);
const TIMED: Part = part("s.created_at IS NOT NULL", BACKWARDS);
const NEWER: Part = part("s.created_at > $13", BACKWARDS);
/// Missing times come last in both orders.
const WITHOUT_TIME: Part = part("s.created_at IS NULL", NEWEST);
const REST_WITHOUT_TIME: Part = part("s.created_at IS NULL AND s.group_id > $14", NEWEST);
const BY_ID: Part = part("true", "group_id");
const REST_BY_ID: Part = part("s.group_id > $14", "group_id");

/// The parts that follow a place. Each is one range of an index: a comparison of time and id together would be none,
/// because they run in different directions.
///
/// `is_bounded`: the times that the order goes by have a bound of their own, `verified_before`, up to which the range is read.
/// As a filter it would be found out only behind the last match, by reading all that is newer. What has no time is before any.
pub(super) fn parts(order: GroupOrder, after: Option<&GroupCursorKey>, is_bounded: bool) -> Vec<Part> {
    let timed = after.map(|place| place.time.is_some());
    let parts: &[Part] = match (order, timed) {
        (GroupOrder::Newest, None) => &[ALL],
        (GroupOrder::VerifiedNewest, None) => &[TIMED_NEWEST, WITHOUT_TIME],
        (GroupOrder::Newest | GroupOrder::VerifiedNewest, Some(true)) => &[SAME_TIME, OLDER, WITHOUT_TIME],
        (GroupOrder::Oldest | GroupOrder::VerifiedOldest, None) => &[TIMED, WITHOUT_TIME],
        (GroupOrder::Oldest | GroupOrder::VerifiedOldest, Some(true)) => &[SAME_TIME, NEWER, WITHOUT_TIME],
        (GroupOrder::Id, None) => &[BY_ID],
        (GroupOrder::Id, Some(_)) => &[REST_BY_ID],
        (_, Some(false)) => &[REST_WITHOUT_TIME],
    };
    let of_column = |text: &str| text.replace("created_at", order.time_column());
    let bounded = |part: &Part| {
        let Part { condition, order } = part;
        let bound = if is_bounded && !part.is_timeless() { " AND s.verified_at < $15" } else { "" };
        Part { condition: (of_column(condition) + bound).into(), order: of_column(order).into() }
    };
    parts.iter().map(bounded).collect()
}

/// The order of the whole.
pub(super) fn order_of(order: GroupOrder) -> String {
    let text = match order {
        GroupOrder::Newest | GroupOrder::VerifiedNewest => NEWEST,
        GroupOrder::Oldest | GroupOrder::VerifiedOldest => OLDEST,
        GroupOrder::Id => "group_id",
    };
    text.replace("created_at", order.time_column())
}

/// The rows that are put in order. For times of verification a table of its own has them, with the few columns that such a
/// list usually asks for; with other filters both are read together. What was never verified is read from the groups.
pub(super) struct KeySource {
    pub(super) rows: &'static str,
    /// The status that the index in this order begins with.
    pub(super) status: &'static str,
}

const STATES: KeySource = KeySource { rows: "group_states", status: "status" };
const VERIFICATIONS: KeySource = KeySource { rows: "group_verifications", status: "status" };
const BOTH: KeySource = KeySource {
    rows: "(SELECT g.*, v.verified_at, v.status AS status_beside
                FROM group_states g
                JOIN group_verifications v ON v.sdk_app_id = g.sdk_app_id AND v.group_id = g.group_id)",
    status: "status_beside",
};
const NEVER_VERIFIED: KeySource = KeySource {
    rows: "(SELECT g.*, NULL::timestamptz AS verified_at
                FROM group_states g
               WHERE NOT EXISTS (SELECT FROM group_verifications v
                                  WHERE v.sdk_app_id = g.sdk_app_id AND v.group_id = g.group_id
                                    AND v.verified_at IS NOT NULL))",
    status: "status",
};

/// Where a part is read. `is_of_states`: a filter needs what only the groups have.
pub(super) fn source(order: GroupOrder, part: &Part, is_of_states: bool) -> KeySource {
    match (order.is_by_verification(), part.is_timeless()) {
        (false, _) => STATES,
        (true, true) => NEVER_VERIFIED,
        (true, false) if is_of_states => BOTH,
        (true, false) => VERIFICATIONS,
    }
}
