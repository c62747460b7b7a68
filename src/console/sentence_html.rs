//! Sentences and lists of entries as HTML: each entry a sentence, below headings that say the minute once.
//!
//! People and groups are links, what users wrote stands in quotes and isolated in its direction, Tencent's words are code. A
//! list is bounded in bytes, because ids of 512 bytes make links of 1,600: it ends early, and the caller's pager goes on
//! behind the last entry that is shown.

use chrono::{DateTime, Utc};
use maud::{Markup, html};

use super::entry_line::EntryLine;
use super::pieces::{group_link, moment, moment_of_day, person_link};
use super::sentence::SentencePart;
use super::sentence_event::sentence;
use super::sentence_writer::{Scene, Sentence};
use super::visit::{Visit, moment_text};

/// How many details of an entry are shown: a profile has any number of fields.
const DETAILS_MAX: usize = 12;

/// The pieces of a sentence.
pub(super) fn said(visit: &Visit, parts: &[SentencePart]) -> Markup {
    html! { @for part in parts { (piece(visit, part)) } }
}

/// The first details of a sentence, with an ellipsis where there are more.
pub(super) fn details(visit: &Visit, sentence: &Sentence) -> Markup {
    html! {
        @for detail in sentence.details.iter().take(DETAILS_MAX) {
            span class="detail" { " · " (said(visit, detail)) }
        }
        @if sentence.details.len() > DETAILS_MAX { " · …" }
    }
}

fn piece(visit: &Visit, part: &SentencePart) -> Markup {
    match part {
        SentencePart::Text(text) => html! { (text) },
        SentencePart::Person(id) => person_link(visit, id),
        SentencePart::Group { id, name } => group_link(visit, id, name.as_deref()),
        SentencePart::Moment { group, at_ms } => {
            time_of(*at_ms).map(|time| moment(visit, group, time)).unwrap_or_default()
        }
        SentencePart::Value(text) => html! { q { bdi { (text) } } },
        SentencePart::Code(text) => html! { code { bdi { (text) } } },
    }
}

/// A list of entries, and how many of them are in it.
pub(super) struct ShownEntries {
    pub(super) markup: Markup,
    pub(super) count: usize,
}

/// Entries in the order in which they come, up to a number of bytes; one at least.
pub(super) fn entries(visit: &Visit, lines: &[EntryLine], scene: Scene, bytes_max: usize) -> ShownEntries {
    let (mut items, mut bytes) = (Vec::new(), 0);
    for line in lines {
        let item = entry(visit, line, scene);
        bytes += item.0.len();
        if bytes > bytes_max && !items.is_empty() {
            break;
        }
        items.push((minute(visit, line), item));
    }
    let count = items.len();
    assert!(count <= lines.len(), "a list shows entries that it was given");
    let markup = html! {
        @for part in items.chunk_by(|a, b| a.0 == b.0) {
            h3 class="minute" { (part[0].0) }
            ul class="entries" { @for (_, item) in part { (item) } }
        }
    };
    ShownEntries { markup, count }
}

/// Date, hour, minute and offset of an entry, in the zone of the reader.
fn minute(visit: &Visit, line: &EntryLine) -> String {
    let Some(time) = time_of(line.at_ms()) else { return visit.text("unknown") };
    let zone = visit.zone();
    format!("{} {} {}", zone.date(time), zone.hour_and_minute(time), zone.offset_at(time))
}

/// A time in Unix milliseconds as one that can be shown.
pub(super) fn time_of(millis: i64) -> Option<DateTime<Utc>> {
    DateTime::from_timestamp_millis(millis)
}

/// The first of these rows or items, up to a number of bytes; one at least where there is one. The caller's list goes on
/// behind the last of them.
pub(super) fn fitting(items: impl Iterator<Item = Markup>, bytes_max: usize) -> Vec<Markup> {
    let (mut fitting, mut bytes) = (Vec::new(), 0);
    for item in items {
        bytes += item.0.len();
        if bytes > bytes_max && !fitting.is_empty() {
            break;
        }
        fitting.push(item);
    }
    fitting
}

/// One entry as an item of a list.
pub(super) fn entry(visit: &Visit, line: &EntryLine, scene: Scene) -> Markup {
    let sentence = sentence(visit.language(), line, scene);
    html! {
        li class={ "deed deed-" (line.deed.label()) } {
            @if let Some(time) = time_of(line.at_ms()) {
                @if line.group.is_empty() {
                    time datetime=(moment_text(time)) { (visit.zone().clock(time)) }
                } @else {
                    (moment_of_day(visit, &line.group, time))
                }
            }
            " " (said(visit, &sentence.main))
            (details(visit, &sentence))
        }
    }
}
