//! Corrections of receipts: a repeat without event time that was received before the one which the ledger has.
//!
//! Such a callback counts from its first receipt, and merging cannot take back the later one, so its group is folded
//! again. A group may have any number of ledger entries: that must not happen under the time limits and the locks of a
//! batch. One task does it, one group at a time, while the callback stays in the spool, or in its lane where the spool
//! refuses it; tried again after that, it is a duplicate.

use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::aside::{SetAside, Standing};
use super::aside_key::AsideKey;
use super::entry::new_entry;
use crate::callback::Callback;
use crate::mirror::group_key;
use crate::replay;
use crate::store::Database;
use crate::store::errors::{Failure, classify};

/// How many corrections may wait. What comes at the limit stays in the spool, set aside, and is offered again.
const QUEUE_MAX: usize = 16;

/// How long one correction may take; replay folds some hundred thousand ledger entries per second.
const CORRECTION_WAIT_MAX: Duration = Duration::from_secs(600);

/// Where lanes and drain leave what is to be corrected. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct CorrectionQueue {
    waiting: mpsc::Sender<Callback>,
    aside: SetAside,
}

impl CorrectionQueue {
    /// The queue, and its end for the task.
    pub(super) fn new(aside: SetAside) -> (Self, mpsc::Receiver<Callback>) {
        let (waiting, queue) = mpsc::channel(QUEUE_MAX);
        (Self { waiting, aside }, queue)
    }

    /// Sets a callback aside until its receipt is corrected. Nothing is done while that is under way; at the limit it is
    /// offered again when it is due.
    pub(super) fn offer(&self, callback: &Callback) {
        if self.aside.standing(callback) != Standing::Waiting {
            self.aside.add(AsideKey::callback(callback));
            let _ = self.waiting.try_send(callback.clone());
        }
    }
}

/// What the task works with.
#[derive(Debug)]
pub(super) struct Corrections {
    pub(super) database: Database,
    pub(super) aside: SetAside,
    pub(super) closing: CancellationToken,
}

impl Corrections {
    /// Runs until it is asked to close. A correction that is cut short is rolled back and made after the next start.
    pub(super) async fn run(self, mut queue: mpsc::Receiver<Callback>) {
        let closing = self.closing.clone();
        let work = async {
            while let Some(callback) = queue.recv().await {
                self.correct(&callback).await;
            }
        };
        closing.run_until_cancelled(work).await;
    }

    async fn correct(&self, callback: &Callback) {
        let mut correcting = Box::pin(correct(&self.database, callback));
        let turn = async {
            sleep(CORRECTION_WAIT_MAX).await;
            self.database.turn_to_give_up().await
        };
        let done = tokio::select! {
            done = &mut correcting => done.map_err(|error| error.to_string()),
            turn = turn => {
                drop(correcting);
                drop(turn);
                Err(format!("not done in {} s", CORRECTION_WAIT_MAX.as_secs()))
            }
        };
        match done {
            // Drain or lane finds an ordinary repeat next.
            Ok(()) => drop(self.aside.remove(&AsideKey::callback(callback))),
            Err(error) => tracing::warn!(%error, "the receipt of a repeated callback is not corrected yet"),
        }
    }
}

/// How often a correction begins anew because a person was erased meanwhile.
const RETRIES_MAX: u32 = 10;

/// Makes the earlier receipt of a callback count, and its group what the ledger then says.
pub(super) async fn correct(database: &Database, callback: &Callback) -> Result<(), sqlx::Error> {
    let event = callback.event.as_ref().ok();
    let group = event.map(|event| group_key(callback.received.app, event.group.clone()));
    let mut retries = 0;
    loop {
        let erasures = database.erasures().current();
        let erased = erasures.apply(callback);
        let entry = new_entry(callback, None);
        let erased = erased.as_ref().map(|erased| new_entry(erased, None));
        let entries = (&entry, erased.as_ref());
        match replay::receive_earlier(database, entries, group.as_ref(), &erasures).await {
            Err(error) if classify(&error) == Failure::Retry && retries < RETRIES_MAX => retries += 1,
            done => return done,
        }
    }
}
