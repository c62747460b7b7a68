//! What an attempt came to, and when the next one is due.
//!
//! Pure. A backend that is away, busy or broken gets a callback again with exponential back-off; one that refuses a
//! callback gets it once more, because a deployment may have been under way, and then never: a dead letter must not hold up
//! its group for longer. Another mirror that notices a loop refuses, too: nothing but a setting ends that. What the backend answers in a body of Tencent's shape is no failure, whatever code it has: Tencent
//! does not repeat such a callback either.

use std::time::Duration;

use crate::model::Millis;
use crate::relay::{BackendFault, RelayAnswer, UnusableAnswer, Worth, judge};

/// The pauses between attempts, and their limits.
#[derive(Debug, Clone, Copy)]
pub struct DeliveryPauses {
    /// After the first failure; it doubles with each.
    pub first: Duration,
    /// The longest.
    pub longest: Duration,
    /// Before the only further attempt for what the backend refuses.
    pub refused: Duration,
    /// How long after its receipt a callback is tried.
    pub tried_for: Duration,
    /// How long one attempt may take. Nothing waits for it, so that a slow backend gets more time than Tencent gives it.
    pub attempt: Duration,
    /// Between two attempts while the backend takes nothing at all.
    pub trial: Duration,
}

impl Default for DeliveryPauses {
    fn default() -> Self {
        Self {
            first: Duration::from_secs(1),
            longest: Duration::from_mins(5),
            refused: Duration::from_mins(1),
            tried_for: Duration::from_hours(24),
            attempt: Duration::from_secs(10),
            trial: Duration::from_secs(1),
        }
    }
}

impl DeliveryPauses {
    /// The pause after so many failures.
    pub(super) fn after(&self, failures: u32) -> Duration {
        let doubled = 1_u32.checked_shl(failures.saturating_sub(1)).unwrap_or(u32::MAX);
        self.first.saturating_mul(doubled).min(self.longest)
    }

    /// Whether a callback that was queued by hand is not tried any more: after as many failures as one that was just received
    /// has in its time. Its receipt may be days ago.
    pub(super) fn are_over_again(&self, failures: u32) -> bool {
        let waited = (1..=failures)
            .map(|failures| self.after(failures))
            .try_fold(self.tried_for, |left, pause| left.checked_sub(pause).filter(|left| !left.is_zero()));
        waited.is_none()
    }

    /// Whether a callback that was received then is not tried any more after a failure.
    pub(super) fn are_over(&self, received_at: Millis, now: Millis) -> bool {
        let age = now.get().saturating_sub(received_at.get());
        u64::try_from(age).is_ok_and(|age| Duration::from_millis(age) >= self.tried_for)
    }
}

/// What an attempt came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum AttemptVerdict {
    /// The backend has it; true where its answer has another code than 0.
    Delivered { with_code: bool },
    /// The same may succeed later.
    Retry(String),
    /// The backend refuses this callback.
    Refused(String),
}

impl AttemptVerdict {
    /// Sorts an answer, or its absence.
    pub(super) fn of(answer: &Result<RelayAnswer, BackendFault>) -> Self {
        let answer = match answer {
            Ok(answer) => answer,
            Err(fault) => return Self::Retry(fault.label().to_owned()),
        };
        let status = answer.status.as_u16();
        match judge(answer) {
            Ok(Worth::Allowed) => Self::Delivered { with_code: false },
            Ok(Worth::Refused) => Self::Delivered { with_code: true },
            Ok(Worth::OtherStatus) if (400..500).contains(&status) && ![408, 429].contains(&status) => {
                Self::Refused(label(status))
            }
            Err(UnusableAnswer::Loop) => Self::Refused(LOOP.to_owned()),
            Err(UnusableAnswer::NotJson) => Self::Retry("not_json".to_owned()),
            Ok(Worth::OtherStatus) | Err(UnusableAnswer::ServerError(_)) => Self::Retry(label(status)),
        }
    }
}

/// The label of the answer of a mirror that relays itself.
const LOOP: &str = "loop";

fn label(status: u16) -> String {
    format!("http_{status}")
}

/// Whether a label is that of a refusal.
pub(super) fn is_refusal(failure: &str) -> bool {
    let status = failure.strip_prefix("http_").and_then(|status| status.parse().ok());
    failure == LOOP
        || status.is_some_and(|status: u16| (400..500).contains(&status) && ![408, 429].contains(&status))
}

#[cfg(test)]
mod tests {
    use hyper::StatusCode;

    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest_and_end_a_day_after_receipt() {
        let pauses = DeliveryPauses::default();
        let secs: Vec<u64> = (1..=11).map(|failures| pauses.after(failures).as_secs()).collect();
        assert_eq!(secs, [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]);
        assert_eq!(pauses.after(u32::MAX), pauses.longest);
        let day = 86_400_000;
        assert!(!pauses.are_over(Millis::new(0), Millis::new(day - 1)));
        assert!(pauses.are_over(Millis::new(0), Millis::new(day)));
        assert!(!pauses.are_over(Millis::new(day), Millis::new(0)), "a clock that was set back");
        // 511 s until the pauses are the longest, then 300 s each.
        let failures = 9 + (86_400 - 511_u32).div_ceil(300);
        assert!(!pauses.are_over_again(failures - 1));
        assert!(pauses.are_over_again(failures));
    }

    #[test]
    fn an_answer_of_tencents_shape_is_a_delivery_and_each_other_one_has_its_class() {
        let verdict = |status: u16, body: &'static [u8]| {
            let status = StatusCode::from_u16(status).unwrap();
            AttemptVerdict::of(&Ok(RelayAnswer { status, headers: Default::default(), body: body.into() }))
        };
        assert_eq!(verdict(200, br#"{"ErrorCode":0}"#), AttemptVerdict::Delivered { with_code: false });
        assert_eq!(verdict(200, b"{}"), AttemptVerdict::Delivered { with_code: false });
        assert_eq!(verdict(200, br#"{"ErrorCode":1}"#), AttemptVerdict::Delivered { with_code: true });
        // JSON that no value of `serde_json` could hold.
        let deep = [b"[".repeat(200), b"]".repeat(200)].concat().leak();
        for body in [&b"\xef\xbb\xbf{}"[..], b"{\"ErrorInfo\":\"\xff\"}", deep] {
            assert_eq!(
                verdict(200, body),
                AttemptVerdict::Delivered { with_code: false },
                "as for a verdict"
            );
        }
        assert_eq!(verdict(508, b"{}"), AttemptVerdict::Refused("loop".into()));
        assert!(is_refusal("loop") && !is_refusal("timeout"));
        for body in [&b""[..], b"<html>"] {
            assert_eq!(verdict(200, body), AttemptVerdict::Retry("not_json".into()));
        }
        for status in [204, 301, 408, 429, 500, 503] {
            let label = format!("http_{status}");
            assert!(!is_refusal(&label));
            assert_eq!(verdict(status, b"{}"), AttemptVerdict::Retry(label));
        }
        for status in [400, 401, 404, 410, 499] {
            let label = format!("http_{status}");
            assert!(is_refusal(&label));
            assert_eq!(verdict(status, b"{}"), AttemptVerdict::Refused(label));
        }
        assert_eq!(AttemptVerdict::of(&Err(BackendFault::Timeout)), AttemptVerdict::Retry("timeout".into()));
    }
}
