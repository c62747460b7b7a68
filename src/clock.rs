//! The only reader of the wall clock. Everything else takes the time as an argument.
//!
//! One reader keeps receipt times comparable and lets a test choose the time of whatever it calls directly.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::model::Millis;

/// The wall clock's time; a clock that stands before 1970 reads as 1970.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "the one reader of the clock")]
pub fn now() -> Millis {
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Millis::new(i64::try_from(since_1970.as_millis()).unwrap_or(i64::MAX))
}
