//! The spool: where callbacks are made durable while PostgreSQL cannot commit inside the time budget.
//!
//! The handle of one thread, `scribe`, which owns the file. Callbacks come from the writer and its lanes; `drain` reads
//! them back in order of receipt and has them removed once PostgreSQL has them.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use thiserror::Error;
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot, watch};

use super::gaps::Gaps;
use super::scribe::Scribe;
use super::shelf::Key;
use super::{Outcome, SubmitError};
use crate::callback::{Callback, Received};
use crate::model::Millis;

/// How many orders may wait for the thread. A synced write of a thousand takes some tens of milliseconds, so this is
/// far below a second of work; at the limit a callback is answered with a failure at once.
const QUEUE_MAX: usize = 4096;

/// Where the spool is and how large it may be.
#[derive(Debug, Clone)]
pub struct SpoolPlace {
    /// The directory; it exists and only one process uses it.
    pub dir: PathBuf,
    /// The limit of what callbacks take in it, in bytes.
    pub max_bytes: u64,
}

/// Why the spool did not take a callback.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SpoolError {
    /// At its limit.
    #[error("the spool is at its limit, SPOOL_MAX_BYTES")]
    Full,
    /// The volume has no room.
    #[error("the disk of the spool is full")]
    DiskFull,
    /// Too much waits for the disk.
    #[error("too many callbacks wait for the disk of the spool")]
    Busy,
    /// Another process has the file.
    #[error("another process uses the spool")]
    InUse,
    /// The file is not what this program wrote.
    #[error("the spool is damaged: {0}; move it away to start with an empty one, and keep it")]
    Damaged(String),
    /// The disk failed.
    #[error("the spool cannot be written: {0}")]
    Broken(String),
}

impl SpoolError {
    /// For counters and gaps.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            Self::Full => "spool_full",
            Self::DiskFull => "disk_full",
            Self::Busy => "spool_busy",
            Self::InUse | Self::Damaged(_) | Self::Broken(_) => "spool_broken",
        }
    }
}

impl From<redb::Error> for SpoolError {
    fn from(error: redb::Error) -> Self {
        use std::io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
        match error {
            redb::Error::Io(error) if matches!(error.kind(), StorageFull | QuotaExceeded | FileTooLarge) => {
                Self::DiskFull
            }
            redb::Error::DatabaseAlreadyOpen => Self::InUse,
            redb::Error::Corrupted(_) | redb::Error::UpgradeRequired(_) => Self::Damaged(error.to_string()),
            other => Self::Broken(other.to_string()),
        }
    }
}

/// How the spool is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SpoolStatus {
    /// Callbacks in it.
    pub depth: u64,
    /// What they are charged with, in bytes.
    pub bytes: u64,
    /// Receipt of the oldest.
    pub oldest: Option<Millis>,
    /// Why it would not take the next callback, whatever its size; none: it would.
    pub failure: Option<SpoolError>,
    /// Gaps noted in it, of this run and earlier ones.
    pub gaps: u64,
}

/// One callback on its way, held by whoever may have to write it down.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) callback: Callback,
    claimed: AtomicBool,
}

/// Who waits for what became of a callback.
pub(super) type Answer = oneshot::Sender<Result<Outcome, SubmitError>>;

/// A callback, who waits for it, and its share of the bytes that may wait.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) pending: Arc<Pending>,
    pub(super) answer: Answer,
    /// Given back when it is durable, not when its sender goes away.
    pub(super) room: Option<OwnedSemaphorePermit>,
}

impl Pending {
    pub(super) fn new(callback: Callback) -> Self {
        Self { callback, claimed: AtomicBool::new(false) }
    }

    /// True once somebody has handed it to the spool.
    pub(super) fn is_claimed(&self) -> bool {
        self.claimed.load(Ordering::Acquire)
    }
}

