//! The rate limiter of one command: a share of Tencent's published limit that adapts to what Tencent answers.
//!
//! Other tools of the same app use the same limits, and a published limit may not be the real one. So the share is halved
//! when Tencent answers with a rate code and grows by one point per quiet minute, never above what was set (additive
//! increase, multiplicative decrease). Calls are spaced by the generic cell rate algorithm with at most a tenth of a
//! second of burst. A library's limiter has a fixed rate; this one changes while callers wait. The state is pure, the
//! time is an argument.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

/// Calls that were possible during this time and were not made may be made at once, so that late timers do not lower the
/// rate.
const BURST: Duration = Duration::from_millis(100);

/// The share never falls below this part of the published limit, so that calls do not end.
const SHARE_MIN: f64 = 0.005;

/// How much the share grows per quiet minute: one point.
const SHARE_STEP: f64 = 0.01;

/// How long no rate code came, for the share to grow.
const QUIET: Duration = Duration::from_secs(60);

/// The state of a limiter.
#[derive(Debug, Clone, Copy)]
pub struct Allowance {
    limit_per_sec: f64,
    share_max: f64,
    share: f64,
    /// When the next call would be due without burst (theoretical arrival time).
    next: Instant,
    halved: Option<Instant>,
    changed: Instant,
}

impl Allowance {
    /// Of a published limit and the share of it that may be used, above 0 and at most 1.
    #[must_use]
    pub fn new(limit_per_sec: f64, share: f64, now: Instant) -> Self {
        assert!(limit_per_sec > 0.0 && share > 0.0 && share <= 1.0, "a share is a part of a limit");
        Self { limit_per_sec, share_max: share, share, next: now, halved: None, changed: now }
    }

    /// The share that is used now.
    #[must_use]
    pub fn share(&self) -> f64 {
        self.share
    }

    fn interval(&self) -> Duration {
        Duration::from_secs_f64(1.0 / (self.limit_per_sec * self.share))
    }

    /// When the next call may be made; not later than `now` means at once.
    #[must_use]
    pub fn due(&mut self, now: Instant) -> Instant {
        self.grow(now);
        self.next.checked_sub(BURST.saturating_sub(self.interval())).unwrap_or(self.next)
    }

    /// A call is made at `now`.
    pub fn count(&mut self, now: Instant) {
        self.next = self.next.max(now) + self.interval();
    }

    /// A rate code came for a call that was made at `sent`. Calls that were under way together halve the share once.
    pub fn halve(&mut self, sent: Instant, now: Instant) {
        if self.halved.is_some_and(|halved| sent < halved) {
            return;
        }
        self.share = (self.share / 2.0).max(SHARE_MIN.min(self.share_max));
        (self.halved, self.changed) = (Some(now), now);
        assert!(self.share > 0.0 && self.share <= self.share_max, "the share stays in its range");
    }

    fn grow(&mut self, now: Instant) {
        while self.share < self.share_max && now.saturating_duration_since(self.changed) >= QUIET {
            self.share = (self.share + SHARE_STEP).min(self.share_max);
            self.changed += QUIET;
        }
    }
}

/// The limiter of one command: callers wait in the order in which they came.
#[derive(Debug)]
pub(super) struct RateLimiter {
    turn: tokio::sync::Mutex<()>,
    allowance: Mutex<Allowance>,
}

impl RateLimiter {
    pub(super) fn new(limit_per_sec: f64, share: f64) -> Self {
        let allowance = Mutex::new(Allowance::new(limit_per_sec, share, Instant::now()));
        Self { turn: tokio::sync::Mutex::default(), allowance }
    }

    fn with<T>(&self, act: impl FnOnce(&mut Allowance) -> T) -> T {
        act(&mut self.allowance.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Waits until a call may be made, and counts it. A caller that is dropped meanwhile uses nothing.
    pub(super) async fn acquire(&self) {
        let _turn = self.turn.lock().await;
        loop {
            let now = Instant::now();
            // The share may have been halved during the sleep, so the due time is asked for again.
            let due = self.with(|allowance| allowance.due(now));
            if due <= now {
                return self.with(|allowance| allowance.count(now));
            }
            sleep_until(due).await;
        }
    }

    pub(super) fn halve(&self, sent: Instant) {
        self.with(|allowance| allowance.halve(sent, Instant::now()));
    }

    pub(super) fn share(&self) -> f64 {
        self.with(|allowance| allowance.share())
    }
}
