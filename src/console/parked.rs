//! `/parked`: the dead letters and what was read in part, what was refused, and what is not kept; so that every request that
//! came is on some page.
//!
//! The list is that of `/v1/parked` with its filters and cursors. Bodies are not in it: one may have 1 MiB, and each has a
//! page of its own. What an entry is parked for is said by cause in the reader's language, with what to do, and in full in the
//! words of the ledger.

use axum::extract::{RawQuery, State};
use axum::response::Response;
use chrono::DateTime;
use maud::{Markup, html};
use strum::VariantArray as _;

use super::entry::entry_url;
use super::frame::{Section, page};
use super::language::grouped;
use super::outcome::{cause_text, outcome_chip};
use super::pieces::{
    WORD_CHARS_MAX, app_field, empty, group_link, line_to_copy, pager, select, table, time_or_unknown,
};
use super::refused::{not_kept, refused};
use super::sentence::clipped;
use super::state::ConsoleState;
use super::visit::Visit;
use crate::api::errors::ApiError;
use crate::api::parked::listed;
use crate::callback::ReasonCause;
use crate::store::parked::ParkedRow;

/// How many entries a page shows.
const LIMIT: &str = "25";

/// What an address may hold beside filters.
const NO_FILTERS: [&str; 4] = ["cursor", "limit", "format", "sdk_app_id"];

/// How much of a reason is shown in the list, in characters.
const REASON_CHARS_MAX: usize = 400;

/// `GET /parked`.
pub(super) async fn parked(
    State(state): State<ConsoleState>,
    visit: Visit,
    RawQuery(raw): RawQuery,
) -> Result<Response, ApiError> {
    let raw = raw.unwrap_or_default();
    let pairs: Vec<(String, String)> = form_urlencoded::parse(raw.as_bytes())
        .filter(|(_, value)| !value.is_empty())
        .map(|(name, value)| (name.into_owned(), value.into_owned()))
        .collect();
    let get =
        |name: &str| pairs.iter().find(|(found, _)| found == name).map_or("", |(_, value)| value.as_str());
    let query = form_urlencoded::Serializer::new(String::new())
        .append_pair("limit", LIMIT)
        .extend_pairs(&pairs)
        .finish();
    let found = listed(&state.api, visit.known_caller()?, Some(&query)).await?;
    let cause = get("cause");
    let kept = pairs.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    let kept: Vec<(&str, &str)> = kept.filter(|(name, _)| !NO_FILTERS.contains(name)).collect();
    let with = |path: &str, more: (&str, &str)| visit.url_with(path, &[&kept[..], &[more]].concat());
    let address = |cursor: &str| with("/parked", ("cursor", cursor));
    let first = (!get("cursor").is_empty()).then(|| address(""));
    let next = found.next_cursor.as_deref().map(address);
    let body = html! {
        p { (visit.text("parked-meaning")) }
        nav aria-label=(visit.text("parked-parts")) {
            a href="#parked" { (visit.text("parked-title")) }
            a href="#refused" { (visit.text("refused-title")) }
            a href="#not-kept" { (visit.text("not-kept-title")) }
        }
        section id="parked" aria-labelledby="parked-title" {
            h2 id="parked-title" { (visit.text("parked-title")) }
            (filters(&state, &visit, &kept))
            @if found.items.is_empty() {
                @let hint = if kept.is_empty() { "parked-none" } else { "parked-none-fit" };
                (empty(&visit.text(hint), &html! {}))
            } @else {
                (rows(&visit, &found.items))
            }
            (pager(&visit, first.as_deref(), next.as_deref()))
            p { a href=(with("/v1/parked", ("format", "csv"))) { (visit.text("list-as-csv")) } }
            p class="quiet" { (visit.text("parked-again")) }
            (line_to_copy(&again(cause)))
        }
        (refused(&state, &visit))
        (not_kept(&state, &visit))
    };
    Ok(page(&visit, Section::Parked, &visit.text("nav-parked"), &body))
}

/// The command that tries again.
fn again(cause: &str) -> String {
    match ReasonCause::of_label(cause) {
        Some(cause) => format!("group-mirror replay --parked --cause {}", cause.label()),
        None => "group-mirror replay --parked".to_owned(),
    }
}

/// The causes that occur, with how many each has.
fn filters(state: &ConsoleState, visit: &Visit, kept: &[(&str, &str)]) -> Markup {
    let get = |name: &str| kept.iter().find(|(found, _)| *found == name).map_or("", |(_, value)| *value);
    let (cause, outcome) = (get("cause"), get("outcome"));
    let counts = state.api.stats_cache.last();
    let app = counts.as_ref().and_then(|counts| counts.apps.get(&visit.app.get()));
    let counted = |label: &str| {
        let of = |counts: Option<&std::collections::BTreeMap<String, i64>>| {
            counts.and_then(|counts| counts.get(label)).copied().unwrap_or_default()
        };
        of(app.map(|app| &app.parked_by_cause)) + of(app.map(|app| &app.partial_by_cause))
    };
    let mut causes = vec![(String::new(), visit.text("filter-any"))];
    for known in ReasonCause::VARIANTS {
        let (label, count) = (known.label(), counted(known.label()));
        if count > 0 || label == cause {
            causes.push((label.to_owned(), format!("{} ({})", cause_text(visit, label), grouped(count))));
        }
    }
    let outcomes: Vec<_> = [("", "filter-any"), ("parked", "outcome-parked"), ("partial", "outcome-partial")]
        .map(|(value, key)| (value.to_owned(), visit.text(key)))
        .into();
    html! {
        form class="filters" action=(visit.url_of_file("/parked")) {
            (app_field(visit))
            (select("cause", &visit.text("column-cause"), cause, &causes))
            (select("outcome", &visit.text("column-outcome"), outcome, &outcomes))
            button { (visit.text("filter-apply")) }
            @if !kept.is_empty() {
                a href=(visit.url("/parked")) { (visit.text("filter-clear")) }
            }
        }
    }
}

fn rows(visit: &Visit, rows: &[ParkedRow]) -> Markup {
    let heads = ["column-received", "column-cause", "column-group", "column-command", "column-reason"];
    let heads = heads.map(|key| visit.text(key));
    let rows: Vec<Markup> = rows.iter().map(|row| self::row(visit, row)).collect();
    table(&visit.text("parked-table"), &heads, &rows)
}

fn row(visit: &Visit, row: &ParkedRow) -> Markup {
    let entry = &row.entry.row;
    let reason = entry.reason.as_deref().unwrap_or_default();
    html! {
        th scope="row" {
            a href=(entry_url(visit, entry)) {
                (time_or_unknown(visit, DateTime::from_timestamp_millis(entry.received_ms)))
            }
        }
        td {
            (outcome_chip(visit, &entry.outcome))
            @for cause in entry.causes.iter().flatten() { " " (cause_text(visit, cause)) }
        }
        td {
            @if entry.group_id.is_empty() {
                span class="unknown" { (visit.text("no-group")) }
            } @else {
                (group_link(visit, &entry.group_id, None))
            }
        }
        td { code { bdi { (clipped(&entry.command, WORD_CHARS_MAX)) } } }
        td class="wide" lang="en" { bdi { (clipped(reason, REASON_CHARS_MAX)) } }
    }
}
