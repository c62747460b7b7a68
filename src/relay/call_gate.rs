//! Calls of one kind to one backend: a limit of calls in work, a circuit breaker, counters and log lines.
//!
//! What waits for a verdict and what is passed on without one have a gate each, so that neither a slow handler of messages
//! nor a flood of them takes the verdicts' room or opens their breaker. At the limit a verdict's call is not made; a notice
//! waits for its turn as long as its time lasts. Whether a backend answers is reported when the breaker moves, and once in
//! a while otherwise.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use strum::{IntoStaticStr, VariantArray};
use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::breaker::{BackendBreaker, BreakerMove, CallResult};
use super::headers::RelayRequest;
use super::target::{BackendFault, RelayAnswer, RelayTarget};
use super::worth::judge;
use crate::model::SdkAppId;

/// At most one line about single failures in this time.
const LINE_PERIOD: Duration = Duration::from_secs(60);

/// Why calls are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "snake_case")]
pub(super) enum CallClass {
    /// Tencent waits for the verdict.
    Verdict,
    /// Tencent has its answer; the backend gets the callback all the same.
    Notice,
}

/// The results of calls that were made, as counters name them.
pub(super) const RESULTS: [&str; 10] = [
    "allowed",
    "refused",
    "other_status",
    "timeout",
    "unreachable",
    "broken",
    "too_large",
    "loop",
    "server_error",
    "not_json",
];

/// Why calls are not made.
pub(super) const NOT_CALLED: [&str; 3] = ["busy", "breaker_open", "late"];

/// Why there is no answer that can be used: a label for counters, one of [`RESULTS`] or [`NOT_CALLED`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct NoAnswer(pub(super) &'static str);

/// The limits of one kind of call.
#[derive(Debug, Clone, Copy)]
pub(super) struct CallLimits {
    /// How long a call has that begins at once.
    pub(super) within: Duration,
    /// How many may be in work.
    pub(super) calls: usize,
}

/// The gate of one kind of call.
#[derive(Debug)]
pub(super) struct CallGate {
    app: String,
    class: CallClass,
    target: RelayTarget,
    /// How long a call has that begins at once.
    within: Duration,
    permits: Semaphore,
    breaker: BackendBreaker,
    line_at: Mutex<Option<Instant>>,
}

impl CallGate {
    pub(super) fn new(app: SdkAppId, class: CallClass, target: RelayTarget, limits: CallLimits) -> Self {
        let gate = Self {
            app: app.to_string(),
            class,
            target,
            within: limits.within,
            permits: Semaphore::new(limits.calls),
            breaker: BackendBreaker::default(),
            line_at: Mutex::new(None),
        };
        for result in RESULTS {
            gate.count(result, 0);
        }
        gate.show_breaker();
        gate
    }

    /// Whether the breaker keeps calls from being made, trials aside.
    fn is_open(&self) -> bool {
        self.breaker.is_open()
    }

    /// Whether the breaker would let no call through now.
    pub(super) fn is_waiting_for_trial(&self, now: Instant) -> bool {
        self.breaker.is_waiting_for_trial(now)
    }

    /// Makes a call, unless there is a reason not to; ends at the deadline.
    pub(super) async fn call(
        &self,
        request: RelayRequest,
        deadline: Instant,
    ) -> Result<RelayAnswer, NoAnswer> {
        let permit = self.permits.try_acquire().map_err(|_| NoAnswer("busy"))?;
        let answer = self.call_at_once(request, deadline).await;
        drop(permit);
        answer
    }

    /// The same, but at the limit it waits until another call has ended, at most until the deadline.
    pub(super) async fn call_in_turn(
        &self,
        request: RelayRequest,
        deadline: Instant,
    ) -> Result<RelayAnswer, NoAnswer> {
        let permit = tokio::time::timeout_at(deadline, self.permits.acquire()).await;
        let Ok(Ok(permit)) = permit else { return Err(NoAnswer("busy")) };
        let answer = self.call_at_once(request, deadline).await;
        drop(permit);
        answer
    }

