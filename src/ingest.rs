//! The write path: one [`Writer`] takes decoded callbacks and answers each once it is durable.
//!
//! Callbacks come from the receiver; everything passes the one transaction in [`commit()`]. A lane is a task that commits
//! everything waiting for it as one transaction (group commit) with no timer: idle means batches of one, load makes
//! batches grow while the commit before runs. What PostgreSQL does not commit inside its share of the time goes to the
//! spool, and the drain brings it to the tables later. Once submitted, a callback is made durable whether or not its
//! sender waits.

mod breaker;
mod commit;
mod drain;
mod entry;
mod job;
mod lane;
mod outcome;

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::callback::Callback;
use crate::model::Millis;
use crate::spool::{Spool, SpoolError, SpoolPlace, SpoolStatus};
use crate::store::Database;
use crate::store::schema::SchemaState;
use breaker::Breaker;
use drain::Drain;
use job::{Job, Pending};
use lane::Lane;

pub use commit::{Applied, commit};
pub use outcome::{Outcome, SubmitError, register_counters};

/// How many lanes commit side by side. A second one works while the first waits for the disk; more share one disk and
/// make smaller batches.
const LANES: usize = 2;

/// How many callbacks may wait for a lane. What comes at the limit goes to the spool: with a commit of 256 in well under
/// 100 ms this is under 2 s of work, and more would be answered too late.
const LANE_QUEUE_MAX: usize = 4096;

/// How many bytes of bodies may wait in lanes and spool together, 64 MiB. At the limit a submit fails at once.
const QUEUED_BYTES_MAX: usize = 64 * 1024 * 1024;

/// How much of the time for a callback belongs to the spool. PostgreSQL has what is before: with the 1.4 s of the
/// callback listener 700 ms, less what reading the body took. A synced write takes some milliseconds; the rest is for
/// a disk that is busy.
const SPOOL_SHARE: Duration = Duration::from_millis(700);

/// The handle of the write path. Cheap to clone; the lanes end when it is closed and empty.
#[derive(Debug, Clone)]
pub struct Writer {
    lanes: Vec<mpsc::Sender<Job>>,
    bytes: Arc<Semaphore>,
    spool: Spool,
    breaker: Breaker,
    tasks: TaskTracker,
    spool_thread: TaskTracker,
    closing: CancellationToken,
    ended: CancellationToken,
}

impl Writer {
    /// Opens the spool and starts the lanes. As long as `schema` does not fit, everything goes to the
    /// spool.
    ///
    /// # Errors
    /// A spool that is damaged, or that another process has. A full disk is none.
    pub fn start(database: &Database, place: &SpoolPlace, schema: SchemaState) -> Result<Self, SpoolError> {
        let (spool, writing) = Spool::open(place)?;
        let (closing, ended) = (CancellationToken::new(), CancellationToken::new());
        let breaker = Breaker::new(schema);
        let (tasks, spool_thread) = (TaskTracker::new(), TaskTracker::new());
        // Dropped however a task ends, a panic included.
        let guard = || ended.clone().drop_guard();
        let held = guard();
        spool_thread.spawn_blocking(move || {
            let _held = held;
            writing();
        });
        let held = guard();
        let drain = Drain {
            database: database.clone(),
            spool: spool.clone(),
            breaker: breaker.clone(),
            closing: closing.clone(),
        };
        tasks.spawn(async move {
            let _held = held;
            drain.run().await;
        });
        let lane = Lane { database: database.clone(), spool: spool.clone(), breaker: breaker.clone() };
        let lanes = (0..LANES)
            .map(|_| {
                let (sender, queue) = mpsc::channel(LANE_QUEUE_MAX);
                let (held, running) = (guard(), lane.clone().run(queue, closing.clone()));
                tasks.spawn(async move {
                    let _held = held;
                    running.await;
                });
                sender
            })
            .collect();
        tasks.close();
        spool_thread.close();
        let bytes = Arc::new(Semaphore::new(QUEUED_BYTES_MAX));
        Ok(Self { lanes, bytes, spool, breaker, tasks, spool_thread, closing, ended })
    }

    /// Hands a callback over and waits until it is durable, at most until the deadline. Callbacks of one group keep to
    /// one lane, so that lanes do not wait for each other's rows; order does not matter for the result.
    ///
    /// # Errors
    /// See [`SubmitError`]; it may still turn out to be committed, and a repeat does no harm. Each is counted, and noted
    /// as a gap.
    pub async fn submit(&self, callback: Callback, deadline: Instant) -> Result<Outcome, SubmitError> {
        let received_at = callback.received.received_at;
        let outcome = self.make_durable(callback, deadline).await;
        if let Err(error) = &outcome {
            self.note_loss(received_at, error.label());
        }
        outcome
    }

