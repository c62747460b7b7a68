//! `/users/{user_id}`: a person over all groups: what was done to the person last, the groups of now and of before, everything
//! that the person did and suffered as sentences, when and with what the person was seen.
//!
//! The mirror has no list of users: an id that no callback has named has an empty page, not 404, because "nothing is known of
//! this person" is an answer. Client addresses are shown to callers with the right to them alone.

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, RawQuery, State};
use axum::response::Response;
use chrono::{DateTime, Utc};
use maud::{Markup, html};
use strum::VariantArray as _;

use super::app_entries::{AppEntries, app_place, app_place_text, before, key_of, read};
use super::asked::AskedPage;
use super::deed::Deed;
use super::frame::{Section, page};
use super::group_ask::query;
use super::group_entries::{deed_choices, range_fields, with_any};
use super::group_head::{TITLE_CHARS_MAX, fact};
use super::person_groups::{Belonging, groups_of, markup as groups_markup};
use super::pieces::{app_field, pager, pruned_note, select, time_at, unknown, whole_id};
use super::sentence::clipped;
use super::sentence_html::{entries, time_of};
use super::sentence_writer::Scene;
use super::state::ConsoleState;
use super::suffered::Suffered;
use super::visit::{Visit, moment_text};
use crate::api::auth::Caller;
use crate::api::errors::ApiError;
use crate::api::query::path_id;
use crate::mirror::PersonPart;
use crate::model::UserId;
use crate::store::app_history::{AppHistoryFilter, AppHistoryKey};
use crate::store::sights::{Means, Sights, means, sights};
use crate::store::{READ_WAIT_MAX, in_time};

/// How many entries a page has, and how many bytes of HTML they may be.
const ENTRIES_MAX: usize = 50;
const LIST_BYTES_MAX: usize = 45_000;

/// How many of the newest entries in which something happened to the person are searched for the first line.
const SUFFERED_SEARCHED_MAX: usize = 50;

/// How many characters of a platform are shown.
const PLATFORM_CHARS_MAX: usize = 40;

/// What a reader asks of the page.
struct PersonAsk {
    part: Option<PersonPart>,
    deed: Option<Deed>,
    after: Option<DateTime<Utc>>,
    before: Option<DateTime<Utc>>,
    behind: Option<AppHistoryKey>,
    /// The group behind which each of the two lists of groups goes on.
    now_behind: Option<String>,
    left_behind: Option<String>,
}

impl PersonAsk {
    fn of(raw: Option<&str>, visit: &Visit) -> Result<Self, ApiError> {
        let asked = AskedPage::of(raw, visit.zone());
        let part = PersonPart::VARIANTS.iter().find(|part| asked.text("part") == Some(part.name()));
        Ok(Self {
            part: part.copied(),
            deed: asked.text("kind").and_then(Deed::of_label),
            after: asked.time("after")?,
            before: asked.time("before")?,
            behind: app_place(&asked, "behind")?,
            now_behind: asked.text("now_behind").map(str::to_owned),
            left_behind: asked.text("left_behind").map(str::to_owned),
        })
    }

    /// The same page with the same filters and one other value.
    fn query_with(&self, visit: &Visit, name: &str, value: Option<&str>) -> String {
        let (after, until) = (self.after.map(moment_text), self.before.map(moment_text));
        let pairs = [
            ("part", self.part.map(PersonPart::name)),
            ("kind", self.deed.map(Deed::label)),
            ("after", after.as_deref()),
            ("before", until.as_deref()),
            (name, value),
        ];
        query(visit, &pairs)
    }
}

/// The page.
pub(super) async fn person(
    State(console): State<ConsoleState>,
    visit: Visit,
    path: Result<Path<String>, PathRejection>,
    RawQuery(raw): RawQuery,
) -> Result<Response, ApiError> {
    let user = path_id(path, UserId::parse)?;
    let ask = PersonAsk::of(raw.as_deref(), &visit)?;
    let (state, with_address) = (&console.api, visit.caller.as_ref().is_some_and(Caller::reads_raw));
    let of_user = (visit.app, &user);
    let suffered = filter_of(&visit, &user, Some(PersonPart::Member), before(i64::MAX));
    let suffered = read(state, suffered, None, SUFFERED_SEARCHED_MAX, false).await?;
    let suffered = Suffered::find(state, visit.app, user.as_str(), &suffered.lines).await?;
    let now = groups_of(state, of_user, Belonging::Now, ask.now_behind.as_deref()).await?;
    let left = groups_of(state, of_user, Belonging::Left, ask.left_behind.as_deref()).await?;
    let found = read(state, asked_filter(&visit, &user, &ask), ask.deed, ENTRIES_MAX, with_address).await?;
    let (seen, used) = in_time(READ_WAIT_MAX, async {
        let mut connection = state.lookup_connection().await?;
        let seen = sights(&mut connection, visit.app, &user).await?;
        Ok::<_, ApiError>((seen, means(&mut connection, visit.app, &user).await?))
    })
    .await?;
    let body = html! {
        @match &suffered {
            Some(suffered) => (suffered.markup(&visit)),
            None => p class="suffered" { (visit.text("suffered-nothing")) },
        }
        p class="under-title" { (whole_id(user.as_str())) }
        (sights_markup(&visit, seen, &used, with_address))
        (groups_markup(&visit, Belonging::Now, now, ("now_behind", ask.now_behind.as_deref())))
        (groups_markup(&visit, Belonging::Left, left, ("left_behind", ask.left_behind.as_deref())))
        (history(&visit, &user, &ask, &found))
        p class="quiet" { (visit.text("person-unknowns")) }
    };
    Ok(page(&visit, Section::Other, &clipped(user.as_str(), TITLE_CHARS_MAX), &body))
}

