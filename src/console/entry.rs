//! `/entry`: one entry of the ledger whole, with its bytes as text and in hex for those who may see them.
//!
//! The address is the entry's key. Bytes come first and are shown as they came, not written anew. Each page with bytes is
//! noted in the access log with the caller's name.

use std::fmt::Write as _;

use axum::extract::{RawQuery, State};
use axum::response::Response;
use chrono::DateTime;
use maud::{Markup, html};

use super::frame::{Section, page};
use super::outcome::{cause_text, outcome_chip};
use super::pieces::{group_link, line_to_copy, time_or_unknown, unknown, whole_id};
use super::sentence::clipped;
use super::state::ConsoleState;
use super::visit::Visit;
use crate::api::errors::ApiError;
use crate::model::{Digest, storable};
use crate::store::history::HistoryRow;
use crate::store::ledger::LedgerRow;
use crate::store::search;

/// How much of a body is shown as text, in bytes. Six bytes of markup stand for a quotation mark, and a page has 100 KB.
const TEXT_BYTES_MAX: usize = 12 * 1024;

/// How many characters of a reason and of other texts beside the body are shown.
const REASON_CHARS_MAX: usize = 1_000;
const TEXT_CHARS_MAX: usize = 200;

/// How much of it is shown in hex, in bytes.
const HEX_BYTES_MAX: usize = 512;

/// The address of an entry's page.
pub(super) fn entry_url(visit: &Visit, entry: &LedgerRow) -> String {
    let (time, digest) = (entry.time_ms.to_string(), hex(&entry.digest));
    visit.url_with("/entry", &[("group_id", &entry.group_id), ("time", &time), ("digest", &digest)])
}

fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        // Writing to a string does not fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

fn bytes(hex: &str) -> Option<Vec<u8>> {
    // A sign counts as a part of a number, and is no digit.
    if !hex.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let pair = |at: usize| u8::from_str_radix(hex.get(at..at + 2)?, 16).ok();
    (0..hex.len()).step_by(2).map(pair).collect()
}

/// `GET /entry`.
pub(super) async fn entry(
    State(state): State<ConsoleState>,
    visit: Visit,
    RawQuery(raw): RawQuery,
) -> Result<Response, ApiError> {
    let raw = raw.unwrap_or_default();
    let get = |name: &str| {
        let found = form_urlencoded::parse(raw.as_bytes()).find(|(found, _)| found == name);
        found.map(|(_, value)| value.into_owned()).unwrap_or_default()
    };
    let unknown = || ApiError::not_found("The ledger has no such entry.");
    let time = get("time").parse::<i64>().map_err(|_| unknown())?;
    let digest = bytes(&get("digest")).and_then(|bytes| Digest::from_bytes(&bytes)).ok_or_else(unknown)?;
    let group = storable(&get("group_id"));
    let mut conn = state.api.lookup_connection().await?;
    let found = search::entry(&mut conn, (visit.app, &group), time, &digest).await?;
    drop(conn);
    let row = found.ok_or_else(unknown)?;
    let caller = visit.known_caller()?;
    let body = html! {
        (facts(&visit, &row, caller.reads_raw()))
        h2 { (visit.text("entry-bytes")) }
        @if caller.reads_bodies() { (shown_bytes(&visit, &row.row.body)) } @else { p { (visit.text("entry-no-right")) } }
        @if row.row.outcome != "applied" {
            h2 { (visit.text("entry-again")) }
            p { (visit.text("entry-again-meaning")) }
            (line_to_copy("group-mirror replay --verify"))
            (line_to_copy("group-mirror replay --parked"))
        }
    };
    Ok(page(&visit, Section::Parked, &visit.text("entry-title"), &body))
}

fn facts(visit: &Visit, row: &HistoryRow, with_address: bool) -> Markup {
    let entry = &row.row;
    let text = |value: Option<&str>| match value {
        Some(value) if !value.is_empty() => html! { bdi { (clipped(value, TEXT_CHARS_MAX)) } },
        _ => unknown(visit),
    };
    let time = |ms: Option<i64>| time_or_unknown(visit, ms.and_then(DateTime::from_timestamp_millis));
    html! {
        dl class="facts" {
            dt { (visit.text("column-outcome")) } dd { (outcome_chip(visit, &entry.outcome)) }
            @if let Some(reason) = &entry.reason {
                dt { (visit.text("column-cause")) }
                dd { ul { @for cause in entry.causes.iter().flatten() { li { (cause_text(visit, cause)) } } } }
                dt { (visit.text("column-reason")) } dd lang="en" { bdi { (clipped(reason, REASON_CHARS_MAX)) } }
            }
            dt { (visit.text("column-command")) } dd { code { bdi { (clipped(&entry.command, TEXT_CHARS_MAX)) } } }
            dt { (visit.text("column-group")) }
            dd {
                @if entry.group_id.is_empty() {
                    span class="unknown" { (visit.text("no-group")) }
                } @else {
                    (group_link(visit, &entry.group_id, None)) " " (whole_id(&entry.group_id))
                }
            }
            dt { (visit.text("column-received")) } dd { (time(Some(entry.received_ms))) }
            dt { (visit.text("column-event-time")) } dd { (time(row.event_time_ms)) }
            dt { (visit.text("column-source")) }
            dd { (visit.text(if row.source == "rest" { "source-rest" } else { "source-callback" })) }
            dt { (visit.text("column-platform")) } dd { (text(row.platform.as_deref())) }
            @if with_address { dt { (visit.text("column-address")) } dd { (text(row.client_ip.as_deref())) } }
            dt { (visit.text("column-request")) } dd { (text(entry.request_id.as_deref())) }
            dt { (visit.text("column-digest")) } dd { (whole_id(&hex(&entry.digest))) }
        }
    }
}

fn shown_bytes(visit: &Visit, body: &[u8]) -> Markup {
    let text = String::from_utf8_lossy(&body[..body.len().min(TEXT_BYTES_MAX)]);
    let dump: Vec<String> = body[..body.len().min(HEX_BYTES_MAX)].chunks(16).map(hex_line).collect();
    html! {
        p class="quiet" { (visit.language().text_with("entry-length", [("count", body.len().into())])) }
        pre class="copy bytes" tabindex="0" dir="ltr" { code { (text) @if body.len() > TEXT_BYTES_MAX { "…" } } }
        details {
            summary { (visit.text("entry-hex")) }
            pre class="copy bytes" tabindex="0" dir="ltr" { code { (dump.join("\n")) @if body.len() > HEX_BYTES_MAX { "\n…" } } }
        }
    }
}

fn hex_line(bytes: &[u8]) -> String {
    let pairs: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let letter = |byte: &u8| if byte.is_ascii_graphic() || *byte == b' ' { char::from(*byte) } else { '.' };
    format!("{:<48} {}", pairs.join(" "), bytes.iter().map(letter).collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::{bytes, hex};

    #[test]
    fn a_digest_in_an_address_is_read_again_and_nonsense_is_none() {
        assert_eq!(bytes(&hex(&[0, 15, 255])), Some(vec![0, 15, 255]));
        for text in ["0", "zz", "é0", "0é", "+1"] {
            assert_eq!(bytes(text), None, "{text}");
        }
    }
}
