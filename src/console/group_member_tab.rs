//! The tab "members" of a group's page: its filters, a page of members of the present or of a moment, and the pager.
//!
//! Of the present the store filters and reads one page; of a moment the fold has all members, and a page is cut out of it by the
//! same filter.

use std::collections::BTreeSet;

use maud::{Markup, html};

use super::group_ask::{GroupAsk, ROLES, STATUSES};
use super::group_entries::with_any;
use super::group_members::{MemberLine, members_table};
use super::pieces::{app_field, pager, select};
use super::visit::Visit;
use crate::api::errors::ApiError;
use crate::api::state::ApiState;
use crate::mirror::GroupKey;
use crate::model::UserId;
use crate::replay::GroupFold;
use crate::store::ReadConnection;
use crate::store::member_list::{self, MemberFilter, NamePart};

/// How many members a page has.
const MEMBERS_MAX: usize = 50;

/// A page of members.
pub(super) struct MemberLines {
    lines: Vec<MemberLine>,
    /// The user behind whom the list goes on.
    next: Option<String>,
}

impl MemberLines {
    /// Of the present.
    ///
    /// # Errors
    /// Those of the read.
    pub(super) async fn present(state: &ApiState, key: &GroupKey, ask: &GroupAsk) -> Result<Self, ApiError> {
        let filter = filter_of(ask);
        let (group, after, cost) = (key.clone(), ask.behind_id.clone(), filter.cost());
        let read = async move |mut connection: ReadConnection| {
            let after = after.as_deref();
            member_list::of_group(&mut connection, group.app, &group.group, &filter, after, MEMBERS_MAX).await
        };
        // Of a group that only parked entries name there are none.
        let Some(found) = state.list(cost, read).await? else {
            return Ok(Self { lines: Vec::new(), next: None });
        };
        Ok(Self { lines: found.rows.into_iter().map(MemberLine::from).collect(), next: found.next })
    }

    /// As of a moment.
    pub(super) fn past(fold: &GroupFold, ask: &GroupAsk) -> Self {
        let after = ask.behind_id.as_deref().and_then(|id| UserId::parse(id).ok());
        let found = fold.page(&filter_of(ask), after.as_ref(), MEMBERS_MAX);
        Self { lines: found.rows.iter().map(MemberLine::from).collect(), next: found.next }
    }
}

fn filter_of(ask: &GroupAsk) -> MemberFilter {
    MemberFilter {
        present: ask.present,
        role: ask.role,
        users: BTreeSet::new(),
        part: ask.part.as_deref().map(NamePart::new),
        joined_after: None,
        left_after: None,
    }
}

/// The tab.
pub(super) fn markup(visit: &Visit, group: &str, ask: &GroupAsk, page: &MemberLines) -> Markup {
    let with_past = ask.present != Some(true);
    let (table, count) = members_table(visit, group, &page.lines, with_past);
    // A table that is full before its lines are all in it goes on behind the last one that is.
    let cut = page.lines.get(..count).filter(|_| count < page.lines.len()).and_then(<[_]>::last);
    let next = cut.map(|line| line.user.as_str()).or(page.next.as_deref());
    let next = next.map(|user| ask.query_behind(visit, "behind_id", Some(user)));
    let first = ask.behind_id.is_some().then(|| ask.query_behind(visit, "behind_id", None));
    html! {
        (filters(visit, ask))
        @if page.lines.is_empty() {
            p class="empty" { (visit.text(if page.next.is_some() { "members-none-here" } else { "members-none" })) }
        } @else {
            (table)
        }
        (pager(visit, first.as_deref(), next.as_deref()))
    }
}

fn filters(visit: &Visit, ask: &GroupAsk) -> Markup {
    let statuses: Vec<_> =
        STATUSES.iter().map(|(word, _, key)| ((*word).to_owned(), visit.text(key))).collect();
    let status =
        STATUSES.iter().find(|(_, present, _)| *present == ask.present).map_or("", |(word, ..)| word);
    let roles: Vec<_> = ROLES.iter().map(|(word, key)| ((*word).to_owned(), visit.text(key))).collect();
    html! {
        form class="filters" method="get" role="search" aria-label=(visit.text("filters")) {
            (app_field(visit))
            @for (name, value) in ask.kept_fields() { input type="hidden" name=(name) value=(value); }
            label {
                span { (visit.text("filter-user-part")) }
                input name="part" dir="auto" maxlength="512" autocomplete="off" value=[ask.part.as_deref()];
            }
            (select("status", &visit.text("filter-status"), status, &statuses))
            (select("role", &visit.text("filter-role"), ask.role.unwrap_or_default(), &with_any(visit, roles)))
            button { (visit.text("filter-apply")) }
            a href=(ask.query_at(visit, ask.at_ms)) { (visit.text("filter-clear")) }
        }
    }
}
