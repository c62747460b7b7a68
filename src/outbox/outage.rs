//! Whether the backend as a whole takes callbacks: a circuit breaker over the deliveries of one app.
//!
//! Pure, with the time handed in. Failures in a row, without one answer that shows a working backend, open it. Then one
//! attempt at a time is made, so that a backend that comes back is noticed at once and not overrun, and a dead one costs
//! little. Begin and end have one log line each, which the caller writes.

use std::time::{Duration, Instant};

/// So many failures in a row are an outage.
const FAILURES_MIN: u32 = 3;

/// Whether an attempt may be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum OutageTurn {
    /// Now.
    Go,
    /// Not before then.
    WaitUntil(Instant),
    /// Not before the one that is under way has ended.
    Wait,
}

/// What an attempt has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum OutageChange {
    Begun,
    Ended(Duration),
}

/// The state of one backend.
#[derive(Debug)]
pub(super) struct Outage {
    trial: Duration,
    failures: u32,
    since: Option<Instant>,
    next_trial: Instant,
    is_trying: bool,
}

impl Outage {
    pub(super) fn new(trial: Duration, now: Instant) -> Self {
        Self { trial, failures: 0, since: None, next_trial: now, is_trying: false }
    }

    pub(super) fn is_on(&self) -> bool {
        self.since.is_some()
    }

    pub(super) fn since(&self) -> Option<Instant> {
        self.since
    }

    /// Whether an attempt may be made; where it may, the caller makes it.
    pub(super) fn turn(&mut self, now: Instant) -> OutageTurn {
        match self.since {
            None => OutageTurn::Go,
            Some(_) if self.is_trying => OutageTurn::Wait,
            Some(_) if self.next_trial > now => OutageTurn::WaitUntil(self.next_trial),
            Some(_) => {
                self.is_trying = true;
                OutageTurn::Go
            }
        }
    }

    /// An attempt has ended; `works`: the backend has answered it, be it with a refusal.
    pub(super) fn note(&mut self, works: bool, now: Instant) -> Option<OutageChange> {
        if works {
            (self.failures, self.is_trying) = (0, false);
            return self.since.take().map(|since| OutageChange::Ended(now.saturating_duration_since(since)));
        }
        self.failures = self.failures.saturating_add(1);
        match self.since {
            // One that was under way when the outage began ends as well; no trial is closer than the pause.
            Some(_) => (self.is_trying, self.next_trial) = (false, now + self.trial),
            None if self.failures >= FAILURES_MIN => {
                (self.since, self.next_trial) = (Some(now), now + self.trial);
                return Some(OutageChange::Begun);
            }
            None => {}
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_in_a_row_begin_an_outage_with_one_attempt_at_a_time_and_one_answer_ends_it() {
        let (start, second) = (Instant::now(), Duration::from_secs(1));
        let mut outage = Outage::new(second, start);
        for works in [false, false, true, false, false] {
            assert_eq!(outage.turn(start), OutageTurn::Go);
            assert_eq!(outage.note(works, start), None);
        }
        assert_eq!(outage.note(false, start), Some(OutageChange::Begun));
        assert_eq!(outage.turn(start), OutageTurn::WaitUntil(start + second));
        assert_eq!(outage.turn(start + second), OutageTurn::Go);
        assert_eq!(outage.turn(start + second), OutageTurn::Wait, "one at a time");
        assert_eq!(outage.note(false, start + 2 * second), None);
        assert_eq!(outage.turn(start + 2 * second), OutageTurn::WaitUntil(start + 3 * second));
        assert_eq!(outage.turn(start + 3 * second), OutageTurn::Go);
        let ended = Some(OutageChange::Ended(4 * second));
        assert_eq!(outage.note(true, start + 4 * second), ended);
        assert_eq!([outage.turn(start), outage.turn(start)], [OutageTurn::Go; 2]);
    }
}
