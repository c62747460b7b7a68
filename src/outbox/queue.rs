//! The queue of one app in memory: which groups can be delivered now, which wait, and of which the database has to be asked.
//!
//! Pure bookkeeping, with the time handed in. One callback of a group is in flight at a time, and a group whose first
//! callback has failed waits alone (head-of-line blocking inside the group, none between groups). Memory has a limit: what
//! comes beyond it, and the callbacks of a group that has failed, are left to the database, which has all of them. What
//! was delivered stays known by its name until the database has noted it, so that it is not read once more.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::Instant;

use super::delivery::{Fingerprint, OutboxDelivery};
use super::group::{GroupQueue, Held, HeldState, Listing};
use super::notes::Notes;
use super::outage::{Outage, OutageTurn};
use super::pace::{AttemptVerdict, DeliveryPauses};
use super::turn::{EntryNews, Settled, TakenDelivery, Turn};
use crate::model::Millis;
use crate::store::outbox::EntryKey;

/// How many groups of one app may be known. Beyond it the database is asked for the rest.
const GROUPS_MAX: usize = 50_000;

/// How many names of what was delivered while the ledger did not have it are kept. Beyond it a callback is delivered a
/// second time when it comes to the ledger.
const DELIVERED_MAX: usize = 500_000;

/// The queue of one app.
#[derive(Debug)]
pub(super) struct AppQueue {
    pub(super) groups: HashMap<Arc<str>, GroupQueue>,
    pub(super) ready: BTreeSet<(Instant, Arc<str>)>,
    pub(super) hungry: BTreeSet<(Instant, Arc<str>)>,
    pub(super) bytes: usize,
    /// How many bytes of callbacks it may hold.
    pub(super) bytes_max: usize,
    pub(super) tickets: u64,
    pub(super) delivered: HashSet<Fingerprint>,
    pauses: DeliveryPauses,
    pub(super) notes: Notes,
    pub(super) outage: Outage,
    /// A callback that is not held went to the spool: nothing is held until the spool is empty, or the order of its group
    /// would not be kept.
    has_overflowed: bool,
    /// The database may have groups for this process that are not known: those of the run before, or too many. Until all of
    /// them are known no callback of another group is held.
    pub(super) has_unlisted: bool,
    /// One was left out since [`AppQueue::begin_listing`].
    pub(super) was_left_out: bool,
}

impl AppQueue {
    /// `is_new`: the database has nothing for this process.
    pub(super) fn new((pauses, bytes_max): (DeliveryPauses, usize), is_new: bool, now: Instant) -> Self {
        Self {
            groups: HashMap::new(),
            ready: BTreeSet::new(),
            hungry: BTreeSet::new(),
            bytes: 0,
            bytes_max,
            tickets: 0,
            delivered: HashSet::new(),
            pauses,
            notes: Notes::default(),
            outage: Outage::new(pauses.trial, now),
            // The spool may hold callbacks of the run before.
            has_overflowed: true,
            has_unlisted: !is_new,
            was_left_out: false,
        }
    }

    /// Holds a callback that is being made durable; none where it is left to the database.
    pub(super) fn reserve(
        &mut self,
        order_key: &Arc<str>,
        delivery: OutboxDelivery,
        is_spool_empty: bool,
        now: Instant,
    ) -> Option<u64> {
        let bytes = delivery.bytes();
        let is_full = self.is_behind_spool(is_spool_empty) || self.bytes + bytes > self.bytes_max;
        let group = self.group(order_key, now)?;
        if is_full || group.more {
            group.note_more();
            self.list(order_key);
            return None;
        }
        self.tickets += 1;
        let ticket = self.tickets;
        self.push(order_key, Held { ticket, delivery, state: HeldState::Reserved }, now);
        Some(ticket)
    }

    /// Whether the spool holds callbacks that are not held here, and that come before what the database has.
    pub(super) fn is_behind_spool(&mut self, is_spool_empty: bool) -> bool {
        self.has_overflowed &= !is_spool_empty;
        self.has_overflowed
    }

    /// A callback is in the spool.
    pub(super) fn spooled(&mut self, order_key: &Arc<str>, ticket: Option<u64>) {
        let held = ticket.and_then(|ticket| {
            let group = self.groups.get_mut(order_key)?;
            let at = group.by_ticket(ticket)?;
            group.held.get_mut(at)
        });
        match held {
            Some(held) if held.state == HeldState::Reserved => held.state = HeldState::Spooled,
            Some(_) => {}
            // Also where a transaction that has ended meanwhile has left it to the database.
            None => self.has_overflowed = true,
        }
        self.list(order_key);
    }

