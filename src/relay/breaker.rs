//! The circuit breaker in front of a backend: while it is open, nothing waits for a backend that does not answer.
//!
//! It opens after some time-outs in a row, or when half of the last calls failed; without it every user action of the app
//! would wait as long as a call may last. While it is open one call in some seconds is let through as a trial, and an
//! answer to a trial closes it. Results of calls that began before it opened or closed say nothing of the time after, so
//! they are dropped. The time is handed in.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// This many time-outs in a row open it.
const TIMEOUTS_IN_A_ROW: usize = 5;

/// How many results are looked at; half of this number of failures among them opens it.
const RESULTS_KEPT: usize = 20;

/// Time from one trial to the next.
const TRIAL_PERIOD: Duration = Duration::from_secs(5);

/// What came of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CallResult {
    /// An answer that can be used.
    Answered,
    /// No answer in the time that a call has.
    TimedOut,
    /// No answer for another reason, or one that cannot be used.
    Failed,
}

/// What the breaker did on a result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BreakerMove {
    /// It opened.
    Opened,
    /// It closed.
    Closed,
}

/// Leave for one call, to be handed back with its result; one that is dropped says nothing of the backend.
#[derive(Debug)]
#[must_use]
pub(super) struct CallTicket {
    /// How often the breaker had moved when the call began.
    moves: u64,
}

/// The breaker of one kind of call.
#[derive(Debug, Default)]
pub(super) struct BackendBreaker(Mutex<BreakerState>);

#[derive(Debug, Default)]
struct BreakerState {
    /// The latest results, the newest last.
    results: VecDeque<CallResult>,
    /// Open, with the time of the next trial; none: closed.
    next_trial: Option<Instant>,
    moves: u64,
}

impl BackendBreaker {
    /// Leave for a call; none while the breaker is open and no trial is due.
    pub(super) fn admit(&self, now: Instant) -> Option<CallTicket> {
        let mut state = self.state();
        if let Some(next_trial) = &mut state.next_trial {
            if now < *next_trial {
                return None;
            }
            *next_trial = now + TRIAL_PERIOD;
        }
        Some(CallTicket { moves: state.moves })
    }

    /// Takes the result of a call.
    pub(super) fn settle(
        &self,
        ticket: &CallTicket,
        result: CallResult,
        now: Instant,
    ) -> Option<BreakerMove> {
        let mut state = self.state();
        if ticket.moves != state.moves {
            return None;
        }
        match (state.next_trial, result) {
            (Some(_), CallResult::Answered) => {
                state.next_trial = None;
                state.begin_anew();
                Some(BreakerMove::Closed)
            }
            (Some(_), _) => {
                state.next_trial = Some(now + TRIAL_PERIOD);
                None
            }
            (None, result) => {
                state.keep(result);
                state.is_failing().then(|| {
                    state.next_trial = Some(now + TRIAL_PERIOD);
                    state.begin_anew();
                    BreakerMove::Opened
                })
            }
        }
    }

    /// True while no call would be made, a trial included.
    pub(super) fn is_waiting_for_trial(&self, now: Instant) -> bool {
        self.state().next_trial.is_some_and(|next_trial| now < next_trial)
    }

    /// True while calls are not made, trials aside.
    pub(super) fn is_open(&self) -> bool {
        self.state().next_trial.is_some()
    }

    fn state(&self) -> MutexGuard<'_, BreakerState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl BreakerState {
    fn keep(&mut self, result: CallResult) {
        if self.results.len() == RESULTS_KEPT {
            self.results.pop_front();
        }
        self.results.push_back(result);
        assert!(self.results.len() <= RESULTS_KEPT, "the window keeps its size");
    }

    fn is_failing(&self) -> bool {
        let latest = self.results.iter().rev();
        let in_a_row = latest.take_while(|result| **result == CallResult::TimedOut).count();
        let failures = self.results.iter().filter(|result| **result != CallResult::Answered).count();
        in_a_row >= TIMEOUTS_IN_A_ROW || failures * 2 >= RESULTS_KEPT
    }

