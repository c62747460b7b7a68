//! The loop guard: a header that names the relay which a request has passed, so that a circle of relays is noticed.
//!
//! Two mirrors whose `RELAY_URL` name each other would pass one callback round without end. Each request that a relay
//! sends carries the id of its process, and a mirror with a relay refuses what carries any: the backend stands behind the
//! last mirror, so a second relay is a mistake in the settings.

use hyper::HeaderMap;
use hyper::header::{HeaderName, HeaderValue};

/// The header.
pub(super) const LOOP_GUARD: HeaderName = HeaderName::from_static("x-group-mirror-relay");

/// What the header of a request shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LoopSighting {
    /// This process sent the request itself.
    Own,
    /// Another relay sent it.
    Other,
}

/// The id of one process, new with each start.
#[derive(Debug, Clone)]
pub struct LoopGuard(HeaderValue);

impl LoopGuard {
    /// An id of 64 bits by chance.
    #[must_use]
    pub fn new() -> Self {
        let id = format!("{:016x}", fastrand::u64(..));
        Self(
            HeaderValue::from_str(&id).unwrap_or_else(|_| unreachable!("hex digits are a value of a header")),
        )
    }

    /// Whether a relay has sent these headers; none: no relay has.
    #[must_use]
    pub fn sighting(&self, headers: &HeaderMap) -> Option<LoopSighting> {
        let mut seen = headers.get_all(LOOP_GUARD).iter().peekable();
        seen.peek()?;
        Some(if seen.any(|id| id == self.0) { LoopSighting::Own } else { LoopSighting::Other })
    }

    pub(super) fn mark(&self, headers: &mut HeaderMap) {
        headers.insert(LOOP_GUARD, self.0.clone());
    }
}

impl Default for LoopGuard {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_of_a_relay_is_recognised_and_the_own_one_as_such() {
        let (first, second) = (LoopGuard::new(), LoopGuard::new());
        let mut headers = HeaderMap::new();
        assert_eq!(first.sighting(&headers), None);
        first.mark(&mut headers);
        assert_eq!(first.sighting(&headers), Some(LoopSighting::Own));
        assert_eq!(second.sighting(&headers), Some(LoopSighting::Other));
        headers.append(LOOP_GUARD, second.0.clone());
        assert_eq!(second.sighting(&headers), Some(LoopSighting::Own), "not the first line alone");
    }
}
