//! A callback on its way through the writer, with the channel of its waiter and its permit.
//!
//! PostgreSQL's share of the time may end while a lane still holds the callback; then the writer puts it into the spool
//! as well. A flag that both sides share keeps it from being put there twice.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::outcome::{Outcome, SubmitError};
use crate::callback::Callback;
use crate::spool::Spool;

/// The channel of a waiter.
pub(super) type Waiter = oneshot::Sender<Result<Outcome, SubmitError>>;

/// What the lane and the late path of the writer share of one callback. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Pending {
    pub(super) callback: Arc<Callback>,
    spooled: Arc<AtomicBool>,
}

impl Pending {
    pub(super) fn new(callback: Callback) -> Self {
        Self { callback: Arc::new(callback), spooled: Arc::default() }
    }

    /// True once it was handed to the spool.
    pub(super) fn is_spooled(&self) -> bool {
        self.spooled.load(Ordering::Acquire)
    }
}

/// A callback, its waiter, and its share of the bytes that may wait.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) pending: Pending,
    pub(super) waiter: Waiter,
    /// Given back when the callback is durable, not when its sender hangs up.
    pub(super) permit: Option<OwnedSemaphorePermit>,
}

impl Job {
    /// Hands the callback to the spool, which answers the waiter. False: it was handed over before, and this waiter is
    /// dropped without an answer.
    pub(super) fn spool(self, spool: &Spool) -> bool {
        let Self { pending, waiter, permit } = self;
        if pending.spooled.swap(true, Ordering::AcqRel) {
            return false;
        }
        let completion = move |done: Result<(), _>| {
            // A waiter whose sender hung up needs no answer.
            let _ = waiter.send(done.map(|()| Outcome::Spooled).map_err(SubmitError::from));
            drop(permit);
        };
        spool.put(pending.callback, Box::new(completion));
        true
    }
}
