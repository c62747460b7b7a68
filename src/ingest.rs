//! The write path: one [`Writer`] takes decoded callbacks and answers each once it is durable.
//!
//! Callbacks come from the receiver; everything passes the one transaction in [`commit()`]. A lane is a task that commits
//! everything waiting for it as one transaction (group commit) with no timer: idle means batches of one, load makes
//! batches grow while the commit before runs. What PostgreSQL does not commit inside its share of the time goes to the
//! spool, and the drain brings it to the tables beside the lanes. What fails by itself is set aside, so that it delays
//! nothing else; whether the server as a whole commits is for the prober to find out, which moves the circuit breaker.
//! Once submitted, a callback is made durable, or counted as lost, whether or not its sender waits.

mod aside;
mod aside_key;
mod attempt;
mod bisect;
mod breaker;
mod by_shard;
mod commit;
mod drain;
mod earlier;
mod entry;
mod evidence;
mod job;
mod keeping;
mod known_commit;
mod known_reads;
mod lane;
mod mark_watch;
mod outcome;
mod pace;
mod prober;
mod snapshots;
mod tasks;
mod waiting;

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;

use crate::callback::Callback;
use crate::model::{Millis, SdkAppId};
use crate::outbox::Outbox;
use crate::spool::{Gap, KeptAnswers, MARK_LANES, Spool, SpoolError, SpoolPlace, SpoolStatus};
use crate::store::Database;
use crate::store::schema::SchemaState;
use crate::store::shards::KnownShards;
use crate::traces::CallbackSpan;
use aside::SetAside;
use attempt::Attempts;
use breaker::Breaker;
use by_shard::shard_of;
use drain::Drain;
use earlier::{CorrectionQueue, Corrections};
use job::{Claim, Job, Pending};
use keeping::{LaneKeeping, kept_answers};
use lane::Lane;
use mark_watch::MarkWatch;
use outcome::durability;
use prober::{Prober, Suspicion};
use tasks::WriterTasks;
use waiting::{DurableResult, first_durable, late, until_durable};

pub use commit::commit;
pub use known_commit::{HowKnown, KNOWN_SNAPSHOTS_MAX, commit_known};
pub use outcome::{Applied, NotCommitted, Outcome, SubmitError, register_counters};
pub use snapshots::{
    SNAPSHOTS_MAX, SnapshotOutcome, commit_reads, commit_snapshots, compare_reads, register_drift_counters,
};

/// How many lanes commit side by side in one database. A second one works while the first waits for the disk; more share one
/// disk and make smaller batches.
const LANES: usize = 2;

/// Where groups are spread over shards, each shard has a lane, and so a connection, of its own, up to so many: with the drain
/// one connection of the writers is left. Beyond that shards share lanes, and still no batch.
const SHARD_LANES_MAX: usize = 6;

/// The drain commits beside them.
const DRAIN: usize = LANES;
const _: () = assert!(DRAIN < MARK_LANES, "the drain has a mark of its own");

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
    shards: KnownShards,
    bytes: Arc<Semaphore>,
    spool: Spool,
    /// What was answered lately; none where nothing is kept.
    kept: Option<KeptAnswers>,
    breaker: Breaker,
    aside: SetAside,
    running: WriterTasks,
    closing: CancellationToken,
    /// By app; the apps are those that are served.
    last_received: Arc<BTreeMap<SdkAppId, AtomicI64>>,
    outbox: Outbox,
}

