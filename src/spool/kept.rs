//! What was answered lately, kept for a time after it was committed (`KEEP_ANSWERED_SECS`), and put into the spool again
//! where the database turns out to lack commits that it had confirmed.
//!
//! [`KeptAnswers`] is the handle: it gives each batch its mark, takes the batch once its commit is confirmed, and puts all
//! that is kept into the spool when it is asked to. A thread of its own owns the files (`kept_segments`), so that
//! a disk that stalls holds up neither lanes nor the spool. What is kept is no backlog: no depth, no age, no share of the
//! limit. Records go once the database was found complete when they were old enough, and earlier, the oldest first, when the
//! spool needs the room: by the clock alone they would be gone at the end of a long outage, which is what they are kept for.
//! Knows nothing of PostgreSQL: whether a database lacks something is for the writer to find out.

use std::path::PathBuf;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{Notify, mpsc, oneshot, watch};

use super::kept_marks::{KeptMarkFile, KeptMarks, LaneMarks, MARK_LANES};
use super::kept_segments::{KeptSegments, remove_left};
use super::record;
use super::salvage::{Salvage, SalvageEnd};
use super::status::{SpoolError, SpoolPlace, SpoolStatus};
use crate::callback::Received;
use crate::clock;
use crate::files::PrivateDir;
use crate::model::Millis;

/// How many requests may wait for the thread, and how many bytes of records in them. What comes at the limit is not kept.
const QUEUE_MAX: usize = 4096;
const QUEUED_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// Bytes of records that went before their time.
const DROPPED_TOTAL: &str = "group_mirror_kept_dropped_bytes_total";

/// The mark of a batch that is about to be committed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NextMark {
    /// The id of the data directory.
    pub replica: u128,
    /// Whose batch it is.
    pub lane: usize,
    /// Higher than every one of this lane before.
    pub mark: u64,
    /// The highest mark of this lane whose commit was confirmed; 0: none was.
    pub confirmed: u64,
}

/// The handle. Cheap to clone; all clones are one.
#[derive(Debug, Clone)]
pub struct KeptAnswers {
    shared: Arc<KeptShared>,
    requests: mpsc::Sender<KeptWork>,
    salvage: Salvage,
}

#[derive(Debug)]
struct KeptShared {
    marks: Mutex<KeptMarks>,
    next: [AtomicU64; MARK_LANES],
    /// Bytes that wait for the thread.
    queued: AtomicU64,
    /// Bytes in the files.
    bytes: AtomicU64,
    /// The begin of the last look that found the database complete, in Unix milliseconds: records age until then.
    complete_ms: AtomicI64,
    /// A lane has found the database behind.
    behind: Notify,
    /// Records are there and it is not known how far the database was.
    is_unknown: bool,
}