fn filter_of(
    visit: &Visit,
    user: &UserId,
    part: Option<PersonPart>,
    behind: AppHistoryKey,
) -> AppHistoryFilter {
    AppHistoryFilter {
        app: visit.app,
        user: Some(user.clone()),
        part,
        command: None,
        outcome: None,
        source: None,
        after_ms: i64::MIN,
        behind,
    }
}

fn asked_filter(visit: &Visit, user: &UserId, ask: &PersonAsk) -> AppHistoryFilter {
    let until = ask.before.map_or(i64::MAX, |until| until.timestamp_millis());
    let behind = ask.behind.clone().filter(|behind| behind.time_ms < until);
    let filter = filter_of(visit, user, ask.part, behind.unwrap_or_else(|| before(until)));
    AppHistoryFilter { after_ms: ask.after.map_or(i64::MIN, |after| after.timestamp_millis()), ..filter }
}

/// When and with what the person was seen.
fn sights_markup(visit: &Visit, seen: Sights, used: &[Means], with_address: bool) -> Markup {
    let time = |millis: Option<i64>| {
        millis.and_then(time_of).map_or_else(|| unknown(visit), |time| time_at(visit, time))
    };
    let mut platforms: Vec<&str> = used.iter().filter_map(|means| means.platform.as_deref()).collect();
    platforms.dedup();
    let mut addresses: Vec<&str> = used.iter().filter_map(|means| means.client_ip.as_deref()).collect();
    addresses.dedup();
    html! {
        dl class="facts" {
            (fact(&visit.text("person-first-seen"), &time(seen.first_ms)))
            (fact(&visit.text("person-last-seen"), &time(seen.last_ms)))
            (fact(&visit.text("person-platforms"), &words(visit, &platforms)))
            @if with_address { (fact(&visit.text("person-addresses"), &words(visit, &addresses))) }
        }
    }
}

fn words(visit: &Visit, words: &[&str]) -> Markup {
    html! {
        @if words.is_empty() { (unknown(visit)) }
        @for (index, word) in words.iter().enumerate() {
            @if index > 0 { (visit.text("list-separator")) }
            bdi { (clipped(word, PLATFORM_CHARS_MAX)) }
        }
    }
}

/// Everything that the person did and suffered.
fn history(visit: &Visit, user: &UserId, ask: &PersonAsk, found: &AppEntries) -> Markup {
    let shown = entries(visit, &found.lines, Scene::OfApp, LIST_BYTES_MAX);
    let cut = found.lines.get(shown.count).and_then(|_| found.lines.get(shown.count.checked_sub(1)?));
    let next = cut.map(key_of).or_else(|| found.next.clone());
    let next = next.map(|key| ask.query_with(visit, "behind", Some(&app_place_text(&key))));
    let first = ask.behind.is_some().then(|| ask.query_with(visit, "behind", None));
    let pairs = [
        ("part", ask.part.map(PersonPart::name).unwrap_or_default()),
        ("command", ask.deed.and_then(Deed::command).unwrap_or_default()),
        ("after", &api_time(ask.after)),
        ("before", &api_time(ask.before)),
        ("format", "csv"),
    ];
    html! {
        section aria-labelledby="history-title" {
            h2 id="history-title" { (visit.text("person-history")) }
            (filters(visit, ask))
            @if found.lines.is_empty() {
                p class="empty" { (visit.text(if found.next.is_some() { "entries-none-here" } else { "entries-none" })) }
            }
            (shown.markup)
            (pruned_note(visit, found.whole_since.filter(|_| next.is_none())))
            (pager(visit, first.as_deref(), next.as_deref()))
            @if ask.deed.is_none_or(Deed::is_all_of_its_command) {
                p class="data-link" {
                    a href=(visit.user_history_url(user.as_str(), &pairs)) { (visit.text("as-table")) }
                }
            }
        }
    }
}

/// A time of a filter as the API takes it; empty without one.
fn api_time(time: Option<DateTime<Utc>>) -> String {
    time.map(moment_text).unwrap_or_default()
}

fn filters(visit: &Visit, ask: &PersonAsk) -> Markup {
    let zone = visit.zone();
    let typed = |time: Option<DateTime<Utc>>| time.map(|time| zone.date_and_time(time));
    let parts: Vec<_> = PersonPart::VARIANTS
        .iter()
        .map(|part| (part.name().to_owned(), visit.text(part_key(*part))))
        .collect();
    html! {
        form class="filters" method="get" role="search" aria-label=(visit.text("filters")) {
            (app_field(visit))
            (select("part", &visit.text("filter-part"), ask.part.map_or("", PersonPart::name), &with_any(visit, parts)))
            (select("kind", &visit.text("filter-kind"), ask.deed.map_or("", Deed::label), &deed_choices(visit)))
            (range_fields(visit, typed(ask.after).as_deref(), typed(ask.before).as_deref()))
            button { (visit.text("filter-apply")) }
            a href=(query(visit, &[])) { (visit.text("filter-clear")) }
        }
    }
}

fn part_key(part: PersonPart) -> &'static str {
    match part {
        PersonPart::Operator => "part-operator",
        PersonPart::Member => "part-member",
        PersonPart::Owner => "part-owner",
    }
}
