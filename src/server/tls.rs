//! TLS of one listener: the certificate in use, exchanged when its files change, while connections go on.
//!
//! The files are read again each second and their contents compared: a notification of the file system does not come from
//! network volumes, and a time of change says nothing about a link that was swapped. A new certificate counts for the next
//! handshake; open connections keep theirs, so none is dropped. Contents that cannot be used keep the certificate in use.
//! They are reported once two reads in a row have found them, because two files are seldom exchanged in one moment. Its
//! expiry is watched as well: from that moment on callers refuse every handshake, and no request shows it.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use rustls::ServerConfig;
use tokio::sync::Notify;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::certificate::{
    CertificateError, ContentsDigest, LoadedCertificate, TlsContents, TlsFiles, Validity, moment,
};
use crate::clock;
use crate::model::Millis;

/// How often the files are read.
const READ_PERIOD: Duration = Duration::from_secs(1);

/// The longest time before its expiry from which on a certificate is reported. ACME clients renew those of 90 days when 30
/// are left.
const REPORT_BEFORE_EXPIRY_MAX_MS: i64 = 14 * 86_400_000;

/// The part of its lifetime, the last sixth, in which a certificate with a short one is reported.
const REPORT_BEFORE_EXPIRY_PART: i64 = 6;

/// One line about the expiry of a certificate in this time.
const EXPIRY_LINE_PERIOD: Duration = Duration::from_secs(86_400);

/// TLS of one listener. Cheap to clone.
#[derive(Debug, Clone)]
pub struct TlsListener(Arc<ListenerState>);

#[derive(Debug)]
struct ListenerState {
    files: TlsFiles,
    in_use: RwLock<Arc<LoadedCertificate>>,
    asked: Notify,
}

impl TlsListener {
    /// TLS with the certificate that the files hold now.
    ///
    /// # Errors
    /// Files that cannot be used.
    pub fn open(files: TlsFiles) -> Result<Self, CertificateError> {
        let loaded = files.load(&files.read()?)?;
        let state = ListenerState { files, in_use: RwLock::new(Arc::new(loaded)), asked: Notify::new() };
        Ok(Self(Arc::new(state)))
    }

    fn in_use(&self) -> Arc<LoadedCertificate> {
        Arc::clone(&self.0.in_use.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// For the next handshake.
    pub(super) fn config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.in_use().config)
    }

    /// Reads the files now, and reports what comes of it in any case.
    pub fn reload(&self) {
        self.0.asked.notify_one();
    }

    /// Keeps the certificate up to date, until `stop`. `listener` is the label of its metrics.
    pub async fn keep_up(self, listener: &'static str, stop: CancellationToken) {
        for result in [ReloadResult::Loaded, ReloadResult::Failed] {
            result.count(listener, 0);
        }
        let (mut rejected, mut expiry_lines) = (Rejected::default(), ExpiryLines::default());
        self.report_loaded();
        loop {
            let validity = self.in_use().validity;
            let now = clock::now();
            #[expect(clippy::cast_precision_loss, reason = "a difference of times is far below 2^53 ms")]
            let left = (validity.ends.get() - now.get()) as f64 / 1000.0;
            metrics::gauge!("group_mirror_certificate_expiry_seconds", "listener" => listener).set(left);
            self.report_expiry(expiry_lines.due(validity, now));
            let asked = tokio::select! {
                () = stop.cancelled() => return,
                () = self.0.asked.notified() => true,
                () = sleep(READ_PERIOD) => false,
            };
            let files = self.0.files.clone();
            // A volume of the network may take its time.
            let reading = stop.run_until_cancelled(spawn_blocking(move || files.read()));
            let Some(Ok(read)) = reading.await else { continue };
            if let Some(result) = self.take(read, asked, &mut rejected) {
                result.count(listener, 1);
            }
        }
    }

    /// Takes contents into use, if they are new and can be used. None: nothing that has not been reported.
    fn take(
        &self,
        read: Result<TlsContents, CertificateError>,
        asked: bool,
        rejected: &mut Rejected,
    ) -> Option<ReloadResult> {
        let variable = self.0.files.certificate.variable;
        let digest = read.as_ref().ok().map(|contents| contents.digest);
        let in_use = self.in_use();
        if digest == Some(in_use.digest) {
            let were_rejected = std::mem::take(rejected).reported.is_some();
            if asked || were_rejected {
                tracing::info!("{variable}: the files hold the certificate in use, that of {}", in_use.names);
            }
            return None;
        }
        match read.and_then(|contents| self.0.files.load(&contents)) {
            Ok(loaded) => {
                *rejected = Rejected::default();
                *self.0.in_use.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(loaded);
                self.report_loaded();
                Some(ReloadResult::Loaded)
            }
            Err(error) => {
                let is_news = rejected.is_news((digest, error.to_string()), asked);
                is_news.then(|| {
                    tracing::warn!("{error}; the certificate of {} stays in use", in_use.names);
                    ReloadResult::Failed
                })
            }
        }
    }

    fn report_loaded(&self) {
        let (files, loaded) = (&self.0.files, self.in_use());
        tracing::info!(
            "{}: the certificate of {} is in use; it expires at {}",
            files.certificate.variable,
            loaded.names,
            moment(loaded.validity.ends)
        );
        if let Some(mode) = loaded.open_key_mode {
            tracing::warn!(
                "{}: every user of this machine can read {} (mode {mode:04o}), and who has it can pass for this listener; \
                 `chmod o-r` it (a secret of Kubernetes: `defaultMode: 0440`)",
                files.key.variable,
                files.key.path.display()
            );
        }
    }

