//! `/`: what happens now. Callbacks per minute, answer times, the number of groups, and the newest entries as they come.
//!
//! The figures of the last hour are those of the process that answers, from memory, and the page names it; the list is that
//! of the ledger. Without script the list is as new as the page. While the database is away the page stands, says so, and the
//! figures go on.

use axum::extract::State;
use axum::response::Response;
use chrono::{DateTime, TimeDelta};
use maud::{Markup, html};

use super::chart::sparkline;
use super::feed_line::feed_line;
use super::frame::{Section, page};
use super::language::grouped;
use super::pieces::time_or_unknown;
use super::state::ConsoleState;
use super::steps::first_steps;
use super::visit::Visit;
use crate::api::errors::ApiError;
use crate::clock;
use crate::store::wall::{self, WallRow};
use crate::store::{READ_WAIT_MAX, in_time};
use crate::traffic::AnswerTime;

/// How many entries the page begins with.
const ROWS_MAX: usize = 40;

/// `GET /`.
pub(super) async fn live(State(state): State<ConsoleState>, visit: Visit) -> Response {
    let is_empty = visit.trust.as_ref().is_some_and(|trust| trust.has_entries == Some(false));
    let read = async {
        let mut conn = state.api.connection().await?;
        Ok::<_, ApiError>(wall::newest(&mut conn, visit.app, (0, None), ROWS_MAX).await?.rows)
    };
    let rows = in_time(READ_WAIT_MAX, read).await;
    let is_empty = is_empty && rows.as_ref().is_ok_and(Vec::is_empty);
    let position = rows.as_ref().ok().and_then(|rows| rows.first()).map_or(0, |row| row.position);
    let body = html! {
        @if is_empty { (first_steps(&state, &visit)) }
        (figures(&state, &visit))
        section aria-labelledby="happens" {
            div class="bar" {
                h2 id="happens" { (visit.text("live-happens")) }
                p {
                    button id="new" type="button" hidden
                        data-one=(new(&visit, 1)) data-many=(new(&visit, 2)) {}
                    " "
                    button id="pause" type="button" hidden aria-pressed="false" { (visit.text("live-pause")) }
                }
            }
            @match &rows {
                Ok(rows) => (list(&visit, rows, position)),
                Err(error) => {
                    p class="fault" { span aria-hidden="true" { "▲ " } (visit.text("live-no-list")) }
                    p class="quiet" lang="en" { (error.detail()) }
                }
            }
        }
    };
    page(&visit, Section::Live, &visit.text("nav-live"), &body)
}

/// "12 new" with a place for the number, as the script puts it in.
fn new(visit: &Visit, count: i64) -> String {
    visit.language().text_with("live-new", [("count", count.into()), ("shown", "{n}".into())])
}

fn list(visit: &Visit, rows: &[WallRow], position: i64) -> Markup {
    let source = visit.url_with("/live/events", &[("after", &position.to_string())]);
    html! {
        p class="quiet" { (visit.text("live-zone")) " " (visit.zone().name()) }
        ol id="feed" class="feed" data-source=(source) {
            @for row in rows { (feed_line(visit, row)) }
        }
        @if rows.is_empty() { p class="quiet" { (visit.text("live-nothing")) } }
    }
}

/// From when to when the charts show.
fn hour(visit: &Visit) -> Option<String> {
    let now = DateTime::from_timestamp_millis(clock::now().get())?;
    let begin = now.checked_sub_signed(TimeDelta::minutes(59))?;
    let zone = visit.zone();
    Some(visit.language().text_with(
        "live-hour",
        [
            ("from", zone.hour_and_minute(begin).into()),
            ("to", zone.hour_and_minute(now).into()),
            ("zone", zone.offset_at(now).into()),
        ],
    ))
}

/// The three figures.
fn figures(state: &ConsoleState, visit: &Visit) -> Markup {
    html! {
        div class="cards" {
            (callbacks(state, visit))
            (answers(state, visit))
            (groups(state, visit))
        }
        p class="quiet" {
            @if let Some(hour) = hour(visit) { (hour) " " }
            (visit.text("live-process")) " " bdi { (state.process) }
        }
    }
}

fn callbacks(state: &ConsoleState, visit: &Visit) -> Markup {
    let minutes = state.traffic.callbacks(visit.app, clock::now());
    let [.., last, _] = minutes;
    let sum: u64 = minutes.iter().map(|count| u64::from(*count)).sum();
    let most = minutes.iter().copied().max().unwrap_or_default();
    let text = visit.language().text_with(
        "live-callbacks-text",
        [("last", grouped(last).into()), ("most", grouped(most).into()), ("sum", grouped(sum).into())],
    );
    html! {
        section class="card" {
            h2 { (visit.text("live-callbacks")) }
            p class="figure" { (grouped(last)) span class="unit" { (visit.text("live-per-minute")) } }
            (sparkline(&minutes.map(|count| Some(u64::from(count))), &text))
            p class="quiet" { (text) }
        }
    }
}

fn answers(state: &ConsoleState, visit: &Visit) -> Markup {
    // Times of all apps together are not for a reader of one of them.
    let is_shown = visit.caller.as_ref().is_some_and(|caller| caller.of_process(state.api.app).is_ok());
    let times = state.traffic.answers(clock::now());
    let shown = |time: Option<AnswerTime>| match time {
        None => visit.text("live-no-answer"),
        Some(AnswerTime::UpTo(ms)) => format!("≤ {} ms", grouped(ms)),
        Some(AnswerTime::Over(ms)) => format!("> {} ms", grouped(ms)),
    };
    let text = visit.language().text_with("live-answers-text", [("p99", shown(times.hour).into())]);
    html! {
        @if is_shown {
            section class="card" {
                h2 { (visit.text("live-answers")) }
                p class="figure" { (shown(times.hour)) span class="unit" { (visit.text("live-of-two-seconds")) } }
                (sparkline(&times.minutes.map(|time| time.map(|time| u64::from(time.bound_ms()))), &text))
                @if times.hour.is_some() { p class="quiet" { (text) } }
            }
        }
    }
}

fn groups(state: &ConsoleState, visit: &Visit) -> Markup {
    let counts = state.api.stats_cache.last();
    let none = Vec::new();
    let groups =
        counts.as_ref().map(|counts| counts.apps.get(&visit.app.get()).map_or(&none, |app| &app.groups));
    let of = |wanted: &str| -> i64 {
        let kinds = groups.into_iter().flatten().filter(|(_, status, _)| status == wanted);
        kinds.map(|(_, _, count)| *count).sum()
    };
    html! {
        section class="card" {
            h2 { (visit.text("live-groups")) }
            @if groups.is_some() {
                p class="figure" {
                    a href=(visit.url("/groups")) { (grouped(of("active"))) }
                    span class="unit" { (visit.text("status-active")) }
                }
                p {
                    a href=(visit.url_with("/groups", &[("status", "destroyed")])) { (grouped(of("destroyed"))) }
                    " " (visit.text("status-destroyed")) " · "
                    a href=(visit.url_with("/groups", &[("status", "unseen")])) { (grouped(of("unseen"))) }
                    " " (visit.text("status-unseen"))
                }
            } @else {
                p { (visit.text("live-not-counted")) }
            }
            p class="quiet" {
                (visit.text("counted-at")) " "
                (time_or_unknown(visit, counts.as_ref().map(|counts| counts.counted_at)))
            }
        }
    }
}
