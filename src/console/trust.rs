//! The first line of every page: whether what it shows can be trusted, out of what the process knows without a question to any other.
//!
//! Last callback, database, spool, dead letters, refusals, gaps. The counts are those of the cache of `/v1/stats`, which is
//! given a moment to count anew, so that a small mirror shows what has just come and a large or absent database holds up no
//! page.

use std::time::Duration;

use chrono::{DateTime, Utc};
use maud::{Markup, html};
use tokio::time::timeout;

use super::language::{Language, grouped};
use super::state::ConsoleState;
use crate::clock;
use crate::model::{Millis, SdkAppId};
use crate::refusals::RefusalCause;
use crate::spool::SpoolError;

/// How long a page waits for the count that runs; then it has the one before.
const COUNT_WAIT_MAX: Duration = Duration::from_millis(200);

/// The same where nothing was counted yet, which is once in the life of a process.
const FIRST_COUNT_WAIT_MAX: Duration = Duration::from_secs(2);

/// How the database is, as the process has seen it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum DatabaseHealth {
    /// Callbacks are committed to it.
    Committing,
    /// It does not commit: callbacks go to the spool, if that takes them.
    Away,
    /// Schema and program do not agree, or it was not reached since the start; the text says why.
    Unfit(String),
}

impl DatabaseHealth {
    /// As it is now.
    pub(crate) fn of(state: &ConsoleState) -> Self {
        match (state.api.schema.mismatch(), state.api.writer.is_database_away()) {
            (Some(why), _) => Self::Unfit(why),
            (None, true) => Self::Away,
            (None, false) => Self::Committing,
        }
    }
}

/// Whether a page can be trusted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Trust {
    pub(crate) now: Millis,
    pub(crate) last_callback: Option<DateTime<Utc>>,
    pub(crate) database: DatabaseHealth,
    /// Callbacks of the app in the spool of this process; none while it is being opened.
    pub(crate) spool_depth: Option<u64>,
    /// Why the spool takes nothing, where it does not.
    pub(crate) spool_failure: Option<String>,
    /// None where nothing could be counted yet.
    pub(crate) parked: Option<i64>,
    /// Requests of the last hour that this process did not take.
    pub(crate) refused_in_hour: u64,
    /// Gaps that are not closed.
    pub(crate) gaps_open: usize,
    pub(crate) last_gap_end: Option<DateTime<Utc>>,
    pub(crate) counted_at: Option<DateTime<Utc>>,
    /// Whether anything of the app is in the ledger; none where that is not known.
    pub(crate) has_entries: Option<bool>,
}

impl Trust {
    /// Of an app, with counts that are made anew where that is quick.
    pub(crate) async fn of(state: &ConsoleState, app: SdkAppId) -> Self {
        let cache = &state.api.stats_cache;
        if DatabaseHealth::of(state) == DatabaseHealth::Committing {
            let wait = if cache.last().is_none() { FIRST_COUNT_WAIT_MAX } else { COUNT_WAIT_MAX };
            // Late is no failure: the count goes on, and the next page has it.
            let _ = timeout(wait, cache.counts()).await;
        }
        Self::known(state, app)
    }

    /// Of an app, with the counts that are there.
    pub(crate) fn known(state: &ConsoleState, app: SdkAppId) -> Self {
        let (api, now) = (&state.api, clock::now());
        let counts = api.stats_cache.last();
        let of_app = counts.as_ref().map(|counts| counts.apps.get(&app.get()).cloned().unwrap_or_default());
        let received = api.writer.last_received(app).and_then(|at| DateTime::from_timestamp_millis(at.get()));
        let counted_last = of_app.as_ref().and_then(|counts| counts.last_callback_at);
        let spool = api.writer.spool();
        let is_known = spool.failure != Some(SpoolError::Opening);
        let depth = spool.apps.get(&app).map_or(0, |app| app.depth);
        let mut own = api.writer.gaps();
        own.retain(|gap| gap.app.is_none_or(|of| of == app.get()));
        let counted_gaps = of_app.as_ref().map_or(&[][..], |counts| &counts.gaps);
        let uncounted = own.iter().filter(|gap| {
            let is_same = |first: DateTime<Utc>| first.timestamp_millis() == gap.first_ms;
            !counted_gaps.iter().any(|counted| is_same(counted.gap.first_at))
        });
        let open = counted_gaps.iter().filter(|gap| gap.gap.closed_at.is_none()).count();
        let ends = counted_gaps.iter().map(|gap| gap.gap.last_at);
        let own_ends = own.iter().filter_map(|gap| DateTime::from_timestamp_millis(gap.last_ms));
        let entries = of_app.as_ref().map(|counts| counts.applied + counts.partial + counts.parked);
        let causes = RefusalCause::callback_causes();
        Self {
            now,
            last_callback: received.max(counted_last),
            database: DatabaseHealth::of(state),
            spool_depth: is_known.then_some(depth),
            spool_failure: spool.failure.filter(|_| is_known).map(|failure| failure.to_string()),
            parked: of_app.as_ref().map(|counts| counts.parked),
            refused_in_hour: causes.map(|cause| api.refusals.hour(app, cause, now).iter().sum::<u64>()).sum(),
            gaps_open: open + uncounted.count(),
            last_gap_end: ends.chain(own_ends).max(),
            counted_at: counts.as_ref().map(|counts| counts.counted_at),
            has_entries: entries.map(|entries| entries > 0 || received.is_some()).or(received.map(|_| true)),
        }
    }

