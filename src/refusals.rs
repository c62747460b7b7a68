//! Requests that the public listener did not take: counted by cause, and reported in the log at a bounded rate.
//!
//! A wrong token, a path with a typing error or a proxy that cuts bodies leaves a healthy service with an empty mirror, so
//! no way of not taking a request is silent. The causes are a closed list; the log has at most one line per cause and
//! minute, with the number since the line before, what was seen last, and a remedy. Query strings stay out of it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use strum::{EnumCount, IntoStaticStr, VariantArray};

use crate::clock;
use crate::model::Millis;

/// At most one line per cause in this time.
const LINE_PERIOD: Duration = Duration::from_secs(60);

/// Why a request was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, EnumCount, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "snake_case")]
pub enum RefusalCause {
    /// `SdkAppid` is missing or another app's.
    App,
    /// `Sign` or `RequestTime` is missing or malformed.
    Missing,
    /// `RequestTime` is too far from the clock.
    Stale,
    /// No token makes this signature.
    Wrong,
    /// A browser sent it.
    Browser,
    /// 404.
    Path,
    /// 405.
    Method,
    /// 400, 431: not HTTP/1, or a head over its limit.
    Malformed,
    /// A TLS handshake on a listener without TLS.
    Tls,
    /// The head of a request did not come to its end in time.
    SlowHead,
    /// 413.
    TooLarge,
    /// The sender closed the connection inside the request.
    BrokenOff,
    /// The body did not come in time.
    Budget,
    /// Too many bytes of bodies were being read.
    Reading,
    /// Neither PostgreSQL nor the spool made it durable.
    NotDurable,
    /// A panic.
    Fault,
}

impl RefusalCause {
    /// The label for counters and `/v1/stats`.
    #[must_use]
    pub fn label(self) -> &'static str {
        self.into()
    }

    /// Those that a callback of Tencent can be refused for, as against what strangers send.
    pub fn callback_causes() -> impl Iterator<Item = Self> {
        let of_strangers = [Self::Browser, Self::Malformed, Self::SlowHead];
        Self::VARIANTS.iter().copied().filter(move |cause| !of_strangers.contains(cause))
    }

    /// What happened, and what to look at, apart.
    #[must_use]
    pub fn parts(self) -> (&'static str, &'static str) {
        let line = self.remedy();
        let split = line.split_once(": ").or_else(|| line.split_once("; "));
        split.unwrap_or((line, "send less, or look at the sender"))
    }

    /// What happened, and what to look at.
    fn remedy(self) -> &'static str {
        match self {
            Self::App => {
                "SdkAppid is missing or another app's: is SDK_APP_ID the app whose console has this address?"
            }
            Self::Missing => "no signature: is callback authentication switched on in the console?",
            Self::Stale => "the signature is too old or from the future: is this host's clock right (NTP)?",
            Self::Wrong => "signature wrong: is CALLBACK_TOKEN the token of the console?",
            Self::Browser => "sent by a browser: callbacks come from Tencent's servers",
            Self::Path => "no such path: the address in the console should end in / or /callback",
            Self::Method => "wrong method: callbacks are sent by POST",
            Self::Malformed => {
                "not HTTP/1, or a head over its limit: does a proxy in front speak HTTP/2 or another protocol to this \
                 port?"
            }
            Self::Tls => {
                "TLS was spoken to a port without TLS: should the address begin with http, or a proxy end TLS?"
            }
            Self::SlowHead => {
                "a request's head did not come to its end in time: is the network or a proxy stuck?"
            }
            Self::TooLarge => "the body is over the limit of 1 MiB",
            Self::BrokenOff => {
                "the sender closed the connection inside a request: does a proxy time out or cut bodies?"
            }
            Self::Budget => "the body did not come in time: is the network or a proxy slow?",
            Self::Reading => {
                "too many bodies were being read at once: do senders or a proxy stall inside bodies?"
            }
            Self::NotDurable => {
                "neither PostgreSQL nor the spool made it durable; the line about the gap has the cause"
            }
            Self::Fault => "an internal fault: please report the panic in this log",
        }
    }
}

/// What is known of one cause since the start.
#[derive(Debug, Clone, Default)]
struct CauseTally {
    count: u64,
    last_at: Option<Millis>,
    /// Since the last line, with what was seen last.
    unreported: u64,
    seen: Option<String>,
    line_at: Option<Instant>,
}

