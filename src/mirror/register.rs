//! The register: one value with its stamp, a last-writer-wins register in the terms of CRDTs.
//!
//! [`Register::set`] is the only place in Rust that decides which of two values is newer. Its twin in SQL is the bare `>`
//! of the upserts; a test compares both.

use crate::model::Stamp;

/// One value with its stamp.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Register<T> {
    /// How new the value is; zero: never set.
    pub stamp: Stamp,
    /// The newest value.
    pub value: T,
}

impl<T: Default> Default for Register<T> {
    fn default() -> Self {
        Self { stamp: Stamp::ZERO, value: T::default() }
    }
}

impl<T> Register<T> {
    /// The one rule: the greater stamp wins, and replaces the stamp when the value is equal. Equal stamps come from
    /// one body, which speaks of each key once.
    pub fn set(&mut self, stamp: Stamp, value: T) {
        if stamp > self.stamp {
            *self = Self { stamp, value };
        }
    }

    /// Joins with another register of the same key.
    pub(super) fn merge(&mut self, other: Self) {
        self.set(other.stamp, other.value);
    }
}

/// A barrier only grows.
pub(super) fn raise(barrier: &mut Stamp, stamp: Stamp) {
    *barrier = stamp.max(*barrier);
}