/// What the thread is asked to do.
#[derive(Debug)]
pub(super) enum Order {
    Put(Job),
    Remove(Vec<Key>, oneshot::Sender<Result<(), SpoolError>>),
    Read(Page, oneshot::Sender<Result<Vec<(Key, Entry)>, SpoolError>>),
    Close,
}

/// What to read: how many entries at most, and how many bytes beyond the first, after which key.
#[derive(Debug, Clone, Copy)]
pub(super) struct Page {
    pub(super) after: Option<Key>,
    pub(super) count: usize,
    pub(super) bytes: usize,
}

/// A callback as it was received; none: this program cannot read it.
pub(super) type Entry = Option<Received>;

/// The handle. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Spool {
    orders: mpsc::Sender<Order>,
    status: watch::Receiver<SpoolStatus>,
    gaps: Gaps,
}

impl Spool {
    /// Opens the file, or makes it; the second value is the work of a thread that may block. A full or failing disk is
    /// no error here: the file is tried again.
    pub(super) fn open(place: &SpoolPlace) -> Result<(Self, impl FnOnce() + Send + 'static), SpoolError> {
        let gaps = Gaps::default();
        let (status, seen) = watch::channel(SpoolStatus::default());
        let scribe = Scribe::open(place, gaps.clone(), status)?;
        let (orders, queue) = mpsc::channel(QUEUE_MAX);
        Ok((Self { orders, status: seen, gaps }, move || scribe.run(queue)))
    }

    /// Hands a callback over; who waits for it is told when it is on disk, or why not. False: somebody has done so
    /// before, and nobody is told from here.
    pub(super) fn put(&self, job: Job) -> bool {
        if job.pending.claimed.swap(true, Ordering::AcqRel) {
            return false;
        }
        let (job, why) = match self.orders.try_send(Order::Put(job)) {
            Err(mpsc::error::TrySendError::Full(Order::Put(job))) => (job, SpoolError::Busy.into()),
            Err(mpsc::error::TrySendError::Closed(Order::Put(job))) => (job, SubmitError::Closed),
            _ => return true,
        };
        let _ = job.answer.send(Err(why));
        true
    }

    /// The oldest entries.
    pub(super) async fn read(&self, page: Page) -> Result<Vec<(Key, Entry)>, SpoolError> {
        self.ask(|answer| Order::Read(page, answer)).await
    }

    /// Removes entries; returns when that is on disk.
    pub(super) async fn remove(&self, keys: Vec<Key>) -> Result<(), SpoolError> {
        self.ask(|answer| Order::Remove(keys, answer)).await
    }

    /// A callback was answered with a failure.
    pub(super) fn lost(&self, received_at: Millis, cause: &'static str) {
        self.gaps.lost(received_at, cause);
    }

    pub(super) fn status(&self) -> SpoolStatus {
        SpoolStatus { gaps: self.gaps.count(), ..self.status.borrow().clone() }
    }

    /// True when nothing is in it.
    pub(super) fn is_empty(&self) -> bool {
        self.status.borrow().depth == 0
    }

    /// True when the disk does not take writes; being at its limit is no such failure.
    pub(super) fn is_failing(&self) -> bool {
        self.status.borrow().failure.as_ref().is_some_and(|failure| *failure != SpoolError::Full)
    }

    /// For waiting until the status changes.
    pub(super) fn watch(&self) -> watch::Receiver<SpoolStatus> {
        self.status.clone()
    }

    /// Writes what waits and ends the thread.
    pub(super) async fn close(&self) {
        if self.orders.send(Order::Close).await.is_ok() {
            self.orders.closed().await;
        }
    }

    async fn ask<T>(
        &self,
        order: impl FnOnce(oneshot::Sender<Result<T, SpoolError>>) -> Order,
    ) -> Result<T, SpoolError> {
        let closed = || SpoolError::Broken("the service stops".to_owned());
        let (answer, told) = oneshot::channel();
        self.orders.send(order(answer)).await.map_err(|_| closed())?;
        told.await.map_err(|_| closed())?
    }
}
