//! The outbox of the relay (a transactional outbox): after-callbacks that are durable here are delivered to the backend of
//! their app at least once, in order per group.
//!
//! A callback is held in memory while it is made durable, and delivered at once when it is, whether PostgreSQL is there or
//! not. Its row in `relay_outbox` is written with its ledger entry and deleted afterwards, so that after any end of a
//! process another one finds what was not delivered. `queue` decides what is next, the workers of `worker` send it,
//! `keeper` is the one task that works on the database. Nothing here makes a callback wait for its answer.

mod delivery;
mod group;
mod keeper;
mod notes;
mod outage;
mod pace;
mod queue;
mod reading;
mod refill;
mod shared;
mod turn;
mod worker;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::callback::Callback;
use crate::clock;
use crate::model::SdkAppId;
use crate::spool::SpoolStatus;
use crate::store::Database;
use crate::store::ledger::{Entered, OutboxMark};
use crate::store::schema::SchemaState;
use delivery::{Fingerprint, OutboxDelivery, fingerprint, key_of, order_key_of};
use keeper::Keeper;
use queue::AppQueue;
use shared::{AppOutbox, OutboxState};
use turn::EntryNews;
use worker::Worker;

pub use pace::DeliveryPauses;
pub use shared::{Backlog, DeliverySettings};

/// How many callbacks of one app are delivered side by side.
pub const DELIVERIES_MAX: usize = 32;

/// How many bytes of callbacks all apps together hold in memory, 128 MiB, and one of them, 32 MiB; each has 2 MiB, in which
/// the largest callback has room, however many there are.
const HELD_BYTES_OF_ALL_MAX: usize = 128 * 1024 * 1024;
const HELD_BYTES_OF_ONE_MAX: usize = 32 * 1024 * 1024;
const HELD_BYTES_OF_ONE_LEAST: usize = 2 * 1024 * 1024;

/// How long a stop goes on delivering what is in memory; the rest waits in the database.
const STOP_WAIT_MAX: Duration = Duration::from_secs(2);

/// The number of a data directory, by which its process is known to others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutboxNumber {
    /// Greater than 0.
    pub number: i32,
    /// No process has used it before, so that nothing waits under it.
    pub is_new: bool,
}

impl OutboxNumber {
    /// A new one, by chance.
    #[must_use]
    pub fn by_chance() -> Self {
        Self { number: fastrand::i32(1..), is_new: true }
    }
}

/// The handle. Cheap to clone; all clones are one outbox.
#[derive(Debug, Clone)]
pub struct Outbox(Arc<OutboxState>);

impl Outbox {
    /// Of these apps; of none it does nothing. Nothing is delivered before [`Outbox::start`].
    #[must_use]
    pub fn new(apps: Vec<DeliverySettings>, number: OutboxNumber) -> Self {
        let now = Instant::now();
        let share = HELD_BYTES_OF_ALL_MAX / apps.len().max(1);
        let bytes_max = share.clamp(HELD_BYTES_OF_ONE_LEAST, HELD_BYTES_OF_ONE_MAX);
        let of_app = |settings: DeliverySettings| {
            let queue = Mutex::new(AppQueue::new((settings.pauses, bytes_max), number.is_new, now));
            let app = settings.app;
            register_metrics(app);
            let counted = watch::Sender::new(Backlog::default());
            let spooled = watch::Sender::new((0, None));
            let given_up = Mutex::default();
            (app, AppOutbox { settings, queue, ready: Notify::new(), counted, spooled, given_up })
        };
        Self(Arc::new(OutboxState {
            number: number.number,
            apps: apps.into_iter().map(of_app).collect(),
            spool: Mutex::new(None),
            work: Notify::new(),
            closing: CancellationToken::new(),
            tasks: TaskTracker::new(),
            keeper_task: TaskTracker::new(),
            workers_ended: CancellationToken::new(),
        }))
    }

    /// Of no app.
    #[must_use]
    pub fn none() -> Self {
        Self::new(Vec::new(), OutboxNumber::by_chance())
    }

    /// Starts the workers and the keeper. As long as `schema` does not fit the database is left alone.
    pub fn start(&self, database: &Database, schema: SchemaState, spool: watch::Receiver<SpoolStatus>) {
        *self.0.spool.lock().unwrap_or_else(PoisonError::into_inner) = Some(spool);
        for app in self.0.apps.keys() {
            for _ in 0..DELIVERIES_MAX {
                self.0.tasks.spawn(Worker { outbox: Arc::clone(&self.0), app: *app }.run());
            }
        }
        if !self.0.apps.is_empty() {
            self.0.keeper_task.spawn(Keeper::new(Arc::clone(&self.0), database.clone(), schema).run());
        }
        self.0.tasks.close();
        self.0.keeper_task.close();
    }

    /// Whether an app has a relay: what is received for it keeps its query.
    #[must_use]
    pub fn relays(&self, app: SdkAppId) -> bool {
        self.0.apps.contains_key(&app)
    }

    /// The outbox of a callback's app. What waits for the backend's verdict is not delivered once more: the backend has seen
    /// it, or Tencent has got the fallback.
    fn of_app(&self, callback: &Callback) -> Option<&AppOutbox> {
        let of_app = self.0.apps.get(&callback.received.app)?;
        callback.answered_by_backend().is_none().then_some(of_app)
    }

    /// Holds a callback that is about to be made durable, in the order of receipt.
    #[must_use]
    pub fn reserve(&self, callback: &Arc<Callback>) -> Option<Reservation> {
        let (app, of_app) = (callback.received.app, self.of_app(callback)?);
        let order_key = order_key_of(callback);
        let delivery = OutboxDelivery::received(Arc::clone(callback));
        let is_spool_empty = self.0.is_spool_empty();
        let ticket = of_app.queue().reserve(&order_key, delivery, is_spool_empty, Instant::now());
        Some(Reservation { outbox: self.clone(), app, order_key, ticket, is_settled: false })
    }