    async fn call_at_once(&self, request: RelayRequest, deadline: Instant) -> Result<RelayAnswer, NoAnswer> {
        let begun = Instant::now();
        if begun >= deadline {
            return Err(NoAnswer("late"));
        }
        let ticket = self.breaker.admit(begun).ok_or(NoAnswer("breaker_open"))?;
        let sent = self.target.send(request, deadline).await;
        let ended = Instant::now();
        let class: &'static str = self.class.into();
        metrics::histogram!("group_mirror_relay_seconds", "class" => class).record(ended - begun);
        let (label, result, failure, answer) = match sent {
            Ok(answer) => match judge(&answer) {
                Ok(worth) => (worth.label(), CallResult::Answered, None, Some(answer)),
                Err(unusable) => (unusable.label(), CallResult::Failed, Some(unusable.to_string()), None),
            },
            Err(fault) => {
                let result =
                    if fault == BackendFault::Timeout { CallResult::TimedOut } else { CallResult::Failed };
                (fault.label(), result, Some(fault.to_string()), None)
            }
        };
        self.count(label, 1);
        // A call that had little of its time left, because its body came late, says nothing of the backend by a time-out.
        let is_fair = result != CallResult::TimedOut || (deadline - begun) * 2 >= self.within;
        let moved = is_fair.then(|| self.breaker.settle(&ticket, result, ended)).flatten();
        self.report(moved, failure.as_deref());
        answer.ok_or(NoAnswer(label))
    }

    fn count(&self, result: &'static str, by: u64) {
        let class: &'static str = self.class.into();
        metrics::counter!("group_mirror_relayed_total", "app" => self.app.clone(), "class" => class, "result" => result)
            .increment(by);
    }

    fn show_breaker(&self) {
        let class: &'static str = self.class.into();
        metrics::gauge!("group_mirror_relay_breaker_open", "app" => self.app.clone(), "class" => class)
            .set(f64::from(u8::from(self.is_open())));
    }

    fn report(&self, moved: Option<BreakerMove>, failure: Option<&str>) {
        let (app, why) = (&self.app, failure.unwrap_or_default());
        match moved {
            Some(BreakerMove::Opened) => {
                self.show_breaker();
                let meanwhile = match self.class {
                    CallClass::Verdict => "\"before\" callbacks get their fallback at once",
                    CallClass::Notice => "notifications that are not stored are dropped",
                };
                tracing::warn!(
                    app,
                    "the backend of RELAY_URL fails ({why}); until a trial is answered, {meanwhile}"
                );
            }
            Some(BreakerMove::Closed) => {
                self.show_breaker();
                tracing::info!(app, "the backend of RELAY_URL answers again");
            }
            None if failure.is_some() && !self.is_open() && self.takes_line() => {
                tracing::warn!(app, "the backend of RELAY_URL did not answer a callback as it should: {why}");
            }
            None => {}
        }
    }

    fn takes_line(&self) -> bool {
        let mut line = self.line_at.lock().unwrap_or_else(PoisonError::into_inner);
        let due = line.is_none_or(|line| line.elapsed() >= LINE_PERIOD);
        if due {
            *line = Some(Instant::now());
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::super::worth::{UnusableAnswer, Worth};
    use super::*;

    #[test]
    fn every_label_of_a_result_is_on_the_list() {
        let text = String::new;
        let faults = [
            BackendFault::Timeout,
            BackendFault::Unreachable(text()),
            BackendFault::Broken(text()),
            BackendFault::TooLarge,
        ];
        let unusable = [UnusableAnswer::Loop, UnusableAnswer::ServerError(500), UnusableAnswer::NotJson];
        let worths = [Worth::Allowed, Worth::Refused, Worth::OtherStatus];
        let labels: Vec<&str> = faults
            .iter()
            .map(BackendFault::label)
            .chain(unusable.map(UnusableAnswer::label))
            .chain(worths.map(Worth::label))
            .collect();
        assert_eq!(labels.len(), RESULTS.len());
        for label in labels {
            assert!(RESULTS.contains(&label), "{label}");
        }
    }
}
