//! `/groups/{group_id}/raw`: the ledger entries of a group as they came, for callers with the right to raw bodies.
//!
//! A path of its own, so that the access log names each look at raw bodies with its caller. A body is shown as the text that it
//! is, or as hexadecimal where it is no UTF-8, cut at a few kilobytes: the API hands out whole bodies.

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, RawQuery, State};
use axum::response::Response;
use maud::{Markup, html};

use super::asked::place_text;
use super::frame::{Section, page};
use super::group_ask::{GroupAsk, query};
use super::group_head::{TITLE_CHARS_MAX, fact};
use super::pieces::{chip, moment, pager, whole_id};
use super::sentence::clipped;
use super::sentence_html::{fitting, time_of};
use super::state::ConsoleState;
use super::visit::Visit;
use crate::api::body_pages::{PAGE_BODY_BYTES_MAX, body_page};
use crate::api::errors::ApiError;
use crate::api::query::path_id;
use crate::mirror::group_key;
use crate::model::GroupId;
use crate::store::ReadConnection;
use crate::store::history::{self, HistoryPage, HistoryRow};

/// How many entries a page has, and how many bytes of each body it shows.
const RAW_ENTRIES_MAX: usize = 10;
const BODY_BYTES_MAX: usize = 4 * 1024;

/// How many bytes of HTML the entries may be: six stand for each quotation mark of a body. The next page has the others.
const LIST_BYTES_MAX: usize = 70_000;

/// How many characters of a reason and of other texts beside the body are shown.
const TEXT_CHARS_MAX: usize = 400;

/// The page.
pub(super) async fn raw_entries(
    State(console): State<ConsoleState>,
    visit: Visit,
    path: Result<Path<String>, PathRejection>,
    RawQuery(raw): RawQuery,
) -> Result<Response, ApiError> {
    let group = path_id(path, GroupId::parse)?;
    if !visit.known_caller()?.reads_bodies() {
        return Err(ApiError::forbidden(
            "Raw bodies need a token with the right to them: an entry NAME+raw:TOKEN of API_TOKEN.",
        ));
    }
    let ask = GroupAsk::of(raw.as_deref(), &visit)?;
    let filter = super::group_entries::filter_of(&ask);
    let key = group_key(visit.app, group.clone());
    let read = async move |mut connection: ReadConnection| {
        history::page(&mut connection, &key, &filter, RAW_ENTRIES_MAX, PAGE_BODY_BYTES_MAX).await
    };
    let read: Option<HistoryPage> = body_page(&console.api, read, Ok).await?;
    let read = read.ok_or_else(|| ApiError::unknown_group(&group))?;
    let rows = read.rows.iter().map(|row| entry(&visit, group.as_str(), row));
    let shown = fitting(rows, LIST_BYTES_MAX);
    let cut = read.rows.get(shown.len()).and_then(|_| read.rows.get(shown.len().checked_sub(1)?));
    let next = cut.map(|last| (last.row.time_ms, last.row.digest.clone())).or(read.next);
    let next = next.map(|next| query(&visit, &[("behind", Some(&place_text(&next)))]));
    let first = ask.behind.is_some().then(|| query(&visit, &[]));
    let body = html! {
        p { a href=(visit.group_url(group.as_str())) { (visit.text("raw-back")) } " " (whole_id(group.as_str())) }
        p class="note" { (visit.text("raw-logged")) }
        @if read.rows.is_empty() { p class="empty" { (visit.text("entries-none")) } }
        @for entry in &shown { (entry) }
        (pager(&visit, first.as_deref(), next.as_deref()))
    };
    let title = format!("{}: {}", visit.text("raw-title"), clipped(group.as_str(), TITLE_CHARS_MAX));
    Ok(page(&visit, Section::Groups, &title, &body))
}

fn entry(visit: &Visit, group: &str, row: &HistoryRow) -> Markup {
    let text = |text: &str| html! { bdi { (clipped(text, TEXT_CHARS_MAX)) } };
    let time = |millis: i64| time_of(millis).map(|time| moment(visit, group, time)).unwrap_or_default();
    let digest: String = row.row.digest.iter().map(|byte| format!("{byte:02x}")).collect();
    let (body, is_text) = body_text(&row.row.body);
    html! {
        article class="raw" {
            h2 { bdi { (clipped(&row.row.command, TITLE_CHARS_MAX)) } " " (chip(&row.row.outcome, &row.row.outcome)) }
            dl class="facts" {
                (fact(&visit.text("raw-time"), &time(row.row.time_ms)))
                (fact(&visit.text("raw-received"), &time(row.row.received_ms)))
                (fact(&visit.text("raw-source"), &text(&row.source)))
                (fact(&visit.text("raw-digest"), &whole_id(&digest)))
                @for (key, value) in [
                    ("raw-request-id", &row.row.request_id),
                    ("raw-reason", &row.row.reason),
                    ("raw-platform", &row.platform),
                    ("raw-address", &row.client_ip),
                ] {
                    @if let Some(value) = value { (fact(&visit.text(key), &text(value))) }
                }
                (fact(&visit.text("raw-bytes"), &html! { (super::language::grouped(row.row.body.len() as i128)) }))
            }
            @if !is_text { p class="quiet" { (visit.text("raw-hex")) } }
            pre class="body" dir="auto" tabindex="0" { (body) }
            @if row.row.body.len() > BODY_BYTES_MAX { p class="quiet" { (visit.text("raw-cut")) } }
        }
    }
}

/// The begin of a body as text, or as hexadecimal; and whether it is text.
fn body_text(body: &[u8]) -> (String, bool) {
    match std::str::from_utf8(body) {
        Ok(text) => (text[..text.floor_char_boundary(BODY_BYTES_MAX)].to_owned(), true),
        Err(_) => {
            let shown = body.iter().take(BODY_BYTES_MAX / 3);
            (shown.map(|byte| format!("{byte:02x} ")).collect(), false)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_shown_as_the_text_that_it_is_or_as_its_bytes() {
        assert_eq!(body_text("{\"a\":1.0}".as_bytes()), ("{\"a\":1.0}".to_owned(), true));
        assert_eq!(body_text(b"\xff\x00"), ("ff 00 ".to_owned(), false));
        let long = "é".repeat(BODY_BYTES_MAX);
        let (shown, is_text) = body_text(long.as_bytes());
        assert!(is_text && shown.len() <= BODY_BYTES_MAX && long.starts_with(&shown));
        assert!(body_text(&[0xff; BODY_BYTES_MAX]).0.len() <= BODY_BYTES_MAX);
    }
}