    /// How the entry of a callback is to be queued with it; none where it is not.
    pub fn mark(&self, callback: &Callback) -> Option<OutboxMark> {
        let of_app = self.of_app(callback)?;
        if of_app.queue().was_delivered(name_of(callback)) {
            return None;
        }
        let request_time = callback.received.query.as_deref().and_then(crate::callback::request_time);
        Some(OutboxMark { origin: self.0.number.into(), request_time })
    }

    /// A transaction with a callback has committed.
    pub fn entered(&self, callback: &Callback, entered: Entered) {
        let Some(of_app) = self.of_app(callback) else { return };
        let news = match entered {
            Entered::New(Some(queued)) if queued.owner == i64::from(self.0.number) => {
                if queued.is_behind_others { EntryNews::MineBehindOthers } else { EntryNews::Mine }
            }
            Entered::New(Some(_)) => EntryNews::Theirs,
            Entered::New(None) | Entered::Known => EntryNews::Known,
            // It is corrected first, and offered again.
            Entered::Earlier => return,
        };
        let order_key = order_key_of(callback);
        let name = name_of(callback);
        of_app.queue().entered((&order_key, name), || key_of(callback), news, Instant::now());
        of_app.ready.notify_one();
        self.0.work.notify_one();
    }

    /// How much waits in an app; none where it has no relay.
    #[must_use]
    pub fn backlog(&self, app: SdkAppId) -> Option<Backlog> {
        self.0.apps.get(&app).map(AppOutbox::backlog)
    }

    /// How much waits, by app.
    #[must_use]
    pub fn backlogs(&self) -> Vec<(SdkAppId, Backlog)> {
        let backlog = |(app, of_app): (&SdkAppId, &AppOutbox)| (*app, of_app.backlog());
        self.0.apps.iter().map(backlog).collect()
    }

    /// Delivers what is in memory for a moment, notes what was delivered, and leaves the rest to other processes, or to the
    /// next start. Called when nothing is made durable any more.
    pub async fn close(&self) {
        self.0.closing.cancel();
        for of_app in self.0.apps.values() {
            of_app.ready.notify_waiters();
        }
        let _ = tokio::time::timeout(STOP_WAIT_MAX, self.0.tasks.wait()).await;
        self.0.workers_ended.cancel();
        self.0.keeper_task.wait().await;
    }
}

/// The name of a callback's entry.
fn name_of(callback: &Callback) -> Fingerprint {
    fingerprint(&key_of(callback))
}

/// A callback that is being made durable. Dropped without a word it is left to the database, because it may become durable
/// yet.
#[derive(Debug)]
pub struct Reservation {
    outbox: Outbox,
    app: SdkAppId,
    order_key: Arc<str>,
    ticket: Option<u64>,
    is_settled: bool,
}

/// What became of a callback.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// The ledger has it as a new entry.
    Entered,
    /// The spool has it.
    Spooled,
    /// The ledger had it before.
    Repeated,
    /// Nothing is known to have it.
    NotDurable,
}

impl Reservation {
    /// Says what became of it; it is delivered from here on.
    pub fn settle(mut self, durability: Durability) {
        self.is_settled = true;
        let Some(of_app) = self.outbox.0.apps.get(&self.app) else { return };
        let mut queue = of_app.queue();
        match (durability, self.ticket) {
            (Durability::Spooled, ticket) => queue.spooled(&self.order_key, ticket),
            // The transaction has said so already, unless it took another callback for this one.
            (Durability::Entered, Some(ticket)) => queue.cancel(&self.order_key, ticket, true),
            (Durability::Repeated, Some(ticket)) => queue.cancel(&self.order_key, ticket, false),
            (Durability::NotDurable, ticket) => {
                // The spool may take it yet.
                queue.note_overflow();
                if let Some(ticket) = ticket {
                    queue.cancel(&self.order_key, ticket, false);
                }
            }
            (_, None) => {}
        }
        drop(queue);
        of_app.ready.notify_one();
        self.outbox.0.work.notify_one();
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        if self.is_settled {
            return;
        }
        let Some(of_app) = self.outbox.0.apps.get(&self.app) else { return };
        let mut queue = of_app.queue();
        queue.note_overflow();
        if let Some(ticket) = self.ticket {
            queue.cancel(&self.order_key, ticket, true);
        }
    }
}

fn register_metrics(app: SdkAppId) {
    let app = app.to_string();
    for name in [
        "group_mirror_relay_delivered_total",
        "group_mirror_relay_late_total",
        "group_mirror_relay_failed_total",
        "group_mirror_relay_skipped_total",
        "group_mirror_relay_refusing_answers_total",
    ] {
        metrics::counter!(name, "app" => app.clone()).increment(0);
    }
}

/// Sets the gauges of what waits.
pub fn set_gauges(outbox: &Outbox) {
    for (app, backlog) in outbox.backlogs() {
        let app = app.to_string();
        let age_ms = backlog.oldest.map_or(0, |oldest| (clock::now().get() - oldest.get()).max(0));
        #[expect(clippy::cast_precision_loss, reason = "neither reaches 2^53")]
        for (name, value) in [
            ("group_mirror_relay_backlog_rows", backlog.entries as f64),
            ("group_mirror_relay_backlog_age_seconds", age_ms as f64 / 1000.0),
        ] {
            metrics::gauge!(name, "app" => app.clone()).set(value);
        }
    }
}
