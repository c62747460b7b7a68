//! The only reader of the wall clock, and the times of receipt that are made of it. Everything else takes the time as an
//! argument, so that a test chooses it.
//!
//! A host's clock can jump. Where a callback has no event time its receipt stands in for it, so receipts do not fall when the
//! clock is set back, nor does the next process begin before those of the one before: a destroy received after a create must
//! not seem older. They go on at half speed until the clock has caught up. Beyond [`AHEAD_MAX`] they follow the clock: it
//! was wrong before (a day ahead, say), and receipts that stay ahead of it would win over everything that comes after.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::model::Millis;

/// A difference between the clock and the time that has passed is a jump from here on; less is what time servers correct
/// all the time.
const STEP_MIN: Duration = Duration::from_secs(1);

/// How far receipts may be ahead of the clock.
const AHEAD_MAX: Duration = Duration::from_mins(5);

/// How far the mark of the process before may be ahead of its last receipt: that is no jump.
const MARK_AHEAD_MAX: Duration = Duration::from_secs(3);

/// The wall clock's time; a clock that stands before 1970 reads as 1970.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "the one reader of the clock")]
pub fn now() -> Millis {
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Millis::new(millis(since_1970))
}

/// The same as the system has it, for what is exported with its own resolution.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "the one reader of the clock")]
pub fn system_time() -> SystemTime {
    SystemTime::now()
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

/// A jump of the clock between two receipts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ClockStep {
    /// Receipts wait for the clock.
    Back(i64),
    /// Receipts follow it.
    FarBack(i64),
    Forward(i64),
}

impl ClockStep {
    fn report(self) {
        let (Self::Back(by_ms) | Self::FarBack(by_ms) | Self::Forward(by_ms)) = self;
        let direction = if matches!(self, Self::Forward(_)) { "forward" } else { "back" };
        metrics::counter!("group_mirror_clock_steps_total", "direction" => direction).increment(1);
        match self {
            Self::Back(_) => {
                tracing::warn!(by_ms, "the clock of this host was set back; times of receipt wait for it");
            }
            Self::FarBack(_) => tracing::error!(
                by_ms,
                "the clock of this host was set back so far that times of receipt follow it; topics that changed while it \
                 was ahead may show an older state"
            ),
            Self::Forward(_) => tracing::warn!(by_ms, "the clock of this host was set forward"),
        }
    }
}

/// The last receipt that was given, and what the clock and the time since the start of the machine were then.
#[derive(Debug, Clone, Copy)]
struct LastReceipt {
    receipt: i64,
    wall: i64,
    at: Instant,
}

impl LastReceipt {
    fn going_on_from(mark: i64, wall: i64, at: Instant) -> (Option<Self>, Option<ClockStep>) {
        let ahead = mark.saturating_sub(wall);
        if ahead <= 0 {
            return (None, None);
        }
        if ahead > millis(AHEAD_MAX) {
            return (None, Some(ClockStep::FarBack(ahead)));
        }
        let step = (ahead > millis(MARK_AHEAD_MAX)).then_some(ClockStep::Back(ahead));
        (Some(Self { receipt: mark, wall, at }), step)
    }
}

/// Gives times of receipt that do not fall, unless they are too far ahead of the clock. Cheap to clone; all clones share one order.
#[derive(Debug, Clone, Default)]
pub struct ReceiptClock(Arc<Mutex<Option<LastReceipt>>>);

impl ReceiptClock {
    /// Goes on from the mark that the process before has left: none of its receipts is later. A jump of the clock since then
    /// is reported and counted.
    #[must_use]
    pub fn going_on_from(mark: Option<Millis>, wall: Millis) -> Self {
        let Some(mark) = mark else { return Self::default() };
        let (last, step) = LastReceipt::going_on_from(mark.get(), wall.get(), Instant::now());
        if let Some(step) = step {
            step.report();
        }
        Self(Arc::new(Mutex::new(last)))
    }

