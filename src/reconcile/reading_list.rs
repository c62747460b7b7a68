//! A list of members while it is read, page by page: where the next page begins, and when the list is whole.
//!
//! Offsets count in the list as it is at that moment, so rows move between two pages: one who leaves before the window hides
//! one who stays. A page counts only if its first row is one that was read before (same account, same `JoinTime`), or
//! if it begins at offset 0. Then, as long as the server keeps one order of rows, everyone who is a member from before the
//! first page until after the last one is in the list; `docs/reconcile.md` has the proof. A page that begins with an unknown
//! row is not used: the next one begins further back. A community's list is the union of its cursor pages. Pure.

use serde::{Deserialize, Serialize};
use tokio::sync::OwnedSemaphorePermit;

use super::reading::{LIMIT_LARGE, LIMIT_SAFE, ROWS_MAX};
use super::reading_rows::ListRows;
use super::reading_verdict::{IncompleteWhy, ListReading, ListState, ReadSpare, Witnesses};
use crate::mirror::{GroupKey, ListTime, ReadTime};
use crate::model::Millis;
use crate::tencent::Reply;
use crate::tencent::canonical::member_list;
use crate::tencent::commands::{COMMUNITY_PAGE_MAX, PageBegin};
use crate::tencent::groups::is_community;
use crate::tencent::members::{ListedMember, MemberPage};

/// The smallest page: an anchor and one row.
const LIMIT_MIN: u32 = 2;

/// Calls that a list by offset may take beside three times those that it would take at rest.
const CALLS_SPARE: u64 = 64;

/// After so many pages in a row a smaller `Limit` is doubled again: what was too much may have been a slow moment.
const QUIET_PAGES: u32 = 8;

/// The rows that a list may have of whose length nothing is known: what a group may have in the usual editions.
const ROWS_USUAL: u64 = 6_000;
const COMMUNITY_ROWS_USUAL: u64 = 100_000;

/// Pages of a community in a row that may bring no new member.
const EMPTY_PAGES_MAX: u32 = 16;

/// A list with so many rows, or a multiple, may have been cut by the server.
const ROUND_ROWS: usize = 100;

/// Where the next page begins.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Place {
    Offset(u64),
    Cursor(String),
}

/// What has to be kept of a list, beside its rows, to go on after an interruption. It is stored as JSON; fields are only
/// ever added.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListMark {
    place: Place,
    /// As of when it counts.
    #[serde(flatten)]
    time: ListTime,
    member_num: Option<u64>,
    limit: u32,
    calls: u32,
    /// Pages since the limit was halved.
    quiet_pages: u32,
    /// How far back from the end of what was read the next page begins, after one that could not be used.
    back: u64,
    /// Whether the anchor has to be a member who joined before σ.
    is_anchor_old: bool,
    has_unread: bool,
    /// Pages of a community in a row without a new member.
    empty_pages: u32,
    /// Whether a community's list was begun again because its cursor was refused.
    is_begun_again: bool,
}

impl ListMark {
    /// False where the group was created anew since: what was read before is of another group with the same id.
    #[must_use]
    pub fn is_of(&self, witnesses: &Witnesses) -> bool {
        let created = self.time.create_secs.zip(witnesses.create_secs);
        created.is_none_or(|(then, now)| then == now)
    }
}

/// A list that is being read.
#[derive(Debug)]
pub struct ListProgress {
    pub(super) group: GroupKey,
    mark: ListMark,
    is_begun: bool,
    rows: ListRows,
    pub(super) permit: Option<OwnedSemaphorePermit>,
}

/// What a page leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum PageStep {
    /// Ask for the next page; these rows were new.
    More(Vec<u8>),
    /// The list is at its end.
    Done(ListState),
}

impl ListProgress {
    /// A list of which nothing was read yet.
    #[must_use]
    pub fn new(witnesses: &Witnesses, spare: ReadSpare) -> Self {
        let is_community = witnesses.is_community();
        let place = if is_community { Place::Cursor(String::new()) } else { Place::Offset(0) };
        let mark = ListMark {
            place,
            time: ListTime { sent: 0, spare_ms: spare.ms, create_secs: witnesses.create_secs },
            member_num: witnesses.member_num,
            limit: if is_community { COMMUNITY_PAGE_MAX } else { LIMIT_LARGE },
            calls: 0,
            quiet_pages: 0,
            back: 0,
            is_anchor_old: true,
            has_unread: false,
            empty_pages: 0,
            is_begun_again: false,
        };
        assert!(mark.limit >= LIMIT_MIN, "a page has an anchor and a row");
        let group = witnesses.group.clone();
        Self { group, mark, is_begun: false, rows: ListRows::default(), permit: None }
    }

