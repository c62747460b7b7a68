//! `/groups/{group_id}`: a group now, or with `at` as it was at a moment, with its time rail, its tabs, and what is not known.
//!
//! The present comes from the tables, a past moment from a fold of the ledger, as in the API. Everything that costs more than
//! the head is read for the tab that is shown. A group of which the ledger has nothing but what could not be applied has a
//! page too: those entries.

use std::sync::Arc;

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, RawQuery, State};
use axum::response::Response;
use maud::{Markup, html};

use super::frame::{Section, page};
use super::group_ask::{GroupAsk, GroupTab, TABS};
use super::group_entries::{EntrySieve, filter_of};
use super::group_head::GroupHead;
use super::group_member_tab::MemberLines;
use super::group_past::ThenAndNow;
use super::pieces::time_at;
use super::sentence_html::time_of;
use super::state::ConsoleState;
use super::visit::Visit;
use super::{group_entries, group_fields, group_member_tab, group_past, group_rail};
use crate::api::auth::Caller;
use crate::api::errors::ApiError;
use crate::api::query::path_id;
use crate::callback::AVCHATROOM;
use crate::mirror::{GroupKey, group_key};
use crate::model::{GroupId, Millis};
use crate::replay::GroupFold;
use crate::replay::as_of::{AsOfError, GroupMoment};
use crate::store::moments::{Neighbours, neighbours, values};
use crate::store::page::PageRows;
use crate::store::{READ_WAIT_MAX, groups, in_time, topics};

/// How many topics a page has.
const TOPICS_MAX: usize = 50;

/// Later than every entry: what is known now.
const NOW: Millis = Millis::new(i64::MAX);

/// A request for the page, and what all parts of it need.
struct GroupPage {
    console: ConsoleState,
    visit: Visit,
    key: GroupKey,
    ask: GroupAsk,
    /// As of the moment, where one is asked for.
    fold: Option<Arc<GroupFold>>,
    beside: Neighbours,
}

/// The page.
pub(super) async fn group(
    State(console): State<ConsoleState>,
    visit: Visit,
    path: Result<Path<String>, PathRejection>,
    RawQuery(raw): RawQuery,
) -> Result<Response, ApiError> {
    let group = path_id(path, GroupId::parse)?;
    let ask = GroupAsk::of(raw.as_deref(), &visit)?;
    let key = group_key(visit.app, group);
    let fold = match ask.at_ms {
        Some(at) => Some(fold(&console, &key, Millis::new(at)).await?),
        None => None,
    };
    let at = ask.at_ms.unwrap_or(i64::MAX);
    let beside = in_time(READ_WAIT_MAX, async {
        let mut connection = console.api.lookup_connection().await?;
        Ok::<_, ApiError>(neighbours(&mut connection, &key, at).await?)
    });
    let beside = beside.await?;
    let page = GroupPage { console, visit, key, ask, fold, beside };
    page.answer().await
}

/// # Errors
/// 404: nothing was ever applied to the group.
async fn fold(console: &ConsoleState, key: &GroupKey, moment: Millis) -> Result<Arc<GroupFold>, ApiError> {
    console.api.fits()?;
    let wanted = GroupMoment { group: key.clone(), moment };
    match console.api.as_of.group(&wanted, None).await {
        Err(AsOfError::Unknown) => Err(ApiError::unknown_group(&key.group)),
        done => Ok(done?),
    }
}

impl GroupPage {
    async fn answer(self) -> Result<Response, ApiError> {
        let head = self.head().await?;
        let spans = group_rail::spans(&self.console.api, &self.key).await?;
        let rail = group_rail::markup(&self.visit, &self.ask, spans.as_deref(), &self.beside);
        let tab = self.tab().await?;
        let visit = &self.visit;
        let past = match (self.ask.at_ms, &self.fold) {
            (Some(at), Some(fold)) => Some(self.past(at, fold).await?),
            _ => None,
        };
        let is_known = self.fold.as_ref().is_none_or(|fold| fold.group.state.is_some());
        let body = html! {
            div class={ "group-page" @if past.is_some() { " past" } } {
                @if let Some(past) = &past { (past) }
                @if !is_known { p class="empty" { (visit.text("group-not-yet")) } }
                (head.markup(visit))
                (rail)
                (self.tabs())
                div class="tab" {
                    h2 class="hidden" { (visit.text(self.tab_key())) }
                    (tab)
                }
                (self.unknowns(&head))
            }
        };
        let title = match self.ask.at_ms {
            Some(_) => format!("{} ({})", head.title(), visit.text("past-title")),
            None => head.title(),
        };
        Ok(page(visit, Section::Groups, &title, &body))
    }

