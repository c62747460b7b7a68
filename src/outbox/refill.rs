//! What the queue of an app asks of the database, and what it makes of the answers.
//!
//! Pure, as the queue itself. Groups whose next callbacks have to be read are hungry; while memory is short none is read.

use std::sync::Arc;
use std::time::Instant;

use super::delivery::{Fingerprint, OutboxDelivery};
use super::group::{Held, HeldState};
use super::queue::AppQueue;

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
        if self.bytes > self.bytes_max / 2 {
            return Vec::new();
        }
        let max = if self.outage.is_on() { usize::from(!self.has_ready(now)) } else { max };
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::model::Millis;
    use crate::outbox::pace::{AttemptVerdict, DeliveryPauses};
    use crate::outbox::turn::{Settled, Turn};
    use crate::store::outbox::{EntryKey, KeptRequest, WaitingRow};

    fn key(group: &str) -> EntryKey {
        EntryKey { sdk_app_id: 1_400_000_001, group_id: group.to_owned(), time_ms: 1, digest: vec![7] }
    }

    /// Received at the epoch, so that it is older than a callback is tried for.
    fn kept(group: &str, again: bool) -> OutboxDelivery {
        let row = WaitingRow {
            order_key: group.to_owned(),
            key: key(group),
            origin: 1,
            received_ms: 0,
            position: 1,
            request_time: None,
            attempts: 0,
            failure: None,
            again,
            body_bytes: Some(2),
        };
        let request = KeptRequest {
            key: key(group),
            command: String::new(),
            query_command: None,
            client_ip: None,
            platform: None,
            request_id: None,
            query: None,
            content_type: None,
            body: b"{}".to_vec(),
        };
        OutboxDelivery::kept(row, request)
    }

    fn queue(now: Instant) -> AppQueue {
        AppQueue::new((DeliveryPauses::default(), 1024 * 1024), true, now)
    }

    fn read_group(queue: &mut AppQueue, group: &str, again: bool, now: Instant) -> Arc<str> {
        let order_key: Arc<str> = group.into();
        queue.found(&order_key, now);
        assert_eq!(queue.take_hungry(16, now), [Arc::clone(&order_key)]);
        queue.read(&order_key, Some((vec![kept(group, again)], true)), now);
        order_key
    }

    fn failed_once(queue: &mut AppQueue, now: Instant, clock: Millis) -> Settled {
        let Turn::Deliver(taken) = queue.take(now) else { panic!("nothing is ready") };
        let verdict = (AttemptVerdict::Retry("timeout".to_owned()), true);
        queue.settle((&taken.order_key, taken.ticket), verdict, (now, clock))
    }

    #[test]
    fn in_an_outage_a_group_that_waits_for_its_next_attempt_keeps_no_other_from_being_read() {
        let now = Instant::now();
        let mut queue = queue(now);
        let first = read_group(&mut queue, "first", false, now);
        // Held, and due in some minutes.
        if let Some(group) = queue.groups.get_mut(&first) {
            group.due = now + Duration::from_mins(5);
        }
        queue.list(&first);
        for _ in 0..3 {
            queue.outage.note(false, now);
        }
        assert!(queue.outage.is_on());
        let second: Arc<str> = "second".into();
        queue.found(&second, now);
        assert_eq!(queue.take_hungry(16, now), [second], "the next trial is made with it");
    }

    #[test]
    fn an_old_callback_is_skipped_when_it_fails_and_one_that_was_queued_by_hand_is_tried_again() {
        let now = Instant::now();
        let week = Millis::new(7 * 86_400_000);
        for (again, settled) in [(false, Settled::Skipped), (true, Settled::Waits)] {
            let mut queue = queue(now);
            read_group(&mut queue, "g", again, now);
            assert_eq!(failed_once(&mut queue, now, week), settled, "again: {again}");
        }
    }
}
