//! What the queue of an app learns from the writer, and what it answers a worker.
//!
//! Plain values, which queue and workers share.

use std::sync::Arc;
use std::time::Instant;

use super::delivery::OutboxDelivery;

/// What the ledger made of a callback.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum EntryNews {
    /// It is new there, and this process delivers it.
    Mine,
    /// The same, and entries of its group come before it that this process does not hold.
    MineBehindOthers,
    /// Another process delivers it, with its group.
    Theirs,
    /// It was there already.
    Known,
}

/// A callback whose turn it is.
#[derive(Debug)]
pub(super) struct TakenDelivery {
    pub(super) order_key: Arc<str>,
    pub(super) ticket: u64,
    pub(super) delivery: OutboxDelivery,
}

/// What a worker does next.
#[derive(Debug)]
pub(super) enum Turn {
    /// Delivers this.
    Deliver(Box<TakenDelivery>),
    /// Waits until then, or until it is woken.
    WaitUntil(Instant),
    /// Waits until it is woken.
    Wait,
}

/// What came of an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Settled {
    Delivered { was_late: bool, with_code: bool },
    Waits,
    Skipped,
}