    /// Whether nothing asks for a person.
    pub(crate) fn is_good(&self) -> bool {
        self.database == DatabaseHealth::Committing && self.spool_failure.is_none() && self.gaps_open == 0
    }

    /// The line; `url` makes the address of a page out of its path.
    pub(crate) fn line(&self, language: Language, url: impl Fn(&str) -> String) -> Markup {
        let (mark, state) = if self.is_good() { ("●", "trust-good") } else { ("▲", "trust-bad") };
        html! {
            span class="mark" aria-hidden="true" { (mark) } " "
            strong { (language.text(state)) }
            span { (self.last_callback_text(language)) }
            a href=(url("/health")) class=[self.database_class()] { (self.database_text(language)) }
            span class=[self.spool_failure.as_ref().map(|_| "bad")] { (self.spool_text(language)) }
            @if let Some(parked) = self.parked {
                a href=(url("/parked")) {
                    (language.text_with("trust-parked", [("count", parked.into()), ("shown", grouped(parked).into())]))
                }
            }
            a href=(url("/parked#refused")) class=[(self.refused_in_hour > 0).then_some("warn")] {
                (language.text_with("trust-refused", [
                    ("count", self.refused_in_hour.into()), ("shown", grouped(self.refused_in_hour).into()),
                ]))
            }
            a href=(url("/health#gaps")) class=[(self.gaps_open > 0).then_some("bad")] { (self.gaps_text(language)) }
        }
    }

    fn last_callback_text(&self, language: Language) -> String {
        match self.last_callback {
            None => language.text("trust-no-callback"),
            Some(at) => {
                let secs = (self.now.get() - at.timestamp_millis()).max(0) / 1000;
                language.text_with("trust-last-callback", [("ago", ago(language, secs).into())])
            }
        }
    }

    fn database_class(&self) -> Option<&'static str> {
        (self.database != DatabaseHealth::Committing).then_some("bad")
    }

    pub(super) fn database_text(&self, language: Language) -> String {
        language.text(match self.database {
            DatabaseHealth::Committing => "trust-database-ok",
            DatabaseHealth::Away if self.spool_failure.is_some() => "trust-database-away-alone",
            DatabaseHealth::Away => "trust-database-away",
            DatabaseHealth::Unfit(_) => "trust-database-unfit",
        })
    }

    fn spool_text(&self, language: Language) -> String {
        match (&self.spool_failure, self.spool_depth) {
            (Some(_), _) => language.text("trust-spool-failed"),
            (None, None) => language.text("trust-spool-opening"),
            (None, Some(depth)) => {
                language.text_with("trust-spool", [("count", depth.into()), ("shown", grouped(depth).into())])
            }
        }
    }

    fn gaps_text(&self, language: Language) -> String {
        if self.gaps_open > 0 {
            return language.text_with("trust-gaps-open", [("count", self.gaps_open.into())]);
        }
        language.text(if self.last_gap_end.is_some() { "trust-gaps-closed" } else { "trust-no-gap" })
    }
}

/// A length of time in its largest unit, as in "3 min ago".
pub(crate) fn ago(language: Language, secs: i64) -> String {
    let (key, count) = match secs {
        ..120 => ("ago-seconds", secs),
        120..7_200 => ("ago-minutes", secs / 60),
        7_200..172_800 => ("ago-hours", secs / 3_600),
        _ => ("ago-days", secs / 86_400),
    };
    language.text_with(key, [("count", count.into())])
}
