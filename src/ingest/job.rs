//! A callback on its way through the writer, with the channel of its waiter and its permit.
//!
//! PostgreSQL's share of the time may end while a lane still holds the callback; then the writer hands it to the spool as
//! well. A state that both sides share keeps it from being put there twice, and keeps it in the lane until the spool has
//! it on disk: a spool that refuses it gives it back.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};

use super::breaker::Breaker;
use super::outcome::{Outcome, SubmitError};
use crate::callback::Callback;
use crate::spool::{Spool, SpoolError};
use crate::traces::CallbackSpan;

/// The channel of a waiter.
pub(super) type Waiter = oneshot::Sender<Result<Outcome, SubmitError>>;

/// Where a callback is between lane and spool.
#[derive(Debug, Default)]
enum SpoolState {
    /// Not in the spool.
    #[default]
    None,
    /// Handed to the spool, which has not answered.
    Handed,
    /// Synced to the spool's disk.
    Durable,
    /// The spool refused it; it may be handed over again.
    Refused(SpoolError),
}

/// What [`Pending::claim`] answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Claim {
    /// The caller hands it to the spool.
    Mine,
    /// It was handed over before, and the spool has not answered.
    Handed,
    /// The spool has it.
    Durable,
}

/// What the lane and the late path of the writer share of one callback. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Pending {
    pub(super) callback: Arc<Callback>,
    /// None: it is not sampled.
    pub(super) span: Option<CallbackSpan>,
    spool: Arc<Mutex<SpoolState>>,
    lost: Arc<AtomicBool>,
}

impl Pending {
    pub(super) fn new(callback: Callback, span: Option<CallbackSpan>) -> Self {
        Self { callback: Arc::new(callback), span, spool: Arc::default(), lost: Arc::default() }
    }

    fn with<T>(&self, run: impl FnOnce(&mut SpoolState) -> T) -> T {
        run(&mut self.spool.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The right to hand it to the spool, if nothing else has it.
    pub(super) fn claim(&self) -> Claim {
        self.with(|state| match state {
            SpoolState::None | SpoolState::Refused(_) => {
                *state = SpoolState::Handed;
                Claim::Mine
            }
            SpoolState::Handed => Claim::Handed,
            SpoolState::Durable => Claim::Durable,
        })
    }

    /// The spool has answered the side that claimed it.
    pub(super) fn answered(&self, done: &Result<(), SpoolError>) {
        self.with(|state| {
            assert!(matches!(state, SpoolState::Handed), "the spool answers once for each claim");
            *state = match done {
                Ok(()) => SpoolState::Durable,
                Err(error) => SpoolState::Refused(error.clone()),
            };
        });
    }

    /// True once the spool has it on disk: a lane need not commit it.
    pub(super) fn is_durable(&self) -> bool {
        self.with(|state| matches!(state, SpoolState::Durable))
    }

    /// Notes that it is not durable, once, whether its sender still waits or has hung up.
    pub(super) fn lose(&self, spool: &Spool, error: &SubmitError) {
        if !self.lost.swap(true, Ordering::AcqRel) {
            let received = &self.callback.received;
            spool.note_loss(Some(received.app), received.received_at, error.label());
        }
    }

    /// Why the spool refused it, if that was its last answer.
    pub(super) fn refusal(&self) -> Option<SpoolError> {
        self.with(|state| match state {
            SpoolState::Refused(error) => Some(error.clone()),
            _ => None,
        })
    }
}

/// A callback, its waiter, and its share of the bytes that may wait.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) pending: Pending,
    pub(super) waiter: Waiter,
    /// The lane it belongs to, which takes it back when the spool refuses it.
    pub(super) lane: mpsc::WeakSender<Self>,
    /// True after it came back.
    pub(super) returned: bool,
    /// Given back when the callback is durable, not when its sender hangs up.
    pub(super) _permit: OwnedSemaphorePermit,
}

impl Job {
    /// Hands the callback to the spool, which answers the waiter. What the spool refuses goes back to its lane as long as
    /// PostgreSQL commits and the sender waits.
    pub(super) fn spool(self, spool: &Spool, breaker: &Breaker) {
        match self.pending.claim() {
            Claim::Mine => {
                let (breaker, callback) = (breaker.clone(), Arc::clone(&self.pending.callback));
                let losses = spool.clone();
                spool.put(callback, Box::new(move |done| self.spooled(&done, &breaker, &losses)));
            }
            // The late path waits for that answer; if it is a refusal, the lane is still there.
            Claim::Handed => self.give_back(spool),
            Claim::Durable => {}
        }
    }

    /// It is given up: its sender has hung up or has an answer, and the spool refused it.
    pub(super) fn lose(self, spool: &Spool) {
        let error = self.pending.refusal().map_or(SubmitError::Late, SubmitError::from);
        self.fail(error, spool);
    }

    /// Answers the waiter, or notes the loss in its place.
    fn fail(self, error: SubmitError, spool: &Spool) {
        if let Err(Err(error)) = self.waiter.send(Err(error)) {
            self.pending.lose(spool, &error);
        }
    }

    fn spooled(self, done: &Result<(), SpoolError>, breaker: &Breaker, spool: &Spool) {
        self.pending.answered(done);
        match done {
            // A waiter whose sender hung up needs no answer.
            Ok(()) => drop(self.waiter.send(Ok(Outcome::Spooled))),
            Err(error) if breaker.is_open() => self.fail(error.clone().into(), spool),
            Err(_) => self.give_back(spool),
        }
    }

    /// Back to the lane, unless that has closed or is full.
    fn give_back(mut self, spool: &Spool) {
        self.returned = true;
        let refused = match self.lane.upgrade() {
            None => self,
            Some(lane) => match lane.try_send(self) {
                Ok(()) => return,
                Err(mpsc::error::TrySendError::Full(job) | mpsc::error::TrySendError::Closed(job)) => job,
            },
        };
        // Without a refusal the late path waits for the spool's answer.
        if let Some(error) = refused.pending.refusal() {
            refused.fail(error.into(), spool);
        }
    }
}
