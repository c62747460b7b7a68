//! `/groups`: the list of groups with its filters, and the one search box.
//!
//! The filters are those of the read API, and so are cursors, permits and limits: the page asks for the same list. A form
//! sends fields that were left empty; they count as absent. Times in it are in the reader's zone.

use axum::extract::{RawQuery, State};
use axum::response::Response;
use maud::{Markup, html};

use super::frame::{Section, page};
use super::groups_table::{group_rows, no_groups};
use super::language::grouped;
use super::pieces::{app_field, pager, select, time_at};
use super::search::search;
use super::state::ConsoleState;
use super::visit::{Visit, moment_text};
use crate::api::errors::ApiError;
use crate::api::groups::listed;

/// How many groups a page shows.
const LIMIT: &str = "50";

/// What an address may hold beside filters, and what is no part of the address of another page of the list.
const NO_FILTERS: [&str; 4] = ["q", "cursor", "limit", "sdk_app_id"];

/// The types of Tencent.
const TYPES: [&str; 5] = ["Public", "Work", "Meeting", "AVChatRoom", "Community"];

/// What the address of the page says.
#[derive(Debug, Default)]
pub(super) struct GroupsQuery {
    pairs: Vec<(String, String)>,
}

impl GroupsQuery {
    fn of(raw: Option<&str>) -> Self {
        let pairs = form_urlencoded::parse(raw.unwrap_or_default().as_bytes());
        let pairs = pairs.filter(|(_, value)| !value.trim().is_empty());
        Self { pairs: pairs.map(|(name, value)| (name.into_owned(), value.into_owned())).collect() }
    }

    fn get(&self, name: &str) -> &str {
        self.pairs.iter().find(|(found, _)| found == name).map_or("", |(_, value)| value)
    }

    /// The query of the same list of the read API.
    fn of_api(&self, visit: &Visit) -> Result<String, ApiError> {
        self.with(visit, ("limit", LIMIT), &["q"])
    }

    /// That of the whole list as a file.
    fn of_file(&self, visit: &Visit) -> Result<String, ApiError> {
        self.with(visit, ("format", "csv"), &["q", "cursor", "limit"])
    }

    fn with(&self, visit: &Visit, more: (&str, &str), without: &[&str]) -> Result<String, ApiError> {
        let mut query = form_urlencoded::Serializer::new(String::new());
        query.append_pair(more.0, more.1);
        for (name, value) in self.pairs.iter().filter(|(name, _)| !without.contains(&name.as_str())) {
            if name.starts_with("created_") {
                let time = visit.zone().read(value).ok_or_else(|| {
                    ApiError::bad_parameter(format!(
                        "Field {name} cannot be read as a time; write it as in 2026-11-11 20:00."
                    ))
                })?;
                query.append_pair(name, &moment_text(time));
            } else {
                query.append_pair(name, value);
            }
        }
        Ok(query.finish())
    }

    /// The filters, each as often as it is given.
    fn kept(&self) -> impl Iterator<Item = (&str, &str)> {
        let pairs = self.pairs.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        pairs.filter(|(name, _)| !NO_FILTERS.contains(name))
    }

    /// The address of the page with these filters, and a cursor.
    fn url(&self, visit: &Visit, cursor: &str) -> String {
        let mut pairs: Vec<(&str, &str)> = self.kept().collect();
        pairs.push(("cursor", cursor));
        visit.url_with("/groups", &pairs)
    }

    fn is_filtered(&self) -> bool {
        self.kept().any(|(name, _)| name != "with")
    }
}

