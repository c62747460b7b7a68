//! `check --wait`: waits for one callback, and says what came, or why none did.
//!
//! The ledger is looked at, because a callback that is there came the whole way: console, proxy, signature, database. A
//! running `serve` is asked beside it, which knows of requests that it refused and of callbacks that are in its spool.

use std::time::{Duration, Instant};

use super::callbacks::shown;
use super::line::{CheckLevel, CheckLine, CheckSubject, secs_shown};
use super::own_client::OwnListener;
use super::service::{ServiceClient, ServiceStats};
use crate::model::SdkAppId;
use crate::refusals::RefusalCause;
use crate::store::condition::{self, EnteredCallback};
use crate::store::{Database, READ_WAIT_MAX, in_time};

/// The pause between two looks.
const PAUSE: Duration = Duration::from_millis(500);

/// A running service that may be asked.
#[derive(Clone)]
pub struct AskedService {
    /// Its client.
    pub client: ServiceClient,
    /// Its internal listener.
    pub listener: OwnListener,
    /// Each app with a token that may read it; none where none is needed.
    pub apps: Vec<(SdkAppId, Option<String>)>,
}

/// Where callbacks show.
#[derive(Debug)]
pub struct WaitedFor<'a> {
    /// The apps of which one is waited for.
    pub apps: &'a [SdkAppId],
    /// The ledger, where the database can be used.
    pub database: Option<&'a Database>,
    /// A running `serve`.
    pub service: Option<AskedService>,
}

impl std::fmt::Debug for AskedService {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "AskedService({})", self.listener.address)
    }
}

impl AskedService {
    /// What it says of each app; none of those that it does not let us read.
    pub async fn stats(&self) -> Vec<Option<ServiceStats>> {
        let mut stats = Vec::with_capacity(self.apps.len());
        for (app, token) in &self.apps {
            stats.push(self.client.stats(&self.listener, token.as_deref(), app.get()).await);
        }
        stats
    }
}

