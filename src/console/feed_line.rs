//! One ledger entry as a line of the live list: when it came, and as a sentence who did what to whom.
//!
//! A line says nothing that only some readers may see, because the list is one for all who look.

use chrono::DateTime;
use maud::{Markup, html};

use super::entry_line::EntryLine;
use super::outcome::outcome_chip;
use super::pieces::{WORD_CHARS_MAX, group_link, moment_of_day, time_of_day};
use super::sentence::clipped;
use super::sentence_event::sentence;
use super::sentence_html::{details, said};
use super::sentence_writer::Scene;
use super::visit::Visit;
use crate::store::wall::WallRow;

/// A list item.
pub(crate) fn feed_line(visit: &Visit, row: &WallRow) -> Markup {
    let group = row.entry.row.group_id.as_str();
    let received = DateTime::from_timestamp_millis(row.entry.row.received_ms);
    html! {
        li data-position=(row.position) {
            @if let Some(received) = received {
                span class="zone" { (visit.zone().date(received)) } " "
                @if group.is_empty() {
                    (time_of_day(visit, received))
                } @else {
                    (moment_of_day(visit, group, received))
                }
            }
            " "
            @if row.entry.row.body.is_empty() { (command(visit, row)) } @else { (in_words(visit, row)) }
            @if row.entry.row.outcome != "applied" { " " (outcome_chip(visit, &row.entry.row.outcome)) }
        }
    }
}

/// The entry as a sentence, without addresses: the list is one for all who look.
fn in_words(visit: &Visit, row: &WallRow) -> Markup {
    let line = EntryLine { group_name: row.group_name.clone(), ..EntryLine::of(row.entry.clone(), false) };
    let sentence = sentence(visit.language(), &line, Scene::OfApp);
    html! {
        (said(visit, &sentence.main))
        (details(visit, &sentence))
    }
}

/// An entry whose body was left out because it is long, or has none: its command and its group.
fn command(visit: &Visit, row: &WallRow) -> Markup {
    let group = row.entry.row.group_id.as_str();
    html! {
        code { bdi { (clipped(&row.entry.row.command, WORD_CHARS_MAX)) } }
        " "
        @if group.is_empty() {
            span class="unknown" { (visit.text("no-group")) }
        } @else {
            (group_link(visit, group, row.group_name.as_deref()))
        }
    }
}
