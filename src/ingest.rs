//! The write path: one [`Writer`] takes decoded callbacks and answers each once it is durable.
//!
//! Callbacks come from the callback listener; everything goes through the one transaction in `apply`. A lane is a task
//! that commits everything waiting for it as one transaction, with no timer: idle means batches of one, load makes
//! batches grow while the commit before runs. Once submitted, a callback is committed whether or not its sender waits.

mod apply;
mod batch;
pub mod replay;
pub mod unpark;

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;

use thiserror::Error;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::callback::Callback;
use crate::store::Database;

pub use apply::apply;

/// How many lanes commit side by side. A second one works while the first waits for the disk; more share one disk and
/// make smaller batches.
const LANES: usize = 2;

/// How many callbacks may wait for a lane. At the limit a submit fails at once: with a commit of 256 in well under
/// 100 ms this is under 2 s of work, and more would be answered too late.
const LANE_QUEUE_MAX: usize = 4096;

/// How many bytes of bodies may wait in all lanes together, 64 MiB. At the limit a submit fails at once.
const QUEUED_BYTES_MAX: usize = 64 * 1024 * 1024;

/// What became of a callback; in each case it is durable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Its effect and its ledger row are committed.
    Applied,
    /// The ledger had it already.
    Duplicate,
    /// It is in the ledger with the reason why it could not be made out.
    Parked(String),
}

impl Outcome {
    /// For counters.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            Self::Applied => "applied",
            Self::Duplicate => "duplicate",
            Self::Parked(_) => "parked",
        }
    }
}

/// Why a callback is not known to be durable.
#[derive(Debug, Clone, Error)]
pub enum SubmitError {
    /// Too much is waiting.
    #[error("too many callbacks are waiting to be committed")]
    Full,
    /// The service stops.
    #[error("the writer is stopping")]
    Closed,
    /// The database did not commit.
    #[error("the database did not commit: {0}")]
    Database(Arc<sqlx::Error>),
}

/// A callback on its way, and who waits for it.
struct Job {
    callback: Callback,
    answer: oneshot::Sender<Result<Outcome, SubmitError>>,
    /// Its share of [`QUEUED_BYTES_MAX`], given back when it is committed, not when its sender goes away.
    room: OwnedSemaphorePermit,
}

/// The handle of the write path. Cheap to clone; the lanes end when it is closed and empty.
#[derive(Debug, Clone)]
pub struct Writer {
    lanes: Vec<mpsc::Sender<Job>>,
    bytes: Arc<Semaphore>,
    tasks: TaskTracker,
    closing: CancellationToken,
    ended: CancellationToken,
}

impl Writer {
    /// Starts the lanes.
    #[must_use]
    pub fn start(database: &Database) -> Self {
        let (tasks, closing, ended) =
            (TaskTracker::new(), CancellationToken::new(), CancellationToken::new());
        let lanes = (0..LANES)
            .map(|_| {
                let (sender, queue) = mpsc::channel(LANE_QUEUE_MAX);
                // Dropped however the lane ends, a panic included.
                let guard = ended.clone().drop_guard();
                let lane = batch::run(database.clone(), queue, closing.clone());
                tasks.spawn(async move {
                    let _guard = guard;
                    lane.await;
                });
                sender
            })
            .collect();
        tasks.close();
        Self { lanes, bytes: Arc::new(Semaphore::new(QUEUED_BYTES_MAX)), tasks, closing, ended }
    }

    /// Hands a callback over and waits until it is durable. Callbacks of one group keep to one lane, so that lanes do
    /// not wait for each other's rows; order does not matter for the result.
    ///
    /// # Errors
    /// See [`SubmitError`]; after `Database` it may still turn out to be committed, and a repeat does no harm.
    pub async fn submit(&self, callback: Callback) -> Result<Outcome, SubmitError> {
        let size = u32::try_from(callback.received.body.len()).map_err(|_| SubmitError::Full)?;
        let room = self.bytes.clone().try_acquire_many_owned(size).map_err(|_| SubmitError::Full)?;
        let mut hash = DefaultHasher::new();
        callback.group.hash(&mut hash);
        let lane = usize::try_from(hash.finish() % LANES as u64).unwrap_or_default();
        let (answer, outcome) = oneshot::channel();
        self.lanes[lane].try_send(Job { callback, answer, room }).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => SubmitError::Full,
            mpsc::error::TrySendError::Closed(_) => SubmitError::Closed,
        })?;
        outcome.await.map_err(|_| SubmitError::Closed)?
    }

    /// Resolves when a lane has ended, which happens only after [`Writer::close`] or a fault: a half-dead writer is
    /// worse than a restart.
    pub async fn ended(&self) {
        self.ended.cancelled().await;
    }

    /// Takes nothing more, commits what waits, and ends the lanes.
    pub async fn close(&self) {
        self.closing.cancel();
        self.tasks.wait().await;
    }
}