impl WaitedFor<'_> {
    async fn stats(&self) -> Vec<Option<ServiceStats>> {
        match &self.service {
            Some(service) => service.stats().await,
            None => Vec::new(),
        }
    }

    async fn entered(&self, position: i64) -> Result<Option<EnteredCallback>, sqlx::Error> {
        let Some(database) = self.database else { return Ok(None) };
        in_time(READ_WAIT_MAX, async {
            condition::entered_after(&mut *database.lookup().acquire().await?, position, self.apps).await
        })
        .await
    }

    async fn last_position(&self) -> Result<i64, sqlx::Error> {
        let Some(database) = self.database else { return Ok(0) };
        in_time(READ_WAIT_MAX, async {
            condition::last_position(&mut *database.lookup().acquire().await?).await
        })
        .await
    }

    /// Waits at most so long. `begun` is called once callbacks are noticed.
    pub async fn line(&self, longest: Duration, begun: impl FnOnce()) -> CheckLine {
        let before = self.stats().await;
        let Ok(position) = self.last_position().await else {
            return CheckLine::wrong(
                CheckSubject::Wait,
                "the ledger cannot be read",
                "see the lines about the database",
            );
        };
        if self.database.is_none() && before.iter().all(Option::is_none) {
            return CheckLine::wrong(
                CheckSubject::Wait,
                "neither the ledger nor a running `serve` can be looked at",
                "see the lines about the database, start `serve`, and set API_TOKEN to a token of it",
            );
        }
        begun();
        let end = Instant::now() + longest;
        loop {
            if let Some(line) = self.news(&before, position).await {
                return line;
            }
            if Instant::now() >= end {
                return silent(longest);
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// What has come since the wait began.
    async fn news(&self, before: &[Option<ServiceStats>], position: i64) -> Option<CheckLine> {
        // A read that fails may succeed a little later.
        if let Ok(Some(callback)) = self.entered(position).await {
            return Some(entered_line(&callback));
        }
        let now = self.stats().await;
        let pairs = before.iter().zip(&now).filter_map(|(before, now)| before.as_ref().zip(now.as_ref()));
        // A refusal that named no app shows in each; a receipt is better news.
        let line = pairs.filter_map(|(before, now)| noticed(before, now)).min_by_key(|line| line.level)?;
        // What is in the ledger by now shows more.
        let entered = self.entered(position).await.ok().flatten().filter(|_| line.level == CheckLevel::Ok);
        Some(entered.map_or(line, |callback| entered_line(&callback)))
    }
}

fn entered_line(callback: &EnteredCallback) -> CheckLine {
    let distance = callback.event_time_ms.map_or_else(
        || "it has no EventTime".to_owned(),
        |event_ms| {
            let delay = callback.received_at.timestamp_millis().saturating_sub(event_ms);
            let side = if delay < 0 { "before" } else { "after" };
            format!("received {} {side} its EventTime", secs_shown(delay))
        },
    );
    let found = format!(
        "{} came at {} ({}); {distance}",
        callback.command,
        shown(callback.received_at),
        callback.outcome
    );
    if callback.outcome == "parked" {
        let remedy = "look at GET /v1/parked for the reason; an update may read it, then `group-mirror replay --parked`";
        return CheckLine::warning(CheckSubject::Wait, found, remedy);
    }
    CheckLine::ok(CheckSubject::Wait, found)
}

/// What a running `serve` says that it did not say before: a refusal, or a callback that is not in the ledger yet.
fn noticed(before: &ServiceStats, now: &ServiceStats) -> Option<CheckLine> {
    if now.last_callback_at != before.last_callback_at && now.last_callback_at.is_some() {
        let at = now.last_callback_at.as_deref().unwrap_or_default();
        let found = format!("a callback was received at {at} and is on its way into the ledger");
        return Some(CheckLine::ok(CheckSubject::Wait, found));
    }
    let cause = RefusalCause::callback_causes()
        .find(|cause| now.refusals.count(*cause) > before.refusals.count(*cause))?;
    let (what, remedy) = cause.parts();
    Some(CheckLine::wrong(CheckSubject::Wait, format!("a request came and was refused: {what}"), remedy))
}

fn silent(longest: Duration) -> CheckLine {
    CheckLine::wrong(
        CheckSubject::Wait,
        format!("no callback in {} s", longest.as_secs()),
        "make a group in the app while this waits; where nothing comes: the address and the switches in Tencent's console \
         (a change takes 2 minutes there), DNS, certificate, firewall, the proxy's log, the log of `serve`",
    )
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;

    use super::*;

    fn stats(last: Option<&str>, wrong: u64) -> ServiceStats {
        let mut stats = ServiceStats { last_callback_at: last.map(str::to_owned), ..ServiceStats::default() };
        stats.refusals.by_cause.insert("wrong".to_owned(), wrong);
        stats
    }

    #[test]
    fn a_refusal_is_noticed_with_its_remedy_and_a_receipt_before_the_ledger_has_it() {
        assert_eq!(noticed(&stats(None, 1), &stats(None, 1)), None);
        let line = noticed(&stats(None, 1), &stats(None, 2)).unwrap();
        assert_eq!(line.level, CheckLevel::Wrong);
        assert!(line.remedy.unwrap().contains("CALLBACK_TOKEN"));
        assert_eq!(noticed(&stats(None, 0), &stats(Some("x"), 1)).unwrap().level, CheckLevel::Ok);
    }

    #[test]
    fn what_came_is_shown_with_the_distance_of_its_times() {
        let callback = |outcome: &str, event_time_ms| EnteredCallback {
            command: "Group.CallbackAfterCreateGroup".to_owned(),
            outcome: outcome.to_owned(),
            received_at: DateTime::from_timestamp_millis(1_767_225_600_000).unwrap(),
            event_time_ms,
        };
        let line = entered_line(&callback("applied", Some(1_767_225_599_500)));
        assert_eq!(
            line.found,
            "Group.CallbackAfterCreateGroup came at 2026-01-01T00:00:00Z (applied); received 0.5 s after its EventTime"
        );
        assert!(entered_line(&callback("applied", None)).found.ends_with("it has no EventTime"));
        assert_eq!(entered_line(&callback("parked", None)).level, CheckLevel::Warning);
    }
}