    /// A callback is not to be delivered from memory, unless it is known to be durable by now. `maybe_entered`: the
    /// database is asked for it.
    pub(super) fn cancel(&mut self, order_key: &Arc<str>, ticket: u64, maybe_entered: bool) {
        let Some(group) = self.groups.get_mut(order_key) else { return };
        if let Some(at) = group.by_ticket(ticket)
            && group.held[at].state == HeldState::Reserved
        {
            let removed = group.held.remove(at);
            self.bytes -= removed.map_or(0, |held| held.delivery.bytes());
            if maybe_entered {
                group.note_more();
            }
        }
        self.list(order_key);
    }

    /// Where a callback whose future was dropped may be is not known.
    pub(super) fn note_overflow(&mut self) {
        self.has_overflowed = true;
    }

    /// A transaction with a callback has committed.
    pub(super) fn entered(
        &mut self,
        (order_key, name): (&Arc<str>, Fingerprint),
        key: impl FnOnce() -> EntryKey,
        news: EntryNews,
        now: Instant,
    ) {
        if self.delivered.contains(&name) {
            self.notes.delivered.push((key(), name));
            return;
        }
        let not_entered = |state| state != HeldState::Entered;
        let spooled = |state| state == HeldState::Spooled;
        let found = self.groups.get(order_key).and_then(|group| match news {
            EntryNews::Known => group.by_name(name, spooled),
            _ => group.by_name(name, not_entered),
        });
        let is_reserved = |group: &GroupQueue| group.by_name(name, not_entered).is_some();
        match (news, found) {
            (EntryNews::Theirs, None) => return,
            // A repeat: what it repeats was delivered, or is known by itself.
            (EntryNews::Known, None) if self.groups.get(order_key).is_some_and(is_reserved) => return,
            (EntryNews::MineBehindOthers, _) => {
                self.found(order_key, now);
                if let Some(group) = self.groups.get_mut(order_key) {
                    self.bytes -= group.leave_to_database();
                }
            }
            (EntryNews::Mine | EntryNews::Known, None) => self.found(order_key, now),
            (EntryNews::Theirs, Some(at)) if !self.is_in_flight(order_key, at) => {
                let removed = self.groups.get_mut(order_key).and_then(|group| group.held.remove(at));
                self.bytes -= removed.map_or(0, |held| held.delivery.bytes());
            }
            (_, Some(at)) => {
                if let Some(held) = self.groups.get_mut(order_key).and_then(|group| group.held.get_mut(at)) {
                    held.state = HeldState::Entered;
                }
            }
        }
        self.list(order_key);
    }

    fn is_in_flight(&self, order_key: &Arc<str>, at: usize) -> bool {
        at == 0 && self.groups.get(order_key).is_some_and(|group| group.in_flight)
    }

    /// True where it was delivered already: it need not be queued with its entry.
    pub(super) fn was_delivered(&self, name: Fingerprint) -> bool {
        self.delivered.contains(&name)
    }

    /// The callback whose turn it is.
    pub(super) fn take(&mut self, now: Instant) -> Turn {
        let Some((due, order_key)) = self.ready.first().cloned() else { return Turn::Wait };
        if due > now {
            return Turn::WaitUntil(due);
        }
        match self.outage.turn(now) {
            OutageTurn::Go => {}
            OutageTurn::WaitUntil(at) => return Turn::WaitUntil(at),
            OutageTurn::Wait => return Turn::Wait,
        }
        let Some(group) = self.groups.get_mut(&order_key) else {
            unreachable!("a group that is listed is known")
        };
        let Some(first) = group.held.front() else { unreachable!("a group that is ready holds a callback") };
        group.in_flight = true;
        let taken = TakenDelivery {
            order_key: Arc::clone(&order_key),
            ticket: first.ticket,
            delivery: first.delivery.clone(),
        };
        self.list(&order_key);
        Turn::Deliver(Box::new(taken))
    }