    /// Goes on behind a mark, with the rows of all pages up to it; `None` where those cannot be read.
    #[must_use]
    pub fn resume<'a>(
        group: GroupKey,
        mark: ListMark,
        pages: impl IntoIterator<Item = &'a [u8]>,
    ) -> Option<Self> {
        if is_community(&group.group) != matches!(mark.place, Place::Cursor(_)) {
            return None;
        }
        let mut rows = ListRows::default();
        for page in pages {
            MemberPage::read(page).ok()?.members.iter().for_each(|member| rows.push(member));
        }
        Some(Self { group, mark, is_begun: true, rows, permit: None })
    }

    /// What to keep so that [`ListProgress::resume`] goes on here; none before the first page.
    #[must_use]
    pub fn mark(&self) -> Option<&ListMark> {
        self.is_begun.then_some(&self.mark)
    }

    /// How many rows the list may have.
    pub(super) fn expected_rows(&self) -> u32 {
        let usual = if is_community(&self.group.group) { COMMUNITY_ROWS_USUAL } else { ROWS_USUAL };
        let expected = self.mark.member_num.unwrap_or(usual).max(self.rows.len() as u64);
        u32::try_from(expected).unwrap_or(ROWS_MAX).clamp(1, ROWS_MAX)
    }

    /// What to ask for: no more than `limit_max` rows by offset.
    pub(super) fn question(&mut self, limit_max: u32) -> (PageBegin, u32) {
        self.mark.calls = self.mark.calls.saturating_add(1);
        match &self.mark.place {
            Place::Offset(offset) => {
                self.mark.limit = self.mark.limit.min(limit_max);
                (PageBegin::Offset(*offset), self.mark.limit)
            }
            Place::Cursor(cursor) => (PageBegin::Cursor(cursor.clone()), self.mark.limit),
        }
    }

    /// S and σ of the first page.
    pub(super) fn time(&self) -> ReadTime {
        self.mark.time.read_time()
    }

    /// Takes a page that was answered.
    pub(super) fn take(&mut self, reply: &Reply<MemberPage>) -> PageStep {
        let page = &reply.answer;
        if !self.is_begun {
            self.is_begun = true;
            self.mark.time.sent = reply.asked_at.get();
        }
        self.grow();
        self.mark.member_num = page.member_num.or(self.mark.member_num);
        self.mark.has_unread |= !page.unread.is_empty();
        if self.rows.len() + page.members.len() > ROWS_MAX as usize {
            // Users who came twice count once.
            self.rows.sort();
        }
        if self.rows.len() + page.members.len() > ROWS_MAX as usize {
            return PageStep::Done(ListState::Incomplete(IncompleteWhy::TooLarge));
        }
        match &self.mark.place {
            Place::Offset(offset) => self.take_window(*offset, page),
            Place::Cursor(cursor) => self.take_cursor_page(&cursor.clone(), page),
        }
    }

    /// The rows of a page that are not among those read before.
    fn add(&mut self, page: &MemberPage) -> Vec<u8> {
        let is_new =
            |member: &&ListedMember| self.rows.join_secs(&member.user) != Some(member.join_secs.unwrap_or(0));
        let new: Vec<&ListedMember> = page.members.iter().filter(is_new).collect();
        page.members.iter().for_each(|member| self.rows.push(member));
        member_list(new)
    }

    /// True for a row that was read before; an old one joined before σ, so that it is not one who left and joined again
    /// within one second while the list is read.
    fn is_known(&self, row: &ListedMember) -> bool {
        let is_read = row.join_secs.is_some() && self.rows.join_secs(&row.user) == row.join_secs;
        is_read && (!self.mark.is_anchor_old || self.is_old(row))
    }

    fn is_old(&self, row: &ListedMember) -> bool {
        let joined = row.join_secs.map(|secs| secs.saturating_mul(1_000).saturating_add(999));
        joined.is_some_and(|joined| joined < self.time().sigma.get())
    }

    fn take_window(&mut self, offset: u64, page: &MemberPage) -> PageStep {
        let rows = page.members.len() + page.unread.count;
        let is_joined = offset == 0
            // A list with unreadable rows only confirms; where its pages meet does not matter.
            || self.mark.has_unread
            || page.members.first().is_some_and(|first| self.is_known(first));
        if u64::from(self.mark.calls) > self.calls_max(rows) {
            return PageStep::Done(ListState::Incomplete(IncompleteWhy::Moved));
        }
        if !is_joined {
            self.mark.back = self.mark.back.saturating_mul(4).max(1);
            self.mark.place = Place::Offset(offset.saturating_sub(self.mark.back));
            return PageStep::More(member_list([]));
        }
        self.mark.back = 0;
        let is_first = self.rows.is_empty();
        let new = self.add(page);
        // One row cannot be passed with an anchor.
        if is_first && rows <= 1 && self.mark.member_num.is_some_and(|number| number > rows as u64) {
            return PageStep::Done(ListState::Incomplete(IncompleteWhy::FewRows));
        }
        if is_first && self.is_whole(page) || rows <= 1 {
            return PageStep::Done(self.end());
        }
        // The last row that can be an anchor, unless it is the anchor of this page: then the last row.
        let old = page.members.iter().rposition(|row| self.is_old(row)).filter(|at| *at > 0);
        self.mark.is_anchor_old = old.is_some();
        let anchor = old.unwrap_or(rows - 1);
        assert!((1..rows).contains(&anchor), "each page leads on");
        self.mark.place = Place::Offset(offset + anchor as u64);
        PageStep::More(new)
    }

    /// True for a first page that no second one has to confirm.
    fn is_whole(&self, page: &MemberPage) -> bool {
        page.is_whole() && (page.members.is_empty() || !page.members.len().is_multiple_of(ROUND_ROWS))
    }

    fn calls_max(&self, rows: usize) -> u64 {
        let rows = (rows as u64).saturating_sub(1).max(1);
        CALLS_SPARE + 3 * self.mark.member_num.unwrap_or(0).div_ceil(rows)
    }

    fn take_cursor_page(&mut self, cursor: &str, page: &MemberPage) -> PageStep {
        let before = page.members.iter().filter(|member| !self.rows.contains(&member.user)).count();
        let new = self.add(page);
        self.mark.empty_pages = if before == 0 { self.mark.empty_pages + 1 } else { 0 };
        match page.next.as_deref() {
            Some("") => PageStep::Done(self.end()),
            Some(next) if next != cursor && self.mark.empty_pages < EMPTY_PAGES_MAX => {
                self.mark.place = Place::Cursor(next.to_owned());
                PageStep::More(new)
            }
            _ => PageStep::Done(ListState::Incomplete(IncompleteWhy::Cursor)),
        }
    }

    /// The state of a list that is at its end.
    fn end(&mut self) -> ListState {
        self.rows.sort();
        let (rows, members) = (self.rows.len() as u64, self.mark.member_num.unwrap_or(0));
        let is_empty_without_count = rows == 0 && self.mark.member_num != Some(0);
        if self.mark.has_unread {
            ListState::Incomplete(IncompleteWhy::UnreadableRow)
        } else if rows * 2 < members || is_empty_without_count {
            ListState::Incomplete(IncompleteWhy::FewRows)
        } else {
            ListState::Complete
        }
    }

    fn grow(&mut self) {
        self.mark.quiet_pages += 1;
        if self.mark.quiet_pages >= QUIET_PAGES {
            let most =
                if matches!(self.mark.place, Place::Offset(_)) { LIMIT_LARGE } else { COMMUNITY_PAGE_MAX };
            self.mark.quiet_pages = 0;
            self.mark.limit = self.mark.limit.saturating_mul(2).min(most);
        }
    }

    /// Asks for less; false where nothing less can be asked for.
    pub(super) fn halve(&mut self) -> bool {
        let is_smaller = self.mark.limit > LIMIT_MIN;
        self.mark.limit = (self.mark.limit / 2).max(LIMIT_MIN);
        self.mark.quiet_pages = 0;
        is_smaller
    }

    /// The request was not understood: asks with a `Limit` that every page allows, or from the beginning where a cursor
    /// may have become void. False where neither is left to try.
    pub(super) fn ask_otherwise(&mut self) -> bool {
        match &self.mark.place {
            Place::Offset(_) => {
                let is_large = self.mark.limit > LIMIT_SAFE;
                self.mark.limit = self.mark.limit.min(LIMIT_SAFE);
                is_large
            }
            Place::Cursor(cursor) if cursor.is_empty() || self.mark.is_begun_again => false,
            Place::Cursor(_) => {
                self.mark.place = Place::Cursor(String::new());
                (self.mark.is_begun_again, self.is_begun) = (true, false);
                self.rows = ListRows::default();
                true
            }
        }
    }

    /// True where rows were read.
    pub(super) fn has_rows(&self) -> bool {
        !self.rows.is_empty()
    }

    /// The reading, with everything that was read.
    pub(super) fn finish(&mut self, state: ListState, bound: Millis) -> ListReading {
        self.rows.sort();
        if !self.is_begun {
            self.mark.time.sent = bound.get();
        }
        ListReading {
            group: self.group.clone(),
            time: self.time(),
            state,
            rows: std::mem::take(&mut self.rows),
            member_num: self.mark.member_num,
            calls: self.mark.calls,
            _permit: self.permit.take(),
        }
        .within_limits()
    }
}
