//! What a failed call leads to: another attempt after a pause, or its end.
//!
//! Pauses follow an exponential back-off with jitter, so that calls that failed together do not come again together.
//! Every kind of repetition has a maximum; behind it the caller gets the error and counts the question as unknown.

use std::time::Duration;

/// How often one call is repeated after passing faults.
pub const AGAIN_REPEATS_MAX: u32 = 6;

/// How often one call is repeated after rate codes.
pub const RATE_REPEATS_MAX: u32 = 10;

/// How often one call is made again with another UserSig.
pub const SIGNATURE_REPEATS_MAX: u32 = 2;

/// How often one call waits because of too many bad signatures.
pub const BAN_REPEATS_MAX: u32 = 2;

/// Pauses between attempts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pauses {
    /// The first one after a passing fault.
    pub again: Duration,
    /// The first one after a rate code.
    pub rate: Duration,
    /// The longest of both.
    pub longest: Duration,
    /// Silence of all calls after too many bad signatures.
    pub ban: Duration,
}

impl Default for Pauses {
    fn default() -> Self {
        Self {
            again: Duration::from_millis(200),
            rate: Duration::from_secs(1),
            longest: Duration::from_secs(10),
            ban: Duration::from_secs(60),
        }
    }
}

/// The pause before repetition number `repeat`, which begins at 1: `first` × 2ⁿ, at most `longest`, of which `chance` (0
/// to 1) settles the second half.
#[must_use]
pub fn back_off(first: Duration, longest: Duration, repeat: u32, chance: f64) -> Duration {
    assert!(repeat >= 1 && (0.0..=1.0).contains(&chance), "a repetition, and a chance");
    let doubled = first.saturating_mul(1_u32.checked_shl(repeat - 1).unwrap_or(u32::MAX));
    doubled.min(longest).mul_f64(0.5 + chance / 2.0)
}

/// The repetitions of one call so far.
#[derive(Debug, Default)]
pub(super) struct Repeats {
    pub(super) again: u32,
    pub(super) rate: u32,
    pub(super) banned: u32,
    pub(super) signature: u32,
    /// Time-outs of Tencent's own without another answer between them.
    pub(super) server_timeouts: u32,
}
