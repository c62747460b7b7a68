//! The stretch of time that a timeline shows, cut into equal buckets.
//!
//! Bounds are whole milliseconds, as event times are. A bucket is later than its begin and not later than its end, where the
//! next one begins, so each entry stands in exactly one and a bucket's end is a moment that an as-of read can name. Pure.

use crate::model::Millis;
use crate::store::timeline::LedgerSpan;

/// Which part of a group's life, in how many buckets at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimeRange {
    /// Only later than this; `None`: from the first entry on.
    pub after: Option<Millis>,
    /// Only earlier than this; `None`: up to and with the last entry.
    pub before: Option<Millis>,
    /// How many buckets; fewer where there are fewer milliseconds.
    pub buckets: u16,
}

/// A range with the bounds that it has for one group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Window {
    after: i64,
    until: i64,
    buckets: usize,
}

impl Window {
    /// The range as far as it is said, else the span of the ledger.
    pub(super) fn of(range: TimeRange, span: LedgerSpan) -> Self {
        let after = range.after.map_or(span.first_ms.saturating_sub(1), Millis::get);
        let until = range.before.map_or(span.last_ms, |before| before.get().saturating_sub(1));
        let length = usize::try_from(until.saturating_sub(after)).unwrap_or_default();
        Self { after, until, buckets: length.min(range.buckets.into()) }
    }

    /// How many buckets there are; none where no millisecond lies in the range.
    pub(super) fn buckets(&self) -> usize {
        self.buckets
    }

    /// The last moment.
    pub(super) fn end(&self) -> i64 {
        self.until
    }

    /// Where a bucket begins, in Unix milliseconds; that of the number behind the last one is the end.
    pub(super) fn bound(&self, number: usize) -> i64 {
        assert!(number <= self.buckets, "bucket {number} of {}", self.buckets);
        if number == self.buckets {
            return self.until.max(self.after);
        }
        // In 128 bits, because a window may be longer than the greatest time.
        let length = i128::from(self.until) - i128::from(self.after);
        let bound = i128::from(self.after) + length * number as i128 / self.buckets as i128;
        let Ok(bound) = i64::try_from(bound) else { unreachable!("a bound lies between begin and end") };
        bound
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn window(after: Option<i64>, before: Option<i64>, buckets: u16) -> Window {
        let span = LedgerSpan { first_ms: 1_000, last_ms: 2_000 };
        let range = TimeRange { after: after.map(Millis::new), before: before.map(Millis::new), buckets };
        Window::of(range, span)
    }

    fn bounds(window: &Window) -> Vec<i64> {
        (0..=window.buckets()).map(|number| window.bound(number)).collect()
    }

    #[test]
    fn without_bounds_the_window_is_the_span_of_the_ledger_with_both_ends() {
        assert_eq!(bounds(&window(None, None, 4)), [999, 1_249, 1_499, 1_749, 2_000]);
        assert_eq!(bounds(&window(Some(1_000), Some(2_000), 3)), [1_000, 1_333, 1_666, 1_999]);
    }

    #[test]
    fn there_are_no_more_buckets_than_milliseconds_and_none_in_an_empty_window() {
        assert_eq!(bounds(&window(Some(1_997), None, 60)), [1_997, 1_998, 1_999, 2_000]);
        for (after, before) in [(Some(2_000), None), (None, Some(1_000)), (Some(i64::MAX), Some(i64::MIN))] {
            assert_eq!(window(after, before, 60).buckets(), 0, "{after:?} {before:?}");
        }
    }

    proptest! {
        #[test]
        fn the_bounds_grow_from_the_begin_to_the_end(after: i64, before: i64, buckets in 1..=500_u16) {
            let window = window(Some(after), Some(before), buckets);
            let bounds = bounds(&window);
            prop_assert!(bounds.is_sorted_by(|a, b| a < b));
            prop_assert_eq!(bounds[0], after);
            if window.buckets() > 0 {
                prop_assert_eq!(bounds.last(), Some(&(before - 1)));
            }
        }
    }
}
