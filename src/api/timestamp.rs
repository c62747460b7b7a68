//! How a time is written for readers, and which times a reader can be shown.
//!
//! Rows hold times of the database or Unix milliseconds of a stamp; every view holds a [`Timestamp`], so that all times
//! of the API have one form and one range.

use std::fmt;

use chrono::{DateTime, SecondsFormat, Utc};
use serde::{Serialize, Serializer};

/// A time that is written as RFC 3339 in UTC with exactly three decimals and `Z`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Timestamp(pub DateTime<Utc>);

/// 9999-12-31T23:59:59.999Z in Unix milliseconds: years of RFC 3339 have four digits.
const TIME_MS_MAX: i64 = 253_402_300_799_999;

impl Timestamp {
    /// `None` before 1970 and after 9999, which no callback and no cursor of ours can mean.
    pub(super) fn of_millis(millis: i64) -> Option<Self> {
        let in_range = (0..=TIME_MS_MAX).contains(&millis);
        DateTime::from_timestamp_millis(millis).filter(|_| in_range).map(Self)
    }

    /// The nearest time in Unix milliseconds that a reader can be shown.
    pub(super) fn clamped(millis: i64) -> i64 {
        millis.clamp(0, TIME_MS_MAX)
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.to_rfc3339_opts(SecondsFormat::Millis, true))
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}
