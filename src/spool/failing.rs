//! A time in which the spool cannot be written, as log lines: an error where it begins, a warning each minute, its length at
//! the end.
//!
//! The thread opens the file again each second, and each attempt may fail: a line for each would fill the disk that may be the
//! cause.

use std::time::{Duration, Instant};

use super::status::SpoolError;

/// How often a failure that lasts is repeated in the log.
const REPORT_PERIOD: Duration = Duration::from_secs(60);

/// Since when nothing can be written, and when the log said so last.
#[derive(Debug, Default)]
pub(super) struct FailingTime(Option<(Instant, Instant)>);

impl FailingTime {
    /// An attempt has failed.
    pub(super) fn failed(&mut self, error: &SpoolError) {
        let now = Instant::now();
        match &mut self.0 {
            None => {
                self.0 = Some((now, now));
                tracing::error!(cause = error.label(), %error, "the spool failed; it is tried until it can be written");
            }
            Some((_, reported)) if now.duration_since(*reported) >= REPORT_PERIOD => {
                *reported = now;
                tracing::warn!(cause = error.label(), %error, "the spool still cannot be written");
            }
            Some(_) => {}
        }
    }

    /// A write was synced; so many callbacks are in the spool.
    pub(super) fn succeeded(&mut self, depth: u64) {
        if let Some((since, _)) = self.0.take() {
            let seconds = since.elapsed().as_secs_f64();
            tracing::info!(
                outage.seconds = seconds,
                spool.depth = depth,
                "the spool can be written again, after {seconds:.1} s; {depth} callbacks wait in it"
            );
        }
    }
}
