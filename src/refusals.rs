//! Requests that the public listener did not take: counted by cause, and reported in the log at a bounded rate.
//!
//! A wrong token, a path with a typing error or a proxy that cuts bodies leaves a healthy service with an empty mirror, so
//! no way of not taking a request is silent. The causes are a closed list; each app of the service
//! has its own counts, as far as the request names one, and the log has at most one line per app, cause and minute, with the number since the line before, what was seen last, and a remedy. Query strings stay out of it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use strum::{EnumCount, IntoStaticStr, VariantArray};

use crate::clock;
use crate::model::{Millis, SdkAppId};
use crate::traffic::{MINUTES, MinuteRing};

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
    /// 508: a relay sent it, this one or another.
    Loop,
    /// 404.
    Path,
    /// 405.
    Method,
    /// 400, 431: not HTTP/1, or a head over its limit.
    Malformed,
    /// A TLS handshake on a listener without TLS.
    Tls,
    /// Plain HTTP on a listener with TLS.
    PlainHttp,
    /// A TLS handshake without a version that this listener speaks.
    TlsVersion,
    /// A TLS handshake without a shared cipher suite, key exchange, signature or application protocol.
    TlsUnshared,
    /// The caller ended the TLS handshake, mostly because it does not trust the listener's certificate.
    TlsRefused,
    /// No client certificate, or one of another authority, where the listener wants one.
    ClientCertificate,
    /// The TLS handshake did not come to its end in time.
    SlowHandshake,
    /// A TLS handshake that broke off or cannot be read.
    Handshake,
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
    pub fn remedy(self) -> &'static str {
        match self {
            Self::App => {
                "SdkAppid is missing or another app's: is SDK_APP_ID the app whose console has this address?"
            }
            Self::Missing => "no signature: is callback authentication switched on in the console?",
            Self::Stale => "the signature is too old or from the future: is this host's clock right (NTP)?",
            Self::Wrong => "signature wrong: is CALLBACK_TOKEN the token of the console?",
            Self::Browser => "sent by a browser: callbacks come from Tencent's servers",
            Self::Loop => {
                "relayed already by a mirror: does RELAY_URL, here or there, lead to a mirror? It should name the backend itself"
            }
            Self::Path => "no such path: the address in the console should end in / or /callback",
            Self::Method => "wrong method: callbacks are sent by POST",
            Self::Malformed => {
                "not HTTP/1, or a head over its limit: does a proxy in front speak HTTP/2 or another protocol to this \
                 port?"
            }
            Self::Tls => {
                "TLS was spoken to a port without TLS: should the address begin with http, or a proxy end TLS?"
            }
            Self::PlainHttp => {
                "plain HTTP was spoken to a port with TLS: should the address begin with https, or a proxy in front speak TLS?"
            }
            Self::TlsVersion => {
                "no shared version of TLS: this port speaks 1.2 and 1.3, the caller offers older ones"
            }
            Self::TlsUnshared => {
                "no shared cipher suite or protocol: does the caller offer HTTP/2 alone, or suites without forward secrecy?"
            }
            Self::TlsRefused => {
                "the caller ended the TLS handshake: does it know the authority of the certificate, is the chain whole, has \
                 the certificate expired?"
            }
            Self::ClientCertificate => {
                "the caller has no certificate of CALLBACK_TLS_CLIENT_CA: Tencent's servers present none, a proxy in front can"
            }
            Self::SlowHandshake => {
                "a TLS handshake did not come to its end in time: is the network stuck, or does something open connections \
                 and send nothing?"
            }
            Self::Handshake => {
                "a TLS handshake broke off or cannot be read: does the sender speak TLS to this port, is the network cut?"
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
    /// The last hour.
    minutes: MinuteRing<u32>,
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

/// The tallies of all causes, by app; those of requests whose app is none of ours, or not known, under `None`.
type TalliesByApp = BTreeMap<Option<SdkAppId>, [CauseTally; RefusalCause::COUNT]>;

/// The counts of one process. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct RefusalLog(Arc<Mutex<TalliesByApp>>);

impl RefusalLog {
    fn tallies(&self) -> MutexGuard<'_, TalliesByApp> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts one; `app` is one of this service, else there would be as many as a sender makes up; `seen` is a short text
    /// from a closed form, never a piece of a query or a body.
    pub fn note(&self, app: Option<SdkAppId>, cause: RefusalCause, seen: Option<String>) {
        const NAME: &str = "group_mirror_refusals_total";
        let counter = match app {
            Some(app) => metrics::counter!(NAME, "cause" => cause.label(), "app" => app.to_string()),
            None => metrics::counter!(NAME, "cause" => cause.label()),
        };
        counter.increment(1);
        let mut tallies = self.tallies();
        let tally = &mut tallies.entry(app).or_default()[cause as usize];
        tally.count += 1;
        tally.unreported += 1;
        let now = clock::now();
        tally.last_at = Some(now);
        if let Some(count) = tally.minutes.at(now) {
            *count = count.saturating_add(1);
        }
        tally.seen = seen;
        let line = tally.take_line(cause, LINE_PERIOD);
        drop(tallies);
        if let Some(line) = line {
            line.write(app);
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
        let mut lines = Vec::new();
        for (app, tallies) in self.tallies().iter_mut() {
            for cause in RefusalCause::VARIANTS {
                lines.extend(tallies[*cause as usize].take_line(*cause, period).map(|line| (*app, line)));
            }
        }
        lines.into_iter().for_each(|(app, line)| line.write(app));
    }

    /// The totals of an app, one per cause: its own, and those of requests that name no app of ours.
    #[must_use]
    pub fn totals(&self, app: SdkAppId) -> Vec<RefusalTotal> {
        let tallies = self.tallies();
        let total = |cause: &RefusalCause| {
            let counted = [Some(app), None].into_iter().filter_map(|app| tallies.get(&app));
            let none = RefusalTotal { cause: *cause, count: 0, last_at: None };
            counted.fold(none, |total, tallies| {
                let tally = &tallies[*cause as usize];
                let (count, last_at) = (total.count + tally.count, total.last_at.max(tally.last_at));
                RefusalTotal { count, last_at, ..total }
            })
        };
        RefusalCause::VARIANTS.iter().map(total).collect()
    }
}

impl RefusalLog {
    /// How many there were of a cause in each minute of the last hour, oldest first: of an app, and of requests that name no
    /// app of ours.
    #[must_use]
    pub fn hour(&self, app: SdkAppId, cause: RefusalCause, now: Millis) -> [u64; MINUTES] {
        let tallies = self.tallies();
        let mut sum = [0; MINUTES];
        for of in [Some(app), None].into_iter().filter_map(|app| tallies.get(&app)) {
            let hour = of[cause as usize].minutes.hour_before(now);
            sum.iter_mut().zip(hour).for_each(|(sum, count)| *sum += u64::from(count));
        }
        sum
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
    fn write(self, app: Option<SdkAppId>) {
        let Self { cause, count, seen } = self;
        let seen = seen.map(|seen| format!(" ({seen})")).unwrap_or_default();
        let requests = if count == 1 { "request was" } else { "requests were" };
        tracing::warn!(
            refusal.app = app.map(SdkAppId::get),
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
    fn a_cause_has_its_own_tally_and_so_has_each_app() {
        let log = RefusalLog::default();
        let [ours, other] = ["1", "2"].map(|app| SdkAppId::parse(app).unwrap());
        log.note(None, RefusalCause::Path, None);
        log.note(None, RefusalCause::Path, None);
        log.note(Some(ours), RefusalCause::Wrong, None);
        log.note(Some(other), RefusalCause::Wrong, None);
        log.note(Some(other), RefusalCause::Wrong, None);
        for (app, wanted) in [(ours, [1, 2]), (other, [2, 2])] {
            let in_hour = |cause| log.hour(app, cause, clock::now()).iter().sum::<u64>();
            assert_eq!([in_hour(RefusalCause::Wrong), in_hour(RefusalCause::Path)], wanted);
        }
        for (app, wrong) in [(ours, 1), (other, 2)] {
            for total in log.totals(app) {
                let wanted = match total.cause {
                    RefusalCause::Path => 2,
                    RefusalCause::Wrong => wrong,
                    _ => 0,
                };
                assert_eq!((total.count, total.last_at.is_some()), (wanted, wanted > 0), "{total:?}");
            }
        }
    }
}
