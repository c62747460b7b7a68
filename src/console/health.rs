//! `/health`: cards about the running service, each with its state, since when, what it means and what to do; and the gaps.
//!
//! Same content as the command `check`, as far as a running service knows it without touching anything: what needs the
//! settings of the machine or calls to Tencent is left to the command, which the page names. What the process knows itself
//! stands while the database is away; the cards about the database say then that nothing is known.

use axum::extract::State;
use axum::response::Response;
use chrono::{DateTime, Utc};
use maud::{Markup, html};

use super::frame::{Section, page};
use super::health_card::{CardLevel, HealthCard};
use super::health_database::database_cards;
use super::language::grouped;
use super::pieces::{empty, line_to_copy, table, time_or_unknown, unknown};
use super::refused::refusal_text;
use super::state::ConsoleState;
use super::trust::{DatabaseHealth, Trust, ago};
use super::visit::Visit;
use crate::api::stats_verification::GapView;
use crate::api::stats_verification::gaps as gaps_of;
use crate::clock;
use crate::refusals::RefusalCause;
use crate::store::stats::AppCounts;

/// A callback that waits longer than this in the spool waits for a person.
const OLD_SECS: i64 = 60;

/// How much of what is set aside has its name on the card.
const ASIDE_SHOWN_MAX: usize = 5;

/// The feed may be behind for a moment.
const LAG_SECS: u64 = 10;

/// `GET /health`.
pub(super) async fn health(State(state): State<ConsoleState>, visit: Visit) -> Response {
    let trust = Trust::known(&state, visit.app);
    let mut cards = vec![database(&state, &visit, &trust), spool(&state, &visit), aside(&state, &visit)];
    cards.extend(database_cards(&state, &visit, &trust).await);
    cards.extend([volume(&state, &visit), feed(&state, &visit), refusals(&state, &visit, &trust)]);
    cards.extend(relay(&state, &visit));
    let body = html! {
        p class="quiet" { (visit.text("health-process")) " " bdi { (state.process) } }
        div class="cards" { @for card in &cards { (card.markup(&visit)) } }
        (gaps(&state, &visit))
        p { (visit.text("health-check")) }
        (line_to_copy("group-mirror check"))
    };
    page(&visit, Section::Health, &visit.text("nav-health"), &body)
}

fn database(state: &ConsoleState, visit: &Visit, trust: &Trust) -> HealthCard {
    let card = |key: &str| HealthCard::good("database", visit.text(key));
    match &trust.database {
        DatabaseHealth::Committing => card("trust-database-ok"),
        DatabaseHealth::Away => {
            let away =
                HealthCard::good("database", trust.database_text(visit.language())).at(CardLevel::Wrong);
            state.api.writer.commit_failure().into_iter().fold(away, HealthCard::and)
        }
        DatabaseHealth::Unfit(why) => card("trust-database-unfit").and(why.as_str()).at(CardLevel::Wrong),
    }
}

fn spool(state: &ConsoleState, visit: &Visit) -> HealthCard {
    let status = state.api.writer.spool();
    // That of the app which the page is about: a token may be limited to it.
    let own = status.apps.get(&visit.app).copied().unwrap_or_default();
    let language = visit.language();
    let depth = language
        .text_with("trust-spool", [("count", own.depth.into()), ("shown", grouped(own.depth).into())]);
    let card = HealthCard::good("spool", depth);
    let oldest = own.oldest.and_then(|oldest| DateTime::from_timestamp_millis(oldest.get()));
    let age_secs = own.oldest.map_or(0, |oldest| (clock::now().get() - oldest.get()) / 1000);
    match status.failure {
        Some(failure) => card.and(failure.to_string()).since(oldest).at(CardLevel::Wrong),
        None if age_secs > OLD_SECS => card.since(oldest).at(CardLevel::Warning),
        None => card.since(oldest),
    }
}

/// What failed by itself and waits in the spool while all else is committed.
fn aside(state: &ConsoleState, visit: &Visit) -> HealthCard {
    let mut names = state.api.writer.set_aside(visit.app);
    names.sort_unstable();
    let shown = [("count", names.len().into()), ("shown", grouped(names.len() as u64).into())];
    let card = HealthCard::good("aside", visit.language().text_with("card-aside-count", shown));
    if names.is_empty() {
        return card;
    }
    names.into_iter().take(ASIDE_SHOWN_MAX).fold(card, HealthCard::and).at(CardLevel::Warning)
}

fn volume(state: &ConsoleState, visit: &Visit) -> HealthCard {
    match &state.forgetful_volume {
        Some(kind) => {
            HealthCard::good("volume", visit.text("card-volume-forgets")).and(&**kind).at(CardLevel::Wrong)
        }
        None => HealthCard::good("volume", visit.text("card-volume-keeps")),
    }
}

