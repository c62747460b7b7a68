//! How many callbacks one transaction takes: as many as the server commits in about [`TARGET`].
//!
//! Additive limits do not fit a server whose cost per callback varies by a factor of a hundred (cold cache, slow disk,
//! triggers), so the size adapts to the time that the last batch took. A batch that takes long makes everyone in it wait,
//! holds its locks that long, and costs all of its time again when it is given up.

use std::time::Duration;

use super::commit::BATCH_MAX;

/// A batch of this size or larger grows when it took less.
const TARGET: Duration = Duration::from_millis(200);

/// A batch that took longer makes the next one smaller.
const SHRINK: Duration = Duration::from_millis(400);

/// The size of the next batch.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pace(usize);

impl Pace {
    /// The largest batch: a server is taken for a fast one until it is slow.
    pub(super) fn new() -> Self {
        Self(BATCH_MAX)
    }

    /// At most so many callbacks in the next batch.
    pub(super) fn count(self) -> usize {
        assert!((1..=BATCH_MAX).contains(&self.0), "a batch has at least one callback and keeps its limit");
        self.0
    }

    /// A batch of `count` took so long.
    pub(super) fn took(&mut self, count: usize, time: Duration) {
        if time > SHRINK {
            self.0 = (count / 2).clamp(1, self.0);
        } else if time < TARGET && count >= self.0 {
            self.0 = (self.0 * 2).min(BATCH_MAX);
        }
    }

    /// A batch of `count` was refused as a whole: halves lead to the callback that may be the cause.
    pub(super) fn refused(&mut self, count: usize) {
        self.0 = (count / 2).clamp(1, self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The sizes that a server with this cost per callback is given, one after another.
    fn sizes(cost: Duration, rounds: usize) -> Vec<usize> {
        let mut pace = Pace::new();
        let mut sizes = Vec::new();
        for _ in 0..rounds {
            let count = pace.count();
            sizes.push(count);
            pace.took(count, cost * u32::try_from(count).unwrap());
        }
        sizes
    }

    #[test]
    fn a_slow_server_gets_batches_that_it_commits_in_time_and_a_fast_one_the_largest() {
        assert_eq!(sizes(Duration::from_millis(6), 6), [256, 128, 64, 64, 64, 64]);
        assert_eq!(sizes(Duration::from_micros(50), 3), [BATCH_MAX; 3]);
        assert_eq!(sizes(Duration::from_secs(1), 10)[9], 1);
    }

    #[test]
    fn batches_grow_again_when_the_server_has_become_fast_and_small_ones_say_nothing() {
        let mut pace = Pace::new();
        pace.took(256, Duration::from_secs(1));
        assert_eq!(pace.count(), 128);
        pace.took(1, Duration::from_millis(1));
        assert_eq!(pace.count(), 128, "one callback in a millisecond is no evidence for 256");
        pace.took(128, Duration::from_millis(100));
        assert_eq!(pace.count(), 256);
        pace.took(3, Duration::from_secs(1));
        assert_eq!(pace.count(), 1);
    }
}
