//! The spool: a durable local queue that takes callbacks while PostgreSQL cannot commit inside the time budget.
//!
//! [`Spool`] is the handle of one thread, [`thread`], which owns the file and syncs many records at once. The writer and
//! its lanes put callbacks in; the drain reads them in order of receipt and removes them once PostgreSQL has committed
//! them. The spool answers with its own result and knows nothing of lanes, batches or PostgreSQL.

mod by_app;
mod failing;
mod file;
pub mod inspect;
mod kept;
mod kept_dropped;
mod kept_marks;
mod kept_segments;
mod kept_thread;
mod kept_unread;
mod losses;
mod mark;
mod moved;
mod record;
mod records;
mod requests;
mod salvage;
mod shares;
mod status;
mod thread;
pub mod volume;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};

use crate::callback::Callback;
use crate::model::{Millis, SdkAppId};
use losses::Losses;
use salvage::Salvage;
use thread::SpoolThread;

pub use kept::{KeptAnswers, NextMark};
pub use kept_marks::{LaneMarks, MARK_LANES};
pub use losses::{DAMAGED, GAPS_LISTED_MAX, Gap, KEPT_DROPPED, KEPT_UNREAD};
pub use requests::{Completion, NewRecord, Put, ReadRange, RecordKey, SpoolRequest, StoredRecord};
pub use shares::AppUse;
pub use status::{SpoolError, SpoolPlace, SpoolStatus};

/// The version of the records that are written; earlier ones are read.
pub const RECORD_VERSION: u8 = record::VERSION;

/// How many requests may wait for the thread. A synced write of a thousand takes some tens of milliseconds, so this is
/// far below a second of work. A callback that comes at the limit is refused at once.
const QUEUE_MAX: usize = 4096;

/// How long closing waits for a file that is still being opened: a GiB can be recovered in this time.
const OPENING_WAIT_MAX: Duration = Duration::from_secs(1);

/// The handle. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Spool {
    requests: mpsc::Sender<SpoolRequest>,
    status: watch::Receiver<SpoolStatus>,
    losses: Losses,
}

impl Spool {
    /// Returns at once; the second value is the work of a thread that may block. That thread opens the file, or makes it,
    /// which takes seconds where a large one has to be recovered; what is put meanwhile waits in the queue. A full or
    /// failing disk is no error here: the thread opens the file again later. A damaged file is moved aside.
    ///
    /// # Errors
    /// A file that another process uses, or that this user may not trust.
    pub fn open(place: &SpoolPlace) -> Result<(Self, impl FnOnce() + Send + 'static), SpoolError> {
        let losses = Losses::default();
        let opening = SpoolStatus { failure: Some(SpoolError::Opening), ..SpoolStatus::default() };
        let (published, status) = watch::channel(opening);
        let thread = SpoolThread::new(place, losses.clone(), published)?;
        let (requests, queue) = mpsc::channel(QUEUE_MAX);
        let salvage = Salvage::new(requests.downgrade(), losses.clone());
        Ok((Self { requests, status, losses }, move || thread.run(queue, salvage)))
    }

    /// Opens what is kept of the callbacks that were answered, and gives the work of a thread that may block; none where
    /// nothing is to be kept.
    ///
    /// # Errors
    /// Files that cannot be written, or that this user may not trust.
    pub fn kept_answers(
        &self,
        place: &SpoolPlace,
    ) -> Result<Option<(KeptAnswers, impl FnOnce() + Send + 'static)>, SpoolError> {
        let salvage = Salvage::new(self.requests.downgrade(), self.losses.clone());
        KeptAnswers::open(place, salvage, self.losses.clone(), self.watch())
    }

    /// Hands a callback over. `completion` runs exactly once: when the callback is synced to disk, or when it is refused.
    pub fn put(&self, callback: Arc<Callback>, completion: Completion) {
        let (put, error) = match self.requests.try_send(SpoolRequest::Put(Put { callback, completion })) {
            Err(mpsc::error::TrySendError::Full(SpoolRequest::Put(put))) => (put, SpoolError::Busy),
            Err(mpsc::error::TrySendError::Closed(SpoolRequest::Put(put))) => (put, SpoolError::Closed),
            _ => return,
        };
        (put.completion)(Err(error));
    }

    /// Reads the oldest records of a range.
    ///
    /// # Errors
    /// A file that cannot be read, or a spool that is closed.
    pub async fn read(&self, range: ReadRange) -> Result<Vec<StoredRecord>, SpoolError> {
        self.request(|reply| SpoolRequest::Read(range, reply)).await
    }

    /// Removes records; returns when that is on disk.
    ///
    /// # Errors
    /// A file that cannot be written, or a spool that is closed.
    pub async fn remove(&self, keys: Vec<RecordKey>) -> Result<(), SpoolError> {
        self.request(|reply| SpoolRequest::Remove(keys, reply)).await
    }

    /// Notes that a callback was answered with a failure and is not durable; its app where that is known.
    pub fn note_loss(&self, app: Option<SdkAppId>, received_at: Millis, cause: &'static str) {
        self.losses.note(app, received_at, cause);
    }

    /// The state of the spool now.
    #[must_use]
    pub fn status(&self) -> SpoolStatus {
        SpoolStatus { gaps: self.losses.gap_count(), ..self.status.borrow().clone() }
    }

    /// The newest gaps, oldest first, of this run and earlier ones; the last one may still go on.
    #[must_use]
    pub fn gaps(&self) -> Vec<Gap> {
        self.losses.newest()
    }

    /// True when there is no record in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.status.borrow().depth == 0
    }

    /// True when the disk does not take writes; being at the limit or being opened is no such failure.
    #[must_use]
    pub fn is_failing(&self) -> bool {
        let status = self.status.borrow();
        !matches!(status.failure, None | Some(SpoolError::Full | SpoolError::Opening))
    }

    /// For waiting until the status changes. The gaps of this run are not in it.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<SpoolStatus> {
        self.status.clone()
    }

    /// Writes what waits and ends the thread. False: the file is still being opened, and the thread is left to the end of
    /// the process, because a large one that has to be recovered would hold up a stop for minutes. Nothing that was
    /// answered with OK waits for it.
    pub async fn close(&self) -> bool {
        let mut status = self.watch();
        let opened = status.wait_for(|status| status.failure != Some(SpoolError::Opening));
        if tokio::time::timeout(OPENING_WAIT_MAX, opened).await.is_err() {
            return false;
        }
        if self.requests.send(SpoolRequest::Close).await.is_ok() {
            self.requests.closed().await;
        }
        true
    }

    async fn request<T>(
        &self,
        request: impl FnOnce(oneshot::Sender<Result<T, SpoolError>>) -> SpoolRequest,
    ) -> Result<T, SpoolError> {
        let (reply, result) = oneshot::channel();
        self.requests.send(request(reply)).await.map_err(|_| SpoolError::Closed)?;
        result.await.map_err(|_| SpoolError::Closed)?
    }
}

#[cfg(test)]
mod tests {
    use super::{Spool, SpoolPlace};
    use crate::model::SdkAppId;

    #[tokio::test]
    async fn closing_does_not_wait_for_a_file_that_is_still_being_opened() {
        let dir = tempfile::tempdir().unwrap();
        let apps = vec![SdkAppId::parse("1").unwrap()];
        let place =
            SpoolPlace { dir: dir.path().to_owned(), max_bytes: 1 << 30, apps, keep_answered_secs: 0 };
        let (spool, _thread_that_never_comes_to_it) = Spool::open(&place).unwrap();
        assert!(!spool.close().await);
    }
}
