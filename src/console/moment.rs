//! `/moment`: all groups that were touched around a moment, as sentences grouped by group, with counts by kind.
//!
//! The window reaches as far ahead of the moment as behind it. Without a moment the newest entries are shown. A page has a
//! limited number of entries; the counts are those of the page, and it says so where there are more.

use std::collections::BTreeMap;

use axum::extract::{RawQuery, State};
use axum::response::Response;
use chrono::{DateTime, Utc};
use maud::{Markup, html};

use super::app_entries::{AppEntries, app_place, app_place_text, before, key_of, read};
use super::asked::AskedPage;
use super::deed::Deed;
use super::entry_line::EntryLine;
use super::frame::{Section, page};
use super::group_ask::query;
use super::group_entries::deed_choices;
use super::language::grouped;
use super::pieces::{app_field, chip, group_link, pager, pruned_note, select, time_at, whole_id};
use super::sentence::clipped;
use super::sentence_html::entries;
use super::sentence_writer::Scene;
use super::state::ConsoleState;
use super::visit::{Visit, moment_text};
use crate::api::auth::Caller;
use crate::api::errors::ApiError;
use crate::store::app_history::{AppHistoryFilter, AppHistoryKey};

/// How many entries a page has, and how many bytes of HTML the lists of all groups may be.
const ENTRIES_MAX: usize = 100;
const LISTS_BYTES_MAX: usize = 60_000;

/// The windows that a reader may choose, in minutes to either side.
const WINDOWS: [(&str, i64); 4] = [("1", 1), ("5", 5), ("30", 30), ("180", 180)];

/// How many characters of a group's name stand in a heading.
const NAME_CHARS_MAX: usize = 80;

struct MomentAsk {
    at: Option<DateTime<Utc>>,
    minutes: (&'static str, i64),
    deed: Option<Deed>,
    behind: Option<AppHistoryKey>,
}

impl MomentAsk {
    fn of(raw: Option<&str>, visit: &Visit) -> Result<Self, ApiError> {
        let asked = AskedPage::of(raw, visit.zone());
        let minutes = WINDOWS.iter().find(|(word, _)| asked.text("minutes") == Some(word));
        Ok(Self {
            at: asked.time("at")?,
            minutes: *minutes.unwrap_or(&WINDOWS[1]),
            deed: asked.text("kind").and_then(Deed::of_label),
            behind: app_place(&asked, "behind")?,
        })
    }

    /// The window in Unix milliseconds: later than the first and earlier than the second.
    fn window(&self) -> (i64, i64) {
        let reach = self.minutes.1 * 60_000;
        let at = self.at.map(|at| at.timestamp_millis());
        at.map_or((i64::MIN, i64::MAX), |at| (at - reach - 1, at + reach + 1))
    }