    /// The last receipt that was given, or the mark of the process before.
    #[must_use]
    pub fn last(&self) -> Option<Millis> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).map(|last| Millis::new(last.receipt))
    }

    /// The time of a receipt, by what the wall clock says now. A jump is reported and counted.
    #[must_use]
    pub fn receipt(&self, wall: Millis) -> Millis {
        let (receipt, step) = self.receipt_at(wall.get(), Instant::now());
        if let Some(step) = step {
            step.report();
        }
        Millis::new(receipt)
    }

    fn receipt_at(&self, wall: i64, at: Instant) -> (i64, Option<ClockStep>) {
        // Nothing between the lock and the write can leave the value half written.
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(last) = *held else {
            *held = Some(LastReceipt { receipt: wall, wall, at });
            return (wall, None);
        };
        let passed = at.saturating_duration_since(last.at);
        let due = last.receipt.saturating_add(millis(passed / 2));
        if due.saturating_sub(wall) > millis(AHEAD_MAX) {
            *held = Some(LastReceipt { receipt: wall, wall, at });
            return (wall, Some(ClockStep::FarBack(due.saturating_sub(wall))));
        }
        let receipt = wall.max(due);
        assert!(receipt >= last.receipt, "receipts do not fall");
        let off = wall.saturating_sub(last.wall).saturating_sub(millis(passed));
        let step = match off {
            off if off <= -millis(STEP_MIN) => Some(ClockStep::Back(-off)),
            off if off >= millis(STEP_MIN) => Some(ClockStep::Forward(off)),
            _ => None,
        };
        // Half speed counts in whole milliseconds: keep what has not made one yet.
        if receipt > last.receipt || step.is_some() {
            *held = Some(LastReceipt { receipt, wall, at: last.at.max(at) });
        }
        (receipt, step)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn receipts_never_fall_go_on_after_a_jump_back_and_meet_the_clock_again() {
        let (clock, start) = (ReceiptClock::default(), Instant::now());
        let base = 1_767_225_600_000;
        let at = |passed_ms: u64, wall_ms: i64| {
            let (receipt, step) = clock.receipt_at(base + wall_ms, start + Duration::from_millis(passed_ms));
            (receipt - base, step)
        };
        assert_eq!(at(0, 0), (0, None));
        assert_eq!(at(10, 10), (10, None));
        assert_eq!(at(20, -2_980), (15, Some(ClockStep::Back(3_000))), "set back by three seconds");
        assert_eq!(at(21, -2_979).0, 15);
        assert_eq!(at(22, -2_978), (16, None), "half a millisecond is not lost");
        assert_eq!(at(1_022, -1_978), (516, None));
        assert_eq!(at(6_022, 3_022), (3_022, None), "the clock has caught up");
        assert_eq!(at(6_023, 63_023), (63_023, Some(ClockStep::Forward(60_000))));
    }

    #[test]
    fn receipts_follow_a_clock_that_was_far_ahead_and_is_right_again() {
        let (clock, start) = (ReceiptClock::default(), Instant::now());
        let (base, day, bound) = (1_767_225_600_000, 86_400_000, millis(AHEAD_MAX));
        let at = |passed_ms: u64, wall_ms: i64| {
            let (receipt, step) = clock.receipt_at(base + wall_ms, start + Duration::from_millis(passed_ms));
            (receipt - base, step)
        };
        assert_eq!(at(0, 0), (0, None));
        assert_eq!(at(10, day), (day, Some(ClockStep::Forward(day - 10))));
        assert_eq!(
            at(20, 20),
            (20, Some(ClockStep::FarBack(day + 5 - 20))),
            "not a day ahead until a restart"
        );
        assert_eq!(at(30, 30), (30, None));
        assert_eq!(at(32, 31 - bound).0, 31, "as far back as receipts wait for");
        assert_eq!(at(40, 35 - bound), (35, None));
        assert_eq!(at(50, 35 - bound), (35 - bound, Some(ClockStep::FarBack(bound + 5))), "beyond");
    }

    #[test]
    fn the_next_process_goes_on_from_the_mark_of_the_one_before() {
        let (base, bound, start) = (1_767_225_600_000, millis(AHEAD_MAX), Instant::now());
        let first = |mark_ms: i64| {
            let (last, step) = LastReceipt::going_on_from(base + mark_ms, base, start);
            let clock = ReceiptClock(Arc::new(Mutex::new(last)));
            (clock.receipt_at(base, start).0 - base, step)
        };
        assert_eq!(first(-1), (0, None));
        assert_eq!(first(2_000), (2_000, None), "the mark is ahead of the receipts");
        assert_eq!(first(30_000), (30_000, Some(ClockStep::Back(30_000))));
        assert_eq!(first(bound), (bound, Some(ClockStep::Back(bound))));
        assert_eq!(first(bound + 1), (0, Some(ClockStep::FarBack(bound + 1))));
        assert_eq!(first(i64::MAX - base), (0, Some(ClockStep::FarBack(i64::MAX - base))));
    }

    #[test]
    fn small_corrections_are_no_jumps_and_one_order_holds_for_all_clones() {
        let (clock, start) = (ReceiptClock::default(), Instant::now());
        let other = clock.clone();
        assert_eq!(clock.receipt_at(1_000, start), (1_000, None));
        assert_eq!(other.receipt_at(900, start + Duration::from_millis(1)), (1_000, None));
        assert_eq!(clock.receipt_at(1_002, start + Duration::from_millis(102)), (1_051, None));
    }
}