impl Writer {
    /// Opens the spool and starts the lanes. As long as `schema` does not fit, everything goes to the
    /// spool.
    ///
    /// # Errors
    /// A spool that is damaged, or that another process has. A full disk is none.
    pub fn start(
        database: &Database,
        place: &SpoolPlace,
        schema: SchemaState,
        outbox: &Outbox,
    ) -> Result<Self, SpoolError> {
        let (spool, writing) = Spool::open(place)?;
        let (closing, running) = (CancellationToken::new(), WriterTasks::default());
        let shards = database.shards().clone();
        let (breaker, aside) = (Breaker::new(schema.clone(), spool.clone()), SetAside::of(shards.clone()));
        running.run_thread(writing);
        let kept = kept_answers(&running, &spool, place)?;
        let keeping = |lane| kept.clone().map(|kept| LaneKeeping { kept, lane });
        if let Some(kept) = kept.clone() {
            let (database, breaker, closing) = (database.clone(), breaker.clone(), closing.clone());
            running.run(Box::pin(MarkWatch { database, kept, breaker, closing }.run()));
        }
        let suspicion = Suspicion::default();
        let (corrections, waiting) = CorrectionQueue::new(aside.clone());
        let correcting =
            Corrections { database: database.clone(), aside: aside.clone(), closing: closing.clone() };
        running.run(Box::pin(correcting.run(waiting)));
        let attempts = Attempts {
            database: database.clone(),
            outbox: outbox.clone(),
            suspicion: suspicion.clone(),
            closing: closing.clone(),
            keeping: keeping(DRAIN),
        };
        let prober = Prober {
            database: database.clone(),
            breaker: breaker.clone(),
            aside: aside.clone(),
            suspicion,
            closing: closing.clone(),
        };
        running.run(Box::pin(prober.run()));
        let drain = Drain {
            attempts: attempts.clone(),
            spool: spool.clone(),
            breaker: breaker.clone(),
            aside: aside.clone(),
            corrections: corrections.clone(),
        };
        running.run(Box::pin(drain.run()));
        let lane = Lane {
            attempts,
            spool: spool.clone(),
            breaker: breaker.clone(),
            aside: aside.clone(),
            corrections,
        };
        // What is kept has a mark for each of the first lanes.
        let count = if kept.is_some() { LANES } else { SHARD_LANES_MAX };
        let lanes = (0..count).map(|number| start_lane(&running, lane.clone(), keeping(number))).collect();
        metrics::counter!("group_mirror_set_aside_total").increment(0);
        running.close();
        let bytes = Arc::new(Semaphore::new(QUEUED_BYTES_MAX));
        let never = |app: &SdkAppId| (*app, AtomicI64::new(i64::MIN));
        let last_received = Arc::new(place.apps.iter().map(never).collect());
        outbox.start(database, schema, spool.watch());
        let outbox = outbox.clone();
        Ok(Self {
            lanes,
            shards,
            bytes,
            spool,
            kept,
            breaker,
            aside,
            running,
            closing,
            last_received,
            outbox,
        })
    }

    /// Hands a callback over and waits until it is durable, at most until the deadline. Callbacks of one group keep to
    /// one lane, so that lanes do not wait for each other's rows; order does not matter for the result. A sampled one has
    /// a span, which the transaction is linked with.
    ///
    /// # Errors
    /// See [`SubmitError`]; it may still turn out to be committed, and a repeat does no harm. Each is counted, and noted
    /// as a gap.
    pub async fn submit(
        &self,
        callback: Callback,
        span: Option<CallbackSpan>,
        deadline: Instant,
    ) -> Result<Outcome, SubmitError> {
        let pending = Pending::new(callback, span);
        let reservation = self.outbox.reserve(&pending.callback);
        let outcome = self.make_durable(&pending, deadline).await;
        if let Some(reservation) = reservation {
            reservation.settle(durability(&outcome));
        }
        match &outcome {
            Ok(Outcome::Duplicate) => {}
            Ok(_) => {
                let received = &pending.callback.received;
                if let Some(last) = self.last_received.get(&received.app) {
                    last.fetch_max(received.received_at.get(), Ordering::Relaxed);
                }
            }
            Err(error) => pending.lose(&self.spool, error),
        }
        outcome
    }

    /// A callback was refused before it could be submitted: counted, and noted as a gap, of its app where that is known.
    pub fn note_loss(&self, app: Option<SdkAppId>, received_at: Millis, cause: &'static str) {
        self.spool.note_loss(app, received_at, cause);
    }

    fn lane_of(&self, callback: &Callback) -> usize {
        let shards = self.shards.current();
        if shards.count() > 1 {
            return shard_of(&shards, callback) % self.lanes.len();
        }
        let mut hash = DefaultHasher::new();
        callback.group.hash(&mut hash);
        usize::try_from(hash.finish() % LANES as u64).unwrap_or_default()
    }

    async fn make_durable(&self, pending: &Pending, deadline: Instant) -> Result<Outcome, SubmitError> {
        let callback = &pending.callback;
        let size = u32::try_from(callback.received.body.len()).map_err(|_| SubmitError::Full)?;
        let permit = self.bytes.clone().try_acquire_many_owned(size).map_err(|_| SubmitError::Full)?;
        let lane = &self.lanes[self.lane_of(callback)];
        let (waiter, mut outcome) = oneshot::channel();
        let job = Job {
            pending: pending.clone(),
            waiter,
            lane: lane.downgrade(),
            returned: false,
            _permit: permit,
        };
        let database_until = deadline - SPOOL_SHARE;
        if self.breaker.is_open() || database_until <= Instant::now() {
            job.spool(&self.spool, &self.breaker);
        } else {
            match lane.try_send(job) {
                Ok(()) => {
                    if let Ok(done) = timeout_at(database_until, &mut outcome).await {
                        return done.unwrap_or(Err(SubmitError::Closed));
                    }
                    return self.spool_late(pending, outcome, deadline).await;
                }
                // More waits than PostgreSQL can commit in time: the spool is faster.
                Err(mpsc::error::TrySendError::Full(job)) => job.spool(&self.spool, &self.breaker),
                Err(mpsc::error::TrySendError::Closed(_)) => return Err(SubmitError::Closed),
            }
        }
        until_durable(outcome, pending, deadline).await
    }

