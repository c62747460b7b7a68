//! What the queue of an app asks of the database, and what it makes of the answers.
//!
//! Pure, as the queue itself. Groups whose next callbacks have to be read are hungry; while memory is short none is read.

use std::sync::Arc;
use std::time::Instant;

use super::delivery::{Fingerprint, OutboxDelivery};
use super::group::{Held, HeldState};
use super::queue::{AppQueue, HELD_BYTES_MAX};

impl AppQueue {
    /// What was noted in the database need not be known any more.
    pub(super) fn noted(&mut self, names: impl Iterator<Item = Fingerprint>) {
        for name in names {
            self.delivered.remove(&name);
        }
    }

    /// The database is asked for all groups of this process.
    pub(super) fn begin_listing(&mut self) {
        self.was_left_out = false;
    }

    /// All groups that the database has were found.
    pub(super) fn end_listing(&mut self) {
        self.has_unlisted = self.was_left_out;
    }

    /// Up to so many groups whose next callbacks have to be read; none while memory is short, and during an outage what one
    /// attempt needs.
    pub(super) fn take_hungry(&mut self, max: usize, now: Instant) -> Vec<Arc<str>> {
        if self.bytes > HELD_BYTES_MAX / 2 {
            return Vec::new();
        }
        let max = if self.outage.is_on() { usize::from(self.ready.is_empty()) } else { max };
        let due = self.hungry.iter().take_while(|(due, _)| *due <= now).take(max);
        let taken: Vec<Arc<str>> = due.map(|(_, order_key)| Arc::clone(order_key)).collect();
        for order_key in &taken {
            if let Some(group) = self.groups.get_mut(order_key) {
                (group.reading, group.changed) = (true, false);
            }
            self.list(order_key);
        }
        taken
    }

    /// When the next group is hungry.
    pub(super) fn next_hungry(&self) -> Option<Instant> {
        self.hungry.first().map(|(due, _)| *due)
    }

    /// What was read of a group; none: it could not be read.
    pub(super) fn read(
        &mut self,
        order_key: &Arc<str>,
        read: Option<(Vec<OutboxDelivery>, bool)>,
        now: Instant,
    ) {
        let Some(group) = self.groups.get_mut(order_key) else {
            unreachable!("a group stays known while it is read")
        };
        group.reading = false;
        if let Some((deliveries, is_all)) = read {
            group.more = group.changed || !is_all;
            for delivery in deliveries {
                if self.delivered.contains(&delivery.name) {
                    // Delivered, and not noted yet.
                    self.notes.delivered.push((delivery.key, delivery.name));
                    continue;
                }
                self.tickets += 1;
                let held = Held { ticket: self.tickets, delivery, state: HeldState::Entered };
                self.push(order_key, held, now);
            }
        }
        self.list(order_key);
    }
}
