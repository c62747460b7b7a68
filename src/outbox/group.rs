//! What is known of one group: the callbacks of it that are in memory, in order, and whether more of it waits in the
//! database.
//!
//! Pure. A callback is held from the moment it is submitted, so that the order is that of receipt, and may be delivered once it
//! is durable. While a part of the group waits in the database alone, nothing that comes after it is held.

use std::collections::VecDeque;
use std::time::Instant;

use super::delivery::{Fingerprint, OutboxDelivery};

/// How durable a callback in memory is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum HeldState {
    /// Not known to be durable.
    Reserved,
    /// In the spool of this process alone: no other place has it.
    Spooled,
    /// In the ledger, and in the outbox until it is delivered.
    Entered,
}

/// A callback in memory.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) ticket: u64,
    pub(super) delivery: OutboxDelivery,
    pub(super) state: HeldState,
}

/// One group, or one callback without a group.
#[derive(Debug)]
pub(super) struct GroupQueue {
    pub(super) held: VecDeque<Held>,
    /// The first of those held is being delivered.
    pub(super) in_flight: bool,
    /// The database may have more of it than is held; all of that comes behind.
    pub(super) more: bool,
    /// More has come since the database was last asked.
    pub(super) changed: bool,
    /// The database is being asked.
    pub(super) reading: bool,
    /// When the next attempt is due.
    pub(super) due: Instant,
    /// The backend has refused the first one, which gets one more attempt.
    pub(super) refused: bool,
    /// Where it stands in the sets of the queue.
    pub(super) listed: Listing,
}

/// In which set a group stands, and under which moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Listing {
    /// Nothing to do now.
    None,
    /// The first of those held can be delivered.
    Ready(Instant),
    /// The database has to be asked for what comes first.
    Hungry(Instant),
}

impl GroupQueue {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            held: VecDeque::new(),
            in_flight: false,
            more: false,
            changed: false,
            reading: false,
            due: now,
            refused: false,
            listed: Listing::None,
        }
    }

    /// What there is to do for it.
    pub(super) fn wanted_listing(&self) -> Listing {
        match self.held.front() {
            _ if self.in_flight || self.reading => Listing::None,
            Some(first) if first.state != HeldState::Reserved => Listing::Ready(self.due),
            None if self.more => Listing::Hungry(self.due),
            _ => Listing::None,
        }
    }

    /// Whether nothing is left to be known of it.
    pub(super) fn is_over(&self) -> bool {
        self.held.is_empty() && !self.in_flight && !self.more && !self.reading
    }

    pub(super) fn note_more(&mut self) {
        (self.more, self.changed) = (true, true);
    }

    /// Where a callback with this ticket is, and where the first one is that has this name and fits.
    pub(super) fn by_ticket(&self, ticket: u64) -> Option<usize> {
        self.held.iter().position(|held| held.ticket == ticket)
    }

    pub(super) fn by_name(&self, name: Fingerprint, fits: impl Fn(HeldState) -> bool) -> Option<usize> {
        self.held.iter().position(|held| held.delivery.name == name && fits(held.state))
    }

    /// Leaves to the database what it has or will have, but for the callback in flight and what only the spool has; answers how
    /// many bytes that held.
    pub(super) fn leave_to_database(&mut self) -> usize {
        let in_flight = usize::from(self.in_flight);
        let (mut bytes, mut at) = (0, 0);
        self.held.retain(|held| {
            at += 1;
            let stays = at <= in_flight || held.state == HeldState::Spooled;
            bytes += if stays { 0 } else { held.delivery.bytes() };
            stays
        });
        self.note_more();
        bytes
    }

    /// Drops what the database has as well, from the end, and answers how many bytes that held.
    pub(super) fn drop_entered(&mut self) -> usize {
        let mut bytes = 0;
        while self.held.back().is_some_and(|last| last.state == HeldState::Entered) {
            if let Some(last) = self.held.pop_back() {
                bytes += last.delivery.bytes();
                self.note_more();
            }
        }
        bytes
    }
}