    /// An attempt has ended.
    pub(super) fn settle(
        &mut self,
        (order_key, ticket): (&Arc<str>, u64),
        (verdict, was_late): (AttemptVerdict, bool),
        (now, clock): (Instant, Millis),
    ) -> Settled {
        let Some(group) = self.groups.get_mut(order_key) else {
            unreachable!("a group stays known while a callback of it is in flight")
        };
        group.in_flight = false;
        let Some(mut first) = group.held.pop_front() else {
            unreachable!("a callback stays held while it is in flight")
        };
        assert_eq!(first.ticket, ticket, "the first callback of a group is the one in flight");
        (group.due, group.refused) = (now, false);
        let (failure, is_refusal) = match verdict {
            AttemptVerdict::Delivered { with_code } => {
                self.bytes -= first.delivery.bytes();
                self.delivered(first);
                self.list(order_key);
                return Settled::Delivered { was_late, with_code };
            }
            AttemptVerdict::Retry(failure) => (failure, false),
            AttemptVerdict::Refused(failure) => (failure, true),
        };
        let delivery = &mut first.delivery;
        delivery.attempts = delivery.attempts.saturating_add(1);
        let is_over = if delivery.again {
            self.pauses.are_over_again(delivery.attempts)
        } else {
            self.pauses.are_over(delivery.received_at, clock)
        };
        let gives_up = (is_refusal && delivery.was_refused) || is_over;
        delivery.was_refused = is_refusal;
        let is_entered = first.state == HeldState::Entered;
        if gives_up {
            self.bytes -= first.delivery.bytes();
            if is_entered {
                self.delivered.insert(first.delivery.name);
                self.notes.skip(&first.delivery, failure);
            } else {
                self.delivered(first);
            }
            self.list(order_key);
            return Settled::Skipped;
        }
        group.due = now + if is_refusal { self.pauses.refused } else { self.pauses.after(delivery.attempts) };
        group.refused = is_refusal;
        if is_entered {
            self.notes.fail(delivery, failure);
        }
        group.held.push_front(first);
        self.bytes -= group.drop_entered();
        self.list(order_key);
        Settled::Waits
    }

    fn delivered(&mut self, held: Held) {
        let OutboxDelivery { key, name, .. } = held.delivery;
        if held.state == HeldState::Entered {
            self.delivered.insert(name);
            self.notes.delivered.push((key, name));
        } else if self.delivered.len() < DELIVERED_MAX {
            self.delivered.insert(name);
        }
    }

    /// The backend takes callbacks again: what waits because it did not is due now.
    pub(super) fn make_due(&mut self, now: Instant) {
        let waiting: Vec<Arc<str>> = self
            .groups
            .iter()
            .filter(|(_, group)| group.due > now && !group.refused)
            .map(|(order_key, _)| Arc::clone(order_key))
            .collect();
        for order_key in waiting {
            if let Some(group) = self.groups.get_mut(&order_key) {
                group.due = now;
            }
            self.list(&order_key);
        }
    }

    /// The database has entries of a group for this process that it may not know of.
    pub(super) fn found(&mut self, order_key: &Arc<str>, now: Instant) {
        if self.groups.len() >= GROUPS_MAX && !self.groups.contains_key(order_key) {
            (self.has_unlisted, self.was_left_out) = (true, true);
            return;
        }
        self.groups.entry(Arc::clone(order_key)).or_insert_with(|| GroupQueue::new(now)).note_more();
        self.list(order_key);
    }

    /// How many callbacks are in memory that no ledger has, and the receipt of the oldest.
    pub(super) fn spooled_only(&self) -> (u64, Option<Millis>) {
        let held = self.groups.values().flat_map(|group| &group.held);
        let spooled = held.filter(|held| held.state == HeldState::Spooled);
        spooled.fold((0, None), |(count, oldest), held| {
            let at = held.delivery.received_at;
            (count + 1, Some(oldest.map_or(at, |oldest: Millis| oldest.min(at))))
        })
    }

    /// Whether something can be delivered now.
    pub(super) fn has_ready(&self, now: Instant) -> bool {
        self.ready.first().is_some_and(|(due, _)| *due <= now)
    }

    fn group(&mut self, order_key: &Arc<str>, now: Instant) -> Option<&mut GroupQueue> {
        let is_full = self.groups.len() >= GROUPS_MAX;
        if (is_full || self.has_unlisted) && !self.groups.contains_key(order_key) {
            (self.has_unlisted, self.was_left_out) = (true, self.was_left_out || is_full);
            return None;
        }
        Some(self.groups.entry(Arc::clone(order_key)).or_insert_with(|| GroupQueue::new(now)))
    }

    pub(super) fn push(&mut self, order_key: &Arc<str>, held: Held, now: Instant) {
        self.bytes += held.delivery.bytes();
        if let Some(group) = self.group(order_key, now) {
            group.held.push_back(held);
        }
    }

    /// Puts a group where it belongs now, or forgets it.
    pub(super) fn list(&mut self, order_key: &Arc<str>) {
        let Some(group) = self.groups.get_mut(order_key) else { return };
        let wanted = group.wanted_listing();
        if group.listed != wanted {
            let entry = |at| (at, Arc::clone(order_key));
            match group.listed {
                Listing::Ready(at) => drop(self.ready.remove(&entry(at))),
                Listing::Hungry(at) => drop(self.hungry.remove(&entry(at))),
                Listing::None => {}
            }
            match wanted {
                Listing::Ready(at) => drop(self.ready.insert(entry(at))),
                Listing::Hungry(at) => drop(self.hungry.insert(entry(at))),
                Listing::None => {}
            }
            group.listed = wanted;
        }
        if group.is_over() {
            self.groups.remove(order_key);
        }
    }
}
