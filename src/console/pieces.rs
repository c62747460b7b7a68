//! The small pieces that pages are put together from: times, links to groups and persons, chips, tables, pagers, empty
//! states, lines to copy.
//!
//! Each is a function from values to markup. Maud escapes every value. Names and ids stand in `<bdi>`, so that marks of
//! another writing direction inside them end with them; the style sheet clips what would grow out of its line.

use chrono::{DateTime, Utc};
use maud::{Markup, html};

use super::sentence::clipped;
use super::visit::{Visit, moment_text};

/// How many characters of the name of a group, of a type and of a command are shown. The store limits ids, but none of these.
const NAME_CHARS_MAX: usize = 80;
pub(super) const WORD_CHARS_MAX: usize = 120;

/// A time in the reader's zone, with its offset.
pub(crate) fn time_at(visit: &Visit, time: DateTime<Utc>) -> Markup {
    let zone = visit.zone();
    html! {
        time datetime=(moment_text(time)) title=(moment_text(time)) {
            (zone.date_and_time(time)) " " span class="zone" { (zone.offset_at(time)) }
        }
    }
}

/// The same where there may be none.
pub(crate) fn time_or_unknown(visit: &Visit, time: Option<DateTime<Utc>>) -> Markup {
    match time {
        Some(time) => time_at(visit, time),
        None => unknown(visit),
    }
}

/// A time that leads to the group as it was then.
pub(crate) fn moment(visit: &Visit, group: &str, time: DateTime<Utc>) -> Markup {
    html! { a class="moment" href=(visit.group_url_at(group, time)) { (time_at(visit, time)) } }
}

/// The same with the time of day alone, below a heading that has the date and the zone.
pub(crate) fn moment_of_day(visit: &Visit, group: &str, time: DateTime<Utc>) -> Markup {
    html! { a class="moment" href=(visit.group_url_at(group, time)) { (time_of_day(visit, time)) } }
}

/// A time of day, whose date is a tip.
pub(crate) fn time_of_day(visit: &Visit, time: DateTime<Utc>) -> Markup {
    let zone = visit.zone();
    html! { time datetime=(moment_text(time)) title=(zone.date_and_time(time)) { (zone.clock(time)) } }
}

/// A group: its name, else its id.
pub(crate) fn group_link(visit: &Visit, id: &str, name: Option<&str>) -> Markup {
    let name = name.filter(|name| !name.trim().is_empty()).map(|name| clipped(name, NAME_CHARS_MAX));
    let shown = name.as_deref().unwrap_or(id);
    html! { a class="group" href=(visit.group_url(id)) title=(id) { bdi { (shown) } } }
}

/// A person.
pub(crate) fn person_link(visit: &Visit, id: &str) -> Markup {
    html! { a class="person" href=(visit.user_url(id)) { bdi { (id) } } }
}

/// An id that one click selects whole.
pub(crate) fn whole_id(id: &str) -> Markup {
    html! { code class="id" dir="auto" { (id) } }
}

/// A word in a frame. `kind` is a class of the style sheet; the word says the same without colour.
pub(crate) fn chip(kind: &str, text: &str) -> Markup {
    html! { span class={ "chip " (kind) } { (text) } }
}

/// What is not known, said so.
pub(crate) fn unknown(visit: &Visit) -> Markup {
    html! { span class="unknown" { (visit.text("unknown")) } }
}

/// A line of a shell, to be selected by one click.
pub(crate) fn line_to_copy(line: &str) -> Markup {
    html! { pre class="copy" tabindex="0" { code { (line) } } }
}

/// The links at the end of a list; the ones that lead nowhere are left out.
pub(crate) fn pager(visit: &Visit, first: Option<&str>, next: Option<&str>) -> Markup {
    html! {
        @if first.is_some() || next.is_some() {
            nav class="pager" aria-label=(visit.text("pager")) {
                @if let Some(first) = first { a href=(first) { (visit.text("pager-first")) } }
                @if let Some(next) = next { a href=(next) rel="next" { (visit.text("pager-next")) } }
            }
        }
    }
}

/// Below a history of which older entries were pruned: from when on it is whole.
pub(crate) fn pruned_note(visit: &Visit, whole_since_ms: Option<i64>) -> Markup {
    let since = whole_since_ms.and_then(DateTime::from_timestamp_millis);
    html! {
        @if let Some(since) = since {
            p class="quiet" { (visit.text("entries-pruned")) " " (time_at(visit, since)) }
        }
    }
}

/// In place of a list that has nothing to show: why, and what to do.
pub(crate) fn empty(title: &str, what_to_do: &Markup) -> Markup {
    html! { div class="empty" { p { strong { (title) } } (what_to_do) } }
}

/// A table with its caption and the heads of its columns; it scrolls by itself where a page is narrow.
pub(crate) fn table(caption: &str, heads: &[String], rows: &[Markup]) -> Markup {
    html! {
        div class="scroll" tabindex="0" role="region" aria-label=(caption) {
            table {
                caption class="quiet" { (caption) }
                thead { tr { @for head in heads { th scope="col" { (head) } } } }
                tbody { @for row in rows { tr { (row) } } }
            }
        }
    }
}

/// The choice of one of several values by a form.
pub(crate) fn select(name: &str, label: &str, chosen: &str, choices: &[(String, String)]) -> Markup {
    html! {
        label {
            span { (label) }
            select name=(name) {
                @for (value, text) in choices {
                    option value=(value) selected[value == chosen] { (text) }
                }
            }
        }
    }
}

/// The hidden field that keeps the app of a page, where its address names one.
pub(crate) fn app_field(visit: &Visit) -> Markup {
    html! {
        @if let Some(app) = visit.app_field() { input type="hidden" name="sdk_app_id" value=(app); }
    }
}
