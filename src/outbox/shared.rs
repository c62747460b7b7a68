//! What the handle, the workers and the keeper of the outbox share: the apps with their queues, and the signals between
//! them.
//!
//! Everything here is held by one `Arc`. A queue is locked for moments only, never across a wait.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::pace::DeliveryPauses;
use super::queue::AppQueue;
use crate::callback::signature::Token;
use crate::model::{Millis, SdkAppId};
use crate::relay::RelayTarget;
use crate::spool::{SpoolError, SpoolStatus};

/// The backend of one app, and how its deliveries are made.
#[derive(Debug, Clone)]
pub struct DeliverySettings {
    /// The app.
    pub app: SdkAppId,
    /// Where callbacks go.
    pub target: RelayTarget,
    /// Signs what is delivered late; none where callbacks are not signed.
    pub token: Option<Token>,
    /// When an attempt is repeated.
    pub pauses: DeliveryPauses,
}

/// How much waits for the backend of an app.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Backlog {
    /// Callbacks, as last counted.
    pub entries: u64,
    /// Receipt of the oldest.
    pub oldest: Option<Millis>,
    /// For how long the backend has taken nothing.
    pub outage: Option<Duration>,
}

/// What the parts of one app share.
#[derive(Debug)]
pub(super) struct AppOutbox {
    pub(super) settings: DeliverySettings,
    pub(super) queue: Mutex<AppQueue>,
    /// Wakes a worker.
    pub(super) ready: Notify,
    /// What the database was last found to have.
    pub(super) counted: watch::Sender<Backlog>,
    /// What is in memory and in no ledger, as last counted: how many, and the receipt of the oldest.
    pub(super) spooled: watch::Sender<(u64, Option<Millis>)>,
    /// The last log line about callbacks that were given up, and how many were since.
    pub(super) given_up: Mutex<(Option<Instant>, u64)>,
}

/// At most one log line in this time about callbacks that were given up: a backend that refuses one may refuse all.
const GIVEN_UP_LINE_PERIOD: Duration = Duration::from_secs(60);

impl AppOutbox {
    /// Counts a callback that was given up; how many were since the last line, where a line is due.
    pub(super) fn note_given_up(&self, now: Instant) -> Option<u64> {
        let mut given_up = self.given_up.lock().unwrap_or_else(PoisonError::into_inner);
        given_up.1 += 1;
        if given_up.0.is_some_and(|line| now.saturating_duration_since(line) < GIVEN_UP_LINE_PERIOD) {
            return None;
        }
        given_up.0 = Some(now);
        Some(std::mem::take(&mut given_up.1))
    }

    /// The queue, for a moment.
    pub(super) fn queue(&self) -> MutexGuard<'_, AppQueue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the database has, and what is in memory alone.
    pub(super) fn backlog(&self) -> Backlog {
        let outage = self.queue().outage.since().map(|since| since.elapsed());
        let (spooled, oldest) = *self.spooled.borrow();
        let counted = *self.counted.borrow();
        Backlog {
            entries: counted.entries + spooled,
            oldest: [counted.oldest, oldest].into_iter().flatten().min(),
            outage,
        }
    }
}

/// What all parts of the outbox share.
#[derive(Debug)]
pub(super) struct OutboxState {
    /// The number of this process.
    pub(super) number: i32,
    pub(super) apps: BTreeMap<SdkAppId, AppOutbox>,
    pub(super) spool: Mutex<Option<watch::Receiver<SpoolStatus>>>,
    /// Wakes the keeper.
    pub(super) work: Notify,
    pub(super) closing: CancellationToken,
    pub(super) tasks: TaskTracker,
    pub(super) keeper_task: TaskTracker,
    pub(super) workers_ended: CancellationToken,
}

impl OutboxState {
    /// Whether every callback that was spooled is in the ledger.
    pub(super) fn is_spool_empty(&self) -> bool {
        let spool = self.spool.lock().unwrap_or_else(PoisonError::into_inner);
        spool.as_ref().is_some_and(|spool| {
            let status = spool.borrow();
            status.depth == 0 && status.failure != Some(SpoolError::Opening)
        })
    }

    /// Receipt of the oldest record in the spool.
    pub(super) fn oldest_in_spool(&self) -> Option<Millis> {
        let spool = self.spool.lock().unwrap_or_else(PoisonError::into_inner);
        spool.as_ref().and_then(|spool| spool.borrow().oldest)
    }
}