/// How often, and when last, for one cause.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RefusalTotal {
    /// The cause.
    pub cause: RefusalCause,
    /// Since the start.
    pub count: u64,
    /// None: never.
    pub last_at: Option<Millis>,
}

/// The counts of one process. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct RefusalLog(Arc<Mutex<[CauseTally; RefusalCause::COUNT]>>);

impl RefusalLog {
    fn tallies(&self) -> MutexGuard<'_, [CauseTally; RefusalCause::COUNT]> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts one; `seen` is a short text from a closed form, never a piece of a query or a body.
    pub fn note(&self, cause: RefusalCause, seen: Option<String>) {
        metrics::counter!("group_mirror_refusals_total", "cause" => cause.label()).increment(1);
        let mut tallies = self.tallies();
        let tally = &mut tallies[cause as usize];
        tally.count += 1;
        tally.unreported += 1;
        tally.last_at = Some(clock::now());
        tally.seen = seen;
        let line = tally.take_line(cause, LINE_PERIOD);
        drop(tallies);
        if let Some(line) = line {
            line.write();
        }
    }

    /// Reports what has not been reported for a minute; called now and then.
    pub fn report(&self) {
        self.report_after(LINE_PERIOD);
    }

    /// Reports everything that has not been; called at the end.
    pub fn report_all(&self) {
        self.report_after(Duration::ZERO);
    }

    fn report_after(&self, period: Duration) {
        for cause in RefusalCause::VARIANTS {
            let line = self.tallies()[*cause as usize].take_line(*cause, period);
            if let Some(line) = line {
                line.write();
            }
        }
    }

    /// The totals, one per cause.
    #[must_use]
    pub fn totals(&self) -> Vec<RefusalTotal> {
        let tallies = self.tallies();
        assert_eq!(tallies.len(), RefusalCause::VARIANTS.len(), "each cause has its tally");
        let total = |cause: &RefusalCause| {
            let tally = &tallies[*cause as usize];
            RefusalTotal { cause: *cause, count: tally.count, last_at: tally.last_at }
        };
        RefusalCause::VARIANTS.iter().map(total).collect()
    }
}

/// One line of the log, made under the lock and written outside it.
struct RefusalLine {
    cause: RefusalCause,
    count: u64,
    seen: Option<String>,
}

impl CauseTally {
    fn take_line(&mut self, cause: RefusalCause, period: Duration) -> Option<RefusalLine> {
        let early = self.line_at.is_some_and(|line| line.elapsed() < period);
        if self.unreported == 0 || early {
            return None;
        }
        self.line_at = Some(Instant::now());
        Some(RefusalLine { cause, count: std::mem::take(&mut self.unreported), seen: self.seen.take() })
    }
}

impl RefusalLine {
    fn write(self) {
        let Self { cause, count, seen } = self;
        let seen = seen.map(|seen| format!(" ({seen})")).unwrap_or_default();
        let requests = if count == 1 { "request was" } else { "requests were" };
        tracing::warn!(
            refusal.cause = cause.label(),
            refusal.count = count,
            "{count} {requests} not taken: {}{seen}",
            cause.remedy()
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_of_a_cause_is_reported_at_once_and_the_next_ones_together_later() {
        let mut tally = CauseTally { unreported: 1, ..CauseTally::default() };
        assert_eq!(tally.take_line(RefusalCause::Wrong, LINE_PERIOD).map(|line| line.count), Some(1));
        tally.unreported = 7;
        assert!(tally.take_line(RefusalCause::Wrong, LINE_PERIOD).is_none());
        let line = tally.take_line(RefusalCause::Wrong, Duration::ZERO);
        assert_eq!(line.map(|line| line.count), Some(7));
        assert!(tally.take_line(RefusalCause::Wrong, Duration::ZERO).is_none(), "nothing new");
    }

    #[test]
    fn a_cause_has_its_own_tally() {
        let log = RefusalLog::default();
        log.note(RefusalCause::Path, None);
        log.note(RefusalCause::Path, None);
        for total in log.totals() {
            assert_eq!(total.count, if total.cause == RefusalCause::Path { 2 } else { 0 }, "{total:?}");
            assert_eq!(total.last_at.is_some(), total.cause == RefusalCause::Path);
        }
    }
}