fn feed(state: &ConsoleState, visit: &Visit) -> HealthCard {
    let (followers, lag) = (state.api.feed.follower_count(), state.api.feed.lag());
    let shown = visit.language().text_with("card-feed-followers", [("count", followers.into())]);
    let card = HealthCard::good("feed", shown);
    if lag.as_secs() > LAG_SECS {
        let behind = visit.language().text_with("card-feed-behind", [("count", lag.as_secs().into())]);
        return card.and(behind).at(CardLevel::Warning);
    }
    card
}

fn refusals(state: &ConsoleState, visit: &Visit, trust: &Trust) -> HealthCard {
    let count = trust.refused_in_hour;
    let shown = [("count", count.into()), ("shown", grouped(count).into())];
    let card = HealthCard::good("refusals", visit.language().text_with("trust-refused", shown));
    if count == 0 {
        return card;
    }
    let in_hour = |cause| state.api.refusals.hour(visit.app, cause, trust.now).iter().sum::<u64>();
    let causes = RefusalCause::callback_causes().map(|cause| (cause, in_hour(cause)));
    let named = causes.filter(|(_, count)| *count > 0);
    named
        .map(|(cause, count)| format!("{}: {}", refusal_text(visit, cause), grouped(count)))
        .fold(card, HealthCard::and)
        .at(CardLevel::Warning)
}

fn relay(state: &ConsoleState, visit: &Visit) -> Option<HealthCard> {
    let backlog = state.api.writer.outbox().backlog(visit.app)?;
    let shown = [("count", backlog.entries.into()), ("shown", grouped(backlog.entries).into())];
    let card = HealthCard::good("relay", visit.language().text_with("card-relay-waits", shown));
    let oldest = backlog.oldest.and_then(|oldest| DateTime::from_timestamp_millis(oldest.get()));
    let card = card.since(oldest);
    let Some(outage) = backlog.outage else { return Some(card) };
    let secs = i64::try_from(outage.as_secs()).unwrap_or(i64::MAX);
    let taken = [("ago", ago(visit.language(), secs).into())];
    Some(card.and(visit.language().text_with("card-relay-outage", taken)).at(CardLevel::Wrong))
}

/// The gaps of all processes as counted, and of this one as they are.
fn gaps(state: &ConsoleState, visit: &Visit) -> Markup {
    let counts = state.api.stats_cache.last();
    let none = AppCounts::default();
    let of_app = counts.as_ref().map(|counts| counts.apps.get(&visit.app.get()).unwrap_or(&none));
    let mut own = state.api.writer.gaps();
    own.retain(|gap| gap.app.is_none_or(|of| of == visit.app.get()));
    let gaps = gaps_of(&own, of_app.map_or(&[], |counts| &counts.gaps));
    let heads = ["gap-begin", "gap-end", "column-cause", "gap-callbacks", "gap-groups", "gap-state"];
    let heads = heads.map(|key| visit.text(key));
    let rows: Vec<Markup> = gaps.iter().map(|gap| gap_row(visit, gap)).collect();
    html! {
        section id="gaps" aria-labelledby="gaps-title" {
            h2 id="gaps-title" { (visit.text("gaps-title")) }
            p { (visit.text("gaps-meaning")) }
            @if rows.is_empty() {
                (empty(&visit.text("trust-no-gap"), &html! {}))
            } @else {
                (table(&visit.text("gaps-title"), &heads, &rows))
            }
        }
    }
}

fn gap_row(visit: &Visit, gap: &GapView) -> Markup {
    let number = |count: Option<i128>| match count {
        Some(count) => html! { (grouped(count)) },
        None => unknown(visit),
    };
    let time = |time: Option<DateTime<Utc>>| time_or_unknown(visit, time);
    let touched = gap.groups.zip(gap.verified).map(|(groups, verified)| {
        visit.language().text_with(
            "gap-verified",
            [("verified", grouped(verified).into()), ("groups", grouped(groups).into())],
        )
    });
    html! {
        th scope="row" { (time(gap.begin.map(|at| at.0))) }
        td { (time(gap.end.map(|at| at.0))) }
        td { code { (gap.cause) } }
        td class="number" { (number(gap.callbacks.map(i128::from))) }
        td { @match touched { Some(text) => (text), None => (unknown(visit)) } }
        td {
            @match gap.closed_at {
                Some(at) => { (visit.text("gap-closed")) " " (time(Some(at.0))) }
                None => { span class="bad" { (visit.text("gap-open")) } }
            }
        }
    }
}
