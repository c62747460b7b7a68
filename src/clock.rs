//! The only reader of the wall clock, and the times of receipt that are made of it. Everything else takes the time as an
//! argument, so that a test chooses it.
//!
//! A host's clock can jump. Where a callback has no event time its receipt stands in for it, so receipts of one process
//! never fall: a create received after a destroy must not seem older. After a jump back they go on at half speed until
//! the clock has caught up.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::model::Millis;

/// A difference between the clock and the time that has passed is a jump from here on; less is what time servers correct
/// all the time.
const STEP_MIN: Duration = Duration::from_secs(1);

/// The wall clock's time; a clock that stands before 1970 reads as 1970.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "the one reader of the clock")]
pub fn now() -> Millis {
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Millis::new(millis(since_1970))
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

/// A jump of the clock between two receipts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ClockStep {
    Back(i64),
    Forward(i64),
}

/// The last receipt that was given, and what the clock and the time since the start of the machine were then.
#[derive(Debug, Clone, Copy)]
struct LastReceipt {
    receipt: i64,
    wall: i64,
    at: Instant,
}

/// Gives times of receipt that never fall. Cheap to clone; all clones share one order.
#[derive(Debug, Clone, Default)]
pub struct ReceiptClock(Arc<Mutex<Option<LastReceipt>>>);

impl ReceiptClock {
    /// The time of a receipt, by what the wall clock says now. A jump is reported and counted.
    #[must_use]
    pub fn receipt(&self, wall: Millis) -> Millis {
        let (receipt, step) = self.receipt_at(wall.get(), Instant::now());
        match step {
            None => {}
            Some(ClockStep::Back(by_ms)) => {
                metrics::counter!("group_mirror_clock_steps_total", "direction" => "back").increment(1);
                tracing::warn!(by_ms, "the clock of this host was set back; times of receipt wait for it");
            }
            Some(ClockStep::Forward(by_ms)) => {
                metrics::counter!("group_mirror_clock_steps_total", "direction" => "forward").increment(1);
                tracing::warn!(by_ms, "the clock of this host was set forward");
            }
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
        let receipt = wall.max(last.receipt.saturating_add(millis(passed / 2)));
        assert!(receipt >= last.receipt, "receipts never fall");
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
    fn small_corrections_are_no_jumps_and_one_order_holds_for_all_clones() {
        let (clock, start) = (ReceiptClock::default(), Instant::now());
        let other = clock.clone();
        assert_eq!(clock.receipt_at(1_000, start), (1_000, None));
        assert_eq!(other.receipt_at(900, start + Duration::from_millis(1)), (1_000, None));
        assert_eq!(clock.receipt_at(1_002, start + Duration::from_millis(102)), (1_051, None));
    }
}