    fn query(&self, visit: &Visit, behind: Option<&str>) -> String {
        let at = self.at.map(moment_text);
        let pairs = [
            ("at", at.as_deref()),
            ("minutes", Some(self.minutes.0)),
            ("kind", self.deed.map(Deed::label)),
            ("behind", behind),
        ];
        query(visit, &pairs)
    }
}

/// The page.
pub(super) async fn moment_page(
    State(console): State<ConsoleState>,
    visit: Visit,
    RawQuery(raw): RawQuery,
) -> Result<Response, ApiError> {
    let ask = MomentAsk::of(raw.as_deref(), &visit)?;
    let (after_ms, until_ms) = ask.window();
    let behind = ask.behind.clone().filter(|behind| behind.time_ms < until_ms);
    let filter = AppHistoryFilter {
        app: visit.app,
        user: None,
        part: None,
        command: None,
        outcome: None,
        source: None,
        after_ms,
        behind: behind.unwrap_or_else(|| before(until_ms)),
    };
    let with_address = visit.caller.as_ref().is_some_and(Caller::reads_raw);
    let found = read(&console.api, filter, ask.deed, ENTRIES_MAX, with_address).await?;
    let body = html! {
        (form(&visit, &ask))
        (shown(&visit, &ask, &found))
    };
    Ok(page(&visit, Section::Moment, &visit.text("moment-title"), &body))
}

fn form(visit: &Visit, ask: &MomentAsk) -> Markup {
    let windows: Vec<_> = WINDOWS
        .iter()
        .map(|(word, minutes)| {
            let text = visit.language().text_with("moment-minutes", [("count", (*minutes).into())]);
            ((*word).to_owned(), text)
        })
        .collect();
    let typed = ask.at.map(|at| visit.zone().date_and_time(at));
    html! {
        form class="filters" method="get" {
            (app_field(visit))
            label {
                span { (visit.text("moment-field-app")) " (" (visit.zone().name().replace('_', " ")) ")" }
                input name="at" value=[typed] placeholder="2026-11-11 20:00" maxlength="40" autocomplete="off";
            }
            (select("minutes", &visit.text("moment-window"), ask.minutes.0, &windows))
            (select("kind", &visit.text("filter-kind"), ask.deed.map_or("", Deed::label), &deed_choices(visit)))
            button { (visit.text("moment-show")) }
        }
    }
}

fn shown(visit: &Visit, ask: &MomentAsk, found: &AppEntries) -> Markup {
    let (lists, cut) = by_group(visit, &found.lines);
    let next = cut.or_else(|| found.next.clone()).map(|key| ask.query(visit, Some(&app_place_text(&key))));
    let first = ask.behind.is_some().then(|| ask.query(visit, None));
    html! {
        p class="moment-range" {
            @match ask.at {
                Some(at) => { (visit.text("moment-around")) " " (time_at(visit, at)) },
                None => { (visit.text("moment-newest")) },
            }
        }
        @if found.lines.is_empty() {
            p class="empty" { (visit.text(if found.next.is_some() { "entries-none-here" } else { "moment-none" })) }
        } @else {
            (counts(visit, &found.lines, next.is_some()))
        }
        (lists)
        (pruned_note(visit, found.whole_since.filter(|_| next.is_none())))
        (pager(visit, first.as_deref(), next.as_deref()))
    }
}

/// How many entries of which kind the page has, the gravest first.
fn counts(visit: &Visit, lines: &[EntryLine], is_part: bool) -> Markup {
    let mut counts = BTreeMap::<Deed, u64>::new();
    lines.iter().for_each(|line| *counts.entry(line.deed).or_default() += 1);
    html! {
        ul class="counts" aria-label=(visit.text("moment-counts")) {
            @for (deed, count) in counts.iter().rev() {
                li { (chip(&format!("deed-{}", deed.label()), &visit.text(deed.key()))) " " (grouped(*count)) }
            }
        }
        @if is_part { p class="quiet" { (visit.text("moment-part")) } }
    }
}

/// The entries by group, in the order in which the groups come first; and behind which entry the next page begins where the
/// page is full before all are shown.
fn by_group(visit: &Visit, lines: &[EntryLine]) -> (Markup, Option<AppHistoryKey>) {
    let mut count = lines.len();
    loop {
        let markup = sections(visit, &lines[..count]);
        if markup.0.len() <= LISTS_BYTES_MAX || count <= 1 {
            return (markup, (count < lines.len()).then(|| key_of(&lines[count - 1])));
        }
        // The share that fits, by the size of what did not, and always fewer.
        count = (count * LISTS_BYTES_MAX / markup.0.len()).clamp(1, count - 1);
    }
}

fn sections(visit: &Visit, lines: &[EntryLine]) -> Markup {
    let mut groups: Vec<(&str, Vec<EntryLine>)> = Vec::new();
    for line in lines {
        match groups.iter_mut().find(|(group, _)| *group == line.group) {
            Some((_, of_group)) => of_group.push(line.clone()),
            None => groups.push((&line.group, vec![line.clone()])),
        }
    }
    html! {
        @for (group, of_group) in &groups {
            section class="moment-group" {
                h2 {
                    @if group.is_empty() {
                        (visit.text("moment-no-group"))
                    } @else {
                        @let name = of_group[0].group_name.as_deref().map(|name| clipped(name, NAME_CHARS_MAX));
                        (group_link(visit, group, name.as_deref()))
                        @if name.is_some() { " " (whole_id(group)) }
                    }
                }
                (entries(visit, of_group, Scene::OfGroup, usize::MAX).markup)
            }
        }
    }
}
