//! The time rail of a group's page, with the steps from event to event and the field for a moment.
//!
//! Timeline of `replay` → spans of [`super::rail`]. A group that is too large to fold has no rail, which the page says, and
//! the steps and the field go on working: they read two ends of ranges of an index.

use std::collections::BTreeMap;
use std::time::Duration;

use maud::{Markup, html};
use tokio::time::timeout;

use super::deed::Deed;
use super::group_ask::GroupAsk;
use super::language::grouped;
use super::pieces::app_field;
use super::rail::{RAIL_SPANS, RailLinks, RailSpan, rail};
use super::sentence_html::time_of;
use super::visit::Visit;
use crate::api::errors::ApiError;
use crate::api::state::ApiState;
use crate::mirror::GroupKey;
use crate::replay::TimeRange;
use crate::replay::as_of::AsOfError;
use crate::replay::timeline::{EntryKind, TimeBucket, Timeline};
use crate::store::moments::Neighbours;

/// How long a page waits for its rail. A longer fold would be made anew with each tab and filter of a large group.
const RAIL_WAIT_MAX: Duration = Duration::from_secs(1);

/// The timeline of the whole life of a group; none where it is too large, takes too long, or where too many are read at once:
/// the page stands without it.
///
/// # Errors
/// An answer of the read that says something of the request.
pub(super) async fn spans(state: &ApiState, group: &GroupKey) -> Result<Option<Vec<RailSpan>>, ApiError> {
    let buckets = u16::try_from(RAIL_SPANS).unwrap_or(u16::MAX);
    let range = TimeRange { after: None, before: None, buckets };
    let Ok(read) = timeout(RAIL_WAIT_MAX, state.as_of.timeline(group, range)).await else { return Ok(None) };
    match read {
        Ok(timeline) => Ok(Some(spans_of(&timeline, state.avchatroom_members))),
        Err(
            AsOfError::Unknown
            | AsOfError::Pruned(_)
            | AsOfError::TooLarge(_)
            | AsOfError::Busy
            | AsOfError::Unreadable(_)
            | AsOfError::Database(_),
        ) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn spans_of(timeline: &Timeline, rooms: bool) -> Vec<RailSpan> {
    let span = |bucket: &TimeBucket| RailSpan {
        begin_ms: bucket.begin.get(),
        end_ms: bucket.end.get(),
        members: bucket.members.shown(rooms).and_then(|members| u64::try_from(members).ok()),
        deeds: deeds(bucket),
        newest_ms: None,
    };
    timeline.buckets.iter().map(span).collect()
}

/// What is in a bucket: users who came and went, and entries of every other kind.
fn deeds(bucket: &TimeBucket) -> BTreeMap<Deed, u64> {
    let mut deeds = BTreeMap::new();
    let users = [(Deed::Join, bucket.joins), (Deed::Leave, bucket.leaves), (Deed::Removal, bucket.removals)];
    for (deed, count) in users.into_iter().filter(|(_, count)| *count > 0) {
        deeds.insert(deed, count);
    }
    for (command, count) in &bucket.events {
        let deed = Deed::of_command(command);
        if !matches!(deed, Deed::Join | Deed::Leave) {
            *deeds.entry(deed).or_default() += count;
        }
    }
    // What the numbers above do not show: parked entries bear the command of what they could not say.
    let worst = match bucket.worst {
        Some(EntryKind::Parked) => Some(Deed::Unread),
        Some(EntryKind::Destroyed) => Some(Deed::Destroy),
        Some(EntryKind::Removed) => Some(Deed::Removal),
        Some(EntryKind::Left) => Some(Deed::Leave),
        Some(EntryKind::Joined) => Some(Deed::Join),
        _ => None,
    };
    if let Some(worst) = worst {
        deeds.entry(worst).or_insert(1);
    }
    deeds
}

/// The rail, the steps and the field.
pub(super) fn markup(
    visit: &Visit,
    ask: &GroupAsk,
    spans: Option<&[RailSpan]>,
    beside: &Neighbours,
) -> Markup {
    let address = |moment: i64| ask.query_at(visit, Some(moment));
    let title = |span: &RailSpan| title(visit, span);
    let links = RailLinks { address: &address, title: &title, at_ms: ask.at_ms };
    html! {
        section class="time-rail" aria-labelledby="rail-title" {
            h2 id="rail-title" { (visit.text("rail-title")) }
            @match spans {
                Some(spans) if !spans.is_empty() => {
                    (rail(spans, &links))
                    (ends(visit, spans))
                },
                Some(_) => {},
                None => p class="quiet" { (visit.text("rail-none")) },
            }
            (steps(visit, ask, beside))
            (field(visit, ask))
        }
    }
}

/// The two ends of the rail in words.
fn ends(visit: &Visit, spans: &[RailSpan]) -> Markup {
    let (Some(first), Some(last)) = (spans.first(), spans.last()) else { return html! {} };
    let most = spans.iter().filter_map(|span| span.members).max();
    html! {
        p class="rail-ends quiet" {
            span { (moment_words(visit, first.begin_ms + 1)) }
            @if let Some(most) = most { span { (visit.text("rail-most")) " " (grouped(most)) } }
            span { (moment_words(visit, last.end_ms)) }
        }
    }
}

fn moment_words(visit: &Visit, millis: i64) -> String {
    let zone = visit.zone();
    time_of(millis)
        .map_or_else(String::new, |time| format!("{} {}", zone.date_and_time(time), zone.offset_at(time)))
}

/// What a mark is about: when, what, and how many members there were then.
fn title(visit: &Visit, span: &RailSpan) -> String {
    let mut words = vec![moment_words(visit, span.moment_ms())];
    for (deed, count) in span.deeds.iter().rev() {
        words.push(format!("{}: {}", visit.text(deed.key()), grouped(*count)));
    }
    if let Some(members) = span.members {
        words.push(format!("{}: {}", visit.text("group-members"), grouped(members)));
    }
    words.join(" · ")
}

/// One event back, one event on, and back to now.
fn steps(visit: &Visit, ask: &GroupAsk, beside: &Neighbours) -> Markup {
    let is_past = ask.at_ms.is_some();
    // From the present one step back is the newest event, at which the group is as it is now.
    let earlier = beside.earlier_ms;
    html! {
        nav class="steps" aria-label=(visit.text("rail-steps")) {
            @match earlier {
                Some(earlier) => a href=(ask.query_at(visit, Some(earlier))) rel="prev" data-key="[" {
                    "⟨ " (visit.text("step-earlier"))
                },
                None => span class="quiet" { "⟨ " (visit.text("step-first")) },
            }
            @match (beside.later_ms, is_past) {
                (Some(later), true) => a href=(ask.query_at(visit, Some(later))) rel="next" data-key="]" {
                    (visit.text("step-later")) " ⟩"
                },
                (None, true) => a href=(ask.query_at(visit, None)) rel="next" data-key="]" {
                    (visit.text("step-now")) " ⟩"
                },
                _ => span class="quiet" { (visit.text("step-last")) " ⟩" },
            }
            @if is_past && beside.later_ms.is_some() {
                a href=(ask.query_at(visit, None)) { (visit.text("step-now")) }
            }
        }
    }
}

/// The field that takes a moment in the zone of the reader.
fn field(visit: &Visit, ask: &GroupAsk) -> Markup {
    let typed = ask.at_ms.and_then(time_of).map(|time| visit.zone().date_and_time(time));
    html! {
        form class="moment-field" method="get" {
            (app_field(visit))
            @if let Some(tab) = ask.tab_word() { input type="hidden" name="tab" value=(tab); }
            label {
                span { (visit.text("moment-field")) " (" (visit.zone().name().replace('_', " ")) ")" }
                input name="at" value=[typed] placeholder="2026-11-11 20:00" autocomplete="off" inputmode="text" maxlength="40";
            }
            button { (visit.text("moment-show")) }
        }
    }
}
