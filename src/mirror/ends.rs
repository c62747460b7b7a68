//! The ends of a group's earlier lives: a grow-only set (G-set) of stamps, bounded by keeping the greatest.
//!
//! A group row keeps its newest create and its newest destroy as registers and barriers of their own. Where a callback
//! displaces one of them, or is older than it, the older stamp is noted here, so that a stay of an earlier life shows the
//! end of that life and not of a later one. A group that was created once and destroyed once has an empty set, so that
//! nothing is stored, sent or compared for it. The N greatest of a union do not depend on the order in which the parts are
//! joined: what one part dropped has N greater ones in every union. Twin of `earlier_ends` in the upsert of `groups`.

use crate::model::Stamp;

/// How many ends a group keeps beside its newest create and newest destroy: some 16 lives. At the limit the oldest ones
/// are dropped, and a stay that one of those ended shows the oldest kept end after it.
pub const EARLIER_ENDS_MAX: usize = 32;

/// Stamps of creates and destroys, the greatest first, each once.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ends {
    /// As stored: one stamp behind the other, [`Stamp::BYTES`] each.
    bytes: Vec<u8>,
}

impl Ends {
    /// As stored: empty for none.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Each of them, the greatest first.
    pub fn stamps(&self) -> impl Iterator<Item = Stamp> {
        self.bytes.chunks_exact(Stamp::BYTES).filter_map(Stamp::from_bytes)
    }

    /// Notes the lesser of two stamps of one kind; nothing where they are one, or where one of them is "never".
    pub(super) fn displace(&mut self, one: Stamp, other: Stamp) {
        if one != other && !one.is_zero() && !other.is_zero() {
            self.insert(one.min(other));
        }
    }

    /// Joins with another set.
    pub(super) fn merge(&mut self, other: &Self) {
        other.stamps().for_each(|stamp| self.insert(stamp));
    }

    fn insert(&mut self, stamp: Stamp) {
        let greater = self.stamps().take_while(|kept| *kept > stamp).count();
        if greater == EARLIER_ENDS_MAX || self.stamps().nth(greater) == Some(stamp) {
            return;
        }
        let at = greater * Stamp::BYTES;
        self.bytes.splice(at..at, stamp.as_bytes().iter().copied());
        self.bytes.truncate(EARLIER_ENDS_MAX * Stamp::BYTES);
        assert!(self.bytes.len().is_multiple_of(Stamp::BYTES), "whole stamps: {} bytes", self.bytes.len());
    }
}