    fn report_expiry(&self, due: Option<ExpiryState>) {
        let Some(state) = due else { return };
        let (variable, loaded) = (self.0.files.certificate.variable, self.in_use());
        let (names, Validity { begins, ends }) = (&loaded.names, loaded.validity);
        match state {
            ExpiryState::Early => tracing::warn!(
                "{variable}: the certificate of {names} is not valid before {}; callers refuse it until then: is this host's clock right?",
                moment(begins)
            ),
            ExpiryState::Near => tracing::warn!(
                "{variable}: the certificate of {names} expires at {}; renew it, and put the new one into the same files",
                moment(ends)
            ),
            ExpiryState::Over => tracing::error!(
                "{variable}: the certificate of {names} has expired at {}; callers refuse it: renew it, and put the new one \
                 into the same files",
                moment(ends)
            ),
        }
    }
}

/// What came of changed files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ReloadResult {
    Loaded,
    Failed,
}

impl ReloadResult {
    fn count(self, listener: &'static str, times: u64) {
        let result = match self {
            Self::Loaded => "loaded",
            Self::Failed => "failed",
        };
        metrics::counter!("group_mirror_certificate_reloads_total", "listener" => listener, "result" => result)
            .increment(times);
    }
}

/// Contents that cannot be used, and why.
type Rejection = (Option<ContentsDigest>, String);

/// What was found last, and what was reported last, of contents that cannot be used.
#[derive(Debug, Default)]
struct Rejected {
    found: Option<Rejection>,
    reported: Option<Rejection>,
}

impl Rejected {
    /// Whether it is to be reported: once, where two reads in a row have found it, or where a person has asked.
    fn is_news(&mut self, rejection: Rejection, asked: bool) -> bool {
        if !asked && (self.reported.as_ref() == Some(&rejection) || self.found.as_ref() != Some(&rejection)) {
            self.found = Some(rejection);
            return false;
        }
        self.found = Some(rejection.clone());
        self.reported = Some(rejection);
        true
    }
}

/// What the validity of a certificate calls for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ExpiryState {
    /// It is not valid yet.
    Early,
    /// It expires soon.
    Near,
    /// It has expired.
    Over,
}

impl ExpiryState {
    /// None: nothing to report.
    fn of(Validity { begins, ends }: Validity, now: Millis) -> Option<Self> {
        let life = ends.get().saturating_sub(begins.get());
        let report = ends.get() - (life / REPORT_BEFORE_EXPIRY_PART).clamp(0, REPORT_BEFORE_EXPIRY_MAX_MS);
        match now.get() {
            now if now >= ends.get() => Some(Self::Over),
            now if now < begins.get() => Some(Self::Early),
            now if now >= report => Some(Self::Near),
            _ => None,
        }
    }
}

/// The lines about the expiry of a certificate: one a day, and at once where it or its state is another.
#[derive(Debug, Default)]
struct ExpiryLines(Option<(Validity, ExpiryState, Instant)>);

impl ExpiryLines {
    fn due(&mut self, validity: Validity, now: Millis) -> Option<ExpiryState> {
        let state = ExpiryState::of(validity, now)?;
        let was_reported = self.0.is_some_and(|(reported_of, reported, at)| {
            (reported_of, reported) == (validity, state) && at.elapsed() < EXPIRY_LINE_PERIOD
        });
        if was_reported {
            return None;
        }
        self.0 = Some((validity, state, Instant::now()));
        Some(state)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY_MS: i64 = 86_400_000;

    fn days(begins: i64, ends: i64) -> Validity {
        Validity { begins: Millis::new(begins * DAY_MS), ends: Millis::new(ends * DAY_MS) }
    }

    #[test]
    fn what_cannot_be_used_is_reported_once_and_only_where_it_stays() {
        let mut rejected = Rejected::default();
        let of = |number: u8| (Some([number; 32]), "why".to_owned());
        assert!(!rejected.is_news(of(1), false), "the other file may follow");
        assert!(!rejected.is_news(of(2), false), "it has followed, and cannot be used either");
        assert!(rejected.is_news(of(2), false));
        assert!(!rejected.is_news(of(2), false));
        assert!(rejected.is_news(of(2), true), "a person has asked");
        assert!(!rejected.is_news(of(2), false));
        assert!(rejected.is_news(of(3), true), "asked, it is not waited for another file");
        assert!(!rejected.is_news(of(3), false));
    }

    #[test]
    fn a_certificate_is_reported_as_its_expiry_comes_near_and_when_it_is_over() {
        for (begins, ends, now, kind) in [
            (0, 90, 10, None),
            (0, 90, 75, None),
            (0, 90, 76, Some(ExpiryState::Near)),
            (0, 90, 89, Some(ExpiryState::Near)),
            (0, 90, 90, Some(ExpiryState::Over)),
            (0, 365, 350, None),
            (0, 365, 351, Some(ExpiryState::Near)),
            (0, 6, 4, None),
            (0, 6, 5, Some(ExpiryState::Near)),
            (10, 20, 9, Some(ExpiryState::Early)),
        ] {
            let found = ExpiryState::of(days(begins, ends), Millis::new(now * DAY_MS));
            assert_eq!(found, kind, "{begins} to {ends} on {now}");
        }
    }

    #[test]
    fn a_line_about_the_expiry_comes_once_a_day_and_for_another_certificate_at_once() {
        let mut lines = ExpiryLines::default();
        let now = Millis::new(89 * DAY_MS);
        assert_eq!(lines.due(days(0, 90), now), Some(ExpiryState::Near));
        assert_eq!(lines.due(days(0, 90), now), None);
        assert_eq!(lines.due(days(0, 90), Millis::new(90 * DAY_MS)), Some(ExpiryState::Over));
        assert_eq!(lines.due(days(1, 90), Millis::new(90 * DAY_MS)), Some(ExpiryState::Over));
        assert_eq!(lines.due(days(0, 900), now), None);
    }
}