    fn begin_anew(&mut self) {
        self.results.clear();
        self.moves += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settled(breaker: &BackendBreaker, results: &[CallResult], now: Instant) -> Option<BreakerMove> {
        let mut moved = None;
        for result in results {
            let ticket = breaker.admit(now).unwrap();
            moved = breaker.settle(&ticket, *result, now);
        }
        moved
    }

    #[test]
    fn five_time_outs_in_a_row_open_it_and_an_answer_between_does_not() {
        use CallResult::{Answered, TimedOut};
        let (breaker, now) = (BackendBreaker::default(), Instant::now());
        assert_eq!(settled(&breaker, &[TimedOut; 4], now), None);
        assert_eq!(settled(&breaker, &[Answered], now), None);
        assert_eq!(settled(&breaker, &[TimedOut; 4], now), None);
        assert!(!breaker.is_open());
        assert_eq!(settled(&breaker, &[TimedOut], now), Some(BreakerMove::Opened));
        assert!(breaker.is_open());
        assert!(breaker.admit(now).is_none());
    }

    #[test]
    fn half_of_the_last_twenty_calls_open_it_and_older_ones_do_not_count() {
        use CallResult::{Answered, Failed};
        let (breaker, now) = (BackendBreaker::default(), Instant::now());
        assert_eq!(settled(&breaker, &[Failed; 9], now), None);
        assert_eq!(settled(&breaker, &[Answered; 20], now), None);
        assert_eq!(settled(&breaker, &[Failed; 9], now), None);
        assert_eq!(settled(&breaker, &[Answered; 2], now), None);
        assert_eq!(settled(&breaker, &[Failed], now), Some(BreakerMove::Opened));
    }

    #[test]
    fn one_call_in_five_seconds_is_a_trial_and_its_answer_closes_it() {
        use CallResult::{Answered, Failed, TimedOut};
        let (breaker, begun) = (BackendBreaker::default(), Instant::now());
        assert_eq!(settled(&breaker, &[TimedOut; 5], begun), Some(BreakerMove::Opened));
        let due = begun + TRIAL_PERIOD;
        assert!(breaker.admit(due - Duration::from_millis(1)).is_none());
        let trial = breaker.admit(due).unwrap();
        assert!(breaker.admit(due).is_none(), "one trial at a time");
        assert_eq!(breaker.settle(&trial, Failed, due + Duration::from_secs(1)), None);
        assert!(breaker.admit(due + TRIAL_PERIOD).is_none(), "the period begins with the result");
        let again = due + Duration::from_secs(1) + TRIAL_PERIOD;
        drop(breaker.admit(again).unwrap());
        let trial = breaker.admit(again + TRIAL_PERIOD).unwrap();
        assert_eq!(breaker.settle(&trial, Answered, again + TRIAL_PERIOD), Some(BreakerMove::Closed));
        assert!(breaker.admit(again + TRIAL_PERIOD).is_some());
        assert!(!breaker.is_open());
    }

    #[test]
    fn calls_that_began_before_it_moved_neither_close_nor_open_it() {
        use CallResult::{Answered, TimedOut};
        let (breaker, begun) = (BackendBreaker::default(), Instant::now());
        let old = breaker.admit(begun).unwrap();
        assert_eq!(settled(&breaker, &[TimedOut; 5], begun), Some(BreakerMove::Opened));
        assert_eq!(breaker.settle(&old, Answered, begun), None);
        assert!(breaker.is_open());
        let trial = breaker.admit(begun + TRIAL_PERIOD).unwrap();
        assert_eq!(breaker.settle(&trial, Answered, begun + TRIAL_PERIOD), Some(BreakerMove::Closed));
        assert_eq!(breaker.settle(&old, TimedOut, begun), None);
        assert_eq!(settled(&breaker, &[TimedOut; 4], begun), None, "the old one is not among the five");
    }
}