    /// PostgreSQL's share of the time is over, so the callback is spooled as well. The first of the two that has it on disk
    /// gives the answer.
    async fn spool_late(
        &self,
        pending: &Pending,
        lane: oneshot::Receiver<DurableResult>,
        deadline: Instant,
    ) -> Result<Outcome, SubmitError> {
        if pending.claim() != Claim::Mine {
            // The lane has done that already, and its answer comes from the spool.
            return until_durable(lane, pending, deadline).await;
        }
        let (answer, spooled) = oneshot::channel();
        let handed = pending.clone();
        let completion = move |done: Result<(), SpoolError>| {
            handed.answered(&done);
            // A waiter whose sender hung up needs no answer.
            let _ = answer.send(done);
        };
        self.spool.put(Arc::clone(&pending.callback), Box::new(completion));
        let first = first_durable(lane, spooled);
        timeout_at(deadline, first).await.unwrap_or_else(|_| Err(late(pending)))
    }

    /// Whether what is received for an app is delivered to a backend as well.
    #[must_use]
    pub fn relays(&self, app: SdkAppId) -> bool {
        self.outbox.relays(app)
    }

    /// What is to be delivered to the backends.
    #[must_use]
    pub fn outbox(&self) -> &Outbox {
        &self.outbox
    }

    /// What the records take that are kept of answered callbacks, in bytes.
    #[must_use]
    pub fn kept_bytes(&self) -> u64 {
        self.kept.as_ref().map_or(0, KeptAnswers::bytes)
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

    /// The newest gaps, oldest first, of this run and earlier ones; the last one may still go on.
    #[must_use]
    pub fn gaps(&self) -> Vec<Gap> {
        self.spool.gaps()
    }

    /// Receipt of the newest callback of an app that this process made durable, in ledger or spool; `None`: none since its
    /// start.
    #[must_use]
    pub fn last_received(&self, app: SdkAppId) -> Option<Millis> {
        let millis = self.last_received.get(&app)?.load(Ordering::Relaxed);
        (millis != i64::MIN).then(|| Millis::new(millis))
    }

    /// True while callbacks go straight to the spool.
    #[must_use]
    pub fn is_breaker_open(&self) -> bool {
        self.breaker.is_open()
    }

    /// True while PostgreSQL does not commit, as the last probe found, or does not fit; also while callbacks are tried there all
    /// the same, because the spool cannot write.
    #[must_use]
    pub fn is_database_away(&self) -> bool {
        self.breaker.is_database_away()
    }

    /// Why PostgreSQL does not commit, as the last probe found; none while it does.
    #[must_use]
    pub fn commit_failure(&self) -> Option<String> {
        self.breaker.cause()
    }

    /// What of an app is set aside now, as the log names it; in no order.
    #[must_use]
    pub fn set_aside(&self, app: SdkAppId) -> Vec<String> {
        self.aside.names(app)
    }

    /// Resolves when a task has ended, which happens only after [`Writer::close`] or a fault: a half-dead writer is
    /// worse than a restart.
    pub async fn ended(&self) {
        self.running.ended.cancelled().await;
    }

    /// Takes nothing more, makes durable what waits, delivers what can be for a moment, and ends the tasks. What is in the
    /// spool stays there.
    pub async fn close(&self) {
        self.closing.cancel();
        self.running.tasks.wait().await;
        self.outbox.close().await;
        if let Some(kept) = &self.kept {
            kept.close().await;
        }
        if self.spool.close().await {
            self.running.threads.wait().await;
        }
    }
}

/// One lane, and the queue in front of it.
fn start_lane(running: &WriterTasks, mut lane: Lane, keeping: Option<LaneKeeping>) -> mpsc::Sender<Job> {
    let (sender, queue) = mpsc::channel(LANE_QUEUE_MAX);
    lane.attempts.keeping = keeping;
    running.run(Box::pin(lane.run(queue)));
    sender
}
