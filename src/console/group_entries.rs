//! The tab "what happened" of a group: its ledger entries as sentences, newest first, with filters.
//!
//! The store reads a bounded range; which kind of event an entry is and whom it names is known only once its body is decoded, so
//! a page with such a filter searches a limited number of rows and may be short, or empty, and still go on. Bodies are decoded
//! on a blocking thread within the permits for such pages.

use maud::{Markup, html};
use strum::VariantArray as _;

use super::asked::place_text;
use super::deed::Deed;
use super::entry_line::EntryLine;
use super::group_ask::{GroupAsk, GroupTab, SOURCES, TABS};
use super::pieces::{app_field, pager, pruned_note, select};
use super::sentence_html::entries;
use super::sentence_writer::Scene;
use super::visit::Visit;
use crate::api::body_pages::{PAGE_BODY_BYTES_MAX, body_page};
use crate::api::errors::ApiError;
use crate::api::state::ApiState;
use crate::callback::mentions;
use crate::mirror::GroupKey;
use crate::model::UserId;
use crate::store::ReadConnection;
use crate::store::history::{
    HistoryCursorKey, HistoryFilter, HistoryPage, HistoryRow, SEARCHED_ROWS_MAX, page,
};

/// How many entries a page has.
pub(super) const ENTRIES_MAX: usize = 50;

/// How many bytes of HTML they may be on a page that has a head and a rail as well.
const LIST_BYTES_MAX: usize = 32_000;

/// A page of entries.
#[derive(Debug, Clone, Default)]
pub(super) struct EntriesPage {
    /// Newest first.
    pub(super) lines: Vec<EntryLine>,
    /// Behind which entry the list goes on.
    pub(super) next: Option<HistoryCursorKey>,
    /// From when on the history is whole, Unix milliseconds; none: nothing was pruned.
    pub(super) whole_since: Option<i64>,
}

/// What a decoded entry has to be.
#[derive(Debug, Clone, Default)]
pub(super) struct EntrySieve {
    pub(super) deed: Option<Deed>,
    pub(super) person: Option<UserId>,
    pub(super) source: Option<&'static str>,
}

impl EntrySieve {
    fn is_open(&self) -> bool {
        self.deed.is_none() && self.person.is_none() && self.source.is_none()
    }

    /// The entry as a line, if it passes.
    fn pass(&self, row: HistoryRow, with_address: bool) -> Option<EntryLine> {
        if self.source.is_some_and(|source| row.source != source) {
            return None;
        }
        // Of what was not understood there is no event, but the body can say whom it is about.
        let unread = self.person.as_ref().filter(|_| row.row.outcome != "applied");
        let is_mentioned = unread.is_some_and(|person| mentions(&row.row.body, person));
        let line = EntryLine::of(row, with_address);
        let is_about = |person: &UserId| is_mentioned || line.names(person);
        let passes =
            self.deed.is_none_or(|deed| line.deed == deed) && self.person.as_ref().is_none_or(is_about);
        passes.then_some(line)
    }
}

/// Reads a page of the entries of a group; `None`: neither the ledger nor the mirror knows it.
///
/// # Errors
/// Those of the read.
pub(super) async fn read(
    state: &ApiState,
    group: &GroupKey,
    filter: HistoryFilter,
    sieve: EntrySieve,
    with_address: bool,
) -> Result<Option<EntriesPage>, ApiError> {
    read_up_to(state, group, filter, sieve, (ENTRIES_MAX, with_address)).await
}

/// The same with another number of entries.
///
/// # Errors
/// Those of the read.
pub(super) async fn read_up_to(
    state: &ApiState,
    group: &GroupKey,
    filter: HistoryFilter,
    sieve: EntrySieve,
    (lines_max, with_address): (usize, bool),
) -> Result<Option<EntriesPage>, ApiError> {
    let rows_max = if sieve.is_open() { lines_max } else { SEARCHED_ROWS_MAX };
    let group = group.clone();
    let read = async move |mut connection: ReadConnection| {
        page(&mut connection, &group, &filter, rows_max, PAGE_BODY_BYTES_MAX).await
    };
    let show =
        move |read: Option<HistoryPage>| Ok(read.map(|read| sieved(read, &sieve, lines_max, with_address)));
    body_page(state, read, show).await
}

fn sieved(read: HistoryPage, sieve: &EntrySieve, lines_max: usize, with_address: bool) -> EntriesPage {
    let HistoryPage { rows, mut next, whole_since } = read;
    let (mut lines, mut last) = (Vec::new(), None);
    for row in rows {
        if lines.len() == lines_max {
            next = last;
            break;
        }
        let key = (row.row.time_ms, row.row.digest.clone());
        lines.extend(sieve.pass(row, with_address));
        last = Some(key);
    }
    assert!(lines.len() <= lines_max, "a page keeps its limit");
    EntriesPage { lines, next, whole_since }
}