/// `GET /groups`.
pub(super) async fn groups(
    State(state): State<ConsoleState>,
    visit: Visit,
    RawQuery(raw): RawQuery,
) -> Result<Response, ApiError> {
    let query = GroupsQuery::of(raw.as_deref());
    if !query.get("q").is_empty() {
        return search(&state, &visit, query.get("q")).await;
    }
    let caller = visit.known_caller()?;
    let found = listed(&state.api, caller, Some(&query.of_api(&visit)?)).await?;
    let next = found.next_cursor.as_deref().map(|cursor| query.url(&visit, cursor));
    let first = (!query.get("cursor").is_empty()).then(|| query.url(&visit, ""));
    let file = visit.url_of_file(&format!("/v1/groups?{}", query.of_file(&visit)?));
    let body = html! {
        (filters(&visit, &query))
        @if !query.is_filtered() { (counted(&state, &visit)) }
        @if found.items.is_empty() {
            (nothing(&visit, query.is_filtered()))
        } @else {
            (group_rows(&visit, &found.items))
            (pager(&visit, first.as_deref(), next.as_deref()))
            p { a href=(file) { (visit.text("list-as-csv")) } }
        }
    };
    Ok(page(&visit, Section::Groups, &visit.text("nav-groups"), &body))
}

/// How many there are, as counted lately.
fn counted(state: &ConsoleState, visit: &Visit) -> Markup {
    let counts = state.api.stats_cache.last();
    html! {
        @if let Some(counts) = counts {
            @let app = counts.apps.get(&visit.app.get());
            @let active = app.into_iter().flat_map(|app| &app.groups).filter(|(_, status, _)| status == "active");
            @let total: i64 = active.map(|(_, _, count)| *count).sum();
            p class="quiet" {
                (visit.language().text_with("groups-counted", [("count", total.into()), ("shown", grouped(total).into())]))
                " · " (visit.text("counted-at")) " " (time_at(visit, counts.counted_at))
            }
        }
    }
}

/// Said apart: no group fits the filters, or there is none at all.
fn nothing(visit: &Visit, is_filtered: bool) -> Markup {
    if is_filtered {
        no_groups(visit, "groups-none-fit", "groups-none-fit-hint", "/groups")
    } else {
        no_groups(visit, "groups-none", "groups-none-hint", "/")
    }
}

fn filters(visit: &Visit, query: &GroupsQuery) -> Markup {
    let any = |rest: Vec<(String, String)>| {
        let mut choices = vec![(String::new(), visit.text("filter-any"))];
        choices.extend(rest);
        choices
    };
    let types = any(TYPES.iter().map(|name| ((*name).to_owned(), (*name).to_owned())).collect());
    let statuses: Vec<_> = [
        ("", "status-active"),
        ("destroyed", "status-destroyed"),
        ("unseen", "status-unseen"),
        ("all", "status-all"),
    ]
    .map(|(value, key)| (value.to_owned(), visit.text(key)))
    .into();
    let orders: Vec<_> = [
        ("", "sort-newest"),
        ("created_at", "sort-oldest"),
        ("group_id", "sort-id"),
        ("verified_at", "sort-verified"),
    ]
    .map(|(value, key)| (value.to_owned(), visit.text(key)))
    .into();
    html! {
        form class="filters" action=(visit.url_of_file("/groups")) {
            (app_field(visit))
            (text_field("name", &visit.text("filter-name"), query, None))
            (select("type", &visit.text("column-type"), query.get("type"), &types))
            (select("status", &visit.text("column-status"), query.get("status"), &statuses))
            (text_field("owner", &visit.text("column-owner"), query, None))
            (text_field("member", &visit.text("filter-member"), query, None))
            (text_field("created_after", &visit.text("filter-created-after"), query, Some("2026-11-11 20:00")))
            (text_field("created_before", &visit.text("filter-created-before"), query, Some("2026-11-11 20:00")))
            (select("sort", &visit.text("filter-sort"), query.get("sort"), &orders))
            label class="check" {
                input type="checkbox" name="with" value="member_count" checked[!query.get("with").is_empty()];
                span { (visit.text("filter-count-members")) }
            }
            button { (visit.text("filter-apply")) }
            a href=(visit.url("/groups")) { (visit.text("filter-clear")) }
            p class="quiet" { (visit.text("filter-zone")) " " (visit.zone().name()) }
        }
    }
}

fn text_field(name: &str, label: &str, query: &GroupsQuery, hint: Option<&str>) -> Markup {
    html! {
        label {
            span { (label) }
            input type="text" name=(name) value=(query.get(name)) maxlength="512" dir="auto" autocomplete="off"
                placeholder=[hint];
        }
    }
}