impl KeptShared {
    fn marks<T>(&self, run: impl FnOnce(&mut KeptMarks) -> T) -> T {
        run(&mut self.marks.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// What the thread is asked for.
#[derive(Debug)]
enum KeptWork {
    /// Keep the records of a batch; `mark` is none where the database was found behind.
    Append { records: Vec<u8>, lane: usize, mark: Option<u64> },
    /// Remove what was old enough at the last complete look, and what the spool needs the room of.
    Tidy,
    /// End the last file, and answer where all of them are.
    Seal(oneshot::Sender<Vec<PathBuf>>),
    /// Remove a file, whose records are in the spool.
    Remove(PathBuf),
    /// Lower the marks that are written.
    Lower { known: LaneMarks, found: LaneMarks },
    /// End.
    Close,
}

impl KeptAnswers {
    /// Opens the files of a data directory; the second value is the work of a thread that may block. None where nothing is
    /// to be kept, and what an earlier process has kept is removed.
    pub(super) fn open(
        place: &SpoolPlace,
        salvage: Salvage,
        status: watch::Receiver<SpoolStatus>,
    ) -> Result<Option<(Self, impl FnOnce() + Send + 'static)>, SpoolError> {
        let dir = PrivateDir::open(&place.dir)?;
        if place.keep_answered_secs == 0 {
            remove_left(&dir);
            KeptMarkFile::remove(&dir);
            return Ok(None);
        }
        let (mark_file, marks, was_known) = KeptMarkFile::begin(&dir)?;
        let keep_ms = i64::try_from(place.keep_answered_secs.saturating_mul(1000)).unwrap_or(i64::MAX);
        let segments = KeptSegments::open(dir, keep_ms, place.max_bytes);
        let shared = Arc::new(KeptShared {
            marks: Mutex::new(marks),
            next: std::array::from_fn(|_| AtomicU64::new(marks.base())),
            queued: AtomicU64::new(0),
            bytes: AtomicU64::new(segments.bytes()),
            complete_ms: AtomicI64::new(i64::MIN),
            behind: Notify::new(),
            is_unknown: !was_known && segments.bytes() > 0,
        });
        let (requests, queue) = mpsc::channel(QUEUE_MAX);
        let thread = KeptThread {
            shared: Arc::clone(&shared),
            marks,
            mark_file,
            segments,
            status,
            max_bytes: place.max_bytes,
            is_failing: false,
            is_short_of_room: false,
        };
        Ok(Some((Self { shared, requests, salvage }, move || thread.run(queue))))
    }

    /// The mark of the next batch of a lane. Asked for before each transaction, because no two may have the same.
    #[must_use]
    pub fn next_mark(&self, lane: usize) -> NextMark {
        let (replica, confirmed) = self.shared.marks(|marks| (marks.replica, marks.confirmed[lane]));
        let mark = self.shared.next[lane].fetch_add(1, Ordering::Relaxed) + 1;
        NextMark { replica, lane, mark, confirmed }
    }

    /// Keeps a batch whose commit was confirmed; `is_raised` says whether the database had every batch of the lane before.
    /// Does not wait for the disk.
    pub fn keep<'a>(&self, next: NextMark, batch: impl Iterator<Item = &'a Received>, is_raised: bool) {
        let mut records = Vec::new();
        for received in batch {
            match record::encode(received) {
                Ok(bytes) => records.extend(bytes),
                Err(error) => tracing::error!(%error, "a callback cannot be kept"),
            }
        }
        let bytes = records.len() as u64;
        let mark = is_raised.then_some(next.mark);
        let is_full = self.shared.queued.fetch_add(bytes, Ordering::AcqRel) + bytes > QUEUED_BYTES_MAX;
        let request = KeptWork::Append { records, lane: next.lane, mark };
        if is_full || self.requests.try_send(request).is_err() {
            self.shared.queued.fetch_sub(bytes, Ordering::AcqRel);
            metrics::counter!(DROPPED_TOTAL).increment(bytes);
            tracing::debug!("a batch is not kept: too much waits for the disk");
        }
        // Behind the request: what is confirmed is on its way to the files, so whatever is sent again later has it.
        match mark {
            Some(mark) => self.shared.marks(|marks| marks.confirm(next.lane, mark)),
            None => self.shared.behind.notify_one(),
        }
    }

    /// The id of the data directory, and the highest marks whose commits were confirmed. Read before the database is asked.
    #[must_use]
    pub fn confirmed(&self) -> (u128, LaneMarks) {
        self.shared.marks(|marks| (marks.replica, marks.confirmed))
    }

    /// Whether there are records of a time whose marks are gone: whatever the database says, they have to be sent again.
    #[must_use]
    pub fn is_unknown(&self) -> bool {
        self.shared.is_unknown
    }

    /// Resolves when a lane has found the database behind.
    pub async fn found_behind(&self) {
        self.shared.behind.notified().await;
    }

    /// The database had all that was confirmed before this moment. Until such a look nothing expires: in an outage, and after
    /// a start without the database, whatever is kept may be missing in the one that takes over.
    pub fn found_complete(&self, at: Millis) {
        self.shared.complete_ms.store(at.get(), Ordering::Relaxed);
    }

    /// Removes what was old enough when the database was last found complete. To be called now and then: a quiet service
    /// appends nothing.
    pub fn tidy(&self) {
        // A queue that is full tidies by itself.
        let _ = self.requests.try_send(KeptWork::Tidy);
    }

    /// What the files take.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.shared.bytes.load(Ordering::Relaxed)
    }

    /// Puts all that is kept into the spool, and takes the marks that the database was found to have for those that it was
    /// known to have. Returns how many records it was, when they are synced. What is interrupted begins again with the next
    /// look at the database, because the marks are lowered last.
    ///
    /// # Errors
    /// The spool or this handle is closed.
    pub async fn send_again(&self, known: LaneMarks, found: LaneMarks) -> Result<u64, SpoolError> {
        let (reply, sealed) = oneshot::channel();
        self.requests.send(KeptWork::Seal(reply)).await.map_err(|_| SpoolError::Closed)?;
        let mut sent = 0;
        for path in sealed.await.map_err(|_| SpoolError::Closed)? {
            let (salvage, of) = (self.salvage.clone(), path.clone());
            let putting = tokio::task::spawn_blocking(move || salvage.put_records_of(&of));
            match putting.await {
                Ok(Ok(records)) => sent += records,
                // It went for its age or for room meanwhile, or the disk fails.
                Ok(Err(SalvageEnd::Unreadable(error))) => {
                    tracing::warn!(%error, "kept records cannot be read");
                    continue;
                }
                Ok(Err(SalvageEnd::Closed)) | Err(_) => return Err(SpoolError::Closed),
            }
            self.requests.send(KeptWork::Remove(path)).await.map_err(|_| SpoolError::Closed)?;
        }
        self.shared.marks(|marks| marks.lower(&known, &found));
        let lower = KeptWork::Lower { known, found };
        self.requests.send(lower).await.map_err(|_| SpoolError::Closed)?;
        Ok(sent)
    }

    /// Ends the thread behind what waits for it.
    pub async fn close(&self) {
        // One that has ended already needs no request.
        let _ = self.requests.send(KeptWork::Close).await;
    }
}

/// The owner of the files.
struct KeptThread {
    shared: Arc<KeptShared>,
    /// What the file says: marks behind the records that are appended.
    marks: KeptMarks,
    mark_file: KeptMarkFile,
    segments: KeptSegments,
    status: watch::Receiver<SpoolStatus>,
    max_bytes: u64,
    /// Each trouble is reported once, until it has passed.
    is_failing: bool,
    is_short_of_room: bool,
}

impl KeptThread {
    fn run(mut self, mut queue: mpsc::Receiver<KeptWork>) {
        while let Some(request) = queue.blocking_recv() {
            match request {
                KeptWork::Append { records, lane, mark } => self.append(&records, lane, mark),
                KeptWork::Tidy => self.tidy(),
                // A caller that has gone needs no answer.
                KeptWork::Seal(reply) => drop(reply.send(self.segments.seal())),
                KeptWork::Remove(path) => self.segments.remove(&path),
                KeptWork::Lower { known, found } => {
                    self.marks.lower(&known, &found);
                    self.write_marks();
                }
                KeptWork::Close => return,
            }
            self.shared.bytes.store(self.segments.bytes(), Ordering::Relaxed);
        }
    }