    async fn head(&self) -> Result<GroupHead, ApiError> {
        let rooms = self.console.api.avchatroom_members;
        let id = self.key.group.as_str();
        if let Some(fold) = &self.fold {
            let state = fold.group.state.as_ref();
            let of_state = |state| GroupHead::of_state(id, state, fold.group.present, rooms);
            return Ok(state.map_or_else(|| GroupHead::unknown(id), of_state));
        }
        let found = in_time(READ_WAIT_MAX, async {
            let mut connection = self.console.api.lookup_connection().await?;
            Ok::<_, ApiError>(groups::find(&mut connection, self.key.app, &self.key.group).await?)
        });
        match found.await? {
            Some(row) => Ok(GroupHead::of_row(row, rooms)),
            // Parked entries alone may name it.
            None if self.beside.last_ms.is_some() => Ok(GroupHead::unknown(id)),
            None => Err(ApiError::unknown_group(&self.key.group)),
        }
    }

    async fn past(&self, at: i64, then: &GroupFold) -> Result<Markup, ApiError> {
        // A group too large to fold now was small enough then: the past is shown, without the comparison.
        let now = fold(&self.console, &self.key, NOW).await.ok();
        let compared = now.as_deref().map(|now| ThenAndNow::of(then, now));
        Ok(group_past::markup(&self.visit, &self.ask, at, compared.as_ref()))
    }

    fn tab_key(&self) -> &'static str {
        TABS.iter().find(|(tab, ..)| *tab == self.ask.tab).map_or("group-tab-members", |(.., key)| *key)
    }

    fn tabs(&self) -> Markup {
        let visit = &self.visit;
        let may_read_raw = visit.caller.as_ref().is_some_and(Caller::may_read_raw);
        html! {
            nav class="tabs" aria-label=(visit.text("group-tabs")) {
                @for (tab, word, key) in TABS {
                    @let is_here = tab == self.ask.tab;
                    a href=(self.ask.query_of_tab(visit, word)) aria-current=[is_here.then_some("page")] {
                        (visit.text(key))
                    }
                }
                @if may_read_raw {
                    a href=(visit.group_part_url(self.key.group.as_str(), "raw")) { (visit.text("group-tab-raw")) }
                }
            }
        }
    }

    async fn tab(&self) -> Result<Markup, ApiError> {
        match self.ask.tab {
            GroupTab::Members => self.members().await,
            GroupTab::Events => self.events().await,
            GroupTab::Fields => self.fields().await,
            GroupTab::Topics => self.topics().await,
        }
    }

    async fn members(&self) -> Result<Markup, ApiError> {
        let page = match &self.fold {
            Some(fold) => MemberLines::past(fold, &self.ask),
            None => MemberLines::present(&self.console.api, &self.key, &self.ask).await?,
        };
        Ok(group_member_tab::markup(&self.visit, self.key.group.as_str(), &self.ask, &page))
    }

    async fn events(&self) -> Result<Markup, ApiError> {
        let sieve =
            EntrySieve { deed: self.ask.deed, person: self.ask.person.clone(), source: self.ask.source };
        let with_address = self.visit.caller.as_ref().is_some_and(Caller::reads_raw);
        let read =
            group_entries::read(&self.console.api, &self.key, filter_of(&self.ask), sieve, with_address);
        let page = read.await?.ok_or_else(|| ApiError::unknown_group(&self.key.group))?;
        Ok(group_entries::markup(&self.visit, &self.ask, &page))
    }

    async fn fields(&self) -> Result<Markup, ApiError> {
        if let Some(fold) = &self.fold {
            return Ok(group_fields::past(&self.visit, fold.group.fields.as_ref()));
        }
        let mut connection = self.console.api.lookup_connection().await?;
        let values = in_time(READ_WAIT_MAX, values(&mut connection, &self.key)).await?;
        Ok(group_fields::present(&self.visit, self.key.group.as_str(), &values))
    }

    async fn topics(&self) -> Result<Markup, ApiError> {
        let (app, group) = (self.key.app, &self.key.group);
        let mut connection = self.console.api.lookup_connection().await?;
        let after = self.ask.behind_id.as_deref();
        let read = topics::of_group(&mut connection, app, group, None, after, TOPICS_MAX);
        // Of a group that only parked entries name there are none.
        let page = in_time(READ_WAIT_MAX, read).await?.unwrap_or(PageRows { rows: Vec::new(), more: false });
        Ok(group_fields::topics(&self.visit, &self.ask, group.as_str(), &page))
    }

    /// What is not known here, and why.
    fn unknowns(&self, head: &GroupHead) -> Markup {
        let visit = &self.visit;
        let is_room = head.group_type.as_deref() == Some(AVCHATROOM);
        let rooms = self.console.api.avchatroom_members;
        let since = self.beside.first_ms.and_then(time_of);
        html! {
            section class="unknowns" aria-labelledby="unknowns-title" {
                h2 id="unknowns-title" { (visit.text("unknowns-title")) }
                ul {
                    @if let Some(since) = since {
                        li { (visit.text("unknown-before")) " " (time_at(visit, since)) }
                    }
                    @if is_room && !rooms { li { (visit.text("unknown-room")) } }
                    @else if head.members.is_none() { li { (visit.text("unknown-members")) } }
                    li { (visit.text("unknown-mutes")) }
                    li { (visit.text("unknown-messages")) }
                }
            }
        }
    }
}