    /// A callback was refused before it could be submitted: counted, and noted as a gap.
    pub fn note_loss(&self, received_at: Millis, cause: &'static str) {
        self.spool.note_loss(received_at, cause);
    }

    async fn make_durable(&self, callback: Callback, deadline: Instant) -> Result<Outcome, SubmitError> {
        let size = u32::try_from(callback.received.body.len()).map_err(|_| SubmitError::Full)?;
        let permit = self.bytes.clone().try_acquire_many_owned(size).map_err(|_| SubmitError::Full)?;
        let lane = &self.lanes[lane_of(&callback)];
        let pending = Pending::new(callback);
        let (waiter, mut outcome) = oneshot::channel();
        let job = Job { pending: pending.clone(), waiter, permit: Some(permit) };
        let database_until = deadline - SPOOL_SHARE;
        if self.breaker.is_open() || database_until <= Instant::now() {
            job.spool(&self.spool);
        } else {
            match lane.try_send(job) {
                Ok(()) => {
                    if let Ok(done) = timeout_at(database_until, &mut outcome).await {
                        return done.unwrap_or(Err(SubmitError::Closed));
                    }
                    return self.spool_late(pending, outcome, deadline).await;
                }
                // More waits than PostgreSQL can commit in time: the spool is faster.
                Err(mpsc::error::TrySendError::Full(job)) => {
                    job.spool(&self.spool);
                }
                Err(mpsc::error::TrySendError::Closed(_)) => return Err(SubmitError::Closed),
            }
        }
        wait_until(outcome, deadline).await
    }

    /// PostgreSQL's share of the time is over, so the callback is spooled as well. The first of the two that has it on disk
    /// gives the answer.
    async fn spool_late(
        &self,
        pending: Pending,
        mut lane: oneshot::Receiver<Result<Outcome, SubmitError>>,
        deadline: Instant,
    ) -> Result<Outcome, SubmitError> {
        let (waiter, spooled) = oneshot::channel();
        if !(Job { pending, waiter, permit: None }).spool(&self.spool) {
            // The lane has done that already, and its answer comes from the spool.
            return wait_until(lane, deadline).await;
        }
        let first = async {
            tokio::select! {
                Ok(outcome) = &mut lane => outcome,
                Ok(outcome) = spooled => match outcome {
                    Ok(outcome) => Ok(outcome),
                    // The lane may still make it.
                    Err(error) => lane.await.unwrap_or(Err(error)),
                },
                else => Err(SubmitError::Closed),
            }
        };
        timeout_at(deadline, first).await.unwrap_or(Err(SubmitError::Late))
    }

    /// How the spool is.
    #[must_use]
    pub fn spool(&self) -> SpoolStatus {
        self.spool.status()
    }

    /// The same, as it goes on; gaps of this run are not in it.
    #[must_use]
    pub fn watch_spool(&self) -> watch::Receiver<SpoolStatus> {
        self.spool.watch()
    }

    /// True while callbacks go straight to the spool.
    #[must_use]
    pub fn is_breaker_open(&self) -> bool {
        self.breaker.is_open()
    }

    /// Resolves when a task has ended, which happens only after [`Writer::close`] or a fault: a half-dead writer is
    /// worse than a restart.
    pub async fn ended(&self) {
        self.ended.cancelled().await;
    }

    /// Takes nothing more, makes durable what waits, and ends the tasks. What is in the spool stays there.
    pub async fn close(&self) {
        self.closing.cancel();
        self.tasks.wait().await;
        self.spool.close().await;
        self.spool_thread.wait().await;
    }
}

async fn wait_until(
    outcome: oneshot::Receiver<Result<Outcome, SubmitError>>,
    deadline: Instant,
) -> Result<Outcome, SubmitError> {
    let done = timeout_at(deadline, outcome).await.map_err(|_| SubmitError::Late)?;
    done.unwrap_or(Err(SubmitError::Closed))
}

fn lane_of(callback: &Callback) -> usize {
    let mut hash = DefaultHasher::new();
    callback.group.hash(&mut hash);
    usize::try_from(hash.finish() % LANES as u64).unwrap_or_default()
}
