//! One ledger entry as a line of the live list: when, what, where, and how it ended.
//!
//! The time of receipt leads to the group as it was then. The server renders a line once for the page and once for the stream,
//! by this one function.

use chrono::DateTime;
use maud::{Markup, html};

use super::outcome::outcome_chip;
use super::pieces::{group_link, moment_of_day, time_of_day};
use super::visit::Visit;
use crate::store::wall::WallRow;

/// A list item.
pub(crate) fn feed_line(visit: &Visit, row: &WallRow) -> Markup {
    let entry = &row.entry.row;
    let group = entry.group_id.as_str();
    let received = DateTime::from_timestamp_millis(entry.received_ms);
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
            code { bdi { (entry.command) } }
            " "
            @if group.is_empty() {
                span class="unknown" { (visit.text("no-group")) }
            } @else {
                (group_link(visit, group, row.group_name.as_deref()))
            }
            @if entry.outcome != "applied" { " " (outcome_chip(visit, &entry.outcome)) }
        }
    }
}