    fn append(&mut self, records: &[u8], lane: usize, mark: Option<u64>) {
        let bytes = records.len() as u64;
        self.shared.queued.fetch_sub(bytes, Ordering::AcqRel);
        match self.segments.append(records, clock::now().get()) {
            Ok(()) => self.is_failing = false,
            Err(error) => {
                metrics::counter!(DROPPED_TOTAL).increment(bytes);
                self.report(&format!("what was answered cannot be kept: {error}"));
            }
        }
        if let Some(mark) = mark {
            self.marks.confirm(lane, mark);
            self.write_marks();
        }
        self.tidy();
    }

    fn write_marks(&mut self) {
        if let Err(error) = self.mark_file.set(&self.marks) {
            self.report(&format!("the marks of what was answered cannot be written: {error}"));
        }
    }

    /// A disk that is full takes a callback only where something goes.
    fn tidy(&mut self) {
        self.segments.expire(self.shared.complete_ms.load(Ordering::Relaxed));
        let (used, is_disk_full) = {
            let status = self.status.borrow();
            (status.bytes, status.failure == Some(SpoolError::DiskFull))
        };
        let room = if is_disk_full { 0 } else { self.max_bytes.saturating_sub(used) };
        let dropped = self.segments.shrink_to(room);
        if dropped > 0 {
            metrics::counter!(DROPPED_TOTAL).increment(dropped);
            if !self.is_short_of_room {
                tracing::warn!(
                    "records kept for KEEP_ANSWERED_SECS are dropped before their time, the oldest first: the spool needs \
                     the room; a failover that loses commits may lose what they say"
                );
            }
            self.is_short_of_room = true;
        } else if self.segments.bytes() <= room / 2 {
            self.is_short_of_room = false;
        }
    }

    fn report(&mut self, trouble: &str) {
        if !self.is_failing {
            tracing::warn!("{trouble}; a failover that loses commits may lose what was answered since");
        }
        self.is_failing = true;
    }
}