/// The range and the filters that a reader asks for, as the store takes them.
pub(super) fn filter_of(ask: &GroupAsk) -> HistoryFilter {
    // As of a moment everything up to and with its millisecond has happened.
    let until = ask.at_ms.map_or(i64::MAX, |at| at.saturating_add(1));
    let before = ask.before.map_or(i64::MAX, |before| before.timestamp_millis()).min(until);
    let behind = match &ask.behind {
        Some(behind) if behind.0 < before => behind.clone(),
        _ => (before, Vec::new()),
    };
    HistoryFilter {
        outcome: None,
        cause: None,
        command: ask.deed.and_then(Deed::command).map(str::to_owned),
        after_ms: ask.after.map_or(i64::MIN, |after| after.timestamp_millis()),
        behind,
    }
}

/// The tab.
pub(super) fn markup(visit: &Visit, ask: &GroupAsk, page: &EntriesPage) -> Markup {
    let shown = entries(visit, &page.lines, Scene::OfGroup, LIST_BYTES_MAX);
    let cut = page.lines.get(shown.count).and_then(|_| page.lines.get(shown.count.checked_sub(1)?));
    let next = cut.map(|line| line.key.clone()).or_else(|| page.next.clone());
    let next = next.map(|key| ask.query_behind(visit, "behind", Some(&place_text(&key))));
    let first = ask.behind.is_some().then(|| ask.query_behind(visit, "behind", None));
    html! {
        (filters(visit, ask))
        @if page.lines.is_empty() {
            p class="empty" { (visit.text(if page.next.is_some() { "entries-none-here" } else { "entries-none" })) }
        }
        (shown.markup)
        (pruned_note(visit, page.whole_since.filter(|_| next.is_none())))
        (pager(visit, first.as_deref(), next.as_deref()))
    }
}

fn filters(visit: &Visit, ask: &GroupAsk) -> Markup {
    let zone = visit.zone();
    let typed = |time: Option<chrono::DateTime<chrono::Utc>>| time.map(|time| zone.date_and_time(time));
    let sources: Vec<_> = SOURCES.iter().map(|(word, key)| ((*word).to_owned(), visit.text(key))).collect();
    let events = TABS.iter().find(|(tab, ..)| *tab == GroupTab::Events).map_or("", |(_, word, _)| word);
    html! {
        form class="filters" method="get" role="search" aria-label=(visit.text("filters")) {
            (app_field(visit))
            @for (name, value) in ask.kept_fields() {
                @if name != "tab" { input type="hidden" name=(name) value=(value); }
            }
            input type="hidden" name="tab" value=(events);
            (select("kind", &visit.text("filter-kind"), ask.deed.map_or("", Deed::label), &deed_choices(visit)))
            label {
                span { (visit.text("filter-person")) }
                input name="person" dir="auto" maxlength="512" autocomplete="off" value=[ask.person.as_ref().map(UserId::as_str)];
            }
            (select("source", &visit.text("filter-source"), ask.source.unwrap_or_default(), &with_any(visit, sources)))
            (range_fields(visit, typed(ask.after).as_deref(), typed(ask.before).as_deref()))
            button { (visit.text("filter-apply")) }
            a href=(ask.query_of_tab(visit, events)) { (visit.text("filter-clear")) }
        }
    }
}

/// The kinds of events as the choices of a filter.
pub(super) fn deed_choices(visit: &Visit) -> Vec<(String, String)> {
    let deeds = Deed::VARIANTS.iter().map(|deed| (deed.label().to_owned(), visit.text(deed.key()))).collect();
    with_any(visit, deeds)
}

/// Choices with one for no choice in front of them.
pub(super) fn with_any(visit: &Visit, mut choices: Vec<(String, String)>) -> Vec<(String, String)> {
    choices.insert(0, (String::new(), visit.text("filter-any")));
    choices
}

/// Two fields for a range of time, in the zone of the reader.
pub(super) fn range_fields(visit: &Visit, after: Option<&str>, before: Option<&str>) -> Markup {
    html! {
        @for (name, key, value) in [("after", "filter-after", after), ("before", "filter-before", before)] {
            label {
                span { (visit.text(key)) }
                input name=(name) value=[value] placeholder="2026-11-11 20:00" maxlength="40" autocomplete="off";
            }
        }
    }
}
