//! What the public listener of this process did not take, by cause and minute, with the remedy; and what it answers and does
//! not keep.
//!
//! From memory, so it is there while the database is away. A wrong token leaves a healthy service with an empty mirror: this
//! table is where its operator finds out.

use chrono::DateTime;
use maud::{Markup, html};

use super::chart::sparkline;
use super::language::grouped;
use super::pieces::{empty, table, time_or_unknown};
use super::state::ConsoleState;
use super::visit::Visit;
use crate::clock;
use crate::model::Millis;
use crate::refusals::{RefusalCause, RefusalTotal};
use crate::traffic::{MINUTES, NotKept};

/// The label that commands of other families share.
const OTHER_FAMILY: &str = "other family";

/// What counts as lately, in minutes.
const LATELY: usize = 5;

/// The part of the page about refusals.
pub(super) fn refused(state: &ConsoleState, visit: &Visit) -> Markup {
    let now = clock::now();
    let totals = state.api.refusals.totals(visit.app);
    let mut seen: Vec<&RefusalTotal> = totals.iter().filter(|total| total.count > 0).collect();
    seen.sort_by_key(|total| std::cmp::Reverse(total.last_at));
    let heads = [
        "column-cause",
        "column-lately",
        "column-hour",
        "column-since-start",
        "column-last",
        "column-remedy",
    ];
    let heads = heads.map(|key| visit.text(key));
    let rows: Vec<Markup> = seen.iter().map(|total| row(state, visit, total, now)).collect();
    html! {
        section id="refused" aria-labelledby="refused-title" {
            h2 id="refused-title" { (visit.text("refused-title")) }
            p { (visit.text("refused-meaning")) }
            p class="quiet" { (visit.text("live-process")) " " bdi { (state.process) } }
            @if rows.is_empty() {
                (empty(&visit.text("refused-none"), &html! {}))
            } @else {
                (table(&visit.text("refused-table"), &heads, &rows))
            }
        }
    }
}

fn row(state: &ConsoleState, visit: &Visit, total: &RefusalTotal, now: Millis) -> Markup {
    let hour = state.api.refusals.hour(visit.app, total.cause, now);
    let lately: u64 = hour[MINUTES - LATELY..].iter().sum();
    let in_hour: u64 = hour.iter().sum();
    let text = visit.language().text_with("refused-hour-text", [("sum", grouped(in_hour).into())]);
    html! {
        th scope="row" { (refusal_text(visit, total.cause)) br; code { (total.cause.label()) } }
        td class="number" { (grouped(lately)) }
        td { (sparkline(&hour.map(Some), &text)) span class="quiet" { (grouped(in_hour)) } }
        td class="number" { (grouped(total.count)) }
        td { (time_or_unknown(visit, total.last_at.and_then(|at| DateTime::from_timestamp_millis(at.get())))) }
        td class="wide" { (remedy_text(visit, total.cause)) }
    }
}

/// What a refusal was for.
pub(super) fn refusal_text(visit: &Visit, cause: RefusalCause) -> String {
    visit.text(&format!("refusal-{}", cause.label().replace('_', "-")))
}

/// What to look at.
fn remedy_text(visit: &Visit, cause: RefusalCause) -> String {
    visit.text(&format!("remedy-{}", cause.label().replace('_', "-")))
}

/// The part of the page about what is answered and not kept.
pub(super) fn not_kept(state: &ConsoleState, visit: &Visit) -> Markup {
    let kinds = state.traffic.all_not_kept(visit.app);
    let heads = ["column-command", "column-since-start", "column-last"].map(|key| visit.text(key));
    let row = |(label, NotKept { count, last_at }): (&&'static str, &NotKept)| {
        let label = *label;
        html! {
            th scope="row" {
                @if label == OTHER_FAMILY { (visit.text("not-kept-other")) } @else { code { (label) } }
            }
            td class="number" { (grouped(*count)) }
            td { (time_or_unknown(visit, DateTime::from_timestamp_millis(last_at.get()))) }
        }
    };
    let rows: Vec<Markup> = kinds.iter().map(row).collect();
    html! {
        section id="not-kept" aria-labelledby="not-kept-title" {
            h2 id="not-kept-title" { (visit.text("not-kept-title")) }
            p { (visit.text("not-kept-meaning")) }
            @if rows.is_empty() {
                (empty(&visit.text("not-kept-none"), &html! {}))
            } @else {
                (table(&visit.text("not-kept-table"), &heads, &rows))
            }
        }
    }
}
